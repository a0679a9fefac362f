"""Where targets stand among all items, and what that is worth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgym.errors import BadPredictions, CheckFailed, InvalidArgument

CUTS = (5, 10, 20)
TOP = 20

Score = Callable[[slice], NDArray[Any]]  # of some of the targets, the scores of all items
# Of some of the targets, the items not to recommend: those of the i-th of them are
# items[offsets[i] : offsets[i + 1]].
Seen = Callable[[slice], tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]]

_ASKED = 1 << 23  # scores that are asked for at once: enough for a matrix product
_RANKED = 1 << 20  # scores that are ranked at once: few enough for a cache
_CHECKED = 1 << 12  # lists that are checked at once
_LANES = 16  # parts of a row of flags: added up, they fit a byte


@dataclass(frozen=True)
class Ranked:
    """Where each target stands, and what was ranked best.

    A target that cannot be recommended, as it is unseen in training or taken out of the ranking,
    is a miss: `greater` is the number of items and `equal` is 1. Where fewer items are left than a
    list is long, it ends in items -1 with scores nan.
    """

    greater: NDArray[np.int32]  # (targets,): items that score above the target
    equal: NDArray[np.int32]  # (targets,): items that score as much, itself included
    items: NDArray[np.int32]  # (targets, top): the best first; equal scores by item number
    scores: NDArray[np.float32]  # (targets, top): what they score


def rank(
    score: Score,
    targets: NDArray[np.integer[Any]],
    n_items: int,
    *,
    seen: Seen | None = None,
    top: int = TOP,
    progress: Callable[[float], None] = lambda share: None,
) -> Ranked:
    """Rank all items for each target; `score` is asked for some of the targets at a time.

    Scores are compared in the precision in which they are given, and never written to. Targets and
    seen items from `n_items` on are unseen in training: the ones are misses, the others ignored.
    """
    targets = _checked(targets, n_items)
    if top < 1:
        raise InvalidArgument(f"A list holds at least one item, and top is {top}.")
    shape = len(targets), min(top, n_items)
    greater, equal = np.empty((2, len(targets)), np.int32)
    items, listed = np.empty(shape, np.int32), np.empty(shape, np.float32)
    most = np.finfo(np.float32).max
    flags = np.zeros((_rows(_RANKED, n_items), -(-n_items // _LANES) * _LANES), bool)
    for rows, scores in _scored(score, len(targets), n_items, seen, progress):
        own = scores[np.arange(len(scores)), np.minimum(targets[rows], n_items - 1)]
        hit = (targets[rows] < n_items) & (own > -np.inf)
        compared = flags[: len(scores)]
        np.greater(scores, own[:, None], out=compared[:, :n_items])
        greater[rows] = np.where(hit, _counted(compared), n_items)
        np.equal(scores, own[:, None], out=compared[:, :n_items])
        equal[rows] = np.where(hit, _counted(compared), 1)
        columns, best = _best(scores, shape[1])
        left = best > -np.inf
        items[rows] = np.where(left, columns, -1)
        listed[rows] = np.where(left, best.clip(-most, most), np.nan)
        del scores  # before more are asked for
    return Ranked(greater, equal, items, listed)


def metrics(
    greater: NDArray[np.integer[Any]],
    equal: NDArray[np.integer[Any]],
    cuts: Sequence[int] = CUTS,
) -> dict[str, NDArray[np.float64]]:
    """HR, NDCG and MRR of each target, as expected when equal scores are ordered at random.

    A miss stands behind all items: it is one at every cut up to the number of items.
    """
    start, end = np.asarray(greater, np.int64), np.asarray(greater, np.int64) + equal
    found = {}
    for cut in cuts:
        ranks = np.arange(1, cut + 1)
        for name, gains in (
            ("hr", np.ones(cut)),
            ("ndcg", 1 / np.log2(ranks + 1)),
            ("mrr", 1 / ranks),
        ):
            sums = np.concatenate([[0.0], gains.cumsum()])
            among = sums[np.minimum(end, cut)] - sums[np.minimum(start, cut)]
            found[f"{name}@{cut}"] = among / equal
    return found


def sampled(
    score: Score,
    targets: NDArray[np.integer[Any]],
    n_items: int,
    *,
    negatives: int,
    seed: int,
    cuts: Sequence[int] = CUTS,
    allow_sampled: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Metrics of each target among items drawn at random, as `sampled-hr@10` and so on.

    What is drawn for a target depends on the seed, its place and its item: it is the same for
    every agent.
    """
    if not allow_sampled:
        raise InvalidArgument(
            "Metrics among sampled items do not order agents as the full ranking does, not even in "
            "expectation (Krichene & Rendle, 2020). Use `rank`, or say allow_sampled=True."
        )
    targets = _checked(targets, n_items)
    if not 1 <= negatives < n_items:
        raise InvalidArgument(
            f"Among {n_items:,} items there are {n_items - 1:,} others to draw for a target, and "
            f"negatives is {negatives}."
        )
    greater, equal = np.empty((2, len(targets)), np.int64)
    rng = np.random.default_rng(seed)
    for rows, scores in _scored(score, len(targets), n_items):
        target = targets[rows, None]
        drawn = _drawn(rng.random((len(scores), negatives)), n_items - 1)
        others = np.take_along_axis(scores, drawn + (drawn >= target), axis=1)
        own = np.take_along_axis(scores, np.minimum(target, n_items - 1), axis=1)
        hit = target[:, 0] < n_items
        greater[rows] = np.where(hit, (others > own).sum(1), max(cuts))
        equal[rows] = np.where(hit, (others == own).sum(1) + 1, 1)
        del scores  # before more are asked for
    return {f"sampled-{name}": values for name, values in metrics(greater, equal, cuts).items()}


