"""Nouns of names: by the rule, and by spaCy through its interface."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgym.errors import InvalidArgument
from recgym.shop import nouns
from recgym.shop.nouns import RULE, RuleNouns, nouns_named

from ..sentences import said

find = RuleNouns()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Vhomes Lights Reclaimed Wood Console Table", "vhomes lights wood console table"),
        ("SheIn Women's Sexy One Shoulder Dress", "shein women shoulder dress"),
        ("DVD/VCR Combo, Unisex-Adult", "dvd vcr combo"),
        ("20ml - 0.68 fl.oz Pack of 4 (white)", "pack"),
        ("4K Ultra HD Soundbar SC-HT830V, 5.5ft", "hd soundbar sc ht830v"),
        ("Beautifully Printed Wireless Waterproof Washable Speed Table", "speed table"),
        ("the kids’ men’s shoe, don't", "kids men shoe"),
        ("Café-Stühle für Große", "café stühle für große"),
        ("", ""),
        ("100% 3 - 4 x", ""),
    ],
)
def test_the_rule_leaves_out_what_is_no_noun(name, found):
    assert find(name) == found.split()


def test_a_noun_that_is_there_twice_is_found_twice():
    assert find("Table, and a table") == ["table", "table"]


def test_nouns_that_end_like_others_stay():
    words = "family assembly vegetable table cable turntable daybed speed"
    assert find(words) == words.split()


@given(st.text())
def test_any_text_has_nouns_in_lower_case_that_are_found_again(text):
    found = find(text)
    assert all(len(word) > 1 and word[0].isalpha() for word in found)
    assert find(text) == found
    assert len(found) <= len(text.split()) + sum(not c.isalnum() for c in text)


def test_names_of_rules():
    assert nouns_named("rule-1").name == RULE == "rule-1"
    with pytest.raises(InvalidArgument, match="'rule-2' was given") as problem:
        nouns_named("rule-2")
    said(problem)


# ------------------------------------------------------------------------- a model in spaCy's place


@dataclass
class Token:
    text: str
    pos_: str


class Model:
    """As a pipeline of spaCy: called with a text, gives tokens; its meta names its version."""

    meta = {"version": "3.8.0"}  # noqa: RUF012

    def __call__(self, text):
        kinds = {"Red": "ADJ", "Acme": "PROPN", "for": "ADP"}
        return [Token(word, kinds.get(word, "NOUN")) for word in text.split()]


@pytest.fixture
def spacy(monkeypatch):
    """A module in spaCy's place, whose load can be set."""
    module = ModuleType("spacy")
    module.load = lambda name, exclude=(): Model() if name == "en_core_web_sm" else None
    monkeypatch.setitem(sys.modules, "spacy", module)
    return module


@pytest.mark.parametrize("which", ["auto", "spacy"])
def test_spacy_is_taken_where_it_is_and_its_version_is_named(spacy, which):
    found = nouns_named(which)
    assert found.name == "spacy en_core_web_sm 3.8.0"
    assert found("Red Acme Shoes for Shoes") == ["acme", "shoes", "shoes"]


def test_no_part_of_the_model_that_tags_is_left_out(spacy):
    asked = {}
    spacy.load = lambda name, exclude=(): asked.update(exclude=exclude) or Model()
    nouns_named("spacy")
    assert not {"tok2vec", "tagger", "attribute_ruler"} & set(asked["exclude"])


@pytest.mark.parametrize("missing", ["spacy", "model"])
def test_without_spacy_or_its_model_the_rule_is_taken(spacy, monkeypatch, missing):
    def load(name, exclude=()):
        raise OSError("[E050] Can't find model 'en_core_web_sm'.")

    spacy.load = load
    if missing == "spacy":
        monkeypatch.setitem(sys.modules, "spacy", None)  # importing it is an ImportError then
    assert nouns_named().name == RULE
    with pytest.raises(InvalidArgument, match=f"download {nouns.MODEL}") as problem:
        nouns_named("spacy")
    said(problem)
