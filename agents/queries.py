"""What is searched for: a goal's own words, those of them that are worth it, or what a model says.

Which words are worth it is learned from what was searched for: each word of a goal is kept or left
out, by logistic regression on what it is and where it stands. Models are those of WebShop's agents:
a BART, trained elsewhere, writes a query for an instruction (Yao et al., 2022).
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from recgym.agents.choices import Session, query_of
from recgym.agents.wordpieces import PRODUCTS, Product, prepared
from recgym.errors import InvalidArgument, printable
from recgym.published import quietly, read_published, transformers_for
from recgym.shop.goals import without_price
from recgym.shop.pages import LONGEST
from recgym.simulator.language import sha256_of

RULE, LEARNED = "rule", "learned"
_KEPT = 1 << 14  # goals whose queries are kept
_TOKENS, _BEAMS = 256, 5  # of an instruction and of a query, at most; of a search for the best
_SIGNS = ".,:;!?()[]\"'"  # around words
_PLACES = 9  # from the first word on, of which each is told apart
_ITERATIONS = 100  # at most, of L-BFGS


class Queries:
    """Searches by rule: for a goal's own words."""

    @property
    def parameters(self) -> int:
        """How many numbers write them."""
        return 0

    @property
    def about(self) -> dict[str, Any]:
        """What is saved of them with an agent, as JSON."""
        return {}

    def __call__(self, goal: str) -> str:
        """A search for a goal."""
        return query_of(goal)


class _Written(Queries):
    """Searches that are written, each once; by rule, where nothing that can be searched for is."""

    def __init__(self) -> None:
        self._search, self._said = lru_cache(_KEPT)(self._searched), False

    def __call__(self, goal: str) -> str:
        return self._search(goal)

    def words(self, goal: str) -> str:
        """What is searched for."""
        raise NotImplementedError

    def _searched(self, goal: str) -> str:
        words = " ".join(self.words(goal).split())
        if 0 < len(words) <= LONGEST:
            return f"search[{words}]"
        if not self._said:
            warnings.warn(
                f"A query of {len(words):,} characters was written for '{printable(goal[:60])}', "
                f"and shops take 1 to {LONGEST:,}: a goal's own words are searched for wherever "
                "that happens.",
                stacklevel=4,
            )
            self._said = True
        return query_of(goal)


def queries_of(name: str, known: Mapping[str, Any]) -> Queries:
    """Those of an option `queries`, and of what was learned or saved of them: nothing, if empty."""
    if name == RULE:
        return Queries()
    if name == LEARNED:
        return Picked(**known)
    return Modelled(name, **known)


# -------------------------------------------------------------------------------- learned by word


class Picked(_Written):
    """Those words of a goal that are worth being searched for."""

    def __init__(self, weights: Mapping[str, float], names: Sequence[str]) -> None:
        """Take what each trait of a word adds, and the words of products' names."""
        super().__init__()
        self.weights, self.names = weights, frozenset(names)

    @property
    def parameters(self) -> int:
        return len(self.weights)

    @property
    def about(self) -> dict[str, Any]:
        return {"weights": dict(self.weights), "names": sorted(self.names)}

    def words(self, goal: str) -> str:
        said = zip(_words(goal), self.worth(goal), strict=True)
        return " ".join(word for word, worth in said if worth > 0)

    def worth(self, goal: str) -> list[float]:
        """The log odds of each word of a goal that it is searched for."""
        return [
            sum(self.weights.get(trait, 0.0) for trait in traits)
            for traits in _traits(_words(goal), self.names)
        ]


