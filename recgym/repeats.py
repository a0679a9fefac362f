"""What is taken again, and what hardly ever: counted in the data that an agent learns from."""

import numpy as np
from numpy.typing import NDArray

HARDLY = 0.005  # of what is taken


def ages_of(histories: NDArray[np.int32], items: NDArray[np.int64], pad: int) -> NDArray[np.int64]:
    """How many items are those of an age in the history before them; last, those of none."""
    recent = newest_first(histories, pad)
    some = recent[:, 0] < pad
    again = recent[some] == items[some, None]
    ages = np.where(again.any(1), again.argmax(1), recent.shape[1])
    counts: NDArray[np.int64] = np.bincount(ages, minlength=recent.shape[1] + 1)
    return counts


def fresh(repeats: NDArray[np.int64]) -> int:
    """How many of the newest items of a history are hardly ever taken again, by `ages_of`."""
    most = np.cumsum(repeats[:-1]) + 1  # one more: a few takings prove nothing
    return int((most <= HARDLY * repeats.sum()).sum())


def newest_first(histories: NDArray[np.int32], pad: int) -> NDArray[np.int32]:
    """Histories from the newest item back, with all pads at the end."""
    flipped = histories[:, ::-1]
    order = np.argsort(flipped == pad, axis=1, kind="stable")
    return np.take_along_axis(flipped, order, axis=1)


def put_last(
    scores: NDArray[np.float32], histories: NDArray[np.int32], newest: int, lowest: float
) -> None:
    """Give the newest items of each history, so many of them, the lowest score."""
    if newest:
        pad = scores.shape[1]
        recent = newest_first(histories, pad)[:, :newest]
        users, places = np.nonzero(recent < pad)
        scores[users, recent[users, places]] = lowest
