"""Steps and batches of datasets, recounted slowly from Minari's own episodes."""

import tracemalloc

import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer

import recgym
from recgym.agents.batches import Steps
from recgym.episodes import Episodes
from recgym.errors import BadDataset, InvalidArgument
from recgym.export import made_here, new_storage, writing_dataset
from recgym.protocols import Protocol
from recgym.rollouts import collect

from ..sentences import said

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
    pytest.mark.filterwarnings("ignore:env_spec is None:UserWarning"),
]

CPU = torch.device("cpu")
SMALL = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 12, "history": 4, "organic": 2, "fresh": 2,
}  # fmt: skip
EVENTS = {
    "who": [*"aaaa", "b", *"ccc", "d", "e"],
    "what": [*"xyxz", "z", *"yyx", "x", "x"],
    "when": [10**9 + day * 10**6 for day in (1, 2, 3, 4, 1, 1, 2, 3, 8, 9)],
    "how": [
        *("click", "skip", "purchase", "click"), "click", *("skip", "click", "purchase"),
        "click", "click",
    ],
}  # fmt: skip


def by_hand(in_state):
    """Five visits, of which three are for training; all rows enter histories, or all but skips."""
    protocol = Protocol(
        "by-hand", split="session-time", cuts=(0.6, 0.8), in_state=in_state,
        ends="purchase", rewards="click0.2-purchase1",
    )  # fmt: skip
    log = recgym.log_from_frame(
        EVENTS, user="who", item="what", time="when", behaviour="how", visits=True,
        protocol=protocol, name=f"by-hand-{in_state}",
    )  # fmt: skip
    return log, recgym.to_minari(log, history=3)


def foreign(sessions, n_items=9, length=3, dtype=np.int64, data_format="hdf5"):
    """A dataset without a layout, as others write it: (items, rewards, whether it was cut)."""
    space = spaces.Box(0, n_items, (length,), dtype)
    with writing_dataset("others/data-v0", replace=True) as folder:
        storage = new_storage(folder, space, spaces.Discrete(n_items), None, data_format)
        storage.update_metadata(made_here() | {"dataset_id": "others/data-v0"})
        storage.update_episodes([_episode(*one, n_items, length, dtype) for one in sessions])
    return minari.load_dataset("others/data-v0")


def _episode(items, rewards, cut, n_items, length, dtype):
    windows = [items[max(0, stop - length) : stop] for stop in range(len(items) + 1)]
    padded = [[*window, *[n_items] * (length - len(window))] for window in windows]
    last = np.arange(len(items)) == len(items) - 1
    return EpisodeBuffer(
        observations=np.array(padded, dtype),
        actions=np.array(items, np.int64),
        rewards=np.array(rewards, float),
        terminations=last & (not cut),
        truncations=last & cut,
        infos={},
    )


def recounted(dataset, ends="terminated"):
    """What each step has to be, by one pass over each episode."""
    pad = int(dataset.action_space.n)
    layout = dataset.storage.metadata.get("layout", {})
    steps = []
    for episode in dataset.iterate_episodes():
        count = len(episode.actions)
        first, stop = layout.get("history", [0, episode.observations.shape[1]])
        answers = layout.get("responses")
        known = episode.infos.get("behaviour")

        def seen(at, rows=episode.observations, first=first, stop=stop, answers=answers):
            items = rows[at][first:stop].tolist()
            there = sum(item != pad for item in items)
            assert items[there:] == [pad] * (len(items) - there)
            return items, max(1, there), rows[at][slice(*answers)].tolist() if answers else None

        def behaviour(at, known=known, rewards=episode.rewards):
            return int(rewards[at] > 0) if known is None else int(known[at + 1])

        for at in range(count):
            last = at == count - 1
            steps.append({
                "seen": seen(at), "next_seen": seen(at + 1),
                "actions": int(episode.actions[at]),
                "rewards": float(np.float32(episode.rewards[at])),
                "over": bool(last if ends == "both" else episode.terminations[at]),
                "last": last,
                "taken": bool(episode.rewards[at] > 0),
                "next_actions": 0 if last else int(episode.actions[at + 1]),
                "behaviours": behaviour(at),
                "next_behaviours": -1 if last else behaviour(at + 1),
                "before": at, "after": count - 1 - at,
            })  # fmt: skip
    return steps


