"""Where logs live: names, locks, and one writer at a time."""

import fcntl
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recgym.errors import Busy, InvalidArgument, OutOfRoom, UnknownName
from recgym.log import HOMES, InteractionLog

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TRIES, _PAUSE = 10, 0.05  # seconds: one who only looks at a lock holds it for a moment


def home() -> Path:
    """`$RECGYM_HOME`, or recgym in the platform's cache folder."""
    if chosen := os.environ.get("RECGYM_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "recgym"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recgym"


def log_names() -> list[str]:
    """The logs that are there."""
    folder = home() / "logs"
    return sorted(p.parent.name for p in folder.glob("*/manifest.json") if p.parent.name[0] != ".")


def log_path(name: str) -> Path:
    """Where the log of that name is or will be."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"'{name}' cannot name a log: use up to 100 letters, digits, dots, dashes and "
            "underscores, such as movielens-small."
        )
    return home() / "logs" / name


def scratch_path(name: str) -> Path:
    """Where the build of a log may put what it needs on its way."""
    return home() / "scratch" / name


def load_log(name: str | os.PathLike[str], build: str = "recgym data build") -> InteractionLog:
    """The log of that name, or in that folder; `build` is the command that an error names."""
    if isinstance(name, str) and _NAME.fullmatch(name) and not Path(name).is_dir():
        if name not in log_names():
            raise UnknownName("log", name, log_names(), f"Build it with `{build}`.")
        return InteractionLog(log_path(name))
    return InteractionLog(name)


def remove_log(name: str) -> None:
    """Delete the log of that name."""
    if name not in log_names():
        raise UnknownName("log", name, log_names())
    with writing(name, replace=True) as path:
        gone = path.with_name(f".{name}.deleting.part")  # whole or gone, whenever this is killed
        path.rename(gone)
        shutil.rmtree(gone)


@contextmanager
def writing(name: str, *, replace: bool = False) -> Iterator[Path]:
    """The path of a log that no other process writes meanwhile."""
    path = log_path(name)
    with sole_writer(path, "log", path.with_name(f".{name}.lock")):
        shutil.rmtree(scratch_path(name), ignore_errors=True)
        if path.exists() and not replace:
            raise InvalidArgument(
                f"A log named '{name}' exists at {path}. Use another --name, or --replace to "
                "build it anew."
            )
        try:
            yield path
        finally:
            shutil.rmtree(scratch_path(name), ignore_errors=True)


@contextmanager
def sole_writer(path: Path, kind: str, lock: Path) -> Iterator[None]:
    """Keep other processes from writing a folder meanwhile: they ask for the same lock.

    It dies with its process, and what a killed one left behind is swept away here.
    """
    name = path.name
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            ours = held.enter_context(locked(lock))
        except OSError as problem:
            raise OutOfRoom(
                f"Nothing can be written to {path.parent} ({problem.strerror}). Point "
                f"{HOMES[kind]} at a folder that can be written to."
            ) from None
        if not ours:
            raise Busy(
                f"Another process is building or removing '{name}'. Wait for it, or use another "
                "--name."
            )
        mark = "?" * 8  # not a star: that would fit what belongs to a log named f"{name}.more"
        for left in path.parent.glob(f".{name}.{mark}.old"):
            if not path.exists():  # it was killed between the two renames of a replacement
                left.rename(path)
        for end in ("old", "part"):
            for left in path.parent.glob(f".{name}.{mark}.{end}"):
                shutil.rmtree(left, ignore_errors=True)
        yield


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)


@contextmanager
def whole_folder(folder: Path, what: str) -> Iterator[Path]:
    """A draft beside a folder that takes its place when the block succeeds, and else vanishes."""
    mark = uuid.uuid4().hex[:8]
    draft, old = (folder.with_name(f".{folder.name}.{mark}.{end}") for end in ("part", "old"))
    try:
        draft.mkdir(parents=True)
        yield draft
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
    except OSError as problem:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise OutOfRoom(
            f"{what} could not be written to {folder} ({problem.strerror or problem}): make room, "
            "or name another folder; nothing was changed."
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(file: Path) -> Iterator[bool]:
    """Hold a lock that dies with its process; False where another process holds it."""
    held = os.open(file, os.O_RDONLY if file.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _taken(held)
    finally:
        os.close(held)


def _taken(held: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_PAUSE)
    return False


def is_locked(file: Path) -> bool:
    """Does a process hold this lock?"""
    try:
        held = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(held)
    return False
