"""Our users for Stable-Baselines3, and what it has trained as agents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from recgym.agent import Source
from recgym.envs.batch import UserVectorEnv
from recgym.errors import InvalidArgument, printable
from recgym.networks import Histories, NetworkAgent

_LAYERS = (Histories, nn.Flatten, nn.Linear, nn.Tanh, nn.ReLU)  # that an agent is made of


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


@dataclass
class Sb3Agent(NetworkAgent):
    """What Stable-Baselines3 has trained, as an agent that draws nothing."""

    learns_from: ClassVar[Source] = "environment"

    def take(self, algorithm: Any, env: Any) -> Self:
        """Become an algorithm, as it is now, that was trained in such an environment."""
        layers, space = _layers(algorithm), algorithm.observation_space
        if (env.observation_space, env.action_space) != (space, algorithm.action_space):
            raise InvalidArgument(
                f"This {type(algorithm).__name__} has learned in an environment that shows "
                f"{printable(repr(space))} and takes {printable(repr(algorithm.action_space))}, "
                "and another was given: give the one that it has learned in."
            )
        plan = [[type(layer).__name__, _options(layer)] for layer in layers]
        return self._take(nn.Sequential(*layers), plan, space, int(env.action_space.n))

    @classmethod
    def _rebuilt(cls, plan: Any, space: spaces.Box) -> nn.Module:
        kinds = {kind.__name__: kind for kind in _LAYERS}
        given = {Histories.__name__: (space,)}
        return nn.Sequential(*(kinds[name](*given.get(name, ()), **own) for name, own in plan))


def _layers(algorithm: Any) -> list[nn.Module]:
    """From observations to values of actions, or to logits."""
    policy = algorithm.policy if isinstance(algorithm, BaseAlgorithm) else None
    layers: list[nn.Module] = []
    if type(policy) is DQNPolicy:
        layers = [policy.q_net.features_extractor, *policy.q_net.q_net]
    elif type(policy) is ActorCriticPolicy:
        layers = [policy.pi_features_extractor, *policy.mlp_extractor.policy_net]
        layers += [policy.action_net]
    if layers:
        layers[0] = nn.Flatten() if type(layers[0]) is FlattenExtractor else layers[0]
    plain = policy is not None and (
        isinstance(policy.action_space, spaces.Discrete)
        and policy.action_space.start == 0
        and len(policy.observation_space.shape or ()) == 1
        and algorithm.get_vec_normalize_env() is None
    )
    if not layers or not plain or any(type(layer) not in _LAYERS for layer in layers):
        raise InvalidArgument(
            "from_sb3 takes a DQN, PPO or A2C of Stable-Baselines3 with its MlpPolicy, with Tanh "
            "or ReLU between layers, for Discrete actions from 0 and flat observations as they "
            f"are: not a {type(algorithm).__name__} such as this."
        )
    return layers


def _options(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, Histories):
        return {"layout": layer.layout, "size": layer.features_dim}
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features}
    return {}


def _of_user(infos: Mapping[str, Any], user: int) -> dict[str, Any]:
    return {name: of.item(user) for name, of in infos.items() if not name.startswith("_")}


def _seen_by(user: int, observations: Any) -> Any:
    if isinstance(observations, dict):
        return {name: part[user].copy() for name, part in observations.items()}
    return observations[user].copy()
