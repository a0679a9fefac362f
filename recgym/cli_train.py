"""`recgym train` and `recgym runs`: agents learn from datasets, and what came of it is shown."""

import json
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import minari
import tyro
from minari.dataset.minari_dataset import MinariDataset, parse_dataset_id
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional

from recgym import __version__
from recgym.agent import (
    agent_names,
    home_of,
    load_agent,
    made,
    options_of,
    short_name,
    takes_run,
    taught,
    training_data,
)
from recgym.cli_evaluate import _config
from recgym.envs import ORACLES
from recgym.errors import InvalidArgument, MissingExtra, RecGymError, UnknownName
from recgym.evaluation.report import code_of, platform_facts
from recgym.log import sha256_of_json
from recgym.minari_format import content_hash
from recgym.rollouts import POLICIES
from recgym.runs import (
    ABOUT,
    AGENT,
    CURVES,
    METRIC,
    METRICS,
    TENSORBOARD,
    Account,
    Run,
    account_of,
    damaged_lines,
    is_empty,
    measured,
    metrics_of,
    run_folders,
    run_named,
    trainings,
)
from recgym.terminal import ERR, OUT, Command, bar, chosen, command, plain

_SAME = {  # in a run that goes on
    "agent": "is of another agent",
    "options": "has other options",
    "dataset": "has another dataset",
    "content": "has learned from a dataset of that name that was another one",
    "validation": "has other validation data, or none",
}


@dataclass(frozen=True)
class _Training:
    """What to learn from, and where to keep what comes of it."""

    data: str  # the id of a Minari dataset: `recgym data export` and `collect` write some
    validation: str = ""  # the id of another, or none; without: the split of that name
    out: Path | None = None  # the folder of the run, in place of one in $RECGYM_HOME/training
    anew: bool = False  # begin again, whatever has been trained there
    checkpoint_every: float = 30.0  # seconds after which one is due
    json: bool = False  # print run.json at the end


@dataclass(frozen=True)
class _Set:
    """What the agent is made with."""

    set: tuple[str, ...] = ()  # options of the agent, as name=value
    seed: int = 0  # decides all draws, where there is chance


def _train(words: Sequence[str]) -> None:
    if not words or words[0].startswith("-"):
        OUT.print(
            "usage: recgym train AGENT --data DATASET [--validation DATASET] [--out FOLDER] ...\n\n"
            f"agents: {', '.join(agent_names())}, or package.module:Class\n\n"
            "`recgym train AGENT --help` lists the options of an agent.",
            markup=False,
            highlight=False,
        )
        return
    kind = load_agent(words[0])
    if getattr(kind, "learns_from", "data") == "environment":
        raise InvalidArgument(
            f"{home_of(kind)} learns from users who answer, not from data: `recgym evaluate "
            f"{words[0]} --benchmark BENCHMARK` trains it where a benchmark has some."
        )
    training, agent, options, changed = _asked(words[0], kind, list(words[1:]))
    train = _dataset(training.data)
    validation = _validation(training)
    training_data(train, validation)
    folder = training.out or trainings() / _named(kind, training.data, changed)
    if not is_empty(folder) and not (folder / ABOUT).exists():
        raise InvalidArgument(
            f"{folder} holds something else than a run: name a folder that is not there yet."
        )
    run = Run(folder, every=training.checkpoint_every, say=_say)
    with run.alone():
        account = Account(
            agent=home_of(kind),
            name=short_name(home_of(kind)),
            options=options,
            changed=changed,
            dataset=training.data,
            content=content_hash(train),
            validation=validation and validation.id,
            recgym=__version__,
            code=code_of(kind),
            command=shlex.join(["recgym", "train", *(w for w in words if w != "--anew")]),
            platform=platform_facts(),
        )
        known = _known(folder, account, training.anew)
        if training.anew:
            run.clear()
        if known and known.state == "finished":
            _say("This run has finished before, and is not trained again; --anew begins again.")
            account = known
        else:
            account = replace(account, began=known.began) if known else account
            account = _trained(agent, account, train, validation, run)
    if training.json:
        print(json.dumps(asdict(account), indent=1))
    else:
        _print_run(folder, account)


def _asked(
    name: str, kind: type[Any], words: list[str]
) -> tuple[_Training, Any, dict[str, Any], dict[str, Any]]:
    """What to train on, the agent, its options, and those that differ from its defaults."""
    ours = {field.name for field in fields(_Training)}
    flags = is_dataclass(kind) and not ours & {field.name for field in fields(kind)}

    def both(training: Any, agent: Any) -> tuple[Any, Any]:
        return training, agent

    both.__annotations__ = {"training": _Training, "agent": kind if flags else _Set}
    training, agent = tyro.cli(
        both,
        args=words,
        prog=f"recgym train {name}",
        description="Train an agent on a dataset; the same command goes on where it was stopped.",
        config=(OmitArgPrefixes,),
    )
    defaults = options_of(kind)
    if flags:
        options = {option: getattr(agent, option) for option in defaults}
        for field in fields(kind):
            if field.default_factory is not MISSING:
                defaults[field.name] = field.default_factory()
    else:
        config = _config(agent.set)
        options = defaults | config | ({"seed": agent.seed} if "seed" in defaults else {})
        agent = made(kind, config, agent.seed)
    options, defaults = (json.loads(json.dumps(some, default=str)) for some in (options, defaults))
    changed = {key: value for key, value in options.items() if value != defaults.get(key)}
    return training, agent, options, changed


