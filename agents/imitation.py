"""Imitation of shoppers: Yao et al. (2022), where agents of web shops begin."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch

from recgym.agents.choices import Choice, Choices
from recgym.agents.chooser import SESSIONS, Chooser, worthy
from recgym.agents.loop import ORDER, Terms
from recgym.agents.reader import Reader
from recgym.shop.pages import Shop


@dataclass
class Imitation(Chooser):
    """What shoppers chose, by cross-entropy over all that they could have chosen on that page."""

    imitated: int = 0  # sessions, drawn, that are imitated; 0: all
    imitated_reward: float = 0.0  # that a session earned, at least, to be imitated

    from_zero: ClassVar[frozenset[str]] = Chooser.from_zero | {"imitated"}

    def prepare(self, shop: Shop) -> None:
        """Choose which sessions are imitated."""
        rng = np.random.default_rng((self.seed, SESSIONS))
        some = worthy(self.sessions, self.imitated_reward, self.imitated, rng)
        self.choices = Choices.of(some)

    @property
    def phase(self) -> dict[str, Any] | None:
        known = {option.name: getattr(self, option.name) for option in fields(Imitation)}
        del known["acting"]  # however it acts, it learns the same
        return known | {"steps": self.planned, "patience": 0}

    def update(self) -> Terms:
        """Descend once in the choices of some pages."""
        choices = [self.choices.all[one] for one in self.drawn(len(self.choices))]
        return self.descend(0, lambda: self.cloning(self.networks[0], choices))

    def cloning(self, network: Reader, choices: Sequence[Choice]) -> Terms:
        """-log pi(a|page): the softmax is over the actions of the page."""
        if self.compat:
            rng = self.draws(ORDER)
            choices = [choice.part(rng) for choice in choices]
        scores = self.scored(network, choices)
        logs = [some.log_softmax(0)[choice.done]
                for some, choice in zip(scores, choices, strict=True)]  # fmt: skip
        right = [some.argmax() == choice.done for some, choice in zip(scores, choices, strict=True)]
        return {
            "imitation": -torch.stack(logs).mean(),
            "accuracy": torch.stack(right).float().mean(),
        }
