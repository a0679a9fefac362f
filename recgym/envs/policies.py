"""Reference policies of the oracle, and those that write its logs.

A policy goes by what it knows of users: the truth, or what can be told from the observation. So
`greedy` and `planner` exist twice, and the better of those that only observe marks what an agent
can hope for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgym.envs.catalogue import Catalogue, Drawing
from recgym.envs.draws import keys_of, origins_of, uniforms
from recgym.envs.oracle import BUY, CLICK, RESPONSES, SKIP, Oracle, OracleUsers, catalogue_of

HELD_OUT = 3 * 10**7  # the first seed of the users on whom reference policies are scored
_TOGETHER = 2048  # users that are asked at once
_PRIOR, _WEIGHT = 0.2, 2.0  # of an appeal before anything is observed, in perfect items shown
_UNUSED = 2  # by users: the third draw of their step
_ANY, _TOPIC, _ITEM, _TIER = range(4)  # the draws of a step of a logging policy
_OWN = -1  # the number of no episode, whose draws are those of the logging policy


@dataclass(frozen=True)
class Knowledge:
    """What a policy goes by: of each user, true or told from an observation."""

    liking: NDArray[np.float64]  # (users, topics): the share of perfect items accepted now
    tired: NDArray[np.bool_]  # (users, topics): one more accepted item locks the topic
    seen: NDArray[np.int32]  # (some, users): items that are too fresh in memory
    dissatisfaction: NDArray[np.float64]  # (users,)
    left: NDArray[np.int64]  # (users,): steps to the end of the episode

    def of(self, who: NDArray[np.int64]) -> "Knowledge":
        """What is known of some users."""
        return Knowledge(
            self.liking[who], self.tired[who], self.seen[:, who], self.dissatisfaction[who],
            self.left[who],
        )  # fmt: skip


def hidden(users: OracleUsers) -> Knowledge:
    """What is true."""
    left = users.oracle.steps - users.steps
    return Knowledge(users.liking(), users.tired(), users.seen, users.dissatisfaction, left)


def observed(oracle: Oracle, observations: NDArray[np.int32]) -> Knowledge:
    """What the flat observation tells, to one who knows the catalogue and the rules."""
    o, catalogue, count = oracle, catalogue_of(oracle), len(observations)
    # The newest is first, so that the n-th column is n steps ago for every user.
    items, responses = _newest_first(observations, o.history)
    shown = responses != len(RESPONSES)
    accepted = (responses == CLICK) | (responses == BUY)
    places = catalogue.topics.take(items, mode="clip") + np.arange(count)[:, None] * o.n_topics

    def by_topic(weights: NDArray[Any]) -> NDArray[Any]:
        flat = np.bincount(
            places[:, : weights.shape[1]].ravel(), weights.ravel(), count * o.n_topics
        )
        return flat.reshape(count, o.n_topics)

    taken = by_topic(shown & (responses != SKIP))
    perfect = by_topic(catalogue.quality.take(items, mode="clip") * shown)
    fading = np.cumprod([1.0] + [o.memory] * (o.history - 1)) * (1 - o.memory)
    return Knowledge(
        liking=(taken + _PRIOR * _WEIGHT) / (perfect + _WEIGHT),
        tired=(by_topic(accepted[:, : o.within - 1]) >= o.boring - 1) & (o.boring > 0),
        seen=np.where(shown, items, o.n_items)[:, : o.fresh].T,
        dissatisfaction=np.cumsum(fading * (responses == SKIP), 1)[:, -1],
        left=o.steps - (responses < len(RESPONSES) - 1).sum(1),
    )


def _newest_first(
    observations: NDArray[np.int32], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    responses = observations[:, length:]
    sizes = (responses != len(RESPONSES)).sum(1)
    places = (sizes[:, None] - 1 - np.arange(length)) % length  # pads come last, as they were
    rows = np.arange(len(observations))[:, None]
    return observations[rows, places], responses[rows, places]


# --------------------------------------------------------------------- what a topic is worth now


def greedy(oracle: Oracle, known: Knowledge, quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that the next item is accepted."""
    return known.liking * quality


