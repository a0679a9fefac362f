"""A grid of agents, benchmarks and seeds: read from a file, run in processes, and summed up."""

import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recgym import __version__
from recgym.agent import has_chance, home_of, load_agent, made, options_of
from recgym.benchmarks import Benchmark, benchmark_named
from recgym.errors import Busy, Diverged, InvalidArgument, RecGymError, UnknownName, printable
from recgym.evaluation.closed_loop import USERS
from recgym.evaluation.intervals import Outcomes, holm, may_claim, paired
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import code_of, evaluate, primary_interval, run_folder, write_json
from recgym.evaluation.scoring import primary_outcomes
from recgym.evaluation.tasks import SPLITS, EvaluatedSplit, Progress, Task
from recgym.home import home
from recgym.log import sha256_of_json

SCHEMA, BLOCK = 1, "results"
SURE = 0.05  # below which an adjusted p tells two agents apart
Kind = Literal["data", "tuning", "seed", "report"]
State = Literal["done", "running", "failed", "to do"]
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PAUSE, _TRIES = 0.05, 10  # seconds between two looks at processes, or at the lock
_CHANGED = "was changed since the suite began: commit it, and run again."
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


# -------------------------------------------------------------------------------------- the file


@dataclass(frozen=True)
class Row:
    """An agent with options, under a name of its own."""

    name: str
    agent: str  # package.module:Class
    options: Mapping[str, Any]
    tuned_as: str  # the row whose validation chooses what is tuned; "" where nothing is
    benchmarks: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]  # by benchmark


@dataclass(frozen=True)
class Comparison:
    """A row, and what it is held against: by what those are to it."""

    row: str
    against: Mapping[str, tuple[str, ...]]  # rows, or agents that were evaluated before


@dataclass(frozen=True)
class Suite:
    """A grid as its file asks for it."""

    file: Path
    benchmarks: Mapping[str, Benchmark]  # by the names that the file gives them
    rows: Mapping[str, Row]
    comparisons: tuple[Comparison, ...]
    candidates: tuple[Mapping[str, Any], ...]  # options that are tried for each row that is tuned
    tuned_with: int  # the seed
    users: int
    options: Mapping[str, Mapping[str, Any]]  # by benchmark: of every agent that has such options

    def options_of(self, row: Row, benchmark: str) -> dict[str, Any]:
        """What an agent is made with, before anything is tuned."""
        known = options_of(load_agent(row.agent))
        common = {key: one for key, one in self.options[benchmark].items() if key in known}
        return {**common, **row.options}

    @property
    def name(self) -> str:
        """What its lock and its history are filed under."""
        return self.file.stem


