"""The build against a slow reference, and the promises that a protocol makes."""

import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recgym.build import Tables, _quantiles, build_log
from recgym.engine import connect
from recgym.errors import InvalidArgument, NothingLeft
from recgym.log import SPLITS
from recgym.protocols import Protocol, tie_hash

from .reference import MINUTE, Event, reference_log
from .reference import tie_hash as slow_hash
from .sentences import said

SHOP = ("click", "cart", "purchase")
STARS = ("1.0", "3.5", "4.0", "5.0")
INTS = ([3, 1, 2, 10, 20, 21, 22, 2**40], [7, 100, 9, 8, 70, 71, 72])
TEXTS = (["b", "B", "10", "9", "é", "z", "z ", "0"], ["x", "y", "Z", "10", "9", "über", "𝒳"])


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with connect(scratch=tmp_path_factory.mktemp("scratch")) as engine:
        yield engine


@pytest.fixture(scope="module")
def build(engine, tmp_path_factory):
    """Build the log of a list of events; the folder of the one before is removed."""
    path = tmp_path_factory.mktemp("logs") / "log"

    def build(events, protocol, behaviours=SHOP, positive=SHOP, timed=True, extra=False, **more):
        shutil.rmtree(path, ignore_errors=True)
        table = {
            "user": [e.user for e in events],
            "item": [e.item for e in events],
            "behaviour": pa.array([e.rank for e in events], pa.int64()),
            "time" if timed else "order": pa.array([e.time for e in events], pa.int64()),
            "row": pa.array([e.row for e in events], pa.int64()),
        }
        if extra:
            table |= {
                name: [getattr(e, name) for e in events] for name in ("value", "propensity", "slot")
            }
        tables = Tables(engine.from_arrow(pa.table(table)), behaviours, positive, **more)
        return build_log(tables, protocol, engine, path)

    return build


# --------------------------------------------------------------------------- random small logs


