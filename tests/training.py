"""A small dataset, and agents that are trained on it by the command."""

import json

from recgym.cli import run
from recgym.rollouts import collect
from recgym.runs import trainings

SMALL = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
DATA = "recgym/n/mixed-v0"
QUICK = ("--steps", "60", "--validate-every", "20", "--size", "8", "--batch-size", "16")


def write_data():
    """A dataset of oracle users, and its validation and test splits."""
    for split in ("train", "validation", "test"):
        collect("recgym/OracleBoredom-v0", "mixed", split, sessions=60, name="n", **SMALL)


def printed(capsys, *words):
    """What a command prints."""
    capsys.readouterr()
    run(words)
    return capsys.readouterr()


def train(capsys, agent, *words):
    """Train an agent on that dataset."""
    return printed(capsys, "train", agent, "--data", DATA, *words)


def folder_of(capsys, agent, *words):
    """Train, and say where."""
    account = json.loads(train(capsys, agent, *words, "--json").out)
    (found,) = [path for path in trainings().glob("n-mixed/*")
                if json.loads((path / "run.json").read_text()) == account]  # fmt: skip
    return found


def weights(folder):
    """Of the agent in the folder of a run."""
    return (folder / "agent" / "agent.safetensors").read_bytes()


def pixels(file):
    """Of a picture, as they are seen."""
    from matplotlib.image import imread

    return (imread(file)[..., :3] * 255).round().astype(int)
