"""What was done in a shop against what could have been done instead, at the same place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from minari.dataset.minari_dataset import MinariDataset

from recgym.errors import InvalidArgument, printable
from recgym.shop.pages import QUERY, Place, Shop

Negatives = Literal["uniform", "all", "reference"]
Reference = Callable[[str, str, tuple[str, ...], np.random.Generator], str]


@dataclass(frozen=True, slots=True)
class Preference:
    """One thing that was done, and one that was not, at the same page and for the same goal."""

    goal: str
    page: str  # what was seen
    chosen: str
    rejected: str
    episode: int
    step: int


def preferences(
    dataset: MinariDataset,
    shop: Shop,
    negatives: Negatives = "uniform",
    count: int = 1,
    seed: int = 0,
    reference: Reference | None = None,
) -> Iterator[Preference]:
    """Pairs for each step whose place has other actions than the one that was taken.

    What is rejected is drawn evenly (`uniform`, `count` of them), sampled by a reference policy
    (`reference`, a function of goal, page, actions and a generator), or each of the others
    (`all`). What leads to the same place as what was done is no worse, and is left out; so is a
    search, as words of the shopper's own cannot be listed.
    """
    if negatives not in get_args(Negatives):
        raise InvalidArgument(
            f"negatives is {', '.join(get_args(Negatives))}, not {printable(repr(negatives))}."
        )
    if count < 1:
        raise InvalidArgument(f"count is a whole number from 1 on: found {count}.")
    if (reference is None) == (negatives == "reference"):
        raise InvalidArgument(
            "A reference policy is given where negatives are sampled by it, and only there: "
            "negatives='reference', reference=…."
        )
    same_shop(dataset, shop)
    rng = np.random.default_rng(seed)
    for episode in dataset:
        place = Place()
        goals, pages = episode.infos["goal"], episode.observations
        for step, action in enumerate(episode.actions):
            after, meant = shop.step(place, action)
            if meant and place.page != "search":
                others = elsewhere(shop, place, action)
                goal, page = goals[step], pages[step]
                for rejected in _drawn(others, negatives, count, rng, reference, goal, page):
                    yield Preference(goal, page, action, rejected, int(episode.id), step)
            place = after


def elsewhere(shop: Shop, place: Place, action: str) -> tuple[str, ...]:
    """What else can be done at a place that leads to another one than this action does."""
    after, _ = shop.step(place, action)
    return tuple(
        other for other in shop.actions(place)
        if other not in (action, QUERY) and shop.step(place, other)[0] != after
    )  # fmt: skip


def _drawn(
    others: tuple[str, ...],
    negatives: Negatives,
    count: int,
    rng: np.random.Generator,
    reference: Reference | None,
    goal: str,
    page: str,
) -> list[str]:
    """What is rejected: of those that lead elsewhere."""
    if not others or negatives == "all":
        return list(others)
    if reference is None:
        drawn = rng.choice(len(others), min(count, len(others)), replace=False)
        return [others[number] for number in drawn.tolist()]
    sampled = (reference(goal, page, others, rng) for _ in range(count))
    return list(dict.fromkeys(sampled))


def same_shop(dataset: MinariDataset, shop: Shop) -> None:
    """Refuse a dataset of another catalogue."""
    known = dataset.storage.metadata.get("catalogue")
    if known != shop.catalogue.sha256:
        raise InvalidArgument(
            f"{dataset.id} is of another catalogue than the shop {printable(shop.catalogue.name)}: "
            "open the shop that its environment has, dataset.recover_environment()."
        )
