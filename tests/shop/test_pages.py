"""The pages of a shop, held to what WebShop's own code does and says, and to never break."""

import random
import re
from dataclasses import fields
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgym.shop.catalogue import Product, catalogue_of, read_webshop
from recgym.shop.pages import LONGEST, ORIGINAL, QUERY, Place, Quirks, Shop, price_tag

GOAL = "i need a slim shirt, and price lower than 30.00 dollars"
TOP = f"Instruction: [SEP] {GOAL} [SEP] "
RICH_TOP = f"Instruction:\n{GOAL}\n"


def product(asin, name, **more):
    known = {
        "description": "", "bullets": (), "category": "fashion", "query": "shirts",
        "path": ("Clothing", "Shirts"), "options": {}, "prices": (9.5,), "price": 9.5,
        "attributes": (),
    }  # fmt: skip
    return Product(asin=asin, name=name, **(known | more))


SHIRT = product(
    "B000SHIRT0", "Slim Shirt", description=" Made of cotton. ", bullets=("Soft", "", "Warm "),
    options={"color": ("red", "dark red"), "size": ("small", "large")}, attributes=("soft",),
    prices=(10.0, 12.25), price=11.0,
)  # fmt: skip
ODD = product(
    "B0000000DD", '<script>alert("x")</script> & Co', description="<img src=http://x.y/z>",
    bullets=("<b>bold</b>", "a\x00b\x1bc"), category="beauty", query="odd things", prices=(),
    price=100.0,
    options={
        "fit": ("small", "reviews", "20 [eu]", 'wide "x"', "größe 5"),
        "<i>cup</i>": ("small", "b"),
        "width": (" ", "w & l"),
    },
)  # fmt: skip
NAMELESS = product("B000000000", " ", prices=(5.0,))
PRODUCTS = [
    SHIRT, ODD, NAMELESS, *(product(f"B1{i:08}", f"Plain Shirt {i}") for i in range(60)),
]  # fmt: skip


class Words:
    """An index that counts the words in common."""

    def __init__(self, products):
        self.names = [set(re.findall(r"\w+", one.name.lower())) for one in products]
        self.asked = []

    def search(self, query, most=50):
        self.asked.append(query)
        query.encode()  # as an index may have to
        wanted = set(re.findall(r"\w+", query.lower()))
        common = [len(wanted & words) for words in self.names]
        order = sorted(range(len(common)), key=lambda i: (-common[i], i))
        return np.array([i for i in order if common[i]][:most], np.int32)


CATALOGUE = catalogue_of("small", PRODUCTS)


def shop_of(compat=False, **more):
    return Shop(CATALOGUE, Words(PRODUCTS), None, compat, **more)


@pytest.fixture(scope="module")
def shop():
    return shop_of()


@pytest.fixture(scope="module")
def original():
    return shop_of(compat=True)


def walk(shop, *actions, place=None):
    """Where actions lead that all mean something."""
    place = place or Place()
    for action in actions:
        place, meant = shop.step(place, action)
        assert meant, action
    return place


def item(shop, asin):
    query = {"b000shirt0": "slim shirt", "b0000000dd": "script"}[asin]
    return walk(shop, f"click[{asin}]", place=Place("results", query))


# --------------------------------------------------------------------------- the way through pages


def test_a_purchase_from_the_first_page_to_the_last(shop):
    place = walk(shop, "search[slim shirt]")
    assert place == Place("results", "slim shirt")
    place = walk(shop, "click[b000shirt0]", place=place)
    assert place == Place("item", "slim shirt", 1, 0, "", (), (0,))
    place = walk(shop, "click[large]", "click[features]", place=place)
    assert place == Place("sub", "slim shirt", 1, 0, "features", (("size", "large"),), (0,))
    place = walk(shop, "click[< prev]", "click[red]", "click[buy now]", place=place)
    assert place == Place(
        "done", "slim shirt", 1, 0, "", (("size", "large"), ("color", "red")), (0,)
    )
    assert shop.actions(place) == ()
    for action in ("search[shirt]", "click[back to search]", "click[buy now]", QUERY):
        assert shop.step(place, action) == (place, False)


