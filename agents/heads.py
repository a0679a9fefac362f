"""Linear heads over all items."""

import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class ItemHead(nn.Module):
    """A number for each item, linear in the state: `state @ weight.T + bias`.

    It begins Glorot-uniform with a zero bias, as in Xin et al. (2020); tied to a table of
    embeddings, it has no weight of its own.
    """

    def __init__(self, size: int, n_items: int, table: nn.Embedding | None = None) -> None:
        """Make the weights; the rows of a table after the items, such as the pad, are left out."""
        super().__init__()
        self.n_items, self.tied = n_items, table is not None
        self._weight = nn.Parameter(torch.empty(n_items, size)) if table is None else table.weight
        self.bias = nn.Parameter(torch.zeros(n_items))
        if table is None:
            nn.init.xavier_uniform_(self._weight)

    @property
    def weight(self) -> torch.Tensor:
        """(items, size)."""
        return self._weight[: self.n_items] if self.tied else self._weight

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """(batch, items)."""
        return functional.linear(state, self.weight, self.bias)

    def of(self, state: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """(batch, k): the numbers of some items, k for each state, without those of all."""
        flat = items.flatten()  # index_select: on a CPU its gradient is summed in order
        rows = self._weight.index_select(0, flat).view(*items.shape, -1)  # (batch, k, size)
        biases = self.bias.index_select(0, flat).view(items.shape)
        return (state[:, None] * rows).sum(2) + biases

    @torch.no_grad()
    def best(self, state: torch.Tensor) -> torch.Tensor:
        """(batch,): the item with the highest number, the first of equal ones."""
        state = state.to(self.weight.dtype)
        best = torch.empty(len(state), dtype=torch.long, device=state.device)
        for part, numbers in _numbers(state, self.weight, self.bias):
            if numbers.device.type == "cpu":  # NumPy's is several times as fast
                best[part] = torch.from_numpy(numbers.numpy().argmax(1))
            else:
                best[part] = numbers.argmax(1)
        return best

    def cross_entropy(
        self, state: torch.Tensor, items: torch.Tensor, weights: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """-log softmax(state)_item: its mean, weighted, to descend; and that of each row.

        The weights, and the numbers of each row, have no gradient.
        """
        state = state.to(self._weight.dtype)
        shares = (state.new_ones(len(state)) if weights is None else weights.to(state)) / len(state)
        learns = torch.is_grad_enabled()
        both = _CrossEntropy.apply(state, self._weight, self.bias, items, shares, learns)  # type: ignore[no-untyped-call]
        return both[0], both[1]


@torch.no_grad()
def expected(
    of: ItemHead, state: torch.Tensor, under: ItemHead, other: torch.Tensor
) -> torch.Tensor:
    """(batch,): the mean of a head's numbers over the items that another would draw.

    The rows of all items are averaged before they meet the state, so that this takes one product
    for each head, and no numbers of the first are kept.
    """
    state, other = state.to(of.weight.dtype), other.to(under.weight.dtype)
    found = state.new_empty(len(state))
    with torch.autocast(state.device.type, enabled=False):  # averages are as precise as numbers
        for part, chances in _chances(under, other):
            found[part] = (state[part] * (chances @ of.weight)).sum(1) + chances @ of.bias
    return found


@torch.no_grad()
def drawn_from(
    head: ItemHead, state: torch.Tensor, chances: torch.Tensor, but: torch.Tensor | None = None
) -> torch.Tensor:
    """(batch, k): the items at which the softmax's running sum passes k numbers from 0 to 1.

    It is the softmax over all others, where one item of each state is left out.
    """
    state = state.to(head.weight.dtype)
    chances = chances.to(state)  # in half precision, few numbers are near 1
    found = torch.empty(chances.shape, dtype=torch.long, device=state.device)
    for part, softmax in _chances(head, state, but):
        running = torch.cumsum(softmax, 1, out=softmax)
        total = running[:, -1:]
        below = torch.nextafter(total, torch.zeros_like(total))  # the last item may be left out
        passed = torch.minimum(chances[part] * total, below)
        passed = torch.searchsorted(running, passed, right=True)
        found[part] = passed.clamp(max=head.n_items - 1)  # beyond, where weights are no numbers
    return found


@torch.no_grad()
def log_total(head: ItemHead, state: torch.Tensor) -> torch.Tensor:
    """(batch,): log sum exp of the numbers of all items: scores less this are log-probabilities."""
    state = state.to(head.weight.dtype)
    found = state.new_empty(len(state))
    for part, numbers in _numbers(state, head.weight, head.bias):
        found[part] = torch.logsumexp(numbers, 1)
    return found


def _chances(
    head: ItemHead, state: torch.Tensor, but: torch.Tensor | None = None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The softmax over all items, or all but one, by chunks of states."""
    for part, numbers in _numbers(state, head.weight, head.bias):
        if but is not None:
            numbers.scatter_(1, but[part, None], -torch.inf)
        yield part, torch.softmax(numbers, 1, out=numbers)


CHUNK_ROWS = 128  # with fewer states at a time, the gradient of the weights is summed too often
CHUNK_CELLS = {"cpu": 1 << 20, "cuda": 1 << 26}  # with few items, as many as stay in the cache


class _CrossEntropy(torch.autograd.Function):
    """The weighted mean of -log softmax, by chunks of states.

    Going forward makes the gradients too, while a chunk's softmax is in the cache: what is to be
    descended is a scalar, so going back only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        state: torch.Tensor,
        table: torch.Tensor,
        bias: torch.Tensor,
        items: torch.Tensor,
        shares: torch.Tensor,
        learns: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        each = torch.empty_like(shares)
        to_state, to_table, to_bias = (
            torch.zeros_like(tensor) if learns and needed else None
            for tensor, needed in zip((state, table, bias), ctx.needs_input_grad, strict=False)
        )
        weight = table[: len(bias)]
        for part, numbers in _numbers(state, weight, bias):
            states, share = state[part], shares[part]
            chosen = torch.arange(len(states), device=state.device), items[part]
            below_top = numbers.amax(1) - numbers[chosen]
            chances = torch.softmax(numbers, 1, out=numbers)
            each[part] = below_top - chances.amax(1).log()  # the top's chance is 1 / sum exp
            chances[chosen] -= 1  # now the gradient of each row
            if to_state is not None:
                torch.mm(chances, weight, out=to_state[part]).mul_(share[:, None])
            if to_table is not None:
                to_table[: len(bias)].addmm_(chances.T, states * share[:, None])
            if to_bias is not None:
                to_bias.addmv_(chances.T, share)
        ctx.save_for_backward(to_state, to_table, to_bias)
        ctx.mark_non_differentiable(each)
        return (shares * each).sum(), each

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = (None if saved is None else scale * saved for saved in ctx.saved_tensors)
        return *gradients, None, None, None


class _Scratch(threading.local):
    """Memory that is used again and again, by one thread: fresh memory costs page faults."""

    cells = torch.empty(0)


_SCRATCH = _Scratch()


def _buffer(state: torch.Tensor, n_items: int) -> torch.Tensor:
    """(rows, items): where the numbers of a chunk of states go, until the next are asked for."""
    rows = max(CHUNK_ROWS, CHUNK_CELLS.get(state.device.type, 0) // n_items)
    rows = max(1, min(rows, len(state)))
    if (
        _SCRATCH.cells.numel() < rows * n_items
        or _SCRATCH.cells.dtype != state.dtype
        or _SCRATCH.cells.device != state.device
    ):
        _SCRATCH.cells = state.new_empty(rows * n_items)
    return _SCRATCH.cells[: rows * n_items].view(rows, n_items)


def _numbers(
    state: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    """(states, items) of a linear layer, by chunks of states, each in the place of the one before.

    Autocast leaves them as precise.
    """
    buffer = _buffer(state, len(bias))
    for begin in range(0, len(state), len(buffer)):
        part = slice(begin, begin + len(buffer))
        states = state[part]
        yield part, torch.addmm(bias, states, weight.T, out=buffer[: len(states)])
