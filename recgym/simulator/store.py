"""Simulators in folders: fitted step by step from where it was stopped, loaded, named."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym import __version__, checkpoint
from recgym.agent import training_data
from recgym.errors import Busy, InvalidArgument, MissingExtra, UnknownName, printable
from recgym.home import home, locked
from recgym.log import sha256_of_json
from recgym.minari_format import content_hash
from recgym.simulator.asked import ROLES, SMALL, Asked, Fit, Tokenization
from recgym.simulator.cache import ANSWERS, Cached, Say
from recgym.simulator.calibration import Scale, calibrated
from recgym.simulator.catalogue import Catalogue, catalogue_of
from recgym.simulator.feedback import Feedback, LanguageUser
from recgym.simulator.fit import Fitting, adapt
from recgym.simulator.language import Language, of_words
from recgym.simulator.moments import Moments
from recgym.simulator.prompts import Prompts, domain_named, sentence_of
from recgym.simulator.small import Texts, make_small, texts_of
from recgym.simulator.tokens import Tokens, beginning, learn_tokens

Progress = Callable[[str, float | None], None]
WHOLE, _FIT = "simulator.safetensors", "fit.safetensors"
CARD = "card.json"  # how far to trust it, where that was measured
_REQUEST = "request.safetensors"  # what a folder holds the beginning of
_LANGUAGE = "language"  # the folder of a small model
_HELD = 0.1  # share of the users of a fit by which its rewards are calibrated
_RANDOM = 20  # items of each moment on which the base rate is held
_FEWEST = 10  # users
_EVERY = 30.0  # seconds after which a checkpoint is written


@dataclass
class Simulator(LanguageUser):
    """A language model as the user, with what is known of how it was made."""

    scale: Scale = field(kw_only=True)
    about: dict[str, Any] = field(kw_only=True)

    @classmethod
    def load(
        cls, name: str | Path, device: str = "", say: Say = lambda sentence: None
    ) -> "Simulator":
        """A simulator by its name, or from its folder; its language model has to be there too.

        Unless a device is given, it is that of the fit where that is at hand, and else the CPU.
        """
        folder = simulator_path(name)
        states, about = checkpoint.read(folder / WHOLE)
        asked = asked_for(about)
        here = device or (asked.device if _is_at_hand(asked.device) else "cpu")
        language = _language(asked, folder, here)
        if language.sha256 != about["model_sha256"]:
            raise InvalidArgument(
                f"The simulator {folder.name} was fitted to other weights of '{asked.model}' than "
                "those that are there now: give back the model, or fit the simulator again."
            )
        if here != (device or asked.device):
            say(
                f"{folder.name} was fitted on '{printable(asked.device)}', which is not at hand: "
                "it is asked on the CPU."
            )
        language.items = states["items"]["vectors"].to(language.device)
        prompts = Prompts(language, domain_named(about["domain"]), about["spelled"])
        head = torch.nn.Linear(language.width, 1, bias=False).to(language.device)
        with torch.no_grad():
            for place, values in enumerate(adapt(language, asked.fit)):
                values.copy_(states["adapter"][str(place)]).requires_grad_(False)
            head.weight.copy_(states["head"]["weight"])
        scale = Scale(**about["scale"])
        return cls(language, prompts, head.requires_grad_(False), about["sha256"], say,
                   scale=scale, about=about)  # fmt: skip

    def fits(self, dataset: MinariDataset) -> None:
        """Refuse a dataset of another catalogue."""
        if catalogue_of(dataset).sha256 != self.about["catalogue"]:
            raise InvalidArgument(
                f"The simulator was fitted to the catalogue of {self.about['dataset']}, and "
                f"{dataset.id} has another: fit one with `recgym simulator fit --data "
                f"{dataset.id}`."
            )

    def probabilities(self, histories: NDArray[Any], items: NDArray[Any]) -> NDArray[np.float32]:
        """(batch, k): that a user takes each of k items, at the declared base rate."""
        return self.scale.probability(self.rewards(histories, items))


def simulators() -> list[str]:
    """The simulators that are there."""
    return sorted(file.parent.name for file in (home() / "simulators").glob(f"*/{WHOLE}"))


def simulator_path(name: str | Path) -> Path:
    """The folder of a simulator of that name, or the folder itself."""
    for folder in (Path(name), home() / "simulators" / str(name)):
        if (folder / WHOLE).exists():
            return folder
    raise UnknownName(
        "simulator", str(name), simulators(), "Fit one with `recgym simulator fit --data ID`."
    )


def about(name: str | Path) -> dict[str, Any]:
    """How a simulator was made, without its model."""
    return checkpoint.read(simulator_path(name) / WHOLE)[1]


def hashes_of(name: str) -> dict[str, str]:
    """By role, those of the simulators of that name that are there."""
    files = {role: home() / "simulators" / f"{name}-{role}" / WHOLE for role in ROLES}
    return {role: _hash_of(file, file.stat().st_mtime_ns)
            for role, file in files.items() if file.exists()}  # fmt: skip


@lru_cache(maxsize=16)
def _hash_of(file: Path, written: int) -> str:
    """Of a simulator as it was then: a suite asks for each of its steps, and all of it is read."""
    return str(checkpoint.read(file)[1]["sha256"])


def kept(name: str, say: Say = lambda sentence: None) -> tuple[Cached, dict[str, Any]]:
    """A simulator that is asked nothing twice, and how it was made.

    On a machine without its language model it answers what it was asked before.
    """
    known = about(name)
    try:
        user = Simulator.load(name, say=say)
    except (InvalidArgument, MissingExtra) as why:
        user = None
        say(f"{why} Until then it answers what it was asked before.")
    return Cached(user, home() / "simulators" / ANSWERS, known["sha256"], say), known


def fit_simulator(
    dataset: MinariDataset,
    asked: Asked,
    folder: Path,
    progress: Progress = lambda stage, share: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Simulator:
    """Fit a simulator to a share of a training dataset's users, and write it into a folder.

    What was done there before with the same request is not done again. Item tokens, which know
    nothing of users, are kept for all simulators of one model and catalogue.
    """
    training_data(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock") as ours:
        if not ours:
            raise Busy(
                f"Another process is fitting a simulator into {folder}: wait for it, or give "
                "another folder."
            )
        return _Making(dataset, asked, folder, progress, say).made()


def asked_for(about: Mapping[str, Any]) -> Asked:
    """The request that a simulator was made for."""
    told = about["asked"]
    parts = {"fit": Fit(**told["fit"]), "tokens": Tokenization(**told["tokens"])}
    return Asked(**told | parts)


def users_of(moments: Moments, how: Fit) -> tuple[Moments, Moments]:
    """Moments to learn from, and those of other users of the same share to calibrate by."""
    order = np.random.default_rng(0).permutation(moments.users)  # so shares are disjoint
    size, place = round(how.share * len(order)), ROLES.index(how.role)
    mine = order[place * size : (place + 1) * size]
    if len(mine) < _FEWEST:
        raise InvalidArgument(
            f"A share of {how.share:g} of {len(order):,} users, the one for {how.role}, is "
            f"{len(mine)} of them, and a simulator takes {_FEWEST} or more: give another share, "
            "or more data."
        )
    kept = max(1, round(_HELD * len(mine)))
    return moments.of_sessions(mine[kept:]), moments.of_sessions(mine[:kept])


def scaled(user: Feedback, held: Moments, base_rate: float, seed: int) -> tuple[Scale, float]:
    """From rewards to probabilities, and how often the taken one of a pair has the higher."""
    rng = np.random.default_rng(seed)
    untaken, anything = held.untaken(rng, 1), rng.integers(held.n_items, size=(len(held), _RANDOM))
    raw = user.rewards(
        held.histories, np.concatenate([held.items[:, None], untaken, anything], 1)
    )  # fmt: skip
    scale = calibrated(raw[:, 0], raw[:, 1], raw[:, 2:], base_rate)
    return scale, float(np.mean(raw[:, 0] > raw[:, 1]))


def _language(asked: Asked, folder: Path, device: str) -> Language:
    """The model that is asked for; the small one stands in the simulator's own folder."""
    place = str(folder / _LANGUAGE) if asked.model == SMALL else asked.model
    if not _is_at_hand(device):
        raise InvalidArgument(
            f"The device '{printable(device)}' is not at hand: take cpu, or a machine that has it."
        )
    language = Language.load(place, device, asked.precision)
    language.name = asked.model
    return language.unread(asked.fit.seed) if asked.untrained else language


