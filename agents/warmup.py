"""Two phases of training: a warm-up, and what rests on values that have been learned by then."""

from dataclasses import dataclass
from typing import ClassVar

from recgym.agents.learner import Learner


@dataclass
class WarmedUp(Learner):
    """A learner whose second phase begins with the weights of the first and an Adam anew."""

    warmup_steps: int = 0  # of the first phase; 0: until validation stalls (half, where none is)
    second_learning_rate: float = 0.001  # of Adam in the second phase

    from_zero: ClassVar[frozenset[str]] = Learner.from_zero | {"warmup_steps"}

    @property
    def warm(self) -> bool:
        """Has the second phase begun?"""
        return "warm since" in self.memory

    def renewed(self) -> float | None:
        stalls = self.validated and self.patience
        planned = self.warmup_steps or (self.steps if stalls else self.steps // 2)
        if self.warm or not ("stalled" in self.memory or self.at >= planned):
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
