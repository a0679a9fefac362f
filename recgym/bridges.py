"""To other libraries and back."""

from typing import TYPE_CHECKING, Any

import minari
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset

from recgym.buffers import from_buffers
from recgym.episodes import Episodes
from recgym.errors import InvalidArgument, MissingExtra, printable
from recgym.minari_format import ColumnStorage, buffers_of

if TYPE_CHECKING:
    from d3rlpy.dataset import MDPDataset

_EXACT = 2**24  # d3rlpy makes every batch float32, which counts exactly to here


def to_d3rlpy(dataset: MinariDataset | str, **options: Any) -> "MDPDataset":
    """The episodes of a dataset as d3rlpy's MDPDataset, each action beside what it answered.

    d3rlpy has no place for the observation after the last action, so it is left out; of an
    episode that is truncated, d3rlpy itself then leaves out the last transition. The number of
    actions is that of the space. Options (`transition_picker`, …) go to MDPDataset.
    """
    try:
        from d3rlpy.constants import ActionSpace
        from d3rlpy.dataset import MDPDataset
    except ImportError:
        raise MissingExtra("to_d3rlpy", "d3rlpy") from None
    data = minari.load_dataset(dataset) if isinstance(dataset, str) else dataset
    observed, acted = data.observation_space, data.action_space
    discrete = isinstance(acted, spaces.Discrete) and acted.start == 0
    leaves = _flat(getattr(observed, "spaces", observed))
    if not (discrete or isinstance(acted, spaces.Box)) or not all(
        isinstance(leaf, spaces.Box) for leaf in leaves
    ):
        raise InvalidArgument(
            f"d3rlpy takes Box observations (or a flat Dict or Tuple of them) and Discrete "
            f"actions from 0 or Box actions, and {data.id} has {printable(repr(observed))} and "
            f"{printable(repr(acted))}."
        )
    if any(leaf.dtype.kind in "iu" and leaf.high.max() > _EXACT for leaf in leaves):
        raise InvalidArgument(
            f"d3rlpy holds observations as float32, which counts exactly to {_EXACT:,}, and "
            f"those of {data.id} go further."
        )
    if not len(data):
        raise InvalidArgument(f"{data.id} has no episode left to hand to d3rlpy.")
    parts = list(_runs(data))
    observations = [_flat(part.observations(observed, last=False)) for part in parts]
    joined = [np.concatenate(leaf) for leaf in zip(*observations, strict=True)]
    last = np.cumsum(np.concatenate([part.lengths for part in parts])) - 1
    ends = np.concatenate([part.at_steps("terminations") for part in parts])
    terminals, timeouts = np.zeros((2, len(ends)), np.float32)
    terminals[last], timeouts[last] = ends[last], ~ends[last]
    return MDPDataset(
        observations=joined[0] if len(joined) == 1 else joined,
        actions=np.concatenate([part.actions(acted) for part in parts]),
        rewards=np.concatenate([part.at_steps("rewards") for part in parts]).astype(np.float32),
        terminals=terminals,
        timeouts=timeouts,
        action_space=ActionSpace.DISCRETE if discrete else ActionSpace.CONTINUOUS,
        action_size=int(acted.n) if discrete else int(acted.shape[0]),
        **options,
    )


def _runs(data: MinariDataset) -> "list[Episodes]":
    if isinstance(data.storage, ColumnStorage):
        return list(data.storage.runs(data.episode_indices))
    buffers = list(buffers_of(data.storage, data.episode_indices))
    return [from_buffers(buffers, data.observation_space, data.action_space)]


def _flat(observations: Any) -> list[Any]:
    if isinstance(observations, dict):
        return list(observations.values())
    return list(observations) if isinstance(observations, tuple) else [observations]
