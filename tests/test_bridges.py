"""The road to d3rlpy: every transition recounted against the log, and d3rlpy's own road."""

import copy
import json
import subprocess
import sys

import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari import MinariDataset
from minari.data_collector.episode_buffer import EpisodeBuffer

import recgym
from recgym.errors import InvalidArgument, MissingExtra, UnknownName
from recgym.home import log_path

from .sentences import said
from .test_export import slow_dataset
from .test_log import rewritten, split_logs, written

pytestmark = [
    pytest.mark.d3rlpy,
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
    pytest.mark.filterwarnings("ignore:env_spec is None:UserWarning"),
]


@pytest.fixture(scope="module")
def d3rlpy():
    import d3rlpy

    return d3rlpy


def transitions(buffer):
    """Every transition of an MDPDataset, as its own picker hands them out."""
    found = []
    for index in range(buffer.transition_count):
        episode, place = buffer.buffer[index]
        one = buffer.transition_picker(episode, place)
        values = (one.observation, one.action, one.reward, one.next_observation, one.rewards_to_go)
        found.append((*(value.tolist() for value in values), one.terminal))
    return found


def slow_transitions(episodes):
    """(history, action, reward, next history, what is still to come, end) of every step but those
    for which d3rlpy has no next observation: the last ones of episodes that are truncated."""
    found = []
    for episode in episodes:
        windows, rewards, ends = (episode[k] for k in ("observations", "rewards", "terminations"))
        for place, action in enumerate(episode["actions"]):
            over = place + 1 == len(rewards)
            if over and not ends[place]:
                continue
            after = [0] * len(windows[0]) if over else windows[place + 1]
            later = [[reward] for reward in rewards[place:]]
            found.append((windows[place], [action], [rewards[place]], after, later, float(over)))
    return found


@pytest.fixture
def three():
    """A log of three users with three, two and four events: two episodes end, one does not."""
    log = written(log_path("three"), [3, 2, 4], n_items=6)
    columns = {
        "items": np.array([0, 1, 2, 3, 4, 2, 0, 4, 1], np.int32),  # item 5 occurs nowhere
        "terminated": np.array([True, False, True]),
    }
    return rewritten(log, **columns)


# ------------------------------------------------------------------------------- to MDPDataset


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data(), history=st.sampled_from([1, 3]))
def test_every_transition_is_that_of_the_log(d3rlpy, data, history):
    log = data.draw(split_logs(log_path("invented")))
    for split in ("train", "validation", "test"):
        episodes = slow_dataset(log, split, history)
        if not episodes:
            continue
        dataset = recgym.to_minari(log, split, history=history, replace=True)
        buffer = recgym.to_d3rlpy(dataset)
        assert transitions(buffer) == slow_transitions(episodes)
        assert buffer.dataset_info.action_size == log.n_items


def test_every_transition_of_the_demo_is_that_of_the_log(d3rlpy):
    log = recgym.prepare("demo", name="demo")
    buffer = recgym.to_d3rlpy(recgym.to_minari(log, "validation").id)
    episodes = slow_dataset(log, "validation", 10)
    assert transitions(buffer) == slow_transitions(episodes)
    assert [e.terminated for e in buffer.episodes] == [e["terminations"][-1] for e in episodes]
    assert [e.size() for e in buffer.episodes] == [len(e["actions"]) for e in episodes]


def test_the_number_of_actions_is_that_of_the_space(d3rlpy, three):
    buffer = recgym.to_d3rlpy(recgym.to_minari(three))
    info = buffer.dataset_info
    assert max(int(episode.actions.max()) for episode in buffer.episodes) == 4
    assert info.action_size == 6 and info.action_space == d3rlpy.constants.ActionSpace.DISCRETE
    assert info.observation_signature.shape == [(10,)]
    sampled = buffer.sample_transition_batch(32)
    assert sampled.observations.shape == (32, 10) and sampled.actions.max() <= 4


def test_an_end_is_terminal_and_a_cut_is_a_timeout(d3rlpy, three):
    first, second, third = recgym.to_d3rlpy(recgym.to_minari(three)).episodes
    assert [e.terminated for e in (first, second, third)] == [True, False, True]
    assert [e.size() for e in (first, second, third)] == [3, 2, 4]
    assert [e.transition_count for e in (first, second, third)] == [3, 1, 4]
    assert all(e.observations.shape == (e.size(), 10) for e in (first, second, third))


