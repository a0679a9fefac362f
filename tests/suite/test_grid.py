"""Which steps a suite has, and in which order."""

import math
from pathlib import Path

import minari

from recgym.suite.file import read_suite
from recgym.suite.grid import Grid, _chosen_by
from recgym.suite.runner import _work
from tests.suite.conftest import GUESS

ROOT = Path(__file__).parents[2]


def test_tables_fill_evenly_and_rows_with_few_seeds_come_last(tiny):
    found = tiny.suite(
        "seeds = [0, 1]\n" + GUESS + "tune = true\n"
        + '[[rows]]\nname = "wild"\nagent = "tiny:Wild"\n'
        + '[[rows]]\nname = "twin"\nagent = "tiny:Guess"\ntuned-as = "guess"\nseeds = [0]\n'
        + "options = { acts = -1 }\n[tune]\nseed = 9\nnoise = [0.0, 0.5]\n",
        ["tiny:SHOP", "tiny:USERS"],
    )  # fmt: skip
    order = [str(step).replace("tiny:", "") for step in Grid(found).steps()
             if step.kind != "report"]  # fmt: skip
    assert order == [
        "guess on SHOP, tuning noise=0.0", "guess on SHOP, tuning noise=0.5",
        "guess on SHOP, seed 0", "wild on SHOP, seed 0",
        "guess on USERS, tuning noise=0.0", "guess on USERS, tuning noise=0.5",
        "guess on USERS, seed 0", "wild on USERS, seed 0",
        "guess on SHOP, seed 1", "wild on SHOP, seed 1", "twin on SHOP, seed 0",
        "guess on USERS, seed 1", "wild on USERS, seed 1", "twin on USERS, seed 0",
    ]  # fmt: skip
    part = Grid(found, ["twin", "USERS"])
    assert [row.name for row in part.rows] == ["twin"] and part.benchmarks == ["tiny:USERS"]
    assert [step.kind for step in part.steps()] == ["tuning", "tuning", "seed", "report"]


def test_no_step_of_the_grid_of_the_project_is_done_twice():
    steps = Grid(read_suite(ROOT / "examples" / "grid.toml")).steps()
    assert len({step.key for step in steps}) == len(steps) > 400
    assert str(steps[0]).startswith("supervised-sasrec on movielens")


def test_validation_data_choose_by_the_score_in_a_shop():
    assert _chosen_by({"shop": {"score": 0.6}}) == 0.6
    assert _chosen_by({"ranking": {"main": {"all": {"ndcg@10": 0.2}}}}) == 0.2
    assert _chosen_by({}) == -math.inf


def test_the_data_of_a_shop_need_no_test_dataset():
    _work({"kind": "data", "benchmark": "minishop-b-v0"})
    assert sorted(minari.list_local_datasets()) == [
        "recgym/minishop/scripted-v0", "recgym/minishop/scripted-validation-v0"
    ]  # fmt: skip
