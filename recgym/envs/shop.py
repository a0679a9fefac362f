"""A text shop: a goal in words, pages of products, a purchase, and what it was worth.

After WebShop (Yao et al., 2022). Nothing but a purchase earns anything; what is not understood
changes nothing and is counted. Goals are drawn by counter, as everything here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from recgym.envs.batch import BATCHED, Items, UserEnv, UserVectorEnv, checked_count, known_only
from recgym.envs.draws import uniforms
from recgym.errors import InvalidArgument, MissingExtra, printable

if TYPE_CHECKING:
    from recgym.shop.goals import Goal
    from recgym.shop.reward import Reward
    from recgym.shop.store import Opened

Seen = Literal["text_rich", "text"]
Split = Literal["train", "validation", "test"]
Kind = Literal["synthetic", "human"]
_LONGEST = 512  # characters of an action that is drawn; longer ones are understood, too
ARGUMENTS = ("shop", "files", "split", "goals", "seen", "numbered", "steps", "compat")


class Shopping:
    """A shop, the goals of a split, and the rules: what all shoppers of an environment share."""

    def __init__(
        self,
        shop: str = "minishop",
        files: str = "",
        split: Split = "train",
        goals: Kind = "synthetic",
        seen: Seen = "text_rich",
        numbered: bool = False,
        steps: int = 100,
        compat: bool = False,
    ) -> None:
        """Open a shop by its name, or WebShop's `files` in a folder of the user's.

        `numbered` makes actions numbers of what can be done, on the first page a search for the
        goal's own words. `compat` brings back what the original does otherwise.
        """
        for name, value, kind in (("split", split, Split), ("goals", goals, Kind),
                                  ("seen", seen, Seen)):  # fmt: skip
            if value not in get_args(kind):
                raise InvalidArgument(
                    f"{name} is {', '.join(get_args(kind))}, not {printable(repr(value))}."
                )
        if not isinstance(steps, int | np.integer) or steps < 1:
            raise InvalidArgument(
                f"steps is a whole number from 1 on, and {printable(repr(steps))} was given."
            )
        known = _opened(shop, str(files), goals, bool(compat))
        self.shop, self.nouns = known.shop, known.nouns
        self.goals: list[Goal] = [known.goals[number] for number in known.splits[split]]
        self.weights = np.cumsum([goal.weight for goal in self.goals])
        self.queries = [known.query(goal) for goal in self.goals]
        self.rich, self.steps = seen == "text_rich", int(steps)
        self.space = spaces.Text(known.longest, min_length=0, charset=known.characters)
        self.actions = Items(known.most) if numbered else Words(known.characters)
        self.numbered = bool(numbered)

    def drawn(self, keys: NDArray[np.uint64], asked: Any = None) -> NDArray[np.int64]:
        """The goals that are asked for, or drawn by their weights."""
        if asked is None:
            places = uniforms(keys, 0) * self.weights[-1]
            return np.asarray(np.searchsorted(self.weights, places, side="right"))
        goals = np.asarray(asked)
        if goals.dtype.kind not in "iu" or goals.shape not in ((), keys.shape):
            goals = np.array(-1)
        if goals.min() < 0 or goals.max() >= len(self.goals):
            raise InvalidArgument(
                f"Goals are 0 to {len(self.goals) - 1}, one for all shoppers or one for each of "
                f"{len(keys)}, and {printable(repr(asked))} was asked for."
            )
        return np.broadcast_to(goals.astype(np.int64), keys.shape)


class Words:
    """What a shopper says, as actions."""

    def __init__(self, characters: str) -> None:
        """Take the characters that samples are made of."""
        self.space = spaces.Text(_LONGEST, min_length=0, charset=characters)

    def one(self, action: Any) -> NDArray[Any]:
        return self.all([action], 1)

    def all(self, actions: Any, count: int) -> NDArray[Any]:
        given = list(actions) if isinstance(actions, Iterable) else []
        if isinstance(actions, str) or len(given) != count:
            raise InvalidArgument(
                f"Actions are one text for each of {count} shoppers, such as search[red shoes] or "
                f"click[buy now], and {printable(repr(actions))} was given; nothing was changed."
            )
        for action in given:
            if not isinstance(action, str):
                raise InvalidArgument(
                    "An action is a text such as search[red shoes] or click[buy now], and "
                    f"{printable(repr(action))} was given; nothing was changed."
                )
        return _objects(map(str, given), count)


class Shoppers:
    """A batch of shoppers, each with a goal of their own, somewhere in the shop."""

    n_items = 0

    def __init__(self, count: int, shopping: Shopping) -> None:
        """Make room for that many."""
        from recgym.shop.pages import Place

        self.count, self.shopping = count, shopping
        self.space, self.actions = shopping.space, shopping.actions
        self.layout: dict[str, tuple[int, int]] = {}
        self.titles: list[str] = []
        self._start = Place()
        self.places, self.goal = [self._start] * count, np.zeros(count, np.int64)
        self.steps, self.invalid = np.zeros((2, count), np.int64)
        self.bought: list[Reward | None] = [None] * count  # what a purchase was worth
        self.choices: list[tuple[str, ...]] = [()] * count  # what can be done
        self.said = [""] * count  # what each did last

    def begin(
        self, who: NDArray[np.int64], keys: NDArray[np.uint64], options: Mapping[str, Any]
    ) -> None:
        """Give goals: drawn, or those of `options["goal"]`."""
        known_only("reset() of a shop", options, ("goal",))
        self.goal[who] = self.shopping.drawn(keys, options.get("goal"))
        self.steps[who] = self.invalid[who] = 0
        for user in who.tolist():
            self.places[user], self.bought[user] = self._start, None
            self._look(user)

    def answer(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Let each say or click something."""
        rewards, bought = np.zeros(self.count), np.zeros(self.count, bool)
        shop = self.shopping.shop
        for user, action in enumerate(actions.tolist()):
            place = self.places[user]
            if place.page == "done":
                continue
            if self.shopping.numbered:
                action = self.meant(user, action)
            self.said[user] = action
            after, meant = shop.step(place, action)
            if not meant:
                self.invalid[user] += 1
                continue
            self.places[user] = after
            if after.page == "done":
                goal = self._goal(user)
                worth = self.bought[user] = shop.reward(after, goal)
                rewards[user], bought[user] = worth.total, True
            self._look(user)
        self.steps += 1
        return rewards, bought, (self.steps >= self.shopping.steps) & ~bought

    def observe(self) -> NDArray[Any]:
        """The page that each sees."""
        rich = self.shopping.rich
        return _objects((self.text(user, rich) for user in range(self.count)), self.count)

    def text(self, user: int, rich: bool) -> str:
        """The page that a shopper sees."""
        worth = self.bought[user]
        total = None if worth is None else worth.total
        return self.shopping.shop.text(self.places[user], self._goal(user).text, rich, total)

    def page(self, user: int) -> str:
        """The same as HTML."""
        worth = self.bought[user]
        total = None if worth is None else worth.total
        return self.shopping.shop.html(self.places[user], self._goal(user).text, total)

    def meant(self, user: int, number: int) -> str:
        """The words of a numbered action; of a number that is none here, nothing."""
        choices = self.choices[user]
        return choices[number] if number < len(choices) else ""

    def infos(self) -> dict[str, NDArray[Any]]:
        """The goal, the page, what can be done, what was not understood, and what was bought."""
        return {
            "goal": _objects((self._goal(user).text for user in range(self.count)), self.count),
            "page": _objects((place.page for place in self.places), self.count),
            "actions": _objects(map(_as_json, self.choices), self.count),
            "invalid": self.invalid.copy(),
            "purchase": _objects(map(_parts, self.bought), self.count),
        }

    def told(self, user: int, action: Any, reward: float) -> str:
        """What was done, and the page that it led to."""
        page = self.text(user, True)
        return page if action is None else f"\n> {self.said[user]}\n\n{page}"

    def _goal(self, user: int) -> "Goal":
        return self.shopping.goals[int(self.goal[user])]

    def _look(self, user: int) -> None:
        """See what can be done."""
        found = self.shopping.shop.actions(self.places[user])
        if self.shopping.numbered and self.places[user].page == "search":
            found = (f"search[{self.shopping.queries[self.goal[user]]}]",)
        self.choices[user] = found


