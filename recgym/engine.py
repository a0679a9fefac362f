"""The engine under the builders: Ibis on DuckDB, or on Spark where a log outgrows a machine."""

import os
import re
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from recgym.errors import InvalidArgument, MissingExtra, OutOfRoom, RecGymError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

EngineName = Literal["duckdb", "spark"]
Progress = Callable[[str, float | None], None]  # a stage, and its share done where it is known
_BATCH = 1 << 20  # rows handed over at once


class EngineError(RecGymError):
    """Raised when the engine refuses a file or an expression; callers turn it into a sentence."""


class Engine(Protocol):
    """What differs between backends: reading files, keeping results, handing rows over."""

    name: EngineName
    scratch: Path

    def read_csv(
        self,
        file: Path,
        columns: Mapping[str, str],
        *,
        delimiter: str,
        header: bool,
        newline: str,
        quote: str,
    ) -> "ir.Table":
        """A text file as a table of the given columns and types."""

    def read_json(self, file: Path, columns: Mapping[str, str]) -> "ir.Table":
        """A file of one JSON object per line; `strings` become lists of texts."""

    def read_parquet(self, file: Path) -> "ir.Table":
        """A Parquet file."""

    def from_arrow(self, table: "pa.Table") -> "ir.Table":
        """A table that is in memory."""

    def keep(self, table: "ir.Table", stage: str) -> "ir.Table":
        """The same rows, worked out once."""

    def numbered(self, table: "ir.Table") -> "ir.Table":
        """A text file that is kept, with the `row` of each of its rows."""

    def micros(self, moment: "ir.Column") -> "ir.Column":
        """A timestamp as microseconds since 1970 UTC."""

    def fetch(self, table: "ir.Table") -> "pa.Table":
        """All rows of a small result."""

    def batches(self, table: "ir.Table") -> "Iterator[pa.RecordBatch]":
        """All rows of a large result, in order."""


@contextmanager
def connect(
    name: EngineName = "duckdb",
    scratch: Path | None = None,
    memory: str = "3GB",
    progress: Progress = lambda stage, share: None,
) -> Iterator[Engine]:
    """An engine that spills into `scratch` (default: the system's temporary folder)."""
    if name not in _ENGINES:
        raise InvalidArgument(f"No engine is named {name!r}. Known: {', '.join(_ENGINES)}.")
    if not re.fullmatch(r"\d+(\.\d+)?[MGT]B", memory):
        raise InvalidArgument(f"'{memory}' is no amount of memory. Write 500MB or 8GB, say.")
    if scratch:
        scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix="recgym-") as folder,
        _ENGINES[name](Path(folder), memory, progress) as engine,
    ):
        yield engine


class _DuckDB:
    name: EngineName = "duckdb"

    def __init__(self, connection: Any, scratch: Path, progress: Progress) -> None:
        self._connection, self.scratch, self._progress = connection, scratch, progress

    def read_csv(
        self,
        file: Path,
        columns: Mapping[str, str],
        *,
        delimiter: str,
        header: bool,
        newline: str,
        quote: str,
    ) -> "ir.Table":
        types = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR"}
        with _sentences():
            return self._connection.read_csv(
                _literal(file),
                columns={column: types[kind] for column, kind in columns.items()},
                auto_detect=False,
                header=header,
                delim=delimiter,
                quote=quote,
                escape=quote,
                new_line=newline.encode("unicode_escape").decode(),
            )

    def read_json(self, file: Path, columns: Mapping[str, str]) -> "ir.Table":
        types = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR", "strings": "JSON"}
        with _sentences():
            table = self._connection.read_json(
                _literal(file),
                columns={column: types[kind] for column, kind in columns.items()},
                format="newline_delimited",
                maximum_object_size=1 << 26,
            )
        lists = [column for column, kind in columns.items() if kind == "strings"]
        return table.mutate(**{column: _texts(table[column]) for column in lists})

    def read_parquet(self, file: Path) -> "ir.Table":
        with _sentences():
            return self._connection.read_parquet(_literal(file))

    def from_arrow(self, table: "pa.Table") -> "ir.Table":
        with _sentences():
            return self._connection.create_table(_fresh_name(), table, temp=True)

    def keep(self, table: "ir.Table", stage: str) -> "ir.Table":
        with self._watching(stage), _sentences():
            return self._connection.create_table(_fresh_name(), table, temp=True)

    def numbered(self, table: "ir.Table") -> "ir.Table":
        return table.mutate(row=table.rowid())  # tables keep the order in which they are written

    def micros(self, moment: "ir.Column") -> "ir.Column":
        import ibis

        @ibis.udf.scalar.builtin(signature=(("timestamp",), "int64"))
        def epoch_us(moment):  # type: ignore[no-untyped-def]
            """Microseconds since 1970."""

        return epoch_us(moment)

    def fetch(self, table: "ir.Table") -> "pa.Table":
        with _sentences():
            return self._relation(table).to_arrow_table()

    def batches(self, table: "ir.Table") -> "Iterator[pa.RecordBatch]":
        with _sentences():
            with self._watching("ordering"):
                reader = self._relation(table).to_arrow_reader(_BATCH)
            yield from reader

    def _relation(self, table: "ir.Table") -> Any:
        """The query itself: Ibis' own ways to its rows import pandas."""
        return self._connection.con.sql(self._connection.compile(table))

    @contextmanager
    def _watching(self, stage: str) -> Iterator[None]:
        """Report the share done of a running query, from a thread beside it."""
        finished = threading.Event()

        def watch() -> None:
            while not finished.wait(0.5):
                share = self._connection.con.query_progress() / 100
                self._progress(stage, share if share > 0 else None)

        self._progress(stage, None)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()


