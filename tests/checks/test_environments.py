"""Each check of environments against its fault, and against what has no fault."""

import random

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import env_checker
from gymnasium.vector import SyncVectorEnv

import recgym
from recgym.checks import check_env, check_vector_env
from recgym.errors import CheckFailed, InvalidArgument, UnknownName

from ..sentences import said

MODES = [mode.value for mode in vars(gymnasium.vector).get("AutoresetMode", [])] or ["NextStep"]
HOUSE = {"n_items": 30, "n_topics": 5, "steps": 12, "history": 5}


class Toy(gymnasium.Env):
    """Five items, of which a user likes one; they leave at random, or are cut off."""

    metadata = {"render_modes": [], "layout": {"history": (0, 3)}}

    def __init__(self, leaving=0.2, horizon=8):
        self.observation_space = spaces.Box(0, 5, (3,), np.int32)
        self.action_space = spaces.Discrete(5)
        self.leaving, self.horizon = leaving, horizon
        self.over = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.begin()
        return self.seen(), self.told(False)

    def begin(self):
        self.history = self.np_random.integers(5, size=3).tolist()
        self.liked, self.steps, self.over = int(self.np_random.integers(5)), 0, False

    def step(self, action):
        self.check(action)
        hit = self.consume(action)
        ends = bool(self.np_random.random() < self.leaving)
        stops = self.steps == self.horizon and not ends
        self.over = ends or stops
        return self.seen(), self.reward(hit), ends, stops, self.told(hit)

    def check(self, action):
        if self.over:
            raise gymnasium.error.ResetNeeded("Call reset().")
        if action not in self.action_space:
            raise ValueError("No such action.")

    def consume(self, action):
        self.steps += 1
        self.history = [*self.history[1:], int(action)]
        return int(action) == self.liked

    def seen(self):
        return np.array(self.history, np.int32)

    def reward(self, hit):
        return float(hit)

    def told(self, hit):
        return {"hit": hit, "behaviour": int(hit), "scores": np.zeros(2), "page": "{}"}


class ToyVector(SyncVectorEnv):
    """As many toys, natively as far as anyone can see."""

    def __init__(self, num_envs, autoreset_mode=None, toy=Toy, **kwargs):
        modes = {} if autoreset_mode is None else {"autoreset_mode": autoreset_mode}
        super().__init__([lambda: toy(**kwargs)] * num_envs, **modes)

    def step(self, actions):
        if actions not in self.action_space or actions.dtype.kind != "i":
            raise ValueError("No such actions.")
        return super().step(actions)


gymnasium.register("Toy-v0", f"{__name__}:Toy", vector_entry_point=f"{__name__}:ToyVector")


@pytest.fixture
def register():
    """Registers an environment for the time of a test."""
    known = dict(gymnasium.registry)
    yield gymnasium.register
    gymnasium.registry.clear()
    gymnasium.registry.update(known)


@pytest.fixture
def ours_alone(monkeypatch):
    """Gymnasium's own check is left out: it sees some of the faults too, in words of its own."""
    monkeypatch.setattr(env_checker, "check_env", lambda env, **options: None)


def problem_of(check, *arguments, **options):
    with pytest.raises(CheckFailed) as problem:
        check(*arguments, **options)
    return said(problem)


# ----------------------------------------------------------------- environments without a fault


def test_a_faultless_environment_passes_and_is_told_what_holds():
    found = check_env(Toy())
    assert "Other seeds give other episodes." in found
    assert len(set(found)) == len(found) > 15
    assert all(sentence[0].isupper() and sentence[-1] == "." for sentence in found)


def test_an_id_passes_with_its_keyword_arguments_and_its_spec_is_checked_too():
    more = set(check_env("Toy-v0", horizon=3)) - set(check_env(Toy(horizon=3)))
    assert [sentence for sentence in more if "JSON" in sentence] == list(more)
    assert check_env(gymnasium.make("Toy-v0")) == check_env(gymnasium.spec("Toy-v0"))


def test_a_horizon_of_gymnasiums_own_passes():
    assert check_env("Toy-v0", leaving=0.0, horizon=-1, max_episode_steps=6)


