"""Which rows follow from their predictions, and which from their code."""

import json
import math
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from recgym import __version__
from recgym.agent import has_chance, load_agent
from recgym.benchmarks import benchmark_named
from recgym.errors import BadPredictions, BadSubmission, InvalidArgument, printable
from recgym.evaluation.intervals import Outcomes, paired
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import Report, code_of, evaluate, primary_interval
from recgym.evaluation.scoring import measured, primary_outcomes
from recgym.evaluation.shopping import STEPS
from recgym.evaluation.tasks import Progress, Task
from recgym.home import home, write_whole
from recgym.leaderboard.submission import (
    VERIFIED,
    Submission,
    read,
    schema_of,
    strict_json,
)

Trust = Literal["reproduced", "recomputed", "claimed"]
TEAM = "recgym"  # whose row of the baseline is the one that others are compared with
TOLERANCE = 0.01
_CLOSE = 1e-9  # relative: what another machine may sum up differently


@dataclass(frozen=True)
class Against:
    """How much better a row is than that of the baseline: a paired difference of the primary."""

    submission: str  # the hash of the baseline's file
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Recomputed:
    """All metrics followed from the predictions."""

    recgym: str  # the version that computed them
    against: Against | None


@dataclass(frozen=True)
class Reproduced:
    """Training again with one of the seeds gave the primary metric again, nearly enough."""

    seed: int
    stated: float | None
    found: float | None
    tolerance: float  # relative
    commit: str | None  # of the code that ran
    same_code: bool  # as at the commit of the submission?
    recgym: str


@dataclass(frozen=True)
class Record:
    """What was verified of a row, in this very form of it."""

    submission: str  # the hash of its file
    recomputed: Recomputed
    reproduced: Reproduced | None = None

    @property
    def trust(self) -> Trust:
        """The most that was verified."""
        return "reproduced" if self.reproduced else "recomputed"


def records(root: Path) -> dict[str, Record]:
    """What was verified, by row; it holds for files of that hash only."""
    file = root / VERIFIED
    if not file.exists():
        return {}
    content, problems = strict_json(file.read_bytes(), schema_of("verified"))
    if problems:
        raise BadSubmission(f"{VERIFIED} is damaged. {problems[0]}")
    return {row: _record(stated) for row, stated in content["rows"].items()}


def record_of(stated: Submission, known: dict[str, Record]) -> Record | None:
    """What was verified of a submission: nothing, if it was edited since."""
    record = known.get(stated.row)
    return record if record and record.submission == stated.sha256 else None


def recompute(
    file: Path,
    root: Path,
    predictions: Path | None = None,
    *,
    task: Task | None = None,
    progress: Progress = lambda stage, share: None,
) -> Record:
    """Compute every metric of a row from its predictions, and compare.

    `predictions` is the folder of the run, or one of several runs; without it, those of this
    machine are searched. The task is that of the benchmark; one at hand need not be made again.
    """
    stated = read(file, root)
    report = stated.report
    runs = _runs(report, predictions)
    task = task or Task(benchmark_named(report.benchmark), "test", progress)
    if task.sha256 != report.dataset["sha256"]:
        raise _other_data(stated, task.sha256)
    progress("measuring", None)
    results = [{"metrics": measured(task, run)} for run in runs]
    wrong = [sentence for result, found in zip(report.results, results, strict=True)
             for sentence in _differences(
                 result["metrics"], found["metrics"], f"seed {result['seed']}")]  # fmt: skip
    if not wrong:  # now all runs are of as many users
        primary = {"metric": task.benchmark.primary} | primary_interval(task, runs, results)
        wrong = list(_differences(report.primary, primary, "primary"))
    if wrong:
        more = f" It is one of {len(wrong)} numbers that differ." if len(wrong) > 1 else ""
        raise BadSubmission(f"{stated.row} does not follow from its predictions: {wrong[0]}{more}")
    progress("comparing with the baseline", None)
    old = record_of(stated, records(root))
    recomputed = Recomputed(__version__, _against(stated, task, runs, root))
    record = Record(stated.sha256, recomputed, old.reproduced if old else None)
    return _recorded(root, stated, record)


