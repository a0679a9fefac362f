"""A log's splits as Minari datasets, recounted slowly from the log itself."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import minari
import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import recgym
from recgym.errors import BadLog, Busy, InvalidArgument, NothingLeft, OutOfRoom, UnknownName
from recgym.export import combine
from recgym.home import home, log_path

from .sentences import said
from .test_home import BUILDER, Builder
from .test_log import flipped, rewritten, slow_episodes, split_logs, written

SPLITS = ("train", "validation", "test")


def slow_dataset(log, split, history):
    """What every episode of a split must hold, as lists."""
    items, in_state = log.items.tolist(), log.in_state.tolist()
    episodes = []
    for rows, over in slow_episodes(log, split):
        begin = max(start for start in log.offsets.tolist() if start <= rows[0])

        def window(stop, begin=begin):
            seen = [items[k] for k in range(begin, stop) if in_state[k]][-history:]
            return seen + [log.n_items] * (history - len(seen))

        infos = {"behaviour": [len(log.manifest.behaviours)] + log.behaviours[rows].tolist()}
        if log.propensities is not None:
            infos["propensity"] = [math.nan] + log.propensities[rows].tolist()
        if log.slots is not None:
            infos["slot"] = [255] + log.slots[rows].tolist()
        last = [row == rows[-1] for row in rows]
        episodes.append({
            "observations": [window(row) for row in rows] + [window(rows[-1] + 1)],
            "actions": [items[row] for row in rows],
            "rewards": log.rewards[rows].tolist(),
            "terminations": [over and row for row in last],
            "truncations": [row and not over for row in last],
            "infos": infos,
        })  # fmt: skip
    return episodes


def assert_equal(dataset, wanted):
    """A dataset holds exactly these episodes, in types that its spaces name."""
    assert (len(dataset), dataset.total_steps) == (len(wanted), sum(map(steps, wanted)))
    for place, (episode, slow) in enumerate(zip(dataset, wanted, strict=True)):
        assert episode.id == place
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            assert getattr(episode, name).tolist() == slow[name], name
        assert episode.infos.keys() == slow["infos"].keys()
        for key, values in slow["infos"].items():
            np.testing.assert_array_equal(episode.infos[key], values)
        kinds = [episode.observations, episode.actions, episode.rewards, episode.terminations]
        assert [kind.dtype for kind in kinds] == [np.int32, np.int64, np.float32, bool]


def steps(episode):
    return len(episode["actions"])


def there():
    """What lies in the folder of datasets, but for what Minari keeps of a namespace."""
    root = Path(os.environ["MINARI_DATASETS_PATH"])
    found = {p.relative_to(root).as_posix() for p in root.glob("recgym/*/*")}
    return {name for name in found if not name.endswith("namespace_metadata.json")}


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECGYM_HOME", str(tmp_path_factory.mktemp("demo")))
        return recgym.prepare("demo", name="demo").path


@pytest.fixture
def demo(demo_folder):
    return recgym.InteractionLog(shutil.copytree(demo_folder, log_path("demo")))


@pytest.fixture
def small():
    """A log in which the training, the validation and the test have four rows each."""
    log = written(log_path("small"), [6, 6])
    return rewritten(log, splits=np.array([0, 0, 1, 1, 2, 2] * 2, np.uint8))


# ------------------------------------------------------------------------------- what is written


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data(), history=st.sampled_from([1, 2, 10]))
def test_every_episode_is_what_a_slow_recount_says(data, history):
    log = data.draw(split_logs(log_path("invented")))
    for split in SPLITS:
        wanted = slow_dataset(log, split, history)
        if not wanted:
            with pytest.raises(NothingLeft):
                recgym.to_minari(log, split, history=history, replace=True)
            continue
        dataset = recgym.to_minari(log, split, history=history, replace=True)
        assert dataset.id == f"recgym/invented/logged{split != 'train' and f'-{split}' or ''}-v0"
        assert dataset.observation_space == spaces.Box(0, log.n_items, (history,), np.int32)
        assert dataset.action_space == spaces.Discrete(log.n_items)
        assert_equal(minari.load_dataset(dataset.id), wanted)


@settings(max_examples=settings().max_examples // 8)
@given(data=st.data())
def test_plain_minari_holds_the_same_value_for_value(data):
    log = data.draw(split_logs(log_path("invented")))
    for split in SPLITS:
        wanted = slow_dataset(log, split, 3)
        if wanted:
            known = recgym.to_minari(log, split, history=3, data_format="hdf5", replace=True).id
            assert minari.load_dataset(known).storage.FORMAT == "hdf5"
            assert_equal(minari.load_dataset(known), wanted)


@pytest.mark.parametrize("split", SPLITS)
def test_the_demo_log_is_recounted(demo, split):
    wanted = slow_dataset(demo, split, 10)
    assert_equal(recgym.to_minari("demo", split), wanted)
    if split != "train":  # a second for each thousand steps
        plain = recgym.to_minari("demo", split, data_format="hdf5", name="plain")
        assert plain.id.startswith("recgym/plain/") and plain.storage.FORMAT == "hdf5"
        assert_equal(plain, wanted)
    begun = sum(episode["observations"][0] != [demo.n_items] * 10 for episode in wanted)
    assert begun > 0 if split != "train" else begun == 0  # context, before the first target


def test_more_episodes_than_hdf5_is_handed_at_once(tmp_path):
    log = written(tmp_path / "many", [1] * 1040)
    stages = []
    dataset = recgym.to_minari(
        log, history=2, data_format="hdf5", progress=lambda *words: stages.append(words)
    )
    assert_equal(dataset, slow_dataset(log, "train", 2))
    assert stages[0] == ("checking the log", None) and stages[-1][1] == 1
    assert [share for _, share in stages[2:]] == sorted(share for _, share in stages[2:])


def test_no_window_is_stored(demo):
    files = {}
    for history in (1, 100):
        known = recgym.to_minari(demo, history=history, replace=True)
        folder = Path(known.storage.data_path)
        assert {file.name for file in folder.iterdir()} == {"000000.arrow", "metadata.json"}
        files[history] = (folder / "000000.arrow").read_bytes()
    assert files[1] == files[100]  # sessions from their beginning: the length is nowhere in it
    with pa.ipc.open_file(pa.py_buffer(files[100])) as file:
        batch = file.get_batch(0)
    leaves = {
        leaf.name for name in ("steps", "states") for leaf in batch.field(name).type.value_type
    }
    assert leaves == {
        "actions", "rewards", "terminations", "truncations", "consumed/observations",
        "infos/behaviour",
    }  # fmt: skip
    assert "fixed_size_list" not in str(batch.schema)
    assert len(batch.column("context/observations").flatten()) == 0
    test = recgym.to_minari(demo, "test", history=10)
    (file,) = Path(test.storage.data_path).glob("*.arrow")
    with pa.ipc.open_file(pa.py_buffer(file.read_bytes())) as stored:
        context = stored.get_batch(0).column("context/observations").to_pylist()
    firsts = [episode["observations"][0] for episode in slow_dataset(demo, "test", 10)]
    assert context == [[item for item in first if item != demo.n_items] for first in firsts]


# ------------------------------------------------------------------------- what it says of itself


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data(), least=st.sampled_from([0, -1]))
def test_reference_scores_are_the_means_of_brute_force(data, least):
    log = data.draw(split_logs(log_path("invented"), least))
    for split in SPLITS:
        episodes = slow_dataset(log, split, 1)
        if not episodes:
            continue
        about = recgym.to_minari(log, split, history=1, replace=True).storage.metadata
        best = [sum(max(reward, 0) for reward in e["rewards"]) for e in episodes]
        if least == 0:
            assert best == [sum(e["rewards"]) for e in episodes]  # the return that was logged
        drawn = [
            sum(reward * (item == action) / log.n_items for action in range(log.n_items))
            for e in episodes
            for item, reward in zip(e["actions"], e["rewards"], strict=True)
        ]
        assert about["ref_max_score"] == pytest.approx(sum(best) / len(episodes))
        assert about["ref_min_score"] == pytest.approx(sum(drawn) / len(episodes))
        assert about["num_episodes_average_score"] == len(episodes)


@pytest.mark.parametrize(("data_format", "splits"), [("recgym", SPLITS), ("hdf5", ["test"])])
def test_a_dataset_says_what_it_is_and_where_it_comes_from(demo, data_format, splits):
    for split in splits:
        data = recgym.to_minari(demo, split, history=7, data_format=data_format)
        about, wanted = data.storage.metadata, {"log": "demo", "split": split, "history": 7}
        wanted |= {"digest": demo.verify(), "build": "recgym data build"}
        assert data.env_spec.id == "recgym/Replay-v0" and data.env_spec.kwargs == wanted
        assert about["author"] == {"recgym contributors"}
        assert about["code_permalink"] == "https://github.com/recgym/recgym"
        assert about["algorithm_name"] == "logged" and about["data_format"] == data_format
        assert about["requirements"] == [f"recgym>={recgym.__version__}"]
        assert (about["split"], about["layout"]) == (split, {"history": [0, 7]})
        assert about["behaviours"] == ["click", "purchase"] and about["unseen_left_out"] == 0
        assert about["log"]["digest"] == demo.manifest.digest
        assert about["log"]["protocol"] == demo.manifest.protocol
        assert about["log"]["source"] == {"name": "demo"} and about["log"]["name"] == "demo"
        assert about["total_steps"] == demo.manifest.counts["splits"][split]
        assert f"The {split} split of the log demo" in about["description"]
        evaluated = data.recover_environment(eval_env=True).spec.kwargs
        assert evaluated == wanted | {"split": "validation" if split == "train" else split}
        assert ("eval_env_spec" in about) == (split == "train")


def test_rows_that_no_action_can_name_are_left_out_and_counted(small):
    items = small.items.copy()
    items[[2, 3, 4]] = small.n_items + 1
    rewritten(small, items=items, in_state=items < small.n_items)
    counts = [
        recgym.to_minari("small", split).storage.metadata["unseen_left_out"] for split in SPLITS
    ]
    assert counts == [0, 2, 1]


def test_training_has_no_other_environment_where_validation_has_no_episode(small):
    items = small.items.copy()
    items[small.splits == 1] = small.n_items + 1
    rewritten(small, items=items, in_state=items < small.n_items)
    data = recgym.to_minari("small")
    assert "eval_env_spec" not in data.storage.metadata
    assert data.recover_environment(eval_env=True).spec.kwargs["split"] == "train"


def test_plain_minari_reads_the_export_without_recgym(demo):
    wanted = slow_dataset(demo, "test", 10)
    known = recgym.to_minari(demo, "test", data_format="hdf5").id
    script = """
