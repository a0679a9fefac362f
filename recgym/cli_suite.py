"""`recgym run`: a whole grid of agents, benchmarks and seeds."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from recgym.agent import has_chance, load_agent
from recgym.errors import BadSubmission, InvalidArgument
from recgym.evaluation.intervals import may_be_listed
from recgym.evaluation.report import write_json
from recgym.home import write_whole
from recgym.leaderboard.submission import new
from recgym.pages import DIGITS, NAMES
from recgym.suite.file import read_suite
from recgym.suite.grid import Grid, State
from recgym.suite.page import filled, picture_of
from recgym.suite.picture import draw_rows, draw_sweep, ranked, shown_on
from recgym.suite.results import read_results, results_of
from recgym.suite.runner import run_suite
from recgym.terminal import ERR, OUT, Command, bars, command, plain


@dataclass(frozen=True)
class _Run:
    """Run a suite of agents, benchmarks and seeds, or say what came of it.

    What was run by the same code is not run again. With --list, --show, --plots, --submit,
    --results or --render, nothing is run: they take what is there.
    """

    suite: Path  # a TOML file
    only: tuple[str, ...] = ()  # names of rows or benchmarks, or parts of several
    processes: int = os.cpu_count() or 1  # at a time; the numbers do not depend on it
    minutes: float = math.inf  # after which nothing new is begun
    list: bool = False  # what is done, running, failed and to do
    submit: str = ""  # the team for which rows that are complete are written
    root: Path = Path("leaderboards")  # where those are written
    results: Path | None = None  # the JSON file for what was reached and how it compares
    show: bool = False  # print what was reached
    plots: Path | None = None  # the folder for a picture of what was reached on each benchmark
    render: bool = False  # fill the README beside the results (agents/results-SUITE.json), and draw


def _run(options: _Run) -> None:
    if options.processes < 1 or not options.minutes >= 0:
        raise InvalidArgument(
            "--processes is 1 or more, and --minutes 0 or more: found "
            f"{options.processes} and {options.minutes:g}."
        )
    grid = Grid(read_suite(options.suite), options.only)
    if options.list:
        _list(grid, options)
    if options.submit:
        _submit(grid, options)
    if options.results or options.show or options.plots:
        with bars() as progress:
            reached = results_of(grid, progress)
    if options.show:
        _show(reached)
    if options.plots:
        for name in reached["rows"]:
            if ranked(reached, name):
                file = options.plots / f"{grid.suite.benchmarks[name].name}.png"
                picture = draw_rows(reached, name, file)
                OUT.print(f"Drew {picture}.", soft_wrap=True, highlight=False)
    if options.results:
        write_json(options.results, reached)
        OUT.print(f"Wrote {options.results}.", soft_wrap=True, highlight=False)
    if options.render:
        file = options.results or Path("agents") / f"results-{grid.suite.name}.json"
        page, results = file.with_name("README.md"), read_results(file)
        text = page.read_text(encoding="utf-8")
        write_whole(page, filled(text, results))
        OUT.print(f"Filled {page}.", soft_wrap=True, highlight=False)
        for sweep in results["sweeps"]:
            if shown_on(results, sweep):
                picture = page.parent / picture_of(results, sweep)
                picture.parent.mkdir(exist_ok=True)
                draw_sweep(results, sweep, picture)
                OUT.print(f"Drew {picture}.", soft_wrap=True, highlight=False)
    told = (options.list, options.submit, options.results, options.show, options.plots)
    if not (any(told) or options.render):
        _go_on(grid, options)


def _show(results: dict[str, Any]) -> None:
    """A table for each benchmark: what rows reached, the best one first."""
    for name, metric in results["benchmarks"].items():
        anchors = (f"{who} {value:.3g}" for who, value in results["anchors"][name].items())
        table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left",
                      title=f"[bold]{name}[/] ({', '.join(anchors)})")  # fmt: skip
        for heading in ("row", NAMES[metric], "95% interval", "seeds", "training (s)"):
            table.add_column(heading, justify="left" if heading == "row" else "right")
        cells, digits = ranked(results, name), DIGITS[metric]
        for row, cell in cells.items():
            table.add_row(
                row,
                f"{cell['mean']:.{digits}f}",
                f"{cell['low']:.{digits}f} to {cell['high']:.{digits}f}",
                str(len(cell["seeds"])),
                f"{cell['training_seconds']:.1f}",
            )
        OUT.print(table)
        if missing := [row for row in results["rows"][name] if row not in cells]:
            OUT.print(f"not run: {', '.join(missing)}", highlight=False)
        OUT.print()


def _go_on(grid: Grid, options: _Run) -> None:
    with _watched(grid, options.processes) as say:
        left = run_suite(grid, options.processes, options.minutes, say)
    failures = grid.failures()
    if left:
        time = _time(grid.standing(options.processes).seconds)
        OUT.print(
            f"{_runs(len(left))} left, {time}: `recgym run --suite {options.suite}` goes on.",
            soft_wrap=True,
            highlight=False,
        )
    else:
        OUT.print("Nothing is left." if failures else f"All of {grid.suite.name} is done.")
    _print_failed(failures)
    if failures:
        raise SystemExit(1)


@contextmanager
def _watched(grid: Grid, processes: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error with the time left and what runs; lines where nobody watches."""
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        shown = progress.add_task("")

        def say(words: str) -> None:
            now = grid.standing(processes)
            done, total = now.states.get("done", 0), sum(now.states.values())
            running = "; ".join(grid.journal.running.values())
            if ERR.is_terminal:
                about = plain(f"{_time(now.seconds)}: {running}")
                progress.update(shown, completed=done, total=total, description=about)
            if not (ERR.is_terminal and words.startswith("began")):
                ERR.print(
                    plain(f"[{done}/{total}, {_time(now.seconds)}] {words}"),
                    highlight=False,
                    soft_wrap=True,
                )

        yield say