def test_actions_come_in_page_order_and_once(shop):
    assert shop.actions(Place()) == ("search[<query>]",)
    results = walk(shop, "search[plain shirt]")
    asins = [f"click[b1{i:08}]" for i in range(10)]
    assert shop.actions(results) == ("click[back to search]", "click[next >]", *asins)
    second = walk(shop, "click[next >]", place=results)
    assert shop.actions(second)[:3] == (
        "click[back to search]", "click[< prev]", "click[next >]",
    )  # fmt: skip
    assert shop.actions(item(shop, "b000shirt0")) == (
        "click[back to search]", "click[< prev]", "click[description]", "click[features]",
        "click[reviews]", "click[buy now]", "click[red]", "click[dark red]", "click[small]",
        "click[large]",
    )  # fmt: skip
    assert shop.actions(item(shop, "b0000000dd"))[4:] == (  # small and reviews: once
        "click[reviews]", "click[buy now]", "click[small]", "click[20 [eu]]", 'click[wide "x"]',
        "click[größe 5]", "click[b]", "click[w & l]",
    )  # fmt: skip
    below = walk(shop, "click[reviews]", place=item(shop, "b000shirt0"))
    assert shop.actions(below) == ("click[back to search]", "click[< prev]")


def test_results_are_fifty_at_most_and_ten_on_a_page(shop):
    place, seen = walk(shop, "search[shirt]"), []
    for number in range(1, 6):
        assert place.number == number
        assert f" Page {number} (Total results: 50) " in shop.text(place, GOAL)
        seen += [action for action in shop.actions(place) if action.startswith("click[b")][1:]
        assert ("click[next >]" in shop.actions(place)) == (number < 5)
        if number < 5:
            place = walk(shop, "click[next >]", place=place)
    assert len(set(seen)) == len(seen) == 50
    assert shop.step(place, "click[next >]") == (place, False)
    assert walk(shop, *["click[< prev]"] * 4, place=place) == walk(shop, "search[shirt]")


def test_nothing_found_leaves_the_way_back(shop):
    place = walk(shop, "search[zzz]")
    assert shop.actions(place) == ("click[back to search]",)
    assert shop.text(place, GOAL) == TOP + "Back to Search [SEP] Page 1 (Total results: 0)"
    assert walk(shop, "click[back to search]", place=place) == Place()


def test_an_option_takes_the_place_of_another_of_its_group(shop):
    place = walk(shop, "click[red]", "click[small]", place=item(shop, "b000shirt0"))
    place = walk(shop, "click[dark red]", place=place)
    assert place.chosen == (("size", "small"), ("color", "dark red"))


def test_back_to_search_forgets_everything(shop):
    place = walk(shop, "click[red]", place=item(shop, "b000shirt0"))
    assert walk(shop, "click[back to search]", place=place) == Place()
    below = walk(shop, "click[description]", place=place)
    assert walk(shop, "click[back to search]", place=below) == Place()


def test_options_of_one_product_are_not_those_of_another(shop):
    place = walk(shop, "click[red]", "click[< prev]", place=item(shop, "b000shirt0"))
    other = walk(shop, "click[b100000000]", place=place)
    assert other.chosen == () and other.opened == (0, 3)
    assert walk(shop, "click[< prev]", "click[b000shirt0]", place=other).chosen == ()


def test_a_page_of_attributes_only_where_it_is_asked_for(shop):
    assert not shop.step(item(shop, "b000shirt0"), "click[attributes]")[1]
    telling = shop_of(attributes=True)
    place = walk(telling, "click[attributes]", place=item(telling, "b000shirt0"))
    assert telling.text(place, GOAL) == (
        TOP + "Back to Search [SEP] < Prev [SEP] soft [SEP] fashion [SEP] shirts [SEP] "
        "Clothing › Shirts"
    )
    assert "\n soft\nfashion\n" in telling.text(place, GOAL, True)
    assert "Attributes [SEP] Buy Now" in telling.text(item(telling, "b000shirt0"), GOAL)


# -------------------------------------------------------------------------------- what is forgiven


@pytest.mark.parametrize(
    ("action", "query"),
    [
        ("search[Slim  SHIRT ]", "slim shirt"),
        ("\n Search [ slim\tshirt ] ", "slim shirt"),
        ("search[a[b]]", "a[b]"),
        ("search[]]", "]"),
        ("search[<r>]", "<r>"),
        ("search[\ud800 x]", "? x"),
        (f"search[{'x' * LONGEST}]", "x" * LONGEST),
    ],
)
def test_searches_are_read_in_any_case_and_spacing(shop, action, query):
    assert shop.step(Place(), action) == (Place("results", query), True)


