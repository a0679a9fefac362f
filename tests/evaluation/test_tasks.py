import dataclasses

import minari
import numpy as np
import pytest

import recgym
from recgym.benchmarks import BENCHMARKS
from recgym.errors import BadDataset, BadLog, UnknownName
from recgym.evaluation import tasks
from recgym.evaluation.tasks import Task
from tests.evaluation.conftest import MASKED, SHOP, USERS
from tests.sentences import said


def task(benchmark, split="test"):
    return Task(benchmark, split, lambda stage, share: None)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_targets_of_a_log_are_its_rewarded_rows(small, split):
    log, targets = recgym.load_log("demo"), task(MASKED, split).targets
    rows = [row for row in log.rows(split) if log.rewards[row] > 0]
    assert len(targets) == len(rows) and targets.items.tolist() == log.items[rows].tolist()
    offsets, seen = targets.seen(slice(0, len(targets)))
    for place, row in enumerate(rows):
        session = int(log.sessions_of([row])[0])
        before = log.items[log.offsets[session] : row].tolist()
        assert seen[offsets[place] : offsets[place + 1]].tolist() == before
        assert targets.repeated[place] == (log.items[row] in before)
        assert targets.empty[place] == (log.depths[row] == 0)
    assert (targets.observe(slice(3, 9)) == log.histories(np.array(rows[3:9]), 10)).all()
    assert list(targets.names) == log.manifest.behaviours
    users = [log.users[int(session)].as_py() for session in log.sessions_of(rows)]
    assert len(set(zip(users, targets.users.tolist(), strict=True))) == len(set(users))


def test_items_that_a_user_had_are_taken_out_only_where_the_benchmark_says_so(small):
    assert task(SHOP).targets.seen is None


def test_targets_of_roll_outs_are_what_users_took(small):
    asked = task(USERS)
    data = minari.load_dataset("recgym/users/mixed-test-v0")
    items, behaviours, users, observations = [], [], [], []
    for number, episode in enumerate(data):
        for step in np.flatnonzero(episode.rewards > 0):
            items.append(episode.actions[step])
            behaviours.append(episode.infos["behaviour"][step + 1])
            users.append(number)
            observations.append(episode.observations[step])
    targets = asked.targets
    assert targets.items.tolist() == items and targets.behaviours.tolist() == behaviours
    assert targets.users.tolist() == users
    assert (targets.observe(slice(0, len(items))) == observations).all()
    shown = np.array(observations)[:, :25]
    assert targets.repeated.tolist() == (shown == np.array(items)[:, None]).any(1).tolist()
    assert not targets.empty.any()


def test_popularity_counts_what_was_taken_in_training(small):
    counts = np.zeros(1000, int)
    for episode in minari.load_dataset(USERS.dataset):
        np.add.at(counts, episode.actions[episode.rewards > 0], 1)
    assert (task(USERS).popularity == counts).all()


def test_datasets_of_another_build_of_the_log_are_made_anew(small):
    before = minari.load_dataset(SHOP.dataset).storage.metadata["log"]["digest"]
    recgym.prepare("demo", name="demo", protocol="leave-last-out", replace=True)
    asked = task(SHOP)
    assert asked.train.storage.metadata["log"]["digest"] != before
    assert asked.train.storage.metadata["log"]["digest"] == recgym.load_log("demo").manifest.digest


def test_missing_datasets_of_a_log_are_exported(small):
    minari.delete_dataset(SHOP.dataset)
    assert task(SHOP).train.id == SHOP.dataset


def test_a_missing_log_is_named_with_the_command_that_builds_it():
    with pytest.raises(UnknownName, match="recgym data build yoochoose") as problem:
        task(BENCHMARKS["yoochoose-sample-v0"])
    said(problem)


def test_data_that_are_not_those_of_the_benchmark_are_refused(small, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, SHOP.name, SHOP)
    facts = {SHOP.name: {"digest": recgym.load_log("demo").manifest.digest, "sha256": "ab" * 32}}
    monkeypatch.setattr("recgym.benchmarks.facts", lambda: facts)
    with pytest.raises(BadDataset, match="hashes to") as problem:
        task(SHOP)
    said(problem)
    facts[SHOP.name]["digest"] = "cd" * 32
    with pytest.raises(BadLog, match="digest") as problem:
        task(SHOP)
    said(problem)


def test_only_held_out_splits_are_evaluated(small):
    with pytest.raises(UnknownName) as problem:
        task(SHOP, "train")
    said(problem)


def test_an_oracle_s_dataset_of_other_sessions_is_refused(small):
    recgym.collect(USERS.env, "mixed", sessions=30)
    with pytest.raises(BadDataset, match="recgym data collect") as problem:
        task(BENCHMARKS["oracle-boredom-mixed-v0"])
    said(problem)


def test_benchmarks_are_frozen_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BENCHMARKS["oracle-boredom-mixed-v0"].name = "mine"
    assert all(name == benchmark.name for name, benchmark in BENCHMARKS.items())
    assert tasks.SPLITS == ("validation", "test")
