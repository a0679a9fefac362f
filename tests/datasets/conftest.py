"""Build a source's log, and take it apart again for comparison with the raw file."""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import count, groupby
from pathlib import Path

import pytest

from recgym.build import build_log
from recgym.engine import connect
from recgym.log import SPLITS, Manifest
from recgym.protocols import protocol_named
from recgym.raw import open_raw


@dataclass(frozen=True)
class Row:
    item: str
    behaviour: str
    time: int
    reward: float
    split: str


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Build the log of a source's raw files under a protocol with these switches changed."""
    names = (f"log-{number}" for number in count())

    def build(source, raw, protocol="temporal", **switches):
        folder = tmp_path_factory.mktemp("build")
        with connect(scratch=folder) as engine:
            tables = source.tables(open_raw(raw, engine.scratch) if raw else None, engine)
            chosen = replace(protocol_named(protocol), **switches)
            return build_log(tables, chosen, engine, folder / next(names))

    return build


@pytest.fixture(scope="session")
def rows_of():
    """The rows of every user of a log, in order and in raw terms."""

    def rows_of(log):
        raw_ids = log.catalogue.column("raw_id").to_pylist()
        users = log.users.to_pylist()
        owners = [users[session] for session in log.sessions_of(range(len(log)))]
        rows = defaultdict(list)
        for owner, item, behaviour, time, reward, split in zip(
            owners,
            log.items.tolist(),
            log.behaviours.tolist(),
            log.timestamps.tolist(),
            log.rewards.tolist(),
            log.splits.tolist(),
            strict=True,
        ):
            name = log.manifest.behaviours[behaviour]
            rows[owner].append(Row(raw_ids[item], name, time, reward, SPLITS[split]))
        return dict(rows)

    return rows_of


@pytest.fixture(scope="session")
def up_to_ties():
    """Sequences of (time, what) with the order within equal times taken out."""

    def up_to_ties(sequences):
        return {
            user: [
                (time, sorted(what for _, what in tied))
                for time, tied in groupby(events, key=lambda event: event[0])
            ]
            for user, events in sequences.items()
        }

    return up_to_ties


@pytest.fixture(scope="session")
def committed():
    """The digest of a log whose counts a card shows."""
    counts = Path(__file__).parents[2] / "datasets" / "cards" / "counts"
    return lambda name: Manifest.read(counts / f"{name}.json").digest


@pytest.fixture(scope="session")
def leaked():
    """How much of a test set lies in the past, if users were split by their last event.

    The shares of the targets of the last tenth of users that are older than the last tenth of
    all events, and than the last event of the first eight tenths of users.
    """

    def leaked(times):
        users = sorted(times.values(), key=max)
        train, test = users[: len(users) * 8 // 10], users[len(users) * 9 // 10 :]
        moments = sorted(time for user in users for time in user)
        cut, end = moments[len(moments) * 9 // 10], max(map(max, train))
        targets = [time for user in test for time in user]
        return [sum(time < bound for time in targets) / len(targets) for bound in (cut, end)]

    return leaked


@pytest.fixture
def write(tmp_path):
    """Write small raw files as a user would have them, into one folder."""

    def write(**files):
        for name, lines in files.items():
            path = tmp_path / "raw" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / "raw"

    return write
