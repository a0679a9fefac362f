"""The file of a suite: what is asked for, all of it checked before anything runs."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from itertools import chain, product
from pathlib import Path
from typing import Any

from recgym.agent import agent_homes, has_chance, home_of, load_agent, made, options_of
from recgym.benchmarks import Benchmark, benchmark_named
from recgym.errors import InvalidArgument, UnknownName, printable
from recgym.evaluation.closed_loop import USERS
from recgym.evaluation.report import changed_options

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Row:
    """An agent with options, under a name of its own."""

    name: str
    agent: str  # package.module:Class
    options: Mapping[str, Mapping[str, Any]]  # by benchmark, before anything is tuned
    tuned_as: str  # the row whose validation chooses what is tuned; "" where nothing is
    benchmarks: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]  # by benchmark
    sweep: str = ""  # the name of what varies options, of which this is one point
    varied: Mapping[str, Any] = field(default_factory=dict)  # the options of that point
    beside: tuple[str, ...] = ()  # rows that are drawn beside a sweep


@dataclass(frozen=True)
class Comparison:
    """A row, and what it is held against: by what those are to it."""

    row: str
    against: Mapping[str, tuple[str, ...]]  # rows, or agents that were evaluated before
    same_start: bool = False  # of one seed, all begin with the same weights


@dataclass(frozen=True)
class Claim:
    """What somebody says of two rows: that one is better than the other."""

    says: str
    row: str
    above: str


@dataclass(frozen=True)
class Suite:
    """A grid as its file asks for it."""

    file: Path
    benchmarks: Mapping[str, Benchmark]  # by the names that the file gives them
    rows: Mapping[str, Row]
    comparisons: tuple[Comparison, ...]
    candidates: tuple[Mapping[str, Any], ...]  # options that are tried for each row that is tuned
    tuned_with: int  # the seed
    users: int
    shows: tuple[str, ...] = ()  # numbers of training that the page shows
    simulators: Mapping[str, str] = field(default_factory=dict)  # by benchmark: who is asked, too
    claims: tuple[Claim, ...] = ()  # which results answer

    @property
    def name(self) -> str:
        """What its lock and its history are filed under."""
        return self.file.stem


def read_suite(file: Path) -> Suite:
    """The suite of a TOML file, all of it checked before anything runs."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InvalidArgument(f"The suite {file} cannot be read: {problem.strerror}.") from None
    except ValueError as problem:
        raise InvalidArgument(
            f"The suite {file} is no TOML in UTF-8: {printable(str(problem))}."
        ) from None
    top = _Table(content, "the suite", _SUITE)
    usual = top.names("benchmarks")  # of rows that name none
    tables = [_Table(row, _place(row), None) for row in top.get("rows", [])]
    tables = [replace(row, content={"benchmarks": [*usual], **row.content}) for row in tables]
    names = tuple(dict.fromkeys(chain(usual, *(row.names("benchmarks") for row in tables))))
    benchmarks = {name: benchmark_at(name) for name in names}
    tune = _Table(top.get("tune", {}), "[tune]", None)
    seed, tried = tune.get("seed", 0), {k: v for k, v in tune.content.items() if k != "seed"}
    if not all(isinstance(values, list) and values for values in tried.values()):
        raise InvalidArgument(
            "[tune] has a seed, and for each option a list of what is tried, such as "
            "learning_rate = [0.001, 0.002]."
        )
    candidates = [dict(zip(tried, one, strict=True)) for one in product(*tried.values())]
    seeds = {"": top.seeds("seeds") or (0,)} | _seeds_of(top, names)
    common = _options(top, names)
    rows: dict[str, Row] = {}
    for table in tables:
        for row in _rows(table.content, names, seeds, common, candidates if tried else []):
            if row.name in rows:
                raise InvalidArgument(f"Two rows are named '{row.name}': give one another name.")
            rows[row.name] = row
    for row in rows.values():
        if row.tuned_as and row.tuned_as not in rows:
            raise UnknownName("row", row.tuned_as, rows)
        if row.tuned_as and rows[row.tuned_as].tuned_as != row.tuned_as:
            raise InvalidArgument(
                f"'{row.name}' is tuned as '{row.tuned_as}', which is not tuned: give that one "
                "`tune = true`."
            )
        for other in row.beside:
            if other not in rows:
                raise UnknownName("row", other, rows)
    if not rows:
        raise InvalidArgument(f"The suite {file} has no [[rows]]: there is nothing to run.")
    comparisons = tuple(_comparison(one, rows) for one in top.get("comparisons", []))
    users = top.get("users", USERS)
    if users < 2:
        raise InvalidArgument(f"'users' is 2 or more: found {users}.")
    shows = top.names("shows") if "shows" in top.content else ()
    asked = _of_benchmarks(top, "simulators", names)
    simulators = {name: asked.get(name, "") for name in asked.content}
    claims = tuple(_claim(one, comparisons) for one in top.get("claims", []))
    return Suite(file, benchmarks, rows, comparisons, tuple(candidates), seed, users, shows,
                 simulators, claims)  # fmt: skip


