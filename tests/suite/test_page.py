"""What is said of results in a page."""

from pathlib import Path

import pytest

from recgym.errors import RecGymError
from recgym.suite.page import filled
from recgym.suite.results import read_results
from tests.sentences import said

ROOT = Path(__file__).parents[2]


def difference(benchmark, mean, adjusted, claim=False):
    return {
        "benchmark": benchmark, "row": "a", "group": "its twin", "against": "b", "mean": mean,
        "low": mean and mean - 0.1, "high": mean and mean + 0.1, "p": adjusted,
        "adjusted": adjusted, "claim": claim,
    }  # fmt: skip


def test_sentences_say_where_a_row_is_better_and_where_not():
    benchmarks = dict.fromkeys(["one", "two", "three", "four", "five"], "ndcg@10")
    results = {
        "schema": 1, "suite": "grid.toml", "benchmarks": benchmarks,
        "rows": {name: {"a": None, "b": None} for name in benchmarks},
        "comparisons": [
            difference("one", 0.5, 0.01, True), difference("two", 0.5, 0.04),
            difference("three", -0.5, 0.01, True), difference("four", 0.5, 0.06, True),
            difference("five", None, None),
        ],
    }  # fmt: skip
    text = filled("<!-- results --><!-- /results -->", results)
    assert (
        "- `a` against its twin (`b`): better on one ▲ and two; worse on three ▼; no difference "
        "on four; not run on five.\n" in text
    )
    assert (
        "| `a` | `b` | won +0.500 (+0.400 to +0.600) ▲ | won +0.500 (+0.400 to +0.600) | "
        "lost -0.500 (-0.600 to -0.400) ▼ | no difference +0.500 (+0.400 to +0.600) | not run |"
        in text
    )
    for page in ("", "<!-- results -->", 2 * "<!-- results --><!-- /results -->"):
        with pytest.raises(RecGymError) as problem:
            filled(page, results)
        assert "needs one block" in said(problem)


def test_the_page_of_agents_is_what_its_results_say():
    page = (ROOT / "agents" / "README.md").read_text(encoding="utf-8")
    assert page.count("<!-- results -->") == page.count("<!-- /results -->") == 1
    file = ROOT / "agents" / "results.json"
    assert not file.exists() or filled(page, read_results(file)) == page
