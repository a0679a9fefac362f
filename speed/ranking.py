"""Full ranking: at most 2.5 times the bare product that makes its scores.

Where RecBole is installed, at least twice as fast as its full-sort evaluation of the same scores.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from _common import report, seconds

from recgym.evaluation.ranking import metrics, rank

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
        if find_spec("recbole"):
            theirs = recbole(queries, items, targets, int(threads))
            pairs = [
                (seconds(evaluated, score, targets, n_items), seconds(theirs)) for _ in range(5)
            ]
            name = f"all metrics against RecBole's, {n_items:,} items, threads: {threads}"
            report(name, pairs, at_least=2)


def evaluated(score: Callable[[slice], np.ndarray], targets: np.ndarray, n_items: int) -> None:
    """HR, NDCG and MRR at all cuts."""
    ranked = rank(score, targets, n_items)
    {name: value.mean() for name, value in metrics(ranked.greater, ranked.equal).items()}


def recbole(
    queries: np.ndarray, items: np.ndarray, targets: np.ndarray, threads: int
) -> Callable[[], None]:
    """RecBole's full-sort evaluation, as its Trainer does it for a sequential model."""
    import torch
    from recbole.evaluator import Evaluator
    from recbole.evaluator.collector import Collector

    torch.set_num_threads(threads)
    np.float = float  # as RecBole 1.2 asks of NumPy
    config = {
        "metrics": ["Hit", "NDCG", "MRR"],
        "topk": [5, 10, 20],
        "device": "cpu",
        "eval_args": {"mode": "full"},
        "metric_decimal_place": 4,
    }
    q, i, t = map(torch.from_numpy, (queries, np.ascontiguousarray(items), targets))

    def run() -> None:
        collector, size = Collector(config), 4096  # its default eval_batch_size
        for start in range(0, len(q), size):
            scores = q[start : start + size] @ i
            scores[:, 0] = -np.inf
            rows = torch.arange(len(scores))
            collector.eval_batch_collect(scores, None, rows, t[start : start + size])
        Evaluator(config).evaluate(collector.get_data_struct())

    return run


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
