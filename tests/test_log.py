"""The log on disk: histories, arrays without a copy, and damage of every kind."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import BadLog, InvalidArgument, OutOfRoom
from recgym.home import load_log, writing
from recgym.log import ROW_COLUMNS, SPLITS, InteractionLog, Manifest, write_log

from .reference import Event, Log
from .sentences import said


def written(path, sizes, in_state=True, n_items=9, seed=0):
    """A log of random rows in sessions of these sizes."""
    rng = np.random.default_rng(seed)
    rows = int(sum(sizes))
    items = rng.integers(n_items, size=rows, dtype=np.int32)
    manifest = Manifest(
        name=path.name,
        source={"name": "random"},
        protocol={"name": "random"},
        command="",
        recgym="0",
        time="microseconds",
        behaviours=["click", "purchase"],
        n_items=n_items,
        counts={"rows": rows, "sessions": len(sizes)},
        cuts=[],
        steps=[],
        notes=[],
    )
    text = pa.array([f"{k} €" for k in range(n_items)], pa.large_string())
    topics = [["a", "bc"][: k % 3] for k in range(n_items)]
    catalogue = {
        "item": pa.array(range(n_items), pa.int32()),
        "raw_id": text,
        "topics": pa.array(topics, pa.list_(pa.large_string())),
    }
    columns = {
        "items": items,
        "behaviours": rng.integers(2, size=rows, dtype=np.uint8),
        "rewards": rng.random(rows, dtype=np.float32),
        "timestamps": np.arange(rows),
        "in_state": np.ones(rows, bool) & in_state,
        "splits": np.zeros(rows, np.uint8),
        "offsets": np.append(0, np.cumsum(sizes)).astype(np.int64),
        "terminated": rng.random(len(sizes)) < 0.5,
        "users": pa.array([f"u{k}" for k in range(len(sizes))], pa.large_string()),
        "catalogue": pa.RecordBatch.from_pydict(catalogue),
    }
    return write_log(path, manifest, columns)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A log of three sessions in which some rows stay out of the histories."""
    in_state = [True, True, False, True, False, True]
    return written(tmp_path_factory.mktemp("tiny") / "log", [3, 1, 2], in_state)


@pytest.fixture
def copy(tiny, tmp_path):
    """The tiny log, to be spoiled."""
    return Path(shutil.copytree(tiny.path, tmp_path / "copy"))


# ----------------------------------------------------------------------------------- histories


@st.composite
def logs(draw, folder):
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 7, 20, 70]), min_size=1, max_size=8))
    seed = draw(st.integers(0, 2**32))
    share = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    in_state = np.random.default_rng(seed).random(sum(sizes)) < share
    log = written(folder, sizes, in_state, seed=seed)
    events = [
        Event(0, int(item), log.manifest.behaviours[code], 0)
        for item, code in zip(log.items, log.behaviours, strict=True)
    ]
    sessions = [events[a:b] for a, b in zip(log.offsets[:-1], log.offsets[1:], strict=True)]
    return log, Log(
        sessions, items=list(range(log.n_items)), n_items=log.n_items, in_state=in_state.tolist()
    )


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data(), length=st.integers(1, 60), after=st.booleans())
def test_histories_are_what_the_slow_reference_says(tmp_path_factory, data, length, after):
    folder = tmp_path_factory.mktemp("random")
    log, wanted = data.draw(logs(folder / "log"))
    kind = data.draw(st.sampled_from([np.int64, np.int32, np.uint64, np.uint8, np.int16]))
    most = min(len(log) - 1, np.iinfo(kind).max)
    rows = data.draw(st.lists(st.integers(0, most), max_size=40))
    positions = np.array(rows, kind)
    items, answers = log.histories_with_responses(positions, length, after=after)
    assert items.dtype == np.int32 and answers.dtype == np.uint8
    assert items.shape == answers.shape == (len(rows), length)
    assert items.tolist() == [wanted.history(k, length, after) for k in rows]
    assert (log.histories(positions, length, after=after) == items).all()
    names = log.manifest.behaviours
    for row, found in zip(rows, answers.tolist(), strict=True):
        seen = [names.index(wanted.rows[k].behaviour) for k in wanted.seen(row, after)[-length:]]
        assert found == seen + [len(names)] * (length - len(seen))
    assert log.depths.tolist() == [len(wanted.seen(k)) for k in range(len(log))]
    assert log.sessions_of(rows).tolist() == [
        next(s for s, stop in enumerate(log.offsets[1:]) if k < stop) for k in rows
    ]
    shutil.rmtree(folder)


