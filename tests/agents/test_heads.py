"""Linear heads over all items, against torch's own dense layer."""

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from recgym.agents import heads
from recgym.agents.heads import ItemHead, drawn_from, expected

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = 8


def a_head(n_items, tied=False, dtype=torch.float32):
    torch.manual_seed(0)
    table = torch.nn.Embedding(n_items + 1, SIZE, padding_idx=n_items) if tied else None
    head = ItemHead(SIZE, n_items, table)
    torch.nn.init.normal_(head.bias)
    return head.to(dtype)


def a_batch(n_states, n_items, dtype=torch.float32):
    state = torch.randn(n_states, SIZE, dtype=dtype, requires_grad=True)
    return state, torch.randint(n_items, (n_states,)), torch.rand(n_states, dtype=dtype)


def dense(head, state, items, weights=None):
    each = functional.cross_entropy(head(state), items, reduction="none")
    return (each if weights is None else each * weights).mean(), each.detach()


def gradients(loss, head, state):
    return torch.autograd.grad(loss, [state, head._weight, head.bias], retain_graph=True)


def assert_close(found, expected):
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


def assert_slopes_close(found, expected, head, state):
    both = (gradients(loss, head, state) for loss in (found, expected))
    for ours, theirs in zip(*both, strict=True):
        assert_close(ours, theirs)


@pytest.fixture(params=["one chunk", "chunks that do not divide", "a state at a time"])
def chunks(request, monkeypatch):
    rows = {"one chunk": 128, "chunks that do not divide": 3, "a state at a time": 1}
    monkeypatch.setattr(heads, "CHUNK_ROWS", rows[request.param])
    monkeypatch.setattr(heads, "CHUNK_CELLS", {})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n_states", "n_items"), [(10, 37), (1, 37), (10, 1), (1, 1)])
def test_cross_entropy_and_its_gradients_equal_torchs(chunks, tied, weighted, n_states, n_items):
    head = a_head(n_items, tied)
    state, items, weights = a_batch(n_states, n_items)
    weights = weights if weighted else None
    found, expected = head.cross_entropy(state, items, weights), dense(head, state, items, weights)
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])
    assert_slopes_close(3 * found[0], 3 * expected[0], head, state)


def test_chunks_of_the_real_size_equal_torch_too():
    head = a_head(5000, tied=True)
    state, items, weights = a_batch(300, 5000)
    found, expected = head.cross_entropy(state, items, weights), dense(head, state, items, weights)
    assert_close(found[1], expected[1])
    assert_slopes_close(found[0], expected[0], head, state)
    torch.testing.assert_close(head.best(state), head(state).argmax(1))


