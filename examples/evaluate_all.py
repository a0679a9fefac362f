"""Evaluate the agents that come with recgym on every benchmark whose data are here, and submit.

`python examples/evaluate_all.py [AGENT …] [--on PART-OF-A-BENCHMARK'S-NAME …]`; what was evaluated
before by the same code is not evaluated again, so this can be stopped and started at any time.
"""

import argparse
import json
from pathlib import Path

from recgym.agent import agent_names, load_agent
from recgym.benchmarks import BENCHMARKS, Benchmark
from recgym.errors import BadSubmission, MissingExtra
from recgym.evaluation.report import evaluate, run_folder
from recgym.home import log_names
from recgym.leaderboard.submission import new

TEAM, ROOT = "recgym", Path("leaderboards")


def fits(agent: str, benchmark: Benchmark) -> bool:
    """Can this agent learn from what the benchmark has?"""
    learns_from = load_agent(agent).learns_from
    if learns_from == "environment":  # whatever log there is, it learns the same
        return benchmark.name.startswith("oracle") and "mixed" in benchmark.name
    return learns_from == "data" or bool(benchmark.env)


def main() -> None:
    """Evaluate and submit, one agent on one benchmark after the other."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("agents", nargs="*", default=agent_names())
    words.add_argument("--on", nargs="*", default=[""])
    chosen = words.parse_args()
    here = log_names()
    for agent in chosen.agents:
        for benchmark in BENCHMARKS.values():
            asked = any(part in benchmark.name for part in chosen.on)
            if not asked or (benchmark.log and benchmark.log not in here):
                continue
            try:
                if not fits(agent, benchmark):
                    continue
                report = evaluate(agent, benchmark)
            except MissingExtra as problem:
                print(json.dumps({"agent": agent, "skipped": str(problem)}), flush=True)
                break
            row = {"benchmark": benchmark.name, "agent": agent} | report.primary
            try:
                run = run_folder(benchmark, load_agent(agent), report.config)
                row["file"] = str(new(run, TEAM, ROOT, replace=True))
            except BadSubmission as problem:
                row["refused"] = str(problem)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
