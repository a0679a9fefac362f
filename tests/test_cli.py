"""The command line, run as a person would: real processes, real exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import minari
import pytest

import recgym
from recgym.cli import main
from recgym.protocols import PROTOCOLS

RECGYM = Path(sys.executable).with_name("recgym")


def recgym_data(*words, **options):
    return subprocess.run([RECGYM, *words], capture_output=True, text=True, **options)


@pytest.fixture
def demo():
    return recgym.prepare("demo", name="demo")


def test_a_log_is_built_shown_hashed_and_removed(tmp_path):
    build = recgym_data("data", "build", "demo", "--name", "shop", "--visits", "200")
    assert build.returncode == 0, build.stderr
    assert "demo (visits 200)" in build.stdout
    log = recgym.load_log("shop")
    assert log.n_sessions == 200
    assert log.manifest.command == "recgym data build demo --name shop --visits 200"
    info = json.loads(recgym_data("data", "info", "shop", "--json").stdout)
    assert info["rows"] == len(log)
    assert info["digest"] == log.manifest.digest
    assert recgym_data("data", "hash", "shop").stdout.split() == [log.manifest.digest, "shop"]
    listed = json.loads(recgym_data("data", "list", "--json").stdout)
    assert [entry["name"] for entry in listed["logs"]] == ["shop"]
    assert "movielens" in listed["sources"]
    refused = recgym_data("data", "remove", "shop", stdin=subprocess.DEVNULL)
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert recgym_data("data", "remove", "shop", "--yes").returncode == 0
    assert json.loads(recgym_data("data", "list", "--json").stdout)["logs"] == []


def test_a_log_is_exported_and_datasets_are_combined(demo):
    export = recgym_data("data", "export", "demo", "--json")
    assert export.returncode == 0, export.stderr
    written = json.loads(export.stdout)
    names = [f"recgym/demo/logged{split}-v0" for split in ("", "-validation", "-test")]
    assert [entry["dataset"] for entry in written] == names
    assert sum(entry["episodes"] for entry in written) == demo.n_sessions
    again = recgym_data("data", "export", "demo", "--splits", "test")
    assert again.returncode == 1
    assert "--replace" in again.stderr
    assert recgym_data("data", "export", "demo", "--splits", "test", "--replace").returncode == 0
    other = recgym_data("data", "export", "demo", "--name", "plain", "--format", "hdf5",
                        "--splits", "test", "test")  # fmt: skip
    assert "recgym/plain/logged-test-v0" in other.stdout
    pair = [names[2], "recgym/plain/logged-test-v0"]
    joined = recgym_data("data", "combine", *pair, "--into", "recgym/demo/twice-v0", "--json")
    assert json.loads(joined.stdout)[0]["episodes"] == 2 * written[2]["episodes"]
    assert minari.load_dataset("recgym/demo/twice-v0").combined_datasets == pair
    refused = recgym_data("data", "combine", *names[:2], "--into", "recgym/demo/both-v0")
    assert refused.returncode == 1 and "env_spec" in refused.stderr
    unknown = recgym_data("data", "combine", names[0], "recgym/demo/loged-v0", "--into", "x-v0")
    assert "Did you mean 'recgym/demo/logged-v0'?" in unknown.stderr


def test_a_split_without_rows_is_told():
    frame = {"user": [1, 1, 1, 2, 2], "item": list("abcab"), "turn": [1, 2, 3, 1, 2]}
    recgym.log_from_frame(
        frame, user="user", item="item", order="turn", protocol="leave-last-out", name="few"
    )
    export = recgym_data("data", "export", "few")
    assert export.returncode == 0, export.stderr
    assert "recgym/few/logged-v0" in export.stdout
    assert "no test row with an item that it indexes" in export.stderr


def test_a_damaged_log_does_not_hide_the_others(demo):
    recgym.prepare("demo", name="hurt")
    (recgym.load_log("hurt").path / "items.arrow").unlink()
    run = recgym_data("data", "list")
    assert run.returncode == 0
    assert demo.manifest.digest[:8] in run.stdout
    assert "damaged:" in run.stdout
    listed = json.loads(recgym_data("data", "list", "--json").stdout)
    assert [entry["name"] for entry in listed["logs"]] == ["demo"]
    assert len(listed["damaged"]) == 1
    assert recgym_data("data", "remove", "hurt", "--yes").returncode == 0


def test_every_switch_can_be_changed_and_is_recorded():
    words = ["--protocol", "sqn-rc15", "--split", "session-time", "--seed", "7", "--ties", "hash"]
    build = recgym_data("data", "build", "demo", "--name", "shop", *words)
    assert build.returncode == 0, build.stderr
    switches = recgym.load_log("shop").manifest.protocol
    assert switches["name"] == "sqn-rc15"
    assert (switches["split"], switches["seed"], switches["ties"]) == ("session-time", 7, "hash")
    assert switches["rewards"] == PROTOCOLS["sqn-rc15"].rewards
    assert "published sessions" in build.stdout


def test_help_names_every_option_and_nothing_is_built():
    text = recgym_data("data", "build", "movielens", "--help").stdout
    for option in ("--raw", "--name", "--split", "--rewards", "--gap", "--memory", "--engine"):
        assert option in text
    assert "data" in recgym_data("--help").stdout
    for verb in ("list", "build", "info", "hash", "diagnose", "remove"):
        assert verb in recgym_data("data").stdout
        assert recgym_data("data", verb, "--help").returncode == 0
    assert recgym_data("--version").stdout == f"recgym {recgym.__version__}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data", "infoo"], "Did you mean 'info'"),
        (["dat"], "Did you mean 'data'"),
        (["data", "info", "dem"], "Did you mean 'demo'"),
        (["data", "build", "movielen", "--name", "x"], "Did you mean 'movielens'"),
        (["data", "build", "demo", "--name", "x", "--protocol", "tempora"], "'temporal'"),
        (["data", "build", "movielens", "--name", "x"], "give --raw with ml-25m.zip"),
        (["data", "build", "movielens", "--name", "x", "--raw", "nowhere"], "no file or folder"),
        (["data", "build", "demo", "--name", "demo"], "--replace"),
        (["data", "build", "demo", "--name", "../x"], "cannot name a log"),
        (["data", "build", "no.such:Thing", "--name", "x"], "package.module:Class"),
        (["data", "build", "demo", "--name", "x", "--memory", "lots"], "no amount of memory"),
        (["data", "remove", "nothing", "--yes"], "No log is named 'nothing'"),
        (["data", "build", "demo", "--name", "x", "--cuts", "0.9", "0.8"], "first < second"),
        (["data", "build", "demo", "--name", "x", "--rewards", "levels"], "is for ratings"),
    ],
)
def test_a_slip_is_answered_in_a_sentence(demo, words, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recgym", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code in (1, 2)
    assert says in " ".join(capsys.readouterr().err.split())
    assert recgym.load_log("demo").verify() == demo.manifest.digest


def test_ctrl_c_says_what_is_true_of_every_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "stops.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recgym", "agents", "stops:Agent"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    assert capsys.readouterr().err == (
        "Stopped: what was being written is there whole or not at all, and the same command "
        "begins again or goes on.\n"
    )


@pytest.mark.parametrize("variable", ["MINARI_DATASETS_PATH", "RECGYM_HOME"])
def test_a_home_that_is_none_is_told_with_its_variable(variable, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    words = ["train", "random", "--data", "x"]
    if variable == "RECGYM_HOME":
        recgym.collect("recgym/OracleStatic-v0", "random", sessions=5)
        words[-1] = "recgym/oracle-static/random-v0"
    monkeypatch.setattr(sys, "argv", ["recgym", *words])
    with pytest.raises(SystemExit):
        main()
    assert f"Point {variable} at a folder" in capsys.readouterr().err


def test_a_manifest_keeps_no_path_of_the_machine(tmp_path):
    raw = tmp_path / "secret" / "events.csv"
    raw.parent.mkdir()
    raw.write_text("user,item,ts\n" + "".join(f"{k % 3},{k},{1700000000 + k}\n" for k in range(30)))
    build = recgym_data("data", "build", "table", "--raw", raw, "--time", "ts", "--name", "mine")
    assert build.returncode == 0, build.stderr
    text = (Path(os.environ["RECGYM_HOME"]) / "logs" / "mine" / "manifest.json").read_text()
    assert "secret" not in text
    assert "--raw events.csv" in json.loads(text)["command"]


def test_a_source_of_a_stranger_loads_by_name(tmp_path):
    (tmp_path / "strange.py").write_text(
        "from recgym.datasets.demo import Source as Demo\nclass Source(Demo): pass\n"
    )
    build = recgym_data(
        "data", "build", "strange:Source", "--name", "theirs", "--items", "60",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    log = recgym.load_log("theirs")
    assert log.manifest.source == {"name": "strange:Source", "items": 60}
    assert log.manifest.counts["items"] == 60
