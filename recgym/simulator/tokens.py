"""Item tokens: a vector for each item among those of a model's words, from which it tells its text.

Everything but that vector is frozen, so items do not know of each other, and many are learned at
once: each has an Adam of its own, and leaves the batch when its loss falls no more.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recgym.errors import Diverged, InvalidArgument
from recgym.simulator.asked import Tokenization
from recgym.simulator.language import Language, Prompt

Tokens = tuple[torch.Tensor, torch.Tensor]  # the vectors of items, and the losses left
_BETAS, _EPS = (0.9, 0.999), 1e-8  # of Adam
_RATE, _TINY_RATE = 0.005, 0.02  # at which items of large models and of tiny ones learn


def learn_tokens(
    language: Language,
    sentences: Sequence[Prompt],
    how: Tokenization,
    known: Tokens | None = None,
    told: Callable[[Tokens, float], None] = lambda tokens, share: None,
) -> Tokens:
    """(items, width): their vectors, and (items,): the loss that each ends with.

    An item without a sentence keeps the vector that it begins with, and its loss is nan. After
    every batch, `told` is given all that is learned so far, from which `known` goes on.
    """
    if not any(len(sentence) for sentence in sentences):
        raise InvalidArgument(
            "No item of the catalogue has a text, so a language model cannot tell them apart: "
            "build the log with titles, or give a domain whose clauses name fields that it has."
        )
    room = min(how.tokens, language.positions - len(language.begins))
    texts = [list(sentence[:room]) for sentence in sentences]
    vectors, losses = known or (
        beginning(language, len(texts), how), torch.full((len(texts),), torch.nan)
    )  # fmt: skip
    lengths = np.array([len(text) for text in texts])
    to_tell = np.flatnonzero(lengths)
    order = to_tell[np.argsort(-lengths[to_tell], kind="stable")]
    for batch in _batches(order, lengths, how.together):
        rows = torch.as_tensor(batch)
        if not losses[rows].isnan().any():
            continue
        found, loss = _told(language, vectors[rows], [texts[item] for item in batch], how)
        vectors[rows], losses[rows] = found.cpu(), loss.cpu()
        told((vectors, losses), int((~losses.isnan()).sum()) / len(to_tell))
    return vectors, losses


def _batches(
    order: NDArray[np.int64], lengths: NDArray[np.int64], together: int
) -> Iterator[NDArray[np.int64]]:
    """Texts of like lengths, longest first, up to so many tokens."""
    begin = 0
    while begin < len(order):
        end = begin + max(1, together // int(lengths[order[begin]]))
        yield order[begin:end]
        begin = end


def beginning(language: Language, count: int, how: Tokenization) -> torch.Tensor:
    """(items, width): near the mean of all words, so that a vector has about the size of theirs."""
    table = language.vectors(torch.arange(language.words, device=language.device)).float().cpu()
    generator = torch.Generator().manual_seed(how.seed)
    noise = torch.randn(count, language.width, generator=generator)
    return table.mean(0) + how.noise * table.std(0) * noise


def _told(
    language: Language, vectors: torch.Tensor, texts: list[list[int]], how: Tokenization
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best vectors of a batch, and their losses."""
    tokens, lengths = language.joined(texts)
    to = tokens.device
    vectors = vectors.to(to)
    rows = torch.arange(len(texts), device=to)  # those that still learn
    best, reached = vectors.clone(), torch.full((len(texts),), torch.inf, device=to)
    rate = how.learning_rate or (_TINY_RATE if language.tiny else _RATE)
    waited = torch.zeros(len(texts), dtype=torch.long, device=to)
    first, second = torch.zeros_like(vectors), torch.zeros_like(vectors)  # moments of Adam
    for step in range(1, how.iterations + 1):
        asked = vectors[rows].requires_grad_()
        loss = telling(language, asked, tokens[rows], lengths[rows])
        (gradient,) = torch.autograd.grad(loss.sum(), asked)
        if not torch.isfinite(loss).all():
            raise Diverged(
                f"Item tokens stopped at iteration {step}: a loss is no number. Try a lower "
                f"learning rate (it is {rate:g})."
            )
        loss = loss.detach()
        lower = loss < reached[rows] * (1 - how.least)
        better = rows[loss < reached[rows]]
        best[better] = vectors[better]
        reached[rows] = torch.minimum(loss, reached[rows])
        waited[rows] = torch.where(lower, 0, waited[rows] + 1)
        first[rows] = _BETAS[0] * first[rows] + (1 - _BETAS[0]) * gradient
        second[rows] = _BETAS[1] * second[rows] + (1 - _BETAS[1]) * gradient.square()
        size = (second[rows] / (1 - _BETAS[1] ** step)).sqrt() + _EPS
        vectors[rows] -= rate * first[rows] / (1 - _BETAS[0] ** step) / size
        if how.patience:
            rows = rows[waited[rows] < how.patience]
            if not len(rows):
                break
    return best, reached


def telling(
    language: Language, vectors: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """(batch,): -log p of each text after its item's vector, the mean over its tokens."""
    begins = torch.tensor(language.begins, dtype=torch.long, device=tokens.device)
    opening = language.vectors(begins).expand(len(tokens), -1, -1)
    words = language.vectors(tokens[:, :-1])
    item = vectors.to(words.dtype)[:, None]
    states = language.read(torch.cat([opening, item, words], 1)).last_hidden_state
    logits = language.next_words(states[:, len(begins) :]).float()
    each = functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    counted = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return (each * counted).sum(1) / lengths