def assert_recounted(dataset, ends="terminated", seed=0):
    """All steps, and the same in another order and more than once."""
    wanted = recounted(dataset, ends)
    steps = Steps(dataset, ends)
    assert len(steps) == len(wanted)
    drawn = np.random.default_rng(seed).integers(len(wanted), size=len(wanted) + 3)
    for rows in (np.arange(len(wanted)), drawn):
        batch = steps.batch(rows, CPU)
        assert len(batch) == len(rows)
        for name in wanted[0]:
            found, told = getattr(batch, name), [wanted[row][name] for row in rows]
            if "seen" not in name:
                assert found.tolist() == told, name
                continue
            answers = found.answers
            answers = [None] * len(rows) if answers is None else answers.tolist()
            both = zip(found.items.tolist(), found.lengths.tolist(), answers, strict=True)
            assert list(both) == told, name
    whole = (batch.actions, batch.next_actions, batch.behaviours, batch.seen.items)
    assert {tensor.dtype for tensor in whole} == {torch.long}
    assert {batch.rewards.dtype, batch.over.dtype, batch.taken.dtype} == {torch.float32}
    return steps


# ---------------------------------------------------------------------------------- each step


WINDOWS = {
    "all": {"a": "--- x-- xy- xyx yxz", "b": "--- z--", "c": "--- y-- yy- yyx"},
    "positive": {"a": "--- x-- x-- xx- xxz", "b": "--- z--", "c": "--- --- y-- yx-"},
}


@pytest.mark.parametrize("in_state", ["all", "positive"])
def test_three_sessions_by_hand_are_these_rows(in_state):
    log, dataset = by_hand(in_state)
    raw = log.catalogue["raw_id"].to_pylist()
    number = {name: place for place, name in enumerate(raw)} | {"-": len(raw)}
    steps = assert_recounted(dataset)
    batch = steps.batch(np.arange(len(steps)), CPU)
    told = {
        "a": ("xyxz", [0.2, 0, 1, 0.2], [0, 0, 0, 0]),
        "b": ("z", [0.2], [0]),
        "c": ("yyx", [0, 0.2, 1], [0, 0, 1]),
    }
    assert log.users.to_pylist() == [*"abcde"] and len(steps) == 8
    for first, user in zip((0, 4, 5), "abc", strict=True):
        actions, rewards, over = told[user]
        windows = WINDOWS[in_state][user].split()
        rows = [[number[name] for name in window] for window in windows]
        part = slice(first, first + len(actions))
        assert batch.seen.items[part].tolist() == rows[:-1]
        assert batch.next_seen.items[part].tolist() == rows[1:]
        lengths = [max(1, len(window.replace("-", ""))) for window in windows]
        assert batch.seen.lengths[part].tolist() == lengths[:-1]
        assert batch.next_seen.lengths[part].tolist() == lengths[1:]
        assert batch.actions[part].tolist() == [number[name] for name in actions]
        assert batch.rewards[part].tolist() == pytest.approx(rewards)
        assert batch.over[part].tolist() == over
        assert batch.last[part].tolist() == [0] * (len(actions) - 1) + [1]
    assert steps.empty.sum() == (3 if in_state == "all" else 4) and batch.seen.answers is None
    taken = np.bincount(batch.actions[batch.rewards > 0], minlength=len(raw))
    assert steps.popularity.tolist() == pytest.approx((taken / 6).tolist())


@pytest.mark.parametrize("ends", ["terminated", "both"])
def test_a_log_and_roll_outs_are_what_a_slow_recount_says(ends):
    assert_recounted(by_hand("positive")[1], ends)
    dataset = collect("recgym/OracleBoredom-v0", "mixed", sessions=60, name="n", **SMALL)
    steps = assert_recounted(dataset, ends)
    assert steps.kinds == 5 and steps.answers.max() == 4
    some = dataset.filter_episodes(lambda episode: len(episode) > 2)
    assert 0 < len(some) < len(dataset)
    assert_recounted(some, ends)


sessions = st.lists(
    st.integers(1, 9).flatmap(
        lambda size: st.tuples(
            st.lists(st.integers(0, 8), min_size=size, max_size=size),
            st.lists(st.sampled_from([-1.0, 0.0, 0.2, 1.0]), min_size=size, max_size=size),
            st.booleans(),
        )
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=settings().max_examples // 8)
@given(sessions, st.sampled_from([1, 3, 5]), st.sampled_from(["hdf5", "recgym"]), st.booleans())
def test_a_strangers_dataset_is_what_a_slow_recount_says(sessions, length, data_format, both):
    dataset = foreign(sessions, length=length, data_format=data_format)
    steps = assert_recounted(dataset, "both" if both else "terminated")
    assert steps.items.dtype == np.int32


def test_a_share_of_an_item_that_nobody_took_is_that_of_one_event():
    steps = Steps(foreign([([0, 1, 1, 2], [1, 1, 1, 0], False)], n_items=4))
    assert steps.popularity.tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 3, 1 / 3])