def test_filtered_and_permuted_datasets_give_their_own_episodes(d3rlpy, three):
    dataset, slow = recgym.to_minari(three, history=2), slow_dataset(three, "train", 2)
    long = dataset.filter_episodes(lambda episode: len(episode) > 2)
    assert transitions(recgym.to_d3rlpy(long)) == slow_transitions([slow[0], slow[2]])
    turned = MinariDataset(dataset.storage, np.array([2, 1, 0, 2]))
    wanted = slow_transitions([slow[k] for k in (2, 1, 0, 2)])
    assert transitions(recgym.to_d3rlpy(turned)) == wanted
    appended = recgym.to_minari(three, history=2, name="more")
    again = [EpisodeBuffer(**{k: v for k, v in vars(e).items() if k != "id"}) for e in dataset]
    appended.update_dataset_from_buffer(again)  # a second file
    mixed = MinariDataset(appended.storage, np.array([5, 0, 4]))
    wanted = slow_transitions([slow[k] for k in (2, 0, 1)])
    assert transitions(recgym.to_d3rlpy(mixed)) == wanted
    with pytest.raises(InvalidArgument, match="no episode left") as problem:
        recgym.to_d3rlpy(dataset.filter_episodes(lambda episode: len(episode) > 9))
    assert dataset.id in said(problem)


def test_both_formats_give_the_same_arrays(d3rlpy, three):
    ours = recgym.to_minari(three)
    plain = recgym.to_minari(three, name="plain", data_format="hdf5")
    turned = [MinariDataset(data.storage, np.array([1, 2, 0])) for data in (ours, plain)]
    for pair in ((ours, plain), turned):
        one, other = (recgym.to_d3rlpy(data).episodes for data in pair)
        for here, there in zip(one, other, strict=True):
            for name in ("observations", "actions", "rewards"):
                a, b = getattr(here, name), getattr(there, name)
                assert a.dtype == b.dtype and a.tolist() == b.tolist()
            assert here.terminated == there.terminated


def test_options_reach_d3rlpy(d3rlpy, three):
    dataset = recgym.to_minari(three)
    picker = d3rlpy.dataset.MultiStepTransitionPicker(n_steps=2, gamma=0.5)
    buffer = recgym.to_d3rlpy(dataset, transition_picker=picker)
    assert buffer.transition_picker is picker
    episode, place = buffer.buffer[0]
    rewards = three.rewards.tolist()
    assert picker(episode, place).reward.tolist() == pytest.approx([rewards[0] + rewards[1] / 2])


def test_d3rlpy_learns_from_it(d3rlpy, three):
    buffer = recgym.to_d3rlpy(recgym.to_minari(three, history=4))
    encoder = d3rlpy.models.VectorEncoderFactory([8])
    config = d3rlpy.algos.DiscreteCQLConfig(batch_size=8, encoder_factory=encoder)
    learner = config.create(device=False)
    losses = [
        metrics["loss"]
        for _, metrics in learner.fit(
            buffer,
            n_steps=6,
            n_steps_per_epoch=3,
            show_progress=False,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        )
    ]
    assert len(losses) == 2 and np.isfinite(losses).all()
    values = learner.predict_value(np.zeros((6, 4), np.float32), np.arange(6))
    assert values.shape == (6,) and len(set(values.tolist())) == 6


# ------------------------------------------------------------------------------- other spaces


def built(observation_space, action_space, observations=None, actions=None):
    """A dataset of two episodes of these spaces, the first of which ends."""
    observation_space.seed(0), action_space.seed(0)
    buffers = []
    for size, end in ((3, True), (2, False)):
        flags = np.zeros((2, size), bool)
        flags[int(not end), -1] = True
        buffers.append(
            EpisodeBuffer(
                observations=[observation_space.sample() for _ in range(size + 1)],
                actions=[action_space.sample() for _ in range(size)],
                rewards=[float(k) for k in range(size)],
                terminations=flags[0].tolist(),
                truncations=flags[1].tolist(),
            )
        )
    return minari.create_dataset_from_buffers(
        "recgym/built/other-v0",
        buffers,
        observation_space=observation_space,
        action_space=action_space,
        data_format="recgym",
        algorithm_name="random",
        author="we",
        author_email="we@example.org",
        code_permalink="https://example.org",
        description="spaces",
    )