def test_gradients_of_cross_entropy_are_its_slopes(chunks):
    head = a_head(7, tied=True, dtype=torch.float64)
    state, items, weights = a_batch(5, 7, torch.float64)

    def loss(state, weight, bias):
        swapped = {"_weight": weight, "bias": bias}
        return torch.func.functional_call(Loss(head), in_head(swapped), (state, items, weights))

    inputs = (state, head._weight.detach().requires_grad_(), head.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


class Loss(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, *batch):
        return self.head.cross_entropy(*batch)[0]


def in_head(tensors):
    return {f"head.{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("large", [1e4, -1e4])
def test_extreme_numbers_stay_finite(large):
    head = a_head(20)
    state, items, _ = a_batch(6, 20)
    with torch.no_grad():
        head.bias[3] = large
    items[:3] = 3
    found, expected = head.cross_entropy(state, items), dense(head, state, items)
    assert_close(found[1], expected[1])
    assert_slopes_close(found[0], expected[0], head, state)
    assert all(slope.isfinite().all() for slope in gradients(found[0], head, state))


def test_a_row_of_weight_zero_gives_no_gradient():
    head = a_head(20)
    state, items, weights = a_batch(6, 20)
    weights[2:4] = 0
    mean, each = head.cross_entropy(state, items, weights)
    (to_state,) = torch.autograd.grad(mean, state)
    assert (to_state.abs().sum(1) > 0).tolist() == [True, True, False, False, True, True]
    assert (each > 0).all()


def test_the_pad_of_a_tied_table_gets_no_gradient():
    head = a_head(20, tied=True)
    state, items, _ = a_batch(6, 20)
    loss = head.cross_entropy(state, items)[0] + head.of(state, items[:, None]).sum()
    _, to_table, _ = gradients(loss, head, state)
    assert to_table.shape == (21, SIZE)
    assert (to_table[20] == 0).all()


def test_the_numbers_of_rows_have_no_gradient_and_without_learning_none_has():
    head = a_head(20)
    state, items, _ = a_batch(6, 20)
    mean, each = head.cross_entropy(state, items)
    assert mean.requires_grad
    assert not each.requires_grad
    with torch.no_grad():
        assert not head.cross_entropy(state, items)[0].requires_grad


@pytest.mark.parametrize("learned", ["state", "weight", "bias"])
def test_only_what_learns_gets_a_gradient(learned):
    head = a_head(20)
    state, items, _ = a_batch(6, 20)
    tensors = {"state": state, "weight": head._weight, "bias": head.bias}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == learned)
    (expected,) = torch.autograd.grad(dense(head, state, items)[0], tensors[learned])
    head.cross_entropy(state, items)[0].backward()
    assert [name for name in tensors if tensors[name].grad is not None] == [learned]
    assert_close(tensors[learned].grad, expected)


def test_under_autocast_cross_entropy_is_as_precise():
    head = a_head(20)
    state, items, weights = a_batch(6, 20)
    expected = head.cross_entropy(state, items, weights)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.cross_entropy(state, items, weights)
        rounded = head.cross_entropy(state.bfloat16(), items, weights)[0]
        best = head.best(state.bfloat16())
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(best, head.best(state.bfloat16().float()))
    torch.testing.assert_close(rounded, expected[0], rtol=1e-2, atol=1e-2)
    assert torch.autograd.grad(rounded, state)[0].dtype == torch.float32


def test_gradients_are_the_same_to_the_bit_each_time():
    head = a_head(3000, tied=True)
    state, items, weights = a_batch(700, 3000)
    negatives = torch.randint(50, (700, 60))

    def once():
        loss = head.cross_entropy(state, items, weights)[0] + head.of(state, negatives).mean()
        return gradients(loss, head, state)

    assert all(torch.equal(one, other) for one, other in zip(once(), once(), strict=True))


@pytest.mark.parametrize("tied", [False, True])
def test_the_numbers_of_some_items_and_their_gradients_equal_the_dense_ones(tied):
    head = a_head(20, tied)
    state, _, _ = a_batch(6, 20)
    items = torch.randint(20, (6, 5))
    items[:, 1] = items[:, 0]  # an item twice is summed twice
    found, expected = head.of(state, items), head(state).gather(1, items)
    assert_close(found, expected)
    slopes = torch.randn(6, 5)
    assert_slopes_close((slopes * found).sum(), (slopes * expected).sum(), head, state)


def test_the_gradients_of_some_items_are_their_slopes():
    head = a_head(7, dtype=torch.float64)
    state, _, _ = a_batch(4, 7, torch.float64)
    items = torch.randint(7, (4, 3))
    assert torch.autograd.gradcheck(lambda state: head.of(state, items), state)


def test_the_best_item_is_the_highest_and_of_equal_ones_the_first(chunks):
    head = a_head(37)
    state, _, _ = a_batch(10, 37)
    assert torch.equal(head.best(state), head(state).argmax(1))
    with torch.no_grad():
        head._weight[20:] = head._weight[:17]
        head.bias[20:] = head.bias[:17]
    assert (head.best(state) < 20).all()
    assert torch.equal(head.best(torch.zeros(10, SIZE)), head.bias.argmax().expand(10))
    torch.nn.init.zeros_(head.bias)
    assert (head.best(torch.zeros(10, SIZE)) == 0).all()


# ----------------------------------------------------------------- what another head would draw


def two_heads(n_states, n_items, tied=False, dtype=torch.float32):
    """Two heads that differ, and a state for each."""
    first, second = a_head(n_items, tied, dtype), ItemHead(3, n_items).to(dtype)
    return (
        first,
        torch.randn(n_states, SIZE, dtype=dtype),
        second,
        torch.randn(n_states, 3, dtype=dtype),
    )


def slow_expected(of, state, under, other):
    numbers, chances = of(state).double(), under(other).double().softmax(1)
    return (numbers * chances).sum(1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("n_states", "n_items"), [(10, 37), (1, 37), (10, 1), (7, 500)])
def test_what_is_expected_is_the_sum_of_numbers_times_chances(chunks, tied, n_states, n_items):
    heads_and_states = two_heads(n_states, n_items, tied, torch.float64)
    found = expected(*heads_and_states)
    torch.testing.assert_close(found, slow_expected(*heads_and_states), rtol=1e-12, atol=1e-12)
    assert not found.requires_grad


def test_what_is_expected_crosses_chunks_of_the_real_size():
    heads_and_states = two_heads(300, 9000)  # 128 states at a time
    found = expected(*heads_and_states)
    torch.testing.assert_close(found.double(), slow_expected(*heads_and_states).detach())


def test_what_is_expected_of_equal_numbers_is_that_number():
    of, state, under, other = two_heads(10, 37)
    torch.nn.init.zeros_(of.weight)
    torch.nn.init.constant_(of.bias, 3.7)
    torch.testing.assert_close(expected(of, state, under, other), torch.full((10,), 3.7))
    torch.nn.init.zeros_(of.bias)
    assert not expected(of, state, under, other).any()


def test_items_are_drawn_as_often_as_the_softmax_says(chunks):
    head, draws = a_head(6), 20_000
    state = torch.randn(4, SIZE)
    found = drawn_from(head, state, torch.rand(4, draws))
    wanted = draws * head(state).softmax(1).detach()
    counts = torch.stack([row.bincount(minlength=6) for row in found])
    distances = ((counts - wanted).square() / wanted).sum(1)
    assert (distances < 20.5).all()  # chi-square of 5 degrees: once in 1000 times for each state


def test_what_is_drawn_is_where_the_running_sum_passes(chunks):
    head, state, chances = a_head(37, dtype=torch.float64), torch.randn(10, SIZE), torch.rand(10, 5)
    state, chances = state.double(), chances.double()
    found = drawn_from(head, state, chances)
    running = head(state).softmax(1).cumsum(1)
    below = torch.where(found > 0, running.gather(1, (found - 1).clamp(min=0)), 0)
    assert ((below <= chances) & (chances < running.gather(1, found))).all()
    assert found.shape == (10, 5) and len(found.unique()) > 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_edges_nothing_impossible_is_drawn(dtype):
    head, state = a_head(9), torch.zeros(3, SIZE)
    with torch.no_grad():
        head.bias[:] = torch.tensor([-1e4, 0, 0.3, -1e4, 0.1, 0, -0.2, -1e4, -1e4])
    below_one = 1 - torch.finfo(torch.float32).eps / 2
    chances = torch.tensor([[0.0, below_one]], dtype=dtype).expand(3, 2)
    assert drawn_from(head, state, chances).tolist() == [[1, 6]] * 3
    almost = torch.tensor([[1 - torch.finfo(torch.float64).eps / 2]], dtype=torch.float64)
    assert drawn_from(head, state[:1], almost).item() < 9  # rounded to 1, it is still an item


def test_under_autocast_what_is_expected_and_drawn_is_as_precise():
    of, state, under, other = two_heads(10, 500)
    with torch.no_grad():
        of.bias += 300
    chances = torch.rand(10, 200, dtype=torch.float64)
    state, other = state.bfloat16(), other.bfloat16()
    wanted = expected(of, state.float(), under, other.float())
    drawn = drawn_from(under, other.float(), chances)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(expected(of, state, under, other), wanted)
        assert torch.equal(drawn_from(under, other, chances), drawn)


def test_rare_items_are_drawn_in_half_precision_too():
    """Numbers in half precision are 1/256 apart below 1, which many items would share."""
    head, state = ItemHead(SIZE, 5000), torch.zeros(1, SIZE, dtype=torch.bfloat16)
    chances = (torch.arange(5000)[None] + 0.5) / 5000
    with torch.autocast("cpu", torch.bfloat16):
        assert len(drawn_from(head, state, chances).unique()) > 4990


class Largest(TorchDispatchMode):
    """Remembers the most numbers that a tensor held."""

    cells = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        self.cells = max([self.cells, *(t.numel() for t in tensors if torch.is_tensor(t))])
        return result


def test_no_tensor_holds_all_items_of_more_states_than_a_chunk():
    n_states, n_items = 600, 10_000
    head = a_head(n_items, tied=True)
    state, items, weights = a_batch(n_states, n_items)
    with Largest() as largest:
        head.cross_entropy(state, items, weights)[0].backward()
        head.best(state)
        head.of(state, items[:, None]).sum().backward()
        expected(head, state, head, state)
        drawn_from(head, state, torch.rand(n_states, 4))
    chunk = max(heads.CHUNK_ROWS * n_items, heads.CHUNK_CELLS["cpu"])
    assert largest.cells <= chunk < n_states * n_items / 4


def test_a_tied_head_has_no_weight_of_its_own_in_what_is_saved():
    table = torch.nn.Embedding(21, SIZE)
    assert ItemHead(SIZE, 20, table)._weight is table.weight
    assert list(ItemHead(SIZE, 20).state_dict()) == ["_weight", "bias"]
