"""`recgym data`: logs and datasets are built, looked at and judged."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import tyro
from minari import MinariDataset, list_local_datasets
from rich.box import SIMPLE, SIMPLE_HEAD
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, Suppress

from recgym.agent import load_agent
from recgym.demonstrations import EPISODES, NAMES, SHOP, TRIES, demonstrate, generate
from recgym.engine import EngineName
from recgym.errors import BadLog, InvalidArgument, NothingLeft, UnknownName
from recgym.export import DataFormat, combine, to_minari
from recgym.home import home, load_log, log_names, remove_log
from recgym.log import InteractionLog, Split
from recgym.protocols import PROTOCOLS, PUBLISHED, Protocol, protocol_named
from recgym.rollouts import SESSIONS, collect
from recgym.runs import AGENT, account_of, run_named
from recgym.sources import load_source, prepare, source_names
from recgym.terminal import ERR, OUT, Command, bars, chosen, command, plain, taken


def run(words: Sequence[str]) -> None:
    """Run the command that these words say."""
    verbs: dict[str, tuple[str, Command]] = {
        "list": ("the logs and the sources that are there", _command(_list)),
        "build": ("build a log from what you downloaded", _build),
        "info": ("what a log holds", _command(_info)),
        "export": ("write the splits of a log as Minari datasets", _command(_export)),
        "collect": (
            "write what policies did with oracle users, or shoppers, as datasets",
            _command(_collect),
        ),
        "generate": (
            "write what an agent did in a shop, where it went well, as a dataset",
            _command(_generate),
        ),
        "combine": ("join Minari datasets of equal spaces", _command(_combine)),
        "hash": ("read every byte of a log, check it, and print its digest", _command(_hash)),
        "diagnose": ("does this log need RL, and can it carry a claim?", _command(_diagnose)),
        "remove": ("delete logs", _command(_remove)),
    }
    chosen("recgym data", verbs, words)


def _command(act: Any) -> Command:
    return command(act, "recgym data")


# -------------------------------------------------------------------------------- the commands


@dataclass(frozen=True)
class _List:
    """The logs and the sources that are there."""

    json: bool = False  # print JSON


def _list(options: _List) -> None:
    logs: list[dict[str, Any]] = []
    damaged: list[str] = []
    for name in log_names():
        try:
            logs.append(_summary(load_log(name)))
        except BadLog as found:
            damaged.append(str(found))
    if options.json:
        print(json.dumps({"logs": logs, "damaged": damaged, "sources": source_names()}, indent=1))
        return
    for problem in damaged:
        OUT.print(f"[yellow]damaged:[/] {plain(problem)}", soft_wrap=True)
    if logs:
        table = Table(box=SIMPLE_HEAD)
        for heading in ("log", "protocol", "rows", "sessions", "items", "digest"):
            table.add_column(heading, no_wrap=True)
        for log in logs:
            counts = (f"{log[key]:,}" for key in ("rows", "sessions", "items"))
            table.add_row(log["name"], log["protocol"], *counts, log["digest"][:8])
        OUT.print(table)
    elif not damaged:
        OUT.print(f"No log yet in {home()}. Try: recgym data build demo --name demo")
    table = Table("source", "what to give as --raw", box=SIMPLE_HEAD)
    for name in source_names():
        table.add_row(name, load_source(name).needs or "nothing")
    OUT.print(table)


@dataclass(frozen=True)
class _Build:
    """Build a log from what you downloaded."""

    name: str  # what to call the log
    raw: Path | None = None  # the folder, zip or file as you downloaded it
    replace: bool = False  # build anew a log that exists
    engine: EngineName = "duckdb"  # spark where a log outgrows a machine
    memory: str = "3GB"  # that the engine may use before it spills to disk


@dataclass(frozen=True)
class _Switches(Protocol):
    name: Annotated[str, Suppress] = ""


def _build(words: Sequence[str]) -> None:
    if not words or words[0].startswith("-"):
        _build_usage()
        return
    source, rest = words[0], list(words[1:])
    options = load_source(source)
    protocol = protocol_named(taken(rest, "--protocol") or "temporal")
    switches = _Switches(
        **{f.name: getattr(protocol, f.name) for f in dataclasses.fields(Protocol)}
    )
    parts = (
        ("log", _Build),
        ("source", options, dataclasses.field(default=options())),
        ("switch", _Switches, dataclasses.field(default=switches)),
    )
    asked: Any = tyro.cli(
        OmitArgPrefixes[dataclasses.make_dataclass("_Asked", parts, frozen=True)],  # type: ignore
        args=rest,
        prog=f"recgym data build {source} --protocol {protocol.name}",
        description=f"{options.__doc__}\n\nAny switch of the protocol can be changed; the manifest "
        f"records them all. Protocols: {', '.join(PROTOCOLS)}.",
    )
    build, switches = asked.log, asked.switch
    with bars() as progress:
        log = prepare(
            asked.source,
            build.raw,
            name=build.name,
            protocol=Protocol(
                **{f.name: getattr(switches, f.name) for f in dataclasses.fields(Protocol)}
            ),
            engine=build.engine,
            memory=build.memory,
            replace=build.replace,
            command=shlex.join(["recgym", "data", "build", *_shareable(words)]),
            progress=progress,
        )
    _print_info(log)


@dataclass(frozen=True)
class _Info:
    """What a log holds."""

    log: Positional[str]  # its name, or its folder
    plot: Path | None = None  # also draw it: a .png, .svg or .pdf file
    json: bool = False  # print JSON


def _info(options: _Info) -> None:
    log = load_log(options.log)
    if options.plot:
        from recgym.plots import plot_log

        plot_log(log, options.plot)
    if options.json:
        print(json.dumps(_summary(log) | {"manifest": dataclasses.asdict(log.manifest)}, indent=1))
    else:
        _print_info(log)


@dataclass(frozen=True)
class _Export:
    """Write the splits of a log as Minari datasets: recgym/<name>/logged-v0 and so on."""

    log: Positional[str]  # its name, or its folder
    splits: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
    history: int = 10  # items of a history window
    name: str | None = None  # in the ids of the datasets, instead of the log's
    format: DataFormat = "recgym"  # hdf5 for those without recgym: much slower and larger
    replace: bool = False  # write anew what exists
    json: bool = False  # print JSON


def _export(options: _Export) -> None:
    log, written, empty = load_log(options.log), [], []
    with bars() as progress:
        for split in dict.fromkeys(options.splits):
            if not len(log.episodes(split)[0]):
                empty.append(split)
                continue
            dataset = to_minari(
                log,
                split,
                history=options.history,
                name=options.name,
                data_format=options.format,
                replace=options.replace,
                progress=progress,
            )
            written.append(_dataset_summary(dataset))
    if not written:
        raise NothingLeft(f"'{options.log}' has no {' and no '.join(empty)} rows to export.")
    _print_datasets(written, options.json)
    for split in empty:
        ERR.print(f"No {split} dataset: the log has no {split} row with an item that it indexes.",
                   highlight=False, soft_wrap=True)  # fmt: skip


@dataclass(frozen=True)
class _Collect:
    """Let policies act on oracle users, or shoppers in a shop, and write what they did.

    As recgym/oracle-boredom/mixed-v0, recgym/minishop/scripted-v0 and so on.
    """

    env: Positional[str]  # such as recgym/OracleBoredom-v0, recgym/MiniShop-v0
    policies: tuple[str, ...] = ()  # empty: random, medium, expert, mixed; rule, scripted, oracle
    splits: tuple[Literal["train", "validation", "test"], ...] = ()  # empty: all; of shops not test
    sessions: int | None = None  # of each dataset; 8,000 for training, else 1,000; 2,000 and 500
    files: str | None = None  # for recgym/WebShop-v0: the folder of WebShop's files
    name: str | None = None  # in the ids of the datasets, instead of the environment's
    replace: bool = False  # write anew what exists
    json: bool = False  # print JSON


def _collect(options: _Collect) -> None:
    more: dict[str, Any] = {
        "sessions": options.sessions, "name": options.name, "replace": options.replace
    }  # fmt: skip
    write: Callable[..., MinariDataset]
    policies: tuple[str, ...]
    splits: tuple[Split, ...]
    if gymnasium.spec(options.env).entry_point == SHOP:
        write, policies, splits = demonstrate, NAMES, tuple(EPISODES)
        more |= {"files": options.files} if options.files else {}
    else:
        write, policies, splits = collect, ("random", "medium", "expert", "mixed"), tuple(SESSIONS)
    with bars() as progress:
        written = [
            _dataset_summary(write(options.env, policy, split, progress=progress, **more))
            for policy in dict.fromkeys(options.policies or policies)
            for split in dict.fromkeys(options.splits or splits)
        ]
    _print_datasets(written, options.json)


@dataclass(frozen=True)
class _Generate:
    """Let an agent that was trained shop for training goals, and write what went well.

    As recgym/minishop/generated-v0; one that can draw what it does from its policy does so.
    """

    run: Positional[str]  # what `recgym train` wrote: a folder, or a part of its name
    env: str = "recgym/MiniShop-v0"  # the shop
    sessions: int = 100  # that are kept
    least: float = 1.0  # that a session has to earn to be kept
    tries: int = TRIES  # sessions, at most
    seed: int = 0  # decides the goals
    files: str | None = None  # for recgym/WebShop-v0: the folder of WebShop's files
    name: str | None = None  # in the id of the dataset, instead of the environment's
    replace: bool = False  # write anew what exists
    json: bool = False  # print JSON


def _generate(options: _Generate) -> None:
    folder = run_named(options.run)
    account = account_of(folder)
    agent = load_agent(account.agent).load(folder / AGENT)
    if hasattr(agent, "acting"):
        agent.acting = "sampled"
    with bars() as progress:
        dataset = generate(
            options.env,
            agent,
            sessions=options.sessions,
            least=options.least,
            tries=options.tries,
            seed=options.seed,
            algorithm=account.name,
            name=options.name,
            replace=options.replace,
            progress=progress,
            **{"files": options.files} if options.files else {},
        )
    _print_datasets([_dataset_summary(dataset)], options.json)


@dataclass(frozen=True)
class _Combine:
    """Join Minari datasets of equal spaces and environments, in recgym's format."""

    datasets: Positional[tuple[str, ...]]  # their ids
    into: str  # the id of what they become
    replace: bool = False  # write anew what exists
    json: bool = False  # print JSON


