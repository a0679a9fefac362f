"""The reward: WebShop's own vectors, thefuzz's decisions, and a second writing of the rule."""

import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgym.shop.catalogue import Product, catalogue_of, read_webshop
from recgym.shop.goals import NO_LIMIT, Goal, human_goals, synthetic_goals
from recgym.shop.reward import (
    COLOURS,
    Judge,
    _alike,
    _form,
    _plain,
    options_of,
    out_of_reach,
    own_rewards,
)

SNEAKER = "Mens D.O.N. Issue 2 Gca Basketball Sneakers Shoes Casual - Off White"
CORD = "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar"
THEATER = (
    "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home "
    "Theater System"
)
SHAMPOO = "This shampoo has essential oils and smells like lemons"
MARKET = "Best shampoo on the market, made with natural ingredients"
ASKED = ("tea tree", "essential oils", "natural ingredients")
JUDGE = Judge("rule-1")


class Listed:
    """Nouns that are told, by name."""

    name = "listed"

    def __init__(self, **nouns):
        self.nouns = nouns

    def __call__(self, text):
        return self.nouns[text].split()


def bought(**others):
    about = dict(
        asin="B", name=SNEAKER, description="", bullets=(), category="", query="query 1",
        path=("a", "b", "c"), options={}, prices=(35.0,), price=35.0,
        attributes=("tea tree", "essential oil", "natural ingredients"),
    )  # fmt: skip
    return Product(**about | others)


def wanted(**others):
    about = dict(
        text="", product=0, attributes=ASKED, options=(("color", "grey"), ("size", "XL")),
        price_upper=40.0, query="query 1", path=("a", "b", "c"), name=SNEAKER, category="",
    )  # fmt: skip
    return Goal(**about | others)


CHOSEN = {"color": "grey", "size": "XL"}
VAGUE = bought(attributes=(), name="", bullets=tuple(SHAMPOO), description=MARKET)  # by the letter
THREE = (("color", "grey"), ("size", "XL"), ("amount", "pack of 12"))


# ----------------------------------------------------------------------- vectors of WebShop's tests


@pytest.mark.parametrize("compat", [False, True])
def test_webshops_vectors_of_the_whole_reward(compat):
    def total(product, goal):
        return JUDGE.reward(product, CHOSEN, goal, compat).total

    assert total(bought(), wanted()) == 1
    vague = replace(VAGUE, name=SNEAKER)
    assert total(vague, wanted()) == pytest.approx(4 / 6)
    assert total(vague, wanted(options=THREE)) == pytest.approx(4 / 7)
    other = replace(vague, name=THEATER, query="query 2", path=("a", "d", "e"))
    reward = JUDGE.reward(other, CHOSEN, wanted(options=THREE, name=CORD), compat)
    assert reward.total == pytest.approx(2 / 7)
    assert reward.type == 0.5 and 0.1 < reward.title_score < 0.2


@pytest.mark.parametrize(
    ("product", "found"),
    [
        (bought(), 3),
        (bought(name="", attributes=("essential oil", "natural ingredients")), 2),
        (bought(name="", attributes=(), bullets=(SHAMPOO,), description=MARKET), 2),
        (VAGUE, 1),
        (
            bought(
                attributes=("tea bag", "earl gray", "lipton"), name="English tea for breakfast",
                bullets=("Soothing aroma", "Calming, great feeling"),
                description="Best tea made by Lipton, great to pair with breakfast",
            ),
            0,
        ),
    ],
)  # fmt: skip
def test_webshops_vectors_of_attributes(product, found):
    assert JUDGE.reward(product, {}, wanted()).attributes == pytest.approx(found / 3)


