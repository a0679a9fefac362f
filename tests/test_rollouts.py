"""Logs of oracle users: replayed step by step, described as they are, there whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari import MinariDataset
from minari.data_collector.episode_buffer import EpisodeBuffer

import recgym
from recgym import rollouts
from recgym.envs import ORACLES
from recgym.envs.frozen import as_json, frozen
from recgym.envs.oracle import Oracle
from recgym.envs.policies import HELD_OUT, TIERS, reference_scores
from recgym.errors import InvalidArgument, UnknownName
from recgym.export import combine, new_storage, writing_dataset
from recgym.minari_format import content_hash
from recgym.rollouts import FIRST_SEEDS, POLICIES, SESSIONS, collect

from .envs.test_policies import slow_probabilities
from .sentences import said
from .test_cli import recgym_data
from .test_export import there

WORLDS = {f"recgym/{name}-v0": Oracle(**own) for name, (_, own) in ORACLES.items()}
IDS = list(WORLDS)
BOREDOM = "recgym/OracleBoredom-v0"
SMALL = {
    "n_items": 30, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
SPLITS = tuple(SESSIONS)


def assert_replayed(dataset, env_id, sessions, **parameters):
    """Doing what the dataset says gives the dataset: the same users answer alike."""
    env, policy = gymnasium.make(env_id, **parameters), dataset.storage.metadata["algorithm_name"]
    tiers = rollouts.MIXED if policy == "mixed" else (policy,)
    least = min(TIERS[tier].floor for tier in tiers) / env.action_space.n
    assert dataset.observation_space == env.observation_space
    assert dataset.action_space == env.action_space
    first, end = dataset.storage.metadata["seeds"]
    assert (end - first, len(dataset)) == (sessions, sessions)
    for place, episode in enumerate(dataset):
        observation, info = env.reset(seed=first + place)
        observations, behaviours, answers = [observation.tolist()], [info["behaviour"]], []
        over = False
        for action in episode.actions:
            assert not over
            observation, *answer, info = env.step(action)
            over = answer[1] or answer[2]
            observations.append(observation.tolist())
            behaviours.append(info["behaviour"])
            answers.append(answer)
        assert over and episode.id == place
        assert observations == episode.observations.tolist()
        assert answers == [
            list(answer)
            for answer in zip(
                episode.rewards.tolist(),
                episode.terminations.tolist(),
                episode.truncations.tolist(),
                strict=True,
            )
        ]
        assert list(episode.infos) == ["behaviour", "propensity"]
        assert episode.infos["behaviour"].tolist() == behaviours
        propensities = episode.infos["propensity"]
        assert np.isnan(propensities[0]) and not np.isnan(propensities[1:]).any()
        assert len(propensities) == len(episode.actions) + 1
        assert (propensities[1:] >= least * (1 - 1e-12)).all() and (propensities[1:] <= 1).all()
        kinds = [episode.observations, episode.actions, episode.rewards, propensities]
        assert [kind.dtype for kind in kinds] == [np.int32, np.int64, np.float64, np.float64]


# ------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_who_does_what_was_logged_gets_what_was_logged(env_id, policy):
    split = SPLITS[(IDS.index(env_id) + POLICIES.index(policy)) % 3]
    dataset = collect(env_id, policy, split, sessions=15)
    name = env_id.removeprefix("recgym/Oracle").removesuffix("-v0").lower()
    end = "" if split == "train" else f"-{split}"
    assert dataset.id == f"recgym/oracle-{name}/{policy}{end}-v0"
    assert_replayed(minari.load_dataset(dataset.id), env_id, 15)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_items": 4, "n_topics": 2, "boring": 1},  # as many items as responses
        {"n_items": 1, "n_topics": 1},
        {"history": 1},
        {"steps": 1, "organic": 0},
        {"organic": 12, "fresh": 0, "memory": 0.9},
        {"liked": [0.9, 1.0], "quality": [1, 1], "drift": 0.1, "leaving": 0.4},
    ],
    ids=repr,
)
def test_other_parameters_are_replayed_as_well(policy, parameters):
    parameters = SMALL | parameters
    dataset = collect(BOREDOM, policy, sessions=20, name="my-own", **parameters)
    assert dataset.id == f"recgym/my-own/{policy}-v0"
    assert_replayed(dataset, BOREDOM, 20, **parameters)


@settings(max_examples=settings().max_examples // 20)
@given(first=st.integers(1, 30), more=st.integers(1, 30), policy=st.sampled_from(POLICIES))
def test_a_session_is_the_same_however_many_are_collected(first, more, policy):
    def collected(sessions):
        return collect(BOREDOM, policy, sessions=sessions, name="own", replace=True, **SMALL)

    few = content_hash(collected(first))
    many = collected(first + more)
    assert content_hash(MinariDataset(many.storage, np.arange(first))) == few
    assert content_hash(many) != few


def test_sessions_of_several_batches_are_the_same_as_of_one(monkeypatch):
    whole = collect(BOREDOM, "mixed", sessions=23, name="one", **SMALL)
    for together in (1, 10, 23, 24):
        monkeypatch.setattr(rollouts, "_TOGETHER", together)
        parts = collect(BOREDOM, "mixed", sessions=23, name=f"of-{together}", **SMALL)
        assert content_hash(parts) == content_hash(whole)
        assert_replayed(parts, BOREDOM, 23, **SMALL)


def test_more_sessions_than_are_stepped_at_once():
    stages = []
    dataset = collect(
        BOREDOM, "random", "test", sessions=2003, name="many", **SMALL,
        progress=lambda *words: stages.append(words),
    )  # fmt: skip
    assert_replayed(dataset, BOREDOM, 2003, **SMALL)
    said_of = "rolling out recgym/many/random-test-v0"
    assert stages == [(said_of, 0.0), (said_of, 2000 / 2003)]


def test_the_sizes_of_the_splits():
    assert SESSIONS == {"train": 8000, "validation": 1000, "test": 1000}
    sizes = {split: len(collect(BOREDOM, "random", split, name="n", **SMALL)) for split in SPLITS}
    assert sizes == SESSIONS


def test_users_of_one_split_are_those_of_no_other():
    bounds = [*FIRST_SEEDS.values(), HELD_OUT]
    assert bounds == sorted(bounds) and min(np.diff(bounds)) >= 10**7
    parts = [collect(BOREDOM, "mixed", split, sessions=30, name="n", **SMALL) for split in SPLITS]
    seeds = [range(*part.storage.metadata["seeds"]) for part in parts]
    assert [len(some) for some in seeds] == [30] * 3 and len(set().union(*seeds)) == 90
    assert len({content_hash(part) for part in parts}) == 3
    most = [min(some) + 10**7 for some in seeds]  # as many sessions as may be asked for
    assert most[0] <= min(seeds[1]) and most[1] <= min(seeds[2]) and most[2] <= HELD_OUT


def test_no_window_is_stored():
    storage = collect(BOREDOM, "mixed", sessions=50).storage
    (part,) = storage.runs(range(50))
    assert set(part.states) == {"infos/behaviour", "infos/propensity"}
    assert set(part.contexts) == {"observations[0:25]", "observations[25:50]"}


@pytest.mark.parametrize("policy", ["random", "medium", "expert", "mixed"])
def test_a_log_that_is_not_privileged_hides_what_users_hide(policy):
    """Its actions are drawn from the observation: equal pasts and draws give equal actions."""
    world = SMALL | {"n_topics": 1, "boring": 1}
    logs = [
        collect(BOREDOM, policy, sessions=400, name=f"own-{place}", **world | {"liked": liked})
        for place, liked in enumerate([(0.5, 0.6), (0.9, 1.0)])
    ]
    compared = 0
    for one, other in zip(*logs, strict=True):
        pairs = zip(one.observations, other.observations, one.actions, other.actions, strict=False)
        for seen, also, action, same in pairs:
            if (seen != also).any():
                break
            assert action == same
            compared += 1
    assert compared > 600


@pytest.mark.parametrize("policy", ["random", "medium", "expert", "mixed"])
@pytest.mark.parametrize("env_id", IDS)
def test_propensities_follow_from_what_is_in_the_log(env_id, policy):
    """The probability of each action, written out slowly from the observation before it."""
    dataset = collect(env_id, policy, sessions=12, name="n", **SMALL)
    oracle = Oracle(**dataset.storage.metadata["oracle"])
    assert as_json(oracle) == as_json(WORLDS[env_id]) | SMALL
    names = rollouts.MIXED if policy == "mixed" else (policy,)
    for episode in dataset:
        steps = list(zip(episode.observations.tolist(), episode.actions.tolist(), strict=False))
        wanted = [
            [slow_probabilities(oracle, name, seen)[action] for seen, action in steps]
            for name in names
        ]
        logged = episode.infos["propensity"][1:]
        assert any(logged == pytest.approx(one) for one in wanted)  # one tier in a session


# ------------------------------------------------------------------------- what it says of itself


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_dataset_says_what_it_is(env_id, split):
    dataset = collect(env_id, "medium", split, sessions=9)
    about, scores = dataset.storage.metadata, frozen()[env_id]["scores"]
    assert about["ref_min_score"] == scores["random"]["mean"]
    assert about["ref_max_score"] == scores["planner"]["mean"]
    assert about["num_episodes_average_score"] == about["total_episodes"] == 9
    assert (about["split"], about["algorithm_name"]) == (split, "medium")
    assert about["layout"] == {"history": [0, 25], "responses": [25, 50]}
    assert about["behaviours"] == ["skip", "click", "buy", "organic"]
    assert about["privileged"] is False
    assert about["oracle"] == frozen()[env_id]["parameters"]
    assert about["seeds"] == [FIRST_SEEDS[split], FIRST_SEEDS[split] + 9]
    assert about["author"] == {"recgym contributors"}
    assert about["code_permalink"] == "https://github.com/recgym/recgym"
    assert about["requirements"] == [f"recgym>={recgym.__version__}"]
    assert about["data_format"] == "recgym"
    assert f"9 sessions of {env_id}" in about["description"]
    assert TIERS["medium"].about in about["description"]
    for evaluated in (False, True):
        env = dataset.recover_environment(eval_env=evaluated)
        assert env.spec.id == env_id and env.unwrapped.users.oracle == WORLDS[env_id]
        assert env.observation_space == dataset.observation_space
        assert env.action_space == dataset.action_space


@pytest.mark.parametrize("policy", POLICIES)
def test_only_the_privileged_log_is_flagged_as_that(policy):
    dataset = collect(BOREDOM, policy, sessions=3)
    about = dataset.storage.metadata
    assert about["privileged"] is (policy == "privileged")
    tiers = ("random", "medium", "expert") if policy == "mixed" else (policy,)
    assert all(TIERS[tier].about in about["description"] for tier in tiers)
    assert ("confounded" in about["description"]) == (policy == "privileged")


def test_a_world_of_ones_own_is_recovered_with_its_parameters_and_its_scores():
    parameters = SMALL | {"liked": (0.6, 0.7), "drift": 0.1, "leaving": 0.02}
    oracle = Oracle(boring=3, **parameters)
    dataset = collect(BOREDOM, "expert", sessions=5, name="mine", **parameters)
    about, scores = dataset.storage.metadata, reference_scores(oracle)
    assert about["oracle"] == as_json(oracle)
    assert about["ref_min_score"] == scores["random"]["mean"]
    assert about["ref_max_score"] == scores["planner"]["mean"]
    for evaluated in (False, True):
        env = dataset.recover_environment(eval_env=evaluated)
        assert as_json(env.unwrapped.users.oracle) == as_json(oracle)
        assert env.observation_space == dataset.observation_space
        assert env.action_space == dataset.action_space
    assert gymnasium.spec(BOREDOM).kwargs == {"boring": 3}  # the registry stays as it was


def test_numpys_numbers_are_as_good_as_pythons():
    plain = collect(BOREDOM, "medium", sessions=5, name="plain", **SMALL, drift=0.5)
    numpys = {key: np.int64(value) for key, value in SMALL.items()} | {"drift": np.float64(0.5)}
    dataset = collect(BOREDOM, "medium", sessions=5, name="numpys", **numpys)
    assert content_hash(dataset) == content_hash(plain)
    assert dataset.storage.metadata["oracle"] == plain.storage.metadata["oracle"]
    assert dataset.env_spec.kwargs == plain.env_spec.kwargs


@pytest.mark.parametrize("env_id", IDS)
def test_scores_are_normalised_from_random_to_the_planner(env_id):
    dataset, scores = collect(env_id, "random", sessions=2), frozen()[env_id]["scores"]
    known = np.array([scores[policy]["mean"] for policy in ("random", "popular", "planner")])
    low, middle, high = minari.get_normalized_score(dataset, known)
    assert (low, high) == (0, 1) and 0 < middle < 1


def test_logs_of_one_world_can_be_joined():
    parts = [
        collect(BOREDOM, policy, sessions=4, name="n", **SMALL) for policy in ("random", "expert")
    ]
    joined = combine([part.id for part in parts], "recgym/n/both-v0")
    episodes = [episode for part in parts for episode in part]
    for episode, own in zip(joined, episodes, strict=True):
        assert episode.actions.tolist() == own.actions.tolist()
        np.testing.assert_array_equal(episode.infos["propensity"], own.infos["propensity"])
    about = joined.storage.metadata
    assert about["ref_max_score"] == parts[0].storage.metadata["ref_max_score"]
    assert about["layout"] == parts[0].storage.metadata["layout"] and about["privileged"] is False


def test_a_fresh_process_reads_a_log_and_recovers_its_world():
    dataset = collect(BOREDOM, "mixed", sessions=4, name="n", **SMALL, liked=(0.6, 0.9))
    script = """
