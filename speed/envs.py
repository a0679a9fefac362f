"""Environments against Gymnasium's CartPole and against the floor, on one core.

Of every pair, both are timed in turn in one run. A single environment is made by plain
`gymnasium.make`, a vector environment by `gymnasium.make_vec`; episodes begin anew as they end.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import tempfile  # noqa: E402
import tracemalloc  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

SCRATCH = tempfile.TemporaryDirectory()
os.environ["MINARI_DATASETS_PATH"] = os.environ["RECGYM_HOME"] = SCRATCH.name

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
from _common import invented_log, report, seconds  # noqa: E402

import recgym  # noqa: E402
from recgym.envs import ORACLES  # noqa: E402

USERS, ROUNDS, SESSIONS, ITEMS, HISTORY = 1024, 15, 100_000, 20_000, 10
CARTPOLE, ORACLE = "CartPole-v1", "recgym/OracleBoredom-v0"


def single(env: gymnasium.Env, steps: int) -> Callable[[], None]:
    """Steps of one environment, of which an action costs nothing to find."""
    env.reset(seed=0)
    actions = [action % 2 for action in range(steps)]

    def act() -> None:
        for action in actions:
            *_, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return act


def vector(env_id: str, steps: int, users: int = USERS, **options: object) -> Callable[[], None]:
    """Steps of many environments, with actions drawn before."""
    envs = gymnasium.make_vec(
        env_id, num_envs=users, vectorization_mode="vector_entry_point", **options
    )
    envs.reset(seed=0)
    count = int(envs.single_action_space.n)
    actions = np.random.default_rng(0).integers(0, count, (steps, users))

    def act() -> None:
        for action in actions:
            envs.step(action)

    return act


def bare_gather(log: recgym.InteractionLog, steps: int) -> Callable[[], None]:
    """The windows alone, of users who each go on by one row in every step."""
    rows = np.random.default_rng(0).integers(0, len(log) - steps, USERS)
    items, window = log.items, np.arange(HISTORY)

    def act() -> None:
        for step in range(steps):
            starts = rows + step - HISTORY
            items[np.maximum(starts[:, None] + window, 0)]

    return act


def compared(name: str, ours: Callable[[], None], other: Callable[[], None], **bar: float) -> None:
    """Time both in turn, after a warm-up."""
    ours(), other()
    report(name, [(seconds(ours), seconds(other)) for _ in range(ROUNDS)], **bar)


def held(make: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are held after something is made, and those of the arrays it consists of."""
    tracemalloc.start()
    kept = make()
    bytes_held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return bytes_held, sum(array.nbytes for array in arrays_of(kept))


def arrays_of(thing: object) -> list[np.ndarray]:
    """The arrays of a vector environment: of its users, its own, and of its spaces."""
    envs = thing.unwrapped
    owners = [envs, envs.users, envs.observation_space, envs.action_space, envs.users.space]
    found = {id(part): part for owner in owners for part in vars(owner).values()}
    return [part for part in found.values() if isinstance(part, np.ndarray)]


def many(env_id: str, users: int, **options: object) -> Callable[[], object]:
    """What makes a vector environment and takes some steps."""

    def make() -> object:
        envs = gymnasium.make_vec(
            env_id, num_envs=users, vectorization_mode="vector_entry_point", **options
        )
        envs.reset(seed=0)
        for _ in range(5):
            envs.step(np.zeros(users, np.int64))
        return envs

    return make


def report_memory(name: str, env_id: str, **options: object) -> None:
    """What each further user costs, against the arrays of its own state."""
    few, more = (held(many(env_id, users, **options)) for users in (USERS, 16 * USERS))
    report(name, [(more[0] - few[0], more[1] - few[1])], at_most=1.1)


def main() -> None:
    """Print a line for each claim."""
    rng = np.random.default_rng(0)
    log = invented_log(Path(SCRATCH.name) / "log", 1 + rng.geometric(1 / 25, SESSIONS), ITEMS)
    replay = {"log": str(log.path), "split": "train", "history": HISTORY}
    compared(
        "single replay against CartPole",
        single(gymnasium.make("recgym/Replay-v0", **replay), 5000),
        single(gymnasium.make(CARTPOLE), 5000),
        at_least=1.5,
    )
    compared(
        f"{USERS:,} replayed users against as many CartPoles",
        vector("recgym/Replay-v0", 200, **replay),
        vector(CARTPOLE, 200),
        at_least=0.5,
    )
    compared(
        f"{USERS:,} replayed users against the bare gather of their windows",
        vector("recgym/Replay-v0", 200, **replay),
        bare_gather(log, 200),
        at_most=4,
    )
    for name in ORACLES:
        compared(
            f"{USERS:,} users of {name} against as many CartPoles",
            vector(f"recgym/{name}-v0", 200),
            vector(CARTPOLE, 200),
            at_least=0.2,
        )
    compared(
        "oracle of 100,000 items against one of 1,000",
        vector("recgym/OracleBoredom-v0", 200, n_items=100_000),
        vector("recgym/OracleBoredom-v0", 200),
        at_most=1,
    )
    report_memory(
        "bytes of a further replayed user, against its state", "recgym/Replay-v0", **replay
    )
    report_memory("bytes of a further oracle user, against its state", "recgym/OracleBoredom-v0")
    kept = gymnasium.make("recgym/Replay-v0", **replay)
    tracemalloc.start()
    others = [gymnasium.make("recgym/Replay-v0", **replay) for _ in range(64)]
    each = tracemalloc.get_traced_memory()[0] / len(others)
    tracemalloc.stop()
    columns = sum(column.bytes for column in kept.unwrapped.log.manifest.columns.values())
    report(
        "bytes of a further replay environment, against its log", [(each, columns)], at_most=0.01
    )
    collected = [(seconds(lambda: recgym.collect(ORACLE, replace=True)), 10.0) for _ in range(3)]
    report("seconds to write the mixed log of 8,000 sessions", collected, at_most=1)


if __name__ == "__main__":
    main()