class ShopEnv(UserEnv):
    """One shopper after another; keyword arguments are those of `Shopping`."""

    metadata = {"render_modes": ["ansi", "html"], "render_fps": 1}

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        """Open the shop."""
        self.shoppers = Shoppers(1, _shopping(options))
        super().__init__(self.shoppers, render_mode, "flat")
        self.metadata = self.metadata | {"nouns": self.shoppers.shopping.nouns}

    def render(self) -> str | None:  # type: ignore[override]
        """The session so far in words, or the page as it is."""
        if self.render_mode == "html":
            return self.shoppers.page(0)
        return super().render()


class ShopVectorEnv(UserVectorEnv):
    """Many shoppers in one shop; keyword arguments are those of `Shopping`."""

    metadata = {"render_modes": ["ansi", "html"], "render_fps": 1}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        autoreset_mode: Any = "NextStep",
        **options: Any,
    ) -> None:
        """Open the shop, for that many."""
        self.shoppers = Shoppers(checked_count(num_envs), _shopping(options, BATCHED))
        super().__init__(self.shoppers, render_mode, "flat", autoreset_mode)
        self.metadata = self.metadata | {"nouns": self.shoppers.shopping.nouns}

    def render(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """The sessions so far in words, or the pages as they are."""
        if self.render_mode == "html":
            return tuple(map(self.shoppers.page, range(self.num_envs)))
        return super().render()


def _shopping(options: Mapping[str, Any], *others: str) -> Shopping:
    known_only("A shop", options, (*ARGUMENTS, "render_mode", *others))
    return Shopping(**options)


def _objects(values: Iterable[Any], count: int) -> NDArray[Any]:
    """Texts as an array, whatever their lengths."""
    found = np.empty(count, object)
    found[:] = [*values]
    return found


def _parts(worth: "Reward | None") -> str:
    """What a purchase was worth, part by part; before it, nothing."""
    return json.dumps(asdict(worth)) if worth else ""


@lru_cache(1 << 14)
def _as_json(actions: Sequence[str]) -> str:
    return json.dumps(actions, ensure_ascii=False)


@lru_cache(maxsize=8)
def _opened(shop: str, files: str, goals: Kind, compat: bool) -> "Opened":
    try:
        from recgym.shop.store import open_shop
    except ImportError:
        raise MissingExtra("The shop", "shop") from None
    return open_shop(shop, files, goals, compat)
