"""Replayed users: the environment against the dataset of the same split, and what it refuses."""

import json
import shutil
import subprocess
import sys

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import recgym
from recgym.errors import BadLog, InvalidArgument, NothingLeft, UnknownName
from recgym.home import log_path, remove_log

from ..sentences import said
from ..test_log import rewritten, split_logs, written


def replayed(env, actions, episode):
    """What an episode gives: lists of observations, rewards, ends, stops and infos."""
    observation, info = env.reset(options={"episode": episode})
    observations, answers, infos = [observation], [], [info]
    for action in actions:
        observation, *answer, info = env.step(action)
        observations.append(observation)
        answers.append(answer)
        infos.append(info)
    return observations, *map(list, zip(*answers, strict=True)), infos


def assert_same(env, dataset):
    """Following the logged actions gives exactly the dataset."""
    assert (env.observation_space, env.action_space) == (
        dataset.observation_space,
        dataset.action_space,
    )
    assert env.unwrapped.n_episodes == len(dataset)
    for episode in dataset:
        observations, rewards, ends, stops, infos = replayed(env, episode.actions, episode.id)
        assert all(observation in env.observation_space for observation in observations)
        assert {observation.dtype for observation in observations} == {np.dtype(np.int32)}
        assert np.array(observations).tolist() == episode.observations.tolist()
        assert rewards == episode.rewards.tolist()
        assert (ends, stops) == (episode.terminations.tolist(), episode.truncations.tolist())
        for key in episode.infos:
            np.testing.assert_array_equal([info[key] for info in infos], episode.infos[key])
        assert [info["hit"] for info in infos] == [False] + [True] * len(rewards)
        assert {info["off_log"] for info in infos} == {0}


@pytest.fixture
def small():
    """A log of three users, whose training has five rows and whose test has three."""
    log = written(log_path("small"), [3, 3, 2])
    rewards = np.array([1, 2, 3, 4, 5, 6, 7, 8], np.float32)
    return rewritten(log, splits=np.array([0, 0, 2, 0, 0, 2, 0, 2], np.uint8), rewards=rewards)


# ------------------------------------------------------------------------------------ the replay


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data(), history=st.sampled_from([2, 10]))
def test_logged_actions_give_the_dataset(data, history):
    log = data.draw(split_logs(log_path("invented")))
    for split in ("train", "validation", "test"):
        if len(log.episodes(split)[0]):
            dataset = recgym.to_minari(log, split, history=history, replace=True)
            assert_same(dataset.recover_environment(), dataset)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_logged_actions_give_the_dataset_of_the_demo(split):
    recgym.prepare("demo", name="demo")
    dataset = recgym.to_minari("demo", split)
    assert_same(dataset.recover_environment(), dataset)


def test_the_environment_of_evaluation_is_that_of_the_validation(small):
    rewritten(small, splits=np.array([0, 1, 2, 0, 0, 2, 0, 2], np.uint8))
    dataset = recgym.to_minari("small")
    validation = recgym.to_minari("small", "validation")
    assert_same(dataset.recover_environment(eval_env=True), validation)


