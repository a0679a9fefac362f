"""A table whose columns the user names: a DataFrame, a CSV or a Parquet file."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recgym.build import Tables, build_log
from recgym.engine import Engine, connect
from recgym.errors import BadRawData, InvalidArgument
from recgym.home import writing
from recgym.kinds import Kind, Number, Text, Time
from recgym.log import InteractionLog
from recgym.protocols import Protocol, protocol_named
from recgym.reading import need_columns, read_typed

if TYPE_CHECKING:
    import ibis.expr.types as ir

TimeUnit = Literal["auto", "s", "ms", "us", "iso"]
_SHOP = ("skip", "click", "cart", "purchase")
_MOST_BEHAVIOURS = 255  # they are stored in a byte, and one value pads histories


@dataclass(frozen=True)
class Columns:
    """Which column holds what."""

    user: str = "user"  # the column of the user, or of the visit
    item: str = "item"  # the column of the item
    time: str | None = None  # the column of the time
    time_unit: TimeUnit = "auto"  # of numbers; auto tells s, ms and us apart by their size
    order: str | None = None  # instead of a time: the column of an order within the user
    behaviour: str | None = None  # the column of a word such as skip, click, cart, purchase
    rating: str | None = None  # instead of a behaviour: the column of a rating
    positive_from: float = 4.0  # the rating from which an event is positive
    reward: str | None = None  # the column of a reward, for --rewards value
    propensity: str | None = None  # the column of the logging policy's probability of the item
    visits: bool = False  # a user id stands for one visit that the source has cut
    title: str | None = None  # of items: the column of the title
    topics: str | None = None  # of items: the column of topics, separated by |
    texts: tuple[str, ...] = ()  # of items: further columns of text

    def kinds(self, table: "ir.Table | None" = None) -> dict[str, Kind]:
        """What each named column must hold, given the types where the table has types."""
        if bool(self.time) == bool(self.order):
            raise InvalidArgument(
                "Name one column that puts events in order: --time, or --order for an order "
                "within the user."
            )
        if self.behaviour and self.rating:
            raise InvalidArgument("Name --behaviour or --rating, not both.")
        kinds: dict[str, Kind] = {
            self.user: _id_kind(table, self.user),
            self.item: _id_kind(table, self.item),
        }
        if self.order:
            kinds[self.order] = Number(whole=True)
        if self.behaviour:
            kinds[self.behaviour] = Text()
        if self.rating:
            kinds[self.rating] = Number(-1e6, 1e6)
        if self.reward:
            kinds[self.reward] = Number(-1e6, 1e6)
        if self.propensity:
            kinds[self.propensity] = Number(1e-9, 1)
        return kinds

    def time_kind(self, first: Any) -> Time:
        """What the time column must hold, judged by its first value where the unit is not said."""
        if self.time_unit != "auto":
            return Time(self.time_unit, since=1970)
        try:
            digits = len(str(abs(int(first))))
        except (TypeError, ValueError):
            return Time("iso")
        return Time("s" if digits <= 10 else "ms" if digits <= 13 else "us")

    def item_kinds(self, table: "ir.Table | None" = None) -> dict[str, Kind]:
        """What each named column of the item table must hold."""
        texts = [name for name in (self.title, self.topics, *self.texts) if name]
        return {self.item: _id_kind(table, self.item)} | {
            name: Text(optional=True) for name in texts
        }

    def named(self, engine: Engine, events: "ir.Table", items: "ir.Table | None") -> Tables:
        """The checked columns under the names that the build knows."""
        names = {"user": self.user, "item": self.item}
        names |= {"order": self.order} if self.order else {"time": str(self.time)}
        names |= {"value": self.reward} if self.reward else {}
        names |= {"propensity": self.propensity} if self.propensity else {}
        column = self.behaviour or self.rating
        if column:
            code, behaviours = _codes(engine, events, column)
            positive = self._positive(behaviours)
        else:
            import ibis

            code, behaviours, positive = ibis.literal(0), ("click",), ("click",)
        chosen = {new: events[old] for new, old in names.items()}
        extra = {"row": events["row"]} if "row" in events.columns else {}
        described = None
        if items is not None:
            renamed = {"item": self.item} | {
                new: old for new, old in (("title", self.title), ("topics", self.topics)) if old
            }
            described = items.select(
                **{new: items[old] for new, old in renamed.items()},
                **{name: items[name] for name in self.texts},
            )
        shop = column is None or set(behaviours) <= set(_SHOP)
        return Tables(
            events=events.select(behaviour=code, **chosen, **extra),
            behaviours=behaviours,
            positive=positive,
            items=described,
            user="visit" if self.visits else "person",
            rewards=(
                "value"
                if self.reward
                else "binary"
                if self.rating
                else "click0.2-purchase1"
                if shop and column
                else "one"
            ),
        )

    def _positive(self, behaviours: Sequence[str]) -> tuple[str, ...]:
        if self.rating:
            return tuple(name for name in behaviours if float(name) >= self.positive_from)
        return tuple(name for name in behaviours if name != "skip")


def log_from_frame(
    frame: Any,
    *,
    user: str,
    item: str,
    time: str | None = None,
    order: str | None = None,
    behaviour: str | None = None,
    rating: str | None = None,
    reward: str | None = None,
    propensity: str | None = None,
    visits: bool = False,
    items: Any = None,
    title: str | None = None,
    topics: str | None = None,
    texts: Sequence[str] = (),
    protocol: str | Protocol | None = None,
    name: str | None = None,
    replace: bool = False,
) -> InteractionLog:
    """A log of a pandas, polars or Arrow table, whose columns you name.

    Without a `name` the log lives in a temporary folder, as long as the returned object;
    with one it is kept, for `recgym.load_log(name)`. `items` is a table that describes the items.
    """
    columns = Columns(
        user=user, item=item, time=time, order=order, behaviour=behaviour, rating=rating,
        reward=reward, propensity=propensity, visits=visits, title=title, topics=topics,
        texts=tuple(texts),
    )  # fmt: skip
    if protocol is None:
        protocol = "temporal" if time else "leave-last-out"
    if isinstance(protocol, str):
        protocol = protocol_named(protocol)
    with connect() as engine:
        tables = typed_tables(columns, engine, _loaded(engine, frame), _loaded(engine, items))
        if name:
            with writing(name, replace=replace) as path:
                return build_log(tables, protocol, engine, path, source={"name": "frame"})
        folder = tempfile.mkdtemp(prefix="recgym-")
        try:
            log = build_log(
                tables, protocol, engine, Path(folder) / "frame", source={"name": "frame"}
            )
        except BaseException:
            shutil.rmtree(folder)
            raise
    weakref.finalize(log, shutil.rmtree, folder, ignore_errors=True)
    return log


def typed_tables(
    columns: Columns,
    engine: Engine,
    events: "ir.Table",
    items: "ir.Table | None",
    origin: str = "The table",
) -> Tables:
    """Tables from columns that have types already: frames and Parquet files."""
    kinds = columns.kinds(events)
    if columns.time:
        need_columns(events, [columns.time], origin)
        moments = events[columns.time]
        if moments.type().is_temporal():
            events = events.mutate(**{columns.time: engine.micros(moments.cast("timestamp"))})
            kinds[columns.time] = Time("us", since=1970)
        else:
            first = engine.fetch(events.select(columns.time).limit(1))[columns.time].to_pylist()
            kinds[columns.time] = columns.time_kind(first[0] if first else None)
    checked = read_typed(engine, events, kinds, origin)
    if items is not None:
        items = read_typed(engine, items, columns.item_kinds(items), f"{origin} of items")
    return columns.named(engine, checked, items)


def _loaded(engine: Engine, frame: Any) -> "ir.Table | None":
    import pyarrow as pa

    if frame is None:
        return None
    try:
        table = pa.table(frame)
    except (TypeError, ValueError, pa.ArrowException) as problem:
        raise InvalidArgument(
            f"A {type(frame).__name__} is not a table ({str(problem).splitlines()[0]}). Give a "
            "pandas, polars or Arrow table, or a dict of columns."
        ) from None
    if not table.num_rows:
        raise InvalidArgument("The table has no rows: give one with a row for each event, or item.")
    return engine.from_arrow(table)


def _id_kind(table: "ir.Table | None", name: str) -> Kind:
    if table is None or name not in table.columns or table[name].type().is_string():
        return Text()
    if table[name].type().is_integer():
        return Number(-(2**62), 2**62, whole=True)
    raise BadRawData(
        f"Column '{name}' has type {table[name].type()}, and ids are whole numbers or text. "
        "Convert it first; missing ids often turn whole numbers into floats."
    )


def _codes(engine: Engine, events: "ir.Table", column: str) -> "tuple[ir.Column, tuple[str, ...]]":
    """A column of words or ratings as codes, and what the codes mean."""
    import ibis

    few = events.select(column).distinct().limit(_MOST_BEHAVIOURS + 1)
    values = sorted(engine.fetch(few)[column].to_pylist())
    if len(values) > _MOST_BEHAVIOURS:
        raise BadRawData(
            f"Column '{column}' has more than {_MOST_BEHAVIOURS} different values, and each is a "
            "behaviour of its own. Round them first, or name the column with --reward."
        )
    if values and isinstance(values[0], str):
        known = [word for word in _SHOP if word in values]
        values = known + [word for word in values if word not in known]
    code = ibis.cases(*((events[column] == value, k) for k, value in enumerate(values)), else_=0)
    return code, tuple(str(value) for value in values)
