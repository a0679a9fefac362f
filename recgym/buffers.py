"""Minari's episode buffers as columns: every value is checked against its space."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

from recgym.episodes import FLAGS, Episodes, compress, escaped, offsets_of, texts_of, to_json
from recgym.errors import InvalidArgument, printable


def from_buffers(
    buffers: Sequence[EpisodeBuffer],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    first: int = 0,
) -> Episodes:
    """Put buffers side by side, and refuse what their spaces do not hold."""
    lengths = np.array([_size(buffer.rewards) for buffer in buffers])
    reader = _Reader(lengths, first)
    if (lengths < 0).any():
        reader.refuse(int(np.argmin(lengths)), "has rewards that are no list of values")
    if not lengths.all():
        reader.refuse(int(np.argmin(lengths)), "is empty: an episode has one action or more")
    steps: dict[str, Any] = {}
    states: dict[str, Any] = {}
    dtypes: dict[str, Any] = {}
    for root, space, extra in (
        ("observations", observation_space, 1),
        ("actions", action_space, 0),
    ):
        columns = states if extra else steps
        parts = [getattr(buffer, root) for buffer in buffers]
        for name, leaf, values in reader.branches(root, space, parts):
            columns[name] = column = reader.in_space(name, leaf, values, extra)
            if isinstance(leaf, spaces.Discrete) and np.abs(_bounds(leaf)).max() < 2**31:
                columns[name], dtypes[name] = column.astype(np.int32), column.dtype
    steps["rewards"] = reader.rewards([buffer.rewards for buffer in buffers])
    for name in FLAGS:
        steps[name] = reader.flags(name, [getattr(buffer, name) for buffer in buffers])
    for name, column, late in reader.infos(
        "infos", [{} if buffer.infos is None else buffer.infos for buffer in buffers]
    ):
        (steps if late else states)[name] = column
    metadata = [_metadata(seed=buffer.seed, options=buffer.options) for buffer in buffers]
    whole = Episodes(lengths, steps, states, metadata=texts_of(metadata), dtypes=dtypes)
    compress(whole, observation_space)
    return whole


class _Reader:
    """Reads the same place of many buffers; knows which episode to blame."""

    def __init__(self, lengths: NDArray[np.int64], first: int) -> None:
        self.lengths, self.first = lengths, first

    def refuse(self, episode: int, fault: str) -> None:
        raise InvalidArgument(f"Episode {self.first + episode} {fault}; nothing was stored.")

    def refuse_row(self, row: int, extra: int, fault: str) -> None:
        """Blame the episode and the step of a row of a column."""
        offsets = offsets_of(self.lengths + extra)
        episode = int(np.searchsorted(offsets, row, side="right")) - 1
        self.refuse(episode, f"{fault} at step {row - offsets[episode]}")

    def branches(
        self, name: str, space: spaces.Space[Any], parts: list[Any]
    ) -> Iterator[tuple[str, spaces.Space[Any], list[Any]]]:
        """Every leaf of a space with its part of every buffer."""
        if isinstance(space, spaces.Dict | spaces.Tuple):
            nested = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space)
            for key, sub in nested:
                below = [
                    self._branch(episode, name, space, part, key)
                    for episode, part in enumerate(parts)
                ]
                yield from self.branches(f"{name}/{escaped(key)}", sub, below)
        else:
            yield name, space, parts

    def _branch(
        self, episode: int, name: str, space: spaces.Space[Any], part: Any, key: Any
    ) -> Any:
        nested = Mapping if isinstance(space, spaces.Dict) else tuple
        try:
            if isinstance(part, nested) and len(part) == len(space):  # type: ignore[arg-type]
                return part[key]
            if isinstance(part, list) and all(len(one) == len(space) for one in part):  # type: ignore[arg-type]
                return [one[key] for one in part]
        except (KeyError, TypeError):
            pass
        self.refuse(episode, f"has {name} that do not fit {_short(space)}: {_short(part)}")

    def column(self, name: str, parts: list[Any], extra: int) -> Any:
        """One array of numbers, or one Arrow array of text, out of every buffer's part."""
        kinds = set(map(type, parts))
        sizes = np.array([_size(part) for part in parts])
        wanted = self.lengths + extra
        if (sizes < 0).any():
            self.refuse(int(np.argmax(sizes < 0)), f"has {name} that are no list of values")
        if (sizes != wanted).any():
            episode = int(np.argmax(sizes != wanted))
            self.refuse(
                episode,
                f"has {self.lengths[episode]} rewards and {sizes[episode]} {name}, where "
                f"{wanted[episode]} belong",
            )
        if isinstance(parts[0][0], str | bytes):
            texts = list(chain.from_iterable(parts))
            if not all(isinstance(text, str | bytes) for text in texts):
                self._refuse_ragged(name, parts)
            try:
                return texts_of(map(_decoded, texts))
            except UnicodeError:
                row = next(row for row, text in enumerate(texts) if not _is_unicode(text))
                self.refuse_row(row, extra, f"has {name} that are no Unicode text")
        try:
            if kinds == {np.ndarray}:
                values = np.concatenate(parts)
            else:
                values = _stacked(list(chain.from_iterable(parts)))
        except (ValueError, TypeError):
            self._refuse_ragged(name, parts)
        if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8 or 0 in values.shape[1:]:
            self._refuse_ragged(name, parts)
        return values

    def _refuse_ragged(self, name: str, parts: list[Any]) -> None:
        example, first = parts[0][0], _shape(parts[0][0])
        numbers = int | float | np.number | np.bool_
        for episode, part in enumerate(parts):
            for step, value in enumerate(part):
                alike = isinstance(value, numbers) and isinstance(example, numbers)
                if not alike and (found := _shape(value)) != first:
                    self.refuse(
                        episode, f"has ragged {name}: {found} at step {step}, and {first} before"
                    )
        self.refuse(0, f"has {name} of {first}: numbers, text and arrays of one shape fit here")

    def in_space(self, name: str, space: spaces.Space[Any], parts: list[Any], extra: int) -> Any:
        """The column of a leaf space, every value of which the space contains."""
        values = self.column(name, parts, extra)
        if isinstance(space, spaces.Text):
            if isinstance(values, np.ndarray):
                self.refuse(0, f"has numbers as {name}, where text belongs")
            for row, text in enumerate(values.to_pylist()):
                if not (
                    space.min_length <= len(text) <= space.max_length
                    and space.character_set.issuperset(text)
                ):
                    fault = f"has {name} outside {_short(space)}: '{printable(text)}'"
                    self.refuse_row(row, extra, fault)
            return values
        if not isinstance(values, np.ndarray):
            self.refuse(0, f"has text as {name}, where {_short(space)} belongs")
        shape = space.shape or ()
        if _squeezed(values.shape[1:]) == _squeezed(shape):
            values = values.reshape(-1, *shape)
        if values.shape[1:] != shape:
            self.refuse(
                0, f"has {name} of shape {values.shape[1:]}, and {_short(space)} has shape {shape}"
            )
        if 0 in shape:
            self.refuse(0, f"has {name} of shape {shape}, which hold nothing")
        low, high = _bounds(space)
        flat = values.reshape(len(values), -1)
        low, high = np.broadcast_to(low, shape).ravel(), np.broadcast_to(high, shape).ravel()
        if not ((flat.min(0) >= low).all() and (flat.max(0) <= high).all()):  # NaN: neither
            row = int(np.argmin(((flat >= low) & (flat <= high)).all(1)))
            found = printable(str(values[row].tolist()))
            self.refuse_row(row, extra, f"has {name} outside {_short(space)}: {found}")
        if values.dtype != space.dtype:
            cast = values.astype(space.dtype)
            if np.array_equal(cast, values):
                return cast
            if values.dtype.kind != cast.dtype.kind:  # a wider float is kept as it came
                row = int(np.argmax((cast != values).reshape(len(values), -1).any(1)))
                found = printable(str(values[row].tolist()))
                self.refuse_row(row, extra, f"has {name} that are no {space.dtype}: {found}")
        return values

    def rewards(self, parts: list[Any]) -> NDArray[Any]:
        values = self.column("rewards", parts, 0)
        if not isinstance(values, np.ndarray) or values.size != len(values):
            self.refuse(0, "has rewards that are not one number for each step")
        values = values.reshape(-1)
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            self.refuse_row(row, 0, f"has the reward {values[row]}")
        return np.asarray(values)

    def flags(self, name: str, parts: list[Any]) -> NDArray[np.bool_]:
        values = self.column(name, parts, 0)
        if not isinstance(values, np.ndarray) or values.size != len(values):
            self.refuse(0, f"has {name} that are not one truth value for each step")
        values = values.reshape(-1)
        if not (known := (values == 0) | (values == 1)).all():
            self.refuse_row(int(np.argmin(known)), 0, f"has {name} other than True and False")
        return np.asarray(values, bool)

    def infos(self, name: str, parts: list[Any]) -> Iterator[tuple[str, Any, bool]]:
        """Every leaf of the infos, and whether it comes after the step, without a first one."""
        keys = list(parts[0]) if isinstance(parts[0], Mapping) else []
        for episode, part in enumerate(parts):
            if not isinstance(part, Mapping):
                self.refuse(episode, f"has {name} that are no dictionary: {_short(part)}")
            if set(part) != set(keys):
                found = ", ".join(map(str, sorted(set(part) ^ set(keys), key=str)))
                self.refuse(episode, f"has other {name} than the first one: {found}")
        for key in keys:
            below, path = [part[key] for part in parts], f"{name}/{escaped(key)}"
            if isinstance(below[0], tuple):
                below = [dict(enumerate(one)) if isinstance(one, tuple) else one for one in below]
            if isinstance(below[0], Mapping):
                yield from self.infos(path, below)
            else:
                late = [_size(one) for one in below] == self.lengths.tolist()
                yield path, self.column(path, below, 0 if late else 1), late


