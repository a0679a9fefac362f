"""A run of training: its folder, what was measured in it, and where it can go on."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

METRICS, CHECKPOINT, ABOUT, AGENT = "metrics.jsonl", "checkpoint.safetensors", "run.json", "agent"


class Run:
    """Where a training writes what it measures; without a folder, nowhere.

    A line of metrics has a step, the seconds so far, and numbers by name.
    """

    def __init__(
        self,
        folder: Path | None = None,
        progress: Callable[[float, str], None] = lambda share, said: None,
        every: float = 30.0,
    ) -> None:
        """`every` is the number of seconds after which a checkpoint is due."""
        self.folder, self.progress, self._every = folder, progress, every
        self._written = time.monotonic()

    @property
    def checkpoint(self) -> Path | None:
        """The file from which training goes on."""
        return self.folder and self.folder / CHECKPOINT

    def due(self) -> bool:
        """Is it time for a checkpoint?"""
        return self.folder is not None and time.monotonic() - self._written >= self._every

    def kept(self) -> None:
        """A checkpoint was written."""
        self._written = time.monotonic()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line of metrics."""
        if self.folder is None:
            return
        with (self.folder / METRICS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step} | dict(values)) + "\n")

    def rewind(self, step: int) -> None:
        """Forget what was measured after a step, and a line that was cut."""
        if self.folder is None or not (file := self.folder / METRICS).exists():
            return
        lines = [json.dumps(line) for line in metrics_of(self.folder) if line["step"] <= step]
        draft = file.with_suffix(".part")
        draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        draft.replace(file)


def metrics_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics that are whole."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").split("\n")
    except OSError:
        return
    for line in lines[:-1]:  # what follows the last line break was cut
        yield json.loads(line)