import json, sys
sys.modules["recgym"] = None
import minari
data = minari.load_dataset(sys.argv[1])
print(json.dumps([[e.observations.tolist(), e.rewards.tolist()] for e in data]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, known], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == [[e["observations"], e["rewards"]] for e in wanted]


# ------------------------------------------------------------------------------- what is refused


def test_an_existing_dataset_is_not_overwritten_without_asking(small):
    before = recgym.to_minari(small, history=3).id
    with pytest.raises(InvalidArgument, match="'recgym/small/logged-v0' exists") as problem:
        recgym.to_minari(small, history=4)
    assert "--replace" in said(problem)
    assert_equal(minari.load_dataset(before), slow_dataset(small, "train", 3))
    assert_equal(recgym.to_minari(small, history=4, replace=True), slow_dataset(small, "train", 4))
    assert recgym.to_minari(small, "test").id != before
    assert there() == {"recgym/small/logged-v0", "recgym/small/logged-test-v0"}


@pytest.mark.parametrize(
    "name", ["my.log", "../up", "a//b", "my log", "x\n", "-v1/é!", "é" * 300 + "."]
)
def test_a_name_that_minari_would_not_accept_is_refused(small, name):
    with pytest.raises(InvalidArgument, match="Minari accepts no dataset named") as problem:
        recgym.to_minari(small, name=name)
    assert "--name" in said(problem)
    assert not there()


@pytest.mark.parametrize("into", ["both", "recgym/small/both", "a//b-v0"])
def test_what_datasets_become_has_an_id_with_a_version(small, into):
    known = recgym.to_minari(small).id
    with pytest.raises(InvalidArgument, match="Minari accepts no dataset named") as problem:
        combine([known, known], into)
    assert f"'{into}'" in said(problem) and "give another --into" in said(problem)
    assert there() == {known}


def test_a_place_for_datasets_that_is_none_is_told_with_its_variable(small, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))
    with pytest.raises(OutOfRoom, match=r"file \(File exists\)") as problem:
        recgym.to_minari(small)
    assert "Point MINARI_DATASETS_PATH at a folder" in said(problem)