def reproduce(
    file: Path,
    root: Path,
    *,
    trust: bool,
    seed: int | None = None,
    any_commit: bool = False,
    tolerance: float = TOLERANCE,
    progress: Progress = lambda stage, share: None,
) -> Record:
    """Train and score the agent of a row again with one of its seeds, drawn unless given.

    This runs the code that the row names, so somebody has to say that it is trusted.
    """
    stated = read(file, root)
    report = stated.report
    known = record_of(stated, records(root))
    if known is None:
        raise InvalidArgument(
            f"{stated.row} is only claimed: one seed says nothing of the others. Recompute it "
            "first with `recgym leaderboard recompute`."
        )
    if not 0 <= tolerance <= 1:
        raise InvalidArgument(f"A tolerance is a share from 0 to 1, and {tolerance} was given.")
    if seed is not None and seed not in report.seeds:
        raise InvalidArgument(f"{stated.row} has seeds {report.seeds}, and {seed} is none of them.")
    agent, commit, same = _trusted(report, trust, any_commit)
    # Drawn here, not from the file: who writes a file can write it until a hash of it suits.
    seed = secrets.choice(report.seeds) if seed is None else seed
    (result,) = (one for one in report.results if one["seed"] == seed)
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate(
            agent,
            report.benchmark,
            config=report.config,
            seeds=[seed],
            folder=Path(folder),
            anew=True,
            progress=progress,
        )
    if found.dataset != report.dataset:
        raise _other_data(stated, found.dataset["sha256"])
    before, after = report.primary["by_seed"][report.seeds.index(seed)], found.primary["by_seed"][0]
    wrong = [*_apart(before, after, tolerance, report.primary["metric"]),
             *_unlike(result, found.results[0], tolerance)]  # fmt: skip
    if wrong:
        raise BadSubmission(
            f"{stated.row} was not reproduced within {tolerance:.1%}: with seed {seed}, {wrong[0]}"
        )
    reproduced = Reproduced(seed, before, after, tolerance, commit, same, __version__)
    return _recorded(root, stated, replace(known, reproduced=reproduced))


def _trusted(report: Report, trust: bool, any_commit: bool) -> tuple[type[Any], str | None, bool]:
    """The agent of a row, the commit of its code here, and whether that is the row's."""
    commit = report.code["commit"]
    if not trust:
        at = f"at commit {commit[:12]}" if commit else "of no known commit"
        raise InvalidArgument(
            f"This would run {report.agent} of the package '{report.code['package']}' {at} on this "
            "machine. Read that code, and add --trust if you do."
        )
    agent = load_agent(report.agent)
    here = code_of(agent)
    same = commit is not None and (here["commit"], here["changed"]) == (commit, False)
    if not same and not any_commit:
        do = f"`git checkout {commit[:12]}` in its repository" if commit else "Install what it was"
        raise InvalidArgument(
            f"The code of {report.agent} here is not that of the row. {do}, or add --any-commit, "
            "which is recorded."
        )
    if has_chance(agent) != report.chance:
        raise BadSubmission(
            f"The row says that its agent is {'' if report.chance else 'not '}left to chance, "
            f"and {report.agent} is{' not' if report.chance else ''}."
        )
    return agent, here["commit"], same


# ---------------------------------------------------------------------- predictions and outcomes


def _runs(report: Report, place: Path | None) -> list[Predictions]:
    """What a row rests on, by seed."""
    if place is not None and list(place.glob("seed-*")):
        return _read(report, place)
    folder = place or home() / "runs" / report.benchmark
    for candidate in sorted(folder.glob("*")):
        if all(file.is_file() and file.stat().st_size == stated["bytes"]
               for file, stated in _tables(report, candidate)):  # fmt: skip
            with suppress(BadPredictions):  # of another hash
                return _read(report, candidate)
    raise BadPredictions(
        f"The predictions of {report.agent} on {report.benchmark} are in none of the folders of "
        f"{folder}: give the folder of its run as --predictions."
    )


def _read(report: Report, folder: Path) -> list[Predictions]:
    return [Predictions.read(folder / f"seed-{result['seed']}", result["predictions"])
            for result in report.results]  # fmt: skip


