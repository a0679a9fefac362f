"""Steps of training against the floor, which is their output layer, and against other libraries.

All sides of a comparison take turns in one run, three steps at a time of which the quickest counts.
What says "gated" ends with 1 where its bar is missed by more than 1.3 times.
"""

import os
import sys
import tempfile
import warnings

SCRATCH = tempfile.TemporaryDirectory()
if "--accuracy" not in sys.argv:  # which reads a dataset that is there
    os.environ["MINARI_DATASETS_PATH"] = os.environ["RECGYM_HOME"] = SCRATCH.name
warnings.simplefilter("ignore")  # Minari's, of authors that the invented datasets do not have

import argparse  # noqa: E402
import copy  # noqa: E402
import gc  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from importlib.util import find_spec  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

import minari  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from _common import invented_log, report, seconds  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import recgym  # noqa: E402
from recgym.agents.batches import Seen, Steps  # noqa: E402
from recgym.agents.crr import CRRTransformer, CRRTransformerSmall  # noqa: E402
from recgym.agents.encoders import Encoder, SASRec  # noqa: E402
from recgym.agents.heads import ItemHead  # noqa: E402
from recgym.agents.lea import LEA  # noqa: E402
from recgym.agents.learner import Learner  # noqa: E402
from recgym.agents.sa2c import SA2C  # noqa: E402
from recgym.agents.snqn import SNQN  # noqa: E402
from recgym.agents.supervised import Modern, Supervised  # noqa: E402
from recgym.agents.validation import Validation  # noqa: E402
from recgym.runs import Run, metrics_of  # noqa: E402
from recgym.simulator.cache import Cached  # noqa: E402
from recgym.simulator.moments import Moments  # noqa: E402
from recgym.simulator.rivals import PopularityUser  # noqa: E402

SMALL, LARGE, HUGE, FILMS = 3_706, 27_000, 59_000, 59_047  # items; the last of MovieLens-25M
BATCH, WIDTH, LENGTH, TOLD = 256, 64, 10, 64  # the last: what a simulator says of a user
SESSIONS, SESSION = 2_000, 31  # its windows of 10 are all full
STRIDES = (5, 10)  # the default, and one window for as many targets as it holds
ROUNDS, SLACK = 11, 1.3
BOUND = 1.6  # times what has to be kept: the most memory of CRR-Transformer's trainings
ENCODERS = {"sasrec": "SASRec", "gru4rec": "GRU4Rec"}  # and what RecBole calls them
PEAKS = [*itertools.product(("supervised", "snqn"), (LARGE, HUGE)),
         ("crr-transformer-small", LARGE), ("crr-transformer-small", FILMS),
         ("crr-transformer", FILMS)]  # fmt: skip

Act = Callable[[], object]


