"""Full ranking and the product that makes its scores: at most 2.5 times the bare product."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
from _common import report, seconds

from recgym.evaluation.ranking import rank

LIBRARIES = ("OMP", "OPENBLAS", "MKL")
TARGETS, WIDTH, ROUNDS = 4000, 64, 9


def main() -> None:
    """Compare in processes of their own: NumPy asks for the number of threads when it is loaded."""
    for threads in ("1", "2"):
        environ = os.environ | {f"{library}_NUM_THREADS": threads for library in LIBRARIES}
        subprocess.run([sys.executable, __file__, threads], env=environ, check=True)


def compare(threads: str) -> None:
    """Time both in turn; both products reuse a buffer, and the bare one is made in larger parts."""
    rng = np.random.default_rng(0)
    for n_items in (30_000, 100_000, 3000):
        queries = rng.standard_normal((TARGETS, WIDTH), dtype=np.float32)
        items = rng.standard_normal((WIDTH, n_items), dtype=np.float32)
        targets = rng.integers(0, n_items, TARGETS)
        score = product(queries, items, min(TARGETS, (1 << 26) // n_items))
        pairs = [
            (seconds(rank, score, targets, n_items), seconds(bare_product, score, n_items))
            for _ in range(ROUNDS + 1)
        ]
        name = f"rank {TARGETS:,} targets among {n_items:,} items, threads: {threads}"
        report(name, pairs[1:], at_most=2.5)  # the first touches the buffer


def product(queries: np.ndarray, items: np.ndarray, rows: int) -> Callable[[slice], np.ndarray]:
    """The scores of some targets, at most so many."""
    buffer = np.empty((rows, items.shape[1]), np.float32)
    return lambda some: np.matmul(queries[some], items, out=buffer[: some.stop - some.start])


def bare_product(score: Callable[[slice], np.ndarray], n_items: int) -> None:
    """All scores, none of them looked at."""
    size = (1 << 26) // n_items
    for start in range(0, TARGETS, size):
        score(slice(start, min(start + size, TARGETS)))


if __name__ == "__main__":
    compare(sys.argv[1]) if len(sys.argv) > 1 else main()
