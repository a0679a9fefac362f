"""The lines of the README run, in order, as a reader would type them."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FENCED = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = FENCED.findall(README)
FOR_D3RLPY = [block for block in BLOCKS if "d3rlpy" in block[1]]


def run(blocks, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, block in blocks:
        command = [sys.executable, "-c", block] if language == "python" else ["bash", "-ec", block]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), block


def test_the_blocks_of_the_readme_run(tmp_path):
    blocks = [block for block in BLOCKS if block not in FOR_D3RLPY]
    assert {language for language, _ in blocks} == {"python", "bash"}
    run(blocks, tmp_path)
    assert (tmp_path / "shop.png").stat().st_size > 10_000


@pytest.mark.parametrize("page", ["recgym/envs/README.md", "agents/README.md"])
def test_the_blocks_of_other_pages_run(tmp_path, page):
    run(FENCED.findall((ROOT / page).read_text()), tmp_path)


@pytest.mark.d3rlpy
def test_the_blocks_for_d3rlpy_run(tmp_path):
    assert FOR_D3RLPY
    run(BLOCKS[: BLOCKS.index(FOR_D3RLPY[-1]) + 1], tmp_path)


def test_the_readme_names_the_two_commands():
    assert "make quickstart" in README
    assert "make test" in README


def possible(depths, hits, ndcg):
    """Whether ranks exist that give both metrics at two depths, as far as four digits tell."""
    (first, last), more, gained = depths, hits[1] - hits[0], ndcg[1] - ndcg[0]
    least, most = more / math.log2(last + 1), more / math.log2(first + 2)
    return least - 1.5e-4 <= gained <= most + 1.5e-4


def test_what_a_paper_reports_and_cannot_be_is_marked_and_nothing_else():
    page = (ROOT / "agents" / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| table \| method .*?\n\n", page, re.MULTILINE | re.DOTALL)
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:] if row]
    assert len(rows) == 60
    for *_, of_5, ndcg_5, of_10, ndcg_10, of_20, ndcg_20 in rows:
        hits = [float(cell.rstrip(" ?≠")) for cell in (of_5, of_10, of_20)]
        ndcg = [float(cell.rstrip(" ?≠")) for cell in (ndcg_5, ndcg_10, ndcg_20)]
        assert ("≠" in ndcg_5) != possible((5, 10), hits[:2], ndcg[:2])
        assert ("≠" in ndcg_20) != possible((10, 20), hits[1:], ndcg[1:])