# ------------------------------------------------------------------------------------ windows


def shown(seen, row):
    """What a window shows, as pairs of an item and its answer."""
    size = int(seen.lengths[row])
    answers = [None] * size if seen.answers is None else seen.answers[row].tolist()
    return list(zip(seen.items[row].tolist(), answers, strict=False))[:size]


def assert_chunked(steps, rows, stride):
    """Each target is told after the end of what was seen before it, in order and once."""
    chunked = steps.chunked(rows, stride)
    chunks = chunked.batch(np.arange(len(chunked)), CPU)
    batch = steps.batch(rows, CPU)
    assert chunks.actions.tolist() == batch.actions.tolist()
    assert np.unique(chunks.windows).tolist() == list(range(len(chunked)))
    for target, (window, place) in enumerate(zip(chunks.windows, chunks.places, strict=True)):
        own, whole = shown(batch.seen, target), shown(chunks.seen, int(window))
        before = whole[: int(place) + 1]
        assert 1 <= len(before) <= len(own) and own[-len(before) :] == before
        assert len(before) >= min(len(own), steps.items.shape[1] - stride + 1)
    return chunked


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_targets_of_a_window_stand_after_what_was_seen_before_them(stride):
    dataset = collect("recgym/OracleBoredom-v0", "mixed", sessions=60, name="n", **SMALL)
    steps = Steps(dataset)
    for rows in (np.arange(len(steps)), np.flatnonzero(steps.taken)):
        chunked = assert_chunked(steps, rows, stride)
        assert stride > 1 or len(chunked) == len(rows)
        assert stride == 1 or len(chunked) < len(rows)
    steps = Steps(by_hand("positive")[1])
    assert_chunked(steps, np.flatnonzero(~steps.empty), min(stride, 3))


