"""Proximal policy optimization with users who are recommended items: Schulman et al. (2017).

The policy is a softmax over all items, its value is linear in the same state, and users who answer
are what both learn from. The log may be imitated first.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import Source, training_data
from recgym.agents.batches import Batch, Seen, Steps, seen_of
from recgym.agents.encoders import EncoderName
from recgym.agents.learner import NEGATIVES, Terms, leave_nothing_out
from recgym.agents.proximal import Chosen, Judged, Proximal, divergence, entropy, rolled
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.warmup import Refined
from recgym.errors import InvalidArgument, printable
from recgym.runs import Run

POLICY, REFERENCE = range(2)
USERS, MINIBATCHES = NEGATIVES + 1, NEGATIVES + 2  # what is drawn besides
_FEWEST, _MOST = 2**40, 2**62  # seeds of users: nobody else meets these


@dataclass
class PPO(Proximal, Refined):
    """Proximal policy optimization with users who answer, greedy once it has learned.

    The log is imitated first, if at all, and validation data are not looked at.
    """

    steps: int = 150  # batches that are imitated, and roll-outs thereafter
    warmup_steps: int = 0  # batches that are imitated; 0: none
    encoder: EncoderName = "gru4rec"  # what reads histories: of users who answer, the fastest
    second_learning_rate: float = 0.002  # of Adam with roll-outs
    epochs: int = 8  # over what was rolled out
    discount: float = 0.5  # of the next step's value

    learns_from: ClassVar[Source] = "environment"
    heads: ClassVar[tuple[str, ...]] = ("policy", "value")
    from_zero = Refined.from_zero | {"value_warmup"}
    ranges = Refined.ranges | Proximal.ranges

    def fit(
        self,
        train: MinariDataset,
        validation: MinariDataset | None = None,
        env: Any = None,
        run: Run | None = None,
    ) -> Self:
        """Learn from users of such an environment."""
        training_data(train, validation)
        return super().fit(train, None, env, run)

    def prepare(self, data: Steps) -> None:
        """Find users, and steps that are imitated."""
        if self.warmup_steps >= self.steps:
            raise InvalidArgument(
                f"All of {self.steps} steps are imitation, as warmup_steps is {self.warmup_steps}, "
                "and none is left for roll-outs: take more steps."
            )
        self.rows = np.arange(len(data))
        if self.warmup_steps:
            self.rows = self.imitable(data, self.rows)
        self._world = users_of(self._env, self.users, data.dataset)

    def plans(self, data: Steps) -> list[Plan]:
        """Of the policy and its reference: all items, and one value."""
        return 2 * [replace(self.plan(data), heads={"policy": data.n_items, "value": 1})]

    def begun(self) -> None:
        """All items are as good at first; the reference learns nothing, and leaves nothing out."""
        with torch.no_grad():
            self.networks[POLICY].head("policy").weight.mul_(0.01)
        self.networks[REFERENCE].requires_grad_(False).eval()

    @property
    def planned(self) -> int:
        return self.warmup_steps

    @property
    def measured_every(self) -> int:
        return 1 if self.warm else super().measured_every

    @property
    def also_of(self) -> dict[str, Any]:
        return {"environment": f"{self._env.spec.id} {sorted(self._env.spec.kwargs.items())}"}

    def second_begins(self) -> None:
        """What imitates becomes the reference."""
        self.networks[REFERENCE].load_state_dict(self.networks[POLICY].state_dict())

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        """-log pi(a|s), in the first phase."""
        state = network.state(batch.seen)
        return {"imitation": network.head("policy").cross_entropy(state, batch.actions)[0]}

    def update(self) -> Terms:
        """Imitate; in the second phase, roll out and improve."""
        if not self.warm:
            return super().update()
        self._check_weights()  # no action is drawn from what is no number
        leave_nothing_out(self.networks[POLICY])
        seed = int(self.draws(USERS).integers(_FEWEST, _MOST))
        rollout = rolled(self._world, seed, self.rollout, self.choose)
        values_only = self.at < self.memory["warm since"] + self.value_warmup
        seen, actions = np.concatenate(rollout.observations), np.concatenate(rollout.actions)
        judge = partial(self.judged, seen, actions, values_only)
        descend = partial(self.descend, POLICY, longest=self.longest)
        terms = self.improve(rollout, judge, descend, self.draws(MINIBATCHES), values_only)
        return {"return": rollout.reward} | terms

    @torch.no_grad()
    def choose(self, observations: Any, infos: Any) -> Chosen:
        """Draw an item for each user."""
        policy = self.networks[POLICY]
        state = policy.state(self.seen(observations))
        logs = policy.head("policy")(state).log_softmax(1)
        items = torch.multinomial(logs.exp(), 1)
        values = policy.head("value")(state)[:, 0]
        return Chosen(items[:, 0].cpu().numpy(), logs.gather(1, items)[:, 0], values)

    def judged(
        self, seen: NDArray[Any], actions: NDArray[Any], values_only: bool, rows: torch.Tensor
    ) -> Judged:
        """What is thought by now of some rows; values alone leave the state as it is."""
        places = rows.cpu().numpy()
        batch, policy, reference = self.seen(seen[places]), *self.networks
        state = policy.state(batch)
        logs = policy.head("policy")(state).log_softmax(1)
        values = policy.head("value")(state.detach() if values_only else state)[:, 0]
        apart = torch.zeros_like(values)
        if self.kl:
            with torch.no_grad():
                known = reference.head("policy")(reference.state(batch)).log_softmax(1)
            apart = divergence(logs, known)
        items = torch.as_tensor(actions[places]).to(self.on)
        return Judged(logs.gather(1, items[:, None])[:, 0], values, entropy(logs), apart)

    def seen(self, observations: Any) -> Seen:
        """What states are made of, from observations as environments show them."""
        view, codes = self.data.view, torch.as_tensor(observations).to(self.on, torch.long)
        answers = codes[:, view.parts["responses"]] if "responses" in view.parts else None
        return seen_of(codes[:, view.parts["history"]], answers, view.n_items)


def users_of(env: Any, count: int, data: MinariDataset) -> VectorEnv[Any, Any, Any]:
    """So many users such as those of an environment, who see what is in a dataset."""
    if env is None:
        raise InvalidArgument(
            "PPO learns from an environment, and was given none: call fit(train, env=…)."
        )
    shown, known = ((one.observation_space, one.action_space) for one in (env, data))
    if shown != known:
        raise InvalidArgument(
            f"The environment shows {printable(repr(shown[0]))} and takes {shown[1]!r}, and "
            f"{data.id} has {printable(repr(known[0]))} and {known[1]!r}: give both of one "
            "catalogue."
        )
    if env.spec is None or env.spec.vector_entry_point is None:
        raise InvalidArgument(
            "PPO learns from many users at once, and this environment is registered without a "
            "vector_entry_point: register one, or take an environment of recgym."
        )
    many = gymnasium.make_vec(
        env.spec.id, count, vectorization_mode="vector_entry_point", **env.spec.kwargs
    )
    mode = many.metadata.get("autoreset_mode")
    if mode is not None and mode.name != "NEXT_STEP":
        raise InvalidArgument(
            f"PPO looks at the last state of an episode before the next one begins, and in "
            f"{env.spec.id} it does not: set its autoreset_mode to NextStep."
        )
    return many
