"""Roll-outs as Minari datasets: what a policy did, and how probable it was to do so."""

import copy
import re
from typing import Any, Protocol

import gymnasium
import minari
import numpy as np
from gymnasium.vector import VectorEnv
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.envs.batch import known_only
from recgym.envs.frozen import as_json, scores_of
from recgym.envs.oracle import RESPONSES, Oracle
from recgym.envs.policies import MIXED, TIERS, LoggingPolicy
from recgym.episodes import Episodes, compress
from recgym.errors import InvalidArgument, UnknownName, printable
from recgym.export import Progress, dataset_id, made_here, new_storage, writing_dataset
from recgym.log import Split

SESSIONS: dict[Split, int] = {"train": 8000, "validation": 1000, "test": 1000}
FIRST_SEEDS = {"train": 0, "validation": 10**7, "test": 2 * 10**7}  # users of their own
POLICIES = (*TIERS, "mixed")
_ORACLE = "recgym.envs.oracle:OracleEnv"
_TOGETHER = 2000  # users that are stepped at once


def collect(
    env_id: str,
    policy: str = "mixed",
    split: Split = "train",
    *,
    sessions: int | None = None,
    name: str | None = None,
    replace: bool = False,
    progress: Progress = lambda stage, share: None,
    **parameters: Any,
) -> MinariDataset:
    """Write `recgym/<name>/<policy>…-v0`: what a logging policy did with users of an oracle.

    `name` is that of the environment unless given, and has to be given with parameters. Without
    `sessions`, there are 8,000 for training, and 1,000 for validation and for test. The infos say
    how probable each action was; the first have nothing to say it of.
    """
    if policy not in POLICIES:
        raise UnknownName("logging policy", policy, POLICIES)
    if split not in tuple(SESSIONS):
        raise UnknownName("split of roll-outs", split, SESSIONS)
    count = SESSIONS[split] if sessions is None else sessions
    most = FIRST_SEEDS["validation"]
    if not isinstance(count, int) or not 1 <= count <= most:
        raise InvalidArgument(
            f"sessions is a whole number from 1 to {most:,}, and {printable(repr(count))} was "
            "given."
        )
    if parameters and not name:
        raise InvalidArgument(
            f"'{env_id}' with parameters of its own is another environment: give its dataset a "
            "name of its own."
        )
    env_spec = copy.deepcopy(gymnasium.spec(env_id))
    if env_spec.entry_point != _ORACLE:
        raise InvalidArgument(
            f"The policy '{policy}' knows oracle users, and those of '{env_id}' are not: choose "
            "an environment whose name begins with recgym/Oracle."
        )
    known_only("An oracle", parameters, Oracle.__dataclass_fields__)
    known = dataset_id(name or _named_after(env_id), policy, split)
    envs = gymnasium.make_vec(
        env_id,
        num_envs=min(count, _TOGETHER),
        vectorization_mode="vector_entry_point",
        **parameters,
    )
    users = envs.unwrapped.users
    env_spec.kwargs |= {key: getattr(users.oracle, key) for key in parameters}
    tiers = [TIERS[tier] for tier in (MIXED if policy == "mixed" else (policy,))]
    scores = scores_of(env_id, users.oracle)
    about = made_here() | {
        "dataset_id": known,
        "algorithm_name": policy,
        "description": f"{count:,} sessions of {env_id}; recommended are "
        + "; or ".join(tier.about for tier in tiers) + ".",
        "ref_min_score": scores["random"]["mean"],
        "ref_max_score": scores["planner"]["mean"],
        "num_episodes_average_score": count,
        "split": split,
        "layout": {part: list(places) for part, places in users.layout.items()},
        "behaviours": list(RESPONSES),
        "privileged": any(tier.sees for tier in tiers),
        "oracle": as_json(users.oracle),
        "seeds": [FIRST_SEEDS[split], FIRST_SEEDS[split] + count],
        "eval_env_spec": env_spec.to_json(),
    }  # fmt: skip
    with writing_dataset(known, replace) as folder:
        storage = new_storage(
            folder, envs.single_observation_space, envs.single_action_space, env_spec, "recgym"
        )
        storage.update_metadata(about)
        for first in range(0, count, envs.num_envs):
            progress(f"rolling out {known}", first / count)
            some = min(envs.num_envs, count - first)
            seed = FIRST_SEEDS[split] + first
            storage.append(rolled_out(envs, LoggingPolicy(*tiers), seed).take(np.arange(some)))
    envs.close()
    return minari.load_dataset(known)


class Logger(Protocol):
    """A policy that says how probable its actions were."""

    def begin(self, users: Any, seeds: NDArray[np.uint64]) -> None:
        """Begin a session of each user, out of draws from these seeds."""

    def act(self, observations: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """An action for each user, and the probability with which it was chosen."""


def rolled_out(envs: VectorEnv[Any, Any, Any], policy: Logger, seed: int) -> Episodes:
    """One episode of each user of a vector environment with flat observations."""
    observation, info = envs.reset(seed=seed)
    policy.begin(envs.unwrapped.users, seed + np.arange(envs.num_envs, dtype=np.uint64))
    there = np.ones(envs.num_envs, bool)
    unknown = np.full(envs.num_envs, np.nan)
    states = [_state(observation, info, unknown)]
    steps: list[tuple[NDArray[Any], ...]] = []
    alive = []
    while there.any():
        actions, propensities = policy.act(observation)
        observation, rewards, terminated, truncated, info = envs.step(actions)
        alive.append(there)
        steps.append((actions.astype(np.int32), rewards, terminated, truncated))
        states.append(_state(observation, info, propensities))
        there = there & ~(terminated | truncated)
    acted = np.stack(alive, 1)  # (users, steps)
    seen = np.concatenate([np.ones((envs.num_envs, 1), bool), acted], axis=1)
    names = ("actions", "rewards", "terminations", "truncations")
    episodes = Episodes(
        acted.sum(1),
        {
            key: np.stack(c, 1)[acted]
            for key, c in zip(names, zip(*steps, strict=True), strict=True)
        },
        {key: np.stack([state[key] for state in states], 1)[seen] for key in states[0]},
        dtypes={"actions": np.dtype(np.int64)},
    )
    compress(episodes, envs.single_observation_space)
    return episodes


def _state(
    observation: NDArray[Any], info: dict[str, Any], propensities: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    known = {key: values for key, values in info.items() if not key.startswith("_")}
    infos = known | {"propensity": propensities}
    return {"observations": observation} | {f"infos/{key}": infos[key] for key in infos}


def _named_after(env_id: str) -> str:
    """recgym/OracleBoredom-v0 is oracle-boredom in the names of datasets."""
    name = env_id.rpartition("/")[2].rpartition("-v")[0]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
