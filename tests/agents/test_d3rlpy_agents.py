"""Algorithms of d3rlpy as agents: what they learn, and that they answer as d3rlpy does."""

import json
import random
import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium import spaces

import recgym
from recgym.agent import has_chance, load_agent
from recgym.episodes import Episodes
from recgym.errors import InvalidArgument
from recgym.export import made_here, new_storage, writing_dataset
from recgym.repeats import newest_first
from recgym.rollouts import collect

from ..sentences import said

pytestmark = [
    pytest.mark.d3rlpy,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
    pytest.mark.filterwarnings("ignore:env_spec is None:UserWarning"),
]

NAMES = ["d3rlpy-bc", "d3rlpy-double-dqn", "d3rlpy-cql", "d3rlpy-bcq", "d3rlpy-sac"]
SMALL = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
QUICK = {"steps": 5, "batch_size": 16, "size": 8}
ITEMS, LENGTH = 12, 4


@pytest.fixture
def dataset():
    return collect("recgym/OracleBoredom-v0", "mixed", sessions=100, name="n", **SMALL)


def seen(dataset):
    """The first observation of each episode, and the last."""
    return np.concatenate([[e.observations[0], e.observations[-1]] for e in dataset])


def contexts(count, rng):
    """Histories of one to four items, and the item that is right after the last of each."""
    depths = rng.integers(1, LENGTH + 1, size=count)
    items = rng.integers(ITEMS, size=(count, LENGTH)).astype(np.int32)
    items[np.arange(LENGTH) >= depths[:, None]] = ITEMS
    last = items[np.arange(count), depths - 1]
    return items, (5 * last + 3) % ITEMS


def bandit(name, right_share, rng, split="train", count=4000):
    """Episodes of one step: a right action earns 1, and a share of the actions is right."""
    states, right = contexts(count, rng)
    actions = np.where(rng.random(count) < right_share, right, rng.integers(ITEMS, size=count))
    ends, never = np.ones(count, bool), np.zeros(count, bool)
    episodes = Episodes(
        np.ones(count, np.int64),
        {
            "actions": actions,
            "rewards": (actions == right).astype(float),
            "terminations": ends,
            "truncations": never,
        },
        {"observations": np.repeat(states, 2, axis=0)},
    )
    space = spaces.Box(0, ITEMS, (LENGTH,), np.int32)
    known = f"recgym/{name}/logged-v0"
    with writing_dataset(known, replace=True) as folder:
        storage = new_storage(folder, space, spaces.Discrete(ITEMS), None, "recgym")
        storage.update_metadata(
            made_here() | {"dataset_id": known, "split": split, "layout": {"history": [0, LENGTH]}}
        )
        storage.append(episodes)
    return minari.load_dataset(known)


# ------------------------------------------------------------------------------- what is learned


@pytest.mark.parametrize(
    ("name", "right_share"),
    [("d3rlpy-bc", 0.5), ("d3rlpy-double-dqn", 0.0), ("d3rlpy-cql", 0.3), ("d3rlpy-bcq", 0.1)],
)
def test_what_is_right_after_the_last_item_is_learned(name, right_share):
    rng = np.random.default_rng(0)
    train = bandit("right", right_share, rng)
    agent = load_agent(name)(steps=1500, batch_size=64, size=32).fit(train)
    states, right = contexts(2000, rng)
    found = agent.act(states, {})
    assert found.dtype == np.int64 and (found == right).mean() > 0.9


def test_values_are_of_rewards_as_they_are():
    rng = np.random.default_rng(1)
    train = bandit("paid", 0.25, rng)
    agent = load_agent("d3rlpy-double-dqn")(steps=1500, batch_size=64, size=32).fit(train)
    states, right = contexts(500, rng)
    values, rows = agent.scores(states, {}), np.arange(500)
    others = (values.sum(1) - values[rows, right]) / (ITEMS - 1)
    assert abs(values[rows, right].mean() - 1) < 0.1 and abs(others.mean()) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_agents_is_kept(name):
    from recgym.checks import check_agent

    assert check_agent(name, **QUICK)


