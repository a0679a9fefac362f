import json
import subprocess
import sys
from pathlib import Path

import pytest

from recgym.benchmarks import BENCHMARKS
from recgym.cli import run
from recgym.errors import InvalidArgument, UnknownName
from recgym.leaderboard.render import render
from recgym.terminal import options_from
from tests.sentences import said

ROOT = Path(__file__).parents[1]


def printed(capsys, *words):
    run(words)
    return capsys.readouterr().out


def test_agents_are_listed_with_what_they_learn_from(capsys):
    text = printed(capsys, "agents")
    assert "vsknn" in text and "random" in text and "rules" in text
    with pytest.raises(SystemExit):
        run(["agents", "vsknn"])
    assert "sessions that vote" in capsys.readouterr().out
    assert "observation" in printed(capsys, "agents", "observer")


def test_every_benchmark_is_listed_and_described(capsys):
    text = printed(capsys, "benchmarks")
    assert all(name in text for name in BENCHMARKS)
    rows = json.loads(printed(capsys, "benchmarks", "--json"))
    assert [row["name"] for row in rows] == list(BENCHMARKS)
    assert all(row["shows"] and row["hides"] and row["build"] for row in rows)
    about = printed(capsys, "benchmarks", "retailrocket-sample-v0")
    assert "No repeats" in about and "recgym data build retailrocket" in about
    about = printed(capsys, "benchmarks", "oracle-static-random-v0")
    assert "0.9497 (random) and 7.143 (planner)" in about
    about = printed(capsys, "benchmarks", "movielens-25m-v0")
    assert "items that the user knows" in about and "not frozen yet" in about
    for code in ("None", "mask_seen", "made_in", "True", "False"):
        assert code not in about
    assert all(line.split("  ")[-1] for line in about.splitlines())


def test_oracle_benchmarks_are_frozen_and_on_a_scale():
    oracles = [one for one in BENCHMARKS.values() if one.oracle]
    assert len(oracles) == 15 and all(len(one.sha256()) == 64 for one in oracles)
    assert all(one.anchors[0] < one.anchors[1] for one in oracles)


def test_shops_are_frozen_and_say_what_makes_their_data(capsys):
    shops = [one for one in BENCHMARKS.values() if one.shop]
    assert [one.name for one in shops] == ["minishop-v0", "minishop-b-v0", "webshop1k-v0"]
    assert all(len(one.sha256(split)) == 64 for one in shops for split in ("train", "validation"))
    assert all(one.anchors == (0, 1) and one.goals and not one.oracle for one in shops)
    rows = json.loads(printed(capsys, "benchmarks", "--json"))
    here = {row["name"]: row["here"] for row in rows if row["primary"] == "score"}
    assert list(here.values()) == [True, True, False]
    with pytest.raises(UnknownName, match="--files FOLDER"):
        run(["evaluate", "shop-rule", "--benchmark", "webshop1k-v0"])


def test_an_evaluation_in_a_shop_prints_what_was_bought(capsys):
    text = printed(capsys, "evaluate", "shop-rule", "shop-random", "--benchmark", "minishop-b-v0")
    for word in ("shop: goals 150", "success", "bought", "invalid", "against recgym.agents.shop"):
        assert word in text
    assert "targets" not in text and "no scores" not in text


def test_an_evaluation_prints_and_keeps_its_results(capsys, tmp_path):
    words = ("evaluate", "popular", "--benchmark", "oracle-static-random-v0", "--users", "50")
    out = ("--out", str(tmp_path / "run"))
    text = printed(capsys, *words, *out)
    for word in ("return", "ndcg@10", "without repeats", "novelty@10", "latency_ms", "leaderboard"):
        assert word in text
    (report,) = json.loads(printed(capsys, *words, *out, "--json"))
    assert report == json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["results"][0]["metrics"]["closed loop"]["users"] == 50