def test_keyword_arguments_are_for_ids():
    with pytest.raises(InvalidArgument, match="horizon came with an environment that is made"):
        check_env(Toy(), horizon=3)


@pytest.mark.parametrize("check", [check_env, check_vector_env])
def test_what_cannot_be_made_says_so_in_its_own_words(check):
    with pytest.raises(gymnasium.error.NameNotFound):
        check("Toi-v0")
    with pytest.raises(UnknownName, match="No log is named 'demo'"):
        check("recgym/DemoReplay-v0")


@pytest.mark.parametrize("space", ["dict", "tuple", "discrete"])
def test_other_spaces_pass(space):
    class Other(Toy):
        metadata = {"render_modes": []}

        def __init__(self):
            super().__init__()
            history, last = self.observation_space, spaces.Discrete(5)
            self.observation_space = {
                "dict": spaces.Dict({"history": history, "last": last}),
                "tuple": spaces.Tuple([history, last]),
                "discrete": last,
            }[space]

        def seen(self):
            history, last = super().seen(), self.history[-1]
            both = {"dict": {"history": history, "last": last}, "tuple": (history, last)}
            return both.get(space, last)

    assert check_env(Other())


@pytest.mark.parametrize(
    "space",
    [spaces.MultiDiscrete([5, 5]), spaces.Box(-1, 1, (2,)), spaces.MultiBinary(3)],
    ids=str,
)
def test_other_actions_pass(space):
    class Slate(Toy):
        def __init__(self):
            super().__init__()
            self.action_space = space

        def check(self, action):
            super().check(action)
            if np.asarray(action).dtype.kind != space.dtype.kind:
                raise ValueError("No such action.")

        def consume(self, action):
            return super().consume(abs(action[0]))

    assert check_env(Slate())


def test_what_is_deterministic_passes_if_it_says_so():
    class Fixed(Toy):
        def begin(self):
            self.history, self.liked, self.steps, self.over = [0, 0, 0], 2, 0, False

    assert "All seeds give" in str(check_env(Fixed(leaving=0.0), deterministic=True))
    assert "Seeds 1 to" in problem_of(check_env, Fixed(leaving=0.0))
    found = problem_of(check_env, Toy(), deterministic=True)
    assert "said to be deterministic, and seed 1 does not do what seed 0 does" in found


def test_a_task_of_fixed_length_passes_if_it_says_so():
    class Ends(Toy):
        def step(self, action):
            observation, reward, _, stops, info = super().step(action)
            return observation, reward, stops, False, info

    assert check_env(Ends(leaving=0.0), fixed_length=True)
    found = problem_of(check_env, Ends(leaving=0.0))
    assert "All of 24 episodes are terminated after exactly 8 steps, as by a horizon" in found


def test_a_constant_observation_is_no_next_session():
    class Bandit(Toy):
        def seen(self):
            return np.full(3, self.liked, np.int32)

    assert check_env(Bandit())


@pytest.mark.parametrize(
    ("name", "observation"),
    [("Static", "flat"), ("Static", "dict"), ("Boredom", "flat"), ("Drift", "dict")],
)
def test_oracles_pass(name, observation):
    assert check_env(f"recgym/Oracle{name}-v0", observation=observation, **HOUSE)
    assert check_vector_env(f"recgym/Oracle{name}-v0", observation=observation, **HOUSE)


@pytest.mark.parametrize(
    ("split", "off_log"),
    [("train", "advance"), ("test", "advance"), ("test", "stop"), ("validation", "stay")],
)
def test_replays_pass(split, off_log):
    recgym.prepare("demo", name="demo")
    options = {"log": "demo", "split": split, "off_log": off_log, "attempts": 2}
    assert check_env("recgym/Replay-v0", **options)
    assert check_vector_env("recgym/Replay-v0", **options)


def test_the_replay_of_the_demo_passes():
    recgym.prepare("demo", name="demo")
    assert check_env("recgym/DemoReplay-v0")
    assert check_vector_env("recgym/DemoReplay-v0", num_envs=1)
    assert check_vector_env("recgym/DemoReplay-v0", num_envs=5, observation="dict")


