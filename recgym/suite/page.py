"""The results of a suite in a page: tables, and sentences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from recgym import pages
from recgym.pages import DIGITS, NAMES, SURE, markdown, spread
from recgym.suite.picture import shown_on, varied

Verdict = Literal["won", "lost", "no difference", "not run"]
RANKING = {
    f"{metric.lower()}@{k}": f"{metric}@{k}" for k in (5, 10, 20) for metric in ("HR", "NDCG")
}
_SAID: dict[Verdict, tuple[str, str]] = {  # of one that it is held against, and of several
    "won": ("better", "better than each"),
    "lost": ("worse", "worse than one or more"),
    "no difference": ("no difference", "worse than none, and not better than each"),
    "not run": ("not run", "not all run"),
}


def filled(page: str, results: Mapping[str, Any]) -> str:
    """A page with its block made of results."""
    return pages.filled(page, f"results of {results['suite']}", _block(results), "The page")


def picture_of(results: Mapping[str, Any], sweep: str) -> str:
    """Where the picture of a sweep lies, seen from the page."""
    return f"plots/{results['suite'].removesuffix('.toml')}-{sweep}.png"


def _block(results: Mapping[str, Any]) -> str:
    """What was asked for and how it is answered; what it rests on is folded away."""
    rows, columns = results["rows"], _columns(results)
    run_on = dict.fromkeys(one.benchmark for one in columns.values())
    parts = [
        f"The grid of `{results['suite']}`, run by `recgym run --suite`: the primary metric, its "
        "mean over seeds and where 95% of resamples of users and seeds lie."
    ]
    if missing := [f"`{name}`" for name in results["benchmarks"] if name not in run_on]:
        parts.append(f"Not run: all rows on {_and(missing)}.")
    metrics = dict.fromkeys(one.metric for one in columns.values())
    parts += [_table(results, columns, metric) for metric in metrics]
    by_pair: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in results["comparisons"]:
        name = one["benchmark"]
        if name in run_on:
            pair = one["row"], one["group"], one["against"]
            column = Column(name, one.get("metric", results["benchmarks"][name]))
            by_pair.setdefault(pair, {})[_label(results, column)] = one
    said = "\n".join(_sentences(by_pair, list(columns)))
    answers = _answers(results, columns, by_pair)
    parts.append(answers or said)
    for name in results["sweeps"]:
        if shown_on(results, name):
            sweep = results["sweeps"][name]
            options = [f"`{option}`" for option in varied(sweep)]
            asked = [of[point] for of in rows.values() for point in sweep["points"] if point in of]
            parts.append(
                f"![`{name}`: {_and(options)}]({picture_of(results, name)})\n\n"
                f"`{name}`: {sum(map(bool, asked))} of {len(asked)} points were run; intervals are "
                "of users, as most have one seed."
            )
    if by_pair:
        told = _differences(by_pair, columns) + (f"\n\n{said}" if answers else "")
        parts.append(_folded("Paired differences on the same test users", told))
    for name in run_on:
        if told := _ranked(results, name):
            parts.append(_folded(f"All metrics on {name}, means over seeds", told))
    if told := _trained(results, run_on):
        parts.append(_folded("What was logged at the end of each training, mean over seeds", told))
    return "\n\n".join(part for part in parts if part)


class Column(NamedTuple):
    """A metric of a benchmark."""

    benchmark: str
    metric: str


def _columns(results: Mapping[str, Any]) -> dict[str, Column]:
    """What was measured where anything was run, by what it is called."""
    found = [Column(name, metric) for name, primary in results["benchmarks"].items()
             if any(results["rows"][name].values())
             for metric in (primary, *_also(results["rows"][name]))]  # fmt: skip
    return {_label(results, column): column for column in found}


def _also(cells: Mapping[str, Any]) -> dict[str, None]:
    """The metrics that stand beside the primary one."""
    return dict.fromkeys(
        metric for cell in cells.values() for metric in (cell or {}).get("also", ())
    )


def _label(results: Mapping[str, Any], column: Column) -> str:
    """What a column is called: as its benchmark, unless another metric ranks there."""
    name, metric = column
    return name if results["benchmarks"][name] == metric else f"{name} ({NAMES[metric]})"


def _folded(heading: str, text: str) -> str:
    """What is shown to those who open it."""
    return f"<details><summary>{heading}</summary>\n\n{text}\n\n</details>"


def _table(results: Mapping[str, Any], columns: Mapping[str, Column], metric: str) -> str:
    """What rows reached on all benchmarks with the same metric; points of sweeps are drawn."""
    cells = {one.benchmark: results["rows"][one.benchmark]
             for one in columns.values() if one.metric == metric}  # fmt: skip
    drawn = _points(results)
    names = dict.fromkeys(row for of in cells.values() for row in of if row not in drawn)
    run = [row for row in names if any(of.get(row) for of in cells.values())]
    rows = [[f"`{row}`", *(_reached(of[row], metric) if row in of else "" for of in cells.values())]
            for row in run]  # fmt: skip
    table = markdown([["row", *(f"{one} ({NAMES[metric]})" for one in cells)], *rows])
    missing = [f"`{row}`" for row in names if row not in run]
    return f"{table}\n\nNot run: {_and(missing)}." if missing else table


def _points(results: Mapping[str, Any]) -> set[str]:
    """Rows that are drawn."""
    return {point for sweep in results["sweeps"].values() for point in sweep["points"]}


def _ranked(results: Mapping[str, Any], benchmark: str) -> str:
    """Every metric of what ranks, where rank is what counts."""
    drawn = _points(results)
    cells = {row: cell["ranking"] for row, cell in results["rows"][benchmark].items()
             if cell and cell.get("ranking") and row not in drawn}  # fmt: skip
    if results["benchmarks"][benchmark] not in RANKING or not cells:
        return ""
    rows = [[f"`{row}`", *(f"{of[name]:.3f}" for name in RANKING)] for row, of in cells.items()]
    return markdown([["row", *RANKING.values()], *rows])


def _trained(results: Mapping[str, Any], benchmarks: Iterable[str]) -> str:
    """What was logged at the end, of rows that log it."""
    shows = results["shows"]
    rows = [
        [f"`{row}`", one, *(_logged(cell["training"].get(name)) for name in shows)]
        for one in benchmarks
        for row, cell in results["rows"][one].items()
        if cell and any(name in cell["training"] for name in shows)
    ]
    return markdown([["row", "benchmark", *shows], *rows]) if rows else ""


def _logged(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}"


def _reached(cell: dict[str, Any] | None, metric: str) -> str:
    if cell is None or cell["mean"] is None:
        return "not run"
    of = cell.get("also", {}).get(metric, cell)
    reached = spread(of["mean"], of["low"], of["high"], DIGITS[metric])
    return f"{reached}, {_seeds(len(cell['seeds']))}"


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def _verdict(one: Mapping[str, Any]) -> Verdict:
    if one["mean"] is None:
        return "not run"
    if one["adjusted"] >= SURE:
        return "no difference"
    return "won" if one["mean"] > 0 else "lost"


def _differences(
    by_pair: Mapping[tuple[str, str, str], dict[str, Any]], columns: Mapping[str, Column]
) -> str:
    """Who is better than whom, and by how much."""
    alike = {pair for pair, of in by_pair.items()
             if any(one.get("same start") for one in of.values())}  # fmt: skip
    cells = [[f"`{pair[0]}`", f"`{pair[-1]}`{', same start' * (pair in alike)}",
              *(_compared(of.get(label), DIGITS[one.metric]) for label, one in columns.items())]
             for pair, of in by_pair.items()]  # fmt: skip
    told = (
        f"Won or lost where p is below {SURE:g} after Holm's adjustment for all comparisons on a "
        "benchmark by a metric. ▲ and ▼ mark what may be claimed, with five seeds or more of both; "
        "all else is a finding of these seeds."
    )
    if alike:
        told += " Rows with the same start begin alike, seed by seed: these are paired, too."
    if any(one.get("alike") for of in by_pair.values() for one in of.values()):
        told += (
            " Where seeds are alike, both rows recommend the same: validation kept what they had "
            "learned before their ways parted."
        )
    return f"{told}\n\n{markdown([['row', 'against', *columns], *cells])}"


def _compared(one: dict[str, Any] | None, digits: int) -> str:
    if one is None:
        return ""
    verdict = _verdict(one)
    if verdict == "not run":
        return verdict
    told = f"{spread(one['mean'], one['low'], one['high'], digits, '+')}{_mark(one)}"
    return f"{verdict} {told}" + (f"; {_seeds(one['alike'])} alike" if one.get("alike") else "")


def _sentences(
    by_pair: Mapping[tuple[str, str, str], dict[str, Any]], benchmarks: Sequence[str]
) -> Iterator[str]:
    """Where a row is better than all that it is held against as one thing, and where not."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row, group, other in by_pair:
        groups.setdefault((row, group), []).append(other)
    for (row, group), others in groups.items():
        where: dict[Verdict, list[str]] = {verdict: [] for verdict in _SAID}
        for name in benchmarks:
            pairs = [by_pair[row, group, other] for other in others]
            all_of = [of[name] for of in pairs if name in of]
            if not all_of:
                continue
            verdict = _together([_verdict(one) for one in all_of])
            deciding = [one for one in all_of if _verdict(one) == verdict]
            claim = verdict in ("won", "lost") and (
                all if verdict == "won" else any
            )(one["claim"] for one in deciding)  # fmt: skip
            where[verdict].append(name + (" ▲" if verdict == "won" else " ▼") * claim)
        said = [f"{_SAID[verdict][len(others) > 1]} on {_and(names)}"
                for verdict, names in where.items() if names]  # fmt: skip
        against = _and([f"`{other}`" for other in others])
        yield f"- `{row}` against {group} ({against}): {'; '.join(said)}."


