"""What was done in a shop and what else could have been: walked once more, and by hand."""

import json
from collections import Counter

import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.agents.choices import (
    Choice,
    Choices,
    Session,
    is_search,
    offered,
    query_of,
    read_as,
    sessions_of,
    shop_of,
)
from recgym.demonstrations import demonstrate, people
from recgym.envs.shop import ShopEnv
from recgym.errors import InvalidArgument
from recgym.rollouts import collect
from recgym.shop.pages import QUERY, Place, Shop

from ..sentences import said
from .shops import ENV, known_choices, known_sessions, shop_with

LONG = tuple(f"click[{number}]" for number in range(30))


def walked(env, data):
    """All sessions as an environment plays them: goal, choices, reward, queries; and no more."""
    found = []
    for number, episode in enumerate(data):
        page, info = env.reset(seed=number)
        choices, queries, total = [], [], 0.0
        for step, action in enumerate(episode.actions):
            known, place = json.loads(info["actions"]), info["page"]
            after, reward, _, _, later = env.step(action)
            total += reward
            if later["invalid"] == info["invalid"] and place == "search":
                queries.append(env.shoppers.places[0].query)
            elif later["invalid"] == info["invalid"]:
                word, _, what = action.lower().partition("[")
                done = f"{word.strip()}[{what.strip()[:-1].strip()}]"
                choices.append((page, tuple(known), known.index(done), step))
            page, info = after, later
        found.append((info["goal"], choices, total, queries))
    return found


def elsewhere_by_hand(env, number, actions, step, known):
    """Which actions lead elsewhere than the one that was taken, each tried from the beginning."""
    after = []
    for action in (actions[step], *known):
        env.reset(seed=number)
        for one in (*actions[:step], action):
            env.step(one)
        after.append(env.shoppers.places[0])
    return tuple(place for place, other in enumerate(after[1:]) if other != after[0])


# ------------------------------------------------------------------------------------ sessions


@pytest.mark.parametrize("which", ["scripted", "oracle", "odd"])
def test_sessions_are_what_a_walk_through_the_shop_finds(shopping, odd, which):
    data = {"scripted": shopping[0], "odd": odd}.get(which)
    data = data or demonstrate(ENV, "oracle", sessions=20, name="tiny")
    sessions, env = known_sessions(data), ShopEnv()
    wanted = walked(env, data)
    for session, (goal, choices, total, queries) in zip(sessions, wanted, strict=True):
        assert (session.goal, session.reward) == (goal, pytest.approx(total))
        assert session.queries == tuple(queries)
        assert [choice[:3] for choice in session.choices] == [choice[:3] for choice in choices]
    assert any(session.choices for session in sessions)
    for number in (0, 1):
        actions = data[number].actions
        for choice, (*_, step) in zip(sessions[number].choices, wanted[number][1], strict=True):
            found = elsewhere_by_hand(env, number, actions, step, choice.actions)
            assert choice.others == found


def test_searches_are_queries_and_what_is_not_understood_is_nothing(odd):
    for session in known_sessions(odd):
        name = session.queries[0]
        assert session.queries == (name, name.lower())
        done = [choice.actions[choice.done] for choice in session.choices]
        assert done[0] == "click[back to search]" and done[-1] == "click[buy now]"
        assert Counter(done)["click[< prev]"] == 4 and Counter(done)["click[features]"] == 1
        assert not any(action.startswith("search[") for action in done)
        assert len(done) == 1 + 4 + 1 + 4 + len(done[10:-1]) + 1


def test_what_is_said_in_capitals_or_with_blanks_was_done(odd):
    said = [action for episode in odd for action in episode.actions]
    assert "Click[Buy Now]" in said and "click[ Features ]" in said
    done = {choice.actions[choice.done] for choice in known_choices(odd)}
    assert {"click[buy now]", "click[features]", "click[reviews]", "click[< prev]"} <= done


