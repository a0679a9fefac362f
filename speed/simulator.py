"""What a simulator leaves out: look-ups, beginnings that are read once, many items at once, pads.

All sides of a comparison take turns in one run. The language model is tiny, made here of invented
titles; `--gpu` takes one as large as Mistral-7B, with random weights, and nothing else.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # NumPy asks for it when it is loaded

import argparse  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from datetime import date  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _common import report, seconds  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig  # noqa: E402

from recgym.simulator.asked import Fit, Tokenization  # noqa: E402
from recgym.simulator.cache import Cached  # noqa: E402
from recgym.simulator.feedback import LanguageUser, histories_of  # noqa: E402
from recgym.simulator.fit import Fitting  # noqa: E402
from recgym.simulator.language import Language, Prompt  # noqa: E402
from recgym.simulator.moments import Moments  # noqa: E402
from recgym.simulator.prompts import DOMAINS, Prompts, sentence_of  # noqa: E402
from recgym.simulator.small import Texts, make_small  # noqa: E402
from recgym.simulator.tokens import learn_tokens  # noqa: E402

KNOWN, CACHED, ROUNDS = 1_000_000, 50_000, 15  # look-ups, and items that they are about
ITEMS, LENGTH, MOMENTS = 200, 10, 2_000  # of what the language model is told
HISTORIES, CANDIDATES, TURNS = 200, 10, 5
MOVIES = DOMAINS["movies"]
SPOKEN = (
    "The user has watched these movies in chronological order:, Compute the likelihood that "
    "be the next movie to be watched based on the watching history."
)  # so that a word of it is about one token, as it is to a large model

Act = Callable[[], object]


def main() -> None:
    """Every claim, one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", metavar="FOLDER", help="another causal language model")
    parser.add_argument("--gpu", action="store_true", help="only a random Mistral-7B, on cuda")
    asked = parser.parse_args()
    if asked.gpu and not torch.cuda.is_available():
        sys.exit("No GPU is here: run this where torch.cuda.is_available() is true.")
    with tempfile.TemporaryDirectory() as folder:
        small = make_small(Texts([*sentences(), SPOKEN]), Path(folder) / "small", steps=20)
        if asked.gpu:
            share_of_the_peak(MistralConfig(), "cuda", small)
            return
        for k, batch in ((1, 10_000), (10, 1000), (10, 256)):
            cached_answers(k, batch)
        model = asked.model or str(small)
        for repeats in (1, 4):
            scoring(model, repeats)
        tokens_of_items(model)
        for spelled in (False, True):
            fitting(model, spelled)


# --------------------------------------------------------------------------------- comparisons


