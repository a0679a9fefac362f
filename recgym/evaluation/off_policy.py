"""What a policy would earn, told from the log of another, by four estimators."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import gymnasium
import minari
import numpy as np
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import View
from recgym.envs.oracle import Oracle, catalogue_of
from recgym.errors import InvalidArgument, printable
from recgym.minari_format import runs_of

RESAMPLES = 1000
_AT_ONCE = 1 << 22  # probabilities that are held at once
_RECENT = 5  # the newest items of a history that are told apart from all of it
_PRIOR = 5.0  # showings at the mean rate that are added to those of an item, or of a topic
_RIDGE = 1e-6
_TOGETHER = 500  # users that are stepped at once
_LEAST, _MOST = -1e300, 600.0  # logarithms of weights: of none at all, and of what is too much


class Policy(Protocol):
    """A policy whose probabilities are known."""

    def probabilities(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(batch, n_items): how probably each item is recommended; rows sum to 1."""


@dataclass(frozen=True)
class Softened:
    """What an agent recommends, but for a share of steps in which it is any item at all."""

    greedy: Callable[[NDArray[Any]], NDArray[Any]]
    n_items: int
    epsilon: float

    def probabilities(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(batch, n_items): how probably each item is recommended."""
        found = np.full((len(observations), self.n_items), self.epsilon / self.n_items)
        found[np.arange(len(found)), self.greedy(observations)] += 1 - self.epsilon
        return found


@dataclass(frozen=True)
class Logged:
    """The steps of sessions whose policy said how probable its actions were, one after another."""

    lengths: NDArray[np.int64]  # (sessions,)
    observations: NDArray[Any]  # (steps, width)
    actions: NDArray[np.int64]  # (steps,), as all that follows
    rewards: NDArray[np.float64]
    propensities: NDArray[np.float64]
    view: View
    topics: NDArray[np.int64]  # (n_items,): of the catalogue; all 0 where it has none
    confounded: bool  # did the policy see what observations do not tell?

    @property
    def n_items(self) -> int:
        """The items that can be recommended."""
        return self.view.n_items

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """The first step of each session."""
        return np.cumsum(self.lengths) - self.lengths


def logged(dataset: MinariDataset | str) -> Logged:
    """The steps of a dataset with propensities."""
    data = minari.load_dataset(dataset) if isinstance(dataset, str) else dataset
    view, about = View.of(data), data.storage.metadata
    parts = []
    for part in runs_of(data, data.episode_indices):
        if "infos/propensity" not in part.states:
            raise InvalidArgument(
                f"{data.id} has no propensities: nobody knows how probable its actions were, so "
                "nothing can be estimated from it."
            )
        after = np.arange(part.lengths.sum()) + np.repeat(np.arange(len(part)), part.lengths) + 1
        parts.append((
            part.lengths,
            part.observations(data.observation_space, last=False),
            part.actions(data.action_space),
            np.asarray(part.at_steps("rewards"), np.float64),
            np.asarray(part.at_states("infos/propensity"), np.float64)[after],
        ))  # fmt: skip
    lengths, observations, actions, rewards, propensities = map(
        np.concatenate, zip(*parts, strict=True)
    )
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise InvalidArgument(
            f"{data.id} has propensities from {propensities.min()} to {propensities.max()}: they "
            "are probabilities above 0."
        )
    topics = np.zeros(view.n_items, np.int64)
    if "oracle" in about:
        topics = catalogue_of(Oracle(**about["oracle"])).topics.astype(np.int64)
    return Logged(
        lengths, observations, actions, rewards, propensities, view, topics,
        bool(about.get("privileged", False)),
    )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """The mean return of a session, and where 95% of resamples of the sessions lie.

    `mean` is None where nothing can be said: the policy never does what was logged.
    """

    mean: float | None
    low: float | None
    high: float | None
    effective: float  # sessions that the estimate rests on


def estimates(data: Logged, policy: Policy, seed: int = 0) -> dict[str, Estimate]:
    """What a policy would earn in a session, by four estimators.

    - `snips`: returns weighted by how much more probable the whole session is under the policy,
      over the sum of the weights;
    - `pdis`: every reward weighted by the steps up to it (Precup et al., 2000);
    - `fqe`: a linear Q function of the policy, at its fixed point;
    - `dr`: `fqe`, corrected by weighted differences of what was seen to what it expects (Jiang &
      Li, 2016), fitted on one half of the sessions and corrected on the other.

    Effective are (sum of weights)^2 / sum of squared weights of whole sessions; for `fqe`, whose
    error does not show in its interval, all sessions. How often an item is taken is counted in all
    sessions for all estimators.
    """
    features = _Features(data)
    chosen, expected = features.under(policy)
    firsts, count = data.firsts, len(data.lengths)
    session = np.repeat(np.arange(count), data.lengths)
    logs = _log_products(chosen / data.propensities, data.lengths, firsts)
    at_ends = logs[firsts + data.lengths - 1]
    whole = np.exp(at_ends - max(at_ends.max(), _LEAST))  # but for a factor, which cancels out
    weights = np.exp(np.minimum(logs, _MOST))
    bounded = bool(logs.max() < _MOST)
    returns = np.bincount(session, data.rewards, count)
    effective = float(whole.sum() ** 2 / (whole @ whole)) if whole.any() else 0.0
    fitted = expected @ _fixed_point(features.logged, expected, data, np.ones(len(session), bool))
    halves = session % 2
    q, v = np.empty((2, len(session)))
    for half in (0, 1) if count > 1 else ():
        of = _fixed_point(features.logged, expected, data, halves != half)
        q[halves == half] = features.logged[halves == half] @ of
        v[halves == half] = expected[halves == half] @ of
    before = np.ones(len(weights))
    before[1:] = weights[:-1]
    before[firsts] = 1.0
    robust = np.bincount(session, before * v + weights * (data.rewards - q), count)
    ones = np.ones(count)
    found = {
        "snips": (whole * returns, whole, effective),
        "pdis": (np.bincount(session, weights * data.rewards, count), ones * bounded, effective),
        "dr": (robust, ones * (bounded and count > 1), effective),
        "fqe": (fitted[firsts], ones, float(count)),
    }
    return {name: _estimate(*parts, seed) for name, parts in found.items()}


def true_value(env_id: str, policy: Policy, users: int, first_seed: int) -> float:
    """The mean return that a policy really earns, of users with seeds from this one on."""
    total = 0.0
    for first in range(0, users, _TOGETHER):
        envs = gymnasium.make_vec(
            env_id, min(_TOGETHER, users - first), vectorization_mode="vector_entry_point"
        )
        observations, _ = envs.reset(seed=first_seed + first)
        rng = np.random.default_rng([first_seed, first])
        there = np.ones(envs.num_envs, bool)
        while there.any():
            sums = policy.probabilities(observations).cumsum(1)
            drawn = rng.random((envs.num_envs, 1)) * sums[:, -1:]
            actions = np.minimum((sums <= drawn).sum(1), sums.shape[1] - 1)
            observations, rewards, terminated, truncated, _ = envs.step(actions)
            total += float(rewards[there].sum())
            there &= ~(terminated | truncated)
        envs.close()
    return total / users


@dataclass(frozen=True)
class Selection:
    """How well estimates choose among policies whose true values are known."""

    error: float | None  # root of the mean squared error
    correlation: float | None  # of ranks (Spearman's)
    regret: float | None  # the best true value, less that of the policy with the best estimate
    normalised_regret: float | None  # as a share of the spread of true values


def selection(said: Sequence[float | None], truths: Sequence[float]) -> Selection:
    """Hold estimates against the truth; those that say nothing are chosen last."""
    values = np.array([-np.inf if one is None else one for one in said])
    true = np.array(truths, np.float64)
    if len(values) != len(true) or len(true) < 2:
        raise InvalidArgument(
            f"A selection is among two policies or more, and there are {len(values)} estimates of "
            f"{len(true)} true values."
        )
    known = np.isfinite(values)
    if not known.any():
        return Selection(None, None, None, None)
    error = float(np.sqrt(((values - true)[known] ** 2).mean()))
    one, other = _ranks(values), _ranks(true)
    spread = one.std() * other.std()
    correlation = (
        float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread else None
    )
    regret = float(true.max() - true[values == values.max()].mean())  # any of equal ones
    range_ = float(true.max() - true.min())
    return Selection(error, correlation, regret, regret / range_ if range_ else 0.0)


# ---------------------------------------------------------------------------------- fitting Q


class _Features:
    """What a linear Q function sees of a step: of what was logged, and expected of a policy.

    Of the recommended item: how often it was taken when shown (shrunk towards its topic), whether
    it stands in the history, and what its topic was answered, in all of the history and lately.
    Of the session: how it went so far and, as a return is that of what is left of it, its step.
    """

    def __init__(self, data: Logged) -> None:
        self.data = data
        self.rates = _rates(data)
        self.logged = np.concatenate([self._of(rows) for rows in self._parts()])

    def under(self, policy: Policy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How probable the logged actions are under a policy, and the expected features."""
        chosen, expected = [], []
        for rows in self._parts():
            pi = np.asarray(policy.probabilities(self.data.observations[rows]), np.float64)
            if (
                pi.shape != (rows.stop - rows.start, self.data.n_items)
                or not np.allclose(pi.sum(1), 1, atol=1e-4)
                or (pi < 0).any()
            ):
                raise InvalidArgument(
                    f"The probabilities of a policy are a row for each of {rows.stop - rows.start} "
                    f"observations that sums to 1 over {self.data.n_items} items, and these have "
                    f"shape {printable(str(pi.shape))}."
                )
            chosen.append(pi[np.arange(len(pi)), self.data.actions[rows]])
            expected.append(self._expected(rows, pi))
        return np.concatenate(chosen), np.concatenate(expected)

    def _parts(self) -> Iterator[slice]:
        size = max(1, _AT_ONCE // self.data.n_items)
        return (slice(first, min(first + size, len(self.data.actions)))
                for first in range(0, len(self.data.actions), size))  # fmt: skip

    def _of(self, rows: slice) -> NDArray[np.float64]:
        """The features of the logged actions."""
        actions = self.data.actions[rows]
        items = self.data.view.items(self.data.observations[rows])
        seen = (items == actions[:, None]).any(1).astype(np.float64)
        rate, topic = self.rates[actions], self.data.topics[actions]
        by_topic, of_session = self._state(rows)
        own = by_topic[np.arange(len(actions)), topic]
        return _joined(of_session, own, own * rate[:, None], rate, seen)

    def _expected(self, rows: slice, pi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their expectation: a product of probabilities with what is known of items and topics."""
        by_topic, of_session = self._state(rows)
        n_topics = by_topic.shape[1]
        topics = np.eye(n_topics)[self.data.topics]  # (items, topics)
        mass = pi @ np.concatenate([topics, topics * self.rates[:, None]], axis=1)
        shares, rated = mass[:, :n_topics], mass[:, n_topics:]
        items = self.data.view.items(self.data.observations[rows])
        padded = np.concatenate([pi, np.zeros((len(pi), 1))], axis=1)
        again = np.take_along_axis(padded, items.astype(np.int64), 1) * _first_places(items)
        return _joined(
            of_session,
            np.einsum("bt,btf->bf", shares, by_topic),
            np.einsum("bt,btf->bf", rated, by_topic),
            pi @ self.rates,
            again.sum(1),
        )

    def _state(self, rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is known before a step: (batch, topics, features), and (batch, features)."""
        data, view = self.data, self.data.view
        observations = data.observations[rows]
        items, taken = view.items(observations), view.consumed(observations) < view.n_items
        shown = items < view.n_items
        ages = shown[:, ::-1].cumsum(1)[:, ::-1]  # 1: the newest
        topics = np.append(data.topics, 0)[items]
        n_topics, count = int(data.topics.max()) + 1, len(items)
        places = topics + np.arange(count)[:, None] * n_topics

        def by_topic(weights: NDArray[Any]) -> NDArray[np.float64]:
            flat = np.bincount(places.ravel(), (weights * shown).ravel(), count * n_topics)
            return np.asarray(flat, np.float64).reshape(count, n_topics)

        lately = ages <= _RECENT
        mean = float((data.rewards > 0).mean())
        everything = (by_topic(taken) + mean * 2) / (by_topic(np.ones_like(taken)) + 2)
        recently = (by_topic(taken & lately) + mean) / (by_topic(lately) + 1)
        accepted = by_topic(taken & lately)
        topic_features = np.stack(
            [np.ones_like(everything), everything, recently, accepted, accepted >= 2,
             everything * (accepted >= 2), everything**2], axis=2,
        )  # fmt: skip
        fading = 0.6 ** (ages - 1.0)
        unhappy = (fading * (shown & ~taken)).sum(1) / np.maximum((fading * shown).sum(1), 1e-9)
        steps = self._steps[rows]
        session = np.stack(
            [np.ones(count), unhappy, everything.max(1), everything.mean(1),
             np.where(accepted >= 2, 0, everything).max(1), (accepted >= 2).sum(1)], axis=1,
        )  # fmt: skip
        return topic_features, np.concatenate([session, session * steps[:, None]], axis=1)

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        lengths = self.data.lengths
        steps = np.arange(lengths.sum()) - np.repeat(self.data.firsts, lengths)
        return steps / max(int(lengths.max()), 1)


def _joined(*columns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([c if c.ndim > 1 else c[:, None] for c in columns], axis=1)


def _first_places(items: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an item stands for the first time in its row."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, 1)
    new = np.ones(items.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    found = np.empty(items.shape, bool)
    np.put_along_axis(found, order, new, 1)
    return found


def _rates(data: Logged) -> NDArray[np.float64]:
    """How often each item was taken when shown, shrunk towards its topic, and that to all."""
    taken, n_topics = data.rewards > 0, int(data.topics.max()) + 1
    mean = max(float(taken.mean()), 1e-9)
    of = data.topics[data.actions]
    topic = (np.bincount(of, taken, n_topics) + _PRIOR * mean) / (
        np.bincount(of, minlength=n_topics) + _PRIOR
    )
    shown = np.bincount(data.actions, minlength=data.n_items)
    rates: NDArray[np.float64] = (
        np.bincount(data.actions, taken, data.n_items) + _PRIOR * topic[data.topics]
    ) / (shown + _PRIOR)
    rates /= mean
    return rates


def _fixed_point(
    features: NDArray[np.float64],
    expected: NDArray[np.float64],
    data: Logged,
    chosen: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The weights of a linear Q that equals reward plus expected Q of the next step, on average.

    Iterated fits of a linear Q converge to this, so it is solved for; the value of a session ends
    with it, whether a user left or the horizon cut it.
    """
    scale = np.sqrt((features[chosen] ** 2).mean(0))
    kept = scale > 1e-9
    following = np.zeros((len(features), int(kept.sum())))
    following[:-1] = expected[1:, kept] / scale[kept]
    following[data.firsts + data.lengths - 1] = 0
    x = features[chosen][:, kept] / scale[kept]
    system = x.T @ (x - following[chosen])
    system[np.diag_indices(len(system))] += _RIDGE * len(x)
    weights = np.zeros(features.shape[1])
    weights[kept] = np.linalg.solve(system, x.T @ data.rewards[chosen]) / scale[kept]
    return weights


# ------------------------------------------------------------------------------- small parts


def _log_products(
    ratios: NDArray[np.float64], lengths: NDArray[np.int64], firsts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The logarithm of the product of the ratios of a session up to each step."""
    with np.errstate(divide="ignore"):
        logs = np.log(ratios)
    none = np.isneginf(logs)
    sums, zeros = np.cumsum(np.where(none, 0, logs)), np.cumsum(none)
    before = np.repeat(np.concatenate([[0.0], sums])[firsts], lengths)
    dead = zeros > np.repeat(np.concatenate([[0], zeros])[firsts], lengths)
    products: NDArray[np.float64] = np.where(dead, -np.inf, sums - before)
    return products


def _estimate(
    sums: NDArray[np.float64], counts: NDArray[np.float64], effective: float, seed: int
) -> Estimate:
    """A ratio of sums over sessions, which are drawn anew for its interval."""
    if not counts.sum() or not np.isfinite(sums).all():
        return Estimate(None, None, None, 0.0)
    rng, n = np.random.default_rng(seed), len(sums)
    means = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        weights = np.bincount(rng.integers(n, size=n), minlength=n)
        total = weights @ counts
        means[resample] = weights @ sums / total if total else np.nan
    low, high = np.nanquantile(means, [0.025, 0.975])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high), effective)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0 on; equal values share the mean of theirs."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    ranks: NDArray[np.float64] = below + (equal - 1) / 2
    return ranks