def planner(oracle: Oracle, known: Knowledge, quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """The return of keeping to a topic, by the mean; next to nothing for one that would lock."""
    o, catalogue = oracle, catalogue_of(oracle)
    liking = known.liking.copy()
    dissatisfied = np.repeat(known.dissatisfaction[:, None], o.n_topics, axis=1)
    stays, worth = np.ones_like(liking), np.zeros_like(liking)
    for step in range(int(known.left.max(initial=0))):
        accepts = liking * quality
        worth += stays * accepts * (step < known.left)[:, None]
        liking += o.drift * accepts * (catalogue.hold - liking)
        dissatisfied = o.memory * dissatisfied + (1 - o.memory) * (1 - accepts)
        stays *= 1 - o.leaving - o.leaving_dissatisfied * dissatisfied
    return np.where(known.tired, 1e-6 * worth, worth)


Worth = Callable[[Oracle, Knowledge, NDArray[np.float64]], NDArray[np.float64]]


def recommended(oracle: Oracle, known: Knowledge, worth: Worth) -> NDArray[np.int64]:
    """The best item of the topic that is worth most, among those not seen lately."""
    items = _best_fresh(oracle, known.seen)
    quality = catalogue_of(oracle).quality[items]
    topics = worth(oracle, known, quality).argmax(1)
    chosen: NDArray[np.int64] = items[np.arange(len(items)), topics].astype(np.int64)
    return chosen


def popular(oracle: Oracle, known: Knowledge) -> NDArray[np.int64]:
    """The most popular item that was not seen lately."""
    ranks = catalogue_of(oracle).ranks
    return _first_fresh(ranks.argsort()[None, : len(known.seen) + 1], known.seen)[:, 0]


def _best_fresh(oracle: Oracle, seen: NDArray[np.int32]) -> NDArray[np.int32]:
    """(users, topics): the best item of each topic that was not seen lately."""
    return _first_fresh(_best(catalogue_of(oracle), oracle.fresh + 1), seen)


def _first_fresh(ranked: NDArray[Any], seen: NDArray[np.int32]) -> NDArray[Any]:
    """(users, lists): of each ranked list of items the first that a user has not seen lately."""
    stale = (ranked[:, :, None] == seen[:, None, None, :]).any(0)  # (lists, places, users)
    return np.take_along_axis(ranked, (~stale).argmax(1), axis=1).T


@lru_cache(maxsize=8)
def _best(catalogue: Catalogue, count: int) -> NDArray[np.int32]:
    """(topics, count): the best items of each topic; the last again where it has fewer."""
    lists = np.split(catalogue.by_topic, catalogue.bounds[1:-1])
    ranked = [items[(-catalogue.quality[items]).argsort(kind="stable")] for items in lists]
    return np.stack([items[np.minimum(np.arange(count), len(items) - 1)] for items in ranked])


# ------------------------------------------------------------------------ the reference policies

Policy = Callable[[OracleUsers], NDArray[np.int64]]


def reference_policies() -> dict[str, Policy]:
    """From the worst to the best: what they do in the state in which users are."""

    def seeing(worth: Worth) -> Policy:
        return lambda users: recommended(users.oracle, hidden(users), worth)

    def observing(worth: Worth) -> Policy:
        def act(users: OracleUsers) -> NDArray[np.int64]:
            return recommended(users.oracle, observed(users.oracle, users.observe()), worth)

        return act

    def at_random(users: OracleUsers) -> NDArray[np.int64]:
        drawn = uniforms(users.keys, users.steps + 1, _UNUSED)
        return (drawn * users.n_items).astype(np.int64)

    return {
        "random": at_random,
        "popular": lambda users: popular(users.oracle, hidden(users)),
        "greedy": observing(greedy),
        "observer": observing(planner),
        "greedy-seeing": seeing(greedy),
        "planner": seeing(planner),
    }


# -------------------------------------------------------------------- the policies that write logs


@dataclass(frozen=True)
class Tier:
    """A policy that draws a topic by its worth, then one of its items, and at times any item.

    The probability of what it does is known exactly, and never below `floor` / items.
    """

    about: str
    floor: float  # how often any item at all is shown
    worth: Worth = greedy
    doublings: int = 2  # a topic is drawn by its worth to the power of 2^doublings
    by_quality: bool = False  # draw items by their quality^8; else by their popularity
    sees: bool = False  # the hidden state


TIERS = {
    "random": Tier("any item, evenly", floor=1.0),
    "medium": Tier("topics by how they were answered lately, popular items", floor=0.1),
    "expert": Tier(
        "topics by what keeping to them is worth, good items",
        floor=0.05,
        worth=planner,
        doublings=5,
        by_quality=True,
    ),
    "privileged": Tier(
        "topics by the hidden taste, so logs are confounded", floor=0.1, doublings=3, sees=True
    ),
}
MIXED = ("random", "medium", "expert")  # a session of the mixed log is one of theirs


class LoggingPolicy:
    """Recommends by tiers, and says how probable that was."""

    def __init__(self, *tiers: Tier) -> None:
        """Take one tier, or several of which each session draws one."""
        self._tiers = tiers

    def begin(self, users: OracleUsers, seeds: NDArray[np.uint64]) -> None:
        """Begin a session of each user."""
        self._users, self._step, o = users, 0, users.oracle
        self._keys = keys_of(origins_of(seeds), np.full(len(seeds), _OWN))
        drawn = uniforms(self._keys, 0, _TIER) * len(self._tiers)
        self._tier = drawn.astype(np.int64)
        self._drawings = [_drawing(catalogue_of(o), tier.by_quality) for tier in self._tiers]

    def act(self, observations: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """An item for each user, and the probability with which it was chosen."""
        o, self._step = self._users.oracle, self._step + 1
        drawn = uniforms(self._keys, self._step, np.arange(3)[:, None])
        if any(tier.sees for tier in self._tiers):
            known = hidden(self._users)
        else:
            known = observed(o, observations)
        items = np.empty(len(observations), np.int64)
        propensities = np.empty(len(observations))
        for place, (tier, drawing) in enumerate(zip(self._tiers, self._drawings, strict=True)):
            who = np.flatnonzero(self._tier == place)
            choice = _chosen(o, known.of(who), tier, drawing, drawn[:, who])
            items[who], propensities[who] = choice
        return items, propensities


def _chosen(
    oracle: Oracle, known: Knowledge, tier: Tier, drawing: Drawing, drawn: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    o, rows = oracle, np.arange(drawn.shape[1])
    anything = drawn[_ANY] < tier.floor
    items = (drawn[_ITEM] * o.n_items).astype(np.int64)
    if tier.floor == 1:
        return items, np.full(len(items), 1 / o.n_items)
    worth = tier.worth(o, known, np.ones((1, o.n_topics)))
    most = worth.max(1, keepdims=True)
    shares = np.where(most > 0, worth, 1.0) / np.where(most > 0, most, 1.0)
    for _ in range(tier.doublings):
        shares = shares * shares
    sums = shares.cumsum(1)
    wanted = drawn[_TOPIC, :, None] * sums[:, -1:]
    topics = np.minimum((sums <= wanted).sum(1), o.n_topics - 1)
    items = np.where(anything, items, drawing(topics, drawn[_ITEM]))
    of = catalogue_of(o).topics[items]
    chosen = shares[rows, of] / sums[:, -1] * drawing.shares[items]
    return items, (1 - tier.floor) * chosen + tier.floor / o.n_items


@lru_cache(maxsize=8)
def _drawing(catalogue: Catalogue, by_quality: bool) -> Drawing:
    if not by_quality:
        return catalogue.organic
    weights = catalogue.quality
    for _ in range(3):
        weights = weights * weights
    return Drawing(catalogue, weights)


# ------------------------------------------------------------------------------- what they earn


def returns_of(oracle: Oracle, policy: Policy, seeds: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The true return of a policy from the user of each seed."""
    users = OracleUsers(len(seeds), oracle)
    users.begin(users.rows, keys_of(origins_of(seeds), np.zeros(len(seeds), np.int64)), {})
    returns, there = np.zeros(len(seeds)), np.ones(len(seeds), bool)
    while there.any():
        rewards, left, over = users.answer(policy(users))
        returns += rewards * there
        there &= ~(left | over)
    return returns


def reference_scores(oracle: Oracle, count: int = 2000) -> dict[str, dict[str, float]]:
    """The mean true return of every reference policy on held-out users, and its standard error."""
    seeds = np.arange(HELD_OUT, HELD_OUT + count, dtype=np.uint64)
    parts = np.array_split(seeds, -(-count // _TOGETHER))
    scores = {}
    for name, policy in reference_policies().items():
        returns = np.concatenate([returns_of(oracle, policy, part) for part in parts])
        error = returns.std(ddof=1) / len(returns) ** 0.5
        scores[name] = {"mean": round(float(returns.mean()), 4), "error": round(float(error), 4)}
    return scores