def _named(kind: type[Any], data: str, changed: dict[str, Any]) -> Path:
    """What the folder of a run is called: the data, the agent, its options, and its seed."""
    name = short_name(home_of(kind))
    if options := {key: value for key, value in changed.items() if key != "seed"}:
        name += f"-{sha256_of_json(options)[:8]}"
    if "seed" in changed:
        name += f"-seed-{changed['seed']}"
    return Path(data.removeprefix("recgym/").removesuffix("-v0").replace("/", "-")) / name


def _known(folder: Path, account: Account, anew: bool) -> Account | None:
    """What has been trained in a folder, if it is what is asked for."""
    if anew or not (folder / ABOUT).exists():
        return None
    known = Account.read(folder)
    for what, other in _SAME.items():
        if getattr(known, what) != getattr(account, what):
            raise InvalidArgument(
                f"The run in {folder} {other}: give another folder with --out, or begin again "
                "with --anew."
            )
    if (known.recgym, known.code) != (account.recgym, account.code):
        _say("The code has changed since this run began; --anew begins again.")
    return known


# ------------------------------------------------------------------------------------- training


def _trained(
    agent: Any,
    account: Account,
    train: MinariDataset,
    validation: MinariDataset | None,
    run: Run,
) -> Account:
    """Train, write the agent and the curves down, and say what came of it."""
    folder = run.folder
    assert folder is not None
    account.write(folder)
    began = time.perf_counter()
    try:
        stoppable = _stoppable(run) if takes_run(type(agent)) else nullcontext()
        with bar(account.name) as run.progress, stoppable:
            agent = taught(agent, train, validation, run=run)
        account = replace(account, seconds=round(time.perf_counter() - began, 3))
        _save(agent, folder)
    except KeyboardInterrupt:
        _say(
            f"Stopped. The same command goes on from the last checkpoint: {account.command}"
            if run.checkpoint and run.checkpoint.exists()
            else f"Stopped before a first checkpoint. The same command begins again: "
            f"{account.command}"
        )
        raise SystemExit(130) from None
    except Exception as problem:
        said = str(problem) if isinstance(problem, RecGymError) else repr(problem)
        failed = replace(account, **measured(folder), state="failed", problem=said)
        failed.write(folder)
        raise
    account = replace(account, **measured(folder), state="finished")
    if account.step is not None:
        try:
            _draw(folder, account, folder / CURVES)
        except MissingExtra as problem:
            _say(f"There is no {CURVES}: {problem}")
    account.write(folder)
    return account


@contextmanager
def _stoppable(run: Run) -> Iterator[None]:
    """Ctrl-C stops at the next step, with a checkpoint of it; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal arrives
        return

    def ask(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        _say("Stopping with a checkpoint; Ctrl-C once more stops without.")
        run.stop()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _save(agent: Any, folder: Path) -> None:
    """Write the agent; it is there whole or not at all."""
    draft = folder / f".{AGENT}.part"
    for path in (draft, folder / AGENT):
        shutil.rmtree(path, ignore_errors=True)
    agent.save(draft)
    draft.rename(folder / AGENT)


def _draw(folder: Path, account: Account, file: Path) -> None:
    from recgym.curves import plot_run

    plot_run(list(metrics_of(folder)), f"{account.name} on {account.dataset}", file)


def _say(sentence: str) -> None:
    ERR.print(sentence, markup=False, highlight=False, soft_wrap=True)


# -------------------------------------------------------------------------------------- datasets


def _dataset(known: str) -> MinariDataset:
    there = minari.list_local_datasets()
    if known not in there:
        raise UnknownName("dataset", known, there, _maker(known))
    return minari.load_dataset(known)


def _maker(known: str) -> str:
    """The command that writes a dataset of that id."""
    space, data, policy = (["", "", *known.split("/")])[-3:]
    policy = policy.rpartition("-v")[0]
    for split in ("-validation", "-test"):
        policy = policy.removesuffix(split)
    for oracle in ORACLES:
        if space == "recgym" and data.replace("-", "") == oracle.lower() and policy in POLICIES:
            return f"Write it with `recgym data collect recgym/{oracle}-v0 --policies {policy}`."
    if space == "recgym" and policy == "logged":
        return f"Write it with `recgym data export {data}`."
    return "Write one with `recgym data export LOG`, or with `recgym data collect ENVIRONMENT`."


def _validation(training: _Training) -> MinariDataset | None:
    """The validation data that are asked for, or else the validation split, if it is here."""
    if training.validation == "none":
        return None
    if training.validation:
        return _dataset(training.validation)
    namespace, name, version = parse_dataset_id(training.data)
    known = f"{namespace}/" if namespace else ""
    known += f"{name}-validation" + ("" if version is None else f"-v{version}")
    if known not in minari.list_local_datasets():
        _say(f"Without validation data: {known} is not here.")
        return None
    _say(f"Validated on {known}; --validation names another, or none.")
    return minari.load_dataset(known)


# ------------------------------------------------------------------------------------------ runs


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
        _draw(folder, account, options.plot)
    if options.json:
        print(json.dumps(asdict(account) | {"folder": str(folder)}, indent=1))
    else:
        _print_run(folder, account)


def _print_run(folder: Path, account: Account) -> None:
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
    "train": ("train an agent on a dataset; the same command goes on", _train),
    "runs": ("what was trained: list, show, compare", _runs),
}
