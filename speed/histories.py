"""History windows against the bare gather of the same windows: at most 2 times its time."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from recgym.log import InteractionLog, Manifest, write_log

ROWS, ITEMS, ROUNDS = 25_000_000, 59_000, 15


def generated_log(path: Path, share_in_state: float) -> InteractionLog:
    """A log of the shape of MovieLens 25M."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(4.3, 1.1, ROWS // 100).astype(np.int64) + 20
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), ROWS)]
    offsets = np.append(0, np.cumsum(lengths))
    rows, sessions = int(offsets[-1]), len(lengths)
    columns = {
        "items": rng.integers(0, ITEMS, rows, dtype=np.int32),
        "behaviours": np.zeros(rows, np.uint8),
        "rewards": np.ones(rows, np.float32),
        "timestamps": np.arange(rows),
        "in_state": rng.random(rows, np.float32) < share_in_state,
        "splits": np.zeros(rows, np.uint8),
        "offsets": offsets,
        "terminated": np.zeros(sessions, bool),
        "users": pa.array([str(user) for user in range(sessions)], pa.large_string()),
        "catalogue": pa.record_batch([pa.array(np.arange(ITEMS, dtype=np.int32))], names=["item"]),
    }
    manifest = Manifest(
        name="generated", source={"name": "speed"}, protocol={}, command="", recgym="",
        time="microseconds", behaviours=["click"], n_items=ITEMS,
        counts={"rows": rows, "sessions": sessions}, cuts=[], steps=[], notes=[],
    )  # fmt: skip
    return write_log(path, manifest, columns)


def bare_gather(items: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """What no implementation can do without."""
    return items[np.minimum(start[:, None] + np.arange(length), len(items) - 1)]


def seconds(repeats: int, act: Callable[..., object], *arguments: object) -> float:
    """The time of one call."""
    begin = time.perf_counter()
    for _ in range(repeats):
        act(*arguments)
    return (time.perf_counter() - begin) / repeats


def report(name: str, pairs: list[tuple[float, float]]) -> None:
    """A JSON line: the medians of both, and of their ratios."""
    value, baseline = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    row = {"name": name, "value": value, "baseline": baseline, "ratio": ratio}
    print(json.dumps(row), flush=True)


def main() -> None:
    """Time both in turn, for batches that fit the cache and batches that do not."""
    rng = np.random.default_rng(1)
    for share in (1.0, 0.5):
        with tempfile.TemporaryDirectory() as folder:
            log = generated_log(Path(folder) / "log", share)
            items = log.items[log.in_state]
            for batch, repeats in ((256, 300), (4096, 30), (262_144, 1)):
                for length in (10, 50):
                    rows = rng.integers(0, len(log), batch)
                    stops = np.searchsorted(np.flatnonzero(log.in_state), rows)
                    start = stops - np.minimum(log.depths[rows], length)
                    pairs = [
                        (
                            seconds(repeats, log.histories, rows, length),
                            seconds(repeats, bare_gather, items, start, length),
                        )
                        for _ in range(ROUNDS)
                    ]
                    report(f"histories of {batch}, length {length}, {share:.0%} in state", pairs)
            opened = [(seconds(1, InteractionLog, log.path), 0.05) for _ in range(ROUNDS)]
            report(f"open {len(log):,} rows, {share:.0%} in state", opened)


if __name__ == "__main__":
    main()
