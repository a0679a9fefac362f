"""An agent and users who answer: what it recommends them, and what that is truly worth."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from recgym.errors import BadPredictions, InvalidArgument, printable

USERS = 2000  # on whom an agent is evaluated
FIRST_SEEDS = {"test": 3 * 10**7, "validation": 4 * 10**7}  # those of the reference scores first
SIMULATOR, SIMULATED = "recgym/LLM-v0", 200  # users that a language model answers for: so many
_TOGETHER = 500  # users that are stepped at once

Trace = tuple[NDArray[np.int64], NDArray[Any]]  # how many steps each user took; what was done
_Act = Callable[[Any, dict[str, Any], NDArray[np.bool_]], NDArray[Any]]  # also: who is there


def acted(
    env_id: str,
    agent: Any,
    seed: int,
    users: int,
    progress: Callable[[float], None],
    **options: Any,
) -> Trace:
    """Let an agent recommend to held-out users until each episode is over."""
    parts = []
    for some in batches(users):
        envs = envs_of(env_id, some, **options)
        act = partial(_recommend, agent, _n_items(envs))
        parts.append(walked(envs, envs.reset(seed=seed + some.start), act))
        progress(some.stop / users)
    steps, items = joined(parts)
    return steps, items.astype(np.int32)


def returns_of(env_id: str, trace: Trace, seed: int, **options: Any) -> NDArray[np.float64]:
    """The return of each user who is shown just these items; the trace must fit the users."""
    parts = []
    for some, (steps, items) in parts_of(trace):
        envs = envs_of(env_id, some, **options)
        if not 0 <= items.min() <= items.max() < _n_items(envs):
            raise BadPredictions(f"A trace names items that {env_id} does not have.")
        envs.reset(seed=seed + some.start)
        again = replayed(envs, (steps, items.astype(np.int64)))
        parts.append(sum(there * rewards for there, rewards, _ in again))
    return np.concatenate(parts)


# ---------------------------------------------------------------------------- episodes of a batch


def batches(users: int) -> Iterator[slice]:
    """The users that are stepped at once, and then the next."""
    for first in range(0, users, _TOGETHER):
        yield slice(first, min(first + _TOGETHER, users))


def envs_of(env_id: str, some: slice, **options: Any) -> VectorEnv[Any, Any, Any]:
    """An environment for some users."""
    count = some.stop - some.start
    return gymnasium.make_vec(env_id, count, vectorization_mode="vector_entry_point", **options)


def walked(envs: VectorEnv[Any, Any, Any], begun: tuple[Any, dict[str, Any]], act: _Act) -> Trace:
    """What is done with each user until the episode is over."""
    observations, infos = begun
    there, done, alive = np.ones(envs.num_envs, bool), [], []
    while there.any():
        plain = {key: values for key, values in infos.items() if not key.startswith("_")}
        actions = act(observations, plain, there)
        _ask_about(envs, there)
        observations, _, terminated, truncated, infos = envs.step(actions)
        done.append(actions)
        alive.append(there)
        there = there & ~(terminated | truncated)
    envs.close()
    acted = np.stack(alive, 1)
    return acted.sum(1), np.stack(done, 1)[acted]


def replayed(
    envs: VectorEnv[Any, Any, Any], trace: Trace
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float64], dict[str, Any]]]:
    """Do all of it again: who is there in each step, what everybody earns, and the infos."""
    steps, done = trace
    firsts = np.cumsum(steps) - steps
    for step in range(int(steps.max())):
        there, last = step < steps, step == steps - 1
        actions = done[firsts + np.minimum(step, steps - 1)]
        _ask_about(envs, there)
        _, rewards, terminated, truncated, infos = envs.step(actions)
        if ((terminated | truncated) != last)[there].any():
            raise BadPredictions(
                f"The trace does not fit {envs.spec.id if envs.spec else 'its environment'}: an "
                "episode goes on after its end there, or stops before it. Evaluate again."
            )
        yield there, rewards, infos
    envs.close()


def _ask_about(envs: VectorEnv[Any, Any, Any], there: NDArray[np.bool_]) -> None:
    """A language model is not asked about users who have left."""
    if envs.spec is not None and envs.spec.id == SIMULATOR:
        envs.unwrapped.users.there = there


def joined(parts: Sequence[Trace]) -> Trace:
    """The trace of all batches."""
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def parts_of(trace: Trace) -> Iterator[tuple[slice, Trace]]:
    """The users of each batch, and their part of a trace."""
    steps, done = trace
    if not len(steps) or steps.min() < 1 or len(done) != steps.sum():
        raise BadPredictions("A trace has one or more actions for each user, and this one has not.")
    offsets = np.concatenate([[0], np.cumsum(steps)])
    for some in batches(len(steps)):
        yield some, (steps[some], done[offsets[some.start] : offsets[some.stop]])


# ---------------------------------------------------------------------------- users of a simulator


def simulator_env(simulator: str) -> gymnasium.Env[Any, Any]:
    """Users of whom the simulator answers that is there to teach."""
    gymnasium.make(SIMULATOR, simulator=simulator, role="scoring")  # is there, too
    return gymnasium.make(SIMULATOR, simulator=simulator, role="training")


def simulated(
    agent: Any, simulator: str, progress: Callable[[float], None], users: int = SIMULATED
) -> dict[str, float]:
    """What an agent is worth to users of whom a language model answers, in two simulators.

    One of them may have taught the agent, the other learned from users of its own: an agent that
    has learned what is wrong with the first is worth less in the second.
    """
    found: dict[str, float] = {}
    seed = FIRST_SEEDS["test"]
    for role in ("training", "scoring"):
        asked = {"simulator": simulator, "role": role}
        steps, items = acted(SIMULATOR, agent, seed, users, progress, **asked)
        returns = returns_of(SIMULATOR, (steps, items), seed, **asked)
        found |= {f"return ({role})": float(returns.mean()),
                  f"coverage ({role})": float(len(np.unique(items)))}  # fmt: skip
    return found | {"return (gap)": found["return (training)"] - found["return (scoring)"]}


# -------------------------------------------------------------------------------- what is answered


def recommended(agent: Any, observations: Any, infos: Any, n_items: int) -> NDArray[np.int64]:
    """What an agent recommends, held to be one item for each user."""
    actions = np.asarray(agent.act(observations, infos))
    if actions.shape != (len(observations),) or actions.dtype.kind not in "iu":
        raise InvalidArgument(
            f"{type(agent).__name__}.act returns one item for each of {len(observations)} users, "
            f"as whole numbers, and it returned shape {actions.shape} and type {actions.dtype}."
        )
    if actions.min() < 0 or actions.max() >= n_items:
        raise InvalidArgument(
            f"{type(agent).__name__}.act returns items from 0 to {n_items - 1}, and it returned "
            f"{printable(str(actions.min()))} to {printable(str(actions.max()))}."
        )
    return actions.astype(np.int64)


def _recommend(
    agent: Any, n_items: int, observations: Any, infos: dict[str, Any], there: NDArray[np.bool_]
) -> NDArray[np.int64]:
    return recommended(agent, observations, infos, n_items)


def _n_items(envs: VectorEnv[Any, Any, Any]) -> int:
    return int(envs.single_action_space.n)  # type: ignore[attr-defined]
