"""What shoppers chose on the pages of a shop, and what else they could have chosen there."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.errors import InvalidArgument
from recgym.minari_format import runs_of
from recgym.shop.goals import without_price
from recgym.shop.pages import BACK, BUY, NEXT, PREVIOUS, Place, Shop
from recgym.shop.preferences import elsewhere, same_shop

_KEPT = 1 << 14  # pages whose actions are kept as they are read
_BUY = f"click[{BUY.lower()}]"
_BUTTONS = {name.lower() for name in (BACK, PREVIOUS, NEXT)}  # beside products
_PLAIN = " [SEP] "  # between the parts of a page that is no rich text
_SIGN = re.compile(r"\[(clicked )?button_?\]")
_LONG, _FIRST, _OTHERS = 20, 6, 10  # actions of a long list, of which these are kept: first, drawn


class Choice(NamedTuple):
    """What was done on one page, and what could have been done."""

    page: str  # as it is seen
    actions: tuple[str, ...]  # all that could be done
    done: int  # which of them was
    others: tuple[int, ...]  # those that lead elsewhere

    def part(self, rng: np.random.Generator) -> "Choice":
        """What WebShop's agents learn from where a list is long: its first actions, and draws."""
        count = len(self.actions)
        if count <= _LONG:
            return self
        drawn = rng.choice(np.arange(_FIRST, count), _OTHERS, replace=False)
        kept = [*dict.fromkeys([*range(_FIRST), *drawn.tolist(), self.done])]
        others = tuple(place for place, one in enumerate(kept) if one in self.others)
        actions = tuple(self.actions[one] for one in kept)
        return Choice(self.page, actions, kept.index(self.done), others)


class Session(NamedTuple):
    """The choices of one shopper, from the first page of results to the purchase."""

    goal: str
    choices: tuple[Choice, ...]
    reward: float
    queries: tuple[str, ...]  # what was searched for

    @property
    def paired(self) -> "Session":
        """Its choices on pages where something else leads elsewhere."""
        return self._replace(choices=tuple(choice for choice in self.choices if choice.others))


@dataclass(frozen=True)
class Choices:
    """Choices of some sessions side by side."""

    all: tuple[Choice, ...]
    offsets: NDArray[np.int64]  # where those of each session begin, and the last ones end

    def __len__(self) -> int:
        """How many there are."""
        return len(self.all)

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> "Choices":
        """Those of sessions that have any."""
        counts = [len(session.choices) for session in sessions if session.choices]
        found = tuple(choice for session in sessions for choice in session.choices)
        return cls(found, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def sessions_of(dataset: MinariDataset, shop: Shop) -> list[Session]:
    """All sessions of a dataset; a search has no choices, and what was not understood was none."""
    if not isinstance(dataset.action_space, spaces.Text):
        raise InvalidArgument(
            f"Agents of shops act in words, and the actions of {dataset.id} are "
            f"{dataset.action_space!r}: give sessions of a shop, such as "
            "recgym/minishop/scripted-v0 (`recgym data collect recgym/MiniShop-v0`)."
        )
    same_shop(dataset, shop)
    found = []
    for episodes in runs_of(dataset, dataset.episode_indices):
        pages = episodes.at_states("observations", last=False)
        goals = episodes.at_states("infos/goal", last=False)
        done = episodes.at_steps("actions")
        rewards = episodes.at_steps("rewards")
        for first, stop in zip(episodes.offsets[:-1], episodes.offsets[1:], strict=True):
            some = slice(int(first), int(stop))
            found.append(_session(shop, goals[first], pages[some], done[some], rewards[some].sum()))
    return found


def _session(
    shop: Shop, goal: str, pages: Sequence[str], actions: Sequence[str], reward: float
) -> Session:
    place, choices, queries = Place(), [], []
    for page, action in zip(pages, actions, strict=True):
        after, meant = shop.step(place, action)
        known, said = shop.actions(place), _as_listed(action)
        if meant and said.startswith("search["):
            queries.append(after.query)
        elif meant and said in known:
            others = tuple(known.index(other) for other in elsewhere(shop, place, said))
            choices.append(Choice(page, known, known.index(said), others))
        place = after
    return Session(goal, tuple(choices), float(reward), tuple(queries))


def _as_listed(action: str) -> str:
    """An action as a shop lists it, in whatever case and with whatever blanks it was said."""
    name, _, rest = action.strip().partition("[")
    what, _, _ = rest.rpartition("]")
    return f"{name.strip()}[{what.strip()}]".lower()


def shop_of(dataset: MinariDataset) -> Shop:
    """The shop in which the sessions of a dataset were."""
    try:
        env: Any = dataset.recover_environment().unwrapped
        shop: Shop = env.shoppers.shopping.shop
    except InvalidArgument:  # its files are gone, say
        raise
    except (ValueError, AttributeError, TypeError):
        raise InvalidArgument(
            f"{dataset.id} does not bring the shop in which its sessions were: give sessions that "
            "`recgym data collect` has written."
        ) from None
    return shop


# --------------------------------------------------------------------------- as pages are read


@lru_cache(_KEPT)
def read_as(
    page: str, actions: tuple[str, ...], compat: bool = False
) -> tuple[str, tuple[str, ...]]:
    """A page and its actions as they are read: a product is its name and price, not its number.

    With these, its place, and a word on whether it was clicked before, the list on the page says
    nothing more, and is left out. The original reads the list, and shows names alone: `compat`.
    """
    if _BUY in actions:  # what can be chosen of a product may look like anything
        return page, actions
    between = _PLAIN if page.startswith(f"Instruction:{_PLAIN}") else "\n"
    lines, links = page.split(between), {action[6:-1] for action in actions} - _BUTTONS
    told: dict[str, str] = {}
    listed: set[int] = set()
    for place, (link, name, price) in enumerate(zip(lines, lines[1:], lines[2:], strict=False)):
        button = _SIGN.sub("", link).strip().lower()
        if button in links and price.startswith("$"):
            more = ", clicked" if link.startswith("[clicked") else ""
            there = f"item {len(told) + 1} - {name.strip()}, {price.strip()}{more}"
            told[button] = f"click[{f'item - {name.strip()}' if compat else there}]"
            listed |= {place, place + 1, place + 2}
    read = tuple(told.get(action[6:-1], action) for action in actions)
    if compat:
        return page, read
    rest = [line for place, line in enumerate(lines) if place not in listed]
    return between.join(rest), read


def offered(infos: Any) -> list[tuple[str, ...]]:
    """What each shopper can do, from the infos of an environment."""
    return [_listed(told) for told in infos["actions"]]


@lru_cache(_KEPT)
def _listed(told: str) -> tuple[str, ...]:
    return tuple(json.loads(told))


def query_of(goal: str) -> str:
    """A search for the goal's own words, without its price."""
    return f"search[{without_price(goal).lower()}]"


def is_search(actions: Sequence[str]) -> bool:
    """Is there nothing to be done but to search?"""
    return len(actions) == 1 and actions[0].startswith("search[")
