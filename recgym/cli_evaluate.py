"""`recgym agents | benchmarks | evaluate`: who recommends, what is asked, how well it is done."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from minari import list_local_datasets
from rich.table import Table
from tyro.conf import Positional

from recgym.agent import agent_names, load_agent, options_of
from recgym.benchmarks import BENCHMARKS, Benchmark, benchmark_named
from recgym.errors import InvalidArgument, MissingExtra
from recgym.evaluation.closed_loop import USERS
from recgym.evaluation.intervals import CLAIMED, holm, paired
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import Report, evaluate, read_json, run_folder
from recgym.evaluation.scoring import primary_outcomes
from recgym.evaluation.selection import EPSILON, Judgement, judged
from recgym.evaluation.tasks import Progress, Task
from recgym.home import log_names
from recgym.terminal import OUT, Command, bars, command, options_from, plain

_TOLD = ("return (", "coverage (", "score (", "success (")  # what is kept beside the results
_SHOWN = ("hr@10", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")  # the rest is in the report


@dataclass(frozen=True)
class _Agents:
    """The agents that come with recgym, or the options of one."""

    name: Positional[str] = ""  # an agent, also as package.module:Class; without: all that are here


def _agents(options: _Agents) -> None:
    if options.name:
        agent = load_agent(options.name)
        if is_dataclass(agent):  # trailing comments say what each option is
            tyro.cli(agent, args=["--help"], prog=f"options of {options.name}")
        OUT.print(plain(inspect.getdoc(agent) or ""), highlight=False)
        for name, default in options_of(agent).items():
            needed = default is inspect.Parameter.empty
            OUT.print(f"  {name}{'' if needed else f' = {default!r}'}", markup=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("agent", "learns from", "what it does"):
        table.add_column(heading, no_wrap=heading != "what it does")
    for name in agent_names():
        try:
            agent = load_agent(name)
        except MissingExtra as problem:
            table.add_row(name, "", plain(str(problem)))
            continue
        about = (inspect.getdoc(agent) or "").partition("\n\n")[0].replace("\n", " ")
        table.add_row(name, getattr(agent, "learns_from", "data"), plain(about))
    OUT.print(table)


# ------------------------------------------------------------------------------------ benchmarks


@dataclass(frozen=True)
class _Benchmarks:
    """The benchmarks: what they can show and what not, and what makes their data."""

    name: Positional[str] = ""  # all about one of them
    json: bool = False  # print JSON


def _benchmarks(options: _Benchmarks) -> None:
    chosen = [benchmark_named(options.name)] if options.name else list(BENCHMARKS.values())
    logs = log_names()
    rows = [_described(benchmark, logs) for benchmark in chosen]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    if options.name:
        for label, said in _in_words(chosen[0], rows[0]["here"]).items():
            if said:
                OUT.print(f"[bold]{label:13}[/] {plain(said)}", highlight=False, soft_wrap=True)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("benchmark", "ranked by", "here", "what it can show"):
        table.add_column(heading, no_wrap=heading != "what it can show")
    for row in rows:
        table.add_row(row["name"], row["primary"], "yes" if row["here"] else "—", row["shows"])
    OUT.print(table)
    OUT.print(
        "\n—: its data are not here yet; `recgym benchmarks NAME` names the command that makes "
        "them. Those of oracles and of MiniShop are made when they are needed.",
        highlight=False,
    )


def _described(benchmark: Benchmark, logs: list[str]) -> dict[str, Any]:
    return asdict(benchmark) | {
        "sha256": benchmark.sha256(),
        "digest": benchmark.digest,
        "anchors": benchmark.anchors,
        "here": _is_here(benchmark, logs),
    }


def _in_words(benchmark: Benchmark, here: bool) -> dict[str, str]:
    """All about a benchmark; what does not apply to it is empty."""
    low, high = benchmark.anchors or (None, None)
    nothing = "nothing bought" if benchmark.shop else "random"
    scale = f"{_plain(low)} ({nothing}) and {_plain(high)} ({benchmark.reference})"
    return {
        "benchmark": benchmark.name,
        "can show": benchmark.shows,
        "cannot show": benchmark.hides,
        "learned from": benchmark.dataset,
        "made by": benchmark.build,
        "here": "yes" if here else "not yet",
        "log": benchmark.log,
        "environment": benchmark.env,
        "left out": "items that the user knows are not ranked" if benchmark.mask_seen else "",
        "ranked by": benchmark.primary,
        "baseline": benchmark.baseline,
        "0 and 100": scale if benchmark.anchors else "",
        "data's hash": benchmark.sha256() or "not frozen yet",
        "log's digest": benchmark.digest or "",
    }


def _is_here(benchmark: Benchmark, logs: list[str]) -> bool:
    """Are its data here, or made when they are needed?"""
    if benchmark.shop and not benchmark.made_in:
        return benchmark.dataset in list_local_datasets()
    return not benchmark.log or benchmark.log in logs


# -------------------------------------------------------------------------------------- evaluate


@dataclass(frozen=True)
class _Evaluate:
    """Train agents on a benchmark and score them: the same numbers for everybody."""

    agents: Positional[tuple[str, ...]]  # names (`recgym agents`), or package.module:Class
    benchmark: str  # its name: `recgym benchmarks`
    seeds: tuple[int, ...] = ()  # where there is chance; without: 0 1 2
    set: tuple[str, ...] = ()  # options of the agent, as name=value
    split: Literal["validation", "test"] = "test"  # choose agents and options by the validation
    users: int = USERS  # who answer, or goals in a shop, at most; a leaderboard takes the default
    simulator: str = ""  # whose users are asked about the agent, too, in both of its roles
    ope: bool = False  # how far off-policy estimates are from the truth
    epsilon: float = EPSILON  # with --ope: the share of any item at all in what agents recommend
    out: Path | None = None  # the folder for results ($RECGYM_HOME/runs); with --ope, a JSON file
    anew: bool = False  # also what was evaluated before
    json: bool = False  # print JSON


def _evaluate(options: _Evaluate) -> None:
    config = options_from(options.set)
    if not options.agents:
        raise InvalidArgument("No agent is named: `recgym agents` lists those that are here.")
    if len(options.agents) > 1 and (config or (options.out and not options.ope)):
        raise InvalidArgument("--set and --out are for one agent: name one.")
    with bars() as progress:
        if options.ope:
            found = _judged(options, config, progress)
        else:
            reports = [_report(name, options, config, progress) for name in options.agents]
    if options.ope:
        if options.out:
            found.add_to(options.out)
        _print_judgement(found, options.json)
    elif options.json:
        print(json.dumps([asdict(report) for report in reports], indent=1))
    else:
        for report in reports:
            _print_report(report)
            _print_told(report, options)
        if len(reports) > 1:
            _print_differences(reports, options)
        where = [_folder(report, options) for report in reports]
        OUT.print(
            f"\nReports and predictions are in {', '.join(map(str, where))}; "
            f"`recgym leaderboard new {where[0]} --team TEAM` makes a submission.",
            highlight=False,
            soft_wrap=True,
        )


def _report(name: str, options: _Evaluate, config: Mapping[str, Any], progress: Progress) -> Report:
    return evaluate(
        name,
        options.benchmark,
        config=config,
        seeds=options.seeds or None,
        split=options.split,
        users=options.users,
        simulator=options.simulator,
        folder=options.out,
        anew=options.anew,
        progress=progress,
    )


def _folder(report: Report, options: _Evaluate) -> Path:
    agent = load_agent(report.agent)
    known = benchmark_named(report.benchmark)
    return options.out or run_folder(known, agent, report.config, report.split, options.users)


def _print_report(report: Report) -> None:
    """The metrics, as means over seeds."""
    results = report.results
    metrics = [result["metrics"] for result in results]
    seeds = f"seeds {', '.join(map(str, report.seeds))}" if report.chance else "no chance"
    title = f"{report.agent} on {report.benchmark} ({report.split}; {seeds})"
    OUT.print(f"\n[bold]{plain(title)}[/]", highlight=False)
    if "ranking" in metrics[0] and not report.ranks_all:
        OUT.print("It has no scores: it is ranked by the one item that it recommends.")
    primary = report.primary
    if primary["mean"] is not None:
        OUT.print(
            f"{primary['metric']} {primary['mean']:.4f}, 95% from {primary['low']:.4f} to "
            f"{primary['high']:.4f}",
            highlight=False,
        )
    if "ranking" in metrics[0]:
        OUT.print(_ranking_table([one["ranking"] for one in metrics]))
    for part in ("lists", "closed loop", "off-policy", "shop"):
        if part in metrics[0]:
            said = (f"{key} {_plain(_mean([one[part][key] for one in metrics]))}"
                    for key in metrics[0][part])  # fmt: skip
            OUT.print(f"{part}: {', '.join(said)}", highlight=False)
    costs = (f"{key} {_plain(_mean([one['costs'][key] for one in results]))}"
             for key in results[0]["costs"])  # fmt: skip
    OUT.print(f"costs: {', '.join(costs)}", highlight=False)


def _ranking_table(rankings: list[dict[str, Any]]) -> Table:
    """Metrics of ranking by view and behaviour, as means over seeds."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("targets", "", "count", *_SHOWN):
        justify: Any = "left" if heading in ("targets", "") else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for view in rankings[0]:
        for behaviour, of in rankings[0][view].items():
            cells = [
                f"{_mean([one[view][behaviour][name] for one in rankings]):.4f}"
                if name in of else "n/a"
                for name in _SHOWN
            ]  # fmt: skip
            table.add_row(view, behaviour, f"{of['targets']:,}", *cells)
    return table