def test_a_search_for_the_sign_of_a_query_is_a_query(shopping):
    shop = shop_of(shopping[0])
    (session,) = [_session_of(shop, [QUERY, "click[back to search]"])]
    assert session.queries == ("<query>",) and len(session.choices) == 1


def test_a_search_on_another_page_of_compat_is_a_query(shopping):
    shop = shop_of(shopping[0])
    compat = Shop(shop.catalogue, shop.index, shop.judge, compat=True)
    session = _session_of(compat, ["search[lamp]", "search[rug]", "click[next >] and so on"])
    assert session.queries == ("lamp", "rug")
    assert [choice.actions[choice.done] for choice in session.choices] == ["click[next >]"]


def _session_of(shop, actions):
    from recgym.agents.choices import _session

    return _session(shop, "a goal", ["a page"] * len(actions), actions, 0.0)


class Twice(Shop):
    """All that can be done is listed in capitals, too, and leads to the same place."""

    def actions(self, place):
        known = super().actions(place)
        return (*known, *(action.upper() for action in known if place.page != "search"))


def test_what_leads_to_the_same_place_is_not_among_others(shopping):
    shop = shop_of(shopping[0])
    twice = Twice(shop.catalogue, shop.index, shop.judge)
    product = next(action for action in shop.actions(Place("results", "lamp")) if action[6] == "m")
    actions = ["search[lamp]", "click[next >]", "click[< prev]", product, "click[buy now]"]
    session = _session_of(twice, actions)
    assert len(session.choices) == 4
    for choice, action in zip(session.choices, actions[1:], strict=True):
        assert choice.actions[choice.done] == action
        count = len(choice.actions) // 2
        same = {choice.done, choice.done + count}
        assert choice.actions[choice.done + count] == action.upper()
        assert choice.others == tuple(one for one in range(2 * count) if one not in same)


def test_others_never_hold_what_was_done_nor_what_comes_to_the_same(shopping, odd):
    for data in (shopping[0], odd):
        shop = shop_of(data)
        for session, episode in zip(known_sessions(data), data, strict=True):
            place, left = Place(), [*session.choices]
            for action in episode.actions:
                after, meant = shop.step(place, action)
                if meant and place.page != "search":
                    choice = left.pop(0)
                    assert choice.actions == shop.actions(place)
                    assert shop.step(place, choice.actions[choice.done])[0] == after
                    assert choice.done not in choice.others
                    for other, told in enumerate(choice.actions):
                        assert (other in choice.others) == (shop.step(place, told)[0] != after)
                place = after
            assert not left


def test_what_is_clicked_once_more_changes_nothing_and_is_a_choice(odd):
    """All that an option which is chosen already leads to is where one is."""
    again = [(one, other) for session in known_sessions(odd)
             for one, other in zip(session.choices, session.choices[1:], strict=False)
             if one.actions == other.actions and one.done == other.done]  # fmt: skip
    assert again
    for _, choice in again:
        assert set(choice.others) == {*range(len(choice.actions))} - {choice.done}


def choice_of(done, others):
    return Choice("page", ("a", "b", "c"), done, others)


def test_choices_of_sessions_stand_side_by_side():
    one, two = choice_of(0, (1,)), choice_of(1, ())
    sessions = [Session("g", choices, 1.0, ()) for choices in ((), (one, two), (), (two,), ())]
    both = Choices.of(sessions)
    assert len(both) == 3 and both.all == (one, two, two)
    assert both.offsets.tolist() == [0, 2, 3] and both.offsets.dtype == np.int64
    nothing = Choices.of([])
    assert len(nothing) == 0 and nothing.offsets.tolist() == [0]
    assert [session.paired.choices for session in sessions] == [(), (one,), (), (), ()]
    assert sessions[1].paired[:1] + sessions[1].paired[2:] == sessions[1][:1] + sessions[1][2:]


# ------------------------------------------------------------------------------- of long lists


