"""Rows of shops: submitted, refused, recomputed, reproduced and rendered."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recgym.benchmarks import BENCHMARKS
from recgym.errors import RecGymError
from recgym.evaluation.report import evaluate
from recgym.leaderboard.render import render
from recgym.leaderboard.submission import new, read, validate
from recgym.leaderboard.verification import recompute, reproduce
from tests.leaderboard.conftest import board_at, settle
from tests.leaderboard.test_submission import changed
from tests.leaderboard.test_verification import rehash, tables
from tests.sentences import said

SHOP = "minishop-v0"
FOUND = ("results", 0, "metrics", "shop")


def at_shop(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, SHOP, replace(BENCHMARKS[SHOP], baseline="plain"))


@pytest.fixture(scope="module")
def shopped(honest, tmp_path_factory):
    """A board with two rows of one shop: an agent with chance, and the baseline."""
    home = tmp_path_factory.mktemp("shopped")
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle(monkeypatch, honest)
        at_shop(monkeypatch)
        for agent, row in (("Hasty", "hasty--passerby"), ("Plain", "plain--recgym")):
            folder = home / "copies" / SHOP / row
            evaluate(f"passerby.agents:{agent}", SHOP, folder=folder)
            name, _, team = row.partition("--")
            new(folder, team, home / "leaderboards", name=name)
        shutil.copytree(folder, honest / "home" / "runs" / SHOP / "plain")
    return home


@pytest.fixture
def board(shopped, tmp_path, monkeypatch):
    at_shop(monkeypatch)
    for folder in ("leaderboards", "copies"):
        shutil.copytree(shopped / folder, tmp_path / folder)
    rows = tmp_path / "leaderboards" / SHOP
    lucky, steady = rows / "hasty--passerby.json", rows / "plain--recgym.json"
    return replace(board_at(tmp_path), lucky=lucky, steady=steady)


def refused(act, *words, **options):
    with pytest.raises(RecGymError) as error:
        act(*words, **options)
    return said(error)


def test_an_honest_row_is_recomputed_compared_and_reproduced(board):
    assert validate(board.root) == []
    record = recompute(board.lucky, board.root, board.predictions())
    means = [read(file, board.root).report.primary["mean"] for file in (board.lucky, board.steady)]
    assert record.recomputed.against.mean == pytest.approx(means[0] - means[1])
    found = reproduce(board.lucky, board.root, trust=True, seed=1)
    assert found.reproduced.stated == found.reproduced.found and found.trust == "reproduced"


def test_a_text_that_was_changed_is_found(board):
    file = tables(board) / "said.parquet"
    rows = pq.read_table(file).column("texts").to_pylist()
    wanted = next(row for row in rows if row[0] != rows[0][0])[0]
    rows[0][0] = wanted  # another search, which goes on to other products
    pq.write_table(
        pa.table({"texts": pa.array(rows, pa.large_list(pa.large_string()))}),
        file,
        use_dictionary=False,
    )
    assert "not what was submitted" in refused(recompute, board.lucky, board.root,
                                               board.predictions())  # fmt: skip
    rehash(board)
    sentence = refused(recompute, board.lucky, board.root, board.predictions())
    assert "The trace does not fit" in sentence or "does not follow" in sentence


ONE = 1 / 150  # goal


@pytest.mark.parametrize(
    "more",
    [{"score": 0.001}, {"success": ONE}, {"length": ONE}, {"length": ONE, "invalid": ONE},
     {"bought": -ONE, "length": 97 * ONE}],
)  # fmt: skip
def test_what_could_be_and_was_not_is_found_by_replaying(board, more):
    def better(content):
        shops = [result["metrics"]["shop"] for result in content["results"]]
        for found in shops:
            found |= {metric: found[metric] + value for metric, value in more.items()}
        scores = [found["score"] for found in shops]
        content["primary"] |= {"by_seed": scores, "mean": float(np.mean(scores))}

    board.edit(better)
    assert validate(board.root, [board.lucky]) == []
    sentence = refused(recompute, board.lucky, board.root, board.predictions())
    assert "does not follow from its predictions" in sentence


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (changed(*FOUND, "goals", to=149), "a row is of 150"),
        (changed(*FOUND, "score", to=1.5), "maximum"),
        (changed(*FOUND, "bought", to=0.02), "at most that of purchases"),
        (changed(*FOUND, "success", to=0.9), "at least the share of success"),
        (changed(*FOUND, "success", to=0.0123), "no mean over 150 goals"),
        (changed(*FOUND, "bought", to=0.999), "no mean over 150 goals"),
        (changed(*FOUND, "length", to=2.0), "A length of 2 cannot be"),
        (changed(*FOUND, "length", to=100.02), "A length of 100.02 cannot be"),
        (changed(*FOUND, "length", to=3.001), "no mean over"),
        (changed(*FOUND, "invalid", to=50.0), "cannot be misunderstood"),
        (changed(*FOUND, "invalid", to=-1), "minimum"),
        (changed(*FOUND, "luck", to=1), "'luck'"),
        (changed(*FOUND, "goals", to=True), "goals"),
        (lambda content: content["results"][0]["metrics"]["shop"].pop("bought"), "no 'bought'"),
        (changed("results", 0, "metrics", to={}), "minProperties"),
        (changed("results", 0, "metrics", "lists",
                 to={"coverage@10": 0, "gini@10": 0, "novelty@10": 0}),
         "asks for the metrics shop, and lists, shop are given"),
        (changed("results", 0, "predictions", "actions", to={"sha256": "0" * 64, "bytes": 1}),
         "asks for the tables said"),
        (changed("primary", "metric", to="return"), "primary metric is score"),
        (changed("dataset", "sha256", to="0" * 64), "hash"),
    ],
)  # fmt: skip
def test_metrics_that_no_shopper_can_reach_are_refused_with_a_sentence(board, change, hint):
    board.edit(change)
    problems = validate(board.root, [board.lucky])
    assert hint in " ".join(problems)
    assert all(problem.isprintable() and problem.endswith(".") for problem in problems)
    refused(read, board.lucky, board.root)


@pytest.mark.parametrize("groups", [("shop",), ("lists",), ("shop", "lists")])
def test_a_row_of_users_has_no_metrics_of_a_shop_and_lacks_none(board, honest, groups):
    content = json.loads(board_at(honest).lucky.read_text())
    known = content["results"][0]["metrics"] | board.content()["results"][0]["metrics"]
    content["results"][0]["metrics"] = {group: known[group] for group in groups}
    file = board.root / "oracle-boredom-random-v0" / "lucky--passerby.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    (problem,) = validate(board.root, [file])
    assert "asks for the metrics closed loop, lists, ranking" in problem and problem[-1] == "."


def test_pages_show_what_was_bought_and_how(board):
    recompute(board.steady, board.root)
    recompute(board.lucky, board.root, board.predictions())
    pages = render(board.root)
    page, overview = pages[board.root / SHOP / "README.md"], pages[board.root / "README.md"]
    found = read(board.lucky, board.root).report
    shop = [result["metrics"]["shop"] for result in found.results]
    row = next(line for line in page.splitlines() if line.startswith("| `hasty`"))
    for name, digits in (("success", 3), ("bought", 3), ("length", 1)):
        assert f"| {np.mean([one[name] for one in shop]):.{digits}f} |" in row
    assert f"| {found.primary['mean']:.3f} (" in row and "†" not in page
    assert "coverage" not in page and "training (s)" in page and "against plain (95%)" in page
    line = next(line for line in overview.splitlines() if line.startswith("| `hasty`"))
    assert "shops (1 benchmarks)" in overview and " data | " in line
    assert f"| {found.primary['mean']:.3f} ± " in overview.partition("## Shops")[2]
    assert f"[{SHOP}]({SHOP}/README.md) | minishop-b-v0 |" in overview
