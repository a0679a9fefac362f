"""The shop as an environment: goals, words and numbers as actions, ends, batches, stories."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import recgym
from recgym.cli import run
from recgym.envs import SHOPS
from recgym.envs.shop import ShopEnv
from recgym.errors import InvalidArgument, UnknownName
from recgym.shop.goals import without_price
from recgym.shop.pages import Place
from recgym.shop.shoppers import SHOPPERS, shopped

ID = "recgym/MiniShop-v0"


def one(**options):
    return gymnasium.make(ID, **options)


def many(count, **options):
    return gymnasium.make_vec(ID, count, vectorization_mode="vector_entry_point", **options)


def bought(env, seed=0):
    """The way of the oracle to the product, from a reset on."""
    env.reset(seed=seed)
    shoppers = env.unwrapped.shoppers
    goal = shoppers.shopping.goals[int(shoppers.goal[0])]
    plan = shopped(shoppers.shopping.shop, goal, SHOPPERS["oracle"].shopper, None)
    return [env.step(action) for action in plan]


# ----------------------------------------------------------------------------------- an episode


def test_who_buys_what_is_asked_for_earns_one_and_nothing_before():
    env = one()
    found = bought(env)
    assert [reward for _, reward, *_ in found] == [0.0] * (len(found) - 1) + [1.0]
    assert [over for _, _, over, *_ in found] == [False] * (len(found) - 1) + [True]
    assert not any(cut for *_, cut, _ in found)
    text, _, _, _, info = found[-1]
    parts = json.loads(info["purchase"])
    assert (info["page"], parts["total"], parts["price"]) == ("done", 1.0, True)
    assert "1.0" in text and not json.loads(info["actions"])
    assert all(json.loads(info["actions"]) for *_, info in found[:-1])
    assert all(info["purchase"] == "" for *_, info in found[:-1])


def test_a_goal_is_drawn_by_the_seed_and_can_be_asked_for():
    env = one()
    goals = {env.reset(seed=seed)[1]["goal"] for seed in range(20)}
    assert len(goals) > 15
    assert env.reset(seed=3)[1]["goal"] == env.reset(seed=3)[1]["goal"]
    known = env.unwrapped.shoppers.shopping.goals
    assert env.reset(options={"goal": 7})[1]["goal"] == known[7].text
    for wrong in (-1, len(known), 0.5, "x", [1, 2]):
        with pytest.raises(InvalidArgument, match=f"Goals are 0 to {len(known) - 1}"):
            env.reset(options={"goal": wrong})


def test_no_goal_is_in_two_splits():
    said = [
        {without_price(goal.text) for goal in one(split=split).unwrapped.shoppers.shopping.goals}
        for split in ("train", "validation", "test")
    ]
    assert not (said[0] & said[1] or said[0] & said[2] or said[1] & said[2])
    assert all(said)


def test_goals_are_drawn_by_their_weights():
    shopping = one().unwrapped.shoppers.shopping
    keys = np.random.default_rng(0).integers(2**63, size=200_000).astype(np.uint64)
    found = np.bincount(shopping.drawn(keys), minlength=len(shopping.goals)) / len(keys)
    weights = np.array([goal.weight for goal in shopping.goals])
    expected = weights / weights.sum()
    errors = (found - expected) / np.sqrt(expected * (1 - expected) / len(keys))
    assert np.abs(errors).max() < 5 and 0.9 < errors.std() < 1.1


def test_what_is_not_understood_changes_nothing_and_is_counted():
    env = one()
    text, info = env.reset(seed=0)
    for count, action in enumerate(["", "buy", "click[buy now]", "search[]", "click[", "é" * 9], 1):
        again, reward, terminated, truncated, info = env.step(action)
        assert (again, reward, terminated, truncated) == (text, 0.0, False, False)
        assert info["invalid"] == count and info["page"] == "search"


def test_an_episode_is_cut_at_the_limit_and_a_purchase_there_is_none():
    env = one(steps=3)
    env.reset(seed=0)
    assert [env.step("click[nothing]")[2:4] for _ in range(3)] == [
        (False, False), (False, False), (False, True)
    ]  # fmt: skip
    found = bought(one(steps=len(bought(one()))))
    assert found[-1][2:4] == (True, False)


def test_text_and_rich_text_are_the_same_pages():
    rich, plain = one(), one(seen="text")
    (first, _), (second, _) = rich.reset(seed=0), plain.reset(seed=0)
    assert "[button] Search [button_]" in first and "[SEP] Search" in second


# --------------------------------------------------------------------------- numbers as actions


def test_numbers_do_what_words_do():
    words, numbers = one(), one(numbered=True)
    assert isinstance(numbers.action_space, spaces.Discrete)
    _, info = words.reset(seed=1)
    text, other = numbers.reset(seed=1)
    query = without_price(info["goal"]).lower()
    assert json.loads(other["actions"]) == [f"search[{query}]"]
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = json.loads(other["actions"])
        number = int(rng.integers(len(actions)))
        text, *first, other = numbers.step(number)
        again, *second, info = words.step(actions[number])
        assert (text, first, other["invalid"]) == (again, second, info["invalid"])
        if first[1] or first[2]:
            break
    numbers.reset(seed=1)
    *_, info = numbers.step(int(numbers.action_space.n) - 1)
    assert info["invalid"] == 1  # there is but one thing to do
    with pytest.raises(InvalidArgument, match="An action is one item"):
        numbers.step(int(numbers.action_space.n))


# ------------------------------------------------------------------------------------ in batches


def test_a_batch_goes_as_single_shoppers_do():
    envs, rng = many(5), np.random.default_rng(0)
    texts, infos = envs.reset(seed=10)
    singles = [one() for _ in range(5)]
    known = [env.reset(seed=10 + number) for number, env in enumerate(singles)]
    over = [False] * 5
    for _ in range(150):
        assert [text for text, _ in known] == list(texts)
        for key in ("goal", "page", "actions", "invalid", "purchase"):
            assert [info[key] for _, info in known] == infos[key].tolist()
        actions = []
        for _, info in known:
            there = json.loads(info["actions"]) or ["click[x]"]
            action = there[int(rng.integers(len(there)))]
            actions.append(action.replace("<query>", info["goal"]))
        texts, rewards, terminated, truncated, infos = envs.step(actions)
        for number, env in enumerate(singles):
            if over[number]:
                known[number], over[number] = env.reset(), False
                continue
            text, reward, ends, cut, info = env.step(actions[number])
            assert (reward, ends, cut) == (rewards[number], terminated[number], truncated[number])
            known[number], over[number] = (text, info), ends or cut


@pytest.mark.parametrize("options", [{}, {"numbered": True}, {"seen": "text"}, {"compat": True}])
def test_it_keeps_the_rules_that_others_rely_on(options):
    assert recgym.check_env(ID, **options) and recgym.check_vector_env(ID, **options)


# ----------------------------------------------------------------------------------- bad input


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=40), st.sampled_from(
    ["search[red]", "click[buy now]", "click[< prev]", "click[back to search]", "search[" + "a " *
     5000 + "]", "click[next >]", "click[description]", "\ud800"])), max_size=30))  # fmt: skip
def test_nothing_that_is_said_breaks_an_episode(actions):
    env = one()
    env.reset(seed=0)
    for action in actions:
        *_, terminated, truncated, info = env.step(action)
        assert len(info) == 5
        if terminated or truncated:
            env.reset()


def test_a_hundred_thousand_random_actions_are_played():
    envs, rng = many(500, steps=40), np.random.default_rng(0)
    _, infos = envs.reset(seed=0)
    purchases = 0
    for _ in range(200):
        actions = []
        for text, goal in zip(infos["actions"].tolist(), infos["goal"].tolist(), strict=True):
            there = json.loads(text) or ["click[x]"]
            action = there[int(rng.integers(len(there)))]
            actions.append(action.replace("<query>", goal) if rng.random() < 0.95 else "click[?]")
        texts, rewards, terminated, _, infos = envs.step(actions)
        assert ((rewards >= 0) & (rewards <= 1)).all() and not (rewards[~terminated]).any()
        purchases += int(terminated.sum())
    assert purchases > 1000 and all(map(len, texts))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "tests"}, "split is train, validation, test"),
        ({"goals": "mine"}, "goals is synthetic, human"),
        ({"goals": "human"}, "items_human_ins.json"),
        ({"seen": "html"}, "seen is text_rich, text"),
        ({"steps": 0}, "steps is a whole number from 1 on"),
        ({"files": "."}, "takes no files"),
        ({"step": 3}, "Did you mean steps"),
        ({"shop": "webshop"}, "give their folder as files="),
        ({"shop": "webshop", "files": "/nowhere"}, "is no folder"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(InvalidArgument, match=words):
        one(**options)
    with pytest.raises(InvalidArgument, match="ansi, html, not 'rgb_array'"):
        ShopEnv(render_mode="rgb_array")
    with pytest.raises(UnknownName, match="Did you mean 'minishop'"):
        one(shop="minishp")


@pytest.mark.parametrize("action", [3, None, b"click[x]", ["click[x]"]])
def test_actions_are_texts(action):
    env = one()
    env.reset(seed=0)
    with pytest.raises(InvalidArgument, match="nothing was changed"):
        env.step(action)
    envs = many(2)
    envs.reset(seed=0)
    with pytest.raises(InvalidArgument, match="nothing was changed"):
        envs.step(action)


# ----------------------------------------------------------------------------------- what is kept


def test_a_shop_is_made_once_and_opened_again(tmp_path, monkeypatch):
    from recgym.envs import shop as environment
    from recgym.shop import store

    monkeypatch.setenv("RECGYM_HOME", str(tmp_path))
    environment._opened.cache_clear()
    text, _ = one().reset(seed=0)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    environment._opened.cache_clear()
    monkeypatch.setattr(store.Index, "build", None)  # it would be called
    assert one().reset(seed=0)[0] == text
    kept = {file: file.stat().st_mtime_ns for file in files if file.name != ".lock"}
    assert all(files[file] == at for file, at in kept.items())
    environment._opened.cache_clear()


def test_each_shopper_has_little_of_its_own():
    """At most 64 KiB more for each."""
    import tracemalloc

    many(2).reset(seed=0)
    tracemalloc.start()
    envs = many(200)
    envs.reset(seed=0)
    before = tracemalloc.get_traced_memory()[0]
    more = many(400)
    more.reset(seed=0)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown / 400 < 64 * 1024


# --------------------------------------------------------------------------------------- for people


def test_a_story_is_told_in_words_and_pages_are_html():
    env = one(render_mode="ansi")
    bought(env)
    story = env.render()
    assert "> search[" in story and "> click[buy now]" in story
    env = one(render_mode="html")
    env.reset(seed=0)
    assert env.render().lstrip().lower().startswith("<!doctype html>")
    envs = many(2, render_mode="html")
    envs.reset(seed=0)
    assert len(envs.render()) == 2


@pytest.mark.parametrize("by", ["oracle", "scripted", "rule", "random"])
def test_shoppers_can_be_watched(by, capsys):
    run(["play", ID, "--by", by, "--seed", "4"])
    said = capsys.readouterr().out
    assert "> search[" in said and "Return" in said
    assert ("It is bought." in said) or by == "random"


def test_you_can_go_shopping(monkeypatch, capsys):
    words = iter(["red", "1", "search[lamp]", "click[buy now]", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(words))
    run(["play", ID])
    said = capsys.readouterr().out
    assert "> search[red]" in said and "> click[back to search]" in said
    assert "> search[lamp]" in said and "You stopped." in said
    with pytest.raises(UnknownName, match="Did you mean 'oracle'"):
        run(["play", ID, "--by", "orcale"])


def test_shops_are_listed(capsys):
    run(["envs", "--json"])
    listed = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert {f"recgym/{name}-v0" for name in SHOPS} <= listed.keys()
    assert listed["recgym/WebShop1k-v0"]["needs"] == "files=FOLDER"


def test_a_single_shop_says_how_names_are_compared():
    env = one().unwrapped
    assert isinstance(env, ShopEnv) and env.metadata["nouns"] == "rule-1"
    assert env.shoppers.places[0] == Place()
