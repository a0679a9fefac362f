"""What is said of results in a page."""

import re
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from recgym.errors import RecGymError
from recgym.suite.page import filled, picture_of
from recgym.suite.picture import draw_rows, draw_sweep, ranked, shown_on
from recgym.suite.results import read_results
from tests.sentences import said

ROOT = Path(__file__).parents[2]
EMPTY = "<!-- results of grid.toml --><!-- /results of grid.toml -->"


def difference(benchmark, mean, adjusted, claim=False):
    return {
        "benchmark": benchmark, "row": "a", "group": "its twin", "against": "b", "mean": mean,
        "low": mean and mean - 0.1, "high": mean and mean + 0.1, "p": adjusted,
        "adjusted": adjusted, "claim": claim,
    }  # fmt: skip


def test_sentences_say_where_a_row_is_better_and_where_not():
    benchmarks = dict.fromkeys(["one", "two", "three", "four", "five", "six"], "ndcg@10")
    results = {
        "schema": 1, "suite": "grid.toml", "benchmarks": benchmarks,
        "rows": {name: {"a": swept(0.5)[0], "b": None} for name in benchmarks}
        | {"five": {"a": None, "b": None}},
        "comparisons": [
            difference("one", 0.5, 0.01, True), difference("two", 0.5, 0.04),
            difference("three", -0.5, 0.01, True), difference("four", 0.5, 0.06, True),
            difference("six", None, None), difference("five", None, None),
        ],
        "sweeps": {}, "shows": [], "claims": [],
    }  # fmt: skip
    text = filled(EMPTY, results)
    assert (
        "- `a` against its twin (`b`): better on one ▲ and two; worse on three ▼; no difference "
        "on four; not run on six.\n" in text
    )
    assert "\nNot run: all rows on `five`.\n" in text and "| five" not in text
    assert (
        "| `a` | `b` | won +0.500 (+0.400 to +0.600) ▲ | won +0.500 (+0.400 to +0.600) | "
        "lost -0.500 (-0.600 to -0.400) ▼ | no difference +0.500 (+0.400 to +0.600) | not run |"
        in text
    )
    for page in ("", EMPTY.partition("/")[0], 2 * EMPTY):
        with pytest.raises(RecGymError) as problem:
            filled(page, results)
        assert "needs one block" in said(problem)


