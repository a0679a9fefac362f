"""The loop that trains, whatever is learned: steps, validation, checkpoints."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray
from torch import nn

import recgym.checkpoint as checkpoint
from recgym.agent import home_of, training_data
from recgym.before import Before
from recgym.errors import Diverged, InvalidArgument, printable
from recgym.minari_format import content_hash
from recgym.networks import Learned, drawing_from
from recgym.runs import METRIC, Run

Network = TypeVar("Network", bound=nn.Module)
Terms = dict[str, torch.Tensor]  # their sum is descended; those without a gradient are only shown

ORDER, DROPOUT, COIN, NEGATIVES = range(4)  # what is drawn: each has draws of its own
PHASE = "policy.safetensors"  # what is kept of a first phase
_RECORDED = 50  # steps whose mean losses make a line of metrics
_EXPLODED = 1e6  # no loss and no weight of a sound training is as large
# What a checkpoint holds beside weights and moments, as JSON.
_STANDING = ("at", "memory", "_over", "_reached", "_waited", "_sums", "_seconds")


@dataclass
class Loop(Learned, Generic[Network]):
    """An agent that is trained step by step; a child says of what, and what it descends.

    Every draw depends on the seed and the step alone, so that a training that goes on from a
    checkpoint ends in the very weights of one that was never stopped.
    """

    learning_rate: float = 0.005  # of Adam
    batch_size: int = 256  # steps, or windows, of a batch
    steps: int = 10_000  # batches, at most
    validate_every: int = 250  # batches
    patience: int = 5  # validations in a row without a better one that end it; 0: none do
    device: Literal["cpu", "cuda"] = "cpu"  # cuda is untested on GPU
    precision: Literal["float32", "bf16"] = "float32"  # bf16 is untested on GPU
    seed: int = 0  # decides all draws

    from_zero: ClassVar[frozenset[str]] = frozenset({"patience"})
    judged_by: ClassVar[str] = METRIC

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
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InvalidArgument("No GPU is at hand, and device is 'cuda': train on 'cpu'.")
        training = copy.copy(self)  # what only training needs goes when it is over
        with drawing_from(self.seed):
            training._train(train, validation, run or Run(), env)
        self.take(training, train)
        return self

    # ------------------------------------------------------------------ what a child has to say

    def read(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        """Read the data: what is learned from, and what is validated on."""
        raise NotImplementedError

    def made(self) -> list[Network]:
        """All networks; what is drawn depends on the seed alone."""
        raise NotImplementedError

    def update(self) -> Terms:
        """Descend once, and say what."""
        raise NotImplementedError

    def validated(self) -> dict[str, float]:
        """Metrics on the validation data, one of which chooses the best weights; none without."""
        raise NotImplementedError

    def take(self, training: Self, train: MinariDataset) -> None:
        """Take over what has been learned."""
        raise NotImplementedError

    # ------------------------------------------------------------------ what a child can change

    def begun(self) -> None:
        """Change what the networks begin with."""

    def take_up(self) -> None:
        """Begin where another training has come to, if it began in the very same way."""

    def rates(self, learning_rate: float) -> list[float]:
        """The learning rate of each network, where that of the first is given."""
        return [learning_rate] * len(self.networks)

    def renewed(self) -> float | None:
        """The learning rate with which Adam begins anew at this step; None: it goes on."""
        return None

    def stalled(self) -> bool:
        """Does training end, now that no validation gets better?"""
        return True

    def merit(self, found: dict[str, float]) -> float:
        """The number from 0 on, among those of a validation, by which weights are chosen."""
        return found[self.judged_by]

    def better(self, merit: float) -> bool:
        """Are these weights to be kept in place of the best ones so far?"""
        return merit > self._reached

    @property
    def planned(self) -> int:
        """Steps of the first phase, at most."""
        return self.steps

    @property
    def phase(self) -> dict[str, Any] | None:
        """All options that its first phase depends on, where others begin alike; None: none do.

        Such a phase ends with a validation, as trainings do.
        """
        return None

    @property
    def measured_every(self) -> int:
        """Steps whose mean losses make a line of metrics."""
        return _RECORDED

    @property
    def also_of(self) -> dict[str, Any]:
        """What else than its options and data a training is of, by name, as JSON."""
        return {}

    # --------------------------------------------------------------------- what a child can use

    def draws(self, purpose: int) -> np.random.Generator:
        """A generator for this step."""
        return np.random.default_rng((self.seed, self.at, purpose))

    def drawn(self, count: int, size: int = 0) -> NDArray[np.int64]:
        """Which of so many are in the batch of this step: each once in an epoch."""
        size = min(size or self.batch_size, count)
        epoch, place = divmod(self.at, count // size)
        return _order(self.seed, epoch, count)[place * size : (place + 1) * size]

    def descend(self, which: int, loss: Callable[[], Terms], longest: float = math.inf) -> Terms:
        """One step of Adam in a copy of the networks; a longer gradient is shortened to that."""
        half = self.precision == "bf16"
        with torch.autocast(self.on.type, torch.bfloat16, enabled=half):
            terms = loss()
        optimizer = self._optimizers[which]
        optimizer.zero_grad(set_to_none=True)
        torch.stack([term for term in terms.values() if term.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
        if longest < math.inf:
            nn.utils.clip_grad_norm_(self.networks[which].parameters(), longest)
        optimizer.step()
        return terms

    @property
    def chosen(self) -> nn.Module:
        """What the best weights are kept of: all networks."""
        return self._all

    @property
    def before(self) -> Before:
        """What other trainings have come to."""
        return self._run.before

    def keep_phase(self) -> None:
        """Keep what the first phase has come to, for trainings that begin alike."""
        states = {"policy": self.networks[0].state_dict()}
        if self.phase is not None:
            write = partial(checkpoint.write, states=states, about={})
            self.before.keep(self.phase, lambda folder: write(folder / PHASE))

    def say(self, sentence: str) -> None:
        """Tell whoever trains."""
        self._run.say(sentence)

    def show(self, said: str) -> None:
        """Tell how far work between two steps is."""
        self._run.progress(self.at / self.steps, said)

    def restore(self) -> None:
        """Go back to the weights that were best on the validation data."""
        self.chosen.load_state_dict(self._best)

    def forget_best(self) -> None:
        """Choose the best weights among those to come only."""
        self._best: dict[str, torch.Tensor] = {}
        self._reached, self._waited = -1.0, 0  # the best NDCG, and validations since then

    # ------------------------------------------------------------------------------- the loop

    def _train(
        self, train: MinariDataset, validation: MinariDataset | None, run: Run, env: Any
    ) -> None:
        self._begin(train, validation, run, env)
        if run.checkpoint:
            self._resume(run.checkpoint, train, validation)
        if not self.at:
            self.take_up()
        while self.at < self.steps and not self._over:
            self._advance()
        self._keep()
        if self._best:
            self.restore()
        if self.at == self.planned:
            self.keep_phase()

    def _begin(
        self,
        train: MinariDataset,
        validation: MinariDataset | None = None,
        run: Run | None = None,
        env: Any = None,
    ) -> None:
        self.on, self._run, self._env = torch.device(self.device), run or Run(), env
        self._validates = validation is not None
        self.at: int = 0  # batches that were learned from
        self.memory: dict[str, Any] = {}  # what else a child has to know to go on, as JSON
        self.found: dict[str, torch.Tensor] = {}  # and as tensors
        self.read(train, validation)
        torch.manual_seed(self.seed)
        self.networks: list[Network] = self.made()
        self._all = nn.ModuleList(self.networks).to(self.on).train()
        self.begun()
        self._renew(self.learning_rate)
        self._over: bool = False
        self.forget_best()
        self._sums: dict[str, list[float]] = {}  # of losses since the last line; of how many steps
        self._seconds = 0.0

    def _renew(self, learning_rate: float) -> None:
        """An Adam for each of the networks, without a past."""
        self._optimizers = [
            torch.optim.Adam(network.parameters(), rate, fused=True)  # one pass of memory
            for network, rate in zip(self.networks, self.rates(learning_rate), strict=True)
        ]

    def _advance(self) -> None:
        """One batch, and what is due after it."""
        began = time.perf_counter()
        torch.manual_seed(int(self.draws(DROPOUT).integers(2**63)))
        if (learning_rate := self.renewed()) is not None:
            self._renew(learning_rate)
        terms = self.update()
        self.at += 1
        for name, term in terms.items():
            value = self._sound(f"loss '{name}'", term)
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = [total + value, count + 1]  # of a phase that begins: fewer steps
        ends = {self.steps, self.planned} if self.phase else {self.steps}
        last, found = self.at in ends, {}
        if self._validates and (last or self.at % self.validate_every == 0):
            found = self._validate()
        self._seconds += time.perf_counter() - began
        if found or last or self.at % self.measured_every == 0:
            self._record(found)
        if self._run.due():
            self._keep()

    def _validate(self) -> dict[str, float]:
        """Metrics of what recommends; the best weights are kept."""
        self._check_weights()
        network = self.networks[0].eval()
        found = self.validated()
        network.train()
        if self.better(self.merit(found)):
            self._reached, self._waited = self.merit(found), 0
            state = self.chosen.state_dict()
            self._best = {name: tensor.cpu().clone() for name, tensor in state.items()}
        else:
            self._waited += 1
            if self._waited == self.patience:
                self._waited, self._over = 0, self.stalled()
        return found

    def _record(self, found: dict[str, float]) -> None:
        """A line of metrics: mean losses since the last one, and what validation found."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        self._run.record(self.at, {"seconds": round(self._seconds, 3)} | means | found)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        best = f"; best {self.judged_by} {self._reached:.4f}" if self._best else ""
        said = f"step {self.at:,} of {self.steps:,}: {losses}{best}"
        self._run.progress(self.at / self.steps, said)

    def _check_weights(self) -> None:
        greatest = [weights.detach().abs().max() for weights in self._all.parameters()]
        self._sound("greatest weight", torch.stack(greatest).max())

    def _sound(self, what: str, number: torch.Tensor) -> float:
        """The number, unless it shows that training has exploded."""
        value = float(number.detach())
        if not abs(value) <= _EXPLODED:
            raise Diverged(
                f"{type(self).__name__} stopped at step {self.at:,}: its {what} is {value:.3g}. "
                f"Try a lower learning_rate (it is {self.learning_rate:g}), smaller rewards, or "
                "another seed."
            )
        return value

    # ---------------------------------------------------------------------------- checkpoints

    def _keep(self) -> None:
        """Write all that is needed to go on from here."""
        self._check_weights()
        if (file := self._run.checkpoint) is None:
            return
        settings: dict[str, Any] = {}
        states = {"networks": self._all.state_dict(), "best": self._best, "found": self.found}
        for which, optimizer in enumerate(self._optimizers):
            name = f"adam-{which}"
            states[name], settings[name] = checkpoint.of_optimizer(optimizer)
        standing = {name: vars(self)[name] for name in _STANDING}
        about = {"of": self._of, "settings": settings, "standing": standing}
        checkpoint.write(file, states, about)
        self._run.kept()

    def _resume(self, file: Path, train: MinariDataset, validation: MinariDataset | None) -> None:
        """Go on from a checkpoint, if it is there."""
        self._of = {
            "agent": home_of(type(self)),
            "dataset": content_hash(train),
            "validation dataset": None if validation is None else content_hash(validation),
        } | asdict(self)
        self._of |= self.also_of
        if file.exists():
            states, about = checkpoint.read(file)
            for what, now in self._of.items():
                if (known := about["of"].get(what)) != now:
                    raise InvalidArgument(
                        f"The checkpoint {file} is of another {what} ({printable(str(known))}, "
                        f"and now it is {printable(str(now))}): go on as it began, or train into "
                        "another folder."
                    )
            self._all.load_state_dict(states["networks"])
            self._best = states["best"]
            self.found = {name: found.to(self.on) for name, found in states["found"].items()}
            for which, optimizer in enumerate(self._optimizers):
                name = f"adam-{which}"
                checkpoint.to_optimizer(optimizer, states[name], about["settings"][name])
            vars(self).update(about["standing"])
        self._run.rewind(self.at)


@contextmanager
def only_looking(*networks: nn.Module, dropout: bool = False) -> Iterator[None]:
    """Compute without gradients and, unless it is asked for, without dropout meanwhile."""
    try:
        for network in networks:
            network.train(dropout)
        with torch.no_grad():
            yield
    finally:
        for network in networks:
            network.train()


def leave_nothing_out(network: nn.Module) -> None:
    """End dropout but not training: on a GPU, recurrent layers learn in no other mode."""
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.RNNBase):
            part.dropout = 0.0


@lru_cache(2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """In which order so many are learned from in an epoch."""
    return np.random.default_rng((seed, epoch, ORDER)).permutation(count)
