"""From a raw table to an InteractionLog: filter, cut, order, split, index, write."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recgym.engine import Engine, Progress
from recgym.errors import BadRawData, InvalidArgument, NothingLeft
from recgym.log import SPLITS, InteractionLog, Manifest, arrow_of, log_writer, numbers_of
from recgym.protocols import Protocol, Rewards, rewards_of, shuffled, tie_hash

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

TRAIN, VALIDATION, TEST, CONTEXT = range(len(SPLITS))
_MINUTE = 60_000_000  # microseconds
_BLOCK = 1 << 18  # rows looked at together: what is worked out for them stays in the cache
_SHOWN_GAP = 30  # minutes: a visit that the log outlives by this much is seen to have ended
_TIE_KEYS = ("value", "propensity", "slot")  # the last resort between rows of equal user and item


@dataclass(frozen=True)
class Tables:
    """What a source hands over: its events, and what it knows of its items.

    `events` has user, item, behaviour (a code into `behaviours`) and time (microseconds) or order;
    it may have row (of the raw file), value (a reward of its own), propensity and slot.
    `items` has item, and any of title, topics (separated by |) and text fields.
    """

    events: "ir.Table"
    behaviours: tuple[str, ...]
    positive: tuple[str, ...]
    items: "ir.Table | None" = None
    user: Literal["person", "visit", "impression"] = "person"  # what one user id stands for
    rewards: Rewards = "click0.2-purchase1"  # the scheme that suits these behaviours
    notes: tuple[str, ...] = ()

    @property
    def timed(self) -> bool:
        """Are times known, or only an order?"""
        return "time" in self.events.columns


def build_log(
    tables: Tables,
    protocol: Protocol,
    engine: Engine,
    path: Path,
    *,
    source: dict[str, Any] | None = None,
    command: str = "",
    progress: Progress = lambda stage, share: None,
) -> InteractionLog:
    """Build the log of a source's tables under a protocol, at `path`."""
    from recgym import __version__

    protocol = _settled(protocol, tables)
    names = _kept_behaviours(protocol, tables.behaviours)
    events = _kept_events(tables, names)
    steps: list[list[Any]] = [["read", _count(engine, tables.events)]]
    if len(names) < len(tables.behaviours):
        steps.append(["behaviours", _count(engine, events)])
    keys = ["user"]
    if protocol.gap is not None:
        events, keys = (
            engine.keep(_cut(events, protocol.gap), "cutting sessions"),
            ["user", "visit"],
        )
    sessions, items = _kept_groups(
        engine, events, keys, protocol, _counted(protocol, names, tables)
    )

    ordered = _ordered(events, keys, sessions, items, protocol)
    rows, codes = _collect(engine, ordered, steps[-1][1], progress)
    if not len(codes):
        raise NothingLeft(
            f"No session is left: {', then '.join(f'{step} {n:,}' for step, n in steps)} events, "
            f"then 0 after sessions with fewer than {protocol.min_session} and items with fewer "
            f"than {protocol.min_item} events were dropped. Lower --min-session or --min-item."
        )
    progress("writing", None)
    steps.append(["kept", len(rows["code"])])
    behaviours = tuple(dict.fromkeys(names.values()))
    positive = np.array([name in tables.positive for name in behaviours])
    catalogue = _catalogue(engine, items, tables.items)
    users = _strings(engine.fetch(sessions.order_by("session"))["user"]).take(arrow_of(codes))
    with log_writer(path) as columns:
        for name in rows.keys() & {"offsets", "timestamps", "propensities", "slots"}:
            columns[name] = rows[name]
        columns["users"] = users
        columns["behaviours"] = _renamed(rows["behaviour"], names, behaviours)
        columns["splits"], cuts = _splits(protocol, rows["timestamps"], rows["offsets"])
        columns["items"], n_items, columns["catalogue"] = _indexed(
            rows["code"], columns["splits"], catalogue, protocol.index
        )
        worth = rewards_of(protocol.rewards or "one", behaviours, tables.positive)
        columns["rewards"] = rows["value"] if worth is None else worth[columns["behaviours"]]
        columns["in_state"] = _in_state(protocol, columns, n_items, positive)
        columns["terminated"] = _terminated(protocol, columns, behaviours, cuts)
        manifest = Manifest(
            name=path.name,
            source=source or {"name": "table"},
            protocol=asdict(protocol),
            command=command,
            recgym=__version__,
            time="microseconds" if tables.timed else "order",
            behaviours=list(behaviours),
            n_items=n_items,
            counts=_counts(columns, behaviours, n_items, catalogue.num_rows),
            cuts=cuts,
            steps=steps,
            notes=list(tables.notes),
        )
        columns.finish(manifest)
    return InteractionLog(path)


