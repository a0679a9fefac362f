"""Recommendation as Gymnasium environments, logged data as Minari datasets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium  # noqa: F401
import minari  # noqa: F401
from minari.dataset import _storages

import recgym.envs  # noqa: F401  # registers the ids

if TYPE_CHECKING:
    from recgym.agent import Agent, load_agent
    from recgym.bridges import (
        d3rlpy_encoder,
        from_d3rlpy,
        from_sb3,
        sb3_policy_kwargs,
        to_d3rlpy,
        to_sb3_vec_env,
    )
    from recgym.checks import check_agent, check_dataset, check_env, check_vector_env
    from recgym.errors import RecGymError
    from recgym.evaluation.report import evaluate
    from recgym.export import to_minari
    from recgym.frame import log_from_frame
    from recgym.home import load_log
    from recgym.log import InteractionLog
    from recgym.rollouts import collect
    from recgym.sources import prepare

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "InteractionLog",
    "RecGymError",
    "check_agent",
    "check_dataset",
    "check_env",
    "check_vector_env",
    "collect",
    "d3rlpy_encoder",
    "evaluate",
    "from_d3rlpy",
    "from_sb3",
    "load_agent",
    "load_log",
    "log_from_frame",
    "prepare",
    "sb3_policy_kwargs",
    "to_d3rlpy",
    "to_minari",
    "to_sb3_vec_env",
]
_HOMES = {
    "Agent": "recgym.agent",
    "InteractionLog": "recgym.log",
    "RecGymError": "recgym.errors",
    "check_agent": "recgym.checks",
    "check_dataset": "recgym.checks",
    "check_env": "recgym.checks",
    "check_vector_env": "recgym.checks",
    "collect": "recgym.rollouts",
    "d3rlpy_encoder": "recgym.bridges",
    "evaluate": "recgym.evaluation.report",
    "from_d3rlpy": "recgym.bridges",
    "from_sb3": "recgym.bridges",
    "load_agent": "recgym.agent",
    "load_log": "recgym.home",
    "log_from_frame": "recgym.frame",
    "prepare": "recgym.sources",
    "sb3_policy_kwargs": "recgym.bridges",
    "to_d3rlpy": "recgym.bridges",
    "to_minari": "recgym.export",
    "to_sb3_vec_env": "recgym.bridges",
}


def __getattr__(name: str) -> Any:
    """Public names load at their first use, so that `import recgym` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'recgym' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def _column_storage() -> Any:
    return import_module("recgym.minari_format").ColumnStorage


_storages._registry["recgym"] = _column_storage  # private to Minari, hence its pin
