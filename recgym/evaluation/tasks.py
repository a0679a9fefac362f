"""What a benchmark asks: its data, verified, and the targets that are ranked."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import gymnasium
import minari
import numpy as np
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import View
from recgym.benchmarks import Benchmark
from recgym.demonstrations import demonstrate
from recgym.errors import BadDataset, BadLog, NothingLeft, UnknownName, printable
from recgym.export import to_minari
from recgym.home import home, load_log, locked
from recgym.log import InteractionLog
from recgym.minari_format import content_hash, runs_of
from recgym.rollouts import collect

Progress = Callable[[str, float | None], None]
EvaluatedSplit = Literal["validation", "test"]
SPLITS = ("validation", "test")
_PAUSE = 0.2  # seconds between two tries
_READ = 100  # sessions whose pages are asked about to see how long an answer takes


@dataclass(frozen=True)
class Targets:
    """Events that brought a reward: what is to be ranked high, and what was known before each.

    Where an item is `n_items` or more, it is unseen in training.
    """

    observe: Callable[[slice], NDArray[Any]]  # the observations before some of them
    items: NDArray[np.int32]
    behaviours: NDArray[np.uint8]  # codes of `names`
    users: NDArray[np.int64]  # whose events they are: what intervals draw anew
    empty: NDArray[np.bool_]  # is there nothing in the history?
    repeated: NDArray[np.bool_]  # did the user have the item before?
    names: Sequence[str]
    # the items that users had before some of the targets, and where those of each begin
    seen: Callable[[slice], tuple[NDArray[np.int64], NDArray[np.int32]]] | None

    def __len__(self) -> int:
        """How many there are."""
        return len(self.items)


class Task:
    """A benchmark with its data at hand."""

    def __init__(self, benchmark: Benchmark, split: EvaluatedSplit, progress: Progress) -> None:
        """Find the data, or make them of what is there; they must be those of the benchmark."""
        if split not in SPLITS:
            raise UnknownName("split to evaluate on", split, SPLITS)
        self.benchmark, self.split = benchmark, split
        self.log: InteractionLog | None = None
        if benchmark.log:
            progress("checking the log", None)
            self.log = _log(benchmark)
        self.train = _dataset(benchmark, "train", self.log, progress)
        self.validation = _dataset(benchmark, "validation", self.log, progress)
        if not benchmark.shop:
            self.n_items = View.of(self.train).n_items
        progress("hashing the training data", None)
        self.sha256 = _checked(benchmark, "train", self.train)
        self.validation_sha256 = _checked(benchmark, "validation", self.validation)

    @cached_property
    def test(self) -> MinariDataset:
        """The dataset of the split that is evaluated."""
        data = _dataset(self.benchmark, self.split, self.log, lambda stage, share: None)
        _checked(self.benchmark, self.split, data)
        return data

    @cached_property
    def targets(self) -> Targets:
        """What is to be ranked."""
        if self.log is not None:
            width = self.train.observation_space.shape[0]
            targets = _of_log(self.log, self.split, width, self.benchmark.mask_seen)
        else:
            targets = _of_dataset(self.test)
        if not len(targets):
            raise NothingLeft(f"The {self.split} split of {self.benchmark.name} has no target.")
        return targets

    @cached_property
    def shop(self) -> dict[str, Any]:
        """What the shop is opened with: the split, and the files of the demonstrations."""
        spec = self.train.env_spec
        files = spec.kwargs.get("files") if spec else None
        if files and not Path(files).is_dir():
            raise BadDataset(
                f"The shop of {self.train.id} was made of files in {printable(files)}, which is no "
                f"folder any more: put them back, or make it anew: `{self.benchmark.build} "
                "--replace`."
            )
        return {"split": self.split} | ({"files": files} if files else {})

    @cached_property
    def goals(self) -> int:
        """How many goals the split has in the shop."""
        shopping = gymnasium.make(self.benchmark.env, **self.shop).unwrapped.shoppers.shopping  # type: ignore[attr-defined]
        stated = self.train.storage.metadata.get("nouns")
        if stated not in (None, shopping.nouns):
            raise BadDataset(
                f"Rewards in {self.train.id} compare names by the nouns of {stated}, and "
                f"{self.benchmark.env} here by those of {shopping.nouns}: evaluate where spaCy is "
                "as it was when the demonstrations were made."
            )
        return len(shopping.goals)

    @cached_property
    def pages(self) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Pages of the shop from the validation data, and the infos on each."""
        episodes = next(runs_of(self.validation, self.validation.episode_indices[:_READ]))
        texts = episodes.observations(self.validation.observation_space, last=False)
        infos = {name.removeprefix("infos/"): episodes.at_states(name, last=False)
                 for name in episodes.states if name.startswith("infos/")}  # fmt: skip
        return np.array(texts, object), {
            key: values if isinstance(values, np.ndarray) else np.array(values, object)
            for key, values in infos.items()
        }

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """How often each item was taken in the training data."""
        counts = np.zeros(self.n_items, np.int64)
        for episodes in runs_of(self.train, self.train.episode_indices):
            taken = episodes.at_steps("rewards") > 0
            items = episodes.actions(self.train.action_space)[taken]
            counts += np.bincount(items, minlength=self.n_items)
        return counts