@pytest.mark.parametrize(
    "action",
    [
        "", "search", "search[", "search]", "search[]", "search[ \t]", "[shirt]", "find[shirt]",
        "search[shirt] please", "I think: search[shirt]", "search(shirt)", "click[search]",
        "click[]", "click[buy now]", f"search[{'x' * (LONGEST + 1)}]", "search[" + "x" * 10_000,
        "search[" + "x " * 5_000 + "]",
    ],
)  # fmt: skip
def test_what_is_no_action_changes_nothing(shop, action):
    for place in (Place(), Place("results", "shirt"), item(shop, "b000shirt0")):
        after, meant = shop.step(place, action)
        if action == "click[buy now]" and place.page == "item":
            assert meant
        else:
            assert after is place and not meant


def test_clicks_are_read_in_any_case_and_spacing(shop):
    place = item(shop, "b0000000dd")
    assert walk(shop, " CLICK[ 20 [EU] ]", place=place).chosen == (("fit", "20 [eu]"),)
    assert walk(shop, "Click[GRÖßE 5]", place=place).chosen
    assert walk(shop, "click[Buy Now]", place=place).page == "done"
    assert walk(shop, "click[B000SHIRT0]", place=Place("results", "slim")).product == 0


def test_a_search_only_on_the_search_page(shop):
    for place in (Place("results", "shirt"), item(shop, "b000shirt0")):
        assert shop.step(place, "search[shirt]") == (place, False)


# ------------------------------------------------------------------------------------------- texts


def test_texts_of_the_search_page(shop):
    assert shop.text(Place(), GOAL) == f"WebShop [SEP] {TOP}Search"
    assert shop.text(Place(), GOAL, True) == (
        f"WebShop\nInstruction: \n{GOAL}\n[button] Search [button_]\n"
    )


def test_texts_of_results(shop):
    place = Place("results", "slim odd script co")
    assert shop.text(place, GOAL) == (
        TOP + "Back to Search [SEP] Page 1 (Total results: 2) [SEP] B0000000DD [SEP] "
        '<script>alert("x")</script> & Co [SEP] $100.0 [SEP] B000SHIRT0 [SEP] Slim Shirt [SEP] '
        "$10.0 to $12.25"
    )
    assert shop.text(place, GOAL, True) == RICH_TOP + (
        "[button] Back to Search [button_]\nPage 1 (Total results: 2)\n"
        '\n[button] B0000000DD [button_]\n<script>alert("x")</script> & Co\n$100.0\n'
        "\n[button] B000SHIRT0 [button_]\nSlim Shirt\n$10.0 to $12.25\n"
    )
    place = walk(shop, "click[b000shirt0]", "click[< prev]", place=place)
    assert "\n\n[clicked button] B000SHIRT0 [clicked button_]\n" in shop.text(place, GOAL, True)
    assert "\n\n[button] B0000000DD [button_]\n" in shop.text(place, GOAL, True)


def test_texts_of_the_second_page_of_results(shop):
    place = Place("results", "plain", 6)  # 60 of them, of which 50 are found
    begins = "Back to Search [SEP] Page 5 (Total results: 50) [SEP] < Prev [SEP] B1"
    assert shop.text(Place("results", "plain", 5), GOAL).startswith(TOP + begins)
    assert shop.text(place, GOAL).endswith("Page 6 (Total results: 50) [SEP] < Prev")
    assert shop.text(Place("results", "plain", 2), GOAL, True).startswith(
        RICH_TOP + "[button] Back to Search [button_]\nPage 2 (Total results: 50)\n"
        "[button] < Prev [button_]\n[button] Next > [button_]\n\n[button] B100000010 [button_]\n"
    )


