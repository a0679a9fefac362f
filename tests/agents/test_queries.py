"""Queries: what is learned from searches in a real shop, and what a model of others writes."""

import shutil
import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from recgym.agents.bert import make_small_bert
from recgym.agents.choices import Session, query_of, sessions_of, shop_of
from recgym.agents.imitation import Imitation
from recgym.agents.ppo import ShopPPO
from recgym.agents.queries import LEARNED, Modelled, Picked, Queries, learned_from, queries_of
from recgym.agents.wordpieces import trained_vocabulary
from recgym.demonstrations import demonstrate
from recgym.errors import InvalidArgument
from recgym.runs import Run

from ..sentences import said

pytestmark = pytest.mark.usefixtures("one_thread")

GOAL = "I need a 'Red' lamp, and price lower than 30.00 dollars"
OPENINGS = {"i", "need", "a", "an", "with", "that", "has", "and", "color", "looking", "show"}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """MiniShop, what shoppers did in it, goals of validation, and a BERT that knows nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for home in ("RECGYM_HOME", "MINARI_DATASETS_PATH"):
            patch.setenv(home, str(tmp_path_factory.mktemp("home")))
        data = {
            shopper: demonstrate("recgym/MiniShop-v0", shopper, sessions=150)
            for shopper in ("scripted", "oracle")
        }
        shop = shop_of(data["oracle"])
        bert = tmp_path_factory.mktemp("small") / "bert"
        goals = {
            split: gymnasium.make("recgym/MiniShop-v0", split=split).unwrapped.shoppers.shopping
            for split in ("train", "validation")
        }
        yield SimpleNamespace(
            data=data,
            shop=shop,
            products=shop.catalogue.products,
            sessions={shopper: sessions_of(one, shop) for shopper, one in data.items()},
            bert=str(make_small_bert([GOAL], bert, steps=1)),
            **{split: shopping.goals for split, shopping in goals.items()},
        )


def picked(there, shopper):
    return queries_of(LEARNED, learned_from(there.sessions[shopper], there.products))


def plain(text):
    return [word.strip(",:") for word in text.lower().split()]


def recall(there, queries, most=50):
    """How often the goal's product is among the first results."""
    found = [goal.product in there.shop.index.search(queries(goal.text)[7:-1], most)
             for goal in there.validation]  # fmt: skip
    return np.mean(found)


# --------------------------------------------------------------------------------- learned by word


def test_from_searches_for_a_goals_own_words_the_rule_is_learned(there):
    queries = picked(there, "scripted")
    for goal in there.validation:
        assert queries(goal.text) == query_of(goal.text)


def test_from_searches_for_names_words_of_names_are_learned(there):
    queries, ranks = picked(there, "oracle"), []
    for goal in there.validation:
        name, words = {*plain(goal.name)}, plain(query_of(goal.text)[7:-1])
        worth = np.array(queries.worth(goal.text))
        inside = np.array([word in name for word in words])
        ranks.append((worth[inside][:, None] > worth[~inside]).mean())
        assert len(plain(queries(goal.text)[7:-1])) < len(words) / 2
    assert np.mean(ranks) > 0.95


def test_what_is_learned_finds_what_is_wanted(there):
    assert recall(there, query_of) == 1
    for shopper in ("scripted", "oracle"):
        assert recall(there, picked(there, shopper)) > 0.95
    assert recall(there, lambda goal: "search[color]") < 0.5


def test_it_holds_for_words_that_were_never_seen(there):
    """Whatever is searched for in goals for things whose names begin with a to l is not shown."""
    known = {goal.text for goal in there.train if goal.query > "m"}
    some = [session for session in there.sessions["oracle"] if session.goal in known]
    queries = queries_of(LEARNED, learned_from(some, there.products))
    seen = {word for session in some for word in plain(session.goal)}
    new, old = [], []
    for goal in there.validation:
        words = plain(query_of(goal.text)[7:-1])
        for word, worth in zip(words, queries.worth(goal.text), strict=True):
            new += [worth] * (word in goal.query.split() and word not in seen)
            old += [worth] * (word in OPENINGS)
    assert len(new) > 30 and np.median(new) > np.quantile(old, 0.95)


def test_the_worth_of_a_word_is_what_its_traits_add(there):
    weights = {"always": -1.0, "is red": 3.0, "follows a": 0.5, "in names True": 0.25,
               "precedes lamp": 0.125, "ends in ,": 9.0, "place 9": 7.0}  # fmt: skip
    queries = Picked(weights, ["lamp"])
    assert queries.worth("A red lamp") == [-1, 2.625, -0.75]
    assert queries.worth("red, one two three four five six seven eight nine")[::9] == [11, 6]
    assert queries("A red lamp, and price lower than 30.00 dollars") == "search[red]"
    assert queries.parameters == 7


