"""Episodes as columns: to Arrow and back, and cut into episodes again.

A step column has a row for each action, a state column one more for each episode. A column is
named by where it stands in the observation, action or info: `observations/history`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from recgym.errors import InvalidArgument
from recgym.log import arrow_of, fill_windows, numbers_of

if TYPE_CHECKING:
    import pyarrow as pa

NONE = -1  # a step that consumed nothing
FLAGS = ("terminations", "truncations")
_CHUNK = 4096  # windows gathered at once


@dataclass(frozen=True)
class Episodes:
    """Episodes side by side.

    A history window is no column of its own: the step column `consumed/<name>` says what joined
    it, or NONE, and `contexts` what it held at the start of each episode.
    """

    lengths: NDArray[np.int64]  # (episodes,): actions of each
    steps: dict[str, Any]  # NumPy arrays, or Arrow arrays of text
    states: dict[str, Any]
    contexts: dict[str, tuple[NDArray[np.int32], NDArray[np.int64]]] = field(default_factory=dict)
    # ... values, and the offsets of each episode's
    metadata: Any = None  # what else is known of an episode, as an Arrow array of JSON
    dtypes: dict[str, Any] = field(default_factory=dict)  # where they differ from the column's

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.lengths)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each episode's steps begin, and where the last one's end."""
        return offsets_of(self.lengths)

    def take(self, which: NDArray[np.int64]) -> "Episodes":
        """Some of the episodes, in that order, without their metadata."""
        lengths, starts = self.lengths[which], self.offsets[which]
        steps, states = _rows(starts, lengths), _rows(starts + which, lengths + 1)
        contexts = {}
        for name, (values, offsets) in self.contexts.items():
            sizes = offsets[which + 1] - offsets[which]
            contexts[name] = (_pick(values, _rows(offsets[which], sizes)), offsets_of(sizes))
        return Episodes(
            lengths,
            {name: _pick(column, steps) for name, column in self.steps.items()},
            {name: _pick(column, states) for name, column in self.states.items()},
            contexts,
            dtypes=self.dtypes,
        )

    def at_steps(self, name: str) -> Any:
        """A fresh step column, as users see it."""
        return self._fresh(name, self.steps[name])

    def at_states(self, name: str, last: bool = True) -> Any:
        """A fresh state column; without the last state of each episode if that is not wanted."""
        column = self.states[name]
        if not last:
            column = _pick(column, _rows(self.offsets[:-1] + np.arange(len(self)), self.lengths))
        return self._fresh(name, column)

    def windows(self, name: str, length: int, pad: int, last: bool = True) -> NDArray[np.int32]:
        """The history window of every state: what was consumed before, right-padded."""
        consumed, (context, offsets) = self.steps[f"consumed/{name}"], self.contexts[name]
        sizes = np.diff(offsets)
        joins = consumed != NONE
        joined = offsets_of(joins)
        counts = np.diff(joined[self.offsets])
        starts = offsets_of(sizes + counts)[:-1]
        tape = consumed
        if len(context) or not joins.all():  # what each episode's windows slide over
            tape = np.empty(len(context) + int(joined[-1]), np.int32)
            tape[_rows(starts, sizes)] = context
            tape[_rows(starts + sizes, counts)] = consumed[joins]
        states = self.lengths + last
        steps = _rows(self.offsets[:-1], states)  # actions taken before each state
        depths = joined[steps] + np.repeat(sizes - joined[self.offsets[:-1]], states)
        stops = depths + np.repeat(starts, states)
        windows = np.full((len(stops), length), pad, np.int32)
        for first in range(0, len(stops) if len(tape) else 0, _CHUNK):
            chunk = slice(first, first + _CHUNK)
            fill_windows(windows[chunk], tape, stops[chunk], depths[chunk], pad)
        return windows

    def observations(self, space: spaces.Space[Any], last: bool = True) -> Any:
        """The observations of all states, in the form of their space."""
        return _tree(space, "observations", lambda name, leaf: self._leaf(name, leaf, last))

    def actions(self, space: spaces.Space[Any]) -> Any:
        """The actions of all steps, in the form of their space."""
        return _tree(space, "actions", lambda name, leaf: self.at_steps(name))

    def infos(self) -> dict[str, Any]:
        """The infos, nested as they came."""
        infos: dict[str, Any] = {}
        for get, columns in ((self.at_states, self.states), (self.at_steps, self.steps)):
            for name in columns:
                root, *path = map(_unescaped, name.split("/"))
                if root == "infos":
                    branch = infos
                    for key in path[:-1]:
                        branch = branch.setdefault(key, {})
                    branch[path[-1]] = get(name)
        return infos

    def cut(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        ids: Iterable[int],
    ) -> Iterator[dict[str, Any]]:
        """One dictionary for each episode, in the form that Minari hands out."""
        offsets = self.offsets
        steps = list(map(slice, offsets[:-1].tolist(), offsets[1:].tolist()))
        bounds = (offsets + np.arange(len(offsets))).tolist()  # of the states: one more for each
        states = list(map(slice, bounds[:-1], bounds[1:]))
        late = {name for name in self.steps if name.startswith("infos/")}
        observation = _cutter(self.observations(observation_space))
        action = _cutter(self.actions(action_space))
        rewards, terminations, truncations = (self.at_steps(name) for name in ("rewards", *FLAGS))
        infos = self.infos()
        for episode, state, step in zip(ids, states, steps, strict=True):
            yield {
                "id": episode,
                "observations": observation(state),
                "actions": action(step),
                "rewards": rewards[step],
                "terminations": terminations[step],
                "truncations": truncations[step],
                "infos": _cut_infos(infos, "infos", late, step, state) if infos else {},
            }

    def _leaf(self, name: str, space: spaces.Space[Any], last: bool) -> Any:
        """The observations of a leaf space, put together of its pieces."""
        if name in self.states:
            return self.at_states(name, last)
        pieces = [
            (
                self.windows(piece, places.stop - places.start, pad, last)
                if piece in self.contexts
                else self.at_states(piece, last),
                places,
            )
            for piece, places, pad in _pieces(name, space)
        ]
        if len(pieces) == 1:
            return pieces[0][0].astype(space.dtype, copy=False)
        whole = np.empty((len(pieces[0][0]), *(space.shape or ())), space.dtype)
        for values, places in pieces:
            whole[:, places] = values
        return whole

    def _fresh(self, name: str, column: Any) -> Any:
        if not isinstance(column, np.ndarray):
            return column.to_pylist()
        return np.array(column, self.dtypes.get(name, column.dtype))