def _print_told(report: Report, options: _Evaluate) -> None:
    """What users of a simulator make of the agent, and what it reaches where it acts otherwise."""
    folder = _folder(report, options)
    told = [read_json(folder / f"seed-{seed}" / "result.json")["training"] for seed in report.seeds]
    said = [f"{key} {_plain(_mean([one[key] for one in told]))}"
            for key in told[0] if key.endswith(")") and key.startswith(_TOLD)]  # fmt: skip
    who = f"users of {plain(options.simulator)}" if options.simulator else "also"
    if said:
        OUT.print(f"{who}: {', '.join(said)}", highlight=False)


def _mean(values: list[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values) / len(values)


def _plain(value: Any) -> str:
    return "n/a" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _print_differences(reports: list[Report], options: _Evaluate) -> None:
    """Each agent against the first: who is better, and is it more than chance?"""
    asked = benchmark_named(reports[0].benchmark)
    if asked.primary == "snips":
        return
    task = Task(asked, reports[0].split, lambda stage, share: None)  # type: ignore[arg-type]
    first, *others = [primary_outcomes(task, _runs(report, options)) for report in reports]
    found = [paired(other, first) for other in others]
    adjusted = holm([difference.p for difference in found])
    OUT.print(f"\n[bold]{asked.primary}, against {reports[0].agent}[/]", highlight=False)
    for report, difference, p in zip(reports[1:], found, adjusted, strict=True):
        few = [r for r in (report, reports[0]) if r.chance and len(r.seeds) < CLAIMED]
        note = f"; a claim needs {CLAIMED} seeds" if few else ""
        OUT.print(
            f"{report.agent}: {difference.mean:+.4f} ({difference.low:+.4f} to "
            f"{difference.high:+.4f}), p = {p:.4f} after Holm{note}",
            highlight=False,
            soft_wrap=True,
        )


def _runs(report: Report, options: _Evaluate) -> list[Predictions]:
    folder = _folder(report, options)
    return [
        Predictions.read(folder / f"seed-{one['seed']}", one["predictions"])
        for one in report.results
    ]


# ------------------------------------------------------------------------------------ off-policy


def _judged(options: _Evaluate, config: Mapping[str, Any], progress: Progress) -> Judgement:
    return judged(
        options.agents,
        benchmark_named(options.benchmark),
        config=config,
        seed=options.seeds[0] if options.seeds else 0,
        split=options.split,
        epsilon=options.epsilon,
        users=options.users,
        progress=progress,
    )


def _print_judgement(found: Judgement, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(found), indent=1))
        return
    OUT.print(
        f"Estimated on {found.dataset}: the return of each agent that recommends any item at all "
        f"in {found.epsilon:.0%} of steps; ± 95%, and how many sessions an estimate rests on.",
        highlight=False,
    )
    estimators = list(next(iter(found.estimates.values())))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("agent", "truth", *estimators):
        table.add_column(heading, justify="left" if heading == "agent" else "right")
    for agent, estimates in found.estimates.items():
        truth = found.truths.get(agent)
        cells = [
            "undefined" if one.mean is None or one.low is None or one.high is None
            else f"{one.mean:.2f} ({one.low:.2f} to {one.high:.2f}; {one.effective:.0f})"
            for one in estimates.values()
        ]  # fmt: skip
        table.add_row(agent, "unknown" if truth is None else f"{truth:.2f}", *cells)
    OUT.print(table)
    if found.selection:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("estimator", "error", "rank correlation", "regret", "of the spread"):
            table.add_column(heading, justify="left" if heading == "estimator" else "right")
        for name, one in found.selection.items():
            numbers = (one.error, one.correlation, one.regret, one.normalised_regret)
            table.add_row(name, *("n/a" if n is None else f"{n:.2f}" for n in numbers))
        OUT.print()
        OUT.print(table)


COMMANDS: dict[str, tuple[str, Command]] = {
    "agents": ("the agents that are here, and their options", command(_agents)),
    "benchmarks": ("what agents are asked, and what it can show", command(_benchmarks)),
    "evaluate": ("train agents on a benchmark and score them", command(_evaluate)),
}
