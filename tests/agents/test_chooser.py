"""Agents that choose on pages: what they do, how they are kept, and how they are validated."""

import copy
import dataclasses
import json
import math

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recgym.agent import load_agent
from recgym.agents import chooser
from recgym.agents.choices import Choice, Session, offered, query_of, read_as
from recgym.agents.chooser import picked, worthy
from recgym.agents.dpo import ShopDPO
from recgym.agents.imitation import Imitation
from recgym.agents.ppo import ShopPPO
from recgym.agents.reader import Reader
from recgym.demonstrations import demonstrate
from recgym.errors import InvalidArgument, RecGymError, UnknownName
from recgym.rollouts import collect
from recgym.shop.shoppers import SHOPPERS, Known

from ..sentences import said
from .shops import ENV, asked, known_choices, shopper, shopper_in_training

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(shopping, small_bert):
    """One that has learned a little, and says so with some force."""
    agent = shopper(Imitation, small_bert, steps=12, learning_rate=0.003).fit(shopping[0])
    with torch.no_grad():
        agent._network.score.weight *= 10
    return agent


@pytest.fixture
def agent(trained):
    return copy.deepcopy(trained)


@pytest.fixture(scope="module")
def choices(shopping):
    return known_choices(shopping[1])


def changed(agent, **options):
    """The same agent with other options, which has not been asked yet."""
    other = dataclasses.replace(agent, **options)
    other._keep_both(agent._network, agent._queries)
    return other


# ------------------------------------------------------------------------------- what it does


def test_scores_are_those_of_the_reader_for_as_many_actions_as_there_are(agent, choices):
    found = agent.scores(*asked(choices))
    assert {len(some) for some in found} > {12} and len(found) == len(choices)
    assert {some.dtype for some in found} == {np.dtype(np.float32)}
    for choice, some in zip(choices, found, strict=True):
        page, actions = read_as(choice.page, choice.actions)
        with torch.no_grad():
            alone = agent._network.scores([page], [actions])[0]
        np.testing.assert_allclose(some, alone, atol=1e-4)
    by_name = changed(agent, compat=True).scores(*asked(choices[:1]))[0]
    links = [place for place, one in enumerate(choices[0].actions) if one.startswith("click[m")]
    assert len(links) > 5 and not np.allclose(by_name[links], found[0][links])


def test_pages_are_read_in_parts(agent, choices, monkeypatch):
    wanted = agent.scores(*asked(choices))
    for count in (1, 7):
        monkeypatch.setattr(chooser, "_TOGETHER", count)
        for one, other in zip(agent.scores(*asked(choices)), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert agent.scores(*asked([])) == []


def test_the_best_is_done(agent, choices):
    done = agent.act(*asked(choices))
    scores = agent.scores(*asked(choices))
    best = [choice.actions[int(some.argmax())]
            for choice, some in zip(choices, scores, strict=True)]  # fmt: skip
    assert done.tolist() == best and len(set(best)) > 3 and done.dtype == object


def test_where_there_is_a_search_it_is_for_the_goal_and_where_all_is_over_nothing_is_said(
    agent, choices
):
    goals = ["A Rug, and price lower than 10.00 dollars", "", "a Red LAMP", "so", "a tea"]
    pages = [Choice("", actions, 0, ()) for actions in
             (("search[<query>]",), (), ("search[of its own]",))]  # fmt: skip
    mixed = [pages[0], choices[0], pages[2], choices[5], pages[1]]
    done = agent.act(*asked(mixed, goals))
    assert done[[0, 2, 4]].tolist() == ["search[a rug]", "search[a red lamp]", ""]
    assert done[[1, 3]].tolist() == agent.act(*asked([choices[0], choices[5]])).tolist()
    assert agent.act(*asked([])).shape == (0,)


def sampled_frequencies(agent, choice, times):
    done = agent.act(*asked([choice] * times))
    return np.array([(done == action).sum() for action in choice.actions])


def test_what_is_drawn_is_as_probable_as_the_softmax_says(agent, choices):
    drawing, times = changed(agent, acting="sampled", seed=3), 2000
    for choice in (choices[0], choices[-1]):
        scores = agent.scores(*asked([choice]))[0].astype(float)
        weights = [math.exp(score - max(scores)) for score in scores]
        wanted = times * np.array(weights) / sum(weights)
        found = sampled_frequencies(drawing, choice, times)
        assert found.sum() == times and wanted.max() > 1.5 * wanted.min()
        few = wanted < 5
        parts = [(found[~few], wanted[~few]), (found[few].sum(), max(wanted[few].sum(), 1e-9))]
        square = sum(((one - other) ** 2 / other).sum() for one, other in parts)
        assert square < 35  # of at most 11 degrees, .9998 are below


def test_draws_go_on_and_begin_anew_with_the_same_seed(agent, choices, tmp_path):
    one, other = (changed(agent, acting="sampled", seed=seed) for seed in (1, 2))
    calls = [one.act(*asked(choices)).tolist() for _ in range(3)]
    assert calls[0] != calls[1] != calls[2] != calls[0]
    assert other.act(*asked(choices)).tolist() != calls[0]
    one.save(tmp_path)
    again = Imitation.load(tmp_path)
    assert [again.act(*asked(choices)).tolist() for _ in range(3)] == calls
    assert again.act(*asked(choices)).tolist() not in calls


def test_draws_begin_anew_with_what_is_learned(shopping, small_bert, choices):
    agent = shopper(Imitation, small_bert, steps=1, acting="sampled")
    first, again = (agent.fit(shopping[0]).act(*asked(choices)).tolist() for _ in range(2))
    assert first == again and agent.act(*asked(choices)).tolist() != first


def test_a_draw_does_not_depend_on_whoever_else_chooses(agent, choices):
    one, other = (changed(agent, acting="sampled") for _ in range(2))
    search = Choice("", ("search[<query>]",), 0, ())
    whole = one.act(*asked(choices[:10])).tolist()
    some = other.act(*asked([search, *choices[1:9], search])).tolist()
    assert some[1:9] == whole[1:9]


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=9), st.floats(0, 1))
def test_whatever_the_chance_an_action_with_some_is_picked(scores, chance):
    chance = min(chance, float(np.nextafter(1, 0)))
    place = picked(np.array(scores, np.float32), chance)
    shares = [math.exp(score - max(scores)) for score in scores]
    assert 0 <= place < len(scores)
    assert sum(shares[:place]) <= (chance + 1e-12) * sum(shares)
    assert sum(shares[: place + 1]) >= (chance - 1e-12) * sum(shares)


