"""Users that a language model answers for: what they take, when they leave, what is seen."""

import copy
import json
import shutil
from contextlib import contextmanager

import gymnasium
import minari
import numpy as np
import pytest

import recgym
from recgym.agent import View
from recgym.agents.lea import LEA
from recgym.benchmarks import BENCHMARKS, Benchmark
from recgym.cli import run
from recgym.envs import simulator as environment
from recgym.envs.draws import keys_of, origins_of, uniforms
from recgym.errors import InvalidArgument, UnknownName
from recgym.evaluation.closed_loop import acted, simulated
from recgym.evaluation.report import evaluate
from recgym.rollouts import collect
from recgym.simulator.asked import Asked, Fit, Tokenization
from recgym.simulator.cache import Cached
from recgym.simulator.export import with_simulator
from recgym.simulator.moments import last_taken, takings
from recgym.simulator.store import Simulator, fit_simulator

from ..agents.worlds import logged
from ..training import SMALL
from .conftest import made

ID, DATA = "recgym/LLM-v0", "recgym/w/mixed-v0"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def homes(tmp_path_factory, tokenizer, one_thread):
    """Users of an oracle, and a simulator of them."""
    with pytest.MonkeyPatch.context() as patch:
        found = {name: tmp_path_factory.mktemp(name) for name in ("home", "minari", "models")}
        patch.setenv("RECGYM_HOME", str(found["home"]))
        patch.setenv("MINARI_DATASETS_PATH", str(found["minari"]))
        collect("recgym/OracleBoredom-v0", "mixed", sessions=200, name="w", **SMALL)
        language = made("llama", tokenizer)
        language.model.save_pretrained(found["models"] / "tiny")
        tokenizer.save_pretrained(found["models"] / "tiny")
        fit = Fit(share=0.4, epochs=1, batches=4, batch_size=8, learning_rate=0.05)
        asked = Asked(str(found["models"] / "tiny"), fit=fit, base_rate=0.3,
                      tokens=Tokenization(iterations=2))  # fmt: skip
        fit_simulator(minari.load_dataset(DATA), asked, found["home"] / "simulators" / "w-training")
        yield found


@pytest.fixture(autouse=True)
def at_home(homes, monkeypatch):
    """Environments load once only what the home of a test has."""
    monkeypatch.setenv("RECGYM_HOME", str(homes["home"]))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(homes["minari"]))
    for kept in (environment._asked, environment._sessions):
        kept.cache_clear()


def one(**options):
    return gymnasium.make(ID, simulator="w", **options)


def many(count, **options):
    return gymnasium.make_vec(
        ID, count, vectorization_mode="vector_entry_point", simulator="w", **options
    )


@contextmanager
def without_its_model(homes):
    """The simulator stays, and its language model is not there."""
    (homes["models"] / "tiny").rename(homes["models"] / "aside")
    try:
        yield
    finally:
        (homes["models"] / "aside").rename(homes["models"] / "tiny")


def walked(env, actions, seed=3):
    """Everything that is seen on the way, until the episode is over."""
    found = [env.reset(seed=seed)]
    for action in actions:
        found.append(env.step(action))
        if found[-1][2] or found[-1][3]:
            break
    return found


