import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recgym.benchmarks import BENCHMARKS
from recgym.cli_leaderboard import run
from recgym.errors import RecGymError
from recgym.evaluation.intervals import aggregate, holm, normalised
from recgym.leaderboard.render import render
from recgym.leaderboard.submission import read, validate
from recgym.leaderboard.verification import recompute
from tests.sentences import said

ROOT = Path(__file__).parents[2]
ORACLE = "oracle-boredom-random-v0"


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def add(board, name, returns, *, benchmark=ORACLE, team="others", chance=True, **more):
    """A row with these returns by seed, whatever its predictions."""
    content = board.content()
    template = content["results"][0]
    anchors = BENCHMARKS[benchmark].anchors
    content["results"] = []
    for seed, value in enumerate(returns):
        loop = template["metrics"]["closed loop"] | {
            "return": value, "normalised": normalised(value, *anchors)}  # fmt: skip
        metrics = template["metrics"] | {"closed loop": loop}
        content["results"].append(template | {"seed": seed, "metrics": metrics})
    mean = float(np.mean(returns))
    content["primary"] |= {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "by_seed": returns}
    content |= {"name": name, "team": team, "seeds": list(range(len(returns))), "chance": chance}
    content["benchmark"] = benchmark
    asked = BENCHMARKS[benchmark]
    content["dataset"] = {"id": asked.dataset, "sha256": asked.sha256()}
    content |= more
    file = board.root / benchmark / f"{name}--{team}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    assert validate(board.root, [file]) == []
    return file


def verify(board, file, *, against=None, p=0.001, reproduced=False):
    """Record a row as verified, with this difference to the baseline."""
    verified = board.root / "verified.json"
    content = json.loads(verified.read_text()) if verified.exists() else {"schema": 1, "rows": {}}
    record = {"submission": sha256(file), "recomputed": {"recgym": "0.1.0", "against": None}}
    if against is not None:
        record["recomputed"]["against"] = {
            "submission": sha256(board.steady), "mean": against, "low": against - 0.1,
            "high": against + 0.1, "p": p}  # fmt: skip
    if reproduced:
        record["reproduced"] = {"seed": 0, "stated": 1.0, "found": 1.0, "tolerance": 0.01,
                                "commit": None, "same_code": False, "recgym": "0.1.0"}  # fmt: skip
    content["rows"][f"{file.parent.name}/{file.stem}"] = record
    verified.write_text(json.dumps(content))


def page(board, benchmark=ORACLE):
    return render(board.root)[board.root / benchmark / "README.md"]


def rows(text, heading=None):
    """The cells of the first table, or of the first after a heading, by column."""
    text = text.split(heading, 1)[1] if heading else text
    table = re.search(r"^\|.*\|$(\n\|.*\|$)+", text, re.MULTILINE)[0].splitlines()
    cells = [[cell.strip() for cell in re.split(r" \| ", line.strip("|"))] for line in table]
    assert len({len(line) for line in (cells[0], *cells[2:])}) == 1
    return [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]


# ---------------------------------------------------------------------------------------- in order


def test_rendering_again_changes_nothing(board):
    for file, text in render(board.root).items():
        file.write_text(text)
    assert {file: file.read_text() for file in render(board.root)} == render(board.root)
    assert set(render(board.root)) == {
        board.root / "README.md", board.root / ORACLE / "README.md",
        board.root / "demo-v0" / "README.md"}  # fmt: skip
    assert validate(board.root) == []


def test_the_tables_of_this_repository_are_what_their_files_say(monkeypatch):
    monkeypatch.undo()  # the benchmarks as they are
    assert validate(ROOT / "leaderboards") == []
    for file, text in render(ROOT / "leaderboards").items():
        assert file.read_text("utf-8") == text, f"{file}: run `recgym leaderboard render`"


