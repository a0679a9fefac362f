"""RetailRocket, against the raw file, and the order of the filters of Xin et al.

Form: https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset, events.csv with the columns
timestamp (ms), visitorid, event, itemid, transactionid.
"""

import csv
from collections import Counter, defaultdict

import pytest

from recgym.datasets.retailrocket import Source
from recgym.errors import BadRawData

NAMES = {"view": "click", "addtocart": "cart", "transaction": "purchase"}
MILLISECOND = 1_000


@pytest.fixture(scope="module")
def raw(samples):
    return samples / "retailrocket-sample"


@pytest.fixture(scope="module")
def events(raw):
    with (raw / "events.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def log(build, raw):
    return build(Source(), raw)


@pytest.fixture(scope="module")
def cuts(events):
    times = sorted(int(event["timestamp"]) * MILLISECOND for event in events)
    return [times[len(times) * tenths // 10] for tenths in (8, 9)]


def test_rows_visitors_items_and_behaviours_are_those_of_the_raw_file(log, events):
    counts = log.manifest.counts
    assert counts["rows"] == len(events) == 104_776
    assert counts["sessions"] == len({event["visitorid"] for event in events})
    assert counts["items"] == len({event["itemid"] for event in events})
    assert counts["behaviours"] == {"click": 102_242, "cart": 2_408, "purchase": 126}
    assert counts["behaviours"] == Counter(NAMES[event["event"]] for event in events)


def test_the_card_shows_this_log(log, committed):
    assert log.manifest.digest == committed("retailrocket--sample")


def test_every_visitor_has_the_same_events_at_the_same_times(log, events, rows_of, up_to_ties):
    expected = defaultdict(list)
    for event in sorted(events, key=lambda event: int(event["timestamp"])):
        what = (event["itemid"], NAMES[event["event"]])
        expected[event["visitorid"]].append((int(event["timestamp"]) * MILLISECOND, what))
    found = {
        visitor: [(row.time, (row.item, row.behaviour)) for row in rows]
        for visitor, rows in rows_of(log).items()
    }
    assert up_to_ties(found) == up_to_ties(expected)


def test_rewards_are_those_of_clicks_carts_and_purchases(log, rows_of):
    worth = {"click": pytest.approx(0.2), "cart": pytest.approx(0.2), "purchase": 1.0}
    pairs = {(row.behaviour, row.reward) for rows in rows_of(log).values() for row in rows}
    assert len(pairs) == 3
    assert all(reward == worth[behaviour] for behaviour, reward in pairs)


def test_splits_cut_at_the_quantiles_of_time(log, cuts, rows_of):
    assert log.manifest.cuts == cuts
    times = defaultdict(list)
    for rows in rows_of(log).values():
        for row in rows:
            times[row.split].append(row.time)
    assert max(times["train"]) < cuts[0] <= min(times["validation"])
    assert max(times["validation"]) < cuts[1] <= min(times["test"])


def test_unseen_items_are_those_training_never_saw(log, events, cuts):
    times = [int(event["timestamp"]) * MILLISECOND for event in events]
    known = {event["itemid"] for event, time in zip(events, times, strict=True) if time < cuts[0]}
    unseen = sum(
        time >= cuts[1] and event["itemid"] not in known
        for event, time in zip(events, times, strict=True)
    )
    assert log.n_items == len(known)
    assert log.manifest.counts["unseen"]["test"] == unseen


def test_ties_are_those_of_the_raw_file(log, events):
    times = defaultdict(list)
    for event in events:
        times[event["visitorid"]].append(event["timestamp"])
    tied = sum(
        first == second
        for moments in map(sorted, times.values())
        for first, second in zip(moments, moments[1:], strict=False)
    )
    assert log.manifest.counts["tied_pairs"] == tied


def test_visits_are_cut_after_thirty_silent_minutes(build, raw, events):
    log = build(Source(), raw, gap=30)
    times = defaultdict(list)
    for event in events:
        times[event["visitorid"]].append(int(event["timestamp"]))
    visits = sum(
        1 + sum(b - a > 30 * 60_000 for a, b in zip(moments, moments[1:], strict=False))
        for moments in map(sorted, times.values())
    )
    assert log.n_sessions == visits
    assert log.manifest.protocol["split"] == "session-time"


def test_splitting_whole_visitors_would_leak_and_visits_do_not(events, leaked):
    times = defaultdict(list)
    for event in events:
        times[event["visitorid"]].append(int(event["timestamp"]))
    older_than_test, older_than_training = leaked(times)
    assert 0.45 < older_than_test < 0.5
    assert older_than_training > 1 / 3
    visits = {}
    for visitor, moments in times.items():
        moments.sort()
        visit = 0
        visits[visitor, visit] = moments[:1]
        for before, moment in zip(moments, moments[1:], strict=False):
            visit += moment - before > 30 * 60_000
            visits.setdefault((visitor, visit), []).append(moment)
    assert max(leaked(visits)) < 0.01


def filtered_as_published(events):
    """Drop rows with a transaction, then short visitors, then rare items: once, in that order."""
    rows = [
        (
            row["visitorid"],
            int(row["timestamp"]),
            row["event"] == "addtocart",
            number,
            row["itemid"],
        )
        for number, row in enumerate(events)
        if not row["transactionid"]
    ]
    visitors = Counter(row[0] for row in rows)
    rows = [row for row in rows if visitors[row[0]] > 2]
    items = Counter(row[-1] for row in rows)
    rows = sorted(row for row in rows if items[row[-1]] > 2)
    histories = defaultdict(list)
    for visitor, _, is_buy, _, item in rows:
        histories[visitor].append((item, "purchase" if is_buy else "click"))
    return dict(histories)


def test_the_preset_of_xin_et_al_keeps_what_its_filters_keep(build, raw, events, rows_of):
    log = build(Source(), raw, "sqn-retailrocket")
    expected = filtered_as_published(events)
    found = {
        visitor: [(row.item, row.behaviour) for row in rows]
        for visitor, rows in rows_of(log).items()
    }
    assert found == expected
    splits = log.splits[log.offsets[:-1]]
    count = len(expected)
    validation, test = count * 8 // 10, count * 9 // 10
    sizes = [int((splits == split).sum()) for split in range(3)]
    assert sizes == [validation, test - validation, count - test]


HEADER = "timestamp,visitorid,event,itemid,transactionid"


def test_transactions_go_before_visitors_and_visitors_before_items(build, rows_of, write):
    """Visitor 1 is short without her transaction, so item 70 is rare; visitor 3 may end short."""
    lines = [
        "1439665586000,1,view,70,",
        "1439665587000,1,addtocart,70,",
        "1439665588000,1,transaction,70,5",
        *(f"14396655{second}000,2,view,{item},"
          for second, item in zip(range(90, 95), (70, 70, 80, 80, 80), strict=True)),
        "1439665600000,3,view,80,",
        "1439665601000,3,addtocart,70,",
        "1439665602000,3,view,90,",
        "1439665603000,3,view,90,",
    ]  # fmt: skip
    log = build(Source(), write(**{"events.csv": [HEADER, *lines]}), "sqn-retailrocket")
    found = {
        visitor: [(row.item, row.behaviour) for row in rows]
        for visitor, rows in rows_of(log).items()
    }
    assert found == {
        "2": [("70", "click")] * 2 + [("80", "click")] * 3,
        "3": [("80", "click"), ("70", "purchase")],
    }


def test_a_row_with_a_transaction_id_is_a_purchase(build, rows_of, write):
    lines = ["1439694000000,1,view,100,", "1439694000000,2,transaction,1000,234"]
    log = build(Source(), write(**{"events.csv": [HEADER, *lines]}), "leave-last-out")
    assert {visitor: rows[0].behaviour for visitor, rows in rows_of(log).items()} == {
        "1": "click",
        "2": "purchase",
    }


def test_an_unknown_event_is_named(build, write):
    lines = [HEADER, "1439694000000,1,view,100,", "1439694000000,1,wish,100,"]
    with pytest.raises(BadRawData, match=r"events\.csv line 3: column 'event' says 'wish'"):
        build(Source(), write(**{"events.csv": lines}))
