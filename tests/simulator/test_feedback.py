"""Rewards, states and choices: each as asked alone, whatever else is asked beside it."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from recgym.errors import Diverged
from recgym.simulator.asked import Fit
from recgym.simulator.feedback import LanguageUser, histories_of, shown_order
from recgym.simulator.fit import adapt
from recgym.simulator.prompts import DOMAINS, Prompts

from ..sentences import said
from .conftest import ITEMS, made
from .shelves import TITLES
from .test_language import alone, counted

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def user_of(language, spelled=False, adapted=True):
    """A user whose head and adapter are far from nought."""
    if adapted:
        for values in adapt(language, Fit()):
            nn.init.normal_(values, 0, 0.1)
    head = nn.Linear(language.width, 1, bias=False)
    nn.init.normal_(head.weight)
    names = [language.tokens(f" {title}") for title in TITLES] if spelled else None
    return LanguageUser(language, Prompts(language, DOMAINS["products"], names), head)


@pytest.fixture(params=["llama", "gpt2", "mistral", "spelled"])
def user(request, tokenizer):
    torch.manual_seed(0)
    kind = "llama" if request.param == "spelled" else request.param
    window = {"sliding_window": 40} if kind == "mistral" else {}  # of less than a prompt
    return user_of(made(kind, tokenizer, positions=512, **window), request.param == "spelled")


@pytest.fixture
def plain(tokenizer):
    torch.manual_seed(0)
    return user_of(made("llama", tokenizer))


def histories(count, seed=0, length=6):
    """Right-padded, the first of them empty."""
    rng = np.random.default_rng(seed)
    found = rng.integers(ITEMS, size=(count, length)).astype(np.int32)
    counts = rng.integers(1, length + 1, size=count)
    counts[0] = 0
    found[np.arange(length) >= counts[:, None]] = ITEMS
    return found


def fives(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(ITEMS, 5, replace=False) for _ in range(count)])


def items_of(history):
    return [int(item) for item in history if item != ITEMS]


# ----------------------------------------------------------------------------- rewards and states


def test_rewards_are_those_of_prompts_read_alone(user):
    seen, items = histories(7), fives(7)[:, :3]
    found = user.rewards(seen, items)
    assert found.shape == (7, 3) and found.dtype == np.float32
    for row, column in itertools.product(range(7), range(3)):
        prompts = user.prompts
        prompt = [*prompts.likelihood(items_of(seen[row])), *prompts.of(int(items[row, column]))]
        with torch.no_grad():
            wanted = user.head(alone(user.language, prompt)).item()
        assert found[row, column] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert len(np.unique(found)) == found.size


def test_states_are_those_of_items_read_alone(user):
    seen = histories(7)
    found = user.states(seen)
    assert found.shape == (7, user.width) and found.dtype == np.float32
    wanted = [alone(user.language, user.prompts.state(items_of(history))) for history in seen]
    np.testing.assert_allclose(found, torch.stack(wanted).numpy(), **CLOSE)


def test_what_is_asked_beside_changes_nothing(plain):
    seen, items = histories(30), fives(30)
    order = np.random.default_rng(5).permutation(30)[:17]
    np.testing.assert_allclose(
        plain.rewards(seen[order], items[order]), plain.rewards(seen, items)[order], **CLOSE
    )
    np.testing.assert_allclose(plain.states(seen[order]), plain.states(seen)[order], **CLOSE)
    longer = np.pad(seen, ((0, 0), (0, 3)), constant_values=ITEMS)
    np.testing.assert_allclose(plain.rewards(longer, items), plain.rewards(seen, items), **CLOSE)


def test_repeated_questions_are_asked_once(plain, monkeypatch):
    seen, items = histories(4), fives(4)
    shapes = counted(plain.language, monkeypatch)

    def read_for(ask):
        shapes.clear()
        ask()
        return sum(rows * tokens for rows, tokens in shapes)

    many = np.tile(np.arange(4), 25)
    for ask in (
        lambda rows: plain.rewards(seen[rows], items[rows]),
        lambda rows: plain.states(seen[rows]),
        lambda rows: plain.choices(seen[rows], items[rows], 0),
    ):
        once = read_for(lambda ask=ask: ask(np.arange(4)))
        assert read_for(lambda ask=ask: ask(many)) == once > 0
    twice = np.repeat(items, 2, 1)
    assert read_for(lambda: plain.rewards(seen, twice)) == read_for(
        lambda: plain.rewards(seen, items)
    )
    assert np.array_equal(plain.rewards(seen, twice), np.repeat(plain.rewards(seen, items), 2, 1))


def test_a_reward_that_is_no_number_is_said(plain):
    with torch.no_grad():
        plain.head.weight[0, 0] = torch.nan
    with pytest.raises(Diverged) as problem:
        plain.rewards(histories(2), fives(2))
    assert "no number" in said(problem)


def test_nobody_is_answered_nothing(plain):
    none, few = histories(1)[:0], fives(1)[:0]
    assert plain.rewards(none, few).shape == (0, 5)
    assert plain.states(none).shape == (0, plain.width)
    assert plain.choices(none, few, 0).shape == (0,)


# ---------------------------------------------------------------------------------------- choices


@torch.no_grad()
def slow_positions(user, history, listed, labels):
    """log p of each label, token by token, from whole prompts."""
    language, found = user.language, []
    for label in labels:
        prompt, total = user.prompts.choice(history, listed), 0.0
        for token in label:
            chances = language.next_words(alone(language, prompt)).log_softmax(0)
            total += chances[token].item()
            prompt = [*prompt, token]
        found.append(total)
    return found


def with_labels(user, labels):
    user.prompts.labels = [list(label) for label in labels]
    return user


SHARED = [(5, 6, 7), (5, 8), (9, 4), (11,), (5, 6, 12)]  # first tokens that do not tell
APART = [(5, 6), (7,), (8, 9, 10), (11,), (12, 5)]
WITHIN = [(5,), (5, 6), (7,), (5, 6, 8), (9,)]  # one label begins another
SINGLE = [(5,), (7,), (8,), (11,), (12,)]


@pytest.mark.parametrize("labels", [SHARED, SINGLE, WITHIN])
def test_labels_are_scored_by_all_their_tokens(user, labels):
    seen, listed = histories(4), fives(4)
    found = with_labels(user, labels).positions(seen, listed)
    for row in range(4):
        wanted = slow_positions(user, items_of(seen[row]), listed[row].tolist(), labels)
        np.testing.assert_allclose(found[row], wanted, **CLOSE)


def test_first_tokens_are_enough_where_they_differ(user, monkeypatch):
    seen, listed = histories(4), fives(4)
    found = with_labels(user, APART).positions(seen, listed)
    for row in range(4):
        firsts = [label[:1] for label in APART]
        wanted = slow_positions(user, items_of(seen[row]), listed[row].tolist(), firsts)
        np.testing.assert_allclose(found[row], wanted, **CLOSE)
    shapes = counted(user.language, monkeypatch)
    rows = {}
    for labels in (APART, SHARED):
        shapes.clear()
        with_labels(user, labels).positions(seen, listed)
        rows[len(labels[0])] = sum(count for count, _ in shapes)
    assert rows == {2: 4 + 4, 3: 4 + 4 * 4}  # shared: after nothing, 5, 5 6 and 9


def test_the_words_of_a_pre_trained_model_are_scored_whole(stories):
    stories.items = stories.table[40 : 40 + ITEMS].clone()
    user = user_of(stories, adapted=False)
    assert len({label[0] for label in user.prompts.labels}) < 5  # "first" and "fifth" share one
    seen, listed = histories(2), fives(2)
    found = user.positions(seen, listed)
    for row in range(2):
        wanted = slow_positions(
            user, items_of(seen[row]), listed[row].tolist(), user.prompts.labels
        )
        np.testing.assert_allclose(found[row], wanted, **CLOSE)


def test_a_choice_is_the_most_likely_of_the_five(user):
    seen, five = histories(6), fives(6)
    found = user.choices(seen, five, 3)
    shown = shown_order(seen, five, ITEMS, 3)
    for row in range(6):
        listed = five[row][shown[row]].tolist()
        labels = [label[:1] for label in user.prompts.labels]
        if len({label[0] for label in labels}) < 5:
            labels = user.prompts.labels
        best = int(np.argmax(slow_positions(user, items_of(seen[row]), listed, labels)))
        assert five[row, found[row]] == listed[best]


class Fond:
    """Where it is asked for positions, the one at which a certain item stands."""

    def __init__(self, plain, item):
        plain.positions = lambda histories, listed: (listed == item).astype(np.float32)
        self.user = plain


@pytest.mark.parametrize("item", range(5))
def test_shuffling_is_undone(plain, item):
    five = np.stack([np.random.default_rng(row).permutation(5) for row in range(50)])
    found = Fond(plain, item).user.choices(histories(50), five, 11)
    assert (five[np.arange(50), found] == item).all()


def test_a_choice_is_one_of_the_five_and_follows_from_its_row_alone(plain):
    seen, five = histories(20), fives(20)
    found = plain.choices(seen, five, 3)
    assert found.shape == (20,) and set(found) <= set(range(5))
    assert np.array_equal(plain.choices(seen, five, 3), found)
    for row in (0, 7, 19):
        assert plain.choices(seen[[row]], five[[row]], 3)[0] == found[row]
    mirrored = plain.choices(seen, five[:, ::-1], 3)  # the same five, in another order
    assert np.array_equal(five[np.arange(20), found], five[:, ::-1][np.arange(20), mirrored])


def test_the_order_shown_is_drawn_by_row_and_seed():
    seen, five = histories(400, length=4), fives(400)
    shown = shown_order(seen, five, ITEMS, 3)
    assert (np.sort(shown, 1) == np.arange(5)).all()
    order = np.random.default_rng(0).permutation(400)
    assert np.array_equal(shown_order(seen[order], five[order], ITEMS, 3), shown[order])
    longer = np.pad(seen, ((0, 0), (0, 4)), constant_values=ITEMS).astype(np.int64)
    assert np.array_equal(shown_order(longer, five, ITEMS, 3), shown)
    for other in (shown_order(seen, five, ITEMS, 4), shown_order(seen[::-1], five, ITEMS, 3)):
        assert (other == shown).all(1).mean() < 0.05


def test_every_item_is_shown_as_often_at_every_position():
    count = 20_000
    seen = np.random.default_rng(0).integers(ITEMS, size=(count, 4))
    shown = shown_order(seen, np.tile(np.arange(5), (count, 1)), ITEMS, 0)
    counts = np.array([np.bincount(column, minlength=5) for column in shown.T])
    assert ((counts - count / 5) ** 2 / (count / 5)).sum() < 50  # chi-square of 16 degrees


def test_histories_are_told_without_pads():
    assert histories_of(np.array([[3, 4, 9], [9, 9, 9], [1, 2, 3]]), 9) == [[3, 4], [], [1, 2, 3]]