def _combine(options: _Combine) -> None:
    if len(options.datasets) < 2:
        raise InvalidArgument("Two datasets or more can be joined: give their ids.")
    there = list_local_datasets()
    for known in options.datasets:
        if known not in there:
            raise UnknownName("dataset", known, there, "Write one with `recgym data export`.")
    dataset = combine(options.datasets, options.into, replace=options.replace)
    _print_datasets([_dataset_summary(dataset)], options.json)


@dataclass(frozen=True)
class _Hash:
    """Read every byte of a log, check it, and print its digest."""

    log: Positional[str]  # its name, or its folder
    json: bool = False  # print JSON, with the hash of every column


def _hash(options: _Hash) -> None:
    log = load_log(options.log)
    with bars() as progress:
        progress("reading every column", None)
        digest = log.verify()
    if options.json:
        columns = {name: column.sha256 for name, column in log.manifest.columns.items()}
        print(
            json.dumps({"name": log.manifest.name, "digest": digest, "columns": columns}, indent=1)
        )
    else:
        print(f"{digest}  {log.manifest.name}")


@dataclass(frozen=True)
class _Diagnose:
    """Does this log need RL, and can it carry a claim?"""

    log: Positional[str]  # its name, or its folder
    json: bool = False  # print JSON


def _diagnose(options: _Diagnose) -> None:
    from recgym.diagnose import diagnose

    log = load_log(options.log)
    with bars() as progress:
        progress("counting", None)
        findings = diagnose(log)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
        return
    colours = {"fine": "green", "note": "cyan", "warning": "yellow"}
    table = Table("", "", title=f"{log.manifest.name}", show_header=False, show_lines=True)
    for finding in findings:
        mark = f"[{colours[finding.level]}]{finding.name}\n{finding.level}[/]"
        table.add_row(mark, plain(finding.sentence))
    OUT.print(table)


