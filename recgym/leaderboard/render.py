"""The tables of the leaderboard, out of the files that state and verify its rows."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from recgym.benchmarks import BENCHMARKS, Benchmark
from recgym.envs import ORACLES
from recgym.evaluation.intervals import (
    Interval,
    aggregate,
    holm,
    may_claim,
    normalised,
    resolved,
)
from recgym.leaderboard.submission import ESTIMATES, PAGE, Submission, files_of, read
from recgym.leaderboard.verification import TEAM, Against, Record, Trust, record_of, records
from recgym.pages import DIGITS, NAMES, SURE, chance, filled, markdown, spread

BLOCK = "leaderboard"
_TRUSTS: tuple[Trust, ...] = get_args(Trust)  # the most trusted first
_TOP = 3  # rows of a benchmark that the project's page names
_EMPTY = "# Leaderboard\n\n<!-- leaderboard -->\n<!-- /leaderboard -->\n"
_NONE = "No row yet."


@dataclass(frozen=True)
class Row:
    """A row, and what is known of it."""

    stated: Submission
    benchmark: Benchmark
    record: Record | None
    against: Against | None  # the row of the baseline as it is now
    p: float | None  # of that difference, adjusted for all that are in the table
    claims: bool  # have both rows the seeds to call one of them better?

    @property
    def trust(self) -> Trust:
        """The most that was verified."""
        return self.record.trust if self.record else "claimed"

    @property
    def mean(self) -> float | None:
        """The primary metric."""
        return self.stated.report.primary["mean"]  # type: ignore[no-any-return]

    @property
    def scores(self) -> list[float]:
        """The primary metric of each seed where random has 0 and the reference 100, if known."""
        values, anchors = self.stated.report.primary["by_seed"], self.benchmark.anchors
        if anchors is None or None in values:
            return []
        return [normalised(value, *anchors) for value in values]

    def average(self, *path: str) -> float | None:
        """A metric or a cost, averaged over seeds; None where it has no value."""
        values: list[Any] = list(self.stated.report.results)
        for name in path:
            values = [value.get(name) if isinstance(value, dict) else None for value in values]
        return None if None in values else float(np.mean(values))


Column = tuple[str, Callable[[Row], str]]
Tables = dict[str, list[Row]]


def render(root: Path) -> dict[Path, str]:
    """The pages of a leaderboard and the block of the page above it, as they must be."""
    tables = _tables(root)
    own, above = root / PAGE, root.parent / PAGE
    text = own.read_text("utf-8") if own.exists() else _EMPTY
    estimates = root / ESTIMATES
    judged = json.loads(estimates.read_text("utf-8")) if estimates.exists() else {}
    overview = "\n\n".join([_overview(tables), *_off_policy(judged)])
    pages = {own: filled(text, BLOCK, overview, own.name)}
    if above.exists() and f"<!-- {BLOCK} -->" in above.read_text("utf-8"):
        summary = _summary(tables, root.name)
        pages[above] = filled(above.read_text("utf-8"), BLOCK, summary, above.name)
    for name, benchmark in BENCHMARKS.items():
        page = root / name / PAGE
        if tables[name] or page.exists():
            pages[page] = _page(benchmark, tables[name])
    return pages


# -------------------------------------------------------------------------------------- the rows


def _tables(root: Path) -> Tables:
    stated, known = [read(file, root) for file in files_of(root)], records(root)
    return {
        name: _ordered(benchmark, [one for one in stated if one.report.benchmark == name], known)
        for name, benchmark in BENCHMARKS.items()
    }


def _ordered(
    benchmark: Benchmark, stated: Sequence[Submission], known: dict[str, Record]
) -> list[Row]:
    """The most trusted first, and among those the best."""
    baseline = next((one for one in stated if is_baseline(one, benchmark)), None)
    compared: dict[str, Against] = {}
    for one in stated:
        record = record_of(one, known)
        against = record.recomputed.against if record else None
        if against and baseline and against.submission == baseline.sha256:
            compared[one.row] = against
    adjusted = holm({row: resolved(one.p, one.mean, one.low, one.high)
                     for row, one in compared.items()})  # fmt: skip
    rows = [
        Row(
            one,
            benchmark,
            record_of(one, known),
            compared.get(one.row),
            adjusted.get(one.row),
            baseline is not None and _may_claim(one) and _may_claim(baseline),
        )
        for one in stated
    ]
    return sorted(rows, key=lambda row: (_rank(row.trust), _descending(row.mean), row.stated.row))


def is_baseline(stated: Submission, benchmark: Benchmark) -> bool:
    """Is it the row that all others of the benchmark are compared with?"""
    return (stated.name, stated.team) == (benchmark.baseline, TEAM)


def _may_claim(stated: Submission) -> bool:
    return may_claim(len(stated.report.seeds), stated.report.chance)


def _rank(trust: Trust) -> int:
    return _TRUSTS.index(trust)


def _descending(value: float | None) -> float:
    return float("inf") if value is None else -value


# ------------------------------------------------------------------------------------- the pages


def _overview(tables: Tables) -> str:
    logs = [one for one in BENCHMARKS.values() if one.log]
    empty = [
        [one.name, NAMES[one.primary], one.shows, one.hides]
        for one in logs if not tables[one.name]
    ]  # fmt: skip
    parts = ["## Over all benchmarks", *(_aggregates(tables, _TRUSTS) or [_NONE])]
    parts += ["## Oracle users"]
    parts += [part for name in ORACLES for part in _oracle_part(name, tables)]
    parts += ["## Logs"]
    parts += [part for one in logs if tables[one.name] for part in _log_part(one, tables[one.name])]
    if empty:
        heads = ["no row yet", "ranked by", "can show", "cannot show"]
        parts.append(markdown([heads, *empty]))
    return "\n\n".join([*parts, *_shops_part(tables)])


def _summary(tables: Tables, folder: str) -> str:
    """What the project's page says: of rows that were verified only."""
    rows = [["benchmark", "ranked by", *("first", "second", "third")[:_TOP]]]
    for benchmark in BENCHMARKS.values():
        verified = [row for row in tables[benchmark.name] if row.trust != "claimed"]
        verified.sort(key=lambda row: _descending(row.mean))
        if verified and (not benchmark.oracle or "-mixed-" in benchmark.name):
            best = [f"{_agent(row)} {_primary(row)}" for row in verified[:_TOP]]
            link = f"[{benchmark.name}]({folder}/{benchmark.name}/{PAGE})"
            rows.append([link, NAMES[benchmark.primary], *best, *[""] * (_TOP - len(best))])
    if len(rows) == 1:
        return _NONE
    return "\n\n".join([*_aggregates(tables, _TRUSTS[:2]), markdown(rows)])


