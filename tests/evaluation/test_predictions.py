import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recgym.errors import BadPredictions
from recgym.evaluation.predictions import TABLES, Predictions, _sha256
from recgym.evaluation.ranking import rank
from recgym.evaluation.shopping import LONGEST
from tests.sentences import said


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(9, 40)).astype(np.float32)
    ranked = rank(lambda some: scores[some], rng.integers(45, size=9), 40)
    steps = np.array([3, 1, 4])
    texts = np.array([f"click[{'é' * n}🙂\0]" for n in range(8)], object)
    items = rng.integers(40, size=8).astype(np.int32)
    return Predictions(ranked, (steps, items), rng.random(6), (steps, texts))


def stated(folder):
    return {
        file.stem: {"sha256": _sha256(file), "bytes": file.stat().st_size}
        for file in folder.glob("*.parquet")
    }


def test_what_is_written_is_read_again(whole, tmp_path):
    files = whole.write(tmp_path)
    assert files == stated(tmp_path) and tuple(files) == TABLES
    assert sorted(os.listdir(tmp_path)) == sorted(f"{name}.parquet" for name in files)
    again = Predictions.read(tmp_path, files)
    for name in ("greater", "equal", "items", "scores"):
        one, other = getattr(whole.ranking, name), getattr(again.ranking, name)
        assert one.dtype == other.dtype and (one == other).all()
    for name in ("actions", "said"):
        pairs = zip(getattr(whole, name), getattr(again, name), strict=True)
        assert all((one == other).all() for one, other in pairs)
    assert (whole.agreement == again.agreement).all()


def test_the_same_predictions_are_the_same_bytes(whole, tmp_path):
    assert whole.write(tmp_path / "one") == whole.write(tmp_path / "other")


def test_tables_that_are_not_asked_for_are_none(whole, tmp_path):
    files = Predictions(agreement=whole.agreement).write(tmp_path)
    again = Predictions.read(tmp_path, files)
    assert again.ranking is None and again.actions is None
    assert (again.agreement == whole.agreement).all()


class Trap:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def _pickled(folder, file):
    file.write_bytes(pickle.dumps(Trap(folder / "sprung")))


def _other_columns(folder, file):
    pq.write_table(pa.table({"greater": [1], "verified": [True]}), file)


def _other_types(folder, file):
    table = pq.read_table(file)
    greater = table.column("greater").cast(pa.int64())
    pq.write_table(table.set_column(0, "greater", greater), file)


def _missing_values(folder, file):
    table = pq.read_table(file)
    greater = pa.array([None] * table.num_rows, pa.int32())
    pq.write_table(table.set_column(0, "greater", greater), file)


def _cut(folder, file):
    file.write_bytes(file.read_bytes()[:-30])


def _linked(folder, file):
    file.rename(folder / "elsewhere")
    file.symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    "spoil", [_pickled, _other_columns, _other_types, _missing_values, _cut, _linked]
)
def test_what_a_stranger_spoiled_is_refused_and_never_run(whole, tmp_path, spoil):
    whole.write(tmp_path)
    spoil(tmp_path, tmp_path / "ranking.parquet")
    with pytest.raises(BadPredictions) as problem:
        Predictions.read(tmp_path, stated(tmp_path))
    said(problem)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("spoil", [_cut, _other_columns])
def test_a_file_that_is_not_the_one_that_was_hashed_is_refused(whole, tmp_path, spoil):
    files = whole.write(tmp_path)
    spoil(tmp_path, tmp_path / "ranking.parquet")
    with pytest.raises(BadPredictions, match="not what was submitted") as problem:
        Predictions.read(tmp_path, files)
    said(problem)


def test_a_missing_file_is_named(whole, tmp_path):
    files = whole.write(tmp_path)
    (tmp_path / "actions.parquet").unlink()
    with pytest.raises(BadPredictions, match=r"actions\.parquet") as problem:
        Predictions.read(tmp_path, files)
    said(problem)


def test_what_unpacks_to_too_much_is_refused_before_it_is_read(whole, tmp_path, monkeypatch):
    files = whole.write(tmp_path)
    monkeypatch.setattr("recgym.evaluation.predictions._LARGEST", files["ranking"]["bytes"])
    with pytest.raises(BadPredictions, match="cannot be read") as problem:
        Predictions.read(tmp_path, files)
    said(problem)


LISTS = pa.large_list(pa.large_string())


@pytest.mark.parametrize(
    ("texts", "how"),
    [
        ([["a" * (LONGEST + 1)]], {}),
        ([["a", None]], {}),
        ([None, ["a"]], {}),
        ([["a" * 4000] * 9], {"use_dictionary": True}),
        ([["a" * 4000] * 9], {"column_encoding": {"texts.list.element": "DELTA_BYTE_ARRAY"}}),
    ],
)
def test_texts_that_are_packed_or_too_long_are_refused_unread(whole, tmp_path, texts, how):
    table = pa.table({"texts": pa.array(texts, LISTS)})
    pq.write_table(table, tmp_path / "said.parquet", **{"use_dictionary": False} | how)
    with pytest.raises(BadPredictions) as problem:
        Predictions.read(tmp_path, stated(tmp_path))
    said(problem)


def test_halves_of_characters_in_texts_are_refused(tmp_path):
    texts = pa.array([[b"\xed\xa0\x80"]], pa.large_list(pa.large_binary())).cast(LISTS, safe=False)
    pq.write_table(pa.table({"texts": texts}), tmp_path / "said.parquet", use_dictionary=False)
    with pytest.raises(BadPredictions) as problem:
        Predictions.read(tmp_path, stated(tmp_path))
    said(problem)
