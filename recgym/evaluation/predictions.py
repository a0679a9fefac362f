"""What an agent answered, as tables that anyone can compute its metrics from again."""

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recgym.errors import BadPredictions, printable
from recgym.evaluation.ranking import Ranked
from recgym.evaluation.shopping import LONGEST
from recgym.log import arrow_of, numbers_of

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = {  # the columns of each table, and their types in Arrow's words
    "ranking": {
        "greater": "int32",
        "equal": "int32",
        "items": r"fixed_size_list<\w+: int32>\[\d+\]",
        "scores": r"fixed_size_list<\w+: float>\[\d+\]",
    },
    "actions": {"items": r"large_list<\w+: int32>"},
    "agreement": {"probability": "double"},
    "said": {"texts": r"large_list<\w+: large_string>"},
}
TABLES = tuple(_KINDS)
_LARGEST = 2**31  # bytes that a table may have
_NUMBER, _TEXT = 8, 64  # bytes that a value takes; those that a text takes beside its characters
_PLAIN = {"PLAIN", "RLE"}  # how texts are written: not unpacked, and depths


@dataclass(frozen=True)
class Predictions:
    """What one agent with one seed answered; tables that a benchmark does not ask for are None."""

    ranking: Ranked | None = None  # the test targets, in their order
    actions: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None  # steps of each user; items
    agreement: NDArray[np.float64] | None = None  # the probability of each logged test action
    said: tuple[NDArray[np.int64], NDArray[Any]] | None = None  # steps for each goal; texts

    def write(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Write each table as a Parquet file; returns their sizes and hashes."""
        folder.mkdir(parents=True, exist_ok=True)
        return {name: _written(table, folder / f"{name}.parquet")
                for name, table in self._tables().items()}  # fmt: skip

    @classmethod
    def read(cls, folder: Path, stated: Mapping[str, Mapping[str, Any]]) -> "Predictions":
        """Read the tables that a report states, whose hashes must be what it states."""
        found = {name: _read(folder / f"{name}.parquet", stated[name]) for name in stated}
        ranking = found.get("ranking")
        actions = found.get("actions")
        agreement = found.get("agreement")
        said = found.get("said")
        return cls(
            None if ranking is None else _ranked(ranking),
            None if actions is None else (actions["steps"], actions["items"]),
            None if agreement is None else agreement["probability"],
            None if said is None else (said["steps"], said["texts"]),
        )

    def _tables(self) -> dict[str, "pa.Table"]:
        import pyarrow as pa

        tables = {}
        if self.ranking is not None:
            ranked, top = self.ranking, self.ranking.items.shape[1]
            columns = {"greater": arrow_of(ranked.greater), "equal": arrow_of(ranked.equal)}
            for name, values in (("items", ranked.items), ("scores", ranked.scores)):
                flat = arrow_of(np.ascontiguousarray(values).ravel())
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, top)
            tables["ranking"] = pa.table(columns)
        if self.actions is not None:
            steps, items = self.actions
            tables["actions"] = pa.table({"items": _lists(steps, arrow_of(items))})
        if self.agreement is not None:
            tables["agreement"] = pa.table({"probability": arrow_of(self.agreement)})
        if self.said is not None:
            steps, texts = self.said
            tables["said"] = pa.table({"texts": _lists(steps, pa.array(texts, pa.large_string()))})
        return tables


def _lists(lengths: NDArray[np.int64], values: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(arrow_of(offsets), values)


def _written(table: "pa.Table", file: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    packed = file.stem != "said"  # texts are as large as they look
    pq.write_table(table, part, compression="zstd", use_dictionary=packed)
    os.replace(part, file)
    return {"sha256": _sha256(file), "bytes": file.stat().st_size}


def _read(file: Path, stated: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The columns of a table; what a stranger wrote is measured before it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.is_symlink() or not file.is_file():
        raise BadPredictions(
            f"There is no file {file}: give the folder that holds the predictions of the "
            "submission, as `recgym evaluate` wrote them."
        )
    size = file.stat().st_size
    if size != stated["bytes"] or size > _LARGEST or _sha256(file) != stated["sha256"]:
        raise BadPredictions(
            f"{file} is not what was submitted: it has {size:,} bytes, and {stated['bytes']:,} "
            f"bytes with the hash {printable(str(stated['sha256']))[:12]}… are stated. Give the "
            "file that was hashed, or evaluate again."
        )
    try:
        with pq.ParquetFile(file, memory_map=True) as parquet:
            found = parquet.schema_arrow
            raw = sum(  # what it unpacks to, whatever its size on disk
                _unpacked(group.column(number))
                for group in map(parquet.metadata.row_group, range(parquet.num_row_groups))
                for number in range(group.num_columns)
            )
            kinds = {field.name: str(field.type) for field in found}
            if not _belongs(file.stem, kinds) or raw > _LARGEST:
                raise pa.ArrowInvalid(f"columns {kinds}, {raw:,} bytes")
            table = parquet.read().combine_chunks()
        table.validate(full=True)
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        if any(column.null_count for column in columns.values()):
            raise pa.ArrowInvalid("values are missing")
        return {key: values for name, column in columns.items()
                for key, values in _numbers(name, column).items()}  # fmt: skip
    except (pa.ArrowException, OSError, ValueError, MemoryError) as problem:
        raise BadPredictions(
            f"{file} cannot be read ({printable(str(problem))}). Evaluate again."
        ) from None


def _unpacked(column: Any) -> int:
    """The bytes of a column in memory; too many where its texts are packed, as none says."""
    if column.physical_type != "BYTE_ARRAY":
        return _NUMBER * int(column.num_values)
    if column.has_dictionary_page or not set(column.encodings) <= _PLAIN:
        return _LARGEST + 1
    return int(column.total_uncompressed_size) + _TEXT * int(column.num_values)


def _belongs(table: str, kinds: dict[str, str]) -> bool:
    """Are these the columns of the table?"""
    return kinds.keys() == _KINDS[table].keys() and all(
        re.fullmatch(kind, kinds[name]) for name, kind in _KINDS[table].items()
    )


def _numbers(name: str, column: "pa.Array") -> dict[str, NDArray[Any]]:
    import pyarrow as pa

    if pa.types.is_large_list(column.type):
        return {"steps": np.diff(numbers_of(column.offsets)), name: _flat(column.flatten())}
    if pa.types.is_fixed_size_list(column.type):
        return {name: numbers_of(column.flatten()).reshape(-1, column.type.list_size)}
    return {name: numbers_of(column)}


def _flat(values: "pa.Array") -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.null_count:
        raise pa.ArrowInvalid("values are missing")
    if not pa.types.is_large_string(values.type):
        return numbers_of(values)
    longest = pc.max(pc.utf8_length(values)).as_py() or 0
    if longest > LONGEST:
        raise pa.ArrowInvalid(f"a text has {longest:,} characters, and {LONGEST:,} are the most")
    return np.array(values.to_pylist(), object)


def _ranked(columns: dict[str, NDArray[Any]]) -> Ranked:
    return Ranked(columns["greater"], columns["equal"], columns["items"], columns["scores"])


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
