"""Replayed users: the environment against the dataset of the same split, and what it refuses."""

import copy
import dataclasses
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter

import gymnasium
import minari
import numpy as np
import pyarrow as pa
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import recgym
from recgym.cli import run
from recgym.envs import REPLAYS
from recgym.envs.replay import ReplayEnv, ReplayVectorEnv
from recgym.errors import BadLog, BadRawData, InvalidArgument, NothingLeft, UnknownName
from recgym.home import log_path, remove_log
from recgym.log import SPLITS
from recgym.sources import load_source

from ..sentences import said
from ..test_log import edited, rewritten, slow_episodes, split_logs, written
from .test_draws import key_of, surprise

MODES = ["advance", "stop", "stay"]


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


class SlowReplay:
    """What the replay says that it does, for one user, one plain list at a time."""

    def __init__(self, log, split="test", history=10, off_log="advance", attempts=10):
        self.log, self.history, self.off_log, self.attempts = log, history, off_log, attempts
        self.episodes = slow_episodes(log, split)
        names = ("items", "rewards", "behaviours", "in_state", "propensities", "slots")
        self.column = {
            name: getattr(log, name).tolist() for name in names if getattr(log, name) is not None
        }

    def begin(self, episode):
        """The first observation, and its info."""
        self.rows, self.terminal = self.episodes[episode]
        self.place = self.tried = self.steps = self.misses = 0
        return self.window(self.rows[0]), self.info(None, False)

    @property
    def wanted(self):
        """What the log says comes next."""
        return self.column["items"][self.rows[self.place]]

    def step(self, action):
        row, hit = self.rows[self.place], self.wanted == action
        self.tried += 1
        self.steps += 1
        self.misses += not hit
        stops = self.off_log == "stop" and not hit
        waits = self.off_log == "stay" and not hit and self.tried < self.attempts
        stays = stops or waits
        if not stays:
            self.place, self.tried = self.place + 1, 0
        over = self.place == len(self.rows)
        return (
            self.window(row, joined=not stays),
            self.column["rewards"][row] if hit else 0.0,
            over and self.terminal,
            stops or over and not self.terminal,
            self.info(None if stays else row, hit),
        )

    def window(self, row, joined=False):
        """What the session consumed before a row, or with it."""
        first = max(k for k in self.log.offsets.tolist() if k <= row)
        seen = [k for k in range(first, row + joined) if self.column["in_state"][k]]
        items = [self.column["items"][k] for k in seen][-self.history :]
        return items + [self.log.n_items] * (self.history - len(items))

    def info(self, row, hit):
        known = {
            "hit": hit,
            "off_log": self.misses / self.steps if self.steps else 0.0,
            "behaviour": len(self.log.manifest.behaviours),
        }
        nothing = {"propensities": math.nan, "slots": 255}
        for name, column in (("propensity", "propensities"), ("slot", "slots")):
            if column in self.column:
                known[name] = nothing[column] if row is None else self.column[column][row]
        if row is not None:
            known["behaviour"] = self.column["behaviours"][row]
        return known


@st.composite
def replays(draw, path):
    """The slow replay of a split of a random log, and the arguments of the environment."""
    log = draw(split_logs(path))
    splits = [split for split in SPLITS[:3] if slow_episodes(log, split)]
    assume(splits)
    arguments = {
        "split": draw(st.sampled_from(splits)),
        "history": draw(st.sampled_from([1, 2, 10])),
        "off_log": draw(st.sampled_from(MODES)),
        "attempts": draw(st.integers(1, 3)),
    }
    return SlowReplay(log, **arguments), {"log": str(log.path)} | arguments


def plain(answer):
    """The answer of a single environment, its observation as a list."""
    return answer[0].tolist(), *answer[1:]


def drawn(seed, episode, count):
    """Which of so many sessions a seed replays in an episode."""
    return int((key_of(seed, episode) >> 11) / 2**53 * count)


