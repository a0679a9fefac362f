"""Users in batches: a vector does what as many single ones do; what is refused changes nothing."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorEnv
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recgym.envs import ORACLES
from recgym.envs.oracle import OracleEnv, OracleVectorEnv
from recgym.envs.replay import ReplayEnv, ReplayVectorEnv
from recgym.errors import InvalidArgument, NotReset
from recgym.home import log_path
from recgym.log import SPLITS

from ..sentences import said
from ..test_log import rewritten, split_logs, written

AUTORESET = vars(gymnasium.vector).get("AutoresetMode")  # since Gymnasium 1.1
MODES = ["NextStep", "SameStep", "Disabled"] if AUTORESET else ["NextStep"]
N_ITEMS = 6
SMALL = {
    "n_items": N_ITEMS, "n_topics": 2, "n_liked": 1, "fresh": 1, "liked": (0.8, 0.9), "steps": 6,
    "leaving": 0.1, "organic": 2, "history": 5,
}  # fmt: skip


def world_named(name):
    """The id of an environment, and the arguments that make it small."""
    if name in ORACLES:
        return f"recgym/{name}-v0", SMALL
    log = written(log_path("few"), [2, 4, 7, 3, 5, 4], n_items=N_ITEMS)
    splits, items = np.zeros(len(log), np.uint8), log.items.copy()
    splits[log.offsets[:-1]] = SPLITS.index("context")
    items[log.offsets[:-1]] = range(6)  # what was seen before the first step tells the session
    rewritten(log, splits=splits, items=items)
    return "recgym/Replay-v0", {
        "log": "few", "split": "train", "history": 5, "off_log": name, "attempts": 2,
    }  # fmt: skip


@pytest.fixture(params=[*ORACLES, "advance", "stop", "stay"])
def world(request):
    return world_named(request.param)


@pytest.fixture(params=["OracleBoredom", "advance"])
def kind(request):
    """An oracle, or a replay: their batches are the same."""
    return world_named(request.param)


def one(world, **more):
    name, arguments = world
    return gymnasium.make(name, **arguments | more)


def several(world, num_envs=3, **more):
    name, arguments = world
    return gymnasium.make_vec(name, num_envs=num_envs, **arguments | more)


def in_turn(world, num_envs=3, mode="NextStep", **more):
    """As many single environments, one after the other."""
    name, arguments = world
    how = {"vector_kwargs": {"autoreset_mode": mode}} if AUTORESET else {}
    return gymnasium.make_vec(
        name, num_envs=num_envs, vectorization_mode="sync", **how, **arguments | more
    )


def answers_of(env, seed=None, steps=25, actions=0):
    """All that an environment answers; a single one begins anew where an episode ends."""
    rng = np.random.default_rng(actions)
    many = isinstance(env, VectorEnv)
    answers = [] if seed is None else [env.reset(seed=seed)]
    for _ in range(steps):
        chosen = rng.integers(N_ITEMS, size=env.num_envs if many else None)
        answers.append(env.step(chosen))
        if not many and any(answers[-1][2:4]):
            answers.append(env.reset())
    return answers


def assert_goes_on(env, twin):
    """Both are in the middle of the same."""
    np.testing.assert_equal(answers_of(env), answers_of(twin))


def assert_alike(found, wanted):
    """What two vectors answer is equal, types included, and infos where their masks say so."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found[:-1], wanted[:-1], strict=True):
        assert_equal(ours, theirs)
    assert_infos(found[-1], wanted[-1])


def assert_equal(found, wanted):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_equal(found[key], wanted[key])
    else:
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(found, wanted)


