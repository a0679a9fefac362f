"""Shops that are made by code: two small ones with goals, and one of any size to take times with.

Products come in families that differ in one trait, in one part or only in options and price, so who
buys has to look closely. Of some an attribute is in no text; some prices are ranges, some missing.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import TypeVar, overload

import numpy as np

from recgym.envs.draws import origins_of, uniforms
from recgym.errors import InvalidArgument
from recgym.log import sha256_of_json
from recgym.shop.assortment import FIRST, SECOND, Assortment, Department, Kind
from recgym.shop.catalogue import Catalogue, Product, catalogue_of, price_of

GOALS = 1500  # of a small shop: one for each combination of options of each product asked for
_FAMILIES = 3  # of a kind, each of four products
_HIDDEN = 0.12  # share of products with an attribute that no text mentions
_UNPRICED, _RANGES = 0.06, 0.17  # shares of products without a price, and with a range
_NAMES = (
    "{maker} {series} {noun}, {trait}",
    "{maker} {series} {noun} with {part}",
    "{trait} {noun} by {maker} - {series}",
)
_VOCABULARY = 300_000  # invented words of a large shop: the r-th comes as often as 1 / r
_FEWEST, _MOST = 30, 90  # of them in a description
_DRAWS = np.arange(64)  # that a product has, besides those words
_SYLLABLES = [first + second for first in "bdfghjklmnprstvz" for second in "aeiou"]

T = TypeVar("T")


@cache
def minishop() -> Catalogue:
    """About 500 products, for which `synthetic_goals` makes 1,500 goals."""
    return _small("minishop", FIRST)


@cache
def minishop_b() -> Catalogue:
    """As many other ones, whose names have no word in common with those of the first shop."""
    return _small("minishop-b", SECOND)


def generated(count: int, seed: int = 0) -> Catalogue:
    """So many products, made when asked for, in words that are as frequent as in real shops."""
    if not 0 < count <= 10**8:
        raise InvalidArgument(
            f"A generated shop has from 1 to 100,000,000 products, and {count:,} was given."
        )
    sha256 = sha256_of_json({"generated": 1, "count": count, "seed": seed})
    numbers = _MadeNumbers(count)
    return Catalogue(f"generated-{count}", _Made(count, seed), sha256, numbers=numbers)


class _Draws:
    """Random choices that depend on some words only, on every machine."""

    def __init__(self, *what: object) -> None:
        text = "\0".join(map(str, what))
        bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        self._keys = origins_of(np.array([bits], np.uint64))
        self._left: Iterator[float] = iter(uniforms(self._keys, 0, _DRAWS).tolist())
        self._invented = 0

    def share(self) -> float:
        """A number in [0, 1)."""
        return next(self._left)

    def pick(self, values: Sequence[T]) -> T:
        """One of them."""
        return values[int(self.share() * len(values))]

    def several(self, values: Sequence[T], count: int) -> list[T]:
        """So many different ones, in any order."""
        left = list(values)
        return [left.pop(int(self.share() * len(left))) for _ in range(count)]

    def filler(self, count: int) -> str:
        """So many invented words."""
        places = np.arange(self._invented, self._invented + count)
        self._invented += count
        ranks = (_VOCABULARY ** uniforms(self._keys, 1, places)).astype(np.int64) - 1
        words = _invented()
        return " ".join([words[rank] for rank in ranks.tolist()])


@dataclass(frozen=True, slots=True)
class _Thing:
    """What a product is, before anything is written about it."""

    department: Department
    kind: Kind
    maker: str
    series: str
    name: str  # the form of its name
    traits: tuple[str, ...]
    parts: tuple[str, ...]
    price: float


# --------------------------------------------------------------------------------- the small shops


def _small(name: str, assortment: Assortment) -> Catalogue:
    things = [
        thing
        for department, kind in _kinds(assortment)
        for series in _Draws(name, "series", kind.noun).several(assortment.series, _FAMILIES)
        for thing in _family(department, kind, series, _Draws(name, kind.noun, series))
    ]
    places = _order(name, len(things))  # so neighbours are not of one family
    products = [_product(things[place], assortment, _Draws(name, place), _asin(name, place))
                for place in places]  # fmt: skip
    return catalogue_of(name, _asked_for(products, _order(f"goals of {name}", len(products))))


def _kinds(assortment: Assortment) -> Iterator[tuple[Department, Kind]]:
    return ((department, kind) for department in assortment.departments
            for kind in department.kinds)  # fmt: skip


def _order(what: str, count: int) -> list[int]:
    """The numbers below `count`, in any order."""
    return sorted(range(count), key=lambda place: _Draws(what, "order", place).share())


def _asin(name: str, place: int) -> str:
    return "M" + hashlib.sha256(f"{name}\0{place}".encode()).hexdigest()[:9].upper()


def _family(department: Department, kind: Kind, series: str, draws: _Draws) -> list[_Thing]:
    """Four products: the second differs in a trait, the third in a part, the fourth in neither."""
    maker, name = draws.pick(department.makers), draws.pick(_NAMES)
    trait, other, another = draws.several(tuple(department.traits), 3)
    part, detail, another_detail = draws.several(kind.parts, 3)
    price = kind.cheapest + draws.share() * (kind.dearest - kind.cheapest)
    return [
        _Thing(department, kind, maker, series, name, traits, parts, price * (0.9 + 0.2 * each))
        for traits, parts, each in (
            ((trait, other), (part, detail), draws.share()),
            ((trait, another), (part, detail), draws.share()),
            ((trait, other), (part, another_detail), draws.share()),
            ((trait, other), (part, detail), draws.share()),
        )
    ]


def _asked_for(products: list[Product], order: list[int]) -> list[Product]:
    """The same; those that more would be than goals are wanted lose their instructions."""
    left = GOALS
    products = products.copy()
    for number in order:
        goals = prod(map(len, products[number].options.values()))
        if goals <= left:
            left -= goals
        else:
            products[number] = replace(products[number], instruction="", instruction_attributes=())
    return products


# -------------------------------------------------------------------------------------- a product


def _product(
    thing: _Thing, assortment: Assortment, draws: _Draws, asin: str, filler: bool = False
) -> Product:
    kind, known = thing.kind, (*thing.traits, *thing.parts)
    hidden = draws.pick(known[1:2] + known[3:]) if draws.share() < _HIDDEN else ""
    words = {
        "maker": thing.maker, "series": thing.series, "noun": kind.noun.title(),
        "trait": thing.traits[0].title(), "part": thing.parts[0].title(),
    }  # fmt: skip
    prices = _prices(thing.price, draws)
    instruction, asked = _instruction(thing, assortment, draws)
    bullets = [_bullet(thing, assortment, each, draws) for each in known if each != hidden]
    if draws.share() < 0.5:
        bullets.append(draws.pick(assortment.extras))
    verb = "are" if kind.is_plural else "is"
    said = [f"The {thing.series} {kind.noun} by {thing.maker} {verb} made for {kind.purpose}."]
    if thing.parts[1] != hidden and draws.share() < 0.5:
        said.append(f"{'They come' if kind.is_plural else 'It comes'} with {thing.parts[1]}.")
    said.append(draws.pick(assortment.closings))
    if filler:
        said.append(draws.filler(_FEWEST + int(draws.share() * (_MOST - _FEWEST))))
    return Product(
        asin=asin,
        name=thing.name.format_map(words),
        description=" ".join(said),
        bullets=tuple(draws.several(bullets, len(bullets))),
        category=thing.department.category,
        query=kind.noun,
        path=(thing.department.aisle, kind.shelf, kind.noun.title()),
        options=_options(kind, assortment, draws),
        prices=prices,
        price=price_of(asin, prices),
        attributes=tuple(draws.several(known, len(known))),
        instruction=instruction,
        instruction_attributes=asked,
    )


def _bullet(thing: _Thing, assortment: Assortment, attribute: str, draws: _Draws) -> str:
    why = thing.department.traits.get(attribute) or draws.pick(assortment.praises)
    return f"{attribute.upper()}: {why}"


def _prices(price: float, draws: _Draws) -> tuple[float, ...]:
    share, cents = draws.share(), draws.pick((0.0, 0.49, 0.95, 0.99))
    if share < _UNPRICED:
        return ()
    first = int(price) + cents
    dearer = int(price * (1.2 + 0.4 * draws.share())) + 1 + cents
    return (first, dearer) if share < _UNPRICED + _RANGES else (first,)


def _options(kind: Kind, assortment: Assortment, draws: _Draws) -> dict[str, tuple[str, ...]]:
    """Of the kind's two groups none, one or both, with some of their values."""
    first, second = kind.groups
    share = draws.share()
    groups = (() if share < 0.1 else (first,) if share < 0.4 else (second,) if share < 0.6
              else kind.groups)  # fmt: skip
    options = {}
    for group in groups:
        values = assortment.options[group]
        most = min(4 if len(groups) == 1 else 3, len(values))
        chosen = draws.several(values, 2 + int(draws.share() * (most - 1)))
        options[group] = tuple(sorted(chosen, key=values.index))
    return options


