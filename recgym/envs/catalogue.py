"""The invented catalogue of the oracle: topics, quality, popularity, titles."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recgym.envs.draws import keys_of, uniforms

_NOUNS = {
    "mystery": "Alibi Cellar Witness Lantern Footprint Locksmith Inquest Telegram",
    "romance": "Letter Garden Waltz Promise Veranda Bouquet Suitor Honeymoon",
    "travel": "Ferry Passport Caravan Harbour Compass Border Railway Island",
    "history": "Empire Treaty Archive Dynasty Siege Chronicle Crown Colony",
    "science": "Orbit Molecule Fossil Telescope Theorem Glacier Genome Pendulum",
    "cooking": "Orchard Kettle Saffron Bakery Cellarer Larder Harvest Marmalade",
    "fantasy": "Dragon Spell Oracle Talisman Griffin Sorcerer Labyrinth Prophecy",
    "sport": "Marathon Referee Stadium Oarsman Sprint Champion Penalty Summit",
    "music": "Sonata Violin Chorus Trumpet Lullaby Metronome Overture Ballad",
    "nature": "Heron Meadow Estuary Badger Thicket Monsoon Tundra Reef",
    "business": "Ledger Merchant Startup Auction Factory Shareholder Invoice Bazaar",
    "poetry": "Verse Sonnet Elegy Stanza Refrain Quill Metaphor Couplet",
}
_ADJECTIVES = """
Amber Ancient Autumn Blue Borrowed Bright Broken Burning Copper Crimson Distant
Empty Faded Final Forgotten Frozen Gentle Gilded Golden Hidden Hollow Honest Iron
Ivory Last Little Lonely Lost Midnight Patient Quiet Restless Scarlet Second Secret
Silent Silver Stolen Velvet Winter
""".split()  # noqa: SIM905
_ORDER, _HOLD, _QUALITY, _FAME = range(1, 5)  # what is drawn, each on draws of its own


class Catalogue:
    """The items of a world. Every number in it comes from draws that no library can change."""

    def __init__(
        self,
        n_items: int,
        n_topics: int,
        quality: tuple[float, float],
        hold: tuple[float, float],
        seed: int,
    ) -> None:
        """Draw a world."""

        def draw(what: int, count: int) -> NDArray[np.float64]:
            return uniforms(
                keys_of(np.array([seed], np.uint64), np.array([what])), np.arange(count)
            )

        self.n_topics = n_topics
        self.topics = (draw(_ORDER, n_items).argsort(kind="stable") % n_topics).astype(np.int32)
        holds = hold[0] + (hold[1] - hold[0]) * np.arange(n_topics) / max(n_topics - 1, 1)
        self.hold = holds[draw(_HOLD, n_topics).argsort(kind="stable")]  # fleeting to lasting
        drawn = draw(_QUALITY, n_items)
        self.quality = quality[0] + (quality[1] - quality[0]) * drawn
        fame = drawn + draw(_FAME, n_items)  # good items are known better, by and large
        ranks = np.empty(n_items, np.int64)
        ranks[(-fame).argsort(kind="stable")] = np.arange(n_items)
        self.ranks = ranks  # 0 is the most popular
        self.popularity = 1 / (1.0 + ranks)
        # In this order, a topic is a stretch of items.
        self.by_topic = self.topics.argsort(kind="stable").astype(np.int32)
        self.bounds = np.searchsorted(self.topics[self.by_topic], np.arange(n_topics + 1))

    @cached_property
    def organic(self) -> "Drawing":
        """What users find by themselves: items of a topic by their popularity."""
        return Drawing(self, self.popularity)

    @cached_property
    def topic_names(self) -> list[str]:
        """A word for each topic."""
        names = list(_NOUNS)
        return [
            names[topic]
            if topic < len(names)
            else f"{names[topic % len(names)]} {topic // len(names) + 1}"
            for topic in range(self.n_topics)
        ]

    @cached_property
    def titles(self) -> list[str]:
        """A title for each item, unlike any other."""
        names, places = list(_NOUNS), np.empty(len(self.topics), np.int64)
        places[self.by_topic] = np.arange(len(places)) - self.bounds[self.topics[self.by_topic]]
        return [
            _title(
                names[topic % len(names)],
                place,
                topic // len(names),
                -(-self.n_topics // len(names)),
            )
            for topic, place in zip(self.topics.tolist(), places.tolist(), strict=True)
        ]


class Drawing:
    """Draws of an item of a given topic, and the probability of each item in its topic."""

    def __init__(self, catalogue: Catalogue, weights: NDArray[np.float64]) -> None:
        """Prepare: the sums of each item's share in its topic, in the order of topics."""
        self._items, self._bounds = catalogue.by_topic, catalogue.bounds
        ordered, of = weights[self._items], catalogue.topics[self._items]
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        totals = sums[self._bounds[1:]] - sums[self._bounds[:-1]]
        empty = totals <= 0  # no item of the topic has a weight: all are alike
        ordered = np.where(empty[of], 1.0, ordered)
        shares = ordered / np.where(empty, np.diff(self._bounds), totals)[of]
        self._sums = np.concatenate([[0.0], np.cumsum(shares)])
        self.shares = np.empty(len(weights))  # of each item in its topic
        self.shares[self._items] = shares

    def __call__(
        self, topics: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        """An item of each topic."""
        low, high = self._bounds[topics], self._bounds[topics + 1]
        wanted = self._sums[low] + uniform * (self._sums[high] - self._sums[low])
        order = wanted.argsort(axis=None)  # a search in order stays in the cache
        places = np.empty(wanted.shape, np.int64)
        places.flat[order] = np.searchsorted(self._sums, wanted.flat[order], side="right") - 1
        items: NDArray[np.int32] = self._items[np.clip(places, low, high - 1)]
        return items


def _title(topic: str, place: int, cycle: int, cycles: int) -> str:
    nouns = _NOUNS[topic].split()
    round_, within = divmod(place, len(nouns) * len(_ADJECTIVES))
    adjective = _ADJECTIVES[(within + within // len(_ADJECTIVES)) % len(_ADJECTIVES)]
    noun = nouns[within % len(nouns)]
    part = round_ * cycles + cycle + 1
    return f"The {adjective} {noun}" + (f", part {part}" if part > 1 else "")
