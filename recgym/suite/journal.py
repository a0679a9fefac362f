"""How the steps of a suite ended, which of them run, and who runs them: kept in a folder."""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recgym.errors import Busy
from recgym.evaluation.report import read_json, write_json
from recgym.home import is_locked, locked
from recgym.suite.step import Step, code_at

_LOCK, _LINES, _RUNNING = "lock", "history.jsonl", "running.json"


@dataclass
class Journal:
    """What has happened to steps, as a folder keeps it."""

    folder: Path
    failed: dict[str, str] = field(default_factory=dict)  # by key: what failed, and why
    diverged: set[str] = field(default_factory=set)  # keys of what was tuned, and lost
    running: dict[str, str] = field(default_factory=dict)  # by key: what runs
    _lines: list[dict[str, Any]] = field(default_factory=list)  # of any code

    @classmethod
    def read(cls, folder: Path, agents: Collection[str]) -> "Journal":
        """What the folder tells; of other agents, and of other code, only how long it took."""
        journal = cls(folder)
        with suppress(OSError):
            for text in (folder / _LINES).read_text("utf-8").splitlines():
                with suppress(ValueError):  # it was cut
                    journal._lines.append(json.loads(text))
        for line in journal._lines:
            agent = line["agent"]
            if not agent or (agent in agents and line["code"] == code_at(agent)):
                journal._note(line)
        journal.running = (journal.runner() or {}).get("running", {})
        return journal

    @property
    def drafts(self) -> Path:
        """Where processes write what is not whole yet."""
        return self.folder / "drafts"

    def runner(self) -> dict[str, Any] | None:
        """What the process that runs the suite now says of itself, if there is one."""
        if not is_locked(self.folder / _LOCK):
            return None
        return {"process": None, "running": {}} | read_json(self.folder / _RUNNING)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from running the suite meanwhile; sweep what a killed one left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / _LOCK) as ours:
            if not ours:
                process = (self.runner() or {}).get("process")
                raise Busy(
                    f"The suite '{self.folder.name}' is run by the process {process} already: "
                    "wait for it, or look at it with --list."
                )
            shutil.rmtree(self.drafts, ignore_errors=True)
            self.failed.clear()
            self.running.clear()
            self._tell()
            yield

    def began(self, step: Step) -> None:
        """Let other processes know that a step runs."""
        self.running[step.key] = str(step)
        self._tell()

    def ended(self, step: Step, seconds: float, problem: str | None, diverged: bool) -> None:
        """Write down how a step ended."""
        line = {
            "key": step.key, "step": str(step), "kind": step.kind, "row": step.row,
            "benchmark": step.benchmark, "agent": step.agent, "code": step.code,
            "seconds": round(seconds, 2), "problem": problem, "diverged": diverged,
        }  # fmt: skip
        with (self.folder / _LINES).open("a", encoding="utf-8") as lines:
            lines.write("\n" + json.dumps(line))  # first the break: what was cut stands alone
        self._lines.append(line)
        self._note(line)
        del self.running[step.key]
        self._tell()

    def seconds(self, steps: Iterable[Step]) -> float | None:
        """What steps take, by what the likest ones took; None where none was measured."""
        took: dict[tuple[str, ...], list[float]] = {}
        for line in self._lines:
            if line["problem"] is None and line["kind"] in ("tuning", "seed"):
                for like in _likest(line["row"], line["benchmark"]):
                    took.setdefault(like, []).append(line["seconds"])
        total = 0.0
        for step in steps:
            known = [took[like] for like in _likest(step.row, step.benchmark) if like in took]
            if not known:
                return None
            total += float(np.mean(known[0]))
        return total

    def _note(self, line: Mapping[str, Any]) -> None:
        key = line["key"]
        self.failed.pop(key, None)
        if line["diverged"] and line["kind"] == "tuning":  # it was tried, and lost
            self.diverged.add(key)
        elif line["problem"] is not None:
            self.failed[key] = f"{line['step']}: {line['problem']}"

    def _tell(self) -> None:
        write_json(self.folder / _RUNNING, {"process": os.getpid(), "running": self.running})


def _likest(row: str, benchmark: str) -> tuple[tuple[str, ...], ...]:
    return (row, benchmark), (row,), ("", benchmark), ()
