"""Measure the oracle's environments and write recgym/envs/oracle.json, which is then frozen.

`--check` says whether what is written there is what is measured here.
"""

import json
import os
import sys
import tempfile

import gymnasium
from rich.progress import track

import recgym  # noqa: F401  # registers the ids
from recgym.envs import ORACLES
from recgym.envs.frozen import FILE, as_json
from recgym.envs.policies import reference_scores
from recgym.minari_format import content_hash
from recgym.rollouts import POLICIES, SESSIONS, collect

USERS = 10_000  # on whom the reference policies are scored


def measured(env_id: str) -> dict[str, object]:
    """Parameters, scores and hashes of an environment."""
    oracle = gymnasium.make(env_id).unwrapped.users.oracle
    logs = {
        f"{policy} {split}": content_hash(collect(env_id, policy, split))
        for policy in track(POLICIES, env_id)
        for split in SESSIONS
    }
    return {"parameters": as_json(oracle), "scores": reference_scores(oracle, USERS), "logs": logs}


def main() -> None:
    """Write the file, or compare with it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        found = {env_id: measured(env_id) for env_id in (f"recgym/{name}-v0" for name in ORACLES)}
    text = json.dumps(found, indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text, encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"What is measured differs from {FILE.name}: an environment has changed.")


if __name__ == "__main__":
    main()