def test_texts_of_a_product(shop):
    place = item(shop, "b000shirt0")
    plain = TOP + (
        "Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] dark red [SEP] size [SEP] small "
        "[SEP] large [SEP] Slim Shirt [SEP] Price: $10.0 to $12.25 [SEP] Rating: N.A. [SEP] "
        "Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    assert shop.text(place, GOAL) == plain
    place = walk(shop, "click[large]", "click[dark red]", place=place)
    assert shop.text(place, GOAL) == plain  # this mode does not show what is chosen
    assert shop.text(place, GOAL, True) == (
        "You have clicked large.\nYou have clicked dark red.\n" + RICH_TOP + "[button] Back to "
        "Search [button_]\n[button] < Prev [button_]\ncolor\n  [button] red [button_]\n"
        "  [clicked button] dark red [clicked button_]\nsize\n  [button] small [button_]\n"
        "  [clicked button] large [clicked button_]\nSlim Shirt\nPrice: $10.0 to $12.25\n"
        "Rating: N.A.\n[button] Description [button_]\n[button] Features [button_]\n"
        "[button] Reviews [button_]\n[button] Buy Now [button_]\n"
    )


def test_texts_below_a_product(shop):
    place = item(shop, "b000shirt0")
    buttons = "[button] Back to Search [button_]\n[button] < Prev [button_]\n"
    for name, plain, rich in (
        ("description", " [SEP] Made of cotton.", " Made of cotton. \n"),
        ("features", " [SEP] Soft [SEP] Warm", " Soft\n Warm \n"),
        ("reviews", "", ""),
    ):
        below = walk(shop, f"click[{name}]", place=place)
        assert shop.text(below, GOAL) == TOP + "Back to Search [SEP] < Prev" + plain
        assert shop.text(below, GOAL, True) == RICH_TOP + buttons + rich


def test_texts_of_the_last_page(shop):
    place = walk(shop, "click[größe 5]", "click[buy now]", place=item(shop, "b0000000dd"))
    start = "Thank you for shopping with us! [SEP] Purchased [SEP] asin [SEP] B0000000DD [SEP] "
    said = start + 'options [SEP] {"fit": "größe 5"}'
    assert shop.text(place, GOAL) == said
    assert shop.text(place, GOAL, reward=0.5) == (
        f"{said} [SEP] Your score (min 0.0, max 1.0) [SEP] 0.5"
    )
    assert shop.text(place, GOAL, True, 1.0) == (
        'Thank you for shopping with us!\nPurchased\nasin\nB0000000DD\noptions\n{"fit": "größe 5"}'
        "\nYour score (min 0.0, max 1.0)\n1.0\n"
    )


def test_prices_are_shown_as_in_webshop():
    assert [price_tag(one) for one in (SHIRT, ODD, NAMELESS)] == [
        "$10.0 to $12.25", "$100.0", "$5.0",
    ]  # fmt: skip


def lines_of(text):
    """What either mode says, line by line, without what only the rich one shows."""
    text = re.sub(r"\[(?:clicked )?button\] (.*) \[(?:clicked )?button_\]", r"\1", text)
    lines = [line.strip() for line in re.split(r"\n| \[SEP\] ", text)]
    return [line for line in lines if line and not re.fullmatch(r"You have clicked .*\.", line)]


@given(st.data())
def test_both_texts_say_the_same(shop, data):
    place = Place()
    for _ in range(8):
        rich, plain = shop.text(place, GOAL, True, 0.5), shop.text(place, GOAL, False, 0.5)
        assert lines_of(rich) == lines_of(plain)
        actions = shop.actions(place)
        if not actions:
            break
        place, _ = shop.step(place, data.draw(st.sampled_from(actions + ("search[slim shirt]",))))


# ------------------------------------------------------------------------------------------ quirks


def test_compat_is_all_quirks_and_default_is_none(shop, original):
    assert original.quirks == ORIGINAL and original.compat
    assert all(getattr(ORIGINAL, field.name) for field in fields(Quirks))
    assert shop.quirks == Quirks()
    assert not any(getattr(shop.quirks, field.name) for field in fields(Quirks))


def test_quirk_greedy():
    quirky = shop_of(quirks=Quirks(greedy=True))
    assert walk(quirky, "search[shirt] and more").query == "shirt"
    assert walk(quirky, "search[a] b]").query == "a] b"
    for action in ("search[a[b]]", " search[a]", "Search[a]", "search[a\nb]", "x search[a]"):
        assert quirky.step(Place(), action) == (Place(), False)
    place = item(quirky, "b0000000dd")
    assert "click[20 [eu]]" in quirky.actions(place)
    assert quirky.step(place, "click[20 [eu]]") == (place, False)


@given(st.text("ab[]\n ", max_size=12))
def test_quirk_greedy_is_the_greedy_pattern(action):
    found = re.match(r"(.+)\[(.+)\]", action)
    quirky = shop_of(quirks=Quirks(greedy=True))
    assert quirky._parsed(action) == (found.groups() if found else ("", ""))


def test_quirk_search_anywhere():
    quirky = shop_of(quirks=Quirks(search_anywhere=True))
    place = walk(quirky, "click[red]", place=item(quirky, "b000shirt0"))
    place = walk(quirky, "search[plain]", place=place)
    assert place == Place("results", "plain", opened=(0,))
    assert walk(quirky, "search[slim]", place=place).query == "slim"
    done = walk(quirky, "click[buy now]", place=item(quirky, "b000shirt0"))
    assert quirky.step(done, "search[plain]") == (done, False)  # there we differ


def test_quirk_special_queries(shop):
    quirky = shop_of(quirks=Quirks(special_queries=True))
    found = quirky.text(walk(quirky, "search[<c> beauty and more]"), GOAL)
    assert "(Total results: 1) [SEP] B0000000DD" in found
    assert "(Total results: 62)" in quirky.text(walk(quirky, "search[<q> shirts ]"), GOAL)
    assert "(Total results: 1)" in quirky.text(walk(quirky, "search[<q> odd things]"), GOAL)
    assert len(quirky.actions(Place("results", "<q> shirts", 7))) == 2 + 2
    for broken in ("search[<a> soft]", "search[<c>]"):  # where the original breaks off
        assert quirky.step(Place(), broken) == (Place(), False)
    drawn = walk(quirky, "search[<r>]")
    assert "(Total results: 50)" in quirky.text(drawn, GOAL)
    again = walk(quirky, "click[next >]", "click[< prev]", place=drawn)
    assert quirky.actions(again) == quirky.actions(drawn)
    assert quirky.actions(drawn)[2:] != quirky.actions(Place("results", "<r>", 2))[3:]
    assert "(Total results: 0)" in shop.text(walk(shop, "search[<r>]"), GOAL)


def test_quirk_endless():
    quirky = shop_of(quirks=Quirks(endless=True))
    place = walk(quirky, "search[slim]", *["click[next >]"] * 7)
    assert place.number == 8
    assert quirky.actions(place) == ("click[back to search]", "click[< prev]", "click[next >]")
    assert quirky.text(place, GOAL).endswith("Page 8 (Total results: 1) [SEP] < Prev [SEP] Next >")


def test_quirk_forgetful(shop):
    for quirky, chosen in ((shop_of(quirks=Quirks(forgetful=True)), ()),
                           (shop, (("color", "red"),))):  # fmt: skip
        place = walk(quirky, "click[red]", "click[< prev]", place=item(quirky, "b000shirt0"))
        place = walk(quirky, "click[b000shirt0]", place=place)
        assert (place.page, place.product, place.chosen) == ("item", 0, chosen)


def test_quirk_last_group(shop):
    quirky = shop_of(quirks=Quirks(last_group=True))
    place = walk(quirky, "click[small]", "click[small]", place=item(quirky, "b0000000dd"))
    assert place.chosen == (("<i>cup</i>", "small"),)
    place = walk(shop, "click[small]", place=item(shop, "b0000000dd"))
    assert place.chosen == (("fit", "small"),)
    place = walk(shop, "click[small]", place=place)
    assert place.chosen == (("fit", "small"), ("<i>cup</i>", "small"))
    assert walk(shop, "click[small]", place=place) == place


def test_quirk_by_address(shop):
    quirky = shop_of(quirks=Quirks(by_address=True))
    for value in ('wide "x"', "größe 5"):
        for one, shown in ((quirky, False), (shop, True)):
            place = walk(one, f"click[{value}]", place=item(one, "b0000000dd"))
            assert (f"You have clicked {value}." in one.text(place, GOAL, True)) == shown
            assert (f"[clicked button] {value} [" in one.text(place, GOAL, True)) == shown
    place = walk(quirky, 'search["small" slim]', "click[b000shirt0]")  # the query is part of it
    assert quirky.text(place, GOAL, True).startswith("You have clicked small.\nInstruction:\n")
    place = walk(quirky, "click[small]", place=item(quirky, "b0000000dd"))  # both groups
    assert quirky.text(place, GOAL, True).count("[clicked button] small") == 2
    place = walk(shop, "click[small]", place=item(shop, "b0000000dd"))
    assert shop.text(place, GOAL, True).count("[clicked button] small") == 1


def test_quirk_upwards(shop):
    quirky = shop_of(quirks=Quirks(upwards=True))
    for one, first in ((quirky, "large"), (shop, "red")):
        place = walk(one, "click[red]", "click[large]", place=item(one, "b000shirt0"))
        assert one.text(place, GOAL, True).startswith(f"You have clicked {first}.\nYou have ")


def test_quirk_blanks():
    quirky = shop_of(quirks=Quirks(blanks=True))
    place = walk(quirky, "click[features]", place=item(quirky, "b000shirt0"))
    assert quirky.text(place, GOAL).endswith("< Prev [SEP] Soft [SEP]  [SEP] Warm")
    assert quirky.text(place, GOAL, True).endswith(" Soft\n \n Warm \n")


def test_quirk_all_of_done():
    quirky = shop_of(quirks=Quirks(all_of_done=True))
    place = walk(quirky, "click[w & l]", "click[größe 5]", "click[buy now]",
                 place=item(quirky, "b0000000dd"))  # fmt: skip
    assert quirky.text(place, GOAL, reward=0.03333333333333333) == (
        "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk "
        "interface.) [SEP] Purchased [SEP] asin [SEP] B0000000DD [SEP] options [SEP] "
        '{"fit": "gr\\u00f6\\u00dfe 5", "width": "w \\u0026 l"} [SEP] attrs [SEP] None [SEP] '
        "category [SEP] None [SEP] query [SEP] None [SEP] product category [SEP] None [SEP] Target "
        "[SEP] asin [SEP] options [SEP] attrs [SEP] price upper [SEP] instuction text [SEP] "
        "category [SEP] product category [SEP] query [SEP] Goal [SEP] None [SEP] Reward [SEP] Your "
        "score (min 0.0, max 1.0) [SEP] 0.03333333333333333 [SEP] Reward Details [SEP] None"
    )
    rich = quirky.text(place, GOAL, True, 1.0)
    assert "Your code: \nNone\n (Paste it in your MTurk interface.)\nPurchased\n" in rich
    assert rich.endswith("Goal \nNone\nReward\nYour score (min 0.0, max 1.0)\n1.0\n"
                         "Reward Details \nNone\n")  # fmt: skip


# ------------------------------------------------------------------------------- whatever is tried

PLACES = st.lists(st.integers(0, 40), max_size=8)
GARBAGE = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(), max_size=20).map(lambda text: f"search[{text}]"),
    st.text(st.characters(), max_size=20).map(lambda text: f"click[{text}]"),
    st.text("[]<>searchclick pv\n", max_size=30),
    st.sampled_from(["x" * 10_000, "search[" + "[" * 10_000, "click[" + "ß]" * 5_000,
                     "search[" + "\U0001f600" * 2_000 + "]", "search[" + "🛒 " * 3_000 + "]"]),
)  # fmt: skip