def test_many_positions_are_gathered_in_pieces_without_a_seam(tmp_path):
    log = written(tmp_path / "log", [50] * 200)
    positions = np.random.default_rng(0).integers(len(log), size=9001)
    whole = log.histories(positions, 12)
    assert (whole[4090:4100] == log.histories(positions[4090:4100], 12)).all()
    assert (whole[-5:] == log.histories(positions[-5:], 12)).all()


@pytest.mark.parametrize("positions", [[], np.array([], int), ()])
def test_no_positions_give_no_histories(tiny, positions):
    assert tiny.histories(positions, 4).shape == (0, 4)
    assert tiny.histories_with_responses(positions, 4, after=True)[1].shape == (0, 4)


@pytest.mark.parametrize(
    "positions", [[6], [-1], [0, 2**40], np.array([2**63], np.uint64), 3, [[0]], [0.5], ["a"]]
)
def test_positions_that_are_no_rows_are_refused(tiny, positions):
    with pytest.raises(InvalidArgument, match="rows 0 to 5|flat array of row numbers") as problem:
        tiny.histories(positions, 4)
    assert said(problem)


@pytest.mark.parametrize("length", [0, -3])
def test_a_history_of_no_length_is_refused(tiny, length):
    with pytest.raises(InvalidArgument, match="length 1 or more"):
        tiny.histories([0], length)


def test_an_unknown_split_is_refused(tiny):
    with pytest.raises(InvalidArgument, match="No split is named 'tests'. Known: train"):
        tiny.rows("tests")


# ------------------------------------------------------------------------------ without a copy