def _settled(protocol: Protocol, tables: Tables) -> Protocol:
    """The protocol with what was left to the source filled in, or a reason why it cannot be."""
    visits = tables.user == "visit" or protocol.gap is not None
    split = protocol.split or ("session-time" if visits else "event-time")
    ends = protocol.ends or (
        "always" if tables.user == "impression" else "shown" if visits else "never"
    )
    first, second = protocol.cuts
    if not 0 < first < second < 1:
        raise InvalidArgument(
            f"The cuts {first:g} and {second:g} are not shares with 0 < first < second < 1."
        )
    if protocol.gap is not None and not 0 < protocol.gap < 1e9:
        raise InvalidArgument(f"A gap is a number of minutes above 0, not {protocol.gap:g}.")
    if protocol.sample is not None and protocol.sample < 1:
        raise InvalidArgument(f"A sample is a number of sessions above 0, not {protocol.sample}.")
    if min(protocol.min_session, protocol.min_item) < 0:
        raise InvalidArgument(
            f"The minima of sessions and items are counts, not {protocol.min_session} and "
            f"{protocol.min_item}."
        )
    rewards = protocol.rewards or tables.rewards
    if rewards == "value" and "value" not in tables.events.columns:
        raise InvalidArgument(
            "The reward scheme 'value' takes the source's own rewards, and this source has none. "
            "Use --rewards binary or one."
        )
    if not tables.timed and (split.endswith("time") or protocol.gap or protocol.ends == "shown"):
        raise InvalidArgument(
            f"This log has an order but no times, so the protocol '{protocol.name}' with its "
            f"{split} split cannot be built. Use --protocol leave-last-out, or --split "
            "random-session."
        )
    if split == "session-time" and not visits:
        raise InvalidArgument(
            "A session-time split of whole user histories trains on the future of most of its "
            "targets. Cut the histories with --gap 30, or use --split event-time."
        )
    if ends == "shown" and not visits:
        raise InvalidArgument(
            "The end of a person's history is never shown. Cut sessions with --gap 30, or use "
            "--ends never or purchase."
        )
    if not tables.timed:
        ends = "never" if ends == "shown" else ends
    return replace(protocol, split=split, ends=ends, rewards=rewards)


# ------------------------------------------------------------------------------ in the engine


def _kept_behaviours(protocol: Protocol, behaviours: Sequence[str]) -> dict[int, str]:
    """The codes of the raw table that stay, and what they are called in the log."""
    asked = dict(entry.partition("=")[::2] for entry in protocol.behaviours)
    if unknown := asked.keys() - set(behaviours):
        raise InvalidArgument(
            f"No behaviour is named '{sorted(unknown)[0]}' here. Known: {', '.join(behaviours)}."
        )
    names = {
        code: asked.get(name) or name
        for code, name in enumerate(behaviours)
        if not asked or name in asked
    }
    if protocol.min_rating is not None:
        try:
            names = {c: name for c, name in names.items() if float(name) >= protocol.min_rating}
        except ValueError:
            raise InvalidArgument(
                f"--min-rating is for ratings, and this log has {', '.join(behaviours)}. Use "
                "--behaviours."
            ) from None
    if not names:
        raise NothingLeft("No behaviour is left: lower --min-rating.")
    return names


def _kept_events(tables: Tables, names: dict[int, str]) -> "ir.Table":
    events = tables.events
    if not tables.timed:
        events = events.rename(time="order")
    if len(names) < len(tables.behaviours):
        events = events.filter(events.behaviour.isin(list(names)))
    return events


def _cut(events: "ir.Table", gap: float) -> "ir.Table":
    """Number the visits of every user: a new one begins after `gap` minutes without an event."""
    import ibis

    before = events.time.lag().over(group_by="user", order_by="time")
    begins = (events.time - before > int(gap * _MINUTE)).fill_null(False).cast("int64")
    marked = events.mutate(begins=begins)
    # Rows of equal time are peers in a range frame, so their order does not matter.
    visits = marked.begins.sum().over(
        ibis.window(group_by="user", order_by="time", range=(None, 0))
    )
    return marked.mutate(visit=visits).drop("begins")


def _counted(protocol: Protocol, names: dict[int, str], tables: Tables) -> list[int] | None:
    """The codes that the minima count, or None for all."""
    if protocol.counted == "all":
        return None
    wanted = tables.positive if protocol.counted == "positive" else (protocol.counted,)
    codes = [code for code, name in names.items() if name in wanted]
    if not codes:
        raise InvalidArgument(
            f"--counted {protocol.counted} fits none of {', '.join(names.values())}."
        )
    return codes


