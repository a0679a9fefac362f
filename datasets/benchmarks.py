"""Measure what is frozen of the benchmarks on logs and in shops: hashes, and what they stand for.

`python datasets/benchmarks.py` measures those whose logs are here, and the embedded shops; with
`--files FOLDER` also that of WebShop's official 1,000 products. `--check` says whether they are
what is frozen.
"""

import argparse
import json
import os
import sys
import tempfile

import gymnasium
import numpy as np

from recgym.benchmarks import BENCHMARKS, FILE, Benchmark, facts
from recgym.demonstrations import EPISODES, demonstrate
from recgym.evaluation.ranking import metrics, rank
from recgym.evaluation.report import evaluate
from recgym.evaluation.tasks import Task
from recgym.home import log_names
from recgym.minari_format import content_hash


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


def measured_shop(benchmark: Benchmark, files: dict[str, str]) -> dict[str, object]:
    """The hashes of the demonstrations, made anew, and the number of goals for the test."""
    taught = benchmark.made_in or benchmark.env
    env = gymnasium.make(benchmark.env, split="test", **files).unwrapped
    found: dict[str, object] = {"goals": len(env.shoppers.shopping.goals)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        for split in EPISODES:
            found[split] = content_hash(demonstrate(taught, "scripted", split, **files))
    return found


def main() -> None:
    """Write what was measured, or compare it with what is frozen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", help="the folder of WebShop's official 1,000 products")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    here = log_names()
    found = {
        name: measured(benchmark) for name, benchmark in BENCHMARKS.items() if benchmark.log in here
    }
    files = {"files": asked.files} if asked.files else {}
    for name, benchmark in BENCHMARKS.items():
        if benchmark.shop and (benchmark.made_in or files):
            found[name] = measured_shop(benchmark, {} if benchmark.made_in else files)
    if asked.check:
        wrong = [name for name, facts_here in found.items() if facts().get(name) != facts_here]
        sys.exit(f"Not as frozen: {', '.join(wrong)}." if wrong else 0)
    content = dict(sorted((facts() | found).items()))
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
