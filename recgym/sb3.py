"""Our users for Stable-Baselines3, and networks that read their histories."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from recgym.envs.batch import Layout, UserVectorEnv
from recgym.errors import InvalidArgument, printable


class UserVecEnv(VecEnv):
    """A batch of users as a vector environment of Stable-Baselines3.

    It does what its DummyVecEnv of single environments does. Only the infos differ, as each is a
    dict of its own: that of an episode's last step holds all there is, any other is empty.
    """

    def __init__(self, batch: UserVectorEnv) -> None:
        """Take users that do not begin anew by themselves within a step."""
        self.batch = batch
        super().__init__(batch.num_envs, batch.single_observation_space, batch.single_action_space)
        self.metadata = batch.metadata
        self._actions: Any = None

    def reset(self) -> Any:
        options = self._options
        if any(each.keys() != options[0].keys() for each in options):
            raise InvalidArgument("Options for reset() name the same things for every user.")
        together = {name: [each[name] for each in options] for name in options[0]}
        observations, infos = self.batch.reset(seed=self._seeds, options=together)
        self.reset_infos = [_of_user(infos, user) for user in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, known = self.batch.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            last = observations
            observations, begun = self.batch.reset(options={"reset_mask": dones})
            for user in np.flatnonzero(dones).tolist():
                infos[user] = _of_user(known, user)
                infos[user]["TimeLimit.truncated"] = not terminated[user]
                infos[user]["terminal_observation"] = _seen_by(user, last)
                self.reset_infos[user] = _of_user(begun, user)
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        self.batch.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """What is the same for all users, once for each."""
        single = attr_name in ("observation_space", "action_space")
        value = getattr(self.batch, f"single_{attr_name}" if single else attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set what is the same for all users."""
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise InvalidArgument(
                f"{printable(attr_name)} is one for all users: it cannot be set for some of them."
            )
        setattr(self.batch, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """The session of each user in words: of single environments, only `render` is here."""
        if method_name != "render":
            raise InvalidArgument(
                f"These users have one environment, and only render() asks each of them: call "
                f"{printable(method_name)} of its attribute `batch`."
            )
        texts = self.batch.render()
        return [texts and texts[user] for user in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """No wrapper of single environments fits around a batch."""
        return [False for _ in self._get_indices(indices)]


class Histories(BaseFeaturesExtractor):
    """What a history says: each step of it embedded, and all of them summed.

    A step is the embedding of its item, plus that of how it was answered where that is seen, plus
    that of how long ago it was, and what of this sum is positive.
    """

    def __init__(self, observation_space: spaces.Box, layout: Layout, size: int = 64) -> None:
        """Make the embeddings."""
        super().__init__(observation_space, size)
        self.parts = {name: slice(*bounds) for name, bounds in layout.items()}
        highs = {name: int(observation_space.high[part][0]) for name, part in self.parts.items()}
        self.codes = nn.ModuleDict({name: nn.Embedding(n + 1, size) for name, n in highs.items()})
        self.pad, length = highs["history"], layout["history"][1] - layout["history"][0]
        self.ages = nn.Embedding(length, size)
        self.scale = length**-0.5

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        codes = {name: observations[:, part].long() for name, part in self.parts.items()}
        shown = codes["history"] != self.pad
        steps = self.ages(shown.sum(1, keepdim=True) - shown.cumsum(1))  # (batch, history, size)
        for name, values in codes.items():
            steps = steps + self.codes[name](values)
        features: torch.Tensor = self.scale * (steps.relu() * shown[:, :, None]).sum(1)
        return features


def _of_user(infos: Mapping[str, Any], user: int) -> dict[str, Any]:
    return {name: of.item(user) for name, of in infos.items() if not name.startswith("_")}


def _seen_by(user: int, observations: Any) -> Any:
    if isinstance(observations, dict):
        return {name: part[user].copy() for name, part in observations.items()}
    return observations[user].copy()
