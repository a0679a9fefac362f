"""Yoochoose (RecSys Challenge 2015): clicks of visits, and their buys where the file is there."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from recgym.build import Tables
from recgym.kinds import Kind, Number, Text, Time
from recgym.raw import RawFiles
from recgym.reading import read_text

if TYPE_CHECKING:
    from recgym.engine import Engine

ID, WHEN = Number(0, whole=True), Time("iso", since=2014)


@dataclass(frozen=True)
class Source:
    """Clicks and purchases in an online shop, by visit."""

    needs: ClassVar[str] = "yoochoose-data.zip, or a folder with yoochoose-clicks.dat"

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """Clicks first; a buy of several pieces is one event."""
        columns: dict[str, Kind] = {"user": ID, "time": WHEN, "item": ID, "_category": Text()}
        clicks = raw.need("yoochoose-clicks.dat")
        events = read_text(engine, clicks, columns, header=False).mutate(behaviour=0)
        behaviours: tuple[str, ...] = ("click",)
        notes: tuple[str, ...] = (
            "Categories are not read: they say where an item was shown, not what it is.",
        )
        if file := raw.find("yoochoose-buys.dat"):
            columns = {"user": ID, "time": WHEN, "item": ID, "_price": Text(), "_pieces": Text()}
            buys = read_text(engine, file, columns, header=False, stage="reading buys")
            events = events.union(buys.mutate(behaviour=1))
            behaviours = ("click", "purchase")
        else:
            notes += ("No yoochoose-buys.dat was there: this log has clicks only.",)
        return Tables(events, behaviours, positive=behaviours, user="visit", notes=notes)
