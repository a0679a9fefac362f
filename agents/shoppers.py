"""Shoppers that need not learn: what those that learn to shop are held against."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import Infos, Source, training_data
from recgym.agents.choices import query_of
from recgym.errors import InvalidArgument, printable
from recgym.shop.pages import BACK, BUY, NEXT, PREVIOUS, QUERY

_FILE = "agent.json"
_READ = ("goal", "page", "actions")  # of the infos
_BUY = f"click[{BUY.lower()}]"
_NO_PRODUCTS = {f"click[{button.lower()}]" for button in (BACK, NEXT, PREVIOUS)}  # among results


class _Shopper:
    """What both share: there is nothing to learn, and no more to save than options."""

    learns_from: ClassVar[Source] = "data"
    shops: ClassVar[bool] = True
    parameters: ClassVar[int] = 0  # numbers learned

    def fit(
        self, train: MinariDataset, validation: MinariDataset | None = None, env: Any = None
    ) -> Self:
        """See that there is a shop."""
        training_data(train, validation)
        if not isinstance(train.action_space, spaces.Text):
            raise InvalidArgument(
                f"{type(self).__name__} shops in words, and actions in {train.id} are "
                f"{printable(repr(train.action_space))}: give it data of a shop."
            )
        return self

    def act(self, observations: Any, infos: Infos) -> NDArray[Any]:
        """Say something for each shopper."""
        if missing := [name for name in _READ if name not in infos]:
            raise InvalidArgument(
                f"{type(self).__name__} shops by what a shop's infos say, and they have no "
                f"'{missing[0]}': give those of the pages."
            )
        shoppers = zip(*(infos[name] for name in _READ), strict=True)
        said = [self._say(goal, page, json.loads(actions)) for goal, page, actions in shoppers]
        return np.array(said, object)

    def save(self, folder: Path) -> None:
        """Write the options."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"options": asdict(self)}, indent=1)  # type: ignore[call-overload]
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """An agent as it was saved."""
        try:
            about = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            return cls(**about["options"])
        except (OSError, LookupError, TypeError, ValueError) as why:
            raise InvalidArgument(
                f"{folder} holds no {cls.__name__} that can be read ({printable(str(why))}): give "
                "the folder into which one was saved by the same recgym."
            ) from None

    def _say(self, goal: str, page: str, actions: Sequence[str]) -> str:
        raise NotImplementedError


@dataclass
class ShopRule(_Shopper):
    """Search for the whole instruction, and buy the first product as it is: WebShop's rule."""

    def _say(self, goal: str, page: str, actions: Sequence[str]) -> str:
        if page == "search":
            return f"search[{goal.lower()}]"
        if page == "results":
            products = (action for action in actions if action not in _NO_PRODUCTS)
            return next(products, actions[0])
        return _BUY if _BUY in actions else actions[-1]


@dataclass
class ShopRandom(_Shopper):
    """Anything that can be done, evenly; searches are for the goal's words."""

    seed: int = 0  # decides all draws

    def __post_init__(self) -> None:
        """Begin to draw."""
        self._rng = np.random.default_rng(self.seed)

    def _say(self, goal: str, page: str, actions: Sequence[str]) -> str:
        action = actions[int(self._rng.integers(len(actions)))]
        return query_of(goal) if action == QUERY else action