def history_space(n_items: int, length: int) -> spaces.Box:
    """Histories of that length, padded with the number of items."""
    if not isinstance(length, int | np.integer) or length < 1:
        raise InvalidArgument(f"A history has length 1 or more, not {length!r}.")
    return spaces.Box(0, n_items, (length,), np.int32)


def compress(episodes: Episodes, observation_space: spaces.Space[Any]) -> None:
    """Replace windows by what was consumed, wherever that gives back every one of them."""
    for name, leaf in _leaves(observation_space, "observations"):
        _compress(episodes, name, leaf)


def _compress(episodes: Episodes, name: str, space: spaces.Space[Any]) -> None:
    """Replace a leaf by its pieces, and those that slide by what was consumed."""
    pieces = _pieces(name, space)
    values = episodes.states[name]
    if (len(pieces) == 1 and pieces[0][2] < 0) or values.dtype != space.dtype:
        return
    del episodes.states[name]
    for piece, places, pad in pieces:
        part = values[:, places] if len(pieces) > 1 else values
        if pad < 0 or not _slides(episodes, piece, part, pad):
            episodes.states[piece] = part


def _slides(episodes: Episodes, piece: str, windows: NDArray[Any], pad: int) -> bool:
    """Guess what every step consumed, rebuild all windows from the guess, and compare."""
    sizes = (windows != pad).sum(1)
    newest = windows[np.arange(len(windows)), np.maximum(sizes, 1) - 1]
    changed = (windows[1:] != windows[:-1]).any(1)
    starts = episodes.offsets[:-1] + np.arange(len(episodes))
    after = _rows(starts, episodes.lengths)  # the change between a state and its next one
    first = windows[starts]
    consumed = np.where(changed[after], newest[1:][after].astype(np.int32), np.int32(NONE))
    context = first[np.arange(first.shape[1]) < sizes[starts, None]].astype(np.int32)
    episodes.steps[f"consumed/{piece}"] = consumed
    episodes.contexts[piece] = (context, offsets_of(sizes[starts]))
    if np.array_equal(episodes.windows(piece, windows.shape[1], pad), windows):
        episodes.dtypes[piece] = windows.dtype
        return True
    del episodes.steps[f"consumed/{piece}"], episodes.contexts[piece]
    return False


