"""Does a log need reinforcement learning, and can it carry a claim?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recgym.log import SPLITS, InteractionLog

Level = Literal["fine", "note", "warning"]
TRAIN, VALIDATION, TEST, _ = range(len(SPLITS))
_RARE = 5  # an item with fewer training events can hardly be learnt
_BLOCK = 1 << 18  # rows looked at together: what is worked out for them stays in the cache


@dataclass(frozen=True)
class Finding:
    """One thing that a log shows: its numbers, what they mean and what to do."""

    name: str
    values: dict[str, float]  # shares are from 0 to 1; what cannot be said is absent
    sentence: str
    level: Level  # a note belongs in a paper; a warning stands against a claim


def diagnose(log: InteractionLog) -> list[Finding]:
    """What a log can teach and what it can prove, a sentence each; targets are its test rows."""
    trained = _item_counts(log, log.splits == TRAIN)
    tested = _item_counts(log, log.splits == TEST)
    if not trained.any():
        nothing = "0 rows are for training: nothing can be learnt. Choose later --cuts or a split."
        return [Finding("training", {"rows": 0.0}, nothing, "warning")]
    findings = [
        _reward(log),
        _ends(log),
        _horizon(log),
        _popularity(log, trained),
        _index(log, trained),
        _propensities(log),
        _ties(log),
        *_repeats(log),
    ]
    if not tested.any():
        nothing = (
            "0 rows are test targets: nothing can be scored. Choose earlier --cuts or a split."
        )
        return [*findings, Finding("targets", {"rows": 0.0}, nothing, "warning")]
    return [
        *findings,
        _support(trained, tested),
        _unseen(trained, tested),
        _histories(log),
        _leakage(log),
        _drift(log, trained, tested),
    ]


# ------------------------------------------------------------------------ is there a problem?


def _reward(log: InteractionLog) -> Finding:
    train = log.splits == TRAIN
    n = int(train.sum())
    low = float(np.min(log.rewards, where=train, initial=np.inf))
    high = float(np.max(log.rewards, where=train, initial=-np.inf))
    mean = float(np.sum(log.rewards, where=train, dtype=np.float64)) / n
    names = log.manifest.behaviours
    if low == high:
        return Finding(
            "reward",
            {"mean": low, "variance": 0.0, "earning": 0.0},
            f"0 is the variance of the reward: all {n:,} training rows earn {low:g}. With a "
            "constant reward TD learning can only learn popularity of continuation: which items "
            "come before long sessions. "
            + (
                "Choose --rewards that tell the behaviours apart."
                if len(names) > 1
                else "There is one behaviour to reward: rank items, and claim nothing on reward."
            ),
            "warning",
        )
    spread = between = 0.0
    earning = n_sessions = 0
    of_behaviour = np.zeros((2, len(names)))
    for rows, sessions in _blocks(log):
        kept = train[rows]
        rewards = log.rewards[rows][kept]
        earning += int((rewards > low).sum())
        centred = rewards.astype(np.float64) - mean
        spread += float(centred @ centred)
        of_behaviour += _sums(log.behaviours[rows][kept], centred, len(names))
        sizes, sums = _sums(sessions[kept], centred)
        between += _between(sizes, sums)
        n_sessions += int((sizes > 0).sum())
    behaviour = round(_between(*of_behaviour) / spread, 9)
    within, alike = abs(round(1 - between / spread, 9)), (n - n_sessions) / (n - 1)
    margin = 1.96 / earning**0.5  # of a count that large, as a share of it
    level: Level = "fine"
    advice = "Show what looking ahead adds with a twin of discount 0."
    if margin > 0.1:
        level = "warning"
        advice = (
            f"Only {earning:,} rows earn more than {low:g}, so their rate is known to within "
            f"{_percent(margin)} of itself: take more data before agents are compared by reward."
        )
    elif within < alike / 2:
        level = "note"
        advice = (
            "Much of it is whose session it is, not which action was taken: compare agents on "
            "the same sessions."
        )
    place = f", and {_percent(within)} lies within sessions ({_percent(alike)} if all were alike)"
    return Finding(
        "reward",
        {
            "mean": mean,
            "variance": spread / n,
            "earning": earning / n,
            "explained_by_behaviour": behaviour,
            "within_sessions": within,
            "within_sessions_if_alike": alike,
        },
        f"{spread / n:.3g} is the variance of the reward on training rows (mean {mean:.3g}, "
        f"{_percent(earning / n)} earn more than {low:g}); behaviours explain "
        f"{_percent(behaviour)} of it{place if alike else ''}. {advice}",
        level,
    )


def _ends(log: InteractionLog) -> Finding:
    n = log.n_sessions
    truncated = n - int(log.terminated.sum())
    changes = np.flatnonzero(log.splits[1:] != log.splits[:-1]) + 1
    sessions = log.sessions_of(changes)
    cut = len(np.unique(sessions[changes > log.offsets[sessions]]))
    values = {"truncated": truncated / n, "cut_by_split": cut / n}
    shares = (
        f"{_percent(truncated / n)} of {n:,} sessions are truncated rather than terminated, and "
        f"the split cuts {_percent(cut / n)}"
    )
    if truncated or cut:
        advice = (
            "Such ends are censored, not final: bootstrap past them, and report TD agents with "
            "ends as truncated and as terminal."
        )
        most = max(truncated, cut) > n / 2
        return Finding("ends", values, f"{shares}. {advice}", "note" if most else "fine")
    if log.manifest.protocol.get("ends") == "always" and len(log) > n:
        declared = "The protocol declares every end terminal, the source need not show it: say so."
        return Finding("ends", values, f"{shares}. {declared}", "note")
    return Finding("ends", values, f"{shares}. Every end was seen: no value is censored.", "fine")


def _horizon(log: InteractionLog) -> Finding:
    lengths = np.diff(log.offsets)
    median, long = (float(x) for x in np.percentile(lengths, (50, 90)))
    single = float((lengths == 1).mean())
    values = {"median": median, "p90": long, "mean": float(lengths.mean()), "single": single}
    if single == 1:
        bandit = (
            "1 row is every session: nothing follows an action, so this is a bandit. TD and "
            "discounts have no effect; estimate policies off-policy."
        )
        return Finding("horizon", values, bandit, "warning")
    found = (
        f"{median:,g} rows is the median session, {long:,.0f} the 90th percentile; "
        f"{_percent(single)} of sessions are a single row"
    )
    if median <= 3:
        advice = "Little follows an action: a bandit may do as well, so compare with discount 0."
        return Finding("horizon", values, f"{found}. {advice}", "note")
    advice = "There is a future to plan for; whether planning pays, a twin of discount 0 tells."
    return Finding("horizon", values, f"{found}. {advice}", "fine")


# ----------------------------------------------------------------------- what was tried enough?


def _popularity(log: InteractionLog, trained: NDArray[np.int64]) -> Finding:
    counts = np.sort(trained[: log.n_items])
    n, total = len(counts), int(counts.sum())
    gini = 2 * float(np.arange(1, n + 1) @ counts) / (n * total) - (n + 1) / n
    head = -(-n // 100)
    top = float(counts[n - head :].sum()) / total
    rare = float((counts < _RARE).mean())
    advice = (
        "A popularity baseline is strong here and has to be beaten."
        if gini > 0.6
        else "Popularity is spread; keep its baseline all the same."
    )
    if rare > 0.5:
        advice += (
            " Most items can be known by their text only: drop them with --min-item, or say so."
        )
    return Finding(
        "popularity",
        {"gini": gini, "top_1_percent": top, "rare_items": rare},
        f"{gini:.2f} is the Gini coefficient of training events over {n:,} items: the top 1% "
        f"({head:,}) hold {_percent(top)} of events, and {_percent(rare)} of items have fewer "
        f"than {_RARE}. {advice}",
        "note" if gini > 0.6 or rare > 0.5 else "fine",
    )


def _index(log: InteractionLog, trained: NDArray[np.int64]) -> Finding:
    untrained = int((trained[: log.n_items] == 0).sum())
    values = {"untrained": untrained / log.n_items}
    found = f"{untrained:,} of the {log.n_items:,} indexed items have no training event"
    if untrained:
        advice = "The index was made on all events, so an agent learns which items will come."
        return Finding("index", values, f"{found}. {advice} Build with --index train.", "warning")
    return Finding("index", values, f"{found}: the index tells nothing of the future.", "fine")


def _propensities(log: InteractionLog) -> Finding:
    if log.propensities is None:
        return Finding(
            "propensities",
            {"known": 0.0},
            "0 rows have a propensity: the logging policy is unknown, so off-policy estimates by "
            "importance sampling are not possible. Rank logged targets, or use a simulator.",
            "note",
        )
    n = positive = 0
    total, squares, smallest = 0.0, 0.0, np.inf
    for first in range(0, len(log), _BLOCK):
        rows = slice(first, first + _BLOCK)
        logged = log.propensities[rows][log.splits[rows] == TRAIN].astype(np.float64)
        n += len(logged)
        logged = logged[logged > 0]
        positive += len(logged)
        smallest = min(smallest, float(logged.min(initial=np.inf)))
        total += float((1 / logged).sum())
        squares += float((logged**-2).sum())
    if not positive:
        nothing = "0 training rows have a positive propensity: none can be weighted. Mend the log."
        return Finding("propensities", {"known": 1.0, "zero": 1.0}, nothing, "warning")
    effective, weight = total**2 / squares, total / positive / log.n_items
    zero = 1 - positive / n
    # Weights average to 1 where every item can be shown and the propensities are true.
    error = np.sqrt(max(squares / positive / log.n_items**2 - weight**2, 0) / positive)
    doubtful = zero > 0 or abs(weight - 1) > max(0.1, 4 * error)
    advice = (
        "Weights average 1 for true propensities of all items: check these before any estimate."
        if doubtful
        else "Estimates for such a policy rest on few rows: prefer doubly robust ones, and clip."
        if effective < n / 10
        else "Policies up to uniform can be estimated."
    )
    return Finding(
        "propensities",
        {
            "known": 1.0,
            "smallest": smallest,
            "effective": effective / n,
            "average_weight": weight,
            "zero": zero,
        },
        f"{effective:,.0f} is the effective sample size of a uniform target policy on {n:,} "
        f"training rows ({_percent(effective / n)}); the smallest propensity is {smallest:.2g}, "
        f"{_percent(zero)} are zero, the average weight is {weight:.2f}. {advice}",
        "warning" if doubtful else "note" if effective < n / 10 else "fine",
    )


# ---------------------------------------------------------------------- what does order mean?


def _ties(log: InteractionLog) -> Finding:
    tied, pairs = log.manifest.counts["tied_pairs"], log.manifest.counts["pairs"]
    if not pairs:
        nothing = "0 sessions have two rows, so there is no order to mistake."
        return Finding("ties", {}, nothing, "fine")
    share = tied / pairs
    found = f"{_percent(share)} of {pairs:,} consecutive rows have equal times"
    if not tied:
        return Finding("ties", {"tied": 0.0}, f"{found}: every order was observed.", "fine")
    by_row = log.manifest.protocol.get("ties") == "row"
    advice = (
        "They stand as in the raw file, where items often rise: a fake, learnable sequence. "
        "Build with --ties hash."
        if by_row
        else "Their order is a seeded hash and cannot be learnt: it bounds next-item metrics."
    )
    level: Level = "warning" if share > 0.1 or by_row else "note" if share > 0.01 else "fine"
    return Finding("ties", {"tied": share}, f"{found}. {advice}", level)


def _repeats(log: InteractionLog) -> list[Finding]:
    """Items that come again in their session: as a target, at once, or as the very same row."""
    names, pairs = log.manifest.behaviours, log.manifest.counts["pairs"]
    targets, seen = np.zeros((2, len(names)), np.int64)
    at_once = copies = 0
    for rows, sessions in _blocks(log):
        items, behaviours = log.items[rows], log.behaviours[rows]
        keys = sessions * (int(items.max(initial=0)) + 1) + items
        order = np.argsort(keys, kind="stable")
        before, after = order[:-1], order[1:]
        again = keys[before] == keys[after]
        before, after = before[again], after[again]
        at_once += int((keys[1:] == keys[:-1]).sum())
        # Rows of one item and time are ordered by behaviour, so equal ones are neighbours.
        times = log.timestamps[rows]
        same = (times[before] == times[after]) & (behaviours[before] == behaviours[after])
        copies += int(same.sum())
        test = log.splits[rows] == TEST
        targets += np.bincount(behaviours[test], minlength=len(names))
        seen += np.bincount(behaviours[after[test[after]]], minlength=len(names))
    return [_seen(names, targets, seen, at_once, pairs), _copies(copies, len(log))]


def _seen(
    names: list[str], targets: NDArray[np.int64], seen: NDArray[np.int64], at_once: int, pairs: int
) -> Finding:
    if not pairs or not targets.sum():
        return Finding("repeats", {}, "0 test targets have a row before them to repeat.", "fine")
    shares = {name: int(s) / int(t) for name, s, t in zip(names, seen, targets, strict=True) if t}
    share, immediate = int(seen.sum()) / int(targets.sum()), at_once / pairs
    values = {"targets": share, "immediate": immediate}
    values |= {f"targets_{name}": part for name, part in shares.items()}
    most = sorted(shares, key=lambda name: -shares[name])[:2]
    parts = ", ".join(f"{name} {_percent(shares[name])}" for name in most if len(shares) > 1)
    found = (
        f"{_percent(share)} of test targets are already in their session"
        f"{f' ({parts})' if share and parts else ''}, and {_percent(immediate)} of rows "
        "with a row before them repeat its item"
    )
    if share > 0.1 or max(shares.values()) > 0.5:
        advice = "Report metrics with and without seen targets, beside a repeat-last baseline."
        return Finding("repeats", values, f"{found}. {advice}", "note")
    if share == 0 and "click" in names:
        advice = "Clicks without any return suggest de-duplicated data: claim nothing on repeats."
        return Finding("repeats", values, f"{found}. {advice}", "warning")
    advice = (
        "Mask seen items in the benchmark, for every agent."
        if not share
        else ("Whether seen items are masked is the benchmark's choice, for every agent.")
    )
    return Finding("repeats", values, f"{found}. {advice}", "fine")


def _copies(copies: int, rows: int) -> Finding:
    values = {"duplicates": copies / rows}
    found = (
        f"{copies:,} of {rows:,} rows ({_percent(copies / rows)}) repeat the session, time, item "
        "and behaviour of another"
    )
    if copies > rows / 100:
        advice = "An agent is paid for predicting copies: drop them from the raw data."
        return Finding("duplicates", values, f"{found}. {advice}", "warning")
    return Finding("duplicates", values, f"{found}.", "note" if copies else "fine")


# ----------------------------------------------------------------- what do the targets prove?


def _support(trained: NDArray[np.int64], tested: NDArray[np.int64]) -> Finding:
    n = int(tested.sum())
    rare = int(tested[trained < _RARE].sum()) / n
    by_support = np.argsort(trained)
    middle = np.searchsorted(np.cumsum(tested[by_support]), n / 2)
    median = float(trained[by_support[middle]])
    level: Level = "warning" if rare > 0.3 else "note" if rare > 0.05 else "fine"
    advice = (
        "They cap what an agent of item ids can score: report them apart."
        if level != "fine"
        else "Training has seen enough of what the test asks for."
    )
    return Finding(
        "support",
        {"rare_targets": rare, "median": median},
        f"{_percent(rare)} of {n:,} test targets are items with fewer than {_RARE} training "
        f"events, unseen ones included; the median target's item has {median:,.0f}. {advice}",
        level,
    )


def _unseen(trained: NDArray[np.int64], tested: NDArray[np.int64]) -> Finding:
    share = int(tested[trained == 0].sum()) / int(tested.sum())
    found = f"{_percent(share)} of test targets are items that training has never seen"
    if not share:
        return Finding("unseen", {"unseen": 0.0}, f"{found}: every target can be ranked.", "fine")
    advice = "Leave them out of the main table, and count them as misses in a second column."
    level: Level = "warning" if share > 0.2 else "note"
    return Finding("unseen", {"unseen": share}, f"{found}. {advice}", level)


def _histories(log: InteractionLog) -> Finding:
    test = log.splits == TEST
    empty = int(np.sum(log.depths == 0, where=test)) / int(test.sum())
    found = f"{_percent(empty)} of test targets have an empty history"
    if empty == 1:
        advice = "A sequence model has nothing to read: this asks for a bandit or a context."
        return Finding("histories", {"empty": empty}, f"{found}. {advice}", "warning")
    advice = "Only popularity can answer these: give them a column beside the main table."
    sentence = f"{found}. {advice}" if empty else f"{found}: all can be answered from the past."
    return Finding("histories", {"empty": empty}, sentence, "note" if empty > 0.05 else "fine")


def _leakage(log: InteractionLog) -> Finding:
    split = log.manifest.protocol.get("split", "unnamed")
    if log.manifest.time == "order":
        return Finding(
            "leakage",
            {},
            f"0 rows have a time: the {split} split is non-temporal, and training may hold the "
            "future of any target. Say so beside every result, and claim nothing of the future.",
            "note",
        )
    times, test = log.timestamps, log.splits == TEST
    last = _last_trained(log)
    n, early = int(test.sum()), int((times[test] <= last).sum())
    if _is_temporal(log):
        return Finding(
            "leakage",
            {"before_last_training": 0.0},
            f"0% of {n:,} test targets lie before the last training event ({_date(last)}): the "
            f"{split} split keeps the future out of training.",
            "fine",
        )
    later = np.partition(times, place := int(0.9 * len(log)))[place]
    values = {
        "before_last_training": early / n,
        "before_temporal_test": int((times[test] < later).sum()) / n,
    }
    return Finding(
        "leakage",
        values,
        f"{_percent(values['before_last_training'])} of {n:,} test targets lie before the last "
        f"training event and {_percent(values['before_temporal_test'])} before the last tenth of "
        f"the log: the {split} split trains on their future. Use it to compare with a paper only; "
        "for a claim build with --protocol temporal.",
        "warning",
    )


def _drift(log: InteractionLog, trained: NDArray[np.int64], tested: NDArray[np.int64]) -> Finding:
    n = int(tested.sum())
    before, part = trained, "all training events"
    if _is_temporal(log):
        times = log.timestamps[log.splits == TRAIN]
        place = max(len(times) - n, 0)
        times.partition(place)
        recent = (log.splits == TRAIN) & (log.timestamps >= times[place])
        before = _item_counts(log, recent)
        part = f"the last {int(before.sum()):,} training events"
    share = n / (n + int(before.sum()))
    moved = _distance(before, tested)
    rng, pooled = np.random.default_rng(0), before + tested
    draws = (rng.binomial(pooled, share) for _ in range(20))
    chance = float(np.mean([_distance(pooled - drawn, drawn) for drawn in draws]))
    drifts = moved - chance > 0.1
    advice = (
        "What is popular changes: retrain on validation before the test, and give the popularity "
        "baseline recent events only."
        if drifts
        else "There are too few events per item to see a drift."
        if chance > 0.5
        else "That is close to chance: what is popular in training still is in the test."
    )
    return Finding(
        "drift",
        {"distance": moved, "by_chance": chance},
        f"{_percent(moved)} is the total variation distance between item popularity in {part} and "
        f"in the test ({_percent(chance)} by chance for as many independent events). {advice}",
        "note" if drifts else "fine",
    )


# ----------------------------------------------------------------------------------- counting


def _blocks(log: InteractionLog) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """The rows of some whole sessions at a time, and the session of each, counted from 0."""
    first = 0
    while first < log.n_sessions:
        full = np.searchsorted(log.offsets, log.offsets[first] + _BLOCK, side="right") - 1
        stop = max(first + 1, int(full))
        sizes = np.diff(log.offsets[first : stop + 1])
        rows = slice(int(log.offsets[first]), int(log.offsets[stop]))
        yield rows, np.repeat(np.arange(stop - first), sizes)
        first = stop


def _item_counts(log: InteractionLog, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How often every item, also the unseen ones, occurs in the chosen rows."""
    counts = np.zeros(log.manifest.counts["items"], np.int64)
    for first in range(0, len(log), _BLOCK):  # bincount widens what it counts
        rows = slice(first, first + _BLOCK)
        found = np.bincount(log.items[rows][chosen[rows]])
        counts[: len(found)] += found
    return counts


