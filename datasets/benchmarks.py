"""Measure what is frozen of the benchmarks on logs: hashes, and what 0 and 100 stand for.

`python datasets/benchmarks.py` measures those whose logs are here, and `--check` says whether they
are what is frozen.
"""

import json
import sys

import numpy as np

from recgym.benchmarks import BENCHMARKS, FILE, Benchmark, facts
from recgym.evaluation.ranking import metrics, rank
from recgym.evaluation.report import evaluate
from recgym.evaluation.tasks import Task
from recgym.home import log_names


def measured(benchmark: Benchmark) -> dict[str, object]:
    """The hashes of a benchmark's data, and its anchors."""
    task = Task(benchmark, "test", lambda stage, share: None)
    assert task.log is not None
    found: dict[str, object] = {"digest": task.log.manifest.digest, "sha256": task.sha256}
    if benchmark.primary == "snips":
        return found  # too few clicks for a scale
    report = evaluate(benchmark.reference, benchmark)
    return found | {"random": _random(task), "reference": report.primary["mean"]}


def _random(task: Task) -> float:
    """The expected NDCG@10 of random scores: that of scores which are all equal."""
    targets = task.targets
    equal = rank(
        lambda some: np.zeros((some.stop - some.start, task.n_items), np.float32),
        targets.items,
        task.n_items,
        seen=targets.seen,
    )
    main = (targets.items < task.n_items) & ~targets.empty
    return float(metrics(equal.greater[main], equal.equal[main])["ndcg@10"].mean())


def main() -> None:
    """Write what was measured, or compare it with what is frozen."""
    here = log_names()
    found = {
        name: measured(benchmark) for name, benchmark in BENCHMARKS.items() if benchmark.log in here
    }
    if "--check" in sys.argv:
        wrong = [name for name, facts_here in found.items() if facts().get(name) != facts_here]
        sys.exit(f"Not as frozen: {', '.join(wrong)}." if wrong else 0)
    content = dict(sorted((facts() | found).items()))
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
