"""The contract of environments: what agents may rely on, in each and in batches of them."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice, zip_longest
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import env_checker
from gymnasium.vector import VectorEnv

from recgym.checks.faults import (
    GENERATORS,
    check_layout,
    difference,
    leaves,
    overwrite,
    passed,
    plain,
    refuses,
    short,
    typed,
    watched,
)
from recgym.errors import CheckFailed, InvalidArgument, UnknownName, printable

_AutoresetMode: Any = vars(gymnasium.vector).get("AutoresetMode")  # Gymnasium 1.0 has one mode only
_LONGEST = 10_000  # steps of an episode, or of episodes that do not differ
_MANY = 24  # episodes, of which all do not by chance what a bug does
_ENOUGH = 8  # of them, where not every one can tell


def check_env(
    env_or_id: gymnasium.Env[Any, Any] | EnvSpec | str,
    *,
    deterministic: bool = False,
    fixed_length: bool = False,
    **kwargs: Any,
) -> tuple[str, ...]:
    """Check an environment of one user, and return what was found to hold, in sentences.

    `deterministic` says that all seeds are meant to give the same episodes, `fixed_length` that the
    task itself, not a horizon, ends all episodes after the same number of steps. Other keyword
    arguments are those of `gymnasium.make`. An environment without a spec is copied: give it as it
    was made, before its first reset.
    """
    make = _maker(env_or_id, kwargs)
    make().close()  # what cannot be made says so in its own words
    checks = [
        _gymnasium_finds_no_fault,
        _observations_are_in_their_space,
        _answers_are_plain,
        _infos_can_be_stacked,
        _results_are_fresh,
        _global_generators_are_left_alone,
        _a_seed_decides_everything,
        _results_may_be_overwritten,
        *([_seeds_do_not_matter] if deterministic else [_seeds_matter, _resets_go_on]),
        _instances_share_nothing,
        _the_last_observation_is_of_its_own_session,
        *([] if fixed_length else [_a_horizon_truncates]),
        _steps_outside_an_episode_are_refused,
        _bad_actions_are_refused,
        _bad_seeds_are_refused,
        _copies_go_on_alone,
        *([] if make.func is copy.deepcopy else [_the_spec_makes_it_again]),
        _the_layout_covers_the_observation,
    ]
    return tuple(_held(check, make, _episodes) for check in checks)


def check_vector_env(
    env_id: str | EnvSpec | Callable[..., VectorEnv[Any, Any, Any]],
    num_envs: int = 3,
    *,
    modes: Sequence[str] | None = None,
    **kwargs: Any,
) -> tuple[str, ...]:
    """Check that a native vector environment does what as many single environments do, exactly.

    Both come from `gymnasium.make_vec(env_id, …)`, or from a function that is called as that is,
    without the id. `modes` are the autoreset modes that it has: all that Gymnasium knows, unless
    given; any but "NextStep" is asked for by the keyword argument `autoreset_mode`.
    """
    make_vec = env_id if callable(env_id) else partial(gymnasium.make_vec, env_id)
    known = [mode.value for mode in _AutoresetMode] if _AutoresetMode else ["NextStep"]
    checks = [
        _spaces_are_batched,
        _users_are_as_if_alone,
        _results_are_fresh,
        _results_may_be_overwritten,
        _instances_share_nothing,
        _steps_of_nobody_are_refused,
        _bad_actions_are_refused,
    ]
    _vectors(make_vec, num_envs, "NextStep", kwargs, native=False).close()
    found = []
    for mode in known if modes is None else modes:
        if mode not in known:
            raise UnknownName("autoreset mode", mode, known)
        make = partial(_vectors, make_vec, num_envs, mode, kwargs)
        play = partial(_batches, mode=mode)
        found += [f"{mode}: {_held(check, make, play)}" for check in checks]
    return tuple(found)


# ------------------------------------------------------------------------ how environments are run


class _Moment(NamedTuple):
    """What a reset or a step returned, by name."""

    where: str
    action: Any  # None before a reset
    returned: dict[str, Any]


_Moments = Iterator[_Moment]
_Make = Callable[..., Any]
_Play = Callable[..., _Moments]
_Before = Callable[[Any, str], object]


def _maker(env_or_id: Any, kwargs: dict[str, Any]) -> "partial[Any]":
    """What makes one environment after the other."""
    if not isinstance(env_or_id, gymnasium.Env):
        return partial(gymnasium.make, env_or_id, **{"disable_env_checker": True} | kwargs)
    if kwargs:
        raise InvalidArgument(
            f"Keyword arguments are for an id, and {', '.join(kwargs)} came with an environment "
            "that is made already: make it with them."
        )
    if env_or_id.spec is not None:
        return partial(gymnasium.make, env_or_id.spec, disable_env_checker=True)
    return partial(copy.deepcopy, env_or_id)


def _vectors(
    make_vec: _Make, num_envs: int, mode: str, kwargs: dict[str, Any], native: bool = True
) -> Any:
    """A native vector environment, or one of as many single environments."""
    asked = {} if mode == "NextStep" else {"autoreset_mode": _AutoresetMode(mode)}
    if native:
        options = {"vectorization_mode": "vector_entry_point"} | asked
    else:
        options = {"vectorization_mode": "sync", "vector_kwargs": asked}
        options["disable_env_checker"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing metadata: there is a check for it
        return make_vec(num_envs=num_envs, **options, **kwargs)


def _held(check: Callable[[_Make, _Play], None], make: _Make, play: _Play) -> str:
    """What holds, as a check was passed. What it made is closed."""
    made: list[Any] = []

    def making(**options: Any) -> Any:
        made.append(make(**options))
        return made[-1]

    try:
        return passed(check, making, play)
    finally:
        for env in made:
            env.close()


def _episodes(
    env: Any,
    seed: int | None = 0,
    episodes: int = 3,
    policy: int = 0,
    before: _Before | None = None,
) -> _Moments:
    """What random actions, the same in every episode, are given; only the first reset is seeded.

    `before` is called before each step.
    """
    space = copy.deepcopy(env.action_space)
    for episode in range(episodes):
        space.seed(policy)
        of = f"of episode {episode}, seed {seed}"
        yield _Moment(f"the reset {of}", None, _reset(env, None if episode else seed))
        over, step = False, 0
        while not over:
            step += 1
            moment = _step(env, space.sample(), f"step {step} {of}", before)
            over = moment.returned["terminated"] or moment.returned["truncated"]
            yield moment
            _check_end(step, f"Episode {episode}, seed {seed},")


def _batches(env: Any, seed: int = 0, before: _Before | None = None, *, mode: str) -> _Moments:
    """What random actions are given, after a reset by a seed, by none, by seeds, and by none."""
    space = copy.deepcopy(env.action_space)
    space.seed(0)
    seeds = [seed + (45 + 61 * user) % 101 for user in range(env.num_envs)]  # in no order
    for given in (seed, None, seeds, None):
        of = f"after reset(seed={printable(str(given))}), {mode}"
        yield _Moment(f"the reset {of}", None, _reset(env, copy.copy(given)))
        ended, step = np.zeros(env.num_envs, int), 0
        while ended.min() < 2:
            step += 1
            moment = _step(env, space.sample(), f"step {step} {of}", before)
            over = np.logical_or(moment.returned["terminated"], moment.returned["truncated"])
            yield moment
            ended += over
            _check_end(step, "An episode in a batch")
            if mode == "Disabled" and over.any() and ended.min() < 2:
                again = seeds.copy() if given is seeds else None
                returned = _reset(env, again, {"reset_mask": over.copy()})
                yield _Moment(f"the masked reset after step {step} {of}", None, returned)


def _reset(env: Any, seed: Any, options: dict[str, Any] | None = None) -> dict[str, Any]:
    observation, info = env.reset(seed=seed, options=options)
    return {"observation": observation, "info": info}


def _step(env: Any, action: Any, where: str, before: _Before | None = None) -> _Moment:
    if before:
        before(env, where)
    names = ("observation", "reward", "terminated", "truncated", "info")
    return _Moment(where, action, dict(zip(names, env.step(action), strict=True)))


def _check_end(step: int, episode: str) -> None:
    if step == _LONGEST:
        raise CheckFailed(
            f"{episode} has not ended within {_LONGEST:,} steps: truncate it at a horizon, such as "
            "max_episode_steps of gymnasium.register()."
        )


def _copied(moments: Iterable[_Moment]) -> _Moments:
    """Moments as they were when they were returned."""
    for moment in moments:
        yield moment._replace(returned=copy.deepcopy(moment.returned))


def _overwritten(moments: Iterable[_Moment]) -> _Moments:
    """Moments as they were returned, each of which is overwritten before the next one."""
    for moment in moments:
        yield moment._replace(returned=copy.deepcopy(moment.returned))
        for value in (*moment.returned.values(), moment.action):
            overwrite(value)


# ----------------------------------------------------------------------- how results are compared


def _parting(ones: Iterable[_Moment], others: Iterable[_Moment]) -> str | None:
    """Where two runs part, and how; None where they do not."""
    for one, other in zip(ones, others, strict=False):
        if apart := difference(one.returned, other.returned):
            return f"{one.where}: {apart}"
    return None


def _check_fresh(moments: Iterable[_Moment]) -> None:
    known = [(moment, copy.deepcopy(moment.returned)) for moment in moments]
    recent: list[list[tuple[str, Any]]] = []
    for moment, then in known:
        if changed := difference(then, moment.returned):
            raise CheckFailed(
                f"What {moment.where} returned has changed since (what was {changed} now): return "
                "new arrays and dictionaries each time, not a buffer that is filled again."
            )
        recent = [*recent[-3:], []]
        for name, value in _owning(moment.returned):
            for before, other in (pair for some in recent for pair in some):
                if value is other or _share(value, other):
                    raise CheckFailed(
                        f"At {moment.where}, {name} shares memory with {before} of this or an "
                        "earlier result: return new arrays and dictionaries each time."
                    )
            recent[-1].append((name, value))


def _share(one: Any, other: Any) -> bool:
    both = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
    return both and np.shares_memory(one, other)


def _owning(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays, dictionaries and lists in a value; the outermost has no name and is none."""
    if name and isinstance(value, np.ndarray | dict | list):
        yield name, value
    if isinstance(value, dict):
        parts = list(value.items())
    else:
        nested = isinstance(value, tuple | list) or (
            isinstance(value, np.ndarray) and value.dtype == object
        )
        parts = list(enumerate(value)) if nested else []
    for key, part in parts:
        yield from _owning(part, f"{name}/{key}".lstrip("/"))


