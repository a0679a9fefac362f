import json
import math
import random
from collections import Counter, defaultdict
from dataclasses import replace
from importlib import import_module

import numpy as np
import pyarrow as pa
import pytest

from recgym import diagnose as module
from recgym.build import Tables, build_log
from recgym.datasets.demo import Source
from recgym.diagnose import Finding, diagnose
from recgym.engine import connect
from recgym.log import SPLITS, InteractionLog, write_log
from recgym.protocols import protocol_named
from recgym.raw import open_raw

DAY = 86_400_000_000
SHOP = ("click", "cart", "purchase")


def build(
    path, events, behaviours=SHOP, protocol="temporal", user="person", rewards=None, **switches
):
    with connect("duckdb") as engine:
        tables = Tables(
            engine.from_arrow(pa.table(events)),
            behaviours,
            behaviours[1:],
            user=user,
            rewards=rewards or "click0.2-purchase1",
        )
        return build_log(tables, replace(protocol_named(protocol), **switches), engine, path)


def invented(seed, users=40, rows=900, items=60, ties=400):
    """Events with ties, repeats and exact copies; later events favour later items."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(ties, size=rows))
    drawn = rng.zipf(1.4, rows) % (items // 2) + (items // 2) * times // ties
    events = {
        "user": rng.integers(users, size=rows),
        "item": drawn,
        "time": times * DAY,
        "behaviour": rng.choice(3, size=rows, p=[0.8, 0.15, 0.05]),
    }
    return {name: np.concatenate([values, values[::50]]) for name, values in events.items()}


def ordered():
    events = invented(3)
    events["order"] = np.argsort(np.argsort(events.pop("time"), kind="stable"))
    return events


def impressions():
    events = invented(4) | {"user": np.arange(918)}
    chosen = np.bincount(events["item"])[events["item"]] / 918
    return events | {"propensity": chosen}


def valued():
    events = invented(5)
    return events | {"value": np.random.default_rng(5).normal(events["user"] % 7, 1.0)}


MADE = {
    "histories": lambda path: build(path, invented(0)),
    "visits": lambda path: build(path, invented(1), gap=60 * 24 * 3),
    "last out": lambda path: build(path, invented(2), protocol="leave-last-out"),
    "random": lambda path: build(
        path, invented(2, items=600), split="random-session", index="all", ends="always"
    ),
    "ordered": lambda path: build(path, ordered(), protocol="leave-last-out"),
    "positive": lambda path: build(path, invented(6), in_state="positive"),
    "impressions": lambda path: build(path, impressions(), user="impression"),
    "valued": lambda path: build(path, valued(), rewards="value"),
    "constant": lambda path: build(path, invented(7), rewards="one"),
    "demo": lambda path: demo(path),
}
REAL = {
    "movielens": "movielens-latest-small",
    "yoochoose": "yoochoose-sample",
    "openbandit": "open-bandit",
}


def demo(path):
    with connect("duckdb") as engine:
        tables = Source(visits=300).tables(None, engine)
        return build_log(tables, protocol_named("temporal"), engine, path)


def real(name, folder, path):
    with connect("duckdb") as engine:
        raw = open_raw(folder / REAL[name], engine.scratch)
        tables = import_module(f"recgym.datasets.{name}").Source().tables(raw, engine)
        return build_log(tables, protocol_named("temporal"), engine, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A log by its name, built once."""
    logs: dict[str, InteractionLog] = {}

    def get(name):
        if name not in logs:
            path = tmp_path_factory.mktemp("logs") / "log"
            logs[name] = MADE[name](path)
        return logs[name]

    return get


def found(log) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnose(log)}


# ------------------------------------------------------------------------ slow, obvious recounts


def rows_of(log):
    """Every row as a dictionary, session by session."""
    sessions = []
    for s in range(log.n_sessions):
        sessions.append(
            [
                {
                    "session": s,
                    "item": int(log.items[r]),
                    "behaviour": log.manifest.behaviours[log.behaviours[r]],
                    "reward": float(log.rewards[r]),
                    "time": int(log.timestamps[r]),
                    "split": SPLITS[log.splits[r]],
                    "in_state": bool(log.in_state[r]),
                    "propensity": None if log.propensities is None else float(log.propensities[r]),
                }
                for r in range(log.offsets[s], log.offsets[s + 1])
            ]
        )
    return sessions


def of_split(sessions, split):
    return [row for session in sessions for row in session if row["split"] == split]


def squares(values):
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


