"""Names of logs, and builds that are killed, stopped, raced and starved in real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recgym.errors import BadLog, Busy, InvalidArgument, OutOfRoom, UnknownName
from recgym.home import home, load_log, log_names, log_path, remove_log, writing

from .sentences import said
from .test_log import written

# Forks a fresh process for every build, so that none pays for the imports again.
BUILDER = """
import json, os, resource, sys, time
import ibis.backends.duckdb, numpy as np, pyarrow as pa
from recgym.build import Tables, build_log
from recgym.engine import connect
from recgym.home import scratch_path, writing
from recgym.protocols import Protocol

def build(name, rows=100_000, seed=0, home=None, most_bytes=None, wait=False):
    os.environ["RECGYM_HOME"] = home
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    rng = np.random.default_rng(seed)
    events = pa.table({
        "user": rng.integers(rows // 20, size=rows),
        "item": rng.integers(1000, size=rows),
        "behaviour": rng.integers(2, size=rows),
        "time": rng.integers(10**15, 10**15 + 10**12, size=rows),
    })
    with writing(name, replace=True) as path, connect(scratch=scratch_path(name)) as engine:
        (engine.scratch / "unpacked.csv").write_text("large")
        tables = Tables(engine.from_arrow(events), ("click", "purchase"), ("click",))
        build_log(tables, Protocol("p", seed=seed, gap=30), engine, path)
        if wait:
            say("waiting")
            patience = time.monotonic() + 60
            while not (path.parent.parent / "go").exists() and time.monotonic() < patience:
                time.sleep(0.01)

def say(*words):
    os.write(1, json.dumps(words).encode() + bytes([10]))  # whole lines, whoever writes

say("ready")
for line in sys.stdin:
    pid = os.fork()
    if pid:
        say(pid)
        sys.stdin.readline()  # until then its number stays its own
        os.waitpid(pid, 0)
        say("ended")
        continue
    try:
        say("begun")
        build(**json.loads(line))
        say("built")
    except BaseException as problem:
        say(type(problem).__name__, str(problem))
    os._exit(0)
"""


class Builder:
    """A process that forks one build after another."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUILDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running = False
        assert self.says() == ["ready"]

    def says(self):
        return json.loads(self.process.stdout.readline())

    def begin(self, name, **options):
        """Begin a build; the process that does it."""
        if self.running:  # a test has failed
            self.end()
        self.running = True
        options = {"name": name, "home": str(home())} | options
        print(json.dumps(options), file=self.process.stdin, flush=True)
        first, second = self.says(), self.says()  # the number and "begun", in either order
        return next(word[0] for word in (first, second) if word != ["begun"])

    def end(self):
        """What became of it."""
        print(file=self.process.stdin, flush=True)
        words = list(iter(self.says, ["ended"]))
        self.running = False
        return words[-1] if words else None

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def builder():
    builder = Builder()
    yield builder
    builder.close()


def there():
    """What is in the home, but for locks."""
    found = {p.relative_to(home()).as_posix() for p in home().glob("*/*")}
    return {name for name in found if not name.endswith(".lock")}


@pytest.fixture(scope="module")
def seconds(builder, tmp_path_factory):
    """How long an undisturbed build takes."""
    taken = []
    for _ in range(2):
        begin = time.monotonic()
        builder.begin("undisturbed", home=str(tmp_path_factory.mktemp("undisturbed")))
        assert builder.end() == ["built"]
        taken.append(time.monotonic() - begin)
    return min(taken)


# --------------------------------------------------------------------------------------- faults


def test_a_build_killed_at_any_moment_leaves_a_whole_log_or_none(builder, seconds):
    for attempt in range(10):
        pid = builder.begin("mine")
        time.sleep(seconds * (attempt + 0.5) / 10)
        os.kill(pid, signal.SIGKILL)
        builder.end()
        assert log_names() in ([], ["mine"])
        if log_names():
            assert load_log("mine").verify()
            remove_log("mine")
    builder.begin("mine")
    assert builder.end() == ["built"]
    assert there() == {"logs/mine"}  # the next build has swept what the killed ones left
    assert load_log("mine").verify()


def test_a_replacement_killed_at_any_moment_leaves_the_old_log_or_the_new_one(builder, seconds):
    digests = []
    for seed in (1, 0):
        builder.begin("mine", seed=seed)
        assert builder.end() == ["built"]
        digests.append(load_log("mine").verify())
    assert digests[0] != digests[1]
    for attempt in range(10):
        pid = builder.begin("mine", seed=attempt % 2)
        time.sleep(seconds * (attempt + 0.5) / 10)
        os.kill(pid, signal.SIGKILL)
        builder.end()
        with writing("mine", replace=True):
            assert there() == {"logs/mine"}
        assert load_log("mine").verify() in digests


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_ctrl_c_leaves_nothing(builder, seconds, share):
    pid = builder.begin("mine")
    time.sleep(seconds * share)
    os.kill(pid, signal.SIGINT)
    outcome = builder.end()
    assert outcome[0] in ("KeyboardInterrupt", "built")
    if log_names():  # it came too late
        assert load_log("mine").verify()
        remove_log("mine")
    assert there() == set()


def test_of_two_builds_of_one_name_one_wins_and_the_other_is_told(builder):
    other = Builder()
    builders = [builder, other]
    for each in builders:
        each.begin("mine", wait=True)
    outcomes = [each.says() for each in builders]
    assert sorted(outcome[0] for outcome in outcomes) == ["Busy", "waiting"]
    winner = outcomes.index(["waiting"])
    (home() / "go").touch()
    assert builders[winner].end() == ["built"]
    assert "Another process is building or removing 'mine'" in outcomes[1 - winner][1]
    assert builders[1 - winner].end() is None  # it has said all that it had to say
    other.close()
    assert there() == {"logs/mine"} and load_log("mine").verify()


def test_a_log_in_the_making_can_neither_be_removed_nor_built(builder):
    written(log_path("mine"), [2, 3])
    with writing("mine", replace=True):
        for attempt in (lambda: remove_log("mine"), lambda: writing("mine").__enter__()):
            with pytest.raises(Busy, match="Another process is building or removing 'mine'"):
                attempt()
    assert load_log("mine").verify()


@pytest.mark.parametrize("most_bytes", [10, 1000, 100_000, 390_000])
def test_a_file_that_cannot_grow_is_said_and_leaves_nothing(builder, most_bytes):
    builder.begin("mine", most_bytes=most_bytes)
    name, text = builder.end()
    assert name == "OutOfRoom" and "\n" not in text
    assert re.search("nothing was (changed|written)", text), text
    assert there() == set()


def test_a_full_disk_leaves_the_old_log(builder):
    builder.begin("mine", seed=1)
    assert builder.end() == ["built"]
    digest = load_log("mine").verify()
    builder.begin("mine", most_bytes=100_000)
    assert builder.end()[0] == "OutOfRoom"
    assert there() == {"logs/mine"} and load_log("mine").verify() == digest


def may_mount():
    """Is this a process that may mount file systems?"""
    status = Path("/proc/self/status")
    rights = re.search(r"CapEff:\s*(\w+)", status.read_text() if status.exists() else "")
    return bool(rights and int(rights[1], 16) >> 21 & 1)


if may_mount():  # in CI a test that is skipped would not have passed

    @pytest.mark.parametrize("size", ["64k", "300k", "1m", "2m"])
    def test_a_disk_that_is_really_full_is_said(builder, tmp_path, monkeypatch, size):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", tmp_path], check=True)
        monkeypatch.setenv("RECGYM_HOME", str(tmp_path))
        try:
            builder.begin("mine")
            name, text = builder.end()
            assert name == "OutOfRoom" and "\n" not in text and "pace" in text
            assert there() == set()
        finally:
            subprocess.run(["umount", tmp_path], check=True)


def test_a_home_that_is_no_folder_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECGYM_HOME", str(tmp_path / "file"))
    with pytest.raises(OutOfRoom) as problem, writing("mine"):
        pass
    assert "RECGYM_HOME" in said(problem)
    assert log_names() == []


# ---------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "é", "x" * 101]
)
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(InvalidArgument, match="cannot name a log"):
        log_path(name)
    with pytest.raises(InvalidArgument, match="cannot name a log"), writing(name):
        pass
    with pytest.raises((UnknownName, BadLog, InvalidArgument)):
        load_log(name)
    assert there() == set()