def cached_answers(k: int, batch: int) -> None:
    """A second's worth of look-ups, with their keys: k items for each of a batch of histories."""
    rng = np.random.default_rng(0)
    histories = rng.integers(0, CACHED, (KNOWN // k, LENGTH))
    items = rng.integers(0, CACHED, (KNOWN // k, k))
    with tempfile.TemporaryDirectory() as folder:
        cached = Cached(Sums(), Path(folder))
        wanted = cached.rewards(histories, items)
        cached.hits = cached.misses = 0
        order = rng.permutation(len(histories))

        def look_up() -> None:
            for start in range(0, len(order), batch):
                some = order[start : start + batch]
                found = cached.rewards(histories[some], items[some])
                assert (found == wanted[some]).all()

        look_up()  # the first reads them from the disk
        pairs = [(seconds(look_up), KNOWN / 1e6) for _ in range(ROUNDS)]
        assert cached.misses == 0
    name = f"cached rewards, {KNOWN:,} look-ups of {KNOWN:,}, {k} items × {batch:,} histories"
    report(name, pairs, at_most=1)


def scoring(model: str, repeats: int) -> None:
    """Rewards of candidates, where each history is asked about so often, against whole prompts."""
    user, rng = user_of(read(model)), np.random.default_rng(0)
    histories = invented_histories(HISTORIES // repeats).repeat(repeats, 0)
    items = rng.integers(ITEMS, size=(len(histories), CANDIDATES))
    ours, naive = partial(user.rewards, histories, items), partial(whole, user, histories, items)
    np.testing.assert_allclose(ours(), naive(), rtol=0, atol=1e-5)
    name = (
        f"rewards of {CANDIDATES} items after each of {HISTORIES} histories, {repeats} times each"
    )
    report(f"{name}, against whole prompts", in_turn(ours, naive), at_least=1.6)


def tokens_of_items(model: str) -> None:
    """Vectors of all items learned together, against one item after the other."""
    language, how = read(model), Tokenization(iterations=5, patience=0, noise=0)
    texts = [language.tokens(sentence) for sentence in sentences()]

    def one_by_one() -> torch.Tensor:
        return torch.cat([learn_tokens(language, [text], how)[0] for text in texts])

    def together() -> torch.Tensor:
        return learn_tokens(language, texts, how)[0]

    torch.testing.assert_close(together(), one_by_one(), rtol=0, atol=1e-3)
    name = f"tokens of {ITEMS} items at once against one at a time"
    report(name, in_turn(together, one_by_one), at_least=3)


def fitting(model: str, spelled: bool) -> None:
    """Batches of like lengths against any, and beginnings that are read once against twice."""
    how, kinds = Fit(dropout=0, spelled=spelled), (Fitting, Anyhow, Whole)
    ours, anyhow, twice = [begun(kind, read(model), how) for kind in kinds]
    losses = [list(fit.losses(fit.moments[:99])) for fit in (ours, twice)]
    for (_, one), (_, other) in zip(*losses, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    times = in_turn(*(partial(advanced, one) for one in (ours, anyhow, twice)))
    items = "titles" if spelled else "item tokens"
    pads = [tuple(one.language.padded / one.language.seen for one in (ours, anyhow))]
    name = f"pads among the tokens read by a fit to {items}, by length against any order"
    report(name, pads, at_most=0.5)
    name = f"batches of a fit to {items}, beginnings read once, by length"
    report(f"{name} against any order", [(a, b) for a, b, _ in times], at_most=1)
    report(f"{name} against whole prompts", [(a, c) for a, _, c in times], at_most=1)


def share_of_the_peak(
    config: Any, device: str, tokenizer: Path, side: int = 16_384, histories: int = 1024
) -> None:
    """Fitting and scoring in bf16 with random weights, against products of large matrices."""
    for size in (Fit().batch_size, 128):
        fit = begun(Fitting, drawn(config, device, tokenizer), Fit(batch_size=size))
        # Gradients pass through frozen weights, but not to them: 4 operations of the usual 6.
        reached(f"fitting, batches of {size}", fit.advance, fit.language, 4, side)
        del fit  # its memory is counted no more
    user = user_of(drawn(config, device, tokenizer))
    items = np.random.default_rng(0).integers(ITEMS, size=(histories, CANDIDATES))
    ask = partial(user.rewards, invented_histories(histories), items)
    reached(f"scoring, {CANDIDATES} items × {histories:,} histories", ask, user.language, 2, side)


def reached(name: str, act: Act, language: Language, operations: int, side: int) -> None:
    """Operations a second, for each weight and each token that is no pad, against the peak."""
    body, on_cuda = language.model.base_model, language.device.type == "cuda"
    learned = sum(values.numel() for values in body.parameters() if values.requires_grad)
    weights = sum(values.numel() for values in body.parameters())
    weights -= language.table.numel() + learned  # rows of the table are not multiplied
    act()  # loads what is loaded at first use
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    speeds, pairs = [], []
    for _ in range(TURNS):
        before = language.seen - language.padded
        taken = seconds(settled(act, on_cuda))
        speeds.append((language.seen - language.padded - before) / taken)
        memory = torch.cuda.max_memory_allocated() if on_cuda else None
        pairs.append((operations * weights * speeds[-1], peak(language.device, side)))
    ours, most = (statistics.median(which) for which in zip(*pairs, strict=True))
    row = {
        "name": f"{language.name} in bf16, {name}: operations a second against the peak",
        "value": ours, "baseline": most, "ratio": statistics.median(a / b for a, b in pairs),
        "tokens a second": statistics.median(speeds), "peak memory": memory, "weights": weights,
        "attention": language.model.config._attn_implementation,
        "machine": torch.cuda.get_device_name() if on_cuda else platform.machine(),
        "torch": torch.__version__, "date": date.today().isoformat(),
    }  # fmt: skip
    print(json.dumps(row), flush=True)


def peak(device: torch.device, side: int) -> float:
    """Operations a second of the product of two large matrices in bf16."""
    one, other = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    multiply = settled(partial(torch.matmul, one, other), device.type == "cuda")
    multiply()
    return 2 * side**3 / min(seconds(multiply) for _ in range(5))


# --------------------------------------------------------------------------------------- sides


class Sums:
    """A simulator that is no model: only what it has said before is timed."""

    sha256, n_items, width = hashlib.sha256(b"sums").hexdigest(), CACHED, 8

    def rewards(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Anything that depends on both."""
        return np.float32(histories.sum(1)[:, None] - items)

    def states(self, histories: np.ndarray) -> np.ndarray:
        """Not asked for."""
        raise NotImplementedError

    def choices(self, histories: np.ndarray, five: np.ndarray, seed: int) -> np.ndarray:
        """Not asked for."""
        raise NotImplementedError


@torch.no_grad()
def whole(user: LanguageUser, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Rewards by a prompt for each item, in batches of as many tokens as ours, without a cache."""
    asked = [
        [*user.prompts.likelihood(history), *user.prompts.of(item)]
        for history, five in zip(histories_of(histories, ITEMS), items.tolist(), strict=True)
        for item in five
    ]
    size = max(1, user.language.together // max(map(len, asked)))
    found = [user.head(states_after(user.language, asked[at : at + size]))
             for at in range(0, len(asked), size)]  # fmt: skip
    return torch.cat(found).view(items.shape).numpy()


def states_after(language: Language, prompts: Sequence[Prompt]) -> torch.Tensor:
    """(prompts, width): read whole, right-padded."""
    return language.last([()], prompts, np.zeros(len(prompts), np.int64))


class Anyhow(Fitting):
    """One whose batches hold prompts of any length."""

    def batch(self) -> np.ndarray:
        """As many moments, as drawn."""
        rows = self.draws(0, self.at).permutation(len(self.moments))
        return rows[: self.how.batch_size]


class Whole(Fitting):
    """One that reads a beginning again for each item that follows it."""

    def after(
        self, beginnings: Sequence[Prompt], endings: Sequence[Prompt], of: np.ndarray
    ) -> torch.Tensor:
        """The same states."""
        prompts = [[*beginnings[one], *end] for one, end in zip(of, endings, strict=True)]
        return states_after(self.language, prompts)


def advanced(fit: Fitting, batches: int = 5) -> None:
    """What is timed of a fit."""
    for _ in range(batches):
        fit.advance()


# ------------------------------------------------------------------------------------ invented


def sentences() -> list[str]:
    """What is said of invented films."""
    rng = np.random.default_rng(0)
    words = ["the", "of", "quiet", "hidden", "golden", "harbour", "winter", "stranger", "witness"]
    titles = [f"{' '.join(rng.choice(words, rng.integers(1, 8)))} {year}" for year in range(ITEMS)]
    topics = [", ".join(rng.choice(["Drama", "Comedy", "Crime"], 2)) for _ in titles]
    return [sentence_of(MOVIES, {"title": title, "topics": topic})
            for title, topic in zip(titles, topics, strict=True)]  # fmt: skip


def invented_histories(count: int) -> np.ndarray:
    """(count, LENGTH): of one item to LENGTH, as many of each length."""
    rng = np.random.default_rng(1)
    found = rng.integers(ITEMS, size=(count, LENGTH))
    found[np.arange(LENGTH) >= rng.integers(1, LENGTH + 1, (count, 1))] = ITEMS
    return found


def moments() -> Moments:
    """What some users took next, whose histories are of every length."""
    items = np.random.default_rng(2).integers(ITEMS, size=MOMENTS)
    taken = np.zeros((MOMENTS, -(-ITEMS // 8)), np.uint8)  # a user may be offered the same again
    return Moments(ITEMS, invented_histories(MOMENTS), items, np.arange(MOMENTS), taken)


def read(model: str) -> Language:
    """A model of a folder, with item tokens that are drawn."""
    return with_items(Language.load(model))


def drawn(config: Any, device: str, tokenizer: Path) -> Language:
    """A model of this shape with random weights, in bf16."""
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    name = f"random {config.model_type}, {config.num_hidden_layers} × {config.hidden_size}"
    return with_items(Language(model, AutoTokenizer.from_pretrained(tokenizer), name))


def with_items(language: Language) -> Language:
    """Item tokens about as large as those of words."""
    noise = torch.randn(ITEMS, language.width, generator=torch.Generator().manual_seed(0))
    language.items = noise.to(language.table) * language.table.std()
    return language


def begun(kind: type[Fitting], language: Language, how: Fit) -> Fitting:
    """A fit where it begins, except that its head is drawn: that of a fit says nothing yet."""
    fit = kind(language, prompts_of(language, how.spelled), moments(), how)
    with torch.no_grad():
        fit.head.weight.copy_(head_of(language).weight)
    return fit


def user_of(language: Language) -> LanguageUser:
    """Users with a head that is drawn."""
    return LanguageUser(language, prompts_of(language), head_of(language))


def prompts_of(language: Language, spelled: bool = False) -> Prompts:
    """About films; an item is its token, or its sentence."""
    texts = [language.tokens(sentence) for sentence in sentences()] if spelled else None
    return Prompts(language, MOVIES, texts)


def head_of(language: Language) -> torch.nn.Linear:
    """One that is drawn, as if it had been fitted."""
    head = torch.nn.Linear(language.width, 1, bias=False)
    weights = torch.randn(1, language.width, generator=torch.Generator().manual_seed(1))
    head.weight.data = weights / language.width**0.5
    return head.to(language.device)


# ------------------------------------------------------------------------------------ measuring


def in_turn(*acts: Act) -> list[tuple[float, ...]]:
    """The times of each round."""
    for act in acts:
        act()  # memory is touched
    return [tuple(seconds(act) for act in acts) for _ in range(TURNS)]


def settled(act: Act, on_cuda: bool) -> Act:
    """The same, until the card has done it."""

    def wait() -> None:
        act()
        if on_cuda:
            torch.cuda.synchronize()

    return wait


if __name__ == "__main__":
    main()
