"""Logs of frames and of tables whose columns the user names."""

import datetime as dt
import gc

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recgym
from recgym.errors import BadRawData, InvalidArgument

T0 = 1_700_000_000
COLUMNS = {
    "u": [1, 1, 1, 2, 2, 2, 2, 3],
    "i": ["a", "b", "c", "b", "a", "c", "d", "a"],
    "t": [T0 + k for k in (0, 5, 6, 1, 2, 7, 9, 3)],
    "what": ["click", "click", "purchase", "skip", "click", "click", "click", "click"],
    "p": [0.5, 0.25, 0.5, 0.5, 0.125, 0.5, 1.0, 0.5],
}
NAMES = {"user": "u", "item": "i", "time": "t", "behaviour": "what", "propensity": "p"}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, dict])
def test_every_kind_of_frame_gives_the_same_log(make):
    log = recgym.log_from_frame(make(COLUMNS), **NAMES)
    raw = log.catalogue["raw_id"].to_pylist()
    assert [raw[item] for item in log.items] == ["a", "b", "c", "b", "a", "c", "d", "a"]
    assert log.users.to_pylist() == ["1", "2", "3"]
    assert log.offsets.tolist() == [0, 3, 7, 8]
    assert log.manifest.behaviours == ["skip", "click", "purchase"]
    assert log.behaviours.tolist() == [1, 1, 2, 0, 1, 1, 1, 1]
    assert log.rewards.round(1).tolist() == pytest.approx([0.2, 0.2, 1, 0, 0.2, 0.2, 0.2, 0.2])
    assert log.propensities.tolist() == COLUMNS["p"]
    assert (log.timestamps[:3] == [(T0 + k) * 1_000_000 for k in (0, 5, 6)]).all()
    assert log.verify() == recgym.log_from_frame(pa.table(COLUMNS), **NAMES).manifest.digest


def test_datetimes_and_all_units_mean_the_same_moment():
    digests = set()
    for scale in (1, 1000, 1_000_000):
        frame = COLUMNS | {"t": [t * scale for t in COLUMNS["t"]]}
        digests.add(recgym.log_from_frame(frame, **NAMES).manifest.digest)
    moments = [dt.datetime.fromtimestamp(t, dt.UTC) for t in COLUMNS["t"]]
    for times in (moments, [m.replace(tzinfo=None) for m in moments], [f"{m}" for m in moments]):
        log = recgym.log_from_frame(pd.DataFrame(COLUMNS | {"t": times}), **NAMES)
        digests.add(log.manifest.digest)
    assert len(digests) == 1


def test_a_log_of_a_frame_is_gone_with_the_object_unless_it_has_a_name():
    log = recgym.log_from_frame(COLUMNS, user="u", item="i", time="t")
    path = log.path
    assert path.exists()
    del log
    gc.collect()
    assert not path.exists()
    kept = recgym.log_from_frame(COLUMNS, user="u", item="i", time="t", name="kept")
    assert recgym.load_log("kept").manifest.digest == kept.manifest.digest


def test_an_order_in_place_of_a_time_splits_by_position_and_says_so():
    frame = {"u": [1, 1, 1, 1, 2, 2], "i": [5, 6, 7, 8, 5, 6], "n": [3, 2, 1, 0, 0, 1]}
    log = recgym.log_from_frame(frame, user="u", item="i", order="n")
    assert log.manifest.time == "order"
    assert log.manifest.protocol["split"] == "leave-last-out"
    raw = log.catalogue["raw_id"].to_pylist()
    assert [raw[item] for item in log.items] == ["8", "7", "6", "5", "5", "6"]
    assert log.splits.tolist() == [0, 0, 1, 2, 0, 0]
    with pytest.raises(InvalidArgument, match="an order but no times"):
        recgym.log_from_frame(frame, user="u", item="i", order="n", protocol="temporal")


