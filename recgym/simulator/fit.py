"""Reward and state model, fitted together: one adapter in the model's blocks, and a head."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from recgym import checkpoint
from recgym.errors import Diverged, MissingExtra, OutOfRoom
from recgym.networks import drawing_from
from recgym.simulator.asked import Fit, Likeness
from recgym.simulator.feedback import histories_of
from recgym.simulator.language import Language, Prompt, lacks_memory
from recgym.simulator.moments import Moments
from recgym.simulator.prompts import Prompts

ORDER, NEGATIVES, DROPOUT, SESSIONS = range(4)  # what is drawn: each has draws of its own
_TEMPERATURE = 0.1  # of cosines
_RATE, _TINY_RATE = 0.0001, 0.003  # at which large models and tiny ones begin to learn
_POOL = 16  # batches whose prompts are sorted by length together


def adapt(language: Language, how: Fit) -> list[nn.Parameter]:
    """Put an adapter into all blocks: what it learns."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from transformers.pytorch_utils import Conv1D
    except ImportError:
        raise MissingExtra("An adapter", "llm") from None
    names = {name.rpartition(".")[2] for name, _ in language.model.named_modules()}
    config = LoraConfig(
        r=how.rank,
        lora_alpha=how.alpha,
        lora_dropout=how.dropout,
        target_modules=["q_proj", "v_proj"] if {"q_proj", "v_proj"} <= names else "all-linear",
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in language.model.modules()),
    )
    with drawing_from(how.seed):
        inject_adapter_in_model(config, language.model)
    learns = []
    for name, values in language.model.named_parameters():
        if "lora_" in name:
            values.data = values.data.float()  # steps are too small for bf16
            learns.append(values.requires_grad_())
    language.model.eval()  # the dropout of an adapter begins awake
    return learns


