"""What training promises: draws, sameness, the best weights, and refusals in words."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from recgym import checkpoint
from recgym.agent import load_agent, made
from recgym.agents.batches import Steps
from recgym.checks import check_agent
from recgym.errors import Diverged, InvalidArgument, RecGymError
from recgym.evaluation.ranking import metrics, rank
from recgym.rollouts import collect
from recgym.runs import Run

from ..sentences import said
from .test_batches import foreign
from .worlds import head_set, logged

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
    pytest.mark.filterwarnings("ignore:env_spec is None:UserWarning"),
]

SMALL = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
QUICK = {"steps": 20, "batch_size": 16, "size": 8, "validate_every": 5}
NAMES = ["supervised", "modern", "sqn", "sac", "snqn", "sa2c", "sqn-hist", "sqn-cat", "sqn-eval"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training, validation and test data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("data")))
        return [rolled_out(split) for split in ("train", "validation", "test")]


def rolled_out(split="train", **changes):
    return collect(
        "recgym/OracleBoredom-v0", "mixed", split, sessions=60, name="n", **SMALL | changes
    )


def observed(dataset):
    return np.concatenate([episode.observations for episode in dataset])


def asked(dataset):
    """Observations before, and actions that brought a reward."""
    steps = Steps(dataset)
    rows = np.flatnonzero(steps.taken & ~steps.empty)
    return observed(dataset)[steps.states[rows]], steps.actions[rows]


def ndcg(agent, dataset):
    observations, targets = asked(dataset)
    found = rank(lambda some: agent.scores(observations[some], {}), targets, 20)
    return float(metrics(found.greater, found.equal, [10])["ndcg@10"].mean())


class Noted(Run):
    """A run that keeps what is measured in memory."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def record(self, step, values):
        self.lines.append({"step": step} | values)