def learned_from(sessions: Sequence[Session], products: Sequence[Product]) -> dict[str, Any]:
    """What `Picked` takes: each word is worth it as often as it was searched for."""
    some = products[:: -(-len(products) // PRODUCTS) or 1]
    names = {_plain(word) for product in some for word in product.name.lower().split()}
    places: dict[str, int] = {}
    rows: list[list[int]] = []
    kept: list[bool] = []
    for session in sessions:
        words = _words(session.goal)
        traits = [[places.setdefault(trait, len(places)) for trait in of_word]
                  for of_word in _traits(words, names)]  # fmt: skip
        for query in session.queries:
            said = {_plain(word) for word in query.lower().split()}
            rows += traits
            kept += [_plain(word) in said for word in words]
    if not rows:
        raise InvalidArgument(
            "No session of the dataset searches for anything, so there is nothing to learn "
            f"queries from: take queries='{RULE}', or sessions that search."
        )
    weights = _fitted(torch.tensor(rows), torch.tensor(kept, dtype=torch.float64), len(places))
    return {"weights": dict(zip(places, weights, strict=True)), "names": sorted(names)}


def _fitted(rows: torch.Tensor, kept: torch.Tensor, count: int) -> list[float]:
    """Weights of logistic regression, held to 0 as if each were drawn with a deviation of 1."""
    weights = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )  # nothing is drawn

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = binary_cross_entropy_with_logits(weights[rows].sum(1), kept)
        found = found + weights.square().sum() / (2 * len(rows))
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found: list[float] = weights.tolist()
    return found


def _words(goal: str) -> list[str]:
    return without_price(goal).lower().split()


def _plain(word: str) -> str:
    """A word without the signs around it."""
    return word.strip(_SIGNS)


def _traits(words: Sequence[str], names: frozenset[str] | set[str]) -> list[tuple[str, ...]]:
    """What is known of each word, as many traits of all: most say something of unknown words."""
    plain = [_plain(word) for word in words]
    found: list[tuple[str, ...]] = []
    of_option = False
    for place, (word, before, after) in enumerate(
        zip(plain, ["", *plain], [*plain[1:], ""], strict=False)
    ):
        sign = words[place][-1:] if words[place][-1:] in _SIGNS else ""
        found.append((
            "always", f"is {word}", f"follows {before}", f"precedes {after}", f"ends in {sign}",
            f"place {min(place, _PLACES)}", f"in names {word in names}", f"of option {of_option}",
        ))  # fmt: skip
        of_option |= sign == ":"
    return found


# ------------------------------------------------------------------------------- models of others


class Modelled(_Written):
    """What a sequence-to-sequence model of Transformers writes for an instruction."""

    def __init__(self, name: str, sha256: str = "") -> None:
        """Take its name on the Hugging Face hub, or its folder; a known hash must be its own."""
        super().__init__()
        self.name = name
        self._sha256 = sha256 or sha256_of(*self._loaded)

    @property
    def about(self) -> dict[str, Any]:
        return {"sha256": self._sha256}

    @property
    def parameters(self) -> int:
        return sum(values.numel() for values in self._loaded[0].parameters())

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model and its tokenizer: safetensors only."""
        transformers = transformers_for("A writer of queries")

        def read(place: str, **safely: Any) -> tuple[Any, Any]:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, **safely)
            model, told = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                place, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **safely
            )
            if missing := sorted(told["missing_keys"]):
                raise ValueError(f"it lacks {missing[0]}")
            return model.eval(), tokenizer

        def refused(why: str) -> InvalidArgument:
            return InvalidArgument(
                f"No sequence-to-sequence model can be loaded from '{printable(self.name)}' "
                f"({printable(why)}): give queries='{RULE}', '{LEARNED}', a model's name on the "
                "Hugging Face hub, or a folder with config.json, a tokenizer and safetensors."
            )

        found: tuple[Any, Any] = read_published(self.name, read, refused)
        if "_sha256" in vars(self) and sha256_of(*found) != self._sha256:
            raise InvalidArgument(
                f"'{printable(self.name)}' is another model than the one that wrote the queries "
                "of this agent: put that one back, or train anew."
            )
        return found

    @torch.no_grad()
    def words(self, goal: str) -> str:
        """The best query that a beam search finds; of a goal alone, whatever else is asked for."""
        model, tokenizer = self._loaded
        longest = min(_TOKENS, getattr(model.config, "max_position_embeddings", _TOKENS))
        text = prepared(without_price(goal))
        read = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
        with quietly():
            written = model.generate(
                input_ids=read["input_ids"], attention_mask=read["attention_mask"],
                num_beams=_BEAMS, do_sample=False, num_return_sequences=1,
                max_length=longest, max_new_tokens=None,
            )  # fmt: skip
        return str(tokenizer.decode(written[0], skip_special_tokens=True))
