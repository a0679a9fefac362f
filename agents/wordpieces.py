"""Words of a shop as tokens of a BERT: as they are prepared, cut, and kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from recgym.errors import InvalidArgument, MissingExtra

WORDS = 4_000  # of a vocabulary that is made here
SIGNS = ("[button]", "[button_]", "[clicked button]", "[clicked button_]")  # each is one token
PAD, UNKNOWN, FIRST, LAST, HIDDEN = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
PRODUCTS = 20_000  # of which texts are read, at most
_KEPT = 1 << 14  # texts whose tokens are kept
# What pages say of all products, so that their words are tokens.
_FURNITURE = (
    "instruction : [button] back to search [button_] page 1 ( total results : 50 ) [button] < prev "
    "[button_] [button] next > [button_] price : $ 9 . 99 to $ 100 rating : n . a . [button] "
    "description [button_] [button] features [button_] [button] reviews [button_] [button] "
    "attributes [button_] [button] buy now [button_] you have clicked [clicked button] [clicked "
    "button_] search click item thank you for shopping with us ! purchased asin options"
)


def prepared(text: str) -> str:
    """As WebShop's agents read: lower-cased and without quotes; what parts a page stays a sign."""
    plain = text.lower().replace('"', "").replace("'", "").strip()
    return plain.replace("[sep]", LAST).encode("utf-8", "replace").decode()  # halves of characters


class Product(Protocol):
    """What is read of a product."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def description(self) -> str: ...  # noqa: D102
    @property
    def bullets(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def options(self) -> Mapping[str, tuple[str, ...]]: ...  # noqa: D102
    @property
    def instruction(self) -> str: ...  # noqa: D102


def texts_of(products: Sequence[Product], most: int = PRODUCTS) -> list[str]:
    """One text of each product, of at most so many: what asks for it, then what it is."""
    found = [_FURNITURE]
    for product in products[:: -(-len(products) // most) or 1]:
        options = (f"{group} {' '.join(values)}" for group, values in product.options.items())
        parts = (product.instruction, *options, product.name, *product.bullets, product.description)
        found.append(f" {LAST} ".join(part for part in parts if part.strip()))
    return found


class Words:
    """A vocabulary of the tokenizers library, and the tokens of the texts that were read last."""

    def __init__(self, vocabulary: str) -> None:
        """Take the vocabulary as JSON."""
        self._tokenizer = _parts().Tokenizer.from_str(vocabulary)
        known = {sign: self._tokenizer.token_to_id(sign) for sign in (PAD, FIRST, LAST)}
        if missing := [sign for sign, token in known.items() if token is None]:
            raise InvalidArgument(
                f"A vocabulary of a BERT has the words {PAD}, {FIRST} and {LAST}, and this one "
                f"lacks {missing[0]}: give a model with its own tokenizer."
            )
        self.pad, self.first, self.last = (int(token) for token in known.values())
        self.tokens: Callable[[str, int], NDArray[np.int32]] = lru_cache(_KEPT)(self._read)

    def __deepcopy__(self, memo: Any) -> Self:
        """Nothing here changes, so copies of a network share it."""
        return self

    def __len__(self) -> int:
        """How many tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    def _read(self, text: str, longest: int) -> NDArray[np.int32]:
        """The tokens of a text; of a longer one the last so many, as the oldest matter least."""
        inner = self._tokenizer.encode(prepared(text), add_special_tokens=False).ids
        return np.array(
            [self.first, *inner[max(0, len(inner) + 2 - longest) :], self.last], np.int32
        )


def with_signs(vocabulary: str) -> str:
    """A vocabulary whose last words are WebShop's signs, where it has none."""
    tokenizer = _parts().Tokenizer.from_str(vocabulary)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.add_special_tokens([*SIGNS])
    return str(tokenizer.to_str())


def trained_vocabulary(texts: Iterable[str]) -> Any:
    """Word pieces of the texts.

    The pieces are those into which byte-pair encoding cuts words: the library's own trainer of word
    pieces numbers letters as they come out of a hash table, and finds others in every process.
    """
    parts = _parts()
    cutting = parts.Tokenizer(parts.models.BPE())
    normalizer, splitter = (
        parts.normalizers.BertNormalizer(),
        parts.pre_tokenizers.BertPreTokenizer(),
    )
    cutting.normalizer, cutting.pre_tokenizer = normalizer, splitter
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = parts.trainers.BpeTrainer(
        vocab_size=WORDS, initial_alphabet=alphabet, limit_alphabet=WORDS // 4, show_progress=False
    )
    cutting.train_from_iterator(texts, trainer)
    letters = [word for word in cutting.get_vocab() if len(word) == 1]
    pieces = {*letters, *(f"##{letter}" for letter in letters)}
    for word in {
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }:
        first, *others = (token.value for token in cutting.model.tokenize(word)) if word else ("",)
        pieces |= {first, *(f"##{other}" for other in others)}
    signs = [PAD, UNKNOWN, FIRST, LAST, HIDDEN, *SIGNS]
    words = [*signs, *sorted(pieces - {*signs})]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = parts.Tokenizer(parts.models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = parts.decoders.WordPiece()
    tokenizer.add_special_tokens(signs)
    ends = [(sign, vocabulary[sign]) for sign in (FIRST, LAST)]
    tokenizer.post_processor = parts.processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}", pair=f"{FIRST} $A {LAST} $B:1 {LAST}:1", special_tokens=ends
    )
    return tokenizer


def _parts() -> Any:
    """The tokenizers library, which has no types."""
    try:
        import tokenizers
    except ImportError:
        raise MissingExtra("A reader of pages", "llm") from None
    return tokenizers