@pytest.mark.parametrize(
    ("asked", "chosen", "share"),
    [
        (["grey", "XL", "pack of 12"], ["pack of 12", "grey", "XL"], 1),
        (["grey", "XL", "pack of 12"], ["pack of 12", "blue", "XL"], 2 / 3),
        (["cool powder snow", "XL", "pack of 12"], ["pack of 12", "powder snow", "XL"], 1),
        ([], ["goal 1", "goal 2"], None),
        (["goal 1", "goal 2"], [], 0),
    ],
)
@pytest.mark.parametrize("compat", [False, True])
def test_webshops_vectors_of_options(asked, chosen, share, compat):
    goal = wanted(options=tuple(("", value) for value in asked))
    reward = JUDGE.reward(bought(), {str(n): v for n, v in enumerate(chosen)}, goal, compat)
    assert reward.options == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("bca", "abc", True), ("def", "abc", False), ("abd", "abc", True), ("aab", "abc", True),
     ("aad", "abc", False), ("", "", False), ("adb", "abc", True)],
)  # fmt: skip
def test_webshops_vectors_of_categories(one, other, same):
    reward = JUDGE.reward(bought(path=tuple(one)), {}, wanted(path=tuple(other)))
    assert reward.same_category == same


@pytest.mark.parametrize(
    ("asked", "bought_nouns", "score", "kind"),
    [
        ("a b c", "a x y", 1 / 3, 1.0),  # the three that spaCy gives for WebShop's pairs of names
        ("a b c d e f g h i j", "c b a", 0.30, 1.0),
        ("a b c d e f g h i j k l m n o p q r s t", "a b c", 0.15, 0.5),
        ("a b c d e", "a", 0.2, 0.5),  # more than .2 is asked for
        ("a b c d e f g h i j", "a", 0.1, 0.5),  # less than .1 is punished
        ("a b c d e f g h i j k", "a", 1 / 11, 0.1),
        ("a b", "c", 0.0, 0.0),
        ("", "a", 0.2, 0.5),  # no nouns
        ("a a a b", "a b", 0.5, 1.0),  # the goal's nouns count as often as they are there
    ],
)
def test_the_share_of_common_nouns_decides_on_the_kind(asked, bought_nouns, score, kind):
    judge = Judge(Listed(asked=asked, bought=bought_nouns))
    product = bought(name="bought", query="another", path=())
    reward = judge.reward(product, CHOSEN, wanted(name="asked"))
    assert judge.nouns == "listed"
    assert reward.title_score == pytest.approx(score) and reward.type == kind
    reward = judge.reward(replace(product, query="query 1"), CHOSEN, wanted(name="asked"))
    assert reward.type == (kind if score < 0.1 else 1)  # the same query saves all but the worst


def test_names_by_our_rule():
    def score(one, other):
        return JUDGE.reward(bought(name=other), {}, wanted(name=one)).title_score

    assert score(SNEAKER, SNEAKER) == 1
    issue = "adidas Unisex-Adult D.o.n. Issue 2 "
    assert score(issue + "Basketball Shoe", issue + "Indoor Court Shoe") == pytest.approx(3 / 4)
    assert score(CORD + " Home Theater System Subwoofer", THEATER) == pytest.approx(5 / 15)
    assert score(CORD, THEATER) == pytest.approx(2 / 11)
    knob = "Rusticware 921ORB Kitchen and Bath Cabinet Knob"
    tweezers = (
        "Minkissy 2pcs Stainless Steel Eyebrow Tweezers Blackhead Acne Remover Portable Makeup "
        "Tweezers (Silver)"
    )
    assert score(knob, tweezers) == 0


def test_price():
    for upper, low in ((35.0, True), (34.99, False), (NO_LIMIT, True)):
        reward = JUDGE.reward(bought(), CHOSEN, wanted(price_upper=upper))
        assert reward.price == low and reward.total == pytest.approx((5 + low) / 6)
        assert reward.is_success == low


def test_a_goal_that_asks_for_nothing_is_judged_by_price():
    reward = JUDGE.reward(bought(), {}, wanted(attributes=(), options=()))
    assert (reward.total, reward.attributes, reward.options) == (1, None, None)


# ------------------------------------------------------------------------------ details of the rule