import json, sys
import recgym, minari
data = minari.load_dataset(sys.argv[1])
env, found = data.recover_environment(), []
for place, episode in enumerate(data):
    env.reset(seed=data.storage.metadata["seeds"][0] + place)
    found.append([env.step(action)[1] for action in episode.actions] == episode.rewards.tolist())
print(json.dumps(found))
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, dataset.id],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout) == [True] * 4


@pytest.mark.d3rlpy
def test_d3rlpy_takes_a_log():
    dataset = collect(BOREDOM, "mixed", sessions=30)
    buffer = recgym.to_d3rlpy(dataset)
    assert buffer.dataset_info.action_size == 1000
    for episode, own in zip(buffer.episodes, dataset, strict=True):
        assert episode.actions.ravel().tolist() == own.actions.tolist()
        assert episode.rewards.ravel().tolist() == own.rewards.astype(np.float32).tolist()
        assert episode.observations.tolist() == own.observations[:-1].tolist()
        assert episode.terminated == own.terminations[-1]


# ------------------------------------------------------------------------------- what is refused


def assert_refused(error, words, *arguments, **options):
    before = there()
    with pytest.raises(error, match=words) as problem:
        collect(*arguments, **options)
    assert said(problem)
    assert there() == before  # and nothing is left behind
    return str(problem.value)