def assert_infos(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        if key[0] == "_":
            np.testing.assert_array_equal(found[key], wanted[key], key, strict=True)
        elif isinstance(wanted[key], dict):
            assert_infos(found[key], wanted[key])
        elif wanted[key].dtype == object:
            for ours, theirs in zip(found[key], wanted[key], strict=True):
                assert (ours is None) == (theirs is None)
                if theirs is not None:
                    assert_equal(ours, theirs)
        else:
            mask = wanted[f"_{key}"]
            assert len(found[key]) == len(mask)
            assert_equal(found[key][mask], wanted[key][mask])


# ---------------------------------------------------------------------------- many, as if single


@st.composite
def worlds(draw):
    """The id of an environment, and any small parameters."""
    more = {
        "observation": draw(st.sampled_from(["flat", "dict"])),
        "history": draw(st.integers(1, 9)),
    }
    if draw(st.booleans()):
        log = draw(split_logs(log_path("random")))
        splits = [split for split in SPLITS[:3] if len(log.episodes(split)[0])]
        assume(splits)
        return "recgym/Replay-v0", more | {
            "log": "random",
            "split": draw(st.sampled_from(splits)),
            "off_log": draw(st.sampled_from(["advance", "stop", "stay"])),
            "attempts": draw(st.integers(1, 3)),
        }
    n_topics = draw(st.integers(1, 4))
    more |= {
        "n_topics": n_topics,
        "n_items": draw(st.integers(n_topics, 15)),
        "n_liked": draw(st.integers(0, n_topics)),
        "liked": (0.8, 1.0),
        "fresh": draw(st.integers(0, 4)),
        "within": draw(st.integers(1, 4)),
        "locked": draw(st.integers(0, 3)),
        "leaving": draw(st.sampled_from([0.0, 0.2])),
        "steps": draw(st.integers(1, 9)),
        "organic": draw(st.integers(0, 4)),
        "catalogue": draw(st.integers(0, 3)),
    }
    if draw(st.booleans()):
        more |= {"boring": draw(st.integers(1, 3)), "drift": draw(st.sampled_from([0.0, 0.5]))}
    return f"recgym/{draw(st.sampled_from(sorted(ORACLES)))}-v0", more


any_seed = st.none() | st.integers(0, 9) | st.sampled_from([2**63, 2**64 - 1, 2**64 + 5, 2**100])


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=settings().max_examples // 3)
@given(data=st.data(), world=worlds(), num_envs=st.integers(1, 4))
def test_a_vector_does_what_single_ones_do(mode, data, world, num_envs):
    ours, theirs = several(world, num_envs, autoreset_mode=mode), in_turn(world, num_envs, mode)
    for name in (
        "observation_space", "single_observation_space", "action_space", "single_action_space",
        "metadata", "num_envs", "render_mode",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name)
    several_seeds = st.lists(any_seed, min_size=num_envs, max_size=num_envs)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))

    def reset(seed, mask=None):
        options = {} if mask is None else {"reset_mask": mask}
        found = ours.reset(seed=seed, options=options or None)
        assert "reset_mask" in options or mask is None
        assert_alike(found, theirs.reset(seed=seed, options=options or None))
        assert found[0] in ours.observation_space

    reset(data.draw(st.integers(0, 2**64)))
    events = ["step"] * 12 + ["reset"] * 2 + ["reset some"] * 2 * bool(AUTORESET)
    for event in data.draw(st.lists(st.sampled_from(events), max_size=30)):
        if event == "reset":
            reset(data.draw(any_seed | several_seeds))
        elif event == "reset some":
            mask = rng.random(num_envs) < 0.5
            if mask.any():
                reset(data.draw(any_seed | several_seeds), mask)
        else:
            actions = rng.integers(ours.single_action_space.n, size=num_envs)
            found = ours.step(actions)
            assert_alike(found, theirs.step(actions))
            assert found[0] in ours.observation_space
            over = found[2] | found[3]
            if mode == "Disabled" and over.any():
                reset(data.draw(any_seed), over)


def test_processes_of_their_own_do_the_same():
    name, arguments = world_named("OracleBoredom")
    theirs = gymnasium.make_vec(
        name,
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        **arguments,
    )
    try:
        wanted = answers_of(theirs, seed=5)
    finally:
        theirs.close()
    for found, one_wanted in zip(
        answers_of(several((name, arguments), 2), seed=5), wanted, strict=True
    ):
        assert_alike(found, one_wanted)


def test_a_single_one_answers_in_plain_types(world):
    env = one(world)
    for _, *answer, info in answers_of(env, seed=0):
        assert [type(value) for value in answer] in ([], [float, bool, bool])
        assert {type(value) for value in info.values()} <= {bool, int, float}
    keys = {tuple(info) for *_, info in answers_of(env, seed=0)}
    assert len(keys) == 1  # the same in reset and every step


