"""What shoppers did in a shop, as Minari datasets."""

import copy
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from minari.dataset.minari_dataset import MinariDataset

from recgym.envs.batch import known_only
from recgym.envs.shop import ARGUMENTS, ShopEnv
from recgym.episodes import Episodes
from recgym.errors import BadRawData, InvalidArgument, MissingExtra, UnknownName, printable
from recgym.export import Progress, dataset_id, made_here, new_storage, writing_dataset
from recgym.log import Split
from recgym.shop.catalogue import read_json, text_of

NAMES = ("rule", "scripted", "oracle")
EPISODES: dict[Split, int] = {"train": 2000, "validation": 500}
FIRST_SEEDS = {"train": 0, "validation": 10**7}
SHOP = "recgym.envs.shop:ShopEnv"
TRIES = 20_000  # sessions of an agent, at most, of which the best are kept
_BLOCK, _TOGETHER = 500, 100  # episodes that are written at once; shoppers that are asked at once
_GENERATED, _APART = 5 * 10**7, 10**7  # seeds of an agent's goals, and of those of its next seed
_STEPS = ("actions", "rewards", "terminations", "truncations")

Session = dict[str, list[Any]]  # states with their infos, and steps


def demonstrate(
    env_id: str,
    shopper: str = "scripted",
    split: Split = "train",
    *,
    sessions: int | None = None,
    name: str | None = None,
    replace: bool = False,
    progress: Progress = lambda stage, share: None,
    **options: Any,
) -> MinariDataset:
    """Write `recgym/<name>/<shopper>…-v0`: what a shopper did for goals of that split.

    `name` is that of the environment unless given, and has to be given with options of its own.
    Who gives up leaves a session that is truncated.
    """
    try:
        from recgym.shop.shoppers import SHOPPERS
    except ImportError:
        raise MissingExtra("The shop", "shop") from None
    if shopper not in SHOPPERS:
        raise UnknownName("shopper", shopper, SHOPPERS)
    if split not in EPISODES:
        raise InvalidArgument(
            f"Shoppers demonstrate on goals for {' and '.join(EPISODES)}, and '{printable(split)}' "
            "was given: goals of the test split are for agents to be scored by."
        )
    count = EPISODES[split] if sessions is None else _checked(sessions)
    env, spec = _shop(env_id, split, name, f"The shopper '{shopper}' shops", options)
    known = dataset_id(name or _named_after(env_id), shopper, split)

    def told() -> Iterator[list[Session]]:
        for first in range(0, count, _BLOCK):
            some = []
            for number in range(first, min(first + _BLOCK, count)):
                some.append(_session(env, SHOPPERS[shopper].shopper, FIRST_SEEDS[split] + number))
                progress(f"shopping for {known}", number / count)
            yield some

    about = f"{count:,} sessions of {env_id}, by a shopper who: {SHOPPERS[shopper].about}."
    return _written(known, env, spec, told(), replace, {
        "algorithm_name": shopper, "description": about, "split": split,
    })  # fmt: skip


def shopped(env: ShopEnv, shopper: str, seeds: Iterable[int]) -> Episodes:
    """What a shopper does for the goals of these seeds, written nowhere."""
    from recgym.shop.shoppers import SHOPPERS

    return _as_episodes([_session(env, SHOPPERS[shopper].shopper, seed) for seed in seeds])


def generate(
    env_id: str,
    agent: Any,
    *,
    sessions: int = 100,
    least: float = 1.0,
    tries: int = TRIES,
    seed: int = 0,
    algorithm: str = "",
    name: str | None = None,
    replace: bool = False,
    progress: Progress = lambda stage, share: None,
    **options: Any,
) -> MinariDataset:
    """Write `recgym/<name>/generated-v0`: sessions of an agent that earned so much, at least.

    The agent shops for training goals until so many of its sessions are kept, or it has tried often
    enough; which share was accepted is in the metadata.
    """
    count, most = _checked(sessions), _checked(tries)
    env, spec = _shop(env_id, "train", name, "An agent shops", options)
    known = dataset_id(name or _named_after(env_id), "generated", "train")
    kept: list[Session] = []
    tried = 0
    while len(kept) < count and tried < most:
        some = min(_TOGETHER, most - tried)
        first = _GENERATED + seed * _APART + tried
        for session in _together(env_id, some, first, agent, spec.kwargs):
            tried += 1
            if sum(session["rewards"]) >= least and len(kept) < count:
                kept.append(session)
                enough = tried
        progress(f"shopping for {known}: {len(kept):,} of {tried:,} sessions kept",
                 max(len(kept) / count, tried / most))  # fmt: skip
    if len(kept) < count:
        raise InvalidArgument(
            f"{len(kept):,} of {tried:,} sessions of the agent earned {least:g} or more, and "
            f"{count:,} are asked for: take a better agent, ask for less, or let it try more often."
        )
    about = (
        f"{count:,} sessions of {env_id} that earned {least:g} or more, of {enough:,} by an agent "
        "that was trained before."
    )
    return _written(known, env, spec, [kept], replace, {
        "algorithm_name": algorithm or type(agent).__name__, "description": about,
        "split": "train", "tried": enough, "acceptance": count / enough,
    })  # fmt: skip