@settings(max_examples=settings().max_examples // 8)
@given(sessions, st.sampled_from([1, 3, 5]), st.integers(1, 5), st.randoms(use_true_random=False))
def test_windows_of_any_sessions_hold_what_was_seen(sessions, length, stride, random):
    few = [([item % 2 for item in items], *rest) for items, *rest in sessions]  # repeats abound
    for data in (sessions, few):
        steps = Steps(foreign(data, length=length, data_format="recgym"))
        rows = np.flatnonzero(~steps.empty)
        rows = rows[[random.random() < 0.7 for _ in rows]]
        if len(rows):
            assert_chunked(steps, rows, min(stride, length))


def test_some_windows_are_those_of_all():
    steps = Steps(collect("recgym/OracleBoredom-v0", "mixed", sessions=20, name="n", **SMALL))
    chunked = steps.chunked(np.arange(len(steps)), 3)
    every = chunked.batch(np.arange(len(chunked)), CPU)
    chosen = np.random.default_rng(0).permutation(len(chunked))[:7]
    some = chunked.batch(chosen, CPU)
    for place, window in enumerate(chosen):
        mine, all_of_it = some.windows == place, every.windows == int(window)
        assert some.places[mine].tolist() == every.places[all_of_it].tolist()
        assert some.actions[mine].tolist() == every.actions[all_of_it].tolist()
        assert torch.equal(some.seen.items[place], every.seen.items[window])


def test_a_repeat_in_a_window_of_repeats_does_not_see_its_own_answer():
    dataset = collect("recgym/OracleBoredom-v0", "mixed", sessions=5, name="n", **SMALL)
    steps = Steps(dataset)
    steps.items[:] = 7  # all windows are alike but for the answers
    steps.answers[:] = np.arange(steps.answers.size).reshape(steps.answers.shape) % 3
    first = np.flatnonzero(steps.episodes == 0)
    assert steps.moves[first].tolist() == list(range(len(first)))


# ---------------------------------------------------------------------------- what is refused


def spoiled(column, place, value, layout=None):
    """A dataset of one session of three steps with a value that its format does not check."""
    columns = {
        "observations": np.array([[9, 9, 9], [1, 9, 9], [1, 2, 9], [1, 2, 3]], np.int32),
        "actions": np.array([1, 2, 3]),
        "rewards": np.array([1.0, 0.0, 1.0]),
    }
    columns[column][place] = value
    last = np.array([False, False, True])
    steps = {name: columns[name] for name in ("actions", "rewards")}
    steps |= {"terminations": last, "truncations": ~last & last}
    states = {"observations": columns["observations"]}
    return stored(spaces.Box(0, 9, (3,), np.int32), Episodes(np.array([3]), steps, states), layout)


def stored(space, episodes, layout=None):
    with writing_dataset("others/odd-v0", replace=True) as folder:
        storage = new_storage(folder, space, spaces.Discrete(9), None, "recgym")
        about = {"layout": layout} if layout else {}
        storage.update_metadata(made_here() | {"dataset_id": "others/odd-v0"} | about)
        storage.append(episodes)
    return minari.load_dataset("others/odd-v0")


@pytest.mark.parametrize(
    ("column", "place", "value", "says"),
    [
        ("actions", 1, 9, "actions of others/odd-v0 go from 0 to 8, and 9 is among them"),
        ("actions", 0, -1, "actions of others/odd-v0 go from 0 to 8, and -1 is among them"),
        ("observations", (1, 0), 10, "histories of others/odd-v0 go from 0 to 9, and 10 is"),
        ("observations", (0, 2), -7, "histories of others/odd-v0 go from 0 to 9, and -7 is"),
        ("rewards", 2, np.nan, "rewards that are no numbers"),
        ("rewards", 2, np.inf, "rewards that are no numbers"),
    ],
)
def test_what_is_out_of_range_is_refused(column, place, value, says):
    with pytest.raises(BadDataset, match=says) as problem:
        Steps(spoiled(column, place, value))
    said(problem)


def test_answers_out_of_range_are_refused():
    layout = {"history": [0, 2], "responses": [2, 3]}
    dataset = spoiled("observations", (1, 2), 10, layout=layout)
    with pytest.raises(BadDataset, match="responses of .* go from 0 to 9, and 10 is") as problem:
        Steps(dataset)
    said(problem)


def test_a_dataset_without_a_step_is_refused():
    dataset = foreign([([1, 2], [1, 1], False)])
    with pytest.raises(InvalidArgument, match="has no step to learn from") as problem:
        Steps(dataset.filter_episodes(lambda episode: len(episode) > 5))
    said(problem)


@pytest.mark.parametrize(
    "space", [spaces.Dict(history=spaces.Box(0, 9, (3,), np.int32)), spaces.Box(0, 9, (3,))]
)
def test_observations_that_are_no_flat_whole_numbers_are_refused(space):
    name = "observations/history" if isinstance(space, spaces.Dict) else "observations"
    over = np.array([True])
    steps = {"actions": np.array([1]), "rewards": np.array([1.0])}
    steps |= {"terminations": over, "truncations": ~over}
    kind = np.float32 if isinstance(space, spaces.Box) else np.int32
    states = {name: np.zeros((2, 3), kind)}
    dataset = stored(space, Episodes(np.array([1]), steps, states), {"history": [0, 3]})
    with pytest.raises(InvalidArgument, match="flat observations of whole numbers") as problem:
        Steps(dataset)
    said(problem)


def test_windows_after_nothing_are_refused():
    steps = Steps(foreign([([1], [1], False), ([2], [1], False)]))
    with pytest.raises(InvalidArgument, match="no window tells of it") as problem:
        steps.chunked(np.flatnonzero(~steps.empty), 2)
    said(problem)


# ------------------------------------------------------------------------------------- memory


def test_windows_are_kept_once_and_small():
    rng = np.random.default_rng(0)
    sessions = [(rng.integers(9, size=50), np.ones(50), False) for _ in range(200)]
    dataset = foreign(sessions, length=40, data_format="recgym", dtype=np.int32)
    Steps(dataset)  # what is read once stays open
    windows = 200 * 51 * 40 * 4
    tracemalloc.start()
    try:
        steps = Steps(dataset)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert steps.items.dtype == np.int32 and steps.items.nbytes == windows
    arrays = [values for values in vars(steps).values() if isinstance(values, np.ndarray)]
    assert sum(values.nbytes for values in arrays) == pytest.approx(kept, rel=0.1)
    assert kept < 1.5 * windows and most < 3 * windows
