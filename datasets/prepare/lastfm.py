"""Last.fm: who listened to which track when, in the forms of LFM-1b and of Last.fm 1K."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import ibis

from recgym.build import Tables
from recgym.errors import BadRawData, InvalidArgument, NothingLeft
from recgym.kinds import Kind, Number, Text, Time
from recgym.raw import RawFiles
from recgym.reading import read_text, read_typed

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from recgym.engine import Engine

LFM_1B, LASTFM_1K = "LFM-1b_LEs.txt", "userid-timestamp-artid-artname-traid-traname.tsv"
DAY = 86_400_000_000  # microseconds
ID, NAME = Number(0, whole=True), Text(optional=True)
EVENT: dict[str, Kind] = {
    "user": ID,
    "_artist": Text(),  # the file of tracks says it too
    "album": ID,
    "item": ID,
    "time": Time("s", since=1970),
}
TRACK: dict[str, Kind] = {"item": ID, "title": NAME, "artist": ID}
ALBUM: dict[str, Kind] = {"album": ID, "album_name": NAME, "_artist": NAME}
ARTIST: dict[str, Kind] = {"artist": ID, "artist_name": NAME}
LINE: dict[str, Kind] = {
    "user": Text(),
    "time": Time("iso", since=2002),
    "item": Text(),
    "title": Text(),
    "artist": Text(),
    "row": ID,
}


@dataclass(frozen=True)
class Source:
    """Listening events of some days, with the names of track, album and artist."""

    needs: ClassVar[str] = f"a folder with {LFM_1B} and its name files, or {LASTFM_1K}"
    days: int = 3  # how many to keep, as in LEA's paper; 0 keeps all that follow
    start: str = ""  # the first day, such as 2013-01-31; default: from the first event on

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """Whichever form is there; an item is a track."""
        begin = self._begin()
        file = raw.need(LFM_1B, LASTFM_1K)
        read = _numbered if file.name.lower() == LFM_1B.lower() else _named
        everything, notes = read(engine, file)
        events, window = self._window(engine, everything, begin)
        items = _described(engine, raw, events) if read is _numbered else _distinct(events)
        kept = [name for name in ("user", "item", "time", "row") if name in events.columns]
        return Tables(
            events=events.select(*kept, behaviour=ibis.literal(0)),
            behaviours=("listen",),
            positive=("listen",),
            items=items,
            rewards="one",
            notes=(window, *notes),
        )

    def _begin(self) -> int | None:
        """The first microsecond of the named day, if one is named."""
        if self.days < 0:
            raise InvalidArgument(f"--days is a number of days or 0 for all, not {self.days}.")
        if not self.start:
            return None
        try:
            day = datetime.fromisoformat(self.start)
        except ValueError:
            raise InvalidArgument(
                f"--start is a date such as 2013-01-31, not {self.start!r}."
            ) from None
        return int(day.replace(tzinfo=day.tzinfo or UTC).timestamp()) * 1_000_000

    def _window(
        self, engine: "Engine", events: "ir.Table", begin: int | None
    ) -> tuple["ir.Table", str]:
        """The events of the chosen days, and in words which days they are."""
        ends = events.aggregate(first=events.time.min(), last=events.time.max())
        first, last = engine.fetch(ends).to_pylist()[0].values()
        begin = first if begin is None else begin
        kept = events.filter(events.time >= begin)
        if self.days:
            kept = kept.filter(kept.time < begin + self.days * DAY)
        kept = engine.keep(kept, "choosing days")
        many = f"{self.days} days" if self.days else "Every day"
        if not engine.fetch(kept.limit(1)).num_rows:
            raise NothingLeft(
                f"Nobody listened in the {many.lower()} from {_shown(begin)} on; the events go "
                f"from {_shown(first)} to {_shown(last)}. Choose another --start or more --days."
            )
        return kept, f"{many} of listening from {_shown(begin)} on."


def _numbered(engine: "Engine", file: Path) -> tuple["ir.Table", tuple[str, ...]]:
    """LFM-1b: numbers, whose names are in files of their own."""
    return read_text(engine, file, EVENT, delimiter="\t", header=False, quote=""), ()


def _described(engine: "Engine", raw: RawFiles, events: "ir.Table") -> "ir.Table":
    """Title, album and artist of each track; of several albums, the one most listened from."""
    heard = events.group_by(["item", "album"]).aggregate(n=events.count())
    place = ibis.row_number().over(group_by="item", order_by=[heard.n.desc(), "album"])
    album_of = heard.mutate(place=place).filter(ibis._.place == 0).select("item", "album")

    def names(kind: str, columns: dict[str, Kind]) -> "ir.Table":
        file = raw.need(f"LFM-1b_{kind}.txt")
        table = read_text(
            engine,
            file,
            columns,
            delimiter="\t",
            header=False,
            quote="",
            stage=f"reading {kind}",
        )
        return table.drop("row")

    tracks = album_of.left_join(names("tracks", TRACK), "item").drop("item_right")
    tracks = tracks.left_join(names("albums", ALBUM), "album").drop("album_right")
    tracks = tracks.left_join(names("artists", ARTIST), "artist")
    return tracks.select("item", "title", album="album_name", artist="artist_name")


def _named(engine: "Engine", file: Path) -> tuple["ir.Table", tuple[str, ...]]:
    """Last.fm 1K: names in every line; ids of MusicBrainz are missing too often to rely on."""
    lines = read_text(engine, file, {"line": Text()}, delimiter="\x1f", header=False, quote="")
    user, time, _, artist, _, title = (lines.line.split("\t")[place] for place in range(6))
    whole = (lines.line.split("\t").length() == 6) & (user != "") & (artist != "") & (title != "")
    split = lines.filter(whole).select(
        user=user, time=time, item=artist + "\t" + title, title=title, artist=artist, row="row"
    )
    events = read_typed(engine, split, LINE, str(file))
    total, kept = (
        engine.fetch(table.aggregate(n=table.count()))["n"][0].as_py() for table in (lines, events)
    )
    if kept < 0.99 * total:
        raise BadRawData(
            f"{file}: only {kept:,} of {total:,} lines have six fields with a user, an artist and "
            "a track. Is it the right file?"
        )
    skipped = (f"{total - kept} lines without six whole fields were left out.",)
    return events, skipped if kept < total else ()


def _distinct(events: "ir.Table") -> "ir.Table":
    return events.select("item", "title", "artist").distinct()


def _shown(microseconds: int) -> str:
    return f"{datetime.fromtimestamp(microseconds / 1_000_000, UTC):%Y-%m-%d %H:%M} UTC"
