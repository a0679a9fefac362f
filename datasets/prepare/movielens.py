"""MovieLens: 25M, 20M, latest-small (commas), 1M (two colons) and 100k (tabs)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from recgym.build import Tables
from recgym.kinds import Kind, Number, Text, Time
from recgym.raw import RawFiles
from recgym.reading import read_text

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from recgym.engine import Engine

STARS = tuple(f"{half / 2:.1f}" for half in range(1, 11))
ID = Number(0, 2**31 - 1, whole=True)
RATING, WHEN = Number(0.5, 5), Time("s", since=1995)
GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


@dataclass(frozen=True)
class Source:
    """Ratings of films from half a star to five, with titles and genres."""

    needs: ClassVar[str] = "ml-25m.zip, ml-1m.zip or the like, or its folder"

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """Whichever form is there."""
        forms = {"ratings.csv": _commas, "ratings.dat": _colons, "u.data": _tabs}
        ratings, items = forms[raw.need(*forms).name.lower()](raw, engine)
        level = (ratings.rating * 2).round().cast("int64") - 1
        return Tables(
            events=ratings.mutate(behaviour=level).drop("rating"),
            behaviours=STARS,
            positive=tuple(star for star in STARS if float(star) >= 4),
            items=items,
            rewards="levels",
        )


def _commas(raw: RawFiles, engine: "Engine") -> "tuple[ir.Table, ir.Table | None]":
    names = {"user": "userId", "item": "movieId", "time": "timestamp"}
    columns: dict[str, Kind] = {
        "userId": ID,
        "movieId": ID,
        "rating": RATING,
        "timestamp": WHEN,
    }
    ratings = read_text(engine, raw.need("ratings.csv"), columns).rename(names)
    if not (films := raw.find("movies.csv")):
        return ratings, None
    columns = {"movieId": ID, "title": Text(), "genres": Text()}
    items = read_text(engine, films, columns, stage="reading titles")
    return ratings, _described(items.rename(item="movieId", topics="genres"))


def _colons(raw: RawFiles, engine: "Engine") -> "tuple[ir.Table, ir.Table | None]":
    columns: dict[str, Kind] = {"user": ID, "item": ID, "rating": RATING, "time": WHEN}
    ratings = read_text(
        engine, raw.need("ratings.dat"), columns, delimiter="::", header=False, quote=""
    )
    if not (films := raw.find("movies.dat")):
        return ratings, None
    columns = {"item": ID, "title": Text(), "topics": Text()}
    items = read_text(
        engine, films, columns, delimiter="::", header=False, quote="", encoding="latin-1"
    )
    return ratings, _described(items)


def _tabs(raw: RawFiles, engine: "Engine") -> "tuple[ir.Table, ir.Table | None]":
    columns: dict[str, Kind] = {"user": ID, "item": ID, "rating": RATING, "time": WHEN}
    ratings = read_text(engine, raw.need("u.data"), columns, delimiter="\t", header=False, quote="")
    if not (films := raw.find("u.item")):
        return ratings, None
    columns = {"item": ID, "title": Text(), "_date": Text(), "_video": Text(), "_url": Text()}
    columns |= {genre: Number(0, 1, whole=True) for genre in GENRES_100K}
    items = read_text(
        engine, films, columns, delimiter="|", header=False, quote="", encoding="latin-1"
    )
    named = [(items[genre] == 1).ifelse(f"{genre}|", "") for genre in GENRES_100K[1:]]
    topics = sum(named[1:], start=named[0]).re_replace(r"\|$", "")
    return ratings, items.select("item", "title", topics=topics)


def _described(items: "ir.Table") -> "ir.Table":
    topics = (items.topics == "(no genres listed)").ifelse("", items.topics)
    return items.mutate(topics=topics).drop("row")
