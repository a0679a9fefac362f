"""How a fault is found and told: values in words, where two of them part, what is refused."""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import starmap, zip_longest
from typing import Any

import numpy as np
from gymnasium import spaces

from recgym.errors import CheckFailed, printable

Generators = dict[str, tuple[Callable[..., Any], Callable[[], Any], Callable[[Any], Any]]]
GENERATORS: Generators = {  # seed, get and set the state of each
    "random": (random.seed, random.getstate, random.setstate),
    "numpy.random": (
        np.random.seed,
        lambda: np.random.get_state(legacy=False),
        np.random.set_state,
    ),
}


def passed(check: Callable[..., None], *arguments: Any) -> str:
    """What holds, as a check was passed."""
    try:
        check(*arguments)
    except CheckFailed:
        raise
    except Exception as problem:
        raise CheckFailed(
            f"A check could not be finished ({str(check.__doc__).rstrip('.')}), as "
            f"{type(problem).__name__} was raised: {plain(problem)}; mend that first."
        ) from problem
    return str(check.__doc__)


@contextmanager
def watched(generators: Generators) -> Iterator[list[str]]:
    """Note in a list, at the end, from which generators was drawn; then all are as before."""
    before = {name: get() for name, (_, get, _) in generators.items()}
    touched: list[str] = []
    try:
        fixed = {}
        for name, (seed, get, _) in generators.items():
            seed(1)
            fixed[name] = get()
        yield touched
        touched += (name for name in fixed if difference(fixed[name], generators[name][1]()))
    finally:
        for name, (_, _, put) in generators.items():
            put(before[name])


def difference(one: Any, other: Any, name: str = "") -> str | None:
    """Where two values differ in type or value, and how; NaN equals itself."""
    parts: Any
    if type(one) is not type(other):
        return f"{name} is {typed(one)}, and {typed(other)}"
    if isinstance(one, dict):
        if keys := one.keys() ^ other.keys():
            return f"{name} has only once {printable(', '.join(sorted(map(str, keys))))}"
        parts = ((one[key], other[key], f"{name}/{key}".lstrip("/")) for key in one)
    elif isinstance(one, np.ndarray) and (one.dtype, one.shape) != (other.dtype, other.shape):
        return f"{name} is {typed(one)}, and {typed(other)}"
    elif isinstance(one, np.ndarray) and one.dtype != object:
        apart = np.argwhere((one != other) & ((one == one) | (other == other)))
        place = tuple(apart[0].tolist()) if len(apart) else None
        return None if place is None else f"{name}{[*place]} is {one[place]}, and {other[place]}"
    elif isinstance(one, tuple | list | np.ndarray):
        pairs = enumerate(zip_longest(one, other))
        parts = ((a, b, f"{name}[{place}]") for place, (a, b) in pairs)
    else:
        same = one == other or (one != one and other != other)
        return None if same else f"{name} is {short(one)}, and {short(other)}"
    return next(filter(None, starmap(difference, parts)), None)


def typed(value: Any) -> str:
    """A value with its type."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}, {short(value)}"
    return f"{type(value).__name__} {short(value)}"


def short(value: Any) -> str:
    """A value on one short line."""
    return printable(str(value.tolist()) if isinstance(value, np.ndarray) else repr(value))


def plain(problem: BaseException) -> str:
    """What an error of others says, on one line, without colours and a last stop."""
    text = " ".join(re.sub(r"\x1b\[\d+m", "", str(problem)).split())
    text = "".join(c for c in text if c.isprintable()).rstrip(".") or "it says no more"
    return text if len(text) <= 300 else text[:299] + "…"


def refuses(act: Callable[..., object], *arguments: Any, **keywords: Any) -> bool:
    """Does a call raise an error?"""
    try:
        act(*arguments, **keywords)
    except Exception:
        return True
    return False


def leaves(
    space: spaces.Space[Any], value: Any, name: str
) -> Iterator[tuple[str, spaces.Space[Any], Any]]:
    """The parts of a nested space, each with its part of a value."""
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping) and set(value) == set(space):
        for key, part in space.items():
            yield from leaves(part, value[key], f"{name}/{key}")
    elif isinstance(space, spaces.Tuple) and isinstance(value, tuple) and len(value) == len(space):
        for place, (part, one) in enumerate(zip(space, value, strict=True)):
            yield from leaves(part, one, f"{name}/{place}")
    else:
        yield name, space, value


def overwrite(value: Any) -> None:
    """Change every number in a value that may be written into, and empty its dictionaries."""
    if isinstance(value, dict):
        for part in value.values():
            overwrite(part)
        value.clear()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.flags.writeable:
        value[...] = ~value if value.dtype == bool else value + 1
    elif isinstance(value, np.ndarray | tuple | list):
        for part in value:
            overwrite(part)


def check_layout(metadata: Mapping[str, Any], space: spaces.Space[Any]) -> None:
    """Hold the layout, where one is named, to the observation space."""
    if "layout" not in metadata:
        return
    layout = metadata["layout"]
    try:
        parts = sorted((int(start), int(stop), str(name)) for name, (start, stop) in layout.items())
    except (AttributeError, TypeError, ValueError):
        raise CheckFailed(
            f"The layout is {short(layout)}: name the parts of an observation as "
            '{"history": (0, 10), "responses": (10, 20)}.'
        ) from None
    ends = [0, *(stop for _, stop, _ in parts)]
    fits = [start for start, *_ in parts] == ends[:-1]
    if isinstance(space, spaces.Dict):
        sizes = {name: (stop - start,) for start, stop, name in parts}
        fits = fits and sizes == {name: part.shape for name, part in space.items()}
    else:
        fits = fits and isinstance(space, spaces.Box) and space.shape == (ends[-1],)
    if not fits:
        raise CheckFailed(
            f"The layout {short(layout)} does not cover {short(space)} exactly: its parts follow "
            "one another from 0 on, without a gap or an overlap, to the end of the observation."
        )
