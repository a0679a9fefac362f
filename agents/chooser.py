"""An agent of shops: it searches, by rule unless told otherwise, and chooses on every page.

After the choice model of WebShop (Yao et al., 2022): a BERT reads a page and what can be done on
it, and a softmax over that is the policy.
"""

import copy
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agents.bert import SMALL
from recgym.agents.choices import (
    Choice,
    Choices,
    Session,
    is_search,
    offered,
    read_as,
    sessions_of,
    shop_of,
)
from recgym.agents.loop import Loop
from recgym.agents.queries import LEARNED, RULE, Queries, learned_from, queries_of
from recgym.agents.reader import Reader, ReaderPlan, make_reader, reader_plan
from recgym.agents.wordpieces import texts_of
from recgym.errors import InvalidArgument
from recgym.evaluation.ranking import metrics
from recgym.shop.pages import Shop

ACTING, SESSIONS, PREFERRED = 10, 11, 12  # what is drawn besides
JUDGED = 500  # choices of validation sessions that are ranked, at most, evenly taken
_TOGETHER = 64  # pages that are read at once where nothing is learned
_KEPT = 4  # calls whose pages are known
_Page = tuple[str, tuple[str, ...]]  # with what can be done there


@dataclass
class Chooser(Loop[Reader]):
    """An agent that searches for what a goal says, and chooses on pages; a child learns how."""

    reader: str = SMALL  # the name or folder of a BERT, or the small one that is made here
    page_tokens: int = 512  # of a page, at most: of a longer one, the last
    action_tokens: int = 64  # of an action, at most
    dropout: float = 0.0  # share of what the BERT leaves out in training
    acting: Literal["greedy", "sampled"] = "greedy"  # the best, or drawn from the softmax
    queries: str = RULE  # a goal's own words, those that are "learned", or a BART's name or folder
    compat: bool = False  # read lists and names as the original, and learn from parts of them
    learning_rate: float = 0.001  # of Adam
    batch_size: int = 32  # pages
    steps: int = 1500  # batches, at most
    validate_every: int = 150  # batches

    shops: ClassVar[bool] = True
    judged_by: ClassVar[str] = "likelihood"
    copies: ClassVar[int] = 1  # of the reader

    # ----------------------------------------------------------------------------- what it does

    def act(self, observations: Any, infos: Any) -> NDArray[Any]:
        """What each shopper does next, in words.

        Draws go on from call to call, and begin anew with what was learned or loaded.
        """
        self._learned()  # whoever has not, does not know what to search for
        known = offered(infos)
        done = np.full(len(known), "", object)
        choosing = []
        for shopper, actions in enumerate(known):
            if is_search(actions):
                done[shopper] = self._queries(infos["goal"][shopper])
            elif actions:
                choosing.append(shopper)
        scores = self._scored([observations[one] for one in choosing],
                              [known[one] for one in choosing])  # fmt: skip
        rng = np.random.default_rng((self.seed, ACTING, self._asked))
        self._asked += 1
        chances = rng.random(len(known))  # one for each shopper, whoever else chooses
        for shopper, some in zip(choosing, scores, strict=True):
            best = picked(some, chances[shopper]) if self.acting == "sampled" else some.argmax()
            done[shopper] = known[shopper][int(best)]
        return done

    def scores(self, observations: Any, infos: Any) -> list[NDArray[np.float32]]:
        """What each of the actions is worth that `infos` offers to each shopper."""
        return [scores.copy() for scores in self._scored([*observations], offered(infos))]

    def _scored(
        self, pages: Sequence[str], known: Sequence[tuple[str, ...]]
    ) -> list[NDArray[np.float32]]:
        """Scores of pages; shoppers go back and forth, and what was just read is not read again."""
        self._learned()
        before = {page: scores for call in self._seen for page, scores in call.items()}
        asked = [*zip(pages, known, strict=True)]
        unread = [page for page in dict.fromkeys(asked) if page not in before]
        found = before | dict(zip(unread, self._read(unread), strict=True))
        self._seen.append({page: found[page] for page in asked})
        return [found[page] for page in asked]

    @torch.no_grad()
    def _read(self, asked: Sequence[_Page]) -> Iterator[NDArray[np.float32]]:
        network = self._learned()
        for first in range(0, len(asked), _TOGETHER):
            read = [read_as(*page, self.compat) for page in asked[first : first + _TOGETHER]]
            pages, actions = zip(*read, strict=True)
            yield from (scores.numpy() for scores in network.scores(pages, actions))

    @property
    def parameters(self) -> int:
        return super().parameters + self._queries.parameters

    def _about(self) -> dict[str, Any]:
        return {"network": asdict(self._learned().plan), "queries": self._queries.about}

    def _restore(self, about: Mapping[str, Any]) -> None:
        reader = Reader(ReaderPlan(**about["network"]))
        self._keep_both(reader, queries_of(self.queries, about["queries"]))

    def _learned(self) -> Reader:
        network = super()._learned()
        assert isinstance(network, Reader)
        return network

    def _keep_both(self, network: Reader, queries: Queries) -> None:
        self._network, self._queries = copy.deepcopy(network).cpu().eval(), queries
        self._asked = 0  # times, so far
        self._seen: deque[dict[_Page, NDArray[np.float32]]] = deque(maxlen=_KEPT)  # their scores

    # ---------------------------------------------------------------------------- for the loop

    def read(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        shop, self.dataset = shop_of(train), train
        self.sessions = sessions_of(train, shop)
        products = shop.catalogue.products
        self.texts = texts_of(products)
        learned = learned_from(self.sessions, products) if self.queries == LEARNED else {}
        self._queries = queries_of(self.queries, learned)
        if validation is not None:
            judged = Choices.of(sessions_of(validation, shop)).all
            if not judged:
                raise InvalidArgument(
                    "No session of the validation data chooses anything: train without them, or "
                    "give sessions that look at products."
                )
            places = np.linspace(0, len(judged) - 1, min(len(judged), JUDGED)).astype(int)
            self._judged = [judged[place] for place in places]
        self.prepare(shop)

    def prepare(self, shop: Shop) -> None:
        """Look at the sessions before the first batch, and choose among them."""
        raise NotImplementedError

    def made(self) -> list[Reader]:
        plan = reader_plan(
            self.reader,
            self.texts,
            page_tokens=self.page_tokens,
            action_tokens=self.action_tokens,
            dropout=self.dropout,
            progress=lambda share: self.show(f"making a small BERT: {share:.0%}"),
        )
        return [make_reader(replace(plan, seed=self.seed)) for _ in range(self.copies)]

    def validated(self) -> dict[str, float]:
        """How probable it is what was done, among all that could be done."""
        greater, equal, logs = [], [], []
        for choice, scores in zip(self._judged, self.looked(self._judged), strict=True):
            own = scores[choice.done]
            greater.append(int((scores > own).sum()))
            equal.append(int((scores == own).sum()))
            logs.append(float(scores.log_softmax(0)[choice.done]))
        found = metrics(np.array(greater, np.int32), np.array(equal, np.int32), [1])
        return {
            "hr@1": float(found["hr@1"].mean()),
            "cross-entropy of validation": -float(np.mean(logs)),
        }

    def merit(self, found: dict[str, float]) -> float:
        return math.exp(-found["cross-entropy of validation"])

    def take(self, training: Self, train: MinariDataset) -> None:
        self._keep_both(training.networks[0], training._queries)

    # ---------------------------------------------------------------------- what a child can use

    def scored(self, network: Reader, choices: Sequence[Choice]) -> list[torch.Tensor]:
        """What each action of each page is worth."""
        read = [read_as(choice.page, choice.actions, self.compat) for choice in choices]
        pages, actions = zip(*read, strict=True)
        return network.scores(pages, actions)

    def looked(self, choices: Sequence[Choice]) -> list[torch.Tensor]:
        """The same of the network that learns, without learning, and some at a time."""
        found: list[torch.Tensor] = []
        with torch.no_grad():
            for first in range(0, len(choices), _TOGETHER):
                found += self.scored(self.networks[0], choices[first : first + _TOGETHER])
        return found


def picked(scores: NDArray[np.float32], chance: float) -> int:
    """The place at which the softmax of scores, summed up, passes a chance from 0 to 1."""
    sums = np.cumsum(np.exp(scores.astype(np.float64) - scores.max()))
    return int(np.searchsorted(sums, chance * sums[-1], side="right"))


def worthy(
    sessions: Sequence[Session], least: float, count: int, rng: np.random.Generator
) -> list[Session]:
    """Sessions that earned enough and chose something: so many of them, drawn; 0: all."""
    found = [session for session in sessions if session.reward >= least and session.choices]
    if not found or count > len(found):
        raise InvalidArgument(
            f"{len(found):,} sessions of the dataset earned {least:g} or more, and "
            f"{count or 'some':} are asked for: ask for less, or give more sessions."
        )
    if not count:
        return found
    return [found[place] for place in np.sort(rng.permutation(len(found))[:count]).tolist()]
