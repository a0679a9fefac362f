"""What each agent learns in a small world where the right answer is known."""

import numpy as np
import pytest

from recgym.agent import load_agent
from recgym.agents.baselines import Popular
from recgym.agents.batches import Steps
from recgym.runs import Run, metrics_of

from .worlds import (
    LATER,
    NOW,
    PURCHASE,
    cyclic,
    hidden_type,
    hit_rate,
    markov,
    ranked,
    shuffled,
    two_steps,
)

pytestmark = pytest.mark.usefixtures("one_thread")

AGENTS = [
    "supervised", "modern", "sqn", "sac", "snqn", "sa2c",
    "sqn-hist", "sqn-fut", "sqn-cat", "sqn-eval", "crr-transformer-small", "dpo",
]  # fmt: skip
LONG_TERM = ["sqn", "snqn", "sa2c"]
QUICK = {"size": 16, "batch_size": 32, "steps": 150, "learning_rate": 0.01}


def learned(name, train, validation=None, seed=0, **options):
    """An agent of that name that has learned."""
    return load_agent(name)(**(QUICK | options), seed=seed).fit(train, validation)


# ---------------------------------------------------------------------------- three-item world


@pytest.mark.parametrize("name", AGENTS)
def test_a_world_of_three_items_is_solved(name):
    train, fresh = cyclic("three"), cyclic("fresh", sessions=3)
    assert hit_rate(learned(name, train), fresh) > 0.99


@pytest.mark.parametrize("name", ["snqn", "sa2c"])  # those that learn what was never done
def test_a_world_of_three_items_is_solved_by_values_alone(name):
    train, fresh = cyclic("three"), cyclic("fresh", sessions=3)
    assert hit_rate(learned(name, train, head="q", negatives=2), fresh) > 0.99


# ----------------------------------------------------------------------------- shuffled targets


@pytest.mark.parametrize("name", AGENTS)
def test_shuffled_targets_leave_only_popularity(name):
    train, fresh = shuffled("train", 0), shuffled("fresh", 1, sessions=1500)
    validation = shuffled("validation", 2, split="validation")
    agent = learned(name, train, validation, steps=120, validate_every=20)
    found = ranked(agent, fresh, 10, "ndcg")
    popular = ranked(Popular().fit(train), fresh, 10, "ndcg")
    gains = found - popular
    noise = gains.std() / np.sqrt(len(gains))
    assert gains.mean() < 3 * noise
    assert gains.mean() > -0.1 * popular.mean()  # and no less than it


# ------------------------------------------------------------------------------- two-step world


def first_choice(name, encoder="sasrec", **options):
    train = two_steps("steps", history=4)
    options = {"dropout": 0.0, "learning_rate": 0.01, "steps": 300, "head": "q"} | options
    agent = learned(name, train, encoder=encoder, **options)
    return int(agent.act(train[0].observations[:1], {})[0])


@pytest.mark.parametrize("name", LONG_TERM)
def test_what_pays_later_is_chosen_by_values_that_look_ahead(name):
    assert first_choice(name, discount=0.9) == LATER


@pytest.mark.parametrize("name", LONG_TERM)
def test_what_pays_now_is_chosen_by_the_twin_that_looks_no_step_ahead(name):
    assert first_choice(name, discount=0.0) == NOW


# --------------------------------------------------------------------------------- Markov chain


def is_successor(steps):
    """(steps,): is the target what follows its history most often?"""
    seen = steps.items[steps.states]
    last = seen[np.arange(len(seen)), np.maximum((seen < steps.n_items).sum(1) - 1, 0)]
    return steps.actions == (last + 1) % steps.n_items


def best_possible(data):
    """The share of the targets after a history that the best guess hits."""
    steps = Steps(data)
    return float(is_successor(steps)[~steps.empty].mean())


def test_a_chain_is_learned_as_well_as_it_can_be():
    train, fresh = (markov(f"m{seed}", seed, n_items=20, sessions=600) for seed in (0, 1))
    agent = learned("supervised", train, encoder="gru4rec", size=32, batch_size=64, steps=300)
    assert abs(hit_rate(agent, fresh) - best_possible(fresh)) < 0.02


@pytest.mark.long
@pytest.mark.parametrize(
    ("encoder", "size", "batch_size", "steps"),
    [
        ("gru4rec", 32, 128, 400),
        ("sasrec", 32, 128, 400),
        ("nextitnet", 32, 128, 400),
        ("caser", 64, 256, 600),
    ],
)
def test_each_encoder_learns_a_chain_and_values_beside_it_do_not_harm(
    encoder, size, batch_size, steps
):
    train, validation = markov("train", 0), markov("valid", 1, sessions=500, split="validation")
    fresh = markov("fresh", 2, sessions=8000)
    best = best_possible(fresh)
    assert best == pytest.approx(0.804, abs=0.008)  # .8 + .2 / 50, and the noise of so many

    def found(name, steps):
        options = {"batch_size": batch_size, "size": size, "learning_rate": 0.005}
        agent = learned(
            name, train, validation, encoder=encoder, steps=steps, validate_every=50, **options
        )
        return hit_rate(agent, fresh)

    alone = found("supervised", steps)
    assert abs(alone - best) < 0.02
    # Of two copies, each learns half of the time; and half-way, SA2C begins anew with a lower rate.
    for name, times in (("sqn", 2), ("snqn", 2), ("sa2c", 4)):
        assert found(name, times * steps) > alone - 0.02, name


@pytest.mark.long
def test_a_second_stage_of_regression_does_not_harm_what_the_first_learned():
    train, validation = markov("train", 0), markov("valid", 1, sessions=500, split="validation")
    fresh = markov("fresh", 2, sessions=8000)
    options = {
        "size": 32, "hidden": 32, "critic_size": 32, "batch_size": 128, "learning_rate": 0.005,
        "validate_every": 50, "patience": 0,
    }  # fmt: skip
    alone = learned(
        "crr-transformer-small", train, validation, stages="first", steps=400, **options
    )
    both = learned(
        "crr-transformer-small", train, validation, warmup_steps=400, steps=800, **options
    )
    assert abs(hit_rate(alone, fresh) - best_possible(fresh)) < 0.02
    assert hit_rate(both, fresh) > hit_rate(alone, fresh) - 0.02


# ------------------------------------------------------------------------------ a hidden type


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_actors_find_more_of_the_purchases_than_imitation(seed):
    train, fresh = hidden_type("train", seed), hidden_type("fresh", 100 + seed)
    options = {"encoder": "gru4rec", "size": 32, "batch_size": 64, "seed": seed, "steps": 400}

    def purchases(name):
        agent = learned(name, train, **options, learning_rate=0.005)
        return hit_rate(agent, fresh, where=lambda steps: steps.rewards == PURCHASE)

    alone = purchases("supervised")
    for name in ("sac", "sa2c"):
        assert purchases(name) >= alone, name


# --------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("name", AGENTS)
def test_the_same_seed_makes_the_same_metrics(name, tmp_path):
    train, validation = shuffled("train", 0), shuffled("valid", 1, split="validation")
    told, scores = [], []
    for which, seed in enumerate((5, 5, 6)):
        folder = tmp_path / str(which)
        folder.mkdir()
        agent = load_agent(name)(**QUICK | {"steps": 30}, validate_every=10, seed=seed)
        agent.fit(train, validation, run=Run(folder))
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in metrics_of(folder)]
        told.append(lines)
        scores.append(agent.scores(train[0].observations, {}))
    assert len(told[0]) >= 3 and "ndcg@10" in told[0][0]
    assert told[0] == told[1] != told[2]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
