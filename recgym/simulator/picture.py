"""The pictures of a card."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym.plots import INK, PALETTE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _PALE, _GRID = PALETTE[0], "#BBBBBB", "#DDDDDD"


def draw_card(card: Mapping[str, Any], file: Path) -> Path:
    """Right pairs of all rows, reliability, rewards by popularity, positions."""
    itself = next(iter(card["rows"].values()))
    with drawing(file, (12, 7 + 0.25 * len(card["rows"]))) as figure:
        rows, reliability, popularity, positions = figure.subplots(2, 2).ravel()
        _rows(rows, card["rows"])
        _reliability(reliability, itself["calibration"]["points"])
        _popularity(popularity, itself["reward by popularity"])
        _positions(positions, itself["choice"].get("positions"))
        for axes in (rows, reliability, popularity, positions):
            axes.tick_params(colors=INK)
        figure.suptitle(card["simulator"], fontsize=15, x=0.01, ha="left")
    return file


def draw_states(card: Mapping[str, Any], file: Path) -> Path:
    """States on their two main axes, coloured by the topic of what was taken next, if known."""
    places = np.array(card["states"]["places"]).reshape(-1, 2)
    topics = np.array(card["states"]["topics"])
    with drawing(file, (8, 6)) as figure:
        axes = figure.subplots()
        known = sorted(set(topics) - {""})
        for name, colour in zip(["", *known], (_PALE, *PALETTE), strict=False):
            across, up = places[topics == name].T
            axes.scatter(across, up, s=12, color=colour, label=name or "other topics")
        coloured = "by the topic of the next item" if known else "of items without topics"
        axes.set(title=f"{card['simulator']}: states, {coloured}")
        axes.set_xticks([])
        axes.set_yticks([])
        if known:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return file


def _rows(axes: "Axes", rows: Mapping[str, Any]) -> None:
    places = np.arange(len(rows))[::-1]
    for number, (name, label) in enumerate(
        {"uniform": "any other item", "popular": "one as popular"}.items()
    ):
        right = [row["right"][name] for row in rows.values()]
        means = np.array([one["mean"] for one in right])
        reach = np.abs([[one["low"], one["high"]] for one in right] - means[:, None]).T
        axes.errorbar(means, places + 0.15 - 0.3 * number, xerr=reach, fmt="o", ms=5, lw=1.2,
                      color=PALETTE[number], label=label)  # fmt: skip
    axes.axvline(0.5, color=INK, lw=1, ls=":")
    axes.set_yticks(places, list(rows), fontsize=8)
    axes.set(title="Right pairs", xlabel="taken above the other")
    axes.grid(color=_GRID, lw=0.6, axis="x")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)


def _reliability(axes: "Axes", points: list[list[float]]) -> None:
    said, true, _ = np.array(points).T
    low = max(min(said[said > 0].min(initial=1), true[true > 0].min(initial=1)) / 2, 1e-6)
    axes.plot([low, 1], [low, 1], color=INK, lw=1, ls=":")
    axes.plot(np.maximum(said, low), np.maximum(true, low), color=_BLUE, marker="o", ms=5)
    axes.set(xscale="log", yscale="log", title="Reliability", xlabel="acceptance that is said",
             ylabel="share that was taken")  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(color=_GRID, lw=0.6)


def _popularity(axes: "Axes", rewards: list[float | None]) -> None:
    known = [(tenth + 1, value) for tenth, value in enumerate(rewards) if value is not None]
    axes.bar(*zip(*known, strict=True), color=_BLUE)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set(title="Reward by popularity", xlabel="tenths of items, the rarest first",
             ylabel="mean reward, standardised")  # fmt: skip
    axes.set_xticks(range(1, len(rewards) + 1))


def _positions(axes: "Axes", shares: list[float] | None) -> None:
    axes.set(title="Positions of choices", xlabel="where the chosen item was shown")
    if shares is None:
        axes.text(0.5, 0.5, "It does not choose by position", ha="center", color=INK)
        return
    axes.bar(range(1, len(shares) + 1), shares, color=_BLUE)
    axes.axhline(1 / len(shares), color=INK, lw=1, ls=":")
    axes.set(ylabel="share of choices")
