"""Shops by name: made once, opened again, frozen."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from recgym.errors import BadDataset, BadRawData, InvalidArgument
from recgym.log import sha256_of_json
from recgym.shop.pages import Place
from recgym.shop.shoppers import SHOPPERS, shopped
from recgym.shop.store import FROZEN, MINI, open_shop

KNOWN = json.loads(FROZEN.read_text())


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_HOME", str(tmp_path / "home"))


def webshop(folder, names=("lamp", "chair")):
    """A small catalogue in the form of WebShop's files."""
    folder.mkdir()
    rows = [
        {
            "name": f"A Red {name.title()} for Rooms", "full_description": f"It is a {name}.",
            "images": [], "product_category": "Home › Furniture", "average_rating": "",
            "small_description": ["Easy to clean"], "asin": f"B00000000{place}",
            "customization_options": {"color": [{"value": "red"}, {"value": "blue"}]},
            "category": "garden", "query": name, "page": 1, "pricing": "$19.99",
        }
        for place, name in enumerate(names)
    ]  # fmt: skip
    about = {
        row["asin"]: {
            "attributes": ["easy clean"], "instruction": f"Find me a {row['query']}",
            "instruction_attributes": ["easy clean"],
        }
        for row in rows
    }  # fmt: skip
    (folder / "items_shuffle_1000.json").write_text(json.dumps(rows))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(about))
    return str(folder)


@pytest.mark.parametrize("name", MINI)
def test_embedded_shops_are_frozen(name):
    known, frozen = open_shop(name), KNOWN[name]
    assert known.shop.catalogue.sha256 == frozen["catalogue"]
    texts = [[goal.text, goal.product] for goal in known.goals]
    assert sha256_of_json(texts) == frozen["goals_sha256"] and len(texts) == frozen["goals"] == 1500
    assert known.nouns == frozen["nouns"] == "rule-1"
    for shopper in SHOPPERS:
        rewards = []
        for number in known.splits["test"]:
            place, rng = Place(), np.random.default_rng((number, 1))
            goal = known.goals[number]
            for action in shopped(known.shop, goal, SHOPPERS[shopper].shopper, rng):
                place, _ = known.shop.step(place, action)
            rewards.append(known.shop.reward(place, goal).total if place.page == "done" else 0)
        frozen_score = frozen["scores"]["test"][shopper]
        assert np.mean(rewards) == pytest.approx(frozen_score["score"])
        assert np.mean(np.array(rewards) == 1) == pytest.approx(frozen_score["success"])


def test_webshops_products_are_those_that_were_measured(samples):
    known, frozen = open_shop("webshop-1k", str(samples / "webshop-1k")), KNOWN["webshop-1k"]
    assert known.shop.catalogue.sha256 == frozen["catalogue"]
    assert len(known.goals) == frozen["goals"] == 6910
    assert frozen["scores"]["train"]["oracle"]["success"] == 1


def test_a_shop_of_files_is_made_once_and_again_when_they_change(tmp_path):
    files, told = webshop(tmp_path / "files"), []
    known = open_shop("webshop-1k", files, say=told.append)
    assert len(told) == 2 and "Indexing 2 products" in told[1]
    assert len(known.goals) == 4 and known.query(known.goals[0]) == "find me a lamp with color: red"
    again = open_shop("webshop-1k", files, say=told.append)
    assert len(told) == 2 and again.goals == known.goals
    shutil.rmtree(files)
    webshop(tmp_path / "files", ("lamp", "chair", "table"))
    more = open_shop("webshop-1k", files, say=told.append)
    assert len(told) == 4 and len(more.goals) == 6
    assert len(more.shop.index.search("red", 50)) == 3


OPENS = """
import sys
from recgym.shop.store import open_shop
print(open_shop("webshop-1k", sys.argv[1]).shop.catalogue.sha256)
"""


def test_processes_that_open_a_new_shop_at_once_make_it_once(tmp_path):
    words = [sys.executable, "-P", "-c", OPENS, webshop(tmp_path / "files")]
    opened = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = [process.communicate(timeout=60)[0] for process in opened]
    assert len(set(found)) == 1 and len(found[0].strip()) == 64


def test_pages_fit_the_spaces_that_are_named():
    known = open_shop("minishop")
    shop, characters = known.shop, set(known.characters)
    most = 0
    for number, product in enumerate(shop.catalogue.products):
        chosen = tuple((group, values[0]) for group, values in product.options.items())
        for page in (Place("item", product=number, chosen=chosen), Place("done", product=number)):
            text = shop.text(page, known.goals[0].text, True, 1.0)
            assert len(text) <= known.longest and set(text) <= characters
            most = max(most, len(shop.actions(page)))
    assert most <= known.most
    for goal in known.goals[::50]:
        place, _ = shop.step(Place(), f"search[{goal.text}]")
        assert set(shop.text(place, goal.text, True)) <= characters
        assert len(shop.actions(place)) <= known.most


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        ("catalogue/products.jsonl", BadDataset, "damaged"),
        ("index/manifest.json", BadDataset, "anew|index"),
        ("goals-synthetic.json", BadDataset, "goals"),
    ],
)
def test_a_damaged_shop_is_named(tmp_path, damage, error, words):
    files = webshop(tmp_path / "files")
    open_shop("webshop-1k", files)
    (file,) = (tmp_path / "home" / "shops").glob(f"*/{damage}")
    file.write_text("{")
    with pytest.raises(error, match=words):
        open_shop("webshop-1k", files)


def test_limits_that_cannot_be_read_are_worked_out_again(tmp_path):
    files = webshop(tmp_path / "files")
    known = open_shop("webshop-1k", files)
    (file,) = (tmp_path / "home" / "shops").glob("*/limits-synthetic.json")
    file.write_text("{")
    again = open_shop("webshop-1k", files)
    assert (again.longest, again.characters) == (known.longest, known.characters)


def test_files_that_are_no_shop_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRawData, match="has no items_shuffle"):
        open_shop("webshop-1k", str(tmp_path / "empty"))
    files = webshop(tmp_path / "files")
    with pytest.raises(InvalidArgument, match="items_human_ins"):
        open_shop("webshop-1k", files, "human")