def read_suite(file: Path) -> Suite:
    """The suite of a TOML file, all of it checked before anything runs."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InvalidArgument(f"The suite {file} cannot be read: {problem.strerror}.") from None
    except ValueError as problem:
        raise InvalidArgument(
            f"The suite {file} is no TOML in UTF-8: {printable(str(problem))}."
        ) from None
    top = _Table(content, "the suite", _SUITE)
    names = top.names("benchmarks")
    benchmarks = {name: _benchmark(name) for name in names}
    tune = _Table(top.get("tune", {}), "[tune]", None)
    seed, tried = tune.get("seed", 0), {k: v for k, v in tune.content.items() if k != "seed"}
    if not all(isinstance(values, list) and values for values in tried.values()):
        raise InvalidArgument(
            "[tune] has a seed, and for each option a list of what is tried, such as "
            "learning_rate = [0.001, 0.002]."
        )
    candidates = [dict(zip(tried, one, strict=True)) for one in product(*tried.values())]
    seeds = {"": top.seeds("seeds") or (0,)} | _seeds_of(top, names)
    rows: dict[str, Row] = {}
    for content in top.get("rows", []):
        row = _row(content, names, seeds, candidates if tried else [])
        if row.name in rows:
            raise InvalidArgument(f"Two rows are named '{row.name}': give one another name.")
        rows[row.name] = row
    for row in rows.values():
        if row.tuned_as and row.tuned_as not in rows:
            raise UnknownName("row", row.tuned_as, rows)
        if row.tuned_as and rows[row.tuned_as].tuned_as != row.tuned_as:
            raise InvalidArgument(
                f"'{row.name}' is tuned as '{row.tuned_as}', which is not tuned: give that one "
                "`tune = true`."
            )
    if not rows:
        raise InvalidArgument(f"The suite {file} has no [[rows]]: there is nothing to run.")
    comparisons = tuple(_comparison(one, rows) for one in top.get("comparisons", []))
    users = top.get("users", USERS)
    if users < 2:
        raise InvalidArgument(f"'users' is 2 or more: found {users}.")
    own, everywhere = _tables_of(top, "options-of", names), top.get("options", {})
    options = {name: {**everywhere, **own.get(name, {})} for name in names}
    suite = Suite(file, benchmarks, rows, comparisons, tuple(candidates), seed, users, options)
    for row in rows.values():
        for name in row.benchmarks:
            made(load_agent(row.agent), suite.options_of(row, name), 0)
    return suite


_SUITE = {"benchmarks", "seeds", "seeds-of", "options", "options-of", "users", "tune", "rows"}
_SUITE |= {"comparisons"}
_ROW = {"name", "agent", "options", "tune", "tuned-as", "benchmarks", "seeds", "seeds-of"}


@dataclass(frozen=True)
class _Table:
    """A table of the file: what it may hold, and where it stands."""

    content: Any
    where: str
    keys: set[str] | None  # None: any

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise InvalidArgument(f"In a suite, {self.where} is a table, and it is none here.")
        for key in self.content:
            if self.keys is not None and key not in self.keys:
                raise UnknownName(f"key of {self.where}", key, self.keys)

    def get(self, key: str, default: Any) -> Any:
        found = self.content.get(key, default)
        if isinstance(found, bool) != isinstance(default, bool) or not isinstance(
            found, type(default)
        ):
            kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
            raise InvalidArgument(
                f"'{key}' of {self.where} is {kinds.get(type(default), 'a whole number')}, and "
                f"{printable(repr(found))} was given."
            )
        return found

    def names(self, key: str) -> tuple[str, ...]:
        found = self.get(key, [])
        if not found or not all(isinstance(one, str) for one in found):
            raise InvalidArgument(f"'{key}' of {self.where} is a list of one name or more.")
        return tuple(dict.fromkeys(found))

    def seeds(self, key: str) -> tuple[int, ...]:
        found = self.get(key, [])
        if key in self.content and not (
            found and all(type(one) is int and one >= 0 for one in found)
        ):
            raise InvalidArgument(
                f"'{key}' of {self.where} is a list of one whole number or more, from 0, and "
                f"{printable(repr(found))} was given."
            )
        return tuple(dict.fromkeys(found))


def _seeds_of(table: _Table, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    of = _of_benchmarks(table, "seeds-of", names)
    return {name: of.seeds(name) for name in of.content}


def _tables_of(table: _Table, key: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    of = _of_benchmarks(table, key, names)
    return {name: of.get(name, {}) for name in of.content}


def _of_benchmarks(table: _Table, key: str, names: Iterable[str]) -> _Table:
    of = _Table(table.get(key, {}), f"{key} of {table.where}", None)
    for name in of.content:
        if name not in names:
            raise UnknownName("benchmark of the suite", name, names)
    return of


def _row(
    content: Any,
    names: Sequence[str],
    seeds: Mapping[str, tuple[int, ...]],
    candidates: Sequence[Mapping[str, Any]],
) -> Row:
    name = str(content.get("name", "")) if isinstance(content, dict) else ""
    table = _Table(content, f"the row '{printable(name)}'", _ROW)
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"'{printable(name)}' cannot name a row: use small letters, digits and single dashes, "
            "such as snqn-sasrec."
        )
    agent = load_agent(table.get("agent", name))
    options, tuned_as = table.get("options", {}), table.get("tuned-as", "")
    if table.get("tune", False):
        if tuned_as or not candidates:
            raise InvalidArgument(
                f"The row '{name}' is tuned, and "
                + ("also tuned as another." if tuned_as else "[tune] lists nothing to try.")
            )
        tuned_as = name
    for candidate in candidates if tuned_as else [{}]:
        if both := sorted(options.keys() & candidate.keys()):
            raise InvalidArgument(
                f"The row '{name}' fixes '{both[0]}', which [tune] chooses: leave one of them out."
            )
        try:
            json.dumps(options | candidate, allow_nan=False)
        except (TypeError, ValueError) as problem:
            raise InvalidArgument(
                f"The options of '{name}' are numbers, texts and lists of them ({problem})."
            ) from None
        made(agent, options | candidate, 0)
    own = table.names("benchmarks") if "benchmarks" in content else tuple(names)
    for one in own:
        if one not in names:
            raise UnknownName("benchmark of the suite", one, names)
    asked = {"": table.seeds("seeds")} if "seeds" in content else dict(seeds)
    asked |= _seeds_of(table, names)
    if not has_chance(agent):
        asked = {"": (0,)}
    by_benchmark = {one: asked.get(one, asked[""]) for one in names}
    return Row(name, home_of(agent), options, tuned_as, own, by_benchmark)


def _comparison(content: Any, rows: Mapping[str, Row]) -> Comparison:
    table = _Table(content, "a comparison", {"row", "against"})
    row = table.get("row", "")
    if row not in rows:
        raise UnknownName("row", row, rows)
    groups = _Table(table.get("against", {}), f"against of '{row}'", None)
    against = {group: groups.names(group) for group in groups.content}
    for name in (name for names in against.values() for name in names):
        if name not in rows:
            try:
                load_agent(name)
            except UnknownName:
                raise UnknownName("row, and no agent,", name, rows) from None
    return Comparison(row, against)


@cache
def _benchmark(name: str) -> Benchmark:
    """The benchmark of that name, or at `package.module:NAME`."""
    if ":" not in name:
        return benchmark_named(name)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        raise InvalidArgument(
            f"The benchmark '{printable(name)}' cannot be loaded ({problem}). Name it as "
            "package.module:NAME."
        ) from None
    if not isinstance(found, Benchmark):
        raise InvalidArgument(f"'{printable(name)}' is no benchmark: it is no recgym Benchmark.")
    return found


# --------------------------------------------------------------------------- what is to be done


@dataclass(frozen=True)
class Step:
    """What one process does."""

    kind: Kind
    row: str
    benchmark: str
    agent: str = ""
    seeds: tuple[int, ...] = ()
    options: Mapping[str, Any] | None = None  # that differ from defaults; None: not chosen yet
    tried: str = ""  # which of them are, where some are

    @cached_property
    def key(self) -> str:
        """The same for steps that are the same work, whatever row asks for it."""
        about = asdict(self) | {"tried": ""} | ({} if self.options is None else {"row": ""})
        return sha256_of_json(about)

    @property
    def split(self) -> EvaluatedSplit:
        """The split that is evaluated."""
        return "validation" if self.kind == "tuning" else "test"

    def __str__(self) -> str:
        """For people."""
        if self.kind == "data":
            return f"data of {self.benchmark}"
        seed = f"seed {' '.join(map(str, self.seeds))}"
        what = {"tuning": f"tuning {self.tried}", "report": "report"}.get(self.kind, seed)
        return f"{self.row} on {self.benchmark}, {what}"


@dataclass
class Grid:
    """A suite, and what of it is there; `only` names parts of rows and of benchmarks."""

    suite: Suite
    only: Sequence[str] = ()
    failed: dict[str, str] = field(default_factory=dict)  # by key: what failed, and why
    running: dict[str, str] = field(default_factory=dict)  # by key: what runs
    _found: dict[str, dict[str, Any]] = field(default_factory=dict)
    _diverged: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Choose rows and benchmarks, and read what happened before."""
        rows, benchmarks = list(self.suite.rows), list(self.suite.benchmarks)
        of_rows = [part for part in self.only if any(part in name for name in rows)]
        others = [part for part in self.only if part not in of_rows]
        for part in others:
            if not any(part in name for name in benchmarks):
                raise UnknownName("row or benchmark of the suite", part, [*rows, *benchmarks])
        self.rows = [self.suite.rows[name] for name in rows
                     if not of_rows or any(part in name for part in of_rows)]  # fmt: skip
        self.benchmarks = [name for name in benchmarks
                           if not others or any(part in name for part in others)]  # fmt: skip
        known = {"", *(row.agent for row in self.suite.rows.values())}
        for line in self.history:
            if line["agent"] in known and line["code"] == _code(line["agent"]):
                self._note(line)
        if (held := self.lock_holder()) is not None:
            self.running = held["running"]

    # ------------------------------------------------------------------------------- its folder

    @property
    def folder(self) -> Path:
        """Where its lock, its history and drafts are."""
        return home() / "suites" / self.suite.name

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """How each step ended; a line that was cut is none."""
        lines = []
        with suppress(OSError):
            for text in (self.folder / "history.jsonl").read_text("utf-8").splitlines():
                with suppress(ValueError):
                    lines.append(json.loads(text))
        return lines

    def ended(self, step: Step, seconds: float, problem: str | None, diverged: bool) -> None:
        """Write down how a step ended."""
        line = {
            "key": step.key, "step": str(step), "kind": step.kind, "row": step.row,
            "benchmark": step.benchmark, "agent": step.agent, "code": _code(step.agent),
            "seconds": round(seconds, 2), "problem": problem, "diverged": diverged,
        }  # fmt: skip
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as lines:
            lines.write("\n" + json.dumps(line))  # first the break: what was cut stands alone
        self.history.append(line)
        self._note(line)

    def _note(self, line: Mapping[str, Any]) -> None:
        key = line["key"]
        self.failed.pop(key, None)
        if line["diverged"] and line["kind"] == "tuning":  # it was tried, and lost
            self._diverged.add(key)
        elif line["problem"] is not None:
            self.failed[key] = f"{line['step']}: {line['problem']}"

    def lock_holder(self) -> dict[str, Any] | None:
        """What the process that runs the suite now says of itself."""
        try:
            with _locked(self.folder):
                return None
        except BlockingIOError:
            with suppress(OSError, ValueError):
                return dict(json.loads((self.folder / "running.json").read_text("utf-8")))
            return {"process": None, "running": {}}
        except OSError:
            return None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from running the suite meanwhile; sweep what a killed one left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            for more in reversed(range(_TRIES)):  # one that only looks holds it for a moment
                try:
                    held.enter_context(_locked(self.folder))
                    break
                except BlockingIOError:
                    if not more:
                        other = (self.lock_holder() or {}).get("process")
                        raise Busy(
                            f"The suite '{self.suite.name}' is run by the process {other} "
                            "already: wait for it, or look at it with --list."
                        ) from None
                    time.sleep(_PAUSE)
            shutil.rmtree(self.folder / "drafts", ignore_errors=True)
            self.failed.clear()
            self.running.clear()
            self.note_running()
            yield

    def note_running(self) -> None:
        """Let other processes know what this one does."""
        about = {"process": os.getpid(), "running": self.running}
        write_json(self.folder / "running.json", about)

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

    def data(self) -> list[Step]:
        """What makes or checks data before anything else is done with them."""
        return [Step("data", "", benchmark) for benchmark in self.benchmarks]

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
        """What the validation split chose, by NDCG@10; None while that is not known."""
        if not row.tuned_as:
            return {}
        values = []
        for step in self.tunings(row, benchmark):
            found = self.found(step)
            if found is None and step.key not in self._diverged:
                return None
            main = found["metrics"]["ranking"]["main"]["all"] if found else {}
            values.append(main.get("ndcg@10", -math.inf))
        if max(values) == -math.inf:
            self.failed[self._hopeless(row.tuned_as, benchmark)] = (
                f"{row.tuned_as} on {benchmark}: all that [tune] lists diverged: list something "
                "else, such as lower learning rates."
            )
            return None
        return self.suite.candidates[values.index(max(values))]

    def _hopeless(self, row: str, benchmark: str) -> str:
        return f"tuning of {row} on {benchmark}"

    def _step(
        self,
        kind: Kind,
        row: Row,
        benchmark: str,
        seeds: tuple[int, ...],
        chosen: Mapping[str, Any] | None,
    ) -> Step:
        if chosen is None:
            return Step(kind, row.name, benchmark, row.agent, seeds)
        defaults = options_of(load_agent(row.agent))
        options = {**self.suite.options_of(row, benchmark), **chosen}
        options = {name: value for name, value in options.items() if defaults.get(name) != value}
        return Step(kind, row.name, benchmark, row.agent, seeds, options)

    def state(self, step: Step) -> State:
        """How far a step is."""
        if step.key in self.running:
            return "running"
        if self.found(step) is not None or step.key in self._diverged:
            return "done"
        tuned_as = step.kind != "data" and self.suite.rows[step.row].tuned_as
        if tuned_as and self._hopeless(tuned_as, step.benchmark) in self.failed:
            return "failed"
        return "failed" if step.key in self.failed else "to do"

    def failures(self) -> list[str]:
        """What failed, and why, of what is asked for now."""
        keys = {step.key for step in (*self.data(), *self.steps())}
        keys |= {self._hopeless(row.tuned_as, benchmark)
                 for row in self.rows for benchmark in self.benchmarks}  # fmt: skip
        return [sentence for key, sentence in self.failed.items() if key in keys]

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

    def place(self, step: Step) -> Path:
        """The folder of the run that a step is of."""
        assert step.options is not None
        asked, agent = self.suite.benchmarks[step.benchmark], load_agent(step.agent)
        return run_folder(asked, agent, step.options, step.split)

    def _result(self, step: Step) -> dict[str, Any] | None:
        asked = self.suite.benchmarks[step.benchmark]
        known = _json(self.place(step) / f"seed-{step.seeds[0]}" / "result.json")
        wanted = {
            "agent": step.agent,
            "benchmark": asked.name,
            "code": _code(step.agent),
            "config": step.options,
            "recgym": __version__,
            "split": step.split,
            "users": self.suite.users,
        }
        same = known.get("same", {})
        if any(same.get(name) != value for name, value in wanted.items()):
            return None
        return dict(known["result"]) if asked.sha256() in (None, same.get("dataset")) else None

    def _report(self, step: Step) -> dict[str, Any] | None:
        known = _json(self.place(step) / "report.json")
        if known.get("seeds") != list(step.seeds) or known.get("code") != _code(step.agent):
            return None
        row = self.suite.rows[step.row]
        runs = [self.found(self._with(row, step, seed)) for seed in step.seeds]
        return known if known["results"] == runs else None

    def _with(self, row: Row, step: Step, seed: int) -> Step:
        return Step("seed", row.name, step.benchmark, row.agent, (seed,), step.options)

    def standing(self, processes: int) -> "Standing":
        """How far all of it is; reports, which are quick, do not count."""
        steps = [step for step in self.steps() if step.kind != "report"]
        states = [self.state(step) for step in steps]
        left = [step for step, state in zip(steps, states, strict=True)
                if state in ("to do", "running")]  # fmt: skip
        seconds = self._seconds(left)
        return Standing(Counter(states), None if seconds is None else seconds / processes)

    def _seconds(self, steps: Sequence[Step]) -> float | None:
        """What steps take, by what the likest ones took; None where none was measured."""
        took: dict[tuple[str, ...], list[float]] = {}
        for line in self.history:
            if line["problem"] is None and line["kind"] in ("tuning", "seed"):
                row, benchmark = line["row"], line["benchmark"]
                for like in ((row, benchmark), (row,), ("", benchmark), ()):
                    took.setdefault(like, []).append(line["seconds"])
        total = 0.0
        for step in steps:
            row, benchmark = step.row, step.benchmark
            likest = next((took[like] for like in ((row, benchmark), (row,), ("", benchmark), ())
                           if like in took), None)  # fmt: skip
            if likest is None:
                return None
            total += float(np.mean(likest))
        return total


