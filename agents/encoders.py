"""What a history says, as a vector: encoders with one signature.

The four backbones of Xin et al. (2020) come first, then those of CRR-Transformer.

Each is called with items, right-padded with the number of items; with how many of them count, at
least one: an empty history is one pad; and with how they were answered, where that is seen.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from recgym.errors import InvalidArgument, UnknownName, printable
from recgym.published import read_published, transformers_for

EncoderName = Literal[
    "gru4rec",
    "sasrec",
    "caser",
    "nextitnet",
    "gpt2-small",
    "distilgpt2",
    "lstm",
    "lstm-as-gpt2-small",
    "lstm-as-distilgpt2",
]

_EPS = 1e-8  # in the authors' layer norms
_FAR = -1e9  # a score that no softmax sees; finite, as all of a row may have it


class Dropout(nn.Dropout):
    """The same with 16 bits for each number on a CPU, where most of its time goes into drawing."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.p) or input.device.type != "cpu":
            return super().forward(input)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: input.numel()].view(input.shape)
        left_out = round(self.p * 2**16)
        keeps = (bits >= left_out - 2**15).to(input.dtype)
        return input * keeps.mul_(2**16 / (2**16 - left_out))


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
        self.dropout = Dropout(dropout)

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


class GPT2(Encoder):
    """Blocks of GPT-2 over embeddings of items in place of words: Radford et al. (2019)."""

    masked = False  # the pad is a start token that is learned
    LAYERS = 2
    HEAD = 64  # how wide a head is, in all of the published sizes

    def __init__(self, n_items: int, length: int, *shape: Any, **options: Any) -> None:
        """Make the blocks, under the names of the published weights."""
        super().__init__(n_items, length, *shape, **options)
        heads = max(1, self.width // self.HEAD)
        if self.width % heads:
            even = self.width // self.HEAD * self.HEAD
            raise InvalidArgument(
                f"A size of {self.width} cannot be split evenly into {heads} heads of GPT-2: take "
                f"{even} or {even + self.HEAD}."
            )
        self.wpe = nn.Embedding(length, self.width)
        nn.init.normal_(self.wpe.weight, std=0.02)
        blocks = [_Block(self.width, heads, self.LAYERS, self.dropout) for _ in range(self.LAYERS)]
        self.h = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(self.width)

    def forward(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, width): in the last block, only the last item that counts asks."""
        return self._through(self._placed(items, lengths, answers), lengths[:, None] - 1)[:, 0]

    def every(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        steps = self._placed(items, lengths, answers)
        all_of_them = torch.arange(steps.shape[1], device=steps.device)
        return self._through(steps, all_of_them.expand(len(steps), -1))

    def load_published(self, name: str) -> None:
        """Take the weights of a GPT-2 of the same shape: from a folder, or the Hugging Face hub.

        Its table of words is left out, and the places that no history reaches.
        """
        transformers = transformers_for("init, unless it is 'random',")

        def read(place: str, **safely: Any) -> Any:
            published, told = transformers.GPT2Model.from_pretrained(
                place, use_safetensors=True, output_loading_info=True, **safely
            )
            if told["missing_keys"]:  # they were drawn
                raise ValueError(f"it has no {min(told['missing_keys'])}")
            return published

        def refused(why: str) -> InvalidArgument:
            return InvalidArgument(
                f"The weights of '{printable(name)}' cannot be loaded ({printable(why)}): give the "
                "folder of a GPT-2 in safetensors, or init='random'."
            )

        published = read_published(name, read, refused)
        weights = {
            part.replace(".c_", "_"): values.T if part.endswith(_TRANSPOSED) else values
            for part, values in published.state_dict().items()
            if part != "wte.weight"
        }
        weights["wpe.weight"] = weights["wpe.weight"][: len(self.wpe.weight)]
        own = {part: self.state_dict()[part] for part in self.state_dict() if part not in _OURS}
        config, heads = published.config, self.h[0].heads
        shapes, fitting = (
            {part: values.shape for part, values in some.items()} for some in (weights, own)
        )
        if shapes != fitting or config.n_head != heads:
            raise InvalidArgument(
                f"'{printable(name)}' is a GPT-2 of {config.n_layer} blocks, {config.n_head} "
                f"heads, size {config.n_embd} and {config.n_positions} places, and this encoder "
                f"has {self.LAYERS}, {heads}, {self.width} and {len(self.wpe.weight)}: take the "
                "encoder that fits, or init='random'."
            )
        self.load_state_dict(weights, strict=False)  # items and answers are ours

    def _placed(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None
    ) -> torch.Tensor:
        steps = self.embedded(items, lengths, answers)[0] + self.wpe.weight
        placed: torch.Tensor = self.dropout(steps)
        return placed

    def _through(self, steps: torch.Tensor, asking: torch.Tensor) -> torch.Tensor:
        """(batch, asking, width): the states of the places that ask, after all blocks."""
        *inner, last = self.h
        for block in inner:
            steps = block(steps)
        states: torch.Tensor = self.ln_f(last(steps, asking))
        return states


_OURS = ("items.weight", "answers.weight")  # no published weights
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # as GPT-2's authors stored them


class _Block(nn.Module):
    """Self-attention in which no place sees a later one, and two dense layers, each normed first.

    Modules have their names in the published weights, but for what is `attn.c_attn` there.
    """

    def __init__(self, size: int, heads: int, layers: int, dropout: nn.Dropout) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attn_attn, self.attn_proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mlp_fc, self.mlp_proj = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        adding = 0.02 / math.sqrt(2 * layers)  # a block adds less where there are many
        for layer in (self.attn_attn, self.mlp_fc, self.attn_proj, self.mlp_proj):
            adds = layer in (self.attn_proj, self.mlp_proj)
            nn.init.normal_(layer.weight, std=adding if adds else 0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, steps: torch.Tensor, asking: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, asking, size): the places that ask, or all, having looked at those before."""
        size, places = steps.shape[2], torch.arange(steps.shape[1], device=steps.device)
        normed, weight, bias = self.ln_1(steps), self.attn_attn.weight, self.attn_attn.bias
        if asking is None:
            asking = places[None]
            query, key, value = self.attn_attn(normed).chunk(3, 2)
        else:
            key, value = functional.linear(normed, weight[size:], bias[size:]).chunk(2, 2)
            rows = torch.arange(len(steps), device=steps.device)[:, None]
            normed, steps = normed[rows, asking], steps[rows, asking]
            query = functional.linear(normed, weight[:size], bias[:size])
        query, key, value = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (query, key, value)
        )  # (batch, heads, places, size of a head)
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        scores = scores.masked_fill((places > asking[:, :, None])[:, None], -torch.inf)
        attended = (self.dropout(scores.softmax(3)) @ value).transpose(1, 2).flatten(2)
        steps = steps + self.dropout(self.attn_proj(attended))
        inner = functional.gelu(self.mlp_fc(self.ln_2(steps)), approximate="tanh")
        added: torch.Tensor = self.dropout(self.mlp_proj(inner))
        return steps + added