# -------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize("accept", ["probability", "threshold", "log"])
@pytest.mark.parametrize("reward", ["probability", "standardised", "raw", "accepted"])
def test_a_session_is_that_of_a_slow_walk(accept, reward):
    user = Simulator.load("w-training")
    env = one(accept=accept, reward=reward, threshold=0.2, patience=3, history=4, steps=15)
    items, offsets = takings(minari.load_dataset(DATA))
    lengths = np.diff(offsets)
    rng = np.random.default_rng(0)
    for seed in range(12):
        key = keys_of(origins_of(np.array([seed], np.uint64)), np.array([0]))
        session = int(uniforms(key, 0)[0] * len(lengths))
        logged_items = items[offsets[session] : offsets[session + 1]].tolist()
        history, refused = logged_items[:1], 0
        seen, _ = env.reset(seed=seed)
        for step in range(1, 16):
            assert seen.tolist() == (history[-4:] + [20] * 4)[:4]
            follows = logged_items[len(history) : len(history) + 1] or [0]
            action = follows[0] if rng.random() < 0.5 else int(rng.integers(20))
            raw = user.rewards(np.array([(history[-4:] + [20] * 4)[:4]]), np.array([[action]]))
            chance = float(user.scale.probability(raw)[0, 0])
            standardised = float(user.scale.standardised(raw)[0, 0])
            takes, leaves = uniforms(key, step, np.array([0, 1]))
            accepted = {
                "probability": takes < chance,
                "threshold": standardised > 0.2,
                "log": logged_items[len(history) : len(history) + 1] == [action],
            }[accept]
            history += [action] * bool(accepted)
            refused = 0 if accepted else refused + 1
            ended = np.sum(lengths == len(history)) / max(np.sum(lengths >= len(history)), 1)
            if len(history) > lengths.max():
                ended = 1.0  # nobody took as many
            left = refused >= 3 or (accepted and leaves < ended)
            seen, got, terminated, truncated, info = env.step(action)
            wanted = {"probability": chance, "standardised": standardised,
                      "raw": float(raw[0, 0]), "accepted": float(accepted)}[reward]  # fmt: skip
            assert got == pytest.approx(wanted, abs=1e-5)
            assert (terminated, truncated) == (left, step == 15 and not left)
            assert info["accepted"] == accepted
            assert info["probability"] == pytest.approx(chance, abs=1e-6)
            if left:
                break


def test_a_batch_goes_as_single_users_do():
    actions = np.random.default_rng(1).integers(20, size=(30, 4))
    together = many(4, seen="both")
    observations, _ = together.reset(seed=5)
    alone = [one(seen="both") for _ in range(4)]
    states = [env.reset(seed=5 + user)[0] for user, env in enumerate(alone)]
    over = np.zeros(4, bool)
    for row in actions:
        np.testing.assert_array_equal(observations, states)
        observations, rewards, terminated, truncated, _ = together.step(row)
        for user, env in enumerate(alone):
            if over[user]:  # in this step a batch begins anew
                states[user], over[user] = env.reset()[0], False
                continue
            states[user], reward, ends, stops, _ = env.step(int(row[user]))
            assert (reward, ends, stops) == (rewards[user], terminated[user], truncated[user])
            over[user] = ends or stops


def test_a_seed_gives_the_same_session_and_another_one_another():
    actions = list(range(15))
    first, again = walked(one(), actions), walked(one(), actions)
    assert len(first) == len(again)
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before[0], after[0])
        assert before[1:] == after[1:]
    starts = {one().reset(seed=seed)[0][0] for seed in range(20)}
    assert len(starts) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": "all"}, "seen is history, state, both, not 'all'"),
        ({"accept": "never"}, "accept is probability, threshold, log, not 'never'"),
        ({"reward": 1}, "reward is probability, standardised, raw, accepted, not 1"),
        ({"patience": 0}, "patience is a whole number from 1 on"),
        ({"history": 2.5}, "history is a whole number from 1 on"),
        ({"steps": 0}, "steps is a whole number from 1 on"),
        ({"patients": 3}, "Did you mean patience?"),
        ({"threshold": "high"}, "threshold is a number, and 'high' was given"),
        ({"autoreset_mode": "NextStep"}, "A simulator takes no argument autoreset_mode."),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(InvalidArgument) as problem:
        one(**options)
    assert message in str(problem.value)


def test_without_a_simulator_it_is_said_which_there_are():
    with pytest.raises(InvalidArgument, match="A simulator is needed"):
        gymnasium.make(ID)
    with pytest.raises(UnknownName, match="Known: w-training"):
        gymnasium.make(ID, simulator="v")
    with pytest.raises(UnknownName, match="No dataset is named"):
        one(data="recgym/nothing/mixed-v0")


def test_a_whole_name_is_that_of_the_role_or_refused():
    given = {"simulator": "w-training", "steps": 5}
    found = walked(gymnasium.make(ID, **given), [1, 2])
    np.testing.assert_equal(found, walked(one(steps=5), [1, 2]))
    gymnasium.make(ID, **given, role="training")
    with pytest.raises(InvalidArgument, match="w-training is for training, .* scoring is asked"):
        gymnasium.make(ID, **given, role="scoring")