def test_it_is_learned_alike_and_draws_nothing(there):
    before = torch.get_rng_state()
    one, two = (learned_from(there.sessions["oracle"][:40], there.products) for _ in range(2))
    assert one == two and torch.equal(torch.get_rng_state(), before)
    again = queries_of(LEARNED, Picked(**one).about)
    for goal in there.validation:
        assert again.worth(goal.text) == Picked(**one).worth(goal.text)


def test_without_searches_nothing_is_learned(there):
    with pytest.raises(InvalidArgument, match="No session of the dataset searches") as problem:
        learned_from([Session(GOAL, (), 1.0, ())], there.products)
    said(problem)


@pytest.mark.parametrize(
    ("weights", "goal", "found"),
    [
        ({}, GOAL, "A query of 0 characters was written for 'I need a 'Red' lamp"),
        ({"always": 1.0}, "red " * 600, "A query of 2,399 characters was written for 'red red"),
    ],
)
def test_what_no_shop_would_take_is_by_rule_and_said_once(weights, goal, found):
    queries = Picked(weights, [])
    with pytest.warns(UserWarning, match=found) as told:
        assert queries(goal) == query_of(goal)
    assert len(told) == 1 and str(told[0].message).endswith(".")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert queries(goal + "red ") == query_of(goal + "red ")


# ------------------------------------------------------------------------------- models of others


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    """A real BART, small and untrained, and its tokenizer, in a folder."""
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("small") / "bart"
    words = trained_vocabulary(["i need a red lamp for work"])
    pad, first, last = (words.token_to_id(sign) for sign in ("[PAD]", "[CLS]", "[SEP]"))
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", bos_token="[CLS]", eos_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    config = BartConfig(
        vocab_size=words.get_vocab_size(), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=24, pad_token_id=pad, bos_token_id=first,
        eos_token_id=last, decoder_start_token_id=last, forced_eos_token_id=last, init_std=0.3,
    )  # fmt: skip
    torch.manual_seed(1)
    BartForConditionalGeneration(config).save_pretrained(folder)
    return folder


def by_hand(folder, text):
    """The best of five beams, as Transformers alone has it."""
    from transformers import AutoTokenizer, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BartForConditionalGeneration.from_pretrained(folder).eval()
    tokens = torch.tensor([tokenizer(text)["input_ids"]])
    written = model.generate(input_ids=tokens, num_beams=5, max_length=24)
    return tokenizer.decode(written[0], skip_special_tokens=True)


def test_a_model_reads_an_instruction_and_its_first_beam_is_searched_for(bart):
    queries = queries_of(str(bart), {})
    wanted = by_hand(bart, "i need a red lamp")
    assert wanted and queries(GOAL) == f"search[{wanted}]"
    assert queries('i need "a" RED lamp') == queries(GOAL)
    assert queries("for work") == f"search[{by_hand(bart, 'for work')}]" != queries(GOAL)
    assert queries("lamp for work " * 99).startswith("search[")  # of more words than it can read
    saved = load_file(bart / "model.safetensors")
    learned = (one.numel() for name, one in saved.items() if name != "final_logits_bias")
    assert queries.parameters == sum(learned)


def test_a_query_is_written_once_for_a_goal(bart, monkeypatch):
    queries, written = Modelled(str(bart)), []
    words = queries.words
    monkeypatch.setattr(queries, "words", lambda goal: written.append(goal) or words(goal))
    assert queries(GOAL) == queries(GOAL) and written == [GOAL]
    queries("i need a lamp")
    assert written == [GOAL, "i need a lamp"]


def test_a_model_writes_nothing_to_the_screen_and_draws_nothing(bart, capsys):
    state = torch.get_rng_state()
    queries_of(str(bart), {})(GOAL)
    assert capsys.readouterr() == ("", "") and torch.equal(torch.get_rng_state(), state)


def test_a_model_that_was_replaced_is_refused(bart, tmp_path):
    known, folder = Modelled(str(bart)).about, tmp_path / "bart"
    shutil.copytree(bart, folder)
    assert queries_of(str(folder), known).about == known
    weights = load_file(folder / "model.safetensors")
    weights["model.shared.weight"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidArgument, match="is another model than the one") as problem:
        queries_of(str(folder), known)(GOAL)
    said(problem)


