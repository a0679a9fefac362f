"""Training from the command line: what is kept, what goes on, what is refused."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from recgym import terminal
from recgym.agent import load_agent
from recgym.cli import run
from recgym.errors import Busy, Diverged, InvalidArgument, RecGymError, UnknownName
from recgym.rollouts import collect
from recgym.runs import METRICS, Run, metrics_of, trainings
from tests.sentences import said
from tests.training import (
    DATA,
    QUICK,
    SMALL,
    folder_of,
    pixels,
    printed,
    train,
    weights,
    write_data,
)


@pytest.fixture(autouse=True)
def data(one_thread):
    write_data()


# ------------------------------------------------------------------------------------ one training


def test_a_training_keeps_all_that_is_needed_to_look_at_it(capsys):
    said_of = train(capsys, "snqn", *QUICK)
    assert "Validated on recgym/n/mixed-validation-v0" in said_of.err
    assert "snqn: 33%" in said_of.err and "td " in said_of.err
    (folder,) = (trainings() / "n-mixed").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "agent", "checkpoint.safetensors", "curves.png", "metrics.jsonl", "run.json",
        "tensorboard",
    }  # fmt: skip
    account = json.loads((folder / "run.json").read_text())
    assert account["agent"] == "recgym.agents.snqn:SNQN" and account["state"] == "finished"
    assert account["changed"] == {"steps": 60, "validate_every": 20, "size": 8, "batch_size": 16}
    assert account["options"]["negatives"] == 10 and account["dataset"] == DATA
    assert account["validation"] == "recgym/n/mixed-validation-v0" and account["step"] == 60
    lines = list(metrics_of(folder))
    assert [line["step"] for line in lines] == [20, 40, 50, 60]
    asked = {line["step"]: line["ndcg@10"] for line in lines if "ndcg@10" in line}
    assert account["best"] == max(asked.values()) == asked[account["best_step"]]
    assert f"{account['best']:.4g}" in said_of.out
    assert pixels(folder / "curves.png").shape == (500, 1200, 3)
    agent = load_agent("snqn").load(folder / "agent")
    assert agent.size == 8 and agent.parameters > 0


def test_the_same_command_does_not_train_again_and_anew_does(capsys):
    folder = folder_of(capsys, "supervised", *QUICK)
    before = (folder / METRICS).read_text()
    again = train(capsys, "supervised", *QUICK)
    assert "not trained again" in again.err and "ndcg@10" in again.out
    assert (folder / METRICS).read_text() == before
    first = weights(folder)
    (folder / "mine.txt").write_text("mine")
    anew = train(capsys, "supervised", *QUICK, "--anew")
    assert "not trained again" not in anew.err and "--anew" not in anew.out
    assert (folder / METRICS).read_text() != before, "its seconds are others"
    assert weights(folder) == first and (folder / "mine.txt").exists()


def test_options_and_seeds_have_folders_of_their_own(capsys):
    for words in ((), ("--seed", "2"), ("--learning-rate", "0.01"), ("--encoder", "gru4rec")):
        train(capsys, "supervised", *QUICK, *words)
    names = sorted(path.name for path in (trainings() / "n-mixed").iterdir())
    assert len(names) == 4 and len({name.removesuffix("-seed-2") for name in names}) == 3


@pytest.mark.parametrize(
    ("words", "validation"),
    [(("--validation", "none"), None), (("--validation", DATA), DATA)],
)
def test_validation_data_can_be_chosen(capsys, words, validation):
    folder = folder_of(capsys, "supervised", *QUICK, *words)
    account = json.loads((folder / "run.json").read_text())
    assert account["validation"] == validation and (account["best"] is None) == (validation is None)
    assert pixels(folder / "curves.png").shape == (500, 1200 if validation else 700, 3)


def test_where_no_validation_split_is_here_it_is_said(capsys):
    collect("recgym/OracleBoredom-v0", "random", sessions=60, name="n", **SMALL)
    words = ("supervised", "--data", "recgym/n/random-v0", *QUICK)
    heard = printed(capsys, "train", *words).err
    assert "Without validation data: recgym/n/random-validation-v0 is not here." in heard


def test_an_agent_without_checkpoints_is_trained_too(capsys):
    folder = folder_of(capsys, "markov")
    assert folder.name == "markov" and (folder / "agent").is_dir()
    assert not (folder / "checkpoint.safetensors").exists() and not (folder / "curves.png").exists()
    account = json.loads((folder / "run.json").read_text())
    assert account["state"] == "finished" and account["step"] is None and account["seconds"] > 0
    assert "not trained again" in train(capsys, "markov").err


PLAIN = """
class Constant:
    \"\"\"Likes one item.\"\"\"

    def __init__(self, item=0, seed=0):
        self.item, self.seed = item, seed

    def fit(self, train, validation=None, env=None):
        return self

    def act(self, observations, infos):
        return [self.item] * len(observations)

    def save(self, folder):
        folder.mkdir()
        (folder / "item.txt").write_text(f"{self.item} {self.seed}")


