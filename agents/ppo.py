"""Proximal policy optimization with users who are recommended items: Schulman et al. (2017).

The policy is a softmax over all items, its value is linear in the same state, and users who answer
are what both learn from. The log may be imitated first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray
from torch import nn

from recgym.agent import Source, training_data
from recgym.agents.batches import Batch, Seen, Steps, seen_of
from recgym.agents.choices import is_search, offered, read_as
from recgym.agents.encoders import EncoderName
from recgym.agents.imitation import Imitation
from recgym.agents.learner import Learner
from recgym.agents.loop import NEGATIVES, Network, Terms, leave_nothing_out
from recgym.agents.proximal import Chosen, Judged, Proximal, Rollout, divergence, entropy, rolled
from recgym.agents.reader import Reader
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.warmup import POLICY, Referred
from recgym.errors import InvalidArgument, printable
from recgym.runs import Run
from recgym.shop.pages import Shop
from recgym.shop.preferences import same_shop

USERS, MINIBATCHES = NEGATIVES + 1, NEGATIVES + 2  # what is drawn besides
_FEWEST, _MOST = 2**40, 2**62  # seeds of users: nobody else meets these


@dataclass
class RolledOut(Proximal, Referred[Network]):
    """What imitates a log, if at all, and then learns from users who answer."""

    learns_from: ClassVar[Source] = "environment"
    from_zero = Referred.from_zero | {"value_warmup"}
    ranges = Referred.ranges | Proximal.ranges

    def choose(self, observations: Any, infos: Any) -> Chosen:
        """Draw what is done in some states."""
        raise NotImplementedError

    def judging(self, rollout: Rollout, values_only: bool) -> Callable[[torch.Tensor], Judged]:
        """What is thought by now of rows of a roll-out; values alone teach nothing else."""
        raise NotImplementedError

    @property
    def planned(self) -> int:
        return self.warmup_steps

    @property
    def measured_every(self) -> int:
        return 1 if self.warm else super().measured_every

    @property
    def also_of(self) -> dict[str, Any]:
        return {"environment": f"{self._env.spec.id} {sorted(self._env.spec.kwargs.items())}"}

    def meet(self, data: MinariDataset) -> None:
        """Find users such as those of the data."""
        self._world = users_of(self._env, self.users, data)

    def update(self) -> Terms:
        """Imitate; in the second phase, roll out and improve."""
        if not self.warm:
            return super().update()
        self._check_weights()  # no action is drawn from what is no number
        leave_nothing_out(self.networks[POLICY])
        seed = int(self.draws(USERS).integers(_FEWEST, _MOST))
        rollout = rolled(self._world, seed, self.rollout, self.choose)
        values_only = self.at < self.memory["warm since"] + self.value_warmup
        judge = self.judging(rollout, values_only)
        descend = partial(self.descend, POLICY, longest=self.longest)
        terms = self.improve(rollout, judge, descend, self.draws(MINIBATCHES), values_only)
        return {"return": rollout.reward} | terms


@dataclass
class PPO(RolledOut[Recommender], Learner):
    """Proximal policy optimization with users who answer, greedy once it has learned.

    The log is imitated first, if at all, and validation data are not looked at.
    """

    steps: int = 150  # batches that are imitated, and roll-outs thereafter
    warmup_steps: int = 0  # batches that are imitated; 0: none
    encoder: EncoderName = "gru4rec"  # what reads histories: of users who answer, the fastest
    second_learning_rate: float = 0.002  # of Adam with roll-outs
    epochs: int = 8  # over what was rolled out
    discount: float = 0.5  # of the next step's value

    heads: ClassVar[tuple[str, ...]] = ("policy", "value")

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
        self.rows = np.arange(len(data))
        if self.warmup_steps:
            self.rows = self.imitable(data, self.rows)
        self.meet(data.dataset)

    def plans(self, data: Steps) -> list[Plan]:
        """Of the policy and its reference: all items, and one value."""
        return 2 * [replace(self.plan(data), heads={"policy": data.n_items, "value": 1})]

    def begun(self) -> None:
        """All items are as good at first."""
        super().begun()
        with torch.no_grad():
            self.networks[POLICY].head("policy").weight.mul_(0.01)

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        """-log pi(a|s), in the first phase."""
        state = network.state(batch.seen)
        return {"imitation": network.head("policy").cross_entropy(state, batch.actions)[0]}

    @torch.no_grad()
    def choose(self, observations: Any, infos: Any) -> Chosen:
        """Draw an item for each user."""
        policy = self.networks[POLICY]
        state = policy.state(self.seen(observations))
        logs = policy.head("policy")(state).log_softmax(1)
        items = torch.multinomial(logs.exp(), 1)
        values = policy.head("value")(state)[:, 0]
        return Chosen(items[:, 0].cpu().numpy(), logs.gather(1, items)[:, 0], values)

    def judging(self, rollout: Rollout, values_only: bool) -> Callable[[torch.Tensor], Judged]:
        seen, actions = np.concatenate(rollout.observations), np.concatenate(rollout.actions)
        return partial(self.judged, seen, actions, values_only)

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


# ---------------------------------------------------------------------------------- in the shop


class Page(NamedTuple):
    """A page as it was met in a roll-out, and as it is read."""

    text: str
    actions: tuple[str, ...]  # what can be done there
    done: int  # which of it was


@dataclass
class ShopPPO(RolledOut[Reader], Imitation):
    """A shopper that imitates, and then shops: proximal policy optimization on pages.

    The reader of pages also tells their values, which are learned before the policy changes.
    """

    learning_rate: float = 0.001  # of Adam in the first phase
    batch_size: int = 32  # pages of a batch, imitated or rolled out
    steps: int = 1060  # batches that are imitated, and roll-outs thereafter
    validate_every: int = 150  # batches, or roll-outs
    warmup_steps: int = 1000  # batches that are imitated; 0: none
    second_learning_rate: float = 0.0003  # of Adam with roll-outs
    users: int = 16  # at once
    rollout: int = 16  # actions of each of them between updates
    value_warmup: int = 5  # roll-outs, the first ones, from which only values are learned
    longest: float = 10.0  # norm of a gradient, to which longer ones are shortened

    copies: ClassVar[int] = 2
    from_zero = RolledOut.from_zero | Imitation.from_zero

    def prepare(self, shop: Shop) -> None:
        """Find shoppers, and sessions that are imitated."""
        super().prepare(shop)
        self.meet(self.dataset)
        same_shop(self.dataset, self._env.unwrapped.shoppers.shopping.shop)
        if self._env.spec.kwargs.get("split", "train") != "train":
            raise InvalidArgument(
                "Agents learn from goals for training, and this environment has those of the split "
                f"'{self._env.spec.kwargs['split']}': make one with split='train'."
            )

    def better(self, merit: float) -> bool:
        """In the second phase, to do as others did is no aim: the last weights are kept."""
        return self.warm or super().better(merit)

    @torch.no_grad()
    def choose(self, observations: Any, infos: Any) -> Chosen:
        """Draw what each shopper does; where there is but a search, it is written."""
        known = [actions or _NOTHING for actions in offered(infos)]
        pages = [read_as(page, actions, self.compat)
                 for page, actions in zip(observations, known, strict=True)]  # fmt: skip
        scores, values = self.networks[POLICY](*zip(*pages, strict=True))
        logs = _side_by_side([some.log_softmax(0) for some in scores])
        drawn = torch.multinomial(logs.exp(), 1)
        done = np.empty(len(known), object)
        for shopper, place in enumerate(drawn[:, 0].tolist()):
            action = known[shopper][place]
            search = is_search([action])
            done[shopper] = self._queries(infos["goal"][shopper]) if search else action
        return Chosen(done, logs.gather(1, drawn)[:, 0], values)

    def judging(self, rollout: Rollout, values_only: bool) -> Callable[[torch.Tensor], Judged]:
        pages = []
        for texts, infos, done in zip(rollout.observations, rollout.infos, rollout.actions,
                                      strict=True):  # fmt: skip
            for text, actions, action in zip(texts, offered(infos), done, strict=True):
                known = actions or _NOTHING
                place = 0 if len(known) == 1 else known.index(action)
                pages.append(Page(*read_as(text, known, self.compat), place))
        return partial(self.judged, pages, values_only)

    def judged(self, pages: Sequence[Page], values_only: bool, rows: torch.Tensor) -> Judged:
        """What is thought by now of some pages, and of what was done there."""
        some = [pages[row] for row in rows.tolist()]
        texts, actions = [page.text for page in some], [page.actions for page in some]
        done = torch.tensor([[page.done] for page in some], device=self.on)
        policy, reference = self.networks
        scores, values = policy(texts, actions, apart=values_only)
        logs = _side_by_side([of_page.log_softmax(0) for of_page in scores])
        apart = torch.zeros_like(values)
        if self.kl:
            with torch.no_grad():
                known = _side_by_side(reference.log_probs(texts, actions))
            apart = divergence(logs, known)
        return Judged(logs.gather(1, done)[:, 0], values, entropy(logs), apart)


_NOTHING = ("",)  # where a session is over, and nothing can be done


def _side_by_side(logs: Sequence[torch.Tensor]) -> torch.Tensor:
    """(pages, most actions): those that a page does not have are impossible."""
    return nn.utils.rnn.pad_sequence([*logs], batch_first=True, padding_value=-torch.inf)


def users_of(env: Any, count: int, data: MinariDataset) -> VectorEnv[Any, Any, Any]:
    """So many users such as those of an environment, who see what is in a dataset."""
    if env is None:
        raise InvalidArgument(
            "PPO learns from an environment, and was given none: call fit(train, env=…)."
        )
    shown, known = ((one.observation_space, one.action_space) for one in (env, data))
    if shown != known:
        raise InvalidArgument(
            f"The environment shows {printable(repr(shown[0]))} and takes "
            f"{printable(repr(shown[1]))}, and {data.id} has {printable(repr(known[0]))} and "
            f"{printable(repr(known[1]))}: give both of one catalogue."
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
