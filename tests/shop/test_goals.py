"""Goals: as WebShop derives them, their price limits, splits without a common text, on disk."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import product as combinations_of

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgym.errors import BadDataset, BadRawData, InvalidArgument
from recgym.shop.catalogue import Product, catalogue_of, read_webshop
from recgym.shop.goals import (
    NO_LIMIT,
    SHARES,
    Goal,
    human_goals,
    read_goals,
    split_goals,
    synthetic_goals,
    without_price,
    write_goals,
)

from ..sentences import said


def a_product(asin, price=15.0, options=None, wants=("soft", "warm"), text="Find me soft socks"):
    return Product(
        asin=asin, name=f"Socks {asin}", description="", bullets=(), category="fashion",
        query="socks", path=("Clothing", "Socks"), options=options or {}, prices=(price,),
        price=price, attributes=("soft",), instruction=text, instruction_attributes=wants,
    )  # fmt: skip


SHOP = catalogue_of(
    "socks",
    [
        a_product("A1", options={"size": ("s", "m"), "color": ("red", "blue", "red")}),
        a_product("A2", wants=("soft",)),
        a_product("A3", text=""),  # no instruction
        a_product("A4", wants=()),  # an instruction that asks for nothing
        a_product("A5", price=2000.0),
    ],
)


@pytest.fixture(scope="module")
def official(samples):
    return read_webshop(samples / "webshop-1k")


# ------------------------------------------------------------------------------------ derived goals


def test_each_combination_of_options_is_a_goal():
    goals = synthetic_goals(SHOP)
    assert Counter(goal.product for goal in goals) == {0: 6, 1: 1, 4: 1}
    first = goals[0]
    assert re.fullmatch(
        r"Find me soft socks with color: red, and size: s, and price lower than [2-5]0\.00 dollars",
        first.text,
    )
    assert first.options == (("color", "red"), ("size", "s"))  # by the names of groups
    assert (first.query, first.path, first.name, first.category, first.human) == (
        "socks", ("Clothing", "Socks"), "Socks A1", "fashion", False,
    )  # fmt: skip
    assert goals[-1].text == "Find me soft socks" and goals[-1].price_upper == NO_LIMIT


def test_a_goal_weighs_more_the_rarer_its_attributes():
    weights = {goal.product: goal.weight for goal in synthetic_goals(SHOP)}
    assert weights == {0: (1 / 8 + 1 / 7) / 2, 1: 1 / 8, 4: (1 / 8 + 1 / 7) / 2}


def test_the_official_products_give_the_goals_that_webshops_code_gives(samples, official):
    goals = synthetic_goals(official)
    assert len(goals) == 6910
    assert len({goal.product for goal in goals}) == 415
    assert sum(bool(goal.options) for goal in goals) == 6725
    assert {len({goal.text for goal in synthetic_goals(official, seed)}) for seed in range(5)} <= {
        *range(6867, 6901)
    }
    rows = json.loads((samples / "webshop-1k" / "items_shuffle_1000.json").read_text())
    about = json.loads((samples / "webshop-1k" / "items_ins_v2_1000.json").read_text())
    expected = []  # recounted from the files, without prices
    for row in rows:
        if "instruction" in about[row["asin"]]:
            groups = {
                group.lower(): [v["value"].strip().replace("/", " | ").lower() for v in values]
                for group, values in (row["customization_options"] or {}).items() if values
            }  # fmt: skip
            for values in combinations_of(*(groups[group] for group in sorted(groups))):
                named = ", and ".join(map(": ".join, zip(sorted(groups), values, strict=True)))
                instruction = about[row["asin"]]["instruction"]
                expected.append(instruction + (" with " + named if named else ""))
    clause = re.compile(r", and price lower than \d+\.00 dollars$")
    assert [clause.sub("", goal.text) for goal in goals] == expected
    times = Counter(attribute for goal in goals for attribute in goal.attributes)
    for goal in goals:
        mean = sum(1 / times[each] for each in goal.attributes) / len(goal.attributes)
        assert goal.weight == pytest.approx(mean)


# ------------------------------------------------------------------------------------- price limits


@given(st.floats(0, 1100), st.integers(0, 2**64))
def test_a_limit_is_one_of_the_next_four_tens_but_never_the_first(price, seed):
    goal = synthetic_goals(catalogue_of("one", [a_product("A", price=price)]), seed)[0]
    above = [ten for ten in range(10, 1000, 10) if ten > price]
    if len(above) < 2:
        assert goal.price_upper == NO_LIMIT and goal.text == "Find me soft socks"
    else:
        assert goal.price_upper in above[1:4]
        assert goal.text.endswith(f", and price lower than {goal.price_upper:.2f} dollars")


def test_of_two_tiers_that_are_drawn_the_higher_counts():
    products = [a_product(f"A{number}", price=15.0) for number in range(6000)]
    limits = Counter(goal.price_upper for goal in synthetic_goals(catalogue_of("many", products)))
    assert set(limits) == {30.0, 40.0, 50.0}
    for tier, share in zip((30.0, 40.0, 50.0), (1 / 6, 2 / 6, 3 / 6), strict=True):
        deviation = (share * (1 - share) / 6000) ** 0.5
        assert abs(limits[tier] / 6000 - share) < 4 * deviation
    near = catalogue_of("near", [a_product(f"A{number}", price=975.0) for number in range(50)])
    assert {goal.price_upper for goal in synthetic_goals(near)} == {990.0}


def test_all_goals_of_a_product_have_one_limit_which_the_seed_and_the_product_decide():
    alone = catalogue_of("alone", [SHOP.products[0]])
    assert [goal.price_upper for goal in synthetic_goals(alone)] == [
        goal.price_upper for goal in synthetic_goals(SHOP) if goal.product == 0
    ]
    assert synthetic_goals(SHOP) == synthetic_goals(SHOP, 233)
    seeds = {synthetic_goals(SHOP, seed)[0].price_upper for seed in range(40)}
    assert seeds == {30.0, 40.0, 50.0}
    assert all(
        len({goal.price_upper for goal in synthetic_goals(SHOP, seed) if goal.product == 0}) == 1
        for seed in range(10)
    )


def test_limits_are_the_same_on_every_machine():
    products = [a_product(f"A{number}") for number in range(12)]
    limits = [goal.price_upper for goal in synthetic_goals(catalogue_of("fixed", products))]
    assert limits == [50, 30, 40, 30, 50, 30, 40, 50, 50, 50, 40, 40]


# ----------------------------------------------------------------------------------- people's goals


def entry(text="i need socks.", attributes=("soft",), options=("red", "XL"), **others):
    return {
        "asin": "A1", "instruction": text, "attributes": ["soft", "warm"],
        "options": ["color: red"], "instruction_attributes": list(attributes),
        "instruction_options": list(options), "assignment_id": "x", "worker_id": "y",
    } | others  # fmt: skip


def people(folder, content):
    file = folder / "items_human_ins.json"
    file.write_text(json.dumps(content))
    return file


def test_peoples_goals_are_read_in_the_order_of_products(tmp_path):
    file = people(tmp_path, {
        "A5": [entry("the dear ones")],
        "A1": [entry(), entry("nothing asked", attributes=()), entry("..plain..", options=())],
        "B9": [entry("of another catalogue")],
    })  # fmt: skip
    goals = human_goals(SHOP, file)
    assert [goal.product for goal in goals] == [0, 0, 4]
    assert goals[0].text.startswith("i need socks, and price lower than ")
    assert goals[1].text.startswith("plain, and price lower than ")
    assert goals[2].text == "the dear ones" and goals[2].price_upper == NO_LIMIT
    assert goals[0].options == (("", "red"), ("", "XL")) and goals[1].options == ()
    assert all(goal.human and goal.weight == 1 for goal in goals)
    assert human_goals(SHOP, file) == goals


def test_limits_of_peoples_goals_are_drawn_for_each_instruction(tmp_path):
    goals = human_goals(SHOP, people(tmp_path, {"A1": [entry(f"no {n}") for n in range(40)]}))
    assert {goal.price_upper for goal in goals} == {30.0, 40.0, 50.0}


@pytest.mark.parametrize(
    "content",
    [{}, [], {"B9": [entry()]}, {"A1": None}, {"A1": [None, 3, {}, entry(attributes=())]}, "A1"],
)
def test_a_file_without_goals_for_the_catalogue_is_one_sentence(tmp_path, content):
    with pytest.raises(BadRawData) as problem:
        human_goals(SHOP, people(tmp_path, content))
    said(problem)


def test_a_cut_file_of_goals_is_one_sentence(tmp_path):
    file = people(tmp_path, {"A1": [entry()]})
    file.write_text(file.read_text()[:-9])
    with pytest.raises(BadRawData, match="was cut") as problem:
        human_goals(SHOP, file)
    said(problem)
    with pytest.raises(BadRawData, match="No such file"):
        human_goals(SHOP, tmp_path / "none.json")


# ------------------------------------------------------------------------------------------- splits

TEXTS = st.sampled_from(["Find me a hat", "find me  a HAT ", "a b", "c", "d", "e f g", "h", "i"])
CLAUSES = st.sampled_from(["", ", and price lower than 20.00 dollars",
                           ", and price lower than 990.00 dollars"])  # fmt: skip


def goals_of(texts):
    return [Goal(text, 0, ("soft",), (), 20.0, "", (), "", "") for text in texts]


def bare(text):
    return " ".join(text.split(", and price")[0].lower().split())


@given(st.lists(st.tuples(TEXTS, CLAUSES)))
def test_every_goal_is_in_one_split_and_no_text_in_two(parts):
    texts = ["".join(part) for part in parts]
    splits = split_goals(goals_of(texts))
    assert sorted(sum(splits.values(), [])) == list(range(len(texts)))
    assert all(numbers == sorted(numbers) for numbers in splits.values())
    of = {number: split for split, numbers in splits.items() for number in numbers}
    assert all(
        of[one] == of[other]
        for one in of for other in of if bare(texts[one]) == bare(texts[other])
    )  # fmt: skip
    backwards = split_goals(goals_of(texts[::-1]))
    last = len(texts) - 1
    assert {split: sorted(last - number for number in numbers)
            for split, numbers in backwards.items()} == splits  # fmt: skip


def test_splits_have_the_shares_that_are_stated(official):
    goals = synthetic_goals(official)
    splits = split_goals(goals)
    for split, share in SHARES.items():
        assert abs(len(splits[split]) - share * len(goals)) < 20
    texts = [{bare(goals[number].text) for number in numbers} for numbers in splits.values()]
    assert sum(map(len, texts)) == len(set.union(*texts))
    other = split_goals(goals, {"train": 0.5, "validation": 0, "test": 0.5})
    assert not other["validation"] and abs(len(other["test"]) - 3455) < 20


@pytest.mark.parametrize(
    "shares",
    [{"train": 1}, {"train": 0.5, "validation": 0.6, "test": -0.1}, dict.fromkeys(SHARES, 0.4)],
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(InvalidArgument, match="add up to 1") as problem:
        split_goals(goals_of(["a"]), shares)
    said(problem)


def test_the_price_clause_is_not_part_of_the_words():
    for goal in synthetic_goals(SHOP):
        assert without_price(goal.text) == re.sub(", and price lower.*", "", goal.text)
    assert without_price("x, and price lower than 5.00 dollars or so").endswith("or so")


# ------------------------------------------------------------------------------------------ on disk


def test_goals_come_back_as_they_were(tmp_path):
    goals = synthetic_goals(SHOP)
    goals += [
        replace(goals[0], human=True, options=(("", "é ☂"),), name="another", path=(), weight=0.1)
    ]
    write_goals(goals, tmp_path / "goals.json", SHOP)
    assert read_goals(tmp_path / "goals.json", SHOP) == goals
    assert [file.name for file in tmp_path.iterdir()] == ["goals.json"]


def test_official_goals_come_back_as_they_were(tmp_path, official):
    goals = synthetic_goals(official)
    write_goals(goals, tmp_path / "goals.json", official)
    assert read_goals(tmp_path / "goals.json", official) == goals


def test_goals_that_are_damaged_or_for_another_catalogue_are_refused(tmp_path):
    file = tmp_path / "goals.json"
    write_goals(synthetic_goals(SHOP), file, SHOP)
    whole = file.read_text()
    with pytest.raises(BadDataset, match="another catalogue") as problem:
        read_goals(file, catalogue_of("other", SHOP.products[:2]))
    said(problem)
    wrongs = {
        "cannot be read": whole[:-40],
        "were changed": whole.replace("soft socks", "hard socks"),
        "schema version": whole.replace('"schema":1', '"schema":2'),
        "schema version 1": "[]",
    }
    for words, text in wrongs.items():
        file.write_text(text)
        with pytest.raises(BadDataset, match=words) as problem:
            read_goals(file, SHOP)
        said(problem)
    file.unlink()
    with pytest.raises(BadDataset, match="No such file"):
        read_goals(file, SHOP)
