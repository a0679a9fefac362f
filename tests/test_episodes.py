"""Episodes as columns: exact through Arrow and back, windows rebuilt, faults refused."""

import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from recgym.buffers import from_buffers
from recgym.episodes import NONE, from_arrow, to_arrow
from recgym.errors import InvalidArgument

from .sentences import said

DTYPES = ("bool", "uint8", "int8", "int32", "int64", "uint64", "float16", "float32", "float64")
UNIT = spaces.Box(0, 1, (2,), np.float32)
TWO = spaces.Discrete(2)
ZEROS = np.zeros((3, 2), np.float32)


def same(found, wanted):
    """Are two trees of columns equal in form, value and dtype?"""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, tuple):
        return type(found) is tuple and all(map(same, found, wanted)) and len(found) == len(wanted)
    if isinstance(wanted, np.ndarray):
        nan = wanted.dtype.kind == "f"
        return found.dtype == wanted.dtype and np.array_equal(found, wanted, equal_nan=nan)
    return type(found) is type(wanted) and found == wanted


def stacked(space, values):
    """Values of a space as columns, in the form in which Minari hands them out."""
    if isinstance(space, spaces.Dict):
        return {k: stacked(sub, [v[k] for v in values]) for k, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(sub, [v[k] for v in values]) for k, sub in enumerate(space))
    return values if isinstance(space, spaces.Text) else np.array(values, space.dtype)


def sampled(space, lengths, seed=0, actions=TWO, infos=lambda rng, length: {}):
    """Buffers with random content of these spaces."""
    rng = np.random.default_rng(seed)
    space.seed(seed), actions.seed(seed)
    buffers = []
    for length in lengths:
        ends = np.zeros(length, bool)
        ends[-1] = rng.random() < 0.5
        buffers.append(
            EpisodeBuffer(
                observations=stacked(space, [space.sample() for _ in range(length + 1)]),
                actions=stacked(actions, [actions.sample() for _ in range(length)]),
                rewards=rng.normal(size=length),
                terminations=ends,
                truncations=~ends & (np.arange(length) == length - 1),
                infos=infos(rng, length),
            )
        )
    return buffers


def zeros(changes=()):
    """An episode of two steps with nothing in it but zeros, and these changes."""
    flags = {"terminations": [False, True], "truncations": [False, False]}
    plain = {"observations": ZEROS, "actions": [0, 1], "rewards": [0.0, 0.0], "infos": {}} | flags
    return EpisodeBuffer(**plain | dict(changes))


def content(buffer):
    """What a buffer says of its episode, in the form that comes back."""
    names = ("observations", "actions", "rewards", "terminations", "truncations", "infos")
    return {name: getattr(buffer, name) for name in names}


def through(buffers, space, actions=TWO):
    """The episodes of buffers, to Arrow and back."""
    return from_arrow(to_arrow(from_buffers(buffers, space, actions)))


def back(episodes, space, actions=TWO):
    """The episodes as dictionaries."""
    cut = list(episodes.cut(space, actions, ids=range(len(episodes))))
    assert [episode.pop("id") for episode in cut] == list(range(len(episodes)))
    return cut


def windows_of(held, consumed, length, pad):
    """The history window of every state, one after the other."""
    held, rows = list(held), []
    for item in [None, *consumed]:
        held += [] if item is None else [item]
        rows.append((held[-length:] + [pad] * length)[:length])
    return rows


def of_windows(rows, dtype="int32"):
    """A buffer that observes these rows."""
    steps = len(rows) - 1
    zero = {"actions": np.zeros(steps, int), "rewards": np.zeros(steps)}
    flags = {"terminations": np.zeros(steps, bool), "truncations": np.zeros(steps, bool)}
    return EpisodeBuffer(observations=np.array(rows, dtype), **zero, **flags)


def numbers(draw, dtype, shape):
    """A Box of a dtype, bounded or not."""
    if np.dtype(dtype).kind == "f":
        low, high = draw(st.sampled_from([(-1, 1), (0, 9), (-np.inf, np.inf), (0, np.inf)]))
    elif dtype == "bool":
        low, high = 0, 1
    else:
        low, high = draw(st.sampled_from([(0, 9), (0, 100), (1, 3)]))
    return spaces.Box(low, high, shape, np.dtype(dtype))


