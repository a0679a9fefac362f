"""BERTs: of others, by name or folder, and the small one for where no other is.

The small one is made of a catalogue's texts: it has learned to say which words of them were hidden
(Devlin et al., 2019), and has read nothing else. It is called "recgym-bert-small" wherever it is
used, so that nobody takes it for one that has read the world.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recgym import __version__
from recgym.agents.wordpieces import (
    FIRST,
    HIDDEN,
    LAST,
    PAD,
    SIGNS,
    UNKNOWN,
    Words,
    prepared,
    trained_vocabulary,
    with_signs,
)
from recgym.errors import InvalidArgument, printable
from recgym.home import home, locked, whole_folder
from recgym.log import sha256_of_json
from recgym.networks import drawing_from
from recgym.published import quietly, read_published, transformers_for

SMALL = "recgym-bert-small"
WIDTH, LAYERS, HEADS = 64, 2, 4
LONGEST = 512  # tokens of a page
STEPS, BATCH, LENGTH, LEARNING_RATE = 800, 16, 64, 0.005  # of pre-training
SPREAD = 0.1  # of weights at first: about 1 / sqrt(WIDTH)
WARM_UP = 50  # steps until the learning rate is reached; from there it falls to 0
LEARNED, MASKED, DRAWN = 0.3, 0.8, 0.9  # share of tokens; of those: hidden, or else another word
_NONE = -100  # what cross-entropy leaves out
_CHANGING = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")  # of a config


def settings_of(model: str, made: str) -> tuple[dict[str, Any], str]:
    """The settings of a BERT, and its vocabulary with the signs."""
    transformers = transformers_for("A reader of pages")

    def read(place: str, **safely: Any) -> tuple[Any, Any]:
        config = transformers.AutoConfig.from_pretrained(place, **safely)
        if config.model_type != "bert":
            raise ValueError(f"it is a {config.model_type}")
        return config, transformers.AutoTokenizer.from_pretrained(place, **safely)

    config, tokenizer = _loaded(model, made, read)
    try:
        vocabulary = with_signs(tokenizer.backend_tokenizer.to_str())
    except AttributeError:
        raise _no_bert(model, made, "its tokenizer is none of the tokenizers library") from None
    size = max(int(config.vocab_size), len(Words(vocabulary)))
    config.vocab_size = size
    told = {name: value for name, value in config.to_dict().items() if name not in _CHANGING}
    return told, vocabulary


def weights_of(model: str, made: str) -> dict[str, torch.Tensor]:
    """What a BERT has learned."""
    transformers = transformers_for("A reader of pages")

    def read(place: str, **safely: Any) -> tuple[Any, Any]:
        found, told = transformers.BertModel.from_pretrained(
            place, add_pooling_layer=False, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True, **safely,
        )  # fmt: skip
        return found, told

    found, told = _loaded(model, made, read)
    if missing := sorted(told["missing_keys"]):
        raise _no_bert(model, made, f"it lacks {missing[0]}")
    return dict(found.state_dict())


def _loaded(model: str, made: str, read: Callable[..., Any]) -> Any:
    """What is read of a model, or one sentence on why it cannot be."""
    place = str(small_folder(made)) if model == SMALL else model
    return read_published(place, read, lambda why: _no_bert(model, made, why))


def _no_bert(model: str, made: str, why: str) -> InvalidArgument:
    if model == SMALL:
        return InvalidArgument(
            f"The small BERT of this plan is not in {small_folder(made)} ({printable(why)}): "
            "make the plan anew, of the same texts."
        )
    return InvalidArgument(
        f"No BERT can be loaded from '{printable(model)}' ({printable(why)}): give its name "
        "on the Hugging Face hub, or a folder with config.json, a tokenizer and safetensors."
    )


# -------------------------------------------------------------------------------- the small BERT


def kept_small(
    texts: Sequence[str], seed: int, progress: Callable[[float], None] = lambda share: None
) -> str:
    """The name of the small BERT of these texts and this seed, which is made but once."""
    made = sha256_of_json({"texts": [*texts], "seed": seed, "recgym": __version__})[:32]
    folder = small_folder(made)
    folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with locked(folder.with_suffix(".lock")) as ours:  # another process may be making the same
            if ours:
                if not folder.exists():
                    make_small_bert(texts, folder, seed=seed, progress=progress)
                return made
        time.sleep(0.2)


def small_folder(made: str) -> Path:
    """Where a small BERT is kept."""
    return home() / "readers" / made


def make_small_bert(
    texts: Sequence[str],
    folder: Path,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Write a tokenizer and a BERT, trained on these texts, as Transformers reads them."""
    texts = [text for text in map(prepared, texts) if text]
    if not texts:
        raise InvalidArgument(
            "There is no text to make a small BERT of: give the texts of a catalogue."
        )
    from transformers import PreTrainedTokenizerFast

    tokenizer = trained_vocabulary(texts)
    model = _trained(tokenizer, texts, steps, seed, progress)
    made: Any = PreTrainedTokenizerFast  # it has no types
    told = made(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, cls_token=FIRST,
        sep_token=LAST, mask_token=HIDDEN, additional_special_tokens=[*SIGNS],
    )  # fmt: skip
    with whole_folder(folder, "The small BERT") as draft, quietly():
        told.save_pretrained(draft)
        model.save_pretrained(draft)
    return folder


