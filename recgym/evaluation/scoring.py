"""From an agent to its predictions, and from predictions to metrics, as anyone can again."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgym.benchmarks import Benchmark
from recgym.envs.frozen import frozen
from recgym.envs.frozen import normalised as on_oracle_scale
from recgym.errors import BadPredictions, InvalidArgument
from recgym.evaluation import closed_loop, shopping
from recgym.evaluation.intervals import RESAMPLES, Interval, Outcomes, outcomes
from recgym.evaluation.off_policy import Logged, logged
from recgym.evaluation.predictions import TABLES, Predictions
from recgym.evaluation.ranking import TOP, Ranked, consistent, metrics, rank
from recgym.evaluation.tasks import Progress, Targets, Task

ACTING = {"greedy", "sampled"}  # by the highest score, or drawn from the softmax of all
LISTED = 10  # the items of a list whose spread is measured
VIEWS = {
    "main": "targets after a history, on items known from training",
    "with unseen": "and targets on items unseen in training, as misses",
    "with empty": "and targets without a history",
    "without repeats": "targets on items that the user did not have before",
}


# ----------------------------------------------------------------------- an agent's predictions


def predicted(agent: Any, task: Task, users: int, progress: Progress) -> Predictions:
    """Ask an agent for all that a benchmark needs."""
    benchmark, trace, agreement = task.benchmark, None, None
    if benchmark.shop:
        goals = min(users, task.goals)
        trace = shopping.shopped(
            benchmark.env, agent, goals, lambda share: progress("shopping", share), **task.shop
        )
        return Predictions(said=trace)
    if benchmark.oracle:
        first = closed_loop.FIRST_SEEDS[task.split]
        trace = closed_loop.acted(
            benchmark.env, agent, first, users, lambda share: progress("closed loop", share)
        )
    if benchmark.primary == "snips":
        agreement = _agreement(agent, logged(task.test))
    ranking = _ranking(agent, task, lambda share: progress("ranking all items", share))
    return Predictions(ranking, trace, agreement)


def otherwise(agent: Any, task: Task, users: int, progress: Progress) -> dict[str, float]:
    """What an agent reaches in a shop where it draws in place of acting greedily, or the reverse.

    That is asked of agents whose option `acting` is "greedy" or "sampled".
    """
    if not task.benchmark.shop or getattr(agent, "acting", None) not in ACTING:
        return {}
    other = copy.copy(agent)
    (other.acting,) = ACTING - {agent.acting}
    return acted(other, measured(task, predicted(other, task, users, progress)))


def acted(agent: Any, metrics: Mapping[str, Any]) -> dict[str, float]:
    """What an agent reached in a shop, by how it acts; nothing of others."""
    if "shop" not in metrics or getattr(agent, "acting", None) not in ACTING:
        return {}
    return {f"{name} ({agent.acting})": metrics["shop"][name] for name in ("score", "success")}


def _ranking(agent: Any, task: Task, progress: Callable[[float], None]) -> Ranked:
    targets = task.targets
    score = scorer(agent, task.n_items)
    return rank(
        lambda some: score(targets.observe(some)),
        targets.items,
        task.n_items,
        seen=targets.seen,
        progress=progress,
    )


def scorer(agent: Any, n_items: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The scores of all items; an agent without any gives 1 to the item that it recommends."""
    if ranks_all(agent):
        return lambda observations: agent.scores(observations, {})

    def one(observations: NDArray[Any]) -> NDArray[Any]:
        scores = np.zeros((len(observations), n_items), np.float32)
        chosen = closed_loop.recommended(agent, observations, {}, n_items)
        scores[np.arange(len(scores)), chosen] = 1
        return scores

    return one


def ranks_all(agent: Any) -> bool:
    """Has the agent scores for all items, or is there only the one that it recommends?"""
    return callable(getattr(agent, "scores", None))


def _agreement(agent: Any, data: Logged) -> NDArray[np.float64]:
    """How probably an agent would have done what was logged: 1 where it recommends just that."""
    chosen = closed_loop.recommended(agent, data.observations, {}, data.n_items)
    agreed: NDArray[np.float64] = (chosen == data.actions).astype(np.float64)
    return agreed


# ------------------------------------------------------------------------ metrics of predictions