def test_a_log_with_a_dot_is_exported_under_another_name():
    log = written(log_path("my.log"), [2, 3])
    with pytest.raises(InvalidArgument, match="Minari accepts no dataset named"):
        recgym.to_minari("my.log")
    data = recgym.to_minari("my.log", name="my-log")
    assert data.id == "recgym/my-log/logged-v0"
    assert data.recover_environment().unwrapped.log.manifest.digest == log.manifest.digest


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_rows_is_refused(split):
    log = written(log_path("trained"), [2, 3])
    with pytest.raises(NothingLeft, match=f"has no {split} row with an item") as problem:
        recgym.to_minari(log, split)
    assert "trained" in said(problem)
    assert not there()


@pytest.mark.parametrize("split", ["tests", "context"])
def test_only_splits_with_targets_are_exported(small, split):
    rewritten(small, splits=np.array([3, 3, 1, 1, 0, 0] * 2, np.uint8))
    with pytest.raises(InvalidArgument) as problem:
        recgym.to_minari("small", split)
    assert split in said(problem)
    assert not there()


def test_an_unknown_format_is_refused(small):
    with pytest.raises(UnknownName, match="Did you mean 'hdf5'") as problem:
        recgym.to_minari(small, data_format="hdf")
    assert said(problem) and not there()