def test_the_page_of_agents_is_what_its_results_say():
    page = (ROOT / "agents" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall("<!-- results of (.+).toml -->", page)
    written = {file.stem.removeprefix("results-") for file in (ROOT / "agents").glob("results-*")}
    assert blocks == ["repeats", "grid", "crr", "lea", "shop"] and written <= set(blocks)
    for name in written:
        results = read_results(ROOT / "agents" / f"results-{name}.json")
        assert filled(page, results) == page
        drawn = [picture_of(results, sweep) for sweep in results["sweeps"]
                 if shown_on(results, sweep)]  # fmt: skip
        assert all((ROOT / "agents" / picture).is_file() for picture in drawn)


def swept(mean, **options):
    return {
        "mean": mean, "low": mean - 0.1, "high": mean + 0.1, "seeds": [0], "training": {},
    }, options  # fmt: skip


def test_points_of_a_sweep_are_drawn_and_in_no_table(tmp_path):
    points = {f"s-beta-{beta}-m-{m}": swept(beta / 4 + m / 20, beta=beta, m=m)
              for beta in (1, 2, 3) for m in (2, 4)}  # fmt: skip
    cells = {name: cell for name, (cell, _) in points.items()} | {"base": swept(0.3)[0]}
    cells["s-beta-3-m-4"] = None
    results = {
        "schema": 1, "suite": "grid.toml", "comparisons": [], "shows": [],
        "benchmarks": {"one": "ndcg@10", "two": "return", "three": "return"},
        "rows": {"one": cells, "two": {"base": swept(2.0)[0]}, "three": dict.fromkeys(cells)},
        "sweeps": {"s": {"beside": ["base"],
                         "points": {name: options for name, (_, options) in points.items()}}},
    }  # fmt: skip
    assert shown_on(results, "s") == ["one"]
    text = filled(EMPTY, results)
    assert "![`s`: `beta` and `m`](plots/grid-s.png)" in text
    assert "`s`: 5 of 12 points were run" in text
    assert "s-beta" not in text
    tables = [line for line in text.splitlines() if line.startswith("| row")]
    assert tables == ["| row | one (NDCG@10) |", "| row | two (return) |"]
    assert "| `base` | 2.00 (1.90 to 2.10), 1 seed |" in text
    assert draw_sweep(results, "s", tmp_path / "s.svg").stat().st_size > 5000
    drawn = (tmp_path / "s.svg").read_text()
    assert all(f"<!-- {words} -->" in drawn for words in ("one", "NDCG@10", "beta", "base", "m"))


def test_what_answers_rest_on_is_folded_away():
    ranking = {f"{metric}@{k}": k / 100 for k in (5, 10, 20) for metric in ("hr", "ndcg", "mrr")}
    a, b = (swept(mean)[0] | {"ranking": ranking, "training": {"weight": 0.9}}
            for mean in (0.5, 0.3))  # fmt: skip
    results = {
        "schema": 1, "suite": "grid.toml", "benchmarks": {"one": "ndcg@10", "two": "return"},
        "rows": {"one": {"a": a, "b": b}, "two": {"a": a}},
        "comparisons": [difference("one", 0.2, 0.01)], "sweeps": {}, "shows": ["weight"],
        "claims": [{"says": "a is better", "row": "a", "above": "b"}],
    }  # fmt: skip
    seen, *folded = filled(EMPTY, results).split("<details>")
    assert "| a is better | `a` above `b` | yes: +0.200 (+0.100 to +0.300) |  |" in seen
    assert "- `a` against" not in seen
    differences, metrics, logged = folded
    assert "- `a` against its twin (`b`): better on one.\n" in differences
    assert "| `a` | `b` | won" in differences and "same start" not in differences
    results["comparisons"][0]["same start"] = True
    assert "| `a` | `b`, same start | won" in filled(EMPTY, results)
    assert "Rows with the same start begin alike, seed by seed" in filled(EMPTY, results)
    assert "alike |" not in filled(EMPTY, results)
    results["comparisons"][0]["alike"] = 1
    assert "(+0.100 to +0.300); 1 seed alike |" in filled(EMPTY, results)
    assert "| row | HR@5 | NDCG@5 | HR@10 | NDCG@10 | HR@20 | NDCG@20 |" in metrics
    assert "| `b` | 0.050 | 0.050 | 0.100 | 0.100 | 0.200 | 0.200 |" in metrics
    assert "| `b` | one | 0.900 |" in logged


def test_what_stands_beside_the_primary_metric_has_tables_and_answers_of_its_own():
    met = {"success": {"mean": 0.2, "low": 0.1, "high": 0.3}}
    a, b = (swept(mean)[0] | {"also": met} for mean in (0.5, 0.3))
    both = [difference("one", 0.2, 0.5), difference("one", 0.15, 0.01) | {"metric": "success"}]
    results = {
        "schema": 1, "suite": "grid.toml", "benchmarks": {"one": "score"},
        "rows": {"one": {"a": a, "b": b}}, "comparisons": both, "sweeps": {}, "shows": [],
        "claims": [{"says": "a is better", "row": "a", "above": "b"}],
    }  # fmt: skip
    text = filled(EMPTY, results)
    score, success = text.split("| row | ")[1:3]
    assert score.startswith("one (score) |") and "| `a` | 0.500 (0.400 to 0.600), 1 seed |" in score
    assert success.startswith("one (success) |")
    assert "| `a` | 0.200 (0.100 to 0.300), 1 seed |" in success
    assert "| claim | rows | one | one (success) |" in text
    assert "not here: +0.200 (+0.100 to +0.300) | yes: +0.150 (+0.050 to +0.250) |" in text
    assert "better on one (success); no difference on one.\n" in text


def test_what_is_drawn_beside_a_sweep_has_its_seeds(monkeypatch, tmp_path):
    levels = []
    monkeypatch.setattr(Axes, "axhline", lambda axes, level, **how: levels.append(level))
    points = {f"s-{beta}": swept(0.5, beta=beta) for beta in (1, 2)}
    base = {"mean": 0.6, "low": 0.1, "high": 0.9, "seeds": [2, 0, 1], "by_seed": [0.9, 0.5, 0.4]}
    results = {
        "schema": 1, "suite": "grid.toml", "benchmarks": {"one": "ndcg@10"},
        "rows": {"one": {name: cell for name, (cell, _) in points.items()} | {"base": base}},
        "sweeps": {"s": {"beside": ["base"],
                         "points": {name: options for name, (_, options) in points.items()}}},
    }  # fmt: skip
    draw_sweep(results, "s", tmp_path / "s.png")
    assert levels == [0.5]


def test_rows_are_drawn_from_the_best_on_beside_what_the_scale_stands_for(tmp_path):
    cells = {name: swept(mean)[0] for name, mean in (("worst", 0.1), ("best", 0.5), ("mid", 0.3))}
    results = {
        "benchmarks": {"one": "ndcg@10"}, "rows": {"one": cells | {"late": None}},
        "anchors": {"one": {"random": 0.05, "vsknn": 0.4}},
    }  # fmt: skip
    assert list(ranked(results, "one")) == ["best", "mid", "worst"]
    draw_rows(results, "one", tmp_path / "one.svg")
    drawn = (tmp_path / "one.svg").read_text()
    words = ("best", "worst", "random 0.05", "vsknn 0.4", "NDCG@10 (95% interval)")
    assert all(f"<!-- {word} -->" in drawn for word in words)
    assert "<!-- late -->" not in drawn
