"""`recgym simulator fit | list | card | export`: language models as users."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from minari.dataset.minari_dataset import parse_dataset_id
from rich.table import Table
from tyro.conf import Positional, arg

from recgym.cli_train import dataset_named, split_of
from recgym.errors import InvalidArgument, MissingExtra
from recgym.home import home
from recgym.log import Split
from recgym.simulator.asked import PAPER, ROLES, Asked, Role
from recgym.terminal import ERR, OUT, Command, bars, chosen, command, plain

_ANOTHER_SEED = 1000  # how much higher that of the simulator that scores is


def _simulator(words: Sequence[str]) -> None:
    verbs: dict[str, tuple[str, Command]] = {
        "fit": ("fit a language model to users: one to train agents, one to score them",
                command(_fit, "recgym simulator")),
        "list": ("the simulators that are there", command(_list, "recgym simulator")),
        "card": ("how far to trust one, measured on users that it has never seen",
                 command(_card, "recgym simulator")),
        "export": ("logged sessions with what it says of them, as Minari datasets",
                   command(_export, "recgym simulator")),
    }  # fmt: skip
    chosen("recgym simulator", verbs, words)


@dataclass(frozen=True)
class _Fit:
    """Fit a language model to users: one to train agents, one to score them.

    They learn from disjoint shares of the users, with other seeds. The same command goes on where
    it was stopped.
    """

    data: str  # a Minari dataset of training users, such as recgym/movielens-small/logged-v0
    asked: Annotated[Asked, arg(name="")] = Asked()
    roles: tuple[Role, ...] = ROLES  # which of the two are fitted
    name: str = ""  # of both; empty: those of the data and of the model
    paper: bool = False  # learn item tokens as the paper does: 300 iterations, whole texts


def _fit(options: _Fit) -> None:
    fit_simulator = _needed().fit_simulator
    dataset, name = dataset_named(options.data), options.name or _named(options)
    if Path(name).name != name or name.startswith("."):
        raise InvalidArgument(f"No folder can be called '{plain(name)}': give another --name.")
    if not options.roles:
        raise InvalidArgument(f"No role is named: give --roles {' '.join(ROLES)}, or one of them.")
    wanted = replace(options.asked, tokens=PAPER) if options.paper else options.asked
    requests = {role: in_role(wanted, role) for role in options.roles}  # all, before any is fitted
    for role, asked in requests.items():
        folder = home() / "simulators" / f"{name}-{role}"
        with bars() as progress:
            fitted = fit_simulator(dataset, asked, folder, progress, _say)
        _say(_said(fitted.about))
    OUT.print(f"How far to trust it: recgym simulator card {name}", highlight=False)


def in_role(asked: Asked, role: Role) -> Asked:
    """What is asked for, for one of the two simulators: other users, another seed."""
    seed = asked.fit.seed + (_ANOTHER_SEED if role == "scoring" else 0)
    return replace(asked, fit=replace(asked.fit, role=role, seed=seed),
                   tokens=replace(asked.tokens, seed=seed))  # fmt: skip


def _named(options: _Fit) -> str:
    namespace, data, _ = parse_dataset_id(options.data)
    parts = [*(namespace or "").split("/")[1:], "" if data == "logged" else data]
    return "-".join(filter(None, (*parts, Path(options.asked.model).name)))


def _said(about: dict[str, Any]) -> str:
    return (
        f"The simulator for {about['asked']['fit']['role']} learned from {about['moments']:,} "
        f"moments of {about['users']:,} users. On {about['held']:,} moments of others, what was "
        f"taken has the higher reward in {about['accuracy']:.1%} of pairs."
    )


@dataclass(frozen=True)
class _List:
    """The simulators that are there."""

    json: bool = False  # print JSON


def _list(options: _List) -> None:
    store = _needed()
    found = {}
    for name in store.simulators():
        try:
            found[name] = store.about(name)
        except InvalidArgument as problem:  # the others are there all the same
            _say(str(problem))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    if not found:
        OUT.print("No simulator yet. Try: recgym simulator fit --help", highlight=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("simulator", "model", "data", "users", "moments", "right pairs", "seed"):
        table.add_column(heading, justify="left" if heading in ("simulator", "model", "data")
                         else "right", overflow="fold")  # fmt: skip
    for name, about in found.items():
        asked = about["asked"]
        table.add_row(
            plain(name), plain(Path(asked["model"]).name), plain(about["dataset"]),
            f"{about['users']:,}", f"{about['moments']:,}", f"{about['accuracy']:.3f}",
            str(asked["fit"]["seed"]),
        )  # fmt: skip
    OUT.print(table)


@dataclass(frozen=True)
class _Card:
    """How far to trust a simulator, measured on users that it has never seen.

    Writes card.md, card.json and plots. Variants are fitted for its ablations, unless --no-fits;
    what was fitted or measured before is not done again.
    """

    name: Positional[str]  # of a simulator, with or without its role
    fits: bool = True  # fit the variants, too: hours for large models
    models: tuple[str, ...] = ()  # other language models that stand beside it
    seeds: int = 3  # of the headline rows
    moments: int = 1000  # of users of the test split, that are drawn
    out: Path | None = None  # a folder; none: that of the simulator


def _card(options: _Card) -> None:
    store = _needed()
    from recgym.simulator.card import Card
    from recgym.simulator.page import write_card

    name = _whole_name(store, options.name)
    scoring = name.removesuffix("-training") + "-scoring"
    known = store.about(name)["dataset"]
    datasets = dataset_named(known), dataset_named(split_of(known, "test"))
    with bars() as progress:
        card = Card(name, *datasets, options.seeds, options.moments, progress, _say)
        scoring = scoring if scoring in store.simulators() else ""
        content = card.made(scoring, options.models, options.fits)
    folder = options.out or store.simulator_path(name)
    write_card(content, folder)
    OUT.print(f"{folder / 'card.md'}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Export:
    """Logged sessions with what a simulator says of them, as Minari datasets.

    States, rewards and those of items that were not taken stand in the infos, so that whoever
    learns from them needs no language model. What was answered once is not asked again.
    """

    name: Positional[str]  # of a simulator, with or without its role
    splits: tuple[Split, ...] = ("train", "validation", "test")
    policy: str = "llm"  # of the ids: recgym/DATA/POLICY-v0
    negatives: int = 10  # items beside each that was taken
    replace: bool = False  # write datasets that exist anew


def _export(options: _Export) -> None:
    store = _needed()
    from recgym.simulator.export import with_simulator

    name = _whole_name(store, options.name)
    known = store.about(name)["dataset"]
    parts = {split: dataset_named(known if split == "train" else split_of(known, split))
             for split in options.splits}  # fmt: skip
    for split, dataset in parts.items():
        with bars() as progress:
            made = with_simulator(
                dataset, name, split, options.policy, options.negatives, options.replace,
                progress, _say,
            )  # fmt: skip
        OUT.print(f"{made.id}: {made.total_episodes:,} sessions", highlight=False)


def _whole_name(store: Any, name: str) -> str:
    """That of the simulator that trains agents, unless a role is named."""
    return name if name in store.simulators() else f"{name}-training"


def _needed() -> Any:
    try:
        from recgym.simulator import store
    except ImportError:
        raise MissingExtra("A simulator", "llm") from None
    return store


def _say(sentence: str) -> None:
    ERR.print(sentence, markup=False, highlight=False, soft_wrap=True)


COMMANDS: dict[str, tuple[str, Command]] = {
    "simulator": ("language models as users: fit them, and see how far to trust them", _simulator),
}
