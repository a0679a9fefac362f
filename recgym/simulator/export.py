"""Logged sessions with what a simulator says of them: who learns from these needs no model."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import minari
import numpy as np
from minari.dataset.minari_dataset import MinariDataset, parse_dataset_id
from numpy.typing import NDArray

from recgym.agent import View
from recgym.episodes import Episodes
from recgym.errors import InvalidArgument
from recgym.export import dataset_id, made_here, new_storage, writing_dataset
from recgym.home import home
from recgym.log import Split
from recgym.minari_format import content_hash, runs_of
from recgym.simulator.cache import ANSWERS, Cached
from recgym.simulator.feedback import Feedback
from recgym.simulator.moments import HISTORY, last_taken
from recgym.simulator.store import CARD, Progress, Simulator, simulator_path

_BLOCK = 2048  # states asked about at once
_POLICY = "llm"  # of the ids, unless another one is named
_OTHERWISE = {"combined_datasets"}  # what sessions say of themselves, and these do not


def with_simulator(
    dataset: MinariDataset,
    name: str,
    split: Split,
    policy: str = _POLICY,
    negatives: int = 10,
    overwrite: bool = False,
    progress: Progress = lambda stage, share: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> MinariDataset:
    """Write `recgym/<data>/llm-v0`: the sessions, with states and rewards in the infos.

    `infos/state` is of every state; after each action, `infos/reward` is what it is worth, and
    `infos/negatives` and `infos/negative_rewards` are other items, drawn, and what those are worth.
    Rewards are raw: their scale stands in the metadata.
    """
    if negatives < 1:
        raise InvalidArgument(f"negatives is a whole number from 1 on: found {negatives}.")
    user = Simulator.load(name, say=say)
    user.fits(dataset)
    kept = Cached(user, home() / "simulators" / ANSWERS, say=say)
    known = dataset_id(_data_of(dataset.id), policy, split)
    about = _about(dataset, name, user, known, negatives)
    if about["card"] is None:
        say(
            f"{name} has no card that {known} could carry: make it with `recgym simulator card "
            f"{name}`, and export again."
        )
    done = 0

    def show(begin: int, size: int, share: float) -> None:
        progress(f"asking for {known}", (begin + share * size) / len(dataset))

    with writing_dataset(known, overwrite) as folder:
        storage = new_storage(
            folder, dataset.observation_space, dataset.action_space, dataset.env_spec, "recgym"
        )
        said = dataset.storage.metadata
        kept_too = {key: said[key] for key in said.keys() - storage.metadata.keys() - _OTHERWISE}
        storage.update_metadata(kept_too | about)
        rng = np.random.default_rng(0)
        for part in runs_of(dataset, dataset.episode_indices):
            told = _told(kept, dataset, part, negatives, rng, partial(show, done, len(part)))
            storage.append(replace(part, states=part.states | told))
            done += len(part)
    return minari.load_dataset(known)


def answered(dataset: MinariDataset, policy: str = _POLICY) -> MinariDataset:
    """The dataset beside this one in which a simulator answered for the same sessions."""
    known = dataset_id(_data_of(dataset.id), policy, dataset.storage.metadata.get("split", "train"))
    if "simulator" in dataset.storage.metadata:
        if policy != _POLICY and known != dataset.id:
            raise InvalidArgument(
                f"Answers of {known} are asked for, and {dataset.id} holds others: give {known}, "
                "or the sessions that it was made of."
            )
        return dataset
    if known not in minari.list_local_datasets():
        raise InvalidArgument(
            f"No simulator has answered in {dataset.id}: there is no {known}, which `recgym "
            "simulator export NAME` writes."
        )
    found = minari.load_dataset(known)
    of = found.storage.metadata.get("simulator", {})
    if (of.get("of"), of.get("content")) != (dataset.id, content_hash(dataset)):
        raise InvalidArgument(
            f"A simulator answered in {known} for other sessions than those of {dataset.id}: "
            "write it anew with `recgym simulator export NAME --replace`."
        )
    return found


def who_answered(dataset: str, policy: str) -> dict[str, str]:
    """The hash of the simulator that answered in a dataset, or else in the one beside it."""
    for known in (dataset, dataset_id(_data_of(dataset), policy, "train")):
        with suppress(FileNotFoundError):
            if said := minari.load_dataset(known).storage.metadata.get("simulator"):
                return {said["name"]: said["sha256"]}
    return {}


def _told(
    user: Feedback,
    dataset: MinariDataset,
    part: Episodes,
    negatives: int,
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> dict[str, NDArray[Any]]:
    """The state columns that a simulator adds."""
    view = View.of(dataset)
    seen = view.consumed(part.observations(dataset.observation_space))
    histories = last_taken(seen, view.n_items, HISTORY)
    states, steps = len(histories), int(part.lengths.sum())
    before = np.arange(steps) + np.repeat(np.arange(len(part)), part.lengths)
    actions = part.actions(dataset.action_space).astype(np.int64)
    others = rng.integers(view.n_items - 1, size=(steps, negatives))
    others += others >= actions[:, None]
    found = {
        "infos/state": np.zeros((states, user.width), np.float32),
        "infos/reward": np.full(states, np.nan, np.float32),
        "infos/negatives": np.full((states, negatives), view.n_items, np.int32),
        "infos/negative_rewards": np.full((states, negatives), np.nan, np.float32),
    }
    for first in range(0, states, _BLOCK):
        some = slice(first, first + _BLOCK)
        found["infos/state"][some] = user.states(histories[some])
        progress(0.2 * min(first + _BLOCK, states) / states)
    for first in range(0, steps, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, steps))
        asked = np.concatenate([actions[rows, None], others[rows]], 1)
        worth = user.rewards(histories[before[rows]], asked)
        found["infos/reward"][before[rows] + 1] = worth[:, 0]
        found["infos/negatives"][before[rows] + 1] = others[rows]
        found["infos/negative_rewards"][before[rows] + 1] = worth[:, 1:]
        progress(0.2 + 0.8 * (rows[-1] + 1) / steps)
    return found


def _data_of(dataset: str) -> str:
    """What stands between recgym and the policy in a dataset's id."""
    namespace, _, _ = parse_dataset_id(dataset)
    return "/".join((namespace or "").split("/")[1:]) or "data"


def _about(
    dataset: MinariDataset, name: str, user: Simulator, known: str, negatives: int
) -> dict[str, Any]:
    """What the dataset says of itself beside what the sessions say: the simulator, and its card."""
    folder = simulator_path(name)
    card = Path(folder) / CARD
    said = dataset.storage.metadata
    return made_here() | {
        "dataset_id": known,
        "algorithm_name": f"{said.get('algorithm_name', 'logged')}, answered by {folder.name}",
        "description": f"{said.get('description', '')} With states and rewards of the simulator "
        f"{folder.name} in the infos.",
        "simulator": {
            "name": folder.name, "sha256": user.sha256, "model": Path(user.language.name).name,
            "scale": asdict(user.scale), "negatives": negatives, "of": dataset.id,
            "content": content_hash(dataset),
        },
        "card": json.loads(card.read_bytes()) if card.exists() else None,
    }  # fmt: skip
