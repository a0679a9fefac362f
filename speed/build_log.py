"""A 25-million-row CSV to a log, against a bare DuckDB sort of the same file into Parquet.

At most 2 times its time, under 6 GB resident. Each runs in a process of its own, in turn. The first
figure is the work, after imports; the second the whole processes, with what Python takes to start.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import duckdb
from _common import report

ROUNDS = 5
BARE = """
import sys, time
import duckdb
duckdb.sql("SET enable_progress_bar = false")
begin = time.perf_counter()
duckdb.sql(f"COPY (SELECT * FROM read_csv('{sys.argv[1]}/ratings.csv') ORDER BY userId, timestamp) "
           f"TO '{sys.argv[1]}/bare.parquet'")
print(time.perf_counter() - begin)
"""
BUILD = """
import sys, time
import duckdb, ibis, recgym.sources
begin = time.perf_counter()
recgym.prepare("movielens", sys.argv[1], name="ratings", replace=True)
print(time.perf_counter() - begin)
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


class Run(NamedTuple):
    """What one process took."""

    work: float  # seconds, by its own clock
    whole: float  # seconds, from outside
    resident: float  # gigabytes at the most


def run(script: str, folder: str) -> Run:
    """Run a script in a process of its own."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", script, folder],
        env=os.environ | {"RECGYM_HOME": f"{folder}/home"},
        stdout=subprocess.PIPE,
    ) as process:
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit("the script failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(float(printed), time.perf_counter() - begin, usage.ru_maxrss * unit / 1e9)


def main() -> None:
    """Generate the file, then time both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_000_000, help="ratings in the file")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        duckdb.execute(GENERATE.format(rows=rows, folder=folder))
        pairs = [(run(BUILD, folder), run(BARE, folder)) for _ in range(ROUNDS)]
    report(f"build of {rows:,} rows", [(ours.work, bare.work) for ours, bare in pairs], at_most=2)
    report("build, whole process", [(ours.whole, bare.whole) for ours, bare in pairs], at_most=2)
    report("build, gigabytes resident", [(ours.resident, 6.0) for ours, _ in pairs], at_most=1)


if __name__ == "__main__":
    main()
