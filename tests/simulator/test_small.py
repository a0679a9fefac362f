"""The small model: the same from the same texts, and one that can spell anything."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import InvalidArgument
from recgym.simulator.language import Language
from recgym.simulator.prompts import DOMAINS, POSITIONS, Prompts
from recgym.simulator.small import LISTED, TOLD, make_small, texts_of

from ..sentences import said
from .shelves import TEXTS

pytestmark = pytest.mark.usefixtures("one_thread")


def hashes(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_the_same_texts_and_seed_make_the_same_files(tmp_path):
    torch.manual_seed(1)
    one = hashes(make_small(TEXTS, tmp_path / "one", steps=3))
    torch.manual_seed(2)  # what others draw is no matter
    two = hashes(make_small(TEXTS, tmp_path / "two", steps=3))
    assert one == two and {"model.safetensors", "config.json", "tokenizer.json"} <= set(one)
    other = hashes(make_small(TEXTS, tmp_path / "three", steps=3, seed=1))
    assert other["tokenizer.json"] == one["tokenizer.json"]
    assert other["model.safetensors"] != one["model.safetensors"]


def test_nobody_elses_draws_are_moved(tmp_path):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    make_small(TEXTS[:2], tmp_path / "one", steps=1)
    assert torch.equal(torch.rand(3), wanted)


def test_it_has_learned_from_the_texts(small, tmp_path):
    untrained = Language.load(str(make_small(TEXTS, tmp_path / "none", steps=0)))

    def loss(language, texts):
        tokens, lengths = language.joined([language.opening(text) for text in texts])
        logits = language.model(input_ids=tokens).logits[:, :-1].log_softmax(2)
        each = -logits.gather(2, tokens[:, 1:, None])[..., 0]
        counted = torch.arange(tokens.shape[1] - 1) < lengths[:, None] - 1
        return (each * counted).sum().item() / counted.sum().item()

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
    folder = make_small(TEXTS, tmp_path / "one", steps=4, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    (folder / "old").touch()
    make_small(["very little"], folder, steps=1)
    assert not (folder / "old").exists() and Language.load(str(folder)).positions == 512
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_text_makes_no_model(texts, tmp_path):
    with pytest.raises(InvalidArgument) as problem:
        make_small(texts, tmp_path / "one")
    assert "There is no text to make a small language model of" in said(problem)
    assert not list(tmp_path.iterdir())


def test_nothing_is_said_on_the_way(tmp_path, capfd):
    make_small(TEXTS[:3], tmp_path / "one", steps=1)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------- what it reads

BOOKS = [{"title": f"Book {item}", "topics": f"{'even' if item % 2 == 0 else 'odd'}, "
          f"{'low' if item < 15 else 'high'}"} for item in range(30)]  # fmt: skip


def lists_of(domain, items, **options):
    """The lists among the texts, as the titles before the next item, it, and where it is listed."""
    for text in texts_of(DOMAINS[domain], items, **options)[len(items) :]:
        history, _, rest = text.removeprefix(DOMAINS[domain].opening).partition(", Compute ")
        if rest:
            item = rest.partition("that ")[2].partition(", book is titled")[0]
            yield history.strip().split(", "), item, None
        else:
            history, _, rest = text.removeprefix(DOMAINS[domain].opening).partition(", In the ")
            listed = rest.partition("books: ")[2].partition(", based on")[0].split(", ")
            place = POSITIONS.index(text.rpartition(" ")[2])
            assert len(listed) == 5
            yield history.strip().split(", "), listed[place], place


def test_every_list_is_of_items_that_share_a_topic():
    topics = {book["title"]: set(book["topics"].split(", ")) for book in BOOKS}
    lengths, places = set(), []
    for history, item, place in lists_of("books", BOOKS, lists=300):
        assert set.intersection(*(topics[title] for title in [*history, item]))
        assert len({*history, item}) == len(history) + 1
        lengths.add(len(history))
        places.append(place)
    assert lengths == set(range(LISTED[0], LISTED[1] + 1))
    assert 80 < sum(place is not None for place in places) < 120
    assert {place for place in places if place is not None} == set(range(5))


def test_without_topics_lists_share_a_word_that_is_not_in_most():
    words = ("red", "blue", "green", "white")
    tools = [{"title": f"a {words[item % 4]} tool {item}"} for item in range(40)]
    texts = texts_of(DOMAINS["products"], tools, lists=60)[40:]
    for text in texts:
        told = text.partition(":")[2].partition(", Compute")[0].partition(", In the")[0]
        assert len({title.split()[1] for title in told.strip().split(", ")}) == 1


def test_what_nothing_shares_makes_no_list():
    assert len(texts_of(DOMAINS["books"], BOOKS[:4])) == 4
    same = [{"title": f"the {item}", "topics": "all"} for item in range(20)]
    assert len(texts_of(DOMAINS["books"], same)) == 20


def test_long_titles_are_cut_in_lists():
    long = [{"title": f"{item} " + "word " * 30, "topics": "ab"[item % 2]} for item in range(40)]
    long += [{"title": f"none {item}"} for item in range(40)]
    for text in texts_of(DOMAINS["books"], long, lists=20)[80:]:
        assert text.count("word") <= (1 + LISTED[1] + 5) * TOLD


def test_the_words_of_prompts_are_few_tokens_to_it(tmp_path):
    folder = make_small(texts_of(DOMAINS["books"], BOOKS), tmp_path / "small", steps=1)
    language = Language.load(str(folder))
    language.items = torch.zeros(30, language.width)
    prompt = Prompts(language, DOMAINS["books"]).likelihood([1, 2])
    assert len(prompt) < 1.5 * len(f"{DOMAINS['books'].opening} Compute the likelihood".split()) + 4
