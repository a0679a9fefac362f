"""`recgym envs | play | check`: the environments are listed, walked through and held to rules."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from rich.table import Table
from tyro.conf import Positional

from recgym.agent import agent_homes, agent_names, load_agent
from recgym.checks import check_agent, check_dataset, check_env, check_vector_env
from recgym.cli_shop import shop_chooser
from recgym.envs import ORACLES, REPLAYS, SHOPS, SIMULATED
from recgym.envs.batch import SingleEnv
from recgym.envs.frozen import frozen, normalised
from recgym.envs.oracle import OracleEnv
from recgym.envs.policies import reference_policies
from recgym.envs.replay import Replay
from recgym.envs.shop import ShopEnv
from recgym.errors import InvalidArgument, RecGymError, UnknownName
from recgym.export import exact_scores, local_dataset
from recgym.home import home, log_names
from recgym.runs import AGENT, account_of, run_folders, run_named
from recgym.terminal import ERR, OUT, Command, bars, command, options_from, plain

Chooser = Callable[[Any, dict[str, Any]], int | None]  # None: no more
_SUGGESTED = 10
_AGENTS = "Give a run of `recgym train`, or an agent that need not learn as package.module:Class."


@dataclass(frozen=True)
class _Envs:
    """The environments: what they ask, what they need, and what reference policies earn there."""

    json: bool = False  # print JSON


def _envs(options: _Envs) -> None:
    with bars() as progress:
        progress("looking at logs", None)
        oracles = [_oracle(f"recgym/{name}-v0", about) for name, (about, _) in ORACLES.items()]
        replays = [_replay(f"recgym/{data}Replay-v0", log) for data, (log, _) in REPLAYS.items()]
        simulated = [_simulated(f"recgym/{data}LLM-v0", dataset)
                     for data, (_, dataset) in SIMULATED.items()]  # fmt: skip
    shops = [_shop(name) for name in SHOPS]
    if options.json:
        print(json.dumps(oracles + replays + simulated + shops, indent=1))
        return
    _print_envs(
        "Users whose every answer is known",
        ("environment", "what it asks of an agent", "random", "observer", "planner"),
        [(one["id"], one["question"], *_means(one, "random", "observer", "planner"))
         for one in oracles],
    )  # fmt: skip
    _print_envs(
        "Logged users, replayed: what is chosen next? No action changes any later state",
        ("environment", "log", "items", "random", "logged"),
        [(one["id"], one["data"], f"{one['items']:,}", *_means(one, "random", "logged"))
         if one["scores"] else (one["id"], one["data"], "—", "", "")
         for one in replays],
    )  # fmt: skip
    _print_envs(
        "Users that a language model answers for, once it is fitted",
        ("environment", "data", "fitted"),
        [(one["id"], one["data"], "yes" if one["fitted"] else "—") for one in simulated],
    )
    _print_envs(
        "Shops: buy what is asked for in words",
        ("environment", "products", "needs"),
        [(one["id"], one["data"], one["needs"]) for one in shops],
    )
    OUT.print(
        "Observations are a Box of the last 25 items and how each was answered (replay: of the "
        "last 10 items consumed; language models: of the last 10 taken), actions Discrete(items): "
        "one item.\n"
        "Scores are mean returns; of replays, in the test split. —: no such log yet; "
        "gymnasium.make names the command that builds it. recgym/Replay-v0 replays any other "
        "(log=NAME), recgym/LLM-v0 asks any other simulator (simulator=NAME). In shops, both are "
        "texts, or actions numbers with numbered=True.",
        highlight=False,
    )


def _print_envs(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(
            heading,
            no_wrap=place != 1 or heading == "log",
            justify="right" if place > 1 else "left",
        )
    for row in rows:
        table.add_row(*row)
    OUT.print(table)
    OUT.print()


def _means(row: dict[str, Any], *names: str) -> tuple[str, ...]:
    return tuple(f"{row['scores'][name]:.2f}" for name in names)


def _oracle(env_id: str, question: str) -> dict[str, Any]:
    scores = {name: score["mean"] for name, score in frozen()[env_id]["scores"].items()}
    env = gymnasium.make(env_id)
    return {
        "id": env_id,
        "data": "embedded",
        "question": question,
        "observation_space": str(env.observation_space),
        "action_space": str(env.action_space),
        "items": int(env.action_space.n),  # type: ignore[attr-defined]
        "scores": scores,
    }


def _replay(env_id: str, name: str) -> dict[str, Any]:
    row = {
        "id": env_id,
        "data": name,
        "question": "What does a logged user choose next? No action changes any later state.",
        "build": gymnasium.spec(env_id).kwargs["build"],
        "observation_space": "",
        "action_space": "",
        "items": None,
        "scores": {},
    }
    try:
        if name not in log_names():
            return row
        env = gymnasium.make(env_id)
    except RecGymError as problem:
        ERR.print(f"[yellow]{name}:[/] {plain(str(problem))}", soft_wrap=True)
        return row
    replay: Replay = env.unwrapped.world  # type: ignore[attr-defined]
    scores = exact_scores(replay.sessions.rewards, replay.n_episodes, replay.n_items)
    return row | {
        "observation_space": str(env.observation_space),
        "action_space": str(env.action_space),
        "items": replay.n_items,
        "scores": dict(zip(("random", "logged"), scores, strict=True)),
    }


def _simulated(env_id: str, dataset: str) -> dict[str, Any]:
    name = gymnasium.spec(env_id).kwargs["simulator"]
    folder = home() / "simulators" / f"{name}-training"
    return {
        "id": env_id,
        "data": dataset,
        "question": "What would a language model take, in the place of a user?",
        "build": f"recgym simulator fit --data {dataset}",
        "simulator": name,
        "fitted": (folder / "simulator.safetensors").exists(),
        "scores": {},
    }


def _shop(name: str) -> dict[str, Any]:
    mine = name.startswith("WebShop")
    return {
        "id": f"recgym/{name}-v0",
        "data": "WebShop's, from files of yours" if mine else "embedded",
        "question": "Can it find, choose and buy what is asked for in words?",
        "needs": "files=FOLDER" if mine else "",
        "scores": {},
    }


# ---------------------------------------------------------------------------------------- playing


@dataclass(frozen=True)
class _Play:
    """Walk through an episode: recommend items yourself, or watch a policy or an agent do it.

    In a shop, go shopping, or watch a shopper: rule, scripted, oracle.
    """

    env: Positional[str]  # such as recgym/OracleBoredom-v0, or module:id where it is registered
    by: str = "you"  # or random, planner and so on, a run of `recgym train`, or module:Agent
    seed: int = 0  # of the user
    log: str | None = None  # for recgym/Replay-v0: its name, or its folder
    files: str | None = None  # for recgym/WebShop-v0: the folder of WebShop's files


def _play(options: _Play) -> None:
    given: dict[str, Any] = {"log": options.log} if options.log else {}
    given |= {"files": options.files} if options.files else {}
    spec = _spec(options.env)
    if "ansi" not in gymnasium.make(spec, **given).metadata.get("render_modes", ()):
        raise InvalidArgument(
            f"'{spec.id}' cannot be told in words: its metadata name no render mode 'ansi'."
        )
    env = gymnasium.make(spec, render_mode="ansi", **given)
    observation, info = env.reset(seed=options.seed)
    single = env.unwrapped
    if isinstance(single, ShopEnv):
        choose = shop_chooser(single, options.by, options.seed)
    else:
        choose = _chooser(env, options.by)
    before = str(env.render())
    print(before)
    total, over = 0.0, False
    while not over:
        item = choose(observation, info)
        if item is None:
            break
        observation, reward, terminated, truncated, info = env.step(item)
        total, over = total + float(reward), terminated or truncated
        after = str(env.render())
        print(after[len(before) :].removeprefix("\n"))
        before = after
    left = "It is bought." if isinstance(single, ShopEnv) else "The user left."
    print(f"Return {total:.2f}. {_ending(over, bool(over and terminated), left)}")
    known = frozen().get(spec.id)
    if known:
        scores = known["scores"]
        means = (
            f"{name} {score['mean']:.2f} ({normalised(scores, score['mean']):.0f})"
            for name, score in scores.items()
        )
        print(f"On average, policies earn (random = 0, planner = 100): {', '.join(means)}.")


def _spec(known: str, kind: str = "environment", others: Iterable[str] = ()) -> EnvSpec:
    """The environment of an id, or of module:id where that module registers it."""
    module, _, env_id = known.rpartition(":")
    try:
        if module:
            import_module(module)
    except ImportError as problem:
        raise InvalidArgument(f"The module of '{known}' cannot be imported: {problem}.") from None
    if env_id not in gymnasium.registry:
        raise UnknownName(kind, env_id, {*gymnasium.registry, *others})
    return gymnasium.spec(env_id)


def _ending(over: bool, terminated: bool, left: str) -> str:
    if not over:
        return "You stopped."
    return left if terminated else "The episode was cut here."


def _chooser(env: gymnasium.Env[Any, Any], by: str) -> Chooser:
    """Who recommends."""
    single = env.unwrapped
    policies = reference_policies() if isinstance(single, OracleEnv) else {}
    if by == "you":
        if not isinstance(single, SingleEnv):
            raise InvalidArgument(f"{env} has no titles to choose from: use --by random.")
        return _you(single)
    if by in policies:
        return lambda observation, info: int(policies[by](single.users)[0])  # type: ignore[attr-defined]
    if by == "random":
        env.action_space.seed(0)
        return lambda observation, info: int(env.action_space.sample())
    agent = _loaded(by) if ":" in by else _trained(by, env, {"you", "random", *policies})

    def act(observation: Any, info: dict[str, Any]) -> int:
        batch = {key: np.array([value]) for key, value in info.items()}
        return int(agent.act(np.asarray(observation)[None], batch)[0])

    return act


def _trained(name: str, env: gymnasium.Env[Any, Any], policies: set[str]) -> Any:
    """The agent of a run of `recgym train`."""
    try:
        folder = run_named(name)
    except UnknownName:
        known = policies | {path.name for path in run_folders()}
        raise UnknownName("policy or run", name, known, _AGENTS) from None
    account = account_of(folder)
    data = local_dataset(account.dataset)
    if (data.observation_space, data.action_space) != (env.observation_space, env.action_space):
        raise InvalidArgument(
            f"'{name}' has learned from {data.id}, whose observations or items are others than "
            "those here: name a run that has learned from data of this environment."
        )
    return load_agent(account.agent).load(folder / AGENT)


def _loaded(name: str) -> Any:
    """An agent of yours: an object with act(observations, infos), or a class that makes one."""
    if name in agent_homes().values():
        raise InvalidArgument(f"'{name}' acts when it has learned, and not before. {_AGENTS}")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        agent = found() if isinstance(found, type) else found
        agent.act  # noqa: B018
    except (ImportError, AttributeError, TypeError) as problem:
        raise InvalidArgument(
            f"The agent '{name}' cannot be loaded ({problem}): name an object with "
            "act(observations, infos), or a class without arguments, as package.module:Name."
        ) from None
    return agent


def _you(env: SingleEnv) -> Chooser:
    """Ask on the terminal: by the number of a suggestion, or by words of a title."""
    titles, turns = env.world.titles, count()
    print("Recommend by number, or type words of a title to search; q ends.")

    def ask(observation: Any, info: dict[str, Any]) -> int | None:
        rng = np.random.default_rng(next(turns))
        shown = rng.choice(len(titles), min(_SUGGESTED, len(titles)), replace=False).tolist()
        while True:
            for number, item in enumerate(shown, start=1):
                print(f"  {number:2}) {titles[item]}")
            try:
                words = input("> ").strip()
            except EOFError:
                return None
            if words.lower() in ("q", "quit"):
                return None
            if words.isdigit() and 1 <= int(words) <= len(shown):
                return int(shown[int(words) - 1])
            found = [
                i for i, title in enumerate(titles) if words and words.lower() in title.lower()
            ]
            if found:
                shown = found[:_SUGGESTED]
            elif words:
                print(f"No title has '{words}': type a number from the list, or other words.")

    return ask


# --------------------------------------------------------------------------------------- checking


@dataclass(frozen=True)
class _Check:
    """Hold environments, datasets and agents to the rules that others rely on."""

    names: Positional[tuple[str, ...]]  # environments, datasets, agents; module:id or module:Class
    log: str | None = None  # for recgym/Replay-v0: its name, or its folder
    files: str | None = None  # for recgym/WebShop-v0: the folder of WebShop's files
    set: tuple[str, ...] = ()  # options of the agents, as name=value: steps=20 is quick


def _check(options: _Check) -> None:
    if not options.names:
        raise InvalidArgument(
            "Nothing is named to be checked: give environments, datasets or agents."
        )
    given: dict[str, Any] = {"log": options.log} if options.log else {}
    given |= {"files": options.files} if options.files else {}
    config = options_from(options.set)
    failed = False
    datasets = minari.list_local_datasets()
    for known in options.names:
        try:
            if known in datasets:
                found = list(check_dataset(known))
            elif _is_agent(known):
                found = list(check_agent(known, **config))
            else:
                spec = _spec(known, "environment, dataset or agent", (*datasets, *agent_names()))
                found = list(check_env(spec, **given))
                if spec.vector_entry_point:
                    found += check_vector_env(spec, **given)
        except (RecGymError, gymnasium.error.Error) as problem:
            failed = True
            OUT.print(
                f"[bold red]✗[/] {known}: {plain(str(problem))}", highlight=False, soft_wrap=True
            )
            continue
        OUT.print(f"[bold green]✓[/] {known}", highlight=False)
        for sentence in found:
            OUT.print(f"    {plain(sentence)}", highlight=False, soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _is_agent(known: str) -> bool:
    """Is it named as agents are? The id of an environment has a namespace or a version."""
    module, _, name = known.rpartition(":")
    return known in agent_names() or (module != "" and name.isidentifier())


COMMANDS: dict[str, tuple[str, Command]] = {
    "envs": ("the environments: what they ask, need and bring", command(_envs)),
    "play": ("walk through an episode: you, a policy or an agent recommends", command(_play)),
    "check": ("hold environments, datasets and agents to the rules", command(_check)),
}