# -------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize(("count", "size"), [(10, 3), (9, 3), (5, 8), (100, 1)])
def test_each_step_is_learned_from_once_in_an_epoch(count, size):
    agent = load_agent("supervised")(batch_size=size)
    whole = max(1, count // size)
    orders = []
    for epoch in range(3):
        drawn = []
        for place in range(whole):
            agent.at = epoch * whole + place
            drawn.append(agent.drawn(count))
        assert {len(rows) for rows in drawn} == {min(size, count)}
        order = np.concatenate(drawn)
        assert len(set(order)) == len(order) and set(order) <= set(range(count))
        orders.append(order.tolist())
    assert orders[0] != orders[1] != orders[2] != orders[0]
    agent.at = whole  # whatever was asked for before
    assert agent.drawn(count).tolist() == orders[1][: min(size, count)]
    other = load_agent("supervised")(batch_size=size, seed=1)
    other.at = whole
    assert other.drawn(count).tolist() != agent.drawn(count).tolist() or size == 1


def test_what_is_drawn_depends_on_seed_step_and_purpose_alone():
    found = set()
    for seed in range(3):
        agent = load_agent("snqn")(seed=seed)
        for agent.at in range(4):
            for purpose in range(4):
                draws = agent.draws(purpose).integers(2**62, size=2).tolist()
                assert draws == agent.draws(purpose).integers(2**62, size=2).tolist()
                found.add(tuple(draws))
    assert len(found) == 3 * 4 * 4


def test_both_copies_learn_as_a_coin_says(data):
    seen = []

    class Watched(load_agent("sqn")):
        def descend(self, which, loss):
            seen.append(which)
            return super().descend(which, loss)

    Watched(**QUICK | {"steps": 60}).fit(data[0])
    assert len(seen) == 60 and 18 < sum(seen) < 42


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_all_and_global_generators_go_on(data, name):
    kind, rows = load_agent(name), observed(data[1])

    def drawn(seed, before=()):
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        for draw in before:
            draw()
        wanted = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        agent = kind(**QUICK, seed=seed).fit(*data[:2])
        assert random.getstate() == wanted[0] and np.random.get_state()[1].tolist() == wanted[1]
        assert torch.equal(torch.get_rng_state(), wanted[2])
        return agent.scores(rows, {})

    scores = drawn(1)
    assert scores.dtype == np.float32 and np.isfinite(scores).all()
    again = drawn(1, [random.random, np.random.random, lambda: torch.rand(7)])
    assert np.array_equal(scores, again)
    assert not np.array_equal(scores, drawn(2))


def test_an_agent_learns_anew_whatever_it_learned_before(data):
    agent = load_agent("snqn")(**QUICK)
    first = agent.fit(*data[:2]).scores(observed(data[1]), {})
    assert np.array_equal(agent.fit(*data[:2]).scores(observed(data[1]), {}), first)


# ------------------------------------------------------------------------------- what is saved


def test_what_was_saved_scores_the_same_in_another_process_that_learns_the_same(data, tmp_path):
    names = ["modern", "sqn", "sa2c", "sqn-cat"]
    for name in names:
        agent = load_agent(name)(**QUICK).fit(*data[:2])
        agent.save(tmp_path / name)
        np.save(tmp_path / f"{name}.npy", agent.scores(observed(data[1]), {}))
        with pytest.raises(InvalidArgument, match="can be read") as problem:
            load_agent("sqn-fut").load(tmp_path / name)
        said(problem)
    script = """
import json, sys
from pathlib import Path
import minari, numpy as np, torch
from recgym.agent import load_agent
torch.set_num_threads(1)
folder, names, options = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
data = [minari.load_dataset(f"recgym/n/mixed{split}-v0") for split in ("", "-validation")]
rows = np.concatenate([episode.observations for episode in data[1]])
learned = load_agent("sa2c")(**options).fit(*data).scores(rows, {})
assert np.array_equal(learned, np.load(folder / "sa2c.npy")), "it learned something else"
def hear(event, arguments):
    assert event != "pickle.find_class", "something is unpickled"
kinds = {name: load_agent(name) for name in names}
sys.addaudithook(hear)
for name, kind in kinds.items():
    agent = kind.load(folder / name)
    assert np.array_equal(agent.scores(rows, {}), np.load(folder / f"{name}.npy")), name
    print(agent.parameters)
"""
    place = data[0].storage.data_path.parents[3]  # where the fixture has put the data
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), json.dumps(names), json.dumps(QUICK)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MINARI_DATASETS_PATH": str(place)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    counts = [load_agent(name).load(tmp_path / name).parameters for name in names]
    assert list(map(int, run.stdout.split())) == counts


def test_parameters_are_those_of_one_copy_and_all_its_heads(data):
    d, n, length = 8, 20, 8
    table = (n + 1) * d + 5 * d  # items and pad, and five answers
    sasrec = length * d + 3 * 2 * d + 5 * (d * d + d)
    head = n * d + n
    for name, count in {"supervised": 1, "sqn": 2, "sa2c": 2}.items():
        agent = load_agent(name)(**QUICK).fit(data[0])
        assert agent.parameters == table + sasrec + count * head
    agent = load_agent("modern")(**QUICK, encoder="gru4rec").fit(data[0])
    assert agent.parameters == table + 6 * d * d + 6 * d + n  # the head is the table


def test_scores_are_those_of_the_network_without_dropout(data):
    agent = load_agent("sqn")(**QUICK, dropout=0.5).fit(data[0])
    rows = observed(data[1])
    network = agent._network.recommender
    seen = Steps(data[1]).seen(np.arange(len(rows)), torch.device("cpu"))
    with torch.no_grad():
        wanted = network.head("supervised")(network.state(seen)).numpy()
    assert np.array_equal(agent.scores(rows, {}), wanted)
    assert np.array_equal(agent.act(rows, {}), wanted.argmax(1))
    by_values = load_agent("sqn")(**QUICK, dropout=0.5, head="q").fit(data[0])
    with torch.no_grad():
        wanted = network.head("q")(network.state(seen)).numpy()
    assert np.array_equal(by_values.scores(rows, {}), wanted)


def test_a_learned_agent_holds_nothing_of_training(data):
    agent = load_agent("sa2c")(**QUICK).fit(*data[:2])
    assert vars(agent).keys() - agent.__dataclass_fields__ == {
        "_network", "_plan", "_space", "_n_items", "_history", "_fresh"
    }  # fmt: skip
    assert all(weights.grad is None for weights in agent._network.parameters())
    assert not any(module.training for module in agent._network.modules())


