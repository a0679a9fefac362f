"""What a simulator has told before: right or asked again, whatever befalls processes and disks."""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import InvalidArgument, OutOfRoom
from recgym.home import locked
from recgym.simulator.cache import Cached
from tests.sentences import said

ITEMS, LENGTH = 50, 4


class Sums:
    """Any answers that depend on who is asked what, and a count of the questions."""

    def __init__(self, name="sums", width=3, n_items=ITEMS):
        self.sha256 = hashlib.sha256(name.encode()).hexdigest()
        self.n_items, self.width, self.calls, self.asked = n_items, width, 0, 0

    def past(self, histories):
        self.calls += 1
        self.asked += len(histories)
        histories = np.asarray(histories, np.int64)
        places = np.arange(1, histories.shape[1] + 1)
        return np.where(histories == self.n_items, 0, (histories + 1) * places).sum(1)

    def rewards(self, histories, items):
        return np.float32(self.past(histories)[:, None] * 100.5 + items)

    def states(self, histories):
        return np.float32(self.past(histories)[:, None] + np.arange(self.width) / 8)

    def choices(self, histories, five, seed):
        return (self.past(histories) + five @ np.arange(five.shape[1]) + seed % 5) % five.shape[1]


def questions(count=40, seed=0, k=3):
    """Histories of several lengths, k items for each, and five to choose from."""
    rng = np.random.default_rng(seed)
    histories = rng.integers(0, ITEMS, (count, LENGTH))
    histories[np.arange(LENGTH) >= rng.integers(0, LENGTH + 1, count)[:, None]] = ITEMS
    return histories, rng.integers(0, ITEMS, (count, k)), rng.integers(0, ITEMS, (count, 5))


def answers(user, histories, items, five, seed=7):
    """All that can be asked."""
    return [user.rewards(histories, items), user.states(histories),
            user.choices(histories, five, seed)]  # fmt: skip


def same(found, wanted):
    return all((a == b).all() and a.dtype == b.dtype and a.shape == b.shape
               for a, b in zip(found, wanted, strict=True))  # fmt: skip


def files(folder, kind="rewards"):
    return sorted(folder.glob(f"*/{kind}.*.bin"))


def kept(folder, count=40, user=None, seed=0):
    """A cache that knows the answers to some questions, all in one file of each kind."""
    asked = questions(count, seed)
    answers(Cached(user or Sums(), folder), *asked)
    return asked


# ------------------------------------------------------------------------------------- answers


def test_answers_are_those_of_the_simulator_now_and_later(tmp_path):
    asked, wanted = questions(), answers(Sums(), *questions())
    first, again, later = Sums(), Sums(), Sums()
    cached = Cached(first, tmp_path)
    assert (cached.sha256, cached.n_items, cached.width) == (first.sha256, ITEMS, 3)
    assert same(answers(cached, *asked), wanted)
    assert same(answers(cached, *asked), wanted) and first.calls == 3
    assert same(answers(Cached(again, tmp_path), *asked), wanted) and again.calls == 0
    assert same(answers(Cached(None, tmp_path), *asked), wanted)
    new = Cached(later, tmp_path)
    more = questions(60, seed=1)
    both = [np.concatenate(pair) for pair in zip(asked, more, strict=True)]
    assert same(answers(new, *both), answers(Sums(), *both))
    assert later.calls == 3 and later.asked <= 60 * 5


def test_questions_are_counted_and_none_is_asked_twice(tmp_path):
    user = Sums()
    cached = Cached(user, tmp_path)
    histories, items = np.array([[1, 2], [1, 2], [3, ITEMS]]), np.array([[5, 5], [5, 6], [5, 7]])
    cached.rewards(histories, items)
    assert (user.calls, user.asked) == (1, 4) and (cached.misses, cached.hits) == (4, 2)
    cached.rewards(histories[::-1], items[::-1])
    assert user.calls == 1 and (cached.misses, cached.hits) == (4, 8)
    cached.rewards(histories, items + 1)
    assert (user.calls, user.asked) == (2, 7) and (cached.misses, cached.hits) == (7, 11)


