"""A log at a glance: one picture of its sessions, items, behaviours and rewards."""

import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recgym.errors import InvalidArgument, MissingExtra, OutOfRoom
from recgym.log import SPLITS, InteractionLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito (2008): distinct for every kind of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
INK, _PALE = "#333333", "#BBBBBB"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is a $
    "date.converter": "concise",
    "svg.hashsalt": "recgym",
}
_BINS = 60  # of time
_BLOCK = 1 << 20  # rows counted together
# A file of the same log has the same bytes: no date in it.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def plot_log(log: InteractionLog, file: str | os.PathLike[str]) -> Path:
    """Draw session lengths, item popularity, behaviours over time and rewards into one file."""
    file = Path(file)
    with drawing(file, (12, 8)) as figure:
        figure.suptitle(_title(log), fontsize=15)
        lengths, popularity, behaviours, rewards = figure.subplots(2, 2).flat
        _draw_lengths(lengths, log)
        _draw_popularity(popularity, log)
        _draw_behaviours(behaviours, log)
        _draw_rewards(rewards, log)
    return file


@contextmanager
def drawing(file: Path, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure of so many inches in our style, which is in the file when the block has ended."""
    if file.suffix.lower() not in SUFFIXES:
        raise InvalidArgument(
            f"A plot ends in {', '.join(SUFFIXES)}, and {file.name!r} does not. Rename it."
        )
    try:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("Plotting", "plots") from None

    with matplotlib.style.context(["default", _STYLE]):  # whatever the caller's style is
        figure = Figure(figsize=size, dpi=100)
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.15, wspace=0.04, hspace=0.06)
        yield figure
        _write(figure, file)


def _title(log: InteractionLog) -> str:
    manifest = log.manifest
    split = manifest.protocol.get("split")
    sizes = manifest.counts["splits"]
    shares = ", ".join(
        f"{name} {sizes[name] / len(log):.0%}" for name in SPLITS if sizes[name] >= len(log) / 200
    )
    return (
        f"{manifest.name}: {len(log):,} rows, {log.n_sessions:,} sessions, "
        f"{manifest.counts['items']:,} items\n{f'{split} split: ' if split else ''}{shares}"
    )


def _draw_lengths(axes: "Axes", log: InteractionLog) -> None:
    lengths = np.diff(log.offsets)
    median, long, last = np.percentile(lengths, (50, 90, 99))
    width = int(last - lengths.min()) // 40 + 1
    edges = np.arange(lengths.min(), int(last) + width + 1, width)
    counts, _ = np.histogram(lengths, edges)
    axes.bar(edges[:-1] + (width - 1) / 2, counts, 0.92 * width, color=PALETTE[0])
    axes.set(title="How long are sessions?", xlabel="rows in the session", ylabel="sessions")
    axes.locator_params(axis="x", integer=True)
    axes.margins(y=0.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    if lengths.max() == 1:
        axes.set(xlim=(0, 2), xticks=[1])
        axes.legend([], title="every session is one row: a bandit")
        return
    axes.axvline(median, color=INK, lw=1.5, label=f"median {median:,g}")
    axes.axvline(long, color=INK, ls="--", lw=1.5, label=f"90th percentile {long:,.0f}")
    beyond = int((lengths >= edges[-1]).sum())
    title = f"{beyond:,} longer ones, up to {lengths.max():,}, not shown" if beyond else None
    box = {"frameon": True, "framealpha": 0.9, "edgecolor": "none"}
    axes.legend(loc="upper right", title=title, alignment="left", **box)


def _draw_popularity(axes: "Axes", log: InteractionLog) -> None:
    axes.set(
        title="How concentrated are items?",
        xlabel="item, by its rank among the most frequent",
        ylabel="events of the item",
        xscale="log",
        yscale="log",
    )
    n_items = log.manifest.counts["items"]
    for code, dashes in ((0, "-"), (2, "--")):
        counts = np.zeros(n_items, np.int64)
        for rows in _blocks(len(log)):
            found = np.bincount(log.items[rows][log.splits[rows] == code])
            counts[: len(found)] += found
        counts = -np.sort(-counts[counts > 0])
        if not len(counts):
            continue
        head = -(-len(counts) // 100)
        top = counts[:head].sum() / counts.sum()
        label = f"{SPLITS[code]}: the top 1% ({head:,}) hold {top:.0%} of events"
        places = _log_places(len(counts))
        axes.plot(
            places + 1, counts[places], color=PALETTE[code // 2], ls=dashes, lw=2.5, label=label
        )
    axes.set_ylim(0.8, 8 * axes.get_ylim()[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.legend(loc="upper right")


def _log_places(count: int) -> NDArray[np.int64]:
    """Few enough places for a picture, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(1, count, min(count, 1000)).astype(np.int64)) - 1