def test_data_whose_users_cannot_be_those_of_the_simulator_are_refused():
    collect("recgym/OracleBoredom-v0", "mixed", sessions=20, name="y", **SMALL | {"catalogue": 1})
    with pytest.raises(InvalidArgument, match="recgym/y/mixed-v0 has another catalogue than"):
        one(data="recgym/y/mixed-v0")
    logged("more", np.random.default_rng(0).integers(30, size=(20, 5)), 30)
    with pytest.raises(InvalidArgument, match="items from 20 on"):
        environment.Sessions("recgym/more/logged-v0", 20)
    logged("none", [[1, 2]], 20, rewards=[[0, 0]])
    with pytest.raises(InvalidArgument, match="No user of recgym/none/logged-v0 took anything"):
        environment.Sessions("recgym/none/logged-v0", 20)


# --------------------------------------------------------------------------------- what is seen


def test_states_are_those_of_the_simulator():
    user = Simulator.load("w-training")
    for seen, at in (("state", 0), ("both", 10)):
        env = one(seen=seen, accept="threshold", threshold=-9.0)
        observation, _ = env.reset(seed=3)
        for action in range(5):
            history = env.unwrapped.users._window.copy()
            assert env.observation_space.contains(observation)
            np.testing.assert_allclose(observation[at:], user.states(history)[0], atol=1e-5)
            assert at == 0 or observation[:at].tolist() == history[0].tolist()
            observation, _, terminated, *_ = env.step(action)
            if terminated:
                break


def test_dictionaries_hold_the_same():
    flat, parts = one(seen="both").reset(seed=1)[0], one(seen="both", observation="dict")
    found = parts.reset(seed=1)[0]
    assert parts.observation_space.contains(found) and set(found) == {"history", "state"}
    np.testing.assert_array_equal(np.concatenate([found["history"], found["state"]]), flat)


@pytest.mark.parametrize("seen", ["history", "state", "both"])
def test_it_keeps_the_rules_that_others_rely_on(seen):
    recgym.check_env(one(seen=seen, accept="threshold", threshold=-0.5))
    recgym.check_vector_env(
        ID, simulator="w", seen=seen, accept="threshold", threshold=-0.5
    )  # fmt: skip


def test_a_story_is_told_in_words():
    env = one(render_mode="ansi", patience=2, accept="threshold", threshold=9.0)
    walked(env, [3, 4])
    before, first, second = env.render().splitlines()
    assert before.startswith("before: The ")
    assert "refuses it" in first and "(p = 0." in first and second.startswith("  2  The ")
    together = many(2, render_mode="ansi", patience=2, accept="threshold", threshold=9.0)
    together.reset(seed=3)
    for action in (3, 4):
        together.step(np.full(2, action))
    told, other = together.render()
    assert told == env.render() != other


def test_an_id_of_data_asks_the_small_simulator_of_that_name(homes):
    folder = homes["home"] / "simulators"
    shutil.copytree(folder / "w-training", folder / "oracle-boredom-mixed-recgym-small-training")
    try:
        found = walked(gymnasium.make("recgym/OracleBoredomLLM-v0", steps=5), [1, 2])
        np.testing.assert_equal(found, walked(one(steps=5), [1, 2]))
    finally:
        shutil.rmtree(folder / "oracle-boredom-mixed-recgym-small-training")


# ------------------------------------------------------------------------------- what it costs


def test_a_step_is_one_call_of_the_model_for_all_and_none_when_it_is_repeated(monkeypatch):
    calls, ask = [], Simulator.rewards
    monkeypatch.setattr(
        Simulator, "rewards", lambda *asked: calls.append(len(asked[1])) or ask(*asked)
    )  # fmt: skip
    env = many(6, history=7)  # histories that no other test has
    env.reset(seed=11)
    for action in range(4):
        env.step(np.full(6, action))
    assert 1 <= len(calls) <= 4 and max(calls) > 1
    asked = len(calls)
    env.reset(seed=11)
    for action in range(4):
        env.step(np.full(6, action))
    assert len(calls) == asked