def test_attributes_are_looked_for_as_they_are_written():
    product = bought(attributes=(), name="", description="Made of SOFT wool")
    assert JUDGE.reward(product, {}, wanted(attributes=("soft wool",))).attributes == 1
    assert JUDGE.reward(product, {}, wanted(attributes=("Soft wool",))).attributes == 0


@pytest.mark.parametrize(
    ("value", "form"),
    [("fashion black", "ash"), ("black | white", "black"), ("r.brown2060", "brown"),
     ("Blue", "blue"), ("violet lavender", "lavender"), ("x-large", "x large")],
)  # fmt: skip
def test_the_first_colour_of_the_list_stands_for_a_value(value, form):
    assert _form(value) == form


def test_colours_are_looked_for_by_case():
    assert _form("BLACK and blue") == "blue"
    assert len(COLOURS) == len(set(COLOURS)) == 102 and list(COLOURS) == sorted(COLOURS)


def test_in_webshops_code_a_pair_is_compared():
    goal = wanted(attributes=(), options=(("color", "r.brown2060"),))
    chosen = {"color": "r.brown2060"}
    assert JUDGE.reward(bought(), chosen, goal).options == 1
    assert JUDGE.reward(bought(), chosen, goal, compat=True).options == 0
    goal = wanted(attributes=(), options=(("color", "brown"),))
    assert JUDGE.reward(bought(), chosen, goal, compat=True).options == 1
    people = wanted(attributes=(), options=(("", "r.brown2060"),))
    assert JUDGE.reward(bought(), chosen, people, compat=True).options == 1


# --------------------------------------------------------------------------------------- as thefuzz

SOME = "x-large large L'oréal ☂ black 12oz pack of of ü ÿ Ā 木 3.5 ' \0"
WORDS = st.sampled_from(SOME.split(" "))
TEXTS = st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=6).map(" ".join))


@given(TEXTS, TEXTS)
def test_texts_are_alike_where_thefuzz_says_so(one, other):
    fuzz = pytest.importorskip("thefuzz.fuzz")
    assert _alike(_plain(one), _plain(other)) == (fuzz.token_set_ratio(one, other) > 85)


def test_official_texts_are_alike_where_thefuzz_says_so(samples):
    fuzz = pytest.importorskip("thefuzz.fuzz")
    products = read_webshop(samples / "webshop-1k").products
    attributes = sorted({each for product in products for each in product.attributes})
    options = sorted({each for p in products for values in p.options.values() for each in values})
    rng, decided = random.Random(0), [0, 0]
    for texts in (attributes, options):
        for _ in range(20_000):
            first = rng.randrange(len(texts))
            one, other = texts[first], texts[(first + rng.randint(-8, 8)) % len(texts)]
            alike = fuzz.token_set_ratio(one, other) > 85
            assert _alike(_plain(one), _plain(other)) == alike, (one, other)
            decided[alike] += 1
    assert min(decided) > 2000


def rewritten(fuzz, product, chosen, goal, compat):
    """The rule, written once more with thefuzz, from its description."""

    def colour(value):
        return next((each for each in COLOURS if each in value), value)

    found = 0
    for each in goal.attributes:
        texts = [product.name, " ".join(product.bullets), product.description]
        found += any(fuzz.token_set_ratio(own, each) > 85 for own in product.attributes) or any(
            each in text.lower() for text in texts
        )
    asked = [(pair if compat and pair[0] else pair[1]) for pair in goal.options]
    for each in asked:
        found += any(
            fuzz.token_set_ratio(colour(value), colour(each)) > 85 for value in chosen.values()
        )
    found += product.price <= goal.price_upper
    nouns = JUDGE._find(goal.name)
    title = len({*nouns} & {*JUDGE._find(product.name)}) / len(nouns) if nouns else 0.2
    near = product.query == goal.query or len({*product.path} & {*goal.path}) > 1
    kind = 1 if near or title > 0.2 else 0.5
    kind = 0 if title == 0 else 0.1 if title < 0.1 else kind
    return kind * found / (len(goal.attributes) + len(asked) + 1)


