"""The small model: the same from the same texts, and one that can spell anything."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import InvalidArgument
from recgym.simulator.language import Language, of_words
from recgym.simulator.prompts import ASKING, DOMAINS, POSITIONS, Prompts, sentence_of
from recgym.simulator.small import LISTED, SAID, Texts, _read, make_small, texts_of
from recgym.simulator.tokens import telling

from ..sentences import said
from .shelves import TEXTS

pytestmark = pytest.mark.usefixtures("one_thread")


def hashes(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_the_same_texts_and_seed_make_the_same_files(tmp_path):
    torch.manual_seed(1)
    one = hashes(make_small(Texts(TEXTS), tmp_path / "one", steps=3))
    torch.manual_seed(2)  # what others draw is no matter
    two = hashes(make_small(Texts(TEXTS), tmp_path / "two", steps=3))
    assert one == two and {"model.safetensors", "config.json", "tokenizer.json"} <= set(one)
    other = hashes(make_small(Texts(TEXTS), tmp_path / "three", steps=3, seed=1))
    assert other["tokenizer.json"] == one["tokenizer.json"]
    assert other["model.safetensors"] != one["model.safetensors"]


def test_nobody_elses_draws_are_moved(tmp_path):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    make_small(Texts(TEXTS[:2]), tmp_path / "one", steps=1)
    assert torch.equal(torch.rand(3), wanted)


def test_it_has_learned_from_the_texts(small, tmp_path):
    untrained = Language.load(str(make_small(Texts(TEXTS), tmp_path / "none", steps=0)))

    def loss(language, texts):
        told = [language.opening(text)[:SAID] for text in texts]
        items = of_words(language.table, told)
        return telling(language, items, *language.joined(told)).mean().item()

    with torch.no_grad():
        assert loss(untrained, TEXTS) > 0.9 * np.log(untrained.words)
        assert loss(small, TEXTS) < 0.5 * loss(untrained, TEXTS)
        assert loss(small, TEXTS) < loss(small, [text[::-1] for text in TEXTS])


@given(st.text())
@settings(max_examples=100)
def test_any_text_is_spelled(small_read, text):
    language = small_read
    assert language.tokenizer.decode(language.opening(text)) == text
    assert language.tokenizer.decode(language.tokens(text)) == text
    assert all(token < language.words for token in language.tokens(text))


@pytest.mark.parametrize("text", ["<s>", "a </s> b", "<pad>", "</s></s>"])
def test_a_title_cannot_end_a_text(text, small):
    assert not {0, 1, 2} & set(small.tokens(text))
    assert small.tokenizer.decode(small.tokens(text)) == text


def test_progress_and_an_old_folder(tmp_path):
    shares = []
    folder = make_small(Texts(TEXTS), tmp_path / "one", steps=4, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    (folder / "old").touch()
    make_small(Texts(["very little"]), folder, steps=1)
    assert not (folder / "old").exists() and Language.load(str(folder)).positions == 512
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_text_makes_no_model(texts, tmp_path):
    with pytest.raises(InvalidArgument) as problem:
        make_small(Texts(texts), tmp_path / "one")
    assert "There is no text to make a small language model of" in said(problem)
    assert not list(tmp_path.iterdir())


def test_nothing_is_said_on_the_way(tmp_path, capfd):
    make_small(Texts(TEXTS[:3]), tmp_path / "one", steps=1)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------- what it reads

BOOKS = [{"title": f"Book {item}", "topics": f"{'even' if item % 2 == 0 else 'odd'}, "
          f"{'low' if item < 15 else 'high'}"} for item in range(30)]  # fmt: skip


def lists_of(domain, items, **options):
    """The lists that are read, as the items before the next one, it, and where it is listed."""
    domain = DOMAINS[domain]
    texts = texts_of(domain, items, **options)
    for *told, sentence in texts.lists:
        numbers = [part for part in told if isinstance(part, int)]
        words = tuple(part for part in told if isinstance(part, str))
        (next_one,) = (item for item, one in enumerate(texts.sentences) if one.endswith(sentence))
        if not words:  # a history, and what follows it
            yield numbers, next_one, None
        elif words == (domain.opening, ",", ASKING, domain.asked):
            assert next_one == numbers[-1]
            yield numbers[:-1], numbers[-1], None
        else:
            *words, place = words
            assert words == [domain.opening, ",", domain.listing, domain.choosing]
            place, history, five = POSITIONS.index(place.strip()), numbers[:-5], numbers[-5:]
            assert told.index(domain.listing) == len(history) + 2
            assert next_one == five[place]
            yield history, five[place], place


def test_every_list_is_of_items_that_share_a_topic():
    topics = [set(book["topics"].split(", ")) for book in BOOKS]
    lengths, places = set(), []
    for history, item, place in lists_of("books", BOOKS, lists=300):
        assert set.intersection(*(topics[one] for one in [*history, item]))
        assert len({*history, item}) == len(history) + 1
        lengths.add(len(history))
        places.append(place)
    assert lengths == set(range(LISTED[0], LISTED[1] + 1))
    assert sum(place is not None for place in places) == 300 / 5
    assert {place for place in places if place is not None} == set(range(5))


def test_without_topics_lists_share_a_word_that_is_not_in_most():
    words = ("red", "blue", "green", "white")
    tools = [{"title": f"a {words[item % 4]} tool {item}"} for item in range(40)]
    for history, item, _ in lists_of("products", tools, lists=60):
        assert len({one % 4 for one in [*history, item]}) == 1


def test_lists_are_as_long_as_items_share_a_topic():
    few = [{"title": f"Book {item}", "topics": f"topic {item // 6}"} for item in range(18)]
    lengths = {len(history) for history, _, _ in lists_of("books", few, lists=80)}
    assert lengths == {2, 3, 4, 5}


def test_what_nothing_shares_makes_no_list():
    assert texts_of(DOMAINS["books"], BOOKS[:4]).lists == []
    same = [{"title": f"the {item}", "topics": "all"} for item in range(20)]
    found = texts_of(DOMAINS["books"], same)
    assert found.lists == [] and len(found.sentences) == 20


def test_items_without_a_text_are_not_read(tmp_path):
    texts = Texts(["", ", book is titled A.", ""])
    language = Language.load(str(make_small(texts, tmp_path / "small", steps=1)))
    ((_, item, *_),) = _read(language, texts)[1]
    assert item == language.words + 1


def test_prompts_are_to_it_what_it_has_read(tmp_path):
    """Token by token, so that nothing in a prompt is strange to it."""
    domain = DOMAINS["books"]
    texts = texts_of(domain, BOOKS, lists=60)
    language = Language.load(str(make_small(texts, tmp_path / "small", steps=1)))
    language.items = torch.zeros(30, language.width)
    prompts = Prompts(language, domain)
    _, rows = _read(language, texts)
    for row, (history, item, place) in zip(
        rows[30:], lists_of("books", BOOKS, lists=60), strict=True
    ):
        if place is not None:
            five = [token - language.words for token in row if token >= language.words][-5:]
            asked = prompts.choice(history, five) + prompts.labels[place]
        elif row[1] == language.words + history[0]:
            asked = prompts.state(history)
        else:
            asked = [*prompts.likelihood(history), *prompts.of(item)]
        title = sentence_of(domain, BOOKS[item]).removeprefix(", book is titled Book")
        assert row == [*asked, *language.tokens(title), language.tokenizer.eos_token_id]
    assert len(prompts.likelihood([1, 2])) < 1.5 * len(f"{domain.opening}{ASKING}".split()) + 4