@st.composite
def raw_events(draw, behaviours):
    users, items = draw(st.sampled_from([INTS, TEXTS]))
    unit = draw(st.sampled_from([MINUTE // 2, 10 * MINUTE, 31 * MINUTE]))
    row = st.tuples(
        st.sampled_from(users),
        st.sampled_from(items),
        st.integers(0, len(behaviours) - 1),
        st.integers(0, draw(st.sampled_from([3, 12, 40]))),
        st.sampled_from([0.0, 0.5, 2.0]),
        st.sampled_from([0.25, 1.0]),
        st.integers(1, 3),
    )
    size = draw(st.sampled_from([1, 10, 30, 60, 60]))
    rows = draw(st.lists(row, min_size=size, max_size=size))
    return [
        Event(user, item, behaviours[rank], time * unit, k, rank, value, propensity, slot)
        for k, (user, item, rank, time, value, propensity, slot) in enumerate(rows)
    ]


@st.composite
def protocols(draw, behaviours, user, split, timed, extra):
    shop = behaviours == SHOP
    gaps = [None, 0.5, 10, 31] if timed else [None]
    gap = draw(st.sampled_from(gaps[1:] if split == "session-time" and user != "visit" else gaps))
    visits = user == "visit" or gap is not None
    natural = split == ("session-time" if visits else "event-time")
    ends = ["never", "always", "purchase"]
    ends += [None, None, "shown", "shown"] if timed and visits else [None]
    rewards = ["binary", "one"] + ["value"] * extra
    rewards += ["click0.2-purchase1", "click1-purchase5"] if shop else ["levels"]
    kept = [(), (), ("click", "purchase"), ("purchase", "cart=purchase", "click"), ("cart",)]
    return Protocol(
        "random",
        behaviours=draw(st.sampled_from(kept)) if shop else (),
        min_rating=None if shop else draw(st.sampled_from([None, 3.5, 5])),
        min_session=draw(st.sampled_from([0, 0, 1, 2, 3])),
        min_item=draw(st.sampled_from([0, 0, 1, 2, 4])),
        counted=draw(st.sampled_from(["all", "all", "positive", behaviours[-1]])),
        repeat_filters=draw(st.booleans()),
        gap=gap,
        sample=draw(st.sampled_from([None, None, None, 2, 5])),
        ties=draw(st.sampled_from(["hash", "row"])),
        split=draw(st.sampled_from([split, None])) if natural else split,
        cuts=draw(st.sampled_from([(0.8, 0.9), (0.5, 0.75), (0.3, 0.4)])),
        index=draw(st.sampled_from(["train", "all"])),
        rewards=draw(st.sampled_from(rewards)),
        in_state=draw(st.sampled_from(["all", "positive"])),
        ends=draw(st.sampled_from(ends)),
        seed=draw(st.sampled_from([0, 1, 7, 2**40])),
    )


@pytest.mark.parametrize(
    "split", ["event-time", "session-time", "leave-last-out", "random-session"]
)
@settings(max_examples=settings().max_examples // 3)
@given(data=st.data())
def test_every_column_is_what_the_slow_reference_says(build, split, data):
    behaviours = data.draw(st.sampled_from([SHOP, STARS]))
    positive = ("click", "purchase") if behaviours == SHOP else STARS[2:]
    user = data.draw(st.sampled_from(["person", "visit", "impression"]))
    timed = split.endswith("time") or data.draw(st.booleans())
    extra = data.draw(st.booleans())
    protocol = data.draw(protocols(behaviours, user, split, timed, extra))
    events = data.draw(raw_events(behaviours))
    kept = {e.partition("=")[0] for e in protocol.behaviours} or set(behaviours)
    assume(protocol.counted == "all" or behaviours[-1] in kept)

    wanted = reference_log(events, protocol, positive, user, timed)
    if wanted is None:
        with pytest.raises(NothingLeft) as problem:
            build(events, protocol, behaviours, positive, timed, extra, user=user)
        assert said(problem)
        return
    log = build(events, protocol, behaviours, positive, timed, extra, user=user)

    rows = wanted.rows
    names = log.manifest.behaviours
    assert [log.catalogue["raw_id"][k].as_py() for k in log.items] == [str(e.item) for e in rows]
    assert log.catalogue["raw_id"].to_pylist() == [str(item) for item in wanted.items]
    assert log.n_items == wanted.n_items
    assert [names[k] for k in log.behaviours] == [e.behaviour for e in rows]
    assert log.timestamps.tolist() == [e.time for e in rows]
    assert log.rewards.tolist() == np.float32(wanted.rewards).tolist()
    assert [SPLITS[k] for k in log.splits] == [e.split for e in rows]
    assert log.in_state.tolist() == wanted.in_state
    assert log.terminated.tolist() == wanted.terminated
    assert np.diff(log.offsets).tolist() == [len(session) for session in wanted.sessions]
    assert log.users.to_pylist() == [str(session[0].user) for session in wanted.sessions]
    assert log.manifest.cuts == wanted.cuts
    assert log.manifest.time == ("microseconds" if timed else "order")
    if extra:
        assert log.propensities.tolist() == [e.propensity for e in rows]
        assert log.slots.tolist() == [e.slot for e in rows]
    counts = log.manifest.counts
    assert counts["rows"] == len(rows) and counts["sessions"] == len(wanted.sessions)
    assert counts["items"] == len(wanted.items)
    assert counts["splits"] == {name: sum(e.split == name for e in rows) for name in SPLITS}
    unseen = wanted.items[wanted.n_items :]
    assert sum(counts["unseen"].values()) == sum(e.item in unseen for e in rows)
    pairs = [(a, b) for session in wanted.sessions for a, b in pairwise(session)]
    assert counts["pairs"] == len(pairs)
    assert counts["tied_pairs"] == sum(a.time == b.time for a, b in pairs)
    length = data.draw(st.integers(1, 8))
    for after in (False, True):
        assert log.histories(np.arange(len(log)), length, after=after).tolist() == [
            wanted.history(k, length, after) for k in range(len(rows))
        ]
    assert log.verify() == log.manifest.digest


# ------------------------------------------------------------------------- the promises, plainly


@pytest.fixture
def events():
    """Two hundred users of a shop over some days, with ties and pauses."""
    rng = np.random.default_rng(0)
    items = rng.geometric(0.05, 2000)
    times = np.sort(rng.integers(10 * 24 * 60, size=2000)) * MINUTE
    users, ranks = rng.integers(200, size=2000), rng.integers(3, size=2000)
    columns = zip(users.tolist(), items.tolist(), ranks.tolist(), times.tolist(), strict=True)
    return [
        Event(user, item, SHOP[rank], time, k, rank)
        for k, (user, item, rank, time) in enumerate(columns)
    ]


@pytest.mark.parametrize("switches", [{"split": "event-time"}, {"gap": 30.0}])
def test_a_temporal_split_trains_on_nothing_later_than_its_targets(build, events, switches):
    log = build(events, Protocol("p", **switches))
    train, validation, test = (log.timestamps[log.rows(split)] for split in SPLITS[:3])
    assert len(train) and len(validation) and len(test)
    assert train.max() < validation.min() and validation.max() < test.min()


@pytest.mark.parametrize("switches", [{"gap": 30.0}, {"split": "random-session"}])
def test_a_session_split_shares_no_session(build, events, switches):
    log = build(events, Protocol("p", **switches))
    train, validation, test = (set(log.sessions_of(log.rows(split))) for split in SPLITS[:3])
    assert train and validation and test
    assert not (train & validation or train & test or validation & test)


def test_items_unseen_in_training_come_last_and_enter_no_history(build, events):
    log = build(events, Protocol("p"))
    assert log.n_items < log.items.max() < log.catalogue.num_rows
    assert set(log.items[log.rows("train")]) == set(range(log.n_items))
    histories = log.histories(np.arange(len(log)), 50, after=True)
    assert histories.max() == log.n_items  # the pad
    raw = log.catalogue["raw_id"].to_pylist()
    known = [int(item) for item in raw[: log.n_items]]
    assert known == sorted(known) and not set(known) & {int(item) for item in raw[log.n_items :]}


def test_three_sessions_by_hand_give_these_rows(build):
    hand = [
        ("ann", "tea", "click", 0),
        ("ann", "mug", "click", 1),
        ("ann", "mug", "purchase", 2),
        ("bob", "mug", "click", 3),
        ("bob", "jam", "click", 4),
        ("cat", "tea", "click", 60),
        ("cat", "pot", "click", 61),
        ("cat", "jam", "click", 62),
    ]
    events = [
        Event(user, item, behaviour, minute * MINUTE, k, SHOP.index(behaviour))
        for k, (user, item, behaviour, minute) in enumerate(hand)
    ]
    log = build(events, Protocol("p", split="session-time", cuts=(0.4, 0.7)), user="visit")
    assert log.catalogue["raw_id"].to_pylist() == ["mug", "tea", "jam", "pot"]  # two in training
    assert log.n_items == 2
    # What lies before the cut that a session spans is history only.
    late = ["context", "validation", "context", "context", "test"]
    assert [SPLITS[k] for k in log.splits] == ["train", "train", "train", *late]
    assert log.items.tolist() == [1, 0, 0, 0, 2, 1, 3, 2]
    assert log.rewards.tolist() == np.float32([0.2, 0.2, 1, 0.2, 0.2, 0.2, 0.2, 0.2]).tolist()
    assert log.histories(np.arange(8), 3).tolist() == [
        [2, 2, 2],
        [1, 2, 2],
        [1, 0, 2],
        [2, 2, 2],
        [0, 2, 2],
        [2, 2, 2],
        [1, 2, 2],
        [1, 2, 2],
    ]
    assert log.histories([2, 4, 7], 2, after=True).tolist() == [[0, 0], [0, 2], [1, 2]]
    items, answers = log.histories_with_responses([2], 3, after=True)
    assert items.tolist() == [[1, 0, 0]] and answers.tolist() == [[0, 0, 2]]
    # Ann bought; Bob stays silent for long before the test begins; Cat may still come back.
    assert log.terminated.tolist() == [True, True, False]


def test_the_same_seed_gives_the_same_log_and_another_seed_another_order_of_ties(build, events):
    tied = [replace(event, time=event.time // (24 * 60 * MINUTE)) for event in events]
    log = build(tied, Protocol("p", seed=1))
    items, digest = log.items.copy(), log.manifest.digest
    assert build(tied[::-1], Protocol("p", seed=1)).manifest.digest == digest
    other = build(tied, Protocol("p", seed=2))
    assert other.manifest.digest != digest
    assert other.items.tolist() != items.tolist() and sorted(other.items) == sorted(items)


def test_the_order_of_the_input_changes_nothing(build, events):
    shuffled = np.random.default_rng(1).permutation(len(events))
    digest = build(events, Protocol("p", gap=30, min_item=2)).manifest.digest
    again = build([events[k] for k in shuffled], Protocol("p", gap=30, min_item=2))
    assert again.manifest.digest == digest


# -------------------------------------------------------------------------------- the tie hash


@given(
    pairs=st.lists(st.tuples(*[st.integers(0, 2**31 - 2)] * 2), min_size=1, max_size=20),
    seed=st.integers(0, 2**63),
)
@settings(max_examples=settings().max_examples // 4)
def test_the_tie_hash_is_the_same_in_numpy_in_the_engine_and_by_hand(engine, pairs, seed):
    first, second = (np.array(codes, np.int64) for codes in zip(*pairs, strict=True))
    wanted = [slow_hash(a, b, seed) for a, b in pairs]
    assert tie_hash(first, second, seed).tolist() == wanted
    assert max(wanted) < 2**31
    codes = {"first": first, "second": second, "k": np.arange(len(pairs))}
    table = engine.from_arrow(pa.table(codes))
    hashed = engine.fetch(
        table.order_by("k").select(hash=tie_hash(table.first, table.second, seed))
    )
    assert hashed["hash"].to_pylist() == wanted


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (7, 8), (0, 1000), (123, 98_765), (2**30, 5)])
@pytest.mark.parametrize("seed", [0, 1, 2026])
def test_ties_favour_no_item(pair, seed):
    users = np.arange(40_000)
    first = (tie_hash(users, pair[0], seed) < tie_hash(users, pair[1], seed)).mean()
    assert abs(first - 0.5) < 5 * 0.5 / len(users) ** 0.5


# ------------------------------------------------------------------------- what cannot be built


@pytest.mark.parametrize("switches", [{"gap": 30.0}, {"split": "event-time"}, {"ends": "shown"}])
def test_an_order_without_times_is_not_cut_by_time(build, events, switches):
    protocol = Protocol("p", **{"split": "random-session"} | switches)
    with pytest.raises(InvalidArgument) as problem:
        build(events, protocol, timed=False)
    assert "no times" in said(problem) and "leave-last-out" in said(problem)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"split": "session-time"}, ["trains on the future", "--gap 30"]),
        ({"ends": "shown"}, ["never shown", "--gap 30"]),
        ({"behaviours": ("clik",)}, ["'clik'", "click, cart, purchase"]),
        ({"min_rating": 4.0}, ["--min-rating", "click, cart, purchase"]),
        ({"counted": "skip"}, ["--counted skip", "click, cart, purchase"]),
        ({"rewards": "levels"}, ["'levels'", "ratings"]),
        ({"rewards": "value"}, ["reward", "--rewards"]),
        ({"cuts": (0.9, 0.8)}, ["0.9 and 0.8"]),
        ({"cuts": (0.0, 1.0)}, ["0 and 1"]),
        ({"gap": 0.0}, ["gap"]),
        ({"gap": float("nan")}, ["gap"]),
        ({"sample": -1}, ["sample"]),
        ({"min_session": -1}, ["-1"]),
    ],
)
def test_a_switch_that_does_not_fit_is_refused_in_words(build, events, switches, words):
    with pytest.raises(InvalidArgument) as problem:
        build(events, Protocol("p", **switches))
    assert all(word in said(problem) for word in words), said(problem)


def test_ties_by_row_need_rows(build, engine, events, tmp_path):
    table = pa.table({"user": [1, 1], "item": [1, 2], "behaviour": [0, 0], "time": [1, 2]})
    with pytest.raises(InvalidArgument) as problem:
        tables = Tables(engine.from_arrow(table), SHOP, SHOP)
        build_log(tables, Protocol("p", ties="row"), engine, tmp_path / "log")
    assert "--ties hash" in said(problem)
    assert not list(tmp_path.iterdir())


def test_filters_that_leave_no_session_say_what_they_took(build, events):
    with pytest.raises(NothingLeft) as problem:
        build(events, Protocol("p", min_session=1000))
    assert "read 2,000" in said(problem) and "1000" in said(problem)


def test_no_event_at_all_is_said(build, events):
    with pytest.raises(NothingLeft) as problem:
        build([replace(e, rank=0) for e in events], Protocol("p", behaviours=("cart",)))
    assert "read 2,000, then behaviours 0" in said(problem)


def test_one_session_cannot_be_split_by_session(build, events):
    with pytest.raises(NothingLeft) as problem:
        build([replace(event, user=1) for event in events], Protocol("p", split="random-session"))
    assert "random-session" in said(problem)


def test_one_user_is_enough_for_a_split_by_time(build, events):
    log = build([replace(event, user=1) for event in events], Protocol("p"))
    assert log.n_sessions == 1 and set(log.splits) == {0, 1, 2}


def test_events_at_one_time_cannot_be_split_by_time(build, events):
    with pytest.raises(NothingLeft) as problem:
        build([replace(event, time=5 * MINUTE) for event in events], Protocol("p"))
    assert "event-time" in said(problem) and "random-session" in said(problem)


@given(
    st.lists(st.integers(-(2**53), 2**53) | st.integers(0, 5), min_size=1, max_size=80),
    st.floats(0.01, 0.99),
)
def test_a_quantile_is_the_value_at_its_place_in_order(values, share):
    place = min(int(share * len(values) + 1e-9), len(values) - 1)
    assert _quantiles(np.array(values), [share]) == [sorted(values)[place]]