# ---------------------------------------------- of single environments, and some also of batches


def _gymnasium_finds_no_fault(make: _Make, play: _Play) -> None:
    """Gymnasium's own check_env passes, without a warning."""
    env = make().unwrapped
    registered = env.spec is not None
    try:
        try:
            _ask_gymnasium(env, registered)
        except AssertionError as problem:
            if "truncates after 1 step" not in str(problem):
                raise
            # A session may be that short. All but the determinism of steps, which we check anyhow:
            env.spec = copy.deepcopy(env.spec) or EnvSpec("Unregistered-v0")
            env.spec.nondeterministic = True
            _ask_gymnasium(env, registered)
    except Exception as problem:
        raise CheckFailed(
            f"Gymnasium's own check_env does not pass: {plain(problem)}."
        ) from problem


def _ask_gymnasium(env: Any, registered: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # which Gymnasium's are
        env_checker.check_env(
            env, skip_render_check=not registered, skip_close_check=not registered
        )


def _observations_are_in_their_space(make: _Make, play: _Play) -> None:
    """Every observation is in the observation space, with its dtype."""
    env = make()
    for moment in play(env):
        observation = moment.returned["observation"]
        for name, space, value in leaves(env.observation_space, observation, "observation"):
            numbers = isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary)
            array = isinstance(value, np.ndarray | np.generic)
            if numbers and not (array and value.dtype == space.dtype):
                raise CheckFailed(
                    f"The {name} at {moment.where} is {typed(value)}, where an array of "
                    f"{space.dtype} belongs: return the dtype of the space."
                )
            if value not in space:
                raise CheckFailed(
                    f"The {name} at {moment.where} is outside its space {short(space)}: "
                    f"{short(value)}; widen the space, or mend the observation."
                )