def _trained(
    tokenizer: Any,
    texts: Sequence[str],
    steps: int,
    seed: int,
    progress: Callable[[float], None],
) -> Any:
    """A BERT that has learned to say the words that were hidden in pieces of the texts."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=SPREAD,
        pad_token_id=tokenizer.token_to_id(PAD),
    )
    words = Words(tokenizer.to_str())
    told = [words.tokens(text, 1 << 20)[1:-1] for text in texts]
    rng = np.random.default_rng(seed)
    with drawing_from(seed):
        model = BertForMaskedLM(config).train()
        begin(model, told)
        optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)
        for step in range(steps):
            share = min((step + 1) / WARM_UP, 1) * (1 - step / steps)
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
            tokens, wanted, places = hidden(pieces_of(told, words, rng), words, tokenizer, rng)
            states = model.bert(
                input_ids=tokens, attention_mask=(tokens != words.pad).long(), position_ids=places
            ).last_hidden_state
            learned = wanted != _NONE
            loss = functional.cross_entropy(model.cls(states[learned]), wanted[learned])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress((step + 1) / steps)
    return model.eval()


@torch.no_grad()
def begin(model: Any, told: Sequence[NDArray[np.int32]]) -> None:
    """Begin where learning is short: with how common words are, and with places as waves.

    Of waves (Vaswani et al., 2017), neighbours are alike at once, wherever they stand.
    """
    counts = np.bincount(np.concatenate(told), minlength=model.config.vocab_size) + 1
    model.cls.predictions.bias.copy_(torch.as_tensor(np.log(counts / counts.sum())))
    rates = LONGEST ** (-torch.arange(WIDTH // 2) / (WIDTH // 2))
    angles = torch.arange(LONGEST)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    model.bert.embeddings.position_embeddings.weight.copy_(SPREAD * waves)


def pieces_of(
    told: Sequence[NDArray[np.int32]], words: Words, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(batch, longest) each: tokens of pieces of drawn texts, and where they are said to stand.

    Half of the pieces stand somewhere in a longer page: so all positions are learned.
    """
    drawn = [told[one] for one in rng.integers(len(told), size=BATCH)]
    starts = [int(rng.integers(max(0, len(text) - LENGTH + 2) + 1)) for text in drawn]
    parts = [text[start : start + LENGTH - 2] for text, start in zip(drawn, starts, strict=True)]
    longest = 2 + max(map(len, parts))
    tokens = np.full((BATCH, longest), words.pad, np.int64)
    for row, part in enumerate(parts):
        tokens[row, : len(part) + 2] = [words.first, *part, words.last]
    places = np.arange(longest) + (
        rng.integers(LONGEST - longest + 1, size=(BATCH, 1)) * rng.integers(2, size=(BATCH, 1))
    )
    places[:, 0] = 0
    return tokens, places


def hidden(
    pieces: tuple[NDArray[np.int64], NDArray[np.int64]],
    words: Words,
    tokenizer: Any,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens of which some are hidden, those that are to be said, and where all stand."""
    tokens, places = pieces
    said = (tokens != words.pad) & (tokens != words.first) & (tokens != words.last)
    learned = said & (rng.random(tokens.shape) < LEARNED)
    learned[0, 1] = True  # so that there is one
    how = rng.random(tokens.shape)
    others = rng.integers(len(words), size=tokens.shape)
    shown = np.where(learned & (how < MASKED), tokenizer.token_to_id(HIDDEN), tokens)
    shown = np.where(learned & (how >= MASKED) & (how < DRAWN), others, shown)
    wanted = np.where(learned, tokens, _NONE)
    return torch.as_tensor(shown), torch.as_tensor(wanted), torch.as_tensor(places)
