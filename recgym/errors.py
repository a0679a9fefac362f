"""What can go wrong: each message says what happened, what was found and what to do.

RecGymError (a gymnasium.error.Error)
├── BadRawData       a raw file does not say what its source promises
├── BadLog           a log on disk is damaged, incomplete or of another version
├── BadDataset       a dataset on disk is damaged, incomplete or of another version
├── BadPredictions   what an agent is said to have answered is damaged, or does not fit
├── BadSubmission    a file of the leaderboard breaks its rules
├── NothingLeft      filters, splits or windows leave nothing to build
├── InvalidArgument  a value given by the caller cannot be used (also a ValueError)
├── Diverged         a training has left the numbers that can be computed with
├── NotReset         an environment is asked for a step outside an episode
├── CheckFailed      an environment, a dataset or an agent breaks its contract
├── UnknownName      no log, source or protocol of that name; close names are suggested
├── Busy             another process is building or removing the same log
├── OutOfRoom        the disk or the memory limit is exhausted
└── MissingExtra     an optional package is needed; the message names the extra
"""

import difflib
from collections.abc import Iterable

import gymnasium

_MANY, _FEW = 20, 5  # names that an error does not list any more; those that it lists then


class RecGymError(gymnasium.error.Error):
    """The root of all errors of recgym."""


class BadRawData(RecGymError):
    """Raised when a raw file does not say what its source promises."""


class BadLog(RecGymError):
    """Raised when a log on disk is damaged, incomplete or of another version."""


class BadDataset(RecGymError):
    """Raised when a dataset on disk is damaged, incomplete or of another version."""


class BadPredictions(RecGymError):
    """Raised when what an agent is said to have answered is damaged, or does not fit."""


class BadSubmission(RecGymError):
    """Raised when a file of the leaderboard breaks its rules."""


class NothingLeft(RecGymError):
    """Raised when filters, splits or windows leave nothing to build."""


class InvalidArgument(RecGymError, ValueError):
    """Raised when a value given by the caller cannot be used."""


class Diverged(RecGymError):
    """Raised when a training has left the numbers that can be computed with."""


class NotReset(RecGymError, gymnasium.error.ResetNeeded):
    """Raised when an environment is asked for a step outside an episode."""


class CheckFailed(RecGymError):
    """Raised when an environment, a dataset or an agent breaks its contract."""


class UnknownName(RecGymError):
    """Raised when nothing has the name that was asked for."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        """Build the sentence: what was asked for, what is close, what exists."""
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        guess = f" Did you mean '{near[0]}'?" if near else ""
        if len(known) > _MANY:
            close = difflib.get_close_matches(name, known, n=_FEW, cutoff=0)
            known = [*close, f"and {len(known) - len(close)} others"]
        names = f" Known: {', '.join(known)}." if known else f" There is no {kind} yet."
        super().__init__(f"No {kind} is named '{name}'.{guess}{names}{hint and ' ' + hint}")


class Busy(RecGymError):
    """Raised when another process is building or removing the same log."""


class OutOfRoom(RecGymError):
    """Raised when the disk or the memory limit is exhausted."""


class MissingExtra(RecGymError):
    """Raised when an optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        """Name what needs the extra, and how to get it."""
        super().__init__(
            f"{what} needs packages that are not installed: pip install 'recgym[{extra}]'."
        )


def printable(text: str) -> str:
    """What a file says, cut to one line that can be printed."""
    text = text if len(text) <= 60 else text[:57] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
