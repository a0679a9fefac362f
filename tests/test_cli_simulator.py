"""Simulators from the command line: fitted, listed, stopped, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from recgym import cli_simulator
from recgym.cli import run
from recgym.errors import InvalidArgument, MissingExtra, RecGymError
from recgym.home import home
from recgym.simulator.asked import PAPER, Asked, Fit, Tokenization
from recgym.simulator.small import Texts, make_small
from recgym.simulator.store import Simulator, about, simulators

from .sentences import said
from .simulator.test_store import saved
from .training import DATA, printed, write_data

QUICK = (
    "--share", "0.5", "--batches", "3", "--batch-size", "4", "--tokens.iterations", "2",
)  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny model in a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_small(Texts(["A book that is about travel, by chance."]), folder, steps=1)
    return saved(folder, AutoTokenizer.from_pretrained(folder), seed=7, positions=1024)


@pytest.fixture(autouse=True)
def data(one_thread):
    write_data()


def fit(capsys, model, *words):
    words = ("--data", DATA, "--model", model, *QUICK, *words)
    return printed(capsys, "simulator", "fit", *words)


def one_line(text):
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------ fitted


def test_the_commands_are_listed(capsys):
    text = one_line(printed(capsys, "simulator").out)
    for part in ("fit", "list", "card", "one to train agents, one to score them"):
        assert part in text
    assert "simulator" in printed(capsys).out


def test_help_shows_all_options_with_their_comments(capsys):
    with pytest.raises(SystemExit) as left:
        run(["simulator", "fit", "--help"])
    text = one_line(capsys.readouterr().out)
    assert left.value.code == 0
    for part in (
        "--data STR", "--model STR", "--share FLOAT", "of the training users", "--base-rate FLOAT",
        "--tokens.iterations INT", "--roles", "--paper", "--precision {float32,bf16}", "--seed INT",
        "The same command goes on where it was stopped", "(default: recgym-small)",
    ):  # fmt: skip
        assert part in text
    assert "--role " not in text and "--tokens.seed" not in text


def test_two_simulators_are_fitted_to_disjoint_users(capsys, model):
    heard = fit(capsys, model)
    assert simulators() == ["n-mixed-tiny-scoring", "n-mixed-tiny-training"]
    one, other = (about(f"n-mixed-tiny-{role}") for role in ("training", "scoring"))
    assert one["sha256"] != other["sha256"]
    for told, role, seed in ((one, "training", 0), (other, "scoring", 1000)):
        how = told["asked"]
        assert (how["fit"]["role"], how["fit"]["seed"], how["tokens"]["seed"]) == (role, seed, seed)
        assert (
            f"The simulator for {role} learned from {told['moments']} moments of {told['users']} "
            f"users. On {told['held']} moments of others, what was taken has the higher reward in "
            f"{told['accuracy']:.1%} of pairs."
        ) in heard.err
    assert heard.out == "How far to trust it: recgym simulator card n-mixed-tiny\n"
    again = fit(capsys, model)
    assert again.err.count("is there already, and is not fitted again.") == 2
    assert Simulator.load("n-mixed-tiny-training").sha256 == one["sha256"]


def test_one_of_them_can_be_fitted_under_another_name(capsys, model):
    fit(capsys, model, "--roles", "training", "--name", "mine", "--seed", "4")
    assert simulators() == ["mine-training"]
    how = about("mine-training")["asked"]
    assert how["fit"]["seed"] == how["tokens"]["seed"] == 4
    text = fit(capsys, model, "--roles", "scoring", "--name", "mine", "--seed", "4").err
    assert about("mine-scoring")["asked"]["fit"]["seed"] == 1004 and "scoring" in text


def test_the_paper_learns_item_tokens_longer(capsys, model, monkeypatch):
    asked = cli_simulator.in_role(Asked(tokens=PAPER, fit=Fit(seed=2)), "scoring")
    assert (asked.tokens.iterations, asked.tokens.patience, asked.tokens.seed) == (300, 0, 1002)
    monkeypatch.setattr(cli_simulator, "PAPER", Tokenization(iterations=3, patience=0))
    fit(capsys, model, "--paper", "--roles", "training")  # fewer, for time
    how = about("n-mixed-tiny-training")["asked"]["tokens"]
    assert (how["iterations"], how["patience"]) == (3, 0)


# ------------------------------------------------------------------------------------------ listed


def test_where_there_is_none_the_list_says_how_to_make_one(capsys):
    assert "No simulator yet. Try: recgym simulator fit" in printed(capsys, "simulator", "list").out
    assert json.loads(printed(capsys, "simulator", "list", "--json").out) == {}


def test_those_that_are_there_are_listed(capsys, model, monkeypatch):
    fit(capsys, model, "--seed", "3")
    (home() / "simulators" / "half").mkdir()
    told = json.loads(printed(capsys, "simulator", "list", "--json").out)
    assert told == {name: about(name) for name in simulators()} and len(told) == 2
    monkeypatch.setattr(cli_simulator.OUT, "width", 200)
    lines = printed(capsys, "simulator", "list").out.splitlines()
    assert lines[0].split() == ["simulator", "model", "data", "users", "moments", "right", "pairs",
                                "seed"]  # fmt: skip
    for line, (name, one), seed in zip(lines[1:], told.items(), ("1003", "3"), strict=True):
        assert line.split() == [
            name, "tiny", DATA, str(one["users"]), str(one["moments"]), f"{one['accuracy']:.3f}",
            seed,
        ]  # fmt: skip


def test_a_damaged_one_does_not_hide_the_others(capsys, model):
    fit(capsys, model)
    file = home() / "simulators" / "n-mixed-tiny-scoring" / "simulator.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    heard = printed(capsys, "simulator", "list", "--json")
    assert list(json.loads(heard.out)) == ["n-mixed-tiny-training"]
    assert f"{file} is no checkpoint that can be read" in heard.err and "delete it" in heard.err


# ------------------------------------------------------------------------------------- interrupted


def command(*words):
    return [str(Path(sys.executable).with_name("recgym")), "simulator", *words]


HEEDS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's & ignores
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_ctrl_c_leaves_nothing_half_made_and_the_command_goes_on(capsys, model):
    words = ("--data", DATA, "--model", model, "--share", "0.5", "--epochs", "100000",
             "--tokens.iterations", "2", "--name", "long")  # fmt: skip
    folder = home() / "simulators" / "long-training"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    heeding = [sys.executable, "-P", "-c", HEEDS, *command("fit", *words)]
    with subprocess.Popen(heeding, env=env, stderr=subprocess.PIPE, text=True) as begun:
        while not (folder / "request.safetensors").exists():
            assert begun.poll() is None, begun.stderr.read()
            time.sleep(0.02)
        begun.send_signal(signal.SIGINT)
        heard = begun.communicate()[1]
    assert begun.returncode == 130 and "Traceback" not in heard
    assert "the same command begins again or goes on" in one_line(heard)
    assert simulators() == []
    assert len(list((home() / "simulators" / ".tokens").glob("*.safetensors"))) == 1
    fit(capsys, model, "--roles", "training")
    assert simulators() == ["n-mixed-tiny-training"]


# ------------------------------------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--data", "recgym/n/mixd-v0"], f"Did you mean '{DATA}'?"),
        (["--data", "recgym/films/logged-v0"], "`recgym data export films`"),
        (["--data", "recgym/oracle-drift/expert-v0"],
         "`recgym data collect recgym/OracleDrift-v0 --policies expert`"),
        (["--name", "a/b"], "No folder can be called 'a/b': give another --name."),
        (["--name", ".hidden"], "No folder can be called '.hidden'"),
        (["--name", ".."], "No folder can be called '..'"),
        (["--share", "0.01"], "10 or more: give another share, or more data"),
        (["--share", "0.7"], "There is no share of 0.7 of the users for scoring"),
        (["--domain", "moves"], "Did you mean 'movies'?"),
        (["--device", "tpu7"], "The device 'tpu7' is not at hand"),
        (["--model", "."], "No causal language model can be loaded from '.'"),
        (["--roles"], "No role is named: give --roles training scoring, or one of them."),
        (["--share", "0"], "The option share is 0.0, and has to be above 0, and 1 at most."),
        (["--share", "2"], "The option share is 2.0, and has to be above 0, and 1 at most."),
        (["--epochs", "-3"], "The option epochs is -3, and has to be 1 or more."),
        (["--base-rate", "0"], "The option base_rate is 0.0, and has to be between 0 and 1."),
        (["--base-rate", "1"], "The option base_rate is 1.0, and has to be between 0 and 1."),
        (["--rank", "0"], "The option rank is 0, and has to be 1 or more."),
        (["--seed", "-1"], "The option seed is -1, and has to be 0 or more"),
    ],
)  # fmt: skip
def test_slips_are_said_in_a_sentence(capsys, model, words, part):
    with pytest.raises(RecGymError) as found:
        fit(capsys, model, *words)
    assert part in said(found)
    assert simulators() == [], "nothing was fitted"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--tokens.iterations", "0"], "The option iterations is 0, and has to be 1 or more."),
        (["--share", "much"], "much"),
        (["--epochs", "1.5"], "1.5"),
        (["--roles", "judging"], "judging"),
        (["--precision", "int8"], "int8"),
        (["--shares", "0.5"], "--shares"),
        (["--tokens.seed", "1"], "--tokens.seed"),
    ],
)
def test_options_that_cannot_be_used_end_with_2(capsys, model, words, part):
    with pytest.raises(SystemExit) as left:
        fit(capsys, model, *words)
    text = one_line(capsys.readouterr().err.replace("│", " "))
    assert left.value.code == 2 and part in text
    assert simulators() == []


def test_data_have_to_be_named(capsys):
    with pytest.raises(SystemExit) as left:
        run(["simulator", "fit"])
    assert left.value.code == 2 and "--data" in capsys.readouterr().err


def test_an_unknown_command_is_said(capsys):
    with pytest.raises(SystemExit) as left:
        run(["simulator", "fitt"])
    assert left.value.code == 2 and "Did you mean 'fit'?" in capsys.readouterr().err


def test_another_request_under_the_same_name_is_refused(capsys, model):
    fit(capsys, model, "--roles", "training")
    with pytest.raises(InvalidArgument) as found:
        fit(capsys, model, "--roles", "training", "--rank", "2")
    assert "(other: rank)" in said(found)


@pytest.mark.parametrize("package", ["torch", "transformers", "peft"])
def test_without_language_models_the_extra_is_named(package):
    script = f"""
import sys

class Without:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
from recgym.cli import run
from recgym.errors import RecGymError
print([name for name in ("torch", "transformers", "peft") if name in sys.modules])
try:
    run(sys.argv[1:])
except RecGymError as problem:
    print(type(problem).__name__, problem)
"""
    words = ("simulator", "fit", "--data", DATA, *QUICK, "--name", "none")
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    loaded, told = done.stdout.strip().split("\n")
    assert loaded == "[]", "the command line alone loads none of them"
    assert told.startswith(MissingExtra.__name__) and "pip install 'recgym[llm]'" in told
    assert not list((home() / "simulators").glob("*/language")), "and nothing was learned"