def _answers_are_plain(make: _Make, play: _Play) -> None:
    """A reward is a finite float, terminated and truncated are bools, and never both true."""
    for seed in range(_MANY):
        for moment in islice(play(make(), seed, 1, policy=seed), 1, None):
            _, reward, *flags, _ = moment.returned.values()
            if not isinstance(reward, float) or not math.isfinite(reward):
                raise CheckFailed(
                    f"The reward at {moment.where} is {typed(reward)}: return a finite float."
                )
            if not all(isinstance(flag, bool) for flag in flags):
                raise CheckFailed(
                    f"At {moment.where}, terminated is {typed(flags[0])} and truncated "
                    f"{typed(flags[1])}: return bool(…) of each."
                )
            if all(flags):
                raise CheckFailed(
                    f"At {moment.where}, the episode is both terminated and truncated: a horizon "
                    "truncates it, unless the session ended by itself in the same step."
                )


def _infos_can_be_stacked(make: _Make, play: _Play) -> None:
    """Infos have the same keys, types and shapes in every reset and step, and can be stacked."""
    first: dict[str, str] | None = None
    for moment in play(make()):
        kinds = dict(_kinds(moment.returned["info"], moment.where, "info"))
        first = kinds if first is None else first
        if found := kinds.keys() ^ first.keys():
            raise CheckFailed(
                f"The info at {moment.where} has other keys than the first one, "
                f"{printable(', '.join(sorted(found)))}: give every key in every reset and step, "
                "with a value that says that nothing is known."
            )
        for key, kind in kinds.items():
            if kind != first[key]:
                raise CheckFailed(
                    f"The {printable(key)} at {moment.where} is {kind}, and was {first[key]} at "
                    "first: keep types and shapes."
                )