@st.composite
def leaf_spaces(draw):
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    kind = draw(st.sampled_from(["box", "box", "stretches", "discrete", "multi", "binary", "text"]))
    if kind == "box":
        return numbers(draw, draw(st.sampled_from(DTYPES)), shape)
    if kind == "stretches":
        highs = draw(st.lists(st.sampled_from([3, 7.5, 9]), min_size=2, max_size=6))
        return spaces.Box(np.zeros(len(highs), np.float32), np.array(highs, np.float32))
    if kind == "discrete":
        return spaces.Discrete(draw(st.integers(1, 9)), start=draw(st.integers(-3, 3)))
    if kind == "multi":
        sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
        return spaces.MultiDiscrete(sizes, dtype=draw(st.sampled_from([np.int64, np.int32])))
    if kind == "binary":
        return spaces.MultiBinary(draw(st.sampled_from([1, 4, [2, 3]])))
    return spaces.Text(draw(st.integers(1, 9)), min_length=0, charset="ab é€字\n")


any_space = st.recursive(
    leaf_spaces(),
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(spaces.Dict)
        | st.lists(inner, max_size=3).map(spaces.Tuple)
    ),
    max_leaves=4,
)
some_lengths = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def rich_infos(rng, length):
    """Infos of every kind: nested, text, of each state and of each step."""
    return {
        "text": [f"item {k} €" for k in rng.integers(99, size=length + 1)],
        "deep": {"flag": rng.random(length + 1) < 0.5, "late": rng.integers(9, size=length)},
        "slate": rng.random((length + 1, 2, 3), np.float32),
        "maybe": np.where(rng.random(length + 1) < 0.5, np.nan, 1.0),
        "time": rng.integers(2**40, size=length + 1),
    }


# ------------------------------------------------------------------------------- to Arrow and back


@given(any_space, any_space, some_lengths, st.integers(0, 99), st.booleans())
def test_what_a_space_holds_comes_back_equal(space, actions, lengths, seed, rich):
    infos = rich_infos if rich else lambda rng, length: {}
    buffers = sampled(space, lengths, seed, actions, infos)
    found = back(through(buffers, space, actions), space, actions)
    assert len(found) == len(buffers)
    for episode, buffer in zip(found, buffers, strict=True):
        assert same(episode, content(buffer))


