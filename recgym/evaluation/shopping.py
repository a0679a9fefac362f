"""An agent and a shop: what it says for each goal, and what that is truly worth."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recgym.errors import InvalidArgument, printable
from recgym.evaluation.closed_loop import (
    Trace,
    batches,
    envs_of,
    joined,
    parts_of,
    replayed,
    walked,
)

STEPS = 100  # that a shopper has at most
QUICKEST = 3  # steps of a purchase: search, click a product, buy
LONGEST = 4000  # characters of an action: the rest is cut off, and no shop would understand it


class Worth(NamedTuple):
    """What was reached for each goal."""

    rewards: NDArray[np.float64]
    bought: NDArray[np.bool_]
    invalid: NDArray[np.int64]  # steps that were not understood


def shopped(
    env_id: str, agent: Any, goals: int, progress: Callable[[float], None], **options: Any
) -> Trace:
    """Let an agent shop for each of the first goals once, until it has bought or may not go on.

    It is asked in the place of those only who still shop.
    """
    parts = []
    for some in batches(goals):
        envs = envs_of(env_id, some, steps=STEPS, **options)
        so_far = partial(_progress, progress, some.start, goals)
        begun = envs.reset(seed=some.start, options={"goal": np.arange(some.start, some.stop)})
        parts.append(walked(envs, begun, partial(_say, agent, so_far)))
    return joined(parts)


def worth(env_id: str, trace: Trace, **options: Any) -> Worth:
    """What it is worth to say just this for the first goals; the trace must fit them."""
    count = len(trace[0])
    found = Worth(np.zeros(count), np.zeros(count, bool), np.zeros(count, np.int64))
    for some, part in parts_of(trace):
        envs = envs_of(env_id, some, steps=STEPS, **options)
        envs.reset(seed=some.start, options={"goal": np.arange(some.start, some.stop)})
        for there, rewards, infos in replayed(envs, part):
            found.rewards[some] += there * rewards
            found.bought[some] |= there & (infos["page"] == "done")
            found.invalid[some][there] = infos["invalid"][there]
    return found


def said(agent: Any, observations: Any, infos: Mapping[str, Any]) -> NDArray[Any]:
    """What an agent says, held to be one text for each shopper."""
    given = agent.act(observations, infos)
    texts = np.asarray(given, object)
    if texts.shape != (len(observations),) or not all(isinstance(one, str) for one in texts):
        raise InvalidArgument(
            f"{type(agent).__name__}.act returns one text for each of {len(observations)} "
            "shoppers, such as search[red shoes] or click[buy now], and it returned "
            f"{printable(repr(given))}."
        )
    return np.array([_as_kept(text) for text in texts], object)


def _say(
    agent: Any,
    progress: Callable[[int], None],
    observations: Any,
    infos: dict[str, Any],
    there: NDArray[np.bool_],
) -> NDArray[Any]:
    """What is said by those who are there; nothing by others."""
    progress(int((~there).sum()))
    texts = np.full(len(there), "", object)
    known = {key: values[there] for key, values in infos.items()}
    texts[there] = said(agent, np.array(observations, object)[there], known)
    return texts


def _progress(progress: Callable[[float], None], before: int, goals: int, over: int) -> None:
    progress((before + over) / goals)


def _as_kept(text: str) -> str:
    """A text as a file can keep it: not too long, and without halves of characters."""
    return text[:LONGEST].encode("utf-8", "replace").decode()