def _kinds(info: Any, where: str, name: str) -> Iterator[tuple[str, str]]:
    """Type and shape of each value in an info."""
    for key, value in info.items():
        path = f"{name}/{key}"
        if isinstance(value, dict):
            yield from _kinds(value, where, path)
        elif isinstance(value, bool | int | float | str | np.generic):
            yield path, type(value).__name__
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            yield path, f"{value.dtype} of shape {value.shape}"
        else:
            advice = "leave out what is no number, text or array of numbers, above all live objects"
            if isinstance(value, list | tuple | set):
                advice = "give one JSON string, or an array of one shape"
            raise CheckFailed(
                f"The {printable(path)} at {where} is the {type(value).__name__} {short(value)}, "
                f"which Minari cannot stack: {advice}."
            )


def _results_are_fresh(make: _Make, play: _Play) -> None:
    """What was returned never changes later, and no two results share memory."""
    _check_fresh(play(make()))


def _results_may_be_overwritten(make: _Make, play: _Play) -> None:
    """Who overwrites what was returned, or actions that were taken, changes nothing later."""
    if apart := _parting(play(make()), _overwritten(play(make()))):
        raise CheckFailed(
            f"Overwriting the arrays and infos that were returned, and actions that were taken, "
            f"changed what came later ({apart}): return copies, and keep copies."
        )


def _global_generators_are_left_alone(make: _Make, play: _Play) -> None:
    """Nothing draws from the generators of `random` and `numpy.random`, or seeds them."""
    with watched(GENERATORS) as touched:
        for _ in play(make()):
            pass
    for name in touched:
        raise CheckFailed(
            f"The environment draws from the global generator of {name}, or seeds it: draw "
            "from self.np_random, which reset(seed=…) seeds."
        )


def _a_seed_decides_everything(make: _Make, play: _Play) -> None:
    """The same seed gives the same episodes, again and in another instance."""
    env = make()
    known = list(_copied(play(env)))
    for which, again in (("the same", env), ("another", make())):
        if apart := _parting(known, play(again)):
            raise CheckFailed(
                f"Seed 0 was given again, to {which} environment, and it did not do the same "
                f"({apart}): let reset(seed=…) decide all that follows, by self.np_random."
            )


def _seeds_matter(make: _Make, play: _Play) -> None:
    """Other seeds give other episodes."""
    one, other, steps = make(), make(), 0
    for seed in count(1):  # until one differs: where sessions begin alike, few steps tell
        known = list(_copied(play(one, 0, 1, policy=seed)))
        if _parting(known, play(other, seed, 1, policy=seed)):
            return
        steps += len(known)
        if steps > _LONGEST:
            raise CheckFailed(
                f"Seeds 1 to {seed} all gave the episode of seed 0: use the seed of reset(), or "
                "say deterministic=True where nothing is random."
            )


