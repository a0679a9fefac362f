"""Train an agent with every seed, ask all that a benchmark asks, and write it down."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from recgym import __version__
from recgym.agent import (
    agent_names,
    has_chance,
    home_of,
    load_agent,
    made,
    options_of,
    short_name,
    taught,
)
from recgym.before import Before
from recgym.benchmarks import BENCHMARKS, Benchmark, benchmark_named
from recgym.errors import InvalidArgument, printable
from recgym.evaluation.closed_loop import USERS, recommended, simulated, simulator_env
from recgym.evaluation.intervals import LISTED, interval
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.scoring import (
    acted,
    measured,
    otherwise,
    predicted,
    primary_of,
    primary_outcomes,
    ranks_all,
    snips_interval,
)
from recgym.evaluation.shopping import said
from recgym.evaluation.tasks import EvaluatedSplit, Progress, Task
from recgym.home import home
from recgym.log import sha256_of_json
from recgym.runs import Run

SCHEMA = 1
_ALONE, _TOGETHER = 30, 256  # answers that are timed one by one; those at once
_UNREAD = ("__pycache__/**", "cards/**", "plots/**", "README.md", "results-*.json")  # by no agent
_LAST = "last.json"  # the last line of metrics of an agent that is kept


@dataclass(frozen=True)
class Report:
    """What an agent reached on a benchmark, and how to reach it again."""

    benchmark: str
    split: str
    dataset: dict[str, str]  # the id and the hash of what was learned from
    agent: str  # package.module:Class
    config: dict[str, Any]  # options that differ from the agent's defaults
    learns_from: str
    ranks_all: bool  # by scores; otherwise by the one item that it recommends
    chance: bool  # does a seed decide anything?
    seeds: list[int]
    recgym: str
    code: dict[str, Any]  # where the agent's code is from: its commit, and whether it was changed
    command: str
    platform: dict[str, Any]
    results: list[dict[str, Any]]  # by seed: metrics, costs, and hashes of the predictions
    primary: dict[str, Any]  # its name; its mean over seeds with a 95% interval
    also: dict[str, str] = field(default_factory=dict)  # hashes of what else was learned from
    schema: int = SCHEMA

    def write(self, file: Path) -> None:
        """Write as JSON."""
        write_json(file, asdict(self))


def evaluate(
    agent: str | type[Any],
    benchmark: str | Benchmark,
    *,
    config: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    split: EvaluatedSplit = "test",
    users: int = USERS,
    simulator: str = "",
    folder: Path | None = None,
    anew: bool = False,
    command: str = "",
    progress: Progress = lambda stage, share: None,
) -> Report:
    """Train and score an agent with each seed; what is in the folder already is not done again.

    Without `seeds`, an agent with chance has 0, 1 and 2, and any other has one. The report and
    the predictions that it rests on are in `folder`: `run_folder(…)` unless given. Users of a
    simulator, where one is named, are asked too, and what they say is kept beside the results.
    In a shop, `users` is the most goals that are shopped for.
    """
    if users < 1:
        raise InvalidArgument(f"users is a whole number from 1 on, and {users} was given.")
    for seed in [] if seeds is None else seeds:
        if not isinstance(seed, int) or seed < 0:
            raise InvalidArgument(f"A seed is a whole number from 0 on, and {seed} was given.")
    if not isinstance(agent, str | type):
        raise InvalidArgument(
            "An agent is trained with each seed, so its class or its name is asked for, and an "
            f"object of {type(agent).__name__} was given: give the class, and options as config."
        )
    chosen = load_agent(agent) if isinstance(agent, str) else agent
    asked = benchmark_named(benchmark) if isinstance(benchmark, str) else benchmark
    options = changed_options(chosen, config or {})
    chance = has_chance(chosen)
    seeds = list(range(LISTED) if seeds is None else dict.fromkeys(seeds)) if chance else [0]
    if not seeds:
        raise InvalidArgument("An agent is evaluated with one seed or more, and none was given.")
    task = Task(asked, split, progress)
    folder = folder or run_folder(asked, chosen, options, split, users)
    code = code_of(chosen)
    same = depends_on(chosen, asked, options, task.sha256, split, users, code, simulator)
    results = []
    for seed in seeds:
        place = folder / f"seed-{seed}"
        found = None if anew else _found(place, same)
        found = found or _result(chosen, options, seed, task, users, place, same, anew, progress)
        results.append(found)
    runs = [Predictions.read(folder / f"seed-{one['seed']}", one["predictions"])
            for one in results]  # fmt: skip
    report = Report(
        benchmark=asked.name,
        split=split,
        dataset={"id": asked.dataset, "sha256": task.sha256},
        agent=home_of(chosen),
        config=options,
        learns_from=getattr(chosen, "learns_from", "data"),
        ranks_all=ranks_all(chosen),
        chance=chance,
        seeds=seeds,
        recgym=__version__,
        code=code,
        command=command or _command(chosen, asked, seeds if chance else None, options, users),
        platform=platform_facts(),
        results=results,
        primary={"metric": asked.primary} | primary_interval(task, runs, results),
        also=same.get("also", {}),
    )
    report.write(folder / "report.json")
    return report


def run_folder(
    benchmark: Benchmark,
    agent: type[Any],
    config: Mapping[str, Any],
    split: str = "test",
    users: int = USERS,
) -> Path:
    """Where the results of an agent on a benchmark are kept."""
    name = short_name(home_of(agent))
    if config:
        name += "-" + sha256_of_json(config)[:8]
    if benchmark.env and users != USERS:  # who answer; logs have users of their own
        name += f"-{users}-users"
    asked = benchmark.name if split == "test" else f"{benchmark.name}-{split}"
    return home() / "runs" / asked / name


def depends_on(
    agent: type[Any],
    benchmark: Benchmark,
    config: Mapping[str, Any],
    dataset: str | None,
    split: str,
    users: int,
    code: Mapping[str, Any] | None,
    simulator: str = "",
) -> dict[str, Any]:
    """All that a result depends on, but for its seed: where it is the same, so is the result."""
    asked: dict[str, Any] = {}
    learner = made(agent, config, 0)
    also = learner.depends_on(benchmark.dataset) if hasattr(learner, "depends_on") else {}
    if simulator:
        hashes = _hashes(simulator)
        asked = {"simulator": simulator, "simulators": hashes}
        if "training" in hashes and getattr(agent, "learns_from", "data") == "environment":
            also = {**also, f"{simulator}-training": hashes["training"]}
    if also:
        asked["also"] = also
    return asked | {
        "agent": home_of(agent),
        "benchmark": benchmark.name,
        "code": code,
        "config": config,
        "dataset": dataset,  # its hash
        "recgym": __version__,
        "split": split,
        "users": users,
    }


def _hashes(simulator: str) -> dict[str, str]:
    """Of both parts of a simulator, where they can be read."""
    try:
        from recgym.simulator.store import hashes_of
    except ImportError:
        return {}
    return hashes_of(simulator)


def changed_options(agent: type[Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from the agent's defaults; they must be JSON."""
    defaults = options_of(agent)
    try:
        config = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError) as problem:
        raise InvalidArgument(
            f"The options of {short_name(home_of(agent))} are numbers, texts and lists of them "
            f"({problem})."
        ) from None
    return {key: value for key, value in config.items() if defaults.get(key) != value}