class Broken(Constant):
    def fit(self, train, validation=None, env=None):
        raise ZeroDivisionError("nothing to divide")
"""


@pytest.fixture
def plain_agent(tmp_path, monkeypatch):
    (tmp_path / "plain_agent.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "plain_agent"
    sys.modules.pop("plain_agent", None)


def test_an_agent_that_is_no_dataclass_takes_name_and_value(capsys, plain_agent):
    words = (f"{plain_agent}:Constant", "--set", "item=3", "--seed", "5")
    folder = folder_of(capsys, *words)
    assert (folder / "agent" / "item.txt").read_text() == "3 5"
    assert folder.name.startswith("plain-agent-constant-") and folder.name.endswith("-seed-5")
    with pytest.raises(UnknownName) as found:
        train(capsys, f"{plain_agent}:Constant", "--set", "itm=3")
    assert "Did you mean 'item'?" in said(found)


def test_what_failed_says_why(capsys, plain_agent):
    with pytest.raises(ZeroDivisionError):
        train(capsys, f"{plain_agent}:Broken")
    assert (
        "failed: ZeroDivisionError('nothing to divide')"
        in printed(capsys, "runs", "show", "broken").out
    )
    with pytest.raises(Diverged):
        train(capsys, "sqn", *QUICK, "--learning-rate", "1e9")
    account = json.loads(printed(capsys, "runs", "show", "sqn", "--json").out)
    assert account["state"] == "failed" and "loss" in account["problem"]


def test_help_shows_both_kinds_of_options_with_their_comments(capsys):
    with pytest.raises(SystemExit) as left:
        run(["train", "snqn", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert left.value.code == 0
    parts = (
        "training options", "agent options", "--encoder {gru4rec,sasrec,",
        "--learning-rate FLOAT", "of Adam", "--checkpoint-every FLOAT",
        "seconds after which one is due", "Self-supervised negative Q-learning",
    )  # fmt: skip
    for part in parts:
        assert part in text
    assert "recgym train AGENT --help" in printed(capsys, "train").out


def test_progress_is_a_bar_where_somebody_watches_and_lines_elsewhere(capsys, monkeypatch):
    with terminal.bar("snqn", every=0) as show:
        show(0.1, "step 10")
        time.sleep(0.01)
        show(0.2, "step 20")
    with terminal.bar("sqn") as show:
        show(0.1, "step 10")
        show(0.2, "too soon")
    heard = capsys.readouterr().err
    assert "snqn: 10%; step 10\n" in heard and "too soon" not in heard
    assert "snqn: 20%, 0:00:00 left at most; step 20\n" in heard
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "ERR", Console(file=screen, force_terminal=True, width=100))
    with terminal.bar("snqn") as show:
        show(0.5, "step 50: td 0.1")
    for part in ("snqn", "50%", "left, at most", "step 50: td 0.1"):
        assert part in screen.getvalue()


# ---------------------------------------------------------------------------------- interruptions


def command(*words):
    return [str(Path(sys.executable).with_name("recgym")), "train", "snqn", "--data", DATA, *words]


def test_an_interrupted_training_goes_on_to_the_same_agent(capsys, tmp_path):
    words = ("--steps", "400", "--validate-every", "100", "--size", "8", "--batch-size", "8")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command(*words, "--out", str(parts)), env=env, stderr=subprocess.PIPE, text=True
    ) as begun:
        while not list(metrics_of(parts)):
            assert begun.poll() is None, begun.stderr.read()
            time.sleep(0.02)
        with pytest.raises(Busy):
            train(capsys, "snqn", *words, "--out", str(parts))
        begun.send_signal(signal.SIGINT)
        heard = begun.communicate()[1]
    assert begun.returncode == 130 and "Traceback" not in heard
    assert "goes on from the last checkpoint: recgym train snqn" in heard
    assert not (parts / "agent").exists() and not list(parts.glob(".*.part"))
    assert "stopped" in printed(capsys, "runs", "show", str(parts)).out
    heard = train(capsys, "snqn", *words, "--out", str(parts)).err
    assert "Going on from step " in heard
    train(capsys, "snqn", *words, "--out", str(whole))
    assert weights(whole) == weights(parts)
    lines = [[{k: v for k, v in line.items() if k != "seconds"} for line in metrics_of(folder)]
             for folder in (whole, parts)]  # fmt: skip
    assert lines[0] == lines[1]


def test_an_agent_that_learns_from_users_meets_those_of_the_dataset(capsys):
    words = ["--steps", "2", "--users", "3", "--rollout", "4", "--size", "8", "--epochs", "1"]
    folder = folder_of(capsys, "ppo", *words)
    assert all("return" in line for line in metrics_of(folder))
    shown = collect("recgym/OracleBoredom-v0", "mixed", sessions=5, name="shown", **SMALL)
    shown.storage.update_metadata({"log": {"digest": "of a log"}})
    with pytest.raises(RecGymError, match="did so once") as found:
        printed(capsys, "train", "ppo", "--data", shown.id, *words)
    said(found)


# ------------------------------------------------------------------------------------------ slips


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train", "snq", "--data", DATA], "Did you mean 'snqn'?"),
        (["train", "snqn", "--data", "recgym/n/mixd-v0"], f"Did you mean '{DATA}'?"),
        (["train", "snqn", "--data", "recgym/films/logged-v0"], "`recgym data export films`"),
        (["train", "snqn", "--data", "recgym/oracle-drift/expert-v0"],
         "`recgym data collect recgym/OracleDrift-v0 --policies expert`"),
        (["train", "snqn", "--data", "recgym/oracle-static/mixed-test-v0"],
         "`recgym data collect recgym/OracleStatic-v0 --policies mixed`"),
        (["train", "snqn", "--data", "elsewhere-v3"], "`recgym data export LOG`"),
        (["train", "snqn", "--data", DATA, "--validation", "recgym/n/mixed-validatin-v0"],
         "Did you mean"),
        (["train", "snqn", "--data", "recgym/n/mixed-test-v0"], "is a test dataset"),
        (["train", "shop-dpo", "--data", "recgym/minishop/oracle-validation-v0"],
         "`recgym data collect recgym/MiniShop-v0 --policies oracle`"),
    ],
)  # fmt: skip
def test_slips_are_said_in_a_sentence(words, part):
    with pytest.raises(RecGymError) as found:
        run(words)
    assert part in said(found)
    assert not list(trainings().glob("*/*/run.json")), "nothing was begun"


def test_options_that_do_not_exist_end_with_2(capsys):
    for words in (["--learning", "1"], ["--batch-size", "0"], []):
        with pytest.raises(SystemExit) as left:
            run(["train", "snqn", *(["--data", DATA] if words else []), *words])
        assert left.value.code == 2
    assert "--data" in capsys.readouterr().err


def test_a_folder_with_something_else_is_left_alone(capsys, tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "code.py").write_text("mine")
    for words in ((), ("--anew",)):
        with pytest.raises(InvalidArgument) as found:
            train(capsys, "popular", "--out", str(tmp_path), *words)
        assert "something else than a run" in said(found)
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]
    assert (tmp_path / "agent" / "code.py").read_text() == "mine"
    out = ("--out", str(tmp_path / "run"))
    train(capsys, "supervised", *QUICK, *out)
    for words, part in (
        (("popular", *out), "is of another agent"),
        (("supervised", *QUICK, "--seed", "1", *out), "has other options"),
        (("supervised", *QUICK, "--validation", "none", *out), "has other validation data"),
    ):
        with pytest.raises(InvalidArgument) as found:
            train(capsys, *words)
        assert part in said(found) and "--anew" in said(found)
    collect("recgym/OracleBoredom-v0", sessions=61, name="n", replace=True, **SMALL)
    with pytest.raises(InvalidArgument) as found:
        train(capsys, "supervised", *QUICK, *out)
    assert "another one" in said(found)


def test_a_run_is_kept_from_python_too(tmp_path):
    import minari

    agent = load_agent("supervised")(steps=60, size=8, batch_size=16)
    agent.fit(minari.load_dataset(DATA), run=Run(tmp_path / "run"))
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == [50, 60]
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
