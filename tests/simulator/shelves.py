"""A small world of texts: twelve items on two shelves, and users who stay at one of them."""

import numpy as np

from ..agents.worlds import logged

SHELVES = ("garden", "kitchen")
N_ITEMS = 12
NAMES = ("lamp", "table", "knife", "basket", "cloth", "stool")
TITLES = [f"{SHELVES[item % 2]} {NAMES[item // 2]}" for item in range(N_ITEMS)]
SENTENCES = [f", product is titled {title}." for title in TITLES]
TEXTS = [
    *[f"A {title} belongs to the {title.split()[0]} shelf." for title in TITLES],
    *[f"first second third fourth fifth, {sentence}" for sentence in SENTENCES],
    "The user has bought these products in chronological order, based on the purchase history.",
    "The user has listened to these tracks in chronological order, based on the history.",
]


def sessions_of(count, seed, length=6):
    """Sessions that stay at one shelf."""
    rng = np.random.default_rng(seed)
    shelves = rng.integers(2, size=(count, 1))
    return rng.integers(N_ITEMS // 2, size=(count, length)) * 2 + shelves


def shelved(name, count, seed=0):
    """Their log as a dataset."""
    return logged(name, sessions_of(count, seed), N_ITEMS)