@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_gymnasium_finds_no_fault(world, observation):
    env = one(world, observation=observation)
    if "Replay" in world[0]:  # to Gymnasium, an episode that is truncated at once is a fault
        env.action_space.seed(123)
        log = written(log_path("few"), [4] * 9, n_items=N_ITEMS)
        rewritten(log, items=np.full(len(log), env.action_space.sample(), np.int32))
        env = one(world, observation=observation)
    check_env(env)


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_a_dict_holds_the_parts_that_the_layout_names(world, many):
    make = several if many else one
    flat, parts = make(world), make(world, observation="dict")
    layout = flat.metadata["layout"]
    assert parts.metadata["layout"] == layout
    assert type(flat).metadata.keys() == {"render_modes", "render_fps"}
    for found, wanted in zip(answers_of(parts, seed=3), answers_of(flat, seed=3), strict=True):
        assert found[0].keys() == layout.keys() and found[0] in parts.observation_space
        for name, (first, end) in layout.items():
            assert_equal(found[0][name], wanted[0][..., first:end])
        np.testing.assert_equal(found[1:], wanted[1:])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_what_was_given_out_belongs_to_whom_it_was_given(world, mode, observation):
    def arrays(tree):
        if isinstance(tree, np.ndarray) and tree.dtype != object:
            yield tree
        elif isinstance(tree, dict | tuple | np.ndarray):
            for branch in tree.values() if isinstance(tree, dict) else tree:
                yield from arrays(branch)

    env, twin = (several(world, observation=observation, autoreset_mode=mode) for _ in range(2))
    kept = []
    rng = np.random.default_rng(0)
    for step in range(20):
        if step % 8 == 0:
            answer, intact = env.reset(seed=step), twin.reset(seed=step)
        else:
            actions = rng.integers(N_ITEMS, size=3)
            intact = twin.step(actions.copy())
            answer = env.step(actions)
            actions[:] = 0
        np.testing.assert_equal([a.tolist() for a in arrays(answer)],
                                [a.tolist() for a in arrays(intact)])  # fmt: skip
        kept.append((intact, [a.tolist() for a in arrays(intact)]))
        found = list(arrays(answer))
        for place, array in enumerate(found):
            assert not any(np.shares_memory(array, other) for other in found[:place])
            array[...] = 1
        if mode == "Disabled" and step % 8 and (intact[2] | intact[3]).any():
            over = intact[2] | intact[3]
            env.reset(options={"reset_mask": over}), twin.reset(options={"reset_mask": over})
    for intact, values in kept:
        np.testing.assert_equal([array.tolist() for array in arrays(intact)], values)


@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_what_a_single_one_gives_out_is_fresh(world, observation):
    env, twin = (one(world, observation=observation) for _ in range(2))
    env.reset(seed=0), twin.reset(seed=0)
    kept = []
    for action in np.random.default_rng(0).integers(N_ITEMS, size=25).tolist():
        (seen, *answer), wanted = env.step(action), twin.step(action)
        np.testing.assert_equal((seen, *answer), wanted)
        for part in seen.values() if observation == "dict" else [seen]:
            part[...] = 1
        kept.append((wanted[0], copy.deepcopy(wanted[0])))
        if any(wanted[2:4]):
            np.testing.assert_equal(env.reset(), twin.reset())
    for seen, before in kept:
        np.testing.assert_equal(seen, before)


# ----------------------------------------------------------------------- where an episode ends


def test_the_next_step_begins_the_next_episode(world):
    env = several(world)
    alone = [one(world) for _ in range(3)]
    env.reset(seed=4), [single.reset(seed=4 + user) for user, single in enumerate(alone)]
    over = np.zeros(3, bool)
    for actions in np.random.default_rng(0).integers(N_ITEMS, size=(40, 3)):
        observations, rewards, ends, stops, _ = env.step(actions)
        for user, single in enumerate(alone):
            if over[user]:
                assert (observations[user] == single.reset()[0]).all()
                assert (rewards[user], ends[user], stops[user]) == (0, False, False)
            else:
                seen, *answer, _ = single.step(actions[user])
                assert (observations[user] == seen).all()
                assert [rewards[user], ends[user], stops[user]] == answer
        over = ends | stops


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_an_autoreset_mode_is_a_name_or_gymnasiums(kind, mode):
    if AUTORESET is None:
        if mode == "NextStep":
            assert "autoreset_mode" not in several(kind, autoreset_mode=mode).metadata
            return
        with pytest.raises(InvalidArgument, match=f"{mode} needs Gymnasium 1.1") as problem:
            several(kind, autoreset_mode=mode)
        assert said(problem)
        return
    named, given_one = (several(kind, autoreset_mode=m) for m in (mode, AUTORESET(mode)))
    assert named.metadata["autoreset_mode"] is given_one.metadata["autoreset_mode"]
    assert named.metadata["autoreset_mode"] is AUTORESET(mode)
    assert several(kind).metadata["autoreset_mode"] is AUTORESET.NEXT_STEP
    if mode != "Disabled":
        np.testing.assert_equal(
            [answer[:4] for answer in answers_of(named, seed=0)],
            [answer[:4] for answer in answers_of(given_one, seed=0)],
        )


