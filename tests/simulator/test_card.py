"""The card: its rows, what is done once only, what its page and pictures say."""

import copy
import json

import minari
import numpy as np
import pytest

from recgym.cli import run
from recgym.errors import InvalidArgument
from recgym.rollouts import collect
from recgym.simulator import card as cards
from recgym.simulator.asked import SMALL as SMALL_MODEL
from recgym.simulator.asked import Asked, Fit, Tokenization
from recgym.simulator.card import FITTED, Card
from recgym.simulator.page import page, write_card
from recgym.simulator.picture import draw_states
from recgym.simulator.store import fit_simulator

from ..training import SMALL, pixels
from .conftest import made

DATA = "recgym/w/mixed-v0"
QUICK = Fit(share=0.4, epochs=1, batches=2, batch_size=8)
ROWS = [
    "as fitted", "popularity", "ItemKNN", "GRU", "the model other", "the model, its weights drawn",
    "titles for item tokens (-IT)", "no state model (-SM)", "5% of the users", "25% of the users",
    "50% of the users", "100% of the users", "its labels shuffled",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer, one_thread):
    """A home with users of an oracle, two models, and two simulators of the first."""
    with pytest.MonkeyPatch.context() as patch:
        homes = {name: tmp_path_factory.mktemp(name) for name in ("home", "minari", "models")}
        patch.setenv("RECGYM_HOME", str(homes["home"]))
        patch.setenv("MINARI_DATASETS_PATH", str(homes["minari"]))
        for split in ("train", "test"):
            collect("recgym/OracleBoredom-v0", "mixed", split, sessions=300, name="w", **SMALL)
        for seed, name in enumerate(("first", "other")):
            language = made("llama", tokenizer, seed=seed)
            language.model.save_pretrained(homes["models"] / name)
            tokenizer.save_pretrained(homes["models"] / name)
        train = minari.load_dataset(DATA)
        for role, seed in (("training", 0), ("scoring", 1000)):
            asked = Asked(
                model=str(homes["models"] / "first"),
                fit=Fit(**vars(QUICK) | {"role": role, "seed": seed}),
                tokens=Tokenization(iterations=2, seed=seed),
            )
            fit_simulator(train, asked, homes["home"] / "simulators" / f"w-{role}")
        yield homes


@pytest.fixture(scope="module")
def whole(world):
    """A card with everything on it."""
    return asked_again(world)