def test_arrays_are_read_only_views_of_the_files(tiny):
    for name in (*ROW_COLUMNS, "offsets", "terminated"):
        array = getattr(tiny, name)
        assert not array.flags.owndata and not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    if sys.platform == "linux":
        assert str(tiny.path / "items.arrow") in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_opening_millions_of_rows_takes_neither_time_nor_memory(tmp_path):
    rng = np.random.default_rng(0)
    log = written(tmp_path / "log", rng.integers(1, 60, 100_000), rng.random(1) > 2)
    assert len(log) > 2_900_000
    script = """
import sys, time
from pathlib import Path
import pyarrow, pyarrow.compute, pyarrow.ipc
from recgym.log import InteractionLog
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
InteractionLog(sys.argv[2])
before, seconds = resident(), []
for _ in range(3):
    start = time.perf_counter()
    log = InteractionLog(sys.argv[1])
    seconds.append(time.perf_counter() - start)
print(min(seconds), resident() - before, len(log))
"""
    small = written(tmp_path / "small", [1])
    run = subprocess.run(
        [sys.executable, "-c", script, log.path, small.path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, memory, rows = run.stdout.split()
    assert int(rows) == len(log)
    assert float(seconds) < 0.05 and int(memory) < 5 << 20


# -------------------------------------------------------------------------------------- damage


def values(log):
    """Everything that a log says."""
    arrays = {name: array for name, array in vars(log).items() if isinstance(array, np.ndarray)}
    return (
        {name: array.tolist() for name, array in arrays.items()},
        log.catalogue.to_pylist(),
        log.users.to_pylist(),
        log.manifest,
    )


def unharmed_or_refused(folder, digest, wanted):
    """A damaged log is refused in words, or the damage is where no value is."""
    try:
        log = InteractionLog(folder)
        assert log.verify() == digest
    except BadLog as problem:
        assert said(problem)
    else:
        assert values(log) == wanted


def flipped(file, place, mask):
    content = bytearray(file.read_bytes())
    content[place] ^= mask
    file.write_bytes(content)


FILES = ["items", "in_state", "offsets", "ranks", "state_items", "users", "catalogue"]


@given(
    name=st.sampled_from([*FILES, "manifest"]),
    place=st.integers(0, 2**20),
    mask=st.integers(1, 255),
)
def test_a_flipped_bit_is_found_or_does_no_harm(tiny, tmp_path_factory, name, place, mask):
    folder = tmp_path_factory.mktemp("flip") / "log"
    shutil.copytree(tiny.path, folder)
    file = folder / ("manifest.json" if name == "manifest" else f"{name}.arrow")
    flipped(file, place % file.stat().st_size, mask)
    unharmed_or_refused(folder, tiny.manifest.digest, values(tiny))
    shutil.rmtree(folder.parent)


def every_byte(tiny, copy, file, masks):
    digest, wanted = tiny.manifest.digest, values(tiny)
    for place in range((copy / file).stat().st_size):
        for mask in masks:
            flipped(copy / file, place, mask)
            unharmed_or_refused(copy, digest, wanted)
            flipped(copy / file, place, mask)


@pytest.mark.parametrize("file", ["manifest.json", "items.arrow", "catalogue.arrow"])
def test_every_byte_is_watched(tiny, copy, file):
    every_byte(tiny, copy, file, [0xFF])


@pytest.mark.long
@pytest.mark.parametrize("file", ["manifest.json", *(f"{name}.arrow" for name in FILES)])
def test_every_bit_is_watched(tiny, copy, file):
    every_byte(tiny, copy, file, [1 << bit for bit in range(8)])


def test_a_changed_value_is_named_by_its_file(copy):
    file = copy / "items.arrow"
    values = InteractionLog(copy).items.tobytes()
    flipped(file, file.read_bytes().index(values), 1)
    log = InteractionLog(copy)  # opening looks at sizes only
    with pytest.raises(BadLog, match=r"items\.arrow is damaged.*Rebuild the log or restore"):
        log.verify()


@pytest.mark.parametrize("size", [0, 1, 100, -2])
@pytest.mark.parametrize("name", ["items.arrow", "offsets.arrow", "manifest.json"])
def test_a_cut_file_is_refused(copy, name, size):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:size])
    with pytest.raises(BadLog) as problem:
        InteractionLog(copy)
    assert str(copy / name) in said(problem)


@pytest.mark.parametrize("name", ["items.arrow", "offsets.arrow", "ranks.arrow", "manifest.json"])
def test_a_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(BadLog) as problem:
        InteractionLog(copy)
    assert name in said(problem)


@pytest.mark.parametrize("name", ["users.arrow", "catalogue.arrow"])
def test_a_missing_text_file_is_refused_when_it_is_read(copy, name):
    (copy / name).unlink()
    log = InteractionLog(copy)
    with pytest.raises(BadLog) as problem:
        log.verify()
    assert name in said(problem)


def test_a_longer_file_is_refused(copy):
    with (copy / "items.arrow").open("ab") as file:
        file.write(b"\0" * 8)
    with pytest.raises(BadLog, match="the manifest says"):
        InteractionLog(copy)


def test_a_file_of_another_column_is_refused(copy):
    shutil.copy(copy / "rewards.arrow", copy / "items.arrow")
    with pytest.raises(BadLog) as problem:
        InteractionLog(copy).verify()
    assert "items.arrow" in said(problem)


def test_a_folder_in_place_of_a_file_is_refused(copy):
    (copy / "items.arrow").unlink()
    (copy / "items.arrow").mkdir()
    with pytest.raises(BadLog) as problem:
        InteractionLog(copy)
    assert "items.arrow" in said(problem)


