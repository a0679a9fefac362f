"""The examples run as scripts, with a small budget, and show what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.torchrl
def test_ppo_of_torchrl_learns():
    script = EXAMPLES / "torchrl_ppo.py"
    assert len(script.read_text().splitlines()) <= 60
    run = subprocess.run(
        [sys.executable, script, "25"], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    scores = {name: float(score) for name, score in re.findall(r"(\w+) (\d\.\d{3})", run.stdout)}
    assert scores.keys() == {"random", "untrained", "trained"}
    assert scores["trained"] > 1.4 * max(scores["random"], scores["untrained"])
