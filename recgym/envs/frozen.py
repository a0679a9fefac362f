"""What was measured of the oracle's environments once, and must never change."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from recgym.envs.oracle import Oracle
from recgym.envs.policies import reference_scores

FILE = Path(__file__).with_name("oracle.json")


@cache
def frozen() -> dict[str, Any]:
    """By id: parameters, scores of the reference policies, hashes of the logs."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def scores_of(env_id: str, oracle: Oracle) -> dict[str, dict[str, float]]:
    """The scores of the reference policies: as measured once, or now for other parameters."""
    known = frozen().get(env_id, {})
    if known.get("parameters") == as_json(oracle):
        return dict(known["scores"])
    return reference_scores(oracle)


def normalised(scores: dict[str, dict[str, float]], mean_return: float) -> float:
    """A mean return on the scale on which random is 0 and the planner 100."""
    least, most = scores["random"]["mean"], scores["planner"]["mean"]
    return 100 * (mean_return - least) / (most - least)


def as_json(oracle: Oracle) -> dict[str, Any]:
    """The parameters as JSON gives them back."""
    return dict(json.loads(json.dumps(asdict(oracle))))
