"""Each check of agents against its fault, and against what has no fault."""

import ast
import os
import pickle
import random
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium import spaces

import recgym
from recgym.agent import training_data
from recgym.checks import check_agent
from recgym.datasets.demo import Source
from recgym.errors import CheckFailed, InvalidArgument, UnknownName

from ..sentences import said

RECGYM = Path(sys.executable).with_name("recgym")
STRANGER = Path(__file__).parents[1] / "stranger"


@dataclass
class Toy:
    """Scores items by how often they were taken after the first one of the history."""

    smooth: float = 1.0
    counts = None

    def fit(self, train, validation=None, env=None):
        training_data(train, validation)
        n_items = int(train.action_space.n)
        self.counts = np.full((n_items + 1, n_items), self.smooth, np.float32)
        for episode in train:
            taken = episode.rewards > 0
            before = episode.observations[:-1, 0][taken]
            np.add.at(self.counts, (before, episode.actions[taken]), 1)
        return self

    def scores(self, observations, infos):
        if self.counts is None:
            raise InvalidArgument("A toy has not learned yet: call fit(train), or load(folder).")
        return self.counts[observations[:, 0]]

    def act(self, observations, infos):
        return Toy.scores(self, observations, infos).argmax(1)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "counts.npy", self.counts)

    @classmethod
    def load(cls, folder):
        agent = cls()
        agent.counts = np.load(folder / "counts.npy")
        return agent


def problem_of(*arguments, **options):
    with pytest.raises(CheckFailed) as problem:
        check_agent(*arguments, **options)
    return said(problem)


# ------------------------------------------------------------------------------ without a fault


def test_a_faultless_agent_passes_and_is_told_what_holds():
    found = check_agent(Toy)
    assert "A test dataset is refused by fit, for training and for validation." in found
    assert len(set(found)) == len(found) == 20
    assert all(sentence[0].isupper() and sentence[-1] == "." for sentence in found)
    assert found == check_agent(f"{__name__}:Toy", smooth=0.5)


@dataclass
class Draws:
    """Recommends any item, and scores none."""

    seed: int = 0
    n_items = 0
    learns_from = "rules"

    def fit(self, train, validation=None, env=None):
        training_data(train, validation)
        self.begin(int(train.action_space.n))

    def begin(self, n_items):
        self.n_items, self.rng = n_items, np.random.default_rng(self.seed)

    def act(self, observations, infos):
        if not self.n_items:
            raise InvalidArgument("It has not learned yet.")
        return self.rng.integers(self.n_items, size=len(observations))

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "n_items.txt").write_text(f"{self.n_items} {self.seed}")

    @classmethod
    def load(cls, folder):
        n_items, seed = map(int, (folder / "n_items.txt").read_text().split())
        agent = cls(seed)
        agent.begin(n_items)
        return agent


def test_an_agent_may_draw_what_it_recommends_and_is_asked_less_then():
    assert set(check_agent(Toy)) - set(check_agent(Draws)) == {
        "To each user of a batch, scores gives every item a finite float.",
        "The same question has the same answer, whatever was asked in between.",
        "A user is answered the same alone, among others, and in another order of them.",
        "Observations alone decide: infos, even those of the next step, change nothing.",
    }


def test_without_scores_actions_are_held_to_the_same():
    class Silent(Toy):
        scores = None

    class SilentReader(Silent):
        def act(self, observations, infos):
            return (super().act(observations, infos) + infos.get("behaviour", 0)) % 23

    assert len(check_agent(Silent)) == 19
    assert "The actions of SilentReader without infos and with" in problem_of(SilentReader)


def test_an_agent_that_learns_from_an_environment_is_given_one():
    class Explores(Toy):
        learns_from = "environment"

        def fit(self, train, validation=None, env=None):
            training_data(train, validation)
            self.counts = np.ones((env.action_space.n + 1, env.action_space.n), np.float32)
            for item in range(env.action_space.n):
                before, _ = env.reset(seed=item)
                self.counts[before[0], item] += env.step(item)[1]

    assert check_agent(Explores)


