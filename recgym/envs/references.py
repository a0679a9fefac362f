"""Agents that know the oracle's catalogue and rules: those that learn are held against them."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import training_data
from recgym.envs.frozen import as_json
from recgym.envs.oracle import Oracle
from recgym.envs.policies import Worth, greedy, observed, planner, recommended
from recgym.errors import InvalidArgument

_FILE = "oracle.json"


class Greedy:
    """The item that is accepted most probably, as far as the observation tells."""

    learns_from: ClassVar[Literal["rules"]] = "rules"
    parameters: ClassVar[int] = 0  # numbers learned
    _worth: ClassVar[tuple[Worth]] = (greedy,)
    _oracle: Oracle | None = None  # until it is told

    def fit(
        self, train: MinariDataset, validation: MinariDataset | None = None, env: Any = None
    ) -> Self:
        """Take the rules of the world that a dataset is of; its episodes teach nothing here."""
        training_data(train, validation)
        rules = train.storage.metadata.get("oracle")
        if rules is None:
            raise InvalidArgument(
                f"{type(self).__name__} knows oracle users, and {train.id} is not of them: its "
                "metadata have no 'oracle'."
            )
        self._oracle = Oracle(**rules)
        return self

    def act(self, observations: Any, infos: Any) -> NDArray[Any]:
        """Recommend an item to each user."""
        rules = self._known()
        return recommended(rules, observed(rules, observations), *self._worth)

    def save(self, folder: Path) -> None:
        """Write the rules."""
        rules = self._known()
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(as_json(rules), indent=1) + "\n"
        (folder / _FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the rules."""
        agent = cls()
        agent._oracle = Oracle(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
        return agent

    def _known(self) -> Oracle:
        if self._oracle is None:
            raise InvalidArgument(
                f"{type(self).__name__} knows no rules yet: call fit(train), or load(folder)."
            )
        return self._oracle


class Observer(Greedy):
    """The item of the topic that is worth most if kept to, as far as the observation tells."""

    _worth: ClassVar[tuple[Worth]] = (planner,)
