"""What a purchase is worth to a goal: WebShop's reward, rule for rule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from recgym.errors import MissingExtra
from recgym.shop.catalogue import Catalogue, Product
from recgym.shop.goals import Goal
from recgym.shop.nouns import Nouns, nouns_named

try:
    from rapidfuzz.fuzz import token_set_ratio
    from rapidfuzz.utils import default_process
except ImportError:
    raise MissingExtra("The shop", "shop") from None

_ALIKE = 85.5  # WebShop asks for a score above 85, of scores rounded to whole numbers
_NO_NOUNS = 0.2  # the title score of a goal whose name has no nouns
_KEPT = 1 << 16  # texts whose form is known


@dataclass(frozen=True, slots=True)
class Reward:
    """What a purchase is worth, and why."""

    total: float  # from 0 to 1
    type: float  # is it that kind of product? 1, 0.5, 0.1 or 0: a factor of the rest
    attributes: float | None  # the share of those asked for that it has; None: none was asked for
    options: float | None  # the share of those asked for that were chosen
    price: bool  # is it low enough?
    title_score: float  # the share of the nouns of the name asked for that its name has
    same_query: bool  # was it found by the same query when products were gathered?
    same_category: bool  # have their paths two or more parts in common?

    @property
    def is_success(self) -> bool:
        """Is it all that was asked for?"""
        return self.total == 1


class Judge:
    """Tells what a purchase is worth; made once, as it remembers the nouns of names."""

    def __init__(self, nouns: str | Nouns = "auto") -> None:
        """Find nouns by `spacy`, by `rule-1`, by `auto` (spaCy where it is installed), or so."""
        self._find = nouns_named(nouns) if isinstance(nouns, str) else nouns
        self.nouns = self._find.name  # to be recorded with every score
        self._nouns = lru_cache(_KEPT)(self._of)

    def reward(
        self, product: Product, chosen: Mapping[str, str], goal: Goal, compat: bool = False
    ) -> Reward:
        """What buying a product is worth to a goal, with these options chosen (group -> value).

        `compat` compares the options of synthetic goals as WebShop's code does, each as a pair of
        group and value: 458 of the 6,910 goals of the official products are then out of reach.
        """
        kind, title_score, same_query, same_category = self._kind(product, goal)
        has = _attributes_found(product, goal.attributes)
        wanted = [_wanted_pair(*each) if compat else _form(each[1]) for each in goal.options]
        given = [_form(value) for value in chosen.values()]
        fits = sum(any(_alike(value, option) for value in given) for option in wanted)
        low = product.price <= goal.price_upper
        asked = len(goal.attributes) + len(wanted) + 1
        return Reward(
            total=(has + fits + low) / asked * kind,
            type=kind,
            attributes=has / len(goal.attributes) if goal.attributes else None,
            options=fits / len(wanted) if wanted else None,
            price=low,
            title_score=title_score,
            same_query=same_query,
            same_category=same_category,
        )

    def _kind(self, product: Product, goal: Goal) -> tuple[float, float, bool, bool]:
        """Is it the kind of product that is wanted? As WebShop decides: later rules overrule."""
        listed, distinct = self._nouns(goal.name)
        common = len(distinct & self._nouns(product.name)[1])
        title_score = common / len(listed) if listed else _NO_NOUNS
        same_query = product.query == goal.query
        same_category = len(set(product.path).intersection(goal.path)) >= 2
        kind = 1.0 if same_query or same_category or title_score > 0.2 else 0.5
        if title_score < 0.1:
            kind = 0.1 if title_score else 0.0
        return kind, title_score, same_query, same_category

    def _of(self, name: str) -> tuple[list[str], frozenset[str]]:
        found = self._find(name)
        return found, frozenset(found)


def options_of(product: Product, goal: Goal) -> dict[str, str]:
    """What to choose of a product's options so that they fit a goal as well as they can."""
    chosen: dict[str, str] = {}
    for group, value in goal.options:
        if value in product.options.get(group, ()):
            chosen[group] = value
            continue
        wanted = _form(value)
        scores = [
            (token_set_ratio(wanted, _form(other)), _plain(other) == _plain(value), name, other)
            for name, others in product.options.items() if name not in chosen for other in others
        ]  # fmt: skip
        if scores and (best := max(scores, key=lambda score: score[:2]))[0] >= _ALIKE:
            chosen[best[2]] = best[3]
    return chosen


def own_rewards(
    judge: Judge, catalogue: Catalogue, goals: Sequence[Goal], compat: bool = False
) -> Iterator[Reward]:
    """What each goal pays who buys its own product with the options that it asks for."""
    for goal in goals:
        product = catalogue.products[goal.product]
        yield judge.reward(product, options_of(product, goal), goal, compat)


def out_of_reach(
    judge: Judge, catalogue: Catalogue, goals: Sequence[Goal], compat: bool = False
) -> list[int]:
    """The numbers of the goals that do not pay 1 even for their own product."""
    rewards = own_rewards(judge, catalogue, goals, compat)
    return [number for number, reward in enumerate(rewards) if not reward.is_success]


def _attributes_found(product: Product, wanted: Sequence[str]) -> int:
    """How many of the attributes that are asked for a product has, or says in its texts."""
    missing = [each for each in wanted if not _is_listed(product, each)]
    if not missing:
        return len(wanted)
    texts = product.name.lower(), " ".join(product.bullets).lower(), product.description.lower()
    said = sum(any(each in text for text in texts) for each in missing)
    return len(wanted) - len(missing) + said


def _is_listed(product: Product, attribute: str) -> bool:
    wanted = _plain(attribute)
    return any(_alike(_plain(each), wanted) for each in product.attributes)


def _alike(one: str, other: str) -> bool:
    """The same tokens, or nearly: as thefuzz decides, of texts that are plain already."""
    if one == other:
        return bool(one)
    return token_set_ratio(one, other, score_cutoff=_ALIKE) > 0


@lru_cache(_KEPT)
def _plain(text: str) -> str:
    """Letters and digits in lower case, without the signs of Latin-1, as thefuzz compares them."""
    return default_process(text.translate(_NOT_ASCII))


@lru_cache(_KEPT)
def _form(value: str) -> str:
    """A value of an option as it is compared: the first colour that it names, if any."""
    return _plain(next((colour for colour in COLOURS if colour in value), value))


@lru_cache(_KEPT)
def _wanted_pair(group: str, value: str) -> str:
    """An option that a goal asks for as WebShop's code compares it, which takes it for a pair."""
    if not group:  # people's goals list values only
        return _form(value)
    pair = (group, value)
    return _plain(next((colour for colour in COLOURS if colour in pair), str(pair)))


_NOT_ASCII = dict.fromkeys(range(128, 256))  # what thefuzz leaves out, and no more

# Of WebShop, in its order: the first of them that is part of a text counts.
_COLOURS = """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown
    burgundy camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee
    cognac copper coral cranberry cream crystal dark denim eggplant elephant espresso fuchsia
    gold granite grape graphite grass gray green grey heather indigo ivory ivy khaki lavender
    lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor
    mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red
    rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower
    tan  taupe teal tiger turquoise violet walnut wheat white wine yellow
"""
COLOURS = tuple(_COLOURS.split())