def test_one_history_in_any_kind_of_number_and_any_width_is_one(tmp_path):
    histories, items, five = kept(tmp_path)
    wanted, user = answers(Sums(), histories, items, five), Sums()
    wide = np.pad(histories, ((0, 0), (0, 6)), constant_values=ITEMS)
    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        for given_histories in (histories, wide, np.asfortranarray(wide)):
            asked = [array.astype(kind) for array in (given_histories, items, five)]
            assert same(answers(Cached(user, tmp_path), *asked), wanted)
    empty = histories[(histories == ITEMS).all(1)]
    assert len(empty) and same(
        answers(Cached(user, tmp_path), empty[:, :0], items[: len(empty)], five[: len(empty)])[1:2],
        [wanted[1][(histories == ITEMS).all(1)]],
    )
    assert user.calls == 2  # for the items that the empty histories had not been asked about


def test_nothing_asked_is_nothing_answered(tmp_path):
    user = Sums()
    found = answers(Cached(user, tmp_path), *(part[:0] for part in questions()))
    assert [part.shape for part in found] == [(0, 3), (0, 3), (0,)] and user.calls == 0
    assert Cached(user, tmp_path).rewards(questions()[0], np.empty((40, 0), int)).shape == (40, 0)


def test_order_place_kind_and_seed_make_questions_differ(tmp_path):
    user = Sums()
    cached = Cached(user, tmp_path)
    for history in ([1, 2], [2, 1], [1, 1], [2, ITEMS], [1, ITEMS], [ITEMS, ITEMS]):
        cached.states(np.array([history]))
        cached.rewards(np.array([history]), np.array([[1]]))
        for seed in (0, 1, -1, 2**70):
            cached.choices(np.array([history]), np.array([[1, 2, 3, 4, 5]]), seed)
            cached.choices(np.array([history]), np.array([[2, 1, 3, 4, 5]]), seed)
    assert cached.hits == 0 and cached.misses == user.asked == 6 * (2 + 8)


def test_what_is_no_number_is_not_kept(tmp_path):
    user = Sums()
    user.rewards = lambda histories, items: np.where(items == 3, np.nan, 1.0).astype(np.float32)
    found = Cached(user, tmp_path).rewards(np.array([[1]]), np.array([[2, 3]]))
    assert found[0, 0] == 1 and np.isnan(found[0, 1])
    cached = Cached(Sums(), tmp_path)
    assert cached.rewards(np.array([[1]]), np.array([[2, 3]]))[0, 1] == 204
    assert (cached.hits, cached.misses) == (1, 1)


def test_a_million_strangers_are_not_taken_for_known_ones(tmp_path):
    rng = np.random.default_rng(0)
    user = Sums(n_items=100_000)
    cached = Cached(user, tmp_path)
    histories = rng.integers(0, 100_000, (2_000, 10))
    items = np.arange(500) + rng.integers(0, 99_000, (2_000, 1))
    cached.rewards(histories, items[:, :250])
    assert cached.misses == 500_000 and cached.hits == 0
    cached.rewards(histories, items[:, 250:])
    assert cached.misses == 1_000_000 and cached.hits == 0
    assert (
        cached.rewards(histories, items) == Sums(n_items=100_000).rewards(histories, items)
    ).all()
    assert user.asked == 1_000_000


def test_half_a_key_is_no_key(tmp_path):
    entries = Cached(Sums(), tmp_path)._entries["rewards"]
    known = np.array([[1, 2], [5, 6], [9, 2]], np.uint64)
    entries.add(known, np.array([[10.0], [50.0], [90.0]], np.float32))
    entries.refresh()
    asked = np.array([[9, 2], [1, 3], [5, 6], [5, 2], [2**63, 0], [0, 2], [1, 2]], np.uint64)
    found, missing = entries.find(asked)
    assert found[:, 0].tolist() == [90, 0, 50, 0, 0, 0, 10]
    assert sorted(missing) == [1, 3, 4, 5]


