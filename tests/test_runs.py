"""What a run keeps: metrics, an account of itself, one writer, and names that are found."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from recgym.errors import Busy, InvalidArgument, UnknownName
from recgym.runs import (
    ABOUT,
    METRICS,
    TENSORBOARD,
    Account,
    Run,
    account_of,
    damaged_lines,
    is_written,
    measured,
    metrics_of,
    run_folders,
    run_named,
    trainings,
)
from tests.sentences import said

ACCOUNT = Account(
    agent="some.where:Agent", name="agent", options={"size": 8, "seed": 0}, changed={"size": 8},
    dataset="recgym/n/mixed-v0", content="0" * 64, validation=None, recgym="0.1.0",
    code={"commit": None}, command="recgym train agent", platform={"threads": 1},
)  # fmt: skip


def kept(name, **facts):
    """The folder of a run of that name."""
    folder = trainings() / name
    folder.mkdir(parents=True)
    replace(ACCOUNT, **facts).write(folder)
    return folder


def told(folder):
    """What TensorBoard shows of each name: values by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / TENSORBOARD)).Reload()
    return {name: {one.step: one.value for one in events.Scalars(name)}
            for name in events.Tags()["scalars"]}  # fmt: skip


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run()
    run.rewind(0)
    run.record(1, {"loss": 1.0})
    assert run.checkpoint is None and not run.due() and not list(tmp_path.iterdir())


def test_going_on_forgets_what_came_after_the_checkpoint(tmp_path):
    first = Run(tmp_path / "run")
    first.rewind(0)
    for step in (50, 100, 150):
        first.record(step, {"td": step / 10, "ndcg@10": 0.1})
    with (tmp_path / "run" / METRICS).open("a") as lines:
        lines.write('{"step": 200, "td"')
    heard = []
    second = Run(tmp_path / "run", say=heard.append)
    second.rewind(100)
    second.record(150, {"td": 99.0})
    assert heard == ["Going on from step 100."]
    lines = list(metrics_of(tmp_path / "run"))
    assert [(line["step"], line["td"]) for line in lines] == [(50, 5.0), (100, 10.0), (150, 99.0)]
    assert told(tmp_path / "run") == {
        "training/td": {50: 5.0, 100: 10.0, 150: 99.0},
        "validation/ndcg@10": {50: pytest.approx(0.1), 100: pytest.approx(0.1)},
    }


def test_what_cannot_be_read_is_counted_and_passed_over(tmp_path):
    (tmp_path / METRICS).write_text('{"step": 1}\n{"st\n[]\n{"step": "x"}\n{"step": 2}\n{"step"')
    assert [line["step"] for line in metrics_of(tmp_path)] == [1, 2]
    assert damaged_lines(tmp_path) == 4
    assert measured(tmp_path)["step"] == 2 and measured(tmp_path / "none") == {}


def test_the_best_step_is_the_first_of_equal_ones(tmp_path):
    run = Run(tmp_path)
    for step, found in ((1, 0.2), (2, 0.3), (3, 0.3), (4, 0.1)):
        run.record(step, {"seconds": float(step), "ndcg@10": found, "ndcg@10 (q)": 0.9})
    assert measured(tmp_path) == {"step": 4, "seconds": 4.0, "best": 0.3, "best_step": 2}


def test_a_checkpoint_is_due_after_so_many_seconds_and_when_it_stops(tmp_path):
    assert Run(tmp_path, every=0).due()
    run = Run(tmp_path, every=1000)
    assert not run.due()
    run.kept()
    run.stop()
    assert run.due()
    with pytest.raises(KeyboardInterrupt):
        run.kept()


def test_an_account_is_read_as_it_was_written(tmp_path):
    ACCOUNT.write(tmp_path)
    assert Account.read(tmp_path) == ACCOUNT
    assert [path.name for path in tmp_path.iterdir()] == [ABOUT]


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"seconds": "many"}, {"state": "asleep"}, {"options": []}, {"best": True},
     {"more": 1}, {"step": 1.5}],
)  # fmt: skip
def test_an_account_that_says_something_else_is_refused(tmp_path, change):
    ACCOUNT.write(tmp_path)
    content = json.loads((tmp_path / ABOUT).read_text())
    (tmp_path / ABOUT).write_text(json.dumps(content | change))
    with pytest.raises(InvalidArgument) as found:
        Account.read(tmp_path)
    assert "cannot be read" in said(found)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\x00\xff"])
def test_an_account_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / ABOUT).write_text(text, encoding="latin-1")
    with pytest.raises(InvalidArgument) as found:
        Account.read(tmp_path)
    said(found)


def test_a_run_that_nobody_writes_has_stopped():
    folder = kept("data/agent")
    Run(folder).record(7, {"ndcg@10": 0.5})
    assert account_of(folder).state == "stopped" and account_of(folder).best_step == 7
    with Run(folder).alone():
        assert account_of(folder).state == "running"


def test_one_process_writes_and_the_lock_dies_with_it(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from recgym.runs import Run\n"
        "with Run(Path(sys.argv[1])).alone(): print('in', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ) as other:
        assert other.stdout.readline() == b"in\n"
        assert is_written(tmp_path / "run")
        with pytest.raises(Busy) as found, Run(tmp_path / "run").alone():
            pass
        assert "--out" in said(found)
        other.kill()
    assert not is_written(tmp_path / "run")
    with Run(tmp_path / "run").alone():
        pass


def test_clearing_deletes_what_a_run_wrote_and_nothing_else(tmp_path):
    run = Run(tmp_path)
    run.rewind(0)
    run.record(1, {"td": 1.0})
    ACCOUNT.write(tmp_path)
    (tmp_path / "agent").mkdir()
    (tmp_path / "thesis.tex").write_text("mine")
    run.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_is_found_by_its_folder_and_by_a_part_of_its_name(tmp_path):
    first, second = kept("films/snqn-12345678"), kept("films/snqn-12345678-seed-1")
    third = kept("songs/snqn")
    assert run_folders() == [first, second, third]
    assert run_named("seed-1") == second and run_named("songs") == third
    assert run_named("snqn-12345678") == first, "the whole name is no part"
    assert run_named("songs/snqn") == run_named(str(third)) == third
    with pytest.raises(InvalidArgument) as found:
        run_named("films")
    assert "2 runs" in said(found)
    with pytest.raises(UnknownName) as found:
        run_named("song/sqn")
    assert "Did you mean 'songs/snqn'?" in said(found)
    assert run_named(str(tmp_path)) == tmp_path, "what it lacks is said by who reads it"
