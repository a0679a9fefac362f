"""All that a training needs to go on, in one file that is there whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.optim import Optimizer

from recgym.errors import InvalidArgument, printable


def write(file: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, and JSON beside them."""
    draft = file.with_name(f".{file.name}.part")
    copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    save_file(copies, draft, {"about": json.dumps(about)})
    with draft.open("rb") as written:
        os.fsync(written.fileno())  # before the name is given, so that no crash leaves it empty
    draft.replace(file)


def read(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What was written."""
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads(opened.metadata()["about"])
            return {name: opened.get_tensor(name) for name in opened.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as why:
        raise InvalidArgument(
            f"{file} is no checkpoint that can be read ({printable(str(why))}): delete it, or "
            "train anew."
        ) from None


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same under longer names."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those whose names begin so, without the beginning."""
    start = f"{prefix}/"
    return {name[len(start) :]: one for name, one in tensors.items() if name.startswith(start)}


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