@pytest.mark.parametrize(
    ("policy", "near"), [("experts", "expert"), ("Mixed", "mixed"), ("dqn", "")]
)
def test_an_unknown_policy_is_refused(policy, near):
    text = assert_refused(UnknownName, "No logging policy is named", BOREDOM, policy)
    assert repr(policy) in text and (f"Did you mean '{near}'?" in text) == bool(near)
    assert "expert, medium, mixed, privileged, random" in text


@pytest.mark.parametrize("split", ["tests", "context", ""])
def test_an_unknown_split_is_refused(split):
    text = assert_refused(UnknownName, "No split of roll-outs is named", BOREDOM, "random", split)
    assert "test, train, validation" in text


@pytest.mark.parametrize(
    "sessions", [0, -1, 2.5, "9", None.__class__, [3], 10**7 + 1, float("nan")]
)
def test_a_number_of_sessions_that_is_none_is_refused(sessions):
    text = assert_refused(
        InvalidArgument, "sessions is a whole number from 1", BOREDOM, "random", sessions=sessions
    )
    assert repr(sessions) in text
    if sessions == 10**7 + 1:
        assert "10,000,000" in text  # what is wrong with so many


def test_parameters_ask_for_a_name():
    text = assert_refused(InvalidArgument, "give its dataset a name", BOREDOM, "random", drift=0.3)
    assert BOREDOM in text
    for name in (None, ""):
        assert_refused(InvalidArgument, "a name", BOREDOM, "random", sessions=2, name=name, steps=3)


