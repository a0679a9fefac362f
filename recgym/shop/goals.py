"""What shoppers want: goals made of products' instructions and options, or written by people."""

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from itertools import product as combinations_of
from pathlib import Path
from typing import Any, Literal

from recgym.errors import BadDataset, BadRawData, InvalidArgument, printable
from recgym.home import write_whole
from recgym.log import sha256_of_json
from recgym.shop.catalogue import Catalogue, Product, read_json, share_of, text_of, texts_of

Split = Literal["train", "validation", "test"]
SEED = 233  # of price limits, unless another is given
SHARES: Mapping[Split, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
NO_LIMIT = 1_000_000.0
_TIERS = [10.0 * tier for tier in range(1, 100)]  # of price limits
_NEXT = 4  # tiers above a price, of which two are drawn
_CLAUSE = re.compile(r", and price lower than [0-9.]+ dollars$")
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Goal:
    """What a shopper wants, in words, and what those words are about."""

    text: str  # the instruction with its price clause
    product: int  # of the catalogue
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]  # (group, value); group "" where people name values only
    price_upper: float  # NO_LIMIT where there is no limit
    query: str  # this and what follows: the product's own
    path: tuple[str, ...]
    name: str
    category: str
    weight: float = 1.0  # how often it is drawn, relative to others
    human: bool = False


def synthetic_goals(catalogue: Catalogue, seed: int = SEED) -> list[Goal]:
    """One goal for each product with an instruction and each combination of its options.

    As WebShop derives them: by product, then by option group in the order of their names.
    """
    goals = []
    for number, product in enumerate(catalogue.products):
        if not product.instruction or not product.instruction_attributes:
            continue
        upper, clause = _limit(product, seed)
        groups = sorted(product.options)
        for values in combinations_of(*(product.options[group] for group in groups)):
            options = tuple(zip(groups, values, strict=True))
            named = ", and ".join(f"{group}: {value}" for group, value in options)
            goals.append(
                _goal(
                    number, product, f"{product.instruction}{named and ' with '}{named}{clause}",
                    product.instruction_attributes, options, upper,
                )
            )  # fmt: skip
    times = Counter(attribute for goal in goals for attribute in goal.attributes)
    weights = [sum(1 / times[each] for each in goal.attributes) / len(goal.attributes)
               for goal in goals]  # fmt: skip
    return [replace(goal, weight=weight) for goal, weight in zip(goals, weights, strict=True)]


def human_goals(catalogue: Catalogue, file: str | os.PathLike[str], seed: int = SEED) -> list[Goal]:
    """The goals that people wrote: WebShop's items_human_ins.json, a list of them for each ASIN.

    As WebShop reads it: those without attributes are left out, as are products that the catalogue
    does not have.
    """
    written = read_json(Path(file))
    if not isinstance(written, dict):
        raise BadRawData(f"{file} holds no goals by ASIN: give WebShop's items_human_ins.json.")
    known = {asin: catalogue.number(asin.upper()) for asin in written}
    goals = []
    for asin, number in sorted(known.items(), key=lambda pair: pair[1]):
        if number < 0:
            continue
        product, entries = catalogue.products[number], written[asin]
        for place, entry in enumerate(entries if isinstance(entries, list) else []):
            about = entry if isinstance(entry, dict) else {}
            text = text_of(about.get("instruction")).strip().strip(".")
            attributes = texts_of(about.get("instruction_attributes"))
            if text and attributes:
                upper, clause = _limit(product, seed, place)
                options = tuple(("", value) for value in texts_of(about.get("instruction_options")))
                goal = _goal(number, product, text + clause, attributes, options, upper)
                goals.append(replace(goal, human=True))
    if not goals:
        raise BadRawData(
            f"{file} holds no goal for any of the {len(catalogue.products):,} products of "
            f"{printable(catalogue.name)}: give a file of that catalogue."
        )
    return goals


