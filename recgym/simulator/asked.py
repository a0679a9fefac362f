"""What is asked for when a simulator is fitted: plain options, without what fits it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal, get_args

from tyro.conf import Suppress, arg

from recgym.errors import InvalidArgument

Role = Literal["training", "scoring"]  # agents, on disjoint users
ROLES: tuple[Role, ...] = get_args(Role)
Precision = Literal["float32", "bf16"]
Likeness = Literal["cosine", "scaled"]
SMALL = "recgym-small"  # the model that is made of the catalogue's own text

_Rule = tuple[Callable[[float], bool], str]
_COUNT: _Rule = (lambda value: 1 <= value < inf, "1 or more")
_AT_LEAST_0: _Rule = (lambda value: 0 <= value < inf, "0 or more")
_CHANCE: _Rule = (lambda value: 0 < value < 1, "between 0 and 1")
_BELOW_1: _Rule = (lambda value: 0 <= value < 1, "0 or more, and below 1")
_SHARE: _Rule = (lambda value: 0 < value <= 1, "above 0, and 1 at most")
_SEED: _Rule = (lambda value: 0 <= value < 2**32, "0 or more, and below 2 ** 32")


def _hold(options: object, **rules: _Rule) -> None:
    """Refuse what breaks a rule."""
    for name, (holds, rule) in rules.items():
        value = vars(options)[name]
        if not holds(value):
            raise InvalidArgument(f"The option {name} is {value}, and has to be {rule}.")


@dataclass(frozen=True)
class Tokenization:
    """How item tokens are learned; the paper takes all of 300 iterations and of the text."""

    iterations: int = 100  # at most
    learning_rate: float = 0.0  # of Adam; 0: .005, and .02 below ten million parameters
    tokens: int = 32  # of an item's text that are told
    patience: int = 5  # iterations without a lower loss that end it for an item; 0: none do
    least: float = 0.001  # by how much a loss is lower, as a share
    noise: float = 0.1  # added to the mean of all words' vectors, as a share of their spread
    together: int = 2048  # tokens in a batch of items; more suit a GPU
    seed: Annotated[int, Suppress] = 0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be used."""
        _hold(self, iterations=_COUNT, learning_rate=_AT_LEAST_0, tokens=_COUNT,
              patience=_AT_LEAST_0, least=_BELOW_1, noise=_AT_LEAST_0, together=_COUNT,
              seed=_SEED)  # fmt: skip


PAPER = Tokenization(iterations=300, learning_rate=0.005, patience=0, tokens=10_000)


@dataclass(frozen=True)
class Fit:
    """How a simulator is fitted; what the paper leaves open is marked so in the documentation."""

    share: float = 0.1  # of the training users that it learns from
    role: Annotated[Role, Suppress] = "training"  # which of disjoint shares it learns from
    epochs: int = 10  # over the moments of these users
    batches: int = 0  # at which it ends at the latest; 0: with the epochs
    batch_size: int = 20  # moments
    learning_rate: float = 0.0  # Adam's first; 0: .0001, and .003 below ten million parameters
    rank: int = 8  # of the adapter
    alpha: int = 16  # its scale is alpha / rank
    dropout: float = 0.05  # in the adapter
    state_weight: float = 1.0  # of the state model's loss; 0: there is none
    likeness: Likeness = "cosine"  # of a state and an item, over .1; or scaled: over sqrt(width)
    spelled: bool = False  # say titles in place of item tokens
    shuffled: bool = False  # as a control: what was taken and what was not are swapped by a coin
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be used, and shares that are not disjoint."""
        _hold(self, share=_SHARE, epochs=_COUNT, batches=_AT_LEAST_0, batch_size=_COUNT,
              learning_rate=_AT_LEAST_0, rank=_COUNT, alpha=_COUNT, dropout=_BELOW_1,
              state_weight=_AT_LEAST_0, seed=_SEED)  # fmt: skip
        if self.share * (1 + ROLES.index(self.role)) > 1:
            raise InvalidArgument(
                f"There is no share of {self.share:g} of the users for {self.role} beside as large "
                f"a one for {ROLES[0]}: take {1 / len(ROLES):g} at most, or fit for {ROLES[0]} "
                "only."
            )


@dataclass(frozen=True)
class Asked:
    """What is to be fitted, and how."""

    model: str = SMALL  # a name on the hub, or a folder
    untrained: bool = False  # as a control: the model's weights are drawn, not read
    domain: str = ""  # tracks, products, movies or books; empty: as the data's source suggests
    base_rate: float = 0.01  # share of all items that a user would take, had each been shown
    fit: Annotated[Fit, arg(name="")] = Fit()
    tokens: Tokenization = Tokenization()
    device: str = "cpu"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse a base rate that none can be."""
        _hold(self, base_rate=_CHANCE)