def main() -> None:
    """Every claim, one line each, or only the peaks of memory, that of one training, or a GPU's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peaks", type=Path, metavar="FILE", help="JSON that a page is made of")
    parser.add_argument("--peak", nargs=2, metavar=("AGENT", "ITEMS"))
    parser.add_argument("--gpu", action="store_true", help="only the published size, on cuda")
    parser.add_argument("--accuracy", metavar="DATASET", help="also of RecBole's, once trained")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.accuracy:
        accuracy(asked.accuracy)
        return
    if asked.peak:
        peak(asked.peak[0], int(asked.peak[1]))
        return
    if asked.gpu:
        if not torch.cuda.is_available():
            sys.exit("No GPU is here: run this where torch.cuda.is_available() is true.")
        share_of_the_peak()
        return
    if asked.peaks:
        rows = [peak_of(agent, of, asked.threads) for agent, of in PEAKS]
        asked.peaks.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return
    kept = [against_the_floor(n_items) for n_items in (SMALL, LARGE)]
    for n_items in (SMALL, LARGE):
        both_stages(n_items)
        of_a_simulator(n_items)
    all_positions(SMALL)
    for n_items in (SMALL, LARGE):
        loading(n_items)
        steps_of_gain(n_items)
    for n_items, strides in ((SMALL, STRIDES), (LARGE, STRIDES[:1])):
        against_recbole(n_items, strides)
    against_d3rlpy(SMALL)
    for agent, of in PEAKS:
        peak_of(agent, of, asked.threads)
    sys.exit(not all(kept))


# --------------------------------------------------------------------------------- comparisons


def against_the_floor(n_items: int) -> bool:
    """Steps of agents against what no trainer with a full softmax can leave out."""
    data = dataset(n_items)
    floor, passing, td_floor, sasrec, gru4rec, snqn = in_turn(
        layer(n_items),
        layer(n_items, passes=True),
        both_heads(n_items),
        begun(Supervised(), data)._advance,
        begun(Supervised(encoder="gru4rec"), data)._advance,
        begun(SNQN(), data)._advance,
    )
    kept = True
    for encoder, times, bar in (("sasrec", sasrec, 1.5), ("gru4rec", gru4rec, 2.0)):
        name = f"step of supervised {encoder} against its output layer, {n_items:,} items"
        pairs = list(zip(times, floor, strict=True))
        if n_items == LARGE:
            name += f", gated at {SLACK * bar:.2f}"
            kept &= statistics.median(ours / bare for ours, bare in pairs) <= SLACK * bar
        report(name, pairs, at_most=bar)
        name = f"the same against a layer that hands gradients to its states: {encoder}"
        report(f"{name}, {n_items:,} items", list(zip(times, passing, strict=True)))
    pairs = list(zip(snqn, td_floor, strict=True))
    report(f"step of snqn sasrec against its floor, {n_items:,} items", pairs, at_most=1.6)
    return kept


def both_stages(n_items: int) -> None:
    """Steps of CRR-Transformer's small form against the products of its heads."""
    data = dataset(n_items)
    steps = [
        begun(CRRTransformerSmall(stages=stages), data)._advance for stages in ("first", "second")
    ]
    first, second, *floors = in_turn(*steps, layer(n_items), four_heads(n_items))
    for stage, ours, floor in zip(("first", "second"), (first, second), floors, strict=True):
        name = f"step of crr-transformer-small's {stage} stage against its products"
        report(f"{name}, {n_items:,} items", list(zip(ours, floor, strict=True)), at_most=1.6)