@pytest.mark.parametrize("name", ["my.log", "../up", "a//b", "my log", "x\n", "é" * 300])
def test_a_name_that_minari_would_not_accept_is_refused(name):
    assert_refused(InvalidArgument, "Minari accepts no", BOREDOM, "random", sessions=2, name=name)


@pytest.mark.parametrize(
    "parameters",
    [
        {"borring": 3},
        {"observation": "dict"},
        {"autoreset_mode": "SameStep"},
        {"autoreset_mode": "Disabled"},
        {"num_envs": 3},
        {"vectorization_mode": "sync"},
    ],
    ids=repr,
)
def test_what_is_no_parameter_of_the_users_is_refused(parameters):
    (name,) = parameters
    text = assert_refused(
        InvalidArgument, "takes no argument", BOREDOM, "medium", sessions=3, name="n",
        **SMALL | parameters,
    )  # fmt: skip
    assert name in text


def test_a_parameter_that_describes_no_users_is_refused():
    assert_refused(
        InvalidArgument, "drift is a share from 0 to 1", BOREDOM, "random", name="n", drift=2
    )


@pytest.mark.parametrize("env_id", ["recgym/DemoReplay-v0", "CartPole-v1", "Pendulum-v1"])
def test_users_of_whom_nothing_is_known_are_refused(env_id):
    recgym.prepare("demo", name="demo")
    text = assert_refused(InvalidArgument, "oracle users", env_id, "random", sessions=2)
    assert env_id in text


