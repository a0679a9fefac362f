"""Each check of datasets against its fault, and against what has no fault."""

import warnings
from dataclasses import replace

import gymnasium
import minari
import numpy as np
import pytest
from minari.dataset.minari_dataset import MinariDataset

import recgym
from recgym.checks import check_agent, check_dataset
from recgym.errors import UnknownName
from recgym.home import log_path, remove_log

from ..sentences import said
from ..test_log import rewritten, written
from .test_environments import problem_of


@pytest.fixture
def small():
    """A dataset with propensities."""
    log = written(log_path("small"), [3, 3, 2])
    rewritten(log, propensities=np.full(len(log), 0.5, np.float32))
    return recgym.to_minari("small")


class Altered(MinariDataset):
    """A dataset of whose middle episode something was changed."""

    def __init__(self, dataset, change):
        super().__init__(dataset.storage)
        self.change = change

    def iterate_episodes(self, episode_indices=None):
        for episode in super().iterate_episodes(episode_indices):
            yield self.change(episode) if episode.id == 1 else episode


def changed(column, *place_and_value):
    """A change of a column of an episode: at a place of it, or as a whole."""

    def change(episode):
        values = episode.infos if column in episode.infos else vars(episode)
        known = np.array(values[column])
        if len(place_and_value) == 2:
            place, value = place_and_value
            known[place] = value
        else:
            known = place_and_value[0](known)
        if values is episode.infos:
            return replace(episode, infos=episode.infos | {column: known})
        return replace(episode, **{column: known})

    return change


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_exports_pass(split):
    recgym.prepare("demo", name="demo")
    dataset = recgym.to_minari("demo", split)
    found = check_dataset(dataset.id)
    assert found == check_dataset(dataset) and len(found) == len(set(found)) == 11
    if split == "test":
        assert check_dataset(recgym.to_minari("demo", split, data_format="hdf5", replace=True))


def test_a_dataset_that_is_not_there_is_told(small):
    for check in (check_dataset, lambda known: check_agent("popular", known)):
        with pytest.raises(UnknownName, match="Did you mean 'recgym/small/logged-v0'") as problem:
            check("recgym/smal/logged-v0")
        assert "recgym data export" in said(problem)


def test_propensities_pass(small):
    assert check_dataset(small)


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # Minari's own
def test_what_a_collector_stored_passes():
    env = minari.DataCollector(gymnasium.make("Toy-v0"), record_infos=True)
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, ends, stops, _ = env.step(env.action_space.sample())
            over = ends or stops
    env.reset(seed=3)
    env.step(0)  # cut off by the collector
    with warnings.catch_warnings(action="ignore"):  # of what it says nothing of itself
        env.create_dataset("toy-v0", ref_min_score=0.0, ref_max_score=1.0)
    env.close()
    assert check_dataset("toy-v0")


NAN, LAST = float("nan"), np.array([False, False, True])
ALTERED = {
    "observation outside": (
        changed("observations", (2, 0), 99),
        "The observation 2 of episode 1 is outside of Box(",
    ),
    "observation of another type": (
        changed("observations", lambda known: known.astype(float)),
        "The observation 0 of episode 1 is outside of Box(",
    ),
    "action outside": (
        changed("actions", 1, -1),
        "The action 1 of episode 1 is outside of Discrete(",
    ),
    "action of another type": (
        changed("actions", lambda known: known.astype(float)),
        "The action 0 of episode 1 is outside of Discrete(",
    ),
    "reward not finite": (changed("rewards", 0, NAN), "The reward 0 of episode 1 is nan"),
    "no last observation": (
        changed("observations", lambda known: known[:-1]),
        "Episode 1 has 3 rewards and 3 observations: store",
    ),
    "an action too many": (
        changed("actions", lambda known: np.append(known, 0)),
        "Episode 1 has 3 rewards and 4 actions: store",
    ),
    "infos one too few": (
        changed("behaviour", lambda known: known[1:]),
        "Episode 1 has 3 rewards and 3 infos/behaviour: store",
    ),
    "nothing": (
        changed("rewards", lambda known: known[:0]),
        "Episode 1 has 0 rewards and 3 actions",
    ),
    "over in the middle": (
        changed("terminations", 1, True),
        "Episode 1 is over at step 1, and goes on to step 2: cut it there",
    ),
    "both ends": (
        lambda episode: replace(episode, terminations=LAST, truncations=LAST),
        "Episode 1 ends with terminated=True and truncated=True",
    ),
    "no end": (
        lambda episode: replace(episode, terminations=~LAST & LAST, truncations=~LAST & LAST),
        "Episode 1 ends with terminated=False and truncated=False",
    ),
    "other infos": (
        lambda episode: replace(episode, infos=episode.infos | {"slate": np.zeros(4)}),
        "Episode 1 has other infos than episode 0, infos/slate: give every key",
    ),
    "other shapes": (
        changed("behaviour", lambda known: np.zeros((4, 2), np.uint8)),
        "The infos/behaviour of episode 1 are uint8 of shape (4, 2), [",
    ),
    "first propensity": (
        changed("propensity", 0, 0.5),
        "The propensity 0 of episode 1 is 0.5: at",
    ),
    "unknown propensity": (
        changed("propensity", 2, NAN),
        "The propensity 2 of episode 1 is nan: at",
    ),
    "propensity of 0": (changed("propensity", 1, 0), "The propensity 1 of episode 1 is 0.0: at"),
    "propensity above 1": (
        changed("propensity", 3, 1.5),
        "The propensity 3 of episode 1 is 1.5: at",
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_fault_of_a_dataset_is_found(name, small):
    change, wanted = ALTERED[name]
    assert wanted in problem_of(check_dataset, Altered(small, change))


METADATA = {
    "no reference": ({"ref_min_score": None}, "are None and "),
    "references in no order": ({"ref_min_score": 9.0, "ref_max_score": 9.0}, "are 9.0 and 9.0"),
    "no author": ({"author": None}, "lack author: add"),
    "nothing said": ({"description": "", "split": None}, "lack description and split: add"),
    "another split": ({"split": "test"}, "is 'test', and its id says train"),
    "another layout": ({"layout": {"history": [0, 9]}}, "does not cover Box("),
}


@pytest.mark.parametrize("name", METADATA)
def test_a_fault_of_metadata_is_found(name, small, monkeypatch):
    about, wanted = METADATA[name]
    known = small.storage.metadata | about
    monkeypatch.setattr(type(small.storage), "metadata", property(lambda storage: known))
    assert wanted in problem_of(check_dataset, small)


def test_a_dataset_without_episodes_is_refused(small):
    none = small.filter_episodes(lambda episode: False)
    assert "holds no episode" in problem_of(check_dataset, none)


def test_a_dataset_without_its_environment_is_refused(small):
    remove_log("small")
    assert "cannot be recovered (No log is named 'small'" in problem_of(check_dataset, small)


def test_a_dataset_of_another_environment_is_refused(small):
    small._env_spec = gymnasium.spec("Toy-v0")
    found = problem_of(check_dataset, small)
    assert "The observation_space of recgym/small/logged-v0 is Box(" in found