def test_no_chance_passes_the_last_action():
    for seed in range(200):
        scores = np.random.default_rng(seed).normal(size=12).astype(np.float32)
        assert picked(scores, float(np.nextafter(1, 0))) == 11
        assert picked(np.array([-np.inf, *scores], np.float32), 0.0) == 1


def test_shoppers_together_do_what_each_does_alone(agent):
    options = {"split": "validation", "steps": 6}
    many = gymnasium.make_vec(ENV, 4, vectorization_mode="vector_entry_point", **options)
    single = gymnasium.make(ENV, **options)
    pages, infos = many.reset(seed=50)
    alone = []
    for number in range(4):
        page, info = single.reset(seed=50 + number)
        over, steps = False, []
        while not over:
            one = {name: np.array([value], object) for name, value in info.items()}
            (action,) = agent.act(np.array([page], object), one)
            steps.append((page, action))
            page, _, terminated, truncated, info = single.step(action)
            over = terminated or truncated
        alone.append(steps)
    over = np.zeros(4, bool)
    for step in range(6):
        done = agent.act(pages, infos)
        for number in np.flatnonzero(~over):
            assert alone[number][step] == (pages[number], done[number])
            assert infos["page"][number] == "search" or done[number] in offered(infos)[number]
            assert step or done[number] == query_of(infos["goal"][number])
        pages, _, terminated, truncated, infos = many.step(done)
        over |= terminated | truncated
        assert over.tolist() == [len(steps) <= step + 1 for steps in alone]
    assert over.all()


# --------------------------------------------------------------------------------- how it is kept


def test_what_was_learned_is_kept_as_safetensors_and_json(agent, choices, tmp_path):
    agent.save(tmp_path / "one")
    again = Imitation.load(tmp_path / "one")
    again.save(tmp_path / "two")
    assert [file.name for file in (tmp_path / "one").iterdir()] == ["agent.safetensors"]
    first, second = (next((tmp_path / name).iterdir()).read_bytes() for name in ("one", "two"))
    assert first == second
    size = int.from_bytes(first[:8], "little")
    about = json.loads(json.loads(first[8 : 8 + size])["__metadata__"]["about"])
    assert about["agent"] == "Imitation" and about["options"]["page_tokens"] == 40
    assert again == agent and again.parameters == agent.parameters > 10_000
    assert again.act(*asked(choices)).tolist() == agent.act(*asked(choices)).tolist()
    for one, other in zip(
        again.scores(*asked(choices)), agent.scores(*asked(choices)), strict=True
    ):
        assert np.array_equal(one, other)


