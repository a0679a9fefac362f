"""All of recgym in five minutes: `make quickstart`.

Logs of oracle users and of shoppers, a language model as the user, an agent of each family, and how
they compare. All of it is small and trained briefly, so this shows how things are done, and no
result. What is there already is not made again; everything lies in one folder.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from recgym.benchmarks import Benchmark

HERE = Path(__file__).parent
WHERE = Path("build/quickstart")
BOREDOM = Benchmark(  # oracle-boredom-mixed-v0 with a smaller log
    "boredom-quick-v0",
    "recgym/boredom/mixed-v0",
    "return",
    "Does it space a topic, of which too much bores?",
    "Users are invented.",
    "python examples/quickstart.py",
    env="recgym/OracleBoredom-v0",
)
SIMULATOR = "boredom-mixed-recgym-small"
NO_SIMULATOR = (  # rows that need none
    "random", "popular", "vsknn", "supervised", "snqn", "sa2c", "crr", "shop",
)  # fmt: skip
NEXT = """
Next:
  recgym agents                        the agents, and the options of each
  recgym benchmarks                    what they can be asked, on logs, with oracle users, in shops
  recgym evaluate sa2c --benchmark oracle-boredom-mixed-v0
                                       one agent, three seeds, all metrics
  recgym simulator card boredom-mixed-recgym-small
                                       how far to trust this language model as a user: not far
  recgym play recgym/MiniShop-v0       shop yourself
  leaderboards/README.md               what all agents reach, and how to submit yours
Set RECGYM_HOME={home} MINARI_DATASETS_PATH={data} to go on with what was made here.
"""


def main() -> None:
    """Make the data, fit the simulator beside the agents that need none, and print the table."""
    began, home, data = time.monotonic(), WHERE.resolve(), (WHERE / "data").resolve()
    data.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "RECGYM_HOME": str(home), "MINARI_DATASETS_PATH": str(data),
        "PYTHONPATH": os.pathsep.join(  # the suite finds BOREDOM here
            filter(None, [str(HERE.resolve()), os.environ.get("PYTHONPATH")])
        ),
        "OMP_NUM_THREADS": "1",  # of each process
    }  # fmt: skip
    say("Logs: 1,000 sessions of oracle users, whose every answer is known, and of shoppers.")
    if not (data / "recgym" / "boredom").exists():
        recgym("data", "collect", "recgym/OracleBoredom-v0", "--policies", "mixed",
               "--name", "boredom", "--sessions", "1000")  # fmt: skip
    if not (data / "recgym" / "minishop").exists():
        recgym("data", "collect", "recgym/MiniShop-v0", "--policies", "scripted")
    say("A language model learns to answer as these users do; meanwhile agents learn from the log.")
    fit = begun("simulator", "fit", "--data", BOREDOM.dataset, "--roles", "training",
                "--share", "0.5", "--batches", "40", "--tokens.iterations", "5")  # fmt: skip
    suite = "run", "--suite", str(HERE / "quickstart.toml")
    try:
        recgym(*suite, "--only", *NO_SIMULATOR, "--processes", "2")
    except BaseException:
        fit.terminate()
        raise
    if fit.wait():
        sys.exit(f"The simulator was not fitted: {home / 'fit.log'} says why.")
    say("It says what it makes of the logged sessions; LEASR learns from that.")
    if not (data / "recgym" / "boredom" / "llm-v0").exists():
        recgym("simulator", "export", SIMULATOR, "--splits", "train", "validation")
    recgym(*suite)
    say(f"What was reached, in {time.monotonic() - began:.0f} seconds:")
    recgym(*suite, "--show", "--plots", str(home / "plots"))
    print(NEXT.format(home=home, data=data))


def recgym(*words: str) -> None:
    """Run a command, as you would."""
    print("$ recgym", *words, flush=True)
    subprocess.run([command(), *words], check=True)


def begun(*words: str) -> "subprocess.Popen[bytes]":
    """Begin a command, whose words go into a file."""
    print("$ recgym", *words, "&", flush=True)
    with (WHERE / "fit.log").open("wb") as log:
        return subprocess.Popen([command(), *words], stdout=log, stderr=log)


def command() -> str:
    """What is installed beside this Python."""
    return str(Path(sys.executable).with_name("recgym"))


def say(words: str) -> None:
    """A heading."""
    print(f"\n── {words}\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)
