"""How far a simulator can be trusted: what it gets right of users that it has never seen.

Every measure takes a Feedback, so that language models and their rivals stand in one table; what
it finds is plain numbers, which JSON holds as they are.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgym.evaluation.intervals import interval, outcomes
from recgym.simulator.calibration import Scale
from recgym.simulator.feedback import Feedback, LanguageUser, shown_order
from recgym.simulator.moments import Moments

Found = dict[str, Any]
FIVE = 5  # items that a choice is made from
SEARCHED = 4000  # questions in which the best item for anyone is looked for
_ADVERSARIES = 20  # users for whom it is looked for
_BINS = 10  # of probabilities, and of popularity
_SHARED = 50  # items that are asked of the same users, and users
_TIMED, _LISTED = 200, 10  # users whose answers are timed, and items that each is asked about


def measured(
    user: Feedback, scale: Scale, held: Moments, popularity: NDArray[np.float64], seed: int = 0
) -> Found:
    """All that a card says of one simulator, on users that it has not learned from."""
    rng = np.random.default_rng(seed)
    items = {
        "true next": held.items,
        "untaken": held.untaken(rng, 1)[:, 0],
        "untaken popular": held.untaken(rng, 1, popularity)[:, 0],
        "random": rng.integers(held.n_items, size=len(held)),
        "popular": rng.choice(held.n_items, len(held), p=popularity),
    }
    asked = user.rewards(held.histories, np.stack([*items.values()], 1))
    raw = dict(zip(items, asked.T, strict=True))
    chances = {name: scale.probability(values) for name, values in raw.items()}
    right, places = chosen(user, held, rng, seed)
    hits = {
        "uniform": _preferred(raw["true next"], raw["untaken"]),
        "popular": _preferred(raw["true next"], raw["untaken popular"]),
        "true next": right,  # of five
    }
    best, searched = adversarial(user, scale, held, rng)
    accepted = {name: of_users(chances[name], held.sessions)
                for name in ("random", "popular", "true next")}  # fmt: skip
    return {
        "users": len(held.users),
        "moments": len(held),
        "accuracy": {name: of_users(values, held.sessions) for name, values in hits.items()},
        "hits": {name: values.tolist() for name, values in hits.items()},  # by moment
        "calibration": calibration(chances["true next"], chances["untaken"], scale.base_rate),
        "choice": places,
        "acceptance": accepted | {"adversarial": best, "items searched": searched},
        "reward by popularity": by_popularity(
            scale.standardised(raw["random"]), items["random"], popularity
        ),
        "consistency": consistency(user, held, rng),
        "cost": cost(user, held, rng),
    }


def of_users(values: NDArray[Any], users: NDArray[np.int64]) -> Found:
    """A mean over moments, and where 95% of resamples of users lie."""
    return asdict(interval(outcomes(np.asarray(values, np.float64)[None], users)))


def _preferred(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Whether one is worth more than the other; equal ones count as half."""
    return np.asarray((np.sign(np.subtract(one, other, dtype=np.float64)) + 1) / 2)


def calibration(
    taken: NDArray[np.float32], untaken: NDArray[np.float32], base_rate: float
) -> Found:
    """Expected calibration error, where taken items are as rare as the base rate says.

    Bins weigh the same, and equal chances stay together. A point of the reliability
    diagram is the mean chance in a bin, the share that was taken, and the bin's share of all.
    """
    chances = np.concatenate([taken, untaken]).astype(np.float64)
    was_taken = np.repeat([1.0, 0.0], [len(taken), len(untaken)])
    weights = np.where(was_taken, base_rate / len(taken), (1 - base_rate) / len(untaken))
    _, level = np.unique(chances, return_inverse=True)
    mass = np.bincount(level, weights)
    middle = np.cumsum(mass) - mass / 2
    bins = np.minimum((middle * _BINS).astype(np.int64), _BINS - 1)[level]
    whole, said, true = (
        np.bincount(bins, weights * part, _BINS) for part in (1.0, chances, was_taken)
    )
    said, true, whole = (part[whole > 0] for part in (said, true, whole))
    points = np.stack([said / whole, true / whole, whole], 1)
    return {"error": float(np.abs(said - true).sum()), "points": points.tolist()}


def chosen(
    user: Feedback, held: Moments, rng: np.random.Generator, seed: int
) -> tuple[NDArray[np.float64], Found]:
    """Whether the true next item is picked among five, and by a language model from where."""
    five = np.concatenate([held.items[:, None], held.untaken(rng, FIVE - 1)], 1)
    five = rng.permuted(five, axis=1)  # where all are equal, the first place earns nothing
    picked = user.choices(held.histories, five, seed)[:, None]
    right = (np.take_along_axis(five, picked, 1)[:, 0] == held.items).astype(np.float64)
    if not isinstance(user, LanguageUser):
        return right, {}
    shown = shown_order(held.histories, five, held.n_items, seed)
    shares = np.bincount((shown == picked).argmax(1), minlength=FIVE) / len(held)
    moved = float(np.abs(shares - 1 / FIVE).sum() / 2)  # the share that lies elsewhere
    return right, {"positions": shares.tolist(), "from uniform": moved}