def _kept_groups(
    engine: Engine,
    events: "ir.Table",
    keys: list[str],
    protocol: Protocol,
    counted: list[int] | None,
) -> "tuple[ir.Table, ir.Table]":
    """The sessions and the items that stay, each with its code: the rank of its raw id."""
    counts = None if counted is None else events.behaviour.isin(counted).cast("int64")
    table = events if counts is None else events.mutate(counts=counts)

    def groups(by: list[str], least: int, *within: "ir.Table") -> "ir.Table":
        rows = table
        for kept in within:
            rows = rows.semi_join(kept, _keys(kept))
        sizes = rows.group_by(by).aggregate(n=rows.count() if counts is None else rows.counts.sum())
        return engine.keep(sizes.filter(sizes.n >= least).drop("n"), "filtering")

    sessions = groups(keys, protocol.min_session)
    if not protocol.repeat_filters:
        sessions = _sample(engine, sessions, protocol)
    narrowed = protocol.min_session or protocol.sample
    items = groups(["item"], protocol.min_item, *([sessions] if narrowed else []))
    if protocol.repeat_filters and (protocol.min_session or protocol.min_item):
        sizes = None
        while sizes != (sizes := (_count(engine, sessions), _count(engine, items))):
            sessions = groups(keys, protocol.min_session, items)
            items = groups(["item"], protocol.min_item, sessions)
    if protocol.repeat_filters and protocol.sample:
        sessions = _sample(engine, sessions, protocol)
        items = groups(["item"], 0, sessions, items)
    return (
        engine.keep(_ranked(sessions, "session"), "indexing"),
        engine.keep(_ranked(items, "code"), "indexing"),
    )


def _sample(engine: Engine, sessions: "ir.Table", protocol: Protocol) -> "ir.Table":
    if protocol.sample is None:
        return sessions
    codes = _ranked(sessions, "session")
    drawn = codes.order_by([tie_hash(codes.session.cast("int64"), 0, protocol.seed), "session"])
    return engine.keep(drawn.limit(protocol.sample).drop("session"), "sampling")


def _ranked(table: "ir.Table", name: str) -> "ir.Table":
    import ibis

    rank = ibis.row_number().over(order_by=_keys(table))
    return table.mutate(**{name: rank.cast("int32")})


def _keys(table: "ir.Table") -> list[str]:
    return [name for name in table.columns if name in ("user", "visit", "item")]


def _ordered(
    events: "ir.Table", keys: list[str], sessions: "ir.Table", items: "ir.Table", protocol: Protocol
) -> "ir.Table":
    """The rows of the log in their order, with every tie decided."""
    rows = events.join(sessions, keys).join(items, "item")
    extra = [name for name in _TIE_KEYS if name in rows.columns]
    if protocol.ties == "row":
        if "row" not in rows.columns:
            raise InvalidArgument("This source has no row numbers to decide ties: --ties hash.")
        ties: list[Any] = ["behaviour", "row"]
    else:
        hashed = tie_hash(rows.session.cast("int64"), rows.code.cast("int64"), protocol.seed)
        ties = [hashed.cast("int32"), "code", "behaviour", *extra]
    narrow = rows.mutate(behaviour=rows.behaviour.cast("int16"))  # a sort moves every byte
    names = {"timestamps": "time", "propensities": "propensity", "slots": "slot"}
    names = {new: old for new, old in names.items() if old in rows.columns}
    values = ["value"] if "value" in rows.columns else []
    ordered = narrow.order_by(["session", "time", *ties])
    return ordered.select("session", "code", "behaviour", *values, **names)


def _count(engine: Engine, table: "ir.Table") -> int:
    return int(engine.fetch(table.aggregate(n=table.count()))["n"][0].as_py())


# --------------------------------------------------------------------------------- in NumPy