def test_a_file_that_does_not_belong_there_does_no_harm(tiny, copy):
    (copy / "notes.txt").write_text("mine")
    (copy / "extra.arrow").write_bytes(b"no column")
    assert InteractionLog(copy).verify() == tiny.manifest.digest


def edited(folder, **changes):
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_schema_version_is_named(copy, version):
    edited(copy, schema=version)
    with pytest.raises(BadLog, match="this recgym reads version 1") as problem:
        InteractionLog(copy)
    assert repr(version) in said(problem)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"x"', "\0", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BadLog) as problem:
        InteractionLog(copy)
    assert "manifest.json" in said(problem)


def test_an_edited_manifest_is_refused(copy):
    edited(copy, notes=["an excellent log"])
    with pytest.raises(BadLog, match="was changed after it was written"):
        InteractionLog(copy)


@pytest.mark.parametrize("folder", ["nowhere", "empty", "file", "file/below"])
def test_what_is_no_log_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    with pytest.raises(BadLog) as problem:
        InteractionLog(tmp_path / folder)
    assert folder in said(problem)


# -------------------------------------------------------------------------------- replacing


def test_a_replacement_that_fails_leaves_the_log_as_it_was(tmp_path):
    log = written(tmp_path / "log", [2, 3])
    with pytest.raises(KeyError):  # columns are missing
        write_log(log.path, log.manifest, {"items": log.items})
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "log", [3, 2], 1 // 0)
    assert InteractionLog(tmp_path / "log").verify() == log.manifest.digest
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_a_replacement_takes_the_place_of_a_log_that_is_open(tmp_path):
    old = written(tmp_path / "log", [2, 3])
    before = values(old)
    new = written(tmp_path / "log", [4, 4], seed=1)
    assert values(old) == before  # its files live as long as they are mapped
    assert InteractionLog(tmp_path / "log").verify() == new.manifest.digest
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_a_replacement_killed_between_its_two_renames_is_undone(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_HOME", str(tmp_path))
    log = written(tmp_path / "logs" / "mine", [2, 3])
    shutil.copytree(log.path, log.path.with_name(".mine.01234567.part"))
    log.path.rename(log.path.with_name(".mine.01234567.old"))
    with writing("mine", replace=True) as path:
        assert path.exists()
    assert load_log("mine").verify() == log.manifest.digest
    names = {file.name for file in log.path.parent.iterdir()}
    assert names == {"mine", ".mine.lock"}


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutOfRoom) as problem:
        written(tmp_path / "file" / "log", [1])
    assert "could not be written" in said(problem)


# ------------------------------------------------------------------------------------- episodes


def rewritten(log, n_items=None, **columns):
    """The log with other columns, in the same folder."""
    names = [*(ROW_COLUMNS.keys() - {"depths"}), "offsets", "terminated", "users", "catalogue"]
    columns = {name: getattr(log, name) for name in names} | columns
    manifest = replace(log.manifest, n_items=log.n_items if n_items is None else n_items)
    return write_log(log.path, manifest, columns)


def splits_of_a_session(rng, protocol, size):
    """The splits of a session's rows, as such a protocol gives them."""
    if protocol == "by event":
        first, second = sorted(rng.integers(size + 1, size=2).tolist())
        return [0] * first + [1] * (second - first) + [2] * (size - second)
    if protocol == "last out":
        return [0] * (size - 2) + [1, 2] if size > 2 else [0] * size
    code = int(rng.integers(3))
    context = int(rng.integers(size)) if protocol == "with context" and code else 0
    return [3] * context + [code] * (size - context)


