"""The contract of datasets: what whoever learns from one may rely on."""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector.utils import batch_space, iterate

from recgym.checks.faults import check_layout, leaves, plain, short, typed
from recgym.errors import CheckFailed, printable
from recgym.export import local_dataset

if TYPE_CHECKING:
    from minari.dataset.minari_dataset import MinariDataset


def check_dataset(dataset_or_id: "MinariDataset | str") -> tuple[str, ...]:
    """Check a Minari dataset, every episode of it, and return what was found to hold."""
    dataset = local_dataset(dataset_or_id)
    of_all = [
        _episodes_are_there,
        _the_environment_can_be_recovered,
        _scores_have_references,
        _ours_say_what_they_are,
        _the_layout_covers_the_observations,
    ]
    of_each = [
        _steps_fit_together,
        _values_are_in_their_spaces,
        _rewards_are_finite,
        _an_episode_ends_once,
        _infos_are_alike,
        _propensities_are_probabilities,
    ]
    for of_dataset in of_all:
        of_dataset(dataset)
    first = dataset[0]
    for episode in dataset:
        for of_episode in of_each:
            of_episode(dataset, first, episode)
    return tuple(str(check.__doc__) for check in (*of_all, *of_each))


def _episodes_are_there(dataset: Any) -> None:
    """There are episodes."""
    if not len(dataset):
        raise CheckFailed(f"The dataset {dataset.id} holds no episode: store one or more.")


def _the_environment_can_be_recovered(dataset: Any) -> None:
    """Its environment, and that of evaluation, can be recovered, and has its spaces."""
    for kind, evaluation in (("environment", False), ("environment of evaluation", True)):
        try:
            env = dataset.recover_environment(eval_env=evaluation)
        except Exception as problem:
            raise CheckFailed(
                f"The {kind} of {dataset.id} cannot be recovered ({plain(problem)}): store the "
                "spec of one that gymnasium.make() can make here."
            ) from problem
        for name in ("observation_space", "action_space"):
            mine, theirs = getattr(dataset, name), getattr(env, name)
            if mine != theirs:
                raise CheckFailed(
                    f"The {name} of {dataset.id} is {short(mine)}, and that of its {kind} "
                    f"{short(theirs)}: they are to be the same."
                )
        env.close()


def _scores_have_references(dataset: Any) -> None:
    """Reference scores are there, and the least is below the greatest."""
    known = [dataset.storage.metadata.get(f"ref_{name}_score") for name in ("min", "max")]
    numbers = all(isinstance(score, float | int) and math.isfinite(score) for score in known)
    if not numbers or known[0] >= known[1]:
        raise CheckFailed(
            f"The reference scores of {dataset.id} are {known[0]} and {known[1]}: give the mean "
            "return of random actions as ref_min_score, and that of good ones as ref_max_score."
        )


def _ours_say_what_they_are(dataset: Any) -> None:
    """A dataset of the namespace recgym names its author, its description and its split."""
    if not dataset.id.startswith("recgym/"):
        return
    known = dataset.storage.metadata
    if missing := [name for name in ("author", "description", "split") if not known.get(name)]:
        raise CheckFailed(f"The metadata of {dataset.id} lack {' and '.join(missing)}: add them.")
    named = re.search(r"-(validation|test)(-v\d+)?$", dataset.id)
    split = named[1] if named else "train"
    if known["split"] != split:
        raise CheckFailed(
            f"The split of {dataset.id} is {short(known['split'])}, and its id says {split}: the "
            "id of a validation or test split ends with its name and the version."
        )


def _the_layout_covers_the_observations(dataset: Any) -> None:
    """The layout in the metadata, where one is named, covers the observations exactly."""
    check_layout(dataset.storage.metadata, dataset.observation_space)


def _steps_fit_together(dataset: Any, first: Any, episode: Any) -> None:
    """An episode of T steps has T actions, rewards and flags, and T + 1 observations and infos."""
    steps = len(episode.rewards)
    names = ("actions", "terminations", "truncations", "observations", "infos")
    for name, extra in zip(names, (0, 0, 0, 1, 1), strict=True):
        for path, column in _columns(getattr(episode, name), name):
            if len(column) != steps + extra or not steps:
                raise CheckFailed(
                    f"Episode {episode.id} has {steps} rewards and {len(column)} "
                    f"{printable(path)}: store one or more rewards, as many actions and flags, and "
                    "one observation and info more."
                )


