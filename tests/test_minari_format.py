"""Our format through Minari's public functions: every space, appends, kills, damage, the CLI."""

import gc
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

import recgym
from recgym.errors import BadDataset, InvalidArgument
from recgym.minari_format import _publish

from .sentences import said
from .test_episodes import (
    REFUSALS,
    TWO,
    UNIT,
    any_space,
    content,
    rich_infos,
    same,
    sampled,
    some_lengths,
    zeros,
)
from .test_home import Builder

NUMBER = itertools.count()
ABOUT = {
    "author": "Ada",
    "author_email": "ada@example.org",
    "code_permalink": "https://example.org",
    "algorithm_name": "random",
    "description": "Nothing of worth",
}

# Forks a process for every write. Its episodes carry their numbers as rewards.
WRITER = """
import json, os, resource, sys
import minari, numpy as np, pyarrow, recgym.minari_format
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

space = spaces.Box(-1, 1, (40,), np.float32)
flags = {"terminations": [False] * 5, "truncations": [False] * 4 + [True]}
seen = np.random.default_rng(0).uniform(-1, 1, (6, 40)).astype(np.float32)
BUFFERS = [EpisodeBuffer(observations=seen, actions=[0] * 5, rewards=[k] * 5, **flags)
           for k in range(2000)]

def write(name, do, count, home, datasets, most_bytes=None):
    os.environ["MINARI_DATASETS_PATH"] = datasets
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    if do == "create":
        minari.create_dataset_from_buffers(
            name, BUFFERS[:count], observation_space=space, action_space=spaces.Discrete(2),
            data_format="recgym")
    elif do == "append":
        minari.load_dataset(name).update_dataset_from_buffer(BUFFERS[:count])
    else:
        dataset = minari.load_dataset(name)
        for buffer in BUFFERS[:count]:
            dataset.update_dataset_from_buffer([buffer])

def say(*words):
    os.write(1, json.dumps(words).encode() + bytes([10]))

say("ready")
for line in sys.stdin:
    pid = os.fork()
    if pid:
        say(pid)
        sys.stdin.readline()
        os.waitpid(pid, 0)
        say("ended")
        continue
    try:
        say("begun")
        write(**json.loads(line))
        say("written")
    except BaseException as problem:
        say(type(problem).__name__, str(problem))
    os._exit(0)
"""


