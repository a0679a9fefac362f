"""What is known of items in words: of an oracle's world, of an exported log, of neither."""

from dataclasses import replace

import minari
import numpy as np
import pyarrow as pa
import pytest

import recgym
from recgym.errors import BadLog, InvalidArgument, UnknownName
from recgym.export import combine
from recgym.home import log_path, remove_log
from recgym.log import write_log
from recgym.rollouts import collect
from recgym.simulator.asked import Asked, Fit, Tokenization
from recgym.simulator.catalogue import Catalogue, catalogue_of
from recgym.simulator.store import fit_simulator

from ..agents.worlds import logged
from ..sentences import said
from ..test_log import written
from ..training import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")
N_ITEMS = 9
TITLES = ["Lamp", "Table", "", "Knife", "", "Cloth", "Stool", "Fork", "Cup", "never seen"]
TOPICS = [["garden", "steel"], ["wood"], [], [], *[["kitchen"]] * 6]


def exported(*args, **others):
    """The training split of such a log, as a dataset."""
    return recgym.to_minari(shop(*args, **others), replace=True)


def shop(name="shop", source="demo", **others):
    """A log with such a catalogue; other fields are named."""
    log = written(log_path(name), [6] * 30, n_items=N_ITEMS)
    columns = {column: getattr(log, column) for column in (
        "items", "behaviours", "rewards", "timestamps", "in_state", "splits", "offsets",
        "terminated", "users",
    )}  # fmt: skip
    fields = {
        "item": pa.array(range(N_ITEMS + 1), pa.int32()),
        "raw_id": pa.array([f"raw {item}" for item in range(N_ITEMS + 1)], pa.large_string()),
        "title": pa.array(TITLES, pa.large_string()),
        "year": pa.array([1990 + item for item in range(N_ITEMS + 1)], pa.int32()),
        "genres": pa.array(["Comedy|Drama"] * (N_ITEMS + 1), pa.large_string()),
        "topics": pa.array(TOPICS, pa.list_(pa.large_string())),
    } | others  # fmt: skip
    catalogue = pa.RecordBatch.from_pydict({key: value for key, value in fields.items()
                                            if value is not None})  # fmt: skip
    manifest = replace(log.manifest, source={"name": source})
    return write_log(log.path, manifest, columns | {"catalogue": catalogue})


def oracle(name, **others):
    return collect(
        "recgym/OracleBoredom-v0", "mixed", sessions=30, name=name, replace=True, **SMALL | others
    )


def test_the_items_of_an_oracle_are_books_with_a_title_and_a_topic():
    data = oracle("n")
    world = data.recover_environment().unwrapped.users.catalogue
    found = catalogue_of(data)
    assert found.domain == "books" and len(found.items) == SMALL["n_items"]
    assert [item["title"] for item in found.items] == list(world.titles)
    for item, topic in zip(found.items, world.topics, strict=True):
        assert set(item) == {"title", "topics"}
        assert item["topics"] == world.topic_names[topic]
    assert len({item["topics"] for item in found.items}) == SMALL["n_topics"]


def test_the_items_of_a_log_have_the_fields_of_its_catalogue():
    found = catalogue_of(exported())
    assert len(found.items) == N_ITEMS, "what training never saw has no action"
    assert found.items[0] == {
        "title": "Lamp", "year": "1990", "genres": "Comedy, Drama", "topics": "garden, steel",
    }  # fmt: skip
    assert [item["title"] for item in found.items[1:5]] == ["Table", "", "Knife", ""]
    assert [item["topics"] for item in found.items[1:5]] == ["wood", "", "", "kitchen"]
    assert all(type(text) is str for item in found.items for text in item.values())


@pytest.mark.parametrize(
    ("source", "domain"),
    [("movielens", "movies"), ("lastfm", "tracks"), ("amazon", "products"), ("demo", "products")],
)
def test_the_domain_is_the_one_of_the_source(source, domain):
    assert catalogue_of(exported(source=source)).domain == domain