def _columns(values: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The columns of nested values, each with its path."""
    if isinstance(values, Mapping | tuple):
        parts = values.items() if isinstance(values, Mapping) else enumerate(values)
        for key, part in parts:
            yield from _columns(part, f"{name}/{key}")
    elif values is not None:
        yield name, values


def _values_are_in_their_spaces(dataset: Any, first: Any, episode: Any) -> None:
    """Every observation and every action is in its space."""
    for name, space, values, extra in (
        ("observation", dataset.observation_space, episode.observations, 1),
        ("action", dataset.action_space, episode.actions, 0),
    ):
        batch = batch_space(space, len(episode.rewards) + extra)
        values = tuple(values) if isinstance(values, list) else values  # of texts
        numbers = (
            (part.dtype, leaf.dtype)
            for _, leaf, part in leaves(batch, values, name)
            if isinstance(part, np.ndarray)
        )
        if values in batch and all(starmap(np.can_cast, numbers)):
            continue
        for step, value in enumerate(iterate(batch, values)):
            if value not in space:
                raise CheckFailed(
                    f"The {name} {step} of episode {episode.id} is outside of {short(space)}: "
                    f"{typed(value)}; store what the space holds, in its dtype."
                )


def _rewards_are_finite(dataset: Any, first: Any, episode: Any) -> None:
    """Every reward is a finite number."""
    for step, reward in enumerate(np.asarray(episode.rewards).tolist()):
        if not isinstance(reward, float | int) or not math.isfinite(reward):
            raise CheckFailed(
                f"The reward {step} of episode {episode.id} is {short(reward)}: store finite "
                "numbers only."
            )


def _an_episode_ends_once(dataset: Any, first: Any, episode: Any) -> None:
    """An episode is terminated or truncated at its last step, and only there."""
    ends, stops = (np.asarray(flags, bool) for flags in (episode.terminations, episode.truncations))
    over: Any = ends | stops
    if over[:-1].any():
        raise CheckFailed(
            f"Episode {episode.id} is over at step {over.argmax()}, and goes on to step "
            f"{len(over) - 1}: cut it there."
        )
    if ends[-1] == stops[-1]:
        raise CheckFailed(
            f"Episode {episode.id} ends with terminated={ends[-1]} and truncated={stops[-1]}: it "
            "is terminated where the session ended by itself, and else truncated."
        )


def _infos_are_alike(dataset: Any, first: Any, episode: Any) -> None:
    """Infos have the same keys, types and shapes in all episodes."""
    mine, theirs = (
        {path: np.asarray(column) for path, column in _columns(some.infos, "infos")}
        for some in (episode, first)
    )
    if keys := mine.keys() ^ theirs.keys():
        raise CheckFailed(
            f"Episode {episode.id} has other infos than episode {first.id}, "
            f"{printable(', '.join(sorted(keys)))}: give every key in every episode."
        )
    for path, column in mine.items():
        other = theirs[path]
        if (column.dtype.kind, column.shape[1:]) != (other.dtype.kind, other.shape[1:]):
            raise CheckFailed(
                f"The {printable(path)} of episode {episode.id} are {typed(column)}, and those of "
                f"episode {first.id} {typed(other)}: keep types and shapes."
            )


def _propensities_are_probabilities(dataset: Any, first: Any, episode: Any) -> None:
    """Propensities, where they are known, are NaN before the first action, then in (0, 1]."""
    if "propensity" not in (episode.infos or {}):
        return
    propensities = np.asarray(episode.infos["propensity"], float)
    fits = (propensities > 0) & (propensities <= 1)
    fits[0] = np.isnan(propensities[0])
    if not fits.all():
        step = int(fits.argmin())
        raise CheckFailed(
            f"The propensity {step} of episode {episode.id} is {propensities[step]}: at index 0 "
            "it is NaN, and at t + 1 the probability of action t, above 0 and at most 1."
        )