def test_rounding_is_no_fault():
    class Rounds(Toy):
        def scores(self, observations, infos):
            return super().scores(observations, infos) * np.float32(1 + len(observations) * 1e-7)

    assert check_agent(Rounds)


def test_an_agent_of_torch_passes_and_torchs_generator_is_watched():
    torch = pytest.importorskip("torch", reason="the generator of torch is checked where torch is")

    class Network(Toy):
        def fit(self, train, validation=None, env=None):
            super().fit(train, validation, env)
            generator = torch.Generator().manual_seed(0)
            self.counts += torch.rand(self.counts.shape, generator=generator).numpy()

        def scores(self, observations, infos):
            return torch.from_numpy(super().scores(observations, infos)).exp().numpy()

    class Seeds(Network):
        def fit(self, train, validation=None, env=None):
            torch.manual_seed(0)
            super().fit(train, validation, env)

    before = torch.get_rng_state()
    assert check_agent(Network)
    assert "the global generator of torch, or seeds it" in problem_of(Seeds)
    assert torch.equal(torch.get_rng_state(), before)


# ----------------------------------------------------------------------------- what it learns from


@pytest.fixture
def demo():
    recgym.prepare(Source(visits=200), name="demo")
    return recgym.to_minari("demo")


def test_a_dataset_of_yours_is_learned_from_and_left_as_it_is(demo):
    few = demo.filter_episodes(lambda episode: episode.id < 40)
    assert check_agent(Toy, demo.id) == check_agent(Toy, demo) == check_agent(Toy, few)
    assert demo.storage.metadata["split"] == "train" and len(few) == 40
    hdf5 = recgym.to_minari("demo", "validation", data_format="hdf5")
    assert check_agent(Toy, hdf5)


def test_no_dataset_of_yours_and_no_home_is_touched_without_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    check_agent(Toy)
    assert not list(tmp_path.iterdir())
    assert minari.list_local_datasets() == {}
    for home in ("RECGYM_HOME", "MINARI_DATASETS_PATH"):
        assert not [path for path in Path(os.environ[home]).rglob("*") if path.is_file()]


def test_an_agent_that_has_learned_is_asked_only(demo):
    found = check_agent(Toy().fit(demo), demo)
    assert set(found) < set(check_agent(Toy)) and len(found) == 14
    agent = Draws()
    agent.fit(demo)
    agent.act(demo[0].observations, {})
    assert len(check_agent(agent, demo)) == 10
    with pytest.raises(InvalidArgument, match="Toy is an agent that has learned already: give the"):
        check_agent(Toy().fit(demo))
    with pytest.raises(InvalidArgument, match="and no options"):
        check_agent(Toy().fit(demo), demo, smooth=2.0)


def test_what_cannot_be_made_says_so_in_its_own_words(demo):
    for words, refused in {
        "No option of Toy is named 'smoth'. Did you mean 'smooth'": lambda: check_agent(
            Toy, smoth=1
        ),
        "No agent is named 'populer'": lambda: check_agent("populer"),
        "The agent 'nowhere:Agent' cannot be loaded": lambda: check_agent("nowhere:Agent"),
        "is a test dataset, and no agent learns": lambda: check_agent(
            Toy, recgym.to_minari("demo", "test")
        ),
    }.items():
        with pytest.raises((InvalidArgument, UnknownName)) as problem:
            refused()
        assert words in said(problem)


def test_observations_must_be_flat(demo):
    demo._observation_space = spaces.Dict({"history": demo.observation_space})
    with pytest.raises(InvalidArgument) as problem:
        check_agent(Toy, demo)
    assert "Agents are asked about flat observations, and recgym/demo" in said(problem)


# ------------------------------------------------------------------------------------ with a fault