# ---------------------------------------------------------------------------------- to Arrow


def to_arrow(episodes: Episodes) -> "pa.RecordBatch":
    """One row for each episode: lists of steps, of states and of what windows held before."""
    import pyarrow as pa

    dtypes = dict(episodes.dtypes)
    columns = {"steps": _lists(episodes.lengths, episodes.steps, dtypes)}
    if episodes.states:
        columns["states"] = _lists(episodes.lengths + 1, episodes.states, dtypes)
    for name, (values, offsets) in episodes.contexts.items():
        columns[f"context/{name}"] = pa.LargeListArray.from_arrays(
            arrow_of(offsets), arrow_of(values)
        )
    unknown = pa.nulls(len(episodes), pa.large_string())
    columns["metadata"] = unknown if episodes.metadata is None else episodes.metadata
    dtypes = {name: np.dtype(dtype).str for name, dtype in dtypes.items()}
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in columns.items()],
        metadata={"dtypes": json.dumps(dtypes, sort_keys=True)},
    )
    return pa.record_batch(list(columns.values()), schema=schema)


def from_arrow(batch: "pa.RecordBatch") -> Episodes:
    """The episodes of a record batch, without a copy."""
    tables: dict[str, dict[str, Any]] = {"steps": {}, "states": {}}
    dtypes = {n: np.dtype(d) for n, d in json.loads(batch.schema.metadata[b"dtypes"]).items()}
    contexts = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in tables:
            for place, leaf in enumerate(column.type.value_type):
                tables[name][leaf.name] = _column(column.values.field(place), leaf, dtypes)
        elif name.startswith("context/"):
            arrays = (numbers_of(column.values), numbers_of(column.offsets))
            contexts[name.removeprefix("context/")] = arrays
    lengths = np.diff(numbers_of(batch.column("steps").offsets))
    return Episodes(
        lengths, tables["steps"], tables["states"], contexts, batch.column("metadata"), dtypes
    )


def _lists(
    lengths: NDArray[np.int64], columns: dict[str, Any], dtypes: dict[str, Any]
) -> "pa.LargeListArray":
    import pyarrow as pa

    arrays, fields = [], []
    for name, values in columns.items():
        metadata = None
        if isinstance(values, np.ndarray):
            if values.dtype == bool:
                dtypes[name] = values.dtype
            shape = values.shape[1:]
            values = arrow_of(values.reshape(-1))
            if shape:
                metadata = {"shape": json.dumps(shape)}
                values = pa.FixedSizeListArray.from_arrays(values, int(np.prod(shape)))
        arrays.append(values)
        fields.append(pa.field(name, values.type, metadata=metadata))
    struct = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.LargeListArray.from_arrays(arrow_of(offsets_of(lengths)), struct)


def _column(values: "pa.Array", leaf: "pa.Field", dtypes: dict[str, Any]) -> Any:
    import pyarrow as pa

    if pa.types.is_large_string(values.type):
        return values
    if pa.types.is_fixed_size_list(values.type):
        shape = json.loads(leaf.metadata[b"shape"])
        return numbers_of(values.flatten()).reshape(-1, *shape)
    numbers = numbers_of(values)
    return numbers.view(bool) if dtypes.get(leaf.name) == np.bool_ else numbers