def consistent(
    ranked: Ranked,
    targets: NDArray[np.integer[Any]],
    n_items: int,
    seen: Seen | None = None,
) -> NDArray[np.bool_]:
    """Does the list of each target agree with where the target is said to stand?

    Scores may differ and yet be listed as equal, in float32. So what is listed with equal scores
    has to be in the order of item numbers only where it is said to equal the target.
    """
    targets = _checked(targets, n_items)
    rows, lists = len(targets), (len(targets), *ranked.items.shape[-1:])
    for name, shape, kind in (
        ("greater", (rows,), "int32"),
        ("equal", (rows,), "int32"),
        ("items", lists, "int32"),
        ("scores", lists, "float32"),
    ):
        found = getattr(ranked, name)
        if found.shape != shape or found.dtype != kind:
            raise BadPredictions(
                f"For {rows:,} targets, '{name}' is to be {kind} of shape {shape}, and is "
                f"{found.dtype} of shape {found.shape}."
            )
    agree = np.empty(rows, bool)
    for some in _parts(rows, _CHECKED):
        part = Ranked(
            ranked.greater[some], ranked.equal[some], ranked.items[some], ranked.scores[some]
        )
        agree[some] = _agree(part, targets[some], n_items, _hidden(seen, some, n_items))
    return agree