def test_the_same_step_keeps_what_was_last_seen(kind):
    if AUTORESET is None:
        assert MODES == ["NextStep"]
        return
    env = several(kind, autoreset_mode="SameStep")
    alone = [one(kind) for _ in range(3)]
    env.reset(seed=4), [single.reset(seed=4 + user) for user, single in enumerate(alone)]
    ended = 0
    for actions in np.random.default_rng(0).integers(N_ITEMS, size=(40, 3)):
        observations, _, ends, stops, infos = env.step(actions)
        over = ends | stops
        assert ("final_obs" in infos) == over.any()
        for user, single in enumerate(alone):
            seen, *_, info = single.step(actions[user])
            if over[user]:
                ended += 1
                assert (infos["final_obs"][user] == seen).all()
                assert {key: infos["final_info"][key][user] for key in info} == info
                seen, _ = single.reset()
            assert (observations[user] == seen).all()
        if over.any():
            for mask in ("_final_obs", "_final_info"):
                assert infos[mask].tolist() == over.tolist()
            assert infos["final_info"]["_behaviour"].tolist() == over.tolist()
    assert ended > 10


# --------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_a_seed_decides_this_episode_and_the_next_ones(world, many):
    def begun(seed, actions):
        env = (several if many else one)(world)
        seen = [env.reset(seed=seed)[0].tolist()]
        for action in actions:  # whatever was done meanwhile
            env.step(np.full(3, action) if many else action)
            seen.append(env.reset()[0].tolist())
        return seen

    episodes = begun(5, [0] * 20)
    assert episodes == begun(5, [1, 2] * 10) != begun(6, [0] * 20)
    assert len(set(map(str, episodes))) > 3


def test_a_user_of_a_list_of_seeds_is_that_of_its_seed(world):
    env = several(world)
    env.reset(seed=[7, 2**64 - 1, 7])
    env.reset(seed=[None, 3, None])  # the second begins anew, the others go on
    found = answers_of(env)
    for user, (seed, before) in enumerate([(7, 1), (3, 0), (7, 1)]):
        single = one(world)
        single.reset(seed=seed)
        for _ in range(before):
            single.reset()
        over = False
        for actions, answer in zip(
            np.random.default_rng(0).integers(N_ITEMS, size=(25, 3)), found, strict=True
        ):
            wanted = (single.reset()[0], 0, False, False) if over else single.step(actions[user])
            np.testing.assert_equal(tuple(part[user] for part in answer[:4]), wanted[:4])
            over = any(wanted[2:4])


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_without_a_seed_everyone_is_another_and_the_seed_is_told(many):
    name = "recgym/OracleStatic-v0"
    make = gymnasium.make_vec if many else gymnasium.make
    first, second = make(name), make(name)
    seen, others = first.reset()[0], second.reset()[0]
    assert (seen != others).any()
    again = make(name)
    assert (again.reset(seed=first.np_random_seed)[0] == seen).all()
    assert (first.reset()[0] == again.reset()[0]).all()
    assert (first.reset()[0] != seen).any()


def test_users_without_seeds_differ():
    env = gymnasium.make_vec("recgym/OracleStatic-v0", num_envs=50)
    for seeds in (None, [None] * 50, [1] + [None] * 49):
        observations, _ = env.reset(seed=seeds)
        assert len(np.unique(observations, axis=0)) == 50
    fresh = gymnasium.make_vec("recgym/OracleStatic-v0", num_envs=50)
    observations, _ = fresh.reset(seed=[1] + [None] * 49)
    assert len(np.unique(observations, axis=0)) == 50


@pytest.mark.parametrize("kind_of_number", [np.int64, np.int32, np.uint8, np.uint64])
def test_numpys_whole_numbers_are_seeds(kind, kind_of_number):
    single, many = one(kind), several(kind)
    seen, others = single.reset(seed=3)[0], many.reset(seed=[3, 1, 2])[0]
    assert (single.reset(seed=kind_of_number(3))[0] == seen).all()
    assert (many.reset(seed=list(map(kind_of_number, [3, 1, 2])))[0] == others).all()
    assert (many.reset(seed=np.array([3, 1, 2], kind_of_number))[0] == others).all()
    others = many.reset(seed=3)[0]
    assert (many.reset(seed=kind_of_number(3))[0] == others).all()