# -------------------------------------------------------------------------------- small parts


def _leaves(space: spaces.Space[Any], name: str) -> Iterator[tuple[str, spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        for key, sub in space.spaces.items():
            yield from _leaves(sub, f"{name}/{escaped(key)}")
    elif isinstance(space, spaces.Tuple):
        for place, sub in enumerate(space.spaces):
            yield from _leaves(sub, f"{name}/{place}")
    else:
        yield name, space


def _tree(space: spaces.Space[Any], name: str, leaf: Callable[[str, Any], Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {
            key: _tree(sub, f"{name}/{escaped(key)}", leaf) for key, sub in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        return tuple(_tree(sub, f"{name}/{key}", leaf) for key, sub in enumerate(space.spaces))
    return leaf(name, space)


def _pieces(name: str, space: spaces.Space[Any]) -> list[tuple[str, slice, int]]:
    """The stretches of a flat Box that have equal bounds, each with its pad if it may slide.

    A stretch of item codes, from 0 to a whole number, may be a history window; -1 is no pad.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        return [(name, slice(0, 0), -1)]
    low, high = space.low, space.high
    edges = np.flatnonzero((low[1:] != low[:-1]) | (high[1:] != high[:-1])) + 1
    found: list[tuple[int, int, int]] = []
    for first, end in pairwise([0, *edges.tolist(), len(low)]):
        bound = float(high[first])
        wide = end - first > 1 or len(low) == 1
        slides = wide and low[first] == 0 and bound.is_integer() and bound < 2**31 - 1
        pad = int(bound) if slides else -1
        if pad < 0 and found and found[-1][2] < 0:
            first = found.pop()[0]
        found.append((first, end, pad))
    if len(found) == 1:
        return [(name, slice(0, len(low)), found[0][2])]
    return [(f"{name}[{first}:{end}]", slice(first, end), pad) for first, end, pad in found]


def _rows(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Any:
    """The rows of several stretches, one after the other; a slice where they are one."""
    ends = np.cumsum(lengths)
    if not len(ends) or not ends[-1]:
        return slice(0, 0)
    if (starts[1:] == starts[:-1] + lengths[:-1]).all():
        return slice(int(starts[0]), int(starts[0] + ends[-1]))
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])


def _pick(column: Any, rows: Any) -> Any:
    if isinstance(column, np.ndarray):
        return column[rows]
    if isinstance(rows, slice):
        return column.slice(rows.start, rows.stop - rows.start)
    return column.take(arrow_of(rows))


def _cutter(tree: Any) -> Callable[[slice], Any]:
    """What cuts an episode out of columns."""
    if isinstance(tree, dict):
        branches = {key: _cutter(value) for key, value in tree.items()}
        return lambda rows: {key: cut(rows) for key, cut in branches.items()}
    if isinstance(tree, tuple):
        cuts = tuple(map(_cutter, tree))
        return lambda rows: tuple(cut(rows) for cut in cuts)
    return tree.__getitem__  # type: ignore[no-any-return]


def _cut_infos(tree: Any, name: str, late: set[str], step: slice, state: slice) -> Any:
    """Cut infos of which some have a row for each step, others for each state."""
    if isinstance(tree, dict):
        return {
            key: _cut_infos(value, f"{name}/{escaped(key)}", late, step, state)
            for key, value in tree.items()
        }
    return tree[step if name in late else state]


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where each of several stretches begins, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def texts_of(values: Iterable[str | None]) -> "pa.Array":
    """A column of text."""
    import pyarrow as pa

    return pa.array(values, pa.large_string())


def to_json(content: Any) -> str:
    """JSON of what an environment or a callback may hand over: NumPy's numbers included."""
    return json.dumps(content, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, set):
        return sorted(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def escaped(key: Any) -> str:
    """A key as part of a name, as in a JSON pointer; a bracket begins the places of a piece."""
    return str(key).replace("~", "~0").replace("/", "~1").replace("[", "~2")


def _unescaped(part: str) -> str:
    return part.replace("~2", "[").replace("~1", "/").replace("~0", "~")
