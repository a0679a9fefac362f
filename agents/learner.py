"""Agents that learn to recommend items batch by batch: what they are of, and what they read."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray
from torch import nn

from recgym.agents.batches import Batch, Ends, Steps
from recgym.agents.encoders import EncoderName
from recgym.agents.loop import COIN, Loop, Terms
from recgym.agents.recommender import Plan, Recommender, Scores
from recgym.agents.validation import Validation, same_catalogue
from recgym.errors import InvalidArgument
from recgym.networks import NetworkAgent


@dataclass
class Learner(Loop[Recommender], NetworkAgent):
    """An agent that reads histories of items; a child says what it descends."""

    encoder: EncoderName = "sasrec"  # what reads histories
    size: int = 64  # of embeddings
    dropout: float = 0.1  # share of what is left out in training
    imitate: Literal["taken", "all"] = "taken"  # actions that brought a reward, or all of a log
    ends: Ends = "terminated"  # of sessions, after which no value follows; both: also of cut ones
    repeats: Literal["learned", "free"] = "learned"  # acts: what data hardly ever repeat comes last

    heads: ClassVar[tuple[str, ...]] = ("supervised",)
    copies: ClassVar[int] = 1  # of all networks

    # ------------------------------------------------------------------ what a child can change

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        """What is descended in the weights of a copy of the networks; the other is its target."""
        raise NotImplementedError

    def update(self) -> Terms:
        """Descend once, in one copy of the networks, and say what."""
        batch = self.data.batch(self.rows[self.drawn(len(self.rows))], self.on)
        which = int(self.draws(COIN).integers(self.copies))
        network, other = self.networks[which], self.networks[which - 1]
        return self.descend(which, lambda: self.loss(network, other, batch))

    def prepare(self, data: Steps) -> None:
        """Look at all steps before the first batch, and say which are learned from."""
        self.rows = np.arange(len(data))

    def plan(self, data: Steps) -> Plan:
        """Of the network that recommends, and of its copies."""
        known = ("history", "responses")
        parts = {name: [*map(int, (part.start, part.stop))]
                 for name, part in data.view.parts.items() if name in known}  # fmt: skip
        heads = dict.fromkeys(self.heads, data.n_items)
        return Plan(self.encoder, data.n_items, data.kinds, parts, self.size, self.dropout, heads)

    def plans(self, data: Steps) -> list[Plan]:
        """Of all networks; the first recommends."""
        return [self.plan(data)] * self.copies

    @property
    def infos(self) -> tuple[str, ...]:
        """What is read of the infos of the dataset."""
        return ()

    @property
    def recommending(self) -> str:
        """The head that recommends."""
        return self.heads[0]

    # --------------------------------------------------------------------- what a child can use

    def imitable(self, data: Steps, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some steps whose actions are imitated."""
        if self.imitate == "taken":
            rows = rows[data.taken[rows]]
        if not len(rows):
            raise InvalidArgument(
                "No action that is learned from brought a reward, so none is worth imitating: "
                "imitate='all' imitates them whatever they brought."
            )
        return rows

    def imitated(self, batch: Batch) -> torch.Tensor | None:
        """(batch,): 1 for each action that is imitated; None where all are."""
        return batch.taken if self.imitate == "taken" else None

    # --------------------------------------------------------------------------- for the loop

    def read(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        self.data = Steps(train, self.ends, self.infos)
        if validation is not None:
            same_catalogue(train, validation)
            self._asked = Validation(Steps(validation), self.on)
        self.prepare(self.data)

    def made(self) -> list[Recommender]:
        return [Recommender(plan) for plan in self.plans(self.data)]

    def validated(self) -> dict[str, float]:
        """Of each head of the first network."""
        found: dict[str, float] = {}
        for head in self.heads:
            of = "" if head == self.recommending else f" ({head})"
            metrics = self._asked(self.networks[0], head)
            found |= {f"{name}{of}": value for name, value in metrics.items()}
        return found

    def take(self, training: Self, train: MinariDataset) -> None:
        network = training.networks[0]
        plan = {"recommender": asdict(network.plan), "head": self.recommending}
        scores = Scores(network, self.recommending)
        self._take(scores, plan, train.observation_space, network.plan.n_items)
        if self.repeats == "learned":
            self._leave_out(slice(*network.plan.parts["history"]), training.data.fresh)

    @classmethod
    def _rebuilt(cls, plan: Any, space: spaces.Box) -> nn.Module:
        recommender = Recommender(Plan(**plan["recommender"]))
        return Scores(recommender, plan["head"])