def _seeds_do_not_matter(make: _Make, play: _Play) -> None:
    """All seeds give the same episodes, as is meant."""
    known = list(_copied(play(make())))
    for seed in range(1, _MANY):
        if apart := _parting(known, play(make(), seed)):
            raise CheckFailed(
                f"The environment is said to be deterministic, and seed {seed} does not do what "
                f"seed 0 does ({apart}): leave out deterministic=True."
            )


def _resets_go_on(make: _Make, play: _Play) -> None:
    """A reset without a seed goes on to other episodes."""
    one, other, steps = make(), make(), 0
    other.reset(seed=0)
    for resets in count(1):
        known = list(_copied(play(one, 0, 1, policy=resets)))
        if _parting(known, play(other, None, 1, policy=resets)):
            return
        steps += len(known)
        if steps > _LONGEST:
            raise CheckFailed(
                f"After reset(seed=0), {resets} resets without a seed gave its episode again and "
                "again: such a reset goes on with self.np_random, and seeds nothing."
            )


def _instances_share_nothing(make: _Make, play: _Play) -> None:
    """Two instances that are used in turn do what each does alone."""
    known = list(_copied(play(make())))
    mixed = zip_longest(_copied(play(make())), play(make(), 1))
    if apart := _parting(known, (mine for mine, _ in mixed if mine)):
        raise CheckFailed(
            f"An environment went on otherwise when another one was used in between ({apart}): "
            "keep all state in the instance, not in its class, its module or a default argument."
        )


def _the_last_observation_is_of_its_own_session(make: _Make, play: _Play) -> None:
    """The last observation of an episode is of the session that ended, not of the next one."""
    alike: dict[tuple[str, bool], list[bool]] = {}
    for seed in range(_MANY):
        *before, last = _copied(play(make(), seed, 1, policy=seed))
        observation = last.returned["observation"]
        actions = [moment.action for moment in (*before[1:], last)]
        for how, first in _next_firsts(make, seed, actions).items():
            if difference(first, before[-1].returned["observation"]):  # else it cannot tell
                same = not difference(first, observation)
                alike.setdefault((how, last.returned["terminated"]), []).append(same)
    for found in alike.values():
        if len(found) >= _ENOUGH and all(found):
            raise CheckFailed(
                "The last observation of an episode is the first one of the next session "
                f"({last.where}: {short(observation)}): return the observation of the session "
                "that ended, and begin the next one in reset()."
            )


def _next_firsts(make: _Make, seed: int, actions: list[Any]) -> dict[str, Any]:
    """What the next session may begin with, by how it was found out."""
    env, other = make(), make()
    env.reset(seed=seed)
    other.reset(seed=seed)
    for action in actions[:-1]:
        env.step(action)
    draws, resets = _overhear(env.unwrapped)
    env.step(actions[-1])
    found = {f"reset {place} in the last step": first for place, first in enumerate(resets)}
    found["another one's next reset"] = copy.deepcopy(other.reset()[0])
    last_first = draws[:-101:-1]
    found["its next reset"] = copy.deepcopy(env.reset()[0])
    for place, (name, state) in enumerate(last_first):
        vars(other.unwrapped)[name].bit_generator.state = state
        found[f"a reset before draw -{place}"] = copy.deepcopy(other.reset()[0])
    return found


def _overhear(env: Any) -> tuple[list[tuple[str, Any]], list[Any]]:
    """From now on: the state of its generators before each draw, and what its resets return."""
    draws: list[tuple[str, Any]] = []
    resets: list[Any] = []
    inner = env.reset

    def reset(**options: Any) -> Any:
        observation, info = inner(**options)
        resets.append(copy.deepcopy(observation))
        return observation, info

    for name, value in list(vars(env).items()):
        if isinstance(value, np.random.Generator):
            vars(env)[name] = _overheard(value, partial(_note, draws, name))
    vars(env)["reset"] = reset
    return draws, resets


def _note(draws: list[tuple[str, Any]], name: str, state: Any) -> None:
    draws.append((name, state))


