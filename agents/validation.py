"""How well a recommender ranks what users of validation data did."""

from typing import Any

import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agents.batches import Steps
from recgym.agents.recommender import Recommender
from recgym.errors import InvalidArgument
from recgym.evaluation.ranking import metrics, rank

TARGETS = 2000  # at most, evenly taken


class Validation:
    """The actions that brought a reward after a history; where nothing has one, without it."""

    def __init__(self, data: Steps, on: torch.device) -> None:
        """Choose them."""
        rows = np.flatnonzero(data.taken & (~data.empty | data.empty.all()))
        if not len(rows):
            raise InvalidArgument(
                "The validation data have no action after a history that brought a reward: train "
                "without them, or on a log that has."
            )
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), TARGETS)).astype(int)]
        self._data, self._rows, self._on = data, rows, on

    def __call__(self, network: Recommender, head: str) -> dict[str, float]:
        """HR and NDCG at 10 among all items."""

        def scores(some: slice) -> NDArray[Any]:
            seen = self._data.seen(self._data.states[self._rows[some]], self._on)
            found: NDArray[Any] = network.head(head)(network.state(seen)).float().cpu().numpy()
            return found

        with torch.no_grad():
            ranked = rank(scores, self._data.actions[self._rows], self._data.n_items)
        found = metrics(ranked.greater, ranked.equal, [10])
        return {name: float(found[name].mean()) for name in ("ndcg@10", "hr@10")}


def same_catalogue(train: MinariDataset, validation: MinariDataset) -> None:
    """Refuse validation data whose item numbers mean something else."""
    if _catalogue(train) != _catalogue(validation):
        raise InvalidArgument(
            f"{validation.id} is of another catalogue or log than {train.id}, so that its items "
            "are other ones: give the validation split of the same data."
        )


def _catalogue(data: MinariDataset) -> tuple[Any, ...]:
    """What decides which item a number names, and how it is seen."""
    about = data.storage.metadata
    digest = about.get("log", {}).get("digest")
    return data.action_space, data.observation_space, digest, about.get("oracle")