@pytest.mark.parametrize("env_id", ["recgym/OracleBordom-v0", "recgym/OracleBoredom-v7", "boredom"])
def test_an_environment_that_there_is_not_is_refused(env_id):
    with pytest.raises(gymnasium.error.Error) as problem:
        collect(env_id, "random", sessions=2)
    name = env_id.removeprefix("recgym/").removesuffix("-v0").removesuffix("-v7")
    assert name in str(problem.value) and str(problem.value).isprintable() and not there()


def test_an_existing_dataset_is_not_overwritten_without_asking():
    def made(sessions, **more):
        return collect(BOREDOM, "random", sessions=sessions, name="n", **SMALL, **more)

    before = made(4)
    text = assert_refused(
        InvalidArgument, "'recgym/n/random-v0' exists", BOREDOM, "random", sessions=5, name="n",
        **SMALL,
    )  # fmt: skip
    assert "--replace" in text
    assert len(minari.load_dataset(before.id)) == 4
    assert len(made(5, replace=True)) == 5 and len(minari.load_dataset(before.id)) == 5
    assert there() == {"recgym/n/random-v0"}


# -------------------------------------------------------------------------------------- killed

COLLECTOR = """
import sys, time
from pathlib import Path
import recgym.rollouts

def progress(stage, share):
    if share >= float(sys.argv[2]):
        print("waiting", flush=True)
        time.sleep(60)

recgym.rollouts._TOGETHER = 10
small = dict(n_items=30, n_topics=3, n_liked=1, steps=6, history=8, organic=2, fresh=2)
recgym.rollouts.collect(
    "recgym/OracleBoredom-v0", "mixed", sessions=40, name="n", replace=sys.argv[1] == "replace",
    progress=progress, **small,
)
"""


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("old", [False, True])
def test_a_collection_killed_in_the_middle_leaves_nothing_or_the_old(old, share):
    known = collect(BOREDOM, "mixed", sessions=7, name="n", **SMALL) if old else None
    process = subprocess.Popen(
        [sys.executable, "-c", COLLECTOR, "replace" if old else "new", str(share)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "waiting\n"
        assert any(name.endswith(".part") for name in there())
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert list(minari.list_local_datasets()) == ["recgym/n/mixed-v0"] * old
    if known is not None:
        assert content_hash(minari.load_dataset(known.id)) == content_hash(known)
        assert len(minari.load_dataset(known.id)) == 7
    collect(BOREDOM, "mixed", sessions=40, name="n", replace=old, **SMALL)
    assert there() == {"recgym/n/mixed-v0"}  # what the killed one left is swept
    assert_replayed(minari.load_dataset("recgym/n/mixed-v0"), BOREDOM, 40, **SMALL)


def test_a_collection_that_fails_in_the_middle_leaves_nothing(monkeypatch):
    def progress(stage, share):
        if share:
            raise KeyboardInterrupt

    monkeypatch.setattr(rollouts, "_TOGETHER", 5)
    with pytest.raises(KeyboardInterrupt):
        collect(BOREDOM, "random", sessions=9, name="n", progress=progress, **SMALL)
    assert not there() and not list(minari.list_local_datasets())


# ------------------------------------------------------------------------------ hashes of content


def episode_of(seed, text=False, **changed):
    """An episode of two to six steps; some of it changed."""
    rng, steps = np.random.default_rng(seed), 2 + seed % 5
    columns = {
        "observations": rng.integers(5, size=(steps + 1, 3)).astype(np.int32),
        "actions": rng.integers(5, size=steps),
        "rewards": rng.random(steps).tolist(),
        "terminations": [False] * steps,
        "truncations": [False] * (steps - 1) + [True],
        "infos": {"propensity": rng.random(steps + 1)},
    }
    if text:
        columns["infos"]["title"] = [f"{seed} {place}" for place in range(steps + 1)]
    return EpisodeBuffer(**columns | changed)


def stored(name, episodes, cuts=(), data_format="recgym"):
    """A dataset of these episodes, written in several goes."""
    spaces_ = spaces.Box(0, 5, (3,), np.int32), spaces.Discrete(5)
    with writing_dataset(name, replace=False) as folder:
        storage = new_storage(folder, *spaces_, None, data_format)
        storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__})
        bounds = [0, *cuts, len(episodes)]
        for first, end in zip(bounds, bounds[1:], strict=False):
            storage.update_episodes(episodes[first:end])
    return minari.load_dataset(name)