@settings(max_examples=settings().max_examples // 4)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_any_batches_in_any_order_give_right_answers(tmp_path_factory, pairs, size):
    folder, user = tmp_path_factory.mktemp("cache"), Sums(n_items=4)
    cached = Cached(user, folder)
    for turn in range(2):
        for start in range(0, len(pairs), size):
            some = pairs[start : start + size]
            longest = max(len(history) for history, _ in some) + turn
            histories = np.array([past + [4] * (longest - len(past)) for past, _ in some])
            histories, items = (
                histories.reshape(len(some), longest),
                np.array([[i] for _, i in some]),
            )
            wanted = Sums(n_items=4).rewards(histories, items)
            assert (cached.rewards(histories, items) == wanted).all()
    assert user.asked == len({(tuple(past), item) for past, item in pairs}) == cached.misses


# -------------------------------------------------------------------------------------- damage


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_flipped_bytes_are_computed_again_and_said(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    asked = kept(folder, 8)
    wanted, flipped, told = answers(Sums(), *asked), set(), []
    for kind, size in (("rewards", 24), ("states", 32), ("choices", 24)):
        (file,) = files(folder, kind)
        content = bytearray(file.read_bytes())
        assert len(content) % size == 0
        for place in data.draw(st.sets(st.integers(0, len(content) - 1), max_size=3)):
            content[place] ^= data.draw(st.integers(1, 255))
            flipped.add((kind, place // size))
        file.write_bytes(content)
    user = Sums()
    cached = Cached(user, folder, say=told.append)
    assert same(answers(cached, *asked), wanted) and same(answers(cached, *asked), wanted)
    assert user.asked == cached.misses == len(flipped)
    kinds = {kind for kind, _ in flipped}
    assert len(told) == len(kinds) and sum(int(text.split()[0]) for text in told) == len(flipped)
    assert all("entries of the cache at" in text and "damaged" in text for text in told)
    assert same(answers(Cached(None, folder), *asked), wanted)  # the new ones are kept


def test_a_file_cut_anywhere_loses_only_what_was_cut(tmp_path):
    histories, items, _ = kept(tmp_path, 3)
    wanted = Sums().rewards(histories, items)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    records = len(content) // 24
    for end in [*range(60), *range(len(content) - 30, len(content) + 1)]:
        for left in files(tmp_path):
            left.unlink()
        file.write_bytes(content[:end])
        user, told = Sums(), []
        assert (Cached(user, tmp_path, say=told.append).rewards(histories, items) == wanted).all()
        assert user.asked == records - end // 24 and not told
        assert (Cached(None, tmp_path).rewards(histories, items) == wanted).all()


@settings(max_examples=settings().max_examples // 4)
@given(content=st.binary(max_size=200))
def test_files_of_anything_are_no_answers(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("cache")
    asked = kept(folder, 4)
    for kind in ("rewards", "states", "choices"):
        (folder / Sums().sha256[:16] / f"{kind}.1.00000000.bin").write_bytes(content)
    user = Sums()
    assert same(answers(Cached(user, folder), *asked), answers(Sums(), *asked))
    assert user.calls == 0


def test_a_file_cut_while_it_is_written_goes_on_after_whole_answers(tmp_path):
    cached = Cached(Sums(), tmp_path)
    histories, items, _ = questions(6)
    cached.rewards(histories[:3], items[:3])
    (file,) = files(tmp_path)
    os.truncate(file, 100)
    cached.rewards(histories[3:], items[3:])
    told = []
    found = Cached(Sums(), tmp_path, say=told.append).rewards(histories, items)
    assert (found == Sums().rewards(histories, items)).all() and not told


def test_answers_of_one_kind_or_simulator_are_not_those_of_another(tmp_path):
    asked, other = kept(tmp_path), Sums("others", width=1)
    there = Cached(other, tmp_path).folder
    for file in (tmp_path / Sums().sha256[:16]).glob("*.bin"):
        for kind in ("rewards", "states", "choices"):
            (there / f"{kind}.{file.name}").write_bytes(file.read_bytes())
    cached = Cached(other, tmp_path)
    assert same(answers(cached, *asked), answers(Sums(width=1), *asked))
    assert cached.misses == other.asked == sum(len(set(part)) for part in told_apart(*asked))


def told_apart(histories, items, five):
    """What is asked in all three ways."""
    past = [tuple(history) for history in histories.tolist()]
    pairs = [(history, item) for history, row in zip(past, items.tolist(), strict=True)
             for item in row]  # fmt: skip
    return pairs, past, list(zip(past, map(tuple, five.tolist()), strict=True))


# ---------------------------------------------------------------------------------- processes


def write_forever(folder, seeds):
    """What a process does until it is killed: writes of several pages, states of a page and more.

    So a kill may come in the middle of one.
    """
    cached = Cached(Sums("wide", width=1001), Path(folder))
    for turn in range(10_000):
        cached.states(np.random.default_rng([*seeds, turn]).integers(0, ITEMS, (500, 8)))
        print(turn, flush=True)


def write_some(folder, seeds):
    """What several processes do at once, some of it the same."""
    cached = Cached(Sums(), Path(folder))
    for seed in seeds:
        answers(cached, *questions(50, seed))
    print(cached.hits, cached.misses, flush=True)


def write_anew(folder, seeds):
    """What many short processes do: a file for every few answers, which are soon merged."""
    for seed in seeds:
        answers(Cached(Sums(), Path(folder)), *questions(3, seed))


@contextmanager
def process(*arguments):
    """This file, run with arguments."""
    command = [sys.executable, __file__, *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), *sys.path]))
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": path})  # fmt: skip
    try:
        with started.stdout:
            yield started
    finally:
        started.kill()
        started.wait()


def test_killed_at_any_time_all_that_is_there_is_right(tmp_path):
    rng = random.Random(0)
    for seed in range(4):
        with process("write_forever", tmp_path, seed) as writer:
            assert writer.stdout.readline() == "0\n"
            time.sleep(rng.random() / 5)
            os.kill(writer.pid, signal.SIGKILL)
            turns = len(writer.stdout.read().split()) + 1
        user, told = Sums("wide", width=1001), []
        cached = Cached(user, tmp_path, say=told.append)
        for turn in range(turns + 1):  # also what it was about to write
            histories = np.random.default_rng([seed, turn]).integers(0, ITEMS, (500, 8))
            assert (cached.states(histories) == Sums(width=1001).states(histories)).all()
            assert user.calls == 0 or turn == turns  # what it had told of is known
        assert not told


def test_processes_that_write_at_once_see_what_each_other_wrote(tmp_path):
    with (
        process("write_some", tmp_path, *range(30)) as one,
        process("write_some", tmp_path, *range(29, -1, -1)) as other,
    ):
        costs = [list(map(int, done.stdout.read().split())) for done in (one, other)]
    user = Sums()
    cached = Cached(user, tmp_path)
    for seed in range(30):
        assert same(answers(cached, *questions(50, seed)), answers(Sums(), *questions(50, seed)))
    assert user.calls == 0 and len(files(tmp_path)) <= 2
    assert all(hits + misses == 30 * 50 * 5 for hits, misses in costs)


def test_nothing_is_lost_while_processes_merge_what_others_write(tmp_path):
    with (
        process("write_anew", tmp_path, *range(100)) as one,
        process("write_anew", tmp_path, *range(100, 200)) as other,
    ):
        while not list(tmp_path.glob("*/manifest.json")):
            time.sleep(0.01)
        known, told = 0, []
        while one.poll() is None or other.poll() is None:
            reader = Cached(None, tmp_path, say=told.append)
            for seed in range(known):  # what has been there is there
                reader.rewards(*questions(3, seed)[:2])
            with suppress(InvalidArgument):
                while True:
                    reader.rewards(*questions(3, known)[:2])
                    known += 1
        assert one.wait() == other.wait() == 0 and not told
    reader = Cached(None, tmp_path)
    for seed in range(200):
        assert same(answers(reader, *questions(3, seed)), answers(Sums(), *questions(3, seed)))
    assert len(files(tmp_path)) < 40


def test_what_another_asked_meanwhile_is_not_asked_again(tmp_path):
    user = Sums()
    first, second = Cached(user, tmp_path), Cached(user, tmp_path)
    for seed in range(6):
        for cached in (first, second) if seed % 2 else (second, first):
            assert same(answers(cached, *questions(9, seed)), answers(Sums(), *questions(9, seed)))
        assert user.calls == 3 * (seed + 1)


def test_a_process_that_was_forked_writes_a_file_of_its_own(tmp_path):
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_cache import *\n"
        "cached = Cached(Sums(), Path(sys.argv[2])); answers(cached, *questions(20, 0))\n"
        "child = os.fork()\n"
        "answers(cached, *questions(20, 2 if child else 1))\n"
        "if not child: os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert len(files(tmp_path)) == 2
    for seed in range(3):
        asked = questions(20, seed)
        assert same(answers(Cached(None, tmp_path), *asked), answers(Sums(), *asked))


# --------------------------------------------------------------------------------------- files


def test_many_files_become_one_and_those_being_written_stay(tmp_path):
    reader = Cached(Sums(), tmp_path)
    live = Cached(Sums(), tmp_path)
    answers(live, *questions(5, 99))
    (alive,) = files(tmp_path)
    for seed in range(16):
        kept(tmp_path, 5, seed=seed)
    answers(reader, *questions(5, 0))  # it has read them all
    assert len(files(tmp_path)) == 17
    kept(tmp_path, 5, seed=16)
    assert len(files(tmp_path)) == 18  # 16 that nobody writes were not too many
    kept(tmp_path, 5, seed=17)
    assert len(files(tmp_path)) == 3 and alive in files(tmp_path)
    answers(live, *questions(5, 98))
    assert not list(tmp_path.glob("*/.*"))
    for seed in [*range(18), 98, 99]:
        for cached in (Cached(None, tmp_path), reader):
            assert same(answers(cached, *questions(5, seed)), answers(Sums(), *questions(5, seed)))
    assert reader.misses == 0


def test_files_are_left_alone_while_another_process_merges_them(tmp_path):
    for seed in range(17):
        kept(tmp_path, 2, seed=seed)
    before = files(tmp_path)
    with locked(before[0].parent):
        kept(tmp_path, 2, seed=17)
        assert set(before) < set(files(tmp_path))
    kept(tmp_path, 2, seed=18)
    assert len(files(tmp_path)) == 2


def test_what_a_killed_merger_left_harms_nothing(tmp_path):
    for seed in range(17):
        kept(tmp_path, 5, seed=seed)
    folder = tmp_path / Sums().sha256[:16]
    for kind in ("rewards", "states", "choices"):
        (folder / f".{kind}.part").write_bytes(b"half of an answer" * 9)
    kept(tmp_path, 5, seed=17)
    assert len(files(tmp_path)) == 2 and not list(tmp_path.glob("*/.*"))
    told, user = [], Sums()
    for seed in range(18):
        answers(Cached(user, tmp_path, say=told.append), *questions(5, seed))
    assert user.calls == 0 and not told


def test_damaged_and_double_entries_are_left_out_of_merged_files(tmp_path):
    asked = kept(tmp_path, 5)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    for copy in range(20):  # as of processes that asked the same at once
        damaged = bytearray(content)
        damaged[copy * 7] ^= 1
        file.with_name(f"rewards.1.{copy:08}.bin").write_bytes(damaged)
    kept(tmp_path, 5, seed=1)
    assert len(files(tmp_path)) == 2
    assert len(content) in [one.stat().st_size for one in files(tmp_path)]
    user, told = Sums(), []
    assert same(answers(Cached(user, tmp_path, say=told.append), *asked), answers(Sums(), *asked))
    assert user.calls == 0 and not told


@contextmanager
def disk_of(most_bytes):
    """No file may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path):
    user = Sums()
    cached = Cached(user, tmp_path)
    histories, items, _ = questions(20)
    cached.rewards(histories[:10], items[:10])
    with disk_of(24 * 40 + 10), pytest.raises(OutOfRoom) as problem:
        cached.rewards(histories, items)
    assert "could not be written to" in said(problem) and "Free some space" in str(problem.value)
    (file,) = files(tmp_path)
    assert file.stat().st_size == 24 * 40 + 10
    wanted, sentences = Sums().rewards(histories, items), []
    assert (cached.rewards(histories, items) == wanted).all()
    assert file.stat().st_size == 24 * 60 and user.asked == cached.misses == 30 + 30 + 20
    last = Cached(None, tmp_path, say=sentences.append)
    assert (last.rewards(histories, items) == wanted).all() and not sentences


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutOfRoom) as problem:
        Cached(Sums(), tmp_path / "file")
    assert "could not be written to" in said(problem)
    cached = Cached(Sums(), tmp_path / "cache")
    (tmp_path / "cache").rename(tmp_path / "moved")
    with pytest.raises(OutOfRoom) as problem:
        answers(cached, *questions())
    assert "No such file" in said(problem)


# ------------------------------------------------------------------------------------ refusals


def test_a_machine_without_the_simulator_says_what_is_missing(tmp_path):
    histories, items, five = kept(tmp_path, 5)
    cached = Cached(None, tmp_path, Sums().sha256)
    histories = np.array([*histories, [7, 8, ITEMS, ITEMS], [9, 9, 9, 9]])
    items, five = np.array([*items, [1, 2, 2], [3, 4, 5]]), np.array([*five, [1] * 5, [2] * 5])
    begin = f"The cache at {cached.folder} lacks "
    for ask, text in (
        (lambda: cached.rewards(histories, items),
         "5 of the rewards asked for, first that of item 1"),
        (lambda: cached.states(histories), "2 of the states asked for, first that"),
        (lambda: cached.choices(histories, five, 7),
         "2 of the choices asked for, first that among the items 1, 1, 1, 1, 1"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument) as problem:
            ask()
        assert said(problem).startswith(f"{begin}{text} after the history [7, 8], and no simulator")
    with pytest.raises(InvalidArgument) as problem:
        cached.choices(histories, five, 8)
    assert said(problem).startswith(f"{begin}7 of the choices asked for")
    with pytest.raises(InvalidArgument) as problem:
        cached.states(np.full((1, 900), 3))
    assert "[3, 3, 3" in said(problem)
    assert cached.misses == 0


def test_a_cache_is_found_by_its_hash_where_there_are_several(tmp_path):
    with pytest.raises(InvalidArgument) as problem:
        Cached(None, tmp_path / "nothing")
    assert "those of 0 that may be meant (none)" in said(problem)
    users = [Sums("one"), Sums("two")]
    for user in users:
        kept(tmp_path, 3, user)
    with pytest.raises(InvalidArgument) as problem:
        Cached(None, tmp_path)
    assert all(user.sha256[:16] in said(problem) for user in users)
    for user in users:
        assert Cached(None, tmp_path, user.sha256).sha256 == user.sha256
    with pytest.raises(InvalidArgument) as problem:
        Cached(None, tmp_path, Sums("three").sha256)
    assert "those of 0" in said(problem)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "its version is 2, not 1"),
        ({"simulator": "f" * 64}, f"its simulator is {'f' * 57}…, not "),
        ({"n_items": 51}, "its n_items is 51, not 50"),
        ({"width": 4}, "its width is 4, not 3"),
    ],
)
def test_the_folder_of_another_simulator_is_refused(tmp_path, change, words):
    kept(tmp_path, 3)
    (manifest,) = tmp_path.glob("*/manifest.json")
    content = json.loads(manifest.read_text())
    assert content == {
        "version": 1, "simulator": Sums().sha256, "n_items": ITEMS, "width": 3,
    }  # fmt: skip
    manifest.write_text(json.dumps(content | change))
    with pytest.raises(InvalidArgument) as problem:
        Cached(Sums(), tmp_path)
    assert "is of another simulator" in said(problem) and words in str(problem.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"\xff", b'{"version": 1}',
     b'{"version": 1, "simulator": "a", "n_items": "5", "width": 3}'],
)  # fmt: skip
def test_a_manifest_that_cannot_be_read_is_refused_and_written_anew_once_it_is_gone(
    tmp_path, content
):
    asked = kept(tmp_path, 3)
    (manifest,) = tmp_path.glob("*/manifest.json")
    manifest.write_bytes(content)
    for user in (Sums(), None):
        with pytest.raises(InvalidArgument) as problem:
            Cached(user, tmp_path)
        assert "delete it" in said(problem) and str(manifest) in str(problem.value)
    manifest.unlink()
    user = Sums()
    assert same(answers(Cached(user, tmp_path), *asked), answers(Sums(), *asked))
    assert user.calls == 0


@pytest.mark.parametrize("name", ["", "abc"])
def test_a_simulator_without_a_hash_is_refused(tmp_path, name):
    user = Sums()
    user.sha256 = name
    with pytest.raises(InvalidArgument) as problem:
        Cached(user, tmp_path)
    assert "cannot be told from others" in said(problem) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("histories", "items", "words"),
    [
        ([[1, 51]], [[1]], "histories that a simulator is asked about hold int64 from 1 to 51"),
        ([[1, -1]], [[1]], "histories that a simulator is asked about hold int64 from -1 to 1"),
        ([[1, 2]], [[50]], "items that a simulator is asked about hold int64 from 50 to 50"),
        ([[1, 2]], [[-1]], "items that a simulator is asked about hold int64 from -1 to -1"),
        ([[1.5, 2]], [[1]], "hold float64 from 1.5 to 2.0: give whole numbers from 0 to 50"),
    ],
)
def test_what_is_no_item_is_refused(tmp_path, histories, items, words):
    user = Sums()
    with pytest.raises(InvalidArgument) as problem:
        Cached(user, tmp_path).rewards(np.array(histories), np.array(items))
    assert words in said(problem) and user.calls == 0


if __name__ == "__main__":  # a process that a test starts
    acts = {"write_forever": write_forever, "write_some": write_some, "write_anew": write_anew}
    acts[sys.argv[1]](sys.argv[2], list(map(int, sys.argv[3:])))
