"""Who shops in `recgym play`: you, by number or in words, or a shopper that need not learn."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from recgym.envs.shop import ShopEnv
from recgym.errors import UnknownName

Chooser = Callable[[Any, dict[str, Any]], Any]  # None: no more


def shop_chooser(env: ShopEnv, by: str, seed: int) -> Chooser:
    """An action for each page."""
    from recgym.shop.shoppers import SHOPPERS

    if by == "you":
        print("Choose by number, or say search[words] or click[what]; q ends.")
        return _you
    if by == "random":
        rng = np.random.default_rng(seed)
        return lambda text, info: _any(info, rng)
    if by not in SHOPPERS:
        raise UnknownName("shopper", by, ("you", "random", *SHOPPERS))
    shoppers = env.shoppers
    goal = shoppers.shopping.goals[shoppers.goal[0]]
    doing = SHOPPERS[by].shopper(shoppers.shopping.shop, goal, np.random.default_rng((seed, 1)))
    begun = False

    def act(text: str, info: dict[str, Any]) -> Any:
        nonlocal begun
        try:
            action = doing.send(shoppers.places[0]) if begun else next(doing)
        except StopIteration:
            return None
        begun = True
        return action

    return act


def _any(info: dict[str, Any], rng: np.random.Generator) -> str:
    """Anything that can be done; searches are for the goal's own words."""
    action: str = rng.choice(json.loads(info["actions"]))
    return f"search[{info['goal']}]" if action.startswith("search[") else action


def _you(text: str, info: dict[str, Any]) -> str | None:
    """Ask on the terminal."""
    actions = json.loads(info["actions"])
    for number, action in enumerate(actions, start=1):
        print(f"  {number:2}) {action}")
    try:
        words = input("> ").strip()
    except EOFError:
        return None
    if words.lower() in ("q", "quit"):
        return None
    if words.isdigit() and 1 <= int(words) <= len(actions) and "<query>" not in actions[0]:
        return str(actions[int(words) - 1])
    if info["page"] == "search" and words and "[" not in words:
        return f"search[{words}]"  # what else could be meant there
    return words