def _instruction(
    thing: _Thing, assortment: Assortment, draws: _Draws
) -> tuple[str, tuple[str, ...]]:
    """What somebody says who wants it, and the attributes in it: those that families differ in."""
    share = draws.share()
    traits = thing.traits if share < 0.6 else thing.traits[1:]
    parts = thing.parts if 0.3 < share < 0.9 else thing.parts[1:]
    what = f"{', '.join(traits)} {thing.kind.noun}"
    verb, article = ("have", "") if thing.kind.is_plural else ("has", "a ")
    if article and what[0] in "aeiou":
        article = "an "
    where = f" for {thing.kind.purpose}" if draws.share() < 0.3 else ""
    opening = draws.pick(assortment.openings)
    return f"{opening} {article}{what}{where} that {verb} {' and '.join(parts)}", (*traits, *parts)


# --------------------------------------------------------------------------------- one of any size


class _Made(Sequence[Product]):
    """Products that are made each time they are asked for."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._kinds = [(assortment, *kind) for assortment in (FIRST, SECOND)
                       for kind in _kinds(assortment)]  # fmt: skip

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Product: ...
    @overload
    def __getitem__(self, number: slice) -> list[Product]: ...
    def __getitem__(self, number: int | slice) -> Product | list[Product]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(self._count))]
        number = range(self._count)[number]
        draws = _Draws("generated", self._seed, number)
        assortment, department, kind = draws.pick(self._kinds)
        thing = _Thing(
            department, kind,
            maker=draws.filler(1).title(),
            series=f"{draws.pick(assortment.series)} {draws.pick('ABCDEFGHKLMNPRSTVX')}"
            f"{int(draws.share() * 10_000)}",
            name=draws.pick(_NAMES),
            traits=tuple(draws.several(tuple(department.traits), 2)),
            parts=tuple(draws.several(kind.parts, 2)),
            price=kind.cheapest + draws.share() * (kind.dearest - kind.cheapest),
        )  # fmt: skip
        return _product(thing, assortment, draws, f"G{number:09d}", filler=True)


class _MadeNumbers(Mapping[str, int]):
    """The number that is in an ASIN."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (f"G{number:09d}" for number in range(self._count))

    def __getitem__(self, asin: str) -> int:
        digits = asin[1:]
        if asin[:1] == "G" and len(digits) == 9 and digits.isascii() and digits.isdigit():
            number = int(digits)
            if number < self._count:
                return number
        raise KeyError(asin)


@cache
def _invented() -> list[str]:
    """Words of two to four syllables, the most frequent one first."""
    base, words = len(_SYLLABLES), []
    for rank in range(_VOCABULARY):
        syllables, rest = [_SYLLABLES[rank * 37 % base]], rank // base
        while rest or len(syllables) < 2:
            syllables.append(_SYLLABLES[rest % base])
            rest //= base
        words.append("".join(syllables) + "nrlt"[rank % 4])
    return words
