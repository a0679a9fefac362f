"""LEA: its eight variants, the equations, and what is asked of a simulator."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from recgym.agents.batches import Steps
from recgym.agents.lea import FIVE, LEA, PREDEFINED
from recgym.agents.snqn import SNQN
from recgym.agents.supervised import Supervised
from recgym.errors import InvalidArgument, UnknownName
from recgym.runs import Run

from ..sentences import said
from .worlds import (
    ITEMS,
    SMALL,
    advanced,
    all_steps,
    assert_same_bits,
    head_set,
    hit_rate,
    in_training,
    learning,
    logged,
    looked,
)

pytestmark = pytest.mark.usefixtures("one_thread")
NONE = {"augmentation": False, "rewards": "log", "state": "own"}  # SA2C with one negative
SCALE = {"mean": 2.0, "spread": 4.0, "slope": 1.0, "intercept": -1.0, "base_rate": 0.1}
NEGATIVES = 3
VARIANTS = {  # section 9.3: what is switched on
    "LER": {"rewards": "simulator"},
    "LES": {"state": "both"},
    "LES'": {"state": "simulator"},
    "LEA": {"augmentation": True},
    "LEAR": {"augmentation": True, "rewards": "simulator"},
    "LEAS": {"augmentation": True, "state": "both"},
    "LEASR": {"augmentation": True, "rewards": "simulator", "state": "both"},
    "LEAS'R": {"augmentation": True, "rewards": "simulator", "state": "simulator"},
}


class Fond:
    """A user of whom all is known: takes the item with the highest number of the five."""

    def __init__(self, n_items=ITEMS):
        self.n_items, self.asked = n_items, []

    def choices(self, histories, five, seed):
        self.asked.append((histories.copy(), five.copy(), seed))
        return five.argmax(1)

    def rewards(self, histories, items):
        return (items + 0.5 * (histories != self.n_items).sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def fond(monkeypatch):
    """Who is asked, in the place of a simulator that was fitted."""
    user = Fond()
    monkeypatch.setattr(LEA, "_chooser", lambda self: user)
    return user


def answered(name="shop", width=3, sessions=None, n_items=ITEMS, worth=None, **options):
    """Sessions with what a simulator says of them."""
    rng = np.random.default_rng(0)
    if sessions is None:
        sessions = [rng.integers(n_items, size=length) for length in (1, 2, 3, 5, 8, 4)]
    lengths = np.array([len(session) for session in sessions])
    states = lengths.sum() + len(lengths)
    first = np.cumsum(lengths + 1) - lengths - 1  # of each session: nothing was done before
    infos = {
        "infos": {
            "state": rng.normal(size=(states, width)).astype(np.float32),
            "reward": rng.normal(2, 4, states).astype(np.float32),
            "negatives": rng.integers(n_items, size=(states, NEGATIVES)).astype(np.int32),
            "negative_rewards": rng.normal(2, 4, (states, NEGATIVES)).astype(np.float32),
        }
    }
    if worth is not None:
        infos["infos"]["reward"][:], infos["infos"]["negative_rewards"][:] = worth
    for column in ("reward", "negative_rewards"):
        infos["infos"][column][first] = np.nan
    simulator = {"name": "fond", "sha256": "0" * 64, "scale": SCALE}
    return logged(name, sessions, n_items, simulator=simulator, **infos, **options)


class Empty(LEA):
    """One whose simulator has states of no width."""

    def prepare(self, data):
        super().prepare(data)
        data.told = data.told[:, :0]


def lea(data=None, kind=LEA, warm=True, **options):
    """LEA in its second phase."""
    training = learning(kind, data or answered(), **options)
    if warm:
        training.memory["warm since"] = 0
    return training


def losses(training):
    terms = training.loss(*training.networks, all_steps(training))
    return {name: term.item() for name, term in terms.items()}


def loss(training):
    terms = training.loss(*training.networks, all_steps(training))
    return sum(term for term in terms.values() if term.requires_grad).item()


# ------------------------------------------------------------------------ acceptance, section 9.6


@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_with_nothing_but_constants_from_the_simulator_it_is_snqn(discount):
    data = answered(worth=(1.0, 0.0))
    ours = lea(data, Empty, augmentation=False, scale="raw", advantages=False, discount=discount)

    class Same(SNQN):
        def compared(self, batch):
            return ours.compared(batch)

    snqn = learning(Same, data, negatives=1, discount=discount)
    assert loss(ours) == pytest.approx(loss(snqn), abs=1e-6)


def test_leasr_without_weights_is_les_and_ler_together(fond):
    both = {"rewards": "simulator", "state": "both", "warmup_steps": 3, "steps": 9}
    leasr = lea(warm=False, action_weight=0.0, action_q_weight=0.0, refresh=2, **both)
    together = lea(warm=False, augmentation=False, **both)
    assert_same_bits(advanced(leasr, 9), advanced(together, 9))
    assert fond.asked


def test_lear_is_leasr_with_an_empty_state(fond):
    options = {"warmup_steps": 3, "steps": 9}
    empty = lea(kind=Empty, warm=False, **options)
    lear = lea(warm=False, state="own", **options)
    assert_same_bits(advanced(empty, 9), advanced(lear, 9))


def test_values_that_see_the_simulator_alone_leave_the_supervised_model_as_it_is():
    """SNQN-LES' shares no gradient with what recommends."""
    data, options = answered(), {**SMALL, "learning_rate": 0.01, "batch_size": 8}
    ours = in_training(LEA(**options, advantages=False, **NONE | {"state": "simulator"}), data)
    plain = in_training(Supervised(**options), data)
    for network, other in zip(ours.networks, plain.networks, strict=False):
        other.load_state_dict(network.state_dict(), strict=False)
    ours.draws = lambda purpose, of=ours.draws: _First(of(purpose))  # the first copy always learns
    found, expected = advanced(ours, 12), advanced(plain, 12)
    assert_same_bits({name: found[name] for name in expected}, expected)
    own = in_training(LEA(**options, advantages=False, **NONE), data)
    own.networks[0].load_state_dict(plain.networks[0].state_dict(), strict=False)
    shared = "0.encoder.items.weight"
    before = own.networks[0].encoder.items.weight.clone()
    own.draws = lambda purpose, of=own.draws: _First(of(purpose))
    assert not torch.equal(advanced(own, 1)[shared], before)