def test_a_name_nearly_right_is_answered_with_the_right_one():
    for name in ("movielens-25m", "yoochoose"):
        written(log_path(name), [2])
    with pytest.raises(UnknownName) as problem:
        load_log("movielens-25")
    assert "Did you mean 'movielens-25m'? Known: movielens-25m, yoochoose." in said(problem)
    with pytest.raises(UnknownName, match="Did you mean 'yoochoose'"):
        remove_log("yochoose")


def test_without_any_log_the_way_to_one_is_said():
    with pytest.raises(UnknownName) as problem:
        load_log("mine")
    assert "There is no log yet" in said(problem) and "recgym data build" in said(problem)


def test_a_log_is_found_by_name_and_by_folder():
    log = written(log_path("mine"), [2, 3])
    assert log_names() == ["mine"]
    for name in ("mine", log.path, str(log.path)):
        assert load_log(name).manifest.digest == log.manifest.digest


def test_a_name_that_is_taken_is_kept():
    log = written(log_path("mine"), [2, 3])
    with pytest.raises(InvalidArgument) as problem, writing("mine"):
        pass
    assert "--replace" in said(problem) and log.verify()


def test_a_removed_log_is_gone():
    written(log_path("mine"), [2, 3])
    remove_log("mine")
    assert there() == set() and log_names() == []


def test_a_build_sweeps_nothing_of_a_log_with_a_longer_name():
    for kind in ("part", "old"):
        written(log_path("mine").with_name(f".mine.more.01234567.{kind}"), [2])
    with writing("mine"):
        pass
    assert there() == {"logs/.mine.more.01234567.part", "logs/.mine.more.01234567.old"}
    with writing("mine.more", replace=True):
        assert there() == {"logs/mine.more"}