class HasNoSave(Toy):
    save = None


class HasNoLoad(Toy):
    load = None


class LoadsInto(Toy):
    def load(self, folder):
        return Toy.load(folder)


class FitsOneDataset(Toy):
    def fit(self, train):
        return super().fit(train)


class ActsWithoutInfos(Toy):
    def act(self, observations):
        return super().act(observations, {})


class LearnsFromLogs(Toy):
    learns_from = "logs"


class SwallowsOptions(Toy):
    def __init__(self, smooth=1.0, **others):
        self.smooth = smooth


class ActsUntaught(Toy):
    def act(self, observations, infos):
        if self.counts is None:
            return np.zeros(len(observations), int)
        return super().act(observations, infos)


class SlipsUntaught(Toy):
    def act(self, observations, infos):
        return self.counts[observations[:, 0]].argmax(1)


class LearnsFromTests(Toy):
    def fit(self, train, validation=None, env=None):
        self.counts = np.ones((24, 23), np.float32)
        return self


class ValidatesOnTests(LearnsFromTests):
    def fit(self, train, validation=None, env=None):
        training_data(train)
        return super().fit(train)


class SlipsOnTests(Toy):
    def fit(self, train, validation=None, env=None):
        if train.storage.metadata["split"] == "test":
            return self.counts[0]
        return super().fit(train, validation, env)