class Fitting:
    """A fit under way: batch by batch, from any point at which it was stopped."""

    def __init__(
        self,
        language: Language,
        prompts: Prompts,
        moments: Moments,
        how: Fit,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Begin with an adapter and a head that change nothing."""
        self.language, self.prompts, self.moments, self.how = language, prompts, moments, how
        self.say = say
        self.learns = adapt(language, how)
        head = nn.Linear(language.width, 1, bias=False, device="meta")
        self.head = head.to_empty(device=language.device)
        nn.init.zeros_(self.head.weight)
        self.rate = how.learning_rate or (_TINY_RATE if language.tiny else _RATE)
        self.optimizer = torch.optim.Adam([*self.learns, self.head.weight], self.rate)
        sizes = np.array([*(len(prompts.item(item)) for item in range(moments.n_items)), 0])
        self.lengths = sizes[moments.histories].sum(1)  # of histories, in tokens
        self.batches = -(-len(moments) // how.batch_size)  # of an epoch
        self.parts = 1  # in which a batch's rewards are learned, until memory does not suffice
        self.at = 0  # batches that were learned from

    def __len__(self) -> int:
        """How many batches there are in all."""
        return min(self.how.epochs * self.batches, self.how.batches or sys.maxsize)

    def draws(self, purpose: int, at: int) -> np.random.Generator:
        """A generator for a batch, or an epoch."""
        return np.random.default_rng((self.how.seed, at, purpose))

    def batch(self) -> NDArray[np.int64]:
        """The moments of this batch: each once in an epoch, beside others of like length."""
        epoch, place = divmod(self.at, self.batches)
        rng = self.draws(ORDER, epoch)
        size, order = self.how.batch_size, rng.permutation(len(self.moments))
        pools = np.arange(len(order)) // (size * _POOL)
        order = order[np.lexsort((self.lengths[order], pools))]
        which = int(rng.permutation(self.batches)[place])
        return order[which * size : (which + 1) * size]

    def advance(self) -> dict[str, float]:
        """Learn from one batch, and say what was descended."""
        moments = self.moments[self.batch()]
        while (found := self._descended(moments)) is None:
            if self.parts >= len(moments):
                raise OutOfRoom(
                    f"Memory does not suffice to learn from a batch of {len(moments):,}: take a "
                    "smaller batch_size, a smaller model, or a machine with more memory."
                )
            self.parts *= 2
            self.say(f"Memory does not suffice for a batch: it is learned in {self.parts} parts.")
        self.at += 1
        return found

    def _descended(self, moments: Moments) -> dict[str, float] | None:
        """The losses of a batch, after the step down; none where memory did not suffice."""
        found: dict[str, float] = {}
        self.optimizer.zero_grad(set_to_none=True)
        try:
            self.language.model.train()
            with drawing_from(int(self.draws(DROPOUT, self.at).integers(2**32))):
                for name, loss in self.losses(moments):
                    loss.backward()  # type: ignore[no-untyped-call]
                    found[name] = found.get(name, 0.0) + float(loss.detach())
        except (RuntimeError, MemoryError) as problem:
            if lacks_memory(problem):
                return None
            raise
        finally:
            self.language.model.eval()
        learns = [*self.learns, self.head.weight]
        steepness = nn.utils.get_total_norm([one.grad for one in learns if one.grad is not None])
        if not np.isfinite([*found.values(), float(steepness)]).all():
            raise Diverged(
                f"The fit stopped at batch {self.at:,}: a loss or its gradient is no number. Try "
                f"a lower learning rate (it is {self.rate:g}), or float32."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 - self.at / len(self))  # to nothing, as it ends
        self.optimizer.step()
        return found

    def losses(self, moments: Moments) -> Iterator[tuple[str, torch.Tensor]]:
        """Of the reward model, by parts, and of the state model where it has a weight."""
        rng = self.draws(NEGATIVES, self.at)
        pairs = np.stack([moments.items, moments.untaken(rng, 1)[:, 0]], 1)
        if self.how.shuffled:
            pairs = rng.permuted(pairs, axis=1)
        users = histories_of(moments.histories, moments.n_items)
        for rows in np.array_split(np.arange(len(users)), min(self.parts, len(users))):
            begin = [self.prompts.likelihood(users[row]) for row in rows]
            asked = [self.prompts.of(item) for item in pairs[rows].ravel().tolist()]
            states = self.after(begin, asked, np.arange(len(rows)).repeat(2))
            taken, untaken = self.head(states).view(-1, 2).T
            yield "reward", -functional.logsigmoid(taken - untaken).sum() / len(users)
        if self.how.state_weight:
            told = [self.prompts.state(user) for user in users]
            states = self.after([()], told, np.zeros(len(told), np.int64))
            vectors = self.language.items[torch.as_tensor(moments.items)].to(states)
            loss = told_apart(states, vectors, moments.items, self.how.likeness)
            yield "state", self.how.state_weight * loss

    def after(
        self, beginnings: Sequence[Prompt], endings: Sequence[Prompt], of: NDArray[np.int64]
    ) -> torch.Tensor:
        """(endings, width): the state after each, with its gradient."""
        shared = min(map(len, beginnings))  # tokens that each has; the rest is read with an ending
        rest = [[*beginnings[one][shared:], *end] for one, end in zip(of, endings, strict=True)]
        return self.language.last([one[:shared] for one in beginnings], rest, of).float()

    # -------------------------------------------------------------------------------- stop, go on

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """All that is needed to go on from here."""
        tensors: dict[str, torch.Tensor] = {"head": self.head.weight.data}
        tensors |= {f"adapter/{place}": values.data for place, values in enumerate(self.learns)}
        moments, _ = checkpoint.of_optimizer(self.optimizer)
        tensors |= {f"adam/{name}": values for name, values in moments.items()}
        copies = {name: values.clone() for name, values in tensors.items()}
        read = {"seen": self.language.seen, "padded": self.language.padded}
        return copies, {"at": self.at, **read}

    def go_on(self, tensors: Mapping[str, torch.Tensor], standing: Mapping[str, Any]) -> None:
        """Be where another was when it gave its state."""
        for place, learned in enumerate(self.learns):
            learned.data.copy_(tensors[f"adapter/{place}"])
        self.head.weight.data.copy_(tensors["head"])
        moments = {name.removeprefix("adam/"): values.clone()
                   for name, values in tensors.items() if name.startswith("adam/")}  # fmt: skip
        groups = self.optimizer.state_dict()["param_groups"]
        checkpoint.to_optimizer(self.optimizer, moments, groups)
        self.at = standing["at"]
        self.language.seen, self.language.padded = standing["seen"], standing["padded"]


def told_apart(
    states: torch.Tensor,
    vectors: torch.Tensor,
    items: NDArray[np.int64],
    likeness: Likeness = "cosine",
) -> torch.Tensor:
    """-log of the share of a state's own next item among those of the batch, InfoNCE.

    An item that comes next in several rows is no negative of theirs.
    """
    if likeness == "cosine":
        states, vectors = functional.normalize(states), functional.normalize(vectors)
    scale = _TEMPERATURE if likeness == "cosine" else states.shape[1] ** 0.5
    same = torch.as_tensor(items[:, None] == items[None]).to(states.device)
    same.fill_diagonal_(False)
    rows = torch.arange(len(states), device=states.device)
    alike = (states @ vectors.T / scale).masked_fill(same, -torch.inf)
    return functional.cross_entropy(alike, rows)
