"""Next items as a classification: which targets are told, after what, and how often."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from recgym.agents.supervised import Modern, Supervised
from recgym.errors import InvalidArgument

from ..sentences import said
from .worlds import CPU, ITEMS, SMALL, advanced, all_steps, in_training, learning, logged, shop

pytestmark = pytest.mark.usefixtures("one_thread")
HISTORY = 4


def skips(name="skips", **options):
    """A log of which some steps brought nothing, and some never joined the history."""
    rng = np.random.default_rng(1)
    lengths = (1, 2, 3, 7, 12, 5, 1)
    return logged(
        name,
        [rng.integers(ITEMS, size=length) for length in lengths],
        ITEMS,
        rewards=[rng.integers(2, size=length) for length in lengths],
        shown=[rng.random(length) < 0.7 for length in lengths],
        history=HISTORY,
        **options,
    )


def histories_of(data):
    """Of each step in order: what its session consumed so far, whole, and whether it was paid."""
    found = []
    for episode in data:
        windows = [[int(i) for i in seen if i < ITEMS] for seen in episode.observations]
        steps = zip(windows, episode.actions, episode.rewards, strict=False)
        found += [(window, int(action), reward > 0) for window, action, reward in steps]
    return found


# ------------------------------------------------------------------------------- step by step


@pytest.mark.parametrize("imitate", ["taken", "all"])
def test_the_next_item_after_each_state_is_told_also_after_an_empty_one(imitate):
    data = skips()
    training = learning(Supervised, data, imitate=imitate, encoder="gru4rec")
    batch = training.data.batch(training.rows, CPU)
    told = [(window, action) for window, action, paid in histories_of(data)
            if paid or imitate == "all"]  # fmt: skip
    assert any(not window for window, _ in told)
    seen = [[i for i in row if i < ITEMS] for row in batch.seen.items.tolist()]
    assert list(zip(seen, batch.actions.tolist(), strict=True)) == told
    network = training.networks[0]
    logits = network.head("supervised")(network.state(batch.seen))
    expected = functional.cross_entropy(logits, batch.actions).item()
    terms = training.loss(network, network, batch)
    assert list(terms) == ["supervised"]
    assert terms["supervised"].item() == pytest.approx(expected, rel=1e-5)


def test_a_log_without_a_reward_is_refused_unless_all_is_imitated():
    data = logged("nothing", [[0, 1, 2]], ITEMS, rewards=[[0, 0, 0]])
    for kind in (Supervised, Modern):
        with pytest.raises(InvalidArgument) as problem:
            kind(**SMALL, steps=1).fit(data)
        assert "imitate='all'" in said(problem)
        assert kind(**SMALL, steps=1, imitate="all").fit(data).parameters > 0


def test_each_row_is_in_an_epoch_once():
    training = learning(Supervised, skips(), imitate="all", batch_size=1)
    count = len(training.rows)
    for epoch in range(2):
        seen = Counter()
        for training.at in range(epoch * count, (epoch + 1) * count):
            seen.update(training.drawn(count).tolist())
        assert seen == Counter(range(count))


# ------------------------------------------------------------------------ all of it in one pass

sessions = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=13),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60)
@given(sessions=sessions, stride=st.integers(1, 7), imitate=st.sampled_from(["taken", "all"]))
def test_each_target_after_a_history_is_told_once_after_enough_of_it(sessions, stride, imitate):
    columns = [list(zip(*session, strict=True)) for session in sessions]
    items, paid, shown = zip(*columns, strict=True)
    data = logged("any", items, 3, rewards=paid, shown=shown, history=HISTORY)
    expected = []
    for session in sessions:
        tape = []
        for item, was_paid, was_shown in session:
            if tape and (was_paid or imitate == "all"):
                expected.append((tuple(tape), item))
            tape = tape + [item] if was_shown else tape
    if not expected:
        return
    training = in_training(Modern(**SMALL, stride=stride, imitate=imitate), data)
    chunks = training.windows.batch(training.rows, CPU)
    least = HISTORY - min(stride, HISTORY) + 1
    told = []
    for window, place, action in zip(*(part.tolist() for part in chunks[1:]), strict=True):
        assert 0 <= place < int(chunks.seen.lengths[window])
        told.append((tuple(chunks.seen.items[window, : place + 1].tolist()), action))
    assert len(told) == len(expected)
    for (context, action), (tape, target) in zip(told, expected, strict=True):
        assert action == target
        assert context == tape[-len(context) :] and len(context) >= min(len(tape), least)


@pytest.mark.parametrize("encoder", ["gru4rec", "sasrec", "nextitnet"])
@pytest.mark.parametrize("stride", [1, 3, 5])
def test_the_loss_of_a_pass_is_that_of_its_targets_one_by_one(encoder, stride):
    data = skips()
    options = SMALL | {"encoder": encoder, "batch_size": 100}
    training = in_training(Modern(**options, stride=stride), data)
    network, losses = training.networks[0], []
    bias = network.head("supervised").bias
    for session in data:
        windows = [[int(i) for i in seen if i < ITEMS] for seen in session.observations]
        told = [t for t in range(len(session.actions)) if session.rewards[t] > 0 and windows[t]]
        moved = [windows[t] != windows[t + 1] for t in range(len(session.actions))]
        moves = [sum(moved[:t]) for t in range(len(session.actions))]
        back = {t: moves[-1] - moves[t] for t in told}
        for t in told:
            group = back[t] // min(stride, HISTORY)
            last = max(u for u in told if back[u] // min(stride, HISTORY) == group)
            window = windows[last]
            context = window[: len(window) - (back[t] - back[last])]
            assert context[-1] == windows[t][-1]
            items = torch.tensor([context + [ITEMS] * (HISTORY - len(context))])
            state = network.encoder(items, torch.tensor([len(context)]))
            logits = state @ network.encoder.items.weight[:ITEMS].T + bias
            target = torch.tensor([int(session.actions[t])])
            losses.append(functional.cross_entropy(logits, target).item())
    found = training.update()["supervised"].item()
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_with_a_stride_of_one_each_target_sees_all_of_its_history():
    data = skips()
    training = in_training(Modern(**SMALL, stride=1), data)
    chunks = training.windows.batch(training.rows, CPU)
    expected = [window for window, _, paid in histories_of(data) if paid and window]
    found = [chunks.seen.items[window, : place + 1].tolist()
             for window, place in zip(chunks.windows, chunks.places, strict=True)]  # fmt: skip
    assert found == expected


def test_windows_are_fewer_with_a_longer_stride():
    data = logged("long", [np.arange(40) % ITEMS], ITEMS, history=10)
    counts = [len(in_training(Modern(**SMALL, stride=stride), data).windows)
              for stride in (1, 5, 10)]  # fmt: skip
    assert counts == [39, 8, 4]


def test_the_head_is_the_table_of_embeddings():
    training = in_training(Modern(**SMALL), shop())
    network = training.networks[0]
    head, table = network.head("supervised"), network.encoder.items.weight
    assert head.weight.shape == (ITEMS, SMALL["size"])
    assert head.weight.data_ptr() == table.data_ptr()
    batch = all_steps(training)
    state = network.state(batch.seen).detach()  # so that only the head leads to the table
    head.cross_entropy(state, batch.actions)[0].backward()
    assert table.grad[:ITEMS].any(1).all() and not table.grad[ITEMS].any()
    plain = in_training(Supervised(**SMALL), shop("other")).networks[0]
    spared = sum(p.numel() for p in plain.parameters()) - sum(
        p.numel() for p in network.parameters()
    )
    assert spared == ITEMS * SMALL["size"]


def test_the_embeddings_move_though_no_history_shows_them():
    data = logged("once", [[0, 1], [0, 2]] * 4, ITEMS)
    training = in_training(Modern(**SMALL), data)
    before = training.networks[0].encoder.items.weight.clone()
    advanced(training, 3)
    moved = (training.networks[0].encoder.items.weight != before).any(1)
    assert moved[:ITEMS].all() and not moved[ITEMS]


def test_states_of_another_width_cannot_be_weighed_by_embeddings():
    with pytest.raises(InvalidArgument) as problem:
        Modern(**SMALL, encoder="caser", steps=1).fit(shop())
    assert "caser ends in states of 56, which embeddings of 8 cannot weigh" in said(problem)
