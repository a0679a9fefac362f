"""Yoochoose, against the raw file; buys and the preset of Xin et al. on hand-made visits.

Form: http://2015.recsyschallenge.com/challenge.html, lines without a header of session,
time, item, category (clicks) and session, time, item, price, quantity (buys).
"""

import csv
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from recgym.datasets.yoochoose import Source
from recgym.errors import BadRawData

MICROSECOND = timedelta(microseconds=1)


def micros(text):
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND


@pytest.fixture(scope="module")
def raw(samples):
    return samples / "yoochoose-sample"


@pytest.fixture(scope="module")
def visits(raw):
    found = defaultdict(list)
    with (raw / "yoochoose-clicks.dat").open(newline="") as lines:
        for visit, time, item, _ in csv.reader(lines):
            found[visit].append((micros(time), item))
    return {visit: sorted(clicks) for visit, clicks in found.items()}


@pytest.fixture(scope="module")
def log(build, raw):
    return build(Source(), raw)


@pytest.fixture(scope="module")
def cuts(visits):
    ends = sorted(clicks[-1][0] for clicks in visits.values())
    return [ends[len(ends) * tenths // 10] for tenths in (8, 9)]


def test_rows_visits_and_items_are_those_of_the_raw_file(log, visits):
    counts = log.manifest.counts
    assert counts["rows"] == sum(map(len, visits.values())) == 83_846
    assert counts["sessions"] == len(visits) == 21_210
    assert counts["items"] == len({i for clicks in visits.values() for _, i in clicks}) == 2_933
    assert counts["behaviours"] == {"click": 83_846}


def test_the_card_shows_this_log(log, committed):
    assert log.manifest.digest == committed("yoochoose--sample")


def test_every_visit_has_the_same_clicks_at_the_same_times(log, visits, rows_of, up_to_ties):
    found = {visit: [(row.time, row.item) for row in rows] for visit, rows in rows_of(log).items()}
    assert up_to_ties(found) == up_to_ties(visits)


def test_visits_are_split_by_their_end_and_train_ends_before_targets_begin(
    log, visits, cuts, rows_of
):
    assert log.manifest.cuts == cuts
    times = defaultdict(list)
    for visit, rows in rows_of(log).items():
        end = visits[visit][-1][0]
        begin = max((cut for cut in cuts if cut <= end), default=0)
        split = ("train", "validation", "test")[sum(end >= cut for cut in cuts)]
        for row in rows:
            assert row.split == (split if row.time >= begin else "context")
            times[row.split].append(row.time)
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])


def test_unseen_items_are_counted_over_targets(log, visits, cuts):
    ends = {visit: clicks[-1][0] for visit, clicks in visits.items()}
    known = {i for visit in visits if ends[visit] < cuts[0] for _, i in visits[visit]}
    unseen = sum(
        item not in known and time >= cuts[1]
        for visit, clicks in visits.items()
        if ends[visit] >= cuts[1]
        for time, item in clicks
    )
    assert log.manifest.counts["unseen"]["test"] == unseen


def test_a_visit_has_ended_when_its_split_sees_thirty_silent_minutes_after_it(log, visits, cuts):
    horizons = [*cuts, max(clicks[-1][0] for clicks in visits.values())]
    for visit, terminated in zip(log.users.to_pylist(), log.terminated.tolist(), strict=True):
        end = visits[visit][-1][0]
        horizon = horizons[sum(end >= cut for cut in cuts)]
        assert terminated == (end + 30 * 60 * 1_000_000 < horizon)


def test_ties_and_pairs_are_those_of_the_raw_file(log, visits):
    times = [[time for time, _ in clicks] for clicks in visits.values()]
    tied = sum(a == b for moments in times for a, b in zip(moments, moments[1:], strict=False))
    assert log.manifest.counts["tied_pairs"] == tied
    assert log.manifest.counts["pairs"] == 83_846 - 21_210


def test_a_log_without_buys_says_so(log):
    assert any("clicks only" in note for note in log.manifest.notes)


# ------------------------------------------------------------------------------ hand-made visits

CLICKS = """\
1,2014-04-07T10:51:09.277Z,100,0
1,2014-04-07T10:54:09.868Z,200,0
1,2014-04-07T10:54:46.998Z,100,S
1,2014-04-07T10:57:00.306Z,300,0
2,2014-04-07T13:56:37.614Z,200,0
2,2014-04-07T13:57:19.373Z,300,0
3,2014-04-02T13:17:46.940Z,300,0
3,2014-04-02T13:17:46.940Z,200,0
3,2014-04-02T13:33:56.600Z,400,0
4,2014-04-03T09:00:00.000Z,500,0
4,2014-04-03T09:01:00.000Z,100,0
"""
BUYS = """\
1,2014-04-07T11:02:00.000Z,200,12462,2
1,2014-04-07T11:02:00.000Z,999,1046,1
3,2014-04-02T13:33:56.600Z,400,0,4
3,2014-04-02T13:40:00.000Z,500,0,1
2,2014-04-07T14:00:00.000Z,300,837,1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "yoochoose-clicks.dat").write_text(CLICKS)
    (tmp_path / "yoochoose-buys.dat").write_text(BUYS)
    return tmp_path


def test_buys_join_the_clicks_of_their_visit(folder, build, rows_of):
    log = build(Source(), folder)
    rows = rows_of(log)
    assert log.manifest.counts["behaviours"] == {"click": 11, "purchase": 5}
    assert Counter(row.item for row in rows["1"]) == {"100": 2, "200": 2, "300": 1, "999": 1}
    worth = {row.behaviour: row.reward for visit in rows.values() for row in visit}
    assert worth == pytest.approx({"click": 0.2, "purchase": 1.0})
    assert [row.behaviour for row in rows["3"]][-1] == "purchase"
    assert log.terminated.tolist() == [True, True, True, True], "each ends bought or long silent"


def test_the_preset_of_xin_et_al_gives_exactly_these_rows(folder, build, rows_of):
    """Visits 2 and 4 have two clicks; nobody of those left clicked 500 or 999."""
    log = build(Source(), folder, "sqn-rc15")
    found = {
        visit: [(row.item, row.behaviour) for row in rows] for visit, rows in rows_of(log).items()
    }
    click, purchase = "click", "purchase"
    assert found == {
        "1": [("100", click), ("200", click), ("100", click), ("300", click), ("200", purchase)],
        "3": [("300", click), ("200", click), ("400", click), ("400", purchase)],
    }
    assert [rows[-1].reward for rows in rows_of(log).values()] == [1.0, 1.0]
    assert log.catalogue.column("raw_id").to_pylist() == ["100", "200", "300", "400"]
    assert log.n_items == 4, "all sampled clicks number the items"
    assert log.terminated.all()


def test_the_preset_samples_and_splits_by_visit(build, raw, visits):
    log = build(Source(), raw, "sqn-rc15", sample=5_000)
    longer = {visit for visit, clicks in visits.items() if len(clicks) > 2}
    assert log.n_sessions == 5_000
    assert set(log.users.to_pylist()) <= longer
    splits = log.splits[log.offsets[:-1]]
    assert [int((splits == split).sum()) for split in range(3)] == [4_000, 500, 500]
    assert len(log) == sum(len(visits[visit]) for visit in log.users.to_pylist())


def test_an_impossible_time_is_named(folder, build):
    with (folder / "yoochoose-clicks.dat").open("a") as lines:
        lines.write("5,2014-04-31T10:00:00.000Z,100,0\n")
    with pytest.raises(BadRawData, match=r"clicks\.dat line 12: column 'time' says '2014-04-31"):
        build(Source(), folder)