# ---------------------------------------------------------------------- what Gymnasium says of one


def test_what_gymnasium_refuses_is_refused_in_its_words():
    class Listless(Toy):
        def seen(self):
            return super().seen() + np.int32(9)

    assert "check_env does not pass" in problem_of(check_env, Listless())


def test_what_gymnasium_warns_of_is_refused():
    class Endless(Toy):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Box(0, np.inf, (3,), np.float64)

        def seen(self):
            return super().seen().astype(float)

    assert "maximum value is infinity" in problem_of(check_env, Endless())


@pytest.mark.parametrize("registered", [True, False])
def test_gymnasium_does_not_keep_sessions_of_one_step_from_passing(registered):
    assert check_env("Toy-v0", leaving=0.0, horizon=1) if registered else check_env(Toy(0.0, 1))


# ------------------------------------------------------------------------ environments with a fault


class CallsReset(Toy):
    def step(self, action):
        answer = super().step(action)
        return (self.reset()[0], *answer[1:]) if self.over else answer


class ResetsInside(Toy):
    def seen(self):
        if self.over:
            self.begin()
            self.over = True
        return super().seen()


class FetchesTheNext(Toy):
    def begin(self):
        upcoming = self.__dict__.pop("upcoming", None)
        super().begin()
        self.history = upcoming or self.history

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.__dict__.pop("upcoming", None)
        return super().reset(seed=seed, options=options)

    def seen(self):
        if self.over:
            self.upcoming = self.np_random.integers(5, size=3).tolist()
            self.history = self.upcoming
        return super().seen()


class EmptiesTheHistory(Toy):
    def begin(self):
        super().begin()
        self.history = [5, 5, 5]

    def seen(self):
        return np.full(3, 5, np.int32) if self.over else super().seen()


class CountsItsDraws(Toy):
    """Its randomness is by counter, so it is the same whatever was drawn before."""

    episode = 0

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.origin, self.episode = (self.origin, self.episode) if seed is None else (seed, 0)
        self.begin()
        self.episode += 1
        return self.seen(), self.told(False)

    def begin(self):
        self.np_random = np.random.default_rng([self.origin, self.episode])
        super().begin()

    def seen(self):
        if not self.over:
            return super().seen()
        return np.random.default_rng([self.origin, self.episode]).integers(5, size=3).astype("i4")


class OwnGenerator(ResetsInside):
    def reset(self, *, seed=None, options=None):
        if seed is not None or "own" not in vars(self):
            self.own = np.random.default_rng(seed)
        return super().reset(seed=seed)

    def begin(self):
        super().begin()
        self.history = self.own.integers(5, size=3).tolist()


NEXT = [CallsReset, ResetsInside, FetchesTheNext, EmptiesTheHistory, CountsItsDraws, OwnGenerator]


@pytest.mark.parametrize("toy", NEXT)
def test_the_next_users_first_observation_is_not_the_last_one(toy, ours_alone):
    found = problem_of(check_env, toy())
    assert "The last observation of an episode is the first one of the next session" in found


class IgnoresSeeds(Toy):
    def reset(self, *, seed=None, options=None):
        return super().reset()


class HasOneSeed(Toy):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=7)


class SeedsEveryReset(Toy):
    seed = 0

    def reset(self, *, seed=None, options=None):
        self.seed = self.seed if seed is None else seed
        return super().reset(seed=self.seed)


class RemembersUsers(Toy):
    popular = 0

    def begin(self):
        super().begin()
        self.popular += 1
        self.history[0] = self.popular % 5


class DrawsFromNumpy(Toy):
    def consume(self, action):
        np.random.random()
        return super().consume(action)


class SeedsNumpy(Toy):
    def begin(self):
        super().begin()
        np.random.seed(self.liked)


class DrawsFromRandom(Toy):
    def reward(self, hit):
        return random.random()


class FillsABuffer(Toy):
    def __init__(self):
        super().__init__()
        self.buffer = np.zeros(3, np.int32)

    def seen(self):
        self.buffer[:] = super().seen()
        return self.buffer