def leftover(rows, key):
    """The squares that remain when every group has its own mean."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row["reward"])
    return sum(squares(group) for group in groups.values()), len(groups)


def reward(log, sessions):
    rows = of_split(sessions, "train")
    rewards = [row["reward"] for row in rows]
    total, low = squares(rewards), min(rewards)
    values = {
        "mean": sum(rewards) / len(rows),
        "variance": total / len(rows),
        "earning": sum(r > low for r in rewards) / len(rows),
    }
    if len(set(rewards)) == 1:
        return values | {"variance": 0.0}
    by_session, n = leftover(rows, "session")
    return values | {
        "explained_by_behaviour": 1 - leftover(rows, "behaviour")[0] / total,
        "within_sessions": by_session / total,
        "within_sessions_if_alike": (len(rows) - n) / (len(rows) - 1),
    }


def ends(log, sessions):
    return {
        "truncated": sum(not end for end in log.terminated) / len(sessions),
        "cut_by_split": sum(len({r["split"] for r in s}) > 1 for s in sessions) / len(sessions),
    }


def horizon(log, sessions):
    lengths = sorted(len(session) for session in sessions)

    def percentile(share):
        place = share * (len(lengths) - 1)
        below, above = lengths[math.floor(place)], lengths[math.ceil(place)]
        return below + (above - below) * (place - math.floor(place))

    return {
        "median": percentile(0.5),
        "p90": percentile(0.9),
        "mean": sum(lengths) / len(lengths),
        "single": lengths.count(1) / len(lengths),
    }


def popularity(log, sessions):
    counter = Counter(row["item"] for row in of_split(sessions, "train"))
    counts = [counter[item] for item in range(log.n_items)]
    apart = sum(abs(a - b) for a in counts for b in counts) if len(counts) < 400 else None
    top = sorted(counts, reverse=True)[: math.ceil(len(counts) / 100)]
    values = {
        "top_1_percent": sum(top) / sum(counts),
        "rare_items": sum(count < 5 for count in counts) / len(counts),
    }
    if apart is not None:  # the mean difference of two items, over twice the mean
        values["gini"] = apart / (2 * len(counts) * sum(counts))
    return values


def index(log, sessions):
    seen = {row["item"] for row in of_split(sessions, "train")}
    return {"untrained": sum(item not in seen for item in range(log.n_items)) / log.n_items}


def propensities(log, sessions):
    if log.propensities is None:
        return {"known": 0.0}
    rows = of_split(sessions, "train")
    weights = [1 / log.n_items / row["propensity"] for row in rows if row["propensity"] > 0]
    return {
        "known": 1.0,
        "smallest": min(row["propensity"] for row in rows if row["propensity"] > 0),
        "effective": sum(weights) ** 2 / sum(w * w for w in weights) / len(rows),
        "average_weight": sum(weights) / len(weights),
        "zero": 1 - len(weights) / len(rows),
    }


def pairs_of(sessions):
    return [pair for s in sessions for pair in zip(s, s[1:], strict=False)]


def ties(log, sessions):
    pairs = pairs_of(sessions)
    return {"tied": sum(a["time"] == b["time"] for a, b in pairs) / len(pairs)} if pairs else {}


def repeats(log, sessions):
    pairs, targets, seen = pairs_of(sessions), Counter(), Counter()
    if not pairs:
        return {}
    for session in sessions:
        before = set()
        for row in session:
            if row["split"] == "test":
                targets[row["behaviour"]] += 1
                seen[row["behaviour"]] += row["item"] in before
            before.add(row["item"])
    return {
        "targets": seen.total() / targets.total(),
        "immediate": sum(a["item"] == b["item"] for a, b in pairs) / len(pairs),
    } | {f"targets_{name}": seen[name] / n for name, n in targets.items()}


def duplicates(log, sessions):
    different = {
        (row["session"], row["time"], row["item"], row["behaviour"])
        for session in sessions
        for row in session
    }
    return {"duplicates": (len(log) - len(different)) / len(log)}


def support(log, sessions):
    counter = Counter(row["item"] for row in of_split(sessions, "train"))
    counts = sorted(counter[row["item"]] for row in of_split(sessions, "test"))
    return {
        "rare_targets": sum(count < 5 for count in counts) / len(counts),
        "median": counts[math.ceil(len(counts) / 2) - 1],
    }


def unseen(log, sessions):
    seen = {row["item"] for row in of_split(sessions, "train")}
    tests = of_split(sessions, "test")
    return {"unseen": sum(row["item"] not in seen for row in tests) / len(tests)}


def histories(log, sessions):
    empty = targets = 0
    for session in sessions:
        history = 0
        for row in session:
            if row["split"] == "test":
                targets += 1
                empty += history == 0
            history += row["in_state"]
    return {"empty": empty / targets}


def leakage(log, sessions):
    if log.manifest.time == "order":
        return {}
    last = max(row["time"] for row in of_split(sessions, "train"))
    tests = of_split(sessions, "test")
    early = {"before_last_training": sum(row["time"] <= last for row in tests) / len(tests)}
    targets = tests + of_split(sessions, "validation")
    if last < min(row["time"] for row in targets):
        return early
    times = sorted(row["time"] for session in sessions for row in session)
    later = times[int(0.9 * len(times))]
    return early | {"before_temporal_test": sum(r["time"] < later for r in tests) / len(tests)}


def compared(log, sessions):
    """The items of recent training events and those of the test."""
    rows, tests = of_split(sessions, "train"), of_split(sessions, "test")
    if leakage(log, sessions) == {"before_last_training": 0.0}:
        rows.sort(key=lambda row: row["time"])
        first = rows[max(len(rows) - len(tests), 0)]["time"]
        rows = [row for row in rows if row["time"] >= first]
    return [row["item"] for row in rows], [row["item"] for row in tests]


def distance(one, other):
    a, b = Counter(one), Counter(other)
    return sum(abs(a[i] / len(one) - b[i] / len(other)) for i in a.keys() | b.keys()) / 2


def drift(log, sessions):
    return {"distance": distance(*compared(log, sessions))}


RECOUNTS = [
    reward, ends, horizon, popularity, index, propensities, ties, repeats, duplicates,
    support, unseen, histories, leakage, drift,
]  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_every_number_equals_a_slow_recount(made, name):
    recounted(made(name))


@pytest.mark.parametrize("name", REAL)
def test_every_number_of_real_data_equals_a_slow_recount(samples, name, tmp_path):
    recounted(real(name, samples, tmp_path / "log"))


def recounted(log):
    sessions, findings = rows_of(log), found(log)
    assert list(findings) == [recount.__name__ for recount in RECOUNTS]
    for recount in RECOUNTS:
        stated, expected = findings[recount.__name__].values, recount(log, sessions)
        left_out = {"by_chance"} | ({"gini"} if log.n_items >= 400 else set())
        assert stated.keys() - left_out == expected.keys(), recount.__name__
        for key, value in expected.items():
            assert stated[key] == pytest.approx(value, rel=1e-6, abs=1e-8), (recount, key)


@pytest.mark.parametrize("name", MADE)
def test_a_finding_is_a_number_and_a_sentence(made, name):
    for finding in diagnose(made(name)):
        assert finding.sentence[0].isdigit(), "the number comes first"
        assert finding.sentence.endswith(".") and "  " not in finding.sentence
        assert finding.level in ("fine", "note", "warning")
        assert all(math.isfinite(value) for value in finding.values.values())
        assert all(type(value) in (float, int) for value in finding.values.values())
        json.dumps(finding.values)


@pytest.mark.parametrize("name", ["histories", "visits", "valued"])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_size_of_blocks_changes_nothing(made, name, rows, monkeypatch):
    expected = diagnose(made(name))
    monkeypatch.setattr(module, "_BLOCK", rows)
    for a, b in zip(diagnose(made(name)), expected, strict=True):
        assert a.values == pytest.approx(b.values) and a.sentence == b.sentence


def test_the_counts_of_the_manifest_agree(made):
    for name in ("histories", "last out", "visits"):
        log, findings = made(name), found(made(name))
        counts = log.manifest.counts
        share = counts["unseen"]["test"] / counts["splits"]["test"]
        assert findings["unseen"].values["unseen"] == share


def test_chance_is_the_distance_of_shuffled_events(made):
    log = made("histories")
    one, other = compared(log, rows_of(log))
    pooled, shuffled = one + other, random.Random(0)
    distances = []
    for _ in range(30):
        shuffled.shuffle(pooled)
        distances.append(distance(pooled[: len(one)], pooled[len(one) :]))
    stated = found(log)["drift"]
    assert stated.values["by_chance"] == pytest.approx(sum(distances) / 30, abs=0.02)
    assert stated.level == "note", "later events favour later items"
    assert diagnose(log)[-1] == diagnose(log)[-1]


def test_drawing_from_one_popularity_is_no_drift(tmp_path):
    rng = np.random.default_rng(0)
    events = {
        "user": rng.integers(200, size=20_000),
        "item": rng.zipf(1.5, 20_000) % 50,
        "time": rng.permutation(20_000) * DAY,
        "behaviour": np.zeros(20_000, np.int64),
    }
    drifting = found(build(tmp_path / "log", events))["drift"]
    assert drifting.level == "fine"
    assert drifting.values["distance"] == pytest.approx(drifting.values["by_chance"], abs=0.03)


def test_a_constant_reward_is_a_warning(made):
    finding = found(made("constant"))["reward"]
    assert finding.level == "warning"
    assert "TD learning can only learn popularity of continuation" in finding.sentence
    assert "Choose --rewards" in finding.sentence


def test_a_reward_of_the_session_is_a_note(tmp_path):
    rng = np.random.default_rng(0)
    events = invented(8) | {"value": 0.01 * rng.random(918)}
    events["value"] += events["user"] % 2
    finding = found(build(tmp_path / "log", events, rewards="value"))["reward"]
    assert finding.level == "note" and finding.values["within_sessions"] < 0.01


def test_a_log_of_single_rows_is_a_bandit(made):
    findings = found(made("impressions"))
    assert findings["horizon"].level == "warning" and "bandit" in findings["horizon"].sentence
    assert findings["histories"].values == {"empty": 1.0}
    assert findings["ends"].level == "fine"


def test_ends_declared_by_the_protocol_are_named(made):
    finding = found(made("random"))["ends"]
    assert finding.values == {"truncated": 0.0, "cut_by_split": 0.0}
    assert finding.level == "note" and "declares every end" in finding.sentence


def test_only_a_split_in_time_keeps_the_future_out(made):
    for name in ("histories", "visits", "positive", "impressions", "demo"):
        assert found(made(name))["leakage"].level == "fine"
    for name in ("random", "last out"):
        finding = found(made(name))["leakage"]
        assert finding.level == "warning" and finding.values["before_last_training"] > 0.5
    finding = found(made("ordered"))["leakage"]
    assert finding.level == "note" and "non-temporal" in finding.sentence


def test_an_index_of_all_events_is_found(made):
    assert found(made("random"))["index"].level == "warning"
    assert found(made("histories"))["index"].level == "fine"


def test_ties_of_the_raw_file_are_a_warning(tmp_path):
    events = invented(9, ties=100_000) | {"row": np.arange(918)}
    finding = found(build(tmp_path / "log", events, ties="row"))["ties"]
    assert finding.level == "warning" and "--ties hash" in finding.sentence


def test_copies_are_counted_one_by_one(tmp_path):
    events = {
        "user": [0, 0, 0, 0, 0, 0, 1],
        "item": [5, 5, 5, 5, 6, 5, 5],
        "time": [1, 1, 1, 1, 1, 2, 1],
        "behaviour": [0, 0, 0, 1, 0, 0, 0],
    }
    finding = found(build(tmp_path / "log", events, split="random-session", cuts=(0.6, 0.9)))
    assert finding["duplicates"].values == {"duplicates": 2 / 7}
    assert finding["duplicates"].level == "warning"


def test_clicks_without_return_look_de_duplicated(tmp_path):
    events = invented(1)
    once = {(u, i): k for k, (u, i) in enumerate(zip(events["user"], events["item"], strict=True))}
    kept = sorted(once.values())
    findings = found(build(tmp_path / "log", {n: v[kept] for n, v in events.items()}))
    assert findings["repeats"].level == "warning"
    assert "de-duplicated" in findings["repeats"].sentence


@pytest.mark.parametrize(
    ("lowest", "doubtful"), [(1 / 20, False), (0.0, True), (1 / 200, True), (math.nan, True)]
)
def test_propensities_that_cannot_be_true_are_a_warning(tmp_path, lowest, doubtful):
    rng = np.random.default_rng(0)
    events = {
        "user": np.arange(2000),
        "item": np.arange(2000) % 20,
        "time": rng.permutation(2000) * DAY,
        "behaviour": np.arange(2000) % 3,
        "propensity": np.where(np.arange(2000) % 20 == 0, lowest, 1 / 20),
    }
    finding = found(build(tmp_path / "log", events, user="impression"))["propensities"]
    assert (finding.level == "warning") == doubtful
    assert ("check these" in finding.sentence) == doubtful


def rewritten(log, path, splits):
    """The same log with other splits."""
    columns = {
        name: getattr(log, name)
        for name in ("items", "behaviours", "rewards", "timestamps", "in_state", "offsets")
    }
    columns |= {"terminated": log.terminated, "users": log.users, "catalogue": log.catalogue}
    return write_log(path, log.manifest, columns | {"splits": splits})


def test_a_log_without_targets_says_so(made, tmp_path):
    log = rewritten(made("histories"), tmp_path / "log", np.zeros(918, np.uint8))
    last = diagnose(log)[-1]
    assert last.name == "targets" and last.level == "warning" and last.values == {"rows": 0.0}


def test_a_log_without_training_rows_says_only_that(made, tmp_path):
    log = rewritten(made("histories"), tmp_path / "log", np.full(918, 2, np.uint8))
    assert [finding.name for finding in diagnose(log)] == ["training"]
