import hashlib
import json
import os
import pickle
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recgym.benchmarks import BENCHMARKS
from recgym.errors import RecGymError
from recgym.evaluation.intervals import paired
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import primary_interval
from recgym.evaluation.scoring import measured, primary_outcomes
from recgym.evaluation.tasks import Task
from recgym.leaderboard.submission import read, validate
from recgym.leaderboard.verification import recompute, record_of, records, reproduce
from tests.leaderboard.conftest import git
from tests.sentences import said


def refused(act, *words, **options):
    with pytest.raises(RecGymError) as error:
        act(*words, **options)
    return said(error)


TASKS = {}  # making one anew takes longer than the rest


def task_of(name):
    if name not in TASKS:
        TASKS[name] = Task(BENCHMARKS[name], "test", lambda stage, share: None)
    return TASKS[name]


def recomputed(board, file=None):
    file = file or board.lucky
    task = task_of(file.parent.name)
    return recompute(file, board.root, board.predictions(file), task=task)


def tables(board, file=None, seed=0):
    return board.predictions(file) / f"seed-{seed}"


def rehash(board, file=None):
    """State the sizes and hashes of the predictions as they lie there now."""

    def change(content):
        for result in content["results"]:
            for table, stated in result["predictions"].items():
                data = (tables(board, file, result["seed"]) / f"{table}.parquet").read_bytes()
                stated.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    board.edit(change, file)


def rewrite(file, change):
    pq.write_table(change(pq.read_table(file)), file)


def edit_sources(board):
    """Change the agents of the passer-by's working tree, and import from there."""
    source = board.code / "passerby" / "agents.py"
    source.write_text(source.read_text().replace("default_rng(self.seed)", "default_rng(99)"))


@pytest.fixture
def at_home(board, monkeypatch):
    """The passer-by's code is that of the copy."""
    monkeypatch.syspath_prepend(board.code)
    return board


# --------------------------------------------------------------------------------------- recompute


@pytest.mark.parametrize("file", ["lucky", "steady", "shop"])
def test_an_honest_row_is_recomputed_and_stays_so(board, file):
    file = getattr(board, file)
    record = recomputed(board, file)
    stated = read(file, board.root)
    assert record.trust == "recomputed"
    assert record_of(stated, records(board.root)) == record
    text = (board.root / "verified.json").read_text()
    assert recomputed(board, file) == record
    assert (board.root / "verified.json").read_text() == text
    assert validate(board.root) == []


def test_predictions_of_this_machine_are_found_by_their_hash(board):
    assert recompute(board.steady, board.root).trust == "recomputed"
    assert recompute(board.lucky, board.root, board.predictions().parent).trust == "recomputed"
    assert "--predictions" in refused(recompute, board.lucky, board.root)


def test_the_difference_to_the_baseline_is_the_paired_one(board):
    found = recomputed(board).recomputed.against
    task = task_of(board.lucky.parent.name)
    runs = [
        [Predictions.read(tables(board, file, result["seed"]), result["predictions"])
         for result in board.content(file)["results"]]
        for file in (board.lucky, board.steady)
    ]  # fmt: skip
    difference = paired(*(primary_outcomes(task, run) for run in runs))
    assert (found.mean, found.low, found.high, found.p) == (
        difference.mean, difference.low, difference.high, difference.p
    )  # fmt: skip
    means = [board.content(file)["primary"]["mean"] for file in (board.lucky, board.steady)]
    assert found.mean == pytest.approx(means[0] - means[1])
    assert found.submission == hashlib.sha256(board.steady.read_bytes()).hexdigest()
    assert recomputed(board, board.steady).recomputed.against is None
    board.steady.unlink()
    assert recomputed(board).recomputed.against is None


def test_numbers_that_agree_among_themselves_must_follow_from_the_predictions(board):
    def swap(content):
        first, second = content["results"][:2]
        first["metrics"], second["metrics"] = second["metrics"], first["metrics"]
        by_seed = content["primary"]["by_seed"]
        by_seed[:2] = by_seed[1::-1]

    board.edit(swap)
    assert validate(board.root) == []
    sentence = refused(recomputed, board)
    assert "numbers that differ" in sentence and "is stated as" in sentence
    assert not (board.root / "verified.json").exists()