def test_several_agents_are_compared_with_the_first(capsys):
    text = printed(
        capsys, "evaluate", "popular", "random", "markov",
        "--benchmark", "oracle-static-random-v0", "--users", "50", "--seeds", "0", "1",
    )  # fmt: skip
    assert text.count("after Holm") == 2 and "a claim needs 5 seeds" in text


def test_off_policy_estimates_are_held_against_the_truth(capsys, tmp_path):
    words = (
        "evaluate", "popular", "greedy",
        "--benchmark", "oracle-static-mixed-v0", "--users", "100", "--ope",
    )  # fmt: skip
    text = printed(capsys, *words)
    for word in ("snips", "pdis", "dr", "fqe", "regret", "rank correlation"):
        assert word in text
    out = tmp_path / "off-policy.json"
    found = json.loads(printed(capsys, *words, "--json", "--out", str(out)))
    assert found["truths"]["greedy"] > found["truths"]["popular"]
    assert json.loads(out.read_text()) == {"oracle-static-mixed-v0": found}
    page = render(tmp_path)[tmp_path / "README.md"]
    assert "Off-policy estimators" in page and f"{found['truths']['greedy']:.2f}" in page


def test_a_stranger_s_agent_is_evaluated_like_any_other(tmp_path):
    import os

    home = {"RECGYM_HOME": str(tmp_path / "home"), "MINARI_DATASETS_PATH": str(tmp_path / "data")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("recgym")), "evaluate", "my_pkg.agents:MyAgent",
         "--benchmark", "oracle-static-medium-v0", "--users", "50", "--set", "decay=0.5", "--json"],
        env=os.environ | home | {"PYTHONPATH": str(ROOT / "tests" / "stranger")},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["agent"] == "my_pkg.agents:MyAgent" and report["config"] == {"decay": 0.5}
    assert report["code"]["package"] == "my_pkg" and report["ranks_all"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["evaluate", "--benchmark", "oracle-static-mixed-v0"], InvalidArgument),
        (["evaluate", "populr", "--benchmark", "oracle-static-mixed-v0"], UnknownName),
        (["evaluate", "popular", "--benchmark", "oracle-statik-mixed-v0"], UnknownName),
        (["evaluate", "no.such:Agent", "--benchmark", "oracle-static-mixed-v0"], InvalidArgument),
        (["evaluate", "json:JSONDecoder", "--benchmark", "demo"], InvalidArgument),
        (["evaluate", "popular", "random", "--benchmark", "oracle-static-mixed-v0",
          "--set", "a=1"], InvalidArgument),
        (["evaluate", "popular", "--benchmark", "yoochoose-sample-v0"], UnknownName),
        (["evaluate", "random", "--benchmark", "oracle-static-mixed-v0", "--seeds", "-1"],
         InvalidArgument),
        (["benchmarks", "none"], UnknownName),
        (["agents", "none"], UnknownName),
    ],
)  # fmt: skip
def test_slips_are_said_in_a_sentence(words, problem):
    with pytest.raises(problem) as found:
        run(words)
    said(found)


def test_options_are_json_or_text():
    assert options_from(("a=1", "b=0.5", "c=div", "d=[1]", "e=x=y")) == {
        "a": 1, "b": 0.5, "c": "div", "d": [1], "e": "x=y",
    }  # fmt: skip
    with pytest.raises(InvalidArgument) as found:
        options_from(("neighbours",))
    said(found)


def test_agents_of_a_library_that_is_missing_name_its_extra():
    script = """
import sys
sys.modules["d3rlpy"] = sys.modules["stable_baselines3"] = None
import recgym.agent
for name in ("d3rlpy-cql", "sb3-ppo"):
    try:
        recgym.agent.load_agent(name)
    except recgym.RecGymError as problem:
        print(problem)
from recgym.cli import run
run(["agents"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, *table = done.stdout.splitlines()
    assert "pip install 'recgym[d3rlpy]'" in first and "pip install 'recgym[sb3]'" in second
    assert any("vsknn" in line for line in table)
