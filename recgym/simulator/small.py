"""The small model for where no other is: a Llama that is made here, of the catalogue's own text.

It has read nothing but sentences on the items, and prompts on lists of items that share a topic (a
word, where no topics are known), after which the item in question is told: so it keeps, to a
prompt's end, which one that was. An item is one vector to it, as item tokens are: the mean of its
sentence's words. Of users it knows nothing. It is called "recgym-small" wherever it is used, so
that nobody takes it for a language model that knows the world.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recgym.errors import InvalidArgument
from recgym.networks import drawing_from
from recgym.published import quietly
from recgym.simulator.asked import SMALL
from recgym.simulator.language import Language, of_words
from recgym.simulator.prompts import ASKING, POSITIONS, Domain, sentence_of

WORDS, WIDTH, LAYERS, HEADS = 2_000, 64, 2, 4
LONGEST = 512  # tokens of a prompt
STEPS, BATCH, LEARNING_RATE = 800, 32, 0.003  # of pre-training
LISTS, LISTED = 20_000, (2, 10)  # and items in them before the next one, where so many share it
FEWEST = 5  # items: what more of them share makes lists
COMMONEST = 1 / 2  # of all items: what more of them share makes none
SAID = 32  # tokens of a sentence
_NOISE = 0.02  # of items' vectors, as item tokens are not quite the mean of their words
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Texts:
    """What the small model reads; a number in a list stands for the item whose sentence it is."""

    sentences: Sequence[str]  # on each item; empty where nothing is known of it
    lists: Sequence[Sequence[str | int]] = ()


def texts_of(
    domain: Domain, items: Sequence[Mapping[str, str]], seed: int = 0, lists: int = LISTS
) -> Texts:
    """Sentences on the items; and prompts on those that are alike, with what is said of one more.

    Words with which all sentences begin are left out there: what follows a prompt is the item's.
    """
    sentences = [sentence_of(domain, item) for item in items]
    groups = _alike(items, sentences)
    sizes = np.array([len(group) for group in groups])
    rng, found = np.random.default_rng(seed), []
    common = commonprefix([sentence for sentence in sentences if sentence]).rpartition(" ")[0]
    for number in range(lists if groups else 0):
        group = groups[rng.choice(len(groups), p=sizes / sizes.sum())]
        count = min(int(rng.integers(*LISTED, endpoint=True)), len(group) - 1)
        *history, item = rng.choice(group, count + 1, replace=False).tolist()
        if number % 5 == 0:  # the state of a user
            told = history
        elif number % 5 == 1:  # a choice
            five, place = rng.integers(len(items), size=len(POSITIONS)), rng.integers(5)
            five[place] = item
            told = [domain.opening, *history, ",", domain.listing, *five.tolist(), domain.choosing,
                    f" {POSITIONS[place]}"]  # fmt: skip
        else:
            told = [domain.opening, *history, ",", ASKING, item, domain.asked]
        found.append([*told, sentences[item].removeprefix(common)])
    return Texts(sentences, found)


def _alike(items: Sequence[Mapping[str, str]], sentences: Sequence[str]) -> list[list[int]]:
    """Items that share a topic; or, where no topics are known, a word."""
    marks = [item.get("topics", "").split(", ") for item in items]
    if not any(map(any, marks)):
        marks = [_WORD.findall(sentence.lower()) for sentence in sentences]
    having: dict[str, list[int]] = defaultdict(list)
    for number, some in enumerate(marks):
        for mark in dict.fromkeys(filter(None, some)):
            having[mark].append(number)
    return [those for those in having.values()
            if FEWEST < len(those) <= COMMONEST * len(items)]  # fmt: skip


def make_small(
    texts: Texts,
    folder: Path,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Write a tokenizer and a model, trained on these texts, as Transformers reads them."""
    if not any(sentence.strip() for sentence in texts.sentences):
        raise InvalidArgument(
            "There is no text to make a small language model of: give a catalogue with titles."
        )
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    tokenizer = _tokenizer(texts)
    model = _trained(tokenizer, texts, steps, seed, progress)
    with quietly():
        tokenizer.save_pretrained(draft)
        model.save_pretrained(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return folder


def _tokenizer(texts: Texts) -> Any:
    """Byte pairs of the texts: every text can be spelled."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    said = ("".join(part for part in told if isinstance(part, str)) for told in texts.lists)
    tokenizer.train_from_iterator([*texts.sentences, *said], trainer)
    made: Any = PreTrainedTokenizerFast  # it has no types
    return made(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def _trained(
    tokenizer: Any,
    texts: Texts,
    steps: int,
    seed: int,
    progress: Callable[[float], None],
) -> Any:
    """A Llama that has learned to say the words of the texts, each after what goes before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    rng = np.random.default_rng(seed)
    with drawing_from(seed):
        language = Language(LlamaForCausalLM(config), tokenizer, SMALL)
        model = language.model.requires_grad_().train()
        sentences, rows = _read(language, texts)
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
        for step in range(steps):
            drawn = _drawn(rng, len(rows) - len(texts.lists), len(rows))
            tokens, read = language.joined([rows[row] for row in drawn])
            items = tokens - language.words
            vectors = model.get_input_embeddings()(tokens.clamp(max=language.words - 1))
            told = of_words(
                language.table, [sentences[item] for item in items[items >= 0].tolist()]
            )
            vectors[items >= 0] = told + _NOISE * torch.randn_like(told)
            logits = language.next_words(language.read(vectors[:, :-1]).last_hidden_state)
            said = (torch.arange(1, tokens.shape[1]) < read[:, None]) & (items[:, 1:] < 0)
            loss = functional.cross_entropy(logits[said], tokens[:, 1:][said])
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - step / steps))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress((step + 1) / steps)
    return model.eval()


def _read(language: Language, texts: Texts) -> tuple[list[list[int]], list[list[int]]]:
    """The tokens of each sentence, and of all rows: those on items, and then the lists."""
    spelled = cache(language.opening)
    sentences = [spelled(sentence)[:SAID] for sentence in texts.sentences]
    of_items = [[item, sentence] for item, sentence in enumerate(texts.sentences) if sentence]
    begins, ends = language.begins, language.tokenizer.eos_token_id
    rows = []
    for *told, said in [*of_items, *texts.lists]:
        parts = [[language.words + part] if isinstance(part, int) else spelled(part)
                 for part in told]  # fmt: skip
        rows.append([*begins, *chain.from_iterable(parts), *spelled(said)[:SAID], ends])
    return sentences, rows


def _drawn(rng: np.random.Generator, of_items: int, rows: int) -> NDArray[np.int64]:
    """Rows of a batch, of which lists, where there are any, are about as many as rows on items."""
    drawn = rng.integers(of_items, size=BATCH)
    if rows == of_items:
        return drawn
    return np.where(rng.random(BATCH) < 0.5, drawn, rng.integers(of_items, rows, BATCH))