@pytest.mark.parametrize(
    ("path", "factor", "hint"),
    [
        (("primary", "low"), 0.99, "'primary, low'"),
        (("primary", "high"), 1.0001, "'primary, high'"),
        (("results", 0, "metrics", "lists", "coverage@10"), 1.01, "coverage@10"),
        (("results", 2, "metrics", "lists", "novelty@10"), 1 + 1e-6, "'seed 2, lists, novelty@10'"),
        (("results", 1, "metrics", "closed loop", "length"), 1.001, "length"),
    ],
)
def test_a_number_that_no_rule_binds_is_found_wrong_and_named(board, path, factor, hint):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] *= factor

    board.edit(change)
    assert validate(board.root) == []
    assert hint in refused(recomputed, board)


def test_other_predictions_than_those_that_were_hashed_are_refused(board):
    shutil.copy(tables(board, seed=1) / "ranking.parquet", tables(board))
    assert "not what was submitted" in refused(recomputed, board)


def test_swapped_predictions_are_refused_even_if_hashed_anew(board):
    first, second = tables(board), tables(board, seed=1)
    first.rename(first.with_name("away"))
    second.rename(first)
    first.with_name("away").rename(second)
    rehash(board)
    assert "does not follow" in refused(recomputed, board)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("ranking", lambda table: table.slice(0, len(table) - 1)),
        ("ranking", lambda table: table.slice(0, 0)),
        ("ranking", lambda table: pa.concat_tables([table, table])),
        ("ranking", lambda table: table.take(np.arange(len(table))[::-1])),
        ("ranking", lambda table: table.drop_columns(["scores"])),
        ("ranking", lambda table: table.rename_columns(["more", "equal", "items", "scores"])),
        ("ranking", lambda table: table.set_column(0, "greater", table["greater"].cast("int64"))),
        ("ranking", lambda table: table.set_column(0, "greater", table["greater"].cast("string"))),
        ("ranking", lambda table: table.append_column("verified", table["greater"])),
        ("ranking", lambda table: table.set_column(
            0, "greater", pa.array([None] * len(table), pa.int32()))),
        ("ranking", lambda table: table.set_column(
            0, "greater", pa.array([0] * len(table), pa.int32()))),
        ("ranking", lambda table: table.set_column(
            1, "equal", pa.array([0] * len(table), pa.int32()))),
        ("ranking", lambda table: table.set_column(
            1, "equal", pa.array([-1] * len(table), pa.int32()))),
        ("actions", lambda table: table.slice(0, 50)),
        ("actions", lambda table: table.slice(0, 0)),
        ("actions", lambda table: pa.table({"items": [[]] * len(table)}, table.schema)),
        ("actions", lambda table: pa.table({"items": [[10**9]] * len(table)}, table.schema)),
        ("actions", lambda table: pa.table({"items": [[-1]] * len(table)}, table.schema)),
        ("actions", lambda table: pa.table({"items": [[0]] * len(table)}, table.schema)),
        ("actions", lambda table: pa.table({"items": [None] * len(table)}, table.schema)),
        ("actions", lambda table: pa.table(  # 80 MB of nothing in some bytes
            {"items": pa.LargeListArray.from_arrays([0, 2 * 10**7],
                                                    pa.array(np.zeros(2 * 10**7, np.int32)))})),
    ],
)  # fmt: skip
def test_tables_that_are_not_those_of_the_benchmark_are_refused(board, table, change):
    rewrite(tables(board) / f"{table}.parquet", change)
    rehash(board)
    refused(recomputed, board)
    assert not (board.root / "verified.json").exists()


def test_links_missing_files_and_pickles_are_no_predictions(board, tmp_path):
    file = tables(board) / "ranking.parquet"
    file.rename(tmp_path / "elsewhere.parquet")
    refused(recomputed, board)
    file.symlink_to(tmp_path / "elsewhere.parquet")
    refused(recomputed, board)
    file.unlink()
    marker = tmp_path / "executed"

    class Exploit:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    file.write_bytes(pickle.dumps(Exploit()))
    rehash(board)
    refused(recomputed, board)
    assert not marker.exists()


