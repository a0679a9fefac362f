"""LEA: a language model as the environment of offline RL (Wang et al., SIGIR 2024).

A simulator of users gives states, rewards and further positive actions, while an agent learns
from a log; equations are numbered as in the paper. What recommends never sees the simulator.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agents.batches import Batch, Steps
from recgym.agents.loop import NEGATIVES, Terms, only_looking
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.sa2c import SA2C
from recgym.agents.sqn import Look, half_squares
from recgym.errors import InvalidArgument, MissingExtra
from recgym.runs import Run

if TYPE_CHECKING:
    from recgym.simulator.feedback import Feedback

CONTROL, ASKED = 20, 21  # what else is drawn
FIVE = 5  # items that the simulator chooses among
PREDEFINED = 1.0  # the reward of what it chose, where rewards are the log's
_BLOCK = 2048  # steps asked about at once


@dataclass
class LEA(SA2C):
    """A language model as the environment: its states, rewards and positive actions.

    Learns from what `recgym simulator export` writes beside a dataset, by SA2C, or by SNQN with
    advantages=False.
    In the paper's eight variants, the letters after LE say what is switched on: A augmentation, S
    state "both" and S' "simulator", R rewards "simulator"; of SA2C itself, nothing. LES' over SNQN
    changes nothing in what recommends, which shares no weight with its values.
    """

    augmentation: bool = True  # imitate, too, what the simulator would take of the five best
    rewards: Literal["log", "simulator"] = "simulator"  # who says what actions are worth
    state: Literal["own", "both", "simulator"] = "both"  # whose states values are linear in
    head: Literal["supervised"] = "supervised"  # that recommends: values may need the simulator
    batch_size: int = 100  # steps of a batch
    learning_rate: float = 0.001  # of Adam
    negatives: int = 1  # items, drawn for each action from others
    action_weight: float = 0.1  # of the cross-entropy of augmented actions
    action_q_weight: float = 0.01  # of the loss of their values
    refresh: int = 1000  # steps after which the simulator chooses among the five best anew
    choices: Literal["words", "rewards"] = "words"  # what it says, or rewards most highly
    asked: int = 0  # steps, drawn each time, whose users it is asked about; 0: about all
    answers: str = "llm"  # the policy of the dataset beside, in which it has answered
    scale: Literal["standardised", "probability", "raw"] = "standardised"  # of its rewards
    projected: int = 0  # width that a layer brings its states to; 0: they stay
    user: Literal["simulator", "popularity", "itemknn", "gru"] = "simulator"  # who chooses
    control: Literal["none", "rewards", "states"] = "none"  # shuffled over items, or of noise

    heads: ClassVar[tuple[str, ...]] = ("supervised",)  # what is seen without the simulator
    from_zero: ClassVar[frozenset[str]] = SA2C.from_zero | {"asked", "projected"}

    @property
    def infos(self) -> tuple[str, ...]:
        of_rewards = ("reward", "negatives", "negative_rewards")
        return (*(of_rewards if self.rewards == "simulator" else ()),
                *(("state",) if self.state != "own" else ()))  # fmt: skip

    def fit(
        self,
        train: MinariDataset,
        validation: MinariDataset | None = None,
        env: Any = None,
        run: Run | None = None,
    ) -> Self:
        """Learn from sessions in which a simulator answered: these, or those beside them."""
        if self._asks:
            train = _export().answered(train, self.answers)
        return super().fit(train, validation, env, run)

    def depends_on(self, dataset: str) -> dict[str, str]:
        """The hash of the simulator that answered in what it learns from."""
        return _export().who_answered(dataset, self.answers) if self._asks else {}

    @property
    def _asks(self) -> bool:
        return bool(self.infos) or self.augmentation

    def prepare(self, data: Steps) -> None:
        """Read what the simulator has said, and find it where there will be more to ask."""
        if {"rewards": self.rewards, "states": self.state}.get(self.control) in ("log", "own"):
            raise InvalidArgument(
                f"control='{self.control}' spoils a simulator's {self.control}, and none are "
                "learned from: take them from the simulator, or control='none'."
            )
        super().prepare(data)
        rng, after = np.random.default_rng((self.seed, CONTROL)), data.states + 1
        if self.rewards == "simulator":
            of_all = np.column_stack([data.infos["reward"], data.infos["negative_rewards"]])
            worth = self._scaled(of_all[after])
            self.worth = rng.permuted(worth, axis=1) if self.control == "rewards" else worth
            self.others = data.infos["negatives"][after]
        if data.told is not None and self.control == "states":
            mean, spread = data.told.mean(0), data.told.std(0)
            data.told = rng.normal(mean, spread, data.told.shape).astype(np.float32)
        if self.augmentation:
            self.chooser = self._chooser()

    def plan(self, data: Steps) -> Plan:
        plan = super().plan(data)
        told = 0 if data.told is None else data.told.shape[1]
        return replace(
            plan, heads={**plan.heads, "q": data.n_items}, told=told,
            projected=self.projected if told else 0, alone=self.state == "simulator",
        )  # fmt: skip

    # --------------------------------------------------------------------------------- losses

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        """L = L_ph + L_q + w_aph L_aph + w_aq L_aq (16): values see s'_t || h_t, heads h_t."""
        if self.rewards == "simulator":
            batch = replace(batch, rewards=self._tensor(self.worth[batch.rows, 0]))
        return super().loss(network, other, batch)

    def compared(self, batch: Batch) -> torch.Tensor:
        """What was done, others, and what the simulator would take.

        Where rewards are the simulator's, the others are drawn from those that it has judged.
        """
        if self.rewards == "log":
            items = super().compared(batch)
        else:
            others = self.others[batch.rows[:, None], self._judged(batch)]
            items = torch.cat([batch.actions[:, None], self._tensor(others).long()], 1)
        return torch.cat([items, self._augmented(batch)[0][:, None]], 1) if self.found else items

    def weights(self, look: Look) -> torch.Tensor | None:
        """Of the cross-entropy of each action, and of that of what the simulator would take.

        Both have the same sum over all items: -log pi(a^e) = -log pi(a) + z_a - z_a^e, so that one
        product serves (8) and (14). Of w_aph L_aph, what is shown as supervised therefore holds
        -log pi(a), and what is shown as augmented the difference, which may be below 0.
        """
        judged = look._replace(values=look.values[:, : 1 + self.negatives])
        weights = super().weights(judged)
        if not self.found:
            return weights
        ones = torch.ones_like(look.batch.rewards) if weights is None else weights
        return ones + self.action_weight * self._augmented(look.batch)[1]

    def auxiliary(self, look: Look) -> Terms:
        """Those of values (10, 11); and of what the simulator would take (the rest of 14, 15)."""
        network, other, batch, state, values = look
        following, staying = self.best_values(network, other, batch.next_seen, batch.seen)
        done = self.earned(batch, following)
        not_done = self.not_done(batch) + self.discount * staying[:, None]
        terms = {
            "td": self.q_weight * half_squares(done - values[:, 0]),
            "negatives": self.q_weight * half_squares(not_done - values[:, 1 : 1 + self.negatives]),
        }
        if not self.found:
            return terms
        actions, known, worth = self._augmented(batch)
        earned = self.earned(replace(batch, rewards=worth), following)  # as if s_t+1 came of it
        pair = torch.stack([batch.actions, actions], 1)
        numbers = network.head("supervised").of(state, pair)
        beyond = (known * (numbers[:, 0] - numbers[:, 1])).mean()
        errors = known.sqrt() * (earned - values[:, -1])
        return terms | {
            "augmented": self.action_weight * beyond,
            "augmented td": self.action_q_weight * half_squares(errors),
        }

    def _augmented(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(batch,) each: a^e, weights of mean 1 that are 0 where none is known, and r(s, a^e)."""
        actions, worth = self.found["actions"][batch.rows], self.found["worth"][batch.rows]
        known = (actions >= 0).float()
        return actions.clamp(min=0), known / known.mean().clamp(min=1e-9), worth

    def not_done(self, batch: Batch) -> torch.Tensor:
        """(batch, negatives): r(s, a-)."""
        if self.rewards == "simulator":
            return self._tensor(self.worth[batch.rows[:, None], 1 + self._judged(batch)])
        return torch.full((len(batch), self.negatives), self.negative_reward, device=self.on)

    def _judged(self, batch: Batch) -> NDArray[np.int64]:
        """(batch, negatives): which of the items whose rewards are known stand beside an action."""
        return self.draws(NEGATIVES).integers(
            self.others.shape[1], size=(len(batch), self.negatives)
        )

    # --------------------------------------------------------------------------- augmentation

    def update(self) -> Terms:
        since = self.at - self.memory.get("warm since", self.at)
        if self.augmentation and self.warm and since % self.refresh == 0:
            self.augment()
        return super().update()

    def augment(self) -> None:
        """Ask which of the five best items each user would take, and what it is worth."""
        count, rng = len(self.data), np.random.default_rng((self.seed, self.at, ASKED))
        actions, worth = torch.full((count,), -1), torch.full((count,), PREDEFINED)
        rows = rng.permutation(count)[: self.asked or count]
        for first in range(0, len(rows), _BLOCK):
            some = rows[first : first + _BLOCK]
            histories, five = self._histories(some), self.best_five(some)
            draw = int(rng.integers(2**31))  # of the order in which the five are shown
            if self.choices == "words":
                places = self.chooser.choices(histories, five, draw)
            else:
                places = self.chooser.rewards(histories, five).argmax(1)
            chosen = five[np.arange(len(some)), places]
            actions[some] = torch.as_tensor(chosen)
            if self.rewards == "simulator":
                judged = chosen if self.control != "rewards" else rng.permutation(chosen)
                found = self.chooser.rewards(histories, judged[:, None])[:, 0]
                worth[some] = torch.as_tensor(self._scaled(found))
            self.show(f"step {self.at:,}: asked about {first + len(some):,} of {len(rows):,} steps")
        self.found = {"actions": actions.to(self.on), "worth": worth.to(self.on)}

    def best_five(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(rows, 5): the items that the first copy recommends before some steps."""
        network = self.networks[0]
        with only_looking(network):
            state = network.state(self.data.seen(self.data.states[rows], self.on))
            scores = network.head("supervised")(state)
        best: NDArray[np.int64] = scores.topk(FIVE).indices.cpu().numpy()
        return best

    def _histories(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """(rows, length): what the simulator knows of users: what they took."""
        from recgym.simulator.moments import HISTORY, last_taken

        data, states = self.data, self.data.states[rows]
        items = data.items[states]
        if data.answers is not None:
            items = np.where(data.answers[states] == data.view.skip, data.n_items, items)
        return last_taken(items, data.n_items, HISTORY)

    def _chooser(self) -> "Feedback":
        """Who chooses: the simulator of the data, through what it has answered; or a rival."""
        from recgym.simulator.rivals import rival_of
        from recgym.simulator.store import kept

        if self.data.n_items < FIVE:
            raise InvalidArgument(
                f"A simulator chooses among {FIVE} items, and {self.data.dataset.id} has "
                f"{self.data.n_items}: train with augmentation=False."
            )
        known = self.data.dataset.storage.metadata["simulator"]
        if self.user != "simulator":
            if self.rewards == "simulator":
                raise InvalidArgument(
                    f"'{self.user}' chooses items, and its rewards are not those of the data: "
                    "train with rewards='log'."
                )
            return rival_of(known["name"], self.user, self.data.dataset)
        user, about = kept(known["name"], self.say)
        if about["sha256"] != known["sha256"]:
            raise InvalidArgument(
                f"The simulator {known['name']} is another than the one that answered in "
                f"{self.data.dataset.id}: export the data anew."
            )
        return user

    def _scaled(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rewards as they are learned: only their differences mean something as they come."""
        from recgym.simulator.calibration import Scale

        scale = Scale(**self.data.dataset.storage.metadata["simulator"]["scale"])
        known = {"standardised": scale.standardised, "probability": scale.probability}
        return known[self.scale](raw) if self.scale in known else raw

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(values).to(self.on)


def _export() -> ModuleType:
    try:
        import recgym.simulator.export as export
    except ImportError:
        raise MissingExtra("A simulator", "llm") from None
    return export
