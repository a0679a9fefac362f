"""The road to Stable-Baselines3: its own vector environment, and an agent that learns."""

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import recgym
from recgym.errors import InvalidArgument, MissingExtra

from .sentences import said

pytestmark = pytest.mark.sb3

SMALL = {"n_items": 30, "n_topics": 5, "n_liked": 1, "fresh": 5, "history": 10, "steps": 20}
WORLDS = {
    "static": ("recgym/OracleStatic-v0", SMALL | {"leaving": 0.05}),
    "boredom": ("recgym/OracleBoredom-v0", SMALL | {"leaving": 0.05, "observation": "dict"}),
    "drift": ("recgym/OracleDrift-v0", SMALL | {"steps": 3}),
    "replay": ("recgym/DemoReplay-v0", {"split": "train"}),
    "stop": ("recgym/DemoReplay-v0", {"off_log": "stop", "observation": "dict"}),
}


@pytest.fixture(scope="module")
def sb3():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    import stable_baselines3

    yield stable_baselines3
    torch.set_num_threads(threads)


def dummy(sb3, env_id, num_envs, options):
    """What Stable-Baselines3 makes of single environments."""
    make = [lambda: gymnasium.make(env_id, **options) for _ in range(num_envs)]
    return sb3.common.vec_env.DummyVecEnv(make)


def prepared(env_id):
    if "Demo" in env_id:
        recgym.prepare("demo", name="demo", replace=True)


def equal(one, other):
    """Are these observations, or infos, the same to the last bit and type?"""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and one == other


# ------------------------------------------------------------------------------ as its DummyVecEnv


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("num_envs", [1, 5])
def test_every_transition_is_that_of_single_environments(sb3, world, num_envs):
    env_id, options = WORLDS[world]
    prepared(env_id)
    ours = recgym.to_sb3_vec_env(env_id, num_envs, **options)
    theirs = dummy(sb3, env_id, num_envs, options)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    kept, ends = [], []
    for seed in (7, None, 2**40):  # None: users go on with their next episode
        if seed is not None:
            assert ours.seed(seed) == theirs.seed(seed)
        pair = ours.reset(), theirs.reset()
        assert equal(*pair) and ours.reset_infos == theirs.reset_infos
        for _ in range(60):
            actions = rng.integers(ours.action_space.n, size=num_envs)
            (seen, *answer, infos), (wanted, *right, told) = (
                ours.step(actions),
                theirs.step(actions),
            )
            assert equal(seen, wanted) and ours.reset_infos == theirs.reset_infos
            assert all(map(equal, answer, right))
            for done, info, full in zip(answer[1], infos, told, strict=True):
                assert equal(info, full if done else {})
                ends.extend([info["TimeLimit.truncated"]] if done else [])
            kept.append((seen, wanted))
    assert all(equal(*pair) for pair in kept)  # nothing was overwritten later
    assert len(ends) > 5 * num_envs
    assert set(ends) == ({True, False} if world in ("static", "boredom") else set(ends))


def test_options_reach_the_users(sb3):
    prepared(env_id := "recgym/DemoReplay-v0")
    ours, theirs = recgym.to_sb3_vec_env(env_id, 3), dummy(sb3, env_id, 3, {})
    assert ours.seed(7) == theirs.seed(7)  # or the reset without options draws by chance
    for asked in ({"episode": 4}, [{"episode": k} for k in (5, 0, 9)]):
        for env in (ours, theirs):
            env.set_options(asked)
        first = ours.reset()
        assert equal(first, theirs.reset())
    assert len({row.tobytes() for row in first}) > 1
    assert equal(ours.reset(), theirs.reset())  # once
    ours.set_options([{"episode": 1}, {}, {}])
    with pytest.raises(InvalidArgument, match="the same things for every user") as problem:
        ours.reset()
    said(problem)


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_an_algorithm_learns_the_same_from_either(sb3, algorithm):
    env_id, options = "recgym/OracleStatic-v0", SMALL | {"leaving": 0.05}
    own = {"PPO": {"n_steps": 16, "n_epochs": 2}, "DQN": {"learning_starts": 30, "batch_size": 16}}
    learnt = []
    for env in (recgym.to_sb3_vec_env(env_id, 4, **options), dummy(sb3, env_id, 4, options)):
        kwargs = recgym.sb3_policy_kwargs(env, size=8)
        learner = getattr(sb3, algorithm)(
            "MlpPolicy", env, policy_kwargs=kwargs, seed=3, device="cpu", **own[algorithm]
        )
        learner.learn(200)
        learnt.append(learner)
    one, other = (learner.policy.state_dict() for learner in learnt)
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    if algorithm == "DQN":
        one, other = (learner.replay_buffer for learner in learnt)
        assert one.timeouts.any() and (one.dones > one.timeouts).any()
        for name in (
            "observations",
            "next_observations",
            "actions",
            "rewards",
            "dones",
            "timeouts",
        ):
            assert equal(getattr(one, name), getattr(other, name))