def test_without_its_model_it_says_what_it_said_before_and_names_what_is_missing(homes):
    before = walked(one(steps=5), [1, 2, 3, 4, 5], seed=8)
    with without_its_model(homes):
        environment._asked.cache_clear()
        with pytest.warns(UserWarning, match="No causal language model can be loaded"):
            env = one(steps=5)
        again = walked(env, [1, 2, 3, 4, 5], seed=8)
        assert [copy.deepcopy(part[1:]) for part in again] == [part[1:] for part in before]
        with pytest.raises(InvalidArgument, match="lacks 1 of the rewards asked for"):
            for seed in range(1000, 1100):
                walked(env, range(19, 0, -1), seed=seed)


# ------------------------------------------------------------------------------- logged sessions


def test_what_users_took_is_that_of_a_slow_count():
    collect("recgym/OracleBoredom-v0", "mixed", sessions=40, name="x", **SMALL)
    data = minari.load_dataset("recgym/x/mixed-v0")
    view, wanted = View.of(data), []
    for episode in data:
        first = view.consumed(episode.observations[:1])[0]
        took = [*first[first != view.n_items], *episode.actions[episode.rewards > 0]]
        wanted += [took] if took else []
    items, offsets = takings(data)
    found = [items[low:high].tolist() for low, high in zip(offsets, offsets[1:], strict=False)]
    assert found == wanted


def test_a_dataset_holds_what_the_simulator_says_of_every_session(homes):
    data = minari.load_dataset(DATA)
    made = with_simulator(data, "w-training", "train", negatives=3, overwrite=True)
    user, view = Simulator.load("w-training"), View.of(data)
    assert made.id == "recgym/w/llm-v0" and made.total_steps == data.total_steps
    for number in (0, 7, 150):
        (one,), (other,) = data.iterate_episodes([number]), made.iterate_episodes([number])
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        histories = last_taken(view.consumed(one.observations), view.n_items, 10)
        infos = other.infos
        np.testing.assert_allclose(infos["state"], user.states(histories), atol=1e-5)
        others = infos["negatives"][1:]
        assert (others != one.actions[:, None]).all() and others.max() < view.n_items
        asked = np.concatenate([one.actions[:, None], others], 1)
        worth = user.rewards(histories[:-1], asked)
        np.testing.assert_allclose(infos["reward"][1:], worth[:, 0], atol=1e-5)
        np.testing.assert_allclose(infos["negative_rewards"][1:], worth[:, 1:], atol=1e-5)
        assert np.isnan(infos["reward"][0]) and (infos["negatives"][0] == view.n_items).all()
        np.testing.assert_array_equal(one.infos["behaviour"], infos["behaviour"])


def test_a_dataset_says_which_simulator_answered_and_carries_its_card(homes):
    folder = homes["home"] / "simulators" / "w-training"
    (folder / "card.json").write_text('{"format": 1}')
    said = with_simulator(
        minari.load_dataset(DATA), "w-training", "train", overwrite=True
    ).storage.metadata  # fmt: skip
    user = Simulator.load("w-training")
    assert said["simulator"]["sha256"] == user.sha256
    assert said["simulator"]["scale"] == user.about["scale"]
    assert said["simulator"]["model"] == "tiny" and said["card"] == {"format": 1}
    assert said["layout"] == minari.load_dataset(DATA).storage.metadata["layout"]


def test_an_export_without_a_card_says_so(homes):
    (homes["home"] / "simulators" / "w-training" / "card.json").unlink(missing_ok=True)
    heard = []
    with_simulator(minari.load_dataset(DATA), "w-training", "train", overwrite=True,
                   say=heard.append)  # fmt: skip
    assert heard == [
        "w-training has no card that recgym/w/llm-v0 could carry: make it with `recgym simulator "
        "card w-training`, and export again."
    ]


def test_a_dataset_is_read_without_the_model_and_recovers_its_environment(homes):
    with_simulator(minari.load_dataset(DATA), "w-training", "train", overwrite=True)
    with without_its_model(homes):
        made = minari.load_dataset("recgym/w/llm-v0")
        recgym.check_dataset(made)
        assert len(made[0].infos["state"]) == len(made[0].observations)
        assert made.recover_environment().spec.id == "recgym/OracleBoredom-v0"


