"""Cards: every source has one, whose rendered blocks follow from the committed manifests."""

import importlib.util
from pathlib import Path

import pytest

from recgym.sources import source_names

ROOT = Path(__file__).parents[2] / "datasets"
SECTIONS = ("**Terms**", "## Protocols that fit", "## Known flaws", "## Counted")


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rendered_blocks_are_up_to_date(render):
    for file, text in render.rendered().items():
        assert file.read_text("utf-8") == text, f"{file.name}: run python datasets/render.py"


def test_a_stale_block_is_found(render, monkeypatch, capsys):
    monkeypatch.setattr(render, "counts_table", lambda name: "typed by hand")
    assert render.main(["--check"]) == 1
    assert "+typed by hand" in capsys.readouterr().out


@pytest.mark.parametrize("name", source_names())
def test_every_source_has_a_card_with_terms_protocols_and_flaws(name):
    card = (ROOT / "cards" / f"{name}.md").read_text("utf-8")
    assert not [section for section in SECTIONS if section not in card]


def test_nothing_names_a_place_on_somebodys_machine():
    for file in [*ROOT.glob("cards/**/*.*"), ROOT / "README.md"]:
        text = file.read_text("utf-8")
        assert not [place for place in ("/work", "/tmp", "/home", '"/') if place in text], file