def measured(task: Task, predictions: Predictions) -> dict[str, Any]:
    """Every metric, from nothing but the predictions and the benchmark."""
    _check(task, predictions)
    found: dict[str, Any] = {}
    if predictions.ranking is not None:
        found["ranking"] = _by_view(task.targets, predictions.ranking, task.n_items)
        found["lists"] = _spread(predictions.ranking, task.popularity)
    if predictions.actions is not None:
        returns = _returns(task, predictions)
        mean = float(returns.mean())
        scores = frozen()[task.benchmark.env]["scores"]
        found["closed loop"] = {
            "users": len(returns),
            "return": mean,
            "length": float(predictions.actions[0].mean()),
            "normalised": on_oracle_scale(scores, mean),
        }
    if predictions.said is not None:
        found["shop"] = _shopped(task, predictions.said)
    if predictions.agreement is not None:
        found["off-policy"] = _snips(logged(task.test), predictions.agreement)
    return found


def primary_outcomes(task: Task, runs: Sequence[Predictions]) -> Outcomes:
    """The primary metric of every seed by user, or by goal: what intervals and tests rest on."""
    return outcomes_in(task, runs, task.benchmark.primary)


def outcomes_in(task: Task, runs: Sequence[Predictions], metric: str) -> Outcomes:
    """A metric of every seed by user, or by goal."""
    if metric in _WORTH:
        worth = np.stack([_WORTH[metric](task, run) for run in runs])
        return outcomes(worth, np.arange(worth.shape[1]))
    if metric == "snips":
        raise InvalidArgument("SNIPS is a ratio of sums over steps, and has no outcomes by user.")
    chosen = _views(task.targets, task.n_items)["main"]
    values = [_values(run.ranking, task.n_items)[metric][chosen] for run in runs]  # type: ignore[arg-type]
    return outcomes(np.stack(values), task.targets.users[chosen])


def snips_interval(task: Task, runs: Sequence[Predictions]) -> Interval:
    """The mean of SNIPS over seeds, and where 95% of resamples of the logged steps put it."""
    data, rng = logged(task.test), np.random.default_rng(0)
    weights = np.stack([run.agreement / data.propensities for run in runs])  # type: ignore[operator]
    n, means = len(data.rewards), np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        drawn = weights * np.bincount(rng.integers(n, size=n), minlength=n)
        sums = np.maximum(drawn.sum(1), np.finfo(float).tiny)
        means[resample] = (drawn @ data.rewards / sums).mean()
    low, high = np.quantile(means, [0.025, 0.975])
    mean = (weights @ data.rewards / weights.sum(1)).mean()
    return Interval(float(mean), float(min(low, mean)), float(max(high, mean)))


def primary_of(benchmark: Benchmark, found: dict[str, Any]) -> float | None:
    """The number that ranks the agents, among all metrics."""
    primary = benchmark.primary
    if primary == "return":
        return float(found["closed loop"]["return"])
    if primary == "score":
        return float(found["shop"]["score"])
    if primary == "snips":
        value = found["off-policy"]["snips"]
    else:
        value = found["ranking"]["main"]["all"].get(primary)
    return None if value is None else float(value)


def _by_view(targets: Targets, ranked: Ranked, n_items: int) -> dict[str, Any]:
    values = _values(ranked, n_items)
    found: dict[str, Any] = {}
    for view, chosen in _views(targets, n_items).items():
        of = {"all": chosen} | {
            name: chosen & (targets.behaviours == code) for code, name in enumerate(targets.names)
        }
        found[view] = {
            name: _means(values, rows) for name, rows in of.items() if name == "all" or rows.any()
        }
    return found


def _values(ranked: Ranked, n_items: int) -> dict[str, NDArray[np.float64]]:
    """The metrics of each target; what cannot be recommended is a miss at any cut."""
    missed = ranked.greater >= n_items
    found = metrics(ranked.greater, ranked.equal)
    return {name: np.where(missed, 0.0, value) for name, value in found.items()}


def _views(targets: Targets, n_items: int) -> dict[str, NDArray[np.bool_]]:
    known = targets.items < n_items
    return {
        "main": known & ~targets.empty,
        "with unseen": ~targets.empty,
        "with empty": known,
        "without repeats": known & ~targets.empty & ~targets.repeated,
    }


def _means(values: dict[str, NDArray[np.float64]], rows: NDArray[np.bool_]) -> dict[str, Any]:
    count = int(rows.sum())
    means = {name: float(value[rows].mean()) for name, value in values.items()} if count else {}
    return {"targets": count} | means


