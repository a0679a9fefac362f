"""Fitting: the losses and where they begin, what learns and what not, going on from anywhere."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from recgym.errors import Diverged, OutOfRoom
from recgym.simulator.asked import Fit, Tokenization
from recgym.simulator.feedback import LanguageUser
from recgym.simulator.fit import Fitting, adapt, told_apart
from recgym.simulator.moments import Moments
from recgym.simulator.prompts import DOMAINS, Prompts
from recgym.simulator.tokens import beginning

from ..agents.worlds import logged
from ..sentences import said
from .conftest import made
from .shelves import N_ITEMS, shelved
from .test_language import alone

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = Fit(epochs=2, batch_size=8, dropout=0.0, learning_rate=0.01)


@pytest.fixture(params=["llama", "gpt2", "mistral"])
def any_language(request, tokenizer):
    """Each of the tiny models in turn; the window of the last one is less than a prompt."""
    window = {"sliding_window": 40} if request.param == "mistral" else {}
    return made(request.param, tokenizer, **window)


@pytest.fixture
def moments():
    return Moments.of(shelved("train", 20))


def fitting(language, moments, how=QUICK, **more):
    return Fitting(language, Prompts(language, DOMAINS["products"]), moments, how, **more)


def losses_of(fit, moments):
    """The losses of some moments, as numbers, by name."""
    found = {}
    for name, loss in fit.losses(moments):
        found[name] = found.get(name, 0.0) + loss.item()
    return found


# --------------------------------------------------------------------------------------- losses


def test_the_losses_begin_where_nothing_is_known(any_language, moments):
    fit = fitting(any_language, moments)
    found = losses_of(fit, moments)
    assert found["reward"] == pytest.approx(np.log(2), abs=1e-6)
    assert set(found) == {"reward", "state"}


def test_an_adapter_begins_by_changing_nothing(any_language):
    prompt = [1, 30, any_language.words + 2, 40]
    wanted = alone(any_language, prompt)
    learns = adapt(any_language, Fit())
    found = any_language.after([prompt[:2]], [prompt[2:]], np.array([0]))[0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert learns and all(values.requires_grad for values in learns)
    assert not any(part.training for part in any_language.model.modules())


def test_the_state_loss_begins_at_that_of_a_guess():
    """For states that know nothing of vectors of many dimensions."""
    torch.manual_seed(0)
    states, vectors = torch.randn(20, 40_000), torch.randn(20, 40_000)
    found = told_apart(states, vectors, np.arange(20)).item()
    assert found == pytest.approx(np.log(20), abs=0.05)
    found = told_apart(states / 100, vectors, np.arange(20), "scaled").item()
    assert found == pytest.approx(np.log(20), abs=0.01)


@pytest.mark.parametrize("likeness", ["cosine", "scaled"])
def test_a_fit_begins_with_the_state_loss_of_a_guess(small, moments, likeness):
    """Of a model that was trained, where item tokens have learned nothing yet."""
    small.items = beginning(small, N_ITEMS, Tokenization())
    fit = fitting(small, moments, dataclasses.replace(QUICK, likeness=likeness))
    others = moments[np.unique(moments.items, return_index=True)[1]]
    assert losses_of(fit, others)["state"] == pytest.approx(np.log(N_ITEMS), abs=0.05)


@pytest.mark.parametrize("likeness", ["cosine", "scaled"])
def test_the_state_loss_is_that_of_a_slow_count(likeness):
    torch.manual_seed(0)
    states, vectors = torch.randn(6, 5), torch.randn(4, 5)
    items = np.array([0, 1, 2, 0, 3, 0])
    total = 0.0

    def like(state, vector):
        if likeness == "scaled":
            return state @ vector / 5**0.5
        return state @ vector / state.norm() / vector.norm() / 0.1

    for row in range(6):
        there = [other for other in range(6) if other == row or items[other] != items[row]]
        likes = torch.stack([like(states[row], vectors[items[other]]) for other in there])
        total -= likes.log_softmax(0)[there.index(row)].item()
    found = told_apart(states, vectors[items], items, likeness)
    assert found.item() == pytest.approx(total / 6, rel=1e-5)


def test_one_item_in_all_rows_tells_nothing():
    states, vectors = torch.randn(3, 5), torch.randn(1, 5).expand(3, 5)
    assert told_apart(states, vectors, np.array([4, 4, 4])).item() == 0


def test_losses_are_those_of_prompts_read_alone(any_language, moments):
    """After some steps, with the negatives that are drawn for this batch."""
    fit = fitting(any_language, moments)
    for _ in range(3):
        fit.advance()
    some = moments[np.arange(8)]
    found = losses_of(fit, some)
    untaken = some.untaken(fit.draws(1, fit.at), 1)[:, 0]
    reward, states = 0.0, []
    for history, item, other in zip(some.histories.tolist(), some.items, untaken, strict=True):
        seen = [one for one in history if one != N_ITEMS]
        with torch.no_grad():
            taken, not_taken = (
                fit.head(alone(any_language, [*fit.prompts.likelihood(seen), *fit.prompts.of(i)]))
                for i in (int(item), int(other))
            )
        reward -= functional.logsigmoid(taken - not_taken).item() / 8
        states.append(alone(any_language, fit.prompts.state(seen)))
    assert found["reward"] == pytest.approx(reward, rel=1e-4)
    wanted = told_apart(torch.stack(states), any_language.items[some.items], some.items)
    assert found["state"] == pytest.approx(wanted.item(), rel=1e-4)


def test_the_state_loss_has_a_weight_and_can_be_left_out(llama, moments):
    fit = fitting(llama, moments)
    whole = losses_of(fit, moments)
    fit.how = dataclasses.replace(QUICK, state_weight=0.5)
    assert losses_of(fit, moments)["state"] == pytest.approx(whole["state"] / 2)
    fit.how = dataclasses.replace(QUICK, state_weight=0.0)
    assert set(losses_of(fit, moments)) == {"reward"}


def test_a_control_swaps_pairs_by_a_coin(llama, moments):
    fit = fitting(llama, moments)
    for _ in range(3):
        fit.advance()
    torch.nn.init.normal_(fit.head.weight)
    fit.parts = len(moments)  # so each pair has a loss of its own
    told = [loss.item() for name, loss in fit.losses(moments) if name == "reward"]
    fit.how = dataclasses.replace(QUICK, shuffled=True)
    swapped = [loss.item() for name, loss in fit.losses(moments) if name == "reward"]
    same = np.isclose(told, swapped)
    assert 0.3 < same.mean() < 0.7
    differences = [np.log(np.expm1(len(moments) * np.array(one))) for one in (told, swapped)]
    np.testing.assert_allclose(differences[0][~same], -differences[1][~same], rtol=0.01, atol=0.01)


# ---------------------------------------------------------------------------------- what learns


def test_a_gradient_reaches_adapter_and_head_only(any_language, moments):
    fit = fitting(any_language, moments)
    before = {name: values.clone() for name, values in any_language.model.named_parameters()}
    items = any_language.items.clone()
    fit.advance()
    fit.advance()
    for name, values in any_language.model.named_parameters():
        assert (values.grad is None) == ("lora_" not in name), name
        assert torch.equal(values, before[name]) == ("lora_" not in name), name
    assert fit.head.weight.grad is not None and fit.head.weight.any()
    assert torch.equal(any_language.items, items) and not any_language.items.requires_grad
    assert not any(part.training for part in any_language.model.modules())


def test_an_adapter_stands_in_all_blocks(any_language):
    adapt(any_language, Fit(rank=3))
    names = [name for name, _ in any_language.model.named_parameters() if "lora_A" in name]
    where = "transformer.h" if "gpt2" in any_language.name else "model.layers"
    for block in range(2):
        assert sum(name.startswith(f"{where}.{block}.") for name in names) >= 2
    if "gpt2" not in any_language.name:
        assert len(names) == 4 and all(("q_proj" in n) != ("v_proj" in n) for n in names)
    assert not any("lm_head" in name for name in names)


def test_an_adapter_is_in_whole_precision_whatever_the_model(small, moments):
    small.model.to(torch.bfloat16)
    torch.manual_seed(0)
    small.items = torch.randn(N_ITEMS, small.width, dtype=torch.bfloat16)
    fit = fitting(small, moments)
    assert {values.dtype for values in fit.learns} == {torch.float32}
    assert all(np.isfinite([*fit.advance().values()]).all() for _ in range(3))
    assert small.table.dtype == torch.bfloat16


def test_nobody_elses_draws_are_moved(llama, moments):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    fit = fitting(llama, moments, dataclasses.replace(QUICK, dropout=0.1))
    fit.advance()
    assert torch.equal(torch.rand(3), wanted)


# ------------------------------------------------------------------------------------- batches


def test_each_moment_is_learned_once_in_an_epoch(llama, moments):
    fit = fitting(llama, moments)
    assert len(fit) == 2 * fit.batches == 2 * -(-len(moments) // 8)
    orders = []
    for epoch in range(2):
        seen = []
        for at in range(epoch * fit.batches, (epoch + 1) * fit.batches):
            fit.at = at
            seen += fit.batch().tolist()
        assert sorted(seen) == list(range(len(moments)))
        orders.append(seen)
    assert orders[0] != orders[1]


def test_batches_are_of_like_lengths_and_padding_is_counted(llama):
    rng = np.random.default_rng(0)
    sessions = [rng.integers(N_ITEMS, size=rng.integers(2, 12)) for _ in range(100)]
    moments = Moments.of(logged("ragged", sessions, N_ITEMS))
    fit = fitting(llama, moments)
    spread = []
    for at in range(fit.batches):
        fit.at = at
        spread.append(np.ptp(fit.lengths[fit.batch()]))
    assert np.mean(spread) < 0.3 * np.mean(
        [np.ptp(rng.choice(fit.lengths, 8, replace=False)) for _ in range(100)]
    )
    fit.at = 0
    fit.advance()
    fit.at, prompts = 0, fit.prompts
    batch = fit.moments[fit.batch()]
    lengths = (batch.histories != N_ITEMS).sum(1)
    shortest, asked = len(prompts.likelihood([])) + lengths.min(), len(prompts.of(0))
    read = len(batch) * shortest + 2 * len(batch) * (np.ptp(lengths) + asked)  # a beginning once
    assert fit.language.seen == read + len(batch) * (1 + lengths.max())
    assert fit.language.padded == 3 * (lengths.max() - lengths).sum()


def learned(fit, until):
    found = []
    while fit.at < until:
        found.append(fit.advance())
    return found


def equal(one, other):
    (tensors, _), (others, _) = one.state(), other.state()
    assert set(tensors) == set(others)
    return all(torch.equal(values, others[name]) for name, values in tensors.items())


@pytest.mark.parametrize("stop", [0, 1, 7, 19])
def test_a_fit_goes_on_from_any_batch_bit_by_bit(tokenizer, moments, stop):
    how = dataclasses.replace(QUICK, dropout=0.2)
    whole = fitting(made("llama", tokenizer), moments, how)
    told = learned(whole, 20)
    first = fitting(made("llama", tokenizer), moments, how)
    learned(first, stop)
    tensors, standing = first.state()
    kept = {name: values.clone() for name, values in tensors.items()}
    learned(first, stop + 2)  # what was given is not moved by going on
    assert all(torch.equal(values, kept[name]) for name, values in tensors.items())
    torch.manual_seed(99)
    second = fitting(made("llama", tokenizer), moments, how)
    second.go_on(tensors, standing)
    assert second.at == stop and learned(second, 20) == told[stop:] and equal(second, whole)
    assert second.state()[1] == whole.state()[1]


def test_a_seed_gives_the_same_weights_and_another_one_others(tokenizer, moments):
    one, same, other = (
        fitting(made("llama", tokenizer), moments, dataclasses.replace(QUICK, seed=seed))
        for seed in (3, 3, 4)
    )
    for fit in (one, same, other):
        learned(fit, 5)
    assert one.language.seen == same.language.seen and equal(one, same) and not equal(one, other)


# ---------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize("problem", [torch.OutOfMemoryError, RuntimeError])
def test_a_batch_is_learned_in_parts_where_memory_does_not_suffice(
    tokenizer, moments, problem, monkeypatch
):
    whole = fitting(made("llama", tokenizer), moments)
    told = []
    parts = fitting(made("llama", tokenizer), moments, say=told.append)
    read = parts.language.read

    def reading(vectors, *rest, **more):
        if vectors.shape[0] * vectors.shape[1] > 300:
            raise problem("DefaultCPUAllocator: can't allocate memory")
        return read(vectors, *rest, **more)

    monkeypatch.setattr(parts.language, "read", reading)
    for one, other in zip(learned(whole, 4), learned(parts, 4), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert parts.parts > 1 and len(told) == np.log2(parts.parts)
    assert told[0] == "Memory does not suffice for a batch: it is learned in 2 parts."
    for one, other in zip(whole.learns, parts.learns, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_where_no_part_fits_it_is_said_and_nothing_is_lost(llama, moments, monkeypatch):
    fit = fitting(llama, moments)
    learned(fit, 2)
    tensors, _ = fit.state()

    def full(*vectors, **more):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(llama, "read", full)
    with pytest.raises(OutOfRoom) as problem:
        fit.advance()
    assert "does not suffice to learn from a batch of 8: take a smaller batch_size" in said(problem)
    now, standing = fit.state()
    assert standing["at"] == 2
    assert all(torch.equal(values, now[name]) for name, values in tensors.items())


def test_a_loss_that_is_no_number_is_said_and_nothing_is_lost(llama, moments):
    fit = fitting(llama, moments)
    learned(fit, 2)
    tensors, _ = fit.state()
    llama.items[:] = torch.nan
    with pytest.raises(Diverged) as problem:
        fit.advance()
    assert "The fit stopped at batch 2" in said(problem) and "(it is 0.01)" in said(problem)
    now, standing = fit.state()
    assert standing["at"] == 2
    assert all(torch.equal(values, now[name]) for name, values in tensors.items())


def test_steps_become_smaller_until_the_end(llama, moments):
    fit, rates = fitting(llama, moments), []
    while fit.at < len(fit):
        fit.advance()
        rates.append(fit.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(0.01 * np.arange(len(fit), 0, -1) / len(fit))


# ----------------------------------------------------------------------------- what is learned


def told_of(fit, held, count=10):
    """How often what was taken has a higher reward than what was not, and the loss of these."""
    user = LanguageUser(fit.language, fit.prompts, fit.head)
    untaken = held.untaken(np.random.default_rng(0), count)
    found = user.rewards(held.histories, np.column_stack([held.items, untaken]))
    more = found[:, :1] - found[:, 1:]
    loss = -functional.logsigmoid(torch.as_tensor(more)).mean().item()
    return (more > 0).mean() + 0.5 * (more == 0).mean(), loss


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_world_of_two_shelves_is_learned_unless_labels_are_shuffled(llama, shuffled):
    language, drawn = llama, torch.Generator().manual_seed(0)
    shelf = torch.randn(2, language.width, generator=drawn)[torch.arange(N_ITEMS) % 2]
    noise = torch.randn(N_ITEMS, language.width, generator=drawn)
    language.items = language.table.std() * (shelf + 0.3 * noise)
    train, held = Moments.of(shelved("train", 60)), Moments.of(shelved("held", 40, seed=9))
    how = Fit(epochs=4, learning_rate=0.01, batch_size=20, dropout=0.0, shuffled=shuffled)
    fit = fitting(language, train, how)
    assert told_of(fit, held) == pytest.approx((0.5, np.log(2)))
    learned(fit, len(fit))
    right, loss = told_of(fit, held)
    if shuffled:
        assert abs(right - 0.5) < 0.2 and loss > 0.65
    else:
        assert right > 0.8 and loss < 0.55  # a quarter of the others are of the same shelf
        states = LanguageUser(language, fit.prompts, fit.head).states(held.histories)
        known = functional.normalize(torch.as_tensor(states))
        likes = known @ functional.normalize(language.items).T
        shelf = torch.as_tensor(held.items % 2)
        mean = torch.stack([likes[:, side::2].mean(1) for side in range(2)], 1)
        assert (mean.argmax(1) == shelf).float().mean() > 0.9