class FillsAnInfo(Toy):
    def __init__(self):
        super().__init__()
        self.info = {}

    def told(self, hit):
        self.info |= super().told(hit)
        return self.info


class HandsOutAConstant(Toy):
    zeros = np.zeros(2)

    def told(self, hit):
        return super().told(hit) | {"scores": self.zeros}


class HandsOutViews(Toy):
    def begin(self):
        super().begin()
        self.tape = np.array(self.history * 10, np.int32)

    def seen(self):
        return self.tape[self.steps : self.steps + 3]


class LendsItsState(Toy):
    def begin(self):
        super().begin()
        self.kept = np.array([self.liked], np.int64)

    def reward(self, hit):
        return float(self.kept[0])

    def told(self, hit):
        return {"user": self.kept} if self.steps == 0 else {"user": np.zeros(1, np.int64)}


class TellsItself(Toy):
    def told(self, hit):
        return {"env": self}


class TellsALater(Toy):
    def told(self, hit):
        return {"hit": hit} if self.steps else {}


class TellsAList(Toy):
    def told(self, hit):
        return {"nested": {"slate": [1, 2]}}


class TellsNothing(Toy):
    def told(self, hit):
        return {"hit": hit if self.steps else None}


class TellsOtherTypes(Toy):
    def told(self, hit):
        return {"hit": hit if self.steps else 0.0}


class TellsOtherShapes(Toy):
    def told(self, hit):
        return {"seen": np.zeros(self.steps)}


class LeavesItsSpace(Toy):
    def seen(self):
        return super().seen() + np.int32(4)


class WidensItsSpace(Toy):
    def seen(self):
        return super().seen().astype(np.int16)


class ListsItsObservation(Toy):
    def seen(self):
        return self.history


class PaysIntegers(Toy):
    def reward(self, hit):
        return int(hit)


class PaysNothing(Toy):
    def reward(self, hit):
        return float("nan")


class FlagsOfNumpy(Toy):
    def step(self, action):
        observation, reward, ends, stops, info = super().step(action)
        return observation, reward, np.bool_(ends), stops, info


class EndsTwice(Toy):
    def step(self, action):
        observation, reward, ends, stops, info = super().step(action)
        return observation, reward, ends, ends or stops, info


class NeverEnds(Toy):
    def __init__(self):
        super().__init__(leaving=0.0, horizon=-1)


class StepsBeforeReset(Toy):
    def check(self, action):
        if "history" not in vars(self):
            self.reset()
        super().check(action)


class StepsAfterTheEnd(Toy):
    def check(self, action):
        assert action in self.action_space and "history" in vars(self)


class TakesAnyItem(Toy):
    def check(self, action):
        if self.over:
            raise gymnasium.error.ResetNeeded("Call reset().")

    def consume(self, action):
        return super().consume(0 if action == 5 else action)


class TakesALast(Toy):
    def check(self, action):
        super().check(action % 5)


class TakesFractions(Toy):
    def check(self, action):
        super().check(int(action))


class LooksTooLate(Toy):
    def consume(self, action):
        self.steps += 1
        super().check(action)
        self.steps -= 1
        return super().consume(action)

    def check(self, action):
        if self.over:
            raise gymnasium.error.ResetNeeded("Call reset().")


class TakesAnySeed(Toy):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None if seed is None else abs(seed))


class SharesItsUsers(Toy):
    users = []

    def begin(self):
        super().begin()
        self.users.append(self.liked)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.users.clear()
        return super().reset(seed=seed)

    def reward(self, hit):
        return float(len(self.users))


class CopiesBadly(Toy):
    def begin(self):
        super().begin()
        self.tape = np.array(self.history + [5] * 9, np.int32)
        self.windows = np.lib.stride_tricks.sliding_window_view(self.tape, 3)

    def consume(self, action):
        self.tape[self.steps + 3] = action
        return super().consume(action)

    def seen(self):
        return self.windows[self.steps].copy()


class CopiesShare(Toy):
    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.__dict__ |= self.__dict__
        return twin