def test_data_that_hash_differently_are_another_question(board):
    board.edit(lambda content: content["dataset"].update(sha256="0" * 64), board.shop)
    assert validate(board.root) == []  # nobody has frozen the hash of these data
    assert "hash to 000000000000…" in refused(recomputed, board, board.shop)


def test_nothing_of_a_submission_is_imported_to_recompute_it(board):
    assert not [name for name in sys.modules if name.startswith("passerby")]
    recomputed(board)
    assert not [name for name in sys.modules if name.startswith("passerby")]


def test_a_row_that_was_edited_is_only_claimed(board):
    recomputed(board)
    board.edit(lambda content: content.update(note="honest, and the best"))
    assert validate(board.root) == []
    assert record_of(read(board.lucky, board.root), records(board.root)) is None
    assert recomputed(board).trust == "recomputed"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"schema": 2, "rows": {}}', '{"schema": 1}', '{"schema": 1, "rows": []}',
        '{"schema": 1, "rows": {"../x": {}}}',
        '{"schema": 1, "rows": {"a/b": {"submission": "x", "recomputed": RECOMPUTED}}}',
        '{"schema": 1, "rows": {"a/b": {"submission": HASH, "recomputed": RECOMPUTED}}, "more": 1}',
        '{"schema": 1, "rows": {"a/b": {"submission": HASH, "recomputed": {"recgym": "<b>", '
        '"against": null}}}}',
        '{"schema": 1, "rows": {"a/b": {"submission": HASH, "recomputed": {"recgym": "1", '
        '"against": {"submission": HASH, "mean": NaN, "low": 0, "high": 0, "p": 0}}}}}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(board, text):
    text = text.replace("RECOMPUTED", '{"recgym": "1", "against": null}')
    (board.root / "verified.json").write_text(text.replace("HASH", f'"{"0" * 64}"'))
    assert "verified.json is damaged" in refused(records, board.root)


def test_rows_that_are_gone_leave_the_record(board):
    recomputed(board)
    recomputed(board, board.shop)
    board.lucky.unlink()
    recomputed(board, board.steady)
    assert records(board.root).keys() == {"oracle-boredom-random-v0/steady--recgym",
                                          "demo-v0/lucky--passerby"}  # fmt: skip


# --------------------------------------------------------------------------------------- reproduce


def test_code_runs_only_where_it_is_trusted(board):
    assert "only claimed" in refused(reproduce, board.lucky, board.root, trust=True)
    recomputed(board)
    sentence = refused(reproduce, board.lucky, board.root, trust=False)
    assert "passerby.agents:Lucky" in sentence and "--trust" in sentence
    assert "'passerby'" in sentence
    assert board.content()["code"]["commit"][:12] in sentence
    assert not [name for name in sys.modules if name.startswith("passerby")]


@pytest.mark.parametrize("file", ["lucky", "steady", "shop"])
def test_a_seeded_agent_is_reproduced(at_home, file):
    file = getattr(at_home, file)
    before = recomputed(at_home, file)
    record = reproduce(file, at_home.root, trust=True)
    again, stated = record.reproduced, at_home.content(file)
    assert record.trust == "reproduced"
    assert record.recomputed == before.recomputed
    assert again.stated == again.found
    assert again.stated == stated["primary"]["by_seed"][stated["seeds"].index(again.seed)]
    assert again.commit == stated["code"]["commit"] and again.same_code
    assert record_of(read(file, at_home.root), records(at_home.root)) == record
    assert recomputed(at_home, file) == record  # and recomputing does not forget it
    at_home.edit(lambda content: content.update(note="edited"), file)
    assert record_of(read(file, at_home.root), records(at_home.root)) is None


def test_a_seed_can_be_named_and_must_be_one_of_the_row(at_home):
    recomputed(at_home)
    assert "[0, 1, 2]" in refused(reproduce, at_home.lucky, at_home.root, trust=True, seed=7)
    assert reproduce(at_home.lucky, at_home.root, trust=True, seed=2).reproduced.seed == 2


