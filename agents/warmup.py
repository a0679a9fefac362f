"""Two phases of training: a warm-up, and what rests on what has been learned by then."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

import recgym.checkpoint as checkpoint
from recgym.agents.loop import PHASE, Loop, Network
from recgym.errors import InvalidArgument

POLICY, REFERENCE = range(2)


@dataclass
class WarmedUp(Loop[Network]):
    """A training whose second phase begins with the weights of the first and an Adam anew."""

    warmup_steps: int = 0  # of the first phase; 0: until validation stalls, at most half of all
    second_learning_rate: float = 0.001  # of Adam in the second phase

    from_zero: ClassVar[frozenset[str]] = Loop.from_zero | {"warmup_steps"}

    @property
    def warm(self) -> bool:
        """Has the second phase begun?"""
        return "warm since" in self.memory

    @property
    def planned(self) -> int:
        """Steps of the first phase, at most."""
        return self.warmup_steps or self.steps // 2

    @property
    def phase(self) -> dict[str, Any] | None:
        """The same, but for a phase that ends when it stalls."""
        return super().phase if self.warmup_steps else None

    def begun(self) -> None:
        """Refuse a warm-up that leaves no step for what follows."""
        if self.warmup_steps >= self.steps:
            raise InvalidArgument(
                f"All of {self.steps} steps are warm-up, as warmup_steps is {self.warmup_steps}, "
                "and none is left for what follows: take more steps."
            )

    def renewed(self) -> float | None:
        if self.warm or not ("stalled" in self.memory or self.at >= self.planned):
            return None
        self.memory["warm since"] = self.at
        return self.second_learning_rate

    def stalled(self) -> bool:
        if self.warm:
            return True
        if not self.warmup_steps:
            self.memory["stalled"] = True
            self.restore()
        return False


@dataclass
class Refined(WarmedUp[Network]):
    """A first phase that imitates; the second begins with its best, and keeps its own best.

    The first network is what both are of, and its best weights are all that the second takes over.
    """

    @property
    def chosen(self) -> nn.Module:
        """What the best weights are kept of."""
        return self.networks[POLICY]

    def take_up(self) -> None:
        known = self.phase and self.before.find(self.phase)
        if known:
            states, _ = checkpoint.read(known / PHASE)
            self.networks[POLICY].load_state_dict(states["policy"])
            self.at = self.planned

    def renewed(self) -> float | None:
        rate = super().renewed()
        if rate is not None:
            if self._best:
                self.restore()
            self.keep_phase()
            self.forget_best()
            self.second_begins()
        return rate

    def second_begins(self) -> None:
        """Make what the second phase needs besides."""


@dataclass
class Referred(Refined[Network]):
    """A second phase that is held against a frozen copy of what imitated: the second network."""

    def begun(self) -> None:
        """The reference learns nothing, and leaves nothing out."""
        super().begun()
        self.networks[REFERENCE].requires_grad_(False).eval()

    def second_begins(self) -> None:
        """What imitates becomes the reference."""
        self.networks[REFERENCE].load_state_dict(self.networks[POLICY].state_dict())
