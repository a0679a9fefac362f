"""What is taken after what, mixed with what is popular."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass
class MyAgent:
    """Recommends what others took after the items of a history; older items count less."""

    decay: float = 0.6  # what an item counts, compared with the next one
    popularity: float = 0.1  # share of a score that is popularity

    learns_from = "data"
    _follows = None  # (items + 1, items): how often an item was taken next; after a pad, never

    def fit(self, train, validation=None, env=None):
        for data in (train, validation):
            if data is not None and data.storage.metadata.get("split") == "test":
                raise ValueError("That is a test dataset, and MyAgent does not learn from one.")
        n_items = int(train.action_space.n)
        self._history = [int(place) for place in train.storage.metadata["layout"]["history"]]
        self._popular = np.zeros(n_items, np.float32)
        self._follows = np.zeros((n_items + 1, n_items), np.float32)
        for episode in train:
            taken = episode.rewards > 0
            items, histories = episode.actions[taken], episode.observations[:-1][taken]
            histories = histories[:, slice(*self._history)]
            np.add.at(self._popular, items, 1)
            np.add.at(self._follows, (histories, items[:, None]), self._weights(histories))
        self._follows[n_items] = 0
        self._follows /= np.maximum(self._follows.sum(1, keepdims=True), 1)
        self._popular /= max(self._popular.sum(), 1)
        return self

    def scores(self, observations, infos):
        if self._follows is None:
            raise ValueError("MyAgent has not learned yet: call fit(train), or load(folder).")
        histories = observations[:, slice(*self._history)]
        weights = self._weights(histories) * (1 - self.popularity)
        scores = np.tile(self.popularity * self._popular, (len(histories), 1))
        for items, weight in zip(histories.T, weights.T, strict=True):
            scores += weight[:, None] * self._follows[items]
        return scores

    def act(self, observations, infos):
        return self.scores(observations, infos).argmax(1)

    def _weights(self, histories):
        """Less for older items. They are in order, and pads follow the newest one."""
        sizes = (histories < len(self._popular)).sum(1, keepdims=True)
        ages = np.maximum(sizes - 1 - np.arange(histories.shape[1]), 0)
        return np.float32(self.decay) ** ages.astype(np.float32)

    @property
    def parameters(self):
        return self._follows.size + self._popular.size

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "follows.npy", self._follows)
        np.save(folder / "popular.npy", self._popular)
        about = {"options": asdict(self), "history": self._history}
        (folder / "agent.json").write_text(json.dumps(about))

    @classmethod
    def load(cls, folder):
        about = json.loads(Path(folder, "agent.json").read_text())
        agent = cls(**about["options"])
        agent._history = about["history"]
        agent._follows = np.load(folder / "follows.npy")
        agent._popular = np.load(folder / "popular.npy")
        return agent