def of_user(answer, user):
    """What a vector answers to one of its users."""
    observations, *answers, infos = answer
    assert all(infos[f"_{key}"].all() for key in infos if key[0] != "_")
    known = {key: infos[key][user].item() for key in infos if key[0] != "_"}
    return observations[user].tolist(), *(part[user].item() for part in answers), known


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


# ------------------------------------------------------------------------------ off the log


@settings(max_examples=settings().max_examples // 3)
@given(data=st.data(), right=st.sampled_from([0.0, 0.5, 0.9, 1.0]), seed=st.integers(0, 2**32))
def test_a_replay_does_what_the_slow_one_does(data, right, seed):
    slow, arguments = data.draw(replays(log_path("invented")))
    env, rng = gymnasium.make("recgym/Replay-v0", **arguments), np.random.default_rng(seed)
    assert env.unwrapped.n_episodes == len(slow.episodes)
    for episode, (rows, _) in enumerate(slow.episodes):
        found = env.reset(options={"episode": episode})
        np.testing.assert_equal(plain(found), slow.begin(episode))
        over = False
        while not over:
            action = slow.wanted if rng.random() < right else int(rng.integers(slow.log.n_items))
            found = env.step(action)
            np.testing.assert_equal(plain(found), slow.step(action))
            assert [type(value) for value in found[1:4]] == [float, bool, bool]
            over = any(found[2:4])
        attempts = slow.attempts if slow.off_log == "stay" else 1
        assert slow.steps <= attempts * len(rows)
        if slow.off_log == "advance" or right == 1:
            assert slow.steps == len(rows)
        if slow.off_log == "stop":
            assert slow.misses <= 1


@settings(max_examples=settings().max_examples // 3)
@given(
    data=st.data(), right=st.sampled_from([0.0, 0.5, 0.9]), num_envs=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_a_vector_of_replays_does_what_slow_ones_do(data, right, num_envs, seed):
    slow, arguments = data.draw(replays(log_path("invented")))
    users = [copy.copy(slow) for _ in range(num_envs)]
    env = gymnasium.make_vec("recgym/Replay-v0", num_envs=num_envs, **arguments)
    rng, count = np.random.default_rng(seed), len(slow.episodes)
    found = env.reset(seed=seed)
    for user, one in enumerate(users):
        np.testing.assert_equal(of_user(found, user), one.begin(drawn(seed + user, 0, count)))
    begun, over = [0] * num_envs, [False] * num_envs
    for _ in range(30):
        actions = rng.integers(slow.log.n_items, size=num_envs)
        for user in np.flatnonzero(rng.random(num_envs) < right):
            actions[user] = actions[user] if over[user] else users[user].wanted
        found = env.step(actions)
        for user, one in enumerate(users):
            if over[user]:
                begun[user] += 1
                seen, info = one.begin(drawn(seed + user, begun[user], count))
                wanted = seen, 0.0, False, False, info
            else:
                wanted = one.step(actions[user])
            np.testing.assert_equal(of_user(found, user), wanted)
            over[user] = any(wanted[2:4])


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_a_user_who_stays_is_asked_so_often_and_tells_nothing_meanwhile(many):
    log = written(log_path("told"), [3, 2])
    log = rewritten(
        log,
        items=np.array([4, 5, 6, 0, 0], np.int32),
        behaviours=np.array([1, 0, 1, 0, 0], np.uint8),
        propensities=np.full(5, 0.25, np.float32),
        slots=np.arange(1, 6, dtype=np.uint8),
    )
    arguments = {"log": "told", "split": "train", "off_log": "stay", "attempts": 3, "history": 3}
    if many:
        env = gymnasium.make_vec("recgym/Replay-v0", num_envs=1, **arguments)
    else:
        env = gymnasium.make("recgym/Replay-v0", **arguments)
    env.reset(options={"episode": 0})

    def step(action):
        answer = env.step([action] if many else action)
        return of_user(answer, 0) if many else plain(answer)

    silent = {"hit": False, "off_log": 1.0, "behaviour": 2, "propensity": math.nan, "slot": 255}
    for _ in range(2):
        np.testing.assert_equal(step(0), ([9, 9, 9], 0.0, False, False, silent))
    told = {"hit": False, "off_log": 1.0, "behaviour": 1, "propensity": 0.25, "slot": 1}
    assert step(0) == ([4, 9, 9], 0.0, False, False, told)  # the third time, the log goes on
    told = {"hit": True, "off_log": 3 / 4, "behaviour": 0, "propensity": 0.25, "slot": 2}
    assert step(5) == ([4, 5, 9], float(log.rewards[1]), False, False, told)
    seen, *_, info = step(0)  # a hit gives all the tries back
    assert (seen, info["behaviour"], info["off_log"]) == ([4, 5, 9], 2, 4 / 5)
    assert [step(0)[0], step(0)[0]] == [[4, 5, 9], [4, 5, 6]]


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data(), seed=st.integers(0, 2**32), many=st.booleans())
def test_nothing_is_told_of_what_comes_later(data, seed, many):
    slow, arguments = data.draw(replays(log_path("invented")))
    rng, log = np.random.default_rng(seed), slow.log
    episode = data.draw(st.integers(0, len(slow.episodes) - 1))
    rows, _ = slow.episodes[episode]
    last = data.draw(st.integers(0, len(rows) - 1))  # the last event that is replayed
    slow.begin(episode)
    actions, over = [], False
    while slow.place <= last and not over:
        right = rng.random() < 0.8
        actions.append(slow.wanted if right else int(rng.integers(log.n_items)))
        over = any(slow.step(actions[-1])[2:4])

    def replayed_so():
        if many:
            env = gymnasium.make_vec("recgym/Replay-v0", num_envs=2, **arguments)
        else:
            env = gymnasium.make("recgym/Replay-v0", **arguments)
        found = [env.reset(seed=1, options={"episode": episode})]
        return found + [env.step([action] * 2 if many else action) for action in actions]

    before = replayed_so()
    later = np.arange(len(log)) > rows[last]
    seen = log.items < log.n_items
    shuffled = rng.permutation(np.flatnonzero(later))
    columns = {
        name: getattr(log, name).copy()
        for name in ("rewards", "behaviours", "timestamps", "propensities", "slots")
        if getattr(log, name) is not None
    }
    for column in columns.values():
        column[later] = column[shuffled]
    others = rng.integers(log.n_items, size=len(log), dtype=np.int32)
    columns["items"] = np.where(later & seen, others, log.items)
    columns["in_state"] = np.where(later & seen, rng.random(len(log)) < 0.5, log.in_state)
    ends = log.offsets[1:] - 1 > rows[last]
    columns["terminated"] = np.where(ends, rng.random(len(ends)) < 0.5, log.terminated)
    changed = rewritten(log, **columns)
    assert [rows for rows, _ in slow_episodes(changed, arguments["split"])] == [
        rows for rows, _ in slow.episodes
    ]
    np.testing.assert_equal(replayed_so(), before)


def test_what_was_missed_is_not_known_from_what_stays():
    """All that differs is the event that two tries did not find."""
    told = []
    for item, other in ((4, 5), (5, 4)):
        log = written(log_path("told"), [2, 2])
        rewritten(
            log,
            items=np.array([3, item, other, 3], np.int32),
            rewards=np.array([1, item, other, 1], np.float32),
            behaviours=np.array([1, item % 2, other % 2, 0], np.uint8),
            propensities=np.array([1, 1 / item, 1 / other, 1], np.float32),
            slots=np.array([1, item, other, 1], np.uint8),
        )
        for off_log in ("stop", "stay"):
            arguments = {"log": "told", "split": "train", "off_log": off_log}
            env = gymnasium.make("recgym/Replay-v0", **arguments)
            many = gymnasium.make_vec("recgym/Replay-v0", num_envs=1, **arguments)
            for running, actions in ((env, [3, 0]), (many, [[3], [0]])):
                told.append([running.reset(seed=0, options={"episode": 0})])
                told[-1] += [running.step(action) for action in actions]
    np.testing.assert_equal(told[:4], told[4:])


# --------------------------------------------------------------------------- which episodes


@pytest.mark.parametrize("protocol", ["temporal", "leave-last-out"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_episode_begins_at_the_first_target_after_what_came_before(protocol, split):
    log = recgym.prepare("demo", name="demo", protocol=protocol)
    env = gymnasium.make("recgym/DemoReplay-v0", split=split, history=4)
    codes, items, in_state = (x.tolist() for x in (log.splits, log.items, log.in_state))
    wanted = []
    for first, end in zip(log.offsets[:-1].tolist(), log.offsets[1:].tolist(), strict=True):
        targets = [
            row for row in range(first, end)
            if codes[row] == SPLITS.index(split) and items[row] < log.n_items
        ]  # fmt: skip
        if targets:
            before = [items[row] for row in range(first, targets[0]) if in_state[row]][-4:]
            wanted.append((before + [log.n_items] * (4 - len(before)), items[targets[0]]))
    assert env.unwrapped.n_episodes == len(wanted) > 50
    if protocol == "leave-last-out":
        assert all(before[0] != log.n_items for before, _ in wanted)
    for episode, (before, item) in enumerate(wanted):
        assert env.reset(options={"episode": episode})[0].tolist() == before
        assert env.step(item)[4]["hit"]


def test_environments_that_are_open_at_once_replay_their_own(small):
    def found(env):
        answers = [env.reset(options={"episode": 0})]
        return [*answers, env.step(1), *replayed(env, [2], 1)[1]]

    def wanted(log, split):
        slow = SlowReplay(log, split, 4)
        answers = [slow.begin(0), slow.step(1)]
        slow.begin(1)
        return [*answers, slow.step(2)[1]]

    arguments = {"log": "small", "history": 4}
    logs, envs = [small], []
    for items in ([8, 1, 6, 0, 2, 5, 4, 3], [8, 1, 6, 2, 0, 5, 4, 3]):
        for split in ("train", "test"):
            env = gymnasium.make("recgym/Replay-v0", split=split, **arguments)
            envs.append((env, wanted(logs[-1], split)))
        logs.append(rewritten(small, items=np.array(items, np.int32), splits=small.splits))
    for env, answers in envs:
        seen, step, reward = found(env)
        np.testing.assert_equal([plain(seen), plain(step), reward], answers)


def marked(sessions):
    """A log of which the first item tells the session."""
    log = written(log_path("marked"), [2] * sessions, n_items=sessions)
    return rewritten(
        log,
        items=np.repeat(np.arange(sessions, dtype=np.int32), 2),
        splits=np.tile(np.array([3, 0], np.uint8), sessions),
    )


@pytest.mark.parametrize("sessions", [1, 2, 7, 60])
def test_every_session_is_drawn_as_often_as_any_other(sessions):
    marked(sessions)
    single = gymnasium.make("recgym/Replay-v0", log="marked", split="train", history=1)
    episodes = [int(single.reset(seed=3 if k == 0 else None)[0][0]) for k in range(6000)]
    assert episodes[:1] * 6000 != episodes or sessions == 1
    many = gymnasium.make_vec(
        "recgym/Replay-v0", num_envs=6000, log="marked", split="train", history=1
    )
    users = many.reset(seed=5)[0][:, 0].tolist()
    again = many.reset()[0][:, 0].tolist()
    for drawn in (episodes, users, again):
        counts = np.bincount(drawn, minlength=sessions)
        assert len(counts) == sessions and counts.min() > 0
        assert sessions == 1 or abs(surprise(counts, 6000 / sessions)) < 4
    if sessions > 1:
        for first, second in (
            (episodes[1:], episodes[:-1]),
            (users[1:], users[:-1]),
            (users, again),
        ):
            pairs = Counter(zip(first, second, strict=True))
            counts = [pairs[a, b] for a in range(sessions) for b in range(sessions)]
            assert abs(surprise(counts, len(first) / sessions**2)) < 5


def test_a_seed_draws_its_sessions_whatever_was_drawn_before():
    marked(60)
    env = gymnasium.make("recgym/Replay-v0", log="marked", split="train", history=1)
    for seed, episodes in ((1, 3), (2, 200), (1, 70), (1, 2), (2**64 - 1, 5)):
        for episode in range(episodes):
            seen, _ = env.reset(seed=None if episode else seed)
            assert seen.tolist() == [drawn(seed, episode, 60)]


def test_an_episode_is_asked_for_by_its_number():
    marked(7)
    single = gymnasium.make("recgym/Replay-v0", log="marked", split="train", history=1)
    many = gymnasium.make_vec(
        "recgym/Replay-v0", num_envs=3, log="marked", split="train", history=1
    )
    for episode in (4, np.int64(4), np.uint8(4), np.array(4)):
        assert single.reset(options={"episode": episode})[0].tolist() == [4]
        assert many.reset(options={"episode": episode})[0].tolist() == [[4]] * 3
    for episodes in ([5, 0, 5], (5, 0, 5), np.array([5, 0, 5]), np.array([5, 0, 5], np.uint8)):
        assert many.reset(options={"episode": episodes})[0].tolist() == [[5], [0], [5]]
    assert single.reset(options={"episode": [6]})[0].tolist() == [6]
    many.reset(seed=1, options={"episode": 2})  # counts as the first episode of the seed
    assert many.reset()[0].tolist() == [[drawn(seed, 1, 7)] for seed in (1, 2, 3)]
    options = {"episode": [6, 0], "reset_mask": np.array([True, False, True])}
    before = many.reset(options={"episode": 3})[0]
    assert (before == 3).all()
    assert many.reset(options=options)[0].tolist() == [[6], [3], [0]]


# --------------------------------------------------------------------------- the logs of sources


@pytest.mark.parametrize("data", list(REPLAYS))
def test_a_source_without_its_log_says_how_to_build_it(data, tmp_path, monkeypatch):
    name, _ = REPLAYS[data]
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(UnknownName, match=f"No log is named '{name}'") as problem:
            make(f"recgym/{data}Replay-v0")
        (command,) = re.findall("`(.*?)`", said(problem))
    program, area, verb, source, *words = shlex.split(command)
    assert (program, area, verb, words[-2:]) == ("recgym", "data", "build", ["--name", name])
    options = {f"--{field.name}" for field in dataclasses.fields(load_source(source))}
    assert {word for word in words if word[:2] == "--"} <= options | {"--raw", "--name"}
    monkeypatch.chdir(tmp_path)
    if not load_source(source).needs:
        run([area, verb, source, *words])
        env = gymnasium.make(f"recgym/{data}Replay-v0")
        assert env.unwrapped.log.path == log_path(name)
        assert env.unwrapped.log.manifest.command == command
        assert env.reset(seed=0)[0].shape == (10,) and env.step(0)
        return
    with pytest.raises(BadRawData, match="There is no file or folder") as problem:  # it parses
        run([area, verb, source, *words])
    assert words[words.index("--raw") + 1] in said(problem)


@pytest.mark.parametrize("data", list(REPLAYS))
def test_a_source_is_replayed_from_the_log_of_its_name(data):
    log = written(log_path(REPLAYS[data][0]), [3, 2])
    env = gymnasium.make(f"recgym/{data}Replay-v0", split="train")
    assert isinstance(env.unwrapped, ReplayEnv) and env.unwrapped.log.path == log.path
    assert gymnasium.spec(f"recgym/{data}Replay-v0").id == f"recgym/{data}Replay-v0"
    many = gymnasium.make_vec(f"recgym/{data}Replay-v0", num_envs=2, split="train")
    assert isinstance(many, ReplayVectorEnv) and many.reset(seed=0)[0].shape == (2, 10)


# ----------------------------------------------------------------------- a log that goes away


@pytest.mark.parametrize("off_log", MODES)
@pytest.mark.parametrize("render_mode", [None, "ansi"])
@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
@pytest.mark.parametrize("in_state", [True, False], ids=["all in state", "some"])
def test_a_log_that_is_deleted_meanwhile_is_replayed_to_the_end(
    off_log, render_mode, many, in_state, tmp_path
):
    log = written(log_path("gone"), [5, 3, 7] * 20, in_state or np.arange(300) % 3 != 1)
    splits = np.zeros(300, np.uint8)
    splits[log.offsets[:-1]] = SPLITS.index("context")  # so that titles are read by the first reset
    log = rewritten(log, splits=splits)
    kept = shutil.copytree(log.path, tmp_path / "kept")
    make = gymnasium.make_vec if many else gymnasium.make
    arguments = {"split": "train", "off_log": off_log, "render_mode": render_mode, "attempts": 2}
    if many:
        arguments["num_envs"] = 3
    env, twin = (
        make("recgym/Replay-v0", log=folder, **arguments) for folder in ("gone", str(kept))
    )
    np.testing.assert_equal(env.reset(seed=1), twin.reset(seed=1))
    shutil.rmtree(log.path)
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.integers(9, size=3 if many else None)
        found, wanted = env.step(actions), twin.step(actions)
        np.testing.assert_equal(found, wanted)
        assert env.render() == twin.render()
        if not many and any(found[2:4]):
            np.testing.assert_equal(env.reset(), twin.reset())
    with pytest.raises(UnknownName):
        make("recgym/Replay-v0", log="gone", **arguments)


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_titles_are_there_though_the_log_is_gone(many):
    log = written(log_path("gone"), [5, 3])
    env = (gymnasium.make_vec if many else gymnasium.make)(
        "recgym/Replay-v0", log="gone", split="train", render_mode="ansi"
    )
    shutil.rmtree(log.path)
    env.reset(seed=0)
    env.step([0] if many else 0)
    assert "recommended" in (env.render()[0] if many else env.render())


# -------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize("off_log", MODES)
@pytest.mark.parametrize("titles", ["demo", "raw", "some"])
def test_a_session_is_told_by_its_titles(off_log, titles):
    if titles == "demo":
        log = recgym.prepare("demo", name="told")
        names = log.catalogue["title"].to_pylist()
    else:
        log = written(log_path("told"), [3, 5, 4] * 5)
        names = [f"{item} €" for item in range(9)]  # the raw ids
        splits = np.zeros(len(log), np.uint8)
        splits[log.offsets[:-1]] = SPLITS.index("context")
        columns = {"splits": splits}
        if titles == "some":
            texts = ["" if item % 2 else f"Title {item}: a; b" for item in range(9)]
            names = [text or name for text, name in zip(texts, names, strict=True)]
            known = {name: log.catalogue[name] for name in ("item", "raw_id")}
            known["title"] = pa.array(texts, pa.large_string())
            columns["catalogue"] = pa.RecordBatch.from_pydict(known)
        log = rewritten(log, **columns)
    split = "test" if titles == "demo" else "train"
    arguments = {"split": split, "history": 3, "off_log": off_log, "attempts": 2}
    env = gymnasium.make("recgym/Replay-v0", log="told", render_mode="ansi", **arguments)
    slow, rng = SlowReplay(log, **arguments), np.random.default_rng(0)
    for episode in range(15):
        env.reset(options={"episode": episode})
        seen, _ = slow.begin(episode)
        known = [names[item] for item in seen if item != log.n_items]
        lines = [f"before: {'; '.join(known) or 'nothing'}"]
        over = False
        while not over:
            assert env.render().splitlines() == lines
            item, row = slow.wanted, slow.rows[slow.place]
            action = item if rng.random() < 0.6 else int(rng.integers(log.n_items))
            env.step(action)
            before = slow.place
            _, reward, *ends, _ = slow.step(action)
            over = any(ends)
            behaviour = log.manifest.behaviours[log.behaviours[row]]
            consumed = f"{names[item]} ({behaviour})"
            if slow.place == before:
                consumed = "the log knows no answer"
            line = f"{len(lines):3}  recommended {names[action]:40}  consumed {consumed}"
            lines.append(f"{line}  {reward:+.2f}")
        assert env.render().splitlines() == lines


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


@pytest.mark.parametrize(
    "episode", [1.0, "1", True, [0, 1], [], [[0], [0, 1]], [[0]], {}, np.ones(1)]
)
def test_what_names_no_episode_is_refused_and_changes_nothing(small, episode):
    single = [gymnasium.make("recgym/Replay-v0", log="small") for _ in range(2)]
    many = [gymnasium.make_vec("recgym/Replay-v0", num_envs=3, log="small") for _ in range(2)]
    for env, twin in (single, many):
        env.reset(seed=6), twin.reset(seed=6)
        with pytest.raises(InvalidArgument, match="Episodes are 0 to 2") as problem:
            env.reset(seed=9, options={"episode": episode})
        assert said(problem)
        action = [0] * 3 if env is many[0] else 0
        np.testing.assert_equal(env.step(action), twin.step(action))
        for _ in range(5):
            np.testing.assert_equal(env.reset(), twin.reset())


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"off_log": "wait"}, "off_log is advance, stop, stay, not 'wait'"),
        ({"off_log": None}, "off_log is advance, stop, stay, not None"),
        ({"off_log": ["stay"]}, "off_log is advance, stop, stay, not"),
        ({"attempts": 0}, "attempts is a whole number from 1 on, and 0"),
        ({"attempts": -1}, "attempts is a whole number from 1 on, and -1"),
        ({"attempts": 2.0}, "attempts is a whole number from 1 on, and 2.0"),
        ({"attempts": "3"}, "attempts is a whole number from 1 on, and '3'"),
        ({"log": ""}, "A replay needs a log: give its name or its folder"),
        ({"log": None}, "A replay needs a log: give its name or its folder"),
        ({"log": 3}, "A replay needs a log: give its name or its folder"),
        ({"log": "smal"}, "No log is named 'smal'. Did you mean 'small'"),
        ({"log": "no/such/folder"}, "is not a log: it has no manifest"),
        ({"history": "x"}, "length 1 or more, not 'x'"),
        ({"history": 2.5}, "length 1 or more, not 2.5"),
        ({"history": None}, "length 1 or more, not None"),
        ({"split": ["test"]}, "No split is named"),
        ({"split": None}, "No split is named None"),
        ({"digest": "0" * 64}, "it was built anew from other data"),
        ({"digest": 5}, "is asked for"),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, dict) else "",
)
def test_arguments_that_cannot_be_used_are_refused(small, wrong, says, many):
    made = ReplayVectorEnv if many else ReplayEnv
    made(log="small", history=np.int64(3), attempts=np.int32(2))
    with pytest.raises(recgym.RecGymError, match=says) as problem:
        made(**{"log": "small"} | wrong)
    assert said(problem)


def test_a_replay_without_a_log_says_what_it_needs():
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(InvalidArgument, match="A replay needs a log") as problem:
            make("recgym/Replay-v0")
        assert said(problem)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_a_log_of_another_version_is_refused(small, version):
    edited(small.path, schema=version)
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(BadLog, match="and this recgym reads version 1") as problem:
            make("recgym/Replay-v0", log="small")
        assert repr(version) in said(problem)
