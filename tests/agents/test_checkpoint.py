"""Trainings that are killed at any moment, and go on as if nothing had happened."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recgym import checkpoint
from recgym.agent import load_agent
from recgym.errors import InvalidArgument
from recgym.rollouts import collect
from recgym.runs import Run

from ..sentences import said

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
QUICK = {
    "steps": 60, "batch_size": 16, "size": 8, "validate_every": 7, "patience": 2,
    "learning_rate": 0.02,
}  # fmt: skip
NAMES = ["supervised", "modern", "snqn", "sa2c", "sac", "crr-transformer-small", "dpo"]
TRAINS = """
import json, os, sys
from pathlib import Path
import minari, torch
from recgym.agent import load_agent
from recgym.runs import Run
torch.set_num_threads(1)
for line in sys.stdin:
    if pid := os.fork():
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
        continue
    name, options, folder = json.loads(line)
    data = [minari.load_dataset(f"recgym/n/mixed{split}-v0") for split in ("", "-validation")]
    run = Run(Path(folder), every=0)
    load_agent(name)(**options).fit(*data, run=run).save(run.folder / "agent")
    os._exit(0)
"""


def worlds():
    """What is trained on, and validated on."""
    return [
        collect("recgym/OracleBoredom-v0", "mixed", split, sessions=60, name="n", **SMALL)
        for split in ("train", "validation")
    ]


def metrics(folder):
    """What was measured, but for how long it took."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def outcome(folder):
    """Weights that recommend; what was measured; weights, moments and all else to go on from."""
    states, about = checkpoint.read(folder / "checkpoint.safetensors")
    about["standing"].pop("_seconds")
    tensors = {f"{s}/{name}": one for s, state in states.items() for name, one in state.items()}
    return load_file(folder / "agent" / "agent.safetensors"), metrics(folder), tensors, about


def assert_same(found, wanted):
    assert found[1::2] == wanted[1::2]
    for mine, other in zip(found[::2], wanted[::2], strict=True):
        assert mine.keys() == other.keys()
        for name, tensor in other.items():
            assert torch.equal(mine[name], tensor), name