def _sums(groups: NDArray[Any], values: NDArray[np.float64], least: int = 0) -> NDArray[Any]:
    """The size of every group and the sum of its values."""
    return np.stack([np.bincount(groups, w, minlength=least) for w in (None, values)])


def _between(sizes: NDArray[Any], sums: NDArray[Any]) -> float:
    """The sum of squares that the means of groups explain, for values centred on their mean."""
    return float((sums**2 / np.maximum(sizes, 1)).sum())


def _last_trained(log: InteractionLog) -> int:
    return int(np.max(log.timestamps, where=log.splits == TRAIN, initial=np.iinfo(np.int64).min))


def _is_temporal(log: InteractionLog) -> bool:
    """Does every training event come before every validation and test target?"""
    if log.manifest.time == "order":
        return False
    target = (log.splits == VALIDATION) | (log.splits == TEST)
    first = np.min(log.timestamps, where=target, initial=np.iinfo(np.int64).max)
    return bool(_last_trained(log) < first)


def _distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The total variation distance between two counts as shares."""
    return float(np.abs(one / max(one.sum(), 1) - other / max(other.sum(), 1)).sum()) / 2


def _date(time: int) -> str:
    return str(np.datetime64(time, "us").astype("datetime64[D]"))


def _percent(share: float) -> str:
    """A share in words that never round a little to nothing, or almost all to all."""
    if 0 < share < 0.0005:
        return "under 0.1%"
    if 0.9995 <= share < 1:
        return "over 99.9%"
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"