def _spread(ranked: Ranked, popularity: NDArray[np.int64]) -> dict[str, float]:
    """How much of the catalogue is listed, how evenly, and how far from what is popular."""
    listed = ranked.items[:, :LISTED]
    shown = listed[listed >= 0]
    counts = np.sort(np.bincount(shown, minlength=len(popularity)))
    places = np.arange(1, len(counts) + 1)
    gini = float((2 * places - len(counts) - 1) @ counts / (len(counts) * counts.sum()))
    share = np.maximum(popularity, 1) / max(int(popularity.sum()), 1)
    return {
        f"coverage@{LISTED}": float((counts > 0).mean()),
        f"gini@{LISTED}": gini,
        f"novelty@{LISTED}": float(-np.log2(share[shown]).mean()),
    }


def tables_of(benchmark: Benchmark) -> list[str]:
    """The tables of predictions that a benchmark asks for."""
    if benchmark.shop:
        return ["said"]
    asked = {
        "ranking": True,
        "actions": benchmark.oracle,
        "agreement": benchmark.primary == "snips",
    }
    return [table for table, needed in asked.items() if needed]


def _returns(task: Task, predictions: Predictions) -> NDArray[np.float64]:
    assert predictions.actions is not None
    first = closed_loop.FIRST_SEEDS[task.split]
    return closed_loop.returns_of(task.benchmark.env, predictions.actions, first)


def _rewards(task: Task, predictions: Predictions) -> NDArray[np.float64]:
    assert predictions.said is not None
    return shopping.worth(task.benchmark.env, predictions.said, **task.shop).rewards


def _met(task: Task, predictions: Predictions) -> NDArray[np.float64]:
    """1 for each goal that is met in full."""
    met: NDArray[np.float64] = (_rewards(task, predictions) == 1).astype(np.float64)
    return met


_WORTH: dict[str, Callable[[Task, Predictions], NDArray[np.float64]]] = {
    "return": _returns, "score": _rewards, "success": _met,
}  # fmt: skip


def _shopped(task: Task, trace: closed_loop.Trace) -> dict[str, float]:
    """What was bought, and how."""
    found = shopping.worth(task.benchmark.env, trace, **task.shop)
    return {
        "goals": len(found.rewards),
        "score": float(found.rewards.mean()),
        "success": float((found.rewards == 1).mean()),
        "bought": float(found.bought.mean()),
        "length": float(trace[0].mean()),
        "invalid": float(found.invalid.mean()),
    }


def _snips(data: Logged, agreement: NDArray[np.float64]) -> dict[str, Any]:
    """The self-normalised estimate of the reward of a step, from sessions of one step each."""
    weights = agreement / data.propensities
    total = float(weights.sum())
    return {
        "steps": len(weights),
        "snips": float(weights @ data.rewards) / total if total else None,
        "effective": total**2 / float(weights @ weights) if total else 0.0,
        "logged": float(data.rewards.mean()),
    }


def _check(task: Task, predictions: Predictions) -> None:
    """Refuse predictions that are not of this benchmark, or not what an agent can give."""
    wanted = tables_of(task.benchmark)
    for name in TABLES:
        there = getattr(predictions, name) is not None
        if there != (name in wanted):
            raise BadPredictions(
                f"{task.benchmark.name} asks for {', '.join(wanted)}, and the table '{name}' is "
                f"{'too much' if there else 'missing'}. Evaluate again."
            )
    if predictions.said is not None:
        if len(predictions.said[0]) > task.goals:
            raise BadPredictions(
                f"{task.benchmark.name} has {task.goals:,} goals, and what was said is of "
                f"{len(predictions.said[0]):,}. Evaluate again."
            )
        return
    ranked, targets = predictions.ranking, task.targets
    assert ranked is not None
    top = min(TOP, task.n_items)
    if ranked.items.shape != (len(targets), top) or ranked.scores.shape != ranked.items.shape:
        raise BadPredictions(
            f"{task.benchmark.name} has {len(targets):,} targets with lists of {top}, and these "
            f"are {ranked.items.shape[0]:,} with lists of {ranked.items.shape[1]}. Evaluate again."
        )
    sound = consistent(ranked, targets.items, task.n_items, targets.seen)
    if not sound.all():
        row = int(np.argmin(sound))
        raise BadPredictions(
            f"The list of target {row} does not agree with the rank that is stated for it "
            f"({ranked.greater[row]} above, {ranked.equal[row]} equal). Evaluate again."
        )
    if predictions.agreement is not None:
        agreement = predictions.agreement
        if (
            len(agreement) != len(logged(task.test).actions)
            or not ((agreement >= 0) & (agreement <= 1)).all()
        ):
            raise BadPredictions("The agreement with logged actions is a share for each of them.")
