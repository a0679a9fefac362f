"""Prompts: word for word as in the paper, never longer than the model reads, oldest items first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import InvalidArgument, UnknownName
from recgym.simulator.prompts import DOMAINS, POSITIONS, Prompts, domain_named, sentence_of

from ..sentences import said
from .conftest import ITEMS, made
from .shelves import TITLES

pytestmark = pytest.mark.usefixtures("one_thread")


def told(language, prompt):
    """A prompt as text, with [3] for item 3."""
    words, text = [], ""
    for token in [*prompt, None]:
        if token is not None and token < language.words:
            words.append(token)
            continue
        text += language.tokenizer.decode(words)
        text += "" if token is None else f"[{token - language.words}]"
        words = []
    return text


def spelled(language, titles=TITLES):
    return [language.tokens(f" {title}") for title in titles]


# -------------------------------------------------------------------------------- word for word


def test_prompts_of_tracks_are_those_of_the_paper(small):
    prompts = Prompts(small, DOMAINS["tracks"])
    assert told(small, [*prompts.likelihood([3, 1]), *prompts.of(7)]) == (
        "<s>The user has listened to these tracks in chronological order:[3][1], Compute the "
        "likelihood that[7] be the next track to be listened to based on the listening history."
    )
    assert told(small, prompts.choice([3], [9, 8, 7, 6, 5])) == (
        "<s>The user has listened to these tracks in chronological order:[3], In the list of "
        "following 5 tracks:[9][8][7][6][5], based on the history, select the number of the track "
        "that he is most likely to continue to listen to."
    )
    assert told(small, prompts.state([3, 1])) == "<s>[3][1]"
    assert [small.tokenizer.decode(label) for label in prompts.labels] == [
        " first", " second", " third", " fourth", " fifth",
    ]  # fmt: skip


def test_items_are_spelled_in_place_of_their_tokens(small):
    prompts = Prompts(small, DOMAINS["products"], spelled(small))
    assert told(small, [*prompts.likelihood([0, 3]), *prompts.of(4)]) == (
        "<s>The user has bought these products in chronological order: garden lamp, kitchen table, "
        "Compute the likelihood that garden knife be the next product to be bought based on the "
        "purchase history."
    )
    assert told(small, prompts.choice([0], [0, 1, 2, 3, 4])) == (
        "<s>The user has bought these products in chronological order: garden lamp, In the list "
        "of following 5 products: garden lamp, kitchen lamp, garden table, kitchen table, garden "
        "knife, based on the history, select the number of the product that he is most likely to "
        "continue to buy."
    )
    assert told(small, prompts.state([0, 1])) == "<s> garden lamp, kitchen lamp"


@pytest.mark.parametrize("name", DOMAINS)
def test_each_domain_has_words_of_its_own(name, small):
    domain, prompts = domain_named(name), Prompts(small, domain_named(name))
    text = told(small, [*prompts.likelihood([1]), *prompts.of(2)])
    assert f"these {domain.items} in" in text and f"the next {domain.item} to" in text
    assert domain.history in text


def test_a_domain_of_another_name_is_refused():
    with pytest.raises(UnknownName) as problem:
        domain_named("track")
    assert "tracks" in said(problem)


def test_sentences_leave_out_what_is_not_known():
    tracks = DOMAINS["tracks"]
    whole = {"title": "Blue", "album": "Sea", "artist": "Ann"}
    assert sentence_of(tracks, whole) == (
        ", track is titled Blue from album Sea, its artist is Ann."
    )
    assert sentence_of(tracks, whole | {"album": "  "}) == (
        ", track is titled Blue, its artist is Ann."
    )
    assert sentence_of(tracks, {"artist": "Ann"}) == ", its artist is Ann."
    assert sentence_of(tracks, {}) == sentence_of(tracks, {"title": " \n"}) == ""
    assert sentence_of(DOMAINS["products"], {"title": "A\n {title}\tb", "text": "It is."}) == (
        ", product is titled A {title} b. It is."
    )


# ------------------------------------------------------------------------------------- too long


def prompts_of(language, history):
    """All prompts of a history, with what follows them."""
    for prompts in (Prompts(language, DOMAINS["tracks"]),
                    Prompts(language, DOMAINS["tracks"], spelled(language))):  # fmt: skip
        longest = max(prompts.labels, key=len)
        yield prompts.state(history)
        for item in (0, 1, 11):
            yield [*prompts.likelihood(history), *prompts.of(item)]
        for five in ([0, 1, 2, 3, 4], [11, 10, 9, 8, 7]):
            yield [*prompts.choice(history, five), *longest]


@pytest.fixture(scope="module")
def many(tokenizer):
    """A model for all examples, of which only the positions are read; and how few suffice."""
    language = made("llama", tokenizer)
    language.positions = 0
    with pytest.raises(InvalidArgument) as problem:
        Prompts(language, DOMAINS["tracks"], spelled(language))
    return language, int(said(problem).split("up to ")[1].split(":")[0])


@given(history=st.lists(st.integers(0, ITEMS - 1), max_size=60), more=st.integers(0, 150))
@settings(max_examples=100)
def test_every_prompt_has_room(history, more, many):
    language, least = many
    language.positions = least + more
    for prompt in prompts_of(language, history):
        assert len(prompt) <= language.positions


def test_the_oldest_items_are_dropped_and_counted(llama):
    prompts = Prompts(llama, DOMAINS["tracks"])
    words = len(prompts.likelihood([])) + len(prompts.of(0))
    history = list(range(10))
    llama.positions = words + 10
    whole = prompts.likelihood(history)
    assert prompts.dropped == 0
    llama.positions = words + 7
    assert [token for token in prompts.likelihood(history) if token >= llama.words] == [
        llama.words + item for item in range(3, 10)
    ]
    assert prompts.dropped == 3 and len(whole) == words - len(prompts.of(0)) + 10
    assert prompts.state(history) == [1, *[llama.words + item for item in history]]
    assert prompts.dropped == 3


def test_spelled_items_are_dropped_whole(small):
    prompts = Prompts(small, DOMAINS["tracks"], spelled(small))
    comma = small.tokens(",")
    kept = [*spelled(small)[4], *comma, *spelled(small)[5]]
    small.positions = 1 + len(kept)
    assert prompts.state([3, 4, 5]) == [1, *kept] and prompts.dropped == 1
    small.positions -= 1
    assert prompts.state([3, 4, 5]) == [1, *spelled(small)[5]] and prompts.dropped == 3


def test_a_model_with_too_few_positions_is_refused(llama):
    domain = DOMAINS["tracks"]
    llama.positions = 40
    with pytest.raises(InvalidArgument) as problem:
        Prompts(llama, domain)
    assert "a tiny llama reads 40 tokens, and the shortest prompts have up to" in said(problem)
    needed = int(said(problem).split("up to ")[1].split(":")[0])
    llama.positions = needed - 1
    with pytest.raises(InvalidArgument):
        Prompts(llama, domain)
    llama.positions = needed
    prompts = Prompts(llama, domain)
    assert llama.words + 9 in prompts.likelihood([9])
    assert llama.words + 9 in prompts.choice([9], [0, 1, 2, 3, 4])
    with pytest.raises(InvalidArgument) as problem:
        Prompts(llama, domain, [[5] * 30] * ITEMS)
    assert "or items of fewer words" in said(problem)


def test_there_are_five_labels(small):
    assert len(Prompts(small, DOMAINS["books"]).labels) == len(POSITIONS) == 5
