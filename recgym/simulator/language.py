"""A causal language model whose vocabulary goes on with items.

A token below `words` is one of the tokenizer's; `words + i` is item i, whose vector stands in a
table beside that of the words. So prompts are rows of whole numbers, whatever is spliced into them.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recgym.errors import Diverged, InvalidArgument, OutOfRoom, printable
from recgym.networks import drawing_from
from recgym.published import read_published, transformers_for
from recgym.simulator.asked import Precision

Prompt = Sequence[int]  # tokens of words and of items
_TOGETHER = {"cuda": 16_384, "cpu": 2_048}  # tokens that are read at once: what caches hold
_TINY = 10_000_000  # parameters
_ENDLESS = 1 << 20  # positions of a model that names none


class Language:
    """A causal language model of Transformers, and its tokenizer, as they are: nothing learns."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        """Take a model and its tokenizer; weights are frozen, and dropout ends."""
        self.model, self.tokenizer, self.name = model.eval().requires_grad_(False), tokenizer, name
        self.words, self.width = self.table.shape
        self.items = self.table.new_empty(0, self.width)  # the vectors of items
        self.positions = int(getattr(model.config, "max_position_embeddings", _ENDLESS))
        self.together = _TOGETHER.get(self.device.type, 16_384)  # until memory does not suffice
        self.seen, self.padded = 0, 0  # tokens that were read for states, and the pads of them

    @classmethod
    def load(cls, name: str, device: str = "cpu", precision: Precision = "float32") -> "Language":
        """A model by its name on the Hugging Face hub, or from a folder: safetensors only."""
        transformers = transformers_for("A language model")
        kind = torch.bfloat16 if precision == "bf16" else torch.float32

        def read(place: str, **safely: Any) -> tuple[Any, Any, Any]:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, **safely)
            return tokenizer, *transformers.AutoModelForCausalLM.from_pretrained(
                place, dtype=kind, use_safetensors=True, output_loading_info=True, **safely
            )

        def refused(why: str) -> InvalidArgument:
            return InvalidArgument(
                f"No causal language model can be loaded from '{printable(name)}' "
                f"({printable(why)}): give its name on the Hugging Face hub, or a folder with "
                "config.json, a tokenizer and safetensors."
            )

        tokenizer, model, told = read_published(name, read, refused)
        if missing := sorted(told["missing_keys"]):
            raise InvalidArgument(
                f"'{printable(name)}' lacks weights of a causal language model, {missing[0]} among "
                "them: give a model that was trained to say the next word."
            )
        language = cls(model.to(device), tokenizer, name)
        if not language.is_causal():
            raise InvalidArgument(
                f"'{printable(name)}' sees what follows a word, or does not say the next one from "
                "its last state alone: give a model that was trained to say the next word."
            )
        return language

    def unread(self, seed: int) -> "Language":
        """The same model with weights that are drawn: it has read nothing."""
        with drawing_from(seed):
            model = type(self.model)(self.model.config)
        return Language(model.to(self.device, self.table.dtype), self.tokenizer, self.name)

    # -------------------------------------------------------------------------------- what it is

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.table.device

    @property
    def table(self) -> torch.Tensor:
        """(words, width): the vectors of words."""
        weight: torch.Tensor = self.model.get_input_embeddings().weight
        return weight

    @cached_property
    def sha256(self) -> str:
        """One hash of all weights and of the tokenizer's vocabulary."""
        return sha256_of(self.model, self.tokenizer)

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(values.numel() for values in self.model.parameters())

    @property
    def tiny(self) -> bool:
        """Whether it is so small that it learns in larger steps."""
        return self.parameters < _TINY

    # -------------------------------------------------------------------------------- what it says

    @torch.no_grad()
    def is_causal(self) -> bool:
        """Whether no state sees a later word, and the next word follows from the last state."""
        tokens = torch.tensor([[1, 2], [1, 3]], device=self.device)
        states = self.read(self.vectors(tokens)).last_hidden_state
        said, wanted = self.next_words(states), self.model(input_ids=tokens).logits
        pairs = [(states[0, 0], states[1, 0]), (said, wanted)]
        return all(bool((one - other).norm() <= 0.001 * one.norm()) for one, other in pairs)

    def opening(self, text: str) -> list[int]:
        """The tokens of a text before which there is none, without any that begin it.

        A title cannot end a text, whatever it says: "</s>" is spelled.
        """
        plainly = {"add_special_tokens": False, "split_special_tokens": True}
        found: list[int] = self.tokenizer(text, **plainly)["input_ids"]
        return found

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that goes on from another one.

        Tokenizers such as Llama's put a space before whatever they are given, so it is given
        after a line's end, which is then taken away.
        """
        line, found = self.opening("\n"), self.opening(f"\n{text}")
        return found[len(line) :] if found[: len(line)] == line else self.opening(text)

    @cached_property
    def begins(self) -> list[int]:
        """What every prompt begins with: the token for that, or else for an end, or word 0."""
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, 0)
        return [next(token for token in known if token is not None)]

    def vectors(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, width): of words, and of items."""
        words: torch.Tensor = self.model.get_input_embeddings()(tokens.clamp(max=self.words - 1))
        of_items = tokens >= self.words
        if not of_items.any():
            return words
        places = (tokens - self.words).clamp(min=0)
        return torch.where(of_items[..., None], self.items.to(words)[places], words)

    def read(self, vectors: torch.Tensor, before: Any = None, keep: bool = False) -> Any:
        """What the body of the model says after these vectors: `last_hidden_state`, and more.

        Rows are right-padded: no place sees a later one. `before` is what `keep` has kept of the
        vectors before these.
        """
        return self.model.base_model(
            inputs_embeds=vectors, past_key_values=before, use_cache=keep or before is not None
        )

    def next_words(self, states: torch.Tensor) -> torch.Tensor:
        """(…, words): the logits of the next word."""
        logits: torch.Tensor = self.model.get_output_embeddings()(states)
        return logits

    @torch.no_grad()
    def after(
        self,
        beginnings: Sequence[Prompt],
        endings: Sequence[Prompt],
        of: NDArray[np.int64],
        say: Callable[[str], None] = lambda sentence: None,
    ) -> torch.Tensor:
        """(endings, width): the state after the last token of each; none of them is empty.

        Ending i follows beginning `of[i]`, which is read once for all that follow it. Where memory
        does not suffice, half as much is read at a time, and that is said.
        """
        found = torch.empty(len(endings), self.width)
        begins = np.array([len(beginnings[which]) for which in of])
        order = np.lexsort((of, begins))  # in a batch, beginnings are equally long
        begins, news = begins[order], np.diff(of[order], prepend=-1) != 0
        read = np.cumsum([len(endings[row]) for row in order] + begins * news)  # tokens, so far
        at = 0
        while at < len(order):
            before = read[at - 1] if at else 0
            end = int(min(np.searchsorted(read, before + self.together, "right"),
                          np.searchsorted(begins, begins[at], "right")))  # fmt: skip
            rows = order[at : max(end, at + 1)]
            try:
                states = self.last(beginnings, [endings[row] for row in rows], of[rows])
                found[torch.as_tensor(rows)] = states.float().cpu()
                at += len(rows)
                continue
            except (RuntimeError, MemoryError) as problem:
                if not lacks_memory(problem):
                    raise
            if len(rows) == 1:
                raise OutOfRoom(
                    f"Memory does not suffice for one prompt of {self.name}: take a smaller model, "
                    "bf16, or a machine with more memory."
                )
            say(f"Memory does not suffice for {len(rows):,} prompts at a time: half are read.")
            self.together = int(read[at + len(rows) - 1] - before) // 2
        if not found.isfinite().all():
            raise Diverged(
                f"A state of {self.name} is no number: take float32 in place of bf16, or a "
                "simulator that was fitted at a lower learning rate."
            )
        return found

    def last(
        self, beginnings: Sequence[Prompt], endings: Sequence[Prompt], of: NDArray[np.int64]
    ) -> torch.Tensor:
        """(endings, width): the same at once, for equally long beginnings, with a gradient."""
        known, which = np.unique(of, return_inverse=True)
        tokens, _ = self.joined([beginnings[one] for one in known])
        self.seen += tokens.numel()
        before = None
        if tokens.shape[1]:
            before = self.read(self.vectors(tokens), keep=True).past_key_values
            before.batch_select_indices(torch.as_tensor(which).to(tokens.device))
        tokens, lengths = self.joined(endings)
        self.seen += tokens.numel()
        self.padded += tokens.numel() - int(lengths.sum())
        states = self.read(self.vectors(tokens), before).last_hidden_state
        found: torch.Tensor = states[torch.arange(len(endings), device=states.device), lengths - 1]
        return found

    def joined(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts as one tensor, right-padded with word 0, and their lengths."""
        lengths = np.array([len(prompt) for prompt in prompts])
        tokens = np.zeros((len(prompts), max(lengths, default=0)), np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        return torch.as_tensor(tokens).to(self.device), torch.as_tensor(lengths).to(self.device)


def of_words(table: torch.Tensor, texts: Sequence[Prompt]) -> torch.Tensor:
    """(texts, width): the mean of each text's words, as long as their vectors are; 0 of no text."""
    lengths = torch.tensor([0, *map(len, texts)], device=table.device)
    words = torch.tensor([word for text in texts for word in text], device=table.device)
    means = functional.embedding_bag(words.long(), table, lengths.cumsum(0)[:-1], mode="mean")
    found: torch.Tensor = functional.normalize(means) * table.norm(dim=1).mean()
    return found


def sha256_of(model: Any, tokenizer: Any) -> str:
    """One hash of all weights of a model, and of its tokenizer's vocabulary."""
    found = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    for word, place in sorted(tokenizer.get_vocab().items()):
        found.update(f"{place} {word}\n".encode())
    return found.hexdigest()


def lacks_memory(problem: BaseException) -> bool:
    """Whether an error says that memory does not suffice; on a CPU, Torch has no class for it."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(problem, kinds) or "can't allocate memory" in str(problem)