class _First:
    """Draws as another, and a coin that always shows the first side."""

    def __init__(self, rng):
        self.rng = rng

    def integers(self, most, **options):
        return 0 if most == 2 and not options else self.rng.integers(most, **options)


def test_augmented_actions_are_among_the_five_best_and_never_the_pad(fond):
    training = lea()
    training.augment()
    (histories, five, _), actions = fond.asked[0], training.found["actions"]
    order = np.argsort(np.random.default_rng((0, 0, 21)).permutation(len(training.data)))
    assert five.max() < ITEMS and (actions >= 0).all()
    network, batch = training.networks[0].eval(), all_steps(training)
    best = network.head("supervised")(network.state(batch.seen)).argsort(1, descending=True)
    assert torch.equal(best[:, :FIVE].sort(1).values, torch.as_tensor(five[order]).sort(1).values)
    assert torch.equal(actions, torch.as_tensor(five[order].max(1)))
    assert (histories.max(), histories.shape[1]) == (ITEMS, 10)
    again = lea()
    again.augment()
    assert torch.equal(again.found["actions"], actions)
    np.testing.assert_array_equal(fond.asked[0][1], fond.asked[1][1])


def test_it_may_choose_what_has_the_highest_reward(fond):
    fond.rewards = lambda histories, items: -items.astype(np.float32)
    words, rewards = lea(rewards="log"), lea(rewards="log", choices="rewards")
    words.augment()
    rewards.augment()
    ((_, five, _),) = fond.asked  # once: rewards need no words
    order = np.argsort(np.random.default_rng((0, 0, 21)).permutation(len(words.data)))
    assert torch.equal(rewards.found["actions"], torch.as_tensor(five[order].min(1)))
    assert torch.equal(words.found["actions"], torch.as_tensor(five[order].max(1)))


# ---------------------------------------------------------------------------------- the equations