# ---------------------------------------------------------------------------- copies and specs


def running(world, many, observation):
    """An environment that has come as far as those that are copied."""
    env = (several if many else one)(world, observation=observation)
    answers_of(env, seed=3, steps=7)
    return env


@pytest.mark.parametrize("observation", ["flat", "dict"])
@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
@pytest.mark.parametrize("way", ["copied", "pickled"])
def test_a_copy_goes_on_by_itself(world, way, many, observation):
    env = running(world, many, observation)
    other, idle = (
        copy.deepcopy(env) if way == "copied" else pickle.loads(pickle.dumps(env)) for _ in range(2)
    )
    answers_of(other, steps=4, actions=9)  # does not touch the first
    for going in (env, idle):
        assert_goes_on(going, running(world, many, observation))


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_a_spec_goes_through_json(world, many):
    more = {"observation": "dict", "render_mode": "ansi"}
    env = (several if many else one)(world, **more)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert spec.id == world[0]
    again = (gymnasium.make_vec if many else gymnasium.make)(spec)
    assert again.observation_space == env.observation_space and again.render_mode == "ansi"
    np.testing.assert_equal(answers_of(again, seed=1), answers_of(env, seed=1))
    assert again.render() == env.render()


# -------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize("mode", MODES)
def test_many_are_rendered_as_single_ones_are(world, mode):
    ours = several(world, render_mode="ansi", autoreset_mode=mode)
    theirs = in_turn(world, 3, mode, render_mode="ansi")
    assert ours.reset(seed=2) and theirs.reset(seed=2)
    assert ours.render() == theirs.render() and len(ours.render()) == 3
    for actions in np.random.default_rng(0).integers(N_ITEMS, size=(30, 3)):
        _, _, ends, stops, _ = ours.step(actions)
        theirs.step(actions)
        assert ours.render() == theirs.render()
        over = ends | stops
        if mode == "Disabled" and over.any():
            for env in (ours, theirs):
                env.reset(options={"reset_mask": over})
            assert ours.render() == theirs.render()
    assert all(text.startswith("before: ") for text in ours.render())


def test_a_session_is_a_line_for_what_came_before_and_one_for_each_step(world):
    env = one(world, render_mode="ansi")
    for seed in range(5):
        env.reset(seed=seed)
        lines, over = [env.render()], False
        assert len(lines[0].splitlines()) == 1
        while not over:
            _, reward, ends, stops, _ = env.step(seed % N_ITEMS)
            over = ends or stops
            *before, line = env.render().splitlines()
            assert before == lines and line.endswith(f" {reward:+.2f}")
            assert int(line.split()[0]) == len(lines)
            lines.append(line)


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_nothing_is_rendered_unasked(kind, many):
    env = (several if many else one)(kind)
    env.reset(seed=0)
    assert env.render() is None


# ------------------------------------------------------------------------ in Gymnasium's hands


def test_gymnasium_counts_episodes(world):
    env = wrappers.RecordEpisodeStatistics(one(world))
    total, length = 0.0, 0
    for _, *answer, info in answers_of(env, seed=0, steps=40):
        if answer:
            total, length = total + answer[0], length + 1
            assert ("episode" in info) == any(answer[1:])
            if "episode" in info:
                assert info["episode"]["r"] == pytest.approx(total, abs=1e-5)
                assert info["episode"]["l"] == length
                total, length = 0.0, 0
    many = wrappers.vector.RecordEpisodeStatistics(several(world))
    totals, lengths, over = np.zeros(3), np.zeros(3, int), np.zeros(3, bool)
    for _, rewards, ends, stops, infos in answers_of(many, seed=0, steps=40)[1:]:
        totals, lengths = np.where(over, 0, totals + rewards), np.where(over, 0, lengths + 1)
        over = ends | stops
        assert ("episode" in infos) == over.any()
        if over.any():
            assert infos["_episode"].tolist() == over.tolist()
            assert infos["episode"]["r"][over] == pytest.approx(totals[over], abs=1e-5)
            assert infos["episode"]["l"][over].tolist() == lengths[over].tolist()