class LayoutOfAnother(Toy):
    metadata = {"render_modes": [], "layout": {"history": (0, 2), "last": (2, 4)}}


class LayoutWithAGap(Toy):
    metadata = {"render_modes": [], "layout": {"history": (0, 1), "last": (2, 3)}}


class LayoutOfSizes(Toy):
    metadata = {"render_modes": [], "layout": {"history": 3}}


class Breaks(Toy):
    def consume(self, action):
        raise KeyError("item 17")


FAULTS = {
    IgnoresSeeds: "Seed 0 was given again, to the same environment, and it did not do the same",
    RemembersUsers: "Seed 0 was given again, to the same environment, and it did not do the same",
    HasOneSeed: "all gave the episode of seed 0: use the seed of reset()",
    SeedsEveryReset: "resets without a seed gave its episode again and again",
    DrawsFromNumpy: "draws from the global generator of numpy.random",
    SeedsNumpy: "draws from the global generator of numpy.random",
    DrawsFromRandom: "draws from the global generator of random",
    FillsABuffer: "returned has changed since (what was observation[",
    FillsAnInfo: "At step 1 of episode 0, seed 0, info shares memory with info of",
    HandsOutAConstant: "info/scores shares memory with info/scores of",
    HandsOutViews: "observation shares memory with observation of",
    LendsItsState: "Overwriting the arrays and infos that were returned, and actions",
    TellsItself: "The info/env at the reset of episode 0, seed 0 is the TellsItself <",
    TellsALater: "The info at step 1 of episode 0, seed 0 has other keys than the first one, info/",
    TellsAList: "The info/nested/slate at the reset of episode 0, seed 0 is the list [1, 2]",
    TellsNothing: "The info/hit at the reset of episode 0, seed 0 is the NoneType None",
    TellsOtherTypes: "is bool, and was float at first: keep types",
    TellsOtherShapes: "is float64 of shape (1,), and was float64 of shape (0,) at first",
    LeavesItsSpace: "is outside its space Box(0, 5, (3,), int32): [",
    WidensItsSpace: "is int16 of shape (3,), [",
    ListsItsObservation: "where an array of int32 belongs",
    PaysIntegers: "is int 0: return a finite float",
    PaysNothing: "is float nan: return a finite float",
    FlagsOfNumpy: "return bool(…) of each",
    EndsTwice: "the episode is both terminated and truncated: a horizon",
    NeverEnds: "Episode 0, seed 0, has not ended within 10,000 steps: truncate it",
    StepsBeforeReset: "A step before the first reset was taken as any other",
    StepsAfterTheEnd: "A step after the end of an episode was taken as any other",
    TakesAnyItem: "The action int 5 was taken before step 1 of episode 0, seed 0",
    TakesALast: "The action int 5 was taken before step 1 of episode 0, seed 0",
    TakesFractions: "The action float 0.5 was taken before step 1",
    LooksTooLate: "was refused, and changed what came later (step ",
    TakesAnySeed: "reset(seed=-1) was taken as any other",
    SharesItsUsers: "An environment went on otherwise when another one was used in between",
    CopiesBadly: "in the middle of an episode, the copy went on otherwise",
    CopiesShare: "in the middle of an episode, the original went on otherwise",
    LayoutOfAnother: "does not cover Box(0, 5, (3,), int32) exactly",
    LayoutWithAGap: "does not cover Box(0, 5, (3,), int32) exactly",
    LayoutOfSizes: "The layout is {'history': 3}: name the parts",
    Breaks: "as KeyError was raised: 'item 17'",
}


@pytest.mark.parametrize("toy", FAULTS, ids=lambda toy: toy.__name__)
def test_a_fault_is_found(toy, ours_alone):
    assert FAULTS[toy] in problem_of(check_env, toy())


def test_what_was_global_is_as_before():
    before = random.getstate(), np.random.get_state()[1].tolist()
    check_env(Toy())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


class RemembersItsArguments(Toy):
    def __init__(self, shown=[]):  # noqa: B006
        super().__init__()
        self.shown = shown

    def begin(self):
        super().begin()
        self.shown.append(self.liked)

    def told(self, hit):
        return {"shown": len(self.shown)}


