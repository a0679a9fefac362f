"""What the scripts share: an invented log, the time of a call, a line of the report."""

import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from recgym.log import InteractionLog, Manifest, write_log


def invented_log(
    path: Path, lengths: np.ndarray, items: int, in_state: float = 1.0
) -> InteractionLog:
    """Sessions of these lengths, all of them for training, with items drawn evenly."""
    rng = np.random.default_rng(0)
    offsets = np.append(0, np.cumsum(lengths))
    rows, sessions = int(offsets[-1]), len(lengths)
    columns = {
        "items": rng.integers(0, items, rows, dtype=np.int32),
        "behaviours": np.zeros(rows, np.uint8),
        "rewards": np.ones(rows, np.float32),
        "timestamps": np.arange(rows),
        "in_state": rng.random(rows, np.float32) < in_state,
        "splits": np.zeros(rows, np.uint8),
        "offsets": offsets,
        "terminated": np.zeros(sessions, bool),
        "users": pa.array([str(user) for user in range(sessions)], pa.large_string()),
        "catalogue": pa.record_batch([pa.array(np.arange(items, dtype=np.int32))], names=["item"]),
    }
    manifest = Manifest(
        name=path.name, source={"name": "speed"}, protocol={"name": "none"}, command="", recgym="",
        time="microseconds", behaviours=["click"], n_items=items,
        counts={"rows": rows, "sessions": sessions}, cuts=[], steps=[], notes=[],
    )  # fmt: skip
    return write_log(path, manifest, columns)


def seconds(act: Callable[..., object], *arguments: object, repeats: int = 1) -> float:
    """The time of one call, without the garbage of others, as timeit takes it."""
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    for _ in range(repeats):
        act(*arguments)
    taken = (time.perf_counter() - begin) / repeats
    gc.enable()
    return taken


def report(
    name: str,
    pairs: list[tuple[float, float]],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> None:
    """A JSON line: the medians of ours and of the baseline, and of their ratios.

    `at_most` bounds ours / baseline; `at_least` says how many times less ours is to be.
    """
    ours, baseline = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [b / a if at_least is not None else a / b for a, b in pairs]
    row = {"name": name, "value": ours, "baseline": baseline, "ratio": statistics.median(ratios)}
    bar = {"at_most": at_most} if at_least is None else {"at_least": at_least}
    print(json.dumps(row | bar | {"ratios": [round(ratio, 3) for ratio in ratios]}), flush=True)
