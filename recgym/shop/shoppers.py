"""Shoppers who need not learn: a rule, a script of any skill, and one who knows the product.

A shopper is a generator: it says what to do, is told where that led, and ends when it has bought,
or when it gives up.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from recgym.shop.goals import NO_LIMIT, Goal, without_price
from recgym.shop.pages import BUY, NEXT, PREVIOUS, Place, Shop
from recgym.shop.reward import options_of

Shopping = Generator[str, Place, None]
Shopper = Callable[[Shop, Goal, np.random.Generator], Shopping]
_BUY, _NEXT, _BACK = (f"click[{name.lower()}]" for name in (BUY, NEXT, PREVIOUS))
_LOOKS = 6  # products that a scripted shopper looks at before the best of them has to do


def rule(shop: Shop, goal: Goal, rng: np.random.Generator) -> Shopping:
    """Search for the whole instruction, and buy the first product as it is: WebShop's baseline."""
    place = yield f"search[{goal.text.lower()}]"
    asins = _asins(shop, place)
    if asins:
        yield f"click[{asins[0]}]"
        yield _BUY


def oracle(shop: Shop, goal: Goal, rng: np.random.Generator) -> Shopping:
    """Search for the product's own name, find it, choose what is asked for, and buy."""
    product = shop.catalogue.products[goal.product]
    place = yield f"search[{product.name}]"
    while product.asin.lower() not in _asins(shop, place):
        if _NEXT not in shop.actions(place):
            return
        place = yield _NEXT
    yield f"click[{product.asin.lower()}]"
    for value in options_of(product, goal).values():
        yield f"click[{value}]"
    yield _BUY


def scripted(
    shop: Shop, goal: Goal, rng: np.random.Generator, skill: float = 0.9, looks: int = _LOOKS
) -> Shopping:
    """Search in the goal's words, look at some products, and buy what fits all that was heeded.

    Each demand of the goal is heeded with a chance of `skill`: an attribute or an option that is
    not is neither looked for nor chosen, nor is a price that is too high noticed.
    """
    heeded = _heeded(goal, rng, skill)
    place = yield f"search[{without_price(goal.text).lower()}]"
    best, most = "", -1.0
    for asin in _asins(shop, place)[:looks]:
        place = yield f"click[{asin}]"
        worth = _worth(shop, place, heeded)
        if worth == 1:
            break
        if worth > most:
            best, most = asin, worth
        place = yield _BACK
    else:
        if not best:
            return
        place = yield f"click[{best}]"
    for value in options_of(shop.catalogue.products[place.product], heeded).values():
        yield f"click[{value}]"
    yield _BUY


@dataclass(frozen=True)
class Known:
    """A shopper by name."""

    shopper: Shopper
    about: str


HUMAN_SKILL = 0.76  # about as often successful on MiniShop as people were on WebShop: 59.6%
SHOPPERS = {
    "rule": Known(rule, "the first product of a search for the whole instruction, as it is"),
    "scripted": Known(
        partial(scripted, skill=HUMAN_SKILL),
        f"looks at {_LOOKS} products, and heeds each demand with a chance of {HUMAN_SKILL:g}",
    ),
    "oracle": Known(oracle, "knows the product's name, and chooses what is asked for"),
}


def shopped(shop: Shop, goal: Goal, shopper: Shopper, rng: np.random.Generator) -> list[str]:
    """What a shopper does, from the search page to the purchase or to giving up."""
    place, actions = Place(), []
    doing = shopper(shop, goal, rng)
    action = next(doing, None)
    while action is not None:
        actions.append(action)
        place, _ = shop.step(place, action)
        try:
            action = doing.send(place)
        except StopIteration:
            action = None
    return actions


def _asins(shop: Shop, place: Place) -> list[str]:
    """The products of a page of results, as they can be clicked."""
    said = (action[len("click[") : -1] for action in shop.actions(place))
    return [asin for asin in said if shop.catalogue.number(asin.upper()) >= 0]


def _heeded(goal: Goal, rng: np.random.Generator, skill: float) -> Goal:
    """What of a goal a shopper has in mind."""
    minded = iter(rng.random(len(goal.attributes) + len(goal.options) + 1) < skill)
    return replace(
        goal,
        attributes=tuple(one for one in goal.attributes if next(minded)),
        options=tuple(one for one in goal.options if next(minded)),
        price_upper=goal.price_upper if next(minded) else NO_LIMIT,
    )


def _worth(shop: Shop, place: Place, goal: Goal) -> float:
    """What a product could be worth at best."""
    product = shop.catalogue.products[place.product]
    return shop.judge.reward(product, options_of(product, goal), goal, shop.compat).total