@dataclass(frozen=True)
class _Remove:
    """Delete logs."""

    logs: Positional[tuple[str, ...]]  # their names
    yes: bool = False  # do not ask


def _remove(options: _Remove) -> None:
    for name in options.logs:
        if name not in log_names():
            remove_log(name)  # says what is there
    if not options.yes:
        if not sys.stdin.isatty():
            raise InvalidArgument("Nobody is there to confirm: add --yes to remove without asking.")
        answer = input(f"Remove {', '.join(options.logs)} from {home() / 'logs'}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Kept.")
            return
    for name in options.logs:
        remove_log(name)
        print(f"Removed {name}.")


# --------------------------------------------------------------------------------- what is shown


def _summary(log: InteractionLog) -> dict[str, Any]:
    manifest = log.manifest
    return {
        "name": manifest.name,
        "source": manifest.source["name"],
        "protocol": manifest.protocol["name"],
        "rows": len(log),
        "sessions": log.n_sessions,
        "items": manifest.counts["items"],
        "digest": manifest.digest,
        "path": str(log.path),
    }


def _dataset_summary(dataset: MinariDataset) -> dict[str, Any]:
    return {
        "dataset": dataset.id,
        "episodes": int(dataset.total_episodes),
        "steps": dataset.total_steps,
        "megabytes": dataset.storage.metadata["dataset_size"],
        "path": str(dataset.storage.data_path.parent),
    }


