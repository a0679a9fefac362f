"""Steps of a suite, each in a process of its own, which does one and ends."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recgym.agent import load_agent
from recgym.errors import Diverged, InvalidArgument, RecGymError, printable
from recgym.evaluation.report import code_of, evaluate, run_folder
from recgym.evaluation.tasks import SPLITS, EvaluatedSplit, Task
from recgym.suite.file import benchmark_at
from recgym.suite.grid import Grid
from recgym.suite.step import Step, code_at

_PAUSE = 0.05  # seconds between two looks at processes
_CHANGED = "was changed since the suite began: commit it, and run again."
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_suite(
    grid: Grid,
    processes: int,
    minutes: float = math.inf,
    say: Callable[[str], None] = lambda words: None,
) -> list[Step]:
    """Do what is not done, each step in a process of its own; returns what is left.

    What fails is among `grid.failures()`, and stops nothing but what rests on it.
    """
    for row in grid.rows:
        if code_at(row.agent)["changed"]:
            raise InvalidArgument(
                f"The code of {row.agent} was changed after its last commit, so that nobody could "
                "tell what its results are of: commit it, and run again."
            )
    deadline, there, changed = time.monotonic() + 60 * minutes, set[str](), True
    with grid.journal.alone():
        children: dict[str, _Child] = {}
        try:
            while True:
                if changed and time.monotonic() < deadline:
                    running = [child.step for child in children.values()]
                    for step in _next(grid, there, running, processes - len(children)):
                        children[step.key] = _Child(step, grid)
                        grid.journal.began(step)
                        say(f"began {step}")
                if not children:
                    break
                over = [child for child in children.values() if child.process.poll() is not None]
                changed = bool(over)
                for child in over:
                    step = child.step
                    del children[step.key]
                    problem, diverged = child.ending(grid)
                    seconds = time.monotonic() - child.began
                    grid.journal.ended(step, seconds, problem, diverged)
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


def _next(grid: Grid, there: set[str], running: Sequence[Step], count: int) -> list[Step]:
    """The first steps that can begin; the data of a benchmark come before all else of it.

    Of steps that begin alike, the first goes ahead: the others take up what it has learned.
    """
    steps, found = grid.steps(), dict[str, Step]()
    learned = {grid.beginning(step) for step in steps if grid.state(step) == "done"}
    ahead = {grid.beginning(step) for step in running} - learned
    for step in steps:
        if len(found) < count and grid.state(step) == "to do" and grid.ready(step):
            if step.benchmark not in there:
                step = Step("data", "", step.benchmark)
            beginning = grid.beginning(step)
            if grid.state(step) == "to do" and beginning not in ahead:
                found[step.key] = step
                ahead |= {beginning} - learned
    return list(found.values())


class _Child:
    """A process that does one step, and dies with the process that began it."""

    def __init__(self, step: Step, grid: Grid) -> None:
        self.step, self.began = step, time.monotonic()
        self._draft = grid.journal.drafts / f"{step.key[:16]}-{os.getpid()}"
        self._draft.mkdir(parents=True)
        order = asdict(step) | {
            "users": grid.suite.users, "draft": str(self._draft), "code": step.code,
            "simulator": grid.simulator(step),
        }  # fmt: skip
        path = os.pathsep.join(place for place in sys.path if place)
        environment = dict.fromkeys(_THREADS, "1") | {"PYTHONPATH": path}
        with (self._draft / "said").open("w", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "recgym.suite.runner"],
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
    asked, kind = benchmark_at(order["benchmark"]), order["kind"]
    if kind == "data":
        for name in SPLITS:
            task = Task(asked, name, lambda stage, share: None)  # type: ignore[arg-type]
            assert task.goals if asked.shop else len(task.test)
        return
    agent, options = load_agent(order["agent"]), order["options"]
    if code_of(agent) != order["code"]:
        raise InvalidArgument(f"The code of {order['agent']} {_CHANGED}")
    split: EvaluatedSplit = "validation" if kind == "tuning" else "test"
    more: dict[str, Any] = {name: order[name] for name in ("seeds", "users", "simulator")}
    more["split"] = split
    if kind == "report":  # all seeds are there, and none is trained again
        evaluate(agent, asked, config=options, **more)
        return
    draft = Path(order["draft"])
    evaluate(agent, asked, config=options, folder=draft, **more)  # its report is of one seed only
    seed = f"seed-{order['seeds'][0]}"
    place = run_folder(asked, agent, options, split, order["users"]) / seed
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


if __name__ == "__main__":
    _child()
