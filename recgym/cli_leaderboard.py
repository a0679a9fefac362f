"""`recgym leaderboard`: rows are written, checked, verified and shown."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from recgym.benchmarks import Benchmark, benchmark_named
from recgym.errors import InvalidArgument, RecGymError
from recgym.evaluation.tasks import Task
from recgym.home import write_whole
from recgym.leaderboard.render import is_baseline, render
from recgym.leaderboard.submission import Submission, files_of, new, read, validate
from recgym.leaderboard.verification import TOLERANCE, Against, recompute, reproduce
from recgym.pages import chance
from recgym.terminal import ERR, OUT, Command, bars, chosen, command, plain

ROOT = Path("leaderboards")


def run(words: Sequence[str]) -> None:
    """Run the command that these words say."""
    verbs: dict[str, tuple[str, Command]] = {
        "new": ("write a row from the folder of a run", _command(_new)),
        "validate": ("do rows keep all rules that need no data?", _command(_validate)),
        "recompute": ("compute every metric again from the predictions", _command(_recompute)),
        "reproduce": ("train again with one seed, and compare", _command(_reproduce)),
        "render": ("write the tables", _command(_render)),
    }
    chosen("recgym leaderboard", verbs, words)


def _command(act: Any) -> Command:
    return command(act, "recgym leaderboard")


@dataclass(frozen=True)
class _New:
    """Write a row from the folder of a run on the test split."""

    run: Positional[Path]  # as `recgym evaluate` names it
    team: str  # who submits it: a short name
    name: str = ""  # what to call the agent, instead of its own short name
    note: str = ""  # what a reader should know, up to 300 characters
    replace: bool = False  # write anew what exists
    root: Path = ROOT  # of the leaderboard


def _new(options: _New) -> None:
    file = new(
        options.run,
        options.team,
        options.root,
        name=options.name,
        note=options.note,
        replace=options.replace,
    )
    root = "" if options.root == ROOT else f" --root {options.root}"
    OUT.print(f"Wrote {file}. Next: recgym leaderboard recompute {file}{root}", soft_wrap=True)


@dataclass(frozen=True)
class _Validate:
    """Do rows keep all rules that need no data?"""

    files: Positional[tuple[Path, ...]] = ()  # without any: all of the leaderboard
    root: Path = ROOT  # of the leaderboard


def _validate(options: _Validate) -> None:
    problems = validate(options.root, options.files)
    for problem in problems:
        _failed(problem)
    if problems:
        raise SystemExit(1)
    files = options.files or files_of(options.root)
    if not files:
        OUT.print(f"No row yet in {options.root}.")
    for file in files:
        stated = read(file, options.root)
        frozen = benchmark_named(stated.report.benchmark).sha256() is not None
        _passed(stated.row + ("" if frozen else ": the hash of its data is not frozen yet"))


@dataclass(frozen=True)
class _Recompute:
    """Compute every metric again from the predictions."""

    files: Positional[tuple[Path, ...]] = ()
    all: bool = False  # every row of the leaderboard
    predictions: Path | None = None  # the folder of the run, or of runs; else those of this machine
    root: Path = ROOT  # of the leaderboard


def _recompute(options: _Recompute) -> None:
    if options.all == bool(options.files):
        raise InvalidArgument("Name the files to recompute, or say --all.")
    failed, task = False, None
    for file in sorted(options.files) or files_of(options.root):
        try:
            with bars() as progress:
                stated = read(file, options.root)
                asked = benchmark_named(stated.report.benchmark)
                if task is None or task.benchmark != asked:
                    task = Task(asked, "test", progress)
                record = recompute(
                    file, options.root, options.predictions, task=task, progress=progress
                )
        except RecGymError as problem:
            failed = True
            _failed(str(problem))
            continue
        _passed(f"{file}{_held(record.recomputed.against, stated, asked)}")
    if failed:
        raise SystemExit(1)


def _held(against: Against | None, stated: Submission, benchmark: Benchmark) -> str:
    """How a row stands to the baseline, or why that is not known."""
    if against:
        return f": {against.mean:+.4g} against the baseline, {chance(against.p)}"
    if benchmark.primary == "snips" or is_baseline(stated, benchmark):
        return ""
    baseline = benchmark.baseline
    return (
        f": not held against the baseline, {baseline}, whose row or predictions are not here; "
        f"`recgym evaluate {baseline} --benchmark {benchmark.name}` makes them, and then again"
    )


@dataclass(frozen=True)
class _Reproduce:
    """Train again with one seed, and compare."""

    file: Positional[Path]
    trust: bool = False  # run the code that the row names
    seed: int | None = None  # one of the row's; drawn unless given
    any_commit: bool = False  # whatever the code here is; recorded
    tolerance: float = TOLERANCE  # relative
    root: Path = ROOT  # of the leaderboard


def _reproduce(options: _Reproduce) -> None:
    with bars() as progress:
        record = reproduce(
            options.file,
            options.root,
            trust=options.trust,
            seed=options.seed,
            any_commit=options.any_commit,
            tolerance=options.tolerance,
            progress=progress,
        )
    again = record.reproduced
    assert again is not None
    _passed(f"{options.file}: {again.found} with seed {again.seed}, and {again.stated} is stated")


@dataclass(frozen=True)
class _Render:
    """Write the tables."""

    check: bool = False  # only say what is out of date
    root: Path = ROOT  # of the leaderboard


def _render(options: _Render) -> None:
    stale = {
        file: text
        for file, text in render(options.root).items()
        if not file.exists() or file.read_text("utf-8") != text
    }
    for file, text in stale.items():
        if options.check:
            old = file.read_text("utf-8").splitlines() if file.exists() else []
            new = text.splitlines()
            print(*difflib.unified_diff(old, new, str(file), "rendered", lineterm=""), sep="\n")
        else:
            write_whole(file, text)
            print(f"{file} rendered")
    if options.check and stale:
        ERR.print("Out of date: run `recgym leaderboard render`.")
        raise SystemExit(1)


def _passed(words: str) -> None:
    OUT.print(f"[bold green]✓[/] {plain(words)}", highlight=False, soft_wrap=True)


def _failed(words: str) -> None:
    OUT.print(f"[bold red]✗[/] {plain(words)}", highlight=False, soft_wrap=True)