def test_gymnasium_flattens_a_dict_to_what_is_flat(world):
    flat, parts = one(world), wrappers.FlattenObservation(one(world, observation="dict"))
    assert parts.observation_space.shape == flat.observation_space.shape
    for found, wanted in zip(answers_of(parts, seed=1), answers_of(flat, seed=1), strict=True):
        assert (found[0] == wanted[0]).all() and found[0] in parts.observation_space


def test_gymnasium_limits_the_steps(kind):
    limited = one(kind, max_episode_steps=2)
    assert limited.spec.max_episode_steps == 2
    free = one(kind)
    for seed in range(20):
        limited.reset(seed=seed), free.reset(seed=seed)
        for step in (1, 2):
            seen, reward, ends, stops, info = limited.step(step)
            wanted = free.step(step)
            assert (seen == wanted[0]).all() and (reward, ends, info) == (*wanted[1:3], wanted[4])
            assert stops == (wanted[3] or step == 2)
            if ends or stops:
                break


# ------------------------------------------------------------------------------- what is refused


NO_ACTIONS = [
    -1, N_ITEMS, 2**63, 10**30, 1.0, np.float64(1), float("nan"), float("inf"), None, "1", b"1",
    [1], [0, 1], (1,), {}, 1j, np.array([1]), np.array(1.0), np.array("1"), object(),
    np.array([[0, 1]]), "x" * 1000, "\n",
]  # fmt: skip


@pytest.mark.parametrize("action", NO_ACTIONS, ids=lambda action: repr(action)[:20])
def test_what_is_no_item_is_refused(kind, action):
    env, twin = one(kind, render_mode="ansi"), one(kind, render_mode="ansi")
    env.reset(seed=6), twin.reset(seed=6)
    for _ in range(2):
        with pytest.raises(
            InvalidArgument, match="one item, a whole number from 0 to 5"
        ) as problem:
            env.step(action)
        assert "nothing was changed" in said(problem)
    assert env.render() == twin.render()
    assert_goes_on(env, twin)


NOT_ACTIONS = [
    0, [0], [0] * 4, [[0]] * 3, [[0, 1, 2]], [[0], [0, 1], 2], [[0, 1]] * 3, [], None, "012",
    [0.0] * 3, [float("nan")] * 3, [None] * 3, ["0"] * 3, [True] * 3, [0, 1, "2"], [0, 1, None],
    [-1, 0, 0], [0, 0, N_ITEMS], [0, 2**63, 0], [0, 0, 2**70], np.full(3, 2**64 - 1, np.uint64),
    np.zeros(3, "datetime64[s]"), np.zeros(3, object), {0, 1, 2}, {0: 0, 1: 1, 2: 2},
]  # fmt: skip


@pytest.mark.parametrize("actions", NOT_ACTIONS, ids=lambda actions: repr(actions)[:20])
def test_what_is_not_an_item_for_each_is_refused(kind, actions):
    env, twin = several(kind, render_mode="ansi"), several(kind, render_mode="ansi")
    env.reset(seed=6), twin.reset(seed=6)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="one item for each of 3|from 0 to 5") as problem:
            env.step(actions)
        assert "nothing was changed" in said(problem)
    assert env.render() == twin.render()
    assert_goes_on(env, twin)


def test_whole_numbers_of_any_kind_are_items(kind):
    for action in (2, np.int64(2), np.int32(2), np.uint8(2), np.uint64(2), np.array(2)):
        single, twin = one(kind), one(kind)
        single.reset(seed=1), twin.reset(seed=1)
        np.testing.assert_equal(single.step(action), twin.step(2))
    wanted = several(kind)
    wanted.reset(seed=1)
    wanted = wanted.step(np.array([2, 0, 5]))
    kinds = [np.int64, np.int32, np.int16, np.uint8, np.uint64, ">i8", ">u4"]
    arrays = [np.array([2, 0, 5], number) for number in kinds]
    apart = np.array([2, 9, 0, 9, 5, 9])[::2]
    for actions in ([2, 0, 5], (2, 0, 5), [np.int64(2), 0, np.array(5)], apart, *arrays):
        env = several(kind)
        env.reset(seed=1)
        np.testing.assert_equal(env.step(actions), wanted)