def test_other_code_is_not_that_of_the_row_and_is_found_out(at_home):
    recomputed(at_home)
    edit_sources(at_home)
    commit = at_home.content()["code"]["commit"][:12]
    assert f"git checkout {commit}" in refused(reproduce, at_home.lucky, at_home.root, trust=True)
    sentence = refused(reproduce, at_home.lucky, at_home.root, trust=True, any_commit=True, seed=0)
    assert "not reproduced" in sentence
    assert str(at_home.content()["primary"]["by_seed"][0]) in sentence
    assert records(at_home.root)["oracle-boredom-random-v0/lucky--passerby"].reproduced is None


def test_other_code_of_the_same_outcome_is_recorded_as_such(at_home):
    recomputed(at_home)
    source = at_home.code / "passerby" / "agents.py"
    source.write_text(source.read_text() + "\n# tidied\n")
    refused(reproduce, at_home.lucky, at_home.root, trust=True)
    record = reproduce(at_home.lucky, at_home.root, trust=True, any_commit=True)
    assert not record.reproduced.same_code


@pytest.mark.parametrize("file", ["results.json", "passerby/README.md", "passerby/plots/all.png"])
def test_later_commits_elsewhere_leave_the_code_of_an_agent_as_it_was(at_home, file):
    recomputed(at_home)
    (at_home.code / file).parent.mkdir(exist_ok=True)
    (at_home.code / file).write_text("We won.\n")
    assert reproduce(at_home.lucky, at_home.root, trust=True).reproduced.same_code
    git(at_home.code, "add", ".")
    git(at_home.code, "commit", "--quiet", "--message", "Results")
    assert reproduce(at_home.lucky, at_home.root, trust=True).reproduced.same_code


def test_invented_predictions_follow_from_nothing_but_themselves(at_home):
    """Whoever puts each target first passes as recomputed, and is not reproduced."""
    task = task_of("demo-v0")
    targets = task.targets.items

    def forge(table):
        items = np.stack(table["items"].to_numpy().tolist())
        for row, target in enumerate(targets):
            if target < task.n_items:
                others = [item for item in items[row] if item != target]
                items[row] = [target, *others[: items.shape[1] - 1]]
        known = targets < task.n_items
        scores = np.tile(np.linspace(1, 0, items.shape[1], dtype=np.float32), (len(items), 1))
        lists = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), items.shape[1])
            for name, values in (("items", items.astype(np.int32)), ("scores", scores))
        }
        greater = np.where(known, 0, task.n_items).astype(np.int32)
        equal = np.ones(len(items), np.int32)
        return pa.table({"greater": greater, "equal": equal} | lists, table.schema)

    for seed in range(3):
        rewrite(tables(at_home, at_home.shop, seed) / "ranking.parquet", forge)
    rehash(at_home, at_home.shop)
    content = at_home.content(at_home.shop)
    runs = [Predictions.read(tables(at_home, at_home.shop, result["seed"]), result["predictions"])
            for result in content["results"]]  # fmt: skip
    for result, run in zip(content["results"], runs, strict=True):
        result["metrics"] = measured(task, run)
    content["primary"] |= primary_interval(task, runs, content["results"])
    at_home.shop.write_text(json.dumps(content))
    assert content["primary"]["mean"] == 1
    assert recomputed(at_home, at_home.shop).trust == "recomputed"
    assert "not reproduced" in refused(reproduce, at_home.shop, at_home.root, trust=True)


def test_an_agent_with_chance_cannot_pass_as_one_without(at_home):
    def change(content):
        content.update(chance=False, seeds=[0], results=content["results"][:1])
        content["primary"]["by_seed"] = content["primary"]["by_seed"][:1]

    at_home.edit(change)
    content = at_home.content()
    task = task_of(content["benchmark"])
    runs = [Predictions.read(tables(at_home), content["results"][0]["predictions"])]
    content["primary"] |= primary_interval(task, runs, content["results"])
    at_home.lucky.write_text(json.dumps(content))
    recomputed(at_home)
    assert "left to chance" in refused(reproduce, at_home.lucky, at_home.root, trust=True)
