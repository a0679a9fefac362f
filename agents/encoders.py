"""What a history says, as a vector: the four backbones of Xin et al. (2020), one signature.

Each is called with items, right-padded with the number of items; with how many of them count, at
least one: an empty history is one pad; and with how they were answered, where that is seen.
"""

from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from recgym.errors import InvalidArgument, UnknownName

EncoderName = Literal["gru4rec", "sasrec", "caser", "nextitnet"]

_EPS = 1e-8  # in the authors' layer norms
_FAR = -1e9  # a score that no softmax sees; finite, as all of a row may have it


class Encoder(nn.Module):
    """The embeddings that all of them begin with; `width` is that of the state they end in."""

    masked = True  # is a pad zero, whatever its row in the table?

    def __init__(
        self, n_items: int, length: int, answers: int = 0, size: int = 64, dropout: float = 0.1
    ) -> None:
        """Make the table of items and pad, and that of answers where they are seen."""
        super().__init__()
        self.pad, self.width = n_items, size
        self.items = nn.Embedding(n_items + 1, size)
        nn.init.normal_(self.items.weight, std=0.01)
        self.answers = nn.Embedding(answers, size) if answers else None
        if self.answers is not None:
            nn.init.normal_(self.answers.weight, std=0.01)
        self.dropout = nn.Dropout(dropout)

    def embedded(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, length, size), and (batch, length, 1): where there is an item."""
        counted = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        there = (counted & (items != self.pad)).unsqueeze(2)
        steps = self.items(items)
        if self.answers is not None and answers is not None:
            steps = steps + self.answers(answers)
        return steps * there if self.masked else steps, there

    def forward(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, width): the state after the last item that counts."""
        steps = self.every(items, lengths, answers)
        return steps[torch.arange(len(steps), device=steps.device), lengths - 1]

    def every(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, length, width): the state after each item, which sees none that follows."""
        raise InvalidArgument(
            f"{type(self).__name__} sees a window as a whole and has no state after each item: "
            "take gru4rec, sasrec or nextitnet."
        )


class GRU4Rec(Encoder):
    """One GRU: Hidasi et al. (2016), without their losses and batches."""

    masked = False  # the pad is a start token that is learned

    def __init__(self, *shape: Any, **options: Any) -> None:
        """Make the GRU."""
        super().__init__(*shape, **options)
        self.gru = nn.GRU(self.width, self.width, batch_first=True)

    def every(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        steps: torch.Tensor = self.gru(self.embedded(items, lengths, answers)[0])[0]
        return steps


class SASRec(Encoder):
    """One block of self-attention with one head: Kang & McAuley (2018), as Xin et al. have it.

    Queries are normalised, keys and values are not, and what is added to a block's output is the
    normalised input.
    """

    later: torch.Tensor  # (length, length): what no place sees

    def __init__(self, n_items: int, length: int, *shape: Any, **options: Any) -> None:
        """Make the block."""
        super().__init__(n_items, length, *shape, **options)
        d = self.width
        self.places = nn.Embedding(length, d)
        nn.init.normal_(self.places.weight, std=0.01)
        self.normed = nn.ModuleList(nn.LayerNorm(d, eps=_EPS) for _ in range(3))
        self.query, self.key, self.value = (_dense(nn.Linear(d, d)) for _ in range(3))
        self.inner, self.outer = (_dense(nn.Linear(d, d)) for _ in range(2))
        self.register_buffer("later", torch.ones(length, length).triu(1).bool(), persistent=False)

    def forward(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, width): the last item that counts is the only one whose state is made."""
        steps, there = self.embedded(items, lengths, answers)
        last = torch.arange(len(steps), device=steps.device)[:, None], lengths[:, None] - 1
        return self._block(steps[last], there[last], steps, ~there.transpose(1, 2))[:, 0]

    def every(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        steps, there = self.embedded(items, lengths, answers)
        return self._block(steps, there, steps, self.later | ~there.transpose(1, 2))

    def embedded(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As of any encoder, with their places."""
        steps, there = super().embedded(items, lengths, answers)
        return self.dropout(steps + self.places.weight) * there, there

    def _block(
        self, asking: torch.Tensor, there: torch.Tensor, steps: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """The states of the steps that ask, are there, and look at all that is not hidden."""
        queries = self.normed[0](asking)
        scores = self.query(queries) @ self.key(steps).transpose(1, 2) * self.width**-0.5
        scores = scores.masked_fill(hidden, _FAR)  # (batch, asking, length)
        attended = self.dropout(scores.softmax(2)) @ self.value(steps) * there
        normed = self.normed[1](attended + queries)
        inner = self.dropout(functional.relu(self.inner(normed)))
        states: torch.Tensor = self.normed[2]((self.dropout(self.outer(inner)) + normed) * there)
        return states


class Caser(Encoder):
    """Convolutions over the window as an image: Tang & Wang (2018), without users."""

    HEIGHTS, FILTERS = (2, 3, 4), 16

    def __init__(self, n_items: int, length: int, *shape: Any, **options: Any) -> None:
        """Make the filters."""
        super().__init__(n_items, length, *shape, **options)
        if length < max(self.HEIGHTS):
            raise InvalidArgument(
                f"Caser sees {max(self.HEIGHTS)} items at a time, and this history holds {length}: "
                "take a longer one, or another encoder."
            )
        d = self.width
        self.across = nn.ModuleList(nn.Conv1d(d, self.FILTERS, height) for height in self.HEIGHTS)
        self.down = nn.Linear(length, 1)  # one filter, a weight for each place
        for layer in (*self.across, self.down):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(layer.bias, 0.1)
        self.width = self.FILTERS * len(self.HEIGHTS) + d

    def forward(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        image = self.embedded(items, lengths, answers)[0].transpose(1, 2)  # (batch, size, length)
        parts = [functional.relu(filters(image)).amax(2) for filters in self.across]
        parts.append(functional.relu(self.down(image)).squeeze(2))
        state: torch.Tensor = self.dropout(torch.cat(parts, 1))
        return state


class NextItNet(Encoder):
    """Residual blocks of dilated causal convolutions: Yuan et al. (2019)."""

    DILATIONS, KERNEL = (1, 2, 1, 2, 1, 2), 3

    def __init__(self, *shape: Any, **options: Any) -> None:
        """Make the blocks."""
        super().__init__(*shape, **options)
        d = self.width
        spreads = [spread for dilation in self.DILATIONS for spread in (dilation, 2 * dilation)]
        self.layers = nn.ModuleList(_Causal(d, self.KERNEL, spread) for spread in spreads)

    def every(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        steps, there = self.embedded(items, lengths, answers)
        for block in range(len(self.DILATIONS)):
            inner = self.layers[2 * block + 1](self.layers[2 * block](steps))
            steps = (steps + inner) * there
        return steps


class _Causal(nn.Module):
    """A dilated convolution that sees no later place, a layer norm, and what is positive."""

    def __init__(self, size: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.before = (kernel - 1) * dilation  # places that the first one lacks
        self.convolution = nn.Conv1d(size, size, kernel, dilation=dilation)
        self.norm = nn.LayerNorm(size, eps=_EPS)
        nn.init.trunc_normal_(self.convolution.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.constant_(self.convolution.bias, 0)  # type: ignore[arg-type]

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        past = functional.pad(steps.transpose(1, 2), (self.before, 0))
        return functional.relu(self.norm(self.convolution(past).transpose(1, 2)))


ENCODERS: dict[str, type[Encoder]] = {
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
    "caser": Caser,
    "nextitnet": NextItNet,
}


def encoder_named(name: str) -> type[Encoder]:
    """The encoder of that name."""
    if name not in get_args(EncoderName):
        raise UnknownName("encoder", name, ENCODERS)
    return ENCODERS[name]


def _dense(layer: nn.Linear) -> nn.Linear:
    """Glorot-uniform weights and no bias at the start."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