@settings(max_examples=60)
@given(st.data())
def test_of_a_long_list_the_first_ten_draws_and_what_was_done_are_kept(data):
    count = data.draw(st.integers(1, 40))
    done = data.draw(st.integers(0, count - 1))
    others = tuple(data.draw(st.sets(st.integers(0, count - 1))) - {done})
    choice = Choice("page", LONG[:count] + tuple(f"x{n}" for n in range(count - 30)), done, others)
    part = choice.part(np.random.default_rng(data.draw(st.integers(0, 9))))
    if count <= 20:
        assert part is choice
        return
    assert part.page == "page" and part.actions[part.done] == choice.actions[done]
    assert part.actions[:6] == choice.actions[:6]
    assert len(set(part.actions)) == len(part.actions) in (16, 17)
    assert len(part.actions) == 16 or part.done == 16  # what was done is last, unless drawn
    kept = [choice.actions.index(action) for action in part.actions]
    assert part.others == tuple(place for place, one in enumerate(kept) if one in others)


def test_parts_of_a_long_list_are_drawn_evenly():
    choice, rng = Choice("page", LONG, 2, (1, 3)), np.random.default_rng(0)
    parts = [choice.part(rng) for _ in range(3000)]
    assert all(len(part.actions) == 16 for part in parts)
    seen = Counter(action for part in parts for action in part.actions[6:])
    assert seen.keys() == {*LONG[6:]}
    wanted = 3000 * 10 / 24
    assert sum((count - wanted) ** 2 / wanted for count in seen.values()) < 50  # of 23 degrees


# --------------------------------------------------------------------------- as pages are read


NAMES = ["Acme [2 pack] Lamp", "$5 Gift Card", "Desk [SEP]arator Lamp", "Rug, 3' x 5'", "Tea"]
PRICES = [(9.5,), (5.0,), (1.0, 2.25), (), (7.0,)]


@pytest.fixture
def odd_shop(shopping):
    """Products whose names and options look like other things."""
    sums = {"amount": ("$25", "$50", "$75", "next >"), "kind": ("$50", "e-mail")}
    products = [
        {"name": name, "prices": prices, "options": sums, "bullets": ("one", "$2 off", "$3 off")}
        for name, prices in zip(NAMES, PRICES, strict=True)
    ]
    products = [products[1], *products, *({"name": f"Plain {n}"} for n in range(9))]
    return shop_with(products, shop_of(shopping[0]))


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_products_are_read_as_their_name_and_price_and_their_list_is_not(odd_shop, rich, number):
    products = odd_shop.catalogue.products[10 * (number - 1) : 10 * number]
    place = Place("results", "x", number, opened=(0, 2))
    page, actions = odd_shop.text(place, "i need $5, and a card", rich), odd_shop.actions(place)
    buttons = actions[: -len(products)]
    assert len(buttons) == 2 and all(action.startswith("click[") for action in actions)
    for compat in (False, True):
        seen, read = read_as(page, actions, compat)
        assert read[:2] == buttons
        for shown, (product, action) in enumerate(zip(products, read[2:], strict=True)):
            price = " to ".join(f"${price}" for price in product.prices or (product.price,))
            clicked = ", clicked" if rich and 10 * (number - 1) + shown in place.opened else ""
            told = f" {shown + 1} - {product.name}, {price}{clicked}"
            assert action == f"click[item{f' - {product.name}' if compat else told}]"
            assert (product.name in seen) == compat
        assert seen == page if compat else seen.startswith(page[: page.index("Total results: 15")])
        assert (
            all(name[6:-1] in seen.lower() for name in buttons) and "i need $5, and a card" in seen
        )


@pytest.mark.parametrize("rich", [True, False])
def test_other_pages_are_read_as_they_are(odd_shop, rich):
    place = Place("item", "x", 1, 0)
    for at in (place, odd_shop.step(place, "click[$25]")[0], Place("search"),
               odd_shop.step(place, "click[features]")[0]):  # fmt: skip
        actions = odd_shop.actions(at)
        page = odd_shop.text(at, "$1\n$2", rich)
        assert read_as(page, actions) == (page, actions)
    assert "click[$25]" in odd_shop.actions(place)


