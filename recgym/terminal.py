"""How commands read words and show things: tables, bars, usage, slips."""

import difflib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from recgym.errors import InvalidArgument

Command = Callable[[Sequence[str]], None]
_UNWATCHED = 200  # columns of tables in files and pipes, where no terminal says how wide it is
OUT = Console(
    emoji=False,
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNWATCHED,
)
ERR = Console(stderr=True, emoji=False)


@contextmanager
def bars(every: float = 30.0) -> Iterator[Callable[[str, float | None], None]]:
    """A bar for every stage, on standard error.

    Where nobody watches it is a line, no oftener than every so many seconds.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as bars:
        tasks: dict[str, Any] = {}
        printed = time.monotonic()

        def show(stage: str, share: float | None) -> None:
            nonlocal printed
            if not ERR.is_terminal and time.monotonic() - printed >= every:
                printed = time.monotonic()
                done = "" if share is None else f": {share:.0%}"
                ERR.print(f"{stage}{done}", markup=False, highlight=False, soft_wrap=True)
            if stage not in tasks:
                for task in tasks.values():
                    bars.update(task, total=1, completed=1)
                    bars.stop_task(task)
                tasks[stage] = bars.add_task(stage, total=None)
            if share is not None:
                bars.update(tasks[stage], total=1, completed=share)

        yield show


@contextmanager
def bar(title: str, every: float = 30.0) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error with the time left, and what is said under it.

    Where nobody watches it is a line, no oftener than every so many seconds.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(None, table_column=Column(ratio=1)),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(),
        TextColumn("left, at most"),
    )
    watched = ERR.is_terminal
    first: tuple[float, float] | None = None  # when the first share was said, and which
    printed = -every
    with _Told(*columns, console=ERR, transient=True, expand=True, disable=not watched) as told:
        task = told.add_task(plain(title), total=None)

        def show(share: float, said: str) -> None:
            nonlocal first, printed
            now = time.monotonic()
            first = first or (now, share)
            if watched:
                told.said = said
                told.update(task, total=1, completed=share)
            elif now - printed >= every:
                passed, gained = now - first[0], share - first[1]
                left = f", {_clock((1 - share) * passed / gained)} left at most" if gained else ""
                line = f"{title}: {share:.0%}{left}; {said}"
                ERR.print(line, markup=False, highlight=False, soft_wrap=True)
                printed = now

        yield show


class _Told(Progress):
    """A bar with a line under it."""

    said = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        if self.said:
            yield Text(f"  {self.said}", style="dim")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def command(act: Callable[[Any], None], group: str = "recgym") -> Command:
    """A command whose options are the dataclass that `act` takes."""
    (options,) = (hint for name, hint in act.__annotations__.items() if name != "return")
    verb = options.__name__.removeprefix("_").lower()
    return lambda words: act(tyro.cli(options, args=list(words), prog=f"{group} {verb}"))


def chosen(prog: str, verbs: dict[str, tuple[str, Command]], words: Sequence[str]) -> None:
    """Run the command that the first word names, or say which there are."""
    if not words or words[0] in ("-h", "--help"):
        usage(prog, {verb: about for verb, (about, _) in verbs.items()})
    elif words[0] not in verbs:
        no_such(words[0], verbs, prog)
    else:
        verbs[words[0]][1](words[1:])


def usage(prog: str, verbs: dict[str, str]) -> None:
    """Print what there is to be done."""
    OUT.print(f"usage: {prog} {{{','.join(verbs)}}} ... [--help]", markup=False, highlight=False)
    for verb, about in verbs.items():
        OUT.print(f"  {verb:10} {about}", markup=False, highlight=False)


def no_such(word: str, known: Sequence[str] | dict[str, Any], prog: str) -> None:
    """Say that there is no such command, and stop."""
    near = difflib.get_close_matches(word, known, n=1)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    ERR.print(
        f"{prog} has no command '{word}'.{guess} It has {', '.join(known)}.",
        markup=False,
        soft_wrap=True,
    )
    sys.exit(2)


def taken(words: list[str], flag: str) -> str | None:
    """The value of a flag, taken out of the words."""
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            value = words[place + 1]
            del words[place : place + 2]
            return value
        if word.startswith(f"{flag}="):
            del words[place]
            return word.partition("=")[2]
    return None


def options_from(words: Sequence[str]) -> dict[str, Any]:
    """Options given as name=value, whose values are JSON, or else text."""
    config = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"--set takes name=value, and '{word}' is none.")
        try:
            config[name] = json.loads(value)
        except ValueError:
            config[name] = value
    return config


def plain(text: str) -> str:
    """The text as it is, without a meaning of its brackets."""
    return text.replace("[", "\\[")
