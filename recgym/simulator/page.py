"""A card as a page and pictures: the facts first, then the tables that they come from."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from recgym.errors import MissingExtra
from recgym.home import write_whole
from recgym.pages import SURE, markdown, spread
from recgym.simulator.asked import SMALL
from recgym.simulator.card import FITTED
from recgym.simulator.picture import draw_card, draw_states
from recgym.simulator.store import CARD

PICTURE, STATES = "card.png", "states.png"
RIVALS = ("popularity", "ItemKNN", "GRU")
SHUFFLED = "its labels shuffled"
_RIGHT = {
    "uniform": "right pairs",
    "popular": "right pairs, as popular",
    "true next": "true next of five",
}


def write_card(card: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a card as JSON, Markdown and pictures; those that need an extra may be left out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CARD, json.dumps(card, indent=1) + "\n")
    pictures: list[Path] = []
    with suppress(MissingExtra):
        pictures = [draw_card(card, folder / PICTURE), draw_states(card, folder / STATES)]
    write_whole(folder / "card.md", page(card, [file.name for file in pictures]))
    return [folder / CARD, folder / "card.md", *pictures]


def page(card: Mapping[str, Any], pictures: list[str]) -> str:
    """The page of a card, with the pictures that are beside it."""
    parts = [
        f"# How far to trust the simulator {card['simulator']}",
        _made(card),
        "## In short",
        "\n".join(f"- {sentence}" for sentence in _short(card)),
        "## Beside its variants, and simulators that are no language models",
        _rows(card),
        _note(card),
        "## How it answers",
        _answers(card),
        *[f"![{_shown(name, card)}]({name})" for name in pictures],
    ]
    return "\n\n".join(parts) + "\n"


def _shown(picture: str, card: Mapping[str, Any]) -> str:
    if picture == PICTURE:
        return "right pairs of all rows, reliability, rewards by popularity, positions of choices"
    coloured = ", coloured by the topic of what was taken next" if _topics(card) else ""
    return f"states on their two main axes{coloured}"


def _topics(card: Mapping[str, Any]) -> bool:
    """Does the catalogue know any?"""
    return any(card["states"]["topics"])


def _made(card: Mapping[str, Any]) -> str:
    asked, held = card["asked"], card["held"]
    model = asked["model"]
    small = (
        " It is no language model of the world: recgym made it of the catalogue's own text, "
        "sentences on items and lists of items that are alike." if model == SMALL else ""
    )  # fmt: skip
    fit = asked["fit"]
    return (
        f"The language model `{model}` ({card['parameters']:,} parameters) as the user of "
        f"`{card['dataset']}`.{small} Fitted to {card['moments']:,} moments of {card['users']:,} "
        f"users ({fit['share']:.0%} of them) in {card['batches']:,} batches of "
        f"{fit['batch_size']}; {card['padding']:.1%} of the tokens read were pads, and "
        f"{card['dropped']:,} items of histories had no room. All numbers are of "
        f"{held['moments']:,} moments of {held['users']:,} users of `{held['dataset']}`, whom it "
        "has never seen; intervals (95%) resample users, and seeds where there are several."
    )


def _short(card: Mapping[str, Any]) -> list[str]:
    rows, itself = card["rows"], card["rows"][FITTED]
    right = itself["right"]
    found = [
        f"Of what was taken and an item that was not, it prefers the taken one in "
        f"{_sure(right['uniform'])} of pairs, and in {_sure(right['popular'])} where the other is "
        f"as popular; it picks the true next item among five in {_sure(right['true next'])} "
        "(chance: .200).",
        *([_worth(card)] if set(RIVALS) <= set(rows) else []),
        f"At a declared base rate of {card['scale']['base_rate']:g}, a random item is accepted "
        f"with {_sure(itself['acceptance']['random'], 4)}, the true next one with "
        f"{_sure(itself['acceptance']['true next'], 4)}, and the best of "
        f"{itself['acceptance']['items searched']:,} items that were searched with "
        f"{_sure(itself['acceptance']['adversarial'], 4)}. The calibration error is "
        f"{itself['calibration']['error']:.4f}.",
    ]
    if SHUFFLED in rows:
        found.append(
            f"With its labels shuffled it is right in "
            f"{_sure(rows[SHUFFLED]['right']['uniform'])} of pairs; it should be .500."
        )
    if card["agreement"]:
        agreed = card["agreement"]
        found.append(
            f"The simulator that scores, of other users and another seed, has the same preference "
            f"in {_sure(agreed['same preference'])} of pairs (rank correlation "
            f"{_sure(agreed['rank correlation'])})."
        )
    if "truth" in itself:
        told = itself["truth"]
        found.append(
            f"The users are an oracle's, so the truth is known: rewards rank 20 items as their "
            f"true probabilities do with a correlation of {_sure(told['rank correlation'])}; "
            f"what is known of items alone gives {_sure(told['of items alone'])}."
        )
    if "positions" in itself["choice"]:
        shares = ", ".join(f"{share:.2f}" for share in itself["choice"]["positions"])
        found.append(f"It picks the first to the fifth of shuffled candidates in {shares}.")
    return found


def _worth(card: Mapping[str, Any]) -> str:
    """Does the language model earn its cost? By the rival that is right most often."""
    rows = card["rows"]
    best = max(RIVALS, key=lambda name: rows[name]["right"]["popular"]["mean"])
    behind = rows[best]["behind"]["popular"]
    answer = "not here: no difference is sure"
    if behind["p"] < SURE:
        answer = "yes" if behind["mean"] > 0 else "no"
    times = rows[FITTED]["cost"]["seconds"] / max(rows[best]["cost"]["seconds"], 1e-9)
    return (
        f"**Does the language model earn its cost? {answer.capitalize()}.** {best}, the best of "
        f"its rivals on pairs of like popularity, is right in "
        f"{_sure(rows[best]['right']['popular'])}; the simulator differs from it by "
        f"{spread(behind['mean'], behind['low'], behind['high'], 3, '+')} and takes {times:,.0f} "
        "times as long to answer."
    )


def _rows(card: Mapping[str, Any]) -> str:
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "seeds": lambda row: str(row["seeds"]),
        **{said: partial(_right, name) for name, said in _RIGHT.items()},
        "calibration error": lambda row: f"{row['calibration']['error']:.4f}",
    }
    if _topics(card):
        columns["states alike"] = lambda row: (
            f"{row['alike']['same']:.3f} ({row['alike']['chance']:.3f})"
        )
    if "truth" in card["rows"][FITTED]:
        columns["rank correlation with the truth"] = lambda row: _sure(
            row["truth"]["rank correlation"]
        )
    columns["tokens for 1,000 users"] = lambda row: f"{row['cost'].get('tokens', 0):,.0f}"
    columns["seconds"] = lambda row: f"{row['cost']['seconds']:.2f}"
    rows = [[label, *[said(row) for said in columns.values()]]
            for label, row in card["rows"].items()]  # fmt: skip
    return markdown([["row", *columns], *rows])


def _right(name: str, row: Mapping[str, Any]) -> str:
    return _sure(row["right"][name])


def _note(card: Mapping[str, Any]) -> str:
    several = ", ".join(f"“{label}”" for label, row in card["rows"].items() if row["seeds"] > 1)
    alike = (
        "*States alike*: how often the nearest state of another user has the same topic next, and "
        "in brackets how often any has. "
    )
    return (
        "*As popular*: the other item of a pair is drawn by popularity. "
        f"{alike if _topics(card) else ''}Rows of shares learn from as many batches as the "
        "simulator itself. Calibration and cost are of the first seed; several seeds have "
        f"{several or 'none'}. Cost is ten questions on each user, measured where the card was "
        "made."
    )


def _answers(card: Mapping[str, Any]) -> str:
    names = ("random", "popular", "true next", "adversarial")
    table = [["row", *names, "variance of rewards: item", "user", "both"]]
    for label, row in card["rows"].items():
        cells = [_sure(row["acceptance"][name], 4) for name in names]
        shares = row["consistency"]
        table.append([label, *cells, *[f"{shares[name]:.2f}" for name in ("item", "user", "both")]])
    return (
        "The probability with which items are accepted, and what the variance of rewards follows "
        f"from.\n\n{markdown(table)}"
    )


def _sure(found: Mapping[str, float], digits: int = 3) -> str:
    return spread(found["mean"], found["low"], found["high"], digits)
