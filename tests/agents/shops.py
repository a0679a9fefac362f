"""Sessions in a small shop, and shoppers in training into which tests look."""

import dataclasses
import json
import math

import numpy as np
import torch

from recgym.agents.choices import Choices, sessions_of, shop_of
from recgym.demonstrations import demonstrate
from recgym.runs import Run
from recgym.shop.catalogue import catalogue_of
from recgym.shop.pages import Shop
from recgym.shop.shoppers import SHOPPERS, Known

from .worlds import in_training

ENV = "recgym/MiniShop-v0"
QUICK = {"page_tokens": 40, "action_tokens": 12, "batch_size": 8, "validate_every": 4, "steps": 12}


def known_sessions(data):
    """Its sessions, as agents read them."""
    return sessions_of(data, shop_of(data))


def known_choices(data):
    """What was done on all pages."""
    return Choices.of(known_sessions(data)).all


def shopper(kind, reader, **options):
    """An agent that reads little of each page."""
    return kind(**QUICK | options, reader=reader)


def shopper_in_training(kind, reader, data, validation=None, env=None, **options):
    """One that is about to learn."""
    return in_training(shopper(kind, reader, **options), data, validation, env)


def asked(choices, goals=None):
    """Observations and infos as an environment has them on some pages."""
    infos = {
        "goal": goals or ["i need a lamp, and price lower than 20.00 dollars"] * len(choices),
        "actions": [json.dumps(choice.actions) for choice in choices],
    }
    told = {name: np.array([*values, None], object)[:-1] for name, values in infos.items()}
    return np.array([*(choice.page for choice in choices), None], object)[:-1], told


# ------------------------------------------------------------------------------------ odd sessions


def odd_shopper(shop, goal, rng):
    """Searches twice, looks everywhere, says what means nothing, and buys in capitals."""
    yield "click[buy now]"
    yield "search[]"
    yield f"search[{goal.name}]"
    yield "search[another thing]"
    yield "click[back to search]"
    place = yield f" SEARCH[  {goal.name.upper()}  ] "
    for action in ("next >", "< prev", "< prev", "next >", "< prev"):
        place = yield f"click[{action}]"
    product = next(action for action in shop.actions(place)[2:] if action.startswith("click[m"))
    place = yield product
    yield product
    for sub in ("Features", "reviews"):
        yield f"click[ {sub} ]"
        yield "click[buy now]"
        place = yield "click[< Prev]"
    for option in shop.actions(place)[6:][:2]:
        yield option
        yield option
    yield "buy now"
    yield "Click[Buy Now]"


def odd_ones(patch, sessions=3):
    """Sessions of such shoppers as a dataset."""
    patch.setitem(SHOPPERS, "odd", Known(odd_shopper, "does odd things"))
    return demonstrate(ENV, "odd", sessions=sessions, name="odd")


class Whatever:
    """An index that finds all products, whatever is searched for."""

    def __init__(self, count):
        self.count = count

    def search(self, query, most=50):
        return np.arange(min(self.count, most), dtype=np.int32)


def shop_with(products, shop, **changes):
    """A shop of such products: of each, what is another than that of one of a known shop."""
    one = dataclasses.replace(shop.catalogue.products[0], options={}, prices=(), price=9.5)
    made = [dataclasses.replace(one, **{"asin": f"M{number:09}"} | product)
            for number, product in enumerate(products)]  # fmt: skip
    return Shop(catalogue_of("made", made), Whatever(len(made)), shop.judge, **changes)


# -------------------------------------------------------------------------------- by slow loops


def jittered(network, seed=0, scale=0.1):
    """Move all weights a little, so that no two networks think the same."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights += scale * torch.randn(weights.shape, generator=generator)


def softmax_logs(network, page, actions):
    """Log-probabilities of a page's actions, read alone, as plain numbers."""
    with torch.no_grad():
        scores = network.scores([page], [actions])[0].double().tolist()
    total = math.log(sum(math.exp(score - max(scores)) for score in scores)) + max(scores)
    return [score - total for score in scores]


class Noted(Run):
    """A run that keeps what is measured in memory."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def record(self, step, values):
        self.lines.append({"step": step} | values)
