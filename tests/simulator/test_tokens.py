"""Item tokens: one row each, many at once as one at a time, Adam, an end in time."""

import dataclasses

import numpy as np
import pytest
import torch

from recgym.errors import Diverged, InvalidArgument
from recgym.simulator.asked import PAPER, Tokenization
from recgym.simulator.tokens import beginning, learn_tokens, telling

from ..sentences import said
from .conftest import made
from .shelves import SENTENCES

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = Tokenization(iterations=12, learning_rate=0.005, patience=0)


def sentences_of(language, count=6):
    """Of unlike lengths: the first ones go on."""
    more = [" It is made of wood and it lasts." * (item % 3) for item in range(count)]
    return [language.tokens(SENTENCES[item] + more[item]) for item in range(count)]


@torch.no_grad()
def slow_telling(language, vector, text):
    """-log p of a text after a vector, one prompt and one token at a time."""
    total = 0.0
    for place, token in enumerate(text):
        rows = [*language.table[language.begins], vector, *language.table[text[:place]]]
        logits = language.model(inputs_embeds=torch.stack(rows)[None]).logits[0, -1]
        total -= logits.log_softmax(0)[token].item()
    return total / len(text)


def test_the_loss_is_that_of_a_text_after_its_vector(any_language):
    texts = sentences_of(any_language)
    vectors = beginning(any_language, len(texts), FEW)
    with torch.no_grad():
        found = telling(any_language, vectors, *any_language.joined(texts))
    wanted = [slow_telling(any_language, vector, text)
              for vector, text in zip(vectors, texts, strict=True)]  # fmt: skip
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)


def test_a_gradient_reaches_the_items_own_row_only(any_language):
    texts = sentences_of(any_language)
    vectors = beginning(any_language, len(texts), FEW).requires_grad_()
    loss = telling(any_language, vectors, *any_language.joined(texts))
    (gradient,) = torch.autograd.grad(loss[2], vectors)
    reached = gradient.abs().sum(1) > 0
    assert reached.tolist() == [row == 2 for row in range(len(texts))]
    assert all(values.grad is None for values in any_language.model.parameters())


def test_nothing_but_the_vectors_is_learned(llama):
    before = {name: values.clone() for name, values in llama.model.state_dict().items()}
    items = llama.items.clone()
    learn_tokens(llama, sentences_of(llama), FEW)
    assert all(torch.equal(before[name], now) for name, now in llama.model.state_dict().items())
    assert torch.equal(llama.items, items)