def test_a_product_without_a_name_is_its_number(shopping):
    shop = shop_with([{"name": " "}, {"name": "Tea"}], shop_of(shopping[0]))
    place = Place("results", "x")
    for rich in (True, False):
        page, read = read_as(shop.text(place, "tea", rich), shop.actions(place))
        assert "M000000000" in page and "Tea" not in page
        assert read == (
            "click[back to search]", "click[m000000000]", "click[item 1 - Tea, $9.5]",
        )  # fmt: skip


def test_all_products_of_the_demonstrations_are_read_by_name(shopping):
    products = shop_of(shopping[0]).catalogue
    seen = 0
    for choice in known_choices(shopping[0]):
        page, read = read_as(choice.page, choice.actions)
        assert len(read) == len(choice.actions)
        for action, told in zip(choice.actions, read, strict=True):
            product = products.number(action[6:-1].upper())
            assert told.startswith("click[item ") == (product >= 0)
            if product >= 0:
                assert products.products[product].name in told
                assert ("clicked" in told) == (
                    f"[clicked button] {action[6:-1].upper()}" in choice.page
                )
                assert action[6:-1].upper() not in page
                seen += 1
            else:
                assert told == action
    assert seen > 100


# ------------------------------------------------------------------------------- small things


def test_what_is_offered_is_what_the_infos_say():
    infos = {"actions": ['["click[a]", "click[ü]"]', "[]", '["search[<query>]"]']}
    assert offered(infos) == [("click[a]", "click[ü]"), (), ("search[<query>]",)]


@pytest.mark.parametrize(
    ("actions", "searches"),
    [((QUERY,), True), (("search[red lamp]",), True), ((), False), (("click[search]",), False),
     ((QUERY, "click[a]"), False)],
)  # fmt: skip
def test_where_there_is_but_a_search(actions, searches):
    assert is_search(actions) is searches


def test_a_search_is_for_the_words_of_a_goal_without_its_price():
    goal = "I need a Red lamp, with price lower than mine, and price lower than 30.00 dollars"
    assert query_of(goal) == "search[i need a red lamp, with price lower than mine]"


# ------------------------------------------------------------------------------ what is refused


def refused(match, do):
    with pytest.raises(InvalidArgument, match=match) as problem:
        do()
    return said(problem)


def test_data_of_items_are_refused(shopping):
    items = collect("recgym/OracleStatic-v0", "mixed", sessions=3, name="n")
    refused("Agents of shops act in words", lambda: sessions_of(items, shop_of(shopping[0])))
    refused("does not bring the shop", lambda: shop_of(items))


def test_data_of_another_shop_are_refused(shopping):
    other = demonstrate("recgym/MiniShopB-v0", "rule", sessions=2)
    refused("another catalogue", lambda: sessions_of(other, shop_of(shopping[0])))
    assert len(known_sessions(other)) == 2


def test_sessions_of_people_bring_no_shop(tmp_path):
    told = {
        "states": ["WebShop\nInstruction:\na red lamp\n[button] Search [button_]", "a page"],
        "available_actions": [["search[]"], ["click[b01]"]],
        "actions": ["search[red lamp]", "click[b01]"],
    }
    (tmp_path / "trajs.jsonl").write_text(json.dumps(told) + "\n")
    goals = [*(f"thing {number}" for number in range(1500)), "a red lamp"]
    (tmp_path / "goals.json").write_text(json.dumps(goals))
    data = people(tmp_path / "trajs.jsonl", tmp_path / "goals.json")["train"]
    refused("does not bring the shop", lambda: shop_of(data))


def test_a_shop_whose_files_are_gone_says_so(shopping, tmp_path):
    data = demonstrate(ENV, "rule", sessions=1, name="gone")
    spec = json.loads(data.storage.metadata["env_spec"])
    spec["kwargs"] |= {"shop": "webshop", "files": str(tmp_path / "gone")}
    file = data.storage.data_path / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"env_spec": json.dumps(spec)}))
    again = minari.load_dataset(data.id)
    refused("is no folder", lambda: shop_of(again))
