"""A reader of pages: what each action is worth on a page, and what the page is worth.

After the choice model of WebShop (Yao et al., 2022): one BERT reads a page and its actions, tokens
of an action attend to those of the page (Seo et al., 2017), and what they find is scored. A page is
read once for all its actions, and many pages at a time. Pads of pages and of actions are left out
(of actions, the original leaves them in), so that a score depends on its page and action alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from recgym.agents.bert import SMALL, kept_small, settings_of, weights_of
from recgym.agents.wordpieces import Words
from recgym.errors import InvalidArgument, printable
from recgym.networks import drawing_from
from recgym.published import transformers_for

Pages = Sequence[str]
Actions = Sequence[Sequence[str]]  # of each page, however many
_VALUED = 128  # the width of the layer before a value
_TOGETHER = {"cpu": 4_096, "cuda": 65_536}  # tokens that are read at once: what caches hold
_FEWEST = 3  # tokens of a text: its first, its last, and one between them


@dataclass(frozen=True)
class ReaderPlan:
    """What a reader is rebuilt from, but for its weights."""

    model: str  # the name or the folder of a BERT, or that of the small one
    made: str  # which small one: it is kept by this name; of others, nothing
    config: Mapping[str, Any]  # of the BERT, as Transformers has it
    vocabulary: str  # as the tokenizers library has it, in JSON
    page_tokens: int = 512  # of a page, at most: of a longer one, the last
    action_tokens: int = 64  # of an action, at most
    dropout: float = 0.1  # share of what the BERT leaves out in training
    seed: int = 0  # decides the weights that nothing was learned for

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be used."""
        for name in ("page_tokens", "action_tokens"):
            value = getattr(self, name)
            if type(value) is not int or value < _FEWEST:
                raise InvalidArgument(
                    f"{name} is a whole number from {_FEWEST} on, and {printable(repr(value))} was "
                    "given."
                )
        if not 0 <= self.dropout < 1:
            raise InvalidArgument(
                f"dropout is a share from 0 on, below 1, and {self.dropout} was given."
            )


def reader_plan(
    model: str = SMALL,
    texts: Sequence[str] = (),
    seed: int = 0,
    *,
    page_tokens: int = 512,
    action_tokens: int = 64,
    dropout: float = 0.1,
    progress: Callable[[float], None] = lambda share: None,
) -> ReaderPlan:
    """The plan of a reader whose BERT has that name, or stands in that folder.

    The small one is made of the texts, unless one was made of the same texts and seed before.
    """
    options = {"page_tokens": page_tokens, "action_tokens": action_tokens, "dropout": dropout}
    plan = ReaderPlan(model, "", {}, "", **options, seed=seed)  # type: ignore[arg-type]
    if model == SMALL:
        plan = replace(plan, made=kept_small(texts, seed, progress))
    config, vocabulary = settings_of(plan.model, plan.made)
    return replace(plan, config=config, vocabulary=vocabulary)


def make_reader(plan: ReaderPlan) -> "Reader":
    """A reader with what its BERT has learned; the rest is drawn from the seed."""
    with drawing_from(plan.seed):
        reader = Reader(plan)
    learned, own = weights_of(plan.model, plan.made), reader.encoder.state_dict()
    for name, values in own.items():
        theirs = learned.get(name, values[:0])
        if values.shape[1:] != theirs.shape[1:] or not 0 < len(theirs) <= len(values):
            raise InvalidArgument(
                f"'{printable(plan.model)}' has changed since its plan was made: {name} has "
                f"{[*theirs.shape]} numbers in place of {[*values.shape]}. Make the plan anew."
            )
        values[: len(theirs)] = theirs  # signs that it does not know are drawn
    return reader.eval()


