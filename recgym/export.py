"""A log's split as a Minari dataset: self-contained, with its environment and reference scores."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_dataset import MinariDataset, parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import NAMESPACE_METADATA_FILENAME, create_namespace
from minari.storage import get_dataset_path
from minari.utils import validate_datasets_to_combine
from numpy.typing import NDArray

from recgym.episodes import NONE, Episodes, history_space
from recgym.errors import (
    InvalidArgument,
    MissingExtra,
    NothingLeft,
    OutOfRoom,
    UnknownName,
    printable,
)
from recgym.home import load_log, sole_writer
from recgym.log import HOMES, InteractionLog, Split, replacing
from recgym.minari_format import ColumnStorage

DataFormat = Literal["recgym", "hdf5"]
Progress = Callable[[str, float | None], None]
_LONGEST = 100  # letters of a part of an id, which is the name of a folder
_BLOCK = 1024  # episodes handed to HDF5 at once


def dataset_id(data: str, policy: str, split: Split = "train") -> str:
    """`recgym/<data>/<policy>-v0` is the training split; the others carry their name."""
    name = policy if split == "train" else f"{policy}-{split}"
    return _checked_id(f"recgym/{data}/{name}-v0")


def _checked_id(known: str, option: str = "--name") -> str:
    try:
        parse_dataset_id(known)
        if "//" in known or max(map(len, known.split("/"))) > _LONGEST:
            raise ValueError
    except (ValueError, TypeError):  # of Minari, where no version is given
        raise InvalidArgument(
            f"Minari accepts no dataset named '{printable(known)}': letters, digits, dashes and "
            f"underscores are allowed, {_LONGEST} at most, and -v0 or another version comes last; "
            f"give another {option}."
        ) from None
    return known


def to_minari(
    log: InteractionLog | str,
    split: Split = "train",
    *,
    history: int = 10,
    name: str | None = None,
    data_format: DataFormat = "recgym",
    replace: bool = False,
    progress: Progress = lambda stage, share: None,
) -> MinariDataset:
    """Export a split of a log as `recgym/<name>/logged…-v0`; it is there whole or not at all.

    Observations are histories of that length. `name` is the log's own unless given; "hdf5" is
    Minari's own format, for those without recgym.
    """
    if data_format not in get_args(DataFormat):
        raise UnknownName("data format", data_format, get_args(DataFormat))
    log = load_log(log) if isinstance(log, str) else log
    known = dataset_id(name or log.manifest.name, "logged", split)
    progress("checking the log", None)
    log.verify()
    rows, lengths, ends = log.episodes(split)
    if not len(rows):
        raise NothingLeft(f"{log!r} has no {split} row with an item that it indexes.")
    observation_space = history_space(log.n_items, history)
    action_space = spaces.Discrete(log.n_items)
    about = _about(log, split, history, rows, len(lengths))
    env_spec = _env_spec(log, split, history)
    with writing_dataset(known, replace) as folder:
        progress(f"writing {known}", None)
        storage = new_storage(folder, observation_space, action_space, env_spec, data_format)
        storage.update_metadata({"dataset_id": known} | about)
        episodes = _episodes(log, rows, lengths, ends, history)
        if isinstance(storage, ColumnStorage):
            storage.append(episodes)
        else:
            _store_each(storage, episodes, lambda share: progress(f"writing {known}", share))
    return minari.load_dataset(known)


def combine(datasets: Sequence[str], into: str, *, replace: bool = False) -> MinariDataset:
    """Join datasets of equal spaces and environments; what they all say of themselves stays."""
    _checked_id(into, "--into")
    parts = [minari.load_dataset(known) for known in datasets]
    first = parts[0]
    try:
        env_spec = validate_datasets_to_combine(parts)
    except ValueError as problem:
        raise InvalidArgument(f"{' and '.join(datasets)} cannot be joined: {problem}") from None
    said = [part.storage.metadata for part in parts]
    own = {"dataset_id", "minari_version", "combined_datasets"}
    about = {
        key: value
        for key, value in said[0].items()
        if key not in own and all(key in other and other[key] == value for other in said)
    }
    with writing_dataset(into, replace) as folder:
        storage = new_storage(
            folder, first.observation_space, first.action_space, env_spec, "recgym"
        )
        for part in parts:
            storage.update_from_storage(part.storage)
        storage.update_metadata(
            {key: value for key, value in about.items() if key not in storage.metadata}
            | {"dataset_id": into, "minari_version": minari.__version__}
            | {"combined_datasets": list(datasets)}
        )
    return minari.load_dataset(into)


def local_dataset(
    dataset: MinariDataset | str,
    maker: str = "Write one with `recgym data export LOG`, or with `recgym data collect "
    "ENVIRONMENT`.",
) -> MinariDataset:
    """The dataset of that id, or the very one; `maker` is the command that an error names."""
    if not isinstance(dataset, str):
        return dataset
    there = minari.list_local_datasets()
    if dataset not in there:
        raise UnknownName("dataset", dataset, there, maker)
    return minari.load_dataset(dataset)


@contextmanager
def writing_dataset(known: str, replace: bool) -> Iterator[Path]:
    """The data folder of a dataset that is there when the block has succeeded."""
    namespace = parse_dataset_id(known)[0]
    try:
        path = get_dataset_path(known)
        if namespace and not (path.parent / NAMESPACE_METADATA_FILENAME).exists():
            create_namespace(namespace)
    except OSError as problem:
        raise OutOfRoom(
            f"Nothing can be written to {problem.filename} ({problem.strerror}). Point "
            f"{HOMES['dataset']} at a folder that can be written to."
        ) from None
    with sole_writer(path, "dataset", path.parent):
        if path.exists() and not replace:
            raise InvalidArgument(
                f"A dataset '{known}' exists. Use --replace to write it anew, or another name."
            )
        with replacing(path, "dataset") as folder:
            yield folder / "data"


def _episodes(
    log: InteractionLog,
    rows: NDArray[Any],
    lengths: NDArray[np.int64],
    ends: NDArray[np.bool_],
    history: int,
) -> Episodes:
    """The columns of a split: what was consumed, not the windows over it."""
    last = np.cumsum(lengths) - 1
    if len(rows) == len(log):
        rows = slice(None)  # type: ignore[assignment]  # all of them: views, not copies
        first = log.offsets[:-1]
    else:
        first = rows[last - lengths + 1]
    items = log.items[rows]
    over = np.zeros((2, len(items)), bool)
    over[0, last], over[1, last] = ends, ~ends
    before = log.histories(first, history)
    filled = before != log.n_items
    answered = np.ones(len(items) + len(lengths), bool)  # the states after an action
    answered[last + 1 - lengths + np.arange(len(lengths))] = False
    columns = {"behaviour": (log.behaviours, len(log.manifest.behaviours))}
    if log.propensities is not None:
        columns["propensity"] = (log.propensities, np.nan)  # type: ignore[assignment]
    if log.slots is not None:
        columns["slot"] = (log.slots, np.iinfo(np.uint8).max)
    states = {}
    for key, (column, fill) in columns.items():
        states[f"infos/{key}"] = values = np.full(len(answered), fill, column.dtype)
        values[answered] = column[rows]
    offsets = np.concatenate([[0], np.cumsum(filled.sum(1))])
    return Episodes(
        lengths,
        {
            "actions": items,
            "rewards": log.rewards[rows],
            "terminations": over[0],
            "truncations": over[1],
            "consumed/observations": np.where(log.in_state[rows], items, np.int32(NONE)),
        },
        states,
        {"observations": (before[filled], offsets)},
        dtypes={"actions": np.dtype(np.int64), "observations": np.dtype(np.int32)},
    )


def _about(
    log: InteractionLog, split: Split, history: int, rows: NDArray[Any], episodes: int
) -> dict[str, Any]:
    """What a dataset says of itself. Reference scores are exact: of random and of logged items."""
    manifest = log.manifest
    drawn, logged = exact_scores(log.rewards[rows], episodes, log.n_items)
    unseen = int((log.splits == log.split_code(split)).sum()) - len(rows)
    return (
        made_here()
        | {
            "algorithm_name": "logged",
            "description": (
                f"The {split} split of the log {manifest.name} under the protocol "
                f"{manifest.protocol['name']}: what users of {manifest.source['name']} did."
            ),
            "ref_min_score": float(drawn),
            "ref_max_score": float(logged),
            "num_episodes_average_score": episodes,
            "split": split,
            "layout": {"history": [0, history]},
            "behaviours": manifest.behaviours,
            "unseen_left_out": unseen,
            "log": {
                "name": manifest.name,
                "digest": manifest.digest,
                "source": manifest.source,
                "protocol": manifest.protocol,
                "command": manifest.command,
            },
        }
        | _eval_env(log, split, history)
    )


def exact_scores(rewards: NDArray[Any], episodes: int, n_items: int) -> tuple[float, float]:
    """The expected return of random items, and that of the logged ones with these rewards."""
    drawn = rewards.sum(dtype=np.float64) / episodes / n_items
    return float(drawn), float(np.maximum(rewards, 0).sum(dtype=np.float64) / episodes)


def made_here() -> dict[str, Any]:
    """What every dataset of ours says of its origin."""
    project = _project()
    return {
        "author": {project["Author"]},
        "code_permalink": project.get_all("Project-URL")[0].split(", ")[1],
        "requirements": [f"recgym>={project['Version']}"],
        "minari_version": minari.__version__,
    }


@cache
def _project() -> Any:
    """What the installed package says of itself."""
    return metadata("recgym")


def _eval_env(log: InteractionLog, split: Split, history: int) -> dict[str, str]:
    """Who trains is to be evaluated on other users or later events: those of the validation."""
    validation = (log.splits == log.split_code("validation")) & (log.items < log.n_items)
    if split != "train" or not validation.any():
        return {}
    return {"eval_env_spec": _env_spec(log, "validation", history).to_json()}


def _env_spec(log: InteractionLog, split: Split, history: int) -> EnvSpec:
    spec = copy.deepcopy(gymnasium.spec("recgym/Replay-v0"))
    spec.kwargs = {
        "log": log.manifest.name,
        "split": split,
        "history": history,
        "digest": log.manifest.digest,
        "build": log.manifest.command or "recgym data build",
    }
    return spec


def new_storage(
    folder: Path,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    env_spec: EnvSpec | None,
    data_format: DataFormat,
) -> MinariStorage:
    """A storage without episodes in a folder."""
    try:
        return MinariStorage.new(
            folder, observation_space, action_space, env_spec, data_format=data_format
        )
    except ImportError:
        raise MissingExtra("Writing HDF5", "hdf5") from None


def _store_each(
    storage: MinariStorage, episodes: Episodes, progress: Callable[[float], None]
) -> None:
    for first in range(0, len(episodes), _BLOCK):
        some = episodes.take(np.arange(first, min(first + _BLOCK, len(episodes))))
        ids = range(first, first + len(some))
        cut = some.cut(storage.observation_space, storage.action_space, ids)
        storage.update_episodes(EpisodeBuffer(**episode) for episode in cut)
        progress(min(first + _BLOCK, len(episodes)) / len(episodes))