def test_it_needs_no_bert_where_it_is_loaded(agent, choices, tmp_path):
    agent.reader = str(tmp_path / "gone")
    agent.save(tmp_path)
    assert Imitation.load(tmp_path).act(*asked(choices)).tolist() == (
        agent.act(*asked(choices)).tolist()
    )


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "another", "a plan", "weights"])
def test_a_damaged_file_is_refused(agent, tmp_path, damage):
    kind = ShopDPO if damage == "another" else Imitation
    if damage == "a plan":
        config = agent._network.plan.config
        plan = {"config": config | {"hidden_size": 32}}
        agent._about = lambda: {"network": agent_plan(agent) | plan}
    elif damage == "weights":
        agent._about = lambda: {"network": agent_plan(agent) | {"page_tokens": 1}}
    agent.save(tmp_path)
    file = tmp_path / "agent.safetensors"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage in ("cut", "empty"):
        file.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    with pytest.raises(InvalidArgument, match=f"holds no {kind.__name__} that can be read") as why:
        kind.load(tmp_path)
    said(why)


def agent_plan(agent):
    return dataclasses.asdict(agent._network.plan)


def test_one_that_has_not_learned_says_so(small_bert, choices, tmp_path):
    agent = shopper(Imitation, small_bert)
    for do in (lambda: agent.act(*asked(choices)), lambda: agent.scores(*asked(choices)),
               lambda: agent.save(tmp_path), lambda: agent.parameters):  # fmt: skip
        with pytest.raises(InvalidArgument, match="has not learned yet") as problem:
            do()
        said(problem)


def test_one_that_has_learned_holds_neither_data_nor_optimizers(trained):
    held = {"_network", "_queries", "_asked", "_seen"}
    assert vars(trained).keys() - trained.__dataclass_fields__ == held


def test_pages_to_which_shoppers_come_back_are_not_read_again(agent, choices, monkeypatch):
    some, others = choices[:6], choices[6:12]
    fresh, read, scores = copy.deepcopy(agent), [], Reader.scores

    def counted(self, pages, actions):
        read.extend(pages)
        return scores(self, pages, actions)

    wanted = fresh.scores(*asked(some))
    monkeypatch.setattr(Reader, "scores", counted)
    for asks in (some, some[2:4], some[:3], some):
        found = agent.scores(*asked(asks))
    assert len(read) == len({choice.page for choice in some})
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    for asks in (*([others] * chooser._KEPT), some):  # what is long ago is forgotten
        agent.scores(*asked(asks))
    assert len(read) == sum(len({one.page for one in asks}) for asks in (some, others, some))


# ----------------------------------------------------------------------------------- validation


def by_hand(training, choices):
    """HR@1 as expected of equal scores in any order, and the cross-entropy."""
    hits, entropies = [], []
    for choice in choices:
        with torch.no_grad():
            page, actions = read_as(choice.page, choice.actions)
            scores = training.networks[0].scores([page], [actions])[0].double().tolist()
        own = scores[choice.done]
        above = sum(score > own for score in scores)
        places = range(above, above + sum(score == own for score in scores))
        hits.append(sum(place == 0 for place in places) / len(places))
        entropies.append(math.log(sum(math.exp(score - own) for score in scores)))
    return {"hr@1": np.mean(hits), "cross-entropy of validation": np.mean(entropies)}


@pytest.mark.parametrize("most", [500, 5])
def test_validation_is_what_a_slow_count_says(shopping, small_bert, choices, monkeypatch, most):
    monkeypatch.setattr(chooser, "JUDGED", most)
    training = shopper_in_training(Imitation, small_bert, *shopping[:2], learning_rate=0.003)
    for _ in range(3):
        training._advance()
    training.networks[0].eval()
    every = np.linspace(0, len(choices) - 1, min(most, len(choices))).astype(int)
    judged = [choices[place] for place in every]
    assert training._judged == judged and len({*every}) == min(most, len(choices))
    assert training.validated() == pytest.approx(by_hand(training, judged), rel=1e-4)


def test_equal_scores_are_no_better_than_chance(shopping, small_bert, choices):
    training = shopper_in_training(Imitation, small_bert, *shopping[:2])
    with torch.no_grad():
        training.networks[0].score.weight.zero_()
    found = training.validated()
    sizes = np.array([len(choice.actions) for choice in choices])
    assert found["hr@1"] == pytest.approx((1 / sizes).mean())
    assert found["cross-entropy of validation"] == pytest.approx(np.log(sizes).mean(), rel=1e-5)


