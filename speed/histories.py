"""History windows against the bare gather of the same windows: at most 2 times its time."""

import tempfile
from pathlib import Path

import numpy as np
from _common import invented_log, report, seconds

from recgym.log import InteractionLog

ROWS, ITEMS, ROUNDS = 25_000_000, 59_000, 15


def lengths() -> np.ndarray:
    """Ratings of each user, in the shape of MovieLens 25M."""
    drawn = np.random.default_rng(0).lognormal(4.3, 1.1, ROWS // 100).astype(np.int64) + 20
    return drawn[: np.searchsorted(np.cumsum(drawn), ROWS)]


def bare_gather(items: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """What no implementation can do without."""
    return items[np.minimum(start[:, None] + np.arange(length), len(items) - 1)]


def main() -> None:
    """Time both in turn, for batches that fit the cache and batches that do not."""
    rng = np.random.default_rng(1)
    for share in (1.0, 0.5):
        with tempfile.TemporaryDirectory() as folder:
            log = invented_log(Path(folder) / "log", lengths(), ITEMS, share)
            items = log.items[log.in_state]
            for batch, repeats in ((256, 300), (4096, 30), (262_144, 1)):
                for length in (10, 50):
                    rows = rng.integers(0, len(log), batch)
                    stops = np.searchsorted(np.flatnonzero(log.in_state), rows)
                    start = stops - np.minimum(log.depths[rows], length)
                    pairs = [
                        (
                            seconds(log.histories, rows, length, repeats=repeats),
                            seconds(bare_gather, items, start, length, repeats=repeats),
                        )
                        for _ in range(ROUNDS)
                    ]
                    report(
                        f"histories of {batch}, length {length}, {share:.0%} in state",
                        pairs,
                        at_most=2,
                    )
            opened = [(seconds(InteractionLog, log.path), 0.05) for _ in range(ROUNDS)]
            report(f"open {len(log):,} rows, {share:.0%} in state", opened, at_most=1)


if __name__ == "__main__":
    main()