def at(shop, ways):
    """A place that is reached by the actions listed there, taken by number."""
    place = Place()
    for way in ways:
        actions = shop.actions(place)
        if not actions:
            break
        action = actions[way % len(actions)]
        place, meant = shop.step(place, "search[slim shirt odd]" if action == QUERY else action)
        assert meant
    return place


@given(PLACES, GARBAGE)
def test_only_what_is_listed_and_searches_mean_something(shop, ways, action):
    place = at(shop, ways)
    before = shop.actions(place)
    after, meant = shop.step(place, action)
    said = re.fullmatch(r"\s*([^\[]*?)\s*\[(.*)\]\s*", action, re.DOTALL)
    name, argument = (said[1].lower(), said[2].strip().lower()) if said else ("", "")
    if name == "search" and place.page == "search":
        assert meant == (0 < len(" ".join(argument.split())) <= LONGEST)
    else:
        assert meant == (name == "click" and f"click[{argument}]" in before)
    assert meant or after is place
    assert hash(after) is not None
    for rich in (False, True):
        assert isinstance(shop.text(after, GOAL, rich), str)
    assert shop.html(after, GOAL).encode()


@given(PLACES)
def test_all_that_is_listed_means_something(shop, ways):
    place = at(shop, ways)
    for action in shop.actions(place):
        assert shop.step(place, action)[1]
    assert len(set(shop.actions(place))) == len(shop.actions(place))