_BOTH = {"benchmarks", "seeds", "seeds-of", "options", "options-of"}
_SUITE = _BOTH | {"users", "tune", "rows", "comparisons", "shows", "simulators", "claims"}
_ROW = _BOTH | {"name", "agent", "tune", "tuned-as", "vary", "beside"}


@dataclass(frozen=True)
class _Table:
    """A table of the file: what it may hold, and where it stands."""

    content: Any
    where: str
    keys: set[str] | None  # None: any

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise InvalidArgument(f"In a suite, {self.where} is a table, and it is none here.")
        for key in self.content:
            if self.keys is not None and key not in self.keys:
                raise UnknownName(f"key of {self.where}", key, self.keys)

    def get(self, key: str, default: Any) -> Any:
        found = self.content.get(key, default)
        if isinstance(found, bool) != isinstance(default, bool) or not isinstance(
            found, type(default)
        ):
            kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
            raise InvalidArgument(
                f"'{key}' of {self.where} is {kinds.get(type(default), 'a whole number')}, and "
                f"{printable(repr(found))} was given."
            )
        return found

    def names(self, key: str) -> tuple[str, ...]:
        found = self.get(key, [])
        if not found or not all(isinstance(one, str) for one in found):
            raise InvalidArgument(f"'{key}' of {self.where} is a list of one name or more.")
        return tuple(dict.fromkeys(found))

    def seeds(self, key: str) -> tuple[int, ...]:
        found = self.get(key, [])
        if key in self.content and not (
            found and all(type(one) is int and one >= 0 for one in found)
        ):
            raise InvalidArgument(
                f"'{key}' of {self.where} is a list of one whole number or more, from 0, and "
                f"{printable(repr(found))} was given."
            )
        return tuple(dict.fromkeys(found))


def _place(row: Any) -> str:
    """Where a row stands, by its name if it has one."""
    name = row.get("name") if isinstance(row, dict) else None
    return f"the row '{printable(str(name))}'" if name else "a row"