def _checked(sessions: Any) -> int:
    """A number of sessions that can be had."""
    if not isinstance(sessions, int) or not 1 <= sessions <= 10**7:
        raise InvalidArgument(
            f"sessions is a whole number from 1 to 10,000,000, and {printable(repr(sessions))} was "
            "given."
        )
    return sessions


def _shop(
    env_id: str, split: Split, name: str | None, who: str, options: dict[str, Any]
) -> tuple[ShopEnv, EnvSpec]:
    """A shop for goals of a split, and what makes it again."""
    spec = copy.deepcopy(gymnasium.spec(env_id))
    if spec.entry_point != SHOP:
        raise InvalidArgument(
            f"{who} in words, and '{env_id}' is no shop: choose recgym/MiniShop-v0, or another one "
            "of `recgym envs`."
        )
    known_only("A shop", options, ARGUMENTS)
    if options.keys() - {"files"} and not name:
        raise InvalidArgument(
            f"'{env_id}' with options of its own is another environment: give its dataset a name "
            "of its own."
        )
    if options.get("files"):
        options["files"] = str(Path(options["files"]).resolve())  # as found from anywhere
    env = gymnasium.make(env_id, split=split, **options).unwrapped
    assert isinstance(env, ShopEnv)
    spec.kwargs |= options | {"split": split}
    return env, spec


def _written(
    known: str,
    env: ShopEnv,
    spec: EnvSpec,
    told: Iterable[list[Session]],
    replace: bool,
    about: dict[str, Any],
) -> MinariDataset:
    """A dataset of sessions, block by block."""
    rewards: list[float] = []
    with writing_dataset(known, replace) as folder:
        storage = new_storage(folder, env.observation_space, env.action_space, spec, "recgym")
        for some in told:
            rewards += [sum(session["rewards"]) for session in some]
            storage.append(_as_episodes(some))
        storage.update_metadata(made_here() | about | {
            "dataset_id": known,
            "nouns": env.metadata["nouns"],
            "catalogue": env.shoppers.shopping.shop.catalogue.sha256,
            "score": float(np.mean(rewards)),
            "success": float(np.mean(np.array(rewards) == 1)),
            "ref_min_score": 0.0,
            "ref_max_score": 1.0,
            "num_episodes_average_score": len(rewards),
            "eval_env_spec": spec.to_json(),
        })  # fmt: skip
    return minari.load_dataset(known)


def people(
    file: str | os.PathLike[str],
    goals: str | os.PathLike[str],
    name: str = "webshop",
    *,
    replace: bool = False,
) -> dict[Split, MinariDataset]:
    """Write `recgym/<name>/human…-v0` from WebShop's il_trajs_*.jsonl, what people did in its shop.

    `goals` is its human_goals.json, by whose order it splits: the first 500 are for testing, the
    next 1,000 for validation. Texts are as in the file, which has neither rewards, here 0, nor the
    last page, here empty.
    """
    order = read_json(Path(goals))
    if not isinstance(order, list) or not order:
        raise BadRawData(f"{goals} holds no list of goals: give WebShop's human_goals.json.")
    places = {text_of(goal): place for place, goal in reversed(list(enumerate(order)))}
    sessions: dict[Split, list[Session]] = {"train": [], "validation": [], "test": []}
    with Path(file).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            session, goal = _of_people(file, number, line)
            if goal not in places:
                raise BadRawData(
                    f"Line {number:,} of {file} is about a goal that {goals} does not have "
                    f"('{printable(goal[:60])}'): give two files of one download."
                )
            at = places[goal]
            split: Split = "test" if at < 500 else "validation" if at < 1500 else "train"
            sessions[split].append(session)
    characters = {
        mark
        for told in sessions.values()
        for session in told
        for key in ("observations", "actions")
        for text in session[key]
        for mark in text
    }
    longest = max(len(text) for told in sessions.values() for session in told
                  for text in session["observations"])  # fmt: skip
    space = spaces.Text(max(longest, 1), min_length=0, charset="".join(sorted(characters)))
    return {split: _by_people(dataset_id(name, "human", split), split, told, space, replace)
            for split, told in sessions.items() if told}  # fmt: skip


def _by_people(
    known: str,
    split: Split,
    sessions: list[Session],
    space: spaces.Text,
    replace: bool,
) -> MinariDataset:
    with writing_dataset(known, replace) as folder:
        storage = new_storage(folder, space, space, None, "recgym")
        storage.append(_as_episodes(sessions))
        storage.update_metadata(made_here() | {
            "dataset_id": known,
            "algorithm_name": "people",
            "description": f"{len(sessions):,} sessions of people in WebShop's own shop; their "
            "rewards are not known.",
            "split": split,
        })  # fmt: skip
    return minari.load_dataset(known)