def _answers(
    results: Mapping[str, Any],
    columns: Mapping[str, Column],
    by_pair: Mapping[tuple[str, str, str], dict[str, Any]],
) -> str:
    """What is claimed of rows, answered on each benchmark; nothing where nothing is claimed."""
    answers = []
    for claim in results.get("claims", []):
        found = {label: one for (row, _, other), of in by_pair.items() for label, one in of.items()
                 if (row, other) == (claim["row"], claim["above"])}  # fmt: skip
        answers.append([
            claim["says"], f"`{claim['row']}` above `{claim['above']}`",
            *(_answered(found.get(label), DIGITS[one.metric]) for label, one in columns.items()),
        ])  # fmt: skip
    if not answers:
        return ""
    return (
        "What is claimed: *yes* or *no* where one of the two is better beyond chance, after Holm's "
        "adjustment for all comparisons on a benchmark; *not here* where these data do not tell "
        "them apart. ▲ and ▼ mark answers that rest on five seeds or more of both; others are "
        "findings of these seeds.\n\n"
        f"{markdown([['claim', 'rows', *columns], *answers])}"
    )


def _answered(one: Mapping[str, Any] | None, digits: int) -> str:
    if one is None:
        return ""
    answers = {"won": "yes", "lost": "no", "no difference": "not here", "not run": "not run"}
    answer = answers[_verdict(one)]
    if answer == "not run":
        return answer
    return f"{answer}: {spread(one['mean'], one['low'], one['high'], digits, '+')}{_mark(one)}"


def _mark(one: Mapping[str, Any]) -> str:
    """Whether one of two is better may be claimed, with five seeds or more of both."""
    return {"won": " ▲", "lost": " ▼"}.get(_verdict(one), "") if one["claim"] else ""


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    """Lost if it lost to one; won if it won against all."""
    for verdict in ("lost", "not run", "no difference"):
        if verdict in verdicts:
            return verdict
    return "won"


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