def _texts(column: "ir.Column") -> "ir.ArrayColumn":
    """The texts of a JSON value: of a list, of lists in a list, or the value itself."""
    import ibis

    @ibis.udf.scalar.builtin(signature=(("json", "string"), "string"))
    def json_type(value, path):  # type: ignore[no-untyped-def]
        """Name the type at a path."""

    @ibis.udf.scalar.builtin(signature=(("json", "string"), "array<string>"))
    def json_extract_string(value, path):  # type: ignore[no-untyped-def]
        """List the texts at a path with a star."""

    alone = ibis.array([column.unwrap_as("string")])
    return ibis.cases(
        (column.isnull(), None),
        (json_type(column, "$") != "ARRAY", alone),
        (json_type(column, "$[0]") == "ARRAY", json_extract_string(column, "$[*][*]")),
        else_=json_extract_string(column, "$[*]"),
    )


@contextmanager
def _duckdb(scratch: Path, memory: str, progress: Progress) -> Iterator[_DuckDB]:
    import ibis

    with _sentences():
        connection = ibis.duckdb.connect(
            memory_limit=memory,
            temp_directory=str(scratch / "spill"),
            autoinstall_known_extensions=False,
        )
        # It is asked how far it is, and must not print that itself.
        connection.raw_sql("SET enable_progress_bar = true")
        connection.raw_sql("SET enable_progress_bar_print = false")
    try:
        yield _DuckDB(connection, scratch, progress)
    finally:
        connection.disconnect()


