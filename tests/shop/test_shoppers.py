"""Shoppers who need not learn, and what was done against what could have been done."""

from dataclasses import replace

import numpy as np
import pytest

from recgym.demonstrations import demonstrate
from recgym.errors import InvalidArgument
from recgym.shop.goals import without_price
from recgym.shop.pages import Place
from recgym.shop.preferences import preferences
from recgym.shop.shoppers import SHOPPERS, scripted, shopped
from recgym.shop.store import open_shop

SHOPS = ("minishop", "minishop-b")


def played(known, goal, shopper, seed=0):
    """What a shopper does, where it ends, and what that is worth."""
    actions = shopped(known.shop, goal, shopper, np.random.default_rng(seed))
    place = Place()
    for action in actions:
        place, meant = known.shop.step(place, action)
        assert meant, action
    worth = known.shop.reward(place, goal).total if place.page == "done" else 0.0
    return actions, place, worth


def scores(known, shopper, split="train", every=1):
    numbers = known.splits[split][::every]
    return np.array([played(known, known.goals[g], shopper, g)[2] for g in numbers])


@pytest.mark.parametrize("name", SHOPS)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_oracle_buys_what_every_goal_asks_for(name, split):
    known = open_shop(name)
    found = scores(known, SHOPPERS["oracle"].shopper, split)
    missed = [known.goals[known.splits[split][n]].text for n in np.flatnonzero(found < 1)]
    assert found.mean() >= 0.95 and (found == 1).mean() >= 0.9
    assert not missed


@pytest.mark.parametrize("name", SHOPS)
def test_shoppers_stand_in_their_order(name):
    """A rule, somebody as good as people were on WebShop (59.6% successful), and the oracle."""
    known = open_shop(name)
    rule, people, oracle = (
        scores(known, SHOPPERS[shopper].shopper, every=3)
        for shopper in ("rule", "scripted", "oracle")
    )
    assert rule.mean() < people.mean() < oracle.mean()
    assert (rule == 1).mean() < 0.3
    if name == "minishop":
        assert (people == 1).mean() == pytest.approx(0.596, abs=0.06)


def test_who_heeds_more_buys_better():
    known = open_shop("minishop")

    def by(skill):
        def shopper(shop, goal, rng):
            return scripted(shop, goal, rng, skill=skill)

        return scores(known, shopper, every=5).mean()

    found = [by(skill) for skill in (0.0, 0.5, 1.0)]
    assert found == sorted(found) and found[2] > found[0] + 0.1


def test_the_rule_takes_the_first_product_as_it_is():
    known = open_shop("minishop")
    goal = known.goals[0]
    actions, place, _ = played(known, goal, SHOPPERS["rule"].shopper)
    assert actions[0] == f"search[{goal.text.lower()}]" and actions[2:] == ["click[buy now]"]
    first = known.shop.index.search(goal.text.lower(), 1)[0]
    assert place.product == first and place.chosen == ()


def test_a_script_searches_in_the_goals_own_words_without_the_price():
    known = open_shop("minishop")
    goal = next(goal for goal in known.goals if "price lower than" in goal.text)
    (first, *_), _, _ = played(known, goal, SHOPPERS["scripted"].shopper)
    assert first == f"search[{without_price(goal.text).lower()}]" and "price lower" not in first


def test_who_finds_nothing_gives_up():
    known = open_shop("minishop")
    lost = replace(known.goals[0], text="zzzz", name="zzzz")
    for name in ("rule", "scripted"):
        actions, place, worth = played(known, lost, SHOPPERS[name].shopper)
        assert len(actions) == 1 and place.page == "results" and worth == 0


# ---------------------------------------------------------------------------------- preferences


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        yield demonstrate("recgym/MiniShop-v0", "scripted", sessions=40)


def places(shop, episode):
    found = [Place()]
    for action in episode.actions:
        found.append(shop.step(found[-1], action)[0])
    return found


def test_pairs_are_of_one_place_and_lead_to_two(done):
    shop = open_shop("minishop").shop
    every = list(preferences(done, shop, "all"))
    known = {episode.id: (episode, places(shop, episode)) for episode in done}
    for pair in every:
        episode, walked = known[pair.episode]
        place = walked[pair.step]
        assert pair.chosen == episode.actions[pair.step] != pair.rejected
        assert pair.goal == episode.infos["goal"][pair.step]
        assert pair.page == episode.observations[pair.step]
        assert {pair.chosen, pair.rejected} <= set(shop.actions(place))
        assert shop.step(place, pair.rejected)[0] != walked[pair.step + 1]
    expected = sum(
        sum(shop.step(place, other)[0] != walked[step + 1] for other in shop.actions(place))
        for episode, walked in known.values()
        for step, place in enumerate(walked[:-1]) if place.page != "search"
    )  # fmt: skip
    assert len(every) == expected


def test_negatives_are_drawn_evenly_or_by_a_reference(done):
    shop = open_shop("minishop").shop
    every = list(preferences(done, shop, "all"))
    steps = {(pair.episode, pair.step) for pair in every}
    drawn = list(preferences(done, shop, "uniform", seed=1))
    assert len(drawn) == len(steps) and set(drawn) <= set(every)
    assert drawn == list(preferences(done, shop, "uniform", seed=1))
    assert drawn != list(preferences(done, shop, "uniform", seed=2))
    most = list(preferences(done, shop, "uniform", count=1000))
    assert set(most) == set(every)
    asked = []

    def last(goal, page, actions, rng):
        asked.append((goal, page))
        return actions[-1]

    by_reference = list(preferences(done, shop, "reference", count=3, reference=last))
    assert len(by_reference) == len(steps) and len(asked) == 3 * len(steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"negatives": "some"}, "negatives is uniform, all, reference"),
        ({"count": 0}, "count is a whole number from 1 on"),
        ({"negatives": "reference"}, "A reference policy is given where"),
    ],
)
def test_what_makes_no_pairs_is_said(done, options, words):
    with pytest.raises(InvalidArgument, match=words):
        next(preferences(done, open_shop("minishop").shop, **options))


def test_another_catalogue_is_refused(done):
    with pytest.raises(InvalidArgument, match="another catalogue"):
        next(preferences(done, open_shop("minishop-b").shop))
