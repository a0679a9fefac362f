"""Raw files as a user downloads them: a folder, a zip or one file, opened safely."""

import bz2
import errno
import gzip
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from recgym.errors import BadRawData, OutOfRoom, printable

MOST_BYTES = 200 << 30  # of one unpacked file
MOST_RATIO = 200  # unpacked to packed: real logs reach about 30, bombs 1,000
_FREE_RATIO = 100 << 20  # below this size no ratio is suspicious
_CHUNK = 1 << 20


@dataclass(frozen=True)
class RawFiles:
    """The files of a download: a folder, a zip, or one file; gz and bz2 are unpacked on demand."""

    path: Path
    scratch: Path
    folders: tuple[str, ...] = ()

    def within(self, *folders: str) -> "RawFiles":
        """Only what lies in these folders, where the download has such folders."""
        return replace(self, folders=folders)

    def find(self, *names: str) -> Path | None:
        """The first of these file names that is there, as a plain file."""
        for name in names:
            for member in self.members:
                if _plain_name(member).lower() == name.lower():
                    return self._unpacked(member)
        return None

    def need(self, *names: str) -> Path:
        """As `find`, but a missing file is an error that lists what is there."""
        if found := self.find(*names):
            return found
        there = [printable(PurePosixPath(member).name) for member in self.members[:8]]
        raise BadRawData(
            f"{self.path} has no {' or '.join(names)}; it has {', '.join(there) or 'nothing'}. "
            "Give the folder, zip or file as it was downloaded."
        )

    @property
    def members(self) -> list[str]:
        """Every file inside, nearest first."""
        if self.path.is_dir():
            files = (p.relative_to(self.path) for p in self.path.rglob("*") if p.is_file())
            found = [file.as_posix() for file in files]
        elif self._is_zip:
            with self._zip() as archive:
                found = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        else:
            found = [self.path.name]
        for folder in self.folders:
            found = [member for member in found if folder in member.split("/")[:-1]] or found
        return sorted(found, key=lambda member: (member.count("/"), member))

    @property
    def _is_zip(self) -> bool:
        return self.path.suffix.lower() == ".zip"

    @contextmanager
    def _zip(self) -> Iterator[zipfile.ZipFile]:
        with _intact(self.path), zipfile.ZipFile(self.path) as archive:
            for name, times in Counter(archive.namelist()).items():
                inside = PurePosixPath(name.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts or re.match("[A-Za-z]:", name):
                    raise BadRawData(
                        f"{self.path} is not safe to open: it holds '{printable(name)}', a path "
                        "that leaves the archive. Download it again from its origin."
                    )
                if times > 1:
                    raise BadRawData(
                        f"{self.path} is not safe to open: it holds '{printable(name)}' {times} "
                        "times. Download it again from its origin."
                    )
            yield archive

    def _unpacked(self, member: str) -> Path:
        if self._is_zip:
            with self._zip() as archive:
                entry = archive.getinfo(member)
                packed = min(entry.compress_size, self.path.stat().st_size)  # it may lie
                with archive.open(entry) as stream:
                    file = self._copy(stream, PurePosixPath(member).name, packed)
        else:
            file = self.path / member if self.path.is_dir() else self.path
        openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
        if opener := openers.get(file.suffix.lower()):
            with _intact(file), opener(file, "rb") as stream:
                return self._copy(stream, _plain_name(member), file.stat().st_size)
        return file

    def _copy(self, stream: IO[bytes], name: str, packed: int) -> Path:
        """Unpack to scratch, counting what really comes out."""
        file = self.scratch / name
        written = 0
        with _room(name), file.open("wb") as out:
            while chunk := stream.read(_CHUNK):
                written += len(chunk)
                if written > MOST_BYTES or written > max(packed * MOST_RATIO, _FREE_RATIO):
                    raise BadRawData(
                        f"{self.path} unpacks {name} to more than {written:,} bytes from "
                        f"{packed:,}: that looks like a decompression bomb. Unpack it yourself and "
                        "give the folder if you trust it."
                    )
                out.write(chunk)
        return file


def open_raw(path: Path, scratch: Path) -> RawFiles:
    """What the user downloaded; `scratch` takes what must be unpacked."""
    path = path.expanduser()
    if not path.exists():
        raise BadRawData(f"There is no file or folder {path}. Give --raw what you downloaded.")
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar")):
        raise BadRawData(
            f"{path} is an archive that is not opened here: unpack it, give the folder."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise BadRawData(f"{path} is empty. Download it again.")
    return RawFiles(path, scratch)


def _plain_name(member: str) -> str:
    return re.sub(r"\.(gz|bz2)$", "", PurePosixPath(member).name, flags=re.IGNORECASE)


@contextmanager
def _intact(file: Path) -> Iterator[None]:
    """Say of which archive what Python's readers raise."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as problem:
        raise BadRawData(f"{file} cannot be unpacked ({printable(str(problem))}).") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in (None, errno.EINVAL):
            raise
        raise BadRawData(
            f"{file} is cut or damaged ({printable(str(problem))}). Download it again."
        ) from None


@contextmanager
def _room(name: str) -> Iterator[None]:
    """Say what a full disk means while a file is unpacked."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OutOfRoom(
            f"There is no room to unpack {name} ({problem.strerror}). Free some space, or point "
            "RECGYM_HOME at another disk; nothing was written."
        ) from None
