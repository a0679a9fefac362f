"""Text, JSON and Parquet as typed tables; the first line that breaks a promise is named."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recgym.engine import Engine, EngineError
from recgym.errors import BadRawData, printable
from recgym.kinds import Kind

if TYPE_CHECKING:
    import ibis.expr.types as ir


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
                f"{file} line 1 has {len(fields)} fields, '{printable(first)}', and {len(names)} "
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
    need_columns(table, columns, origin)
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


def need_columns(table: "ir.Table", names: Iterable[str], origin: str) -> None:
    """Refuse a table that lacks one of these columns."""
    for name in names:
        if name not in table.columns:
            raise BadRawData(
                f"{origin} has no column '{name}'; it has {', '.join(table.columns)}. Name the "
                "columns that hold the user, the item and the time."
            )


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
            shown = f"'{printable(self.delimiter.join(fields))}'"
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
                        line, f"column '{name}' says '{printable(text)}', which {complaint}"
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
                        what = f"field '{name}' says '{printable(shown)}', which {complaint}"
                        break
            except (ValueError, AttributeError):
                what = f"is not a JSON object, '{printable(line.strip())}'"
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
                f"'{printable(delimiter.join(fields))}'. Expected: {', '.join(columns)}.{hint}"
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