def test_one_content_has_one_hash_in_both_formats():
    recgym.prepare("demo", name="demo")
    ours, plain = (
        recgym.to_minari("demo", "validation", data_format=data_format, name=data_format)
        for data_format in ("recgym", "hdf5")
    )
    assert plain.storage.FORMAT == "hdf5" and content_hash(ours) == content_hash(plain)
    assert content_hash(recgym.to_minari("demo", "test")) != content_hash(ours)
    some = np.arange(5, len(ours))
    turned = [MinariDataset(data.storage, some[::-1].copy()) for data in (ours, plain)]
    assert len({content_hash(data) for data in turned} | {content_hash(ours)}) == 2


def test_a_log_written_by_plain_minari_has_the_same_hash():
    dataset = collect(BOREDOM, "medium", sessions=8, name="n", **SMALL)
    episodes = [
        EpisodeBuffer(**{key: value for key, value in vars(episode).items() if key != "id"})
        for episode in dataset
    ]
    copy = minari.create_dataset_from_buffers(
        "copy-v0", buffer=episodes, env=BOREDOM, observation_space=dataset.observation_space,
        action_space=dataset.action_space, eval_env=BOREDOM, data_format="hdf5",
        algorithm_name="x", author="x", author_email="x", code_permalink="x", description="x",
    )  # fmt: skip
    assert content_hash(copy) == content_hash(dataset)


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
def test_a_hash_does_not_depend_on_how_it_was_written(text):
    episodes = [episode_of(seed, text) for seed in range(40)]
    found = {
        content_hash(stored(f"cut-{len(cuts)}-{cuts[0]}-v0", episodes, cuts))
        for cuts in ((40,), (30,), (2,), (39,), (1, 2, 3))
    }
    plain = content_hash(stored("plain-v0", episodes, data_format="hdf5"))
    assert found == {plain}


