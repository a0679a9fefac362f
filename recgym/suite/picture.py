"""The sweeps of a suite as pictures: what rows reach as options vary."""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgym.pages import NAMES
from recgym.plots import INK, PALETTE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_DASHES = ("--", ":", "-.")  # of what is drawn beside


def draw_sweep(results: Mapping[str, Any], name: str, file: Path) -> Path:
    """Draw a panel for each benchmark on which two points of the sweep were run, or more."""
    sweep, rows = results["sweeps"][name], results["rows"]
    shown = shown_on(results, name)
    columns = min(_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    with drawing(file, (1 + 4.6 * columns, 1 + 3.9 * lines)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, benchmark in zip(panels, shown, strict=False):
            _draw(axes, sweep, rows[benchmark])
            axes.set(title=benchmark, ylabel=NAMES[results["benchmarks"][benchmark]])
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        title = next(iter(varied(sweep)[1:]), None)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left",
                      fontsize=10, ncols=4, title=title, alignment="left")  # fmt: skip
        figure.suptitle(name, fontsize=14, x=0.01, ha="left")
    return file


def draw_rows(results: Mapping[str, Any], name: str, file: Path) -> Path:
    """Draw what each row reached on a benchmark, the best one first, and what 0 and 100 are."""
    cells = ranked(results, name)
    metric, anchors = NAMES[results["benchmarks"][name]], results["anchors"][name]
    with drawing(file, (8, 1.4 + 0.42 * len(cells))) as figure:
        axes = figure.subplots()
        places = range(len(cells))
        for place, cell in zip(places, cells.values(), strict=True):
            reach = [[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]]
            axes.errorbar([cell["mean"]], [place], xerr=reach, color=PALETTE[0], marker="o",
                          capsize=3, lw=1.5)  # fmt: skip
        for (who, value), dashes in zip(anchors.items(), _DASHES, strict=False):
            axes.axvline(value, color=INK, ls=dashes, lw=1.2, label=f"{who} {value:.3g}", zorder=0)
        axes.set_yticks(places, cells)
        axes.invert_yaxis()
        axes.set_xlabel(f"{metric} (95% interval)")
        axes.grid(color="#DDDDDD", lw=0.6, axis="x")
        axes.tick_params(colors=INK)
        if anchors:
            figure.legend(loc="outside lower left", fontsize=10, ncols=2)
        figure.suptitle(name, fontsize=14, x=0.01, ha="left")
    return file


def ranked(results: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    """The rows that were run on a benchmark, the best one first."""
    cells = {row: cell for row, cell in results["rows"][name].items()
             if cell and cell["mean"] is not None}  # fmt: skip
    return dict(sorted(cells.items(), key=lambda one: -one[1]["mean"]))


def shown_on(results: Mapping[str, Any], name: str) -> list[str]:
    """The benchmarks on which two points of a sweep were run, or more."""
    points = results["sweeps"][name]["points"]
    return [one for one, cells in results["rows"].items()
            if sum(cells.get(point) is not None for point in points) > 1]  # fmt: skip


def varied(sweep: Mapping[str, Any]) -> list[str]:
    """The options that vary: along the axis, then from line to line."""
    return list(next(iter(sweep["points"].values())))


def _draw(axes: "Axes", sweep: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
    first, *second = varied(sweep)
    points = sweep["points"]
    places = list(dict.fromkeys(str(point[first]) for point in points.values()))
    lines = list(dict.fromkeys(point[second[0]] for point in points.values())) if second else [None]
    between = "" if any(isinstance(point[first], str) for point in points.values()) else "-"
    for number, line in enumerate(lines):
        run = [(places.index(str(point[first])), cells[row]) for row, point in points.items()
               if cells.get(row) and (not second or point[second[0]] == line)]  # fmt: skip
        apart = 0.08 * (number - (len(lines) - 1) / 2)  # so that no interval hides another
        label = "the sweep" if line is None else str(line)
        _interval(axes, [(place + apart, cell) for place, cell in run], PALETTE[number], label,
                  between)  # fmt: skip
    seeds = {seed for row in points if cells.get(row) for seed in cells[row]["seeds"]}
    for row, dashes in zip(sweep["beside"], _DASHES, strict=False):
        if cell := cells.get(row):
            axes.axhline(_with(seeds, cell), color=INK, ls=dashes, lw=1.2, label=row, zorder=0)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlabel(first)
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.grid(color="#DDDDDD", lw=0.6, axis="y")
    axes.tick_params(colors=INK)


def _with(seeds: Container[int], cell: Mapping[str, Any]) -> float:
    """What was reached with these seeds; with all, where none of them was run."""
    of_all = zip(cell["seeds"], cell.get("by_seed", []), strict=False)
    reached = [value for seed, value in of_all if seed in seeds]
    return sum(reached) / len(reached) if reached else float(cell["mean"])


def _interval(
    axes: "Axes", run: list[tuple[float, Mapping[str, Any]]], colour: str, label: str, between: str
) -> None:
    """Means and intervals; numbers have something between them, and names have not."""
    places, cells = [place for place, _ in run], [cell for _, cell in run]
    means = [cell["mean"] for cell in cells]
    reach = [[mean - cell["low"] for mean, cell in zip(means, cells, strict=True)],
             [cell["high"] - mean for mean, cell in zip(means, cells, strict=True)]]  # fmt: skip
    axes.errorbar(places, means, reach, color=colour, lw=2, ls=between, marker="o", ms=5, capsize=3,
                  elinewidth=1, label=label)  # fmt: skip
