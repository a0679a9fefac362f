"""Offline algorithms of d3rlpy, with its defaults but for what is an option here."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from d3rlpy import algos
from minari.dataset.minari_dataset import MinariDataset

from recgym.agent import training_data
from recgym.agents.batches import Steps
from recgym.bridges import d3rlpy_encoder, to_d3rlpy
from recgym.d3rl import D3rlpyAgent, quiet
from recgym.networks import drawing_from


@dataclass
class _Offline(D3rlpyAgent):
    """What they share: rewards are taken as they are, and the last weights are kept."""

    steps: int = 2000  # batches that are learned from
    batch_size: int = 100  # transitions
    learning_rate: float = 0.01
    size: int = 64  # of embeddings
    seed: int = 0
    repeats: Literal["learned", "free"] = "learned"  # acts: what data hardly ever repeat comes last

    def fit(
        self, train: MinariDataset, validation: MinariDataset | None = None, env: Any = None
    ) -> Self:
        """Learn from transitions that are drawn with replacement."""
        training_data(train, validation)
        config = self._config(d3rlpy_encoder(train, self.size))
        with drawing_from(self.seed), quiet():
            transitions, algorithm = to_d3rlpy(train), config.create("cpu:0")
            algorithm.build_with_dataset(transitions)
            for _ in range(self.steps):
                algorithm.update(transitions.sample_transition_batch(self.batch_size))
        self.take(algorithm, train)
        if self.repeats == "learned":
            data = Steps(train)
            self._leave_out(data.view.parts["history"], data.fresh)
        return self

    def _config(self, encoder: Any) -> Any:
        raise NotImplementedError


@dataclass
class DiscreteBC(_Offline):
    """Behaviour cloning: the actions of a log, imitated whatever they earned."""

    beta: float = 0.5  # weight of the mean square of log-probabilities

    def _config(self, encoder: Any) -> Any:
        return algos.DiscreteBCConfig(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            encoder_factory=encoder,
            beta=self.beta,
        )


@dataclass
class DoubleDQN(_Offline):
    """Double Q-learning of van Hasselt et al. (2016)."""

    discount: float = 0.9  # of the next step's value
    target_interval: int = 100  # steps after which the target network is renewed

    def _config(self, encoder: Any) -> Any:
        return algos.DoubleDQNConfig(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            encoder_factory=encoder,
            gamma=self.discount,
            target_update_interval=self.target_interval,
        )


@dataclass
class DiscreteCQL(DoubleDQN):
    """Double Q-learning with the conservative loss of Kumar et al. (2020)."""

    alpha: float = 1.0  # weight of the conservative loss

    def _config(self, encoder: Any) -> Any:
        return algos.DiscreteCQLConfig(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            encoder_factory=encoder,
            gamma=self.discount,
            target_update_interval=self.target_interval,
            alpha=self.alpha,
        )


@dataclass
class DiscreteBCQ(DoubleDQN):
    """Double Q-learning among what a log is likely to have done: Fujimoto et al. (2019)."""

    action_flexibility: float = 0.3  # least probability of an action, as a share of the greatest
    beta: float = 0.5  # weight of the mean square of log-probabilities

    ranges = DoubleDQN.ranges | {
        "action_flexibility": (lambda value: 0 < value < 1, "a number between 0 and 1")
    }

    def _config(self, encoder: Any) -> Any:
        return algos.DiscreteBCQConfig(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            encoder_factory=encoder,
            gamma=self.discount,
            target_update_interval=self.target_interval,
            action_flexibility=self.action_flexibility,
            beta=self.beta,
        )


@dataclass
class DiscreteSAC(DoubleDQN):
    """Soft actor-critic of Christodoulou (2019), whose policy is held close to uniform."""

    def _config(self, encoder: Any) -> Any:
        return algos.DiscreteSACConfig(
            batch_size=self.batch_size,
            actor_learning_rate=self.learning_rate,
            critic_learning_rate=self.learning_rate,
            actor_encoder_factory=encoder,
            critic_encoder_factory=encoder,
            gamma=self.discount,
            target_update_interval=self.target_interval,
        )
