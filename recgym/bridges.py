"""To other libraries and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset

from recgym.envs.batch import UserVectorEnv
from recgym.errors import InvalidArgument, MissingExtra, printable
from recgym.export import local_dataset
from recgym.minari_format import runs_of

if TYPE_CHECKING:
    from d3rlpy.dataset import MDPDataset

    from recgym.d3rl import D3rlpyAgent, HistoriesFactory
    from recgym.sb3 import Sb3Agent, UserVecEnv

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
    data = local_dataset(dataset)
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
    parts = list(runs_of(data, data.episode_indices))
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


def d3rlpy_encoder(dataset: MinariDataset | str, size: int = 64) -> "HistoriesFactory":
    """The `encoder_factory` with which an algorithm of d3rlpy embeds items.

    `size` is that of an embedding. What `algorithm.save` wrote with it, `d3rlpy.load_learnable`
    reads after `import recgym.d3rl`.
    """
    try:
        from recgym.d3rl import HistoriesFactory
    except ImportError:
        raise MissingExtra("d3rlpy_encoder", "d3rlpy") from None
    data = local_dataset(dataset)
    space, layout = data.observation_space, data.storage.metadata.get("layout", {})
    if not isinstance(space, spaces.Box) or not _are_codes(layout):
        raise InvalidArgument(
            "d3rlpy_encoder takes a dataset of recgym whose flat observations are a history and "
            f"responses, if any, and those of {data.id} are {printable(repr(space))}."
        )
    parts = {name: [*map(int, bounds)] for name, bounds in layout.items()}
    return HistoriesFactory(space.high.astype(int).tolist(), parts, size)


def from_d3rlpy(algorithm: Any, dataset: MinariDataset | str) -> "D3rlpyAgent":
    """What d3rlpy has trained as an agent; `dataset` is what it has learned from, or one like it.

    Its scores are the values of all items, mean over critics; of an algorithm that has a policy,
    such as DiscreteBC or DiscreteSAC, its logits; of DiscreteBCQ values, above those of what it
    does not allow. It acts by the highest, as `algorithm.predict`
    does. The agent is a copy: further training does not change it.
    """
    try:
        from recgym.d3rl import D3rlpyAgent
    except ImportError:
        raise MissingExtra("from_d3rlpy", "d3rlpy") from None
    return D3rlpyAgent().take(algorithm, local_dataset(dataset))


def from_sb3(algorithm: Any, env: Any) -> "Sb3Agent":
    """What Stable-Baselines3 has trained as an agent; `env` is what it has learned in.

    Its scores are the values that a DQN gives to all items, or the logits of a PPO's or A2C's
    policy. It acts by the highest and draws nothing, as `algorithm.predict(deterministic=True)`
    does. The agent is a copy: further training does not change it.
    """
    try:
        from recgym.sb3 import Sb3Agent
    except ImportError:
        raise MissingExtra("from_sb3", "sb3") from None
    return Sb3Agent().take(algorithm, env)


def to_sb3_vec_env(env_id: str, num_envs: int = 1, **options: Any) -> "UserVecEnv":
    """Many users at once as a vector environment of Stable-Baselines3.

    Options are those of the environment. `stable_baselines3.common.vec_env.VecMonitor` around it
    logs mean returns, and `sb3_policy_kwargs` has networks that read what it shows.
    """
    try:
        from recgym.sb3 import UserVecEnv
    except ImportError:
        raise MissingExtra("to_sb3_vec_env", "sb3") from None
    if "autoreset_mode" in options:
        raise InvalidArgument(
            "to_sb3_vec_env takes no autoreset_mode: Stable-Baselines3 wants an episode to begin "
            "in the step that ends the one before."
        )
    batch = gymnasium.make_vec(env_id, num_envs, **options).unwrapped
    if not isinstance(batch, UserVectorEnv):
        raise InvalidArgument(
            f"to_sb3_vec_env takes environments of recgym as a batch, and this makes a "
            f"{type(batch).__name__} of {printable(str(env_id))}: for others, Stable-Baselines3 "
            "has make_vec_env."
        )
    return UserVecEnv(batch)


def sb3_policy_kwargs(env: Any, size: int = 64) -> dict[str, Any]:
    """The `policy_kwargs` with which an algorithm of Stable-Baselines3 embeds items.

    `env` is an environment of recgym, single or for Stable-Baselines3; `size` is that of an
    embedding. Other `policy_kwargs` can be added to the dict.
    """
    try:
        from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

        from recgym.networks import Histories
    except ImportError:
        raise MissingExtra("sb3_policy_kwargs", "sb3") from None
    metadata = env.get_attr("metadata")[0] if isinstance(env, VecEnv) else env.metadata
    space, layout = env.observation_space, metadata.get("layout", {})
    normalize = unwrap_vec_normalize(env)
    codes = isinstance(space, spaces.Box) and not (normalize and normalize.norm_obs)
    if not codes or not _are_codes(layout):
        raise InvalidArgument(
            "sb3_policy_kwargs takes an environment of recgym whose flat observations, as they "
            f"are, are a history and responses, if any: not a {type(env).__name__} that shows "
            f"{printable(repr(space))}."
        )
    return {
        "features_extractor_class": Histories,
        "features_extractor_kwargs": {"layout": layout, "size": size},
    }


def _are_codes(layout: Mapping[str, Any]) -> bool:
    """Is all that is seen an item or a response?"""
    return layout.keys() in ({"history"}, {"history", "responses"})


def _flat(observations: Any) -> list[Any]:
    if isinstance(observations, dict):
        return list(observations.values())
    return list(observations) if isinstance(observations, tuple) else [observations]