def by_hand(training):
    """The terms of a loop over steps, from whole tables of values."""
    network, other = training.networks
    batch, data = all_steps(training), training.data
    tables = []
    with torch.no_grad():
        for one in (network, other):
            for seen in (batch.seen, batch.next_seen):
                state = one.state(seen)
                valued = {"own": [state], "both": [seen.told, state], "simulator": [seen.told]}
                tables.append(one.head("q")(torch.cat(valued[training.state], 1)))
    now, then, judged, judged_then = tables
    after, gamma = data.states + 1, training.discount
    simulated = training.rewards == "simulator"
    which = training.draws(3).integers(NEGATIVES, size=(len(batch), 1)) if simulated else None
    compared = training.compared(batch)
    found = {"td": 0.0, "negatives": 0.0, "augmented td": 0.0}

    def scaled(raw):
        return (float(raw) - SCALE["mean"]) / SCALE["spread"]

    for row in range(len(batch)):
        best = judged_then[row, int(then[row].argmax())]
        following = 0.0 if batch.over[row] else gamma * float(best)
        staying = gamma * float(judged[row, int(now[row].argmax())])
        reward, other_reward = float(batch.rewards[row]), 0.0
        if simulated:
            reward = scaled(data.infos["reward"][after[row]])
            place = which[row, 0]
            assert compared[row, 1] == data.infos["negatives"][after[row], place]
            other_reward = scaled(data.infos["negative_rewards"][after[row], place])
        value, other_value = (float(now[row, item]) for item in compared[row, :2])
        found["td"] += (reward + following - value) ** 2 / 2
        found["negatives"] += (other_reward + staying - other_value) ** 2 / 2
        if training.found:
            action = int(training.found["actions"][row])
            worth = PREDEFINED
            if simulated:
                worth = scaled(action + 0.5 * int((batch.seen.items[row] != ITEMS).sum()))
            loss = (worth + following - float(now[row, action])) ** 2 / 2
            found["augmented td"] += training.action_q_weight * loss
    return {name: total / len(batch) for name, total in found.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_loses_what_its_equations_say(name, fond):
    training = lea(discount=0.7, action_q_weight=0.3, action_weight=0.2, **NONE | VARIANTS[name])
    if training.augmentation:
        training.augment()
    found, expected = losses(training), by_hand(training)
    assert found["td"] == pytest.approx(expected["td"], rel=1e-5)
    assert found["negatives"] == pytest.approx(expected["negatives"], rel=1e-5)
    assert ("augmented" in found) == training.augmentation
    if training.augmentation:
        assert found["augmented td"] == pytest.approx(expected["augmented td"], rel=1e-5)
        network, batch = training.networks[0], all_steps(training)
        scores = network.head("supervised")(network.state(batch.seen))
        both = _crossed(training, scores, batch.actions)
        crossed = 0.2 * functional.cross_entropy(scores, training.found["actions"])
        assert found["supervised"] + found["augmented"] == pytest.approx(
            (both + crossed).item(), rel=1e-5
        )


def _crossed(training, scores, actions):
    """Of what was done, by its advantage."""
    look = looked(training, all_steps(training))
    value, other_value = look.values[:, :2].detach().T
    weights = ((value - other_value) / 2).clamp(0, 10)
    return (weights * functional.cross_entropy(scores, actions, reduction="none")).mean()


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_reads_what_it_switches_on_and_nothing_else(name):
    options = NONE | VARIANTS[name]
    infos = LEA(**options).infos
    assert ("state" in infos) == (options["state"] != "own")
    assert ("reward" in infos) == (options["rewards"] == "simulator")


@pytest.mark.parametrize(("state", "projected", "width"), [
    ("own", 0, 8), ("both", 0, 11), ("simulator", 0, 3), ("both", 2, 10), ("simulator", 2, 2),
    ("own", 2, 8),
])  # fmt: skip
def test_values_are_linear_in_the_states_that_are_asked_for(state, projected, width):
    training = lea(augmentation=False, state=state, projected=projected)
    for network in training.networks:
        assert network.head("q").weight.shape == (ITEMS, width)
        assert network.head("supervised").weight.shape == (ITEMS, 8)


@pytest.mark.parametrize(("scale", "expected"), [
    ("raw", lambda raw: raw),
    ("standardised", lambda raw: (raw - 2) / 4),
    ("probability", lambda raw: 1 / (1 + np.exp(1 - (raw - 2) / 4))),
])  # fmt: skip
def test_rewards_come_in_three_scales(scale, expected):
    training = lea(augmentation=False, scale=scale)
    raw = training.data.infos["reward"][training.data.states + 1]
    np.testing.assert_allclose(training.worth[:, 0], expected(raw), rtol=1e-5)


def test_more_negatives_are_drawn_from_those_that_were_judged():
    training = lea(augmentation=False, negatives=40)
    drawn, batch = training.compared(all_steps(training)), all_steps(training)
    judged = training.data.infos["negatives"][training.data.states + 1]
    for row in range(len(batch)):
        assert drawn[row, 0] == batch.actions[row]
        assert set(drawn[row, 1:].tolist()) == set(judged[row].tolist())


# ------------------------------------------------------------------------------- what is asked


def test_it_asks_after_the_warm_up_and_again_every_so_many_steps(fond):
    training = lea(warm=False, warmup_steps=4, steps=20, refresh=5)
    seen = []
    for at in range(15):
        before = len(fond.asked)
        training._advance()
        if len(fond.asked) > before:
            seen.append(at)
    assert seen == [4, 9, 14]
    assert len({seed for _, _, seed in fond.asked}) == 3  # each time in another order


def test_a_share_of_the_steps_may_be_asked_about(fond):
    training = lea(asked=5)
    training.augment()
    known = training.found["actions"] >= 0
    assert known.sum() == 5 == len(fond.asked[0][1])
    network, batch = training.networks[0], all_steps(training)
    scores = network.head("supervised")(network.state(batch.seen))
    expected = functional.cross_entropy(scores[known], training.found["actions"][known])
    terms, done = losses(training), _crossed(training, scores, batch.actions)
    both = terms["supervised"] + terms["augmented"] - done.item()
    assert both == pytest.approx(0.1 * expected.item(), rel=1e-4)
    few = batch.rows[~known.numpy()][:4]
    terms = training.loss(*training.networks, training.data.batch(few, training.on))
    assert terms["augmented"].item() == terms["augmented td"].item() == 0


def test_skipped_items_are_no_part_of_what_the_simulator_knows():
    training = lea(augmentation=False)
    data = training.data
    data.answers = np.zeros_like(data.items)
    data.view = replace(data.view, skip=1)
    whole = training._histories(np.arange(len(data)))
    data.answers[:, ::2] = 1
    some = training._histories(np.arange(len(data)))
    for row, state in enumerate(data.states):
        kept = [item for item in data.items[state][1::2] if item != ITEMS]
        assert [item for item in some[row] if item != ITEMS] == kept
        assert [item for item in whole[row] if item != ITEMS] == [
            item for item in data.items[state] if item != ITEMS
        ]


def test_what_was_asked_is_kept_with_a_checkpoint(fond, tmp_path):
    """A training that is stopped between two questions goes on as if it had not been."""
    options = {"warmup_steps": 3, "steps": 12, "refresh": 5}
    data = answered()
    whole = advanced(lea(data, warm=False, **options), 12)
    parts = []
    for steps in (6, 6):
        part = lea(data, warm=False, **options)
        part._run = Run(tmp_path)
        part._resume(part._run.checkpoint, data, None)
        parts.append(advanced(part, steps))
        part._keep()
    assert_same_bits(parts[1], whole)
    assert part.found["actions"].dtype == torch.long
    again = lea(data, warm=False, **options)
    again.on, again._run = torch.device("meta"), Run(tmp_path)  # as another device than the file's
    again._resume(again._run.checkpoint, data, None)
    assert {found.device for found in again.found.values()} == {again.on}


# ---------------------------------------------------------------------------------- controls


def test_shuffled_rewards_stay_with_their_step_and_leave_their_items():
    plain, control = lea(augmentation=False), lea(augmentation=False, control="rewards")
    np.testing.assert_array_equal(np.sort(plain.worth, 1), np.sort(control.worth, 1))
    assert (plain.worth[:, 0] != control.worth[:, 0]).mean() > 0.5


def test_states_of_noise_are_of_the_same_size():
    data = answered(sessions=[np.arange(5) % ITEMS] * 400)
    told = Steps(data, infos=("state",)).told
    noise = lea(data, augmentation=False, control="states").data.told
    np.testing.assert_allclose(noise.mean(0), told.mean(0), atol=0.1)
    np.testing.assert_allclose(noise.std(0), told.std(0), rtol=0.1)
    assert abs(np.corrcoef(noise[:, 0], told[:, 0])[0, 1]) < 0.1


@pytest.mark.parametrize("control", ["rewards", "states"])
def test_a_control_of_what_is_not_learned_from_is_refused(control):
    with pytest.raises(InvalidArgument) as problem:
        lea(**NONE, control=control)
    assert said(problem) == (
        f"control='{control}' spoils a simulator's {control}, and none are learned from: take "
        "them from the simulator, or control='none'."
    )


# --------------------------------------------------------------------------------- it learns


@pytest.mark.parametrize("encoder", ["sasrec", "gru4rec"])
def test_it_learns_a_cycle_and_recommends_without_the_simulator(encoder, fond, monkeypatch):
    fond.n_items = 6
    sessions = [(first + np.arange(6)) % 6 for first in range(60)]
    data = answered("cycle", sessions=sessions, n_items=6, worth=(6.0, -2.0))
    options = {"size": 16, "batch_size": 64, "dropout": 0.0, "learning_rate": 0.01}
    options |= {"encoder": encoder, "steps": 150, "warmup_steps": 75, "refresh": 25}
    agent = LEA(**options).fit(data)
    assert hit_rate(agent, data) > 0.99
    assert len(fond.asked) == 3
    monkeypatch.setattr(LEA, "_chooser", None)
    held = logged("cycle-held", sessions, 6)  # nothing of a simulator is in it
    assert hit_rate(agent, held) > 0.99


@pytest.mark.parametrize("encoder", ["sasrec", "gru4rec"])
def test_what_it_learned_is_saved_and_loaded_without_the_simulator(encoder, fond, tmp_path):
    data = answered()
    agent = LEA(**SMALL, encoder=encoder, steps=6, warmup_steps=3, projected=2).fit(data)
    agent.save(tmp_path)
    seen = Steps(data).items
    again = LEA.load(tmp_path)
    np.testing.assert_array_equal(again.scores(seen, {}), agent.scores(seen, {}))


def test_what_a_simulator_likes_is_recommended_more(fond):
    """Augmented actions teach: the user takes the highest of the five best."""
    sessions = [np.random.default_rng(seed).integers(ITEMS, size=6) for seed in range(50)]
    data = answered("noise", sessions=sessions)
    options = {**SMALL, "steps": 200, "warmup_steps": 20, "refresh": 20, "learning_rate": 0.01,
               "rewards": "log", "state": "own", "advantages": False}  # fmt: skip
    seen = Steps(data).items
    liked = [
        LEA(**options, action_weight=weight, augmentation=weight > 0).fit(data).act(seen, {})
        for weight in (0.0, 5.0)
    ]
    assert (liked[1] == ITEMS - 1).mean() > 0.8 > (liked[0] == ITEMS - 1).mean()


# --------------------------------------------------------------------------------- bad input


def test_data_without_answers_are_refused():
    plain = logged("plain", [[0, 1, 2]] * 3, ITEMS)
    for name in VARIANTS:
        agent = LEA(**SMALL, steps=2, **NONE | VARIANTS[name])
        with pytest.raises(InvalidArgument, match=r"there is no recgym/plain/llm-v0.*export NAME"):
            agent.fit(plain)
    LEA(**SMALL, steps=2, **NONE).fit(plain)  # asks nobody
    with pytest.raises(InvalidArgument, match=r"no 'state' in its infos.*simulator export"):
        Steps(plain, infos=("state",))


def test_values_do_not_recommend():
    with pytest.raises(UnknownName, match="No head is named 'q'"):
        LEA(**SMALL, head="q")


def test_a_rival_gives_no_rewards():
    with pytest.raises(InvalidArgument, match="train with rewards='log'"):
        LEA(**SMALL, steps=2, user="popularity").fit(answered())


def test_five_items_are_needed_for_a_choice():
    few = answered(sessions=[[0, 1, 2]] * 3, n_items=3)
    with pytest.raises(InvalidArgument, match="augmentation=False"):
        LEA(**SMALL, steps=2).fit(few)


def test_values_see_the_simulator_at_each_of_their_states():
    """Q(s_t+1) is of the state after the step, also of the copy that is the target."""
    training = lea(augmentation=False, state="simulator", discount=1.0)
    data = training.data
    for network in training.networks:
        head_set(network.head("q"), 0.0, 0.0)
        with torch.no_grad():
            network.head("q").weight[:, 0] = 1.0
    batch = all_steps(training)
    following, staying = training.best_values(*training.networks, batch.next_seen, batch.seen)
    np.testing.assert_allclose(following, data.told[data.states + 1, 0], rtol=1e-5)
    np.testing.assert_allclose(staying, data.told[data.states, 0], rtol=1e-5)