class ReturnsItsLosses(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        return [0.7, 0.3]


class Breaks(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        raise KeyError("item 17")


class LabelsTheData(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        train.storage.update_metadata({"learned_from": True})


class ShortensTheData(Toy):
    def fit(self, train, validation=None, env=None):
        train.episode_indices = train.episode_indices[:50]
        return super().fit(train, validation, env)


class SavesWhereSomethingIs(Toy):
    def save(self, folder):
        np.save(folder / "counts.npy", self.counts)


class SavesOnce(Toy):
    def save(self, folder):
        folder.mkdir(parents=True)
        super().save(folder)


class SavesAnObject(Toy):
    """As what `save` writes beside the counts."""

    def save(self, folder):
        super().save(folder)
        self.write(folder)

    def write(self, folder):
        (folder / "options.bin").write_bytes(pickle.dumps({"smooth": 1.0}))


class SavesByJoblib(SavesAnObject):
    def write(self, folder):
        (folder / "model.joblib").write_text("{}")


class SavesAnObjectArray(SavesAnObject):
    def write(self, folder):
        np.save(folder / "titles.npy", np.array(["a", None], object))


class SavesObjectsTogether(SavesAnObject):
    def write(self, folder):
        np.savez(folder / "all.npz", counts=self.counts, titles=np.array([{}], object))


class SavesLikeTorch(SavesAnObject):
    def write(self, folder):
        (folder / "deep").mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / "deep" / "weights.bin", "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


class SavesAnArchive(SavesAnObject):
    """Of a pickle in a zip file in a zip file, under any name."""

    def write(self, folder):
        with zipfile.ZipFile(folder / "inner", "w") as archive:
            archive.writestr("data", pickle.dumps(1))
        with zipfile.ZipFile(folder / "outer", "w") as archive:
            archive.write(folder / "inner", "inner")
        (folder / "inner").unlink()


class LoadsNothing(Toy):
    @classmethod
    def load(cls, folder):
        np.load(folder / "counts.npy")


class SavesRounded(Toy):
    def save(self, folder):
        super().save(folder)
        np.save(folder / "counts.npy", (self.counts * 0.7).astype(np.float16))


class ActsForAll(Toy):
    def act(self, observations, infos):
        return int(super().act(observations, infos)[0])


class ActsInALine(Toy):
    def act(self, observations, infos):
        return super().act(observations, infos)[:, None]


class ActsInAList(Toy):
    def act(self, observations, infos):
        return super().act(observations, infos).tolist()


class ActsInFloats(Toy):
    def act(self, observations, infos):
        return super().act(observations, infos).astype(float)


class RecommendsThePad(Toy):
    def act(self, observations, infos):
        return np.maximum(super().act(observations, infos), observations[:, 4])


class ScoresThePad(Toy):
    def scores(self, observations, infos):
        return np.pad(super().scores(observations, infos), [(0, 0), (0, 1)])


class ScoresInIntegers(Toy):
    def scores(self, observations, infos):
        return super().scores(observations, infos).astype(int)


class ScoresNoOne(Toy):
    def scores(self, observations, infos):
        return super().scores(observations, infos)[0]


class ExcludesByInfinity(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        scores[np.arange(len(scores)), observations[:, 0] % 23] = -np.inf
        return scores


class DividesByZero(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        scores[:, 3] = np.nan
        return scores


class NeedsAHistory(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        self.counts = self.counts[:-1]


class CountsDown(Toy):
    parameters = -1


class CountsByMethod(Toy):
    def parameters(self):
        return iter([self.counts])


class DrawsAtWill(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        self.counts += np.random.default_rng().random(self.counts.shape, np.float32)


@dataclass
class IgnoresItsSeed(DrawsAtWill):
    seed: int = 0


class ActsAtWill(Toy):
    scores = None

    def act(self, observations, infos):
        super().act(observations, infos)
        return np.random.default_rng().integers(23, size=len(observations))


class SeedsNumpy(Toy):
    def fit(self, train, validation=None, env=None):
        np.random.seed(0)
        return super().fit(train, validation, env)


class DrawsFromNumpy(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        self.counts += np.random.random(self.counts.shape)


class DrawsFromRandom(Toy):
    def act(self, observations, infos):
        return super().act(observations, infos) + 0 * round(random.random())


class ClipsObservations(Toy):
    def scores(self, observations, infos):
        observations[observations == len(self.counts) - 1] = 0
        return super().scores(observations, infos)


class PopsInfos(Toy):
    def act(self, observations, infos):
        infos.pop("behaviour", None)
        return super().act(observations, infos)


class FillsABuffer(Toy):
    def scores(self, observations, infos):
        if "buffer" not in vars(self):
            self.buffer = np.zeros((100, 23), np.float32)
        self.buffer[: len(observations)] = super().scores(observations, infos)
        return self.buffer[: len(observations)]


class KeepsItsAnswers(Toy):
    def scores(self, observations, infos):
        known = vars(self).setdefault("known", {})
        if observations.tobytes() not in known:
            known[observations.tobytes()] = super().scores(observations, infos)
        return known[observations.tobytes()]


class ReturnsObservations(Toy):
    def act(self, observations, infos):
        super().act(observations, infos)
        return observations[:, 5]


class CountsItsCalls(Toy):
    calls = 0

    def scores(self, observations, infos):
        self.calls += 1
        return super().scores(observations, infos) + np.float32(self.calls)


class LearnsFromQuestions(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        np.add.at(self.counts, (observations[:, 0], observations[:, 1] % 23), 1)
        return scores


class CentresTheBatch(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        return scores - scores.mean(0)


class LooksAtPlaces(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        return scores + np.arange(len(scores), dtype=np.float32)[:, None]


class LooksAtTheLastPlace(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        if len(scores) == 32:
            scores[-1] += 1
        return scores


class ReadsInfos(Toy):
    def scores(self, observations, infos):
        answered = infos.get("behaviour", np.zeros(len(observations)))
        return super().scores(observations, infos) + np.float32(answered % 2)[:, None]


FAULTS = {
    HasNoSave: "has no save(…), which agents need: write def save(self, folder), of two lines",
    HasNoLoad: "has no load(…), which agents need: write @classmethod def load(cls, folder), of",
    LoadsInto: "LoadsInto.load is called otherwise than agents are (missing a required argument",
    FitsOneDataset: "FitsOneDataset.fit is called otherwise than agents are (too many positional",
    ActsWithoutInfos: "write def act(self, observations, infos).",
    LearnsFromLogs: "LearnsFromLogs.learns_from is 'logs': it is 'data', 'environment'",
    SwallowsOptions: "SwallowsOptions(option_of_nobody=0) was taken: name its options one by one",
    ActsUntaught: "Before it had learned, ActsUntaught.act returned int64 of shape (32,), [0, 0",
    SlipsUntaught: "Before it had learned, SlipsUntaught.act raised TypeError ('NoneType' object",
    LearnsFromTests: "was given a test dataset as train, and returned LearnsFromTests",
    ValidatesOnTests: "was given a test dataset as validation, and returned ValidatesOnTests",
    SlipsOnTests: "was given a test dataset as train, and raised TypeError ('NoneType' object is",
    ReturnsItsLosses: "ReturnsItsLosses.fit returned list [0.7, 0.3]: return self, or nothing",
    Breaks: "(Learning comes to an end, and fit returns the agent or nothing), as KeyError was",
    LabelsTheData: "After LabelsTheData.fit, recgym/oracle-boredom/little-v0 was another one",
    ShortensTheData: "After ShortensTheData.fit, recgym/oracle-boredom/little-v0 was another one",
    SavesWhereSomethingIs: "Into a folder that is not there yet, SavesWhereSomethingIs was not",
    SavesOnce: "Into a folder into which it was saved before, SavesOnce was not saved ([Errno 17]",
    SavesAnObject: "saved options.bin, which is a pickle or holds one",
    SavesByJoblib: "saved model.joblib, which is a pickle or holds one",
    SavesAnObjectArray: "saved titles.npy, which is a pickle or holds one",
    SavesObjectsTogether: "saved all.npz, which is a pickle or holds one",
    SavesLikeTorch: "saved weights.bin, which is a pickle or holds one",
    SavesAnArchive: "saved outer, which is a pickle or holds one",
    LoadsNothing: "LoadsNothing.load(folder) returned NoneType None: return the agent that was",
    SavesRounded: "did not answer the same after it was saved and loaded (scores/1 is float32 of",
    ActsForAll: "For a batch of 1, ActsForAll.act returned int ",
    ActsInALine: "For a batch of 1, ActsInALine.act returned int64 of shape (1, 1)",
    ActsInAList: "For a batch of 1, ActsInAList.act returned list [",
    ActsInFloats: "For a batch of 1, ActsInFloats.act returned float64 of shape (1,)",
    RecommendsThePad: "and items are numbers from 0 to 22: recommend one of them",
    ScoresThePad: "ScoresThePad.scores returned float32 of shape (1, 24), [[",
    ScoresInIntegers: "ScoresInIntegers.scores returned int64 of shape (1, 23), [[",
    ScoresNoOne: "ScoresNoOne.scores returned float32 of shape (23,), [",
    ExcludesByInfinity: "For a batch of 1, ExcludesByInfinity.scores gave -inf to item ",
    DividesByZero: "For a batch of 1, DividesByZero.scores gave nan to item 3 for user 0",
    NeedsAHistory: "as IndexError was raised: index 23 is out of bounds",
    CountsDown: "CountsDown.parameters is int -1: make it a property",
    CountsByMethod: "CountsByMethod.parameters is method <bound method",
    DrawsAtWill: "): take an option seed, and draw from np.random.default_rng(self.seed) alone",
    IgnoresItsSeed: "): draw from np.random.default_rng(self.seed) alone",
    ActsAtWill: "did not answer the same after it was saved and loaded (act/",
    SeedsNumpy: "SeedsNumpy draws from the global generator of numpy.random, or seeds it",
    DrawsFromNumpy: "DrawsFromNumpy draws from the global generator of numpy.random, or seeds it",
    DrawsFromRandom: "DrawsFromRandom draws from the global generator of random, or seeds it",
    ClipsObservations: "ClipsObservations.scores changed what it was given (observations[",
    PopsInfos: "PopsInfos.act changed what it was given (infos has only once behaviour)",
    FillsABuffer: "What FillsABuffer returned has changed when it was asked again (scores[0, ",
    KeepsItsAnswers: "Overwriting what KeepsItsAnswers returned changed more than that (scores/1[",
    ReturnsObservations: "returned changed more than that (observations[0, 5] is ",
    CountsItsCalls: "CountsItsCalls was asked the same again, after other questions, and did not",
    LearnsFromQuestions: "was asked the same again, after other questions, and did not answer",
    CentresTheBatch: "The scores of CentresTheBatch for users together and alone are not the same",
    LooksAtPlaces: "The scores of LooksAtPlaces for users together and alone are not the same (for",
    LooksAtTheLastPlace: "for users together and in another order are not the same (for user ",
    ReadsInfos: "The scores of ReadsInfos without infos and with those of ",
}


@pytest.mark.parametrize("toy", FAULTS, ids=lambda toy: toy.__name__)
def test_a_fault_is_found(toy):
    assert FAULTS[toy] in problem_of(toy)


def test_a_fault_of_an_agent_that_has_learned_is_found(demo):
    for toy in (ReadsInfos, SavesOnce, ClipsObservations, DrawsFromRandom):
        agent = toy()
        agent.fit(demo)
        assert toy.__name__ in problem_of(agent, demo)


def test_options_that_are_not_saved_are_missed():
    class ForgetsItsOptions(Toy):
        def scores(self, observations, infos):
            return super().scores(observations, infos) * np.float32(self.smooth)

    assert check_agent(ForgetsItsOptions)
    assert "after it was saved and loaded" in problem_of(ForgetsItsOptions, smooth=2.0)


def test_what_was_global_is_as_before():
    before = random.getstate(), np.random.get_state()[1].tolist()
    problem_of(SeedsNumpy)
    problem_of(Breaks)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


# --------------------------------------------------------------------------------- by its name


def checked(*words, **options):
    return subprocess.run([RECGYM, "check", *words], capture_output=True, text=True, **options)


@pytest.fixture
def stranger(monkeypatch):
    """A package of somebody else can be imported, here and in other processes."""
    monkeypatch.syspath_prepend(STRANGER)
    monkeypatch.setenv("PYTHONPATH", str(STRANGER))


def test_the_agent_of_a_stranger_passes(stranger, demo):
    done = checked("my_pkg.agents:MyAgent")
    assert done.returncode == 0, done.stdout + done.stderr
    first, *sentences = done.stdout.splitlines()
    assert first == "✓ my_pkg.agents:MyAgent" and len(sentences) == 20
    assert check_agent("my_pkg.agents:MyAgent", demo, decay=0.9) == check_agent(Toy)


def test_the_agent_of_a_stranger_is_one_file_that_needs_numpy_alone():
    tree = ast.parse((STRANGER / "my_pkg" / "agents.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    needed = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert needed - sys.stdlib_module_names == {"numpy"}


def test_what_a_stranger_did_wrong_is_said_and_environments_are_checked_beside_it(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "theirs.py").write_text("class Agent:\n    def act(self): pass\nNOTHING = 0\n")
    done = checked("theirs:Agent", "theirs:NOTHING", "theirs:Agnt", "theirs:their/Env-v0")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("✗ theirs:Agent: Agent has no fit(…), which agents need: write def")
    assert lines[1] == (
        "✗ theirs:NOTHING: 'theirs:NOTHING' is no class of agents: it has no act(observations, "
        "infos)."
    )
    assert lines[2].startswith("✗ theirs:Agnt: The agent 'theirs:Agnt' cannot be loaded (module")
    assert lines[3].startswith("✗ theirs:their/Env-v0: ") and "their" in lines[3][25:]