def adversarial(
    user: Feedback, scale: Scale, held: Moments, rng: np.random.Generator
) -> tuple[Found, int]:
    """With which probability the best item for a few users is accepted, and among how many."""
    some = _one_each(held, rng, _ADVERSARIES)
    count = min(held.n_items, SEARCHED // len(some))
    items = np.tile(rng.choice(held.n_items, count, replace=False), (len(some), 1))
    best = user.rewards(some.histories, items).max(1)
    return of_users(scale.probability(best), some.sessions), count


def by_popularity(
    rewards: NDArray[np.float32], items: NDArray[np.int64], popularity: NDArray[np.float64]
) -> list[float | None]:
    """The mean reward of items by tenths of their popularity, the rarest first."""
    ranks = popularity.argsort(kind="stable").argsort(kind="stable")
    tenths = ranks[items] * _BINS // len(popularity)
    of_each = [rewards[tenths == tenth] for tenth in range(_BINS)]
    return [float(some.mean(dtype=np.float64)) if len(some) else None for some in of_each]


def consistency(user: Feedback, held: Moments, rng: np.random.Generator) -> dict[str, float]:
    """Whose reward it is: the shares of its variance that follow from the item, and the user.

    What is left is what a simulator knows of how an item suits a user.
    """
    some = _one_each(held, rng, _SHARED)
    items = rng.choice(held.n_items, min(_SHARED, held.n_items), replace=False)
    rewards = user.rewards(some.histories, np.tile(items, (len(some), 1))).astype(np.float64)
    if not np.ptp(rewards):
        return {"item": 0.0, "user": 0.0, "both": 0.0}
    of_item, of_user = rewards.mean(0), rewards.mean(1, keepdims=True)
    shares = {"item": of_item, "user": of_user, "both": rewards - of_item - of_user}
    return {name: float(part.var() / rewards.var()) for name, part in shares.items()}


def cost(user: Feedback, held: Moments, rng: np.random.Generator) -> dict[str, float]:
    """Seconds, and tokens of a language model, to ask 1,000 users about ten items each."""
    some = _one_each(held, rng, _TIMED)
    items = rng.integers(held.n_items, size=(len(some), _LISTED))
    before = user.language.seen if isinstance(user, LanguageUser) else 0
    began = time.perf_counter()
    user.rewards(some.histories, items)
    found = {"seconds": 1000 * (time.perf_counter() - began) / len(some)}
    if isinstance(user, LanguageUser):
        found["tokens"] = 1000 * (user.language.seen - before) / len(some)
    return found


def _one_each(held: Moments, rng: np.random.Generator, count: int) -> Moments:
    """A moment of each of some users."""
    order = rng.permutation(len(held))
    each = order[np.unique(held.sessions[order], return_index=True)[1]]
    return held[rng.permutation(each)[:count]]


# ------------------------------------------------------------------------------ of two, of states


def agreement(one: Feedback, other: Feedback, held: Moments, rng: np.random.Generator) -> Found:
    """How two simulators rank the same items for the same users, and which of two they prefer."""
    items = rng.integers(held.n_items, size=(len(held), FIVE))
    first, second = one.rewards(held.histories, items), other.rewards(held.histories, items)
    prefers = [_preferred(values[:, 0], values[:, 1]) for values in (first, second)]
    return {
        "rank correlation": of_users(spearman(first, second), held.sessions),
        "same preference": of_users(1 - np.abs(prefers[0] - prefers[1]), held.sessions),
    }


def spearman(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """(rows,): how alike the ranks of two tables' columns are; 0 where all of a row are equal."""
    ranks = [  # (rows, columns): how many are lower, less how many are higher
        np.sign(values[:, :, None].astype(np.float64) - values[:, None]).sum(2)
        for values in (one, other)
    ]
    lengths = np.prod([np.linalg.norm(values, axis=1) for values in ranks], axis=0)
    return np.asarray((ranks[0] * ranks[1]).sum(1) / np.where(lengths, lengths, 1))


def neighbours(
    states: NDArray[np.float32], labels: NDArray[np.str_], held: Moments
) -> dict[str, float]:
    """How often the nearest state of another user has the same label, and how often any has.

    What has no label is left out; nearest ones that are as near as each other share one vote.
    """
    known = np.flatnonzero(labels != "")
    near, labels, users = states[known].astype(np.float64), labels[known], held.sessions[known]
    others = users[:, None] != users
    rows = others.any(1)
    if not rows.any():
        return {"same": 0.0, "chance": 0.0}
    squares = (near**2).sum(1)
    distances = np.where(others, squares[:, None] + squares - 2 * near @ near.T, np.inf)
    nearest = others & (distances == distances.min(1, keepdims=True))
    same = labels[:, None] == labels
    return {
        name: float(((same & some).sum(1)[rows] / some.sum(1)[rows]).mean())
        for name, some in (("same", nearest), ("chance", others))
    }


def flat(states: NDArray[np.float32]) -> NDArray[np.float64]:
    """(states, 2): their two principal components, turned so that the largest weight is above 0."""
    centred = states.astype(np.float64) - states.mean(0, dtype=np.float64)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]  # (2, width) or fewer
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    found = np.zeros((len(states), 2))
    found[:, : len(axes)] = centred @ (axes * np.sign(largest)).T
    return found