def test_the_monitor_counts_returns(sb3):
    from stable_baselines3.common.vec_env import VecMonitor

    env = recgym.to_sb3_vec_env("recgym/OracleStatic-v0", 3, **SMALL)
    env = VecMonitor(env, info_keywords=("behaviour",))
    env.seed(0)
    env.reset()
    totals, lengths, ended = np.zeros((2, 3), np.float32).tolist() + [0]
    for step in range(100):
        _, rewards, dones, infos = env.step(np.full(3, step % 30))
        for user in range(3):
            totals[user] += float(rewards[user])
            lengths[user] += 1
            assert ("episode" in infos[user]) == dones[user]
            if dones[user]:
                episode = infos[user]["episode"]
                assert episode["r"] == pytest.approx(totals[user]) and episode["l"] == lengths[user]
                assert episode["behaviour"] in range(3)
                totals[user], lengths[user], ended = 0.0, 0, ended + 1
    assert ended > 10
    assert sb3.common.evaluation.evaluate_policy(
        sb3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu"), env, n_eval_episodes=3
    )


def test_what_is_asked_of_every_user_is_told_of_every_user(sb3):
    env = recgym.to_sb3_vec_env("recgym/OracleStatic-v0", 3, render_mode="ansi", **SMALL)
    env.seed(5)
    env.reset()
    env.step(np.array([1, 2, 3]))
    single = gymnasium.make("recgym/OracleStatic-v0", render_mode="ansi", **SMALL)
    single.reset(seed=7)
    single.step(3)
    assert env.render_mode == "ansi" and env.render() is None  # as of Stable-Baselines3's
    assert env.env_method("render")[2] == single.render() == env.env_method("render", indices=2)[0]
    assert len(env.env_method("render", indices=[0, 1])) == 2
    assert env.get_attr("action_space", [0, 2]) == [single.action_space] * 2
    assert env.get_attr("observation_space", 1) == [single.observation_space]
    assert env.get_attr("metadata")[0]["layout"] == single.metadata["layout"]
    assert env.has_attr("spec") and not env.has_attr("action_masks")
    assert env.env_is_wrapped(sb3.common.monitor.Monitor) == [False] * 3
    assert env.env_is_wrapped(gymnasium.Wrapper, indices=0) == [False]
    env.set_attr("note", "ours")
    assert env.get_attr("note") == ["ours"] * 3
    with pytest.raises(InvalidArgument, match="note is one for all users") as problem:
        env.set_attr("note", "mine", indices=0)
    said(problem)
    with pytest.raises(InvalidArgument, match="call reset of its attribute `batch`") as problem:
        env.env_method("reset")
    said(problem)
    env.close()


def test_its_own_checker_finds_no_fault(sb3):
    from stable_baselines3.common.env_checker import check_env

    for env_id, options in WORLDS.values():
        prepared(env_id)
        check_env(gymnasium.make(env_id, **options))


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("env_id", "options", "text"),
    [
        ("recgym/OracleStatic-v0", {"num_envs": 0}, "from 1 on, and 0 was given"),
        ("recgym/OracleStatic-v0", {"n_item": 3}, "Did you mean n_items?"),
        ("recgym/OracleStatic-v0", {"autoreset_mode": "NextStep"}, "takes no autoreset_mode"),
        ("recgym/OracleStatic-v0", {"vectorization_mode": "sync"}, "makes a SyncVectorEnv of rec"),
        ("CartPole-v1", {}, "make_vec_env"),
    ],
)
def test_what_cannot_be_a_batch_is_refused(sb3, env_id, options, text):
    with pytest.raises(InvalidArgument) as problem:
        recgym.to_sb3_vec_env(env_id, **options)
    assert text in said(problem)


def test_an_unknown_id_is_refused_as_by_gymnasium(sb3):
    with pytest.raises(gymnasium.error.NameNotFound, match="Did you mean: `OracleStatic`"):
        recgym.to_sb3_vec_env("recgym/OracleStati-v0")


@pytest.mark.parametrize("kind", ["dict", "other", "normalised"])
def test_only_flat_histories_are_embedded(sb3, kind):
    if kind == "dict":
        env = recgym.to_sb3_vec_env("recgym/OracleStatic-v0", observation="dict")
    elif kind == "other":
        env = gymnasium.make("CartPole-v1")
    else:
        env = recgym.to_sb3_vec_env("recgym/OracleStatic-v0")
        env = sb3.common.vec_env.VecNormalize(env)
    with pytest.raises(InvalidArgument, match="are a history and responses") as problem:
        recgym.sb3_policy_kwargs(env)
    said(problem)