def _checked(benchmark: Benchmark, split: str, data: MinariDataset) -> str:
    """The hash of a dataset, which is that of the benchmark where it is frozen."""
    found, stated = content_hash(data), benchmark.sha256(split)
    if stated not in (None, found):
        raise BadDataset(
            f"{data.id} hashes to {found[:12]}…, and that of the benchmark {benchmark.name} to "
            f"{str(stated)[:12]}…: it was made with other options or of other data. Make it anew: "
            f"`{benchmark.build} --replace`."
        )
    return found


def _log(benchmark: Benchmark) -> InteractionLog:
    log = load_log(benchmark.log, benchmark.build)
    found = log.verify()
    if benchmark.digest not in (None, found):
        raise BadLog(
            f"The log '{benchmark.log}' has digest {found[:12]}…, and that of the benchmark "
            f"{benchmark.name} {str(benchmark.digest)[:12]}…: it was built of other data or under "
            f"another protocol. Build it anew: `{benchmark.build} --replace`."
        )
    return log


def _dataset(
    benchmark: Benchmark, split: Any, log: InteractionLog | None, progress: Progress
) -> MinariDataset:
    """The dataset of a split: as it is there, or made now."""
    known = benchmark.of(split)
    if known in minari.list_local_datasets():
        data = minari.load_dataset(known)
        about = data.storage.metadata.get("log", {})
        if log is None or about.get("digest") == log.manifest.digest:
            return data
    if log is not None:
        return to_minari(log, split, replace=True, progress=progress)
    policy = known.rpartition("/")[2].partition("-")[0]
    if benchmark.shop:
        return _demonstrated(benchmark, policy, split, progress)
    return collect(benchmark.env, policy, split, progress=progress)


def _demonstrated(
    benchmark: Benchmark, shopper: str, split: Any, progress: Progress
) -> MinariDataset:
    """Demonstrations that are made now, or were by another process: shops share them."""
    known, shops = benchmark.of(split), home() / "shops"
    if not benchmark.made_in:
        raise UnknownName("dataset", known, minari.list_local_datasets(),
                          f"Make it with `{benchmark.build}`.")  # fmt: skip
    shops.mkdir(parents=True, exist_ok=True)
    while True:
        with locked(shops / ".demonstrations.lock") as ours:
            if ours and known in minari.list_local_datasets():
                return minari.load_dataset(known)
            if ours:
                return demonstrate(benchmark.made_in, shopper, split, progress=progress)
        time.sleep(_PAUSE)


def _of_log(log: InteractionLog, split: EvaluatedSplit, width: int, mask: bool) -> Targets:
    rows = log.rows(split)
    rows = rows[log.rewards[rows] > 0]
    sessions = log.sessions_of(rows)
    starts = log.offsets[sessions]

    def seen(some: slice) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        counts = rows[some] - starts[some]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(starts[some] - offsets[:-1], counts)
        return offsets, log.items[places]

    names = log.users.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return Targets(
        lambda some: log.histories(rows[some], width),
        log.items[rows],
        log.behaviours[rows],
        names[sessions].astype(np.int64),
        log.depths[rows] == 0,
        _repeats(log)[rows],
        log.manifest.behaviours,
        seen if mask else None,
    )


def _repeats(log: InteractionLog) -> NDArray[np.bool_]:
    """Is the item of each row one that its session had before?"""
    sessions = np.repeat(np.arange(log.n_sessions), np.diff(log.offsets))
    order = np.lexsort((log.items, sessions))  # stable: in time order within a pair
    items, sessions = log.items[order], sessions[order]
    repeated = np.zeros(len(log), bool)
    repeated[order[1:]] = (items[1:] == items[:-1]) & (sessions[1:] == sessions[:-1])
    return repeated


def _of_dataset(data: MinariDataset) -> Targets:
    """The actions of a dataset of roll-outs that users took."""
    view, first = View.of(data), 0
    parts = []
    for episodes in runs_of(data, data.episode_indices):
        taken = episodes.at_steps("rewards") > 0
        observations = episodes.observations(data.observation_space, last=False)[taken]
        items = episodes.actions(data.action_space)[taken].astype(np.int32)
        after = np.arange(len(taken)) + np.repeat(np.arange(len(episodes)), episodes.lengths) + 1
        shown = view.items(observations)
        parts.append((
            observations,
            items,
            episodes.at_states("infos/behaviour")[after][taken].astype(np.uint8),
            first + np.repeat(np.arange(len(episodes)), episodes.lengths)[taken],
            (view.consumed(observations) == view.n_items).all(1),
            (shown == items[:, None]).any(1),
        ))  # fmt: skip
        first += len(episodes)
    observations, items, behaviours, users, empty, repeated = map(
        np.concatenate, zip(*parts, strict=True)
    )
    names = data.storage.metadata["behaviours"]
    return Targets(
        lambda some: observations[some], items, behaviours, users, empty, repeated, names, None
    )
