"""Shoppers that need not learn, in a real shop and by hand-made pages."""

import json
from collections import Counter

import gymnasium
import numpy as np
import pytest

import recgym
from recgym.agents.shoppers import ShopRandom, ShopRule
from recgym.demonstrations import demonstrate
from recgym.errors import InvalidArgument
from tests.sentences import said

SHOPPERS = (ShopRule, ShopRandom)
RESULTS = ["click[back to search]", "click[next >]", "click[< prev]", "click[b01]", "click[b02]"]
ITEM = ["click[back to search]", "click[< prev]", "click[reviews]", "click[buy now]", "click[red]"]
GOAL = "I want a Red lamp, and price lower than 30.00 dollars"


def infos(page, actions, count=1):
    told = {
        "goal": [GOAL] * count,
        "page": [page] * count,
        "actions": [json.dumps(actions)] * count,
    }
    return {key: np.array(values, object) for key, values in told.items()}


@pytest.mark.parametrize(
    ("page", "actions", "wanted"),
    [
        (
            "search",
            ["search[<query>]"],
            "search[i want a red lamp, and price lower than 30.00 dollars]",
        ),
        ("results", RESULTS, "click[b01]"),
        ("results", RESULTS[:1], "click[back to search]"),
        ("item", ITEM, "click[buy now]"),
        ("sub", ["click[back to search]", "click[< prev]"], "click[< prev]"),
    ],
)
def test_the_rule_searches_and_buys_the_first_product(page, actions, wanted):
    assert ShopRule().act(["a page"], infos(page, actions)).tolist() == [wanted]


def test_random_does_anything_evenly():
    given = ShopRandom().act(["a page"] * 5000, infos("item", ITEM, 5000))
    counts = Counter(given)
    assert set(counts) == set(ITEM) and min(counts.values()) > 900
    search = ShopRandom().act(["a page"], infos("search", ["search[<query>]"]))
    assert search.tolist() == ["search[i want a red lamp]"]


def test_a_seed_decides_what_random_does():
    pages = ["a page"] * 50
    one, same, other = (ShopRandom(seed) for seed in (1, 1, 2))
    asked = infos("item", ITEM, 50)
    first = one.act(pages, asked)
    assert (first == same.act(pages, asked)).all()
    assert (first != other.act(pages, asked)).any()
    assert (first != one.act(pages, asked)).any()  # nor does it do the same again and again


@pytest.mark.parametrize("agent", SHOPPERS)
def test_what_was_saved_shops_alike(agent, tmp_path):
    shopper = agent(3) if agent is ShopRandom else agent()
    shopper.save(tmp_path)
    again, asked = agent.load(tmp_path), infos("item", ITEM, 20)
    assert (again.act(["a page"] * 20, asked) == shopper.act(["a page"] * 20, asked)).all()
    for damage in ("{}", "[]", "no", json.dumps({"options": {"sed": 1}})):
        (tmp_path / "agent.json").write_text(damage)
        with pytest.raises(InvalidArgument, match="can be read") as problem:
            agent.load(tmp_path)
        said(problem)


@pytest.mark.parametrize("agent", SHOPPERS)
def test_they_shop_and_nothing_else(agent):
    data = demonstrate("recgym/MiniShop-v0", "rule", sessions=3)
    shopper = agent().fit(data)
    with gymnasium.make("recgym/MiniShop-v0") as env:
        text, info = env.reset(seed=0)
        for _ in range(100):
            one = {key: np.array([value], object) for key, value in info.items()}
            text, _, over, _, info = env.step(shopper.act([text], one)[0])
            assert not info["invalid"]
            if over:
                break
    assert over
    users = recgym.collect("recgym/OracleStatic-v0", "random", sessions=3, name="users")
    with pytest.raises(InvalidArgument, match="data of a shop") as problem:
        agent().fit(users)
    said(problem)
    with pytest.raises(InvalidArgument, match="no 'goal'") as problem:
        agent().act(np.zeros((2, 5)), {})
    said(problem)
