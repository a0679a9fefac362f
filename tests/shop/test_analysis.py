"""Lucene's English analysis: where words end, which of them count, and what is left of them."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import MissingExtra
from recgym.shop import analysis
from recgym.shop.analysis import analysed

STOPPED = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Men's running SHOES", "men run shoe"),
        ("the girls’ and the boy’s", "girl boi"),
        ("U.S.A. wi-fi 13.5oz, 1,000 or 3/4", "u.s.a wi fi 13.5oz 1,000 3 4"),
        ("$34.0 100% 5.a a.5", "34.0 100 5 5"),
        ("don't 12'5 color:blue 1:2 x;y 1;2", "don't 12'5 color:blu 1 2 x y 1;2"),
        ("snake_case _x_ __ _", "snake_cas _x_"),
        ("naïve café", "naïv café"),
        ("½ cup at 5° — 2²", "cup 5 2"),
        ("東京タワー これ 안녕 ไทย", "東 京 タワー こ れ 안녕 ไทย"),
        ("Crest® 🔥🔥 ✔️x 👨‍👩‍👧 👍🏽 🇩🇪🇫🇷 aℹb", "crest ® 🔥 🔥 ✔️ x 👨‍👩‍👧 👍🏽 🇩🇪 🇫🇷 aℹb"),
        (STOPPED, ""),
        ("i me you your from has", "i me you your from ha"),  # which are none of them
        ("'' -- ... \u200b\xa0\ud800", ""),
    ],
)
def test_words_are_cut_as_lucene_cuts_them(text, terms):
    assert analysed(text) == terms.split()


@pytest.mark.parametrize(
    ("words", "stem"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("relational", "relat"), ("is as us", "us"),
        ("motoring", "motor"), ("hopping", "hop"), ("falling", "fall"), ("controlling", "control"),
        # Porter's program departs from his paper, and Lucene follows the program:
        ("technology technologies", "technolog"),
        ("assembly assemblies assembled assemble", "assembl"),
        ("possibly possible", "possibl"), ("capably", "capabl"), ("bly", "bly"),
        ("trekking trekked", "trek"), ("trekk", "trekk"),
    ],
)  # fmt: skip
def test_words_are_stemmed_as_lucene_stems_them(words, stem):
    assert set(analysed(words)) == {stem}


def test_no_pattern_is_one_that_python_before_3_11_5_matches_wrongly():
    assert not any(possessive in analysis._WORD.pattern for possessive in ("*+", "++", "?+"))


def test_a_word_ends_after_255_characters():
    assert list(map(len, analysed("7" * 600))) == [255, 255, 90]


def test_what_lucene_does_not_stem_is_a_word_of_two_characters():
    assert analysed("us xs is") == ["us", "xs"]


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_any_text_has_terms_and_they_come_from_it(text):
    terms = analysed(text)
    assert all(terms)
    assert analysed(text.lower()) == terms
    assert analysed(f"{text} - zebra")[-1] == "zebra"
    assert analysed(f"{text}\n{text}") == terms * 2


def test_the_stemmer_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    analysis._remembered.cache_clear()
    with pytest.raises(MissingExtra, match="recgym.shop."):
        analysed("red")
    monkeypatch.undo()
    assert analysed("reds") == ["red"]


def test_words_are_remembered_but_not_without_end(monkeypatch):
    monkeypatch.setattr(analysis, "_MANY", 3)
    analysis._remembered.cache_clear()
    assert analysed("ones twos threes fours fives ones") == [
        "on",
        "two",
        "three",
        "four",
        "five",
        "on",
    ]
    assert len(analysis._remembered()) <= 3
    analysis._remembered.cache_clear()
