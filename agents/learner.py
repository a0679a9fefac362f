"""The loop that trains, whatever is learned: batches, losses, validation, checkpoints."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray
from torch import nn

from recgym.agent import home_of, training_data
from recgym.agents import checkpoint
from recgym.agents.batches import Batch, Ends, Steps
from recgym.agents.encoders import EncoderName
from recgym.agents.recommender import Plan, Recommender, Scores
from recgym.errors import Diverged, InvalidArgument
from recgym.evaluation.ranking import metrics, rank
from recgym.minari_format import content_hash
from recgym.networks import NetworkAgent, drawing_from
from recgym.runs import Run

Terms = dict[str, torch.Tensor]  # their sum is descended; those without a gradient are only shown

ORDER, DROPOUT, COIN, NEGATIVES = range(4)  # what is drawn: each has draws of its own
_RECORDED = 50  # steps whose mean losses make a line of metrics
_TARGETS = 5000  # of the validation data, evenly taken
_EXPLODED = 1e6  # no loss of a sound training is as large


@dataclass
class Learner(NetworkAgent):
    """An agent that is trained batch by batch; a child says what it descends.

    Every draw depends on the seed and the step alone, so that a training that goes on from a
    checkpoint ends in the very weights of one that was never stopped.
    """

    encoder: EncoderName = "sasrec"  # what reads histories
    size: int = 64  # of embeddings
    dropout: float = 0.1  # share of what is left out in training
    learning_rate: float = 0.005  # of Adam
    batch_size: int = 256  # steps, or windows, of a batch
    steps: int = 10_000  # batches, at most
    validate_every: int = 250  # batches
    patience: int = 8  # validations in a row without a better one that end it; 0: none do
    imitate: Literal["taken", "all"] = "taken"  # actions that brought a reward, or all of a log
    ends: Ends = "terminated"  # of sessions, after which no value follows; both: also of cut ones
    device: Literal["cpu", "cuda"] = "cpu"  # cuda is untested on GPU
    precision: Literal["float32", "bf16"] = "float32"  # bf16 is untested on GPU
    seed: int = 0  # decides all draws

    heads: ClassVar[tuple[str, ...]] = ("supervised",)
    copies: ClassVar[int] = 1  # of all networks
    from_zero: ClassVar[frozenset[str]] = frozenset({"patience"})

    def fit(
        self,
        train: MinariDataset,
        validation: MinariDataset | None = None,
        env: Any = None,
        run: Run | None = None,
    ) -> Self:
        """Learn; with validation data, stop in time and keep the weights that were best on them.

        A run keeps what is measured, and checkpoints: if it has one, training goes on from there.
        """
        training_data(train, validation)
        _same_catalogue(train, validation)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InvalidArgument("No GPU is at hand, and device is 'cuda': train on 'cpu'.")
        training = copy.copy(self)  # what only training needs goes when it is over
        with drawing_from(self.seed):
            training._train(train, validation, run or Run())
        network = training.networks[0]
        plan = {"recommender": asdict(network.plan), "head": self.recommending}
        scores = Scores(network, self.recommending)
        return self._take(scores, plan, train.observation_space, network.plan.n_items)

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
        """Of each copy of the networks."""
        known = ("history", "responses")
        parts = {name: [*map(int, (part.start, part.stop))]
                 for name, part in data.view.parts.items() if name in known}  # fmt: skip
        heads = dict.fromkeys(self.heads, data.n_items)
        return Plan(self.encoder, data.n_items, data.kinds, parts, self.size, self.dropout, heads)

    def renewed(self) -> float | None:
        """The learning rate with which Adam begins anew at this step; None: it goes on."""
        return None

    def stalled(self) -> bool:
        """Does training end, now that no validation gets better?"""
        return True

    @property
    def recommending(self) -> str:
        """The head that recommends."""
        return self.heads[0]

    # --------------------------------------------------------------------- what a child can use

    def draws(self, purpose: int) -> np.random.Generator:
        """A generator for this step."""
        return np.random.default_rng((self.seed, self.at, purpose))

    def drawn(self, count: int) -> NDArray[np.int64]:
        """Which of so many are in the batch of this step: each once in an epoch."""
        size = min(self.batch_size, count)
        epoch, place = divmod(self.at, count // size)
        return _order(self.seed, epoch, count)[place * size : (place + 1) * size]

    def descend(self, which: int, loss: Callable[[], Terms]) -> Terms:
        """One step of Adam in a copy of the networks."""
        half = torch.autocast(self.on.type, torch.bfloat16)
        with half if self.precision == "bf16" else nullcontext():
            terms = loss()
        optimizer = self._optimizers[which]
        optimizer.zero_grad(set_to_none=True)
        torch.stack([term for term in terms.values() if term.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return terms

    def imitated(self, batch: Batch) -> torch.Tensor | None:
        """(batch,): 1 for each action that is imitated; None where all are."""
        return batch.taken if self.imitate == "taken" else None

    @property
    def validated(self) -> bool:
        """Are there validation data?"""
        return self._asked is not None

    def restore(self) -> None:
        """Go back to the weights that were best on the validation data."""
        self._all.load_state_dict(self._best)

    # ------------------------------------------------------------------------------- the loop

    def _train(self, train: MinariDataset, validation: MinariDataset | None, run: Run) -> None:
        self.data, self.on = Steps(train, self.ends), torch.device(self.device)
        self._run, self._asked = run, _Asked(Steps(validation), self.on) if validation else None
        self._begin()
        self._resume(train)
        while self.at < self.steps and not self._over:
            self._advance()
        self._keep()
        if self._best:
            self.restore()

    def _begin(self) -> None:
        self.prepare(self.data)
        plan = self.plan(self.data)
        torch.manual_seed(self.seed)
        self.networks: list[Recommender] = [Recommender(plan) for _ in range(self.copies)]
        self._all = nn.ModuleList(self.networks).to(self.on).train()
        self._renew(self.learning_rate)
        self.at: int = 0  # batches that were learned from
        self.memory: dict[str, Any] = {}  # what else a child has to know to go on, as JSON
        self._over: bool = False
        self._best: dict[str, torch.Tensor] = {}
        self._reached, self._waited = -math.inf, 0
        self._sums: dict[str, float] = {}  # of losses since the last line of metrics
        self._summed, self._seconds = 0, 0.0

    def _renew(self, learning_rate: float) -> None:
        """An Adam for each copy of the networks, without a past."""
        self._optimizers = [
            torch.optim.Adam(network.parameters(), learning_rate) for network in self.networks
        ]

    def _advance(self) -> None:
        """One batch, and what is due after it."""
        began = time.perf_counter()
        torch.manual_seed(int(self.draws(DROPOUT).integers(2**63)))
        if (learning_rate := self.renewed()) is not None:
            self._renew(learning_rate)
        terms = {name: float(term.detach()) for name, term in self.update().items()}
        self.at += 1
        self._count(terms)
        found = {}
        if self._asked and (self.at % self.validate_every == 0 or self.at == self.steps):
            found = self._validate()
        self._seconds += time.perf_counter() - began
        if found or self.at % _RECORDED == 0:
            means = {name: total / self._summed for name, total in self._sums.items()}
            self._sums, self._summed = {}, 0
            self._run.record(self.at, {"seconds": round(self._seconds, 3)} | means | found)
            self._run.progress(self.at / self.steps, self._said(means))
        if self._run.due():
            self._keep()

    def _count(self, terms: dict[str, float]) -> None:
        self._summed += 1
        for name, value in terms.items():
            if not abs(value) <= _EXPLODED:
                raise Diverged(
                    f"{type(self).__name__} stopped at step {self.at:,}: its loss '{name}' is "
                    f"{value:.3g}. Try a lower learning_rate (it is {self.learning_rate:g}), "
                    "smaller rewards, or another seed."
                )
            self._sums[name] = self._sums.get(name, 0.0) + value

    def _validate(self) -> dict[str, float]:
        """Metrics of each head of the first copy; the best weights are kept."""
        assert self._asked is not None
        found: dict[str, float] = {}
        network = self.networks[0].eval()
        for head in self.heads:
            of = "" if head == self.recommending else f" ({head})"
            found |= {f"{name}{of}": value for name, value in self._asked(network, head).items()}
        network.train()
        if found["ndcg@10"] > self._reached:
            self._reached, self._waited = found["ndcg@10"], 0
            self._best = {name: one.detach().cpu().clone()
                          for name, one in self._all.state_dict().items()}  # fmt: skip
        else:
            self._waited += 1
            if self._waited == self.patience:
                self._waited, self._over = 0, self.stalled()
        return found

    def _said(self, means: dict[str, float]) -> str:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        best = f"; best ndcg@10 {self._reached:.4f}" if self._best else ""
        return f"step {self.at:,} of {self.steps:,}: {losses}{best}"

    # ---------------------------------------------------------------------------- checkpoints

    def _keep(self) -> None:
        """Write all that is needed to go on from here."""
        if (file := self._run.checkpoint) is None:
            return
        tensors = checkpoint.prefixed("networks", self._all.state_dict())
        tensors |= checkpoint.prefixed("best", self._best)
        groups = []
        for which, optimizer in enumerate(self._optimizers):
            moments, settings = checkpoint.of_optimizer(optimizer)
            tensors |= checkpoint.prefixed(f"adam-{which}", moments)
            groups.append(settings)
        about = {
            "same": self._same,
            "groups": groups,
            "step": self.at,
            "over": self._over,
            "waited": self._waited,
            "reached": self._reached if self._best else None,
            "sums": self._sums,
            "summed": self._summed,
            "seconds": self._seconds,
            "memory": self.memory,
        }
        checkpoint.write(file, tensors, about)
        self._run.kept()

    def _resume(self, train: MinariDataset) -> None:
        """Go on from the checkpoint of the run, if it has one."""
        file = self._run.checkpoint
        if file is None:
            return
        self._same = {
            "agent": home_of(type(self)), "options": asdict(self), "dataset": content_hash(train)
        }  # fmt: skip
        if not file.exists():
            self._run.rewind(0)
            return
        tensors, about = checkpoint.read(file)
        for what, known in about["same"].items():
            if known != self._same[what]:
                raise InvalidArgument(
                    f"The checkpoint {file} is of another {what.rstrip('s')}: go on with the same "
                    "command, or train into another folder."
                )
        self._all.load_state_dict(checkpoint.under("networks", tensors))
        self._best = checkpoint.under("best", tensors)
        for which, (optimizer, groups) in enumerate(
            zip(self._optimizers, about["groups"], strict=True)
        ):
            moments = checkpoint.under(f"adam-{which}", tensors)
            checkpoint.to_optimizer(optimizer, moments, groups)
        self.at, self._over, self._waited = about["step"], about["over"], about["waited"]
        self._sums, self._summed = about["sums"], about["summed"]
        self._seconds, self.memory = about["seconds"], about["memory"]
        self._reached = -math.inf if about["reached"] is None else about["reached"]
        self._run.rewind(self.at)

    @classmethod
    def _rebuilt(cls, plan: Any, space: spaces.Box) -> nn.Module:
        recommender = Recommender(Plan(**plan["recommender"]))
        return Scores(recommender, plan["head"])


class _Asked:
    """The targets of the validation data after a history, and how they are ranked."""

    def __init__(self, data: Steps, on: torch.device) -> None:
        rows = np.flatnonzero(data.taken & ~data.empty)
        if not len(rows):
            raise InvalidArgument(
                "The validation data have no action after a history that brought a reward: train "
                "without them, or on a log that has."
            )
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _TARGETS)).astype(int)]
        self._data, self._rows, self._on = data, rows, on

    def __call__(self, network: Recommender, head: str) -> dict[str, float]:
        """HR and NDCG at 10 among all items."""
        targets = self._data.actions[self._rows]
        with torch.no_grad():
            ranked = rank(
                lambda some: self._scores(network, head, self._rows[some]),
                targets,
                self._data.n_items,
            )
        found = metrics(ranked.greater, ranked.equal, [10])
        return {name: float(found[name].mean()) for name in ("ndcg@10", "hr@10")}

    def _scores(self, network: Recommender, head: str, rows: NDArray[Any]) -> NDArray[Any]:
        seen = self._data.seen(self._data.states[rows], self._on)
        scores: NDArray[Any] = network.head(head)(network.state(seen)).float().cpu().numpy()
        return scores


@lru_cache(2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """In which order so many are learned from in an epoch."""
    return np.random.default_rng((seed, epoch, ORDER)).permutation(count)


def _same_catalogue(train: MinariDataset, validation: MinariDataset | None) -> None:
    """Refuse validation data whose item numbers mean something else."""
    if validation is None:
        return
    for what in ("action_space", "observation_space"):
        if getattr(train, what) != getattr(validation, what):
            break
    else:
        logs = [data.storage.metadata.get("log", {}).get("digest") for data in (train, validation)]
        if logs[0] == logs[1]:
            return
    raise InvalidArgument(
        f"{validation.id} is of another catalogue or log than {train.id}, so that its items are "
        "other ones: give the validation split of the same data."
    )
