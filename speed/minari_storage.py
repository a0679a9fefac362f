"""Our Minari format against Minari's HDF5: the same buffers through the same public calls.

3,000 sessions of 13 steps, both in turn in one run after a warm-up; a ratio says how many times
less time (or room) ours takes. At the end, what grows: 200,000 sessions, and appending one by one.
"""

import contextlib
import copy
import io
import itertools
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

SCRATCH = tempfile.TemporaryDirectory()
os.environ["MINARI_DATASETS_PATH"] = os.environ["RECGYM_HOME"] = SCRATCH.name
warnings.simplefilter("ignore")  # Minari's, of authors that the invented datasets do not have

import gymnasium  # noqa: E402
import minari  # noqa: E402
import numpy as np  # noqa: E402
from _common import invented_log, report, seconds  # noqa: E402
from gymnasium import spaces  # noqa: E402
from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

import recgym  # noqa: E402

SESSIONS, STEPS, ITEMS, HISTORY, ROUNDS = 3_000, 13, 10_000, 10, 5
FORMATS = ("recgym", "hdf5")
SPACES = {
    "observation_space": spaces.Box(0, ITEMS, (HISTORY,), np.int32),
    "action_space": spaces.Discrete(ITEMS),
}
fresh = (f"speed/fresh{number}-v0" for number in itertools.count())


def buffers(log: recgym.InteractionLog, as_lists: bool) -> list[EpisodeBuffer]:
    """The sessions of the log as Minari's buffers: of arrays, or of lists."""
    made = []
    for first, end in itertools.pairwise(log.offsets.tolist()):
        rows = np.arange(first, end)
        before = log.histories(rows, HISTORY)
        observations = np.vstack([before, log.histories(rows[-1:], HISTORY, after=True)])
        last = rows == end - 1
        fields = {
            "actions": log.items[rows].astype(np.int64),
            "rewards": log.rewards[rows].astype(np.float64),
            "terminations": np.zeros(len(rows), bool),
            "truncations": last,
        }
        if as_lists:
            fields = {name: values.tolist() for name, values in fields.items()}
            observations = list(observations)
        made.append(EpisodeBuffer(observations=observations, **fields))
    return made


def create(buffers: list[EpisodeBuffer], data_format: str) -> minari.MinariDataset:
    """Minari's public call."""
    return minari.create_dataset_from_buffers(
        next(fresh), buffers, data_format=data_format, **SPACES
    )


def collect(data_format: str, episodes: int = 300) -> None:
    """Minari's wrapper around an environment that costs little itself."""
    plain = gymnasium.make("CartPole-v1", max_episode_steps=STEPS)
    env = minari.DataCollector(plain, data_format=data_format, record_infos=True)
    for episode in range(episodes):
        env.reset(seed=episode)
        over = False
        while not over:
            *_, terminated, truncated, _ = env.step(episode % 2)
            over = terminated or truncated
    env.create_dataset(next(fresh))
    env.close()


def compare(name: str, act: Callable[..., object], at_least: float) -> None:
    """Time an act with both formats, in turn, after one warm-up; a short one several times."""
    repeats = {f: max(1, round(0.1 / seconds(act, f))) for f in FORMATS}
    pairs = [tuple(seconds(act, f, repeats=repeats[f]) for f in FORMATS) for _ in range(ROUNDS)]
    report(name, pairs, at_least=at_least)


def quietly(act: Callable[..., object], *arguments: object) -> object:
    """Without what d3rlpy prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return act(*arguments)


def main() -> None:
    """Every claim, one line each."""
    log = invented_log(Path(SCRATCH.name) / "logs" / "small", np.full(SESSIONS, STEPS), ITEMS)
    arrays, lists = buffers(log, as_lists=False), buffers(log, as_lists=True)
    compare("write array buffers", lambda f: create(arrays, f), 100)
    compare("write list buffers", lambda f: create(lists, f), 50)
    compare(
        "write from a log",
        lambda f: recgym.to_minari(log, name=f"small-{f}", data_format=f, replace=True),
        500,
    )

    datasets = {f: create(arrays, f) for f in FORMATS}
    compare("load", lambda f: minari.load_dataset(datasets[f].id), 1)
    compare("iterate_episodes", lambda f: sum(map(len, datasets[f].iterate_episodes())), 100)
    wanted = float(np.median([episode.rewards.sum() for episode in datasets["recgym"]]))
    compare(
        "filter_episodes",
        lambda f: datasets[f].filter_episodes(lambda episode: episode.rewards.sum() >= wanted),
        100,
    )
    for number in (SESSIONS, 256, 32):
        compare(
            f"sample_episodes({number})", lambda f, n=number: datasets[f].sample_episodes(n), 100
        )
    sizes = [
        sum(file.stat().st_size for file in datasets[f].storage.data_path.iterdir())
        for f in FORMATS
    ]
    report("bytes on disk", [tuple(sizes)], at_least=50)
    compare("DataCollector", collect, 1)

    try:
        from d3rlpy.datasets import get_minari
    except ImportError:
        print('{"name": "to_d3rlpy against get_minari", "skipped": "d3rlpy is not installed"}')
    else:
        spec = copy.deepcopy(gymnasium.spec("recgym/Replay-v0"))
        spec.kwargs, spec.max_episode_steps = {"log": "small", "split": "train"}, STEPS + 1
        name = next(fresh)  # get_minari wants an environment with a limit of steps
        minari.create_dataset_from_buffers(name, arrays, env=spec, data_format="hdf5")
        roads = {
            "recgym": lambda: recgym.to_d3rlpy(datasets["recgym"].id),
            "hdf5": lambda: get_minari(name),
        }
        compare("to_d3rlpy against get_minari", lambda f: quietly(roads[f]), 50)

    growing = {}
    for sessions in (25_000, 200_000):
        path = Path(SCRATCH.name) / "logs" / f"large{sessions}"
        large = invented_log(path, np.full(sessions, STEPS), ITEMS)
        written = seconds(recgym.to_minari, large)
        dataset = minari.load_dataset(f"recgym/large{sessions}/logged-v0")
        read = [
            seconds(lambda data=dataset: sum(map(len, data.iterate_episodes())))
            for _ in range(ROUNDS)
        ]
        growing[sessions] = statistics.median(read) / sessions
    report("200,000 sessions from a log, of 10 seconds", [(written, 10.0)], at_most=1)
    pair = growing[200_000], growing[25_000]
    report("iterate 200,000 sessions against 25,000, per session", [pair], at_most=1.25)

    def append(number: int) -> float:
        """Append episodes one by one: the time for each."""
        storage = create(arrays[:1], "recgym").storage
        ones = [[buffer] for buffer in arrays[1 : number + 1]]
        return seconds(lambda: list(map(storage.update_episodes, ones))) / number

    pairs = [(append(2_000), append(250)) for _ in range(3)]
    report("append 2,000 one by one against 250, per episode", pairs, at_most=1.5)


if __name__ == "__main__":
    main()
