"""Algorithms of Stable-Baselines3 that learn from users who answer."""

from dataclasses import dataclass
from typing import Any, Self

import stable_baselines3
from minari.dataset.minari_dataset import MinariDataset

from recgym.agent import training_data
from recgym.bridges import sb3_policy_kwargs, to_sb3_vec_env
from recgym.errors import InvalidArgument
from recgym.networks import drawing_from
from recgym.sb3 import Sb3Agent

_FIRST_SEED, _SEEDS = 5 * 10**7, 10**5  # users whom nobody else meets, and how many a run has


@dataclass
class PPO(Sb3Agent):
    """Proximal policy optimization of Schulman et al. (2017), greedy once it has learned."""

    steps: int = 500_000  # recommendations to learn from
    users: int = 64  # at once
    rollout: int = 32  # recommendations to each of them between updates
    batch_size: int = 512
    epochs: int = 8  # over what was rolled out
    learning_rate: float = 0.004
    discount: float = 0.5  # of the next step's value
    entropy: float = 0.01  # weight of the policy's entropy
    hidden: int = 64  # of the layer between history and items
    size: int = 64  # of embeddings
    seed: int = 0

    def fit(
        self, train: MinariDataset, validation: MinariDataset | None = None, env: Any = None
    ) -> Self:
        """Learn from users of such an environment; the datasets teach nothing here."""
        training_data(train, validation)
        if env is None:
            raise InvalidArgument(
                "PPO learns from an environment, and was given none: call fit(train, env=…)."
            )
        users = to_sb3_vec_env(env.spec.id, self.users, **env.spec.kwargs)
        policy = sb3_policy_kwargs(users, self.size) | {"net_arch": [self.hidden]}
        with drawing_from(self.seed):
            algorithm = stable_baselines3.PPO(
                "MlpPolicy",
                users,
                learning_rate=self.learning_rate,
                n_steps=self.rollout,
                batch_size=self.batch_size,
                n_epochs=self.epochs,
                gamma=self.discount,
                ent_coef=self.entropy,
                policy_kwargs=policy,
                seed=self.seed,
                device="cpu",
            )
            users.seed(_FIRST_SEED + self.seed * _SEEDS)
            algorithm.learn(self.steps)
        users.close()
        return self.take(algorithm, users)