def test_items_are_described_by_a_second_table():
    items = {
        "i": ["a", "b", "b", "z"],
        "name": ["Apple", "Bee", "Bee", "Zoo"],
        "of": ["x|y", "", "", "z"],
    }
    log = recgym.log_from_frame(
        COLUMNS, user="u", item="i", time="t", items=items, title="name", topics="of"
    )
    described = {row["raw_id"]: row for row in log.catalogue.to_pylist()}
    assert described.keys() == set("abcd")
    assert (described["a"]["title"], described["a"]["topics"]) == ("Apple", ["x", "y"])
    assert (described["b"]["title"], described["b"]["topics"]) == ("Bee", [])
    assert (described["c"]["title"], described["c"]["topics"]) == ("", [])


@pytest.mark.parametrize(
    ("change", "names", "says"),
    [
        ({}, {"user": "who"}, "no column 'who'"),
        ({}, {"time": None}, "Name one column that puts events in order"),
        ({}, {"order": "t"}, "Name one column that puts events in order"),
        ({"t": [-5] * 8}, {}, "8 values that are missing or out of range"),
        ({"t": [10**15 * 9] * 8}, {}, "out of range"),
        ({"t": ["soon"] * 8}, {}, "times between"),
        ({"u": [1.0, float("nan")] * 4}, {}, "ids are whole numbers or text"),
        ({"i": ["a", None] * 4}, {}, "column 'i' has 4 values"),
        ({"p": [0.0] * 8}, {}, "column 'p' has 8 values"),
        ({"what": ["click", None] * 4}, {}, "column 'what' has 4 values"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(change, names, says):
    with pytest.raises((BadRawData, InvalidArgument), match=says):
        recgym.log_from_frame(COLUMNS | change, **NAMES | names)


@pytest.mark.parametrize("frame", [{"u": [], "i": [], "t": []}, pa.table(COLUMNS)[:0]])
def test_a_table_without_rows_is_refused(frame):
    with pytest.raises(InvalidArgument, match="The table has no rows"):
        recgym.log_from_frame(frame, user="u", item="i", time="t")


def test_what_is_no_table_is_refused():
    with pytest.raises(InvalidArgument, match="int is not a table"):
        recgym.log_from_frame(7, user="u", item="i", time="t")


def test_csv_and_parquet_files_give_the_log_of_their_frame(tmp_path):
    from recgym.datasets.table import Source

    table = pa.table(COLUMNS)
    pq.write_table(table, tmp_path / "events.parquet")
    table.to_pandas().to_csv(tmp_path / "events.csv", index=False)
    wanted = recgym.log_from_frame(COLUMNS, **NAMES)
    for file in ("events.parquet", "events.csv"):
        log = recgym.prepare(Source(**NAMES), tmp_path / file, name=file)
        assert log.manifest.digest == wanted.manifest.digest


def test_the_amazon_sample_is_recounted(samples):
    import csv
    from collections import Counter

    from recgym.datasets.table import Source

    folder = samples / "amazon-industrial"
    source = Source(order="position", items=folder / "items.csv", texts=("text",))
    log = recgym.prepare(
        source, folder / "interactions.csv", name="amazon", protocol="leave-last-out"
    )
    with (folder / "interactions.csv").open(newline="") as lines:
        rows = [(row["user"], int(row["position"]), row["item"]) for row in csv.DictReader(lines)]
    assert len(log) == len(rows) == 59_384
    sizes = Counter(user for user, _, _ in rows)
    assert log.n_sessions == len(sizes)
    raw, users = log.catalogue["raw_id"].to_pylist(), log.users.to_pylist()
    assert users == sorted(sizes)
    rows.sort()
    assert [raw[item] for item in log.items] == [item for _, _, item in rows]
    assert (log.splits == 2).sum() == sum(size >= 3 for size in sizes.values())
    place, training = Counter(), set()
    for user, _, item in rows:
        place[user] += 1
        if place[user] <= sizes[user] - 2 or sizes[user] < 3:
            training.add(item)
    assert raw[: log.n_items] == sorted(training)
    with (folder / "items.csv").open(newline="") as lines:
        texts = {row["item"]: row["text"] for row in csv.DictReader(lines)}
    assert log.catalogue["text"].to_pylist() == [texts[item] for item in raw]
