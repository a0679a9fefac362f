"""Our histories for d3rlpy, and what it has trained as agents."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import WARNING
from typing import Any, Self

import numpy as np
import structlog
import torch
from d3rlpy.algos import QLearningAlgoBase
from d3rlpy.base import LearnableConfigWithShape
from d3rlpy.constants import ActionSpace
from d3rlpy.models.encoders import EncoderFactory, register_encoder_factory
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from torch import nn
from torch.distributions import Categorical

from recgym.errors import InvalidArgument, printable
from recgym.networks import Histories, NetworkAgent

_POLICIES = ("policy", "imitator")  # by these names d3rlpy keeps them, and values
_VALUES = "q_funcs"
_KNOWN = ({"imitator"}, {"policy", _VALUES}, {_VALUES}, {"imitator", _VALUES})
_ASIDE = {"targ_q_funcs", "log_temp"}  # of training only


@dataclass
class D3rlpyAgent(NetworkAgent):
    """What d3rlpy has trained, as an agent."""

    def take(self, algorithm: Any, dataset: MinariDataset) -> Self:
        """Become an algorithm, as it is now, that was trained on such a dataset."""
        scores = _Scores(algorithm)
        shape, count = algorithm.observation_shape, algorithm.action_size
        observed, acted = dataset.observation_space, dataset.action_space
        if tuple(shape) != observed.shape or acted != spaces.Discrete(count):
            raise InvalidArgument(
                f"This {type(algorithm).__name__} sees observations of shape {tuple(shape)} and "
                f"has {count:,} actions, and {dataset.id} has {printable(repr(observed))} and "
                f"{printable(repr(acted))}: give the dataset that it has learned from."
            )
        plan = LearnableConfigWithShape(shape, count, algorithm.config).serialize()
        return self._take(scores, plan, observed, count)

    @classmethod
    def _rebuilt(cls, plan: Any, space: spaces.Box) -> nn.Module:
        with quiet():
            return _Scores(LearnableConfigWithShape.deserialize(plan).create("cpu:0"))


class _Scores(nn.Module):
    """What an algorithm says of every action: logits of its policy, or the mean of its values.

    Where it has an imitator beside values, as in BCQ, they are values of what that allows.
    """

    def __init__(self, algorithm: Any) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {}
        fitted = isinstance(algorithm, QLearningAlgoBase) and algorithm.impl is not None
        if fitted and algorithm.get_action_type() == ActionSpace.DISCRETE:
            parts = algorithm.impl.modules.get_torch_modules()
        if parts.keys() - _ASIDE not in _KNOWN:
            raise InvalidArgument(
                "from_d3rlpy takes an algorithm of d3rlpy that was fitted and has a policy over "
                "discrete actions or values of them, such as DiscreteBC, DoubleDQN, DiscreteCQL "
                f"or DiscreteSAC, and not a {type(algorithm).__name__} such as this."
            )
        policies = [parts[name] for name in _POLICIES if name in parts]
        values = [*parts.get(_VALUES, nn.ModuleList()).children()]
        self.imitator = parts["imitator"] if parts.keys() >= {"imitator", _VALUES} else None
        self.parts = nn.ModuleList(values if self.imitator else policies or values)
        self.scaler = algorithm.observation_scaler
        if self.imitator:
            self.least = math.log(algorithm.config.action_flexibility)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        if self.scaler is not None:
            observations = self.scaler.transform(observations)
        said = [part(observations) for part in self.parts]
        each = [of.logits if isinstance(of, Categorical) else of.q_value for of in said]
        scores = torch.stack(each).mean(0)
        if self.imitator is None:
            return scores
        chances = self.imitator(observations).logits.log_softmax(1)
        ratios = chances - chances.amax(1, keepdim=True)
        above_worst = scores - scores.amin(1, keepdim=True) + 1e-5  # as d3rlpy has it
        # The rest are below 0, and where BCQ was more flexible, the likeliest would be allowed.
        return torch.where(ratios > self.least, above_worst, ratios)


@dataclass
class HistoriesFactory(EncoderFactory):  # type: ignore[misc]
    """Makes the encoders of d3rlpy's networks."""

    highs: list[int]  # of each number of an observation
    layout: dict[str, list[int]]
    size: int

    def create(self, observation_shape: Any) -> Histories:
        """Make an encoder of observations."""
        highs = np.array(self.highs)
        space = spaces.Box(np.zeros_like(highs), highs, dtype=np.int64)
        return Histories(space, self.layout, self.size)

    def create_with_action(
        self, observation_shape: Any, action_size: int, discrete_action: bool = False
    ) -> Any:
        """Refuse, as items are no vectors."""
        raise InvalidArgument(
            "d3rlpy_encoder is for algorithms with discrete actions: choose another, such as "
            "DiscreteBC, DoubleDQN, DiscreteCQL or DiscreteSAC."
        )

    @staticmethod
    def get_type() -> str:
        """Its name in what d3rlpy saves."""
        return "recgym-histories"


register_encoder_factory(HistoriesFactory)


@contextmanager
def quiet() -> Iterator[None]:
    """Let d3rlpy print nothing but warnings meanwhile."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)