def test_the_command_writes_the_datasets_of_all_splits(capsys, homes):
    for split in ("validation", "test"):
        collect("recgym/OracleBoredom-v0", "mixed", split, sessions=20, name="w", **SMALL)
    run(["simulator", "export", "w", "--policy", "told", "--negatives", "2"])
    said = capsys.readouterr().out
    for known in ("told-v0: 200", "told-validation-v0: 20", "told-test-v0: 20"):
        assert f"recgym/w/{known} sessions" in said
    made = minari.load_dataset("recgym/w/told-test-v0")
    assert made.storage.metadata["split"] == "test" and made[0].infos["negatives"].shape[1] == 2
    with pytest.raises(InvalidArgument, match="exists. Use --replace"):
        run(["simulator", "export", "w", "--policy", "told"])
    with pytest.raises(InvalidArgument, match="negatives is a whole number from 1 on"):
        run(["simulator", "export", "w", "--policy", "told", "--negatives", "0"])


# ------------------------------------------------------------------------------ who learns of it

LEARNS = {"size": 8, "steps": 8, "warmup_steps": 4, "refresh": 2, "asked": 10, "batch_size": 16}


@pytest.fixture
def answered(homes):
    """The sessions with what the simulator says of them."""
    return with_simulator(minari.load_dataset(DATA), "w-training", "train", overwrite=True)


def test_lea_learns_the_same_again_from_what_its_simulator_has_said(homes, answered):
    seen = answered[3].observations
    learned = LEA(**LEARNS).fit(answered).scores(seen, {})
    with without_its_model(homes):
        again = LEA(**LEARNS).fit(answered)
        np.testing.assert_array_equal(again.scores(seen, {}), learned)
        with pytest.raises(InvalidArgument, match="lacks 10 of the choices asked for"):
            LEA(**LEARNS, seed=1).fit(answered)


def test_lea_finds_what_was_answered_beside_the_sessions(answered):
    data, seen = minari.load_dataset(DATA), answered[3].observations
    learned = LEA(**LEARNS).fit(answered).scores(seen, {})
    np.testing.assert_array_equal(LEA(**LEARNS).fit(data).scores(seen, {}), learned)
    said = answered.storage.metadata["simulator"]
    answered.storage.update_metadata({"simulator": said | {"content": "0" * 64}})
    with pytest.raises(InvalidArgument, match="for other sessions than those of recgym/w/mixed-v0"):
        LEA(**LEARNS).fit(data)


def test_answers_other_than_those_that_were_asked_for_are_refused(answered):
    LEA(**LEARNS, answers="llm").fit(answered)
    with pytest.raises(InvalidArgument, match="told-v0 are asked for, and recgym/w/llm-v0"):
        LEA(**LEARNS, answers="told").fit(answered)


def test_rewards_and_states_teach_and_agents_recommend_where_no_simulator_is(homes, answered):
    seen = answered[3].observations
    agent = LEA(**LEARNS).fit(answered)
    before = agent.scores(seen, {})
    simulators = homes["home"] / "simulators"
    simulators.rename(homes["home"] / "aside")
    try:
        np.testing.assert_array_equal(agent.scores(seen, {}), before)
        for rewards, state in (("simulator", "own"), ("log", "both"), ("log", "simulator")):
            LEA(**LEARNS, augmentation=False, rewards=rewards, state=state).fit(answered)
        with pytest.raises(UnknownName, match="No simulator is named 'w-training'"):
            LEA(**LEARNS).fit(answered)
    finally:
        (homes["home"] / "aside").rename(simulators)


def test_what_another_simulator_has_said_is_not_mixed_in(answered):
    said = answered.storage.metadata["simulator"]
    answered.storage.update_metadata({"simulator": said | {"sha256": "0" * 64}})
    with pytest.raises(InvalidArgument, match="is another than the one that answered"):
        LEA(**LEARNS).fit(answered)


@pytest.mark.parametrize("user", ["popularity", "itemknn", "gru"])
def test_a_rival_may_choose_in_its_place(user, answered):
    LEA(**LEARNS, user=user, rewards="log", state="own").fit(answered)


# ------------------------------------------------------------------------------ who is scored


class Turn:
    """Recommends items in turn, and has seen who answers."""

    learns_from = "environment"

    def fit(self, train, validation=None, env=None):
        self.met = env.spec.id, env.spec.kwargs["role"]
        return self

    def act(self, observations, infos):
        return observations[:, :10].sum(1).astype(int) % 20


