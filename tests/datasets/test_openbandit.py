"""Open Bandit, against the raw files of both logging policies.

Form: https://github.com/st-tech/zr-obp/blob/master/obd/README.md, a folder per policy and campaign
with <campaign>.csv and item_context.csv.
"""

import csv
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recgym.datasets.openbandit import Source

POLICIES = ("random", "bts")


@pytest.fixture(scope="module", params=POLICIES)
def policy(request):
    return request.param


@pytest.fixture(scope="module")
def raw(samples):
    return samples / "open-bandit"


@pytest.fixture(scope="module")
def shown(raw, policy):
    with (raw / policy / "men" / "men.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def log(build, raw, policy):
    return build(Source(policy=policy, campaign="men"), raw)


@pytest.fixture(scope="module")
def order(log):
    """The raw row of every row of the log: each impression is its own user."""
    return [int(user) for user in log.users.to_pylist()]


def micros(text):
    moment = datetime.fromisoformat(text)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_every_impression_is_a_session_that_ends(log, shown, order):
    assert log.manifest.counts["rows"] == log.n_sessions == len(shown) == 10_000
    assert sorted(order) == list(range(10_000))
    assert log.terminated.all()
    assert not log.depths.any()


def test_the_card_shows_this_log(log, committed, policy):
    assert log.manifest.digest == committed(f"openbandit--men-{policy}")


def test_item_place_time_answer_and_propensity_are_those_of_the_raw_row(log, shown, order):
    raw_ids = log.catalogue.column("raw_id").to_pylist()
    rows = [shown[row] for row in order]
    assert [raw_ids[item] for item in log.items] == [row["item_id"] for row in rows]
    assert log.slots.tolist() == [int(row["position"]) for row in rows]
    assert log.timestamps.tolist() == [micros(row["timestamp"]) for row in rows]
    assert log.rewards.tolist() == [float(row["click"]) for row in rows]
    expected = np.array([float(row["propensity_score"]) for row in rows], np.float32)
    np.testing.assert_array_equal(log.propensities, expected)


def test_skips_and_clicks_are_counted(log, shown):
    clicks = Counter(row["click"] for row in shown)
    assert log.manifest.counts["behaviours"] == {"skip": clicks["0"], "click": clicks["1"]}
    assert log.manifest.counts["items"] == len({row["item_id"] for row in shown})


def test_splits_cut_at_the_quantiles_of_time(log, shown):
    times = sorted(micros(row["timestamp"]) for row in shown)
    assert log.manifest.cuts == [times[8_000], times[9_000]]
    train, test = log.timestamps[log.rows("train")], log.timestamps[log.rows("test")]
    assert train.max() < times[8_000]
    assert test.min() == times[9_000]


def test_uniform_propensities_are_one_in_thirty_four(log, policy):
    uniform = np.unique(log.propensities)
    assert (policy == "random") == (len(uniform) == 1)
    if policy == "random":
        assert uniform[0] == np.float32(1 / 34)


def test_topics_are_the_hashed_features_of_the_item(log, raw, policy):
    with (raw / policy / "men" / "item_context.csv").open(newline="") as lines:
        context = {row["item_id"]: row for row in csv.DictReader(lines)}
    for item in log.catalogue.to_pylist():
        row = context[item["raw_id"]]
        assert item["topics"] == [row[f"item_feature_{number}"] for number in (1, 2, 3)]