class Trainer:
    """A process that begins others, of which each trains, and may be killed."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def begin(self, *training):
        print(json.dumps(training), file=self.process.stdin, flush=True)
        self.training = int(self.process.stdout.readline())

    def status(self):
        return int(self.process.stdout.readline())


@pytest.fixture
def trainer():
    trainer = Trainer()
    yield trainer
    trainer.process.communicate()


def killed(trainer, name, options, folder, kills, rng):
    """Train, killed so often: at a random moment, and every other time as it writes."""
    file, draft = folder / "checkpoint.safetensors", folder / ".checkpoint.safetensors.part"
    for kill in range(kills):
        trainer.begin(name, options, str(folder))
        for _ in range(rng.randint(1, 12)):  # steps, of which each writes a checkpoint
            before = file.stat().st_mtime_ns if file.exists() else 0
            while not file.exists() or file.stat().st_mtime_ns == before:
                os.kill(trainer.training, 0)  # it is alive
                time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        while kill % 2 and not draft.exists():
            os.kill(trainer.training, 0)
            time.sleep(0.0002)
        os.kill(trainer.training, signal.SIGKILL)
        assert trainer.status() == signal.SIGKILL
    trainer.begin(name, options, str(folder))
    assert trainer.status() == 0


def assert_killing_changes_nothing(trainer, folder, name, kills, seed, **changes):
    options = QUICK | changes
    worlds()
    trainer.begin(name, options, str(folder / "whole"))
    assert trainer.status() == 0
    killed(trainer, name, options, folder / "killed", kills, random.Random(seed))
    wanted = outcome(folder / "whole")
    assert_same(outcome(folder / "killed"), wanted)
    return wanted


def test_a_training_that_is_killed_five_times_ends_as_if_it_had_not_been(trainer, tmp_path):
    _, lines, tensors, about = assert_killing_changes_nothing(
        trainer, tmp_path, "sa2c", 5, 0, steps=150
    )
    assert about["standing"]["memory"]["warm since"] % 7 == 0  # as validation stalled
    assert {group["lr"] for groups in about["settings"].values() for group in groups} == {0.001}
    assert any(name.startswith("best/") for name in tensors)
    assert [line["step"] for line in lines][:3] == [7, 14, 21]


@pytest.mark.long
@pytest.mark.parametrize(("seed", "name"), list(enumerate(NAMES)))
def test_trainings_that_are_killed_twenty_times_end_as_if_they_had_not_been(
    seed, name, trainer, tmp_path
):
    kills = math.ceil(20 / len(NAMES))
    assert_killing_changes_nothing(trainer, tmp_path, name, kills, seed, steps=200, patience=30)


# ------------------------------------------------------------------------- stopped at each step


class Killed(Exception):
    """A training ends here."""


class Stopping(Run):
    """A run that ends after some checkpoints: before, while or after the next is written."""

    def __init__(self, folder, kept):
        super().__init__(folder, every=0)
        self.left = kept

    def kept(self):
        super().kept()
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_from_every_step(name, tmp_path):
    data = worlds()
    kind, options = load_agent(name), QUICK | {"steps": 30}
    for folder in (tmp_path / "whole", tmp_path / "cut"):
        folder.mkdir()
        while True:
            run = Run(folder, every=0) if folder.name == "whole" else Stopping(folder, 3)
            try:
                agent = kind(**options).fit(*data, run=run)
                break
            except Killed:
                (folder / ".checkpoint.safetensors.part").write_bytes(b"cut")
                with (folder / "metrics.jsonl").open("a") as lines:
                    lines.write('{"step": 3')
        agent.save(folder / "agent")
    wanted = outcome(tmp_path / "whole")
    assert_same(outcome(tmp_path / "cut"), wanted)
    standing = wanted[3]["standing"]
    if name == "crr-transformer-small":  # in both of its stages
        assert 3 < standing["memory"]["warm since"] < standing["at"] - 3


def test_a_training_that_has_ended_is_not_done_again(tmp_path):
    data, found = worlds(), []
    for _ in range(2):
        agent = load_agent("sqn")(**QUICK).fit(*data, run=Run(tmp_path))
        agent.save(tmp_path / "agent")
        found.append(outcome(tmp_path))
        lines = (tmp_path / "metrics.jsonl").read_text()
    assert_same(*found)
    assert (tmp_path / "metrics.jsonl").read_text() == lines  # the seconds, too


# ------------------------------------------------------------------------------ what is refused


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The bytes of a checkpoint, and the data that it is of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("data")))
        data, folder = worlds(), tmp_path_factory.mktemp("run")
        load_agent("sqn")(**QUICK | {"steps": 8}).fit(*data, run=Run(folder))
        return (folder / "checkpoint.safetensors").read_bytes(), data


def assert_refused(content, folder, data, match, name="sqn", **changes):
    file = Path(folder) / "checkpoint.safetensors"
    file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=match) as problem:
        load_agent(name)(**QUICK | {"steps": 8} | changes).fit(*data, run=Run(Path(folder)))
    assert file.read_bytes() == content
    assert said(problem).startswith(("The checkpoint", str(file)))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.999])
def test_a_cut_checkpoint_is_refused(trained, share, tmp_path):
    content, data = trained
    assert_refused(content[: int(share * len(content))], tmp_path, data, "no checkpoint that can")


def test_no_byte_can_be_flipped(trained, tmp_path):
    content, data = trained
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    places = [0, 7, 8, header, len(content) - 1]
    places += [*rng.integers(header, size=60), *rng.integers(header, len(content), size=20)]
    file = tmp_path / "checkpoint.safetensors"
    wanted = checkpoint_of(file, content)
    for place in map(int, places):
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(rng.integers(8))
        try:
            found = checkpoint_of(file, bytes(spoiled))
        except InvalidArgument as problem:
            assert "no checkpoint that can be read" in said(problem)
        else:  # blanks after the header, say
            assert found == wanted
    spoiled = content[:-1] + bytes([content[-1] ^ 1])
    assert_refused(spoiled, tmp_path, data, "was changed after it was written")


def checkpoint_of(file, content):
    file.write_bytes(content)
    states, about = checkpoint.read(file)
    return {key: {n: t.tolist() for n, t in state.items()} for key, state in states.items()}, about


def test_other_files_are_no_checkpoints(trained, tmp_path):
    data = trained[1]
    agent = load_agent("sqn")(**QUICK | {"steps": 8}).fit(data[0])
    agent.save(tmp_path / "agent")
    content = (tmp_path / "agent" / "agent.safetensors").read_bytes()
    assert_refused(content, tmp_path, data, "no checkpoint that can be read")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "sqn-eval"}, "of another agent .*SQN.*Eval"),
        ({"batch_size": 17}, r"of another batch_size \(16, and now it is 17\)"),
        ({"learning_rate": 0.01}, r"of another learning_rate \(0.02, and now it is 0.01\)"),
        ({"seed": 1}, r"of another seed \(0, and now it is 1\)"),
        ({"discount": 0.25}, r"of another discount"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(trained, change, says, tmp_path):
    assert_refused(*(trained[0], tmp_path, trained[1], says), **change)


def test_a_checkpoint_of_other_data_is_refused(trained, tmp_path):
    content, (train, validation) = trained
    half = train.filter_episodes(lambda episode: episode.id % 2)
    assert_refused(content, tmp_path, [half, validation], "of another dataset")
    half = validation.filter_episodes(lambda episode: episode.id % 2)
    assert_refused(content, tmp_path, [train, half], "of another validation dataset")
    assert_refused(content, tmp_path, [train], "of another validation dataset .*now it is None")


def test_a_draft_that_is_left_changes_nothing(trained, tmp_path):
    content, data = trained
    options = QUICK | {"steps": 8}
    wanted = load_agent("sqn")(**options).fit(*data).scores(data[1][0].observations, {})
    for draft in (content[:99], content):
        (tmp_path / ".checkpoint.safetensors.part").write_bytes(draft)
        found = load_agent("sqn")(**options).fit(*data, run=Run(tmp_path))
        assert np.array_equal(found.scores(data[1][0].observations, {}), wanted)
        assert not (tmp_path / ".checkpoint.safetensors.part").exists()


def test_a_checkpoint_holds_no_pickle(trained):
    content = trained[0]
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert header.pop("__metadata__").keys() == {"about", "sha256"}
    assert {about["dtype"] for about in header.values()} == {"F32"}
