"""Networks that read histories, and agents that score items by a network, whoever trains it."""

import copy
import json
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

import numpy as np
import torch
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from minari.serialization import deserialize_space, serialize_space
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from recgym.agent import Source
from recgym.errors import InvalidArgument, UnknownName, printable
from recgym.repeats import put_last

_FILE = "agent.safetensors"  # weights; what rebuilds their network is JSON in its header
_TOGETHER = 2**24  # scores that are computed at once
Range = tuple[Callable[[float], bool], str]  # is a number in it, and what it is in words
POSITIVE: Range = (lambda value: value > 0, "a number above 0")
SHARE: Range = (lambda value: 0 <= value < 1, "a share from 0 on, below 1")
PART: Range = (lambda value: 0 < value <= 1, "a number above 0, up to 1")


@dataclass
class Learned:
    """An agent that has learned a network, and is kept as one: options, a plan, and weights.

    A child says how its network is rebuilt from JSON, and what it answers.
    """

    learns_from: ClassVar[Source] = "data"

    from_zero: ClassVar[frozenset[str]] = frozenset()  # whole numbers that may be 0
    ranges: ClassVar[dict[str, Range]] = {  # of numbers that are not whole
        "dropout": SHARE,
        "discount": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        "learning_rate": POSITIVE,
        "second_learning_rate": POSITIVE,
    }

    def __post_init__(self) -> None:
        """Refuse options that mean nothing; have learned nothing."""
        hints = get_type_hints(type(self))
        for option in fields(self):
            least = 0 if option.name in self.from_zero | {"seed"} else 1
            value, kind = getattr(self, option.name), hints[option.name]
            _check_option(option.name, value, kind, least, self.ranges.get(option.name))
        self._network: nn.Module | None = None

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""
        return sum(numbers.numel() for numbers in self._learned().parameters())

    def save(self, folder: Path) -> None:
        """Write the network, and what rebuilds it, as one file into a folder."""
        state = self._learned().state_dict()
        about = {"agent": type(self).__name__, "options": asdict(self)} | self._about()
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{_FILE}.{os.getpid()}.part"
        copies = {name: numbers.clone() for name, numbers in state.items()}  # none shares memory
        save_file(copies, draft, {"about": json.dumps(about)})
        draft.replace(folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """An agent as it was saved."""
        try:
            with safe_open(folder / _FILE, "pt") as file:
                about = json.loads(file.metadata()["about"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about["agent"] != cls.__name__:
                raise ValueError(f"it holds a {about['agent']}")
            agent = cls(**about["options"])
            with drawing_from(0):  # what is drawn here is overwritten
                agent._restore(about)
            agent._learned().load_state_dict(state)
        except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as why:
            raise InvalidArgument(
                f"{folder} holds no {cls.__name__} that can be read ({printable(str(why))}): give "
                "the folder into which one was saved by the same recgym."
            ) from None
        return agent

    def _about(self) -> dict[str, Any]:
        """What it is restored from but for its options and weights, as JSON."""
        raise NotImplementedError

    def _restore(self, about: Mapping[str, Any]) -> None:
        """Make the network of what was said about it, whatever its weights."""
        raise NotImplementedError

    def _learned(self) -> nn.Module:
        if self._network is None:
            raise InvalidArgument(
                f"{type(self).__name__} has not learned yet: call fit(train), or load(folder)."
            )
        return self._network


@dataclass
class NetworkAgent(Learned):
    """An agent that recommends the item to which its network gives the highest score.

    It sees flat observations.
    """

    def fit(
        self, train: MinariDataset, validation: MinariDataset | None = None, env: Any = None
    ) -> Self:
        """Refuse to learn: the network was trained before."""
        raise InvalidArgument(
            f"This {type(self).__name__} has learned before it became an agent, and learns no "
            "more: train its algorithm, and make an agent of that."
        )

    def act(self, observations: Any, infos: Any) -> NDArray[np.int64]:
        """Recommend the best item to each user, but for what its data hardly ever repeat.

        One that is refused would be the best one again, as what is seen of a user hardly changes.
        """
        scores = self.scores(observations, infos)
        put_last(scores, np.asarray(observations)[:, self._history], self._fresh, -np.inf)
        return np.asarray(scores.argmax(1))

    def scores(self, observations: Any, infos: Any) -> NDArray[np.float32]:
        """(batch, items): what the network says of each item."""
        network, seen = self._learned(), self._checked(observations)
        scores = np.empty((len(seen), self._n_items), np.float32)
        some = max(1, _TOGETHER // self._n_items)
        with torch.no_grad():
            for first in range(0, len(seen), some):
                part = torch.as_tensor(seen[first : first + some], dtype=torch.float32)
                scores[first : first + some] = network(part).numpy()
        return scores

    def _about(self) -> dict[str, Any]:
        return {
            "observation_space": serialize_space(self._space),
            "n_items": self._n_items,
            "network": self._plan,
            "history": [self._history.start, self._history.stop],
            "fresh": self._fresh,
        }

    def _restore(self, about: Mapping[str, Any]) -> None:
        space, plan = deserialize_space(about["observation_space"]), about["network"]
        self._take(self._rebuilt(plan, space), plan, space, about["n_items"])
        self._leave_out(slice(*about["history"]), about["fresh"])

    def _take(self, network: nn.Module, plan: Any, space: spaces.Box, n_items: int) -> Self:
        """Score by a copy of a network, which this plan rebuilds, and leave out nothing."""
        self._network = copy.deepcopy(network).cpu().eval()
        self._plan, self._space, self._n_items = plan, space, n_items
        self._leave_out(slice(0, 0), 0)
        return self

    def _leave_out(self, history: slice, fresh: int) -> None:
        """Recommend none of the newest items of the history, which is there in observations."""
        self._history, self._fresh = history, fresh

    @classmethod
    def _rebuilt(cls, plan: Any, space: spaces.Box) -> nn.Module:
        """A network of that plan, whatever its weights."""
        raise NotImplementedError

    def _checked(self, observations: Any) -> NDArray[Any]:
        seen, space = np.asarray(observations), self._space
        if seen.shape[1:] != space.shape or (seen < space.low).any() or (seen > space.high).any():
            raise InvalidArgument(
                f"{type(self).__name__} has learned from observations such as "
                f"{printable(repr(space))}, and was given some of shape {seen.shape[1:]} or with "
                "other items: ask it about the catalogue that it knows."
            )
        return seen


def _check_option(name: str, value: Any, kind: Any, least: int, within: Range | None) -> None:
    """Refuse an option that is not of its kind."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UnknownName(name, str(value), map(str, get_args(kind)))
        return
    number = type(value) in (int, float) and math.isfinite(value)
    fits, wanted = {
        int: (type(value) is int and value >= least, f"a whole number from {least} on"),
        float: (number, "a finite number"),
        bool: (type(value) is bool, "True or False"),
    }.get(kind, (True, ""))
    if kind is float and within:
        sensible, wanted = within
        fits = number and sensible(value)
    if not fits:
        raise InvalidArgument(f"{name} is {wanted}, and {printable(repr(value))} was given.")


class Histories(nn.Module):
    """What a history says: each step of it embedded, and all of them summed.

    A step is the embedding of its item, plus that of how it was answered where that is seen, plus
    that of how long ago it was, and what of this sum is positive.
    """

    def __init__(
        self, observation_space: spaces.Box, layout: Mapping[str, Sequence[int]], size: int = 64
    ) -> None:
        """Make the embeddings."""
        super().__init__()
        self.layout = {name: [*map(int, bounds)] for name, bounds in layout.items()}
        self.parts = {name: slice(*bounds) for name, bounds in self.layout.items()}
        highs = {name: int(observation_space.high[part][0]) for name, part in self.parts.items()}
        self.codes = nn.ModuleDict({name: nn.Embedding(n + 1, size) for name, n in highs.items()})
        self.pad, length = highs["history"], layout["history"][1] - layout["history"][0]
        self.ages = nn.Embedding(length, size)
        self.scale = length**-0.5
        self.features_dim = size  # as Stable-Baselines3 asks

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        codes = {name: observations[:, part].long() for name, part in self.parts.items()}
        shown = codes["history"] != self.pad
        steps = self.ages(shown.sum(1, keepdim=True) - shown.cumsum(1))  # (batch, history, size)
        for name, values in codes.items():
            steps = steps + self.codes[name](values)
        features: torch.Tensor = self.scale * (steps.relu() * shown[:, :, None]).sum(1)
        return features


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let global generators draw from a seed meanwhile, and go on as if nothing had been drawn."""
    before = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
