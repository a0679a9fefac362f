"""The shops that are made: all goals can be reached, none is given away, and nothing changes."""

import hashlib
import json
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from recgym.errors import InvalidArgument
from recgym.shop.analysis import analysed
from recgym.shop.generated import GOALS, generated, minishop, minishop_b
from recgym.shop.goals import split_goals, synthetic_goals
from recgym.shop.reward import Judge, options_of, own_rewards
from recgym.shop.search import Index, text_of

SHOPS = {"minishop": minishop, "minishop-b": minishop_b}


@pytest.fixture(scope="module", params=SHOPS)
def shop(request):
    return SHOPS[request.param]()


@pytest.fixture(scope="module")
def goals(shop):
    return synthetic_goals(shop)


@pytest.fixture(scope="module")
def judge():
    return Judge("rule-1")


@pytest.fixture(scope="module")
def index(shop, tmp_path_factory):
    return Index.build(shop, tmp_path_factory.mktemp(shop.name) / "index")


# ------------------------------------------------------------------------------ goals are reachable


def test_there_are_1500_goals_and_each_pays_for_its_own_product(shop, goals, judge):
    assert len(goals) == GOALS == 1500
    assert {reward.total for reward in own_rewards(judge, shop, goals)} == {1.0}


def test_own_options_are_those_that_a_goal_names(shop, goals, judge):
    for goal in goals:
        product = shop.products[goal.product]
        assert dict(goal.options) == options_of(product, goal)
        assert all(value in product.options[group] for group, value in goal.options)
        assert judge.reward(product, dict(goal.options), goal).is_success


def test_each_product_is_found_by_its_name(shop, index):
    for number, product in enumerate(shop.products):
        assert number in index.search(product.name)


def test_goals_are_found_in_their_own_words_but_seldom_first(shop, goals, index):
    places = []
    for goal in goals:
        found = index.search(goal.text).tolist()
        places.append(found.index(goal.product) if goal.product in found else 50)
    places = np.array(places)
    assert np.mean(places < 50) >= 0.99
    assert 0.4 < np.mean(places == 0) < 0.65


def test_no_wrong_option_pays_in_full(shop, goals, judge):
    """In WebShop's own catalogue 17% do: there 'large' is as good as 'x-large'."""
    for goal in goals:
        product, right = shop.products[goal.product], dict(goal.options)
        for group, value in goal.options:
            without = {name: right[name] for name in right if name != group}
            assert not judge.reward(product, without, goal).is_success
            for other in product.options[group]:
                if other != value:
                    assert not judge.reward(product, right | {group: other}, goal).is_success


def test_few_products_are_as_good_as_the_one_that_is_meant(shop, goals, judge):
    others = defaultdict(list)
    for number, product in enumerate(shop.products):
        others[product.query].append(number)
    as_good = 0
    for goal in goals:
        for number in others[goal.query]:
            product = shop.products[number]
            if (
                number != goal.product
                and judge.reward(product, options_of(product, goal), goal).is_success
            ):
                as_good += 1
                break
    assert 0 < as_good < 0.15 * len(goals)


def test_goals_split_without_a_text_in_two_splits(goals):
    splits = split_goals(goals)
    assert {split: len(numbers) for split, numbers in splits.items()} == {
        "train": 1200, "validation": 150, "test": 150,
    }  # fmt: skip


# ------------------------------------------------------------------------------- what is in a shop


def test_products_are_as_manifold_as_those_of_a_real_shop(shop):
    products = shop.products
    assert 480 <= len(products) <= 520
    assert len({product.asin for product in products}) == len(products)
    assert all(len(p.asin) == 10 and p.asin == p.asin.upper() for p in products)
    assert [shop.number(product.asin) for product in products] == list(range(len(products)))
    assert {len(product.bullets) for product in products} == {3, 4, 5}
    assert {len(product.path) for product in products} == {3}
    groups, prices = (Counter(map(len, some)) for some in
                      ([p.options for p in products], [p.prices for p in products]))  # fmt: skip
    assert all(share > 0.05 * len(products) for share in groups.values()) and set(groups) == {
        0,
        1,
        2,
    }
    assert all(share > 0.05 * len(products) for share in prices.values()) and set(prices) == {
        0,
        1,
        2,
    }
    for product in products:
        low, high = (min(product.prices), max(product.prices)) if product.prices else (100, 100)
        assert low <= product.price <= high
        assert all(len(set(values)) == len(values) >= 2 for values in product.options.values())
        assert all(v == v.strip().lower() for values in product.options.values() for v in values)
        assert len(set(product.attributes)) == 4
        assert set(product.instruction_attributes) <= set(product.attributes)


def test_instructions_name_their_attributes_and_some_products_have_none(shop):
    asked = [product for product in shop.products if product.instruction]
    assert 0.6 * len(shop.products) < len(asked) < 0.9 * len(shop.products)
    for product in asked:
        assert product.instruction_attributes and product.query in product.instruction
        assert all(each in product.instruction for each in product.instruction_attributes)
        assert "  " not in product.instruction and not product.instruction.endswith((" ", "."))
    silent = [p for p in shop.products if not p.instruction]
    assert not any(product.instruction_attributes for product in silent)