@st.composite
def split_logs(draw, path, least_reward=-1):
    """A log with items that training never saw, and what only some logs have."""
    protocol = draw(st.sampled_from(["by event", "last out", "by session", "with context"]))
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 5, 12]), min_size=1, max_size=7))
    known, seed = draw(st.sampled_from([1, 2, 7])), draw(st.integers(0, 2**32))
    share, unseen = draw(st.sampled_from([0.0, 0.5, 1.0])), draw(st.sampled_from([0.0, 0.4]))
    rng = np.random.default_rng(seed)
    splits = [code for size in sizes for code in splits_of_a_session(rng, protocol, size)]
    splits = np.array(splits, np.uint8)
    log = written(path, sizes, n_items=2 * known, seed=seed)
    strange = (splits != 0) & (rng.random(len(log)) < unseen)
    some = np.arange(least_reward, 4, dtype=np.float32) / 5
    columns = {
        "items": (log.items % known + np.where(strange, known, 0)).astype(np.int32),
        "in_state": (rng.random(len(log)) < share) & ~strange,
        "splits": splits,
        "rewards": rng.choice(some, len(log)),
    }
    if draw(st.booleans()):
        columns["propensities"] = rng.choice(np.float32([0.1, 0.25, 1]), len(log))
    if draw(st.booleans()):
        columns["slots"] = rng.integers(1, 4, len(log), dtype=np.uint8)
    return rewritten(log, known, **columns)


def slow_episodes(log, split):
    """The rows of each episode of a split."""
    codes, items = log.splits.tolist(), log.items.tolist()
    episodes = []
    for session in range(log.n_sessions):
        rows = range(log.offsets[session], log.offsets[session + 1])
        rows = [k for k in rows if SPLITS[codes[k]] == split and items[k] < log.n_items]
        if rows:
            over = bool(log.terminated[session]) and rows[-1] + 1 == log.offsets[session + 1]
            episodes.append((rows, over))
    return episodes


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_episodes_are_what_a_slow_recount_says(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("episodes")
    log = data.draw(split_logs(folder / "log"))
    for split in ("train", "validation", "test"):
        wanted = slow_episodes(log, split)
        rows, lengths, ends = log.episodes(split)
        assert rows.tolist() == [row for rows, _ in wanted for row in rows]
        assert lengths.tolist() == [len(rows) for rows, _ in wanted]
        assert ends.tolist() == [over for _, over in wanted] and ends.dtype == bool
    shutil.rmtree(folder)


def test_an_episode_that_ends_before_its_session_is_truncated(tmp_path):
    log = written(tmp_path / "log", [4, 2, 2], n_items=4)
    log = rewritten(
        log,
        n_items=3,
        items=np.array([0, 1, 2, 0, 1, 3, 0, 1], np.int32),  # item 3 is unseen in training
        in_state=np.array([1, 1, 1, 1, 1, 0, 1, 1], bool),
        splits=np.array([0, 0, 1, 1, 2, 2, 2, 2], np.uint8),
        terminated=np.array([True, True, False]),
    )
    found = [[array.tolist() for array in log.episodes(split)] for split in SPLITS[:3]]
    assert found == [
        [[0, 1], [2], [False]],  # the validation follows
        [[2, 3], [2], [True]],
        [[4, 6, 7], [1, 2], [False, False]],  # what follows is unseen; no end is shown
    ]


@pytest.mark.parametrize(("in_state", "whole"), [(True, False), (False, True)])
def test_rows_of_a_split_that_another_interrupts_are_refused(tmp_path, in_state, whole):
    log = written(tmp_path / "log", [3], [True, in_state, True])
    log = rewritten(log, splits=np.array([0, 1, 0], np.uint8))
    if whole:  # no history tells the difference
        assert log.episodes("train")[0].tolist() == [0, 2]
        return
    with pytest.raises(BadLog, match="the train rows of a session are not consecutive") as problem:
        log.episodes("train")
    assert said(problem)
    assert log.episodes("validation")[0].tolist() == [1]


@pytest.mark.parametrize("split", ["tests", "", "TRAIN", None, 0])
def test_episodes_of_no_split_are_refused(tiny, split):
    assert [tiny.split_code(known) for known in SPLITS] == [0, 1, 2, 3]
    for ask in (tiny.split_code, tiny.episodes):
        with pytest.raises(InvalidArgument, match="No split is named .* Known: train") as problem:
            ask(split)
        assert repr(split) in said(problem)