def split_goals(
    goals: Sequence[Goal], shares: Mapping[Split, float] = SHARES
) -> dict[Split, list[int]]:
    """Which goals are in which split: their numbers, in order.

    Goals whose instructions are equal but for price, case and spaces stay together, so no text is
    in two splits. A hash of the text puts it in its place, so neither order nor seed matters.
    """
    if (
        set(shares) != set(SHARES)
        or min(shares.values()) < 0
        or not math.isclose(sum(shares.values()), 1)
    ):
        raise InvalidArgument(
            f"Shares are given for {', '.join(SHARES)}, none below 0, and add up to 1; "
            f"{printable(repr(dict(shares)))} was given."
        )
    together: dict[str, list[int]] = {}
    for number, goal in enumerate(goals):
        said = " ".join(without_price(goal.text).lower().split())
        together.setdefault(said, []).append(number)
    order = sorted(together, key=lambda said: hashlib.sha256(said.encode()).digest())
    chosen = [split for split in SHARES if shares[split]]
    ends = list(accumulate(shares[split] * len(goals) for split in chosen))
    splits: dict[Split, list[int]] = {split: [] for split in SHARES}
    placed = 0
    for said in order:
        place = sum(placed >= end for end in ends[:-1])
        splits[chosen[place]] += together[said]
        placed += len(together[said])
    return {split: sorted(numbers) for split, numbers in splits.items()}


def without_price(text: str) -> str:
    """The words of a goal without its price clause."""
    return _CLAUSE.sub("", text)


def write_goals(goals: Sequence[Goal], file: str | os.PathLike[str], catalogue: Catalogue) -> None:
    """Keep goals in a file of JSON, which is there whole or not at all."""
    rows = []
    for goal in goals:
        product, row = catalogue.products[goal.product], {}
        for name in _FIELDS:
            value = getattr(goal, name)
            if name not in _OWN or value != getattr(product, name):  # most are the product's own
                row[name] = value
        rows.append(row)
    about = {"schema": _SCHEMA, "catalogue": catalogue.name, "catalogue_sha256": catalogue.sha256}
    content = about | {"goals_sha256": sha256_of_json({"goals": rows}), "goals": rows}
    write_whole(Path(file), json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_goals(file: str | os.PathLike[str], catalogue: Catalogue) -> list[Goal]:
    """The goals that a file keeps, for the catalogue they were made for."""
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        why = printable(getattr(problem, "strerror", None) or str(problem)).rstrip(".")
        raise BadDataset(f"The goals in {file} cannot be read ({why}): make them anew.") from None
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        raise BadDataset(
            f"{file} holds no goals of schema version {_SCHEMA}: make them anew with this recgym."
        )
    if content.get("catalogue_sha256") != catalogue.sha256:
        raise BadDataset(
            f"The goals in {file} are for another catalogue "
            f"({printable(str(content.get('catalogue')))}, not {printable(catalogue.name)} as it "
            "is): make them anew."
        )
    if content.get("goals_sha256") != sha256_of_json({"goals": content.get("goals")}):
        raise BadDataset(f"The goals in {file} were changed after they were written: make them "
                         "anew.")  # fmt: skip
    return [_kept(row, catalogue) for row in content["goals"]]


_FIELDS = tuple(field.name for field in fields(Goal))
_OWN = ("query", "path", "name", "category")


def _goal(
    number: int,
    product: Product,
    text: str,
    attributes: tuple[str, ...],
    options: tuple[tuple[str, str], ...],
    upper: float,
) -> Goal:
    own: dict[str, Any] = {name: getattr(product, name) for name in _OWN}
    return Goal(text, number, attributes, options, upper, **own)


def _limit(product: Product, seed: int, place: int = 0) -> tuple[float, str]:
    """The most a product may cost, and how a goal says that.

    Of the next tiers above its price two are drawn, and the higher one counts: the j-th of n (from
    0) is the higher one in j of n (n - 1) / 2 pairs. Fewer than two tiers: no limit. The draw
    depends on the seed and the product only, not on what else is in the catalogue.
    """
    above = [tier for tier in _TIERS if tier > product.price][:_NEXT]
    if len(above) < 2:
        return NO_LIMIT, ""
    pair = int(share_of("limit", seed, product.asin, place) * math.comb(len(above), 2))
    higher = next(j for j in range(1, len(above)) if pair < math.comb(j + 1, 2))
    return above[higher], f", and price lower than {above[higher]:.2f} dollars"


def _kept(row: dict[str, Any], catalogue: Catalogue) -> Goal:
    product = catalogue.products[row["product"]]
    values = {name: getattr(product, name) for name in _OWN} | row
    for name in ("attributes", "path"):
        values[name] = tuple(values[name])
    values["options"] = tuple((group, value) for group, value in row["options"])
    return Goal(**values)