BOX, WIDE = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(0, 2**25, (2,), np.int64)


def test_box_actions_are_continuous(d3rlpy):
    dataset = built(BOX, spaces.Box(-1, 1, (2,), np.float32))
    buffer = recgym.to_d3rlpy(dataset)
    assert buffer.dataset_info.action_space == d3rlpy.constants.ActionSpace.CONTINUOUS
    assert buffer.dataset_info.action_size == 2
    for episode, found in zip(dataset, buffer.episodes, strict=True):
        assert found.observations.tolist() == episode.observations[:-1].tolist()
        assert found.actions.tolist() == episode.actions.tolist()


@pytest.mark.parametrize("kind", [dict, tuple])
def test_flat_dicts_and_tuples_of_boxes_become_parts(d3rlpy, kind):
    parts = {"b": BOX, "a": spaces.Box(0, 5, (2,), np.int32)}
    space = spaces.Dict(parts) if kind is dict else spaces.Tuple(parts.values())
    dataset = built(space, spaces.Discrete(4))
    buffer = recgym.to_d3rlpy(dataset)
    assert buffer.dataset_info.action_size == 4
    for episode, found in zip(dataset, buffer.episodes, strict=True):
        leaves = episode.observations
        leaves = leaves.values() if kind is dict else leaves
        assert [part.tolist() for part in found.observations] == [
            leaf[:-1].tolist() for leaf in leaves
        ]


@pytest.mark.parametrize(
    ("observed", "acted"),
    [
        (spaces.Text(5), spaces.Discrete(3)),
        (spaces.Discrete(5), spaces.Discrete(3)),
        (spaces.Dict({"text": spaces.Text(5), "box": BOX}), spaces.Discrete(3)),
        (spaces.Dict({"box": BOX, "more": spaces.Dict({"box": BOX})}), spaces.Discrete(3)),
        (BOX, spaces.Discrete(3, start=1)),
        (BOX, spaces.MultiDiscrete([3, 3])),
    ],
    ids=["text", "number", "text within", "nested", "from 1", "slate"],
)
def test_what_d3rlpy_cannot_hold_is_refused(d3rlpy, observed, acted):
    dataset = built(observed, acted)
    with pytest.raises(InvalidArgument, match="d3rlpy takes Box observations") as problem:
        recgym.to_d3rlpy(dataset)
    assert dataset.id in said(problem)


@pytest.mark.parametrize("bridge", [recgym.to_d3rlpy, recgym.d3rlpy_encoder])
def test_a_dataset_that_is_not_there_is_told(d3rlpy, bridge):
    with pytest.raises(UnknownName, match="No dataset is named 'x'") as problem:
        bridge("x")
    assert "recgym data export" in said(problem)


def test_what_float32_cannot_count_is_refused(d3rlpy):
    with pytest.raises(InvalidArgument, match="float32, which counts exactly to 16,777,216"):
        recgym.to_d3rlpy(built(WIDE, spaces.Discrete(3)))


def test_without_d3rlpy_the_extra_is_named(three):
    script = """
import sys
sys.modules["d3rlpy"] = None
import json, recgym
for call in (recgym.to_d3rlpy, recgym.d3rlpy_encoder, lambda known: recgym.from_d3rlpy(0, known)):
    try:
        call(sys.argv[1])
    except recgym.RecGymError as problem:
        print(json.dumps([type(problem).__name__, str(problem)]))
"""
    known = recgym.to_minari(three).id
    run = subprocess.run(
        [sys.executable, "-c", script, known], capture_output=True, text=True, check=True
    )
    problems = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(problems) == 3
    for name, text in problems:
        assert name == MissingExtra.__name__ and "pip install 'recgym[d3rlpy]'" in text


# ---------------------------------------------------------------------------------- and back