@dataclass(frozen=True)
class Standing:
    """How many steps are in which state, and how many seconds they will still take."""

    states: Mapping[State, int]
    seconds: float | None


@cache
def _code(agent: str) -> dict[str, Any] | None:
    return code_of(load_agent(agent)) if agent else None


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder: it dies with its process."""
    held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


# ------------------------------------------------------------------------------------ to run it


def run_suite(
    grid: Grid,
    processes: int,
    minutes: float = math.inf,
    say: Callable[[str], None] = lambda words: None,
) -> list[Step]:
    """Do what is not done, each step in a process of its own; returns what is left.

    What fails is in `grid.failed`, and stops nothing but what rests on it.
    """
    for row in grid.rows:
        if (code := _code(row.agent)) and code["changed"]:
            raise InvalidArgument(
                f"The code of {row.agent} was changed after its last commit, so that nobody could "
                "tell what its results are of: commit it, and run again."
            )
    deadline, there, changed = time.monotonic() + 60 * minutes, set[str](), True
    with grid.alone():
        children: dict[str, _Child] = {}
        try:
            while True:
                if changed and time.monotonic() < deadline:
                    for step in _next(grid, there, processes - len(children)):
                        children[step.key] = _Child(step, grid)
                        grid.running[step.key] = str(step)
                        grid.note_running()
                        say(f"began {step}")
                if not children:
                    break
                over = [child for child in children.values() if child.process.poll() is not None]
                changed = bool(over)
                for child in over:
                    step = child.step
                    del children[step.key], grid.running[step.key]
                    problem, diverged = child.ending(grid)
                    grid.ended(step, time.monotonic() - child.began, problem, diverged)
                    grid.note_running()
                    if step.kind == "data" and problem is None:
                        there.add(step.benchmark)
                    say(f"failed {step}: {problem}" if problem else f"done {step}")
                if not changed:
                    time.sleep(_PAUSE)
        finally:
            for child in children.values():
                child.process.kill()
                child.process.wait()
    return [step for step in grid.steps() if grid.state(step) == "to do"]


def _next(grid: Grid, there: set[str], count: int) -> list[Step]:
    """The first steps that can begin; the data of a benchmark come before all else of it."""
    found: dict[str, Step] = {}
    for step in grid.steps():
        if len(found) < count and grid.state(step) == "to do" and grid.ready(step):
            if step.benchmark not in there:
                step = Step("data", "", step.benchmark)
            if grid.state(step) == "to do":
                found[step.key] = step
    return list(found.values())


class _Child:
    """A process that does one step, and dies with the process that began it."""

    def __init__(self, step: Step, grid: Grid) -> None:
        self.step, self.began = step, time.monotonic()
        self._draft = grid.folder / "drafts" / f"{step.key[:16]}-{os.getpid()}"
        self._draft.mkdir(parents=True)
        order = asdict(step) | {
            "users": grid.suite.users, "draft": str(self._draft), "code": _code(step.agent)
        }  # fmt: skip
        path = os.pathsep.join(place for place in sys.path if place)
        environment = dict.fromkeys(_THREADS, "1") | {"PYTHONPATH": path}
        with (self._draft / "said").open("w", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "recgym.suite"],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
                env=os.environ | environment,
            )
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def ending(self, grid: Grid) -> tuple[str | None, bool]:
        """Why it failed, if it did; and was it that a training diverged?"""
        code, said = self.process.returncode, (self._draft / "said").read_text("utf-8", "replace")
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        shutil.rmtree(self._draft, ignore_errors=True)
        last = (said.strip().splitlines() or [""])[-1]
        if not code:
            if self.step.kind == "data" or grid.found(self.step) is not None:
                return None, False
            return f"The code of {self.step.agent} {_CHANGED}", False
        with suppress(ValueError, KeyError, TypeError):
            about = json.loads(last)
            return str(about["problem"]), bool(about["diverged"])
        if code < 0:
            return f"It was killed by the signal {signal.Signals(-code).name}.", False
        return f"It stopped with code {code}: {printable(last)}.", False


def _work(order: dict[str, Any]) -> None:
    """What a process does."""
    asked, kind = _benchmark(order["benchmark"]), order["kind"]
    if kind == "data":
        for name in SPLITS:
            assert len(Task(asked, name, lambda stage, share: None).test)  # type: ignore[arg-type]
        return
    agent, options = load_agent(order["agent"]), order["options"]
    if code_of(agent) != order["code"]:
        raise InvalidArgument(f"The code of {order['agent']} {_CHANGED}")
    split: EvaluatedSplit = "validation" if kind == "tuning" else "test"
    more: dict[str, Any] = {"seeds": order["seeds"], "split": split, "users": order["users"]}
    if kind == "report":  # all seeds are there, and none is trained again
        evaluate(agent, asked, config=options, **more)
        return
    draft = Path(order["draft"])
    evaluate(agent, asked, config=options, folder=draft, **more)  # its report is of one seed only
    seed = f"seed-{order['seeds'][0]}"
    place = run_folder(asked, agent, options, split) / seed
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(draft / "before")
    (draft / seed).rename(place)


def _child() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _work(order)
    except RecGymError as problem:
        print(json.dumps({"problem": str(problem), "diverged": isinstance(problem, Diverged)}))
        sys.exit(1)


def _die_with_parent() -> None:
    while os.read(0, 1):  # nothing comes but the end
        pass
    os._exit(1)


# ------------------------------------------------------------------------------ what came of it


def results_of(grid: Grid, progress: Progress = lambda stage, share: None) -> dict[str, Any]:
    """What rows reached, and how they compare, as JSON; None stands for what was not run."""
    cells: dict[str, Any] = {}
    compared: list[dict[str, Any]] = []
    for name, asked in grid.suite.benchmarks.items():
        cells[name], task = {}, None
        known: dict[str, _Reached | None] = {}
        for row in grid.suite.rows.values():
            steps = grid.seeds(row, name) if name in row.benchmarks else []
            if runs := [one for step in steps if (one := grid.found(step))]:
                task = task or Task(asked, "test", progress)
                known[row.name] = _Reached(task, grid.place(steps[0]), runs, row.agent)
            reached = known.get(row.name)
            cells[name][row.name] = reached and _cell(reached, steps[0])
        differences: list[dict[str, Any]] = []
        for comparison in grid.suite.comparisons:
            for group, against in comparison.against.items():
                for other in against:
                    if other not in grid.suite.rows and other not in known and task:
                        known[other] = _evaluated(other, task)
                    about = {"benchmark": name, "row": comparison.row, "group": group}
                    found = _difference(known.get(comparison.row), known.get(other))
                    differences.append(about | {"against": other} | found)
        told = [one for one in differences if one["p"] is not None]
        for one, p in zip(told, holm([one["p"] for one in told]), strict=True):
            one["adjusted"] = p
        compared += differences
    metrics = {name: asked.primary for name, asked in grid.suite.benchmarks.items()}
    return {
        "schema": SCHEMA, "recgym": __version__, "suite": grid.suite.file.name,
        "benchmarks": metrics, "rows": cells, "comparisons": compared,
    }  # fmt: skip


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
    def outcomes(self) -> Outcomes:
        return primary_outcomes(self.task, self.runs)

    @property
    def may_claim(self) -> bool:
        return may_claim(len(self.results), has_chance(load_agent(self.agent)))


def _cell(reached: _Reached, step: Step) -> dict[str, Any]:
    results = reached.results
    primary = primary_interval(reached.task, reached.runs, results)
    ndcg = [one["metrics"]["ranking"]["main"]["all"].get("ndcg@10") for one in results]
    return {
        "options": step.options,
        "head": {**options_of(load_agent(step.agent)), **(step.options or {})}.get("head"),
        "seeds": [one["seed"] for one in results],
        "mean": primary["mean"], "low": primary["low"], "high": primary["high"],
        "ndcg@10": None if None in ndcg else float(np.mean(ndcg)),
        "training_seconds": float(np.mean([one["costs"]["training_seconds"] for one in results])),
    }  # fmt: skip


def _evaluated(name: str, task: Task) -> _Reached | None:
    """An agent with its own options, as it was evaluated before, whatever the commit."""
    agent = load_agent(name)
    folder = run_folder(task.benchmark, agent, {})
    report = _json(folder / "report.json")
    if report.get("dataset", {}).get("sha256") != task.sha256:
        return None
    return _Reached(task, folder, report["results"], home_of(agent))


def _difference(first: _Reached | None, second: _Reached | None) -> dict[str, Any]:
    nothing = dict.fromkeys(("mean", "low", "high", "p", "adjusted"), None) | {"claim": False}
    if first is None or second is None or first.task.benchmark.primary == "snips":
        return nothing
    if not np.array_equal(first.outcomes.counts, second.outcomes.counts):  # other users
        return nothing
    found = paired(first.outcomes, second.outcomes)
    return nothing | asdict(found) | {"claim": first.may_claim and second.may_claim}


# ----------------------------------------------------------------------------------- in a page

_DIGITS = {"return": 2, "ndcg@10": 3, "snips": 4}
_NAMES = {"return": "return", "ndcg@10": "NDCG@10", "snips": "SNIPS click rate"}
Verdict = Literal["won", "lost", "no difference", "not run"]
_SAID: dict[Verdict, tuple[str, str]] = {  # of one that it is held against, and of several
    "won": ("better", "better than each"),
    "lost": ("worse", "worse than one or more"),
    "no difference": ("no difference", "worse than none, and not better than each"),
    "not run": ("not run", "not all run"),
}


def filled(page: str, results: Mapping[str, Any]) -> str:
    """A page with its block made of results."""
    opening, closing = f"<!-- {BLOCK} -->", f"<!-- /{BLOCK} -->"
    if page.count(opening) != 1 or page.count(closing) != 1:
        raise InvalidArgument(f"The page needs one block {opening} … {closing}.")
    before, _, rest = page.partition(opening)
    _, _, after = rest.partition(closing)
    return f"{before}{opening}\n{_block(results)}\n{closing}{after}"


def read_results(file: Path) -> dict[str, Any]:
    """What `results_of` wrote into a file."""
    found = _json(file)
    if found.get("schema") != SCHEMA:
        raise InvalidArgument(
            f"{file} holds no results of a suite: write them with `recgym run --suite FILE "
            f"--results {file}`."
        )
    return found


def _block(results: Mapping[str, Any]) -> str:
    metrics: dict[str, str] = results["benchmarks"]
    heads = [f"{name} ({_NAMES[metric]})" for name, metric in metrics.items()]
    names = list(next(iter(results["rows"].values())))
    rows = [[f"`{row}`", *(_reached(results["rows"][one][row], _DIGITS[metrics[one]])
                           for one in metrics)] for row in names]  # fmt: skip
    parts = [
        f"The grid of `{results['suite']}`, run by `recgym run --suite`: the primary metric, its "
        "mean over seeds and where 95% of resamples of users and seeds lie.",
        _markdown([["row", *heads], *rows]),
    ]
    if not results["comparisons"]:
        return "\n\n".join(parts)
    by_pair: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in results["comparisons"]:
        pair = one["row"], one["group"], one["against"]
        by_pair.setdefault(pair, {})[one["benchmark"]] = one
    cells = [[f"`{row}`", f"`{other}`", *(_compared(of[one], _DIGITS[metrics[one]])
                                          for one in metrics)]
             for (row, _, other), of in by_pair.items()]  # fmt: skip
    parts += [
        "Paired differences on the same test users: won or lost where p is below "
        f"{SURE:g} after Holm's adjustment for all comparisons of a benchmark. ▲ and ▼ mark what "
        "may be claimed, with five seeds or more of both; all else is a finding of these seeds.",
        _markdown([["row", "against", *metrics], *cells]),
        "\n".join(_sentences(by_pair, list(metrics))),
    ]
    return "\n\n".join(parts)


def _reached(cell: dict[str, Any] | None, digits: int) -> str:
    if cell is None or cell["mean"] is None:
        return "not run"
    seeds = ", 1 seed" if len(cell["seeds"]) == 1 else f", {len(cell['seeds'])} seeds"
    return (
        f"{cell['mean']:.{digits}f} ({cell['low']:.{digits}f} to {cell['high']:.{digits}f}){seeds}"
    )


def _verdict(one: Mapping[str, Any]) -> Verdict:
    if one["mean"] is None:
        return "not run"
    if one["adjusted"] >= SURE:
        return "no difference"
    return "won" if one["mean"] > 0 else "lost"


def _compared(one: dict[str, Any], digits: int) -> str:
    verdict = _verdict(one)
    if verdict == "not run":
        return verdict
    mark = {"won": " ▲", "lost": " ▼"}.get(verdict, "") if one["claim"] else ""
    mean, low, high = (f"{one[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{verdict} {mean} ({low} to {high}){mark}"


def _sentences(
    by_pair: Mapping[tuple[str, str, str], dict[str, Any]], benchmarks: Sequence[str]
) -> Iterator[str]:
    """Where a row is better than all that it is held against as one thing, and where not."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row, group, other in by_pair:
        groups.setdefault((row, group), []).append(other)
    for (row, group), others in groups.items():
        where: dict[Verdict, list[str]] = {verdict: [] for verdict in _SAID}
        for name in benchmarks:
            all_of = [by_pair[row, group, other][name] for other in others]
            verdict = _together([_verdict(one) for one in all_of])
            deciding = [one for one in all_of if _verdict(one) == verdict]
            claim = verdict in ("won", "lost") and (
                all if verdict == "won" else any
            )(one["claim"] for one in deciding)  # fmt: skip
            where[verdict].append(name + (" ▲" if verdict == "won" else " ▼") * claim)
        said = [f"{_SAID[verdict][len(others) > 1]} on {_and(names)}"
                for verdict, names in where.items() if names]  # fmt: skip
        against = _and([f"`{other}`" for other in others])
        yield f"- `{row}` against {group} ({against}): {'; '.join(said)}."


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    """Lost if it lost to one; won if it won against all."""
    for verdict in ("lost", "not run", "no difference"):
        if verdict in verdicts:
            return verdict
    return "won"


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


if __name__ == "__main__":
    _child()
