"""A row of the leaderboard as a file: written from a run, read as what a stranger wrote."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recgym.agent import agent_homes, short_name
from recgym.benchmarks import BENCHMARKS, Benchmark
from recgym.envs.frozen import frozen
from recgym.envs.frozen import normalised as on_oracle_scale
from recgym.errors import BadSubmission, InvalidArgument, printable
from recgym.evaluation.closed_loop import USERS
from recgym.evaluation.intervals import LISTED, may_be_listed
from recgym.evaluation.ranking import CUTS
from recgym.evaluation.report import SCHEMA, Report
from recgym.evaluation.scoring import primary_of, tables_of
from recgym.evaluation.shopping import QUICKEST, STEPS
from recgym.home import write_whole

VERIFIED, PAGE, ESTIMATES = "verified.json", "README.md", "off-policy.json"
_LARGEST = 200_000  # bytes
_DIGITS = 18  # that a whole number may have
_DEPTH = 20  # of brackets within brackets
_CLOSE = 1e-9  # relative: what is computed twice differs by less


@dataclass(frozen=True)
class Submission:
    """What a file of the leaderboard states."""

    name: str  # what the agent is called
    team: str
    note: str  # free text: nothing in it is safe to be shown as it is
    report: Report
    sha256: str  # of the file

    @property
    def row(self) -> str:
        """The name of the row, and of its file: <benchmark>/<agent>--<team>."""
        return f"{self.report.benchmark}/{self.name}--{self.team}"


def new(
    run: Path, team: str, root: Path, *, name: str = "", note: str = "", replace: bool = False
) -> Path:
    """Write a submission from the folder of a run on the test split.

    `name` is the agent's short name unless given: two rows of an agent need two names.
    """
    if not (run / "report.json").exists():
        raise InvalidArgument(
            f"There is no file {_shown(run / 'report.json')}: name the folder of a run, as "
            "`recgym evaluate` does."
        )
    report, problems = _parsed(_bytes(run / "report.json"))
    if not problems:
        short = name or short_name(str(report.get("agent")))
        content = {"name": short, "team": team, "note": note} | report
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        stated, problems = _judged(text.encode("utf-8", "surrogatepass"))
    if problems:
        raise BadSubmission(f"The run {_shown(run)} is no row yet. {_first(problems)}")
    assert stated is not None
    file = root / f"{stated.row}.json"
    if file.exists() and not replace:
        raise InvalidArgument(
            f"{_shown(file)} exists. Use --replace, or another --name if this is the same agent "
            "with other options."
        )
    write_whole(file, text)
    return file


def read(file: Path, root: Path) -> Submission:
    """What a file states, if it keeps all rules that need no data."""
    stated, problems = _examined(file, root)
    if problems or stated is None:
        raise BadSubmission(f"{_shown(file)}: {_first(problems)}")
    return stated


def files_of(root: Path) -> list[Path]:
    """The files that hold the rows of a leaderboard."""
    if not root.is_dir():
        raise InvalidArgument(
            f"There is no leaderboard in {printable(str(root))}: name its folder with --root; "
            "`recgym leaderboard new` begins one."
        )
    return sorted(root.glob("*/*.json"))


def validate(root: Path, files: Sequence[Path] = ()) -> list[str]:
    """Everything that is wrong with these files, or with all of a leaderboard: sentences."""
    found = [f"{_shown(file)}: {problem}" for file in files or files_of(root)
             for problem in _examined(file, root)[1]]  # fmt: skip
    if files:
        return found
    return found + [f"{_shown(place)} does not belong here: remove it." for place in _strays(root)]


def strict_json(data: bytes, schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """JSON as a schema wants it, and what is wrong with it: nothing in it is trusted."""
    content, problems = _parsed(data)
    return content, problems or list(_misfits(content, schema))


@cache
def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of submissions, or of what was verified."""
    file = Path(__file__).with_name(f"{name}.schema.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


# -------------------------------------------------------------------------------- from the disk


def _examined(file: Path, root: Path) -> tuple[Submission | None, list[str]]:
    """What a file states, and everything that is wrong with it."""
    file, root = Path(os.path.abspath(file)), Path(os.path.abspath(root))
    if not os.path.lexists(file):
        return None, [f"There is no file {_shown(file)}: `recgym leaderboard new` writes rows."]
    if not file.is_relative_to(root):
        return None, [f"It lies outside of {_shown(root)}: name the leaderboard with --root."]
    parts = file.relative_to(root).parts
    if len(parts) != 2:
        return None, [
            "A row lies in the folder of its benchmark, <benchmark>/<agent>--<team>.json."
        ]
    try:
        data = _bytes(file, root, root / parts[0])
    except BadSubmission as problem:
        return None, [str(problem)]
    stated, problems = _judged(data)
    if stated is not None and "/".join(parts) != f"{stated.row}.json":
        problems.append(f"What it states belongs in {_shown(root / f'{stated.row}.json')}.")
    return stated, problems


def _bytes(file: Path, *folders: Path) -> bytes:
    """A plain file of modest size, that no link leads to."""
    for place in (*folders, file):
        if place.is_symlink():
            raise BadSubmission(f"{_shown(place)} is a link. Put the file itself there.")
    if not file.is_file():
        raise BadSubmission(f"There is no file {_shown(file)}.")
    with file.open("rb") as opened:
        data = opened.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise BadSubmission(
            f"{_shown(file)} has more than {_LARGEST:,} bytes, and a row has at most that many."
        )
    return data


def _strays(root: Path) -> Iterator[Path]:
    """What has no place in a leaderboard; names that begin with a dot are nobody's business."""
    for place in sorted(root.iterdir()):
        if place.name in (VERIFIED, PAGE, ESTIMATES) or place.name.startswith("."):
            continue
        if place.is_symlink() or not place.is_dir():
            yield place
            continue
        for file in sorted(place.iterdir()):
            if file.suffix != ".json" and file.name != PAGE and not file.name.startswith("."):
                yield file


def _shown(place: Path) -> str:
    return "/".join(printable(part) for part in place.parts[-2:])


def _first(problems: Sequence[str]) -> str:
    more = len(problems) - 1
    are = "rule is" if more == 1 else "rules are"
    return problems[0] + (f" {more} more {are} broken." if more else "")


# -------------------------------------------------------------------------------- from the bytes


def _judged(data: bytes) -> tuple[Submission | None, list[str]]:
    content, problems = strict_json(data, schema_of("submission"))
    if problems:
        return None, problems
    own = {key: content.pop(key) for key in ("name", "team", "note")}
    stated = Submission(**own, report=Report(**content), sha256=hashlib.sha256(data).hexdigest())
    problems = list(_broken_rules(stated.report))
    if (home := agent_homes().get(stated.name, stated.report.agent)) != stated.report.agent:
        problems.append(f"The name '{stated.name}' is that of {home}: give --name another.")
    return stated, problems


def _parsed(data: bytes) -> tuple[dict[str, Any], list[str]]:
    try:
        content = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_finite,
        )
        texts = list(_texts(content))
    except RecursionError:
        return {}, ["It nests brackets within brackets too deeply."]
    except ValueError as problem:
        return {}, [f"It is no JSON in UTF-8 ({printable(str(problem))})."]
    if not isinstance(content, dict):
        return {}, ["It is no JSON object."]
    if content.get("schema") != SCHEMA:
        version = printable(repr(content.get("schema")))
        return {}, [f"It is of schema {version}, and this recgym reads {SCHEMA}."]
    return content, [f"The text {printable(repr(text))} has characters that cannot be printed."
                     for text in texts if not text.isprintable()]  # fmt: skip


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is no finite number")
    return number