class Reading(NamedTuple):
    """Texts as a BERT has read them, each different one once."""

    states: torch.Tensor  # (different, longest, width)
    told: torch.Tensor  # (different, longest): is it a token, and no pad?
    rows: torch.Tensor  # (texts,): which of the different ones each is

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States and what is told of some texts."""
        which = self.rows[rows]
        return self.states[which], self.told[which]


class Reader(nn.Module):
    """A page and its actions, and from them a score for each action, and a value of the page."""

    def __init__(self, plan: ReaderPlan) -> None:
        """Make the networks, whose weights are drawn."""
        super().__init__()
        parts = transformers_for("A reader of pages")
        self.plan, self.words = plan, Words(plan.vocabulary)
        shares = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        told = {**plan.config, **dict.fromkeys(shares, plan.dropout)}
        config = parts.BertConfig.from_dict(told)
        width = config.hidden_size
        self.encoder: nn.Module = parts.BertModel(config, add_pooling_layer=False)
        self.positions = int(config.max_position_embeddings)
        self.attention = Attention(width)
        self.layer = nn.Linear(4 * width, width)
        self.score = nn.Linear(width, 1)
        self.value = nn.Sequential(nn.Linear(width, _VALUED), nn.LeakyReLU(), nn.Linear(_VALUED, 1))

    def forward(
        self, pages: Pages, actions: Actions, apart: bool = False
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The scores of each page's actions, and (pages,) values, of pages that are read once.

        Values that stand apart teach nothing to what reads the pages.
        """
        read = self._read(pages, self.plan.page_tokens)
        known = read._replace(states=read.states.detach()) if apart else read
        return self._scores(read, actions), self._values(known)

    def scores(self, pages: Pages, actions: Actions) -> list[torch.Tensor]:
        """S(page, action) of all actions of each page."""
        return self._scores(self._read(pages, self.plan.page_tokens), actions)

    def scores_of(
        self, pages: Pages, actions: Actions, which: Sequence[Sequence[int]]
    ) -> list[torch.Tensor]:
        """The same of some actions of each page, by number; the others are not read."""
        chosen = zip(actions, which, strict=True)
        return self.scores(pages, [[some[one] for one in those] for some, those in chosen])

    def log_probs(self, pages: Pages, actions: Actions) -> list[torch.Tensor]:
        """Log pi(action | page): a softmax over the actions of each page."""
        return [scores.log_softmax(0) for scores in self.scores(pages, actions)]

    def values(self, pages: Pages) -> torch.Tensor:
        """(pages,): from the state of each page's first token."""
        return self._values(self._read(pages, self.plan.page_tokens))

    # ------------------------------------------------------------------------------------ parts

    def _scores(self, read: Reading, actions: Actions) -> list[torch.Tensor]:
        counts = [len(some) for some in actions]
        if len(counts) != len(read.rows):
            raise InvalidArgument(
                f"Each page has its actions, and {len(counts)} lists of them were given for "
                f"{len(read.rows)} pages."
            )
        found: list[torch.Tensor] = [read.states.new_zeros(0)] * len(counts)
        if not any(counts):
            return found
        those = self._read([one for some in actions for one in some], self.plan.action_tokens)
        ends = np.cumsum(counts)
        length = those.states.shape[1]
        for some in _alike(counts, self._together // length):  # pages with about as many actions
            most = max(counts[page] for page in some)
            if not most:
                continue
            first = torch.as_tensor([ends[page] - counts[page] for page in some])
            there = _told([counts[page] for page in some], most)
            places = first[:, None] + torch.arange(most)
            rows = torch.where(there, places, 0).to(read.rows.device)
            context, told = those.of(rows)
            told = told & there.to(told.device)[..., None]
            memory, shown = read.of(torch.as_tensor(some, device=read.rows.device))
            scores = self._scored(self.attention(context, told, memory, shown), told)
            for row, page in enumerate(some):
                found[page] = scores[row, : counts[page]]
        return found

    def _scored(self, features: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """(pages, actions): the mean over an action's tokens, and what it is worth."""
        states = self.layer(features).relu() * told[..., None]
        mean = states.sum(2) / told.sum(2).clamp(min=1)[..., None]
        scores: torch.Tensor = self.score(mean)[..., 0]
        return scores

    def _values(self, read: Reading) -> torch.Tensor:
        values: torch.Tensor = self.value(read.states[:, 0])[:, 0]
        return values[read.rows]

    def _read(self, texts: Sequence[str], longest: int) -> Reading:
        """States of all tokens.

        Where nothing is left out, a text that is there twice is read once; where something is,
        each has draws of its own.
        """
        rows: dict[str | int, int] = {}
        alone = self.training and self.plan.dropout > 0
        which = [rows.setdefault(place if alone else text, len(rows))
                 for place, text in enumerate(texts)]  # fmt: skip
        different = texts if alone else [str(text) for text in rows]
        tokens = [self.words.tokens(text, min(longest, self.positions)) for text in different]
        lengths = [len(one) for one in tokens]
        device, most = self.score.weight.device, max(lengths, default=1)
        parts, order = [torch.zeros(0, most, self.score.in_features, device=device)], []
        for some in _alike(lengths, self._together):
            order += some
            padded = np.full((len(some), max(lengths[one] for one in some)), self.words.pad)
            for row, one in enumerate(some):
                padded[row, : lengths[one]] = tokens[one]
            told = _told([lengths[one] for one in some], padded.shape[1]).long().to(device)
            ids = torch.as_tensor(padded).to(device)
            states = self.encoder(input_ids=ids, attention_mask=told).last_hidden_state
            parts.append(nn.functional.pad(states, (0, 0, 0, most - ids.shape[1])))
        back = torch.as_tensor(np.argsort(order).astype(np.int64), device=device)
        rows_of = torch.as_tensor(which, dtype=torch.long, device=device)
        return Reading(torch.cat(parts)[back], _told(lengths, most).to(device), rows_of)

    @property
    def _together(self) -> int:
        return _TOGETHER.get(self.score.weight.device.type, _TOGETHER["cuda"])


class Attention(nn.Module):
    """What the tokens of an action find on a page: equations 1 to 4 of Seo et al. (2017)."""

    def __init__(self, width: int) -> None:
        """Make u, v and w; w begins as the scale of a scaled dot product."""
        super().__init__()
        self.u, self.v = nn.Linear(width, 1, bias=False), nn.Linear(width, 1, bias=False)
        self.w = nn.Parameter(torch.full((width,), width**-0.5))

    def forward(
        self, context: torch.Tensor, told: torch.Tensor, memory: torch.Tensor, shown: torch.Tensor
    ) -> torch.Tensor:
        """[c; a; c * a; q * a] of each token c of each action, (pages, actions, tokens, 4 width).

        The context is (pages, actions, tokens, width), the memory (pages, length, width); beside
        each stands which of it are tokens.
        """
        c, m = context.flatten(1, 2), memory
        similar = self.u(c) + self.v(m).mT + (c * self.w) @ m.mT  # (pages, all tokens, length)
        least = torch.finfo(similar.dtype).min  # no infinity: of nothing but pads, a mean is sound
        similar = similar.masked_fill(~shown[:, None], least)
        a = (similar.softmax(2) @ m).view_as(context)
        heard = similar.amax(2).view(told.shape).masked_fill(~told, least)
        q = heard.softmax(2)[..., None, :] @ context  # (pages, actions, 1, width)
        return torch.cat([context, a, context * a, q * a], 3)


def _told(lengths: Sequence[int], most: int) -> torch.Tensor:
    """(rows, most): what of each row is there, and no pad."""
    return torch.arange(most) < torch.as_tensor(lengths, dtype=torch.long)[:, None]


def _alike(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Which texts are read at once: alike in length, so that pads are few, and at most so much."""
    some: list[int] = []
    for place in np.argsort(lengths, kind="stable").tolist():
        if some and (len(some) + 1) * lengths[place] > most:
            yield some
            some = []
        some.append(place)
    if some:
        yield some