def _off_policy(judged: dict[str, Any]) -> list[str]:
    """How far estimates from a log alone are from the truth, and what choosing by them costs."""
    if not judged:
        return []
    lines = [["benchmark", "estimator", "error", "rank correlation", "regret", "of the spread"]]
    truths = [["benchmark", "agent", "truth", *next(iter(judged.values()))["selection"]]]
    for name, one in judged.items():
        for estimator, found in one["selection"].items():
            keys = ("error", "correlation", "regret", "normalised_regret")
            lines.append([name, estimator, *(_number(found[key], 2) for key in keys)])
        for agent, estimates in one["estimates"].items():
            cells = [f"{_number(e['mean'], 2)} ({e['effective']:.0f})" for e in estimates.values()]
            truths.append([name, agent, _number(one["truths"][agent], 2), *cells])
    first = next(iter(judged.values()))
    return [
        "## Off-policy estimators against the truth",
        f"Returns of agents that recommend any item at all in {first['epsilon']:.0%} of steps, "
        "estimated from the test log alone, and measured on users who answer. *Error* is the root "
        "of the mean squared error, *regret* what choosing the agent with the best estimate loses, "
        "also as a share of the spread of true returns. Written by `recgym evaluate A … "
        "--benchmark B --ope --out leaderboards/off-policy.json`.",
        markdown(lines),
        "In brackets: how many sessions an estimate rests on (of weights; all, for fqe).",
        markdown(truths),
    ]