def _collect(
    engine: Engine, ordered: "ir.Table", most: int, progress: Progress
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """The engine's rows, at most so many, as columns; and the code of each session."""
    dtypes = {
        "code": np.int32,
        "behaviour": np.uint8,
        "timestamps": np.int64,
        "value": np.float32,
        "propensities": np.float32,
        "slots": np.uint8,
    }
    # Memory is taken as rows arrive, so the surplus of these arrays costs nothing.
    columns: dict[str, NDArray[Any]] = {
        name: np.empty(most, dtypes[name]) for name in ordered.columns if name in dtypes
    }
    offsets, codes = [np.empty(0, np.int64)], [np.full(1, -1)]

    def take(first: int, batch: "pa.RecordBatch") -> None:
        arrived = dict(zip(batch.schema.names, map(numbers_of, batch.columns), strict=True))
        sessions = arrived.pop("session")
        begins = np.flatnonzero(np.diff(sessions, prepend=codes[-1][-1]))
        if len(begins):
            offsets.append(first + begins)
            codes.append(sessions[begins].astype(np.int64))
        for name, values in arrived.items():
            columns[name][first : first + len(batch)] = values

    rows, taken = 0, []
    with ThreadPoolExecutor(1) as taker:  # while the engine hands over the next batch
        for batch in engine.batches(ordered):
            taken.append(taker.submit(take, rows, batch))
            rows += len(batch)
            progress("ordering", rows / most)
    for done in taken:
        done.result()
    columns = {name: column[:rows] for name, column in columns.items()}
    columns["offsets"] = np.append(np.concatenate(offsets), rows)
    return columns, np.concatenate(codes)[1:]


def _renamed(
    codes: NDArray[np.uint8], names: dict[int, str], behaviours: tuple[str, ...]
) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for code, name in names.items():
        table[code] = behaviours.index(name)
    return table[codes]


def _splits(
    protocol: Protocol, times: NDArray[np.int64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], list[int]]:
    """The split of every row, and the times at which validation and test begin."""
    sizes, n_sessions = np.diff(offsets), len(offsets) - 1
    cuts: list[int] = []
    if protocol.split == "event-time":
        cuts = _quantiles(times, protocol.cuts)
        splits = np.uint8(TRAIN) + (times >= cuts[0]) + (times >= cuts[1])
    elif protocol.split == "session-time":
        ends = times[offsets[1:] - 1]
        cuts = _quantiles(ends, protocol.cuts)
        of_session = (ends >= cuts[0]).astype(np.uint8) + (ends >= cuts[1])
        begins = np.array([np.iinfo(np.int64).min, *cuts])[of_session]
        # A session that spans a cut is judged after it only, and trained on nowhere.
        splits = np.repeat(of_session, sizes)
        splits[times < np.repeat(begins, sizes)] = CONTEXT
    elif protocol.split == "leave-last-out":
        splits = np.zeros(len(times), np.uint8)
        last = offsets[1:][sizes >= 3] - 1
        splits[last], splits[last - 1] = TEST, VALIDATION
    else:
        ranks = np.empty(n_sessions, np.int64)
        ranks[shuffled(n_sessions, protocol.seed)] = np.arange(n_sessions)
        low, high = (int(share * n_sessions + 1e-9) for share in protocol.cuts)
        splits = np.repeat((ranks >= low).astype(np.uint8) + (ranks >= high), sizes)
    if not (splits == TRAIN).any():
        raise NothingLeft(
            f"The {protocol.split} split leaves none of the {len(times):,} events to train on. "
            "Give more data, other --cuts, or --split random-session."
        )
    return splits.astype(np.uint8), cuts


def _quantiles(values: NDArray[np.int64], shares: Sequence[float]) -> list[int]:
    """The smallest values that are above the given shares of all, without a copy of them."""
    low = int(values.min())
    shift = max((int(values.max()) - low).bit_length() - 16, 0)
    blocks = [values[first : first + _BLOCK] for first in range(0, len(values), _BLOCK)]
    ends = np.cumsum(sum(np.bincount((b - low) >> shift, minlength=1 << 16) for b in blocks))
    found = []
    for share in shares:
        place = min(int(share * len(values) + 1e-9), len(values) - 1)
        coarse = int(np.searchsorted(ends, place, side="right"))  # the bin that holds it
        begin = low + (coarse << shift)
        near = np.concatenate([b[(b >= begin) & (b < begin + (1 << shift))] for b in blocks])
        found.append(int(np.sort(near)[place - int(ends[coarse] - len(near))]))
    return found


def _indexed(
    codes: NDArray[np.int32], splits: NDArray[np.uint8], catalogue: "pa.RecordBatch", index: str
) -> "tuple[NDArray[np.int32], int, pa.RecordBatch]":
    """Items numbered by raw id: first those that occur in training, then the unseen ones."""
    known = np.full(catalogue.num_rows, index == "all")
    for first in range(0, len(codes), _BLOCK):
        some = slice(first, first + _BLOCK)
        known[codes[some][splits[some] == TRAIN]] = True
    order = np.argsort(~known, kind="stable")
    renumbered = np.empty(len(order), np.int32)
    renumbered[order] = np.arange(len(order), dtype=np.int32)
    catalogue = catalogue.take(arrow_of(order))
    catalogue = catalogue.set_column(0, "item", arrow_of(np.arange(len(order), dtype=np.int32)))
    return renumbered[codes], int(known.sum()), catalogue


def _in_state(
    protocol: Protocol, columns: dict[str, Any], n_items: int, positive: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which rows enter histories: never those of items that training has not seen."""
    known: NDArray[np.bool_] = columns["items"] < n_items
    return known & positive[columns["behaviours"]] if protocol.in_state == "positive" else known


def _terminated(
    protocol: Protocol,
    columns: dict[str, Any],
    behaviours: tuple[str, ...],
    cuts: list[int],
) -> NDArray[np.bool_]:
    """Which sessions end where the source shows an end."""
    last = columns["offsets"][1:] - 1
    if protocol.ends in ("never", "always"):
        return np.full(len(last), protocol.ends == "always")
    purchase = np.array([name == "purchase" for name in behaviours])
    bought: NDArray[np.bool_] = purchase[columns["behaviours"][last]]
    if protocol.ends == "purchase":
        return bought
    ends = columns["timestamps"][last]
    # What a session's own split cannot yet know, that it stays silent, is not used.
    horizon = np.full(len(last), ends.max())
    if cuts:
        horizon = np.array([*cuts, ends.max()])[columns["splits"][last]]
    gap = _SHOWN_GAP if protocol.gap is None else protocol.gap
    silent: NDArray[np.bool_] = ends + int(gap * _MINUTE) < horizon
    return bought | silent


def _counts(
    columns: dict[str, Any], behaviours: tuple[str, ...], n_items: int, n_all: int
) -> dict[str, Any]:
    splits, items, times = columns["splits"], columns["items"], columns["timestamps"]
    tied = times[1:] == times[:-1]
    tied[columns["offsets"][1:-1] - 1] = False  # the last of a session and the first of the next
    return {
        "rows": len(items),
        "sessions": len(columns["terminated"]),
        "items": n_all,
        "splits": _tally(splits, SPLITS),
        "behaviours": _tally(columns["behaviours"], behaviours),
        "unseen": _tally(splits[items >= n_items], SPLITS),
        "tied_pairs": int(tied.sum()),
        "pairs": len(items) - len(columns["terminated"]),
        "terminated": int(columns["terminated"].sum()),
    }


def _tally(codes: NDArray[np.uint8], names: Sequence[str]) -> dict[str, int]:
    counts = np.zeros(len(names), np.int64)
    for first in range(0, len(codes), _BLOCK):
        counts += np.bincount(codes[first : first + _BLOCK], minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


# ------------------------------------------------------------------------------ the catalogue


def _catalogue(engine: Engine, items: "ir.Table", described: "ir.Table | None") -> "pa.RecordBatch":
    """One row per item, by code: item, raw_id, title, text fields, topics."""
    import ibis
    import pyarrow as pa

    table = items
    if described is not None:
        if described.item.type() != items.item.type():
            raise BadRawData(
                f"Items are {items.item.type()} in the events and {described.item.type()} in the "
                "catalogue. Write both in one way."
            )
        table = items.left_join(described, "item").drop("item_right")

    def text(name: str) -> "ir.Column":
        return table[name].fill_null("") if name in table.columns else ibis.literal("")

    more = [name for name in table.columns if name not in ("item", "code", "title", "topics")]
    texts = {name: text(name) for name in ("title", *more, "topics")}
    named = table.select(item="code", raw_id=table.item.cast("string"), **texts)
    fetched = engine.fetch(named.order_by(["item", *texts]))
    first = np.flatnonzero(np.diff(numbers_of(fetched["item"].combine_chunks()), prepend=-1))
    fetched = fetched.take(arrow_of(first))  # of an item described twice, one row
    columns = {name: _strings(fetched[name]) for name in ("raw_id", *texts)}
    columns["topics"] = _topics(columns["topics"])
    columns = {"item": fetched["item"].combine_chunks().cast(pa.int32()), **columns}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _topics(text: "pa.Array") -> "pa.Array":
    """Lists of what stands between bars: engines disagree on how to split at one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pc.split_pattern(text, "|")
    topics, item = lists.flatten(), numbers_of(pc.list_parent_indices(lists))
    named = np.flatnonzero(numbers_of(pc.binary_length(topics)))
    ends = np.cumsum(np.bincount(item[named], minlength=len(text)))
    offsets = np.append(0, ends).astype(np.int32)
    return pa.ListArray.from_arrays(arrow_of(offsets), topics.take(arrow_of(named)))


def _strings(ids: "pa.ChunkedArray") -> "pa.Array":
    import pyarrow as pa

    text = ids.cast(pa.large_string()).combine_chunks()
    return text.chunk(0) if isinstance(text, pa.ChunkedArray) else text
