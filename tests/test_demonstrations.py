"""What shoppers did, as Minari datasets: by ours, and by people, from WebShop's files."""

import json

import minari
import numpy as np
import pytest
from gymnasium import spaces

import recgym
from recgym.agents.shoppers import ShopRandom
from recgym.cli import run
from recgym.demonstrations import demonstrate, generate, people
from recgym.errors import BadRawData, InvalidArgument, UnknownName

from .sentences import said

ID = "recgym/MiniShop-v0"


@pytest.mark.parametrize("shopper", ["rule", "scripted", "oracle"])
def test_a_dataset_holds_what_the_environment_does(shopper):
    made = demonstrate(ID, shopper, sessions=30, replace=True)
    assert made.id == f"recgym/minishop/{shopper}-v0" and made.total_episodes == 30
    recgym.check_dataset(made)
    assert isinstance(made.observation_space, spaces.Text)
    env, said = made.recover_environment(), made.storage.metadata
    rewards = []
    for number, episode in enumerate(made):
        text, info = env.reset(seed=number)
        for step, action in enumerate(episode.actions):
            assert text == episode.observations[step]
            assert {key: values[step] for key, values in episode.infos.items()} == info
            text, reward, terminated, truncated, info = env.step(action)
            assert reward == episode.rewards[step] and terminated == episode.terminations[step]
        assert text == episode.observations[-1] and info["page"] == episode.infos["page"][-1]
        rewards.append(episode.rewards.sum())
    assert said["score"] == pytest.approx(np.mean(rewards))
    assert said["success"] == np.mean(np.array(rewards) == 1)
    assert said["nouns"] == "rule-1" and said["algorithm_name"] == shopper


def test_sessions_of_an_agent_are_kept_where_they_went_well():
    made = generate(ID, ShopRandom(seed=3), sessions=12, least=0.7, name="mine")
    said = made.storage.metadata
    assert made.id == "recgym/mine/generated-v0" and made.total_episodes == 12
    recgym.check_dataset(made)
    assert said["split"] == "train" and said["algorithm_name"] == "ShopRandom"
    env = made.recover_environment()
    goals = env.unwrapped.shoppers.shopping.goals
    for number, episode in enumerate(made):
        goal = next(i for i, one in enumerate(goals) if one.text == episode.infos["goal"][0])
        text, info = env.reset(seed=number, options={"goal": goal})
        for step, action in enumerate(episode.actions):
            assert text == episode.observations[step]
            assert {key: values[step] for key, values in episode.infos.items()} == info
            text, reward, terminated, truncated, info = env.step(action)
            assert reward == episode.rewards[step] and terminated == episode.terminations[step]
            assert truncated == episode.truncations[step]
        assert text == episode.observations[-1] and terminated
        assert episode.rewards.sum() >= 0.7
    # the same agent again, all of whose sessions are kept
    tried = generate(ID, ShopRandom(seed=3), sessions=said["tried"], least=0, name="all")
    kept = [episode.rewards.sum() for episode in tried if episode.rewards.sum() >= 0.7]
    assert kept == [episode.rewards.sum() for episode in made]
    assert tried.storage.metadata["acceptance"] == 1
    assert said["acceptance"] == 12 / said["tried"] < 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"least": 1, "tries": 10}, "of 10 sessions of the agent earned 1 or more, and 100"),
        ({"sessions": 0}, "sessions is a whole number from 1"),
        ({"env_id": "recgym/OracleBoredom-v0"}, "is no shop"),
        ({"steps": 5}, "give its dataset a name"),
    ],
)
def test_what_cannot_be_generated_is_said(given, words):
    with pytest.raises(InvalidArgument, match=words) as found:
        generate(**{"env_id": ID, "agent": ShopRandom()} | given)
    said(found)
    assert "recgym/minishop/generated-v0" not in minari.list_local_datasets()


