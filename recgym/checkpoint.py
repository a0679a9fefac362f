"""All that a training needs to go on, in one file that is there whole or not at all."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.optim import Optimizer

from recgym.errors import InvalidArgument, printable

States = Mapping[str, Mapping[str, torch.Tensor]]  # of networks and optimizers, by name


def write(file: Path, states: States, about: Mapping[str, Any]) -> None:
    """Write tensors, and JSON beside them."""
    tensors, text = _flat(states), json.dumps(about)
    draft = file.with_name(f".{file.name}.part")
    save_file(tensors, draft, {"about": text, "sha256": _sha256(tensors, text)})
    with draft.open("rb") as written:
        os.fsync(written.fileno())  # before the name is given, so that no crash leaves it empty
    draft.replace(file)


def read(file: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """What was written; a state that is not there is one without tensors."""
    try:
        with safe_open(file, "pt") as opened:
            said = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if said["sha256"] != _sha256(tensors, said["about"]):
            raise ValueError("it was changed after it was written")
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as why:
        raise InvalidArgument(
            f"{file} is no checkpoint that can be read ({printable(str(why))}): delete it, or "
            "train anew."
        ) from None
    states: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for path, tensor in tensors.items():
        state, _, name = path.partition("/")
        states[state][name] = tensor
    return states, json.loads(said["about"])


def sha256_of(states: States, about: Mapping[str, Any]) -> str:
    """One hash of tensors, and of JSON beside them."""
    return _sha256(_flat(states), json.dumps(about, sort_keys=True))


def of_optimizer(optimizer: Optimizer) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Its moments, and the settings of its groups."""
    state = optimizer.state_dict()
    tensors = {
        f"{place}/{name}": value
        for place, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def to_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, torch.Tensor], groups: list[dict[str, Any]]
) -> None:
    """Give an optimizer its moments and settings back."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        place, _, key = name.partition("/")
        state.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _flat(states: States) -> dict[str, torch.Tensor]:
    return {
        f"{state}/{name}": tensor.detach().cpu().clone()  # none shares memory
        for state, named in states.items()
        for name, tensor in named.items()
    }


def _sha256(tensors: Mapping[str, torch.Tensor], about: str) -> str:
    """One hash of all that a checkpoint holds: safetensors has none."""
    found = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.numpy().data)
    return found.hexdigest()
