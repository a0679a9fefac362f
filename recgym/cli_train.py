"""`recgym train`: an agent learns from a dataset, and goes on where it was stopped."""

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
from tyro.conf import OmitArgPrefixes

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
from recgym.cli_runs import draw, print_run
from recgym.demonstrations import NAMES
from recgym.envs import ORACLES, SHOPS
from recgym.errors import InvalidArgument, MissingExtra, RecGymError
from recgym.evaluation.report import code_of, platform_facts
from recgym.export import local_dataset
from recgym.log import Split, sha256_of_json
from recgym.minari_format import content_hash
from recgym.rollouts import POLICIES
from recgym.runs import (
    ABOUT,
    AGENT,
    CURVES,
    Account,
    Run,
    is_empty,
    measured,
    trainings,
)
from recgym.terminal import ERR, OUT, Command, bar, options_from

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
    training, agent, options, changed = _asked(words[0], kind, list(words[1:]))
    train = dataset_named(training.data)
    validation = _validation(training)
    training_data(train, validation)
    env = _env_of(train, kind) if getattr(kind, "learns_from", "") == "environment" else None
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
            account = _trained(agent, account, train, validation, env, run)
    if training.json:
        print(json.dumps(asdict(account), indent=1))
    else:
        print_run(folder, account)


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
        config = options_from(agent.set)
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
    env: Any,
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
            agent = taught(agent, train, validation, env, run)
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
            draw(folder, account, folder / CURVES)
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


def _say(sentence: str) -> None:
    ERR.print(sentence, markup=False, highlight=False, soft_wrap=True)


# -------------------------------------------------------------------------------------- datasets


def dataset_named(known: str) -> MinariDataset:
    """A dataset that is here, or the command that writes it."""
    return local_dataset(known, _maker(known))


def _env_of(data: MinariDataset, kind: type[Any]) -> Any:
    """The environment in which a dataset was collected, whose users answer."""
    if data.env_spec is None or "log" in data.storage.metadata:
        raise InvalidArgument(
            f"{home_of(kind)} learns from users who answer, and those of {data.id} did so once: "
            "give what `recgym data collect` has written of oracle users or of a shop."
        )
    return data.recover_environment()


def _maker(known: str) -> str:
    """The command that writes a dataset of that id."""
    space, data, policy = (["", "", *known.split("/")])[-3:]
    policy = policy.rpartition("-v")[0]
    for split in ("-validation", "-test"):
        policy = policy.removesuffix(split)
    for oracle in ORACLES:
        if space == "recgym" and data.replace("-", "") == oracle.lower() and policy in POLICIES:
            return f"Write it with `recgym data collect recgym/{oracle}-v0 --policies {policy}`."
    for shop in SHOPS:
        if space == "recgym" and data == shop.lower() and policy in NAMES:
            return f"Write it with `recgym data collect recgym/{shop}-v0 --policies {policy}`."
    if space == "recgym" and policy == "logged":
        return f"Write it with `recgym data export {data}`."
    return "Write one with `recgym data export LOG`, or with `recgym data collect ENVIRONMENT`."


def _validation(training: _Training) -> MinariDataset | None:
    """The validation data that are asked for, or else the validation split, if it is here."""
    if training.validation == "none":
        return None
    if training.validation:
        return dataset_named(training.validation)
    known = split_of(training.data, "validation")
    if known not in minari.list_local_datasets():
        _say(f"Without validation data: {known} is not here.")
        return None
    _say(f"Validated on {known}; --validation names another, or none.")
    return minari.load_dataset(known)


def split_of(training: str, split: Split) -> str:
    """The id of another split of a training dataset."""
    namespace, name, version = parse_dataset_id(training)
    known = f"{namespace}/" if namespace else ""
    return known + f"{name}-{split}" + ("" if version is None else f"-v{version}")


COMMANDS: dict[str, tuple[str, Command]] = {
    "train": ("train an agent on a dataset; the same command goes on", _train),
}