def primary_interval(
    task: Task, runs: Sequence[Predictions], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The primary metric over all seeds: its mean, and where 95% of resamples lie."""
    values = [primary_of(task.benchmark, one["metrics"]) for one in results]
    if any(value is None for value in values):
        return {"mean": None, "low": None, "high": None, "by_seed": values}
    if task.benchmark.primary == "snips":
        return asdict(snips_interval(task, runs)) | {"by_seed": values}
    return asdict(interval(primary_outcomes(task, runs))) | {"by_seed": values}


def _result(
    agent: type[Any],
    config: Mapping[str, Any],
    seed: int,
    task: Task,
    users: int,
    folder: Path,
    same: Mapping[str, Any],
    anew: bool,
    progress: Progress,
) -> dict[str, Any]:
    stage = f"training {short_name(home_of(agent))}, seed {seed}"
    progress(stage, None)
    before = _before(task, same, anew)
    run = Run(progress=lambda share, said: progress(stage, share), before=before)
    env, simulator = None, same.get("simulator", "")
    if getattr(agent, "learns_from", "data") == "environment":
        env = _environment(agent, task, simulator)
    if simulator:
        shown, seen = simulator_env(simulator).observation_space, task.train.observation_space
        if shown != seen:
            raise InvalidArgument(
                f"Agents see {printable(repr(seen))} on {task.benchmark.name}, and users of the "
                f"simulator '{printable(simulator)}' show {printable(repr(shown))}: ask one of the "
                "same data, whose users show what they took."
            )
    learner = _learned(made(agent, config, seed), config, task, env, run)
    training = before.seconds
    predictions = predicted(learner, task, users, progress)
    megabytes = round(before.megabytes, 1)
    told = otherwise(learner, task, users, progress)
    if simulator:
        stage = f"asking users of {simulator}"
        told = simulated(learner, simulator, lambda share: progress(stage, share))
        taught = same.get("also", {}).values()
        if taught and same["simulators"].get("training") not in taught:  # another one taught it
            told = {name: value for name, value in told.items() if "(scoring)" in name}
    progress("measuring", None)
    parameters = getattr(learner, "parameters", None)
    costs = {
        "training_seconds": round(training, 3),
        "peak_memory_mb": megabytes,
        "parameters": None if parameters is None else int(parameters),
    } | _latency(learner, task)
    metrics = measured(task, predictions)
    told = acted(learner, metrics) | told
    files = predictions.write(folder)
    result = {"seed": seed, "metrics": metrics, "costs": costs, "predictions": files}
    write_json(
        folder / "result.json", {"same": same, "result": result, "training": run.last | told}
    )
    return result


def _before(task: Task, same: Mapping[str, Any], anew: bool) -> Before:
    """What was learned of the same data by the same code, if that can be told and is wanted."""
    known = {key: same.get(key) for key in ("code", "dataset", "recgym", "simulators", "also")}
    known["validation dataset"] = task.validation_sha256
    unknown = anew or same["code"]["changed"]
    return Before(None if unknown else home() / "trained", known)


def _learned(
    learner: Any,
    config: Mapping[str, Any],
    task: Task,
    env: gymnasium.Env[Any, Any] | None,
    run: Run,
) -> Any:
    """An agent that has learned; if another benchmark has the same data, it is kept for that."""
    kind, benchmark = type(learner), task.benchmark
    others = {one.dataset for one in BENCHMARKS.values() if one.name != benchmark.name}
    if benchmark.dataset not in others or not (hasattr(kind, "save") and hasattr(kind, "load")):
        return taught(learner, task.train, task.validation, env, run)
    spec = env and env.spec
    whole = {
        "agent": home_of(kind),
        "config": config,
        "seed": getattr(learner, "seed", None),
        "environment": spec and f"{spec.id} {sorted(spec.kwargs.items())}",
    }
    if known := run.before.find(whole):
        run.last = read_json(known / _LAST)
        return kind.load(known)
    learner = taught(learner, task.train, task.validation, env, run)

    def write(folder: Path) -> None:
        learner.save(folder)
        write_json(folder / _LAST, run.last)

    if type(learner) is kind:
        run.before.keep(whole, write)
    return learner


def _environment(agent: type[Any], task: Task, simulator: str) -> gymnasium.Env[Any, Any]:
    """What an agent learns from that answers: of a shop, the one and the goals of its data."""
    benchmark = task.benchmark
    if benchmark.shop and task.train.env_spec is not None:
        return gymnasium.make(task.train.env_spec, split="train")
    if benchmark.oracle:
        return gymnasium.make(benchmark.env)
    if simulator:
        return simulator_env(simulator)
    raise InvalidArgument(
        f"{home_of(agent)} learns from an environment that answers, and {benchmark.name} has "
        "none: evaluate it on the oracle's benchmarks, or with users of a simulator."
    )


def _latency(agent: Any, task: Task) -> dict[str, float]:
    """Milliseconds for an answer: one alone, and one of many at once."""
    ask, count = _asked(agent, task)
    times = []
    for row in range(min(_ALONE, count)):
        began = time.perf_counter()
        ask(slice(row, row + 1))
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    ask(slice(0, count))
    together = (time.perf_counter() - began) / count
    return {
        "latency_ms": round(1000 * float(np.median(times)), 4),
        "batch_latency_ms": round(1000 * together, 5),
    }


def _asked(agent: Any, task: Task) -> tuple[Callable[[slice], Any], int]:
    """Asks an agent for some answers, and for how many it can be asked at once."""
    if task.benchmark.shop:
        pages, infos = task.pages
        return lambda some: said(
            agent, pages[some], {key: values[some] for key, values in infos.items()}
        ), min(_TOGETHER, len(pages))
    count = min(_TOGETHER, len(task.targets))
    observations = task.targets.observe(slice(0, count))
    return lambda some: recommended(agent, observations[some], {}, task.n_items), count


def _found(folder: Path, same: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a seed that was there before, if all that it depends on is the same."""
    known = read_json(folder / "result.json")
    if known.get("same") != json.loads(json.dumps(same)) or same["code"].get("changed"):
        return None
    return dict(known["result"])


def _command(
    agent: type[Any],
    benchmark: Benchmark,
    seeds: Sequence[int] | None,
    config: Mapping[str, Any],
    users: int,
) -> str:
    name = short_name(home_of(agent))
    name = name if name in agent_names() else home_of(agent)
    words = ["recgym", "evaluate", name, "--benchmark", benchmark.name]
    words += ["--seeds", *map(str, seeds)] if seeds else []
    words += ["--users", str(users)] if users != USERS else []
    words += ["--set"] if config else []
    for key, value in config.items():
        words.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return shlex.join(words)


def code_of(agent: type[Any]) -> dict[str, Any]:
    """Where the code of an agent comes from: the last commit of its package, if it is in one.

    READMEs, plots, cards and results beside the code are no part of it; prompts in Markdown are.
    """
    package = agent.__module__.partition(".")[0]
    file = getattr(sys.modules.get(agent.__module__), "__file__", None)
    where = Path(file).resolve().parent if file else Path.cwd()
    folders = sorted({str(where), *getattr(sys.modules.get(package), "__path__", [])})

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(where), *words], capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    unread = (f":(top,exclude,glob)**/{name}" for name in _UNREAD)
    code = (*folders, *unread)
    commit = git("log", "-1", "--format=%H", "--", *code) or None
    changed = commit and bool(git("status", "--porcelain", "--", *code))
    return {"package": package, "commit": commit, "changed": changed}


def platform_facts() -> dict[str, Any]:
    """What machine and what packages results were made with."""
    installed = sorted(f"{one.name}=={one.version}".lower() for one in distributions())
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else os.environ.get("OMP_NUM_THREADS")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": int(threads or os.cpu_count() or 1),
        "lock": hashlib.sha256("\n".join(installed).encode()).hexdigest(),
    }


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, file)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where none can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