def test_a_default_argument_that_is_shared_is_found(ours_alone, register):
    register("Remembers-v0", f"{__name__}:RemembersItsArguments")
    assert "Seed 0 was given again" in problem_of(check_env, "Remembers-v0")


def test_a_spec_that_cannot_be_written_is_found(register):
    register("Class-v0", Toy)
    found = problem_of(check_env, "Class-v0")
    assert "cannot be written as JSON (Callable found" in found


class KnowsATuple(Toy):
    def __init__(self, users=(1, 2)):
        super().__init__(horizon=8 if isinstance(users, tuple) else 3)


def test_a_spec_that_makes_another_environment_is_found(register):
    register("Tuple-v0", f"{__name__}:KnowsATuple")
    found = problem_of(check_env, "Tuple-v0", users=(3, 4))
    assert "gymnasium.make() of the spec from JSON makes another environment" in found


# ------------------------------------------------------------------------------------ vector faults


def test_a_faultless_vector_environment_passes_in_every_mode():
    found = check_vector_env("Toy-v0")
    assert len(found) == 7 * len(MODES)
    assert {sentence.split(":")[0] for sentence in found} == set(MODES)
    assert check_vector_env("Toy-v0", num_envs=1, leaving=0.5)
    assert len(check_vector_env("Toy-v0", modes=["NextStep"])) == 7


class SmallRewards(ToyVector):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards.astype(np.float32), *rest


class EqualSeeds(ToyVector):
    def reset(self, *, seed=None, options=None):
        each = [seed] * self.num_envs if isinstance(seed, int) else seed
        return super().reset(seed=each, options=options)


class SortedSeeds(ToyVector):
    def reset(self, *, seed=None, options=None):
        each = sorted(seed) if isinstance(seed, list) else seed
        return super().reset(seed=each, options=options)


class SeedsAnew(ToyVector):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=3 if seed is None else seed, options=options)


class OneBuffer(ToyVector):
    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.copy = False


class RewardsAgain(ToyVector):
    def step(self, actions):
        observations, _, *rest = super().step(actions)
        return observations, self._rewards, *rest


class FreshOnly(ToyVector):
    """Resets hand out one and the same array."""

    def reset(self, *, seed=None, options=None):
        observations, infos = super().reset(seed=seed, options=options)
        self.first = vars(self).get("first", observations)
        self.first[...] = observations
        return self.first, infos


class NoMasks(ToyVector):
    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, {key: value for key, value in infos.items() if key[0] != "_"}


class WrongMasks(ToyVector):
    def step(self, actions):
        *rest, infos = super().step(actions)
        infos["_hit"][-1] = False
        return *rest, infos


class LateReset(ToyVector):
    """The reward of a step that only resets is not zero."""

    def step(self, actions):
        again = self._autoreset_envs.copy()
        observations, rewards, *rest = super().step(actions)
        return observations, rewards + again, *rest


class NextAsLast(ToyVector):
    def step(self, actions):
        observations, rewards, ends, stops, infos = super().step(actions)
        for user in np.flatnonzero(ends | stops):
            observations[user] = self.envs[user].reset()[0]
        return observations, rewards, ends, stops, infos


class WidePlaces(ToyVector):
    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.action_space = spaces.MultiDiscrete([9] * self.num_envs)


class LooksAtEachInTurn(ToyVector):
    def step(self, actions):
        if len(actions) != self.num_envs or actions.dtype.kind != "i":
            raise ValueError("No such actions.")
        return SyncVectorEnv.step(self, actions)


class TakesTooMany(ToyVector):
    def step(self, actions):
        return super().step(actions[: self.num_envs])


class SharesItsMood(ToyVector):
    generous = False

    def reset(self, *, seed=None, options=None):
        if isinstance(seed, int):
            SharesItsMood.generous = seed > 0
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards + self.generous, *rest


class BeginsByItself(ToyVector):
    def step(self, actions):
        if "history" not in vars(self.envs[0].unwrapped):
            self.reset()
        return super().step(actions)


