"""What a simulator has said, kept on disk: to ask it again costs no call of its model.

An entry is a key of 128 bits, of who was asked what, the answer, and a check of both. Each process
adds entries to files of its own, on which it holds locks, and reads those of all others.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recgym.envs.draws import keys_of, origins_of
from recgym.errors import InvalidArgument, OutOfRoom, printable
from recgym.home import is_locked, locked

if TYPE_CHECKING:  # it needs torch, which a machine without the model may lack
    from recgym.simulator.feedback import Feedback, Histories

Keys = NDArray[np.uint64]
Ask = Callable[["Feedback", "Histories", NDArray[Any]], NDArray[Any]]  # the last: (n, several)
Say = Callable[[str], None]
ANSWERS = ".answers"  # the folder, below those of simulators, where commands keep what they said
_VERSION, _MANIFEST = 1, "manifest.json"
_FIELDS = ("version", "simulator", "n_items", "width")
_MANY = 16  # files of a kind that nobody writes any more: more than these become one


class Cached:
    """A simulator that is asked nothing twice; where there is none, what it has said before."""

    def __init__(
        self,
        feedback: "Feedback | None",
        folder: Path,
        sha256: str = "",
        say: Say = lambda sentence: None,
    ) -> None:
        """Keep answers below a folder; without a simulator, its hash says whose are meant."""
        self.feedback = feedback
        self.folder, manifest = _opened(feedback, folder, sha256)
        self.sha256: str = manifest["simulator"]
        self.n_items: int = manifest["n_items"]
        self.width: int = manifest["width"]
        self.hits = self.misses = 0  # questions that cost nothing, and those that were asked
        self._salt = json.dumps(manifest, sort_keys=True)  # so what others said never fits
        self._codes = [_numbers(half, self.n_items + 1) for half in (0, 1)]
        for codes in self._codes:
            codes[self.n_items] = 0  # so pads do not count
        self._entries = {
            kind: _Entries(self.folder, kind, np.dtype((number, (width,))), say)
            for kind, number, width in (
                ("rewards", "<f4", 1), ("states", "<f4", self.width), ("choices", "<i4", 1),
            )
        }  # fmt: skip

    def rewards(self, histories: "Histories", items: NDArray[Any]) -> NDArray[np.float32]:
        return self._answers(
            "rewards", histories, items[:, :, None], lambda user, *asked: user.rewards(*asked)
        )[:, :, 0]  # fmt: skip

    def states(self, histories: "Histories") -> NDArray[np.float32]:
        nothing = np.empty((len(histories), 1, 0), np.int64)
        return self._answers(
            "states", histories, nothing, lambda user, some, _: user.states(some)
        )[:, 0]  # fmt: skip

    def choices(self, histories: "Histories", five: NDArray[Any], seed: int) -> NDArray[np.int64]:
        return self._answers(
            "choices", histories, five[:, None],
            lambda user, *asked: user.choices(*asked, seed)[:, None], seed,
        )[:, 0, 0].astype(np.int64)  # fmt: skip

    def _answers(
        self, kind: str, histories: "Histories", items: NDArray[Any], ask: Ask, seed: int = 0
    ) -> NDArray[Any]:
        """(batch, k, width): to k questions on each of a batch, each on several items or none."""
        batch, k, several = items.shape
        keys = self._keys(kind, histories, items, seed).reshape(-1, 2)
        entries = self._entries[kind]
        answers, missing = entries.find(keys)
        if len(missing):  # others may have asked meanwhile
            entries.refresh()
            answers[missing], still = entries.find(keys[missing])
            missing = np.sort(missing[still])
        count = 0
        if len(missing):
            _, first, of = np.unique(keys[missing], axis=0, return_index=True, return_inverse=True)
            asked, items = missing[first], items.reshape(len(keys), several)  # none twice
            count = len(asked)
            if self.feedback is None:
                raise self._unknown(kind, histories[missing[0] // k], items[missing[0]], count)
            found = np.asarray(ask(self.feedback, histories[asked // k], items[asked]))
            self.misses += count
            entries.add(keys[asked], found)
            answers[missing] = found[of.reshape(-1)]
        self.hits += len(keys) - count
        return answers.reshape(batch, k, answers.shape[1])

    def _keys(self, kind: str, histories: "Histories", items: NDArray[Any], seed: int) -> Keys:
        """(batch, k, 2): two hashes, each of a sum of what stands where; pads count nothing."""
        past = _checked(histories, self.n_items, "histories")
        asked = _checked(items, self.n_items - 1, "items")
        salt = hashlib.sha256(f"{self._salt} {kind} {seed}".encode()).digest()
        salts = np.frombuffer(salt, "<u8")
        keys = np.empty((*asked.shape[:2], 2), np.uint64)
        for half, codes in enumerate(self._codes):
            before = codes[past] @ _places(2 + half, past.shape[1])  # (batch,)
            after = codes[asked] @ _places(4 + half, asked.shape[2])  # (batch, k)
            keys[..., half] = origins_of(before[:, None] + after + salts[half])
        return keys

    def _unknown(
        self, kind: str, history: NDArray[Any], items: NDArray[Any], count: int
    ) -> InvalidArgument:
        past = printable(", ".join(map(str, history[history != self.n_items].tolist())))
        of = {"rewards": "that of item ", "states": "that", "choices": "that among the items "}
        return InvalidArgument(
            f"The cache at {self.folder} lacks {count:,} of the {kind} asked for, first "
            f"{of[kind]}{', '.join(map(str, items.tolist()))} after the history [{past}], and no "
            "simulator is here to ask: run this once where it is, and copy the cache from there."
        )


class _Entries:
    """The answers of one kind: on disk as they came, in memory sorted by a half of their keys."""

    def __init__(self, folder: Path, kind: str, value: np.dtype[Any], say: Say) -> None:
        self.folder, self.kind, self.value, self.say = folder, kind, value, say
        self.record = np.dtype([("key", "<u8", (2,)), ("value", value), ("check", "<u4")])
        self.tables: list[tuple[Keys, NDArray[Any]]] = []  # (2, n) and (n, width); ever smaller
        self.read: dict[Path, int] = {}  # bytes of each file
        self.own: tuple[int, Path, ExitStack] | None = None  # who writes it, and the lock on it

    def find(self, keys: Keys) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """What is known of each, and where nothing is."""
        answers = np.zeros(len(keys), self.value)  # (n, width)
        missing = np.argsort(keys[:, 0])  # neighbours are found sooner
        for known, values in self.tables:
            high, low = keys[missing].T
            at = np.minimum(np.searchsorted(known[0], high), len(values) - 1)
            hit = (known[0][at] == high) & (known[1][at] == low)
            answers[missing[hit]] = values[at[hit]]
            missing = missing[~hit]
        return answers, missing

    def refresh(self) -> None:
        """Read what has come to the disk since, from whichever process."""
        fresh, count, vanished = [np.empty(0, self.record)], 0, True
        while vanished:
            vanished = False
            for file in self._files():
                try:
                    records = np.fromfile(file, self.record, offset=self.read.get(file, 0))
                except FileNotFoundError:  # it is part of another now, which may be new here
                    vanished = True
                    continue
                self.read[file] = self.read.get(file, 0) + records.nbytes
                fresh.append(self._sound(records))
                count += len(records)
        records = np.concatenate(fresh)
        if damaged := count - len(records):
            self.say(
                f"{damaged:,} of {count:,} entries of the cache at {self.folder} were damaged and "
                "are computed again."
            )
        if len(records):
            self.tables.append(_sorted(records["key"].T, records["value"]))
        while len(self.tables) > 1 and len(self.tables[-2][1]) < 2 * len(self.tables[-1][1]):
            keys, values = zip(*self.tables[-2:], strict=True)
            self.tables[-2:] = [_sorted(np.concatenate(keys, 1), np.concatenate(values))]

    def add(self, keys: Keys, values: NDArray[Any]) -> None:
        """Write answers down; what is no number is asked again next time."""
        sound = np.isfinite(values).all(1)
        records = np.empty(np.count_nonzero(sound), self.record)
        records["key"], records["value"] = keys[sound], values[sound]
        records["check"] = self._checks(records)
        with _room(self.folder):
            if self.own is None or self.own[0] != os.getpid():  # also once it has been forked
                with suppress(OSError):  # it only saves time
                    self._merge()
                self.own = self._own()
            _append(self.own[1], records)

    def _own(self) -> tuple[int, Path, ExitStack]:
        """A new file, and the lock that keeps it from being merged."""
        while True:
            file, held = self._new(), ExitStack()
            if held.enter_context(locked(file)) and file.exists():  # or a merger was quicker
                return os.getpid(), file, held
            held.close()

    def _merge(self) -> None:
        """Make many files that nobody writes one; who has them open keeps what they were."""
        with ExitStack() as held:
            if not held.enter_context(locked(self.folder)):
                return
            dead = [file for file in self._files()
                    if not is_locked(file) and held.enter_context(locked(file))]  # fmt: skip
            if len(dead) <= _MANY:
                return
            records = np.concatenate([self._sound(np.fromfile(file, self.record)) for file in dead])
            part = self.folder / f".{self.kind}.part"
            part.unlink(missing_ok=True)  # of one that was killed
            held.callback(part.unlink, missing_ok=True)
            _append(part, records[np.unique(records["key"][:, 0], return_index=True)[1]])
            part.rename(self._new())
            for file in dead:
                file.unlink()

    def _new(self) -> Path:
        return self.folder / f"{self.kind}.{os.getpid()}.{uuid.uuid4().hex[:8]}.bin"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.kind}.*.bin"))

    def _sound(self, records: NDArray[Any]) -> NDArray[Any]:
        sound: NDArray[Any] = records[records["check"] == self._checks(records)]
        return sound

    def _checks(self, records: NDArray[Any]) -> NDArray[np.uint32]:
        size = self.record.itemsize // 4
        words = records.view("<u4").reshape(-1, size)[:, :-1].astype(np.uint64)
        return (origins_of(words @ _places(6, size - 1)) >> 32).astype(np.uint32)


def _opened(feedback: "Feedback | None", folder: Path, sha256: str) -> tuple[Path, dict[str, Any]]:
    """Where a simulator's answers are, and the manifest that says whose they are."""
    wanted: dict[str, Any] = {"version": _VERSION}
    if feedback is None:
        found = sorted(folder.glob(f"{sha256[:16] or '*'}/{_MANIFEST}"))
        if len(found) != 1:
            names = ", ".join(file.parent.name for file in found[:5]) or "none"
            raise InvalidArgument(
                f"One simulator's cache is to be read, and {folder} holds those of {len(found)} "
                f"that may be meant ({names}): give the hash of one that has been asked."
            )
        file = found[0]
        wanted |= {"simulator": sha256} if sha256 else {}
    else:
        if len(feedback.sha256) != 64:
            raise InvalidArgument(
                f"A simulator whose hash is '{printable(feedback.sha256)}' cannot be told from "
                "others: save it and load it, and then keep its answers."
            )
        wanted |= {"simulator": feedback.sha256, "n_items": feedback.n_items,
                   "width": feedback.width}  # fmt: skip
        file = folder / feedback.sha256[:16] / _MANIFEST
        if not file.exists():
            with _room(file.parent):
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_name(f".{uuid.uuid4().hex[:8]}.part")
                part.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
                part.replace(file)
    try:
        known = json.loads(file.read_bytes())
        if [type(known[name]) for name in _FIELDS] != [int, str, int, int]:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidArgument(
            f"{file} cannot be read as the manifest of a cache: delete it, and open the cache "
            "where the simulator is, which writes it anew."
        ) from None
    for name, value in wanted.items():
        if known[name] != value:
            raise InvalidArgument(
                f"The cache at {file.parent} is of another simulator: its {name} is "
                f"{printable(str(known[name]))}, not {printable(str(value))}; give another folder."
            )
    return file.parent, {name: known[name] for name in _FIELDS}


