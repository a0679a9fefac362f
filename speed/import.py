"""`import recgym` against `import gymnasium, minari`: at most 1.15 times its time."""

import subprocess
import sys

from _common import report

ROUNDS = 21
TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(modules: str) -> float:
    """The time that the import takes in a fresh process."""
    command = [sys.executable, "-c", TIMED.format(modules)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Time both in turn."""
    seconds("recgym")  # writes what Python caches
    pairs = [(seconds("recgym"), seconds("gymnasium, minari")) for _ in range(ROUNDS)]
    report("import", pairs, at_most=1.15)


if __name__ == "__main__":
    main()