def _list(grid: Grid, options: _Run) -> None:
    """A line for each row and benchmark, then what failed, and the sum."""
    for row in grid.rows:
        for benchmark in (name for name in grid.benchmarks if name in row.benchmarks):
            parts = []
            if tunings := grid.tunings(row, benchmark):
                tried = sum(grid.state(step) == "done" for step in tunings)
                parts.append(f"tuned {tried} of {len(tunings)}")
            by_state: dict[str, list[str]] = {}
            for step in grid.seeds(row, benchmark):
                by_state.setdefault(grid.state(step), []).append(str(step.seeds[0]))
            parts += [f"{state} {' '.join(seeds)}" for state, seeds in by_state.items()]
            OUT.print(plain(f"{row.name} on {benchmark}: {', '.join(parts)}"),
                      soft_wrap=True, highlight=False)  # fmt: skip
    for words in grid.journal.running.values():
        OUT.print(plain(f"running: {words}"), soft_wrap=True, highlight=False)
    _print_failed(grid.failures())
    now = grid.standing(options.processes)
    counts = ", ".join(f"{now.states.get(state, 0)} {state}" for state in get_args(State))
    OUT.print(f"{counts}; {_time(now.seconds)}", highlight=False)


def _submit(grid: Grid, options: _Run) -> None:
    """Write the rows that are complete: no points of sweeps, nor rows with too few seeds."""
    refused, written, short = [], 0, []
    for row in (row for row in grid.rows if not row.sweep):
        for benchmark in (name for name in grid.benchmarks if name in row.benchmarks):
            report = grid.report(row, benchmark)
            if grid.found(report) is None:
                continue
            if not may_be_listed(len(report.seeds), has_chance(load_agent(row.agent))):
                short.append(f"{row.name} on {benchmark}")
                continue
            try:
                new(grid.place(report), options.submit, options.root, name=row.name, replace=True)
                written += 1
            except BadSubmission as problem:
                refused.append(f"{row.name} on {benchmark}: {problem}")
    OUT.print(f"Wrote {_runs(written, 'row')} into {options.root}.", highlight=False)
    if short:
        OUT.print(plain(f"Too few seeds for a table: {', '.join(short)}."),
                  soft_wrap=True, highlight=False)  # fmt: skip
    _print_failed(refused)
    if refused:
        raise SystemExit(1)


def _print_failed(failed: list[str]) -> None:
    for words in failed:
        OUT.print(f"[bold red]✗[/] {plain(words)}", highlight=False, soft_wrap=True)


def _runs(count: int, what: str = "run") -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "time left unknown"
    return f"{timedelta(seconds=round(seconds))} left"


COMMANDS: dict[str, tuple[str, Command]] = {
    "run": ("a whole grid of agents, benchmarks and seeds", command(_run)),
}
