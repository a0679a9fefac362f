"""Raw files as a user downloads them: opened safely, read into typed tables, refused by line."""

import bz2
import csv
import errno
import gzip
import json
import re
import shutil
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal

from recgym.engine import Engine, EngineError
from recgym.errors import BadRawData, OutOfRoom

if TYPE_CHECKING:
    import ibis.expr.types as ir

MOST_BYTES = 200 << 30  # of one unpacked file
MOST_RATIO = 200  # unpacked to packed: real logs reach about 30, bombs 1,000
_FREE_RATIO = 100 << 20  # below this size no ratio is suspicious
_CHUNK = 1 << 20
_EXACT = 2**53 - 1  # a float64 holds every whole number up to here


# ------------------------------------------------------------------------------- opening files


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
        there = [_shown(PurePosixPath(member).name) for member in self.members[:8]]
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
                        f"{self.path} is not safe to open: it holds '{_shown(name)}', a path that "
                        "leaves the archive. Download it again from its origin."
                    )
                if times > 1:
                    raise BadRawData(
                        f"{self.path} is not safe to open: it holds '{_shown(name)}' {times} "
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
        raise BadRawData(f"{file} cannot be unpacked ({_shown(str(problem))}).") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in (None, errno.EINVAL):
            raise
        raise BadRawData(
            f"{file} is cut or damaged ({_shown(str(problem))}). Download it again."
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


# ----------------------------------------------------------------------- what a column must hold


class Kind(ABC):
    """A promise about every value of a column."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """How the engine reads it: int64, float64 or string."""

    @abstractmethod
    def typed(self, column: "ir.Column", engine: Engine) -> "ir.Column":
        """The column as it goes on: null where it breaks the promise."""

    @abstractmethod
    def complaint(self, text: str) -> str | None:
        """What is wrong with one field, in words."""

    @property
    @abstractmethod
    def promise(self) -> str:
        """What the column must hold, in words."""


@dataclass(frozen=True)
class Text(Kind):
    """Text that is not empty, unless it is optional; `among` closes the set."""

    among: tuple[str, ...] = ()
    optional: bool = False

    @property
    def dtype(self) -> str:
        return "string"

    @property
    def promise(self) -> str:
        return f"one of {', '.join(self.among)}" if self.among else "text or ids"

    def typed(self, column: "ir.Column", engine: Engine) -> "ir.Column":
        text = column.cast("string")
        if self.among:
            return text.isin(self.among).ifelse(text, None)
        return text.fill_null("") if self.optional else text.nullif("")

    def complaint(self, text: str) -> str | None:
        if self.among and text not in self.among:
            return f"is not one of {', '.join(self.among)}"
        return None if text or self.optional else "is empty"


@dataclass(frozen=True)
class Texts(Kind):
    """In JSON: a list of texts, lists of them, one text or nothing; joined to one text."""

    joint: str = " "

    @property
    def dtype(self) -> str:
        return "strings"

    @property
    def promise(self) -> str:
        return "text or lists of text"

    def typed(self, column: "ir.Column", engine: Engine) -> "ir.Column":
        import ibis

        texts = column.filter(lambda text: text != "")
        return ibis.literal(self.joint).join(texts).fill_null("")

    def complaint(self, text: str) -> str | None:
        return None


@dataclass(frozen=True)
class Number(Kind):
    """A number between two bounds."""

    low: float = -_EXACT
    high: float = _EXACT
    whole: bool = False

    @property
    def dtype(self) -> str:
        # As an int64 an engine would round 1.5 to 2, so that is for the widest bounds only.
        return "int64" if self.whole and max(-self.low, self.high) > _EXACT else "float64"

    @property
    def promise(self) -> str:
        return f"{'whole ' if self.whole else ''}numbers from {self.low:g} to {self.high:g}"

    def typed(self, column: "ir.Column", engine: Engine) -> "ir.Column":
        if self.whole:
            return _whole(column, self.low, self.high)
        number = column.cast("float64")
        return number.between(self.low, self.high).ifelse(number, None)  # neither inf nor nan

    def complaint(self, text: str) -> str | None:
        value = _number(text)
        if value is None or (self.whole and not value.is_integer()):
            return f"is not a {'whole ' if self.whole else ''}number"
        if not self.low <= value <= self.high:
            return f"is not between {self.low:g} and {self.high:g}"
        return None


_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class Time(Kind):
    """A time, in whole seconds, milliseconds or microseconds since 1970 UTC, or as ISO text."""

    unit: Literal["s", "ms", "us", "iso"] = "s"
    since: int = 1990  # the year before which nothing can have been logged
    until: int = 2100

    @property
    def dtype(self) -> str:
        return "string" if self.unit == "iso" else "float64"

    @property
    def promise(self) -> str:
        return f"times between {self.since} and {self.until}, in {self.unit}"

    def typed(self, column: "ir.Column", engine: Engine) -> "ir.Column":
        if self.unit == "iso":
            return _whole(engine.micros(column.try_cast("timestamp('UTC')")), *self._bounds)
        unit = _UNITS[self.unit]
        low, high = self._bounds
        return _whole(column, low // unit, high // unit).cast("int64") * unit

    def complaint(self, text: str) -> str | None:
        if self.unit == "iso":
            try:
                moment = datetime.fromisoformat(text)
                seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
            except (ValueError, OverflowError):
                return "is not a time such as 2014-04-07T10:51:09.277Z"
        else:
            number = _number(text)
            if number is None or not number.is_integer():
                return "is not a whole number"
            seconds = number * _UNITS[self.unit] / 1_000_000
        low, high = (bound / 1_000_000 for bound in self._bounds)
        if not low <= seconds <= high:
            return f"is not a time between {self.since} and {self.until} in {self.unit}"
        return None

    @property
    def _bounds(self) -> tuple[int, int]:
        low, high = (
            int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
            for year in (self.since, self.until)
        )
        return low, high


def _whole(column: "ir.Column", low: float, high: float) -> "ir.Column":
    """A column as whole numbers, and null where it holds anything else."""
    fits = column.between(low, high)
    if column.type().is_floating():
        fits &= column == column.floor()
    narrow = low >= -(2**31) and high < 2**31  # what is kept is read and sorted more than once
    return fits.ifelse(column, None).cast("int32" if narrow else "int64")


def _number(text: str) -> float | None:
    try:
        return float(text) if text.isascii() else None
    except ValueError:
        return None


# -------------------------------------------------------------------------------- reading files


def read_text(
    engine: Engine,
    file: Path,
    columns: Mapping[str, Kind],
    *,
    delimiter: str = ",",
    header: bool = True,
    quote: str = '"',
    encoding: str = "utf-8",
    stage: str = "reading",
) -> "ir.Table":
    """A delimited text file as a table of the named columns, every value checked, plus its `row`.

    Without a header, `columns` names the fields in order, and names that begin with `_` are read
    over. The first line that breaks a promise is named in the error.
    """
    if encoding != "utf-8":
        file = _as_utf8(engine, file, encoding)
    first, newline = _first_line(file)
    if not first.strip():
        raise BadRawData(f"{file} begins with an empty line. Download it again.")
    fields = _split(first, delimiter, quote)
    if header:
        names = _header_names(file, fields, columns, delimiter)
    else:
        names = list(columns)
        if len(fields) != len(names):
            raise BadRawData(
                f"{file} line 1 has {len(fields)} fields, '{_shown(first)}', and {len(names)} "
                f"separated by {delimiter!r} belong there. Is it the right file?"
            )
    wanted = {name: kind for name, kind in columns.items() if not name.startswith("_")}
    kinds = {name: columns[name].dtype if name in wanted else "string" for name in names}
    scan = _Scan(file, names, wanted, delimiter, newline, quote, header)
    try:
        text = engine.read_csv(
            file, kinds, delimiter=delimiter, header=header, newline=newline, quote=quote
        )
        typed = text.select(
            **{name: kind.typed(text[name], engine) for name, kind in wanted.items()}
        )
        table = engine.numbered(engine.keep(typed, stage))
        _check(engine, table, wanted)
    except (EngineError, _Wrong) as problem:
        raise scan.first_complaint(problem) from None
    return table


def read_json(
    engine: Engine, file: Path, columns: Mapping[str, Kind], *, stage: str = "reading"
) -> "ir.Table":
    """A file of one JSON object per line: a table of the named fields, checked, and its `row`."""
    try:
        text = engine.read_json(file, {name: kind.dtype for name, kind in columns.items()})
        typed = text.select(
            **{name: kind.typed(text[name], engine) for name, kind in columns.items()}
        )
        table = engine.numbered(engine.keep(typed, stage))
        _check(engine, table, columns)
    except (EngineError, _Wrong) as problem:
        raise _first_json_complaint(file, columns, problem) from None
    return table


def read_typed(
    engine: Engine, table: "ir.Table", columns: Mapping[str, Kind], origin: str
) -> "ir.Table":
    """The named columns of a table that has types already, every value checked."""
    for name in columns:
        if name not in table.columns:
            raise BadRawData(
                f"{origin} has no column '{name}'; it has {', '.join(table.columns)}. Name the "
                "columns that hold the user, the item and the time."
            )
    try:
        typed = table.select(
            **{name: kind.typed(table[name], engine) for name, kind in columns.items()}
        )
        kept = engine.keep(typed, "reading")
        _check(engine, kept, columns)
    except _Wrong as problem:
        raise BadRawData(
            f"{origin}: column '{problem.column}' has {problem.count:,} values that are missing or "
            f"out of range; it must hold {columns[problem.column].promise}. Mend or drop them."
        ) from None
    except EngineError as problem:
        raise BadRawData(f"{origin} cannot be read. {problem}") from None
    return kept


class _Wrong(Exception):
    def __init__(self, column: str, count: int) -> None:
        self.column, self.count = column, count
        super().__init__(f"{count:,} values of column '{column}'")


def _check(engine: Engine, table: "ir.Table", columns: Mapping[str, Kind]) -> None:
    kept = {name: table[name].count() for name in columns}
    (counts,) = engine.fetch(table.aggregate(_rows=table.count(), **kept)).to_pylist()
    if not counts["_rows"]:
        raise EngineError("There are no rows")
    for name in columns:
        if broken := counts["_rows"] - counts[name]:
            raise _Wrong(name, broken)


@dataclass(frozen=True)
class _Scan:
    """The slow, exact reader that finds the line an engine stumbled over."""

    file: Path
    names: Sequence[str]
    columns: Mapping[str, Kind]
    delimiter: str
    newline: str
    quote: str
    header: bool

    def first_complaint(self, problem: Exception) -> BadRawData:
        places = {name: index for index, name in enumerate(self.names)}
        for line, fields in self._records():
            if isinstance(fields, str):
                return self._bad(line, fields)
            if not fields or (self.header and line == 1):
                continue  # engines read over empty lines
            shown = f"'{_shown(self.delimiter.join(fields))}'"
            if any("\udc80" <= letter <= "\udcff" for text in fields for letter in text):
                return self._bad(line, f"has bytes that are not UTF-8 text, {shown}")
            if len(fields) != len(self.names):
                return self._bad(
                    line, f"has {len(fields)} fields where {len(self.names)} belong, {shown}"
                )
            for name, kind in self.columns.items():
                text = fields[places[name]]
                if complaint := kind.complaint(text):
                    return self._bad(
                        line, f"column '{name}' says '{_shown(text)}', which {complaint}"
                    )
        with self.file.open(encoding="utf-8", errors="replace", newline="") as lines:
            for line, text in enumerate(lines, 1):
                if text[len(text.rstrip("\r\n")) :] not in (self.newline, ""):
                    return self._bad(line, f"does not end with {self.newline!r} as line 1 does")
        return BadRawData(f"{self.file} cannot be read: {problem}. Download it again.")

    def _bad(self, line: int, what: str) -> BadRawData:
        return BadRawData(
            f"{self.file} line {line:,}: {what}. Was the file cut or edited? Mend that line or "
            "download the file again."
        )

    def _records(self) -> Iterator[tuple[int, list[str] | str]]:
        with self.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            if len(self.delimiter) > 1:
                for line, text in enumerate(lines, 1):
                    yield line, text.rstrip("\r\n").split(self.delimiter)
                return
            reader = csv.reader(
                lines,
                delimiter=self.delimiter,
                quotechar=self.quote or None,
                quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
                strict=True,
            )
            line = 1
            try:
                for fields in reader:
                    yield line, fields
                    line = reader.line_num + 1
            except csv.Error as problem:
                yield line, f"is not well-formed ({problem})"


def _first_json_complaint(
    file: Path, columns: Mapping[str, Kind], problem: Exception
) -> BadRawData:
    with file.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            what = ""
            try:
                record = json.loads(line)
                for name, kind in columns.items():
                    text = record.get(name)
                    shown = "" if text is None else str(text)
                    if complaint := kind.complaint(shown):
                        what = f"field '{name}' says '{_shown(shown)}', which {complaint}"
                        break
            except (ValueError, AttributeError):
                what = f"is not a JSON object, '{_shown(line.strip())}'"
            if what:
                return BadRawData(
                    f"{file} line {number:,}: {what}. Was the file cut or edited? Mend that line "
                    "or download the file again."
                )
    return BadRawData(f"{file} cannot be read: {problem}. Download it again.")


def _header_names(
    file: Path, fields: list[str], columns: Mapping[str, Kind], delimiter: str
) -> list[str]:
    names = [field.strip() or f"_{index}" for index, field in enumerate(fields)]
    for name in columns:
        if name not in names:
            hint = "" if len(names) > 1 else f" Is the delimiter really {delimiter!r}?"
            raise BadRawData(
                f"{file} line 1 names no column '{name}'; it says "
                f"'{_shown(delimiter.join(fields))}'. Expected: {', '.join(columns)}.{hint}"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRawData(f"{file} line 1 names the column '{twice}' twice. Rename one of them.")
    return names


def _first_line(file: Path) -> tuple[str, str]:
    """The first line and the newline that ends it."""
    with file.open("rb") as lines:
        line = lines.readline(1 << 20)
    if not line:
        raise BadRawData(f"{file} is empty. Download it again.")
    text = line.decode("utf-8-sig", errors="replace")
    return text.rstrip("\r\n"), "\r\n" if text.endswith("\r\n") else "\n"


def _split(line: str, delimiter: str, quote: str) -> list[str]:
    if len(delimiter) > 1 or not quote:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, quotechar=quote))
    except csv.Error:  # it is no text file; the names it lacks will say so
        return line.split(delimiter)


def _as_utf8(engine: Engine, file: Path, encoding: str) -> Path:
    """The same text in UTF-8: old files are in Latin-1."""
    copy = engine.scratch / f"utf8-{file.name}"
    with (
        file.open(encoding=encoding, newline="") as lines,
        copy.open("w", encoding="utf-8", newline="") as out,
    ):
        shutil.copyfileobj(lines, out)
    return copy


def _shown(text: str) -> str:
    """What a file says, cut to one line that can be printed."""
    text = text if len(text) <= 60 else text[:57] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