def _oracle_part(name: str, tables: Tables) -> list[str]:
    """One table for all logs of a world: agents by what they learned from."""
    tiers = {_tier(one): one for one in BENCHMARKS.values() if one.env == f"recgym/{name}-v0"}
    return [f"### {name}", _about(name, tiers), _side_by_side(tiers, tables)]


def _shops_part(tables: Tables) -> list[str]:
    """One table for all shops."""
    shops = {name: one for name, one in BENCHMARKS.items() if one.shop}
    about = [f"- {name}: {one.shows} *Not shown:* {one.hides}" for name, one in shops.items()]
    return [
        "## Shops",
        "The mean reward of all test instructions: 0 is nothing bought that fits at all, 1 always "
        "just what was asked for.",
        "\n".join(about),
        _side_by_side(shops, tables),
    ]


def _side_by_side(columns: dict[str, Benchmark], tables: Tables) -> str:
    """Agents by benchmark, those first that are on most of them."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for heading, benchmark in columns.items():
        for row in tables[benchmark.name]:
            found.setdefault(_who(row), {})[heading] = row
    if not found:
        return _NONE

    def order(rows: dict[str, Row]) -> tuple[float, ...]:
        mean = float(np.mean([row.mean for row in rows.values()]))
        return max(_rank(row.trust) for row in rows.values()), -len(rows), -mean

    linked = [f"[{heading}]({one.name}/{PAGE})" if tables[one.name] else heading
              for heading, one in columns.items()]  # fmt: skip
    lines = [["agent", "learns from", *linked]]
    for rows in sorted(found.values(), key=order):
        first = next(iter(rows.values()))
        cells = [_cell(rows[heading]) if heading in rows else "" for heading in columns]
        lines.append([_agent(first), first.stated.report.learns_from, *cells])
    return markdown(lines)


def _about(name: str, tiers: dict[str, Benchmark]) -> str:
    """What a world asks and hides, and what can be earned in it."""
    first = next(iter(tiers.values()))
    low, high = first.anchors or (0, 0)
    more = [f"`{tier}`: {one.hides.removeprefix(first.hides).strip()}"
            for tier, one in tiers.items() if one.hides != first.hides]  # fmt: skip
    return " ".join([
        ORACLES[name][0], f"*Not shown:* {first.hides}", *more,
        f"Returns, by the log that was learned from: random earns {low:.2f}, and the planner, "
        f"which sees what is hidden, {high:.2f}.",
    ])  # fmt: skip


def _cell(row: Row) -> str:
    stated, digits = row.stated.report.primary, DIGITS[row.benchmark.primary]
    mark = "" if row.record else " °"
    return f"{row.mean:.{digits}f} ± {(stated['high'] - stated['low']) / 2:.{digits}f}{mark}"


def _log_part(benchmark: Benchmark, rows: Sequence[Row]) -> list[str]:
    return [
        f"### [{benchmark.name}]({benchmark.name}/{PAGE})",
        f"{benchmark.shows} *Not shown:* {benchmark.hides}",
        _table(rows, _columns(benchmark)),
    ]


def _page(benchmark: Benchmark, rows: Sequence[Row]) -> str:
    scale = "" if benchmark.anchors is None or benchmark.shop else (
        f" On the scale of scores, random has 0 ({benchmark.anchors[0]:.3g}) and "
        f"{benchmark.reference} 100 ({benchmark.anchors[1]:.3g})."
    )  # fmt: skip
    frozen = "" if benchmark.sha256() else " Their hash is not frozen yet."
    parts = [
        f"# {benchmark.name}",
        f"{benchmark.shows} *Not shown:* {benchmark.hides}",
        f"Agents learn from `{benchmark.dataset}`, made by `{benchmark.build}`.{frozen} They are "
        f"ranked by {NAMES[benchmark.primary]}.{scale} [How to read this](../{PAGE}).",
    ]
    if not rows:
        return "\n\n".join([*parts, _NONE]) + "\n"
    parts.append(_table(rows, _columns(benchmark)))
    if benchmark.shop:
        parts += ["## Costs", _table(rows, [_AGENT, *_COSTS])]
    else:
        parts += ["## Lists and costs", _table(rows, [_AGENT, *_LISTS, *_COSTS])]
        behaviours = rows[0].stated.report.results[0]["metrics"]["ranking"]["main"]
        if len(behaviours) > 2:
            columns = [(_text(name), _metric("ndcg@10", behaviour=name)) for name in behaviours]
            parts += ["## NDCG@10 by behaviour", _table(rows, [_AGENT, *columns])]
    return "\n\n".join([*parts, "## How each row was made", "\n".join(map(_made, rows))]) + "\n"


# ------------------------------------------------------------------------- over all benchmarks


def _aggregates(tables: Tables, trusts: Sequence[Trust]) -> list[str]:
    """The agents that are on every benchmark of a family, by the mean of the middle half."""
    parts = []
    for title, is_of in _FAMILIES.items():
        # those on which the baseline stands: nobody else decides what a family is
        family = [
            name for name, benchmark in BENCHMARKS.items()
            if is_of(benchmark) and any(is_baseline(row.stated, benchmark) and row.scores
                                        for row in tables[name])
        ]  # fmt: skip
        found: dict[tuple[str, str], list[Row]] = {}
        for row in (row for name in family for row in tables[name]):
            if row.scores and row.trust in trusts:
                found.setdefault(_who(row), []).append(row)
        scored = [(rows, _aggregate(rows)) for rows in found.values() if len(rows) == len(family)]
        if scored:
            parts.append(_aggregate_table(f"{title} ({len(family)} benchmarks)", scored))
    return parts


_FAMILIES: dict[str, Callable[[Benchmark], bool]] = {
    "oracle users": lambda benchmark: benchmark.oracle,
    "logs": lambda benchmark: benchmark.primary == "ndcg@10",
    "shops": lambda benchmark: benchmark.shop,
}


def _aggregate(rows: Sequence[Row]) -> Interval:
    runs = min(len(row.scores) for row in rows)  # each benchmark weighs the same
    return aggregate([np.array(row.scores[:runs]) for row in rows])


def _aggregate_table(title: str, scored: list[tuple[list[Row], Interval]]) -> str:
    def least(rows: Sequence[Row]) -> Trust:
        return max((row.trust for row in rows), key=_rank)

    scored.sort(key=lambda one: (_rank(least(one[0])), -one[1].mean))
    lines = [[title, "learns from", "score", "trust"]]
    for rows, score in scored:
        chance = any(row.stated.report.chance for row in rows)
        shown = _spread(score.mean, score.low, score.high, 1) if chance else f"{score.mean:.1f}"
        lines.append([_agent(rows[0]), rows[0].stated.report.learns_from, shown, least(rows)])
    return markdown(lines)


# ----------------------------------------------------------------------------------- the columns


def _columns(benchmark: Benchmark) -> list[Column]:
    score = ("score", lambda row: _number(np.mean(row.scores) if row.scores else None, 1))
    hits = [("HR@10", _metric("hr@10")), ("MRR@10", _metric("mrr@10"))]
    middle: dict[str, list[Column]] = {
        "return": [
            score,
            ("steps", lambda row: _number(row.average("metrics", "closed loop", "length"), 1)),
            ("NDCG@10", _metric("ndcg@10")),
            *hits,
        ],
        "ndcg@10": [
            score,
            *hits,
            ("NDCG@10 with unseen", _metric("ndcg@10", "with unseen")),
            ("without repeats", _metric("ndcg@10", "without repeats")),
        ],
        "snips": [
            score,
            (
                "effective",
                lambda row: _number(row.average("metrics", "off-policy", "effective"), 0),
            ),
        ],
        "score": [
            ("success", _shopping("success", 3)),
            ("bought", _shopping("bought", 3)),
            ("steps", _shopping("length", 1)),
            ("not understood", _shopping("invalid", 1)),
        ],
    }
    return [
        _AGENT,
        ("learns from", lambda row: row.stated.report.learns_from),
        (f"{NAMES[benchmark.primary]} (95%)", _primary),
        *middle[benchmark.primary],
        (f"against {benchmark.baseline} (95%)", _against),
        ("seeds", lambda row: str(len(row.stated.report.seeds))
         if row.stated.report.chance else "no chance"),
        ("trust", lambda row: row.trust),
    ]  # fmt: skip


def _metric(name: str, view: str = "main", behaviour: str = "all") -> Callable[[Row], str]:
    return lambda row: _number(row.average("metrics", "ranking", view, behaviour, name), 3)


def _shopping(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: _number(row.average("metrics", "shop", name), digits)


def _cost(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: _number(row.average("costs", name), digits)


def _list(name: str) -> Callable[[Row], str]:
    return lambda row: _number(row.average("metrics", "lists", f"{name}@10"), 3)


def _agent(row: Row) -> str:
    mark = "" if row.stated.report.ranks_all or row.benchmark.shop else " †"
    return f"`{row.stated.name}`{mark} ({_text(row.stated.team)})"


_AGENT: Column = ("agent", _agent)
_LISTS: list[Column] = [
    ("coverage", _list("coverage")),
    ("Gini", _list("gini")),
    ("novelty", _list("novelty")),
]
_COSTS: list[Column] = [
    ("training (s)", _cost("training_seconds", 1)),
    ("memory (MB)", _cost("peak_memory_mb", 0)),
    ("parameters", _cost("parameters", 0)),
    ("one alone (ms)", _cost("latency_ms", 3)),
    ("each of many (ms)", _cost("batch_latency_ms", 4)),
]


def _primary(row: Row) -> str:
    stated, digits = row.stated.report.primary, DIGITS[row.benchmark.primary]
    return _spread(stated["mean"], stated["low"], stated["high"], digits)


def _against(row: Row) -> str:
    found, digits = row.against, DIGITS[row.benchmark.primary]
    if found is None or row.p is None:
        return "itself" if is_baseline(row.stated, row.benchmark) else "n/a"
    mark = ""
    if row.claims and row.p < SURE:
        mark = " ▲" if found.mean > 0 else " ▼"
    return f"{spread(found.mean, found.low, found.high, digits, '+')}, {chance(row.p)}{mark}"


def _made(row: Row) -> str:
    report, record = row.stated.report, row.record
    code = f"commit {report.code['commit'][:12]}" if report.code["commit"] else "no commit"
    words = [f"{_agent(row)}: `{report.command}`, `{report.agent}`",
             f"recgym {report.recgym}, {code}"]  # fmt: skip
    if report.config:
        options = json.dumps(report.config, ensure_ascii=False)
        words.append(f"with <code>{_text(options)}</code>")
    if record and (again := record.reproduced):
        found = _number(again.found, DIGITS[row.benchmark.primary])
        code = "" if again.same_code else ", by other code than that of its commit"
        words.append(f"reproduced: {found} with seed {again.seed}{code}")
    if row.stated.note:
        words.append(f"note: {_text(row.stated.note.rstrip('.'))}")
    return f"- {'; '.join(words)}."


# ------------------------------------------------------------------------------------- the words


def _who(row: Row) -> tuple[str, str]:
    return row.stated.name, row.stated.team


def _tier(benchmark: Benchmark) -> str:
    return benchmark.dataset.rpartition("/")[2].removesuffix("-v0")


def _number(value: Any, digits: int) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def _spread(mean: float | None, low: float | None, high: float | None, digits: int) -> str:
    if mean is None or low is None or high is None:
        return _number(mean, digits)
    return spread(mean, low, high, digits)


def _text(words: str) -> str:
    """Words of a stranger, none of which mean anything to Markdown or HTML."""
    return re.sub(
        r"[^\w ,;()+%/=.'-]|_|(?<=www)\.", lambda found: f"&#{ord(found[0])};", words, flags=re.I
    )


def _table(rows: Iterable[Row], columns: Sequence[Column]) -> str:
    return markdown([
        [name for name, _ in columns],
        *([cell(row) for _, cell in columns] for row in rows),
    ])  # fmt: skip