@given(PLACES, GARBAGE)
def test_the_quirks_never_break_either(original, ways, action):
    place = Place()
    for way in ways:
        actions = (*original.actions(place), action, "search[<r>]", "search[<q> shirts]")
        place, _ = original.step(place, actions[way % len(actions)])
        assert original.text(place, GOAL, bool(way % 2))
        assert original.html(place, GOAL)


def test_a_hundred_thousand_random_actions(shop):
    rng, place, counts = random.Random(0), Place(), {True: 0, False: 0}
    for _ in range(100_000):
        actions = shop.actions(place)
        wild = rng.random()
        if not actions or wild < 0.01:
            place = Place()
        elif wild < 0.1:
            action = "".join(rng.choices("search click[]<> \ud800é\x00b0", k=rng.randrange(40)))
            place, meant = shop.step(place, action)
            counts[meant] += 1
        else:
            action = rng.choice(actions)
            words = " ".join(rng.choices(["slim", "shirt", "plain", "odd", "7", "zz"], k=3))
            place, meant = shop.step(place, action if action != QUERY else f"search[{words}]")
            assert meant
            counts[True] += 1
        shop.text(place, GOAL, wild < 0.5)
    assert counts[True] > 80_000 and counts[False] > 5_000


# -------------------------------------------------------------------------------------------- HTML