def test_the_trusted_stand_above_the_better(board):
    best = add(board, "best", [9.0, 9.0, 9.0])
    fair = add(board, "fair", [3.0, 4.0, 5.0])
    good = add(board, "good", [5.0, 5.0, 5.0])
    poor = add(board, "poor", [1.0, 1.0, 1.0])
    for file in (fair, good):
        verify(board, file)
    verify(board, poor, reproduced=True)
    found = rows(page(board))
    assert [(row["agent"], row["trust"]) for row in found][:4] == [
        ("`poor` (others)", "reproduced"), ("`good` (others)", "recomputed"),
        ("`fair` (others)", "recomputed"), ("`best` (others)", "claimed"),
    ]  # fmt: skip
    assert found[2]["return (95%)"] == "4.00 (3.90 to 4.10)"
    low, high = BENCHMARKS[ORACLE].anchors
    assert found[2]["score"] == f"{100 * (4 - low) / (high - low):.1f}"
    content = json.loads(best.read_text())
    best.write_text(json.dumps(content | {"note": "really"}))
    poor.write_text(json.dumps(json.loads(poor.read_text()) | {"note": "edited"}))
    assert {row["agent"]: row["trust"] for row in rows(page(board))}["`poor` (others)"] == "claimed"


def test_numbers_are_those_of_the_files(board):
    (row,) = rows(page(board, "demo-v0"))
    stated = read(board.shop, board.root).report
    main = [result["metrics"]["ranking"] for result in stated.results]
    for column, view, metric in (
        ("HR@10", "main", "hr@10"),
        ("MRR@10", "main", "mrr@10"),
        ("NDCG@10 with unseen", "with unseen", "ndcg@10"),
        ("without repeats", "without repeats", "ndcg@10"),
    ):
        assert row[column] == f"{np.mean([views[view]['all'][metric] for views in main]):.3f}"
    primary = stated.primary
    assert row["NDCG@10 (95%)"] == (
        f"{primary['mean']:.3f} ({primary['low']:.3f} to {primary['high']:.3f})"
    )
    assert row["score"] == "n/a" and row["against steady (95%)"] == "n/a"
    assert row["seeds"] == "3" and row["trust"] == "claimed"
    assert row["learns from"] == "data"
    (costs,) = rows(page(board, "demo-v0"), "## Lists and costs")
    assert costs["parameters"] == "n/a"
    assert float(costs["coverage"]) == pytest.approx(
        np.mean([result["metrics"]["lists"]["coverage@10"] for result in stated.results]), abs=5e-4
    )
    (behaviours,) = rows(page(board, "demo-v0"), "## NDCG@10 by behaviour")
    assert behaviours.keys() == {"agent", "all", "click", "purchase"}


def test_an_agent_without_scores_is_marked(board):
    add(board, "single", [1.0] * 3, ranks_all=False)
    assert "`single` † (others)" in {row["agent"] for row in rows(page(board))}


def test_differences_are_marked_where_seeds_suffice_and_chance_does_not(board):
    """p is adjusted for all rows of the table."""
    files = {
        "won": add(board, "won", [3.0] * 5),
        "lost": add(board, "lost", [0.5] * 5),
        "few": add(board, "few", [3.0] * 3),
        "close": add(board, "close", [2.0] * 5),
        "steadier": add(board, "steadier", [3.0], chance=False),
    }
    differences = {"won": (2.0, 0.001), "lost": (-0.5, 0.001), "few": (2.0, 0.001),
                   "close": (0.1, 0.02), "steadier": (2.0, 0.004)}  # fmt: skip
    for name, (against, p) in differences.items():
        verify(board, files[name], against=against, p=p)
    add(board, "claimed", [9.0] * 5)
    cells = {row["agent"].split("`")[1]: row["against steady (95%)"] for row in rows(page(board))}
    adjusted = holm({name: p for name, (_, p) in differences.items()})
    assert adjusted["close"] < 0.05
    assert cells["won"] == f"+2.00 (+1.90 to +2.10), p {adjusted['won']:.3f} ▲"
    assert cells["lost"] == f"-0.50 (-0.60 to -0.40), p {adjusted['lost']:.3f} ▼"
    assert cells["few"] == f"+2.00 (+1.90 to +2.10), p {adjusted['few']:.3f}"
    assert cells["steadier"].endswith("▲") and cells["close"].endswith("▲")
    assert cells["steady"] == "itself"
    assert cells["claimed"] == "n/a"
    verify(board, files["close"], against=0.1, p=0.06)
    cells = {row["agent"].split("`")[1]: row["against steady (95%)"] for row in rows(page(board))}
    assert cells["close"] == "+0.10 (+0.00 to +0.20), p 0.060"
    board.edit(lambda content: content.update(note="another baseline"), board.steady)
    assert {row["against steady (95%)"] for row in rows(page(board))} == {"itself", "n/a"}