def _overheard(generator: np.random.Generator, note: Callable[[Any], None]) -> np.random.Generator:
    class Overheard(np.random.Generator):
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_") and name != "bit_generator":
                note(self.bit_generator.state)
            return super().__getattribute__(name)

    return Overheard(generator.bit_generator)


def _a_horizon_truncates(make: _Make, play: _Play) -> None:
    """What terminates episodes is the session; a horizon truncates them."""
    lengths, terminated = set(), set()
    for seed in range(_MANY):
        *before, last = play(make(), seed, 1, policy=seed)
        lengths.add(len(before))
        terminated.add(last.returned["terminated"])
    if len(lengths) == 1 and lengths != {1} and terminated == {True}:
        raise CheckFailed(
            f"All of {_MANY} episodes are terminated after exactly {lengths.pop()} steps, as by a "
            "horizon: let it truncate, so that learners count on what would have followed; or say "
            "fixed_length=True where the task itself ends there."
        )


def _steps_outside_an_episode_are_refused(make: _Make, play: _Play) -> None:
    """A step before the first reset, or after the end of an episode, raises an error."""
    _check_begin(make())
    for seed in range(4):
        env = make()
        *_, last = play(env, seed, 1)
        if last.returned["truncated"] and env.spec and env.spec.max_episode_steps:
            continue  # by Gymnasium's own TimeLimit, which lets anyone go on
        if not refuses(env.step, last.action):
            raise CheckFailed(
                f"A step after the end of an episode was taken as any other (after {last.where}): "
                "raise gymnasium.error.ResetNeeded until the next reset()."
            )


def _check_begin(env: Any) -> None:
    if not refuses(env.step, copy.deepcopy(env.action_space).sample()):
        raise CheckFailed(
            "A step before the first reset was taken as any other: raise "
            "gymnasium.error.ResetNeeded."
        )


def _bad_actions_are_refused(make: _Make, play: _Play) -> None:
    """Actions outside the action space raise an error and change nothing."""
    known = list(_copied(islice(play(make()), 10)))
    for bad in _outside(make()):
        try:
            apart = _parting(known, play(make(), before=partial(_check_refusal, bad)))
        except CheckFailed:
            raise
        except Exception as problem:
            apart = f"{type(problem).__name__} was raised: {plain(problem)}"
        if apart:
            raise CheckFailed(
                f"The action {typed(bad)} was refused, and changed what came later ({apart}): "
                "look at an action before anything changes."
            )


def _check_refusal(bad: Any, env: Any, where: str) -> None:
    if not refuses(env.step, copy.deepcopy(bad)):
        raise CheckFailed(
            f"The action {typed(bad)} was taken before {where}, and is outside of "
            f"{short(env.action_space)}: raise an error, before anything changes."
        )


def _outside(env: Any) -> list[Any]:
    """What is no action of an environment, or of a batch."""
    space, action = env.action_space, copy.deepcopy(env.action_space).sample()
    if isinstance(space, spaces.Discrete):
        first, end = int(space.start), int(space.start + space.n)
        return [end, first - 1, math.nan, first + 0.5, [first]]
    if not isinstance(action, np.ndarray):
        return [None]
    bad = [action * math.nan, np.concatenate([np.atleast_1d(action)] * 2)]
    if isinstance(space, spaces.MultiDiscrete):
        for wrong in (space.start + space.nvec, space.start - 1):
            bad.append(np.where(np.arange(action.size) == action.size - 1, wrong, action))
        bad += [action + 0.5, action[:-1]]
    return bad


def _bad_seeds_are_refused(make: _Make, play: _Play) -> None:
    """A negative seed raises an error."""
    if not refuses(make().reset, seed=-1):
        raise CheckFailed(
            "reset(seed=-1) was taken as any other: begin with super().reset(seed=seed), which "
            "refuses it."
        )