def test_splits_and_joined_datasets_have_the_catalogue_of_their_log():
    data = exported()
    joined = combine([data.id, data.id], "recgym/both/logged-v0")
    assert catalogue_of(joined) == catalogue_of(data) == catalogue_of(minari.load_dataset(data.id))


@pytest.mark.parametrize(
    "change",
    [
        {"title": pa.array(["lamp", *TITLES[1:]], pa.large_string())},
        {"topics": pa.array([["steel", "garden"], *TOPICS[1:]], pa.list_(pa.large_string()))},
        {"genres": None},
    ],
)
def test_the_hash_changes_with_any_text(change):
    first = catalogue_of(exported())
    again, other = catalogue_of(exported()), catalogue_of(exported(**change))
    assert again.sha256 == first.sha256 != other.sha256


def test_the_hash_knows_of_texts_fields_and_their_order_only():
    one, other = {"title": "a", "topics": "b"}, {"title": "b", "topics": "a"}
    found = [Catalogue("books", items).sha256 for items in ([one, other], [other, one], [one])]
    assert len(set(found)) == 3
    assert Catalogue("movies", [one]).sha256 == Catalogue("books", [one]).sha256
    assert Catalogue("books", [dict(reversed(one.items()))]).sha256 == found[2]


def test_worlds_of_one_catalogue_have_one_hash():
    worlds = (("a", {}), ("b", {"drift": 0.5}), ("c", {"catalogue": 1}))
    found = [catalogue_of(oracle(name, **others)).sha256 for name, others in worlds]
    assert found[0] == found[1] != found[2]


def test_a_dataset_of_no_log_is_refused():
    with pytest.raises(InvalidArgument) as found:
        catalogue_of(logged("w", np.arange(20).reshape(5, 4) % 7, 7))
    assert "recgym/w/logged-v0 names no log" in said(found)


def test_a_log_that_has_changed_or_gone_is_refused():
    data = exported()
    shop(title=None)
    with pytest.raises(BadLog) as problem:
        catalogue_of(data)
    assert "The log shop has changed since recgym/shop/logged-v0 was exported" in said(problem)
    remove_log("shop")
    with pytest.raises(UnknownName) as problem:
        catalogue_of(data)
    assert "No log is named 'shop'." in said(problem)


@pytest.mark.parametrize(
    ("change", "part"),
    [({}, "No item of the catalogue has a text"), ({"spelled": True}, "has a title to spell")],
)
def test_a_catalogue_without_any_text_is_refused(small_folder, tmp_path, change, part):
    nothing = {"title": None, "topics": None, "genres": None, "year": None}
    how = Asked(
        str(small_folder), fit=Fit(share=1.0, **change), tokens=Tokenization(iterations=1)
    )  # fmt: skip
    for without in (nothing, nothing | {"title": pa.array(["  "] * 10, pa.large_string())}):
        with pytest.raises(InvalidArgument) as found:
            fit_simulator(exported(**without), how, tmp_path / "made")
        assert part in said(found)
    assert not (tmp_path / "made" / "simulator.safetensors").exists()


def test_items_without_a_text_stand_beside_others_with_one(small_folder, tmp_path):
    how = Asked(
        str(small_folder), fit=Fit(share=1.0, batches=2), tokens=Tokenization(iterations=2)
    )  # fmt: skip
    titles = pa.array(["Lamp", *[""] * 9], pa.large_string())
    data = exported(title=titles, topics=None)
    for name, spelled in (("tokens", False), ("titles", True)):
        asked = replace(how, fit=replace(how.fit, spelled=spelled))
        made = fit_simulator(data, asked, tmp_path / name)
        items = np.arange(N_ITEMS)[None]
        assert np.isfinite(made.rewards(np.array([[0, 1, 2, N_ITEMS]]), items)).all()
