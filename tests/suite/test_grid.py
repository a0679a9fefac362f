"""Which steps a suite has, and in which order."""

from pathlib import Path

from recgym.suite.file import read_suite
from recgym.suite.grid import Grid
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