def _copies_go_on_alone(make: _Make, play: _Play) -> None:
    """A copy in the middle of an episode, where one can be made, goes on the same and by itself."""
    episodes = [list(_copied(play(make(), seed, 1))) for seed in range(4)]
    seed = max(range(4), key=lambda seed: len(episodes[seed]))
    begin, *steps = episodes[seed]
    env = make()
    env.reset(seed=seed)
    for moment in steps[: len(steps) // 2]:
        env.step(moment.action)
    try:
        twin = copy.deepcopy(env)
    except Exception:  # a connection, say
        return
    for moment in steps[len(steps) // 2 :]:
        for name, which in (("copy", twin), ("original", env)):
            again = _step(which, moment.action, moment.where)
            if apart := _parting([moment], [again]):
                raise CheckFailed(
                    f"After copy.deepcopy() in the middle of an episode, the {name} went on "
                    f"otherwise ({apart}): hold no views of its own arrays, or write __deepcopy__."
                )


def _the_spec_makes_it_again(make: _Make, play: _Play) -> None:
    """gymnasium.make(env.spec) makes the same environment, also when the spec went through JSON."""
    spec = make().spec
    try:
        read = EnvSpec.from_json(spec.to_json())
    except Exception as problem:
        raise CheckFailed(
            f"The spec cannot be written as JSON ({plain(problem)}): register entry points as "
            "'package.module:Class', and take numbers, text and lists as keyword arguments."
        ) from None
    known = list(_copied(play(make())))
    for form, one in (("", spec), (" from JSON", read)):
        env: Any = gymnasium.make(one, disable_env_checker=True)
        if apart := _parting(known, play(env)):
            raise CheckFailed(
                f"gymnasium.make() of the spec{form} makes another environment ({apart}): let its "
                "keyword arguments decide all of it."
            )
        env.close()


def _the_layout_covers_the_observation(make: _Make, play: _Play) -> None:
    """The layout in the metadata, where one is named, covers the observation exactly."""
    env = make()
    check_layout(env.metadata, env.observation_space)


# --------------------------------------------------------------------------- of vector environments


def _spaces_are_batched(make: _Make, play: _Play) -> None:
    """Its spaces are the batched ones, and its metadata name the autoreset mode."""
    env, single = make(), make(native=False)
    for name in (
        "num_envs", "single_observation_space", "single_action_space",
        "observation_space", "action_space",
    ):  # fmt: skip
        _check_same(name, getattr(env, name), getattr(single, name))
    if _AutoresetMode:
        modes = (one.metadata.get("autoreset_mode") for one in (env, single))
        _check_same("metadata['autoreset_mode']", *modes)


def _check_same(name: str, mine: Any, theirs: Any) -> None:
    if mine != theirs:
        raise CheckFailed(
            f"The {name} of the vector environment is {short(mine)}, and that of single ones in "
            f"a batch {short(theirs)}: give it that."
        )


def _users_are_as_if_alone(make: _Make, play: _Play) -> None:
    """It does what as many single environments do: every value, dtype and mask is the same."""
    alone = map(_known, play(make(native=False)))
    if apart := _parting(map(_known, play(make())), alone):
        raise CheckFailed(
            f"In a batch users do not do what they do alone ({apart} alone): user i is what a "
            "single environment is with seed + i, to the value and to the type."
        )


def _known(moment: _Moment) -> _Moment:
    """A moment without the places of its infos that are no user's."""
    return moment._replace(returned=moment.returned | {"info": _unmasked(moment.returned["info"])})


def _unmasked(infos: dict[str, Any]) -> dict[str, Any]:
    known = {}
    for key, value in sorted(infos.items()):  # masks first
        mask = infos.get(f"_{key}")
        if isinstance(value, dict):
            value = _unmasked(value)
        elif isinstance(value, np.ndarray) and isinstance(mask, np.ndarray):
            value = value[mask]
        known[key] = value
    return known


def _steps_of_nobody_are_refused(make: _Make, play: _Play) -> None:
    """A step before the first reset raises an error, as does one for users who are to be reset."""
    _check_begin(make())
    env = make()
    if "DISABLED" not in str(env.metadata.get("autoreset_mode")):
        return
    for moment in islice(play(env), 1, None):
        if (moment.returned["terminated"] | moment.returned["truncated"]).any():
            break
    if not refuses(env.step, copy.deepcopy(env.action_space).sample()):
        raise CheckFailed(
            f"A step was taken after {moment.where}, when an episode was over: raise "
            "gymnasium.error.ResetNeeded until that is reset."
        )
