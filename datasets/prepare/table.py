"""Any CSV or Parquet file, whose columns the user names."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from recgym.build import Tables
from recgym.errors import BadRawData
from recgym.frame import Columns, typed_tables
from recgym.raw import RawFiles, open_raw
from recgym.reading import read_text

if TYPE_CHECKING:
    from recgym.engine import Engine


@dataclass(frozen=True)
class Source(Columns):
    """Your own events, in a CSV with a header or in Parquet."""

    needs: ClassVar[str] = "a .csv or .parquet file of events, also as .gz, .bz2 or .zip"
    delimiter: str = ","  # between the fields of a CSV
    items: Path | None = None  # a file of the same kind that describes the items

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """Ids of a CSV stay text; those of a Parquet file keep their type."""
        file = _only_file(raw)
        described = open_raw(self.items, engine.scratch) if self.items else None
        if file.suffix == ".parquet":
            items = engine.read_parquet(_only_file(described)) if described else None
            return typed_tables(self, engine, engine.read_parquet(file), items, str(file))
        kinds = self.kinds()
        if self.time:
            kinds[self.time] = self.time_kind(_first_value(file, self.time, self.delimiter))
        events = read_text(engine, file, kinds, delimiter=self.delimiter)
        items = None
        if described:
            items = read_text(
                engine,
                _only_file(described),
                self.item_kinds(),
                delimiter=self.delimiter,
                stage="reading items",
            )
        return self.named(engine, events, items)


def _only_file(raw: RawFiles) -> Path:
    if len(raw.members) != 1:
        raise BadRawData(
            f"{raw.path} holds {len(raw.members)} files, and a table is one. Give the file itself."
        )
    return raw.need(raw.members[0].split("/")[-1].removesuffix(".gz").removesuffix(".bz2"))


def _first_value(file: Path, column: str, delimiter: str) -> str | None:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        return next(csv.DictReader(lines, delimiter=delimiter), {}).get(column)
