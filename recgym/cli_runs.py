"""`recgym runs list | show | compare`: what was trained, and what came of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from tyro.conf import Positional

from recgym.errors import InvalidArgument, RecGymError
from recgym.runs import (
    AGENT,
    CURVES,
    METRIC,
    METRICS,
    TENSORBOARD,
    Account,
    account_of,
    damaged_lines,
    metrics_of,
    run_folders,
    run_named,
    trainings,
)
from recgym.terminal import OUT, Command, chosen, command, plain


def _runs(words: Sequence[str]) -> None:
    verbs: dict[str, tuple[str, Command]] = {
        "list": ("what was trained, and how well it went", command(_list, "recgym runs")),
        "show": ("all about a run", command(_show, "recgym runs")),
        "compare": ("several runs side by side", command(_compare, "recgym runs")),
    }
    chosen("recgym runs", verbs, words)


@dataclass(frozen=True)
class _List:
    """What was trained, and how well it went."""

    runs: Positional[tuple[str, ...]] = ()  # folders, or names; without: all in $RECGYM_HOME
    json: bool = False  # print JSON


def _list(options: _List) -> None:
    folders = [run_named(name) for name in options.runs] if options.runs else run_folders()
    rows, damaged = [], []
    for folder in folders:
        if lines := damaged_lines(folder):
            damaged.append(f"{folder / METRICS} has {lines} that cannot be read.")
        try:
            rows.append(_described(folder))
        except RecGymError as problem:
            damaged.append(str(problem))
    if options.json:
        print(json.dumps({"runs": rows, "damaged": damaged}, indent=1))
        return
    for sentence in damaged:
        OUT.print(f"[yellow]damaged:[/] {plain(sentence)}", soft_wrap=True, highlight=False)
    if not rows:
        if not damaged:
            OUT.print(f"No run yet in {trainings()}. Try: recgym train", highlight=False)
        return
    table = _table("run", "state", "steps", METRIC, "at", "began", right=(2, 3, 4))
    group = ""
    for row in rows:
        data, _, name = row["name"].rpartition("/")
        if data != group:
            table.add_row(f"[bold]{plain(data)}[/]")
        group = data
        table.add_row(
            f"  {plain(name)}", row["state"], _count(row["step"]), _number(row["best"]),
            _count(row["best_step"]), row["began"][:16].replace("T", " "),
        )  # fmt: skip
    OUT.print(table)


def _described(folder: Path) -> dict[str, Any]:
    """A run in a few words."""
    account = account_of(folder)
    facts = ("state", "dataset", "step", "seconds", "best", "best_step", "began", "problem")
    return (
        {"name": _name_of(folder), "agent": account.name}
        | {fact: getattr(account, fact) for fact in facts}
        | {"folder": str(folder)}
    )


def _name_of(folder: Path) -> str:
    """What a run is called in lists."""
    ours = folder.absolute().parent.parent == trainings().absolute()
    return f"{folder.parent.name}/{folder.name}" if ours else str(folder)


@dataclass(frozen=True)
class _Show:
    """All about a run."""

    run: Positional[str]  # its folder, or a part of its name
    plot: Path | None = None  # also draw its curves: a .png, .svg or .pdf file
    json: bool = False  # print JSON


def _show(options: _Show) -> None:
    folder = run_named(options.run)
    account = account_of(folder)
    if options.plot:
        draw(folder, account, options.plot)
    if options.json:
        print(json.dumps(asdict(account) | {"folder": str(folder)}, indent=1))
    else:
        print_run(folder, account)


@dataclass(frozen=True)
class _Compare:
    """Several runs side by side: what differs, and how well it went."""

    runs: Positional[tuple[str, ...]]  # their folders, or parts of their names
    plot: Path | None = None  # also draw their curves on validation data into one picture
    json: bool = False  # print JSON


def _compare(options: _Compare) -> None:
    folders = list(dict.fromkeys(run_named(name) for name in options.runs))
    if len(folders) < 2:
        raise InvalidArgument("Two runs or more can be compared: give their names, or folders.")
    accounts = [account_of(folder) for folder in folders]
    differing = _differing(accounts)
    names = [_name_of(folder) for folder in folders]
    if options.plot:
        from recgym.curves import plot_comparison

        labels = [f"{name}: {_listed(one)}" for name, one in zip(names, differing, strict=True)]
        drawn = [list(metrics_of(folder)) for folder in folders]
        plot_comparison(dict(zip(labels, drawn, strict=True)), options.plot)
    if options.json:
        rows = [_described(folder) | {"differing": one}
                for folder, one in zip(folders, differing, strict=True)]  # fmt: skip
        print(json.dumps(rows, indent=1))
        return
    for number, name in enumerate(names, 1):
        OUT.print(f"{number}  {plain(name)}", highlight=False, soft_wrap=True)
    OUT.print()
    columns = range(1, len(folders) + 1)
    table = _table("", *map(str, columns), right=columns)
    for what in dict.fromkeys(what for one in differing for what in one):
        table.add_row(what, *(_number(one.get(what)) for one in differing))
    table.add_row(f"best {METRIC}", *(_number(one.best) for one in accounts))
    table.add_row("at step", *(_count(one.best_step) for one in accounts))
    table.add_row("steps", *(_count(one.step) for one in accounts))
    table.add_row("seconds", *(f"{one.seconds:,.1f}" for one in accounts))
    OUT.print(table)
    if any("content" in one or "validation" in one for one in differing):
        OUT.print(f"Their data differ: one {METRIC} is not of the same questions as another.")


def _differing(accounts: Sequence[Account]) -> list[dict[str, Any]]:
    """Of each run, the facts and options in which it differs from another one that has them."""
    told = [
        {
            "agent": one.name,
            "data": one.dataset,
            "content": one.content[:8],
            "validation": one.validation,
        }
        | one.options
        for one in accounts
    ]
    changed = {name for one in accounts for name in one.changed}
    names = dict.fromkeys(name for one in told for name in one)
    for name in list(names):
        known = [one[name] for one in told if name in one]
        alone = len(known) < len(told) and name in changed
        if all(value == known[0] for value in known) and not alone:
            del names[name]
    return [{name: one[name] for name in names if name in one} for one in told]


# ------------------------------------------------------------------------------------ what is shown


def print_run(folder: Path, account: Account) -> None:
    """What was trained on what, how it went, and where everything is."""
    lines = list(metrics_of(folder))
    best: dict[str, Any] = {}
    for line in lines:
        if line["step"] == account.best_step:
            best = line
    losses = {name: value for name, value in lines[-1].items() if name not in ("step", "seconds")
              and "@" not in name} if lines else {}  # fmt: skip
    problem = f": {account.problem}" if account.problem else ""
    steps = "" if account.step is None else f"{_count(account.step)} steps in "
    rows = {
        "agent": account.agent,
        "options": _listed(account.changed) or "the defaults",
        "data": account.dataset,
        "validation": account.validation or "none",
        "began": f"{account.began[:16].replace('T', ' ')} UTC",
        "state": f"{account.state}{problem}",
        "trained": f"{steps}{account.seconds:,.1f} s",
        "losses": _listed(losses),
        "best": _listed({name: value for name, value in best.items() if "@" in name})
        + (f", at step {_count(account.best_step)}" if best else ""),
        "folder": str(folder),
    }  # fmt: skip
    for name, what in ((AGENT, AGENT), (CURVES, "curves"), (TENSORBOARD, TENSORBOARD)):
        if (folder / name).exists():
            rows[what] = str(folder / name)
    rows["command"] = account.command
    OUT.print(f"[bold]{plain(_name_of(folder))}[/]", highlight=False, soft_wrap=True)
    for what, said in rows.items():
        if said:
            OUT.print(f"{what:11} {plain(said)}", highlight=False, soft_wrap=True)


def draw(folder: Path, account: Account, file: Path) -> None:
    """Draw the curves of a run into a file."""
    from recgym.curves import plot_run

    plot_run(list(metrics_of(folder)), f"{account.name} on {account.dataset}", file)


def _table(*headings: str, right: Sequence[int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place in right else "left", overflow="fold")
    return table


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _count(value: int | None) -> str:
    return "—" if value is None else f"{value:,}"


COMMANDS: dict[str, tuple[str, Command]] = {
    "runs": ("what was trained: list, show, compare", _runs),
}
