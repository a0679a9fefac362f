"""Algorithms of Stable-Baselines3 as agents: who they learn from, and that they learn."""

import random
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import recgym
from recgym import rollouts
from recgym.agent import load_agent
from recgym.agents import sb3_agents
from recgym.envs.draws import origins_of
from recgym.errors import InvalidArgument
from recgym.evaluation import closed_loop
from recgym.rollouts import collect

from ..sentences import said

pytestmark = [pytest.mark.sb3, pytest.mark.usefixtures("one_thread")]

STATIC = "recgym/OracleStatic-v0"
SMALL = {"n_items": 30, "n_topics": 5, "n_liked": 1, "fresh": 5, "history": 10, "steps": 20}
QUICK = {"steps": 64, "users": 8, "rollout": 8, "batch_size": 32, "epochs": 2, "size": 8}


@pytest.fixture
def dataset():
    return collect(STATIC, "random", sessions=20, name="n", **SMALL)


@pytest.fixture
def env():
    return gymnasium.make(STATIC, **SMALL)


def mean_return(act, users=1000, seed=6 * 10**7):
    envs = gymnasium.make_vec(
        STATIC, num_envs=users, vectorization_mode="vector_entry_point", **SMALL
    )
    observations, _ = envs.reset(seed=seed)
    totals, there = np.zeros(users), np.ones(users, bool)
    while there.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        totals += rewards * there
        there &= ~(terminated | truncated)
    return totals.mean(), totals.std() / users**0.5


def test_it_learns_what_users_like(dataset, env):
    agent = load_agent("sb3-ppo")(steps=40_000).fit(dataset, env=env)
    rng = np.random.default_rng(0)
    learned, error = mean_return(lambda seen: agent.act(seen, {}))
    chance, other = mean_return(lambda seen: rng.integers(30, size=len(seen)))
    assert learned > 1.3 * chance + 5 * (error + other)


def test_the_contract_of_agents_is_kept():
    from recgym.checks import check_agent

    assert check_agent("sb3-ppo", **QUICK)


@pytest.mark.parametrize("seed", [0, 3])
def test_it_never_meets_users_that_others_have(dataset, env, monkeypatch, seed):
    made, met = [], []
    make = sb3_agents.to_sb3_vec_env

    def made_here(*arguments, **options):
        made.append(make(*arguments, **options))
        step = made[-1].batch.step
        monkeypatch.setattr(
            made[-1].batch,
            "step",
            lambda actions: (met.append(made[-1].batch._origins.copy()), step(actions))[1],
        )
        return made[-1]

    monkeypatch.setattr(sb3_agents, "to_sb3_vec_env", made_here)
    load_agent("sb3-ppo")(**QUICK, seed=seed).fit(dataset, env=env)
    first = 5 * 10**7 + seed * 10**5
    own = origins_of(np.arange(first, first + 8, dtype=np.uint64))
    assert len(met) == 8 and all(np.array_equal(origins, own) for origins in met)
    others = [*rollouts.FIRST_SEEDS.values(), *closed_loop.FIRST_SEEDS.values()]
    assert max(others) + 10**7 <= first and QUICK["users"] <= 10**5


def test_a_seed_decides_all_and_global_generators_go_on(dataset, env, capfd):
    import torch

    rows = np.concatenate([episode.observations for episode in dataset])
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    wanted = random.random(), np.random.random(), torch.rand(()).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    kind = load_agent("sb3-ppo")
    one = kind(**QUICK, seed=1).fit(dataset, env=env)
    assert (random.random(), np.random.random(), torch.rand(()).item()) == wanted
    same, other = (kind(**QUICK, seed=seed).fit(dataset, env=env) for seed in (1, 2))
    scores = one.scores(rows, {})
    assert np.array_equal(scores, same.scores(rows, {}))
    assert not np.array_equal(scores, other.scores(rows, {}))
    assert capfd.readouterr().out == ""


