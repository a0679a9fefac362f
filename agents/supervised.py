"""Next items, learned as a classification: the baseline that any other agent has to beat."""

from dataclasses import dataclass, replace

import numpy as np

from recgym.agents.batches import Batch, Steps
from recgym.agents.learner import Learner
from recgym.agents.loop import Terms
from recgym.agents.recommender import Plan, Recommender


@dataclass
class Supervised(Learner):
    """The next item after each state by cross-entropy over all, as in Xin et al. (2020)."""

    def prepare(self, data: Steps) -> None:
        self.rows = self.imitable(data, np.arange(len(data)))

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        state = network.state(batch.seen)
        return {"supervised": network.head("supervised").cross_entropy(state, batch.actions)[0]}


@dataclass
class Modern(Supervised):
    """The next item after every item of a window in one pass, by a head tied to the embeddings.

    This is how SASRec and GRU4Rec are trained where they are hard to beat.
    """

    dropout: float = 0.2  # share of what is left out in training
    learning_rate: float = 0.002  # of Adam
    stride: int = 5  # items that are told after what a window shows before them

    def prepare(self, data: Steps) -> None:
        super().prepare(data)
        rows = self.rows[~data.empty[self.rows]]
        self.windows = data.chunked(rows, min(self.stride, data.items.shape[1]))
        self.rows = np.arange(len(self.windows))

    def plan(self, data: Steps) -> Plan:
        return replace(super().plan(data), tied=True)

    def update(self) -> Terms:
        chunks = self.windows.batch(self.rows[self.drawn(len(self.rows))], self.on)
        network = self.networks[0]

        def loss() -> Terms:
            seen = chunks.seen
            steps = network.encoder.every(seen.items, seen.lengths, seen.answers)
            places = chunks.windows * steps.shape[1] + chunks.places
            states = steps.flatten(0, 1).index_select(0, places)  # its gradient is deterministic
            head = network.head("supervised")
            return {"supervised": head.cross_entropy(states, chunks.actions)[0]}

        return self.descend(0, loss)