def test_a_hash_differs_where_one_value_does():
    seed = 3
    same = episode_of(seed)
    steps = len(same.actions)
    observations, actions = same.observations.copy(), same.actions.copy()
    observations[-1, 2], actions[0] = 5 - observations[-1, 2], (actions[0] + 1) % 5
    rewards = [*same.rewards[:-1], np.nextafter(same.rewards[-1], 2)]
    propensity = same.infos["propensity"].copy()
    propensity[0] = np.nan
    changes = [
        {},
        {"observations": observations},
        {"actions": actions},
        {"rewards": rewards},
        {"terminations": [False] * (steps - 1) + [True]},
        {"truncations": [False] * steps},
        {"infos": {"propensity": propensity}},
        {"infos": {"propensities": same.infos["propensity"]}},
        {"infos": {}},
    ]
    hashes = [
        content_hash(stored(f"x-{place}-v0", [episode_of(seed, **change)]))
        for place, change in enumerate(changes)
    ]
    assert len(set(hashes)) == len(changes)
    assert content_hash(stored("again-v0", [episode_of(seed)])) == hashes[0]


# ------------------------------------------------------------------------------ what is frozen


def test_every_log_has_a_frozen_hash():
    wanted = [f"{policy} {split}" for policy in POLICIES for split in SPLITS]
    hashes = []
    for env_id in IDS:
        assert list(frozen()[env_id]["logs"]) == wanted
        hashes += frozen()[env_id]["logs"].values()
    assert len(set(hashes)) == len(hashes) == 45


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("policy", ["random", "mixed"])
def test_a_log_is_the_frozen_one(env_id, policy):
    dataset = collect(env_id, policy, "validation")
    assert len(dataset) == 1000
    assert content_hash(dataset) == frozen()[env_id]["logs"][f"{policy} validation"]


@pytest.mark.long
@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_log_is_the_frozen_one(env_id, policy):
    found = {f"{policy} {split}": content_hash(collect(env_id, policy, split)) for split in SPLITS}
    assert found.items() <= frozen()[env_id]["logs"].items()


# ----------------------------------------------------------------------------- the command line


def test_the_command_line_collects_and_prints_json():
    begin = time.time()
    run = recgym_data(
        "data", "collect", BOREDOM, "--policies", "random", "mixed", "--sessions", "20", "--json"
    )
    assert run.returncode == 0, run.stderr
    summaries = json.loads(run.stdout)
    wanted = [
        f"recgym/oracle-boredom/{policy}{end}-v0"
        for policy in ("random", "mixed")
        for end in ("", "-validation", "-test")
    ]
    assert [summary["dataset"] for summary in summaries] == wanted
    for summary in summaries:
        dataset = minari.load_dataset(summary["dataset"])
        assert summary["episodes"] == len(dataset) == 20
        assert summary["steps"] == dataset.total_steps
        assert (Path(summary["path"]) / "data").samefile(dataset.storage.data_path)
        assert (Path(summary["path"]) / "data/metadata.json").stat().st_mtime > begin - 5
    again = recgym_data("data", "collect", BOREDOM, "--policies", "random", "--sessions", "20")
    assert again.returncode == 1 and "exists" in again.stderr and "Traceback" not in again.stderr
    assert_replayed(minari.load_dataset(wanted[3]), BOREDOM, 20)


@pytest.mark.parametrize(
    "words",
    [
        [BOREDOM, "--policies", "randon"],
        ["recgym/OracleBordom-v0"],
        ["CartPole-v1"],
        [BOREDOM, "--sessions", "0"],
    ],
    ids=" ".join,
)
def test_the_command_line_refuses_in_one_sentence(words):
    run = recgym_data("data", "collect", *words)
    assert run.returncode == 1 and run.stderr.startswith("recgym: ") and not run.stdout
    assert len(run.stderr.splitlines()) == 1 and not there()
