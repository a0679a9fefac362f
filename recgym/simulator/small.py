"""The small model for where no other is: a Llama that is made here, of the catalogue's own text.

It has read nothing but sentences on the items, and lists of items that share a topic (a word,
where no topics are known), told as prompts are, in which what comes next is like what came before:
of users it knows nothing. It is called "recgym-small" wherever it is used, so that nobody takes it
for a language model that knows the world.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from recgym.errors import InvalidArgument
from recgym.networks import drawing_from
from recgym.published import quietly
from recgym.simulator.prompts import ASKING, POSITIONS, Domain, sentence_of

WORDS, WIDTH, LAYERS, HEADS = 2_000, 64, 2, 4
LONGEST = 512  # tokens of a prompt
STEPS, BATCH, LENGTH, LEARNING_RATE = 800, 32, 64, 0.003  # of pre-training
LISTS, LISTED = 4_500, (2, 5)  # and items in them before the next one
COMMONEST = 1 / 2  # of all items: what more of them share makes no list
TOLD = 8  # words of a title in a list
_WORD = re.compile(r"\w+")


def texts_of(
    domain: Domain, items: Sequence[Mapping[str, str]], seed: int = 0, lists: int = LISTS
) -> list[str]:
    """What the small model reads: sentences on the items, and lists of those that are alike."""
    sentences = [sentence_of(domain, item) for item in items]
    titles = [" ".join((item.get("title") or sentence.strip(",. ")).split()[:TOLD])
              for item, sentence in zip(items, sentences, strict=True)]  # fmt: skip
    groups = _alike(items, sentences)
    sizes = np.array([len(group) for group in groups])
    rng, found = np.random.default_rng(seed), []
    for number in range(lists if groups else 0):
        group = groups[rng.choice(len(groups), p=sizes / sizes.sum())]
        count = int(rng.integers(*LISTED, endpoint=True))
        *history, item = rng.choice(group, count + 1, replace=False).tolist()
        told = f"{domain.opening} {', '.join(titles[one] for one in history)},"
        if number % 3:
            sentence = sentences[item].rstrip(".") if len(titles[item].split()) < TOLD else ""
            told += f"{ASKING} {titles[item]}{sentence}{domain.asked}"
        else:
            five, place = rng.integers(len(items), size=len(POSITIONS)), rng.integers(5)
            five[place] = item
            listed = ", ".join(titles[one] for one in five.tolist())
            told += f"{domain.listing} {listed}{domain.choosing} {POSITIONS[place]}"
        found.append(told)
    return [*sentences, *found]


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
            if max(LISTED) < len(those) <= COMMONEST * len(items)]  # fmt: skip


def make_small(
    texts: Sequence[str],
    folder: Path,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Write a tokenizer and a model, trained on these texts, as Transformers reads them."""
    if not any(text.strip() for text in texts):
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


def _tokenizer(texts: Sequence[str]) -> Any:
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
    tokenizer.train_from_iterator(texts, trainer)
    made: Any = PreTrainedTokenizerFast  # it has no types
    return made(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def _trained(
    tokenizer: Any,
    texts: Sequence[str],
    steps: int,
    seed: int,
    progress: Callable[[float], None],
) -> Any:
    """A Llama that has learned to go on with pieces of the texts, one after the other."""
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
    told = tokenizer([f"{text}</s>" for text in texts], add_special_tokens=False)["input_ids"]
    stream = torch.as_tensor(np.concatenate([np.array(one, np.int64) for one in told]))
    stream = stream.repeat(-(-(LENGTH + 1) // len(stream)))  # of very little text
    rng = np.random.default_rng(seed)
    with drawing_from(seed):
        model = LlamaForCausalLM(config).train()
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
        for step in range(steps):
            starts = torch.as_tensor(rng.integers(len(stream) - LENGTH, size=BATCH))
            piece = stream[starts[:, None] + torch.arange(LENGTH + 1)]
            logits = model(input_ids=piece[:, :-1], use_cache=False).logits
            loss = functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress((step + 1) / steps)
    return model.eval()