def test_what_is_no_sequence_to_sequence_model_is_refused(there, bart, tmp_path):
    lacking, pickled = tmp_path / "lacking", tmp_path / "pickled"
    for folder in (lacking, pickled):
        shutil.copytree(bart, folder)
    weights = load_file(bart / "model.safetensors")
    some = {name: part for name, part in weights.items() if "decoder.layers" not in name}
    save_file(some, lacking / "model.safetensors", {"format": "pt"})
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")  # a pickle is not opened
    for place, why in {
        there.bert: "Unrecognized configuration class",
        str(tmp_path / "no" / "such" / "place"): "",
        str(lacking): "it lacks model.decoder.layers",
        str(pickled): "safetensors",
    }.items():
        with pytest.raises(InvalidArgument, match="^No sequence-to-sequence model can") as problem:
            queries_of(place, {})
        assert why in said(problem)


# -------------------------------------------------------------------------------------- by agents


def options(there, **more):
    small = {"batch_size": 2, "page_tokens": 24, "action_tokens": 8, "validate_every": 100}
    return {"reader": there.bert, "steps": 2} | small | more


def asked(there, count=3):
    goals = np.array([goal.text for goal in there.validation[:count]], object)
    return {"goal": goals, "actions": np.array(['["search[<query>]"]'] * count, object)}


@pytest.mark.parametrize("writer", ["rule", "learned", "bart"])
def test_an_agent_searches_as_it_is_told_and_so_does_the_one_that_was_saved(
    there, bart, tmp_path, writer
):
    name = str(bart) if writer == "bart" else writer
    agent = Imitation(**options(there, queries=name)).fit(there.data["oracle"])
    known = learned_from(there.sessions["oracle"], there.products) if writer == "learned" else {}
    wanted, infos = queries_of(name, known), asked(there)
    assert agent.act([""] * 3, infos).tolist() == [*map(wanted, infos["goal"])]
    assert (wanted(GOAL) == query_of(GOAL)) == (type(wanted) is Queries) == (writer == "rule")
    agent.save(tmp_path)
    again = Imitation.load(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["agent.safetensors"]
    assert again.act([""] * 3, infos).tolist() == agent.act([""] * 3, infos).tolist()
    reader = sum(values.numel() for values in agent._network.parameters())
    assert again.parameters == agent.parameters == reader + wanted.parameters


def test_an_agent_whose_model_is_gone_says_so_where_it_searches(there, bart, tmp_path):
    shutil.copytree(bart, tmp_path / "bart")
    agent = Imitation(**options(there, queries=str(tmp_path / "bart")))
    agent.fit(there.data["oracle"]).save(tmp_path / "agent")
    shutil.rmtree(tmp_path / "bart")
    again = Imitation.load(tmp_path / "agent")
    with pytest.raises(InvalidArgument, match="^No sequence-to-sequence model can") as problem:
        again.act([""] * 3, asked(there))
    said(problem)


def test_a_training_that_goes_on_ends_in_the_same_agent(there, tmp_path):
    data, kind = there.data["oracle"], options(there, queries="learned", steps=3)
    whole = Imitation(**kind).fit(data, run=Run(tmp_path / "whole"))
    run = Run(tmp_path / "broken", every=0)
    run.stop()
    with pytest.raises(KeyboardInterrupt):
        Imitation(**kind).fit(data, run=run)
    broken = Imitation(**kind).fit(data, run=Run(tmp_path / "broken"))
    for name, agent in (("one", whole), ("other", broken)):
        agent.save(tmp_path / name)
    one, other = (tmp_path / name / "agent.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_who_rolls_out_searches_as_it_will(there):
    env = gymnasium.make("recgym/MiniShop-v0", split="train")
    more = {"warmup_steps": 1, "users": 2, "rollout": 3, "value_warmup": 0, "epochs": 1}
    agent = ShopPPO(**options(there, queries="learned", **more))
    chosen, fit = [], ShopPPO.choose

    class Noted(ShopPPO):
        def choose(self, observations, infos):
            done = fit(self, observations, infos)
            chosen.extend(zip(infos["goal"], done.actions, strict=True))
            return done

    agent.__class__ = Noted
    agent.fit(there.data["oracle"], env=env)
    searches = [(goal, action) for goal, action in chosen if action.startswith("search[")]
    queries = picked(there, "oracle")
    assert len(searches) >= 2
    assert all(action == queries(goal) != query_of(goal) for goal, action in searches)


def test_who_has_not_learned_does_not_search(there):
    with pytest.raises(InvalidArgument, match="has not learned yet") as problem:
        Imitation(**options(there)).act([""] * 3, asked(there))
    said(problem)