def _draw_behaviours(axes: "Axes", log: InteractionLog) -> None:
    names, timed = log.manifest.behaviours, log.manifest.time == "microseconds"
    if timed:
        first, last = int(log.timestamps.min()), int(log.timestamps.max())
        edges = np.linspace(first, last + 1, _BINS + 1)
        shown = edges.astype(np.int64).astype("datetime64[us]")
    else:
        lengths = np.diff(log.offsets)
        last = max(int(np.percentile(lengths, 95)), 1)
        edges = np.linspace(0, last, min(last, _BINS) + 1).round()
        shown = edges + 0.5  # a bar stands around its place
    counts = np.zeros((len(edges) - 1, len(names)), np.int64)
    for rows in _blocks(len(log)):
        values = log.timestamps[rows] if timed else _places(log, rows)
        inside = (values >= edges[0]) & (values < edges[-1])
        bins = np.searchsorted(edges, values[inside], side="right") - 1
        cells = bins * len(names) + log.behaviours[rows][inside]
        counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    bottom = np.zeros(len(counts), np.int64)
    parts = []
    for colour, part in zip(_colours(names), counts.T, strict=True):
        parts += [axes.stairs(bottom + part, shown, baseline=bottom, fill=True, color=colour)]
        bottom = bottom + part
    axes.set(
        title="What happens when?" if timed else "What happens at which place of a session?",
        xlabel="time (UTC)" if timed else "place in the session",
        ylabel="rows",
    )
    axes.margins(x=0.01)
    axes.set_ylim(0, 1.45 * max(int(bottom.max()), 1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    for name, cut in zip(("validation", "test"), log.manifest.cuts, strict=False):
        place: Any = np.datetime64(cut, "us")
        axes.axvline(place, color=INK, ls="--", lw=1.2)
        axes.annotate(
            name,
            (place, 1),
            (3, -1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation="vertical",
            verticalalignment="top",
            fontsize=10,
        )
    columns = 5 if len(names) > 4 else len(names)
    small = {"fontsize": 10, "columnspacing": 1.2, "handlelength": 1.5}
    axes.legend(parts, names, loc="upper left", ncols=columns, **small)


def _places(log: InteractionLog, rows: slice) -> NDArray[np.int64]:
    positions = np.arange(rows.start, rows.stop)
    return positions - log.offsets[log.sessions_of(positions)]


def _draw_rewards(axes: "Axes", log: InteractionLog) -> None:
    names = log.manifest.behaviours
    sizes, sums = np.zeros((2, len(names)))
    for rows in _blocks(len(log)):
        behaviours = log.behaviours[rows]
        sizes += np.bincount(behaviours, minlength=len(names))
        sums += np.bincount(behaviours, log.rewards[rows], minlength=len(names))
    shares = sizes / sizes.sum()
    earned = sums / np.abs(sums).sum() if sums.any() else sums
    places = np.arange(len(names))
    axes.barh(places - 0.2, shares, 0.38, color=_PALE, label="of rows")
    axes.barh(places + 0.2, earned, 0.38, color=INK, label="of the reward")
    reaches = np.maximum(np.maximum(shares, earned), 0)
    for place, reach, size, total in zip(places, reaches, sizes, sums, strict=True):
        axes.annotate(
            f"{total / size:.3g} each, {size:,.0f} rows" if size else "no rows",
            (reach, place),
            (5, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=10,
        )
    axes.set(
        title="What is rewarded?", xlabel="share", xlim=(min(earned.min(), 0), 1.5 * reaches.max())
    )
    axes.set_yticks(places, names)
    axes.set_ylim(max(len(names), 3) - 0.5, -0.5)
    if reaches.max() > 0.5:
        axes.set_xticks(np.linspace(0, 1, 5))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, fontsize=10, handlelength=1.2)


def _colours(names: list[str]) -> list[Any]:
    """Distinct colours for a few behaviours, a scale of one for levels of rating."""
    if len(names) <= len(PALETTE):
        return list(PALETTE[: len(names)])
    from matplotlib import colormaps

    return list(colormaps["cividis"](np.linspace(0, 1, len(names))))


def _blocks(count: int) -> Iterator[slice]:
    for first in range(0, count, _BLOCK):
        yield slice(first, min(first + _BLOCK, count))


def _write(figure: Any, file: Path) -> Path:
    """Write beside the file and rename: a killed run leaves no half of a picture."""
    suffix = file.suffix.lower()
    part = file.with_name(f".{file.stem}.{uuid.uuid4().hex[:8]}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():  # a name in another script is drawn as boxes
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(part, format=suffix[1:], metadata=_METADATA[suffix])
        part.replace(file)
    except OSError as problem:
        raise OutOfRoom(
            f"The plot could not be written to {file}: {problem.strerror or problem}. Free some "
            "space, or name another file; nothing was changed."
        ) from problem
    finally:
        part.unlink(missing_ok=True)
    return file
