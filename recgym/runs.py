"""A run of training: its folder, what was measured in it, and where it can go on."""

import json
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from recgym.before import Before
from recgym.errors import Busy, InvalidArgument, UnknownName, printable
from recgym.home import home, is_locked, locked

METRICS, CHECKPOINT, ABOUT, AGENT = "metrics.jsonl", "checkpoint.safetensors", "run.json", "agent"
CURVES, TENSORBOARD = "curves.png", "tensorboard"
METRIC = "ndcg@10"  # of the head that recommends: what the best weights are chosen by
_OURS = (METRICS, CHECKPOINT, AGENT, CURVES, TENSORBOARD, ABOUT)  # the last says whose it is
_LOCK = ".lock"


class Run:
    """Where a training writes what it measures; without a folder, nowhere.

    A line of metrics has a step, the seconds so far, and numbers by name.
    """

    def __init__(
        self,
        folder: Path | None = None,
        progress: Callable[[float, str], None] = lambda share, said: None,
        every: float = 30.0,
        say: Callable[[str], None] = lambda sentence: None,
        before: Before | None = None,
    ) -> None:
        """`every` is the number of seconds after which a checkpoint is due."""
        self.folder, self.progress, self._every, self.say = folder, progress, every, say
        self.before = before or Before(None, {})
        self._written = time.monotonic()
        self._stopping = False
        self._from = 0  # the step from which it went on
        self.last: dict[str, float] = {}  # the latest line of metrics

    @property
    def checkpoint(self) -> Path | None:
        """The file from which training goes on."""
        return self.folder and self.folder / CHECKPOINT

    def due(self) -> bool:
        """Is it time for a checkpoint?"""
        late = time.monotonic() - self._written >= self._every
        return self.folder is not None and (late or self._stopping)

    def kept(self) -> None:
        """A checkpoint was written."""
        self._written = time.monotonic()
        if self._stopping:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End as if interrupted, as soon as a checkpoint of the last step is written."""
        self._stopping = True

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line of metrics."""
        self.last = {"step": step} | dict(values)
        if self.folder is None:
            return
        with (self.folder / METRICS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step} | dict(values)) + "\n")
        if self._board is not None:
            for name, value in values.items():
                group = "validation" if "@" in name else "training"
                self._board.add_scalar(f"{group}/{name}", value, step)
            self._board.flush()  # a killed training loses nothing that a checkpoint counts on

    def rewind(self, step: int) -> None:
        """Begin, or go on from a step: forget what was measured after it, and cut lines."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._from = step
        if (self.folder / METRICS).exists():
            lines = [json.dumps(line) for line in metrics_of(self.folder) if line["step"] <= step]
            _write(self.folder / METRICS, "".join(f"{line}\n" for line in lines))
        if step:
            self.say(f"Going on from step {step:,}.")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training into the same folder; this dies with its process."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / _LOCK) as ours:
            if not ours:
                raise Busy(
                    f"Another process is training into {self.folder}. Wait for it, or give "
                    "another folder with --out."
                )
            yield

    def clear(self) -> None:
        """Delete what a run has written into the folder, and nothing else."""
        assert self.folder is not None
        for name in _OURS:
            if (path := self.folder / name).is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @cached_property
    def _board(self) -> Any:
        """What TensorBoard reads, where it is installed: without what came after the beginning."""
        if self.folder is None:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        board = SummaryWriter(self.folder / TENSORBOARD, purge_step=self._from + 1)
        weakref.finalize(self, board.close)
        return board


@dataclass(frozen=True)
class Account:
    """What is said of a run: what is trained on what, by what, and what has come of it."""

    agent: str  # package.module:Class
    name: str  # what the agent is called
    options: dict[str, Any]
    changed: dict[str, Any]  # options that differ from the agent's defaults
    dataset: str  # its id
    content: str  # the hash of all its episodes
    validation: str | None  # the id of a dataset
    recgym: str
    code: dict[str, Any]  # where the agent's code is from
    command: str
    platform: dict[str, Any]
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    state: Literal["running", "stopped", "finished", "failed"] = "running"
    problem: str = ""  # why it failed
    seconds: float = 0.0  # of training
    step: int | None = None  # the last one; None: it has no steps
    best: float | None = None  # the best NDCG@10 on the validation data
    best_step: int | None = None
    schema: int = 1

    def write(self, folder: Path) -> None:
        """Write as JSON into the folder of the run."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        _write(folder / ABOUT, text + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Account":
        """What was written into the folder of a run."""
        try:
            content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            hints = get_type_hints(cls)
            if content.keys() != hints.keys() or content["schema"] != 1:
                raise ValueError("it is of another version")
            for name, hint in hints.items():
                if not _fits(content[name], hint):
                    raise ValueError(f"its {name} is {content[name]!r}")
        except FileNotFoundError:
            raise InvalidArgument(
                f"{folder} has no {ABOUT}, so nothing says what was trained there: give another "
                "folder, or remove it."
            ) from None
        except (OSError, ValueError, AttributeError) as why:
            raise InvalidArgument(
                f"{folder / ABOUT} cannot be read ({printable(str(why))}): train there with "
                "--anew, or remove the folder."
            ) from None
        return cls(**content)


