"""Runs from the command line: what is listed, what is shown, and what is compared."""

import json
from pathlib import Path

import pytest

from recgym.cli import run
from recgym.errors import InvalidArgument, RecGymError
from recgym.runs import METRICS, trainings
from tests.sentences import said
from tests.training import DATA, QUICK, folder_of, pixels, printed, write_data


@pytest.fixture(autouse=True)
def data(one_thread):
    write_data()


def test_runs_are_listed_shown_and_compared(capsys, tmp_path):
    assert "No run yet" in printed(capsys, "runs", "list").out
    first = folder_of(capsys, "snqn", *QUICK)
    second = folder_of(capsys, "snqn", *QUICK, "--discount", "0", "--seed", "1")
    third = folder_of(capsys, "popular")
    text = printed(capsys, "runs", "list").out
    assert all(folder.name in text for folder in (first, second, third))
    assert text.count("finished") == 3 and "n-mixed" in text
    listed = json.loads(printed(capsys, "runs", "list", "--json").out)
    assert not listed["damaged"]
    assert {Path(row["folder"]) for row in listed["runs"]} == {first, second, third}
    one, other, _ = sorted(listed["runs"], key=lambda row: (row["agent"] != "snqn", row["name"]))

    shown = printed(capsys, "runs", "show", "seed-1", "--plot", str(tmp_path / "one.png")).out
    for part in ("discount 0", "seed 1", DATA, "td ", "ndcg@10 (q)", "tensorboard", "recgym train"):
        assert part in shown
    assert pixels(tmp_path / "one.png").shape == (500, 1200, 3)

    names = (first.name, "seed-1")
    table = printed(capsys, "runs", "compare", *names, "--plot", str(tmp_path / "two.png")).out
    rows = {line[:14].strip(): line[14:].split() for line in table.splitlines()}
    assert rows["discount"] == ["0.5", "0"] and rows["seed"] == ["0", "1"] and "size" not in rows
    best = {row["folder"]: f"{row['best']:.4g}" for row in (one, other)}
    assert rows["best ndcg@10"] == [best[str(first)], best[str(second)]]
    picture = pixels(tmp_path / "two.png")
    for colour in ((0, 114, 178), (230, 159, 0)):
        assert (picture == colour).all(-1).sum() > 200, "each run has a curve"
    compared = json.loads(printed(capsys, "runs", "compare", *names, "popular", "--json").out)
    assert [row["differing"]["agent"] for row in compared] == ["snqn", "snqn", "popular"]


def test_damaged_runs_are_listed_as_such(capsys):
    good = folder_of(capsys, "supervised", *QUICK)
    with (good / METRICS).open("a") as lines:
        lines.write('{"step": 70, "supervi')
    for name, text in {"no-json": "{", "other": '{"schema": 9}', "empty": None}.items():
        folder = trainings() / "n-mixed" / name
        folder.mkdir()
        if text:
            (folder / "run.json").write_text(text)
    text = " ".join(printed(capsys, "runs", "list").out.split())
    assert text.count("damaged:") == 4 and good.name in text and "finished" in text
    listed = json.loads(printed(capsys, "runs", "list", "--json").out)
    assert len(listed["runs"]) == 1 and len(listed["damaged"]) == 4
    with pytest.raises(InvalidArgument) as found:
        run(["runs", "show", "no-json"])
    said(found)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["show", "nothing"], "No run is named 'nothing'"),
        (["compare", "nothing"], "No run is named 'nothing'"),
        (["compare"], "Two runs or more"),
    ],
)
def test_slips_are_said_in_a_sentence(words, part):
    with pytest.raises(RecGymError) as found:
        run(["runs", *words])
    assert part in said(found)