def test_a_world_is_one_table_of_agents_and_logs(board):
    add(board, "wide", [4.0] * 3)
    mixed = add(board, "wide", [5.0] * 3, benchmark="oracle-boredom-mixed-v0")
    verify(board, mixed)
    text = render(board.root)[board.root / "README.md"]
    found = {row["agent"]: row for row in rows(text, "### OracleBoredom")}
    wide = found["`wide` (others)"]
    assert wide[f"[random]({ORACLE}/README.md)"] == "4.00 ± 0.10 °"
    assert wide["[mixed](oracle-boredom-mixed-v0/README.md)"] == "5.00 ± 0.10"
    assert wide["expert"] == ""
    assert "No row yet." in text.split("### OracleDrift")[1]
    for benchmark in BENCHMARKS.values():  # what can be shown, and what not
        assert benchmark.hides.split(":")[0] in text


def test_the_aggregate_is_the_middle_of_scores_of_agents_that_are_everywhere(board):
    other = "oracle-boredom-mixed-v0"
    add(board, "popular", [1.0], benchmark=other, team="recgym", chance=False,
        agent="recgym.agents.baselines:Popular")  # fmt: skip
    returns = {ORACLE: [2.0, 3.0, 4.0, 5.0], other: [4.0, 4.5, 5.5]}
    for benchmark, values in returns.items():
        verify(board, add(board, "wide", values, benchmark=benchmark))
    add(board, "narrow", [9.0] * 3)
    add(board, "elsewhere", [9.0] * 3, benchmark="oracle-drift-mixed-v0")  # without its baseline
    text = render(board.root)[board.root / "README.md"]
    (row,) = rows(text, "## Over all benchmarks")
    scores = [
        np.array([normalised(value, *BENCHMARKS[name].anchors) for value in values[:3]])
        for name, values in returns.items()
    ]
    wanted = aggregate(scores)
    assert row["oracle users (2 benchmarks)"] == "`wide` (others)"
    assert row["score"] == f"{wanted.mean:.1f} ({wanted.low:.1f} to {wanted.high:.1f})"
    assert row["trust"] == "recomputed"


# ------------------------------------------------------------------------------- the project's page


def test_the_projects_page_names_verified_rows_only(board):
    above = board.root.parent / "README.md"
    above.write_text("# Project\n\n<!-- leaderboard -->\nold\n<!-- /leaderboard -->\n\nMore.\n")
    assert render(board.root)[above].count("No row yet.") == 1
    other = "oracle-boredom-mixed-v0"
    for name, value in (("best", 9.0), ("good", 5.0), ("fair", 4.0), ("poor", 1.0)):
        file = add(board, name, [value] * 3, benchmark=other)
        if name != "best":
            verify(board, file)
    text = render(board.root)[above]
    assert text.startswith("# Project\n\n<!-- leaderboard -->\n") and text.endswith("\n\nMore.\n")
    (row,) = rows(text)
    assert row["benchmark"] == f"[{other}](leaderboards/{other}/README.md)"
    assert row["first"] == "`good` (others) 5.00 (4.90 to 5.10)"
    assert "best" not in text
    above.write_text("# Project\n")
    assert above not in render(board.root)
    (board.root / "README.md").write_text("# No block\n")
    with pytest.raises(RecGymError) as error:
        render(board.root)
    assert "<!-- leaderboard -->" in said(error)


# ---------------------------------------------------------------------------------- hostile words

EVIL = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](http://evil.example)",
    "![x](http://evil.example/x.png)", "a | b | c", "`code`", "``` code", "**bold** _it_ ~~no~~",
    "&lt;b&gt; &#60;b&#62;", "http://evil.example", "www.evil.example", "WWW.evil.example",
    "<!-- /leaderboard -->", "<!-- leaderboard -->", "# Heading", "- item", "> quote", "1. one",
    "\\| \\` \\<", "| --- |", "$$x$$", "{{ 7 * 7 }}", "{% raw %}", "@everyone #1", "[x]: http://x",
]  # fmt: skip


@pytest.mark.parametrize("words", EVIL)
def test_a_note_is_shown_as_the_words_that_it_is(board, words):
    plain = render(board.root)
    board.edit(lambda content: content.update(note=words, config={"first": words}))
    assert validate(board.root) == []
    changed = render(board.root)
    assert changed.keys() == plain.keys()
    text = changed[board.root / ORACLE / "README.md"]
    (line,) = (line for line in text.splitlines() if "; note: " in line and "lucky" in line)
    shown = line.partition("; note: ")[2].removesuffix(".")
    assert re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), shown) == words
    assert not set(shown) & set('<>[]|`*_~\\!@"{}$') and "&" not in re.sub(r"&#\d+;", "", shown)
    assert "://" not in shown and "www." not in shown.lower()
    assert text.count("<") == 2 and "<code>" in line  # of the options
    assert len(text.splitlines()) == len(plain[board.root / ORACLE / "README.md"].splitlines())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=300))
