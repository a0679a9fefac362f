"""RetailRocket: what visitors of a shop viewed, put into the cart and bought."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import ibis

from recgym.build import Tables
from recgym.kinds import Kind, Number, Text, Time
from recgym.raw import RawFiles
from recgym.reading import read_text

if TYPE_CHECKING:
    from recgym.engine import Engine

ID = Number(0, whole=True)
COLUMNS: dict[str, Kind] = {
    "timestamp": Time("ms", since=2015),
    "visitorid": ID,
    "event": Text(("view", "addtocart", "transaction")),
    "itemid": ID,
    "transactionid": Text(optional=True),
}


@dataclass(frozen=True)
class Source:
    """Views, carts and purchases of a shop's visitors over months."""

    needs: ClassVar[str] = "archive.zip from Kaggle, or a folder with events.csv"

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """A row with a transaction id is a purchase."""
        events = read_text(engine, raw.need("events.csv"), COLUMNS)
        code = ibis.cases(
            (events.transactionid != "", 2),
            (events.event == "transaction", 2),
            (events.event == "addtocart", 1),
            else_=0,
        )
        names = {"user": "visitorid", "item": "itemid", "time": "timestamp"}
        behaviours = ("click", "cart", "purchase")
        return Tables(
            events.mutate(behaviour=code).drop("event", "transactionid").rename(names),
            behaviours,
            positive=behaviours,
        )