NO_RESETS = [
    {"seed": -1}, {"seed": 1.5}, {"seed": "3"}, {"seed": float("nan")}, {"seed": {}},
    {"options": {"episodes": 1}}, {"seed": 8, "options": {"episodes": 1}},
    {"seed": 8, "options": {"resetmask": 1}}, {"seed": 8, "options": {3: 4}},
    {"seed": 8, "options": {"a\nb": 1}},
]  # fmt: skip
NO_RESETS_OF_ONE = [
    {"seed": [1]},
    {"seed": np.array([1])},
    {"seed": 8, "options": {"reset_mask": 1}},
]
NO_RESETS_OF_THREE = [
    {"seed": [1, 2]}, {"seed": []}, {"seed": [1, 2, -3]}, {"seed": [1, 2, 0.5]}, {"seed": "123"},
    {"seed": ["1", "2", "3"]}, {"seed": np.ones(3)}, {"seed": np.ones((3, 3), int)},
    {"seed": np.array(3.0)},
]  # fmt: skip
NO_MASKS = [
    [True], [True] * 4, [False] * 3, [0, 1, 0], [0.0, 1.0, 1.0], ["a", "b", "c"], [[True] * 3],
    [[True], [True, False], True], True, "all", [None] * 3, np.zeros((3, 0), bool), {},
]  # fmt: skip


def assert_refuses_the_reset(make, resets):
    """One sentence for each, and what runs goes on, seeds included."""
    for arguments in resets:
        env, twin = make(), make()
        with pytest.raises(InvalidArgument) as problem:
            env.reset(**arguments)
        assert said(problem)
        with pytest.raises(NotReset, match="has not begun"):
            env.step([0] * 3 if isinstance(env, VectorEnv) else 0)
        env.reset(seed=6), twin.reset(seed=6)
        with pytest.raises(InvalidArgument):
            env.reset(**arguments)
        assert env.render() == twin.render()
        assert_goes_on(env, twin)


def key(arguments):
    return repr(arguments)[:50]


@pytest.mark.parametrize("reset", NO_RESETS + NO_RESETS_OF_ONE, ids=key)
def test_a_refused_reset_leaves_a_single_one_as_it_was(kind, reset):
    assert_refuses_the_reset(lambda: one(kind, render_mode="ansi"), [reset])


@pytest.mark.parametrize("reset", NO_RESETS + NO_RESETS_OF_THREE, ids=key)
def test_a_refused_reset_leaves_a_vector_as_it_was(kind, reset):
    assert_refuses_the_reset(lambda: several(kind, render_mode="ansi"), [reset])


@pytest.mark.parametrize("mask", NO_MASKS, ids=key)
def test_a_mask_that_marks_no_users_is_refused(kind, mask):
    resets = [{"options": {"reset_mask": mask}}, {"seed": 8, "options": {"reset_mask": mask}}]
    assert_refuses_the_reset(lambda: several(kind, render_mode="ansi"), resets)


def test_a_mask_resets_those_that_it_marks(world):
    env, twin = several(world), several(world)
    env.reset(seed=6), twin.reset(seed=6)
    options = {"reset_mask": [True, False, True]}
    seen, infos = env.reset(options=options)
    assert options == {"reset_mask": [True, False, True]}
    assert all(infos[key].tolist() == options["reset_mask"] for key in infos if key[0] == "_")
    assert (seen[1] == twin.reset(seed=[None, 7, None])[0][1]).all()  # the same, begun anew
    np.testing.assert_equal([a[0] for a in answers_of(env)], [a[0] for a in answers_of(twin)])
    begun = several(world)
    begun.reset(options={"reset_mask": np.array([True, True, False])})
    with pytest.raises(NotReset, match="has not begun"):
        begun.step([0] * 3)
    begun.reset(options={"reset_mask": np.array([False, False, True])})
    begun.step([0] * 3)


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
def test_a_step_before_the_first_episode_is_refused(world, many):
    env = (several if many else one)(world)
    for actions in ([0] * 3 if many else 0, "nonsense"):
        with pytest.raises(NotReset, match="has not begun: call reset") as problem:
            env.step(actions)
        assert said(problem)
        assert isinstance(problem.value, gymnasium.error.ResetNeeded)
    twin = (several if many else one)(world)
    env.reset(seed=1), twin.reset(seed=1)
    assert_goes_on(env, twin)


def test_a_step_after_the_last_one_is_refused(world):
    env, twin = one(world), one(world)
    over = False
    for running in (env, twin):
        running.reset(seed=1)
    while not over:
        answer, _ = env.step(0), twin.step(0)
        over = any(answer[2:4])
    for action in (0, 1, "nonsense"):
        with pytest.raises(NotReset, match="is over: call reset") as problem:
            env.step(action)
        assert said(problem)
    np.testing.assert_equal(env.reset(), twin.reset())
    assert_goes_on(env, twin)


