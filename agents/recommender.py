"""An encoder of histories with heads over all items: what most agents here train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from recgym.agents.batches import Seen, seen_of
from recgym.agents.encoders import Encoder, encoder_named
from recgym.agents.heads import ItemHead
from recgym.errors import InvalidArgument


@dataclass(frozen=True)
class Plan:
    """What a recommender is rebuilt from."""

    encoder: str
    n_items: int
    answers: int  # that are told apart; 0 where none are seen
    parts: Mapping[str, Sequence[int]]  # where the history, and answers, stand in an observation
    size: int
    dropout: float
    heads: Mapping[str, int]  # by name, how many things each says a number of: mostly the items
    tied: bool = False  # are embeddings also the weights of the heads?
    hidden: int = 0  # the width of a layer between encoder and heads; 0: there is none
    told: int = 0  # numbers that a simulator says of a user, which the q head sees, too
    projected: int = 0  # how many a layer makes of them; 0: there is none
    alone: bool = False  # does it see nothing else?

    @property
    def length(self) -> int:
        """Of a history."""
        first, stop = self.parts["history"]
        return stop - first


class Recommender(nn.Module):
    """A state, and from it a number for each item by every head."""

    encoder: Encoder

    def __init__(self, plan: Plan) -> None:
        """Make the networks."""
        super().__init__()
        self.plan = plan
        make = encoder_named(plan.encoder)
        self.encoder = make(plan.n_items, plan.length, plan.answers, plan.size, plan.dropout)
        width = self.encoder.width
        if plan.tied and width != plan.size:
            raise InvalidArgument(
                f"{plan.encoder} ends in states of {width}, which embeddings of {plan.size} "
                "cannot weigh: take gru4rec, sasrec or nextitnet, or tied=False."
            )
        self.layer: nn.Module = nn.Identity()
        if plan.hidden:
            self.layer, width = nn.Sequential(nn.Linear(width, plan.hidden), nn.ReLU()), plan.hidden
        widths = {"q": plan.projected or plan.told} if plan.told else {}
        if widths and not plan.alone:
            widths["q"] += width
        table = self.encoder.items if plan.tied else None
        self.heads = nn.ModuleDict({name: ItemHead(widths.get(name, width), count, table)
                                    for name, count in plan.heads.items()})  # fmt: skip
        self.projection: nn.Module = nn.Identity()
        if plan.projected:
            self.projection = nn.Linear(plan.told, plan.projected)

    def state(self, seen: Seen) -> torch.Tensor:
        """(batch, width)."""
        state: torch.Tensor = self.layer(self.encoder(seen.items, seen.lengths, seen.answers))
        return state

    def valued(self, state: torch.Tensor, seen: Seen) -> torch.Tensor:
        """(batch, wider): what values are linear in: the state, what a simulator says, or both."""
        if not self.plan.told:
            return state
        told: torch.Tensor = self.projection(seen.told)
        return told if self.plan.alone else torch.cat([told, state], 1)

    def head(self, name: str) -> ItemHead:
        """One of the heads."""
        head = self.heads[name]
        assert isinstance(head, ItemHead)
        return head


class Scores(nn.Module):
    """What one head says of every item, from flat observations as environments show them."""

    def __init__(self, recommender: Recommender, head: str) -> None:
        """Take a recommender."""
        super().__init__()
        self.recommender, self.name = recommender, head

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        plan = self.recommender.plan
        codes = {name: observations[:, slice(*part)].long() for name, part in plan.parts.items()}
        seen = seen_of(codes["history"], codes.get("responses"), plan.n_items)
        scores: torch.Tensor = self.recommender.head(self.name)(self.recommender.state(seen))
        return scores