def _agree(
    ranked: Ranked,
    targets: NDArray[np.int64],
    n_items: int,
    hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.bool_]:
    items, scores = ranked.items.astype(np.int64), ranked.scores
    rows, places = np.arange(len(items)), np.arange(items.shape[1])
    start = ranked.greater.astype(np.int64)
    end = start + ranked.equal
    taken = np.unique(hidden[0] * n_items + hidden[1])
    left = n_items - np.bincount(taken // n_items, minlength=len(items))

    # A list has as many items as can be, none twice, the best first.
    filled = places < left[:, None]
    known = (items >= 0) & (items < n_items) & np.isfinite(scores)
    known &= ~np.isin(rows[:, None] * n_items + items, taken)
    sound = np.where(filled, known, (items == -1) & np.isnan(scores)).all(1)
    ordered = np.sort(np.where(filled, items, n_items + places), axis=1)
    sound &= (np.diff(ordered, axis=1) > 0).all(1)
    sound &= ((scores[:, 1:] <= scores[:, :-1]) | ~filled[:, 1:]).all(1)

    # What equals the target stands from `start` to `end`, by item number.
    tied = filled & (places >= start[:, None]) & (places < end[:, None])
    rising = (scores[:, 1:] == scores[:, :-1]) & (items[:, 1:] > items[:, :-1])
    right = (start >= 0) & (start < end) & (end <= left)
    right &= (rising | ~tied[:, 1:] | ~tied[:, :-1]).all(1)
    own = items == targets[:, None]
    behind = (end > len(places)) & (~tied | (items < targets[:, None])).all(1)
    right &= np.where(own.any(1), (own & tied).any(1), behind)

    missed = (ranked.greater == n_items) & (ranked.equal == 1)
    lost = (targets >= n_items) | np.isin(rows * n_items + targets, taken)
    return sound & np.where(lost, missed, right)


def _checked(targets: NDArray[np.integer[Any]], n_items: int) -> NDArray[np.int64]:
    found = np.asarray(targets)
    if n_items < 1:
        raise InvalidArgument(f"There is at least one item to rank, and n_items is {n_items}.")
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InvalidArgument(
            "Targets are item numbers in one dimension, and these are "
            f"{found.dtype} of shape {found.shape}."
        )
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        raise InvalidArgument(f"Item numbers start at 0, and target {row} is {found[row]}.")
    return found.astype(np.int64)


def _rows(scores: int, n_items: int) -> int:
    return max(1, scores // n_items)


def _parts(length: int, size: int, start: int = 0) -> Iterator[slice]:
    return (slice(at, min(at + size, length)) for at in range(start, length, size))


def _scored(
    score: Score,
    length: int,
    n_items: int,
    seen: Seen | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The scores of few targets at a time, as floats; those of seen items are -inf."""
    for rows in _parts(length, _rows(_ASKED, n_items)):
        yield from _prepared(score(rows), rows, n_items, seen)
        progress(rows.stop / length)


def _prepared(
    scores: NDArray[Any], rows: slice, n_items: int, seen: Seen | None
) -> Iterator[tuple[slice, NDArray[Any]]]:
    shape, array = (rows.stop - rows.start, n_items), isinstance(scores, np.ndarray)
    if not array or scores.shape != shape or scores.dtype.kind not in "fiu":
        found = f"{scores.dtype} of shape {scores.shape}" if array else type(scores).__name__
        raise CheckFailed(
            "Scores are an array of numbers with a row for each target and a column for each item, "
            f"here of shape {shape}, and an agent gave {found}."
        )
    exact = np.result_type(scores.dtype, np.float32)  # holds halves and most integers as they are
    size = _rows(_RANKED, n_items)
    copied = bool(seen) or exact != scores.dtype or not scores.flags.c_contiguous
    work = np.empty((min(size, len(scores)), n_items), exact) if copied else scores
    for some in _parts(rows.stop, size, rows.start):
        part = scores[some.start - rows.start : some.stop - rows.start]
        if copied:
            np.copyto(work[: len(part)], part)
            part = work[: len(part)]
        _refuse(part, some.start, scores.dtype.kind in "iu")
        if seen:
            part[_hidden(seen, some, n_items)] = -np.inf
        yield some, part


def _refuse(scores: NDArray[Any], first: int, integers: bool) -> None:
    """Refuse what has no order: NaN and infinity, and integers that floats do not tell apart."""
    low, high = scores.min(), scores.max()  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        row, item = np.argwhere(~np.isfinite(scores))[0]
        raise CheckFailed(
            f"Scores must be finite, and item {item} of target {first + row} has "
            f"{scores[row, item]}."
        )
    if integers and max(-low, high) >= 1 << 53:
        raise CheckFailed(
            f"Scores from {low:.0f} to {high:.0f} are too large for integers: stay below 2**53, "
            "or give floats."
        )


def _hidden(
    seen: Seen | None, rows: slice, n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is taken out of the ranking: rows, counted from the first of these, and items."""
    length = rows.stop - rows.start
    offsets, items = seen(rows) if seen else (np.zeros(length + 1, int), np.empty(0, int))
    counts = np.diff(offsets)
    if len(counts) != length or offsets[0] or offsets[-1] != len(items) or (counts < 0).any():
        raise InvalidArgument(
            f"{len(items):,} seen items of {length:,} targets need {length + 1:,} offsets that "
            f"rise from 0 to {len(items):,}, and these {len(offsets):,} do not."
        )
    if (items < 0).any():
        raise InvalidArgument(f"Item numbers start at 0, and {items.min()} is a seen item.")
    numbers, known = np.repeat(np.arange(length), counts), items < n_items
    return numbers[known], items[known].astype(np.int64)


def _counted(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many flags of each row are set."""
    lanes = flags.view(np.uint8).reshape(len(flags), _LANES, -1)
    return lanes.sum(1, dtype=np.uint8).sum(1, dtype=np.int32)  # type: ignore[no-any-return]


def _best(scores: NDArray[Any], top: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The columns and values of the `top` best of each row, equal ones by column.

    They all lie in the `top` blocks of columns with the greatest maxima, of equal blocks the first.
    """
    rows, n = scores.shape
    width = max(1, min(2 * isqrt(n), n // (3 * top)))
    whole = n - n % width  # what is left is part of the last block, and searched in any case
    number = np.arange(rows)[:, None]
    starts = number * n + np.arange(0, whole, width)
    heads = np.maximum.reduceat(scores.reshape(-1), starts.reshape(-1)).reshape(starts.shape)
    bound = np.partition(heads, -top, axis=1)[:, -top, None]
    above, equal = heads > bound, heads == bound
    first = equal.cumsum(1) <= top - above.sum(1, keepdims=True)
    blocks = np.nonzero(above | (equal & first))[1].reshape(rows, top)

    flags = scores[:, :whole].reshape(rows, -1, width)[number, blocks] >= bound[:, :, None]
    flags = np.concatenate([flags.reshape(rows, -1), scores[:, whole:] >= bound], axis=1)
    firsts = np.concatenate([blocks * width, np.full((rows, 1), whole)], axis=1)
    row, place = np.divmod(np.flatnonzero(flags), flags.shape[1])
    column = firsts[row, place // width] + place % width
    counts = np.bincount(row, minlength=rows)
    filled = np.arange(counts.max()) < counts[:, None]
    columns = np.zeros(filled.shape, np.int64)
    columns[filled] = column
    values = np.full(filled.shape, -np.inf, scores.dtype)
    values[filled] = scores[row, column]
    order = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _drawn(uniform: NDArray[np.float64], among: int) -> NDArray[np.int64]:
    """Different numbers below `among` for each row (Floyd's algorithm)."""
    drawn = np.empty(uniform.shape, np.int64)
    for place, last in enumerate(range(among - uniform.shape[1], among)):
        choice = (uniform[:, place] * (last + 1)).astype(np.int64)
        taken = (drawn[:, :place] == choice[:, None]).any(1)
        drawn[:, place] = np.where(taken, last, choice)
    return drawn
