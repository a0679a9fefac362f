"""What a language model is told of users and items: the paper's prompts, for each domain."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recgym.errors import InvalidArgument, UnknownName
from recgym.simulator.language import Language

POSITIONS = ("first", "second", "third", "fourth", "fifth")  # of the items to choose from
ASKING = " Compute the likelihood that"  # what follows a history; an item follows
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Domain:
    """The words for what is recommended."""

    item: str  # one of them
    items: str  # several
    did: str  # what users did with those before
    does: str  # what a user does with the next one
    history: str  # all that a user did
    clauses: tuple[str, ...]  # of the sentence on an item; one whose {field} is empty is left out

    @property
    def opening(self) -> str:
        """What every prompt begins with; a history follows."""
        return f"The user has {self.did} these {self.items} in chronological order:"

    @property
    def asked(self) -> str:
        """What follows an item, of which a reward is asked."""
        return f" be the next {self.item} to be {self.did} based on the {self.history}."

    @property
    def listing(self) -> str:
        """What goes before the items to choose from."""
        return f" In the list of following {len(POSITIONS)} {self.items}:"

    @property
    def choosing(self) -> str:
        """What follows them; a position follows."""
        return (
            f", based on the history, select the number of the {self.item} that he is most likely "
            f"to continue to {self.does}."
        )


DOMAINS = {
    "tracks": Domain(
        "track", "tracks", "listened to", "listen to", "listening history",
        (", track is titled {title}", " from album {album}", ", its artist is {artist}"),
    ),
    "products": Domain(
        "product", "products", "bought", "buy", "purchase history",
        (", product is titled {title}", ", its categories are {topics}", ". {text}"),
    ),
    "movies": Domain(
        "movie", "movies", "watched", "watch", "watching history",
        (", movie is titled {title}", ", its genres are {topics}"),
    ),
    "books": Domain(
        "book", "books", "read", "read", "reading history",
        (", book is titled {title}", ", it is about {topics}"),
    ),
}  # fmt: skip


def domain_named(name: str) -> Domain:
    """The domain of that name."""
    if name not in DOMAINS:
        raise UnknownName("domain", name, DOMAINS, "A Domain of your own is taken as well.")
    return DOMAINS[name]


def sentence_of(domain: Domain, fields: Mapping[str, str]) -> str:
    """What follows an item's token in the sentence on it; nothing where no field is known."""
    known = {name: " ".join(text.split()) for name, text in fields.items() if text.strip()}
    said = [clause.format_map(known) for clause in domain.clauses
            if set(_FIELD.findall(clause)) <= known.keys()]  # fmt: skip
    return f"{''.join(said).rstrip('.')}." if said else ""


class Prompts:
    """The prompts of a language, as tokens; `spelled` are the items' own words, in their place."""

    def __init__(
        self, language: Language, domain: Domain, spelled: Sequence[Sequence[int]] | None = None
    ) -> None:
        """Spell out all that is said every time."""
        tokens = language.tokens
        self.language, self.domain, self._spelled = language, domain, spelled
        self._opening = [
            *language.begins,
            *language.opening(domain.opening),
        ]
        self._comma = tokens(",")
        self._between = [] if spelled is None else self._comma  # items in a list
        self._longest = 1 if spelled is None else max(map(len, spelled), default=0)  # of items
        self._asking, self._asked = tokens(ASKING), tokens(domain.asked)
        self._listing, self._choosing = tokens(domain.listing), tokens(domain.choosing)
        self.labels = [tokens(f" {word}") for word in POSITIONS]
        self.dropped = 0  # items, the oldest, for which a prompt had no room
        item = self._longest + len(self._between)
        label = max(map(len, self.labels))
        least = max(
            len(self.likelihood(())) + 2 * item + len(self._asked),
            len(self.choice((), ())) + (1 + len(POSITIONS)) * item + label,
        )
        if least > language.positions:
            fewer = "" if spelled is None else ", or items of fewer words"
            raise InvalidArgument(
                f"{language.name} reads {language.positions:,} tokens, and the shortest prompts "
                f"have up to {least:,}: take a model with more positions{fewer}."
            )

    def item(self, item: int) -> list[int]:
        """An item: one token, or its own words."""
        return [self.language.words + item] if self._spelled is None else [*self._spelled[item]]

    def state(self, history: Sequence[int]) -> list[int]:
        """The items alone, oldest first: what the state model reads."""
        return [*self.language.begins, *self._items(history, len(self.language.begins))]

    def likelihood(self, history: Sequence[int]) -> list[int]:
        """What is said of a user before an item is named, whichever it is."""
        rest = [*self._comma, *self._asking]
        others = len(self._opening) + len(rest) + self._longest + len(self._asked)
        return [*self._opening, *self._items(history, others), *rest]

    def of(self, item: int) -> list[int]:
        """And after that."""
        return [*self.item(item), *self._asked]

    def choice(self, history: Sequence[int], candidates: Sequence[int]) -> list[int]:
        """The question which of five items comes next; a label follows."""
        rest = [*self._comma, *self._listing, *self._list(map(self.item, candidates))]
        rest += self._choosing
        others = len(self._opening) + len(rest) + max(map(len, self.labels))
        return [*self._opening, *self._items(history, others), *rest]

    def _items(self, history: Sequence[int], others: int) -> list[int]:
        """As many of the last items as there is room for beside other tokens."""
        items = [self.item(item) for item in history]
        lengths = np.array([len(item) + len(self._between) for item in reversed(items)], int)
        room = self.language.positions - others + len(self._between)
        kept = int((lengths.cumsum() <= room).sum())
        self.dropped += len(items) - kept
        return self._list(items[len(items) - kept :])

    def _list(self, items: Iterable[list[int]]) -> list[int]:
        """Items one after the other, with commas between those that are spelled."""
        found = [token for item in items for token in [*self._between, *item]]
        return found[len(self._between) :]
