"""The made-up shop: the same every time, and as described."""

from itertools import pairwise

import numpy as np
import pytest

from recgym.datasets.demo import TOPICS, Source
from recgym.errors import InvalidArgument


@pytest.fixture(scope="module")
def log(build):
    return build(Source(), None)


def test_it_is_the_same_log_every_time(build, log):
    assert build(Source(), None).manifest.digest == log.manifest.digest


def test_the_card_shows_this_log(log, committed):
    assert log.manifest.digest == committed("demo")


def test_it_has_as_many_visits_as_asked(log, build):
    assert log.n_sessions == 2000
    small = build(Source(visits=50, items=24), None)
    assert small.n_sessions == 50
    assert small.manifest.counts["items"] <= 24


@pytest.mark.parametrize("options", [{"visits": 0}, {"visits": -5}, {"items": 0}])
def test_a_shop_without_visits_or_items_is_refused(build, options):
    with pytest.raises(InvalidArgument, match=f"{next(iter(options))} is a whole number from 1"):
        build(Source(**options), None)


def test_a_purchase_follows_its_click(log, rows_of):
    purchases = 0
    for rows in rows_of(log).values():
        assert rows[0].behaviour == "click"
        for before, row in pairwise(rows):
            if row.behaviour == "purchase":
                purchases += 1
                assert (before.item, before.behaviour) == (row.item, "click")
                assert row.time - before.time == 2_000_000
    assert purchases == log.manifest.counts["behaviours"]["purchase"] > 500


def test_visitors_follow_few_topics(log):
    topics = [item["topics"] for item in log.catalogue.to_pylist()]
    assert all(len(of_item) == 1 and of_item[0] in TOPICS for of_item in topics)
    codes = np.array([TOPICS.index(of_item[0]) for of_item in topics])[log.items]
    for first, last in pairwise(log.offsets.tolist()):
        assert len(set(codes[first:last])) <= 2


def test_titles_are_distinct_and_the_log_says_it_is_invented(log):
    titles = log.catalogue.column("title").to_pylist()
    assert len(set(titles)) == len(titles)
    assert any("invented" in note for note in log.manifest.notes)
