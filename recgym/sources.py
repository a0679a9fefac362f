"""From what a user downloaded to a named log: sources are loaded by name, anyone's alike."""

import dataclasses
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from recgym.build import Tables, build_log
from recgym.engine import Engine, EngineName, Progress, connect
from recgym.errors import InvalidArgument, UnknownName
from recgym.home import scratch_path, writing
from recgym.log import InteractionLog
from recgym.protocols import Protocol as Switches
from recgym.protocols import protocol_named
from recgym.raw import RawFiles, open_raw

_PACKAGE = "recgym.datasets"


class Source(Protocol):
    """What a source is: a frozen dataclass of its options that reads raw files into tables."""

    needs: ClassVar[str]  # what to give as --raw; empty where nothing is needed

    def tables(self, raw: RawFiles, engine: Engine) -> Tables:
        """Read the raw files."""


def source_names() -> list[str]:
    """The sources that come with recgym."""
    return sorted(module.name for module in pkgutil.iter_modules(import_module(_PACKAGE).__path__))


def load_source(name: str) -> type[Any]:
    """The source of that name, or of `package.module:Class`."""
    module, _, attribute = name.partition(":")
    if not attribute:
        if name not in source_names():
            raise UnknownName(
                "source", name, source_names(), "Others are named package.module:Class."
            )
        module, attribute = f"{_PACKAGE}.{name}", "Source"
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as problem:
        raise InvalidArgument(
            f"The source '{name}' cannot be loaded ({problem}). Name it as package.module:Class."
        ) from None


def prepare(
    source: str | Source,
    raw: str | Path | None = None,
    *,
    name: str,
    protocol: str | Switches = "temporal",
    engine: EngineName = "duckdb",
    memory: str = "3GB",
    replace: bool = False,
    command: str = "",
    progress: Progress = lambda stage, share: None,
) -> InteractionLog:
    """Build the log `name` from a source's raw files; it is there whole, or not at all."""
    chosen: Source = load_source(source)() if isinstance(source, str) else source
    label = source if isinstance(source, str) else _name_of(source)
    if raw is None and chosen.needs:
        raise InvalidArgument(
            f"The source {label} is built from what you download: give --raw with {chosen.needs}."
        )
    if isinstance(protocol, str):
        protocol = protocol_named(protocol)
    with (
        writing(name, replace=replace) as path,
        connect(engine, scratch_path(name), memory, progress) as running,
    ):
        opened = open_raw(Path(raw) if raw else running.scratch, running.scratch)
        return build_log(
            chosen.tables(opened, running),
            protocol,
            running,
            path,
            source={"name": label} | _options(chosen),
            command=command,
            progress=progress,
        )


def _name_of(source: Source) -> str:
    module = type(source).__module__
    if module.startswith(f"{_PACKAGE}."):
        return module.removeprefix(f"{_PACKAGE}.")
    return f"{module}:{type(source).__name__}"


def _options(source: Source) -> dict[str, Any]:
    """The options that differ from their defaults; files by their name only."""
    return {
        field.name: value.name if isinstance(value, Path) else value
        for field in dataclasses.fields(source)  # type: ignore[arg-type]
        if (value := getattr(source, field.name)) != field.default
    }
