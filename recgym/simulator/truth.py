"""How a simulator's rewards rank items, held against what users of an oracle would truly do."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from recgym.agent import View
from recgym.envs.oracle import SKIP, OracleUsers
from recgym.envs.policies import HELD_OUT, MIXED, TIERS, LoggingPolicy
from recgym.errors import InvalidArgument
from recgym.simulator.feedback import Feedback
from recgym.simulator.measures import Found, of_users, spearman
from recgym.simulator.moments import HISTORY, last_taken

_RANKED = 20  # items of a moment
_EVERY = 4  # steps from a moment to the next


def truth(
    user: Feedback, env_id: str, kwargs: Mapping[str, Any], seed: int = 0, users: int = 50,
    steps: int = 20,
) -> Found:  # fmt: skip
    """Spearman's correlation of rewards with true probabilities, on users of the mixed policies.

    Beside it, that of the mean probability of all others: what is known of items alone.
    """
    envs = gymnasium.make_vec(
        env_id, num_envs=users, vectorization_mode="vector_entry_point", **kwargs
    )
    world = envs.unwrapped.users
    if not isinstance(world, OracleUsers) or world.n_items != user.n_items:
        raise InvalidArgument(
            f"The truth about a simulator of {user.n_items:,} items is known in an Oracle "
            f"environment of as many, and {env_id} is none: give that of its data."
        )
    view = View(world.n_items, {name: slice(*ends) for name, ends in world.layout.items()}, SKIP)
    rng, first = np.random.default_rng(seed), HELD_OUT + users * seed
    policy = LoggingPolicy(*(TIERS[tier] for tier in MIXED))
    envs.reset(seed=first)
    policy.begin(world, first + np.arange(users, dtype=np.uint64))
    there = np.ones(users, bool)
    parts = []
    for step in range(steps):
        if step % _EVERY == 0:
            histories = last_taken(view.consumed(world.observe()), world.n_items, HISTORY)
            rows = np.flatnonzero(there & (histories[:, 0] != world.n_items))
            items = rng.integers(world.n_items, size=(users, _RANKED))
            every = world.accepting(np.tile(np.arange(world.n_items), (users, 1)))
            true = np.take_along_axis(every, items, 1)
            others = (every.sum(0)[items] - true) / max(users - 1, 1)
            parts.append([part[rows] for part in (histories, items, true, others)] + [rows])
        _, _, terminated, truncated, _ = envs.step(policy.act(world.observe())[0])
        there &= ~(terminated | truncated)
    envs.close()
    histories, items, true, others, who = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return {
        "users": len(np.unique(who)),
        "moments": len(who),
        "rank correlation": of_users(spearman(user.rewards(histories, items), true), who),
        "of items alone": of_users(spearman(others, true), who),
    }