def _is_at_hand(device: str) -> bool:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):  # the latter where Torch has no part for it
        return False
    return True


@dataclass
class _Making:
    """One fit, from what is asked for to a folder; each step is kept when it is done."""

    dataset: MinariDataset
    asked: Asked
    folder: Path
    progress: Progress
    say: Callable[[str], None]

    def made(self) -> Simulator:
        """The simulator, new or as it was fitted before."""
        catalogue = catalogue_of(self.dataset)
        domain = self.asked.domain or catalogue.domain
        request = {
            "asked": asdict(self.asked), "domain": domain, "dataset": self.dataset.id,
            "content": content_hash(self.dataset), "catalogue": catalogue.sha256,
        }  # fmt: skip
        if (self.folder / WHOLE).exists():
            self._same(about(self.folder), request)
            self.say(f"{self.folder.name} is there already, and is not fitted again.")
            return Simulator.load(self.folder, self.asked.device)
        if (self.folder / _REQUEST).exists():
            self._same(checkpoint.read(self.folder / _REQUEST)[1], request)
        self._write(request, catalogue)
        return Simulator.load(self.folder, self.asked.device)

    def _same(self, known: dict[str, Any], request: dict[str, Any]) -> None:
        """Refuse to go on with, or to take for done, what was another request."""
        if others := ", ".join(_others(known, request)):
            raise InvalidArgument(
                f"{self.folder} holds a simulator that was asked for otherwise (other: {others}): "
                "give another name, or delete it."
            )

    def _write(self, request: dict[str, Any], catalogue: Catalogue) -> None:
        began = time.perf_counter()
        try:
            import peft  # noqa: F401  # the last that is needed: missed before anything is learned
            import transformers  # noqa: F401
        except ImportError:
            raise MissingExtra("A simulator", "llm") from None
        domain = domain_named(request["domain"])
        sentences = [sentence_of(domain, item) for item in catalogue.items]
        learned, held = users_of(Moments.of(self.dataset), self.asked.fit)
        language = self._model(catalogue, request)
        about = request | {
            "model_sha256": language.sha256, "parameters": language.parameters,
            "spelled": self._items(language, sentences, catalogue),
        }  # fmt: skip
        prompts = Prompts(language, domain, about["spelled"])
        fitting = self._fitted(language, prompts, learned, request)
        self.progress("calibrating rewards", None)
        user = LanguageUser(language, prompts, fitting.head.requires_grad_(False), say=self.say)
        scale, accuracy = scaled(user, held, self.asked.base_rate, self.asked.fit.seed)
        if prompts.dropped:
            self.say(f"For {prompts.dropped:,} items, the oldest of their histories, prompts had "
                     "no room.")  # fmt: skip
        states: dict[str, dict[str, torch.Tensor]] = {
            "items": {"vectors": language.items},
            "adapter": {str(place): values for place, values in enumerate(fitting.learns)},
            "head": {"weight": fitting.head.weight},
        }  # fmt: skip
        about |= {
            "users": len(learned.users), "moments": len(learned), "held": len(held),
            "batches": fitting.at, "accuracy": accuracy, "dropped": prompts.dropped,
            "padding": language.padded / max(language.seen, 1), "scale": asdict(scale),
        }  # fmt: skip
        of = ("model_sha256", "domain", "catalogue", "spelled")  # and what answers depend on
        about["sha256"] = checkpoint.sha256_of(
            states, {name: about[name] for name in of} | about["asked"]["fit"]
        )
        about |= {"recgym": __version__, "seconds": round(time.perf_counter() - began, 1)}
        checkpoint.write(self.folder / WHOLE, states, about)
        (self.folder / _FIT).unlink(missing_ok=True)

    # ---------------------------------------------------------------------------------- its steps

    def _model(self, catalogue: Catalogue, request: dict[str, Any]) -> Language:
        folder = self.folder / _LANGUAGE
        if self.asked.model == SMALL and not folder.exists():
            checkpoint.write(self.folder / _REQUEST, {}, request)
            self._small(texts_of(domain_named(request["domain"]), catalogue.items), folder)
        self.progress("reading the language model", None)
        return _language(self.asked, self.folder, self.asked.device)

    def _small(self, texts: Texts, folder: Path) -> None:
        """The small model of these texts, which is made once for all simulators of a seed."""
        seed, what = self.asked.fit.seed, "a small language model"
        key = sha256_of_json({"texts": vars(texts), "seed": seed, "recgym": __version__})
        known = home() / "simulators" / ".small" / key[:32]
        with self._alone(known, what):
            if not known.exists():
                make_small(
                    texts, known, seed=seed,
                    progress=lambda share: self.progress(f"making {what}", share),
                )  # fmt: skip
            draft = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(known, draft).rename(folder)

    @contextmanager
    def _alone(self, file: Path, what: str) -> Iterator[None]:
        """While no other process makes the same."""
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with locked(file.with_suffix(".lock")) as ours:
                if ours:
                    yield
                    return
            self.progress(f"waiting for {what} that another process makes", None)
            time.sleep(1)

    def _items(
        self, language: Language, sentences: list[str], catalogue: Catalogue
    ) -> list[list[int]] | None:
        """Learn item tokens; or, where titles are spelled, those of each title."""
        how = self.asked.tokens
        if self.asked.fit.spelled:
            language.items = beginning(language, len(sentences), how).to(language.device)
            told = zip(catalogue.items, sentences, strict=True)
            titles = [item.get("title") or sentence for item, sentence in told]
            if not any(map(str.strip, titles)):
                raise InvalidArgument(
                    f"No item of {self.dataset.id} has a title to spell: build the log with titles."
                )
            return [language.tokens(f" {title}")[: how.tokens] for title in titles]
        texts = [language.tokens(sentence) for sentence in sentences]
        key = sha256_of_json({
            "model": language.sha256, "texts": texts, "how": asdict(how),
            "own": self.asked.model == SMALL,
        })  # fmt: skip
        file = home() / "simulators" / ".tokens" / f"{key[:32]}.safetensors"
        with self._alone(file, "item tokens"):
            vectors = self._learned(language, texts, file)
        language.items = vectors.to(language.device)
        return None

    def _learned(self, language: Language, texts: list[list[int]], file: Path) -> torch.Tensor:
        """Item tokens, from those of them that are in the file."""
        written = time.monotonic()

        def told(tokens: Tokens, share: float) -> None:
            nonlocal written
            self.progress("learning item tokens", share)
            if share == 1 or time.monotonic() - written >= _EVERY:
                vectors, losses = tokens
                checkpoint.write(file, {"items": {"vectors": vectors, "losses": losses}}, {})
                written = time.monotonic()

        how, known = self.asked.tokens, None
        if self.asked.model == SMALL:  # to which an item was the mean of its words
            words = of_words(language.table, [text[: how.tokens] for text in texts])
            known = words, torch.full((len(texts),), torch.nan)
        if kept := self._kept(file):
            items = kept[0]["items"]
            known = items["vectors"], items["losses"]
        return learn_tokens(language, texts, how, known, told)[0]

    def _fitted(
        self, language: Language, prompts: Prompts, moments: Moments, request: dict[str, Any]
    ) -> Fitting:
        """All batches, from the last one that was kept."""
        fitting = Fitting(language, prompts, moments, self.asked.fit, self.say)
        file = self.folder / _FIT
        checkpoint.write(self.folder / _REQUEST, {}, request)
        if kept := self._kept(file):
            fitting.go_on(kept[0]["fit"], kept[1])
            self.say(f"Going on from batch {fitting.at:,} of {len(fitting):,}.")
        written = time.monotonic()
        while fitting.at < len(fitting):
            fitting.advance()
            self.progress("fitting rewards and states", fitting.at / len(fitting))
            if time.monotonic() - written >= _EVERY:
                tensors, standing = fitting.state()
                checkpoint.write(file, {"fit": tensors}, standing)
                written = time.monotonic()
        return fitting

    def _kept(self, file: Path) -> tuple[checkpoint.States, dict[str, Any]] | None:
        """What was kept of a step; where it is damaged, the step begins again."""
        if not file.exists():
            return None
        try:
            return checkpoint.read(file)
        except InvalidArgument:
            self.say(f"{file} is damaged: what it kept is learned again.")
            return None


def _others(known: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[str]:
    """What differs in two requests, by name."""
    for name, value in request.items():
        if isinstance(value, dict):
            yield from _others(known[name], value)
        elif known[name] != value:
            yield name
