"""Every claim of speed is still measured: its script runs, on sizes that say nothing of speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEED = Path(__file__).parents[1] / "speed"
SMALLER = {
    "build_log": {"ROUNDS": 1},
    "envs": {"USERS": 16, "ROUNDS": 1, "SESSIONS": 100, "ITEMS": 50},
    "histories": {"ROWS": 1000, "ITEMS": 50, "ROUNDS": 1},
    "import": {"ROUNDS": 1},
    "minari_storage": {"SESSIONS": 1000, "ITEMS": 50, "ROUNDS": 1},
    "ranking": {"TARGETS": 50, "ROUNDS": 1},
    "shop": {"QUERIES": 5, "ROUNDS": 2, "SESSIONS": 8, "TOGETHER": 4, "READERS": 2},
    "simulator": {"KNOWN": 1000, "CACHED": 100, "ROUNDS": 1, "MOMENTS": 50, "HISTORIES": 4,
                  "ITEMS": 40, "TURNS": 1},
    "training": {"SMALL": 60, "LARGE": 70, "FILMS": 90, "ROUNDS": 1, "SESSIONS": 40,
                 "PEAKS": [["crr-transformer-small", 80]]},
}  # fmt: skip
OPTIONS = {"build_log": ["--rows", "5000"]}
RUN = """
import importlib, json, sys
name, smaller = sys.argv.pop(1), json.loads(sys.argv.pop(1))
script = importlib.import_module(name)
for constant, size in smaller.items():
    assert hasattr(script, constant), constant
    setattr(script, constant, size)
try:
    script.compare("1") if name == "ranking" else script.main()
except SystemExit:  # bars are for the sizes that are claimed
    pass
if name == "training":  # what --gpu measures
    script.share_of_the_peak("cpu", script.CRRTransformerSmall, 64)
"""


def test_all_scripts_are_run_here():
    assert {file.stem for file in SPEED.glob("[a-z]*.py")} == SMALLER.keys()


@pytest.mark.long
@pytest.mark.d3rlpy
@pytest.mark.parametrize("name", SMALLER)
def test_a_script_measures_what_it_claims(name):
    words = [sys.executable, "-c", RUN, name, json.dumps(SMALLER[name]), *OPTIONS.get(name, [])]
    done = subprocess.run(words, capture_output=True, text=True, cwd=SPEED)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert any("ratio" in line for line in lines) and all("name" in line for line in lines)