class _Spark:
    name: EngineName = "spark"

    def __init__(self, connection: Any, scratch: Path, progress: Progress) -> None:
        self._connection, self.scratch, self._progress = connection, scratch, progress
        self._session = connection._session

    def _schema(self, columns: Mapping[str, str]) -> str:
        types = {"int64": "bigint", "float64": "double", "string": "string", "strings": "string"}
        return ", ".join(f"`{column}` {types[kind]}" for column, kind in columns.items())

    def _view(self, frame: Any) -> "ir.Table":
        name = _fresh_name()
        frame.createOrReplaceTempView(name)
        return self._connection.table(name)

    def read_csv(
        self,
        file: Path,
        columns: Mapping[str, str],
        *,
        delimiter: str,
        header: bool,
        newline: str,
        quote: str,
    ) -> "ir.Table":
        with _sentences():
            frame = self._session.read.csv(
                str(file),
                schema=self._schema(columns),
                header=header,
                sep=delimiter,
                lineSep=newline if newline != "\r\n" else None,
                quote=quote,
                escape=quote,
                multiLine=False,
                enforceSchema=True,
                mode="FAILFAST",
            )
            return self._view(frame)

    def read_json(self, file: Path, columns: Mapping[str, str]) -> "ir.Table":
        from pyspark.sql.functions import array, coalesce, flatten, from_json

        with _sentences():
            schema = self._schema(columns)
            frame = self._session.read.json(str(file), schema=schema, mode="FAILFAST")
            for column in (column for column, kind in columns.items() if kind == "strings"):
                lists = flatten(from_json(column, "array<array<string>>"))
                texts = coalesce(lists, from_json(column, "array<string>"), array(column))
                frame = frame.withColumn(column, texts)
            return self._view(frame)

    def read_parquet(self, file: Path) -> "ir.Table":
        with _sentences():
            return self._connection.read_parquet(str(file))

    def from_arrow(self, table: "pa.Table") -> "ir.Table":
        import pyarrow.parquet as pq

        file = self.scratch / f"{_fresh_name()}.parquet"
        pq.write_table(table, file)
        return self.read_parquet(file)

    def keep(self, table: "ir.Table", stage: str) -> "ir.Table":
        self._progress(stage, None)
        with _sentences():
            frame = self._session.sql(self._connection.compile(table)).cache()
            frame.count()  # Spark keeps rows at their first use
            return self._view(frame)

    def numbered(self, table: "ir.Table") -> "ir.Table":
        from pyspark.sql.functions import monotonically_increasing_id

        # Spark reads the blocks of one file in order, so these rise along the file.
        frame = self._session.sql(self._connection.compile(table))
        return self._view(frame.withColumn("row", monotonically_increasing_id()))

    def micros(self, moment: "ir.Column") -> "ir.Column":
        import ibis

        @ibis.udf.scalar.builtin(signature=(("timestamp",), "int64"))
        def unix_micros(moment):  # type: ignore[no-untyped-def]
            """Microseconds since 1970."""

        return unix_micros(moment)

    def fetch(self, table: "ir.Table") -> "pa.Table":
        with _sentences():
            return self._connection.to_pyarrow(table)

    def batches(self, table: "ir.Table") -> "Iterator[pa.RecordBatch]":
        self._progress("ordering", None)
        with _sentences():
            yield from self._connection.to_pyarrow_batches(table, chunk_size=_BATCH)


@contextmanager
def _spark(scratch: Path, memory: str, progress: Progress) -> Iterator[_Spark]:
    try:
        import ibis
        from pyspark.sql import SparkSession
    except ImportError:
        raise MissingExtra("The Spark engine", "spark") from None

    interrupt = signal.getsignal(signal.SIGINT)
    try:
        session = (
            SparkSession.builder.appName("recgym")
            .config("spark.driver.memory", memory.lower().removesuffix("b"))
            .config("spark.local.dir", str(scratch))
            .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.ansi.enabled", "false")
            .config("spark.sql.shuffle.partitions", str(max(8, 4 * (os.cpu_count() or 2))))
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .getOrCreate()
        )
    except Exception as problem:
        raise EngineError(
            f"Spark did not start ({str(problem).splitlines()[0]}). It needs Java 17 or newer: "
            "install one, or set JAVA_HOME, or use the default engine."
        ) from None
    finally:
        signal.signal(signal.SIGINT, interrupt)  # PySpark replaces it; Ctrl-C must still stop us
    session.sparkContext.setLogLevel("OFF")
    try:
        yield _Spark(ibis.pyspark.connect(session), scratch, progress)
    finally:
        session.stop()


_ENGINES: dict[str, Callable[[Path, str, Progress], Any]] = {"duckdb": _duckdb, "spark": _spark}


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn an engine's errors into ours."""
    try:
        yield
    except (RecGymError, OSError, GeneratorExit):
        raise
    except Exception as problem:
        if "interrupted" in str(problem).lower():  # DuckDB's answer to Ctrl-C
            raise KeyboardInterrupt from None
        kind, lines = type(problem).__name__, str(problem).strip().splitlines() or ["no message"]
        text = " ".join(lines[:3])
        if "No space left" in str(problem) or "not enough disk" in str(problem).lower():
            raise OutOfRoom(
                f"The disk is full ({lines[0]}). Free some space, or point TMPDIR and RECGYM_HOME "
                "at another disk; nothing was written."
            ) from None
        if kind == "OutOfMemoryException":
            raise OutOfRoom(
                f"The memory limit of the engine is too low for this log ({lines[0]}). Raise it "
                "with --memory; nothing was written."
            ) from None
        raise EngineError(f"The engine stopped with {kind}: {text}") from problem


def _fresh_name() -> str:
    return f"recgym_{uuid.uuid4().hex}"


def _literal(file: Path) -> str:
    """A path that is not read as a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in os.fspath(file))