# ---------------------------------------------------------------------------------- validation


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_are_the_weights_that_validation_likes_best(data, name):
    run = Noted()
    options = QUICK | {"steps": 60, "validate_every": 4, "patience": 3, "learning_rate": 0.05}
    agent = load_agent(name)(**options).fit(*data[:2], run=run)
    found = [line["ndcg@10"] for line in run.lines if "ndcg@10" in line]
    assert ndcg(agent, data[1]) == max(found)


def test_training_ends_after_so_many_validations_without_a_better_one(data):
    run, options = Noted(), QUICK | {"steps": 400, "validate_every": 2, "learning_rate": 0.05}
    agent = load_agent("supervised")(**options, patience=3).fit(*data[:2], run=run)
    found = [line["ndcg@10"] for line in run.lines if "ndcg@10" in line]
    best = int(np.argmax(found))
    assert ndcg(agent, data[1]) == found[best] > found[-1]
    assert len(found) == best + 1 + 3 and run.lines[-1]["step"] == 2 * len(found) < 400
    patient = Noted()
    load_agent("supervised")(**options | {"steps": 100}, patience=0).fit(*data[:2], run=patient)
    assert patient.lines[-1]["step"] == 100
    both = [line["ndcg@10"] for line in patient.lines if "ndcg@10" in line]
    assert both[: len(found)] == found


def test_without_validation_the_last_weights_are_kept(data):
    class Watched(load_agent("supervised")):
        def update(self):
            terms = super().update()
            self.watching["last"] = {k: v.clone() for k, v in self._all.state_dict().items()}
            return terms

    agent = Watched(**QUICK)
    agent.watching = {}
    run = Noted()
    agent.fit(data[0], run=run)
    state = agent._network.recommender.state_dict()
    assert state and all(torch.equal(agent.watching["last"][f"0.{k}"], state[k]) for k in state)
    assert [line["step"] for line in run.lines] == [20]  # the last step always has a line
    assert not any("ndcg@10" in line for line in run.lines)


def test_both_heads_are_measured_and_losses_are_means(data):
    run = Noted()
    load_agent("snqn")(**QUICK | {"steps": 7}, head="q").fit(*data[:2], run=run)
    assert [line["step"] for line in run.lines] == [5, 7]
    assert run.lines[0].keys() == {
        "step", "seconds", "td", "negatives", "supervised", "cross-entropy",
        "ndcg@10", "hr@10", "ndcg@10 (supervised)", "hr@10 (supervised)",
    }  # fmt: skip
    each = Noted()
    options = QUICK | {"steps": 7, "validate_every": 1, "patience": 0}
    load_agent("snqn")(**options, head="q").fit(*data[:2], run=each)
    losses = [line["td"] for line in each.lines]
    assert run.lines[0]["td"] == pytest.approx(np.mean(losses[:5]), rel=1e-6)
    assert run.lines[1]["td"] == pytest.approx(np.mean(losses[5:]), rel=1e-6)


def test_half_precision_learns_about_the_same(data):
    rows, options = observed(data[1]), QUICK | {"steps": 10}
    for name in ("supervised", "modern", "sa2c"):
        for encoder in ("sasrec", "gru4rec", "nextitnet"):
            both = [
                load_agent(name)(**options, encoder=encoder, precision=precision).fit(data[0])
                for precision in ("float32", "bf16")
            ]
            whole, half = (agent.scores(rows, {}) for agent in both)
            assert half.dtype == np.float32 and np.isfinite(half).all()
            assert not np.array_equal(whole, half)
            assert np.corrcoef(half.flatten(), whole.flatten())[0, 1] > 0.95


# ------------------------------------------------------------------------------- what explodes


def assert_diverged(agent, *data, run=None):
    with pytest.raises(Diverged, match="stopped at step .*: its .* Try a lower") as problem:
        agent.fit(*data, run=run)
    assert type(agent).__name__ in said(problem) and agent._network is None
    return said(problem)