@given(actions=st.lists(st.integers(0, 8), min_size=3, max_size=3))
@settings(max_examples=settings().max_examples // 8)
def test_only_the_logged_item_is_answered_and_no_action_changes_the_user(actions):
    log = written(log_path("one"), [3])
    env = gymnasium.make("recgym/Replay-v0", log="one", split="train", history=3)
    logged, items = replayed(env, log.items, 0), log.items.tolist()
    observations, rewards, ends, stops, infos = replayed(env, actions, 0)
    assert np.array_equal(observations, logged[0]) and (ends, stops) == logged[2:4]
    hits = [action == item for action, item in zip(actions, items, strict=True)]
    assert [info["hit"] for info in infos] == [False, *hits]
    answers = zip(hits, log.rewards.tolist(), strict=True)
    assert rewards == [reward if hit else 0 for hit, reward in answers]
    missed = [hits[: k + 1].count(False) / (k + 1) for k in range(3)]
    assert [info["off_log"] for info in infos] == pytest.approx([0, *missed])


def test_a_random_policy_earns_the_least_reference_score():
    rng = np.random.default_rng(0)
    written(log_path("dense"), rng.integers(1, 9, 50), n_items=3)
    dataset = recgym.to_minari("dense")
    env = dataset.recover_environment()
    env.action_space.seed(0)
    returns = []
    for episode in list(range(50)) * 30:
        env.reset(options={"episode": episode})
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over = total + reward, terminated or truncated
        returns.append(total)
    error = np.std(returns) / len(returns) ** 0.5
    least = dataset.storage.metadata["ref_min_score"]
    assert np.mean(returns) == pytest.approx(least, abs=4 * error) and error < least / 10


# -------------------------------------------------------------------------------- as Gymnasium's


@pytest.mark.parametrize("known", [True, False], ids=["propensities", "none"])
def test_gymnasium_finds_no_fault(small, known):
    small = written(log_path("small"), [5] * 40)
    if known:
        rewritten(small, propensities=np.full(len(small), 0.5, np.float32))
    check_env(gymnasium.make("recgym/Replay-v0", log="small", split="train").unwrapped)


def test_a_seed_decides_the_trajectories(small):
    rewritten(small, items=np.arange(8, dtype=np.int32))  # the first item tells who it is

    def played(seed):
        env = gymnasium.make("recgym/Replay-v0", log="small", split="train", history=2)
        env.reset(seed=seed)
        told = []
        for _ in range(60):
            observation, *answer, _ = env.step(0)
            told.append((observation.tolist(), *answer))
            env.reset()
        return told

    assert played(3) == played(3) != played(4)
    assert {observation[0] for observation, *_ in played(3)} == {0, 3, 6}


def test_a_fresh_process_recovers_the_environment(small):
    dataset = recgym.to_minari("small", history=4)
    wanted = [replayed(dataset.recover_environment(), e.actions, e.id) for e in dataset]
    script = """
import recgym, minari, json, sys
data = minari.load_dataset(sys.argv[1])
env = data.recover_environment()
found = []
for episode in data:
    observation, _ = env.reset(options={"episode": episode.id})
    observations, rewards = [observation.tolist()], []
    for action in episode.actions:
        observation, reward, *_ = env.step(action)
        observations.append(observation.tolist())
        rewards.append(reward)
    found.append([observations, rewards])
print(json.dumps(found))
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, dataset.id],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [[np.array(observations).tolist(), rewards] for observations, rewards, *_ in wanted]
    assert json.loads(run.stdout) == found


# ------------------------------------------------------------------------------- what is refused


def test_a_log_that_was_built_anew_is_refused(small):
    dataset = recgym.to_minari("small")
    rewritten(small, rewards=small.rewards + np.float32(1))
    with pytest.raises(BadLog, match="it was built anew from other data") as problem:
        dataset.recover_environment()
    assert small.manifest.digest[:12] in said(problem)
    assert len(minari.load_dataset(dataset.id)) == 3  # the data stay readable
    rewritten(small)  # as it was
    assert_same(dataset.recover_environment(), dataset)


def test_a_log_that_is_gone_is_refused(small):
    dataset = recgym.to_minari("small")
    remove_log("small")
    with pytest.raises(UnknownName, match="No log is named 'small'") as problem:
        dataset.recover_environment()
    assert "recgym data build" in said(problem)


def test_a_log_elsewhere_is_opened_by_its_folder(small, tmp_path):
    copy = shutil.copytree(small.path, tmp_path / "copy")
    remove_log("small")
    env = gymnasium.make("recgym/Replay-v0", log=str(copy), digest=small.manifest.digest)
    assert env.unwrapped.n_episodes == 3


@pytest.mark.parametrize("split", ["tests", "context", ""])
def test_only_splits_with_targets_are_replayed(small, split):
    rewritten(small, splits=np.array([3, 3, 2, 0, 0, 2, 0, 2], np.uint8))
    with pytest.raises(InvalidArgument) as problem:
        gymnasium.make("recgym/Replay-v0", log="small", split=split)
    assert repr(split) in said(problem)


def test_a_split_without_rows_is_refused(small):
    with pytest.raises(NothingLeft, match="has no validation row with an item") as problem:
        gymnasium.make("recgym/Replay-v0", log="small", split="validation")
    assert said(problem)


@pytest.mark.parametrize("history", [0, -3])
def test_a_window_of_no_length_is_refused(small, history):
    with pytest.raises(InvalidArgument, match="length 1 or more") as problem:
        gymnasium.make("recgym/Replay-v0", log="small", history=history).reset()
    assert said(problem)


@pytest.mark.parametrize("episode", [-1, 3, 2**70])
def test_an_episode_that_there_is_not_is_refused(small, episode):
    env = gymnasium.make("recgym/Replay-v0", log="small")
    with pytest.raises(InvalidArgument, match="Episodes are 0 to 2") as problem:
        env.reset(options={"episode": episode})
    assert str(episode) in said(problem)
    assert env.reset(options={"episode": 2})[0].shape == (10,)