def _tables(report: Report, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for result in report.results:
        for table, stated in result["predictions"].items():
            yield folder / f"seed-{result['seed']}" / f"{table}.parquet", stated


def _against(
    stated: Submission, task: Task, runs: Sequence[Predictions], root: Path
) -> Against | None:
    """The difference to the row of the baseline, where that and its predictions are at hand."""
    benchmark = task.benchmark
    file = root / benchmark.name / f"{benchmark.baseline}--{TEAM}.json"
    if benchmark.primary == "snips" or not file.exists():
        return None
    baseline = read(file, root)
    if baseline.row == stated.row:
        return None
    try:
        others = _runs(baseline.report, None)
    except BadPredictions:
        return None
    found = paired(_outcomes(task, runs), _outcomes(task, others))
    return Against(baseline.sha256, found.mean, found.low, found.high, found.p)


def _outcomes(task: Task, runs: Sequence[Predictions]) -> Outcomes:
    return primary_outcomes(task, list(runs))


def _other_data(stated: Submission, here: str) -> BadSubmission:
    build = benchmark_named(stated.report.benchmark).build
    return BadSubmission(
        f"{stated.row} learned from data that hash to {stated.report.dataset['sha256'][:12]}…, and "
        f"those here hash to {here[:12]}…: build them with `{build}`, or evaluate again on these."
    )


def _differences(stated: Any, found: Any, where: str) -> Iterator[str]:
    """Where two trees of numbers differ, a sentence for each number."""
    if isinstance(stated, dict) and isinstance(found, dict) and stated.keys() == found.keys():
        for name in stated:
            yield from _differences(stated[name], found[name], f"{where}, {name}")
    elif isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        for place, (one, other) in enumerate(zip(stated, found, strict=True), start=1):
            yield from _differences(one, other, f"{where} {place}")
    elif not (
        stated == found
        or (
            isinstance(stated, int | float)
            and isinstance(found, int | float)
            and math.isclose(stated, found, rel_tol=_CLOSE, abs_tol=1e-12)
        )
    ):
        one, other = printable(repr(stated)), printable(repr(found))
        yield f"'{where}' is stated as {one}, and {other} was computed."


def _unlike(stated: dict[str, Any], found: dict[str, Any], tolerance: float) -> Iterator[str]:
    """Where metrics of ranking lie further apart than a hit more or less would put them.

    In a shop, than one shopper more or less who never buys.
    """
    again = found["metrics"]
    if "shop" in stated["metrics"]:
        means = stated["metrics"]["shop"]
        for metric in means.keys() - {"goals"}:
            least = (STEPS if metric in ("length", "invalid") else 1) / means["goals"]
            yield from _apart(means[metric], again["shop"][metric], tolerance, metric, least)
        return
    for view, behaviours in stated["metrics"]["ranking"].items():
        for behaviour, means in behaviours.items():
            for metric in means.keys() - {"targets"}:
                other = again["ranking"][view].get(behaviour, {}).get(metric)
                where = f"{metric} of '{behaviour}' in '{view}'"
                yield from _apart(means[metric], other, tolerance, where, 1 / means["targets"])


def _apart(
    stated: float | None, found: float | None, tolerance: float, where: str, least: float = 0
) -> Iterator[str]:
    if stated == found:
        return
    if stated is None or found is None or abs(found - stated) > tolerance * abs(stated) + least:
        yield f"{where} is stated as {stated}, and {found} was found."


# ----------------------------------------------------------------------------------- the records


def _record(stated: dict[str, Any]) -> Record:
    recomputed, reproduced = stated["recomputed"], stated.get("reproduced")
    against = recomputed["against"]
    return Record(
        stated["submission"],
        Recomputed(recomputed["recgym"], Against(**against) if against else None),
        Reproduced(**reproduced) if reproduced else None,
    )


def _recorded(root: Path, stated: Submission, record: Record) -> Record:
    known = records(root) | {stated.row: record}
    rows = {row: asdict(one) for row, one in known.items() if (root / f"{row}.json").exists()}
    for row in rows.values():
        if row["reproduced"] is None:
            del row["reproduced"]
    text = json.dumps({"schema": 1, "rows": rows}, indent=1, sort_keys=True, allow_nan=False)
    write_whole(root / VERIFIED, text + "\n")
    return record
