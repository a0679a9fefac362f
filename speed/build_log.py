"""A 25-million-row CSV to a log, against a bare DuckDB sort of the same file into Parquet.

At most 2 times its time, under 6 GB resident. Each build runs in a process of its own, in turn with
the bare sort; `--rows` makes it smaller.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
BARE = """
import duckdb, sys
duckdb.sql(f"COPY (SELECT * FROM read_csv('{sys.argv[1]}/ratings.csv') ORDER BY userId, timestamp) "
           f"TO '{sys.argv[1]}/bare.parquet'")
"""
GENERATE = """
SELECT setseed(0.5);
COPY (
  SELECT 1 + n // 154 AS userId, 1 + (59047 * pow(random(), 3))::INT AS movieId,
         (1 + floor(random() * 10)) / 2 AS rating,
         (800000000 + random() * 700000000)::BIGINT AS timestamp
  FROM range({rows}) AS t(n) ORDER BY userId, movieId
) TO '{folder}/ratings.csv' (HEADER)
"""


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds, and gigabytes resident at the most, of a process."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {command}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - begin, usage.ru_maxrss * unit / 1e9


def main() -> None:
    """Generate the file, then time both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_000_000, help="ratings in the file")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        import duckdb

        duckdb.execute(GENERATE.format(rows=rows, folder=folder))
        environment = os.environ | {"RECGYM_HOME": f"{folder}/home"}
        recgym = str(Path(sys.executable).with_name("recgym"))
        build = [recgym, "data", "build", "movielens", "--raw", folder, "--name", "m", "--replace"]
        pairs = [
            (run(build, environment), run([sys.executable, "-c", BARE, folder], environment))
            for _ in range(ROUNDS)
        ]
    value, baseline = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
    ratios = [ours[0] / bare[0] for ours, bare in pairs]
    row = {"name": f"build, {rows:,} rows", "value": value, "baseline": baseline}
    print(json.dumps(row | {"ratio": statistics.median(ratios), "ratios": ratios}))
    resident = max(ours[1] for ours, _ in pairs)
    row = {"name": "build, gigabytes resident", "value": resident, "baseline": 6.0}
    print(json.dumps(row | {"ratio": resident / 6}))


if __name__ == "__main__":
    main()