def small_world():
    return recgym.collect(
        "recgym/OracleStatic-v0", "random", sessions=60, name="n", n_items=20, n_topics=3,
        n_liked=1, steps=6, history=8, organic=2, fresh=2,
    )  # fmt: skip


def trained(d3rlpy, dataset, config, steps=4):
    """An algorithm of d3rlpy after a few batches."""
    algorithm, transitions = config.create(), recgym.to_d3rlpy(dataset)
    algorithm.build_with_dataset(transitions)
    for _ in range(steps):
        algorithm.update(transitions.sample_transition_batch(16))
    return algorithm


def states(dataset):
    return np.concatenate([episode.observations for episode in dataset])


@pytest.mark.parametrize("values", ["mean", "qr", "iqn"])
@pytest.mark.parametrize("name", ["DQN", "DoubleDQN", "DiscreteCQL", "NFQ"])
def test_scores_are_the_values_that_d3rlpy_predicts(d3rlpy, name, values):
    dataset = small_world()
    kinds = {"mean": "MeanQFunctionFactory", "qr": "QRQFunctionFactory"}
    factory = getattr(d3rlpy.models, kinds.get(values, "IQNQFunctionFactory"))()
    encoder = recgym.d3rlpy_encoder(dataset, size=8)
    config = getattr(d3rlpy.algos, f"{name}Config")(
        encoder_factory=encoder, n_critics=2, q_func_factory=factory
    )
    algorithm = trained(d3rlpy, dataset, config)
    agent, rows = recgym.from_d3rlpy(algorithm, dataset.id), states(dataset)
    scores = agent.scores(rows, {})
    assert scores.shape == (len(rows), 20) and scores.dtype == np.float32
    for item in range(20):
        wanted = algorithm.predict_value(rows, np.full(len(rows), item))
        assert scores[:, item] == pytest.approx(wanted, abs=1e-6)
    assert agent.act(rows, {}).tolist() == algorithm.predict(rows).tolist()