def _print_datasets(datasets: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(datasets, indent=1))
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("dataset", "episodes", "steps", "MB"):
        table.add_column(heading, no_wrap=True)
    for one in datasets:
        counts = f"{one['episodes']:,}", f"{one['steps']:,}", f"{one['megabytes']:,}"
        table.add_row(one["dataset"], *counts)
    OUT.print(table)
    first = datasets[0]["dataset"]
    OUT.print(f'import recgym, minari; minari.load_dataset("{first}")', highlight=False)


def _print_info(log: InteractionLog) -> None:
    manifest, counts = log.manifest, log.manifest.counts
    switches = manifest.protocol
    table = Table(title=manifest.name, show_header=False, title_justify="left", box=SIMPLE)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    options = ", ".join(f"{k} {v}" for k, v in manifest.source.items() if k != "name")
    table.add_row("source", manifest.source["name"] + (f" ({options})" if options else ""))
    table.add_row("protocol", f"{switches['name']}: {switches['split']} split, {_ends(switches)}")
    table.add_row("rows", f"{counts['rows']:,} in {counts['sessions']:,} sessions")
    table.add_row(
        "items", f"{counts['items']:,}, {log.n_items:,} of them indexed ({switches['index']})"
    )
    table.add_row("behaviours", _shares(counts["behaviours"], counts["rows"]))
    table.add_row("splits", _shares(counts["splits"], counts["rows"]))
    for cut, split in zip(manifest.cuts, ("validation", "test"), strict=False):
        begins = datetime.fromtimestamp(cut / 1_000_000, UTC)
        table.add_row(f"{split} from", f"{begins:%Y-%m-%d %H:%M:%S} UTC")
    for split in ("validation", "test"):
        if targets := counts["splits"][split]:
            unseen = counts["unseen"][split]
            table.add_row(f"unseen {split} items", f"{unseen:,} targets ({unseen / targets:.1%})")
    pairs = max(counts["pairs"], 1)
    table.add_row("equal times", f"{counts['tied_pairs']:,} of {pairs:,} pairs")
    table.add_row("terminated", f"{counts['terminated']:,} of {counts['sessions']:,} sessions")
    table.add_row("steps", " → ".join(f"{step} {rows:,}" for step, rows in manifest.steps))
    for what, count in PUBLISHED.get(switches["name"], {}).items():
        here = counts.get(what, counts["behaviours"].get(what, 0))
        table.add_row(f"published {what}", f"{count:,} (here {here:,})")
    for note in manifest.notes:
        table.add_row("note", note)
    table.add_row("digest", manifest.digest)
    table.add_row("path", str(log.path))
    OUT.print(table)


def _ends(switches: dict[str, Any]) -> str:
    return {
        "never": "every end is truncated",
        "always": "every end is terminal",
        "purchase": "ends with a purchase are terminal",
        "shown": "ends that the log shows are terminal",
    }[switches["ends"]]


def _shares(counts: dict[str, int], total: int) -> str:
    return ", ".join(f"{name} {n:,} ({n / total:.1%})" for name, n in counts.items() if n)


# ------------------------------------------------------------------------------ reading words


def _build_usage() -> None:
    OUT.print(
        "usage: recgym data build SOURCE --name NAME [--raw PATH] [--protocol PROTOCOL] ...\n\n"
        f"sources:   {', '.join(source_names())}, or package.module:Class\n"
        f"protocols: {', '.join(PROTOCOLS)}\n\n"
        "`recgym data build SOURCE --help` lists the options of a source, and the switches.",
        markup=False,
        highlight=False,
    )


def _shareable(words: Sequence[str]) -> list[str]:
    """The words of a command with paths cut to their last part: manifests travel."""
    return [Path(word).name if "/" in word and Path(word).exists() else word for word in words]
