"""What steps, searches and an index cost, in shops that are made here.

All sides of a comparison take turns in one run. `--million` searches a million products instead of
a thousand, and says how large their index is, and how long it took to build: minutes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # NumPy asks for it when it is loaded

import argparse  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
from datetime import date  # noqa: E402
from pathlib import Path  # noqa: E402

import bm25s  # noqa: E402
import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from _common import report, seconds  # noqa: E402

import recgym.envs.shop as environment  # noqa: E402
from recgym.agents.bert import make_small_bert  # noqa: E402
from recgym.agents.choices import offered, query_of, read_as  # noqa: E402
from recgym.agents.reader import make_reader, reader_plan  # noqa: E402
from recgym.agents.wordpieces import texts_of  # noqa: E402
from recgym.envs.shop import ShopEnv, Shoppers, ShopVectorEnv  # noqa: E402
from recgym.shop.catalogue import Catalogue, catalogue_of  # noqa: E402
from recgym.shop.generated import generated  # noqa: E402
from recgym.shop.goals import synthetic_goals  # noqa: E402
from recgym.shop.search import MOST, Index  # noqa: E402
from recgym.shop.shoppers import SHOPPERS, shopped  # noqa: E402
from recgym.shop.store import MINI  # noqa: E402

QUERIES, ROUNDS, READERS = 200, 9, 16
SHOP, SESSIONS, TOGETHER = "recgym/MiniShop-v0", 512, 256
DESCRIBED = 5  # words of a description in a query
FEW, MANY = 1_000, 1_000_000
BARS = {FEW: 1e-3, MANY: 30e-3}  # seconds of a search


def main() -> None:
    """Every claim, one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="of products; takes minutes")
    parser.add_argument("--folder", type=Path, help="where the index is built (then deleted)")
    asked = parser.parse_args()
    catalogue = generated(MANY if asked.million else FEW)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        if not asked.million:
            os.environ["RECGYM_HOME"] = str(Path(folder) / "home")
            thousand = catalogue_of("thousand", list(catalogue.products))  # made but once
            MINI["thousand"] = lambda: thousand
            shopping()
            reading(Path(folder) / "bert")
        index = built(catalogue, Path(folder) / "index")
        opening(catalogue, Path(folder) / "index")
        searching(catalogue, index, Path(folder) / "index")


# --------------------------------------------------------------------------------- comparisons


def shopping() -> None:
    """Steps of one shopper and of many, which search, look, go back, choose and buy."""
    env = gymnasium.make(SHOP, shop="thousand").unwrapped
    pairs = [(seconds(opened_anew), 2.0) for _ in range(ROUNDS)]
    report(f"opening a shop of {FEW:,} products that is indexed", pairs, at_most=1)
    plans = [planned(env, seed) for seed in range(2 * (ROUNDS + 1) * SESSIONS)]
    envs = gymnasium.make_vec(
        SHOP, TOGETHER, vectorization_mode="vector_entry_point", shop="thousand"
    )
    forget(env.shoppers)  # what was made while planning
    times = []
    for first in range(0, len(plans), 2 * SESSIONS):  # no goal's search was made before
        middle = first + SESSIONS
        one = alone(env, plans, range(first, middle))
        times.append((one, together(envs, plans, range(middle, middle + SESSIONS))))
    mean = np.mean([len(plan) for plan in plans])
    name = f"a step at {FEW:,} products, of sessions of {mean:.1f}, with text and actions"
    report(name, [(one, 1 / 10_000) for one, _ in times[1:]], at_most=1)
    report(f"{name}, of {TOGETHER} at once", [(of, 1 / 20_000) for _, of in times[1:]], at_most=1)
    tracemalloc.start()
    more = gymnasium.make_vec(SHOP, 1_000, vectorization_mode="vector_entry_point", shop="thousand")
    more.reset(seed=0)
    each = tracemalloc.get_traced_memory()[0] / 1_000
    tracemalloc.stop()
    report("memory of each of 1,000 shoppers more", [(each, 64 * 1024)], at_most=1)


