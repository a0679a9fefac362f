"""What others have published as models of Transformers: read, and none of its code run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recgym.errors import InvalidArgument, MissingExtra


def transformers_for(what: str) -> Any:
    """Transformers, which has no types that hold; what needs it is named where it is missing."""
    try:
        import transformers
    except ImportError:
        raise MissingExtra(what, "llm") from None
    return transformers


def read_published(
    place: str, read: Callable[..., Any], refused: Callable[[str], InvalidArgument]
) -> Any:
    """What `read` makes of a folder or a name, or its refusal: a sentence that is told the reason.

    `read` is to raise a ValueError for what is not wanted.
    """
    from safetensors import SafetensorError

    try:
        with quietly():
            return read(place, trust_remote_code=False, local_files_only=Path(place).is_dir())
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as why:
        raise refused(str(why).strip().partition("\n")[0]) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Let Transformers load and save without progress bars and warnings: errors say enough."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
