"""What a suite has to do as steps, and what of it is there."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from recgym.agent import has_chance, load_agent, made
from recgym.errors import UnknownName
from recgym.evaluation.report import changed_options, depends_on, read_json, run_folder
from recgym.home import home
from recgym.log import sha256_of_json
from recgym.suite.file import Row, Suite
from recgym.suite.journal import Journal
from recgym.suite.step import Kind, Step

State = Literal["done", "running", "failed", "to do"]


@dataclass
class Grid:
    """A suite, and what of it is there; `only` are names of rows and benchmarks, or parts."""

    suite: Suite
    only: Sequence[str] = ()
    _found: dict[str, dict[str, Any]] = field(default_factory=dict)
    _beginnings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose rows and benchmarks, and read what happened before."""
        rows, benchmarks = list(self.suite.rows), list(self.suite.benchmarks)
        others = [word for word in self.only if not _meant(word, rows)]
        for word in others:
            if not _meant(word, benchmarks):
                raise UnknownName("row or benchmark of the suite", word, [*rows, *benchmarks])
        of_rows = {name for word in self.only for name in _meant(word, rows)}
        of_benchmarks = {name for word in others for name in _meant(word, benchmarks)}
        self.rows = [self.suite.rows[name] for name in rows if name in (of_rows or rows)]
        self.benchmarks = [name for name in benchmarks if name in (of_benchmarks or benchmarks)]
        agents = {row.agent for row in self.suite.rows.values()}
        self.journal = Journal.read(home() / "suites" / self.suite.name, agents)

    # --------------------------------------------------------------------------------- its steps

    def steps(self) -> list[Step]:
        """Everything, in order: by seeds, then benchmarks, then rows, so that tables fill evenly.

        A row with fewer seeds than others waits until they have as many left.
        """
        found: list[tuple[tuple[int, int, int], Step]] = []
        for place, benchmark in enumerate(self.benchmarks):
            rows = [row for row in self.rows if benchmark in row.benchmarks]
            most = max((len(row.seeds[benchmark]) for row in rows), default=0)
            for order, row in enumerate(rows):
                first = most - len(row.seeds[benchmark])
                for step in self.tunings(row, benchmark):
                    found.append(((first, place, order), step))
                for number, step in enumerate(self.seeds(row, benchmark)):
                    found.append(((first + number, place, order), step))
                found.append(((most - 1, place, order), self.report(row, benchmark)))
        found.sort(key=lambda one: one[0])  # stable
        unique: dict[str, Step] = {}
        for _, step in found:
            unique.setdefault(step.key, step)
        return list(unique.values())

    def tunings(self, row: Row, benchmark: str) -> list[Step]:
        """What is tried on the validation split, for the row that this one is tuned as."""
        if not row.tuned_as:
            return []
        tuned = self.suite.rows[row.tuned_as]
        seed = self.suite.tuned_with if has_chance(load_agent(tuned.agent)) else 0
        steps = []
        for candidate in self.suite.candidates:
            tried = ", ".join(f"{name}={value}" for name, value in candidate.items())
            step = self._step("tuning", tuned, benchmark, (seed,), candidate)
            steps.append(replace(step, tried=tried))
        return steps

    def seeds(self, row: Row, benchmark: str) -> list[Step]:
        """What is evaluated on the test split."""
        chosen = self.tuned(row, benchmark)
        return [self._step("seed", row, benchmark, (seed,), chosen)
                for seed in row.seeds[benchmark]]  # fmt: skip

    def report(self, row: Row, benchmark: str) -> Step:
        """What writes the report of a run: of all seeds that rows with the same options have."""
        options = self.seeds(row, benchmark)[0].options
        seeds = set(row.seeds[benchmark])
        for other in self.suite.rows.values():
            if options is not None and other.agent == row.agent:
                seeds |= {step.seeds[0] for step in self.seeds(other, benchmark)
                          if step.options == options and self.found(step)}  # fmt: skip
        return Step("report", row.name, benchmark, row.agent, tuple(sorted(seeds)), options)

    def tuned(self, row: Row, benchmark: str) -> Mapping[str, Any] | None:
        """What the validation split chose, by NDCG@10 or score; None while that is not known."""
        if not row.tuned_as:
            return {}
        values = self._values(row, benchmark)
        best = max(values, default=-math.inf)
        return None if best == -math.inf else self.suite.candidates[values.index(best)]

    def _values(self, row: Row, benchmark: str) -> list[float]:
        """What each candidate reached, the least where it diverged; none while one is unknown."""
        values = []
        for step in self.tunings(row, benchmark):
            found = self.found(step)
            if found is None and step.key not in self.journal.diverged:
                return []
            values.append(_chosen_by(found["metrics"] if found else {}))
        return values

    def _hopeless(self, row: Row, benchmark: str) -> bool:
        return set(self._values(row, benchmark)) == {-math.inf}

    def _step(
        self,
        kind: Kind,
        row: Row,
        benchmark: str,
        seeds: tuple[int, ...],
        chosen: Mapping[str, Any] | None,
    ) -> Step:
        options = None
        if chosen is not None:
            asked = {**row.options[benchmark], **chosen}
            options = changed_options(load_agent(row.agent), asked)
        return Step(kind, row.name, benchmark, row.agent, seeds, options)

    # ----------------------------------------------------------------------------- what is there

    def state(self, step: Step) -> State:
        """How far a step is."""
        if step.key in self.journal.running:
            return "running"
        if self.found(step) is not None or step.key in self.journal.diverged:
            return "done"
        waits = step.kind != "data" and step.options is None  # for what is tuned
        if waits and self._hopeless(self.suite.rows[step.row], step.benchmark):
            return "failed"
        return "failed" if step.key in self.journal.failed else "to do"

    def failures(self) -> list[str]:
        """What failed, and why, of what is asked for now."""
        data = [Step("data", "", benchmark) for benchmark in self.benchmarks]
        keys = {step.key for step in (*data, *self.steps())}
        hopeless = [(row.tuned_as, benchmark) for row in self.rows for benchmark in self.benchmarks
                    if self._hopeless(row, benchmark)]  # fmt: skip
        return [words for key, words in self.journal.failed.items() if key in keys] + [
            f"{tuned_as} on {benchmark}: all that [tune] lists diverged: list something else, "
            "such as lower learning rates."
            for tuned_as, benchmark in dict.fromkeys(hopeless)
        ]

    def ready(self, step: Step) -> bool:
        """Is there all that the step rests on, but for data?"""
        if step.options is None:
            return False
        row = self.suite.rows[step.row]
        return step.kind != "report" or all(
            self.found(one) is not None for one in self.seeds(row, step.benchmark)
        )

    def found(self, step: Step) -> dict[str, Any] | None:
        """What a step wrote, if it is what the step would write now."""
        if step.options is None:
            return None
        if step.key not in self._found:
            found = self._report(step) if step.kind == "report" else self._result(step)
            if found is None:
                return None
            self._found[step.key] = found
        return self._found[step.key]

    def beginning(self, step: Step) -> str:
        """What its training begins with: steps of the same one share what the first has learned."""
        if step.kind in ("data", "report") or step.options is None:
            return step.key
        if step.key not in self._beginnings:
            agent = made(load_agent(step.agent), step.options, step.seeds[0])
            first = getattr(agent, "phase", None) or [step.agent, step.options]
            data = self.suite.benchmarks[step.benchmark].dataset
            known = {"data": data, "seeds": step.seeds, "first": first}
            self._beginnings[step.key] = sha256_of_json(known)
        return self._beginnings[step.key]

    def place(self, step: Step) -> Path:
        """The folder of the run that a step is of."""
        assert step.options is not None
        asked, agent = self.suite.benchmarks[step.benchmark], load_agent(step.agent)
        return run_folder(asked, agent, step.options, step.split, self.suite.users)

    def simulator(self, step: Step) -> str:
        """Who is asked about its agent, too; nobody while options are chosen."""
        return "" if step.kind == "tuning" else self.suite.simulators.get(step.benchmark, "")

    def _result(self, step: Step) -> dict[str, Any] | None:
        asked, agent = self.suite.benchmarks[step.benchmark], load_agent(step.agent)
        known = read_json(self.place(step) / f"seed-{step.seeds[0]}" / "result.json")
        same = known.get("same", {})
        data = asked.sha256() or same.get("dataset")
        wanted = depends_on(
            agent, asked, step.options or {}, data, step.split, self.suite.users, step.code,
            self.simulator(step),
        )  # fmt: skip
        return dict(known["result"]) if same == wanted else None

    def _report(self, step: Step) -> dict[str, Any] | None:
        known = read_json(self.place(step) / "report.json")
        if known.get("seeds") != list(step.seeds) or known.get("code") != step.code:
            return None
        seeds = [replace(step, kind="seed", seeds=(seed,)) for seed in step.seeds]
        return known if known["results"] == [self.found(one) for one in seeds] else None

    def standing(self, processes: int) -> "Standing":
        """How far all of it is; reports, which are quick, do not count."""
        steps = [step for step in self.steps() if step.kind != "report"]
        states = [self.state(step) for step in steps]
        left = [step for step, state in zip(steps, states, strict=True)
                if state in ("to do", "running")]  # fmt: skip
        seconds = self.journal.seconds(left)
        return Standing(Counter(states), None if seconds is None else seconds / processes)


@dataclass(frozen=True)
class Standing:
    """How many steps are in which state, and how many seconds they will still take."""

    states: Mapping[State, int]
    seconds: float | None


def _chosen_by(metrics: Mapping[str, Any]) -> float:
    """The number by which validation data choose; the least where there is none."""
    if "shop" in metrics:
        return float(metrics["shop"]["score"])
    main = metrics["ranking"]["main"]["all"] if metrics else {}
    return float(main.get("ndcg@10", -math.inf))


def _meant(word: str, names: Sequence[str]) -> list[str]:
    """The names that a word stands for: the one that it is, or all that it is a part of."""
    return [word] if word in names else [name for name in names if word in name]
