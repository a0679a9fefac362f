"""A simulator's card: it, its variants and its rivals, measured on users that it has never seen."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from minari.dataset.minari_dataset import MinariDataset

from recgym.evaluation.intervals import Outcomes, interval, outcomes, paired
from recgym.home import home, write_whole
from recgym.log import sha256_of_json
from recgym.minari_format import content_hash
from recgym.simulator.asked import Asked
from recgym.simulator.calibration import Scale
from recgym.simulator.catalogue import catalogue_of
from recgym.simulator.feedback import Feedback
from recgym.simulator.measures import Found, agreement, flat, measured, neighbours
from recgym.simulator.moments import Moments
from recgym.simulator.rivals import GRUUser, ItemKNNUser, PopularityUser
from recgym.simulator.store import (
    WHOLE,
    Progress,
    Simulator,
    about,
    asked_for,
    fit_simulator,
    scaled,
    simulator_path,
    users_of,
)
from recgym.simulator.truth import truth

FORMAT = 1
FITTED = "as fitted"  # the row of the simulator itself
SHARES = (0.05, 0.25, 0.5, 1.0)  # of the users, beside its own
_TOPICS = 6  # that have a colour of their own
_ENDLESS = 1_000_000  # epochs of a fit that ends by its batches
_FACTS = (
    "sha256", "dataset", "domain", "model_sha256", "parameters", "users", "moments",
    "batches", "padding", "dropped", "scale", "seconds", "recgym",
)  # fmt: skip


@dataclass
class Card:
    """What a card is made of; what was fitted or measured for it before is kept."""

    name: str  # of the simulator that trains agents
    data: MinariDataset  # that it was fitted to
    held_out: MinariDataset  # users that it has never seen
    seeds: int = 3  # of the headline rows
    count: int = 1000  # of moments that are drawn
    progress: Progress = lambda stage, share: None
    say: Callable[[str], None] = lambda sentence: None

    def __post_init__(self) -> None:
        """Draw the moments that all rows are measured on."""
        self.user = Simulator.load(self.name, say=self.say)
        self.user.fits(self.held_out)
        self.asked = asked_for(self.user.about)
        self.known, held = Moments.of(self.data), Moments.of(self.held_out)
        rng = np.random.default_rng(0)
        self.held = held[np.sort(rng.choice(len(held), min(self.count, len(held)), replace=False))]
        topics = [
            item.get("topics", "").partition(", ")[0] for item in catalogue_of(self.data).items
        ]
        self.topics = np.array(topics)[self.held.items]  # of what was taken next

    def made(self, scoring: str = "", models: Sequence[str] = (), fits: bool = True) -> Found:
        """The content of a card; without fits, with the variants that are there already."""
        rows = {FITTED: [self._of(self.user)]}
        rows |= {label: [self._of_rival(user) for user in users]
                 for label, users in self._rivals().items()}  # fmt: skip
        for label, requests in self._variants(models).items():
            there = [one for one in requests if fits or (self._folder(one) / WHOLE).exists()]
            if there:
                rows[label] = [*rows.get(label, ()), *map(self._of_variant, there)]
        about = self.user.about
        return {
            "format": FORMAT,
            "simulator": simulator_path(self.name).name,
            "asked": asdict(self.asked) | {"model": _shown(self.asked.model)},
            **{name: about[name] for name in _FACTS},
            "held": {"dataset": self.held_out.id, "users": len(self.held.users),
                     "moments": len(self.held)},
            "rows": {label: self._told(parts, rows[FITTED]) for label, parts in rows.items()},
            "agreement": self._agreement(scoring),
            "states": self._states(),
        }  # fmt: skip

    # ------------------------------------------------------------------------- what is compared

    def _rivals(self) -> dict[str, list[Feedback]]:
        """Simulators that are no language models, of the same users."""
        learned, _ = users_of(self.known, self.asked.fit)
        self.progress("fitting its rivals", None)
        seeds = range(self.asked.fit.seed, self.asked.fit.seed + self.seeds)
        return {
            "popularity": [PopularityUser(learned)],
            "ItemKNN": [ItemKNNUser(learned)],
            "GRU": [GRUUser(learned, seed=seed) for seed in seeds],
        }

    def _variants(self, models: Sequence[str]) -> dict[str, list[Asked]]:
        """The requests of each row, one for each seed."""
        fit, first, batches = self.asked.fit, self.asked.fit.seed, self.user.about["batches"]

        def other(seed: int = first, **changes: Any) -> Asked:
            return replace(self.asked, fit=replace(fit, seed=seed, **changes),
                           tokens=replace(self.asked.tokens, seed=seed))  # fmt: skip

        seeds = range(first, first + self.seeds)
        as_long = {"role": "training", "epochs": _ENDLESS, "batches": batches}
        return {
            FITTED: [other(seed) for seed in seeds[1:]],
            **{f"the model {_shown(model)}": [replace(self.asked, model=model)]
               for model in models},
            "the model, its weights drawn": [replace(self.asked, untrained=True)],
            "titles for item tokens (-IT)": [other(spelled=True)],
            "no state model (-SM)": [other(state_weight=0.0)],
            **{f"{share:.0%} of the users": [other(share=share, **as_long)] for share in SHARES},
            "its labels shuffled": [other(seed, shuffled=True) for seed in seeds],
        }  # fmt: skip

    # -------------------------------------------------------------------------------- its numbers

    def _of(self, user: Simulator) -> Found:
        return self._measured(user.sha256, lambda: (user, user.scale))

    def _of_rival(self, user: Feedback) -> Found:
        _, kept = users_of(self.known, self.asked.fit)
        rate, seed = self.asked.base_rate, self.asked.fit.seed
        return self._measured(user.sha256, lambda: (user, scaled(user, kept, rate, seed)[0]))

    def _of_variant(self, asked: Asked) -> Found:
        """Measured after it was fitted, where it was not before."""
        folder = self._folder(asked)
        if (folder / WHOLE).exists():
            sha256 = about(folder)["sha256"]
        else:
            sha256 = fit_simulator(self.data, asked, folder, self.progress, self.say).sha256

        def load() -> tuple[Feedback, Scale]:
            user = Simulator.load(folder)
            return user, user.scale

        return self._measured(sha256, load)

    def _folder(self, asked: Asked) -> Path:
        key = sha256_of_json({"asked": asdict(asked), "content": content_hash(self.data)})
        return home() / "simulators" / ".variants" / key[:32]

    def _measured(self, sha256: str, load: Callable[[], tuple[Feedback, Scale]]) -> Found:
        key = sha256_of_json({
            "simulator": sha256, "held": content_hash(self.held_out), "moments": len(self.held),
            "base rate": self.asked.base_rate, "format": FORMAT,
        })  # fmt: skip
        file = home() / "simulators" / ".measured" / f"{key[:32]}.json"
        if file.exists():
            found: Found = json.loads(file.read_text())
            return found
        user, scale = load()
        self.progress("measuring", None)
        found = measured(user, scale, self.held, self.known.popularity)
        found["alike"] = neighbours(user.states(self.held.histories), self.topics, self.held)
        if "oracle" in self.data.storage.metadata:
            spec = self.data.env_spec
            assert spec is not None
            found["truth"] = truth(user, spec.id, spec.kwargs)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(found))
        return found

    def _told(self, parts: Sequence[Found], fitted: Sequence[Found]) -> Found:
        """A row: what it gets right, how much less that is, and what else its first seed says."""
        of, against = _outcomes(parts, self.held), _outcomes(fitted, self.held)
        return {
            "seeds": len(parts),
            "right": {name: asdict(interval(one)) for name, one in of.items()},
            "behind": {name: asdict(paired(against[name], one)) for name, one in of.items()},
            **{name: value for name, value in parts[0].items() if name not in ("accuracy", "hits")},
        }

    def _agreement(self, scoring: str) -> Found | None:
        if not scoring:
            return None
        other = Simulator.load(scoring)
        self.progress("asking the simulator that scores", None)
        return agreement(self.user, other, self.held, np.random.default_rng(0))

    def _states(self) -> Found:
        """Where states lie on their two main axes, and the topic of what was taken next."""
        names, counts = np.unique(self.topics[self.topics != ""], return_counts=True)
        shown = names[np.argsort(-counts, kind="stable")][:_TOPICS].tolist()
        return {
            "places": flat(self.user.states(self.held.histories)).round(4).tolist(),
            "topics": [topic if topic in shown else "" for topic in self.topics.tolist()],
        }


def _shown(model: str) -> str:
    """A model's name; of a folder the last part, as the rest says only where it was."""
    return Path(model).name if Path(model).is_dir() else model


def _outcomes(parts: Sequence[Found], held: Moments) -> dict[str, Outcomes]:
    """What was right, by seed and user."""
    return {
        name: outcomes(np.array([part["hits"][name] for part in parts], float), held.sessions)
        for name in parts[0]["hits"]
    }
