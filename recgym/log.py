"""InteractionLog: columnar sessions on disk, memory-mapped; the source of truth of every view."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recgym.errors import BadLog, InvalidArgument, OutOfRoom

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1
SPLITS = ("train", "validation", "test", "context")
Split = Literal["train", "validation", "test", "context"]

ROW_COLUMNS = {
    "items": "int32",  # codes below n_items occur in training; the others never enter a history
    "behaviours": "uint8",  # an index into manifest.behaviours
    "rewards": "float32",
    "timestamps": "int64",  # microseconds since 1970 UTC, or the order within the user
    "in_state": "bool",  # does the row enter the histories of later rows?
    "splits": "uint8",  # an index into SPLITS; context is history only, never trained on or ranked
    "depths": "int32",  # rows in state before this one in its session
}
OPTIONAL_ROW_COLUMNS = {
    "propensities": "float32",  # of the logged action, where the logging policy is known
    "slots": "uint8",  # the place on the page where the item was shown
    "ranks": "int64",  # rows in state before this one in the log; absent where all are in state
}
SESSION_COLUMNS = {"terminated": "bool"}  # an end that the source shows; otherwise truncated
STATE_COLUMNS = {"state_items": "int32", "state_behaviours": "uint8"}  # present with ranks
HOMES = {"log": "RECGYM_HOME", "dataset": "MINARI_DATASETS_PATH"}  # where each kind of data lives
_CHUNK = 4096  # windows gathered at once: their indices stay in the cache


@dataclass(frozen=True)
class Column:
    """One column file: what it holds and how to tell that it is intact."""

    dtype: str
    length: int
    bytes: int  # of the file
    sha256: str  # of the values


@dataclass(frozen=True)
class Manifest:
    """What a log is, where it comes from and how it was made."""

    name: str
    source: dict[str, Any]  # its name and options
    protocol: dict[str, Any]  # every switch
    command: str
    recgym: str  # the version that wrote the log
    time: Literal["microseconds", "order"]
    behaviours: list[str]
    n_items: int  # items that occur in training; the pad of histories is this number
    counts: dict[str, Any]
    cuts: list[int]  # the times at which validation and test begin, where the split has such times
    steps: list[list[Any]]  # the events left after each step of the build
    notes: list[str]
    columns: dict[str, Column] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """One hash for the data: equal for logs whose every value is equal."""
        content = {
            "columns": {name: column.sha256 for name, column in sorted(self.columns.items())},
            "behaviours": self.behaviours,
            "n_items": self.n_items,
            "time": self.time,
        }
        return sha256_of_json(content)

    def write(self, file: Path) -> None:
        """Write as JSON, with a hash of itself."""
        content = asdict(self)
        content["manifest_sha256"] = sha256_of_json(content)
        file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Manifest":
        """Read a manifest and check its version and its hash."""
        rebuild = "Rebuild the log, or restore the file from a copy."
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadLog(
                f"{file.parent} is not a log: it has no {file.name}. Build one with "
                "`recgym data build`, or give the name or the folder of a built log."
            ) from None
        except (ValueError, OSError, RecursionError) as problem:
            raise BadLog(f"{file} cannot be read ({problem}). {rebuild}") from None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise BadLog(
                f"{file} has schema version {found!r}, and this recgym reads version {SCHEMA}. "
                "Rebuild the log, or install the recgym that wrote it."
            )
        stated = content.pop("manifest_sha256", None)
        if stated != sha256_of_json(content) or set(content) != {f.name for f in fields(cls)}:
            raise BadLog(f"{file} was changed after it was written. {rebuild}")
        content["columns"] = {name: Column(**c) for name, c in content["columns"].items()}
        return cls(**content)


class InteractionLog:
    """A log of actions with their answers, by session, read from disk without a copy.

    A row is an action with its answer. Rows of a session are consecutive and in order;
    `offsets[s]:offsets[s + 1]` are those of session s. All arrays are read-only views of the files.
    """

    items: NDArray[np.int32]
    behaviours: NDArray[np.uint8]
    rewards: NDArray[np.float32]
    timestamps: NDArray[np.int64]
    in_state: NDArray[np.bool_]
    splits: NDArray[np.uint8]
    depths: NDArray[np.int32]
    propensities: NDArray[np.float32] | None
    slots: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    state_items: NDArray[np.int32]  # the items of the rows in state: what histories are made of

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the log in a folder: sizes and the manifest are checked, hashes are not."""
        self.path = Path(path)
        self._mapped: dict[str, pa.RecordBatch] = {}
        self.manifest = Manifest.read(self.path / "manifest.json")
        rows = self.manifest.counts["rows"]
        for name in (ROW_COLUMNS | SESSION_COLUMNS).keys() | {"offsets", "users", "catalogue"}:
            if name not in self.manifest.columns:
                raise BadLog(f"{self.path} has no column '{name}'. Rebuild the log.")
        for name, dtype in (ROW_COLUMNS | OPTIONAL_ROW_COLUMNS).items():
            setattr(self, name, self._numbers(name, dtype, rows))
        self.offsets = self._numbers("offsets", "int64", self.n_sessions + 1)
        self.terminated = self._numbers("terminated", "bool", self.n_sessions)
        if self.offsets[0] != 0 or self.offsets[-1] != rows:
            raise BadLog(f"{self.path}: the offsets do not span the {rows:,} rows. Rebuild it.")
        self._ranks = self._numbers("ranks", "int64", rows)
        in_state = rows if self._ranks is None else self.manifest.counts["in_state"]
        self.state_items = self._numbers("state_items", "int32", in_state, self.items)
        self._state_behaviours = self._numbers(
            "state_behaviours", "uint8", in_state, self.behaviours
        )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.items)

    def __repr__(self) -> str:
        """The name, and how much it holds."""
        return (
            f"InteractionLog({self.manifest.name!r}: {len(self):,} rows, {self.n_sessions:,} "
            f"sessions, {self.n_items:,} items)"
        )

    @property
    def n_sessions(self) -> int:
        """The number of sessions."""
        return int(self.manifest.counts["sessions"])

    @property
    def n_items(self) -> int:
        """The number of items that occur in training; also the pad of histories."""
        return self.manifest.n_items

    @cached_property
    def catalogue(self) -> "pa.RecordBatch":
        """One row per item: item, raw_id, title, text fields, topics; unseen items come last."""
        return self._read("catalogue")

    @cached_property
    def users(self) -> "pa.Array":
        """The raw id of the user (or visit) of every session."""
        return self._read("users").column(0)

    def rows(self, split: Split) -> NDArray[np.int64]:
        """The rows of a split, in order."""
        return np.flatnonzero(self.splits == self.split_code(split))

    def episodes(self, split: Split) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_]]:
        """The rows of a split that make its episodes, how many each has, and which terminate.

        An episode is what a session has of the split. Rows whose item is unseen in training are
        left out, as no action can name them; an episode that ends before its session is truncated.
        """
        if split == "context":
            raise InvalidArgument(
                "The split 'context' is history only: episodes are of train, validation or test."
            )
        wanted = (self.splits == self.split_code(split)) & (self.items < self.n_items)
        before = np.zeros(len(self) + 1, np.int64)
        np.cumsum(wanted, out=before[1:])
        lengths = np.diff(before[self.offsets])
        sessions = np.flatnonzero(lengths)
        rows, lengths = np.flatnonzero(wanted), lengths[sessions]
        last = rows[np.cumsum(lengths) - 1]
        ends = self.terminated[sessions] & (last + 1 == self.offsets[sessions + 1])
        inside = np.ones(len(rows), bool)  # does the next row follow in the same episode?
        inside[np.cumsum(lengths) - 1] = False
        here = rows[inside]
        after = rows[1:][inside[:-1]]
        if (self.depths[after] != self.depths[here] + self.in_state[here]).any():
            raise BadLog(f"{self.path}: the {split} rows of a session are not consecutive.")
        return rows, lengths, ends

    def split_code(self, split: Split) -> int:
        """The number that stands for a split in `splits`."""
        if split not in SPLITS:
            raise InvalidArgument(f"No split is named {split!r}. Known: {', '.join(SPLITS)}.")
        return SPLITS.index(split)

    def sessions_of(self, rows: ArrayLike) -> NDArray[np.int64]:
        """The session of each row."""
        return np.searchsorted(self.offsets, np.asarray(rows), side="right") - 1

    def histories(
        self, positions: ArrayLike, length: int, *, after: bool = False
    ) -> NDArray[np.int32]:
        """What each row's user had consumed before it: (batch, length) items, oldest first.

        Right-padded with `n_items`; an empty history is all pads, and models read its first pad as
        a start token. With `after`, the row itself has joined the history: the next state.
        """
        return self._windows(self.state_items, self.n_items, positions, length, after)

    def histories_with_responses(
        self, positions: ArrayLike, length: int, *, after: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """The histories and beside them what the user answered, padded with the behaviour count."""
        pad = len(self.manifest.behaviours)
        return (
            self.histories(positions, length, after=after),
            self._windows(self._state_behaviours, pad, positions, length, after),
        )

    def _windows(
        self, column: NDArray[Any], pad: int, positions: ArrayLike, length: int, after: bool
    ) -> NDArray[Any]:
        positions = np.asarray(positions)
        if positions.ndim != 1 or (positions.dtype.kind not in "iu" and len(positions)):
            raise InvalidArgument(
                f"Positions are a flat array of row numbers, and these have shape "
                f"{positions.shape} and type {positions.dtype}."
            )
        if length < 1:
            raise InvalidArgument(f"A history has length 1 or more, not {length}.")
        positions = positions.astype(np.int64, copy=False)
        if len(positions) and positions.view(np.uint64).max() >= len(self):  # or negative
            raise InvalidArgument(
                f"Positions are rows 0 to {len(self) - 1:,}, and these span "
                f"{positions.min():,} to {positions.max():,}."
            )
        windows = np.empty((len(positions), length), column.dtype)
        if not len(column):
            windows.fill(pad)
            return windows
        for first in range(0, len(positions), _CHUNK):
            some = slice(first, first + _CHUNK)
            stops, depths = self.ends_of_histories(positions[some], after)
            fill_windows(windows[some], column, stops, depths, pad)
        return windows

    def ends_of_histories(
        self, rows: NDArray[np.int64], after: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where each row's history ends in `state_items`, and how many of its items are there."""
        stops = rows if self._ranks is None else self._ranks.take(rows)
        depths = self.depths.take(rows)
        if after:
            joins = self.in_state.take(rows)
            stops, depths = stops + joins, depths + joins
        return stops, depths

    def verify(self) -> str:
        """Read every byte, compare every hash, and return the digest of the log."""
        for name, column in self.manifest.columns.items():
            found = sha256_of(self._read(name, full=True))
            if found != column.sha256:
                raise BadLog(
                    f"{self.path / name}.arrow is damaged: its values hash to {found[:12]}…, the "
                    f"manifest says {column.sha256[:12]}…. Rebuild the log or restore the file."
                )
        return self.manifest.digest

    def _numbers(
        self, name: str, dtype: str, length: int, default: NDArray[Any] | None = None
    ) -> Any:
        if name not in self.manifest.columns:
            return default
        values = numbers_of(self._read(name).column(0))
        wanted = "uint8" if dtype == "bool" else dtype
        if values.dtype != wanted or len(values) != length:
            raise BadLog(
                f"{self.path / name}.arrow holds {len(values):,} values of {values.dtype}, and "
                f"{length:,} of {wanted} belong there. Rebuild the log."
            )
        return values.view(np.bool_) if dtype == "bool" else values

    def _read(self, name: str, full: bool = False) -> "pa.RecordBatch":
        import pyarrow as pa

        file, column = self.path / f"{name}.arrow", self.manifest.columns[name]
        try:
            if file.stat().st_size != column.bytes:
                raise BadLog(
                    f"{file} has {file.stat().st_size:,} bytes, and the manifest says "
                    f"{column.bytes:,}. Rebuild the log or restore the file."
                )
            if name not in self._mapped:
                with pa.memory_map(str(file)) as source:
                    self._mapped[name] = pa.ipc.open_file(source).get_batch(0)
            batch = self._mapped[name]
            if batch.num_rows != column.length or _describe(batch) != column.dtype:
                raise pa.ArrowInvalid(f"{batch.num_rows} rows of {_describe(batch)}")
            batch.validate(full=full)  # a damaged file must not send us past its end
            if any(values.null_count for values in batch.columns):
                raise pa.ArrowInvalid("values are missing")
        except (OSError, ValueError, pa.ArrowException) as problem:
            reason = filter(str.isprintable, str(problem).partition("\n")[0])
            raise BadLog(
                f"{file} cannot be read ({''.join(reason)}). Rebuild the log or restore the file."
            ) from None
        return batch


def fill_windows(
    window: NDArray[Any], column: NDArray[Any], stops: NDArray[Any], depths: NDArray[Any], pad: int
) -> None:
    """Fill each row with the last of the `depths` values before its stop, then with pads."""
    length = window.shape[1]
    places = (stops - np.minimum(depths, length))[:, None] + np.arange(length)
    column.take(places, mode="clip", out=window)  # what lies past a stop is padded next
    np.copyto(window, pad, where=places >= stops[:, None])


def write_log(path: Path, manifest: Manifest, columns: Mapping[str, Any]) -> InteractionLog:
    """Write a log into the folder `path` and open it; nothing is there until all of it is."""
    with log_writer(path) as writer:
        for name, values in columns.items():
            writer[name] = values
        writer.finish(manifest)
    return InteractionLog(path)


@contextmanager
def log_writer(path: Path) -> Iterator["LogWriter"]:
    """What makes a log at `path`, which appears or is replaced when the block has succeeded."""
    with replacing(path, "log") as folder, ThreadPoolExecutor() as pool:
        yield LogWriter(folder, pool)


class LogWriter(dict[str, Any]):
    """The columns of a log in the making: one that is set is being written, beside all else.

    Columns are NumPy arrays, Arrow arrays (`users`) and a record batch (`catalogue`).
    """

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        """Write into a folder, in the threads of a pool."""
        super().__init__()
        self._folder, self._pool = folder, pool
        self._writes: dict[str, Future[Column]] = {}

    def __setitem__(self, name: str, values: Any) -> None:
        """Set a column, for good."""
        super().__setitem__(name, values)
        self._writes[name] = self._pool.submit(_write_column, self._folder, name, values)

    def finish(self, manifest: Manifest) -> None:
        """Work out where histories end, wait for all columns and write the manifest."""
        for name, values in _history_columns(
            self["items"], self["behaviours"], self["in_state"], self["offsets"]
        ).items():
            self[name] = values
        columns = {name: self._writes[name].result() for name in sorted(self._writes)}
        counts = manifest.counts | {"in_state": int(self["in_state"].sum())}
        replace(manifest, columns=columns, counts=counts).write(self._folder / "manifest.json")


def _write_column(folder: Path, name: str, values: Any) -> Column:
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        values = arrow_of(values)
    if isinstance(values, pa.Array):
        values = pa.record_batch([values], names=[name])
    file = folder / f"{name}.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, values.schema) as out:
        out.write_batch(values)
    return Column(_describe(values), values.num_rows, file.stat().st_size, sha256_of(values))


@contextmanager
def replacing(path: Path, kind: str) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block succeeds, and else vanishes."""
    mark = uuid.uuid4().hex[:8]
    folder, old = (path.parent / f".{path.name}.{mark}.{end}" for end in ("part", "old"))
    try:
        folder.mkdir(parents=True)
        yield folder
        if path.exists():
            path.rename(old)
        try:
            folder.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as problem:
        raise OutOfRoom(
            f"The {kind} could not be written to {path.parent}: {problem.strerror or problem}. "
            f"Free some space, or point {HOMES[kind]} at another disk; nothing was changed."
        ) from problem
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def arrow_of(values: NDArray[Any]) -> "pa.Array":
    """An Arrow view of numbers, of truth values as 0 and 1; Arrow's own way imports pandas."""
    import pyarrow as pa

    values = np.ascontiguousarray(values.view(np.uint8) if values.dtype == bool else values)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def numbers_of(column: "pa.Array") -> NDArray[Any]:
    """A NumPy view of an Arrow column of numbers without nulls."""
    dtype, data = column.type.to_pandas_dtype(), column.buffers()[1]
    if not len(column):
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, column.offset + len(column))[column.offset :]


def sha256_of(batch: "pa.RecordBatch") -> str:
    """A hash of a batch's values, whatever file or engine they came from."""
    digest = hashlib.sha256()
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        digest.update(f"{name}:{column.type}:{len(column)};".encode())
        _feed(digest, column)
    return digest.hexdigest()


def _feed(digest: Any, column: "pa.Array") -> None:
    """Feed values in a canonical form: lengths before the content of lists and text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_primitive(column.type):
        digest.update(numbers_of(column).data)
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        lengths = pc.binary_length(column)
        digest.update(numbers_of(lengths.cast("int64")).data)
        _, starts, text = column.buffers()
        if text and len(column):
            width = np.int64 if pa.types.is_large_string(column.type) else np.int32
            starts = np.frombuffer(starts, width, column.offset + len(column) + 1)[column.offset :]
            digest.update(text[starts[0] : starts[-1]])
    else:
        lengths = pc.list_value_length(column)
        digest.update(numbers_of(lengths.cast("int64")).data)
        _feed(digest, column.flatten())


def _history_columns(
    items: NDArray[np.int32],
    behaviours: NDArray[np.uint8],
    in_state: NDArray[np.bool_],
    offsets: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """Where each row's history ends among the rows in state, and how much of it there is."""
    sizes = np.diff(offsets)
    if in_state.all():
        depths = np.empty(len(items), np.int32)
        for first in range(0, len(sizes), _CHUNK):  # temporary arrays stay in the cache
            some = offsets[first : first + _CHUNK + 1]
            starts = np.repeat(some[:-1], sizes[first : first + _CHUNK])
            np.subtract(np.arange(some[0], some[-1]), starts, out=depths[some[0] : some[-1]],
                        casting="unsafe")  # fmt: skip
        return {"depths": depths}
    ranks = np.cumsum(in_state, dtype=np.int64) - in_state
    return {
        "depths": (ranks - np.repeat(ranks[offsets[:-1]], sizes)).astype(np.int32),
        "ranks": ranks,
        "state_items": items[in_state],
        "state_behaviours": behaviours[in_state],
    }


def _describe(batch: "pa.RecordBatch") -> str:
    if batch.num_columns == 1:
        return str(batch.schema.types[0])
    return ", ".join(f"{field.name} {field.type}" for field in batch.schema)


def sha256_of_json(content: Mapping[str, Any]) -> str:
    """A hash of JSON content, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