def test_the_weights_to_which_validation_is_most_probable_are_kept(shopping, small_bert):
    class Noting(Imitation):
        def validated(self):
            told = {"cross-entropy of validation": [0.7, 0.2, 3.0][self.at // 4 - 1]}
            found = super().validated() | told
            kept.append({name: one.clone() for name, one in self.networks[0].state_dict().items()})
            return found

    kept = []
    agent = shopper(Noting, small_bert).fit(*shopping[:2])
    assert len(kept) == 3
    for name, weights in agent._network.state_dict().items():
        assert torch.equal(weights, kept[1][name])
    assert not torch.equal(kept[0]["score.weight"], kept[2]["score.weight"])


# ---------------------------------------------------------------------- what is worth learning from


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=8), st.integers(0, 9),
       st.sampled_from([0.0, 0.5, 0.99]), st.integers(0, 5))  # fmt: skip
def test_so_many_sessions_that_earned_enough_are_drawn_in_their_order(kinds, count, least, seed):
    sessions = [
        Session(str(place), (Choice("", ("a",), 0, ()),) if chose else (), reward, ())
        for place, (reward, chose) in enumerate(kinds)
    ]
    fit = [one for one in sessions if one.reward >= least and one.choices]
    rng = np.random.default_rng(seed)
    if not fit or count > len(fit):
        with pytest.raises(InvalidArgument, match="earned") as problem:
            worthy(sessions, least, count, rng)
        said(problem)
        return
    found = worthy(sessions, least, count, rng)
    assert len(found) == (count or len(fit))
    assert [one for one in fit if one in found] == found
    assert worthy(sessions, least, count, np.random.default_rng(seed)) == found


def test_sessions_are_drawn_evenly():
    sessions = [Session(str(n), (Choice("", ("a",), 0, ()),), 1.0, ()) for n in range(6)]
    rng = np.random.default_rng(0)
    drawn = [int(one.goal) for _ in range(2000) for one in worthy(sessions, 0, 2, rng)]
    assert abs(np.bincount(drawn) / 2000 - 1 / 3).max() < 0.05


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("name", ["shop-imitation", "shop-dpo", "shop-ppo"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"acting": "thoughtful"}, UnknownName),
        ({"page_tokens": 0}, InvalidArgument),
        ({"action_tokens": 2.5}, InvalidArgument),
        ({"dropout": 1.0}, InvalidArgument),
        ({"compat": 1}, InvalidArgument),
        ({"imitated": -1}, InvalidArgument),
        ({"imitated_reward": math.nan}, InvalidArgument),
        ({"learning_rate": 0.0}, InvalidArgument),
        ({"batch_size": 0}, InvalidArgument),
        ({"steps": 0}, InvalidArgument),
    ],
)
def test_options_that_mean_nothing_are_refused(name, options, error):
    with pytest.raises(error, match=next(iter(options))) as problem:
        load_agent(name)(**options)
    said(problem)


@pytest.mark.parametrize("kind", [ShopDPO, ShopPPO])
def test_those_that_imitate_first_do_it_as_imitation_does(kind):
    alone = Imitation()
    for name in {field.name for field in dataclasses.fields(alone)} - {"steps"}:
        assert getattr(kind(), name) == getattr(alone, name), name


def test_readers_that_cannot_be_made_are_refused(shopping, small_bert):
    for reader, options in ((small_bert, {"page_tokens": 2}), ("/nowhere/at/all", {})):
        with pytest.raises(RecGymError) as problem:
            shopper(Imitation, reader, **options).fit(shopping[0])
        said(problem)


def refused(match, small_bert, *data):
    with pytest.raises(InvalidArgument, match=match) as problem:
        shopper(Imitation, small_bert).fit(*data)
    said(problem)


def test_data_that_are_of_no_use_are_refused(shopping, small_bert, monkeypatch):
    def idle(shop, goal, rng):
        yield "search[lamp]"

    monkeypatch.setitem(SHOPPERS, "idle", Known(idle, "searches, and goes"))
    train, validation, _ = shopping
    nothing = demonstrate(ENV, "idle", sessions=2, name="idle")
    items = collect("recgym/OracleStatic-v0", "mixed", sessions=3, name="n")
    other = demonstrate("recgym/MiniShopB-v0", "rule", sessions=2)
    refused("0 sessions of the dataset earned", small_bert, nothing)
    refused("No session of the validation data chooses", small_bert, train, nothing)
    refused("does not bring the shop", small_bert, items)
    refused("Agents of shops act in words", small_bert, train, items)
    refused("another catalogue", small_bert, train, other)
    other.storage.update_metadata({"split": "test"})
    refused("is a test dataset", small_bert, other)
    refused("is a test dataset", small_bert, train, other)
