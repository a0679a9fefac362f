"""Small worlds as Minari datasets, and agents in training into which tests look."""

import copy

import minari
import numpy as np
import torch
from gymnasium import spaces

from recgym.agents.batches import Steps
from recgym.agents.sqn import Look
from recgym.episodes import NONE, Episodes, history_space, offsets_of
from recgym.evaluation.ranking import metrics, rank
from recgym.export import made_here, new_storage, writing_dataset

CPU = torch.device("cpu")
CLICK, PURCHASE = 0.2, 1.0
ITEMS = 7
SMALL = {"size": 8, "batch_size": 8, "dropout": 0.0}


def logged(
    name, sessions, n_items, *, rewards=None, actions=None, shown=None, behaviours=None,
    cut=False, history=5, split="train", infos=None, simulator=None,
):  # fmt: skip
    """Sessions of items; rewards are 1, actions are the items and join histories unless given."""
    lengths = np.array([len(session) for session in sessions], np.int64)

    def flat(lists, dtype):
        return np.concatenate([np.asarray(part, dtype) for part in lists])

    items = flat(sessions, np.int32)
    joined = items if shown is None else np.where(flat(shown, bool), items, np.int32(NONE))
    last = np.zeros(len(items), bool)
    last[np.cumsum(lengths) - 1] = True
    cut = np.repeat(np.broadcast_to(cut, len(lengths)), lengths)
    states = {f"infos/{name}": column for name, column in (infos or {}).items()}
    if behaviours is not None:
        states["infos/behaviour"] = flat([[255, *part] for part in behaviours], np.uint8)
    episodes = Episodes(
        lengths,
        {
            "actions": items if actions is None else flat(actions, np.int32),
            "rewards": np.ones(len(items)) if rewards is None else flat(rewards, float),
            "terminations": last & ~cut,
            "truncations": last & cut,
            "consumed/observations": joined,
        },
        states,
        {"observations": (np.zeros(0, np.int32), offsets_of(0 * lengths))},
        dtypes={"actions": np.dtype(np.int64), "observations": np.dtype(np.int32)},
    )
    known = f"recgym/{name}/logged-v0"
    with writing_dataset(known, replace=True) as folder:
        observed, acted = history_space(n_items, history), spaces.Discrete(n_items)
        storage = new_storage(folder, observed, acted, None, "recgym")
        about = {"dataset_id": known, "split": split, "layout": {"history": [0, history]}}
        about |= {"simulator": simulator} if simulator else {}
        storage.update_metadata(made_here() | about)
        storage.append(episodes)
    return minari.load_dataset(known)


# -------------------------------------------------------------------------------------- worlds


def shop(name="shop", **options):
    """Sessions with clicks and purchases."""
    rng = np.random.default_rng(0)
    sessions = [rng.integers(ITEMS, size=length) for length in (1, 2, 3, 5, 8, 4)]
    rewards = [rng.choice([CLICK, PURCHASE], len(session)) for session in sessions]
    return logged(name, sessions, ITEMS, rewards=rewards, **options)


def cyclic(name, n_items=3, sessions=60, length=6, **options):
    """Each item is followed by the next one, and the last by the first."""
    whole = [(first + np.arange(length)) % n_items for first in range(sessions)]
    return logged(name, whole, n_items, **options)


def successions(rng, n_items, sessions, length, kept=0.8, popularity=None):
    """(sessions, length): an item is followed by the next one, or by one that is drawn."""
    found = rng.choice(n_items, (sessions, length), p=popularity)
    for step in range(1, length):
        keeps = rng.random(sessions) < kept
        found[keeps, step] = (found[keeps, step - 1] + 1) % n_items
    return found


def markov(name, seed, sessions=2000, n_items=50, length=6, **options):
    """The best guess is the next item: right in .804 of all cases for 50 items."""
    rng = np.random.default_rng(seed)
    return logged(name, successions(rng, n_items, sessions, length), n_items, **options)


