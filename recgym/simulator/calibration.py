"""From raw rewards, whose zero means nothing, to probabilities of which the base rate is declared.

Pairs of one item that was taken and one that was not hold half of each, so a calibrator fitted to
them accepts far too many: its intercept is moved until, of all items alike, as many are accepted
as the base rate says.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recgym.errors import Diverged, InvalidArgument

_HALVINGS = 80  # of an interval: more than the digits of a number
_FAR = 50.0  # logits beyond which a probability is 0 or 1
_SHRINKAGE = 1.0  # of the slope: where all pairs are right, none would be steep enough


@dataclass(frozen=True)
class Scale:
    """What raw rewards mean, as measured on users of the fit."""

    mean: float
    spread: float  # their standard deviation
    slope: float  # of the log-odds in a standardised reward, from 0 on
    intercept: float  # for the base rate
    base_rate: float  # share of all items that a user would take, had each been shown

    def standardised(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean 0 and standard deviation 1 on those users."""
        return np.asarray((raw.astype(np.float64) - self.mean) / self.spread, np.float32)

    def probability(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """That a user takes an item that is shown."""
        standardised = (raw.astype(np.float64) - self.mean) / self.spread
        return np.asarray(_sigmoid(self.slope * standardised + self.intercept), np.float32)


def calibrated(
    taken: NDArray[np.float32],
    untaken: NDArray[np.float32],
    random: NDArray[np.float32],
    base_rate: float,
) -> Scale:
    """Fit the slope to pairs of raw rewards, and the intercept to those of random items.

    Rewards that order pairs no better than a coin tell nothing: all items get the base rate.
    """
    if not 0 < base_rate < 1:
        raise InvalidArgument(f"A base rate is between 0 and 1: found {base_rate:g}.")
    every = np.concatenate([taken.ravel(), untaken.ravel()]).astype(np.float64)
    if bad := int((~np.isfinite(every)).sum() + (~np.isfinite(random)).sum()):
        raise Diverged(
            f"{bad:,} of {every.size + random.size:,} rewards are no numbers, so they cannot be "
            "calibrated: fit the simulator at a lower learning rate."
        )
    mean, spread = float(every.mean()), float(every.std() if np.ptp(every) else 1.0)
    higher = (taken.astype(np.float64) - untaken).ravel() / spread

    def gain(slope: float) -> float:  # of the likelihood: a logistic regression of who was taken
        return float((_sigmoid(-slope * higher) * higher).sum() - _SHRINKAGE * slope)

    slope = _root(gain, 0.0, float(np.abs(higher).sum()))
    logits = slope * (random.astype(np.float64) - mean) / spread
    far = _FAR + float(np.abs(logits).max())
    intercept = _root(lambda moved: base_rate - _sigmoid(logits + moved).mean(), -far, far)
    return Scale(mean, spread, slope, intercept, float(base_rate))


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls reaches nought; the end that is nearest where it does not."""
    if falling(low) <= 0:
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), also of small chances to all digits."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))