def reading(folder: Path) -> None:
    """Scores of all actions on pages of many shoppers in one pass, against one pair at a time."""
    envs = gymnasium.make_vec(
        "recgym/MiniShop-v0", READERS, vectorization_mode="vector_entry_point"
    )
    _, infos = envs.reset(seed=0)
    pages, infos = envs.step([query_of(goal) for goal in infos["goal"]])[0::4]
    read = [read_as(page, known) for page, known in zip(pages, offered(infos), strict=True)]
    pages, actions = zip(*read, strict=True)
    make_small_bert(texts_of(envs.shoppers.shopping.shop.catalogue.products), folder, steps=1)
    reader = make_reader(reader_plan(str(folder)))
    torch.set_num_threads(1)

    @torch.no_grad()
    def together() -> list[torch.Tensor]:
        return reader.scores(pages, actions)

    @torch.no_grad()
    def pairs() -> list[torch.Tensor]:
        return [torch.cat([reader.scores([page], [[action]])[0] for action in some])
                for page, some in zip(pages, actions, strict=True)]  # fmt: skip

    for ours, theirs in zip(together(), pairs(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    times = [(seconds(together), seconds(pairs)) for _ in range(ROUNDS // 2)]
    each = np.mean([*map(len, actions)])
    report(f"pages of {READERS} shoppers, {each:.0f} actions each, read once", times, at_least=5)


def opened_anew() -> None:
    """As a process that begins opens it."""
    environment._opened.cache_clear()
    gymnasium.make(SHOP, shop="thousand")


def planned(env: ShopEnv, seed: int) -> list[str]:
    """What a scripted shopper does from a seed."""
    env.reset(seed=seed)
    shoppers = env.shoppers
    goal = shoppers.shopping.goals[int(shoppers.goal[0])]
    shopper, rng = SHOPPERS["scripted"].shopper, np.random.default_rng(seed)
    return shopped(shoppers.shopping.shop, goal, shopper, rng)


def alone(env: ShopEnv, plans: list[list[str]], some: range) -> float:
    """Seconds for a step of one environment."""

    def shop() -> None:
        for seed in some:
            env.reset(seed=seed)
            for action in plans[seed]:
                env.step(action)

    return seconds(shop) / sum(len(plans[seed]) for seed in some)


def together(envs: ShopVectorEnv, plans: list[list[str]], some: range) -> float:
    """Seconds for a step of one of many, who act until the last one is done."""
    steps = 0

    def shop() -> None:
        nonlocal steps
        for first in range(some.start, some.stop, TOGETHER):
            envs.reset(seed=first)
            mine = plans[first : first + TOGETHER]
            for step in range(min(map(len, mine))):
                envs.step([plan[step] for plan in mine])
                steps += TOGETHER

    return seconds(shop) / steps


def forget(shoppers: Shoppers) -> None:
    """Pages and searches are made anew, as for shoppers of a shop that has just opened."""
    for part in vars(shoppers.shopping.shop).values():
        if hasattr(part, "cache_clear"):
            part.cache_clear()


def built(catalogue: Catalogue, folder: Path) -> Index:
    """How long it takes to build an index, how large it is, and what memory was needed for it."""
    count = len(catalogue.products)
    begin = time.perf_counter()
    index = Index.build(catalogue, folder)
    taken = time.perf_counter() - begin
    row = {
        "name": f"index of {count:,} products", "build seconds": round(taken, 2),
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "peak memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "machine": platform.machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return index


def opening(catalogue: Catalogue, folder: Path) -> None:
    """Opening an index that is built, against the two seconds that a start may take."""
    pairs = [(seconds(Index.open, folder, catalogue.sha256), 2.0) for _ in range(ROUNDS)]
    report(f"opening an index of {len(catalogue.products):,} products", pairs, at_most=1)


def searching(catalogue: Catalogue, index: Index, folder: Path) -> None:
    """A search as a shopper's, against its bar, and against bm25s on the same arrays."""
    count, queries = len(catalogue.products), spoken(catalogue)
    terms = [index.analysed(query) for query in queries]
    theirs = bm25s.BM25.load(folder, mmap=True)
    products = np.diff(theirs.scores["indptr"])  # that have each term
    known = [products[theirs.get_tokens_ids(words)].sum() / count for words in terms]
    for query, words in zip(queries[:20], terms, strict=False):
        np.testing.assert_allclose(index.scores(query), theirs.get_scores(words), rtol=1e-5)

    def ours() -> None:
        for query in queries:
            index.search(query)

    def retrieve() -> None:
        for words in terms:
            theirs.retrieve([words], k=MOST, show_progress=False)

    for act in (ours, retrieve):
        act()  # the first reads them from the disk
    times = [
        (seconds(ours) / len(queries), seconds(retrieve) / len(queries)) for _ in range(ROUNDS)
    ]
    name = (
        f"a search of {count:,} products, of {np.mean([*map(len, terms)]):.1f} terms that are in "
        f"{np.mean(known):.2f} times as many"
    )
    report(name, [(taken, BARS[count]) for taken, _ in times], at_most=1)
    report(f"{name}, against bm25s, which is given the terms", times, at_least=1)


# ------------------------------------------------------------------------------------- invented


def spoken(catalogue: Catalogue) -> list[str]:
    """Goals' texts, with options and price, and some words of descriptions.

    These make their terms as common as those of what people asked of WebShop, which are in 1.12
    times as many products as there are.
    """
    count = len(catalogue.products)
    some = catalogue.products[:: max(count // QUERIES, 1)][:QUERIES]
    goals = synthetic_goals(Catalogue("some", some, ""))
    return [
        " ".join([goal.text.lower(), *some[goal.product].description.split()[-DESCRIBED:]])
        for goal in goals[:: max(len(goals) // QUERIES, 1)]
    ]


if __name__ == "__main__":
    main()
