"""Named protocols: every decision between a raw table and a log, as recorded switches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recgym.errors import InvalidArgument, UnknownName

SplitKind = Literal["event-time", "session-time", "leave-last-out", "random-session"]
Rewards = Literal["click0.2-purchase1", "click1-purchase5", "binary", "levels", "one", "value"]
InState = Literal["all", "positive"]
Ends = Literal["never", "always", "purchase", "shown"]


@dataclass(frozen=True)
class Protocol:
    """The switches; `None` takes what suits the source."""

    name: str
    behaviours: tuple[str, ...] = ()  # keep only these; "cart=purchase" also renames; empty: all
    min_rating: float | None = None  # drop lower ratings altogether
    min_session: int = 0  # drop sessions with fewer counted events
    min_item: int = 0  # then drop items with fewer counted events
    counted: str = "all"  # all, positive, or the one behaviour that the two minima count
    repeat_filters: bool = True  # until both minima hold; otherwise a paper's single pass
    gap: float | None = None  # minutes without an event that cut a history into sessions
    sample: int | None = None  # keep this many sessions, drawn with the seed
    ties: Literal["hash", "row"] = "hash"  # equal times: a seeded hash, or the raw file's order
    split: SplitKind | None = None  # None: session-time for visits, event-time for user histories
    cuts: tuple[float, float] = (0.8, 0.9)  # shares at which validation and test begin
    index: Literal["train", "all"] = "train"  # which events give items their numbers
    rewards: Rewards | None = None  # None: what suits the source
    in_state: InState = "all"  # which events enter the histories
    ends: Ends | None = None  # terminal session ends, the others are truncated; None: by the source
    seed: int = 0


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("temporal"),
        Protocol("leave-last-out", split="leave-last-out"),
        # Xin et al. (2020): all sampled clicks number the items, sequences end as terminal.
        Protocol(
            "sqn-rc15",
            min_session=3,
            min_item=1,
            counted="click",
            repeat_filters=False,
            sample=200_000,
            ties="row",
            split="random-session",
            index="all",
            rewards="click0.2-purchase1",
            ends="always",
        ),
        # "Purchase" is add-to-cart here: the authors drop the rows that have a transaction id.
        Protocol(
            "sqn-retailrocket",
            behaviours=("click", "cart=purchase"),
            min_session=3,
            min_item=3,
            repeat_filters=False,
            ties="row",
            split="random-session",
            index="all",
            rewards="click0.2-purchase1",
            ends="always",
        ),
        # The paper names positive states and rewards by level; thresholds and split are ours.
        Protocol(
            "crr-movielens",
            min_session=5,
            counted="positive",
            split="event-time",
            rewards="levels",
            in_state="positive",
        ),
        Protocol("crr-yoochoose", split="session-time", rewards="click0.2-purchase1", ends="shown"),
        # The paper states the filter and the counts; the split is ours.
        Protocol(
            "lea-lfm",
            min_session=3,
            min_item=3,
            split="random-session",
            rewards="one",
            ends="always",
        ),
        Protocol(
            "lea-industry",
            min_session=3,
            min_item=3,
            split="random-session",
            rewards="one",
            ends="always",
        ),
    )
}


# What the papers count in their own data, to hold a log against.
PUBLISHED: dict[str, dict[str, int]] = {
    "sqn-rc15": {"sessions": 200_000, "items": 26_702, "click": 1_110_965, "purchase": 43_946},
    "sqn-retailrocket": {
        "sessions": 195_523,
        "items": 70_852,
        "click": 1_176_680,
        "purchase": 57_269,
    },
    "lea-lfm": {"sessions": 11_073, "items": 18_297, "rows": 146_255},
    "lea-industry": {"sessions": 10_935, "items": 5_814, "rows": 71_872},
}


def protocol_named(name: str) -> Protocol:
    """The named protocol."""
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def rewards_of(
    scheme: Rewards, behaviours: Sequence[str], positive: Sequence[str]
) -> NDArray[np.float32] | None:
    """What each behaviour is worth, or None where rows have values of their own."""
    if scheme == "value":
        return None
    try:
        if scheme == "levels":
            levels = [float(behaviour) for behaviour in behaviours]
            worth = [1.0 if level >= 4.5 else 0.5 if level >= 4 else 0.0 for level in levels]
        elif scheme == "binary":
            worth = [float(behaviour in positive) for behaviour in behaviours]
        elif scheme == "one":
            worth = [1.0 for _ in behaviours]
        else:
            click, purchase = (0.2, 1.0) if scheme == "click0.2-purchase1" else (1.0, 5.0)
            of = {"skip": 0.0, "click": click, "cart": click, "purchase": purchase}
            worth = [of[behaviour] for behaviour in behaviours]
    except (ValueError, KeyError):
        needs = "ratings" if scheme == "levels" else "skips, clicks, carts and purchases"
        raise InvalidArgument(
            f"The reward scheme '{scheme}' is for {needs}, and this log has "
            f"{', '.join(behaviours)}. Use --rewards binary or one."
        ) from None
    return np.array(worth, np.float32)


def tie_hash(first: Any, second: Any, seed: int) -> Any:
    """A seeded number below 2^31 for a pair of codes: the same in NumPy and on every engine.

    x^5 permutes the residues of the prime 2^31 - 1, and Weil's bound makes the order of the
    hashes of two pairs even, so no item tends to come before another.
    """
    prime = 2**31 - 1
    x = ((first + 1) * 1_103_515_245) % prime + ((second + 1) * 1_140_671_485) % prime
    x = (x + ((seed % prime) * 1_597_334_677) % prime) % prime
    square = (x * x) % prime
    return (((square * square) % prime) * x) % prime


def shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """0 to count - 1 in an order that depends on the seed only."""
    codes = np.arange(count, dtype=np.int64)
    return np.lexsort((codes, tie_hash(codes, 0, seed)))