@pytest.fixture
def twice(homes):
    """The simulator once more, as the one that scores."""
    folder = homes["home"] / "simulators"
    shutil.copytree(folder / "w-training", folder / "w-scoring")
    yield
    shutil.rmtree(folder / "w-scoring")


def test_what_agents_are_worth_to_simulated_users_is_that_of_a_slow_walk(twice):
    found = simulated(Turn(), "w", lambda share: None, users=6)
    returns, shown = [], set()
    for user in range(6):
        env = one()
        observation, _ = env.reset(seed=3 * 10**7 + user)
        total, over = 0.0, False
        while not over:
            action = int(Turn().act(observation[None], {})[0])
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
            shown.add(action)
        returns.append(total)
    assert found["return (training)"] == pytest.approx(np.mean(returns))
    assert found["coverage (training)"] == len(shown)
    assert found["return (gap)"] == 0  # both are the same


def test_nobody_is_asked_about_users_who_have_left(twice, monkeypatch):
    asked, ask = [], Cached.rewards
    monkeypatch.setattr(
        Cached, "rewards", lambda *words: asked.append(len(words[1])) or ask(*words)
    )  # fmt: skip
    simulated(Turn(), "w", lambda share: None, users=6)
    steps, _ = acted(ID, Turn(), 3 * 10**7, 6, lambda share: None, simulator="w")
    assert len(set(steps.tolist())) > 1 and sum(asked) == 5 * steps.sum()


def test_an_agent_may_learn_from_simulated_users_and_is_scored_by_them(
    homes, twice, tmp_path, monkeypatch, capsys
):
    steps = np.arange(20 * 30)
    frame = {"who": steps % 30, "what": steps % 20, "when": 10**9 + steps}
    log = recgym.log_from_frame(frame, user="who", item="what", time="when", name="turn")
    assert log.n_items == 20
    recgym.to_minari(log)
    about = {"shows": "that tests pass", "hides": "all else", "build": ""}
    asked = Benchmark("turn-v0", "recgym/turn/logged-v0", "ndcg@10", **about, log="turn")
    with pytest.raises(InvalidArgument, match="or with users of a simulator"):
        evaluate(Turn, asked, seeds=[0], folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Turn, "fit", None)  # nothing is learned before it is refused
        with pytest.raises(InvalidArgument, match="w-training is for training"):
            evaluate(Turn, asked, seeds=[0], folder=tmp_path, simulator="w-training")
    evaluate(Turn, asked, seeds=[0], folder=tmp_path, simulator="w")
    kept = json.loads((tmp_path / "seed-0" / "result.json").read_text())
    assert kept["training"]["return (training)"] == kept["training"]["return (scoring)"] > 0
    assert kept["same"]["simulator"] == "w"
    monkeypatch.setitem(BENCHMARKS, "turn-v0", asked)
    run(["evaluate", "popular", "--benchmark", "turn-v0", "--simulator", "w"])
    assert "users of w: return (training) " in capsys.readouterr().out
    oracle = Benchmark("w-v0", DATA, "return", **about, env="recgym/OracleBoredom-v0")
    with pytest.raises(InvalidArgument, match="whose users show what they took"):
        evaluate("popular", oracle, seeds=[0], folder=tmp_path, simulator="w")


@pytest.mark.sb3
def test_an_algorithm_of_stable_baselines_learns_from_simulated_users(monkeypatch):
    from recgym.agent import load_agent

    met, answer = [], environment.SimulatedUsers.answer
    monkeypatch.setattr(
        environment.SimulatedUsers, "answer", lambda *asked: met.append(1) or answer(*asked)
    )
    quick = {"steps": 64, "users": 4, "rollout": 8, "batch_size": 16, "epochs": 1, "size": 4}
    agent = load_agent("sb3-ppo")(**quick).fit(minari.load_dataset(DATA), env=one())
    assert len(met) == 16
    seen = many(5).reset(seed=0)[0]
    scores = agent.scores(seen, {})
    assert scores.shape == (5, 20) and agent.act(seen, {}).tolist() == scores.argmax(1).tolist()
