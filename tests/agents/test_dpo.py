"""Direct Preference Optimization: its loss, its pairs, and a reference that never moves."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from recgym.agents import heads
from recgym.agents.batches import Steps
from recgym.agents.dpo import DPO, preference, preference_loss, skips_of
from recgym.agents.heads import ItemHead, drawn_from, log_total
from recgym.agents.supervised import Supervised
from recgym.agents.warmup import POLICY, REFERENCE
from recgym.errors import InvalidArgument
from recgym.runs import Run

from ..sentences import said
from .worlds import (
    CPU,
    ITEMS,
    SMALL,
    advanced,
    all_steps,
    assert_same_bits,
    cyclic,
    head_set,
    hit_rate,
    in_training,
    logged,
    scattered,
    shop,
)

pytestmark = pytest.mark.usefixtures("one_thread")
HIGHEST = 22.5  # of chi squares with five degrees of freedom, .9996 are below


def some_scores(count, items, seed=0):
    """Scores of a policy and its reference: (count, items) each."""
    both = torch.randn(2, count, items, dtype=torch.double,
                       generator=torch.Generator().manual_seed(seed))  # fmt: skip
    return both[0].requires_grad_(), both[1]


def loss_of(policy, reference, beta=0.1, smoothing=0.0):
    """Of each state, whose first item is chosen."""
    ratios = policy - reference
    return preference_loss(preference(ratios[:, 0], ratios[:, 1:], beta), smoothing)


# ------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 5.0])
def test_at_the_reference_the_loss_is_ln_2_and_its_slopes_are_half_of_beta(beta):
    policy, _ = some_scores(20, 2)
    loss = loss_of(policy, policy.detach(), beta)
    assert torch.equal(loss, torch.full_like(loss, math.log(2)))
    (slopes,) = torch.autograd.grad(loss.sum(), policy)
    torch.testing.assert_close(slopes, torch.tensor([[-beta / 2, beta / 2]]).double().expand(20, 2))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_what_is_swapped_has_the_loss_of_the_opposite_preference(smoothing):
    policy, reference = some_scores(50, 2)
    ratios = policy - reference
    x = preference(ratios[:, 0], ratios[:, 1:], 0.7)
    swapped = loss_of(policy.flip(1), reference.flip(1), 0.7, smoothing)
    torch.testing.assert_close(swapped, preference_loss(-x, smoothing))
    if not smoothing:
        torch.testing.assert_close(swapped, -torch.log(torch.sigmoid(-x)))


@pytest.mark.parametrize("negatives", [1, 4])
def test_what_all_items_of_a_state_have_in_common_changes_nothing(negatives):
    policy, reference = some_scores(50, 1 + negatives)
    constants = torch.randn(50, 1, dtype=torch.double)
    plain = loss_of(policy, reference)
    torch.testing.assert_close(loss_of(policy + 10 * constants, reference), plain)
    torch.testing.assert_close(loss_of(policy, reference - 10 * constants), plain)
    normalised = loss_of(policy.log_softmax(1), reference.log_softmax(1))
    torch.testing.assert_close(normalised, plain)


def test_towards_beta_0_the_loss_goes_to_ln_2_and_its_slopes_to_0():
    policy, reference = some_scores(50, 2)
    far = []
    for beta in (1.0, 1e-2, 1e-4, 1e-6):
        loss = loss_of(policy, reference, beta)
        (slopes,) = torch.autograd.grad(loss.sum(), policy)
        far.append([(loss - math.log(2)).abs().max().item(), slopes.abs().max().item()])
    far = np.array(far)
    assert (far[1:] < 0.02 * far[:-1]).all() and (far[-1] < 1e-5).all()


def test_two_actions_and_a_uniform_reference_make_it_logistic_regression():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 2, 3))
    wins = rng.random(400) < 1 / (1 + np.exp(features[:, 1] - features[:, 0]) @ np.ones(3) / 3)
    differences = features[:, 0] - features[:, 1]
    known = np.zeros(3)
    for _ in range(20):  # Newton's method on the likelihood of which of both wins
        chances = 1 / (1 + np.exp(-differences @ known))
        curvature = (differences * (chances * (1 - chances))[:, None]).T @ differences
        known += np.linalg.solve(curvature, differences.T @ (wins - chances))
    order = np.where(wins, 0, 1)[:, None, None]
    first = torch.as_tensor(np.take_along_axis(features, order, 1))
    second = torch.as_tensor(np.take_along_axis(features, 1 - order, 1))
    pairs = torch.cat([first, second], 1)
    weights = torch.zeros(3, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, tolerance_grad=1e-9, tolerance_change=0)

    def again():
        optimizer.zero_grad()
        scores = pairs @ weights
        loss = loss_of(scores, torch.full_like(scores, -math.log(2)), beta=1.0).mean()
        loss.backward()
        return loss

    optimizer.step(again)
    assert np.linalg.norm(known) > 0.3
    np.testing.assert_allclose(weights.detach().numpy(), known, atol=1e-6)


def test_one_rejected_item_in_the_softmax_form_is_the_plain_form():
    policy, reference = some_scores(50, 2)
    ratios = policy - reference
    found = preference(ratios[:, 0], ratios[:, 1:], 0.3)
    assert torch.equal(found, -(0.3 * (ratios[:, 1] - ratios[:, 0])))


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_several_rejected_items_make_a_softmax_over_all(beta):
    policy, reference = some_scores(50, 5)
    first = torch.zeros(50, dtype=torch.long)
    expected = functional.cross_entropy(beta * (policy - reference), first, reduction="none")
    torch.testing.assert_close(loss_of(policy, reference, beta), expected)
    at_reference = loss_of(policy, policy.detach(), beta)
    torch.testing.assert_close(at_reference, torch.full_like(at_reference, math.log(5)))
    (slopes,) = torch.autograd.grad(at_reference.sum(), policy)
    torch.testing.assert_close(slopes[0], beta * torch.tensor([-0.8, 0.2, 0.2, 0.2, 0.2]).double())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothing_mixes_both_directions(smoothing):
    x = torch.linspace(-8, 8, 33, dtype=torch.double)
    sigmoid = 1 / (1 + torch.exp(-x))
    expected = -(1 - smoothing) * sigmoid.log() - smoothing * (1 - sigmoid).log()
    torch.testing.assert_close(preference_loss(x, smoothing), expected)
    if smoothing:  # no preference is worth more than what the share of wrong pairs allows
        best = torch.tensor(math.log((1 - smoothing) / smoothing), requires_grad=True)
        (slope,) = torch.autograd.grad(preference_loss(best, smoothing), best)
        assert abs(slope.item()) < 1e-6


@pytest.mark.parametrize("sampled_by", ["uniform", "popularity"])
def test_preferences_among_what_is_drawn_end_where_the_odds_of_pairs_are(sampled_by):
    """Where states tell nothing: beta log(pi / ref) is log p of an item, or -log(1 - p)."""
    p, beta = torch.tensor([0.5, 0.25, 0.15, 0.1]).double(), 0.2
    q = p if sampled_by == "popularity" else torch.ones(4).double()
    chosen, rejected = (~torch.eye(4, dtype=torch.bool)).nonzero().T
    shares = p[chosen] * q[rejected] / (q.sum() - q[chosen])
    reference = torch.randn(4, dtype=torch.double)
    policy = reference.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([policy], max_iter=500, tolerance_grad=1e-10, tolerance_change=0)

    def again():
        optimizer.zero_grad()
        pairs = torch.stack([chosen, rejected], 1)
        loss = (shares * loss_of(policy[pairs], reference[pairs], beta)).sum()
        loss.backward()
        return loss

    optimizer.step(again)
    found = beta * (policy.detach() - reference)
    expected = p.log() if sampled_by == "uniform" else -(1 - p).log()
    torch.testing.assert_close(found - found[0], expected - expected[0], atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------- the two phases


def preferring(data=None, **options):
    """DPO in its second phase, policy and reference far from where they begin and each other."""
    training = in_training(DPO(**SMALL | options), data or shop())
    training.memory["warm since"] = 0
    for number, network in enumerate(training.networks):
        scattered(network, number)
    return training


def test_the_first_phase_is_supervised_learning():
    data, options = shop(), SMALL | {"dropout": 0.3}
    alone = in_training(Supervised(**options), data)
    first = in_training(DPO(**options, warmup_steps=20), data)
    advanced(alone, 20), advanced(first, 20)
    assert_same_bits(first.networks[POLICY].state_dict(), alone.networks[0].state_dict())
    assert not first.warm


@pytest.mark.parametrize("encoder", ["sasrec", "gru4rec", "gpt2-small", "lstm-as-gpt2-small"])
def test_the_second_phase_begins_at_ln_2(encoder, tmp_path):
    data, validation = shop(), shop("validation", split="validation")
    options = {"dropout": 0.5, "encoder": encoder, "validate_every": 1, "patience": 0}
    DPO(**SMALL | options, steps=16).fit(data, validation, run=Run(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert ["preference" in line for line in lines] == 8 * [False] + 8 * [True]
    first, *later = lines[8:]
    assert first["preference"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["margin"] == pytest.approx(0, abs=1e-6)
    assert all(abs(line["margin"]) > 1e-6 for line in later)


def test_means_of_a_phase_count_its_own_steps_only(tmp_path):
    DPO(**SMALL, steps=50, warmup_steps=49).fit(shop(), run=Run(tmp_path))
    (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert line["preference"] == pytest.approx(math.log(2), abs=1e-6)


def test_at_the_reference_only_the_two_items_of_a_pair_are_pulled():
    training = preferring(beta=0.4)
    policy, reference = training.networks
    reference.load_state_dict(policy.state_dict())
    row = np.array([5])
    batch = training.data.batch(training.paired[row], CPU)
    terms = training.preferring(batch, row)
    (slopes,) = torch.autograd.grad(terms["preference"], policy.head("supervised").bias)
    assert slopes[batch.actions].item() == pytest.approx(-0.2)
    assert sorted(slopes.tolist()) == pytest.approx([-0.2, *[0] * (ITEMS - 2), 0.2])


def test_the_reference_is_the_best_of_the_first_phase_and_never_moves():
    options = SMALL | {"validate_every": 3, "dropout": 0.5, "learning_rate": 0.05, "steps": 60}
    training = in_training(
        DPO(**options, patience=0), shop(), shop("validation", split="validation")
    )
    advanced(training, 30)
    best = {name: weights.clone() for name, weights in training._best.items()}
    advanced(training, 1)
    assert training.memory == {"warm since": 30}
    policy, reference = training.networks
    known = {name: weights.clone() for name, weights in reference.state_dict().items()}
    assert_same_bits(known, best)
    seen = all_steps(training).seen
    before = reference.head("supervised")(reference.state(seen))
    advanced(training, 29)
    assert_same_bits(reference.state_dict(), known)
    assert torch.equal(reference.head("supervised")(reference.state(seen)), before)  # no dropout
    assert not any(weights.requires_grad for weights in reference.parameters())
    assert not reference.training and not before.requires_grad
    moved = policy.state_dict()
    assert any(not torch.equal(moved[name], weights) for name, weights in known.items())
    rates = {group["lr"] for one in training._optimizers for group in one.param_groups}
    assert rates == {training.second_learning_rate}
    assert not training._optimizers[REFERENCE].state


def test_the_best_weights_are_those_of_the_second_phase():
    options = SMALL | {"validate_every": 5, "patience": 0, "second_learning_rate": 0.5}
    training = in_training(DPO(**options, steps=20), shop(), shop("validation", split="validation"))
    advanced(training, 10)
    first = {name: weights.clone() for name, weights in training._best.items()}
    advanced(training, 10)
    training.restore()
    found = training.networks[POLICY].state_dict()
    assert any(not torch.equal(found[name], weights) for name, weights in first.items())
    assert_same_bits(training.networks[REFERENCE].state_dict(), first)


@pytest.mark.parametrize("negatives", [1, 3])
def test_what_is_logged_is_what_a_dense_softmax_says(negatives):
    training = preferring(negatives=negatives, beta=0.3, label_smoothing=0.1)
    which = np.arange(len(training.paired))
    batch = training.data.batch(training.paired, CPU)
    terms = training.preferring(batch, which)
    policy, reference = (
        network.head("supervised")(network.state(batch.seen)).double().log_softmax(1).detach()
        for network in training.networks
    )
    rejected = training.rejected(batch, which, training.networks[REFERENCE].state(batch.seen))
    losses, margins, wins, chosen_logs, rejected_logs = [], [], [], [], []
    for row, item in enumerate(batch.actions.tolist()):
        ratio = (policy[row] - reference[row]).tolist()
        others = rejected[row].tolist()
        gains = [0.3 * (ratio[item] - ratio[other]) for other in others]
        x = -math.log(sum(math.exp(-gain) for gain in gains))
        losses.append(0.9 * math.log1p(math.exp(-x)) + 0.1 * math.log1p(math.exp(x)))
        margins += gains
        wins += [gain > 0 for gain in gains]
        chosen_logs.append(policy[row, item].item())
        rejected_logs += policy[row, others].tolist()
    expected = {
        "preference": losses,
        "log-probability of chosen": chosen_logs,
        "log-probability of rejected": rejected_logs,
        "margin": margins,
        "share preferred": wins,
    }
    assert terms.keys() == expected.keys()
    for name, each in expected.items():
        assert terms[name].item() == pytest.approx(np.mean(each), rel=1e-5), name
        assert terms[name].requires_grad == (name == "preference")


def test_what_is_looked_at_all_items_for_is_looked_at_in_chunks(monkeypatch):
    torch.manual_seed(0)
    head, state = ItemHead(8, 37), 30 * torch.randn(10, 8)
    dense = head(state).detach()
    for rows in (128, 3, 1):
        monkeypatch.setattr(heads, "CHUNK_ROWS", rows)
        monkeypatch.setattr(heads, "CHUNK_CELLS", {})
        torch.testing.assert_close(log_total(head, state), dense.logsumexp(1))


# ------------------------------------------------------------------------------------ the pairs


def drawn(training, row, count):
    """How often each item is rejected against what was done at a step."""
    rows = np.full(count, row)
    batch = training.data.batch(rows, CPU)
    state = training.networks[REFERENCE].state(batch.seen)
    found = training.rejected(batch, rows, state).numpy()
    assert found.dtype == np.int64 and found.shape == (count, training.negatives)
    assert not (found == training.data.actions[row]).any()
    return np.bincount(found.flatten(), minlength=ITEMS)


@pytest.mark.parametrize("sampled_by", ["uniform", "popularity", "reference"])
def test_all_but_the_chosen_item_are_drawn_as_often_as_asked(sampled_by):
    training = preferring(sampled_by=sampled_by, negatives=2)
    steps = training.data
    items = [int(np.flatnonzero(steps.actions == item)[0]) for item in range(ITEMS)]
    for row in items:  # the first item, and the last, too
        reference = training.networks[REFERENCE]
        seen = steps.batch(np.array([row]), CPU).seen
        chances = {
            "uniform": np.ones(ITEMS),
            "popularity": np.bincount(steps.actions, minlength=ITEMS).astype(float),
            "reference": reference.head("supervised")(reference.state(seen)).double()[0]
            .softmax(0).detach().numpy(),
        }[sampled_by]  # fmt: skip
        chances[steps.actions[row]] = 0
        expected = 6000 * chances / chances.sum()
        counts = drawn(training, row, 3000)
        others = np.arange(ITEMS) != steps.actions[row]
        assert expected[others].min() > 5
        assert ((counts - expected)[others] ** 2 / expected[others]).sum() < HIGHEST


def test_an_item_without_events_counts_as_one_of_them():
    data = logged("rare", [[0, 0, 0, 1], [0, 1, 0, 0]], 4)
    training = preferring(data, sampled_by="popularity")
    assert training.events.tolist() == [6, 2, 1, 1]
    assert preferring(data).events.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("chosen", [0, 5, 6])
def test_what_is_almost_certain_is_never_drawn_against_itself(chosen):
    head = ItemHead(1, ITEMS)
    with torch.no_grad():
        head.weight.zero_()
        head.bias[chosen] = 200.0  # beside it, all others are 0 in float32
    chances = torch.tensor([0.0, 0.3, 0.999, 1 - 2**-24, 1.0]).expand(ITEMS, 5)
    found = drawn_from(head, torch.zeros(ITEMS, 1), chances, torch.full((ITEMS,), chosen))
    others = [item for item in range(ITEMS) if item != chosen]
    assert set(found[:, 0].tolist()) == {others[0]} and set(found[:, 1].tolist()) == {others[1]}
    assert set(found[:, 2:].flatten().tolist()) == {others[-1]}


def test_draws_depend_on_seed_and_step_alone():
    batches = []
    for seed, at in [(0, 3), (0, 3), (0, 4), (1, 3)]:
        training = preferring(seed=seed, negatives=5)
        training.at = at
        which = np.arange(len(training.paired))
        batch = training.data.batch(training.paired, CPU)
        batches.append(training.rejected(batch, which, torch.zeros(len(batch), 8)).tolist())
    assert batches[0] == batches[1] and batches[0] not in batches[2:]


def by_hand():
    """Two sessions with skips; what was skipped joins no history."""
    sessions = [[0, 1, 2, 3, 4, 5], [6, 1, 1, 2, 2, 0]]
    accepted = [[0, 0, 1, 1, 0, 0], [1, 0, 1, 0, 1, 0]]
    return logged("by-hand", sessions, ITEMS, rewards=accepted, shown=accepted)


def test_an_accepted_item_is_paired_with_those_skipped_since_the_last():
    training = preferring(by_hand(), pairs="skipped", negatives=50)
    # 2 after 0 and 1; 3 after nothing; 4 and 5 before nothing; 1 after 1, 2 after 2: no pairs
    assert training.paired.tolist() == [2]
    batch = training.data.batch(training.paired, CPU)
    found = training.rejected(batch, np.array([0]), torch.zeros(1, 8))
    assert set(found.flatten().tolist()) == {0, 1}
    assert batch.actions.tolist() == [2] and (batch.seen.items == ITEMS).all()


def recounted(steps):
    """For each accepted step what its user skipped since the last one, by a loop."""
    pairs, waiting = {}, []
    for row in range(len(steps)):
        if steps.before[row] == 0:
            waiting = []
        if steps.rewards[row] > 0:
            rejected = [item for item in waiting if item != steps.actions[row]]
            if rejected:
                pairs[row] = rejected
            waiting = []
        else:
            waiting.append(int(steps.actions[row]))
    return pairs


@pytest.mark.parametrize("accepting", [0.2, 0.5, 0.9])
def test_pairs_are_those_that_a_loop_finds(accepting):
    rng = np.random.default_rng(1)
    sessions = [rng.integers(ITEMS, size=length) for length in rng.integers(1, 12, size=60)]
    rewards = [rng.choice([-1.0, 0.0], len(one)) for one in sessions]
    for one in rewards:
        one[rng.random(len(one)) < accepting] = 0.5
    training = preferring(logged("random", sessions, ITEMS, rewards=rewards), pairs="skipped")
    skips, expected = skips_of(training.data), recounted(training.data)
    assert len(expected) > 20 and skips.accepted.tolist() == list(expected)
    parts = np.split(skips.items, skips.offsets[1:-1])
    assert [part.tolist() for part in parts] == list(expected.values())
    which = np.repeat(np.arange(len(expected)), 400)
    items = skips.drawn(which, np.random.default_rng(0), (len(which), 1)).reshape(-1, 400)
    for found, rejected in zip(items, expected.values(), strict=True):
        counts = np.bincount(found, minlength=ITEMS)
        wanted = 400 * np.bincount(rejected, minlength=ITEMS) / len(rejected)
        assert (np.abs(counts - wanted) <= 5 * np.sqrt(wanted)).all()  # none where none is wanted


def test_single_impressions_of_equal_observations_make_the_pairs_of_one_session():
    rng = np.random.default_rng(2)
    items, accepted = rng.integers(ITEMS, size=400), rng.random(400) < 0.2
    seen = rng.integers(2, size=400)  # of two histories, in turns at random

    def steps(name, *rows):
        return Steps(logged(name, [items[some] for some in rows], ITEMS,
                            rewards=[accepted[some] for some in rows]))  # fmt: skip

    single, order = steps("single", *np.arange(400)[:, None]), np.argsort(seen, kind="stable")
    single.items[single.states, 0] = seen
    found = skips_of(single)
    expected = skips_of(steps("whole", *(np.flatnonzero(seen == some) for some in (0, 1))))
    assert len(expected.accepted) > 40
    assert found.accepted.tolist() == order[expected.accepted].tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.items.tolist() == expected.items.tolist()


@pytest.mark.parametrize("rewards", [None, [[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]]])
def test_a_log_without_pairs_is_refused(rewards):
    data = logged("all", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 2, 3]], 4, rewards=rewards)
    with pytest.raises(InvalidArgument, match="there are no pairs") as problem:
        DPO(**SMALL, pairs="skipped").fit(data)
    said(problem)


@pytest.mark.parametrize(
    "options",
    [{"beta": 0.0}, {"label_smoothing": 0.5}, {"label_smoothing": -0.1}, {"negatives": 0},
     {"pairs": "shown"}, {"sampled_by": "chance"}],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(Exception, match=next(iter(options)).replace("_", ".")) as problem:
        DPO(**options)
    said(problem)


# ------------------------------------------------------------------------------ what is learned


@pytest.mark.parametrize(
    "options",
    [{}, {"sampled_by": "popularity"}, {"sampled_by": "reference", "negatives": 2}],
    ids=["uniform", "popularity", "reference"],
)
def test_a_world_of_three_items_is_solved(options):
    train, fresh = cyclic("three"), cyclic("fresh", sessions=3)
    quick = {"size": 16, "batch_size": 32, "steps": 100, "learning_rate": 0.01}
    assert hit_rate(DPO(**quick, **options).fit(train), fresh) > 0.99


@pytest.mark.parametrize("length", [8, 1], ids=["sessions", "single impressions"])
def test_what_is_accepted_is_preferred_to_what_is_shown_more_often(length):
    """Of ten users, eight are shown one item, and three accept; two another, and almost both do."""
    often, welcome, rng = 0, 1, np.random.default_rng(0)
    items = np.where(rng.random((300, 8)) < 0.8, often, welcome).reshape(-1, length)
    accepted = rng.random(items.shape) < np.where(items == often, 0.375, 0.9)
    data = logged("shown", items, 3, rewards=accepted, shown=accepted)
    taken = np.bincount(items[accepted])
    assert taken[often] > 1.3 * taken[welcome]
    quick = {"size": 8, "batch_size": 64, "steps": 120, "learning_rate": 0.01}

    def liked(agent):
        return agent.fit(data).act(data[0].observations[:1], {}).tolist()

    assert liked(Supervised(**quick)) == [often]
    assert liked(DPO(**quick, second_learning_rate=0.01, pairs="skipped")) == [welcome]


def test_single_impressions_are_validated_by_what_is_accepted_of_them():
    sessions, accepted = [[2], [5], [2], [0], [2]], [[1], [1], [1], [0], [1]]
    data = logged("single", sessions, ITEMS, rewards=accepted)
    training = in_training(DPO(**SMALL, pairs="skipped"), data, data)
    head_set(training.networks[POLICY].head("supervised"), bias=[0, 0, 2, 0, 0, 1, 0])
    assert training.validated()["ndcg@10"] == pytest.approx((3 + 1 / math.log2(3)) / 4)