class Read(HTMLParser):
    """The tags of a page, what it says, and the actions that its buttons tell."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.said, self.titles, self.attributes = [], [], "", [], set()
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)
        if tag == "button":
            self.titles.append(dict(attrs)["title"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.said += data


@given(PLACES)
def test_a_page_offers_its_actions_and_loads_nothing(shop, ways):
    place = at(shop, ways)
    page = Read(shop.html(place, GOAL, 0.5))
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "div", "span", "p",
        "b", "h1", "h2", "ul", "li", "button",
    }  # fmt: skip
    assert page.attributes <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "style", "title", "type",
    }  # fmt: skip
    assert GOAL in page.said
    wanted = {"search[…]"} if place.page == "search" else set(shop.actions(place))
    assert set(page.titles) == wanted


def test_what_products_say_is_text_in_a_page(shop):
    place = item(shop, "b0000000dd")
    page = Read(shop.html(place, "a <goal>"))
    assert '<script>alert("x")</script> & Co' in page.said and "a <goal>" in page.said
    assert "<i>cup</i>" in page.said
    below = Read(shop.html(walk(shop, "click[features]", place=place), GOAL))
    assert "<b>bold</b>" in below.said and "a\ufffdb\ufffdc" in below.said
    below = Read(shop.html(walk(shop, "click[description]", place=place), GOAL))
    assert "<img src=http://x.y/z>" in below.said


def test_a_page_shows_what_is_chosen_and_what_it_paid(shop):
    place = walk(shop, "click[red]", place=item(shop, "b000shirt0"))
    assert shop.html(place, GOAL).count('class="on"') == 1
    back = walk(shop, "click[< prev]", place=place)
    assert shop.html(back, GOAL).count('class="on"') == 1  # it was looked at
    bought = shop.html(walk(shop, "click[buy now]", place=place), GOAL, 0.25)
    assert "0.250" in bought and "color: red" in bought


# ------------------------------------------------------------------------------------ what it keeps


def test_results_are_searched_for_once(shop):
    shop = shop_of()
    place = walk(shop, "search[plain shirt]", "click[next >]", "click[< prev]")
    for _ in range(3):
        shop.text(place, GOAL)
        shop.actions(place)
    assert shop.index.asked == ["plain shirt"]


def test_what_is_kept_has_bounds(shop):
    kept = [part.cache_info().maxsize for part in vars(shop).values()
            if hasattr(part, "cache_info")]  # fmt: skip
    assert len(kept) == 6 and all(0 < size <= 8192 for size in kept)


# --------------------------------------------------------------------------------------- real data


def test_every_product_of_webshop_can_be_opened_and_read(samples):
    catalogue = read_webshop(samples / "webshop-1k")
    shop = Shop(catalogue, Words(catalogue.products), None)
    assert len(catalogue.products) == 1000
    options = 0
    for number, one in enumerate(catalogue.products):
        place = Place("item", "x", 1, number, "", (), (number,))
        for group, values in one.options.items():
            for value in values:
                chosen = walk(shop, f"click[{value}]", place=place)
                assert chosen.chosen == ((group, value),)
                assert f"[clicked button] {value} [" in shop.text(chosen, GOAL, True)
                options += 1
        for action in shop.actions(place):
            after = walk(shop, action, place=place)
            rich, plain = shop.text(after, GOAL, True, 1.0), shop.text(after, GOAL, False, 1.0)
            assert lines_of(rich) == lines_of(plain)
        Read(shop.html(place, GOAL))
    assert options == 3499