@pytest.mark.parametrize("compat", [False, True])
def test_official_purchases_pay_what_the_rule_says_when_written_again(samples, compat):
    fuzz = pytest.importorskip("thefuzz.fuzz")
    catalogue = read_webshop(samples / "webshop-1k")
    goals, rng, kinds = synthetic_goals(catalogue), random.Random(1), set()
    by_query = {}
    for product in catalogue.products:
        by_query.setdefault(product.query, []).append(product)
    for turn in range(1500):
        goal = rng.choice(goals)
        product = rng.choice(by_query[goal.query] if turn % 2 else catalogue.products)
        chosen = {group: rng.choice(values) for group, values in product.options.items()}
        reward = JUDGE.reward(product, chosen, goal, compat)
        assert reward.total == pytest.approx(rewritten(fuzz, product, chosen, goal, compat))
        kinds.add(reward.type)
    assert kinds == {0, 0.1, 0.5, 1}


# ------------------------------------------------------------------------------ what can be reached


@pytest.fixture(scope="module")
def own(samples):
    """What own products pay: their price is always below its goal's limit, whatever was drawn."""
    catalogue = read_webshop(samples / "webshop-1k")
    goals = synthetic_goals(catalogue)
    return catalogue, goals, lambda compat: list(own_rewards(JUDGE, catalogue, goals, compat))


def test_every_official_goal_is_reached_by_its_own_product(own):
    catalogue, goals, rewards = own
    assert all(reward.is_success and reward.price for reward in rewards(False))
    assert out_of_reach(JUDGE, catalogue, goals) == []


def test_comparing_pairs_reproduces_webshops_numbers(own):
    catalogue, goals, rewards = own
    paid = rewards(True)
    assert len(paid) == 6910 and all(reward.price and reward.type == 1 for reward in paid)
    assert round(sum(reward.total for reward in paid) / 6910, 5) == 0.98961
    assert round(sum(reward.is_success for reward in paid) / 6910, 5) == 0.93372
    lost = out_of_reach(JUDGE, catalogue, goals, compat=True)
    assert len(lost) == 458 and len({goals[number].product for number in lost}) == 17


def test_options_for_a_goal_that_people_wrote(tmp_path):
    options = {"size": ("small", "large", "x-large"), "color": ("black", "navy blue")}
    product = bought(asin="B", options=options)
    file = tmp_path / "people.json"
    asked = {"instruction": "mens shoes", "instruction_attributes": ["tea tree"]}
    file.write_text(
        str({"B": [asked | {"instruction_options": ["X-Large", "blue"]}]}).replace("'", '"')
    )
    goal = human_goals(catalogue_of("one", [product]), file)[0]
    assert options_of(product, goal) == {"size": "x-large", "color": "navy blue"}
    assert JUDGE.reward(product, options_of(product, goal), goal).is_success
    assert options_of(product, wanted(options=(("", "cotton"), ("size", "large")))) == {
        "size": "large"
    }
    assert options_of(bought(), wanted()) == {}


TEXT = st.text(max_size=12)


@given(TEXT, st.lists(TEXT, max_size=3), st.dictionaries(TEXT, TEXT, max_size=3), st.floats(0, 100))
def test_any_purchase_pays_from_nought_to_one(text, attributes, chosen, price):
    product = bought(name=text, attributes=tuple(attributes), description=text, price=price)
    goal = wanted(name=text[::-1], attributes=tuple(attributes), options=tuple(chosen.items()))
    for compat in (False, True):
        reward = JUDGE.reward(product, chosen, goal, compat)
        assert 0 <= reward.total <= 1 and reward.is_success == (reward.total == 1)
        again = Judge("rule-1").reward(product, chosen, goal, compat)
        assert again == reward


def test_without_rapidfuzz_the_extra_is_named():
    script = "import sys; sys.modules['rapidfuzz.fuzz'] = None; import recgym.shop.reward"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'recgym[shop]'" in found.stderr and "MissingExtra" in found.stderr
