"""What was measured in training, drawn by step: losses, and metrics on the validation data."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgym.errors import InvalidArgument
from recgym.plots import INK, PALETTE, drawing
from recgym.runs import METRIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Lines = Sequence[Mapping[str, Any]]  # of metrics: a step, and numbers by name
_WIDE = 20  # how many times the least loss the greatest is, where a scale is logarithmic
_BEST = "#D55E00"


def plot_run(lines: Lines, title: str, file: Path) -> Path:
    """Draw the losses of a run and, where it was validated, its metrics and the best of them."""
    if not lines:
        raise InvalidArgument(
            "Nothing was measured in this run yet, so there is no curve: train it first; an agent "
            "that does not learn in steps has none."
        )
    names = list(dict.fromkeys(name for line in lines for name in line))
    losses = [name for name in names if "@" not in name and name not in ("step", "seconds")]
    metrics = [name for name in names if "@" in name]
    with drawing(file, (12, 5) if metrics else (7, 5)) as figure:
        figure.suptitle(title, fontsize=14)
        panels = figure.subplots(1, 2 if metrics else 1, squeeze=False)[0]
        _draw_losses(panels[0], lines, losses)
        if metrics:
            _draw_metrics(panels[1], lines, metrics)
    return file


def plot_comparison(runs: Mapping[str, Lines], file: Path) -> Path:
    """Draw NDCG@10 on the validation data of several runs."""
    shown = {name: points for name, lines in runs.items() if (points := _points(lines, METRIC))[0]}
    if not shown:
        raise InvalidArgument(
            "None of these runs was validated, so there is no curve to compare: train with "
            "validation data."
        )
    labels = [textwrap.fill(name, 100) for name in shown]
    height = 5 + 0.2 * (" ".join(labels).count("\n") + len(labels))
    with drawing(file, (10, height)) as figure:
        axes = figure.subplots()
        for number, (name, (steps, values)) in enumerate(zip(labels, shown.values(), strict=True)):
            colour = PALETTE[number % len(PALETTE)]
            dashes = ("-", "--", ":")[number // len(PALETTE) % 3]
            axes.plot(steps, values, color=colour, ls=dashes, lw=2, label=name, **_dotted(steps))
            best = max(values)
            axes.plot(steps[values.index(best)], best, "o", color=colour, ms=9, mec="white")
        axes.set(title="How well is the next item told?", ylabel=f"{METRIC} on validation data")
        _by_step(axes)
        figure.legend(loc="outside lower left", title="The greatest dot of a run is its best step.",
                      alignment="left", fontsize=10)  # fmt: skip
    return file


def _draw_losses(axes: "Axes", lines: Lines, names: list[str]) -> None:
    drawn = {name: _points(lines, name) for name in names}
    for number, (name, (steps, values)) in enumerate(drawn.items()):
        dashes = "-" if number < len(PALETTE) else "--"
        axes.plot(steps, values, color=PALETTE[number % len(PALETTE)], ls=dashes, lw=2, label=name,
                  **_dotted(steps))  # fmt: skip
    every = [value for _, values in drawn.values() for value in values]
    if every and min(every) > 0 and max(every) > _WIDE * min(every):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set(title="What is descended?", ylabel="loss, mean since the point before")
    _by_step(axes)
    _legend_below(axes)


def _draw_metrics(axes: "Axes", lines: Lines, names: list[str]) -> None:
    heads = list(dict.fromkeys(_head(name) for name in names))
    for name in names:
        steps, values = _points(lines, name)
        wide = 2.5 if name == METRIC else 1.5
        axes.plot(
            steps, values, color=PALETTE[heads.index(_head(name))], label=name,
            ls="-" if name.startswith("ndcg") else "--", lw=wide, **_dotted(steps),
        )  # fmt: skip
    steps, values = _points(lines, METRIC)
    if values:
        best, place = max(values), values.index(max(values))
        axes.axvline(steps[place], color=_BEST, ls=":", lw=1.5, zorder=0)
        label = f"best {METRIC}: {best:.4f} at step {steps[place]:,}"
        axes.plot(steps[place], best, "o", color=_BEST, ms=9, mec="white", zorder=5, label=label)
    axes.set(title="How well is the next item told?", ylabel="on validation data")
    axes.set_ylim(bottom=0)
    _by_step(axes)
    _legend_below(axes)


def _points(lines: Lines, name: str) -> tuple[list[int], list[float]]:
    """At which steps something was measured, and what was found."""
    there = [line for line in lines if type(line.get(name)) in (int, float)]
    return [line["step"] for line in there], [float(line[name]) for line in there]


def _head(name: str) -> str:
    """The head of a metric; nothing for the one that recommends."""
    return name.partition(" (")[2].rstrip(")")


def _dotted(steps: list[int]) -> dict[str, Any]:
    """Dots where there are few points."""
    return {"marker": "o", "ms": 4} if len(steps) < 30 else {}


def _by_step(axes: "Axes") -> None:
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.tick_params(colors=INK)


def _legend_below(axes: "Axes") -> None:
    """A legend under the picture, which covers no curve."""
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2, fontsize=10, borderaxespad=0)