def test_no_note_breaks_a_page(board, note):
    board.edit(lambda content: content.update(note=note))
    if validate(board.root, [board.lucky]):
        assert not note.isprintable()
        return
    text = page(board)
    shown = text.partition("; note: ")[2].splitlines()[0] if note else ""
    assert not set(shown) & set("<>[]|`*_~\\")
    assert len(text.splitlines()) == len(page(board).splitlines())


def test_agents_whose_names_are_addresses_are_not_linked(board):
    add(board, "www.evil.example", [1.0] * 3, team="www.evil.example")
    text = page(board)
    assert "`www.evil.example` (www&#46;evil.example)" in text
    assert "(www.evil" not in text


# -------------------------------------------------------------------------------------- the command


def test_the_verbs_do_what_they_say(board, capsys, monkeypatch):
    monkeypatch.chdir(board.root.parent)
    run(["new", str(board.predictions()), "--team", "others", "--name", "again"])
    file = Path("leaderboards") / ORACLE / "again--others.json"
    assert str(file) in capsys.readouterr().out.replace("\n", "")
    run(["validate"])
    out = capsys.readouterr().out
    assert out.count("✓") == 4 and "demo-v0/lucky--passerby: the hash of its data is not" in out
    run(["recompute", str(file), "--predictions", str(board.predictions())])
    assert "against the baseline, p" in capsys.readouterr().out
    baseline = board.steady.read_bytes()
    board.steady.unlink()
    run(["recompute", str(file), "--predictions", str(board.predictions())])
    out = capsys.readouterr().out
    assert "not held against the baseline" in out and f"evaluate steady --benchmark {ORACLE}" in out
    board.steady.write_bytes(baseline)
    run(["recompute", str(file), "--predictions", str(board.predictions())])
    assert "against the baseline, p" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        run(["render", "--check"])
    assert stopped.value.code == 1 and "+# Leaderboard" in capsys.readouterr().out
    run(["render"])
    run(["render", "--check"])
    assert "recomputed" in (board.root / ORACLE / "README.md").read_text()
    run(["reproduce", str(file), "--trust", "--seed", "1"])
    assert "with seed 1" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(["recompute", "--all"])  # the predictions of two rows are not on this machine
    out = capsys.readouterr().out
    assert out.count("✗") == 3 and out.count("✓") == 1
    with pytest.raises(RecGymError) as error:
        run(["recompute"])
    assert "--all" in said(error)
    board.lucky.write_text("{}")
    with pytest.raises(SystemExit):
        run(["validate"])
    assert "✗" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["validate"], ["render"], ["recompute", "--all"]], ids=str)
def test_a_leaderboard_that_is_not_there_is_told(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecGymError, match="There is no leaderboard in typo") as error:
        run([*words, "--root", "typo"])
    assert said(error) and not list(tmp_path.iterdir())


def test_files_that_are_not_there_are_told(board, capsys, monkeypatch):
    monkeypatch.chdir(board.root.parent)
    with pytest.raises(SystemExit):
        run(["recompute", "nope.json"])
    assert "There is no file" in capsys.readouterr().out
    with pytest.raises(RecGymError, match="nope/report.json: .*`recgym evaluate`") as error:
        run(["new", "nope", "--team", "others"])
    assert said(error)


def test_what_comes_next_names_the_leaderboard(board, capsys):
    root = board.root.parent / "other"
    run(["new", str(board.predictions()), "--team", "others", "--root", str(root)])
    words = capsys.readouterr().out.replace("\n", " ").partition("Next: recgym leaderboard ")[2]
    run([*words.split(), "--predictions", str(board.predictions())])
    assert "✓" in capsys.readouterr().out


def test_a_recomputed_row_is_rendered_with_its_difference(board):
    recompute(board.lucky, board.root, board.predictions())
    cells = {row["agent"]: row["against steady (95%)"] for row in rows(page(board))}
    assert re.fullmatch(r"[+-]\d\.\d\d \(.+\), p \d\.\d{3}", cells["`lucky` (passerby)"])