@pytest.mark.parametrize("name", ["DiscreteBC", "DiscreteSAC"])
def test_a_policy_scores_by_its_logits(d3rlpy, name):
    dataset = small_world()
    encoder = recgym.d3rlpy_encoder(dataset, size=8)
    parts = ("actor_", "critic_") if name == "DiscreteSAC" else ("",)
    factories = {f"{part}encoder_factory": encoder for part in parts}
    algorithm = trained(d3rlpy, dataset, getattr(d3rlpy.algos, f"{name}Config")(**factories))
    agent, rows = recgym.from_d3rlpy(algorithm, dataset), states(dataset)
    scores = agent.scores(rows, {})
    assert np.exp(scores.astype(float)).sum(1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
    assert scores.argmax(1).tolist() == algorithm.predict(rows).tolist()


def test_an_agent_keeps_what_an_algorithm_was(d3rlpy, tmp_path):
    from recgym.d3rl import D3rlpyAgent

    dataset = small_world()
    scaler = d3rlpy.preprocessing.MinMaxObservationScaler(
        minimum=np.zeros(16, np.float32), maximum=np.full(16, 20, np.float32)
    )
    config = d3rlpy.algos.DiscreteCQLConfig(
        encoder_factory=d3rlpy.models.VectorEncoderFactory([8]), observation_scaler=scaler
    )
    algorithm, rows = trained(d3rlpy, dataset, config), states(dataset)
    agent = recgym.from_d3rlpy(algorithm, dataset)
    actions, scores = algorithm.predict(rows), agent.scores(rows, {})
    transitions = recgym.to_d3rlpy(dataset)
    algorithm.update(transitions.sample_transition_batch(16))
    assert np.array_equal(agent.scores(rows, {}), scores)
    assert agent.act(rows, {}).tolist() == actions.tolist()
    agent.save(tmp_path)
    assert np.array_equal(D3rlpyAgent.load(tmp_path).scores(rows, {}), scores)
    with pytest.raises(InvalidArgument, match="learns no more") as problem:
        agent.fit(dataset)
    said(problem)


def test_d3rlpy_reads_what_it_saved_with_our_encoder(d3rlpy, tmp_path):
    dataset = small_world()
    config = d3rlpy.algos.DQNConfig(encoder_factory=recgym.d3rlpy_encoder(dataset, size=8))
    algorithm, rows = trained(d3rlpy, dataset, config), states(dataset)
    algorithm.save(tmp_path / "saved.d3")
    np.save(tmp_path / "rows.npy", rows)
    script = """
import pathlib, sys
import d3rlpy, numpy as np, recgym.d3rl
folder = pathlib.Path(sys.argv[1])
algorithm = d3rlpy.load_learnable(str(folder / "saved.d3"))
rows = np.load(folder / "rows.npy")
np.save(folder / "values.npy", algorithm.predict_value(rows, np.arange(len(rows)) % 20))
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    wanted = algorithm.predict_value(rows, np.arange(len(rows)) % 20)
    assert np.load(tmp_path / "values.npy") == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("observed", [BOX, spaces.Dict({"history": BOX})], ids=["box", "dict"])
def test_the_encoder_takes_flat_histories_only(d3rlpy, observed):
    dataset = built(observed, spaces.Discrete(4))
    with pytest.raises(InvalidArgument, match="whose flat observations are a history") as problem:
        recgym.d3rlpy_encoder(dataset)
    assert dataset.id in said(problem)


def test_the_encoder_is_not_for_continuous_actions(d3rlpy):
    encoder = recgym.d3rlpy_encoder(small_world(), size=8)
    with pytest.raises(InvalidArgument, match="with discrete actions") as problem:
        encoder.create_with_action((16,), 3)
    said(problem)


def test_what_cannot_be_ranked_is_refused(d3rlpy, three):
    dataset = small_world()
    encoder = recgym.d3rlpy_encoder(dataset, size=8)
    algos = d3rlpy.algos
    unfitted = algos.DQNConfig(encoder_factory=encoder).create()
    continuous = algos.BCConfig().create()
    continuous.create_impl((16,), 20)
    for algorithm in (unfitted, continuous, algos.DiscreteRandomPolicyConfig().create()):
        with pytest.raises(InvalidArgument, match="from_d3rlpy takes an algorithm") as problem:
            recgym.from_d3rlpy(algorithm, dataset)
        assert type(algorithm).__name__ in said(problem)
    algorithm = trained(d3rlpy, dataset, algos.DQNConfig(encoder_factory=encoder))
    for other in (recgym.to_minari(three), recgym.to_minari(three, history=16, name="wide")):
        with pytest.raises(InvalidArgument, match="that it has learned from") as problem:
            recgym.from_d3rlpy(algorithm, other)
        said(problem)


# ----------------------------------------------------------------------------- d3rlpy's own road


def test_d3rlpys_own_reader_shifts_observations_from_the_second_episode_on(d3rlpy, three):
    """Minari has an observation more than actions, and get_minari joins all of them."""
    dataset, slow = recgym.to_minari(three, history=4), slow_dataset(three, "train", 4)
    spec = copy.deepcopy(dataset.env_spec)
    spec.max_episode_steps = 9  # without which get_minari takes no environment
    buffers = [EpisodeBuffer(**{k: v for k, v in vars(e).items() if k != "id"}) for e in dataset]
    minari.create_dataset_from_buffers(
        "recgym/three/capped-v0", buffers, env=spec, algorithm_name="logged", author="we",
        author_email="we@example.org", code_permalink="https://example.org", description="capped",
        data_format="hdf5",
    )  # fmt: skip
    theirs, _ = d3rlpy.datasets.get_minari("recgym/three/capped-v0")
    ours = recgym.to_d3rlpy("recgym/three/capped-v0")
    theirs, ours = ([e.observations.tolist() for e in b.episodes] for b in (theirs, ours))
    assert ours == [episode["observations"][:-1] for episode in slow]
    assert theirs[0] == ours[0]  # the first episode is right
    empty = [three.n_items] * 4
    assert ours[1][0] == ours[2][0] == empty  # a user begins with nothing
    assert theirs[1][0] == slow[0]["observations"][-1] == [0, 1, 2, 6]  # ... of the first user
    assert theirs[1][1] == empty  # one late
    joined = [window for episode in slow for window in episode["observations"]]
    assert theirs[2] == joined[5:9] != ours[2] and theirs[2][2] == empty  # two late