def account_of(folder: Path) -> Account:
    """What is said of a run, by now."""
    account = Account.read(folder)
    if account.state == "finished":
        return account
    account = replace(account, **measured(folder))
    stopped = account.state == "running" and not is_written(folder)
    return replace(account, state="stopped") if stopped else account


def measured(folder: Path) -> dict[str, Any]:
    """What the metrics say of a run by now: its last step, seconds, the best metric, and where."""
    lines = list(metrics_of(folder))
    if not lines:
        return {}
    asked = [line for line in lines if METRIC in line]
    best = max(asked, key=lambda line: float(line[METRIC]), default={})  # the first of equal ones
    return {
        "step": lines[-1]["step"],
        "seconds": lines[-1].get("seconds", 0.0),
        "best": best.get(METRIC),
        "best_step": best.get("step"),
    }


def is_written(folder: Path) -> bool:
    """Is a process training into the folder?"""
    return is_locked(folder / _LOCK)


def is_empty(folder: Path) -> bool:
    """Is there nothing in the folder but what is hidden?"""
    return not folder.exists() or all(path.name[0] == "." for path in folder.iterdir())


def trainings() -> Path:
    """Where runs are kept whose folder nobody chose."""
    return home() / "training"


def run_folders() -> list[Path]:
    """The folders of runs that are there."""
    return sorted(
        path for path in trainings().glob("[!.]*/[!.]*") if path.is_dir() and path.parent.is_dir()
    )


def run_named(name: str) -> Path:
    """The folder of a run: it, or the only one whose name has this part."""
    if (Path(name) / ABOUT).is_file():
        return Path(name)
    known = {f"{path.parent.name}/{path.name}": path for path in run_folders()}
    exact = [path for full, path in known.items() if name in (full, path.name)]
    found = exact or [path for full, path in known.items() if name in full]
    if not found and Path(name).is_dir():
        return Path(name)
    if len(found) == 1:
        return found[0]
    if found:
        names = [f"{path.parent.name}/{path.name}" for path in found[:5]]
        more = f" and {len(found) - 5} others" if len(found) > 5 else ""
        raise InvalidArgument(
            f"'{printable(name)}' is a part of the names of {len(found)} runs: "
            f"{', '.join(names)}{more}. Give a longer part, or a folder."
        )
    raise UnknownName("run", name, known, "`recgym runs list` shows all; a folder is taken, too.")


def metrics_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics that are whole."""
    return (line for line in _lines(folder) if line is not None)


def damaged_lines(folder: Path) -> int:
    """How many lines of metrics cannot be read."""
    return sum(line is None for line in _lines(folder))


def _lines(folder: Path) -> Iterator[dict[str, Any] | None]:
    """The lines of metrics, None in the place of one that was cut."""
    try:
        text = (folder / METRICS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    *lines, rest = text.split("\n")
    for line in lines:
        try:
            values = json.loads(line)
            whole = isinstance(values, dict) and type(values.get("step")) is int
        except ValueError:
            whole = False
        yield values if whole else None
    if rest:
        yield None


def _fits(value: Any, hint: Any) -> bool:
    """Is a value from JSON of this type?"""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    kinds = [get_origin(one) or one for one in get_args(hint) or [hint]]
    if get_origin(hint) is dict:
        kinds = [dict]
    return type(value) in kinds or (float in kinds and type(value) is int)


def _write(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    draft = file.with_name(f".{file.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