def test_without_autoreset_a_step_after_the_last_one_is_refused(world):
    if AUTORESET is None:
        assert MODES == ["NextStep"]
        return
    env, twin = (several(world, autoreset_mode="Disabled") for _ in range(2))
    over = np.zeros(3, bool)
    for running in (env, twin):
        running.reset(seed=1)
    while not over.any():
        answer, _ = env.step([0] * 3), twin.step([0] * 3)
        over = answer[2] | answer[3]
    for _ in range(2):
        with pytest.raises(NotReset, match="is over: call reset") as problem:
            env.step([0] * 3)
        assert said(problem)
    options = {"reset_mask": over}
    np.testing.assert_equal(env.reset(options=options), twin.reset(options=dict(options)))
    np.testing.assert_equal(env.step([1] * 3), twin.step([1] * 3))


CLASSES = {"oracle": (OracleEnv, OracleVectorEnv), "replay": (ReplayEnv, ReplayVectorEnv)}


@pytest.mark.parametrize("num_envs", [0, -1, 2.0, "3", None, [3], float("nan")])
def test_a_number_of_users_that_is_none_is_refused(kind, num_envs):
    made = OracleVectorEnv if "Oracle" in kind[0] else ReplayVectorEnv
    with pytest.raises(InvalidArgument, match="num_envs is a whole number from 1 on") as problem:
        made(num_envs, **kind[1])
    assert repr(num_envs) in said(problem)
    assert made(np.int64(2), **kind[1]).num_envs == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"render_mode": "human"}, "render modes are ansi, not 'human'"),
        ({"render_mode": 3}, "render modes are ansi, not 3"),
        ({"observation": "list"}, "flat or dict, not 'list'"),
        ({"observation": None}, "flat or dict, not None"),
        ({"observation": ["flat"]}, "flat or dict"),
        ({"observation": "x\n" * 500}, "flat or dict"),
    ],
    ids=key,
)
def test_a_form_that_there_is_not_is_refused(kind, wrong, says):
    for made in CLASSES["oracle" if "Oracle" in kind[0] else "replay"]:
        with pytest.raises(InvalidArgument, match=says) as problem:
            made(**kind[1] | wrong)
        assert said(problem)


@pytest.mark.parametrize("mode", ["next_step", "NEXT_STEP", "", None, 1, ["NextStep"], object()])
def test_an_autoreset_mode_that_there_is_not_is_refused(kind, mode):
    with pytest.raises(InvalidArgument, match="is NextStep, SameStep, Disabled, not") as problem:
        several(kind, autoreset_mode=mode)
    assert said(problem)


@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
@pytest.mark.parametrize(
    ("name", "wrong", "meant"),
    [
        ("OracleStatic", "n_item", "n_items"),
        ("OracleBoredom", "borring", "boring"),
        ("OracleDrift", "drifts", "drift"),
        ("OracleDrift", "observations", "observation"),
        ("OracleDrift", "log", None),
        ("advance", "off_logs", "off_log"),
        ("stop", "histroy", "history"),
        ("stay", "attempt", "attempts"),
        ("stay", "observations", "observation"),
        ("stay", "n_topics", None),
    ],
)
def test_an_argument_that_there_is_not_is_refused(name, wrong, meant, many):
    with pytest.raises(InvalidArgument, match=f"takes no argument {wrong}") as problem:
        (several if many else one)(world_named(name), **{wrong: 1})
    assert (f"Did you mean {meant}?" in said(problem)) == (meant is not None)


def test_a_mode_of_batches_is_refused_by_single_environments(world):
    with pytest.raises(InvalidArgument, match="takes no argument autoreset_mode") as problem:
        one(world, autoreset_mode="NextStep")
    said(problem)


@pytest.mark.parametrize("data", ["Demo", "MovieLens1M", "OpenBanditBTS"])
def test_replays_of_a_source_refuse_the_same(data):
    with pytest.raises(InvalidArgument, match="Did you mean history?") as problem:
        gymnasium.make(f"recgym/{data}Replay-v0", histroy=3)
    assert said(problem)


def test_a_reset_option_that_there_is_not_is_refused_by_name(world):
    for env in (one(world), several(world)):
        with pytest.raises(InvalidArgument, match="takes no argument epsode") as problem:
            env.reset(options={"epsode": 1})
        assert ("Did you mean episode?" in said(problem)) == ("Replay" in world[0])
