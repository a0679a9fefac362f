"""Minari's storage format "recgym": episodes as columns in Arrow files, one file for each batch.

`metadata.json` lists the batches with their sizes and hashes and is replaced in one step, after
the files that it lists: whatever is killed, what was stored before stays as it was.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Space
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_dataset import MinariDataset
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from numpy.typing import NDArray

from recgym.buffers import from_buffers
from recgym.episodes import FLAGS, Episodes, from_arrow, to_arrow, to_json
from recgym.errors import BadDataset, InvalidArgument, OutOfRoom, printable
from recgym.log import sha256_of_json

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
HOW_TO_READ = "pip install recgym, then `import recgym` before minari.load_dataset."
_DRAFT = f".{METADATA_FILE_NAME}"  # as long as there is no episode, there is no dataset
_FROZEN = (
    "dataset_id", "observation_space", "action_space", "env_spec", "data_format", "jpeg_encoding",
    "minari_version",
)  # fmt: skip
_HASHED = ("observation_space", "action_space", "format_version", "total_episodes", "total_steps")
_FILE = re.compile(r"\d{6,}\.arrow")
_READ = 512  # episodes rebuilt at once
_WRITE = 16_384  # episodes of one call that share a batch
_FAN_IN = 16  # small batches of like size that are merged into one
_LARGE = 64_000_000  # bytes of a batch that is left alone


class ColumnStorage(MinariStorage):  # type: ignore[misc]
    """Episodes as columns and offsets, for every space that our environments use."""

    FORMAT = "recgym"

    def __init__(
        self,
        data_path: Path,
        observation_space: Space[Any],
        action_space: Space[Any],
        jpeg_encoding: bool = True,
    ) -> None:
        """Open what is stored: sizes are checked here, hashes when a batch is first read.

        Images are stored as they are; `jpeg_encoding` changes nothing.
        """
        super().__init__(Path(data_path), observation_space, action_space, jpeg_encoding)
        self._opened: dict[str, Episodes] = {}
        self._state: tuple[int, ...] = ()
        self._settled(lambda batches: list(map(self._check_size, batches)))

    @classmethod
    def _create(
        cls,
        data_path: Path,
        observation_space: Space[Any],
        action_space: Space[Any],
        jpeg_encoding: bool = True,
    ) -> "ColumnStorage":
        file = Path(data_path) / METADATA_FILE_NAME
        raw = json.loads(file.read_text())
        file.unlink()
        _publish(Path(data_path), raw | {
            "format_version": FORMAT_VERSION, "batches": [], "how_to_read": HOW_TO_READ,
        })  # fmt: skip
        return cls(data_path, observation_space, action_space, jpeg_encoding)

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything that is known of the dataset."""
        raw = self._raw() | {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
        }
        return raw | {key: set(raw[key]) for key in ("author", "author_email") if key in raw}

    def update_metadata(self, metadata: dict[str, Any]) -> None:
        """Add to the metadata, or change what may be changed."""
        with self._alone():
            raw = self._raw()
            if frozen := [key for key in _FROZEN if key in metadata and key in raw]:
                raise ValueError(f"You are not allowed to update values for {', '.join(frozen)}")
            _publish(self.data_path, raw | metadata)

    def update_episodes(self, episodes: Iterable[EpisodeBuffer]) -> None:
        """Append episodes; all of them, or none if one cannot be stored."""
        buffers = iter(episodes)
        with self._appending() as add:
            while block := list(islice(buffers, _WRITE)):
                first = add.total
                for place, buffer in enumerate(block):
                    if buffer.id is not None and buffer.id != first + place:
                        raise InvalidArgument(
                            f"Episode {first + place} comes next, and an episode with id "
                            f"{buffer.id} was given: episodes are appended whole and in order, "
                            "so leave their ids out."
                        )
                add(from_buffers(block, self.observation_space, self.action_space, first))

    def append(self, episodes: Episodes) -> None:
        """Append columns that the caller has checked against the spaces."""
        with self._appending() as add:
            add(episodes)

    def update_from_storage(self, storage: MinariStorage) -> None:
        """Append all episodes of another storage; of the same format, file by file."""
        mine, theirs = ((s.observation_space, s.action_space) for s in (self, storage))
        if mine != theirs:
            raise InvalidArgument(
                f"Datasets of different spaces cannot be joined: {printable(repr(mine))} here, "
                f"{printable(repr(theirs))} there."
            )
        if isinstance(storage, ColumnStorage):
            with self._appending() as add:
                for batch in storage._raw()["batches"]:
                    storage._read(batch)  # compares its hash
                    add.copy(batch, storage.data_path / batch["file"])
        else:
            self.update_episodes(buffers_of(storage, range(storage.total_episodes)))
        raw = storage.metadata
        joined = {key: self.metadata.get(key, set()) | raw.get(key, set())
                  for key in ("author", "author_email")}  # fmt: skip
        self.update_metadata(joined)

    def get_episodes(self, episode_indices: Iterable[int]) -> Iterator[dict[str, Any]]:
        """The episodes, rebuilt some at once, in the order asked for."""
        indices = self._checked(episode_indices)
        spaces = self.observation_space, self.action_space
        for first in range(0, len(indices), _READ):
            some = indices[first : first + _READ]
            found: list[dict[str, Any]] = [{}] * len(some)
            which, rows, batches = self._found(some)
            for number, batch in batches.items():
                places = np.flatnonzero(which == number)
                cut = batch.take(rows[places]).cut(*spaces, ids=some[places].tolist())
                for place, episode in zip(places.tolist(), cut, strict=True):
                    found[place] = episode
            yield from found

    def runs(self, episode_indices: Iterable[int]) -> Iterator[Episodes]:
        """The columns of episodes, in the order asked for, in as few parts as there can be."""
        indices = self._checked(episode_indices)
        which, places, batches = self._found(indices)
        edges = np.flatnonzero(np.diff(which)) + 1
        for part in np.split(np.arange(len(indices)), edges):
            if len(part):
                yield batches[which[part[0]]].take(places[part])

    def get_episode_metadata(self, episode_indices: Iterable[int]) -> Iterator[dict[str, Any]]:
        """What is known of each episode: its id, its length, its seed and what was added."""
        indices = self._checked(episode_indices)
        which, places, batches = self._found(indices)
        each = zip(indices.tolist(), which.tolist(), places.tolist(), strict=True)
        for index, batch, place in each:
            text = batches[batch].metadata[place].as_py()
            steps = int(batches[batch].lengths[place])
            yield {"id": index, "total_steps": steps} | json.loads(text or "{}")

    def update_episode_metadata(
        self, metadatas: Iterable[dict[str, Any]], episode_indices: Iterable[int] | None = None
    ) -> None:
        """Add to what is known of episodes."""
        import pyarrow as pa

        new = list(metadatas)
        wanted = range(self.total_episodes) if episode_indices is None else episode_indices
        indices = self._checked(wanted)
        if len(new) != len(indices):
            raise ValueError("Metadatas and episode_indices have different lengths")
        with self._appending() as add:
            which, places, batches = self._found(indices)
            for number in batches:
                rows = self._record_batch(add.batches[number])
                at = rows.schema.get_field_index("metadata")
                texts = rows.column(at).to_pylist()
                for place in np.flatnonzero(which == number).tolist():
                    row = int(places[place])
                    texts[row] = to_json(json.loads(texts[row] or "{}") | new[place])
                column = pa.array(texts, pa.large_string())
                add.replace(number, rows.set_column(at, "metadata", column))

    # ------------------------------------------------------------------------ files

    def _raw(self) -> dict[str, Any]:
        """The metadata as written; refused if what reading depends on was changed."""
        for name in (METADATA_FILE_NAME, _DRAFT):
            try:
                found = os.stat(f"{self.data_path}/{name}")
                state = (found.st_ino, found.st_mtime_ns, found.st_size)
                if state != self._state:
                    self._known = self._verified(name)
                    self._state = state
                return self._known
            except FileNotFoundError:
                continue
        raise self._bad("it holds no episodes")

    def _verified(self, name: str) -> dict[str, Any]:
        try:
            with open(f"{self.data_path}/{name}", encoding="utf-8") as file:
                raw = json.load(file)
        except ValueError:
            raise self._bad(f"{name} is cut or changed") from None
        if raw.get("format_version") != FORMAT_VERSION:
            raise BadDataset(
                f"{self.data_path} has format version {raw.get('format_version')!r}, and this "
                f"recgym reads version {FORMAT_VERSION}: install the recgym that wrote it."
            )
        if raw.get("columns_sha256") != _hash_of(raw):
            raise self._bad(f"{name} was changed after it was written")
        for batch in raw["batches"]:
            if not _FILE.fullmatch(batch["file"]):  # it may come from anywhere, and is deleted
                raise self._bad(f"{name} names a file '{printable(batch['file'])}'")
        return dict(raw)

    def _settled(self, act: Callable[[list[dict[str, Any]]], Any]) -> Any:
        """What comes of the batches; anew if another process has merged some meanwhile."""
        while True:
            batches = self._raw()["batches"]
            try:
                return act(batches)
            except BadDataset:
                if self._raw()["batches"] is batches:
                    raise

    def _found(
        self, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, Episodes]]:
        """For each episode its batch and its place in it; and those batches."""

        def find(batches: list[dict[str, Any]]) -> Any:
            ends = np.cumsum([batch["episodes"] for batch in batches])
            which = np.searchsorted(ends, indices, side="right")
            starts = np.concatenate([[0], ends])
            numbers = set(which.tolist())
            return which, indices - starts[which], {n: self._read(batches[n]) for n in numbers}

        found: tuple[NDArray[np.int64], NDArray[np.int64], dict[int, Episodes]]
        found = self._settled(find)
        return found

    def _checked(self, episode_indices: Iterable[int]) -> NDArray[np.int64]:
        indices = np.fromiter(episode_indices, np.int64)
        total = self.total_episodes
        if len(indices) and not 0 <= indices.min() <= indices.max() < total:
            worst = indices.min() if indices.min() < 0 else indices.max()
            raise IndexError(f"There is no episode {worst}: the dataset holds {total:,} of them.")
        return indices

    def _read(self, batch: dict[str, Any]) -> Episodes:
        """A batch, memory-mapped; its hash is compared when it is first read."""
        key = batch["sha256"]  # not the file: its name may come again in a dataset written anew
        if key not in self._opened:
            self._opened[key] = from_arrow(self._record_batch(batch))
        return self._opened[key]

    def _record_batch(self, batch: dict[str, Any]) -> "pa.RecordBatch":
        import pyarrow as pa

        self._check_size(batch)
        file = self.data_path / batch["file"]
        try:
            if _sha256(file) != batch["sha256"]:
                raise self._bad(f"{file.name} was changed after it was written")
            with pa.memory_map(str(file)) as source:
                rows = pa.ipc.open_file(source).get_batch(0)
            rows.validate(full=True)  # what a stranger wrote must not send us past its end
        except FileNotFoundError:
            raise self._bad(f"{file.name} is missing") from None
        except pa.ArrowException as problem:
            raise self._bad(f"{file.name} holds no episodes ({printable(str(problem))})") from None
        return rows

    def _check_size(self, batch: dict[str, Any]) -> None:
        try:
            size = os.stat(f"{self.data_path}/{batch['file']}").st_size
        except FileNotFoundError:
            raise self._bad(f"{batch['file']} is missing") from None
        if size != batch["bytes"]:
            raise self._bad(f"{batch['file']} has {size:,} bytes, where {batch['bytes']:,} belong")

    def _bad(self, fault: str) -> BadDataset:
        return BadDataset(
            f"The dataset in {self.data_path.parent} cannot be read: {fault}. Restore it from a "
            "copy, or delete it with `minari delete` and write it anew."
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process or thread changes the dataset meanwhile."""
        folder = os.open(self.data_path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    @contextmanager
    def _appending(self) -> Iterator["_Additions"]:
        """Batches that are added are there when the block has succeeded, or none of them is."""
        with self._alone():
            raw = self._raw()
            before = raw["batches"]
            additions = _Additions(self, before)
            try:
                yield additions
                additions.merge()
            except BaseException:
                additions.discard([batch for batch in additions.batches if batch not in before])
                if not before and self.data_path.name == "data":  # the id is free again
                    shutil.rmtree(self.data_path)
                    self.data_path.parent.rmdir()
                raise
            batches = additions.batches
            _publish(self.data_path, raw | {
                "batches": batches,
                "total_episodes": sum(batch["episodes"] for batch in batches),
                "total_steps": sum(batch["steps"] for batch in batches),
            })  # fmt: skip
            additions.discard([batch for batch in before if batch not in batches])


class _Additions:
    """The batches of a dataset while some are added; those before stay untouched."""

    def __init__(self, storage: ColumnStorage, batches: list[dict[str, Any]]) -> None:
        self.storage, self.before, self.batches = storage, batches, list(batches)
        self._next = 1 + max((int(batch["file"].split(".")[0]) for batch in batches), default=-1)

    @property
    def total(self) -> int:
        """How many episodes there are by now."""
        return sum(batch["episodes"] for batch in self.batches)

    def __call__(self, episodes: Episodes) -> None:
        """Add columns."""
        self.batches.append(self._written(to_arrow(episodes), int(episodes.lengths.sum())))

    def copy(self, batch: dict[str, Any], file: Path) -> None:
        """Add a batch of another dataset."""
        copy = batch | {"file": self._new_file().name}
        self.batches.append(copy)
        shutil.copyfile(file, self.storage.data_path / copy["file"])

    def replace(self, number: int, rows: "pa.RecordBatch") -> None:
        """Put other rows in the place of a batch."""
        self.batches[number] = self._written(rows, self.batches[number]["steps"])

    def merge(self) -> None:
        """Merge the newest batches while there are many of like size: few files, linear work."""
        while tail := self._mergeable():
            import pyarrow as pa

            parts = [self.storage._record_batch(batch) for batch in tail]
            (rows,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
            del self.batches[-len(tail) :]
            self.batches.append(self._written(rows, sum(batch["steps"] for batch in tail)))
            self.discard([batch for batch in tail if batch not in self.before])

    def discard(self, batches: list[dict[str, Any]]) -> None:
        """Delete the files of batches."""
        for batch in batches:
            (self.storage.data_path / batch["file"]).unlink(missing_ok=True)
            self.storage._opened.pop(batch["sha256"], None)

    def _mergeable(self) -> list[dict[str, Any]]:
        """The newest batch with smaller ones before it, or with enough of its own order."""
        if not self.batches:
            return []
        *before, newest = self.batches

        def run(orders: range) -> list[dict[str, Any]]:
            return list(takewhile(
                lambda batch: batch["schema"] == newest["schema"] and _order(batch) in orders,
                reversed(before),
            ))  # fmt: skip

        order = _order(newest)
        alike = run(range(order, order + 1)) if order else []
        found = run(range(1, order)) or (alike if len(alike) >= _FAN_IN - 1 else [])
        return [*found[::-1], newest] if found else []

    def _written(self, rows: "pa.RecordBatch", steps: int) -> dict[str, Any]:
        import pyarrow as pa

        file = self._new_file()
        try:
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as out:
                out.write_batch(rows)
        except OSError as problem:
            file.unlink(missing_ok=True)
            raise OutOfRoom(
                f"The episodes could not be written to {file.parent}: "
                f"{problem.strerror or problem}. Free some space, or point MINARI_DATASETS_PATH "
                "at another disk; nothing was changed."
            ) from None
        return {
            "file": file.name,
            "schema": hashlib.sha256(rows.schema.serialize()).hexdigest()[:16],
            "episodes": rows.num_rows,
            "steps": steps,
            "bytes": file.stat().st_size,
            "sha256": _sha256(file),
        }

    def _new_file(self) -> Path:
        self._next += 1
        return Path(self.storage.data_path, f"{self._next - 1:06}.arrow")


def _order(batch: dict[str, Any]) -> int:
    """How often a batch was merged; 0 for one that is large enough."""
    return 0 if batch["bytes"] > _LARGE else math.ceil(math.log(batch["episodes"] + 1, _FAN_IN))


def _publish(folder: Path, raw: dict[str, Any]) -> None:
    """Replace the metadata in one step; it becomes visible with the first batch."""
    content = sum(batch["bytes"] for batch in raw["batches"])
    raw = raw | {"dataset_size": round(content / 1e6, 1), "columns_sha256": _hash_of(raw)}
    draft = folder / f"{_DRAFT}.{os.getpid()}"
    draft.write_text(to_json(raw))
    if raw["batches"]:
        draft.replace(folder / METADATA_FILE_NAME)
        (folder / _DRAFT).unlink(missing_ok=True)
    else:
        draft.replace(folder / _DRAFT)


def _hash_of(raw: dict[str, Any]) -> str:
    """What reading depends on: a change of it must not go unnoticed."""
    return sha256_of_json({key: raw.get(key) for key in (*_HASHED, "batches")})


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def buffers_of(storage: MinariStorage, indices: Iterable[int]) -> Iterator[EpisodeBuffer]:
    """Episodes of a storage of any format, with their seeds and options."""
    indices = list(indices)
    known = storage.get_episode_metadata(indices)
    for episode, about in zip(storage.get_episodes(indices), known, strict=True):
        del episode["id"]
        yield EpisodeBuffer(**episode, seed=about.get("seed"), options=about.get("options"))


def runs_of(data: MinariDataset, indices: Iterable[int]) -> Iterator[Episodes]:
    """The columns of a dataset's episodes, whatever its format."""
    if isinstance(data.storage, ColumnStorage):
        yield from data.storage.runs(indices)
    else:
        buffers = list(buffers_of(data.storage, indices))
        yield from_buffers(buffers, data.observation_space, data.action_space)


def content_hash(data: MinariDataset) -> str:
    """One hash of all episodes: equal where every value is equal, whatever the format."""
    hashes: dict[str, Any] = {}
    indices = list(data.episode_indices)
    for first in range(0, len(indices), _READ):
        for part in runs_of(data, indices[first : first + _READ]):
            columns = {
                "lengths": part.lengths,
                "observations": part.observations(data.observation_space),
                "actions": part.actions(data.action_space),
                "infos": part.infos(),
            } | {name: part.at_steps(name) for name in ("rewards", *FLAGS)}
            for name, values in _leaves("", columns):
                if not isinstance(values, np.ndarray):
                    lines = "".join(f"{to_json(value)}\n" for value in values)
                    values = np.frombuffer(lines.encode(), np.uint8)
                known = hashes.setdefault(name, hashlib.sha256(str(values.dtype).encode()))
                known.update(np.ascontiguousarray(values).data)
    return sha256_of_json({name: known.hexdigest() for name, known in hashes.items()})


def _leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | tuple):
        for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(f"{name}/{key}", branch)
    else:
        yield name, tree
