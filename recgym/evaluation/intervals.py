"""How sure a figure is: intervals, paired differences, many comparisons, many benchmarks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from recgym.errors import InvalidArgument

RESAMPLES = 2000
LISTED, CLAIMED = 3, 5  # seeds to stand in a table, and to be called better than another agent
_CELLS = 1 << 16  # users times resamples drawn together: they stay in the cache


@dataclass(frozen=True)
class Interval:
    """A mean and where resamples put it: 95% of them from low to high, unless said otherwise."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """How much better the first agent is than the second, and how easily chance gives as much."""

    p: float  # two-sided


@dataclass(frozen=True)
class Outcomes:
    """What an agent reached, by seed and user: a metric summed over its targets or episodes."""

    sums: NDArray[np.float64]  # (seeds, users)
    counts: NDArray[np.int64]  # (users,), the same for all seeds: all are scored on equal targets

    def __post_init__(self) -> None:
        """Refuse what has no mean."""
        if self.sums.ndim != 2 or not self.sums.size or self.counts.shape != self.sums.shape[1:]:
            raise InvalidArgument(
                "Outcomes are sums (seeds, users) and counts (users,), none of them empty: found "
                f"{self.sums.shape} and {self.counts.shape}."
            )
        if bad := int(np.sum(~np.isfinite(self.sums))):
            raise InvalidArgument(
                f"{bad} of {self.sums.size} sums are not finite. Give every target a number."
            )
        if not (self.counts >= 1).all():
            raise InvalidArgument(
                f"A user has a count of {self.counts.min()}. Leave out users without targets."
            )

    @property
    def mean(self) -> float:
        """The mean over targets, not over users: a user with more targets weighs more."""
        return float(self.sums.sum(axis=1).mean() / self.counts.sum())


def outcomes(values: NDArray[Any], users: NDArray[np.integer[Any]]) -> Outcomes:
    """Add a metric (seeds, targets) up by whose target it is (targets,); any integer is a user."""
    if values.ndim != 2 or users.shape != values.shape[1:] or users.dtype.kind not in "iu":
        raise InvalidArgument(
            "A metric is (seeds, targets) and its users are integers (targets,): found "
            f"{values.shape}, and {users.shape} of {users.dtype}."
        )
    _, user, counts = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.zeros((len(values), len(counts)))
    for total, of_seed in zip(sums, values, strict=True):
        total[:] = np.bincount(user, of_seed, len(counts))
    return Outcomes(sums, counts)


def interval(outcomes: Outcomes, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean of an agent, with users and seeds both resampled.

    One seed says nothing of seeds, and the interval is over users only; few seeds say little: it
    is too narrow for what training varies, the more so the fewer they are.
    """
    if not 0 < level < 1:
        raise InvalidArgument(f"A level lies between 0 and 1: found {level}.")
    (means,) = _resample(seed, outcomes)
    return Interval(outcomes.mean, *_bounds(means, level))


def paired(
    first: Outcomes, second: Outcomes, seed: int = 0, same_seeds: bool = False
) -> Difference:
    """How much better the first agent is: both meet the same resampled users, each its own seeds.

    With `same_seeds`, rows of both are pairs and are drawn together: for agents that, seed by seed,
    have something in common, such as the policy with which they begin.

    Where b resamples reach zero or pass it, p is 2 (b + 1) / (RESAMPLES + 1); where none does, it
    is `resolved`. With few seeds it is too small, as intervals are too narrow.
    """
    if not np.array_equal(first.counts, second.counts):
        raise InvalidArgument(
            f"The agents were scored on different targets: {len(first.counts)} users with "
            f"{first.counts.sum()}, and {len(second.counts)} with {second.counts.sum()}. "
            "Score both on the same."
        )
    if same_seeds and first.sums.shape != second.sums.shape:
        raise InvalidArgument(
            f"Seeds are paired, and there are {len(first.sums)} and {len(second.sums)}: give the "
            "same ones of both."
        )
    if first.mean < second.mean:  # one order of the two draws, so that both orders agree exactly
        turned = paired(second, first, seed, same_seeds)
        return Difference(-turned.mean, -turned.high, -turned.low, turned.p)
    if same_seeds:
        (differences,) = _resample(seed, Outcomes(first.sums - second.sums, first.counts))
    else:
        of_first, of_second = _resample(seed, first, second)
        differences = of_first - of_second
    beyond = min(np.sum(differences <= 0), np.sum(differences >= 0))
    p = min(1.0, 2 * (float(beyond) + 1) / (RESAMPLES + 1))
    mean, bounds = first.mean - second.mean, _bounds(differences)
    return Difference(mean, *bounds, resolved(p, mean, *bounds))


def resolved(p: float, mean: float, low: float, high: float) -> float:
    """A p that no resample reached, by the tail of a normal distribution of the same interval.

    2000 resamples tell no p below 0.001 apart, and Holm's adjustment of 50 such is above 0.05.
    """
    spread = (high - low) / (2 * NormalDist().inv_cdf(0.975))
    if p > 2 / (RESAMPLES + 1) or not spread:
        return p
    return min(p, erfc(abs(mean) / spread / sqrt(2)))