@pytest.mark.parametrize("how", [FEW, Tokenization(iterations=40, patience=2, least=0.02)])
def test_many_at_once_are_learned_as_one_at_a_time(any_language, how):
    texts = sentences_of(any_language)
    vectors, losses = learn_tokens(any_language, texts, how)
    for together in (1, 80):
        apart = learn_tokens(any_language, texts, dataclasses.replace(how, together=together))
        torch.testing.assert_close(vectors, apart[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(losses, apart[1], rtol=1e-3, atol=1e-3)


def test_an_item_does_not_depend_on_the_others(llama):
    texts = sentences_of(llama)
    vectors, losses = learn_tokens(llama, texts, FEW)
    only = [text if item in (1, 4) else [] for item, text in enumerate(texts)]
    found, reached = learn_tokens(llama, only, FEW)
    for item in (1, 4):
        torch.testing.assert_close(found[item], vectors[item], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(reached[item], losses[item], rtol=1e-4, atol=1e-4)


def test_adam_is_torchs(small):
    text = sentences_of(small)[0]
    vector = beginning(small, 1, FEW).requires_grad_()
    optimizer = torch.optim.Adam([vector], FEW.learning_rate)
    reached, best = np.inf, vector
    for _ in range(FEW.iterations):
        loss = telling(small, vector, *small.joined([text])).sum()
        if loss.item() < reached:
            reached, best = loss.item(), vector.detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vectors, losses = learn_tokens(small, [text], FEW)
    torch.testing.assert_close(vectors, best, rtol=1e-4, atol=1e-5)
    assert losses.item() == pytest.approx(reached, rel=1e-5)


def test_losses_fall_and_are_those_of_the_vectors(stories):
    texts = [text[:32] for text in sentences_of(stories)]
    how = Tokenization(iterations=80)
    begun = telling(stories, beginning(stories, len(texts), how), *stories.joined(texts))
    vectors, losses = learn_tokens(stories, texts, how)
    assert (losses < begun).all() and losses.mean() < 0.9 * begun.mean()
    with torch.no_grad():
        again = telling(stories, vectors, *stories.joined(texts))
    torch.testing.assert_close(again, losses, rtol=1e-4, atol=1e-4)
    whole = learn_tokens(stories, texts, dataclasses.replace(how, patience=0))[1]
    assert (whole <= losses * 1.001).all()


def test_the_best_vectors_are_kept_where_losses_rise_again(llama):
    texts = sentences_of(llama)
    how = Tokenization(iterations=15, patience=0, learning_rate=2.0)
    vectors, losses = learn_tokens(llama, texts, how)
    with torch.no_grad():
        again = telling(llama, vectors, *llama.joined([text[:32] for text in texts]))
    torch.testing.assert_close(again, losses, rtol=1e-4, atol=1e-4)


def test_an_item_ends_when_its_loss_falls_no_more(llama, monkeypatch):
    """And changes nothing for the others, which go on."""
    texts = sentences_of(llama)
    how = Tokenization(iterations=60, patience=2, least=0.01)
    rows, read = [], llama.read
    monkeypatch.setattr(
        llama, "read", lambda v, *r, **m: (rows.append(len(v)), read(v, *r, **m))[1]
    )
    vectors, _ = learn_tokens(llama, texts, how)
    assert rows[0] == len(texts) and rows[-1] < len(texts) and rows == sorted(rows, reverse=True)
    together, took = list(rows), []
    for item in range(len(texts)):
        rows.clear()
        alone = [text if item == other else [] for other, text in enumerate(texts)]
        found, _ = learn_tokens(llama, alone, how)
        torch.testing.assert_close(found[item], vectors[item], rtol=1e-3, atol=1e-3)
        took.append(len(rows))
    assert together == [sum(step < one for one in took) for step in range(max(took))]


def test_an_item_without_a_text_keeps_its_beginning(llama):
    texts = sentences_of(llama)
    texts[3] = []
    vectors, losses = learn_tokens(llama, texts, FEW)
    begun = beginning(llama, len(texts), FEW)
    assert torch.equal(vectors[3], begun[3]) and losses[3].isnan()
    others = [0, 1, 2, 4, 5]
    assert not torch.isclose(vectors[others], begun[others]).all(1).any()
    assert losses[others].isfinite().all()


@pytest.mark.parametrize("texts", [[], [[], [], []]])
def test_a_catalogue_without_texts_is_refused(texts, llama):
    with pytest.raises(InvalidArgument) as problem:
        learn_tokens(llama, texts, Tokenization())
    assert "No item of the catalogue has a text" in said(problem)


def test_texts_are_cut(llama):
    text = sentences_of(llama)[2] * 5
    assert len(text) > 32
    assert torch.equal(
        learn_tokens(llama, [text], FEW)[0], learn_tokens(llama, [text[:32]], FEW)[0]
    )
    shorter = dataclasses.replace(FEW, tokens=31)
    assert not torch.equal(learn_tokens(llama, [text], FEW)[0],
                           learn_tokens(llama, [text], shorter)[0])  # fmt: skip


def test_texts_have_room_among_the_positions(tokenizer):
    language = made("gpt2", tokenizer, positions=20)
    text = sentences_of(language)[2] * 5
    whole = dataclasses.replace(FEW, tokens=10_000)
    found = learn_tokens(language, [text], whole)
    assert torch.equal(found[0], learn_tokens(language, [text[:19]], whole)[0])


def test_the_papers_preset_takes_all_iterations():
    assert (PAPER.iterations, PAPER.learning_rate, PAPER.patience) == (300, 0.005, 0)
    assert PAPER.tokens > 1000 and Tokenization().tokens == 32 and Tokenization().patience


def test_vectors_begin_near_the_mean_of_all_words(stories):
    how = Tokenization()
    begun = beginning(stories, 2000, how)
    assert torch.equal(begun, beginning(stories, 2000, how))
    assert not torch.equal(begun, beginning(stories, 2000, dataclasses.replace(how, seed=1)))
    torch.testing.assert_close(begun.mean(0), stories.table.mean(0), rtol=0, atol=0.01)
    spread = begun.std(0) / stories.table.std(0)
    assert ((spread > 0.09) & (spread < 0.11)).all()


def test_progress_goes_up_to_one(llama):
    shares = []
    learn_tokens(
        llama, sentences_of(llama), dataclasses.replace(FEW, together=40),
        told=lambda tokens, share: shares.append(share),
    )  # fmt: skip
    assert len(shares) > 1 and shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_learning_goes_on_from_any_batch_bit_by_bit(llama, stop):
    how, kept = dataclasses.replace(FEW, together=40), []
    whole = learn_tokens(
        llama, sentences_of(llama), how,
        told=lambda tokens, share: kept.append([part.clone() for part in tokens]),
    )  # fmt: skip
    again = []
    resumed = learn_tokens(
        llama, sentences_of(llama), how, tuple(kept[stop]),
        lambda tokens, share: again.append(share),
    )  # fmt: skip
    assert len(again) == len(kept) - stop - 1
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_a_loss_that_is_no_number_is_said(llama):
    with torch.no_grad():
        llama.table[5] = torch.nan
    with pytest.raises(Diverged) as problem:
        learn_tokens(llama, [[4, 5, 6]], FEW)
    assert "Item tokens stopped at iteration 1" in said(problem)
    assert "(it is 0.005)" in said(problem)
    with pytest.raises(Diverged) as problem:
        learn_tokens(llama, [[4, 5, 6]], Tokenization(iterations=1))
    assert "(it is 0.02)" in said(problem)  # tiny models learn faster


def test_vectors_learn_in_half_the_precision_too(small):
    small.model.to(torch.bfloat16)
    texts = sentences_of(small)
    vectors, losses = learn_tokens(small, texts, Tokenization(iterations=40))
    begun = telling(small, beginning(small, len(texts), FEW), *small.joined(texts))
    assert vectors.dtype == losses.dtype == torch.float32 and (losses < begun).all()