@pytest.mark.parametrize("history", [0, -3, 2.5, "9"])
def test_a_window_of_no_length_is_refused(small, history):
    with pytest.raises(InvalidArgument, match="length 1 or more") as problem:
        recgym.to_minari(small, history=history)
    assert said(problem) and not there()


def test_a_damaged_log_is_not_exported(small):
    file = small.path / "rewards.arrow"
    flipped(file, file.read_bytes().index(small.rewards.tobytes()), 1)
    with pytest.raises(BadLog, match=r"rewards\.arrow is damaged") as problem:
        recgym.to_minari("small")
    assert said(problem) and not there()
    with pytest.raises(UnknownName):
        recgym.to_minari("smal")


def test_what_all_parts_say_stays_when_they_are_joined(small):
    parts = [recgym.to_minari(small, name=name) for name in ("one", "two")]
    joined = combine([part.id for part in parts], "recgym/both/logged-v0")
    wanted = slow_dataset(small, "train", 10)
    assert_equal(joined, wanted + wanted)
    about = joined.storage.metadata
    assert about["log"]["digest"] == small.manifest.digest and about["split"] == "train"
    assert joined.combined_datasets == [part.id for part in parts]
    assert combine([joined.id, joined.id], "flat-v0").combined_datasets == [joined.id] * 2
    assert "flat-v0" in minari.list_local_datasets()
    with pytest.raises(InvalidArgument, match="'recgym/both/logged-v0' exists"):
        combine([part.id for part in parts], joined.id)


# ----------------------------------------------------------------------------- killed and raced

EXPORTER = """
import json, os, sys, time
from pathlib import Path
import h5py, minari.dataset._storages.hdf5_storage, pyarrow
import recgym.export, recgym.minari_format

def build(name, home, wait=False, **options):
    os.environ["RECGYM_HOME"], os.environ["MINARI_DATASETS_PATH"] = home, options.pop("datasets")
    def progress(stage, share):
        if wait and stage.startswith("writing"):
            say("waiting")
            patience = time.monotonic() + 60
            while not Path(home, "go").exists() and time.monotonic() < patience:
                time.sleep(0.01)
    recgym.to_minari(name, progress=progress, **options)
""" + BUILDER[BUILDER.index("\ndef say") :]