def _texts(content: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEPTH:
        raise RecursionError
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        yield from content if isinstance(content, dict) else ()
        for value in content.values() if isinstance(content, dict) else content:
            yield from _texts(value, depth + 1)


def _misfits(content: dict[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Where content departs from a schema."""
    for error in _validator()(schema).iter_errors(content):
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.path)
        where = f"'{printable(where.lstrip('.'))}'" if where else "The row"
        if error.validator == "additionalProperties" and isinstance(error.validator_value, bool):
            strange = sorted(error.instance.keys() - error.schema["properties"].keys())
            yield f"{where} has '{printable(strange[0])}', which has no place there."
        elif error.validator == "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            yield f"{where} has no '{missing[0]}'."
        else:
            rule = printable(json.dumps(error.validator_value))
            value = printable(repr(error.instance))
            yield f"{where} is {value}, against the schema's {error.validator} {rule}."


@cache
def _validator() -> Callable[[Mapping[str, Any]], Any]:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    whole = lambda checker, value: isinstance(value, int) and not isinstance(value, bool)  # noqa: E731
    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", whole)  # 1.0 is none
    return extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-any-return]


# ----------------------------------------------------------------------- what no schema can hold


def _broken_rules(report: Report) -> Iterator[str]:
    benchmark = BENCHMARKS.get(report.benchmark)
    if benchmark is None:
        yield f"No benchmark is named '{report.benchmark}': `recgym benchmarks` lists them."
        return
    if report.split != "test":
        yield (
            f"It is of the {report.split} split, and a row is of the test split: evaluate there, "
            "once, what was chosen here."
        )
    if report.code["changed"]:
        yield (
            f"The code of {report.agent} was changed after its last commit, so nobody else has it. "
            "Commit it, and evaluate again."
        )
    if report.dataset["id"] != benchmark.dataset:
        yield f"Its dataset is {report.dataset['id']}, and the benchmark's is {benchmark.dataset}."
    if benchmark.sha256() not in (None, report.dataset["sha256"]):
        yield (
            f"It learned from data that hash to {report.dataset['sha256'][:12]}…, and those of the "
            f"benchmark hash to {str(benchmark.sha256())[:12]}…: build them with "
            f"`{benchmark.build}`, and evaluate again."
        )
    yield from _broken_seeds(report)
    problems = [
        f"Seed {result['seed']}: {problem}"
        for result in report.results
        for problem in _not_asked(result["metrics"], result["predictions"], benchmark)
    ]
    if problems:
        yield from problems
        return
    for result in report.results:
        for problem in _broken_metrics(result["metrics"], benchmark):
            yield f"Seed {result['seed']}: {problem}"
    targets = [_targets(result["metrics"]) for result in report.results]
    if any(of_seed != targets[0] for of_seed in targets):
        yield "Its seeds were not scored on the same targets."
    yield from _broken_primary(report, benchmark)


def _broken_seeds(report: Report) -> Iterator[str]:
    found = [result["seed"] for result in report.results]
    if found != report.seeds:
        yield f"Its seeds are {report.seeds}, and its results are of {found}."
    if not may_be_listed(len(report.seeds), report.chance):
        yield (
            f"Its agent is left to chance, and {len(report.seeds)} seeds say too little of it: "
            f"evaluate {LISTED} or more."
        )
    if not report.chance and len(report.seeds) > 1:
        yield "Its agent leaves nothing to chance, and there is more than one seed."


def _not_asked(
    metrics: dict[str, Any], predictions: dict[str, Any], benchmark: Benchmark
) -> Iterator[str]:
    """Whether just the metrics and tables are there that a benchmark asks for."""
    groups = {"shop"} if benchmark.shop else {"ranking", "lists"}
    groups |= {"closed loop"} if benchmark.oracle else set()
    groups |= {"off-policy"} if benchmark.primary == "snips" else set()
    tables = set(tables_of(benchmark))
    for kind, found, wanted in (("metrics", metrics, groups), ("tables", predictions, tables)):
        if found.keys() != wanted:
            yield (
                f"{benchmark.name} asks for the {kind} {_and(wanted)}, and {_and(found)} are given."
            )


def _broken_metrics(metrics: dict[str, Any], benchmark: Benchmark) -> Iterator[str]:
    if "shop" in metrics:
        yield from _broken_shop(metrics["shop"], benchmark)
        return
    yield from _broken_ranking(metrics["ranking"])
    if "closed loop" in metrics:
        yield from _broken_loop(metrics["closed loop"], benchmark)


def _broken_ranking(views: dict[str, Any]) -> Iterator[str]:
    count = {name: view["all"]["targets"] for name, view in views.items()}
    if (
        not count["without repeats"]
        <= count["main"]
        <= min(count["with unseen"], count["with empty"])
    ):
        yield f"The targets of 'main' are among those of other views, and not so in {count}."
    for name, view in views.items():
        for behaviour, means in view.items():
            for problem in _broken_means(means):
                yield f"In '{name}' of '{behaviour}', {problem}"
        parts = [means for behaviour, means in view.items() if behaviour != "all"]
        if sum(part["targets"] for part in parts) != count[name]:
            yield f"The targets of the behaviours in '{name}' do not add up to all of them."
            continue
        for metric in view["all"].keys() - {"targets"}:
            total = sum(part["targets"] * part.get(metric, 0) for part in parts)
            if not _close(total / max(count[name], 1), view["all"][metric]):
                yield f"'{metric}' in '{name}' is no mean of what it is for each behaviour."


def _broken_means(means: dict[str, Any]) -> Iterator[str]:
    """Whatever the ranks are: each hit between two cuts adds at least and at most so much."""
    if len(means) != (1 + 3 * len(CUTS) if means["targets"] else 1):
        yield "there are metrics without targets, or too few of them."
        return
    gains: dict[str, Callable[[int], float]] = {
        "ndcg": lambda rank: 1 / math.log2(rank + 1),
        "mrr": lambda rank: 1 / rank,
    }
    for before, cut in zip((0, *CUTS), CUTS, strict=False) if means["targets"] else ():
        hits = means[f"hr@{cut}"] - means.get(f"hr@{before}", 0)
        for name, gain in gains.items():
            more = means[f"{name}@{cut}"] - means.get(f"{name}@{before}", 0)
            if not hits * gain(cut) - _CLOSE <= more <= hits * gain(before + 1) + _CLOSE:
                yield (
                    f"no ranking has such hr@{cut} and {name}@{cut} "
                    f"({means[f'hr@{cut}']:.6g} and {means[f'{name}@{cut}']:.6g})."
                )


def _broken_loop(found: dict[str, Any], benchmark: Benchmark) -> Iterator[str]:
    facts = frozen()[benchmark.env]
    world = facts["parameters"]
    best = max(world["click_reward"], world["buy_reward"])
    if found["users"] != USERS:
        yield f"It met {found['users']:,} users, and a row is of {USERS:,}."
    if not 1 <= found["length"] <= world["steps"] or not 0 <= found["return"] <= (
        best * found["length"]
    ):
        yield (
            f"A return of {found['return']:.6g} in {found['length']:.6g} steps cannot be: there "
            f"are 1 to {world['steps']} of them, which bring at most {best:g} each."
        )
    if not _close(on_oracle_scale(facts["scores"], found["return"]), found["normalised"]):
        yield "The normalised return is not what follows from the return."


def _broken_shop(found: dict[str, Any], benchmark: Benchmark) -> Iterator[str]:
    """What no shopper can reach: who does not buy takes all steps, and nobody buys in two."""
    goals, bought, length = found["goals"], found["bought"], found["length"]
    if benchmark.goals not in (None, goals):
        yield f"It shopped for {goals:,} goals, and a row is of {benchmark.goals:,}."
    for name in ("success", "bought", "length", "invalid"):
        if not _close(found[name] * goals, round(found[name] * goals)):
            yield f"'{name}' is {found[name]:.6g}, which is no mean over {goals:,} goals."
    if not found["success"] - _CLOSE <= found["score"] <= bought + _CLOSE:
        yield (
            f"A score of {found['score']:.6g} cannot be: it is at least the share of success, "
            f"{found['success']:.6g}, and at most that of purchases, {bought:.6g}."
        )
    least = QUICKEST * bought + STEPS * (1 - bought)
    if not least - _CLOSE <= length <= STEPS:
        yield (
            f"A length of {length:.6g} cannot be: a purchase takes {QUICKEST} to {STEPS} steps, "
            f"and who buys nothing takes {STEPS}."
        )
    if found["invalid"] > length - QUICKEST * bought + _CLOSE:
        yield (
            f"Of {length:.6g} steps {found['invalid']:.6g} cannot be misunderstood: a purchase "
            f"takes {QUICKEST} that are not."
        )


def _broken_primary(report: Report, benchmark: Benchmark) -> Iterator[str]:
    stated = report.primary
    if stated["metric"] != benchmark.primary:
        yield f"The primary metric is {benchmark.primary}, and {stated['metric']} is stated."
        return
    found = [primary_of(benchmark, result["metrics"]) for result in report.results]
    if stated["by_seed"] != found:
        yield "The primary metric by seed is not what stands in the metrics of each seed."
        return
    mean, low, high = stated["mean"], stated["low"], stated["high"]
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        if (mean, low, high) != (None, None, None):
            yield "The primary metric has a mean, and some seeds have no value of it."
        return
    if mean is None or not _close(mean, sum(values) / len(values)):
        yield f"The primary metric is stated as {mean}, which is not the mean over its seeds."
    elif low is None or high is None:
        yield f"The interval from {low} to {high} lacks an end."
    elif not low - _CLOSE <= mean <= high + _CLOSE:
        yield f"The interval from {low} to {high} does not hold its mean, {mean}."


def _targets(metrics: dict[str, Any]) -> Any:
    if "shop" in metrics:
        return metrics["shop"]["goals"]
    return {name: {of: means["targets"] for of, means in view.items()}
            for name, view in metrics["ranking"].items()}  # fmt: skip


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _and(names: Any) -> str:
    return ", ".join(sorted(names))