class Writer(Builder):
    """A process that forks one write after another."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", WRITER], **pipes)
        self.running = False
        assert self.says() == ["ready"]

    def begin(self, do, count, name="mine-v0", **options):
        datasets = os.environ["MINARI_DATASETS_PATH"]
        return super().begin(name, do=do, count=count, datasets=datasets, **options)

    def writes(self, *arguments, **options):
        self.begin(*arguments, **options)
        assert self.end() == ["written"]


@pytest.fixture(scope="module")
def writer():
    writer = Writer()
    yield writer
    writer.close()


@contextmanager
def silence():
    """Minari warns of everything that it is not told."""
    with warnings.catch_warnings():
        for message in ("`eval_env` is set to None", "env_spec is None", "Misconfigured dataset"):
            warnings.filterwarnings("ignore", message=message)
        yield


def created(buffers, space=UNIT, actions=TWO, name=None, **options):
    """A new dataset."""
    options = {"observation_space": space, "action_space": actions} | ABOUT | options
    options = {"data_format": "recgym"} | options
    with silence():
        name = name or f"random-{next(NUMBER)}-v0"
        return minari.create_dataset_from_buffers(name, list(buffers), **options)


def whole(dataset):
    """All episodes; HDF5 hands out the text of infos as bytes."""
    return tuple(content(episode) | {"infos": decoded(episode.infos)} for episode in dataset)


def decoded(tree):
    if isinstance(tree, dict):
        return {key: decoded(value) for key, value in tree.items()}
    text = isinstance(tree, np.ndarray) and tree.dtype.kind == "O"
    return [line.decode() for line in tree] if text else tree


def again(dataset):
    """The dataset as a fresh look at the disk finds it."""
    return minari.load_dataset(dataset.id)


def files(dataset):
    """What the dataset consists of on disk."""
    return {file.name: file.read_bytes() for file in dataset.storage.data_path.iterdir()}


def columns(dataset):
    return [name for name in files(dataset) if name.endswith(".arrow")]


def numbers(name="mine-v0"):
    """The numbers of all episodes that the writers have written."""
    return [int(episode.rewards[0]) for episode in minari.load_dataset(name)]


def listed():
    with silence():
        return list(minari.list_local_datasets())


# ----------------------------------------------------------------------------- there and back again


@settings(max_examples=60)
@given(any_space, any_space, some_lengths, st.integers(0, 99))
def test_random_datasets_pass_through_both_formats(space, actions, lengths, seed):
    buffers = sampled(space, lengths, seed, actions, rich_infos)
    wanted = tuple(map(content, buffers))
    ours = created(buffers, space, actions)
    assert same(whole(again(ours)), wanted)
    theirs = created((EpisodeBuffer(**each) for each in wanted), space, actions, data_format="hdf5")
    assert same(whole(theirs), wanted)
    theirs.storage.update_from_storage(ours.storage)
    ours.storage.update_from_storage(theirs.storage)
    assert same(whole(again(ours)), wanted * 3)
    assert again(ours).total_steps == 3 * sum(lengths)
    assert again(ours).observation_space == space and again(ours).action_space == actions


def test_images_are_kept_as_they_are():
    space = spaces.Box(0, 255, (32, 33, 3), np.uint8)
    buffers = sampled(space, [2])
    assert same(whole(again(created(buffers, space))), tuple(map(content, buffers)))


def test_appends_make_the_same_dataset_as_one_write():
    space = spaces.Dict({"text": spaces.Text(9), "state": UNIT})
    buffers = sampled(space, np.random.default_rng(0).integers(1, 9, 60), infos=rich_infos)
    at_once = created(buffers, space)
    bit_by_bit, first = created(buffers[:1], space), 1
    for size in (1, 1, 20, 2, 1, 34):
        bit_by_bit.update_dataset_from_buffer(buffers[first : first + size])
        first += size
    for dataset in (bit_by_bit, again(bit_by_bit)):
        assert same(whole(dataset), whole(at_once))
        assert len(dataset) == 60 and dataset.total_steps == at_once.total_steps
    metadata = again(bit_by_bit).storage.metadata
    assert metadata["total_episodes"] == 60 and metadata["author"] == {"Ada"}


# ------------------------------------------------------------------------------------ few files


def test_sixteen_small_batches_become_one():
    dataset = created([zeros()])
    for count in range(2, 274):
        dataset.update_dataset_from_buffer([zeros()])
        assert len(columns(dataset)) == count % 16 + count // 16 % 16 + count // 256
    assert len(again(dataset)) == 273
    assert same(whole(dataset), whole(created([zeros()] * 273)))


@pytest.mark.parametrize(
    "batch",
    [
        lambda k: [zeros()] * (1 + k % 2 * 20),
        lambda k: [zeros()] * (1 + k * 7 % 31),
        lambda k: [zeros({"seed": k if k % 2 else None})],
        lambda k: [zeros({"infos": {"time": [2**40 * (k % 2)] * 3}})],
    ],
    ids=["one and many", "any size", "with and without a seed", "large numbers"],
)
def test_batches_of_any_kind_stay_few_files(batch):
    dataset, wanted = created(batch(0)), whole(created(batch(0)))
    for k in range(1, 100):
        dataset.update_dataset_from_buffer(batch(k))
        wanted += whole(created(batch(k)))
    assert same(whole(again(dataset)), wanted)
    assert len(columns(dataset)) < 3 * 16


# ----------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("attempts", [5, pytest.param(20, marks=pytest.mark.long)])
def test_a_creation_killed_at_any_moment_leaves_a_whole_dataset_or_none(writer, attempts):
    begin = time.monotonic()
    writer.writes("create", 2000, "undisturbed-v0")
    seconds = time.monotonic() - begin
    for attempt in range(attempts):
        name = f"mine-v{attempt}"
        pid = writer.begin("create", 2000, name)
        time.sleep(seconds * (attempt + random.random()) / attempts)
        os.kill(pid, signal.SIGKILL)
        writer.end()
        if name in listed():
            assert numbers(name) == list(range(2000))
        else:
            with pytest.raises((FileNotFoundError, ValueError, BadDataset)):
                minari.load_dataset(name)


@pytest.mark.parametrize("attempts", [3, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("do", ["append", "append each"])
def test_a_killed_append_leaves_what_was_there(writer, attempts, do):
    count = 2000 if do == "append" else 60
    writer.writes("create", 3)
    begin = time.monotonic()
    writer.writes(do, count)
    seconds = time.monotonic() - begin
    for attempt in range(attempts):
        before = numbers()
        pid = writer.begin(do, count)
        time.sleep(seconds * (attempt + random.random()) / attempts)
        os.kill(pid, signal.SIGKILL)
        writer.end()
        after = numbers()
        added = len(after) - len(before)
        assert after == before + list(range(added))
        assert 0 <= added <= count and (do == "append each" or added in (0, count))
    before = numbers()
    writer.writes("append", 2)
    assert numbers() == [*before, 0, 1]


def test_two_processes_append_at_once(writer):
    writer.writes("create", 1)
    other = Writer()
    for each in (writer, other):
        each.begin("append each", 50)
    assert writer.end() == other.end() == ["written"]
    other.close()
    found = numbers()
    assert sorted(found) == sorted([0, *range(50), *range(50)])
    assert minari.load_dataset("mine-v0").total_steps == 5 * 101


def test_a_reader_beside_a_writer_reads_what_was_there(writer):
    writer.writes("create", 1)
    looks = 0
    writer.begin("append each", 200)
    while len(found := numbers()) < 201:
        assert found == [0, *range(len(found) - 1)]
        looks += 1
    assert writer.end() == ["written"] and looks > 3


def test_a_file_that_cannot_grow_leaves_the_dataset_as_it_was(writer):
    writer.writes("create", 3)
    before = files(minari.load_dataset("mine-v0"))
    writer.begin("append", 2000, most_bytes=100_000)
    assert writer.end()[0] in ("OSError", "OutOfRoom")
    assert numbers() == [0, 1, 2]
    assert files(minari.load_dataset("mine-v0")) == before


@pytest.mark.parametrize(("changes", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_episode_leaves_nothing(changes, sentence):
    dataset = created([zeros()])
    before = files(dataset)
    with pytest.raises(InvalidArgument, match=sentence) as problem:
        dataset.update_dataset_from_buffer([zeros(changes)])
    assert said(problem).startswith("Episode 1 ")
    assert files(dataset) == before and len(again(dataset)) == 1
    with pytest.raises(InvalidArgument):
        created([zeros(changes)], name="refused-v0")
    assert "refused-v0" not in listed()
    assert not Path(os.environ["MINARI_DATASETS_PATH"], "refused-v0").exists()  # the id is free


def test_a_refused_episode_after_very_many_leaves_nothing():
    dataset = created([zeros()])
    before = files(dataset)
    with pytest.raises(InvalidArgument, match="Episode 16386 has the reward nan at step 0"):
        dataset.update_dataset_from_buffer([zeros()] * 16_385 + [zeros({"rewards": [np.nan, 0.0]})])
    assert files(dataset) == before


def test_an_id_that_is_not_the_next_one_is_refused():
    dataset = created([zeros({"id": 0}), zeros({"id": 1})])
    before = files(dataset)
    for wrong in (0, 1, 3, -1):
        with pytest.raises(InvalidArgument, match="Episode 2 comes next") as problem:
            dataset.update_dataset_from_buffer([zeros({"id": wrong})])
        assert said(problem) and files(dataset) == before
    dataset.update_dataset_from_buffer([zeros({"id": 2})])
    assert len(again(dataset)) == 3


def test_a_dataset_is_not_overwritten():
    dataset = created([zeros()])
    before = files(dataset)
    with pytest.raises(ValueError, match="already exists"):
        created([zeros()] * 2, name=dataset.id)
    assert files(dataset) == before


# ----------------------------------------------------------------------------------------- damage


@pytest.fixture
def dataset():
    """A dataset of two batches of rich episodes."""
    space = spaces.Dict({"text": spaces.Text(9), "window": spaces.Box(0, 9, (4,), np.int32)})
    dataset = created(sampled(space, [3, 1], infos=rich_infos), space, name="mine-v0")
    dataset.update_dataset_from_buffer(sampled(space, [2, 4, 1], seed=1, infos=rich_infos))
    return again(dataset)


def test_a_flipped_bit_in_a_column_is_refused(dataset):
    rng = random.Random(0)
    for name in columns(dataset):
        whole_file = files(dataset)[name]
        for place in rng.sample(range(len(whole_file)), 20):
            spoiled = bytearray(whole_file)
            spoiled[place] ^= 1 << rng.randrange(8)
            (dataset.storage.data_path / name).write_bytes(spoiled)
            with pytest.raises(BadDataset, match=f"{name} was changed after") as problem:
                whole(again(dataset))
            assert "Restore it from a copy" in said(problem)
        (dataset.storage.data_path / name).write_bytes(whole_file)
    assert len(whole(again(dataset))) == 5


@pytest.mark.parametrize("size", [0, 1, -1, 1000])
def test_a_cut_column_is_refused_as_soon_as_it_is_loaded(dataset, size):
    file = dataset.storage.data_path / columns(dataset)[0]
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BadDataset, match="bytes, where") as problem:
        again(dataset)
    assert said(problem)
    file.unlink()
    with pytest.raises(BadDataset, match=f"{file.name} is missing") as problem:
        again(dataset)
    assert said(problem)


def test_a_flipped_bit_in_the_metadata_changes_no_episode(dataset):
    file = dataset.storage.data_path / "metadata.json"
    wanted, whole_file, rng = whole(dataset), file.read_bytes(), random.Random(0)
    refused = 0
    for place in rng.sample(range(len(whole_file)), 150):
        spoiled = bytearray(whole_file)
        spoiled[place] ^= 1 << rng.randrange(8)
        file.write_bytes(spoiled)
        try:
            found = whole(again(dataset))
        except Exception:  # much of the file is read by Minari first
            refused += 1
        else:
            assert same(found, wanted)
    assert refused > 50


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("total_episodes", 4, "was changed after"),
        ("total_steps", 1, "was changed after"),
        ("batches", [], "was changed after"),
        ("columns_sha256", "0", "was changed after"),
        ("format_version", 2, "format version 2, and this recgym reads version 1"),
        ("format_version", None, "format version None"),
        ("action_space", '{"type": "Discrete", "n": 9, "start": 0}', "was changed after"),
    ],
)
def test_changed_metadata_is_refused(dataset, key, value, sentence):
    file = dataset.storage.data_path / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(BadDataset, match=sentence) as problem:
        again(dataset)
    assert said(problem)


def forged(dataset, change):
    """What a stranger could send: other content under hashes that fit it."""
    folder = dataset.storage.data_path
    raw = json.loads((folder / "metadata.json").read_text())
    change(folder, raw["batches"][0])
    _publish(folder, raw)
    return again(dataset)


def test_a_file_elsewhere_is_refused(dataset, tmp_path):
    (tmp_path / "1.arrow").write_bytes(b"precious")

    def elsewhere(folder, batch):
        batch["file"] = os.path.relpath(tmp_path / "1.arrow", folder)

    with pytest.raises(BadDataset, match="names a file") as problem:
        forged(dataset, elsewhere)
    assert said(problem) and (tmp_path / "1.arrow").exists()


def test_offsets_past_the_end_are_refused(dataset):
    def stretch(folder, batch):
        file = folder / batch["file"]
        content, steps = file.read_bytes(), int(dataset.total_steps)
        wanted = steps.to_bytes(8, "little")
        assert wanted in content
        file.write_bytes(content.replace(wanted, (2**40).to_bytes(8, "little")))
        batch["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()

    with pytest.raises(BadDataset, match="holds no episodes") as problem:
        list(forged(dataset, stretch))
    assert said(problem)


# ------------------------------------------------------------------------------ Minari's functions


def test_episodes_are_filtered_sampled_split_and_indexed():
    lengths = [3, 1, 4, 1, 5, 2]
    buffers = sampled(UNIT, lengths)
    ours = created(buffers)
    theirs = created(buffers, data_format="hdf5")
    wanted = whole(ours)
    assert len(ours) == 6 and ours.total_steps == 16
    assert same(content(ours[-1]), wanted[5]) and ours[2].id == 2 and len(ours[4]) == 5
    assert [episode.id for episode in ours.iterate_episodes([3, 0, 3])] == [3, 0, 3]
    assert same(tuple(map(content, ours.iterate_episodes([5, 1]))), (wanted[5], wanted[1]))
    with pytest.raises(IndexError):
        ours[6]
    with pytest.raises(IndexError, match="no episode 6: the dataset holds 6"):
        list(ours.iterate_episodes([0, 6]))

    long = ours.filter_episodes(lambda episode: len(episode) > 2)
    assert long.episode_indices.tolist() == [0, 2, 4] and long.total_steps == 12
    longest = long.filter_episodes(lambda episode: len(episode) > 4)
    assert longest.total_steps == 5 and same(content(longest[0]), wanted[4])

    parts = minari.split_dataset(ours, [2, 3], seed=1)
    others = minari.split_dataset(theirs, [2, 3], seed=1)
    for part, other in zip(parts, others, strict=True):
        assert same(whole(part), whole(other)) and part.total_steps == other.total_steps

    for data in (ours, theirs, long):
        data.set_seed(3)
    drawn = [episode.id for episode in ours.sample_episodes(4)]
    assert drawn == [episode.id for episode in theirs.sample_episodes(4)] and len(set(drawn)) == 4
    assert {episode.id for episode in long.sample_episodes(3)} == {0, 2, 4}

    long.update_dataset_from_buffer(buffers[:1])
    assert long.episode_indices.tolist() == [0, 2, 4, 6] and long.total_steps == 15


def test_what_is_known_of_an_episode_is_kept():
    known = [{"seed": 2**63, "options": {"level": {"of": [1, 2]}}}, {}, {"seed": 0}]
    dataset = created(map(zeros, known))
    wanted = [{"id": k, "total_steps": 2} | about for k, about in enumerate(known)]
    assert list(dataset.storage.get_episode_metadata([2, 0])) == [wanted[2], wanted[0]]
    dataset.storage.update_episode_metadata([{"mean": np.float32(0.5)}, {"seed": 7}], [1, 2])
    wanted[1] |= {"mean": 0.5}
    wanted[2] |= {"seed": 7}
    assert list(again(dataset).storage.get_episode_metadata(range(3))) == wanted
    for _ in range(20):  # merges in between
        dataset.update_dataset_from_buffer([zeros()])
    dataset.storage.update_episode_metadata({"place": k} for k in range(23))
    found = list(again(dataset).storage.get_episode_metadata(range(23)))
    assert found[:3] == [about | {"place": k} for k, about in enumerate(wanted)]
    assert found[22] == {"id": 22, "total_steps": 2, "place": 22}
    before = files(dataset)
    with pytest.raises(ValueError, match="different lengths"):
        dataset.storage.update_episode_metadata([{}], [1, 2])
    with pytest.raises(IndexError):
        dataset.storage.update_episode_metadata([{}], [23])
    with pytest.raises(ValueError, match="not allowed to update values for dataset_id"):
        dataset.storage.update_metadata({"dataset_id": "other-v0"})
    assert files(dataset) == before


def test_what_is_known_of_an_exported_episode_can_be_added_to():
    dataset = recgym.to_minari(recgym.prepare("demo", name="demo"), "test")
    storage = dataset.storage
    storage.update_episode_metadata([{"mood": "high"}, {"mood": 0.5}], [3, 1])
    storage.update_episode_metadata([{"seen": True}], [3])
    known = list(minari.load_dataset(dataset.id).storage.get_episode_metadata([0, 1, 3]))
    lengths = [len(dataset[place]) for place in (0, 1, 3)]
    assert known == [
        {"id": 0, "total_steps": lengths[0]},
        {"id": 1, "total_steps": lengths[1], "mood": 0.5},
        {"id": 3, "total_steps": lengths[2], "mood": "high", "seen": True},
    ]


@pytest.mark.parametrize("data_format", ["recgym", "hdf5"])
def test_datasets_are_combined(data_format):
    buffers = sampled(UNIT, [2, 3, 1], infos=rich_infos)
    seeded = [EpisodeBuffer(seed=5, **content(buffer)) for buffer in buffers[:2]]
    first = created(seeded, name="one/first-v0")
    second = created(buffers[2:], name="two/second-v0", data_format=data_format, author="Bo")
    joined = minari.combine_datasets([first, second], "joined-v0")
    assert same(whole(minari.load_dataset("joined-v0")), tuple(map(content, buffers)))
    assert again(joined).combined_datasets == ["one/first-v0", "two/second-v0"]
    assert joined.storage.FORMAT == "recgym" and joined.total_steps == 6
    assert joined.storage.metadata["author"] == {"Ada", "Bo"}
    assert [about.get("seed") for about in joined.storage.get_episode_metadata(range(3))] == [
        5,
        5,
        None,
    ]


def test_other_spaces_cannot_be_joined():
    mine, other = created([zeros()]), created([zeros()], actions=spaces.Discrete(3))
    before = files(mine)
    with pytest.raises(InvalidArgument, match="different spaces cannot be joined") as problem:
        mine.storage.update_from_storage(other.storage)
    assert said(problem) and files(mine) == before


class Shop(gymnasium.Env):
    """A small environment that says something of every kind."""

    observation_space = spaces.Dict({"page": spaces.Text(9), "state": UNIT, "basket": TWO})
    action_space = spaces.Tuple([TWO, spaces.MultiDiscrete([2, 3])])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 4
        return self.seen()

    def step(self, action):
        self.left -= 1
        return self.seen()[0], self.np_random.random(), self.left == 0, False, self.seen()[1]

    def seen(self):
        state = self.np_random.random(2, np.float32)
        page = "".join(self.np_random.choice(list("abc"), size=self.left + 1))
        info = {"note": page[:1], "deep": {"left": self.left, "state": state}}
        return {"page": page, "state": state, "basket": int(state[0] > 0.5)}, info


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # Minari's own
@pytest.mark.parametrize("record_infos", [True, False])
def test_a_collector_collects_what_it_collects_in_hdf5(record_infos):
    collected = []
    for data_format in ("recgym", "hdf5"):
        env = minari.DataCollector(Shop(), record_infos=record_infos, data_format=data_format)
        env.action_space.seed(0)
        for episode in range(20):
            env.reset(seed=episode, options={"level": episode})
            for _ in range(4 - episode % 3):  # some are left before their end
                env.step(env.action_space.sample())
        with silence():
            collected.append(env.create_dataset(f"shop/{data_format}-v0", **ABOUT))
        for episode in range(2):
            env.reset(seed=episode)
            env.step(env.action_space.sample())
        env.add_to_dataset(collected[-1])
        env.close()
        del env
        gc.collect()
    ours, theirs = map(again, collected)
    assert len(ours) == 22 and same(whole(ours), whole(theirs))
    assert bool(ours[0].infos) == record_infos
    known = [list(data.storage.get_episode_metadata(range(20))) for data in (ours, theirs)]
    assert known[0] == known[1] and known[0][7]["options"] == {"level": 7}
    assert [about["seed"] for about in ours.storage.get_episode_metadata([20, 21])] == [0, 1]


# ------------------------------------------------------------------------- processes of their own


def ran(*command, **options):
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, **options
    )


def test_the_environment_is_recovered_in_a_fresh_process():
    space = gymnasium.spec("CartPole-v1").make().observation_space
    dataset = created(sampled(space, [3]), env="CartPole-v1", observation_space=space)
    script = """if True:
        import recgym, minari, sys
        dataset = minari.load_dataset(sys.argv[1])
        env = dataset.recover_environment()
        print(env.spec.id, env.reset(seed=0)[0].shape, dataset[0].observations.shape)
    """
    found = ran(sys.executable, "-W", "error", "-c", script, dataset.id)
    assert found.stdout == "CartPole-v1 (4,) (4, 4)\n", found.stderr


def test_without_recgym_the_metadata_says_how_to_read():
    dataset = created([zeros()])
    script = "import minari, sys; minari.load_dataset(sys.argv[1])"
    found = ran(sys.executable, "-c", script, dataset.id)
    assert found.returncode == 1 and found.stderr.endswith("KeyError: 'recgym'\n")
    said = json.loads(files(dataset)["metadata.json"])["how_to_read"]
    assert "pip install recgym" in said and "import recgym" in said


def test_the_command_line_lists_shows_and_deletes():
    command = Path(sysconfig.get_path("scripts"), "minari")
    for name in ("shop/mine-v0", "shop/other-v1"):
        created([zeros()] * 3, name=name, env="CartPole-v1", eval_env="CartPole-v1")
    found = ran(command, "list", "local")
    assert found.returncode == 0 and found.stderr == ""
    for name in ("shop/mine-v0", "shop/other-v1"):
        (row,) = (line for line in found.stdout.splitlines() if name in line)
        assert [cell.strip() for cell in row.split("│")[2:-1]] == ["3", "6", "0.0 MB", "Ada"]
    found = ran(command, "show", "shop/mine-v0")
    assert found.returncode == 0 and "Nothing of worth" in found.stdout
    assert "Box(0.0, 1.0, (2,), float32)" in found.stdout and "CartPole-v1" in found.stdout
    assert ran(command, "delete", "shop/mine-v0", input="no\n").returncode == 1
    assert listed() == ["shop/mine-v0", "shop/other-v1"]
    assert ran(command, "delete", "shop/mine-v0", input="yes\n").returncode == 0
    assert listed() == ["shop/other-v1"]
    assert not Path(os.environ["MINARI_DATASETS_PATH"], "shop", "mine-v0").exists()