def of_a_simulator(n_items: int) -> None:
    """Steps of LEASR with all feedback at hand, against those of the agents that it extends."""
    data = dataset(n_items, SESSIONS // 4)
    for (advantages, kind), width in itertools.product(((False, SNQN), (True, SA2C)), (0, 16)):
        ours = begun(Told(batch_size=BATCH, advantages=advantages, projected=width), data)
        base = begun(kind(negatives=1), data)
        ours.memory["warm since"] = base.memory["warm since"] = 0
        times, floor = in_turn(ours._advance, base._advance)  # the first asks
        name = f"step of lea over {kind.__name__.lower()}, {width or TOLD} numbers of a simulator"
        pairs = list(zip(times, floor, strict=True))
        report(f"{name}, against its own, {n_items:,} items", pairs, at_most=1.3)
    at = ours.at
    ours.augment()  # what is asked depends on the step: then everything is known

    def ask() -> None:
        ours.at = at
        ours.augment()

    name = "asking the cache about all steps, a step's share of it, against a step of sa2c"
    pairs = [(seconds(ask) / ours.refresh, step) for step in floor]
    report(f"{name}, {len(ours.data):,} steps, {n_items:,} items", pairs)


class Told(LEA):
    """LEA on data without a simulator: what one would say is drawn, and choices are a rival's."""

    infos = ()

    def prepare(self, data: Steps) -> None:
        rng, states = np.random.default_rng(0), len(data.items)
        data.told = rng.standard_normal((states, TOLD), np.float32)
        worth = rng.standard_normal((states, 11), np.float32)
        others = rng.integers(data.n_items, size=(states, 10))
        data.infos = {"reward": worth[:, 0], "negative_rewards": worth[:, 1:], "negatives": others}
        super().prepare(data)

    def _chooser(self) -> Cached:
        user = PopularityUser(Moments.of(self.data.dataset))
        return Cached(user, Path(SCRATCH.name) / "answers")

    def _scaled(self, raw: np.ndarray) -> np.ndarray:
        return raw


def all_positions(n_items: int) -> None:
    """Time for each target: many of a window in one pass, against one of each."""
    data = dataset(n_items)
    for stride, of_all in itertools.product(STRIDES, (False, True)):
        alls, ones = begun(Modern(stride=stride), data), begun(Supervised(), data)
        name = f"all positions against one, stride {stride}: a target, {n_items:,} items"
        if of_all:
            name += ", where one makes the states of all, too"
            encoder = ones.networks[0].encoder
            encoder.forward = partial(Encoder.forward, encoder)
        report(name, each_target(alls, ones._advance), at_least=2.5)


def loading(n_items: int) -> None:
    """Drawing a batch and making its tensors, as a share of a step."""
    training = begun(Supervised(), dataset(n_items))

    def load() -> None:
        training.at += 1  # what a step takes next was not just in the cache
        rows = training.rows[training.drawn(len(training.rows))]
        training.data.batch(rows, training.on)

    pairs = list(zip(*in_turn(load, training._advance), strict=True))
    report(f"loading as a share of a step of supervised, {n_items:,} items", pairs, at_most=0.05)


def steps_of_gain(n_items: int) -> None:
    """Each step from plain torch to what is trained with."""
    head, default = ItemHead(WIDTH, n_items), ItemHead(WIDTH, n_items)
    encoder = SASRec(n_items, LENGTH, size=WIDTH)
    state, items = states(passes=True), targets(n_items)
    eleven = torch.randint(n_items, (BATCH, 11))
    seen = torch.randint(n_items, (BATCH, LENGTH)), torch.full((BATCH,), LENGTH)
    for one in (head, default):
        functional.cross_entropy(one(state), items).backward()
    adams = adam(head, fused=True), adam(default)

    def descends(loss: Callable[[], torch.Tensor]) -> Act:
        def descend() -> None:
            for one in (head, encoder):
                one.zero_grad()
            loss().backward()

        return descend

    still = torch.no_grad()
    pairs_of_acts = {
        "fused Adam of a head against the default": (adams[0].step, adams[1].step),
        "cross-entropy and its gradients, by chunks against whole": (
            descends(lambda: head.cross_entropy(state, items)[0]),
            descends(lambda: functional.cross_entropy(head(state), items)),
        ),
        "best items, by NumPy in chunks against torch's argmax": (
            still(lambda: head.best(state)),
            still(lambda: head(state).argmax(1)),
        ),
        "values of one item, gathered against multiplied": (
            still(lambda: head.of(state, items[:, None])),
            still(lambda: head(state).gather(1, items[:, None])),
        ),
        "values of 11 items and their gradients, gathered against multiplied": (
            descends(lambda: head.of(state, eleven).square().sum()),
            descends(lambda: head(state).gather(1, eleven).square().sum()),
        ),
        "SASRec's last state and its gradients against those of every one": (
            descends(lambda: encoder(*seen).square().sum()),
            descends(lambda: encoder.every(*seen)[:, -1].square().sum()),
        ),
    }
    for name, acts in pairs_of_acts.items():
        pairs = list(zip(*in_turn(*acts), strict=True))
        report(f"{name}, {n_items:,} items", pairs, at_most=1)


def against_recbole(n_items: int, strides: tuple[int, ...]) -> None:
    """Time for each target, of ours with all positions; theirs are given their batches."""
    if not find_spec("recbole"):
        print(json.dumps({"name": "against RecBole", "skipped": "it is not installed"}))
        return
    data = dataset(n_items)
    for stride in strides:
        for (encoder, name), bar in zip(ENCODERS.items(), (5, 2), strict=True):
            training = begun(Modern(encoder=encoder, stride=stride), data)
            pairs = each_target(training, recbole(name, training.data)[0])
            claim = f"modern {encoder}, stride {stride}, against RecBole's {name}: a target"
            report(f"{claim}, {n_items:,} items", pairs, at_least=bar)


def accuracy(known: str) -> None:
    """NDCG@10 on validation data of ours and of RecBole's, each trained until it gets no better."""
    train = minari.load_dataset(known)
    validation = minari.load_dataset(known.replace("-v0", "-validation-v0"))
    asked = Validation(Steps(validation), torch.device("cpu"))
    for (encoder, name), seed in itertools.product(ENCODERS.items(), range(3)):
        run = Run(Path(SCRATCH.name) / f"{encoder}-{seed}")
        agent = Modern(encoder=encoder, seed=seed, learning_rate=0.001)
        agent.fit(train, validation, run=run)
        ours = max(line.get("ndcg@10", 0) for line in metrics_of(run.folder))
        torch.manual_seed(seed)
        step, model = recbole(name, Steps(train), seed)
        theirs, waited = 0.0, 0
        while waited < agent.patience:
            for _ in range(agent.validate_every):
                step()
            found = asked(Theirs(model), "supervised")["ndcg@10"]
            theirs, waited = max(theirs, found), 0 if found > theirs else waited + 1
        row = {"name": f"ndcg@10 of modern {encoder} on {validation.id}, against RecBole's {name}"}
        row |= {"seed": seed, "value": ours, "baseline": theirs, "ratio": ours / theirs}
        print(json.dumps(row), flush=True)


class Theirs:
    """A model of RecBole, asked as a recommender is."""

    def __init__(self, model: nn.Module) -> None:
        """Take a model."""
        self.model = model

    def state(self, seen: Seen) -> dict[str, torch.Tensor]:
        items = (seen.items + 1) % self.model.n_items
        return {"item_id_list": items, "item_length": seen.lengths}

    def head(self, name: str) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
        def scores(state: dict[str, torch.Tensor]) -> torch.Tensor:
            self.model.eval()
            found = self.model.full_sort_predict(state)[:, 1:]  # without its pad
            self.model.train()
            return found

        return scores


def against_d3rlpy(n_items: int) -> None:
    """Gradient steps of as many transitions; the algorithms are not the same."""
    if not find_spec("d3rlpy"):
        print(json.dumps({"name": "against d3rlpy", "skipped": "it is not installed"}))
        return
    data = dataset(n_items)
    for agent, name in ((Supervised(), "DiscreteBC"), (SNQN(), "DiscreteCQL")):
        pairs = list(zip(*in_turn(begun(agent, data)._advance, d3rlpy(name, data)), strict=True))
        ours = type(agent).__name__.lower()
        report(f"step of {ours} against one of d3rlpy's {name}, {n_items:,} items", pairs)


AGENTS = {
    "supervised": Supervised,
    "snqn": SNQN,
    "crr-transformer-small": partial(CRRTransformerSmall, stages="second"),
    "crr-transformer": partial(CRRTransformer, init="random", stages="second"),
}


def peak_of(agent: str, n_items: int, threads: int) -> dict[str, Any]:
    """What `peak` prints, in a process of its own."""
    words = [sys.executable, __file__, "--peak", agent, str(n_items), "--threads", str(threads)]
    line = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    print(line, end="", flush=True)
    return dict(json.loads(line))


def peak(agent: str, n_items: int) -> None:
    """How far memory grows from before there are networks, against what has to be kept."""
    data = dataset(n_items, sessions=40)
    layer(100)()  # loads what torch loads at first use
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    training = begun(AGENTS[agent](), data)
    for _ in range(8):  # both copies of the networks have learned
        training._advance()
    kept = sum(
        (4 if part.requires_grad else 1) * part.numel() for part in training._all.parameters()
    )
    row = {
        "name": f"peak memory of {agent}, {n_items:,} items, against weights, gradients and Adam's",
        "value": resident("VmHWM") - before,
        "baseline": 4 * kept,
        "batch x items": 4 * BATCH * n_items,
        "agent": agent,
        "items": n_items,
    }
    bar = {"at_most": BOUND} if agent.startswith("crr") else {}
    print(json.dumps(row | {"ratio": row["value"] / row["baseline"]} | bar), flush=True)


def share_of_the_peak(
    device: str = "cuda", kind: Callable[..., Learner] = CRRTransformer, side: int = 16_384
) -> None:
    """Steps of the published size in bf16 on MovieLens-25M's films, against one large product."""
    square = torch.randn(side, side, device=device, dtype=torch.bfloat16)

    def ended(act: Act) -> Act:
        def wait() -> None:
            act()
            square[0, 0].item()  # when all that was asked for is done

        return wait

    for stages in ("first", "second"):
        options = {"init": "random", "stages": stages, "device": device, "precision": "bf16"}
        training = begun(kind(**options), dataset(FILMS))
        training._advance()
        with FlopCounterMode(display=False) as counted:
            training._advance()
        times, bare = in_turn(ended(training._advance), ended(lambda: square @ square))
        pairs = [(counted.get_total_flops() / ours, 2 * side**3 / one)
                 for ours, one in zip(times, bare, strict=True)]  # fmt: skip
        name = f"operations a second of crr-transformer's {stages} stage in bf16, {FILMS:,} items"
        report(f"{name}, against a product of {side:,} x {side:,}", pairs)
        second = BATCH / statistics.median(times)
        print(json.dumps({"name": f"targets a second, {stages} stage", "value": second}))


# --------------------------------------------------------------------------------------- sides


def layer(n_items: int, passes: bool = False) -> Act:
    """Forward, cross-entropy, backward and Adam of the output layer alone."""
    linear, state, items = nn.Linear(WIDTH, n_items), states(passes), targets(n_items)
    optimizer = adam(linear)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(linear(state), items).backward()
        optimizer.step()

    return step


def both_heads(n_items: int) -> Act:
    """What SNQN cannot leave out: its heads on the states, that of values on the next ones."""
    heads = nn.ModuleList(nn.Linear(WIDTH, n_items) for _ in range(2))
    supervised, q = heads
    judge, optimizer = nn.Linear(WIDTH, n_items), adam(heads)
    state, following, items = states(passes=True), states(), targets(n_items)
    drawn = torch.randint(n_items, (BATCH, 11))

    def judged(of: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        best = torch.from_numpy(values.numpy().argmax(1))  # torch's takes several times as long
        return (of * judge.weight[best]).sum(1) + judge.bias[best]

    def step() -> None:
        optimizer.zero_grad()
        values = q(state)
        with torch.no_grad():
            done, not_done = judged(following, q(following)), judged(state, values.detach())
            wanted = torch.cat([done[:, None], not_done[:, None].expand(-1, 10)], 1)
        td = (wanted - values.gather(1, drawn)).square().sum() / 2 / BATCH
        (functional.cross_entropy(supervised(state), items) + td).backward()
        optimizer.step()

    return step


def four_heads(n_items: int) -> Act:
    """What CRR's second stage multiplies: its policy's head twice, the heads of both targets.

    One of the two is to draw from; of the critic only some rows are needed.
    """
    policy, critic = nn.Linear(WIDTH, n_items), nn.Linear(WIDTH, n_items)
    targets_of = nn.Linear(WIDTH, n_items), nn.Linear(WIDTH, n_items)
    optimizers = adam(policy), adam(critic)
    state, following, items = states(passes=True), states(), targets(n_items)

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        with torch.no_grad():
            policy(state)
            for target in targets_of:
                target(following)
        values = (state * critic.weight[items]).sum(1) + critic.bias[items]
        (functional.cross_entropy(policy(state), items) + values.square().mean()).backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def recbole(name: str, data: Steps, seed: int = 0) -> tuple[Act, nn.Module]:
    """A step of RecBole's Trainer, without its loader and without autograd's anomaly mode."""
    np.float = float  # as RecBole 1.2 asks of NumPy
    from recbole.model import sequential_recommender

    torch.autograd.set_detect_anomaly(False)
    config = {
        "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length", "NEG_PREFIX": "neg_", "device": "cpu",
        "MAX_ITEM_LIST_LENGTH": LENGTH, "loss_type": "CE", "embedding_size": WIDTH,
        "hidden_size": WIDTH, "num_layers": 1, "dropout_prob": 0.1, "n_layers": 1, "n_heads": 1,
        "inner_size": WIDTH, "hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.1,
        "hidden_act": "relu", "layer_norm_eps": 1e-12, "initializer_range": 0.02,
    }  # fmt: skip
    fields = SimpleNamespace(num=lambda field: data.n_items + 1)  # its pad is item 0
    model = getattr(sequential_recommender, name)(config, fields)
    optimizer = adam(model)

    def interaction(rows: np.ndarray) -> dict[str, torch.Tensor]:
        batch = data.batch(rows, torch.device("cpu"))
        items = (batch.seen.items + 1) % (data.n_items + 1)
        return {
            "item_id_list": items, "item_length": batch.seen.lengths, "item_id": batch.actions + 1
        }  # fmt: skip

    rows = np.random.default_rng(seed).permutation(np.flatnonzero(data.taken & ~data.empty))
    starts = range(0, len(rows) - BATCH + 1, BATCH)
    ready = itertools.cycle([interaction(rows[at : at + BATCH]) for at in starts])

    def step() -> None:
        optimizer.zero_grad()
        loss = model.calculate_loss(next(ready))
        if torch.isnan(loss):
            raise ValueError
        loss.backward()
        optimizer.step()

    return step, model


def d3rlpy(name: str, data: minari.MinariDataset) -> Act:
    """A gradient step, with the batch that it draws."""
    from recgym.agents import d3rlpy_agents
    from recgym.d3rl import quiet

    agent = getattr(d3rlpy_agents, name)(batch_size=BATCH, size=WIDTH)
    with quiet():
        transitions = recgym.to_d3rlpy(data)
        algorithm = agent._config(recgym.d3rlpy_encoder(data, WIDTH)).create("cpu:0")
        algorithm.build_with_dataset(transitions)
    return lambda: algorithm.update(transitions.sample_transition_batch(BATCH))


def begun(agent: Learner, data: minari.MinariDataset) -> Learner:
    """The agent where `fit` begins its loop."""
    training = copy.copy(agent)
    training._begin(data)
    return training


def dataset(n_items: int, sessions: int = SESSIONS) -> minari.MinariDataset:
    """Random sessions, all of whose actions brought a reward."""
    name = f"random{n_items}"
    log = invented_log(Path(SCRATCH.name) / "logs" / name, np.full(sessions, SESSION), n_items)
    return recgym.to_minari(log, history=LENGTH, replace=True)


# ------------------------------------------------------------------------------------ measuring


def in_turn(*acts: Act) -> list[tuple[float, ...]]:
    """For each act its time in every round; in the first, memory is touched."""
    gc.freeze()  # what is here stays, and need not be looked through each time
    rounds = [tuple(min(seconds(act) for _ in range(3)) for act in acts) for _ in range(ROUNDS + 1)]
    return list(zip(*rounds[1:], strict=True))


def each_target(training: Modern, other: Act) -> list[tuple[float, float]]:
    """Times of both sides over the targets of a step: the other learns one from each state."""
    told = BATCH * len(training.windows.rows) / len(training.windows)  # in the mean
    ours, theirs = in_turn(training._advance, other)
    return [(a / told, b / BATCH) for a, b in zip(ours, theirs, strict=True)]


def resident(which: str) -> int:
    """Bytes of memory, now or at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(which)).split()[1])


def states(passes: bool = False) -> torch.Tensor:
    """(batch, width): random ones; do gradients pass to what they were made by?"""
    return torch.randn(BATCH, WIDTH).requires_grad_(passes)


def targets(n_items: int) -> torch.Tensor:
    """(batch,): random items."""
    return torch.randint(n_items, (BATCH,))


def adam(of: nn.Module, fused: bool | None = None) -> torch.optim.Adam:
    """Of these weights; the default unless it is to be fused."""
    return torch.optim.Adam(of.parameters(), fused=fused)


if __name__ == "__main__":
    main()
