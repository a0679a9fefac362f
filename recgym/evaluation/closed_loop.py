"""An agent and users who answer: what it recommends them, and what that is truly worth."""

from collections.abc import Callable
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

Trace = tuple[NDArray[np.int64], NDArray[np.int32]]  # how many steps each user took; what was shown


def acted(
    env_id: str,
    agent: Any,
    seed: int,
    users: int,
    progress: Callable[[float], None],
    **options: Any,
) -> Trace:
    """Let an agent recommend to held-out users until each episode is over."""
    steps, items = [], []
    for first in range(0, users, _TOGETHER):
        envs = _envs(env_id, min(_TOGETHER, users - first), **options)
        observations, infos = envs.reset(seed=seed + first)
        there, shown, alive = np.ones(envs.num_envs, bool), [], []
        while there.any():
            actions = recommended(agent, observations, _plain(infos), _n_items(envs))
            observations, _, terminated, truncated, infos = envs.step(actions)
            shown.append(actions)
            alive.append(there)
            there = there & ~(terminated | truncated)
        envs.close()
        acted = np.stack(alive, 1)
        steps.append(acted.sum(1))
        items.append(np.stack(shown, 1)[acted].astype(np.int32))
        progress((first + len(acted)) / users)
    return np.concatenate(steps), np.concatenate(items)


def returns_of(env_id: str, trace: Trace, seed: int, **options: Any) -> NDArray[np.float64]:
    """The return of each user who is shown just these items; the trace must fit the users."""
    steps, items = trace
    offsets = np.concatenate([[0], np.cumsum(steps)])
    if len(items) != offsets[-1] or not len(steps) or steps.min() < 1:
        raise BadPredictions("A trace has one or more actions for each user, and this one has not.")
    returns = np.zeros(len(steps))
    for first in range(0, len(steps), _TOGETHER):
        some = slice(first, min(first + _TOGETHER, len(steps)))
        envs = _envs(env_id, some.stop - first, **options)
        if not 0 <= items.min() <= items.max() < _n_items(envs):
            raise BadPredictions(f"A trace names items that {env_id} does not have.")
        envs.reset(seed=seed + first)
        over = np.zeros(envs.num_envs, bool)
        for step in range(int(steps[some].max())):
            places = np.minimum(offsets[:-1][some] + step, offsets[1:][some] - 1)
            _, rewards, terminated, truncated, _ = envs.step(items[places].astype(np.int64))
            there = step < steps[some]
            if (there & over).any():
                break
            returns[some] += rewards * there
            over = over | ((terminated | truncated) & there)
            if (there & (step == steps[some] - 1) & ~over).any():
                break
        else:
            envs.close()
            continue
        raise BadPredictions(
            f"The trace does not fit the users of {env_id}: one of them was shown more or fewer "
            "items than they stayed for. Evaluate again."
        )
    return returns


def simulator_env(simulator: str) -> gymnasium.Env[Any, Any]:
    """Users of whom the simulator answers that is there to teach."""
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


def _envs(env_id: str, count: int, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec(env_id, count, vectorization_mode="vector_entry_point", **options)


def _n_items(envs: VectorEnv[Any, Any, Any]) -> int:
    return int(envs.single_action_space.n)  # type: ignore[attr-defined]


def _plain(infos: dict[str, Any]) -> dict[str, Any]:
    return {key: values for key, values in infos.items() if not key.startswith("_")}
