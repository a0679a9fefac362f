"""The command line: every verb and where it is found."""

import os
import sys
from collections.abc import Sequence

import gymnasium

from recgym import (
    __version__,
    cli_data,
    cli_envs,
    cli_evaluate,
    cli_leaderboard,
    cli_runs,
    cli_simulator,
    cli_suite,
    cli_train,
)
from recgym.log import HOMES
from recgym.terminal import ERR, Command, chosen, plain


def main() -> None:
    """Run one command; errors of ours are one sentence, and exit with 1."""
    sys.modules["gym_notices"] = None  # type: ignore[assignment]  # of Gym, which d3rlpy imports
    try:
        run(sys.argv[1:])
    except gymnasium.error.Error as problem:  # ours are such, too
        ERR.print(f"[bold red]recgym:[/] {plain(str(problem))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        ERR.print(
            "Stopped: what was being written is there whole or not at all, and the same command "
            "begins again or goes on.",
            soft_wrap=True,
        )
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as problem:
        where = f" {problem.filename}" if problem.filename else ""
        ERR.print(
            f"recgym: The system refused{where}: {problem.strerror}.{_cure(problem)}",
            soft_wrap=True,
        )
        sys.exit(1)


def run(words: Sequence[str]) -> None:
    """Run the command that these words say."""
    if words[:1] == ["--version"]:
        print(f"recgym {__version__}")
        return
    verbs: dict[str, tuple[str, Command]] = {
        "data": ("logs and datasets: build them, look at them, judge them", cli_data.run)
    }
    for module in (cli_envs, cli_train, cli_runs, cli_evaluate, cli_suite, cli_simulator):
        verbs |= module.COMMANDS
    verbs["leaderboard"] = ("submissions: make, check, recompute, reproduce", cli_leaderboard.run)
    chosen("recgym", verbs, words)


def _cure(problem: OSError) -> str:
    """Which variable moves what nobody can write to; nothing where that is no help."""
    if isinstance(problem, (FileExistsError, NotADirectoryError, PermissionError)):
        for name in HOMES.values():
            home = os.environ.get(name)
            if home and str(problem.filename).startswith(home):
                return f" Point {name} at a folder that can be written to."
    return ""
