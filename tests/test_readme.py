"""The lines of the README run, in order, as a reader would type them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_blocks_of_the_readme_run(tmp_path):
    blocks = re.findall(
        r"^```(python|bash)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert {language for language, _ in blocks} == {"python", "bash"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, block in blocks:
        command = [sys.executable, "-c", block] if language == "python" else ["bash", "-ec", block]
        run = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        assert run.stdout.strip(), block
    assert (tmp_path / "shop.png").stat().st_size > 10_000


def test_the_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "make quickstart" in readme
    assert "make test" in readme