def _seeds_of(table: _Table, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    of = _of_benchmarks(table, "seeds-of", names)
    return {name: of.seeds(name) for name in of.content}


def _options(table: _Table, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Options by benchmark."""
    of, everywhere = _of_benchmarks(table, "options-of", names), table.get("options", {})
    return {name: everywhere | of.get(name, {}) for name in names}


def _of_benchmarks(table: _Table, key: str, names: Iterable[str]) -> _Table:
    of = _Table(table.get(key, {}), f"{key} of {table.where}", None)
    for name in of.content:
        if name not in names:
            raise UnknownName("benchmark of the suite", name, names)
    return of


def _rows(
    content: Any,
    names: Sequence[str],
    seeds: Mapping[str, tuple[int, ...]],
    common: Mapping[str, Mapping[str, Any]],
    candidates: Sequence[Mapping[str, Any]],
) -> Iterator[Row]:
    """A row, or one for each point of a sweep."""
    row = _row(content, names, seeds, common, candidates)
    table = _Table(content, f"the row '{row.name}'", None)
    tried = _Table(table.get("vary", {}), f"vary of the row '{row.name}'", None).content
    beside = table.names("beside") if "beside" in content else ()
    if not tried:
        if "vary" in content or beside:
            raise InvalidArgument(
                f"The row '{row.name}' varies nothing: give vary = {{ option = [values] }}, or "
                "leave 'vary' and 'beside' out."
            )
        yield row
        return
    if len(tried) > 2 or not all(isinstance(values, list) and values for values in tried.values()):
        raise InvalidArgument(
            f"'vary' of the row '{row.name}' is a list of values for one option or two, such as "
            "beta = [0.1, 1.0]."
        )
    agent = load_agent(row.agent)
    for values in product(*tried.values()):
        varied = dict(zip(tried, values, strict=True))
        options = {one: {**given, **varied} for one, given in row.options.items()}
        for given in options.values():
            made(agent, changed_options(agent, given), 0)
        ending = "-".join(f"{option}-{value}" for option, value in varied.items())
        name = f"{row.name}-{re.sub('[^a-z0-9]+', '-', ending)}"
        yield replace(row, name=name, options=options, sweep=row.name, varied=varied, beside=beside)


def _row(
    content: Any,
    names: Sequence[str],
    seeds: Mapping[str, tuple[int, ...]],
    common: Mapping[str, Mapping[str, Any]],
    candidates: Sequence[Mapping[str, Any]],
) -> Row:
    name = str(content.get("name", ""))
    table = _Table(content, f"the row '{printable(name)}'", _ROW)
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"'{printable(name)}' cannot name a row: use small letters, digits and single dashes, "
            "such as snqn-sasrec."
        )
    agent = load_agent(table.get("agent", name))
    if (home := agent_homes().get(name, home_of(agent))) != home_of(agent):
        raise InvalidArgument(
            f"The row '{name}' has the name of another agent, {home}: no leaderboard takes it so; "
            f"name it otherwise, such as {name}-tuned."
        )
    own_options, tuned_as = _options(table, names), table.get("tuned-as", "")
    if table.get("tune", False):
        if tuned_as or not candidates:
            raise InvalidArgument(
                f"The row '{name}' is tuned, and "
                + ("also tuned as another." if tuned_as else "[tune] lists nothing to try.")
            )
        tuned_as = name
    known, options = options_of(agent), {}
    for one, given in own_options.items():
        shared = {key: value for key, value in common[one].items() if key in known}
        options[one] = shared | given
        for candidate in candidates if tuned_as else [{}]:
            if both := sorted(options[one].keys() & candidate.keys()):
                raise InvalidArgument(
                    f"The row '{name}' fixes '{both[0]}', which [tune] chooses: leave one of them "
                    "out."
                )
            made(agent, changed_options(agent, {**options[one], **candidate}), 0)
    asked = {"": table.seeds("seeds")} if "seeds" in content else dict(seeds)
    asked |= _seeds_of(table, names)
    if not has_chance(agent):
        asked = {"": (0,)}
    by_benchmark = {one: asked.get(one, asked[""]) for one in names}
    return Row(name, home_of(agent), options, tuned_as, table.names("benchmarks"), by_benchmark)


def _comparison(content: Any, rows: Mapping[str, Row]) -> Comparison:
    table = _Table(content, "a comparison", {"row", "against", "same-start"})
    row = table.get("row", "")
    if row not in rows:
        raise UnknownName("row", row, rows)
    groups = _Table(table.get("against", {}), f"against of '{row}'", None)
    against = {group: groups.names(group) for group in groups.content}
    for name in (name for names in against.values() for name in names):
        if name not in rows:
            try:
                load_agent(name)
            except UnknownName:
                raise UnknownName("row, and no agent,", name, rows) from None
    return Comparison(row, against, table.get("same-start", False))


def _claim(content: Any, comparisons: Iterable[Comparison]) -> Claim:
    table = _Table(content, "a claim", {"says", "row", "above"})
    says, row, above = (table.get(key, "") for key in ("says", "row", "above"))
    known = [(one.row, other) for one in comparisons for of in one.against.values() for other in of]
    if (row, above) not in known:
        raise InvalidArgument(
            f"The claim '{printable(says)}' is on '{printable(row)}' above '{printable(above)}', "
            "which no comparison of the suite holds against each other: add that comparison."
        )
    return Claim(says, row, above)


@cache
def benchmark_at(name: str) -> Benchmark:
    """The benchmark of that name, or at `package.module:NAME`."""
    if ":" not in name:
        return benchmark_named(name)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        raise InvalidArgument(
            f"The benchmark '{printable(name)}' cannot be loaded ({problem}). Name it as "
            "package.module:NAME."
        ) from None
    if not isinstance(found, Benchmark):
        raise InvalidArgument(f"'{printable(name)}' is no benchmark: it is no recgym Benchmark.")
    return found
