"""What the rows of a suite reached, and how they compare, as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recgym import __version__
from recgym.agent import has_chance, home_of, load_agent, options_of
from recgym.benchmarks import Benchmark
from recgym.errors import InvalidArgument
from recgym.evaluation.intervals import Outcomes, holm, interval, may_claim, paired
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import primary_interval, read_json, run_folder
from recgym.evaluation.scoring import outcomes_in
from recgym.evaluation.tasks import Progress, Task
from recgym.suite.grid import Grid
from recgym.suite.step import Step

SCHEMA = 1


def results_of(grid: Grid, progress: Progress = lambda stage, share: None) -> dict[str, Any]:
    """What rows reached, and how they compare, as JSON; None stands for what was not run."""
    cells: dict[str, Any] = {}
    compared: list[dict[str, Any]] = []
    for name, asked in grid.suite.benchmarks.items():
        cells[name], task = {}, None
        rows = {row.name: row for row in grid.suite.rows.values() if name in row.benchmarks}
        known: dict[str, _Reached | None] = {}
        for row in rows.values():
            steps = grid.seeds(row, name)
            if runs := [one for step in steps if (one := grid.found(step))]:
                task = task or Task(asked, "test", progress)
                known[row.name] = _Reached(task, grid.place(steps[0]), runs, row.agent)
            reached = known.get(row.name)
            cells[name][row.name] = reached and _cell(reached, steps[0], grid.suite.shows)
        pairs = [(comparison, group, other) for comparison in grid.suite.comparisons
                 if comparison.row in rows for group, others in comparison.against.items()
                 for other in others if other in rows or other not in grid.suite.rows]  # fmt: skip
        if task:
            named = {other for _, _, other in pairs} - known.keys() - grid.suite.rows.keys()
            users = grid.suite.users
            known |= {agent: _evaluated(agent, task, users) for agent in sorted(named)}
        for metric in (asked.primary, *also(asked.primary)):
            differences: list[dict[str, Any]] = [
                {"benchmark": name, "metric": metric, "row": one.row, "group": group,
                 "against": other, "same start": one.same_start}
                | _difference(known.get(one.row), known.get(other), metric, one.same_start)
                for one, group, other in pairs
            ]  # fmt: skip
            told = [found for found in differences if found["p"] is not None]
            for found, p in zip(told, holm([found["p"] for found in told]), strict=True):
                found["adjusted"] = p
            compared += differences
    metrics = {name: asked.primary for name, asked in grid.suite.benchmarks.items()}
    return {
        "schema": SCHEMA, "recgym": __version__, "suite": grid.suite.file.name,
        "benchmarks": metrics, "rows": cells, "comparisons": compared, "sweeps": _sweeps(grid),
        "shows": list(grid.suite.shows), "claims": [asdict(one) for one in grid.suite.claims],
        "anchors": {name: _anchors(asked) for name, asked in grid.suite.benchmarks.items()},
    }  # fmt: skip


def also(primary: str) -> tuple[str, ...]:
    """What stands beside a primary metric: of shops, the share of goals that were met in full."""
    return ("success",) if primary == "score" else ()


def _anchors(asked: Benchmark) -> dict[str, float]:
    """What is 0 and what 100 on the normalised scale of a benchmark, by who reaches it."""
    lowest = "nothing bought" if asked.shop else "random"
    return dict(zip((lowest, asked.reference), asked.anchors or (), strict=False))


def _sweeps(grid: Grid) -> dict[str, Any]:
    """Which rows are the points of which sweep, and what is drawn beside them."""
    sweeps: dict[str, Any] = {}
    for row in grid.suite.rows.values():
        if row.sweep:
            sweep = sweeps.setdefault(row.sweep, {"beside": list(row.beside), "points": {}})
            sweep["points"][row.name] = dict(row.varied)
    return sweeps


def read_results(file: Path) -> dict[str, Any]:
    """What `results_of` wrote into a file."""
    found = read_json(file)
    if found.get("schema") != SCHEMA:
        raise InvalidArgument(
            f"{file} holds no results of a suite: write them with `recgym run --suite FILE "
            f"--results {file}`."
        )
    return found


@dataclass(frozen=True)
class _Reached:
    """The results of an agent by seed, and the predictions that they rest on."""

    task: Task
    folder: Path
    results: list[dict[str, Any]]
    agent: str

    @cached_property
    def runs(self) -> list[Predictions]:
        return [Predictions.read(self.folder / f"seed-{one['seed']}", one["predictions"])
                for one in self.results]  # fmt: skip

    @cached_property
    def outcomes(self) -> dict[str, Outcomes]:
        """Of each metric."""
        primary = self.task.benchmark.primary
        return {metric: outcomes_in(self.task, self.runs, metric)
                for metric in (primary, *also(primary))}  # fmt: skip

    @property
    def seeds(self) -> list[int]:
        return [one["seed"] for one in self.results]

    def of(self, metric: str, seeds: Sequence[int]) -> Outcomes:
        """What was reached with these seeds, in their order."""
        whole, rows = self.outcomes[metric], [self.seeds.index(seed) for seed in seeds]
        return Outcomes(whole.sums[rows], whole.counts)

    def may_claim(self, seeds: Sequence[int]) -> bool:
        return may_claim(len(seeds), has_chance(load_agent(self.agent)))


def _cell(reached: _Reached, step: Step, shows: Sequence[str]) -> dict[str, Any]:
    results = reached.results
    files = [reached.folder / f"seed-{one['seed']}" / "result.json" for one in results]
    training = [read_json(file).get("training", {}) for file in files]
    shown = [name for name in shows if all(name in one for one in training)]
    primary = primary_interval(reached.task, reached.runs, results)
    others = {metric: asdict(interval(reached.outcomes[metric]))
              for metric in also(reached.task.benchmark.primary)}  # fmt: skip
    nothing: dict[str, Any] = {"main": {"all": {}}}
    ranking = [one["metrics"].get("ranking", nothing)["main"]["all"] for one in results]
    return {
        "options": step.options,
        "head": {**options_of(load_agent(step.agent)), **(step.options or {})}.get("head"),
        "seeds": reached.seeds,
        **{key: primary[key] for key in ("mean", "low", "high", "by_seed")},
        "also": others,
        "ranking": {name: float(np.mean([one[name] for one in ranking])) for name in ranking[0]},
        "training_seconds": float(np.mean([one["costs"]["training_seconds"] for one in results])),
        "training": {name: float(np.mean([one[name] for one in training])) for name in shown},
    }  # fmt: skip


def _evaluated(name: str, task: Task, users: int) -> _Reached | None:
    """An agent with its own options, as it was evaluated before, whatever the commit."""
    agent = load_agent(name)
    folder = run_folder(task.benchmark, agent, {}, users=users)
    report = read_json(folder / "report.json")
    if report.get("dataset", {}).get("sha256") != task.sha256:
        return None
    return _Reached(task, folder, report["results"], home_of(agent))


def _difference(
    first: _Reached | None, second: _Reached | None, metric: str, same_start: bool
) -> dict[str, Any]:
    """How much better the first is; where they start alike, of the seeds that both have."""
    nothing = dict.fromkeys(("mean", "low", "high", "p", "adjusted"), None)
    nothing |= {"claim": False, "alike": 0}
    if first is None or second is None or metric == "snips":
        return nothing
    of_first, of_second = first.seeds, second.seeds
    if same_start:
        of_first = of_second = sorted({*of_first} & {*of_second})
        if not of_first:
            return nothing
    one, other = first.of(metric, of_first), second.of(metric, of_second)
    if not np.array_equal(one.counts, other.counts):  # other users
        return nothing
    found = paired(one, other, same_seeds=same_start)
    claim = first.may_claim(of_first) and second.may_claim(of_second)
    alike = sum(bool((first.of(metric, [seed]).sums == second.of(metric, [seed]).sums).all())
                for seed in {*of_first} & {*of_second})  # fmt: skip
    return nothing | asdict(found) | {"claim": claim, "alike": alike}