@pytest.mark.parametrize("name", NAMES)
def test_learning_is_that_of_d3rlpys_own_fit(dataset, name):
    import d3rlpy

    agent = load_agent(name)(**QUICK, seed=3).fit(dataset)
    algorithm = agent._config(recgym.d3rlpy_encoder(dataset, 8)).create()
    random.seed(3), d3rlpy.seed(3)
    algorithm.fit(
        recgym.to_d3rlpy(dataset),
        n_steps=5,
        n_steps_per_epoch=5,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    wanted = recgym.from_d3rlpy(algorithm, dataset)
    rows = seen(dataset)
    assert np.array_equal(agent.scores(rows, {}), wanted.scores(rows, {}))


# ---------------------------------------------------------------------------- how it is learned


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_all_and_global_generators_go_on(
    dataset, name, capfd, tmp_path, monkeypatch
):
    import structlog
    import torch

    monkeypatch.chdir(tmp_path)
    kind, rows = load_agent(name), seen(dataset)
    assert has_chance(kind)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    wanted = random.random(), np.random.random(), torch.rand(()).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    capfd.readouterr()
    settings = structlog.get_config()
    one = kind(**QUICK, seed=1).fit(dataset)
    one.save(tmp_path / "one")
    kind.load(tmp_path / "one")
    assert (random.random(), np.random.random(), torch.rand(()).item()) == wanted
    assert structlog.get_config() == settings
    same, other = (kind(**QUICK, seed=seed).fit(dataset) for seed in (1, 2))
    scores = one.scores(rows, {})
    assert scores.dtype == np.float32 and scores.shape == (len(rows), 20)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, same.scores(rows, {}))
    assert not np.array_equal(scores, other.scores(rows, {}))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]  # d3rlpy logs nothing here


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_scores_the_same_in_another_process(dataset, name, tmp_path):
    agent, rows = load_agent(name)(**QUICK).fit(dataset), seen(dataset)
    agent.save(tmp_path / "agent")
    np.save(tmp_path / "rows.npy", rows)
    script = """
import sys, pathlib
import numpy as np, torch
from recgym.agent import load_agent
def hear(event, arguments):
    assert event != "pickle.find_class", "something is unpickled"
kind = load_agent(sys.argv[1])
sys.addaudithook(hear)
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[2])
agent = kind.load(folder / "agent")
np.save(folder / "scores.npy", agent.scores(np.load(folder / "rows.npy"), {}))
print(agent.parameters, agent)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, name, str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == f"{agent.parameters} {agent}\n"
    assert np.array_equal(np.load(tmp_path / "scores.npy"), agent.scores(rows, {}))
    (file,) = (tmp_path / "agent").iterdir()
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")  # safetensors: a header of JSON, and numbers
    assert json.loads(content[8 : 8 + size])["__metadata__"].keys() == {"about"}
    assert b"\x80\x04" not in content[8 : 8 + size]


def test_parameters_are_those_that_score(dataset):
    # history: 21 codes, responses: 5 codes, 8 ages; and a layer from 8 features to 20 items
    one = (21 + 5 + 8) * 8 + 9 * 20
    for name in NAMES:  # SAC's values and target networks recommend nothing
        both = 9 * 20 if name == "d3rlpy-bcq" else 0  # values and imitator, on one encoder
        assert load_agent(name)(**QUICK).fit(dataset).parameters == one + both


@pytest.mark.parametrize("name", NAMES)
def test_what_data_hardly_ever_repeat_is_not_recommended_again(dataset, name, tmp_path):
    options = {**SMALL, "fresh": 5, "steps": 8}
    data = collect("recgym/OracleBoredom-v0", "mixed", sessions=400, name="refused", **options)
    kind, history = load_agent(name), slice(*data.storage.metadata["layout"]["history"])
    agent, free = (kind(**QUICK, repeats=repeats).fit(data) for repeats in ("learned", "free"))
    rows = seen(data)
    assert np.array_equal(agent.scores(rows, {}), free.scores(rows, {}))
    assert np.array_equal(free.act(rows, {}), free.scores(rows, {}).argmax(1))
    newest = newest_first(rows[:, history], SMALL["n_items"])[:, :5]
    again = [(chosen.act(rows, {})[:, None] == newest).any() for chosen in (agent, free)]
    assert again == [False, True]
    agent.save(tmp_path)
    assert np.array_equal(kind.load(tmp_path).act(rows, {}), agent.act(rows, {}))


# ---------------------------------------------------------------------- what an imitator allows


def constrained(data, **options):
    """A BCQ of d3rlpy that was trained a little on a dataset."""
    from d3rlpy.algos import DiscreteBCQConfig

    config = DiscreteBCQConfig(
        encoder_factory=recgym.d3rlpy_encoder(data, 8), learning_rate=0.01, beta=0.0, **options
    )
    algorithm, transitions = config.create(), recgym.to_d3rlpy(data)
    algorithm.build_with_dataset(transitions)
    for _ in range(60):
        algorithm.update(transitions.sample_transition_batch(32))
    return algorithm


@pytest.mark.parametrize("flexibility", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("options", [{}, {"share_encoder": False, "n_critics": 2}])
def test_bcq_acts_as_d3rlpy_predicts_and_ranks_what_is_allowed_first(flexibility, options):
    import torch

    rng = np.random.default_rng(2)
    data = bandit("filtered", 0.4, rng, count=600)
    algorithm = constrained(data, action_flexibility=flexibility, **options)
    agent, (rows, _) = recgym.from_d3rlpy(algorithm, data), contexts(3000, rng)
    assert agent.act(rows, {}).tolist() == algorithm.predict(rows).tolist()
    scores = agent.scores(rows, {})
    values = [algorithm.predict_value(rows, np.full(len(rows), item)) for item in range(ITEMS)]
    values = np.stack(values, 1)
    with torch.no_grad():
        logits = algorithm.impl.modules.imitator(torch.as_tensor(rows).float()).logits.numpy()
    chances = np.exp(logits)
    relative = chances / chances.max(1, keepdims=True)
    allowed = relative > flexibility
    unlike = np.abs(relative / flexibility - 1).min(1) > 1e-3  # no rounding decides
    assert 0 < allowed.mean() < 1 and unlike.mean() > 0.8
    assert (scores[~allowed & unlike[:, None]] < 0).all()
    for row in np.flatnonzero(unlike)[:500]:
        kept = np.flatnonzero(allowed[row])
        found = np.argsort(-scores[row])[: len(kept)]
        assert set(found) == set(kept)
        assert (np.diff(values[row, found]) < 1e-6).all()  # by value, but for rounding
        rest = np.argsort(-scores[row])[len(kept) :]
        assert (np.diff(logits[row, rest]) < 1e-6).all()  # by how likely they are


def test_a_bcq_that_was_saved_allows_the_same(tmp_path):
    from recgym.d3rl import D3rlpyAgent

    rng = np.random.default_rng(3)
    data = bandit("kept", 0.4, rng, count=600)
    agent = recgym.from_d3rlpy(constrained(data, action_flexibility=0.7), data)
    agent.save(tmp_path)
    rows, _ = contexts(500, rng)
    assert np.array_equal(D3rlpyAgent.load(tmp_path).scores(rows, {}), agent.scores(rows, {}))


def test_a_flexibility_that_allows_nothing_or_all_is_refused():
    for flexibility in (0.0, 1.0):
        with pytest.raises(InvalidArgument, match="^action_flexibility is") as problem:
            load_agent("d3rlpy-bcq")(action_flexibility=flexibility)
        said(problem)


# --------------------------------------------------------------------------------- what is refused


def test_what_has_not_learned_recommends_nothing(tmp_path):
    agent, rows = load_agent("d3rlpy-bc")(), np.zeros((2, 16), int)
    for ask in (
        lambda: agent.act(rows, {}),
        lambda: agent.scores(rows, {}),
        lambda: agent.parameters,
        lambda: agent.save(tmp_path),
    ):
        with pytest.raises(InvalidArgument, match="DiscreteBC has not learned yet") as problem:
            ask()
        said(problem)


def test_another_catalogue_is_refused(dataset):
    agent, rows = load_agent("d3rlpy-bc")(**QUICK).fit(dataset), seen(dataset)
    beyond = rows.copy()
    beyond[0, 0] = 21  # there are 20, and a pad
    for strange in (rows[:, :-1], rows[0], beyond, -1 - rows, {"history": rows[:, :8]}):
        with pytest.raises(InvalidArgument, match="the catalogue that it knows") as problem:
            agent.act(strange, {})
        said(problem)
    assert agent.act(rows[:0], {}).shape == (0,)


def test_test_data_are_refused():
    data = bandit("held-out", 0.5, np.random.default_rng(0), split="test", count=10)
    with pytest.raises(InvalidArgument, match="is a test dataset") as problem:
        load_agent("d3rlpy-bc")(**QUICK).fit(data)
    said(problem)


@pytest.mark.parametrize("option", ["steps", "batch_size", "size", "target_interval"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_options_that_count_are_whole_numbers(option, value):
    with pytest.raises(InvalidArgument, match=f"^{option} is a whole number from 1 on") as problem:
        load_agent("d3rlpy-cql")(**{option: value})
    said(problem)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other", "options"])
def test_what_is_damaged_is_refused_in_words(dataset, damage, tmp_path):
    kind = load_agent("d3rlpy-bc")
    folder = tmp_path / "agent"
    kind(**QUICK).fit(dataset).save(folder)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "other":
        load_agent("d3rlpy-sac")(**QUICK).fit(dataset).save(folder)
        kind = load_agent("d3rlpy-double-dqn")  # of the same options
    elif damage == "options":
        file.write_bytes(content.replace(b"batch_size", b"batch_fize", 1))
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(InvalidArgument, match="that can be read") as problem:
        kind.load(folder)
    assert kind.__name__ in said(problem)


def test_a_command_that_needs_d3rlpy_says_nothing_of_gym():
    done = subprocess.run(
        [Path(sys.executable).with_name("recgym"), "agents", "d3rlpy-bc"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "d3rlpy" in done.stdout and not done.stderr