def test_without_stable_baselines_the_extra_is_named():
    script = """
import json, sys, recgym.bridges
print(json.dumps(sorted({"torch", "stable_baselines3"} & set(sys.modules))))
sys.modules["stable_baselines3"] = None
for call in (recgym.to_sb3_vec_env, recgym.sb3_policy_kwargs, recgym.from_sb3):
    try:
        call("recgym/OracleStatic-v0", 1)
    except recgym.RecGymError as problem:
        print(json.dumps([type(problem).__name__, str(problem)]))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded, *problems = map(json.loads, run.stdout.splitlines())
    assert len(problems) == 3 and loaded == []
    for name, text in problems:
        assert name == MissingExtra.__name__ and "pip install 'recgym[sb3]'" in text


# ---------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("layout", ["responses", "history"])
def test_features_are_the_sum_of_what_steps_embed(sb3, layout):
    import torch

    env_id, options = WORLDS["static" if layout == "responses" else "replay"]
    prepared(env_id)
    env = recgym.to_sb3_vec_env(env_id, 4, **options)
    kwargs = recgym.sb3_policy_kwargs(env, size=3)
    read = kwargs["features_extractor_class"](
        env.observation_space, **kwargs["features_extractor_kwargs"]
    )
    assert read.features_dim == 3
    observations = env.reset()
    for _ in range(15):
        observations = np.concatenate([observations, env.step(np.arange(4))[0]])
    assert len({(row[:10] != read.pad).sum() for row in observations}) > 4  # depths
    found = read(torch.as_tensor(observations, dtype=torch.float32)).detach().numpy()
    tables = {name: table.weight.detach().numpy() for name, table in read.codes.items()}
    ages = read.ages.weight.detach().numpy()
    for row, features in zip(observations.tolist(), found, strict=True):
        items, responses = row[:10], row[10:]
        depth = sum(item != env.action_space.n for item in items)
        wanted = np.zeros(3)
        for place in range(depth):
            step = tables["history"][items[place]] + ages[depth - 1 - place]
            if responses:
                step = step + tables["responses"][responses[place]]
            wanted += np.maximum(step, 0)
        assert features == pytest.approx(wanted / 10**0.5, abs=1e-5)


def returns(env, act):
    """The return of the next episode of every user."""
    observations = env.reset()
    totals, over = np.zeros((2, env.num_envs))
    while not over.all():
        observations, rewards, dones, _ = env.step(act(observations))
        totals += rewards * (1 - over)
        over = np.maximum(over, dones)
    return totals


def popular(observations, catalogue):
    """The most popular items that are not among the last shown."""
    items = observations[:, : SMALL["history"]]
    shown = items != SMALL["n_items"]
    fresh = shown & (shown.sum(1, keepdims=True) - shown.cumsum(1) < SMALL["fresh"])
    ranks = np.tile(catalogue.ranks, (len(items), 1))
    users, places = np.nonzero(fresh)
    ranks[users, items[users, places]] = SMALL["n_items"]
    return ranks.argmin(1)


def test_an_agent_learns_what_users_like(sb3, tmp_path):
    env = recgym.to_sb3_vec_env("recgym/OracleStatic-v0", 64, **SMALL)
    learner = sb3.PPO(
        "MlpPolicy", env, policy_kwargs=recgym.sb3_policy_kwargs(env) | {"net_arch": [64]},
        gamma=0.5, learning_rate=0.004, n_steps=32, batch_size=512, n_epochs=8, ent_coef=0.01,
        seed=0, device="cpu",
    )  # fmt: skip
    learner.learn(100_000)
    learner.save(tmp_path / "learnt.zip")
    learnt = sb3.PPO.load(tmp_path / "learnt.zip", device="cpu")
    users = recgym.to_sb3_vec_env("recgym/OracleStatic-v0", 2000, **SMALL)
    catalogue, rng = users.batch.users.catalogue, np.random.default_rng(0)
    policies = {
        "learnt": lambda seen: learnt.predict(seen, deterministic=True)[0],
        "popular": lambda seen: popular(seen, catalogue),
        "random": lambda seen: rng.integers(SMALL["n_items"], size=len(seen)),
    }
    scores, errors = {}, {}
    for name, act in policies.items():
        users.seed(10**6)  # held out
        earned = returns(users, act)
        scores[name], errors[name] = earned.mean(), earned.std() / len(earned) ** 0.5
    assert scores["popular"] > scores["random"] + 5 * (errors["popular"] + errors["random"])
    assert scores["learnt"] > 1.5 * scores["popular"] + 5 * (errors["learnt"] + errors["popular"])
