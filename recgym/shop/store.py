"""Shops by their names: products, index and goals, made once and kept."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recgym import __version__
from recgym.errors import InvalidArgument, UnknownName, printable
from recgym.home import home, locked, write_whole
from recgym.log import sha256_of_json
from recgym.shop.catalogue import Catalogue, keep_webshop, open_catalogue
from recgym.shop.generated import minishop, minishop_b
from recgym.shop.goals import (
    Goal,
    Split,
    human_goals,
    read_goals,
    split_goals,
    synthetic_goals,
    without_price,
    write_goals,
)
from recgym.shop.pages import Place, Shop
from recgym.shop.reward import Judge
from recgym.shop.search import Index

MINI: dict[str, Callable[[], Catalogue]] = {"minishop": minishop, "minishop-b": minishop_b}
WEBSHOP = ("webshop", "webshop-1k")  # of files of the user's own
FROZEN = Path(__file__).with_name("shops.json")  # what was measured of shops, and never changes
_ASCII = "".join(map(chr, range(32, 127))) + "\n"


@dataclass(frozen=True)
class Opened:
    """A shop with all that its environments need."""

    shop: Shop
    goals: list[Goal]
    splits: dict[Split, list[int]]
    nouns: str  # by which rule names are compared: part of every score
    longest: int  # characters of a page
    characters: str  # of all pages
    most: int  # things that can be done at once

    @staticmethod
    def query(goal: Goal) -> str:
        """A goal's own words, as somebody would search for them who does not think."""
        return without_price(goal.text).lower()


def open_shop(
    name: str,
    files: str = "",
    goals: str = "synthetic",
    compat: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> Opened:
    """A shop, from where it was kept, or made now: the embedded ones, or one of WebShop's files."""
    folder = _folder(name, files)
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with locked(folder / ".lock") as ours:  # another process may be making the same
            if ours:
                return _opened(name, files, goals, compat, folder, say)
        time.sleep(0.2)


def _folder(name: str, files: str) -> Path:
    """Where a shop is kept: other products have another place."""
    if name in MINI:
        if files:
            raise InvalidArgument(f"The shop '{name}' is made by recgym and takes no files.")
        made: Any = MINI[name]().sha256
    elif name in WEBSHOP:
        if not files:
            raise InvalidArgument(
                f"The shop '{name}' is made of WebShop's files: give their folder as files=…, with "
                "items_shuffle*.json and items_ins_v2*.json in it."
            )
        if not Path(files).is_dir():
            raise InvalidArgument(
                f"{printable(files)} is no folder: give that of WebShop's files as files=…."
            )
        known = sorted(Path(files).resolve().glob("items_*.json"))
        made = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in known]
    else:
        raise UnknownName("shop", name, (*MINI, *WEBSHOP))
    key = sha256_of_json({"name": name, "of": made, "recgym": __version__})
    return home() / "shops" / f"{name}-{key[:16]}"


def _opened(
    name: str, files: str, goals: str, compat: bool, folder: Path, say: Callable[[str], None]
) -> Opened:
    if name in MINI:
        catalogue = MINI[name]()
    else:
        if not (folder / "catalogue").exists():
            say(f"Reading the products in {files}.")
            keep_webshop(files, folder / "catalogue")
        catalogue = open_catalogue(folder / "catalogue")
    if not (folder / "index").exists():
        say(f"Indexing {len(catalogue.products):,} products.")
        Index.build(catalogue, folder / "index")
    index = Index.open(folder / "index", catalogue.sha256)
    file = folder / f"goals-{goals}.json"
    if not file.exists():
        write_goals(_goals(catalogue, files, goals), file, catalogue)
    known = read_goals(file, catalogue)
    judge = Judge("rule-1" if name in MINI else "auto")  # of ours, scores are the same everywhere
    shop = Shop(catalogue, index, judge, compat)
    limits = _kept(folder / f"limits-{goals}.json", lambda: _limits(shop, known))
    return Opened(shop, known, split_goals(known), shop.judge.nouns, **limits)


def _kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file keeps; it is made again where it cannot be read."""
    with suppress(OSError, ValueError):
        return dict(json.loads(file.read_text(encoding="utf-8")))
    found = make()
    write_whole(file, json.dumps(found) + "\n")
    return found


def _goals(catalogue: Catalogue, files: str, kind: str) -> list[Goal]:
    if kind == "synthetic":
        return synthetic_goals(catalogue)
    there = sorted(Path(files).glob("items_human_ins*.json")) if files else []
    if not there:
        raise InvalidArgument(
            "Goals that people wrote are in WebShop's items_human_ins.json, which is not among the "
            "files: put it there, or take goals='synthetic'."
        )
    return human_goals(catalogue, there[0])


def _limits(shop: Shop, goals: list[Goal]) -> dict[str, Any]:
    """How long pages get, what characters they are of, and how much can be done on one."""
    longest, most, seen = 0, 16, set(_ASCII)  # a page of results has no more than 13
    told = max((len(goal.text) for goal in goals), default=0)
    for number in range(len(shop.catalogue.products)):
        place = Place("item", product=number)
        pages = [place, *(Place("sub", product=number, sub=sub) for sub in shop.subs)]
        texts = [shop.text(page, "", rich=True) for page in pages]
        longest = max(longest, *map(len, texts))
        most = max(most, len(shop.actions(place)))
        seen.update(*texts)
    for goal in goals:
        seen.update(goal.text)
    return {
        "longest": longest + told + 50_000,  # options that were clicked, and results' names
        "characters": "".join(sorted(seen)),
        "most": most,
    }