@overload
def holm(p_values: Mapping[str, float]) -> dict[str, float]: ...
@overload
def holm(p_values: Sequence[float]) -> list[float]: ...
def holm(p_values: Mapping[str, float] | Sequence[float]) -> dict[str, float] | list[float]:
    """Raise p-values for how many were looked at (Holm, 1979); names and order stay."""
    if isinstance(p_values, Mapping):
        return dict(zip(p_values, holm(list(p_values.values())), strict=True))
    raw = np.array(p_values, np.float64)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise InvalidArgument(f"p-values lie between 0 and 1: found {raw.min()} to {raw.max()}.")
    order = np.argsort(raw)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)).clip(max=1)
    return [float(p) for p in adjusted]


def aggregate(scores: Sequence[NDArray[np.float64]], seed: int = 0) -> Interval:
    """The interquartile mean over benchmarks, each given by its runs; runs are resampled within it.

    Agarwal et al. (2021). Where all runs of a benchmark agree, it adds nothing to the width.
    """
    if not len(scores) or any(runs.shape != (len(scores[0]),) for runs in scores):
        raise InvalidArgument(
            "Every benchmark needs equally many runs, in one row, to weigh the same: found "
            f"{', '.join(str(runs.shape) for runs in scores) or 'no benchmark'}."
        )
    runs = np.stack(scores)  # (benchmarks, runs)
    mean = interquartile_mean(runs)
    drawn = np.random.default_rng(seed).integers(runs.shape[1], size=(RESAMPLES, *runs.shape))
    resampled = np.take_along_axis(runs[None], drawn, axis=2)
    return Interval(mean, *_bounds(_interquartile_means(resampled.reshape(RESAMPLES, -1))))


def interquartile_mean(scores: NDArray[np.float64]) -> float:
    """The mean of the middle half: a quarter of all scores, rounded down, is cut at each end."""
    if not scores.size or not np.isfinite(scores).all():
        raise InvalidArgument(
            f"A mean needs finite scores: {np.sum(np.isfinite(scores))} of {scores.size} are."
        )
    return float(_interquartile_means(scores.reshape(1, -1))[0])


def normalised(score: float, random: float, reference: float) -> float:
    """A score on the scale where the random agent has 0 and the reference 100, not clipped."""
    if reference == random or not np.isfinite([score, random, reference]).all():
        raise InvalidArgument(
            "A scale needs a finite score and two different ends: found "
            f"{score}, random {random} and reference {reference}."
        )
    return 100 * (score - random) / (reference - random)


def may_be_listed(n_seeds: int, chance: bool) -> bool:
    """Are there seeds enough for a row of a table? An agent without chance needs one."""
    return n_seeds >= (LISTED if chance else 1)


def may_claim(n_seeds: int, chance: bool) -> bool:
    """Are there seeds enough to call an agent better or worse? One without chance needs one."""
    return n_seeds >= (CLAIMED if chance else 1)


def _resample(seed: int, *agents: Outcomes) -> list[NDArray[np.float64]]:
    """The mean of every agent in every resample, (resamples,) each.

    Users and seeds are crossed, so both are drawn with replacement and their weights multiplied:
    the pigeonhole bootstrap of Owen (2007), which errs on the wide side. Users are drawn exactly,
    n of n: as counts that costs less than Poisson weights, and it holds for few users too.
    """
    counts = agents[0].counts
    n_users = len(counts)
    if n_users < 2:
        raise InvalidArgument("There is 1 user: an interval needs 2 or more to resample.")
    rng = np.random.default_rng(seed)
    means = [np.empty((RESAMPLES, len(agent.sums))) for agent in agents]
    rows = max(1, _CELLS // n_users)
    for start in range(0, RESAMPLES, rows):
        block = np.arange(start, min(start + rows, RESAMPLES))
        drawn = rng.integers(n_users, size=(len(block), n_users))
        drawn += n_users * (block - start)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        n_targets = weights @ counts
        weights = weights.astype(np.float64)  # (resamples of the block, users)
        for agent, of_seeds in zip(agents, means, strict=True):  # einsum: any threads, equal bits
            of_seeds[block] = np.einsum("ru,su->rs", weights, agent.sums) / n_targets[:, None]
    resampled = []
    for of_seeds in means:
        drawn = rng.integers(of_seeds.shape[1], size=of_seeds.shape)
        resampled.append(np.take_along_axis(of_seeds, drawn, axis=1).mean(axis=1))
    return resampled


def _bounds(resampled: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _interquartile_means(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every row."""
    n = scores.shape[1]
    means: NDArray[np.float64] = np.sort(scores, axis=1)[:, n // 4 : n - n // 4].mean(axis=1)
    return means