def asked_again(world, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECGYM_HOME", str(world["home"]))
        patch.setenv("MINARI_DATASETS_PATH", str(world["minari"]))
        data = [minari.load_dataset(name) for name in (DATA, "recgym/w/mixed-test-v0")]
        options = {"scoring": "w-scoring", "models": (str(world["models"] / "other"),)} | options
        return Card("w-training", *data, seeds=2, count=40).made(**options)


def test_a_card_holds_a_row_for_each_variant_and_rival(whole):
    assert list(whole["rows"]) == ROWS
    seeds = {label: row["seeds"] for label, row in whole["rows"].items()}
    assert {label for label, count in seeds.items() if count == 2} == {
        "as fitted", "GRU", "its labels shuffled",
    }  # fmt: skip
    for row in whole["rows"].values():
        for found in row["right"].values():
            assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1
    assert whole["held"]["moments"] == 40 and whole["held"]["dataset"] == "recgym/w/mixed-test-v0"


def test_differences_are_those_of_the_means(whole):
    fitted = whole["rows"][FITTED]
    for row in whole["rows"].values():
        for name, behind in row["behind"].items():
            gap = fitted["right"][name]["mean"] - row["right"][name]["mean"]
            assert behind["mean"] == pytest.approx(gap, abs=1e-12)
    assert fitted["behind"]["uniform"]["mean"] == 0 and fitted["behind"]["uniform"]["p"] == 1


def test_what_was_fitted_and_measured_is_not_done_again(whole, world, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this was done before")

    monkeypatch.setattr(cards, "measured", never)
    monkeypatch.setattr(cards, "fit_simulator", never)
    assert asked_again(world) == whole


def test_states_have_places_and_the_topics_of_what_came_next(whole):
    states = whole["states"]
    assert np.array(states["places"]).shape == (40, 2) and len(states["topics"]) == 40
    assert 1 < len(set(states["topics"]) - {""}) <= 6


def test_a_card_of_one_simulator_says_nothing_of_another(world):
    alone = asked_again(world, scoring="", models=(), fits=False)
    assert alone["agreement"] is None
    text = page(alone, [])
    assert "The simulator that scores" not in text


def test_without_fits_a_card_has_the_variants_that_are_there(whole, world, tmp_path):
    kept = world["home"] / "simulators" / ".variants"
    kept.rename(tmp_path / "aside")
    alone = asked_again(world, fits=False)
    (tmp_path / "aside").rename(kept)
    assert list(alone["rows"]) == ROWS[:4] and alone["rows"][FITTED]["seeds"] == 1
    assert asked_again(world, fits=False) == whole


def test_users_of_another_catalogue_are_refused(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECGYM_HOME", str(world["home"]))
        patch.setenv("MINARI_DATASETS_PATH", str(world["minari"]))
        collect(
            "recgym/OracleBoredom-v0", "mixed", sessions=30, name="x", **SMALL | {"catalogue": 1}
        )
        data = [minari.load_dataset(name) for name in (DATA, "recgym/x/mixed-v0")]
        with pytest.raises(InvalidArgument, match="has another: fit one with"):
            Card("w-training", *data)


# ----------------------------------------------------------------------------- page and pictures


def test_a_page_says_what_the_numbers_say(whole):
    text = page(whole, [])
    right = whole["rows"][FITTED]["right"]["uniform"]
    assert f"in {right['mean']:.3f} ({right['low']:.3f} to {right['high']:.3f}) of pairs" in text
    agreed = whole["agreement"]["same preference"]["mean"]
    assert f"the same preference in {agreed:.3f} (" in text
    for label in ROWS:
        assert text.count(f"| {label} |") == 2
    assert "rank correlation with the truth" in text and "states alike" in text


@pytest.mark.parametrize(
    ("mean", "p", "answer"),
    [(0.1, 0.01, "Yes."), (-0.1, 0.01, "No."), (0.1, 0.2, "Not here"), (-0.1, 0.2, "Not here")],
)
def test_a_model_earns_its_cost_where_it_is_surely_ahead_of_the_best_rival(whole, mean, p, answer):
    changed = copy.deepcopy(whole)
    for name, high in (("popularity", 0.1), ("ItemKNN", 0.9), ("GRU", 0.2)):
        row = changed["rows"][name]
        row["right"]["popular"]["mean"] = high
        row["behind"]["popular"] = {"mean": mean, "low": mean, "high": mean, "p": p}
    (line,) = [line for line in page(changed, []).splitlines() if "earn its cost" in line]
    assert f"cost? {answer}" in line and "ItemKNN, the best of" in line


def test_the_small_model_is_called_what_it_is(whole):
    assert "no language model of the world" not in page(whole, [])
    changed = whole | {"asked": whole["asked"] | {"model": SMALL_MODEL}}
    assert "no language model of the world" in page(changed, [])


def test_what_is_not_known_has_no_column(whole):
    changed = copy.deepcopy(whole)
    for row in changed["rows"].values():
        del row["truth"]
        row["alike"] = {"same": 0.0, "chance": 0.0}
    changed["states"]["topics"] = [""] * len(changed["states"]["topics"])
    text = page(changed, ["states.png"])
    assert "the truth" not in text and "states alike" not in text.lower()
    assert "![states on their two main axes](states.png)" in text


@pytest.mark.parametrize("topics", [["a", "a", "b"], ["", "", ""]])
def test_states_have_colours_where_topics_are_known(topics, tmp_path):
    card = {"simulator": "w", "states": {"places": [[0, 0], [1, 2], [2, 1]], "topics": topics}}
    shown = pixels(draw_states(card, tmp_path / "states.png"))
    assert (np.ptp(shown, axis=2) > 50).any() == any(topics)


def test_a_card_is_written_as_json_page_and_pictures(whole, tmp_path):
    files = write_card(whole, tmp_path / "card")
    names = {file.name for file in files}
    assert names == {"card.json", "card.md", "card.png", "states.png"}
    assert {file.name for file in (tmp_path / "card").iterdir()} == names
    assert json.loads((tmp_path / "card" / "card.json").read_text()) == whole
    for name in ("card.png", "states.png"):
        assert f"]({name})" in (tmp_path / "card" / "card.md").read_text()
        assert len(np.unique(pixels(tmp_path / "card" / name).reshape(-1, 4), axis=0)) > 20


def test_without_matplotlib_a_card_has_no_pictures(whole, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.style", None)
    files = write_card(whole, tmp_path)
    assert {file.name for file in files} == {"card.json", "card.md"}
    assert "![" not in (tmp_path / "card.md").read_text()


def test_the_command_writes_a_card(whole, world, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RECGYM_HOME", str(world["home"]))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(world["minari"]))
    options = ["--no-fits", "--moments", "40", "--seeds", "2"]
    run(["simulator", "card", "w", *options, "--out", str(tmp_path)])
    assert str(tmp_path / "card.md") in capsys.readouterr().out.replace("\n", "")
    told = json.loads((tmp_path / "card.json").read_text())
    assert told["rows"].items() < whole["rows"].items()  # all but the other model's
    assert {**told, "rows": 0} == {**whole, "rows": 0}