def test_goals_of_the_test_split_are_not_demonstrated():
    with pytest.raises(InvalidArgument, match="for agents to be scored by"):
        demonstrate(ID, "rule", "test")
    made = demonstrate(ID, "rule", "validation", sessions=20, replace=True)
    assert made.id == "recgym/minishop/rule-validation-v0"
    train = demonstrate(ID, "rule", sessions=20, replace=True)
    goals = [{episode.infos["goal"][0] for episode in data} for data in (made, train)]
    assert not goals[0] & goals[1]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"shopper": "orcale"}, UnknownName, "Did you mean 'oracle'"),
        ({"sessions": 0}, InvalidArgument, "sessions is a whole number from 1"),
        ({"env_id": "recgym/OracleBoredom-v0"}, InvalidArgument, "is no shop"),
        ({"steps": 5}, InvalidArgument, "give its dataset a name"),
        ({"stepz": 5}, InvalidArgument, "Did you mean steps"),
    ],
)
def test_what_cannot_be_demonstrated_is_said(given, error, words):
    with pytest.raises(error, match=words):
        demonstrate(**({"env_id": ID} | given))


def test_the_command_writes_datasets_of_shoppers(capsys):
    run(["data", "collect", ID, "--sessions", "5", "--replace", "--json"])
    found = [one["dataset"] for one in json.loads(capsys.readouterr().out)]
    names = ("rule", "scripted", "oracle")
    expected = [f"recgym/minishop/{name}{split}-v0" for name in names
                for split in ("", "-validation")]  # fmt: skip
    assert found == expected
    run(["data", "collect", ID, "--policies", "rule", "--splits", "train", "--name", "other",
         "--sessions", "3", "--replace"])  # fmt: skip
    assert minari.load_dataset("recgym/other/rule-v0").total_episodes == 3


# --------------------------------------------------------------------------------------- people


def line(goal="i need a red lamp", **changes):
    """A session in the form of WebShop's il_trajs_finalized_images.jsonl."""
    said = f"{goal}, and price lower than 40.00 dollars"
    first = f"WebShop\nInstruction:\n{said}\n[button] Search [button_]"
    told = {
        "states": [first, "Instruction:\n[button] b01 [button_]", "[button] Buy Now [button_]"],
        "available_actions": [["search[]"], ["click[b01]", "click[b02]"], ["click[buy now]"]],
        "actions": ["search[red lamp]", "click[b01]", "click[buy now]"],
        "action_idxs": [-1, 0, 0],
        "images": [0, 0, 0],
    }
    return json.dumps(told | changes)


@pytest.fixture
def files(tmp_path):
    goals = [f"i need thing {number}" for number in range(2000)]
    (tmp_path / "human_goals.json").write_text(json.dumps(goals))
    (tmp_path / "trajs.jsonl").write_text(
        "\n".join(line(goals[number]) for number in (0, 499, 500, 1499, 1500, 1999)) + "\n"
    )
    return tmp_path / "trajs.jsonl", tmp_path / "human_goals.json"


def test_sessions_of_people_are_split_as_webshop_splits_goals(files):
    made = people(*files, name="people", replace=True)
    counts = {split: data.total_episodes for split, data in made.items()}
    assert counts == {"train": 2, "validation": 2, "test": 2}
    assert made["train"].id == "recgym/people/human-v0"
    episode = made["validation"][0]
    assert episode.actions == ["search[red lamp]", "click[b01]", "click[buy now]"]
    assert episode.observations[0].startswith("WebShop") and episode.observations[-1] == ""
    assert episode.infos["goal"][0] == "i need thing 500"
    assert json.loads(episode.infos["actions"][1]) == ["click[b01]", "click[b02]"]
    assert episode.terminations.tolist() == [False, False, True] and not episode.rewards.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Line 1 of .* is no session"),
        (line(states=["x"]), r"1 states, 3 actions"),
        (line(actions=None), "is no session"),
        (line("something else"), "a goal that .* does not have .*something else"),
    ],
)
def test_lines_that_are_no_sessions_are_named(files, text, words):
    files[0].write_text(text + "\n")
    with pytest.raises(BadRawData, match=words):
        people(*files, name="people", replace=True)