def _bounds(space: spaces.Space[Any]) -> tuple[Any, Any]:
    """The least and the greatest value of each place of a leaf space."""
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    raise InvalidArgument(
        f"{_short(space)} cannot be stored: use Box, Discrete, MultiDiscrete, MultiBinary, Text, "
        "and Dict and Tuple of them."
    )


def _stacked(values: list[Any]) -> NDArray[Any]:
    """An array of many small arrays or numbers; many times quicker than numpy.stack."""
    if set(map(type, values)) == {np.ndarray} and values[0].ndim:
        (shape,) = {value.shape for value in values}  # else ragged: a ValueError
        return np.concatenate(values).reshape(len(values), *shape)
    return np.array(values)


def _size(part: Any) -> int:
    """The length of what came for a column; -1 of what is no list of values."""
    try:
        return len(part) if isinstance(part, list | tuple | np.ndarray) else -1
    except TypeError:  # an array without a dimension
        return -1


def _squeezed(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _decoded(text: str | bytes) -> str:
    """Text, which HDF5 hands out as bytes."""
    return text.decode() if isinstance(text, bytes) else text


def _is_unicode(text: str | bytes) -> bool:
    try:
        return _decoded(text).encode() is not None
    except UnicodeError:
        return False


def _metadata(**known: Any) -> str | None:
    known = {key: value for key, value in known.items() if value is not None}
    return to_json(known) if known else None


def _shape(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    try:
        return f"shape {np.shape(value)}" if isinstance(value, list) else type(value).__name__
    except ValueError:
        return "a ragged list"


def _short(thing: Any) -> str:
    return printable(repr(thing))