class Exporter(Builder):
    """A process that forks one export after another."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXPORTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running = False
        assert self.says() == ["ready"]

    def begin(self, name, **options):
        return super().begin(name, datasets=os.environ["MINARI_DATASETS_PATH"], **options)


@pytest.fixture(scope="module")
def exporter():
    exporter = Exporter()
    yield exporter
    exporter.close()


@pytest.fixture
def large():
    return written(log_path("large"), np.random.default_rng(0).integers(1, 60, 20_000))


def whole(dataset, log, history):
    """Is it the training split of the log, with windows of that length?"""
    (actions,) = [
        part.actions(dataset.action_space) for part in dataset.storage.runs(range(20_000))
    ]
    return (actions == log.items).all() and dataset.observation_space.shape == (history,)


def test_an_export_killed_at_any_moment_leaves_a_whole_dataset_or_none(exporter, large):
    begin = time.monotonic()
    exporter.begin("large")
    assert exporter.end() == ["built"]
    seconds = time.monotonic() - begin
    for attempt in range(8):
        shutil.rmtree(os.environ["MINARI_DATASETS_PATH"])
        Path(os.environ["MINARI_DATASETS_PATH"]).mkdir()
        pid = exporter.begin("large")
        time.sleep(seconds * (attempt + 0.5) / 8)
        os.kill(pid, signal.SIGKILL)
        exporter.end()
        local = list(minari.list_local_datasets())
        assert local in ([], ["recgym/large/logged-v0"])
        if local:
            assert whole(minari.load_dataset(*local), large, 10)
        else:
            with pytest.raises(FileNotFoundError):
                minari.load_dataset("recgym/large/logged-v0")
    assert whole(recgym.to_minari("large", replace=True), large, 10)
    assert there() == {"recgym/large/logged-v0"}  # what the killed ones left is swept


def test_a_replacement_killed_at_any_moment_leaves_the_old_dataset_or_the_new(exporter, large):
    begin = time.monotonic()
    known = recgym.to_minari("large", history=1).id
    seconds = time.monotonic() - begin
    for attempt in range(8):
        pid = exporter.begin("large", history=2 + attempt, replace=True)
        time.sleep(seconds * (attempt + 0.5) / 8)
        os.kill(pid, signal.SIGKILL)
        exporter.end()
        assert list(minari.list_local_datasets()) == [known]
        found = minari.load_dataset(known)
        assert any(whole(found, large, length) for length in range(1, 3 + attempt))
    recgym.to_minari("large", history=1, replace=True)
    assert there() == {known}


@pytest.mark.parametrize("data_format", ["recgym", "hdf5"])
def test_an_export_killed_while_it_writes_leaves_nothing_or_the_old(exporter, small, data_format):
    for old in (None, recgym.to_minari):
        known = old and old("small", history=3).id
        pid = exporter.begin("small", wait=True, data_format=data_format, replace=bool(old))
        assert exporter.says() == ["waiting"]
        os.kill(pid, signal.SIGKILL)
        assert exporter.end() is None
        assert list(minari.list_local_datasets()) == [known][: bool(old)]
    assert_equal(minari.load_dataset(known), slow_dataset(small, "train", 3))
    recgym.to_minari("small", "test")
    recgym.to_minari("small", replace=True)
    assert there() == {"recgym/small/logged-v0", "recgym/small/logged-test-v0"}


def test_a_replacement_killed_between_its_two_renames_is_undone(small):
    path = Path(recgym.to_minari(small, history=3).storage.data_path).parent
    shutil.copytree(path, path.with_name(".logged-v0.01234567.part"))
    path.rename(path.with_name(".logged-v0.01234567.old"))
    with pytest.raises(InvalidArgument, match="exists"):
        recgym.to_minari(small)
    assert there() == {"recgym/small/logged-v0"}
    found = minari.load_dataset("recgym/small/logged-v0")
    assert_equal(found, slow_dataset(small, "train", 3))


def test_of_two_exports_of_one_dataset_one_wins_and_the_other_is_told(exporter, small):
    exporter.begin("small", wait=True)
    assert exporter.says() == ["waiting"]
    with pytest.raises(Busy, match="Another process is building or removing") as problem:
        recgym.to_minari("small", replace=True)
    assert "'logged-v0'" in said(problem)
    (home() / "go").touch()
    assert exporter.end() == ["built"]
    assert_equal(minari.load_dataset("recgym/small/logged-v0"), slow_dataset(small, "train", 10))
