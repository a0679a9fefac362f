"""Amazon reviews of 2018 (Ni et al.): ratings of one product category, with what is sold."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from recgym.build import Tables
from recgym.errors import BadRawData
from recgym.kinds import Kind, Number, Text, Texts, Time
from recgym.raw import RawFiles
from recgym.reading import read_json

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from recgym.engine import Engine

STARS = ("1.0", "2.0", "3.0", "4.0", "5.0")
REVIEW: dict[str, Kind] = {
    "reviewerID": Text(),
    "asin": Text(),
    "overall": Number(1, 5, whole=True),
    "unixReviewTime": Time("s", since=1996),
}
PRODUCT: dict[str, Kind] = {
    "asin": Text(),
    "title": Text(optional=True),
    "category": Texts(" > "),
    "categories": Texts(" > "),  # the name in the publisher's description; the files say category
    "brand": Text(optional=True),
    "description": Texts(),
}


@dataclass(frozen=True)
class Source:
    """Ratings of products from one star to five, with title, category, brand and description."""

    needs: ClassVar[str] = "a folder with <Category>_5.json.gz and meta_<Category>.json.gz"
    category: str = ""  # such as Industrial_and_Scientific, where the folder holds several
    every: bool = False  # read <Category>.json, not its 5-core, where the folder holds both

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """One review is one event."""
        file = self._reviews(raw)
        reviews = read_json(engine, raw.need(file), REVIEW)
        meta = f"meta_{_category(file)}.json"
        notes: tuple[str, ...] = ()
        items = None
        if found := raw.find(meta):
            items = _described(read_json(engine, found, PRODUCT, stage="reading products"))
        else:
            notes = (f"No {meta} was there: the items have no text.",)
        names = {"user": "reviewerID", "item": "asin", "time": "unixReviewTime"}
        return Tables(
            events=reviews.mutate(behaviour=reviews.overall - 1).drop("overall").rename(names),
            behaviours=STARS,
            positive=("4.0", "5.0"),
            items=items,
            rewards="levels",
            notes=notes,
        )

    def _reviews(self, raw: RawFiles) -> str:
        """The name of the one file of reviews that is meant."""
        names = {PurePosixPath(member).name.removesuffix(".gz") for member in raw.members}
        found = sorted(
            name
            for name in names
            if name.endswith(".json")
            and not name.startswith("meta_")
            and self.category in ("", _category(name))
        )
        if len({_category(name) for name in found}) == 1:
            return found[0] if self.every else found[-1]
        wanted = f"{self.category or '<Category>'}_5.json.gz"
        if found:
            raise BadRawData(
                f"{raw.path} holds reviews of several categories: {', '.join(found)}. Name one "
                f"with --category {_category(found[0])}."
            )
        raise BadRawData(
            f"{raw.path} has no {wanted} and no {wanted.replace('_5', '')}; it has "
            f"{', '.join(sorted(names)[:8]) or 'nothing'}. Give the folder or file as downloaded."
        )


def _category(name: str) -> str:
    return name.removesuffix(".json").removesuffix("_5")


def _described(products: "ir.Table") -> "ir.Table":
    """One text per field; where a page's script was caught instead of a title, no title."""
    script = products.title.contains("getTime")
    return products.select(
        item="asin",
        title=script.ifelse("", products.title),
        category=products.category + products.categories,
        brand="brand",
        description="description",
    )
