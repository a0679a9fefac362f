"""The examples run as scripts, with a small budget, and show what they promise."""

import json
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


def test_all_agents_are_evaluated_where_their_data_are(tmp_path):
    words = ["popular", "greedy", "--on", "oracle-static-random", "openbandit"]
    run = subprocess.run(
        [sys.executable, EXAMPLES / "evaluate_all.py", *words],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["agent"] for row in rows] == ["popular", "greedy"]
    assert rows[1]["mean"] > 5 > rows[0]["mean"]
    for row in rows:  # code that was changed since its commit makes no row
        assert "changed" in row.get("refused", "changed")
        assert "file" not in row or (tmp_path / row["file"]).exists()
