"""What rows reached, how they compare, and where it is written."""

import json

import pytest

import recgym
from recgym.benchmarks import BENCHMARKS
from recgym.cli import run
from recgym.errors import RecGymError
from recgym.suite.grid import Grid
from recgym.suite.page import filled
from recgym.suite.results import read_results, results_of
from recgym.suite.runner import run_suite
from tests.sentences import said
from tests.suite.conftest import GUESS

COMPARED = (
    "seeds = [0, 1, 2]\n" + GUESS + "options = { noise = 0.01 }\n"
    + '[[rows]]\nname = "turned"\nagent = "tiny:Guess"\nseeds = [0]\noptions = { ranks = -1 }\n'
    + '[[rows]]\nname = "never"\nagent = "tiny:Wild"\nseeds = [0]\n'
    + '[[comparisons]]\nrow = "guess"\n'
    + 'against = { "its other" = ["turned"], "all" = ["turned", "never"], "VSKNN" = ["vsknn"] }\n'
    + '[[rows]]\nname = "same"\nagent = "tiny:Guess"\nseeds = [1, 2]\n'
    + "options = { noise = 0.01 }\n"
    + '[[comparisons]]\nrow = "same"\nagainst = { "itself" = ["guess"] }\n'
    + '[[comparisons]]\nrow = "guess"\nsame-start = true\nagainst = { "itself" = ["turned"] }\n'
    + '[[claims]]\nsays = "Order matters"\nrow = "guess"\nabove = "turned"\n'
    + '[[claims]]\nsays = "It is tame"\nrow = "guess"\nabove = "never"\n'
)  # fmt: skip


def test_what_was_reached_is_written_compared_rendered_and_submitted(tiny, capsys, monkeypatch):
    found = tiny.suite(COMPARED)
    run(tiny.command("--processes", "2", "--only", "guess", "turned", "same")[1:])
    page = tiny.folder / "README.md"
    page.write_text(
        "# Ours\n<!-- results of grid.toml -->\nold\n<!-- /results of grid.toml -->\nend\n"
    )
    results = tiny.folder / "results-grid.json"
    run(tiny.command("--results", str(results), "--render")[1:])
    content = read_results(results)
    cells = content["rows"]["tiny:SHOP"]
    assert cells["never"] is None and cells["guess"]["seeds"] == [0, 1, 2]
    assert cells["guess"]["options"] == {"noise": 0.01}
    assert cells["guess"]["low"] <= cells["guess"]["mean"] <= cells["guess"]["high"]
    assert cells["guess"]["mean"] == pytest.approx(cells["guess"]["ranking"]["ndcg@10"])
    first, again, never, agent, same, start = content["comparisons"]
    assert [one["alike"] for one in content["comparisons"]] == [0, 0, 0, 0, 2, 0]
    assert start["same start"] and not same["same start"]
    assert start["low"] > 0 and not start["claim"]  # of the seed of both
    assert first["mean"] == pytest.approx(cells["guess"]["mean"] - cells["turned"]["mean"])
    assert first["low"] > 0 and first["adjusted"] == 4 * first["p"] and not first["claim"]
    assert again["against"] == "turned" and never["mean"] is agent["mean"] is None
    capsys.readouterr()
    run(tiny.command("--show", "--plots", str(tiny.folder / "drawn"))[1:])
    said_of = capsys.readouterr().out
    assert said_of.index("guess") < said_of.index("turned") and "not run: never" in said_of
    assert f"{cells['guess']['low']:.3f} to {cells['guess']['high']:.3f}" in said_of
    (drawn,) = (tiny.folder / "drawn").iterdir()
    assert drawn.suffix == ".png" and drawn.stat().st_size > 5000
    text = page.read_text()
    assert text.startswith("# Ours\n<!-- results of grid.toml -->\nThe grid of `grid.toml`")
    assert "\n\nNot run: `never`.\n" in text and f"won {first['mean']:+.3f}" in text
    assert "- `guess` against its other (`turned`): better on tiny:SHOP.\n" in text
    assert "- `guess` against all (`turned` and `never`): not all run on tiny:SHOP.\n" in text
    assert "- `guess` against VSKNN (`vsknn`): not run on tiny:SHOP.\n" in text
    assert f"| Order matters | `guess` above `turned` | yes: {first['mean']:+.3f} (" in text
    assert "| It is tame | `guess` above `never` | not run |" in text
    assert filled(text, content) == text and text.endswith("<!-- /results of grid.toml -->\nend\n")

    board = tiny.folder / "board"
    submit = tiny.command("--submit", "us", "--root", str(board), "--only", "guess", "turned")[1:]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(submit)
    assert stop.value.code == 1  # a benchmark of one's own has no leaderboard
    assert "guess on tiny:SHOP: The run " in (out := capsys.readouterr().out)
    assert "No benchmark is named 'shop-v0'" in out and "Wrote 0 rows" in out
    monkeypatch.setitem(BENCHMARKS, "shop-v0", found.benchmarks["tiny:SHOP"])
    run(submit)
    out = capsys.readouterr().out
    assert "Wrote 1 row into" in out
    assert "Too few seeds for a table: turned on tiny:SHOP." in out
    row = json.loads((board / "shop-v0" / "guess--us.json").read_text())
    assert row["name"] == "guess" and row["seeds"] == [0, 1, 2]


def test_an_agent_that_was_evaluated_before_is_compared(tiny):
    found = tiny.suite(
        '[[rows]]\nname = "sure"\nagent = "tiny:Sure"\n'
        '[[comparisons]]\nrow = "sure"\nagainst = { nobody = ["random"] }\n'
    )
    grid = Grid(found)
    run_suite(grid, 2)
    shop = found.benchmarks["tiny:SHOP"]
    recgym.evaluate("random", shop, seeds=[0, 1, 2])
    (one,) = results_of(grid)["comparisons"]
    assert one["mean"] > 0 and not one["claim"]
    recgym.evaluate("random", shop, seeds=range(5))
    (one,) = results_of(grid)["comparisons"]
    assert one["claim"]  # one of them leaves nothing to chance, and the other has five seeds


def test_a_file_without_results_is_said(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    for name in ("results.json", "none.json"):
        with pytest.raises(RecGymError) as problem:
            read_results(tmp_path / name)
        assert "holds no results" in said(problem)