def test_what_was_saved_scores_the_same_in_another_process(dataset, env, tmp_path):
    agent = load_agent("sb3-ppo")(**QUICK).fit(dataset, env=env)
    rows = np.concatenate([episode.observations for episode in dataset])
    agent.save(tmp_path / "agent")
    np.save(tmp_path / "rows.npy", rows)
    script = """
import sys, pathlib
import numpy as np, torch
from recgym.agent import load_agent
def hear(event, arguments):
    assert event != "pickle.find_class", "something is unpickled"
kind = load_agent("sb3-ppo")
sys.addaudithook(hear)
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
agent = kind.load(folder / "agent")
np.save(folder / "scores.npy", agent.scores(np.load(folder / "rows.npy"), {}))
print(agent.parameters, agent)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{agent.parameters} {agent}\n"
    assert np.array_equal(np.load(tmp_path / "scores.npy"), agent.scores(rows, {}))
    assert [path.name for path in (tmp_path / "agent").iterdir()] == ["agent.safetensors"]


def test_without_an_environment_it_learns_nothing(dataset):
    with pytest.raises(InvalidArgument, match="was given none: call fit") as problem:
        load_agent("sb3-ppo")(**QUICK).fit(dataset)
    said(problem)


def test_an_environment_that_is_no_batch_is_refused(dataset):
    with pytest.raises(InvalidArgument, match="as a batch") as problem:
        load_agent("sb3-ppo")(**QUICK).fit(dataset, env=gymnasium.make("CartPole-v1"))
    said(problem)


# ------------------------------------------------------------------------------------- from_sb3


@pytest.mark.parametrize("reads", ["histories", "numbers"])
@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN"])
def test_an_algorithm_becomes_an_agent_as_it_is(env, name, reads, tmp_path):
    import stable_baselines3
    import torch

    from recgym.sb3 import Sb3Agent

    users = recgym.to_sb3_vec_env(STATIC, 4, **SMALL)
    policy = recgym.sb3_policy_kwargs(users, size=8) if reads == "histories" else {}
    own = {"learning_starts": 20} if name == "DQN" else {"n_steps": 8}
    own |= {"batch_size": 16} if name == "PPO" else {}
    algorithm = getattr(stable_baselines3, name)(
        "MlpPolicy", users, policy_kwargs=policy, seed=0, device="cpu", **own
    )
    algorithm.learn(100)
    agent = recgym.from_sb3(algorithm, env)
    rows = np.concatenate([users.step(np.full(4, item))[0] for item in range(30)])
    scores = agent.scores(rows, {})
    wanted = algorithm.predict(rows, deterministic=True)[0]
    assert agent.act(rows, {}).tolist() == wanted.tolist() == scores.argmax(1).tolist()
    seen = algorithm.policy.obs_to_tensor(rows)[0]
    with torch.no_grad():
        if name == "DQN":
            assert np.array_equal(scores, algorithm.q_net(seen).numpy())
        else:
            logits = algorithm.policy.get_distribution(seen).distribution.logits
            gaps = scores - logits.numpy()
            assert np.ptp(gaps, axis=1).max() < 1e-5  # logits, but for a number of each user
    agent.save(tmp_path)
    algorithm.learn(100)
    assert np.array_equal(Sb3Agent.load(tmp_path).scores(rows, {}), scores)
    assert np.array_equal(agent.scores(rows, {}), scores)  # it does not learn along
    with pytest.raises(InvalidArgument, match="learns no more") as problem:
        agent.fit(None)
    said(problem)


def test_what_cannot_be_ranked_is_refused(env):
    import stable_baselines3
    import torch
    from stable_baselines3.common.vec_env import VecNormalize

    users = recgym.to_sb3_vec_env(STATIC, 2, **SMALL)
    strange = [
        stable_baselines3.PPO("MlpPolicy", VecNormalize(users), n_steps=8, batch_size=16),
        stable_baselines3.PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8),
        stable_baselines3.A2C("MlpPolicy", users, policy_kwargs={"activation_fn": torch.nn.GELU}),
        stable_baselines3.A2C(
            "MultiInputPolicy", gymnasium.make(STATIC, observation="dict", **SMALL)
        ),
        "ppo",
    ]
    for algorithm in strange:
        with pytest.raises(InvalidArgument, match="from_sb3 takes a DQN, PPO or A2C") as problem:
            recgym.from_sb3(algorithm, env)
        assert type(algorithm).__name__ in said(problem)
    algorithm = stable_baselines3.A2C("MlpPolicy", users)
    other = gymnasium.make(STATIC, **SMALL | {"n_items": 31})
    with pytest.raises(InvalidArgument, match="that it has learned in") as problem:
        recgym.from_sb3(algorithm, other)
    said(problem)
