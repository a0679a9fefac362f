"""The engines: one log from both, whatever the source and the switches."""

import dataclasses
from pathlib import Path

import pytest

from recgym.datasets import demo, movielens, openbandit, retailrocket, yoochoose
from recgym.engine import connect
from recgym.errors import InvalidArgument, NothingLeft
from recgym.protocols import protocol_named
from recgym.raw import open_raw
from recgym.sources import prepare


def test_an_engine_must_be_known_and_its_memory_an_amount():
    with pytest.raises(InvalidArgument, match="Known: duckdb, spark"), connect("flink"):
        pass
    with pytest.raises(InvalidArgument, match="no amount of memory"), connect(memory="much"):
        pass


def test_duckdb_spills_where_memory_is_short():
    small = prepare(demo.Source(visits=20_000), name="small", memory="60MB")
    large = prepare(demo.Source(visits=20_000), name="large", memory="2GB")
    assert small.manifest.digest == large.manifest.digest


def test_the_engine_tells_its_progress_and_prints_none(capfd):
    stages = []
    with connect(progress=lambda stage, share: stages.append((stage, share))) as engine:
        engine._connection.raw_sql("CREATE TEMP TABLE n AS SELECT range AS k FROM range(25000)")
        one, other = (engine._connection.table("n").rename({k: "k"}) for k in "ab")
        pairs = one.cross_join(other)
        slow = pairs.aggregate(n=(pairs.a * pairs.b).sqrt().sum())
        list(engine.batches(slow))
    shares = [share for stage, share in stages if stage == "ordering" and share is not None]
    assert shares == sorted(shares)
    assert all(0 < share <= 1 for share in shares)
    assert capfd.readouterr().out == ""


def test_scratch_is_empty_after_a_build(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_HOME", str(tmp_path))
    prepare("demo", name="demo")
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(NothingLeft):
        prepare("demo", name="none", protocol=dataclasses.replace(
            protocol_named("temporal"), min_session=10_000))  # fmt: skip
    assert list((tmp_path / "scratch").iterdir()) == []


CASES = {
    "gap-cut": (demo.Source(visits=300), None, "temporal", {"gap": 1.0}),
    "k-core": (
        demo.Source(visits=300),
        None,
        "sqn-rc15",
        {"min_item": 9, "repeat_filters": True, "ties": "hash"},
    ),
    "sampled": (demo.Source(visits=300), None, "sqn-rc15", {"sample": 50, "ties": "hash"}),
    "ratings": (movielens.Source(), "movielens-latest-small", "crr-movielens", {}),
    "carts": (retailrocket.Source(), "retailrocket-sample", "sqn-retailrocket", {}),
    "visits": (yoochoose.Source(), "yoochoose-sample", "temporal", {}),
    "propensities": (openbandit.Source(policy="bts"), "open-bandit", "temporal", {}),
}


# PySpark 4.0 leaves sockets to the garbage collector, and uses what pandas 3 deprecates.
spark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("case", [pytest.param(case, marks=spark) for case in CASES])
def test_spark_writes_the_log_of_duckdb_byte_for_byte(case, request):
    source, folder, protocol, switches = CASES[case]
    raw = request.getfixturevalue("samples") / folder if folder else None
    protocol = dataclasses.replace(protocol_named(protocol), **switches)
    one = prepare(source, raw, name="one", protocol=protocol)
    other = prepare(source, raw, name="other", protocol=protocol, engine="spark")
    assert one.manifest.digest == other.manifest.digest
    for file in one.path.glob("*.arrow"):
        assert file.read_bytes() == (other.path / file.name).read_bytes(), file.name


@pytest.mark.parametrize("engine", [pytest.param("spark", marks=spark)])
def test_spark_names_the_bad_line_too(tmp_path, engine):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,4.0,1000000000\n1,two,4.0,1000000001\n"
    )
    with connect(engine) as engine, pytest.raises(Exception, match="line 3: column 'movieId'"):
        movielens.Source().tables(open_raw(Path(tmp_path), engine.scratch), engine)