def _checked(given: NDArray[Any], most: int, what: str) -> NDArray[np.int64]:
    if given.size and not (given.dtype.kind in "iu" and 0 <= given.min() <= given.max() <= most):
        raise InvalidArgument(
            f"The {what} that a simulator is asked about hold {given.dtype} from {given.min()} to "
            f"{given.max()}: give whole numbers from 0 to {most}."
        )
    return given.astype(np.int64, copy=False)


def _numbers(origin: int, count: int) -> NDArray[np.uint64]:
    """As good as drawn at random, and the same everywhere."""
    return keys_of(origins_of(np.array([origin], np.uint64)), np.arange(count))


@cache
def _places(origin: int, count: int) -> NDArray[np.uint64]:
    """What to multiply with: odd, so that one change always changes a sum."""
    return _numbers(origin, count) | np.uint64(1)


def _sorted(keys: Keys, values: NDArray[Any]) -> tuple[Keys, NDArray[Any]]:
    """By the first half of the keys, each of which stays once."""
    order = np.unique(keys[0], return_index=True)[1]
    return np.ascontiguousarray(keys[:, order]), values[order]


def _append(file: Path, records: NDArray[Any]) -> None:
    """Add whole records, after whole ones."""
    with file.open("ab", buffering=0) as out:
        out.truncate(out.tell() // records.itemsize * records.itemsize)
        left = memoryview(records.tobytes())
        while left:  # a disk that fills takes less than it is given, and fails only then
            left = left[out.write(left) :]


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise OutOfRoom(
            f"The simulator's answers could not be written to {folder}: "
            f"{problem.strerror or problem}. Free some space, or give another folder; what was "
            "written before is kept."
        ) from None