@pytest.mark.parametrize("name", ["supervised", "modern", "sqn", "sa2c"])
def test_a_learning_rate_that_is_too_high_stops_training(name, data):
    text = assert_diverged(load_agent(name)(**QUICK | {"learning_rate": 1e7}), *data[:2])
    assert "(it is 1e+07)" in text


def test_rewards_that_are_too_large_stop_training_at_the_first_step(tmp_path):
    dataset = foreign([([1, 2, 3], [1e9, 1.0, 1e20], False)])
    text = assert_diverged(load_agent("sqn")(**QUICK), dataset, run=Run(tmp_path))
    assert "at step 1: its loss 'td' is" in text and list(tmp_path.glob("*.safetensors")) == []


def test_a_gradient_that_is_no_number_is_seen_even_after_the_last_step(data):
    class Spoiled(load_agent("supervised")):
        def descend(self, which, loss):
            terms = super().descend(which, loss)
            if self.at + 1 == self.steps:
                self.networks[0].encoder.items.weight.data[3, 3] = np.nan
            return terms

    for validation in (None, data[1]):
        text = assert_diverged(Spoiled(**QUICK), data[0], validation)
        assert "at step 20: its greatest weight is nan" in text


def test_the_last_checkpoint_before_an_explosion_is_whole(data, tmp_path):
    class Exploding(load_agent("supervised")):
        def loss(self, network, other, batch):
            terms = super().loss(network, other, batch)
            return {"supervised": terms["supervised"] * (1e30 if self.at == 13 else 1)}

    assert "at step 14: its loss 'supervised'" in assert_diverged(
        Exploding(**QUICK), *data[:2], run=Run(tmp_path, every=0)
    )
    states, about = checkpoint.read(tmp_path / "checkpoint.safetensors")
    assert about["standing"]["at"] == 13 and not about["standing"]["_over"]
    assert all(torch.isfinite(tensor).all() for tensor in states["networks"].values())
    assert_diverged(Exploding(**QUICK), *data[:2], run=Run(tmp_path, every=0))


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("batch_size", 0, "batch_size is a whole number from 1 on, and 0"),
        ("steps", 1.5, "steps is a whole number from 1 on, and 1.5"),
        ("steps", True, "steps is a whole number"),
        ("patience", -1, "patience is a whole number from 0 on"),
        ("validate_every", 0, "validate_every is a whole number from 1 on"),
        ("size", -8, "size is a whole number"),
        ("seed", -1, "seed is a whole number from 0 on"),
        ("dropout", 2, "dropout is a share from 0 on, below 1, and 2"),
        ("dropout", 1.0, "dropout is a share"),
        ("dropout", -0.1, "dropout is a share"),
        ("dropout", float("nan"), "dropout is a share"),
        ("encoder", "bert", "No encoder is named 'bert'"),
        ("ends", "never", "No ends is named 'never'"),
        ("device", "tpu", "No device is named 'tpu'"),
        ("precision", "float16", "No precision is named 'float16'"),
        ("learning_rate", float("nan"), "learning_rate is a number above 0, and nan"),
        ("learning_rate", float("inf"), "learning_rate is a number above 0"),
        ("learning_rate", 0, "learning_rate is a number above 0"),
        ("learning_rate", "fast", "learning_rate is a number above 0, and 'fast'"),
        ("second_learning_rate", -0.1, "second_learning_rate is a number above 0"),
        ("discount", 1.01, "discount is a number from 0 to 1"),
        ("discount", -0.5, "discount is a number from 0 to 1"),
        ("negatives", -1, "negatives is a whole number from 0 on"),
        ("clip", float("nan"), "clip is a finite number"),
        ("advantages", 1, "advantages is True or False"),
        ("heads", 2, "No option of SA2C is named 'heads'"),
    ],
)
def test_an_option_that_means_nothing_is_refused(option, value, says):
    with pytest.raises(RecGymError, match=f"^{says}") as problem:
        made(load_agent("sa2c"), {option: value} if option != "seed" else {}, _seed(option, value))
    said(problem)