class DistilGPT2(GPT2):
    """As many blocks as DistilGPT2 has, which is 768 wide: Sanh et al. (2019)."""

    LAYERS = 6


class LSTM(Encoder):
    """LSTMs, one upon the other: Hochreiter & Schmidhuber (1997)."""

    masked = False  # the pad is a start token that is learned
    LAYERS = 1

    def __init__(self, n_items: int, length: int, *shape: Any, **options: Any) -> None:
        """Make the LSTMs."""
        super().__init__(n_items, length, *shape, **options)
        size, self.width = self.width, self.hidden(self.width, length)
        between = self.dropout.p if self.LAYERS > 1 else 0.0
        self.lstm = nn.LSTM(size, self.width, self.LAYERS, batch_first=True, dropout=between)

    def hidden(self, size: int, length: int) -> int:
        """How wide its states are."""
        return size

    def every(
        self, items: torch.Tensor, lengths: torch.Tensor, answers: torch.Tensor | None = None
    ) -> torch.Tensor:
        steps: torch.Tensor = self.lstm(self.embedded(items, lengths, answers)[0])[0]
        return steps


class LSTMAsGPT2(LSTM):
    """Two layers as wide as makes them as many numbers as blocks of GPT-2 have."""

    LAYERS = 2
    BLOCKS = GPT2.LAYERS

    def hidden(self, size: int, length: int) -> int:
        """The w of 4 w (size + w + 2) + 4 w (2 w + 2) = blocks (12 size^2 + 13 size) + the rest."""
        wanted = self.BLOCKS * (12 * size**2 + 13 * size) + (length + 2) * size
        linear = 4 * size + 16
        return round((math.sqrt(linear**2 + 48 * wanted) - linear) / 24)


class LSTMAsDistilGPT2(LSTMAsGPT2):
    """The same for as many blocks as DistilGPT2 has."""

    BLOCKS = DistilGPT2.LAYERS


ENCODERS: dict[str, type[Encoder]] = {
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
    "caser": Caser,
    "nextitnet": NextItNet,
    "gpt2-small": GPT2,
    "distilgpt2": DistilGPT2,
    "lstm": LSTM,
    "lstm-as-gpt2-small": LSTMAsGPT2,
    "lstm-as-distilgpt2": LSTMAsDistilGPT2,
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