def shuffled(name, seed, sessions=400, n_items=30, length=6, **options):
    """Histories as in a chain, and targets that were shuffled: only popularity can be learned."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, n_items + 1)
    items = successions(rng, n_items, sessions, length, 0.5, popularity / popularity.sum())
    targets = rng.permutation(items.flatten()).reshape(items.shape)
    return logged(name, items, n_items, actions=targets, **options)


NOW, LATER, THEN = 1, 2, 3


def two_steps(name, sessions=400, n_items=5, **options):
    """`NOW` earns .5 and nothing follows; `LATER` earns .2, and `THEN` after it 1."""
    pairs = np.stack(np.divmod(np.arange(sessions) % n_items**2, n_items), 1)
    rewards = np.zeros(pairs.shape)
    rewards[pairs[:, 0] == NOW, 0] = 0.5
    rewards[pairs[:, 0] == LATER, 0] = 0.2
    rewards[(pairs[:, 0] == LATER) & (pairs[:, 1] == THEN), 1] = 1.0
    return logged(name, pairs, n_items, rewards=rewards, **options)


def mostly_refused(name, seed, sessions=400, n_items=10, length=6, **options):
    """Only what follows in a cycle is taken and earns 1; anything else costs 1."""
    items = successions(np.random.default_rng(seed), n_items, sessions, length, 0.2)
    rewards = np.full(items.shape, -1.0)
    rewards[:, 1:][items[:, 1:] == (items[:, :-1] + 1) % n_items] = 1.0
    return logged(name, items, n_items, rewards=rewards, **options)


def hidden_type(name, seed, sessions=600, n_items=40, length=6, **options):
    """Every other item is bought; a click follows an item more often than its purchase does."""
    rng = np.random.default_rng(seed)
    items = rng.integers(n_items, size=(sessions, length))
    for step in range(1, length):
        before, kind = items[:, step - 1], rng.random(sessions)
        even = before - before % 2
        items[:, step] = np.where(
            kind < 0.45,
            (even + 2) % n_items,  # is clicked
            np.where(kind < 0.8, (even + 3) % n_items, items[:, step]),  # is bought
        )
    rewards = np.where(items % 2, PURCHASE, CLICK)
    return logged(name, items, n_items, rewards=rewards, **options)


# ------------------------------------------------------------------------------- looking inside


def in_training(agent, train, validation=None, env=None):
    """A copy of an agent that is about to learn, as its `fit` makes one."""
    training = copy.copy(agent)
    training._begin(train, validation, env=env)
    return training


def learning(kind, data=None, **options):
    """An agent in training, its weights far from where they begin."""
    training = in_training(kind(**(SMALL | options)), data or shop())
    for number, network in enumerate(training.networks):
        scattered(network, number)
    return training


def all_steps(training):
    """All steps of the data, as a batch."""
    return training.data.batch(np.arange(len(training.data)), CPU)


def looked(training, batch, values=None):
    """A batch as the first copy of the networks sees it; its own values, unless they are given."""
    network, other = training.networks
    state = network.state(batch.seen)
    if values is None:
        valued = network.valued(state, batch.seen)
        values = network.head("q").of(valued, training.compared(batch))
    return Look(network, other, batch, state, values)


def advanced(training, steps):
    """The weights of all copies after so many steps."""
    for _ in range(steps):
        training._advance()
    return {name: weights.clone() for name, weights in training._all.state_dict().items()}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        assert torch.equal(found[name], weights), name


def head_set(head, weight=0.0, bias=0.0):
    """Give a head the same weights everywhere, and these biases."""
    with torch.no_grad():
        head.weight.fill_(weight)
        head.bias.copy_(torch.as_tensor(bias, dtype=head.bias.dtype).expand_as(head.bias))


def scattered(module, seed=0, scale=0.5):
    """Draw all weights far from where they begin."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in module.parameters():
            weights.normal_(0, scale, generator=generator)
    return module


def ranked(agent, data, at=1, kind="hr", where=None):
    """A metric of each target after a history; `where` keeps some of the steps."""
    steps = Steps(data)
    rows = np.flatnonzero(~steps.empty & (True if where is None else where(steps)))
    observations, targets = steps.items[steps.states[rows]], steps.actions[rows]
    found = rank(lambda some: agent.scores(observations[some], {}), targets, steps.n_items)
    return metrics(found.greater, found.equal, [at])[f"{kind}@{at}"]


def hit_rate(agent, data, at=1, where=None):
    """How often the target is among the first ones."""
    return float(ranked(agent, data, at, "hr", where).mean())