def _seed(option, value):
    return value if option == "seed" else 0


def test_a_gpu_that_is_not_there_is_missed_in_words(data):
    if torch.cuda.is_available():
        load_agent("sqn")(**QUICK, device="cuda").fit(data[0])
        return
    with pytest.raises(InvalidArgument, match="No GPU is at hand") as problem:
        load_agent("sqn")(**QUICK, device="cuda").fit(data[0])
    said(problem)


def test_test_data_are_refused(data):
    for given in ((data[2],), (data[0], data[2])):
        with pytest.raises(InvalidArgument, match="is a test dataset") as problem:
            load_agent("sqn")(**QUICK).fit(*given)
        said(problem)


@pytest.mark.parametrize("change", [{"n_items": 21}, {"history": 7}, {"n_topics": 4}])
def test_validation_data_of_another_catalogue_are_refused(data, change):
    other = rolled_out("validation", **change)
    with pytest.raises(InvalidArgument, match="of another catalogue or log") as problem:
        load_agent("sqn")(**QUICK).fit(data[0], other)
    said(problem)


def test_empty_data_are_refused(data):
    empty = [part.filter_episodes(lambda episode: len(episode) > 99) for part in data[:2]]
    for given in ((empty[0], data[1]), (data[0], empty[1])):
        with pytest.raises(InvalidArgument, match="has no step to learn from") as problem:
            load_agent("sqn")(**QUICK).fit(*given)
        said(problem)


def test_validation_data_without_a_target_are_refused():
    train = foreign([([1, 2, 3], [1, 1, 1], False)])
    for poor in ([([1], [0], False)], [([1, 2, 3], [1, 0, 0], False)]):
        validation = foreign(poor)
        with pytest.raises(InvalidArgument, match="no action after a history") as problem:
            load_agent("sqn")(**QUICK).fit(train, validation)
        said(problem)


@pytest.mark.parametrize(
    ("repeating", "options", "best"),
    [(False, {}, 2), (False, {"repeats": "free"}, 0), (True, {}, 0)],
)
def test_what_data_hardly_ever_repeat_is_not_recommended_again(repeating, options, best, tmp_path):
    rng = np.random.default_rng(0)
    sessions = [rng.choice(10, 6, replace=repeating) for _ in range(200)]
    kind = load_agent("supervised")
    agent = kind(**QUICK, **options).fit(logged("sessions", sessions, 10))
    head_set(agent._network.recommender.head("supervised"), bias=np.arange(9, -1, -1))
    seen = np.array([[1, 0, 10, 10, 10], [10] * 5], np.int32)
    assert agent.scores(seen, {}).argmax(1).tolist() == [0, 0]
    assert agent.act(seen, {}).tolist() == [best, 0]
    agent.save(tmp_path)
    assert kind.load(tmp_path).act(seen, {}).tolist() == [best, 0]


def test_nothing_to_imitate_is_refused():
    for name in ("supervised", "modern"):
        kind = load_agent(name)
        unpaid = foreign([([1, 2, 3], [0, 0, -1], False)])
        with pytest.raises(InvalidArgument, match="none is worth imitating") as problem:
            kind(**QUICK).fit(unpaid)
        said(problem)
        assert kind(**QUICK, imitate="all").fit(unpaid).parameters
    with pytest.raises(InvalidArgument, match="no window tells of it") as problem:
        load_agent("modern")(**QUICK).fit(foreign([([1], [1], False), ([2], [1], False)]))
    said(problem)


def test_encoders_that_cannot_are_refused(data):
    with pytest.raises(InvalidArgument, match="Caser sees 4 items at a time") as problem:
        load_agent("sqn")(**QUICK, encoder="caser").fit(foreign([([1, 2], [1, 1], False)]))
    said(problem)
    with pytest.raises(InvalidArgument, match="take gru4rec, sasrec or nextitnet") as problem:
        load_agent("modern")(**QUICK, encoder="caser").fit(data[0])
    said(problem)


# --------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", [*NAMES, "sqn-fut"])
def test_every_learner_keeps_the_contract_of_agents(name):
    assert check_agent(name, **QUICK)