@given(any_space, some_lengths, st.data())
def test_take_is_picking_from_a_list(space, lengths, data):
    which = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    episodes = through(sampled(space, lengths, infos=rich_infos), space)
    taken = episodes.take(np.array(which, np.int64))
    whole = back(episodes, space)
    assert taken.lengths.tolist() == [lengths[k] for k in which]
    for found, k in zip(back(taken, space), which, strict=True):
        assert same(found, whole[k])
    again = from_arrow(to_arrow(taken)) if which else taken
    assert same(tuple(back(again, space)), tuple(back(taken, space)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_kept_to_its_extremes(dtype):
    limits = (
        np.finfo(dtype) if "float" in dtype else np.iinfo("uint8" if dtype == "bool" else dtype)
    )
    values = np.array([limits.min, limits.max, 0], dtype)
    space = spaces.Box(values[[0, 0]], values[[1, 1]], dtype=values.dtype)
    deep = {"wide": np.stack([values, values[::-1]], 1)}
    changes = {"observations": deep["wide"], "infos": {"flat": values, "deep": deep}}
    (found,) = back(through([zeros(changes)], space), space)
    assert same(found["observations"], deep["wide"]) and same(found["infos"], changes["infos"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_rewards_keep_their_dtype(dtype):
    buffer = EpisodeBuffer(
        **content(sampled(UNIT, [3])[0]) | {"rewards": np.arange(3, dtype=dtype)}
    )
    assert back(through([buffer], UNIT), UNIT)[0]["rewards"].dtype == dtype


def test_the_columns_are_what_their_names_say():
    space = spaces.Dict({"a/b": TWO, "page": spaces.Text(9), "at~": spaces.Tuple([UNIT])})
    episodes = through(sampled(space, [2, 1], infos=rich_infos), space)
    assert {"observations/a~1b", "observations/page", "observations/at~0/0"} < set(episodes.states)
    assert {"actions", "rewards", "infos/deep/late"} < set(episodes.steps)
    assert pa.types.is_large_string(episodes.states["observations/page"].type)
    assert pa.types.is_large_string(episodes.states["infos/text"].type)
    assert len(episodes) == 2 and episodes.offsets.tolist() == [0, 2, 3]


def test_lists_arrays_and_lists_of_dictionaries_are_the_same_episode():
    space = spaces.Dict({"x": UNIT, "y": spaces.Tuple([TWO, spaces.Text(5)])})
    columns = sampled(space, [3])[0]
    one_by_one = [
        {"x": columns.observations["x"][k], "y": (int(codes), text)}
        for k, (codes, text) in enumerate(zip(*columns.observations["y"], strict=True))
    ]
    codes, text = columns.observations["y"]
    plain = {"x": columns.observations["x"].tolist(), "y": (codes.tolist(), text)}
    for observations in (columns.observations, one_by_one, plain):
        changed = content(columns) | {
            "observations": observations,
            "actions": columns.actions.tolist(),
            "rewards": list(columns.rewards),
            "terminations": columns.terminations.tolist(),
        }
        (found,) = back(through([EpisodeBuffer(**changed)], space), space)
        assert same(found, content(columns))


def test_infos_keep_their_form():
    infos = {
        "a": {"b/c": [1, 2, 3], "d~1": {"e": ["x", "", "€"]}},
        "a/b": [True, False, True],
        "late": [0.5, 1.5],
        "bytes": [b"as", b"HDF5", b"has"],
    }
    wanted = {
        "a": {"b/c": np.array([1, 2, 3]), "d~1": {"e": ["x", "", "€"]}},
        "a/b": np.array([True, False, True]),
        "late": np.array([0.5, 1.5]),
        "bytes": ["as", "HDF5", "has"],
    }
    assert same(back(through([zeros({"infos": infos})], UNIT), UNIT)[0]["infos"], wanted)


def test_what_was_cut_is_a_copy_of_its_own():
    episodes = through(sampled(UNIT, [2], infos=rich_infos), UNIT)
    wanted = back(episodes, UNIT)
    spoiled = back(episodes, UNIT)[0]
    for values in (spoiled["observations"], spoiled["rewards"], spoiled["infos"]["time"]):
        values[:] = 0
    assert same(tuple(back(episodes, UNIT)), tuple(wanted))


# ----------------------------------------------------------------------------------------- windows

any_history = st.lists(
    st.tuples(
        st.lists(st.integers(0, 4), max_size=9),
        st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


@given(any_history, st.integers(2, 6), st.sampled_from(["int32", "int64", "uint8", "float32"]))
def test_histories_are_stored_as_what_was_consumed(histories, length, dtype):
    space = spaces.Box(0, 5, (length,), np.dtype(dtype))
    rows = [windows_of(*history, length, pad=5) for history in histories]
    episodes = through([of_windows(each, dtype) for each in rows], space)
    assert not episodes.states and "consumed/observations" in episodes.steps
    wanted = np.array(sum(rows, []), dtype)
    assert same(episodes.observations(space), wanted)
    early = np.array(sum((each[:-1] for each in rows), []), dtype)
    assert same(episodes.observations(space, last=False), early)
    order = np.arange(len(rows))[::-1]
    wanted = np.array(sum(rows[::-1], []), dtype)
    assert same(episodes.take(order).observations(space), wanted)
    if any(row == row[:1] * length != [5] * length for row in sum(rows, [])):
        return  # what joined a window of nothing else went unseen
    held = [[item for item in each[0] if item != 5] for each in rows]
    for other in (1, length + 3):  # the same histories in windows of another length
        pairs = zip(held, histories, strict=True)
        longer = [windows_of(context, consumed, other, 7) for context, (_, consumed) in pairs]
        assert episodes.windows("observations", other, pad=7).tolist() == sum(longer, [])


@given(any_history, st.integers(2, 4), st.data())
def test_windows_that_almost_slide_come_back_exactly(histories, length, data):
    space = spaces.Box(0, 5, (length,), np.int32)
    buffers = [of_windows(windows_of(*history, length, pad=5)) for history in histories]
    spoiled = data.draw(st.sampled_from(buffers)).observations
    row = data.draw(st.integers(0, len(spoiled) - 1))
    spoiled[row, data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 5))
    for found, buffer in zip(back(through(buffers, space), space), buffers, strict=True):
        assert same(found["observations"], buffer.observations)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2, 5], [1, 5, 5]],  # an item is lost
        [[1, 5, 2], [1, 5, 2]],  # a pad in the middle
        [[5, 5, 1], [5, 1, 2]],  # padded on the left
        [[1, 5, 5], [1, 2, 3]],  # two at once
        [[1, 2, 3], [2, 1, 3]],  # another order
    ],
)
def test_windows_that_do_not_slide_are_stored_plainly(rows):
    space = spaces.Box(0, 5, (3,), np.int32)
    sliding = of_windows(windows_of([1], [2, 3], 3, pad=5))
    episodes = through([sliding, of_windows(rows)], space)
    assert "observations" in episodes.states and not episodes.contexts
    assert "consumed/observations" not in episodes.steps
    assert back(episodes, space)[1]["observations"].tolist() == rows


def test_a_context_is_what_the_window_held_at_the_start():
    space = spaces.Box(0, 5, (3,), np.int32)
    histories = [([0, 1, 2, 3], [4]), ([], [4, None, 4]), ([2], [None])]
    episodes = through([of_windows(windows_of(*each, 3, pad=5)) for each in histories], space)
    values, offsets = episodes.contexts["observations"]
    assert values.tolist() == [1, 2, 3, 2] and offsets.tolist() == [0, 3, 3, 4]
    assert episodes.steps["consumed/observations"].tolist() == [4, 4, NONE, 4, NONE]


@given(any_history, st.integers(2, 4), st.integers(0, 99))
def test_a_box_of_histories_responses_and_a_state_is_stored_in_pieces(histories, length, seed):
    rng = np.random.default_rng(seed)
    rows, highs = [], [5] * length + [2] * length + [1] * 3
    for context, consumed in histories:
        items = windows_of(context, consumed, length, pad=5)
        answers = windows_of(
            [item % 2 for item in context],
            [None if item is None else item % 2 for item in consumed],
            length,
            pad=2,
        )
        vectors = rng.uniform(-1, 1, (len(items), 3)).astype(np.float32)
        rows.append(np.hstack([items, answers, vectors]))
    lows = [0] * 2 * length + [-1] * 3
    space = spaces.Box(np.array(lows, np.float32), np.array(highs, np.float32))
    episodes = through([of_windows(each, "float32") for each in rows], space)
    history, answers = f"observations[0:{length}]", f"observations[{length}:{2 * length}]"
    assert set(episodes.contexts) == {history, answers}
    assert set(episodes.states) == {f"observations[{2 * length}:{2 * length + 3}]"}
    assert same(episodes.observations(space), np.concatenate(rows).astype(np.float32))


def test_a_piece_does_not_take_the_name_of_another_space():
    mixed = spaces.Box(np.array([0, 0, -1], np.float32), np.array([9, 9, 1], np.float32))
    space = spaces.Dict({"a": mixed, "a[0:2]": spaces.Box(-5, 5, (2,), np.float32)})
    buffers = sampled(space, [3, 2])
    for found, buffer in zip(back(through(buffers, space), space), buffers, strict=True):
        assert same(found["observations"], buffer.observations)


# ---------------------------------------------------------------------------------------- refusals

NAN, HALF = np.array(ZEROS), np.array(ZEROS)
NAN[1, 0], HALF[2] = np.nan, 1.5
REFUSALS = {
    "NaN reward": ({"rewards": [0.0, np.nan]}, "has the reward nan at step 1"),
    "infinite reward": ({"rewards": [np.inf, 0.0]}, "has the reward inf at step 0"),
    "no reward": ({"rewards": [None, None]}, "has rewards of NoneType"),
    "vector reward": ({"rewards": np.zeros((2, 2))}, "not one number for each step"),
    "text reward": ({"rewards": ["a", "b"]}, "not one number for each step"),
    "NaN": ({"observations": NAN}, r"has observations outside Box.*: \[nan, 0.0\] at step 1"),
    "outside": ({"observations": HALF}, r"has observations outside Box.* at step 2"),
    "shape": ({"observations": np.zeros((3, 4))}, r"of shape \(4,\), and Box"),
    "too few": ({"observations": ZEROS[:2]}, "2 observations, where 3 belong"),
    "too many": ({"observations": np.zeros((4, 2))}, "4 observations, where 3 belong"),
    "text": ({"observations": ["a", "b", "c"]}, "text as observations, where Box"),
    "ragged": ({"observations": [[0, 0], [0], [0, 0]]}, "has ragged observations: shape"),
    "other action": ({"actions": [0, 2]}, r"has actions outside Discrete\(2\): 2 at step 1"),
    "half an action": ({"actions": [0, 0.5]}, "has actions that are no int64: 0.5 at step 1"),
    "few actions": ({"actions": [0]}, "1 actions, where 2 belong"),
    "no flag": ({"terminations": [0, 3]}, "terminations other than True and False"),
    "text flag": ({"truncations": ["a", "b"]}, "truncations that are not one truth value"),
    "many flags": ({"truncations": np.zeros((2, 2), bool)}, "truncations"),
    "few flags": ({"truncations": [False]}, "1 truncations, where 2 belong"),
    "info rows": ({"infos": {"x": [1, 2, 3, 4]}}, "4 infos/x, where 3 belong"),
    "ragged info": ({"infos": {"x": [[1], [1, 2], [1]]}}, r"has ragged infos/x: shape \(2,\)"),
    "mixed info": ({"infos": {"x": ["a", 1, 2]}}, "has ragged infos/x: int at step 1"),
    "info at times": ({"infos": {"x": [np.ones(2), None, None]}}, "has ragged infos/x: NoneType"),
    "object info": ({"infos": {"x": [{1}] * 3}}, "has infos/x of set"),
    "complex info": ({"infos": {"x": np.ones(3, complex)}}, "has infos/x of complex128"),
    "large info": ({"infos": {"x": [2**70] * 3}}, "has infos/x of int"),
    "long double info": ({"infos": {"x": np.ones(3, np.longdouble)}}, "infos/x"),
    "empty info": ({"infos": {"x": np.ones((3, 0))}}, "infos/x"),
    "no rewards": ({"rewards": None}, "has rewards that are no list of values"),
    "one reward": ({"rewards": np.array(1.0)}, "has rewards that are no list of values"),
    "no actions": ({"actions": None}, "has actions that are no list of values"),
    "infos": ({"infos": 5}, "has infos that are no dictionary: 5"),
    "an info": ({"infos": {"x": 5}}, "has infos/x that are no list of values"),
    "info in part": ({"infos": {"x": ([1, 2, 3], None)}}, "infos/x/1 that are no list of values"),
    "bytes info": ({"infos": {"x": [b"\xff"] * 3}}, "infos/x"),
    "surrogate info": ({"infos": {"x": ["\ud800"] * 3}}, "infos/x"),
    "empty": (dict.fromkeys(("rewards", "actions", "terminations", "truncations"), []), "is empty"),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_what_does_not_fit_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InvalidArgument, match=sentence) as problem:
        from_buffers([zeros(changes)], UNIT, TWO, first=7)
    assert said(problem).startswith("Episode 7 ") and "nothing was stored." in said(problem)


FAULTS = [{"rewards": [0.0, np.nan]}, {"actions": [5, 5]}, {"truncations": [0, 3]}, {}]


@pytest.mark.parametrize("changes", FAULTS)
def test_the_right_episode_is_blamed(changes):
    second = zeros(changes or {"infos": {"other": [1, 2, 3]}})
    with pytest.raises(InvalidArgument, match="^Episode 5 has "):
        from_buffers([zeros(), second, zeros()], UNIT, TWO, first=4)


@pytest.mark.parametrize(
    ("space", "observations", "sentence"),
    [
        (spaces.Text(2, charset="ab"), ["a", "b", "aba"], "outside Text.*: 'aba' at step 2"),
        (spaces.Text(2, charset="ab"), ["a", "\n", "a"], r"outside Text.*: '\\n' at step 1"),
        (spaces.Text(2), np.zeros(3), "numbers as observations, where text belongs"),
        (spaces.MultiBinary(2), np.full((3, 2), 2), "outside MultiBinary"),
        (spaces.MultiDiscrete([2, 3]), [[0, 0], [1, 2], [0, 3]], "outside MultiDiscrete.*step 2"),
        (spaces.Discrete(3, start=-1), [-1, 0, 2], r"outside Discrete\(3, start=-1\): 2 at step 2"),
        (spaces.Box(0, 1, (2, 3)), np.zeros((3, 3, 2)), "shape"),
        (spaces.Dict({"x": TWO}), {"y": [0, 0, 0]}, "observations that do not fit Dict"),
        (spaces.Dict({"x": TWO}), [0, 0, 0], "observations that do not fit Dict"),
        (spaces.Dict({"x": TWO}), {"x": [0, 0, 9]}, r"observations/x outside Discrete\(2\)"),
        (spaces.Tuple([TWO, TWO]), ([0, 0, 0],), "observations that do not fit Tuple"),
        (spaces.Sequence(TWO), [(0,)] * 3, "(cannot be stored|of tuple|shape)"),
    ],
)
def test_observations_outside_their_space_are_refused(space, observations, sentence):
    with pytest.raises(InvalidArgument, match=sentence) as problem:
        from_buffers([zeros({"observations": observations})], space, TWO)
    assert said(problem)