def test_some_attributes_are_in_no_text(shop):
    def told(product):
        return " ".join((product.name, product.description, *product.bullets)).lower()

    hidden = [[each for each in product.attributes if each not in told(product)]
              for product in shop.products]  # fmt: skip
    assert {len(some) for some in hidden} == {0, 1}
    assert 0.08 < np.mean([len(some) for some in hidden]) < 0.17


def test_families_differ_in_one_attribute_or_in_options_only(shop):
    """Four products of a maker's series: two have the same attributes, two another one each."""
    families = defaultdict(list)
    for product in shop.products:
        series = product.description.split(f" {product.query}")[0]
        families[product.query, series].append(product)
    assert {len(family) for family in families.values()} == {4}
    for family in families.values():
        sets = [frozenset(product.attributes) for product in family]
        (usual, twice), *others = Counter(sets).most_common()
        assert twice == 2 and len(others) == 2
        assert all(len(usual - other) == 1 for other, _ in others)
        one, other = (p for p in family if frozenset(p.attributes) == usual)
        assert (one.options, one.price) != (other.options, other.price)


def test_neighbours_are_of_no_family(shop):
    queries = [product.query for product in shop.products]
    assert np.mean([a == b for a, b in zip(queries, queries[1:], strict=False)]) < 0.06


def test_the_shops_have_no_word_of_a_name_in_common():
    first, second = ({term for p in shop().products for term in analysed(p.name)}
                     for shop in SHOPS.values())  # fmt: skip
    assert len(first) > 250 and len(second) > 250
    assert not first & second


def test_the_shops_ask_for_nothing_in_common():
    first, second = ({(group, value) for p in shop().products for group, values in p.options.items()
                      for value in values} | {("", each) for p in shop().products
                      for each in p.attributes} for shop in SHOPS.values())  # fmt: skip
    assert not first & second


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("minishop", "8c0c8c93d5b243d9cef4dd5b72d569e479cd14428181410ec0e7dda33c5ae446"),
        ("minishop-b", "330f2a95cb2706f939e9be881c0bea5a218fceae3791e5f251d32e221df6598d"),
    ],
)
def test_the_shops_never_change(name, digest):
    """Ids of environments are frozen: other products are another version of them."""
    known = [
        (p.asin, p.name, p.description, p.bullets, p.category, p.query, p.path, dict(p.options),
         p.prices, p.price, p.attributes, p.instruction, p.instruction_attributes)
        for p in SHOPS[name]().products
    ]  # fmt: skip
    text = json.dumps(known, ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == digest


# --------------------------------------------------------------------------------- one of any size


def test_products_are_made_when_asked_for_and_always_the_same():
    few, many = generated(10), generated(10**8)
    assert len(few.products) == 10 and len(many.products) == 10**8
    assert few.products[3] == few.products[3] == many.products[3]
    assert few.products[-1] == few.products[9] == list(few.products)[9]
    assert few.products[2:4] == [few.products[2], few.products[3]]
    assert generated(10, seed=1).products[3] != few.products[3]
    assert len({generated(10).sha256, generated(11).sha256, generated(10, 1).sha256}) == 3
    with pytest.raises(IndexError):
        few.products[10]


def test_a_made_catalogue_knows_the_number_of_an_asin():
    shop = generated(1000)
    assert [shop.number(shop.products[at].asin) for at in (0, 7, 999)] == [0, 7, 999]
    for asin in ("", "G", "G000001000", "X000000001", "G00000001", "G0000000010", "G00000000²"):
        assert shop.number(asin) == -1
    assert list(generated(2).numbers) == ["G000000000", "G000000001"]
    assert len(shop.numbers) == 1000


def test_words_are_as_frequent_as_in_real_shops():
    """The r-th of 300,000 words is drawn with a chance of log((r + 1) / r) / log(300,000)."""
    shop = generated(3000)
    texts = [analysed(text_of(product)) for product in shop.products]
    assert 70 < np.mean([len(text) for text in texts]) < 130  # 99 in WebShop's thousand products
    seen = Counter(term for text in texts for term in set(text))
    drawn = np.arange(30, 90) + 1  # words of a description, as many of each number, and a maker
    for rank, word in ((1, "baban"), (2, "libar"), (4, "kebat"), (11, "pabal")):
        chance = math.log((rank + 1) / rank) / math.log(300_000)
        share = np.mean(1 - (1 - chance) ** drawn)
        assert seen[word] / len(texts) == pytest.approx(share, abs=0.03)
    assert sum(times == 1 for times in seen.values()) > 0.5 * len(seen) > 10_000


def test_goals_of_a_made_shop_pay_for_their_own_products(judge):
    shop = generated(200)
    goals = synthetic_goals(shop)
    assert len(goals) > 200
    assert {reward.total for reward in own_rewards(judge, shop, goals)} == {1.0}


@pytest.mark.parametrize("count", [0, -1, 10**8 + 1])
def test_a_shop_of_no_or_too_many_products_is_refused(count):
    with pytest.raises(InvalidArgument, match="from 1 to 100,000,000"):
        generated(count)
