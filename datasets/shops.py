"""Measure the shops and write recgym/shop/shops.json, which is then frozen: --check compares.

`--files FOLDER` also measures WebShop's official 1,000 products; without it, what is written of
them stays.
"""

import argparse
import json
import sys
import tempfile
from os import environ

import numpy as np
from rich.progress import track

from recgym.log import sha256_of_json
from recgym.shop.pages import Place
from recgym.shop.shoppers import SHOPPERS, shopped
from recgym.shop.store import FROZEN, MINI, Opened, open_shop


def measured(known: Opened) -> dict[str, object]:
    """What a shop is made of, and what shoppers reach for its goals."""
    catalogue = known.shop.catalogue
    return {
        "catalogue": catalogue.sha256,
        "products": len(catalogue.products),
        "goals": len(known.goals),
        "goals_sha256": sha256_of_json([[goal.text, goal.product] for goal in known.goals]),
        "nouns": known.nouns,
        "scores": {
            split: {name: _reached(known, name, numbers) for name in SHOPPERS}
            for split, numbers in known.splits.items()
        },
    }


def _reached(known: Opened, shopper: str, numbers: list[int]) -> dict[str, float]:
    """The mean reward of all goals alike, and how often it is 1."""
    rewards, steps = [], 0
    for number in track(numbers, f"{known.shop.catalogue.name}: {shopper}"):
        goal, rng = known.goals[number], np.random.default_rng((number, 1))
        place = Place()
        for action in shopped(known.shop, goal, SHOPPERS[shopper].shopper, rng):
            place, _ = known.shop.step(place, action)
            steps += 1
        rewards.append(known.shop.reward(place, goal).total if place.page == "done" else 0.0)
    found = np.array(rewards)
    return {
        "score": float(found.mean()),
        "error": float(found.std() / len(found) ** 0.5),
        "success": float((found == 1).mean()),
        "steps": steps / len(numbers),
    }


def main() -> None:
    """Write the file, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", help="the folder of WebShop's official 1,000 products")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    known = json.loads(FROZEN.read_text(encoding="utf-8")) if FROZEN.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        environ["RECGYM_HOME"] = folder
        found = {name: measured(open_shop(name)) for name in MINI}
        if asked.files:
            found["webshop-1k"] = measured(open_shop("webshop-1k", asked.files))
        elif "webshop-1k" in known:
            found["webshop-1k"] = known["webshop-1k"]
    text = json.dumps(found, indent=1) + "\n"
    if not asked.check:
        FROZEN.write_text(text, encoding="utf-8")
    elif FROZEN.read_text(encoding="utf-8") != text:
        sys.exit(f"What is measured differs from {FROZEN.name}: a shop has changed.")


if __name__ == "__main__":
    main()