VECTOR_FAULTS = {
    SmallRewards: "reward is float32 of shape (3,), [0.0, 0.0, 0.0], and float64 of shape (3,)",
    EqualSeeds: "the reset after reset(seed=0), NextStep: observation[1, 0] is",
    SortedSeeds: "the reset after reset(seed=[45, 5, 66]), NextStep: observation[",
    SeedsAnew: "the reset after reset(seed=None), NextStep: observation[",
    OneBuffer: "returned has changed since (what was observation[",
    RewardsAgain: "reward shares memory with reward of this or an earlier result",
    FreshOnly: "returned has changed since (what was observation[",
    NoMasks: "info has only once _behaviour, _hit, _page, _scores",
    WrongMasks: "info/_hit[2] is False, and True alone",
    LateReset: "NextStep: reward[",
    NextAsLast: "NextStep: observation[",
    WidePlaces: "The action_space of the vector environment is MultiDiscrete([9 9 9])",
    LooksAtEachInTurn: "was refused, and changed what came later (",
    TakesTooMany: "The action int64 of shape (6,), [",
    SharesItsMood: "An environment went on otherwise when another one was used in between",
    BeginsByItself: "A step before the first reset was taken as any other",
}


class NoFinalMasks(ToyVector):
    def step(self, actions):
        *rest, infos = super().step(actions)
        if "_final_obs" in infos:
            infos["_final_obs"][:] = False
        return *rest, infos


class NextAsFinal(ToyVector):
    def step(self, actions):
        observations, *rest, infos = super().step(actions)
        for user in np.flatnonzero(infos.get("_final_obs", [])):
            infos["final_obs"][user] = observations[user].copy()
        return observations, *rest, infos


class ResetsAll(ToyVector):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)


class GoesOn(ToyVector):
    """In mode Disabled, a user whose episode is over is begun anew without a word."""

    def step(self, actions):
        if (again := self._autoreset_envs).any() and self.metadata["autoreset_mode"].name[0] == "D":
            self.reset(options={"reset_mask": again.copy()})
        return super().step(actions)


class NamesAnother(ToyVector):
    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.metadata = self.metadata | {"autoreset_mode": "Disabled"}


class NamesNone(ToyVector):
    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        del self.metadata["autoreset_mode"]


class HasOneMode(ToyVector):
    def __init__(self, num_envs):
        super().__init__(num_envs)


if len(MODES) > 1:  # from Gymnasium 1.1 on
    VECTOR_FAULTS |= {
        NoFinalMasks: "SameStep: info/_final_obs[",
        NextAsFinal: "SameStep: info/final_obs[0][",
        ResetsAll: "Disabled: ",
        GoesOn: "when an episode was over: raise gymnasium.error.ResetNeeded",
        NamesAnother: "The metadata['autoreset_mode'] of the vector environment is 'Disabled'",
        NamesNone: "The metadata['autoreset_mode'] of the vector environment is None",
        HasOneMode: "as TypeError was raised: HasOneMode.__init__() got an unexpected keyword",
    }


@pytest.mark.parametrize("toys", VECTOR_FAULTS, ids=lambda toys: toys.__name__)
def test_a_fault_of_a_vector_environment_is_found(toys, register):
    register("Broken-v0", f"{__name__}:Toy", vector_entry_point=toys)
    assert VECTOR_FAULTS[toys] in problem_of(check_vector_env, "Broken-v0")


def test_a_mode_that_gymnasium_does_not_know_is_refused():
    with pytest.raises(UnknownName, match="No autoreset mode is named 'SameStp'") as problem:
        check_vector_env("Toy-v0", modes=["SameStp"])
    assert said(problem)


def test_what_is_called_as_make_vec_can_be_checked():
    def make_vec(num_envs, vectorization_mode, vector_kwargs=None, **options):
        return gymnasium.make_vec(
            "Toy-v0", num_envs, vectorization_mode, vector_kwargs, **options, leaving=0.5
        )

    assert len(check_vector_env(make_vec, num_envs=2)) == 7 * len(MODES)