def _of_people(file: str | os.PathLike[str], number: int, line: str) -> tuple[Session, str]:
    """A session of a line, and its goal as human_goals.json has it."""
    try:
        told = json.loads(line)
        states, known = told["states"], told["available_actions"]
        actions = [str(action) for action in told["actions"]]
        if not len(states) == len(known) == len(actions) > 0:
            raise ValueError(f"{len(states)} states, {len(actions)} actions")
        goal = states[0].lower().replace('"', "").replace("'", "")
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        raise BadRawData(
            f"Line {number:,} of {file} is no session ({printable(str(problem))}): give WebShop's "
            "il_trajs_finalized_images.jsonl as it was downloaded."
        ) from None
    for part in ("webshop\ninstruction:", "\n[button] search [button_]"):
        goal = goal.replace(part, "")
    goal = goal.strip().partition(", and price lower than")[0]
    last = [False] * (len(actions) - 1) + [True]
    infos = [{"goal": goal, "page": "", "actions": json.dumps(some, ensure_ascii=False),
              "invalid": 0, "purchase": ""} for some in (*known, [])]  # fmt: skip
    return {
        "observations": [*map(str, states), ""], "infos": infos, "actions": actions,
        "rewards": [0.0] * len(actions), "terminations": last,
        "truncations": [False] * len(actions),
    }, goal  # fmt: skip


def _session(env: ShopEnv, shopper: Any, seed: int) -> Session:
    """One session: states with their infos, and steps."""
    text, info = env.reset(seed=seed)
    shoppers = env.shoppers
    shopping = shoppers.shopping
    goal = shopping.goals[shoppers.goal[0]]
    doing = shopper(shopping.shop, goal, np.random.default_rng((seed, 1)))
    found = _begun(text, info)
    action, over = next(doing, None), False
    while action is not None and not over:
        text, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        _add(found, text, info, action, reward, terminated, truncated)
        try:
            action = doing.send(shoppers.places[0])
        except StopIteration:
            action = None
    found["truncations"][-1] |= not found["terminations"][-1]
    return found


def _together(
    env_id: str, count: int, seed: int, agent: Any, options: dict[str, Any]
) -> list[Session]:
    """Sessions of an agent, side by side; it is asked in the place of those who still shop."""
    envs = gymnasium.make_vec(env_id, count, vectorization_mode="vector_entry_point", **options)
    texts, infos = envs.reset(seed=seed)
    found = [_begun(*state) for state in zip(texts, _each(infos, count), strict=True)]
    there = np.arange(count)
    while len(there):
        actions = np.full(count, "", object)
        known = {key: values[there] for key, values in infos.items() if key[0] != "_"}
        actions[there] = agent.act(np.array(texts, object)[there], known)
        texts, rewards, terminated, truncated, infos = envs.step(actions)
        states = [*zip(texts, _each(infos, count), strict=True)]
        for shopper in there.tolist():
            _add(found[shopper], *states[shopper], actions[shopper], float(rewards[shopper]),
                 bool(terminated[shopper]), bool(truncated[shopper]))  # fmt: skip
        there = there[~(terminated | truncated)[there]]
    envs.close()
    return found


def _begun(text: str, info: dict[str, Any]) -> Session:
    """A session in which nothing was done yet."""
    session: Session = {key: [] for key in _STEPS}
    return session | {"observations": [text], "infos": [info]}


def _add(session: Session, *told: Any) -> None:
    """What was done, and what came of it."""
    for key, value in zip(("observations", "infos", *_STEPS), told, strict=True):
        session[key].append(value)


def _each(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The infos of each shopper."""
    return [{key: values[shopper] for key, values in infos.items() if key[0] != "_"}
            for shopper in range(count)]  # fmt: skip


def _as_episodes(told: list[Session]) -> Episodes:
    import pyarrow as pa

    def joined(key: str) -> list[Any]:
        return [value for session in told for value in session[key]]

    def text(values: list[str]) -> Any:
        return pa.array(values, pa.large_string())

    infos = joined("infos")
    return Episodes(
        np.array([len(session["actions"]) for session in told]),
        {
            "actions": text(joined("actions")),
            "rewards": np.array(joined("rewards"), float),
            "terminations": np.array(joined("terminations"), bool),
            "truncations": np.array(joined("truncations"), bool),
        },
        {
            "observations": text(joined("observations")),
            "infos/invalid": np.array([info["invalid"] for info in infos]),
            **{f"infos/{key}": text([info[key] for info in infos])
               for key in ("goal", "page", "actions", "purchase")},
        },
    )  # fmt: skip


def _named_after(env_id: str) -> str:
    """MiniShop -> minishop."""
    return env_id.rpartition("/")[2].rpartition("-v")[0].lower()
