"""What was learned before: found by all that it depends on, whole, and with what it took."""

import time

import pytest

from recgym.before import Before


def test_what_was_kept_is_found_by_all_that_it_depends_on(tmp_path):
    before = Before(tmp_path, {"data": "a", "code": 1})
    before.keep({"steps": 3}, lambda folder: (folder / "weights").write_text("w"))
    found = Before(tmp_path, {"code": 1, "data": "a"}).find({"steps": 3})
    assert (found / "weights").read_text() == "w"
    for same, of in (
        ({"data": "b", "code": 1}, {"steps": 3}),
        ({"data": "a", "code": 1}, {"steps": 4}),
        ({"data": "a"}, {"steps": 3}),
    ):
        assert Before(tmp_path, same).find(of) is None


def test_the_first_to_keep_it_is_believed(tmp_path):
    before = Before(tmp_path, {})
    for words in ("first", "second"):
        before.keep({}, lambda folder, words=words: (folder / "weights").write_text(words))
    assert (before.find({}) / "weights").read_text() == "first"


def test_what_it_took_counts_wherever_it_is_taken_up(tmp_path):
    first = Before(tmp_path, {})
    time.sleep(0.3)
    room = bytearray(64 << 20)
    first.keep({}, lambda folder: None)
    kept, held = first.seconds, first.megabytes
    del room
    later = Before(tmp_path, {})
    alone = later.seconds
    later.find({})
    assert alone < 0.2 < 0.3 <= later.seconds < kept + 0.2
    assert later.megabytes >= held - 1 > 64


def test_what_cannot_be_written_is_not_there(tmp_path):
    before = Before(tmp_path, {})

    def fails(folder):
        (folder / "weights").write_text("half")
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        before.keep({}, fails)
    assert before.find({}) is None and not [*tmp_path.iterdir()]


def test_without_a_folder_nothing_is_known():
    before = Before(None, {})
    before.keep({}, lambda folder: pytest.fail("there is nowhere to write"))
    assert before.find({}) is None
    assert before.seconds >= 0 and before.megabytes > 10
