"""What a column must hold: the promises by which raw values are typed, checked and refused."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from recgym.engine import Engine

if TYPE_CHECKING:
    import ibis.expr.types as ir

_EXACT = 2**53 - 1  # a float64 holds every whole number up to here


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
