"""A small made-up shop, so that everything can be tried before anything is downloaded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recgym.build import Tables
from recgym.errors import InvalidArgument

if TYPE_CHECKING:
    from recgym.engine import Engine
    from recgym.raw import RawFiles

TOPICS = [
    "boots",
    "coats",
    "gloves",
    "hats",
    "jackets",
    "lamps",
    "mugs",
    "rugs",
    "scarves",
    "shirts",
    "tents",
    "watches",
]
COLOURS = [
    "amber",
    "black",
    "blue",
    "copper",
    "green",
    "grey",
    "ivory",
    "olive",
    "red",
    "silver",
    "teal",
    "white",
]


@dataclass(frozen=True)
class Source:
    """Invented visits: Zipf popularity within topics, visitors who follow one or two of them."""

    needs: ClassVar[str] = ""
    visits: int = 2000  # how many
    items: int = 300  # how many

    def tables(self, raw: "RawFiles | None", engine: "Engine") -> Tables:
        """Clicks, some followed by a purchase of the same item."""
        import pyarrow as pa

        for option, count in (("visits", self.visits), ("items", self.items)):
            if count < 1:
                raise InvalidArgument(
                    f"{option} is a whole number from 1 on, and {count} was given."
                )
        rng = np.random.default_rng(0)
        topics = np.arange(self.items) % len(TOPICS)
        popularity = 1 / (1 + rng.permutation(self.items)) ** 0.8
        liked = rng.integers(len(TOPICS), size=(self.visits, 2))
        lengths = 2 + rng.geometric(0.15, self.visits)
        visits = np.repeat(np.arange(self.visits), lengths)
        stays = rng.random(len(visits)) < 0.85
        wanted = np.where(stays, liked[visits, 0], liked[visits, 1])
        keys = rng.gumbel(size=(len(visits), self.items)) + np.log(popularity)
        items = np.where(topics == wanted[:, None], keys, -np.inf).argmax(1)
        begins = np.sort(rng.integers(90 * 86_400, size=self.visits)) + 1_700_000_000
        pauses = rng.integers(5, 300, len(visits))
        firsts = np.cumsum(lengths) - lengths
        elapsed = np.cumsum(pauses) - np.repeat(np.cumsum(pauses)[firsts], lengths)
        times = (np.repeat(begins, lengths) + elapsed) * 1_000_000
        bought = rng.random(len(visits)) < 0.06
        events = {
            "user": np.concatenate([visits, visits[bought]]),
            "item": np.concatenate([items, items[bought]]),
            "time": np.concatenate([times, times[bought] + 2_000_000]),
            "behaviour": np.repeat([0, 1], [len(visits), bought.sum()]),
        }
        names = [TOPICS[topic] for topic in topics]
        colours = [COLOURS[item // len(TOPICS) % len(COLOURS)] for item in range(self.items)]
        titles = [
            f"{colour} {name} no. {item}"
            for item, (colour, name) in enumerate(zip(colours, names, strict=True))
        ]
        catalogue = {"item": np.arange(self.items), "title": titles, "topics": names}
        return Tables(
            events=engine.from_arrow(pa.table(events)),
            behaviours=("click", "purchase"),
            positive=("click", "purchase"),
            items=engine.from_arrow(pa.table(catalogue)),
            user="visit",
            notes=("This log is invented: it shows how things work, and supports no claim.",),
        )
