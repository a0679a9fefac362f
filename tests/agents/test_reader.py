"""The reader: its formulas by hand, pads and neighbours that change nothing, and what it learns."""

import copy
import dataclasses
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recgym.agents import bert
from recgym.agents.bert import SMALL, kept_small, make_small_bert, small_folder
from recgym.agents.reader import Attention, Reader, ReaderPlan, make_reader, reader_plan
from recgym.agents.wordpieces import SIGNS, Words, prepared, texts_of
from recgym.errors import InvalidArgument

from ..sentences import said

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("mouse", "lamp", "kettle", "rug")
TEXTS = [
    f"i need a {colour} {kind} [SEP] color {colour} green [SEP] {maker} {kind}, made for {use}"
    for colour in ("red", "blue", "white") for kind in KINDS
    for maker, use in (("acme", "work"), ("zen", "play"))
]  # fmt: skip
PAGES = [
    "Instruction:\ni need a red lamp\n[button] Back to Search [button_]\nacme lamp\n$9.99",
    "Instruction: [SEP] blue kettle [SEP] Back to Search",
    "",
    "Instruction:\ni need a white rug, and price lower than 30.00 dollars\n" + "zen rug " * 20,
]
ACTIONS = [
    ["click[back to search]", "click[red]", "click[made for work and play by zen]"],
    ["search[blue kettle]"],
    ["click[buy now]", ""],
    ["click[back to search]", "click[buy now]", "click[red]", "click[red]", "click[green rug]"],
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A plan of a small BERT that has read a little, outside of any home."""
    folder = make_small_bert(TEXTS, tmp_path_factory.mktemp("small") / "bert", steps=20)
    return reader_plan(str(folder), seed=3)


@pytest.fixture
def reader(plan):
    return make_reader(plan)


def close(one, other, by=1e-5):
    assert one.shape == other.shape
    assert torch.allclose(one, other, atol=by, rtol=0), (one - other).abs().max()


# ----------------------------------------------------------------------------------- formulas


def test_attention_is_that_of_the_paper_written_with_loops():
    torch.manual_seed(0)
    attention = Attention(4)
    for weights in attention.parameters():
        torch.nn.init.normal_(weights)
    context, memory = torch.randn(2, 3, 5, 4), torch.randn(2, 6, 4)
    sizes, lengths = [[5, 2, 1], [3, 4, 5]], [6, 3]
    told = torch.arange(5) < torch.tensor(sizes)[..., None]
    shown = torch.arange(6) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        found = attention(context, told, memory, shown)
        u, v, w = attention.u.weight[0], attention.v.weight[0], attention.w
        for page in range(2):
            m = memory[page, : lengths[page]]
            for action in range(3):
                c = context[page, action, : sizes[page][action]]
                att = [[float(u @ one + v @ each + (one * w) @ each) for each in m] for one in c]
                total = sum(math.exp(max(row)) for row in att)
                q = sum(math.exp(max(row)) / total * one for row, one in zip(att, c, strict=True))
                for i, one in enumerate(c):
                    norm = sum(map(math.exp, att[i]))
                    a = sum(math.exp(x) / norm * each for x, each in zip(att[i], m, strict=True))
                    close(found[page, action, i], torch.cat([one, a, one * a, q * a]))


def test_w_begins_as_the_scale_of_a_dot_product():
    assert torch.equal(Attention(16).w, torch.full((16,), 0.25))


def test_a_score_and_a_value_are_what_the_formulas_say(reader):
    page, action = PAGES[0], ACTIONS[0][1]

    def states(text, longest):
        ids = torch.as_tensor(reader.words.tokens(text, longest)).long()[None]
        return reader.encoder(input_ids=ids).last_hidden_state

    with torch.no_grad():
        memory, context = states(page, 512), states(action, 64)
        every = [torch.ones(1, one.shape[1], dtype=bool) for one in (context, memory)]
        found = reader.attention(context[None], every[0][None], memory, every[1])[0, 0]
        wanted = reader.score(reader.layer(found).relu().mean(0))
        close(reader.scores([page], [[action]])[0], wanted)
        first, leaky, last = reader.value
        assert first.out_features == 128 and isinstance(leaky, torch.nn.LeakyReLU)
        close(reader.values([page]), last(leaky(first(memory[0, 0]))))


# ------------------------------------------------------------------- pads and what stands beside


@pytest.mark.parametrize("together", [1, 64, 1 << 20])
def test_many_pages_at_once_are_one_pair_at_a_time(reader, monkeypatch, together):
    monkeypatch.setitem(sys.modules["recgym.agents.reader"]._TOGETHER, "cpu", together)
    with torch.no_grad():
        scores, values = reader(PAGES, ACTIONS)
        for page, actions, some, value in zip(PAGES, ACTIONS, scores, values, strict=True):
            assert some.shape == (len(actions),)
            for action, score in zip(actions, some, strict=True):
                close(reader.scores([page], [[action]])[0][0], score)
            close(reader.values([page])[0], value)


def test_nothing_beside_a_pair_changes_its_score(reader):
    with torch.no_grad():
        alone = reader.scores(PAGES[:1], ACTIONS[:1])[0]
        longer = [[*ACTIONS[0], "click[" + "a long one " * 15 + "]"], ["search[x]"] * 9]
        close(reader.scores([PAGES[0], "word " * 400], longer)[0][:3], alone)
        backwards = reader.scores(PAGES[::-1], [some[::-1] for some in ACTIONS[::-1]])
        for one, other in zip(reader.scores(PAGES, ACTIONS), backwards[::-1], strict=True):
            close(one, other.flip(0))


def test_all_forms_agree(reader):
    with torch.no_grad():
        scores, values = reader(PAGES, ACTIONS)
        for one, other in zip(reader.scores(PAGES, ACTIONS), scores, strict=True):
            assert torch.equal(one, other)
        assert torch.equal(reader.values(PAGES), values)
        for one, other in zip(reader.log_probs(PAGES, ACTIONS), scores, strict=True):
            close(one, other - other.logsumexp(0))
            assert one.exp().sum() == pytest.approx(1, abs=1e-5)
        which = [[2, 0], [0], [], [4, 4, 1]]
        for one, some, of in zip(
            reader.scores_of(PAGES, ACTIONS, which), scores, which, strict=True
        ):
            close(one, some[torch.tensor(of, dtype=torch.long)])


def test_the_gradient_of_a_pair_is_the_same_in_a_batch(plan):
    one, other = make_reader(plan), make_reader(plan)
    one.scores(PAGES, ACTIONS)[3][4].backward()
    other.scores(PAGES[3:], [ACTIONS[3][4:]])[0][0].backward()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        if theirs.grad is not None:
            close(mine.grad, theirs.grad)


def test_pages_without_actions_and_no_pages(reader):
    scores, values = reader([PAGES[0], PAGES[1]], [[], ["click[red]"]])
    assert [len(some) for some in scores] == [0, 1] and values.shape == (2,)
    assert [len(some) for some in reader.log_probs([PAGES[0]], [[]])] == [0]
    scores, values = reader([], [])
    assert scores == [] and values.shape == (0,)


def test_pages_and_lists_of_actions_are_as_many(reader):
    with pytest.raises(InvalidArgument, match="1 lists of them were given for 2 pages") as problem:
        reader.scores(PAGES[:2], [["click[red]"]])
    said(problem)


def test_a_text_that_is_there_twice_is_read_once(reader):
    read = []
    reader.encoder.register_forward_pre_hook(
        lambda module, args, told: read.append(len(told["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        reader.scores([PAGES[0]] * 5, [["click[red]", "click[buy now]"]] * 5)
    assert sum(read) == 1 + 2


# ------------------------------------------------------------------------------------- training


def test_dropout_is_in_training_only_and_each_has_its_own_draws(plan):
    reader = make_reader(dataclasses.replace(plan, dropout=0.5))
    assert not reader.training
    with torch.no_grad():
        first = reader.scores(PAGES, ACTIONS)
        assert all(map(torch.equal, first, reader.scores(PAGES, ACTIONS)))
        reader.train()
        twice = reader.scores([PAGES[0]] * 2, [["click[red]"]] * 2)
        assert not torch.equal(*twice)
        for scores in (make_reader(dataclasses.replace(plan, dropout=0.0)).train(), reader.eval()):
            assert all(map(torch.allclose, first, scores.scores(PAGES, ACTIONS)))


def test_gradients_reach_all_weights(reader):
    scores, values = reader(PAGES, ACTIONS)
    (torch.cat(scores).square().sum() + values.sum()).backward()
    for name, weights in reader.named_parameters():
        assert weights.grad is not None and weights.grad.isfinite().all(), name
        if ".key.bias" not in name:  # which a softmax does not see
            assert weights.grad.abs().max() > 0, name


def test_a_policy_learns_ten_choices_by_heart(plan):
    reader = make_reader(dataclasses.replace(plan, dropout=0.0)).train()
    rng = np.random.default_rng(0)
    kinds = [(str(rng.choice(["red", "blue", "white"])), kind) for kind in KINDS * 3][:10]
    pages = [f"Instruction: i need a {colour} {kind} number {place}"
             for place, (colour, kind) in enumerate(kinds)]  # fmt: skip
    actions = [[f"click[{kind}]" for kind in KINDS[: 2 + place % 3]] for place in range(10)]
    wanted = [int(rng.integers(len(some))) for some in actions]
    adam = torch.optim.Adam(reader.parameters(), 0.002)
    for _ in range(150):
        logs = reader.log_probs(pages, actions)
        loss = -torch.stack([some[one] for some, one in zip(logs, wanted, strict=True)]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        if loss < 0.05:
            break
    assert loss < 0.1
    assert [int(some.argmax()) for some in reader.eval().scores(pages, actions)] == wanted


def test_the_same_seed_trains_to_the_same_numbers(plan):
    def trained():
        reader = make_reader(plan).train()
        torch.manual_seed(5)
        adam = torch.optim.Adam(reader.parameters(), 0.01)
        for _ in range(3):
            adam.zero_grad()
            (-reader.log_probs(PAGES, ACTIONS)[0][1]).backward()
            adam.step()
        return reader.eval().scores(PAGES, ACTIONS)

    assert all(map(torch.equal, trained(), trained()))


# ------------------------------------------------------------------------------- plans and weights


def test_a_plan_as_json_and_weights_give_the_same_reader(plan, tmp_path):
    from safetensors.torch import load_file, save_file

    reader = make_reader(plan)
    save_file(reader.state_dict(), tmp_path / "reader.safetensors")
    again = Reader(ReaderPlan(**json.loads(json.dumps(dataclasses.asdict(plan))))).eval()
    again.load_state_dict(load_file(tmp_path / "reader.safetensors"))
    with torch.no_grad():
        for one, other in zip(
            reader.scores(PAGES, ACTIONS), again.scores(PAGES, ACTIONS), strict=True
        ):
            assert torch.equal(one, other)
        assert torch.equal(reader.values(PAGES), again.values(PAGES))


def test_a_reader_is_made_of_its_plan_alone(plan):
    torch.manual_seed(1)
    one = make_reader(plan).state_dict()
    before = torch.rand(1)
    torch.manual_seed(2)
    two = make_reader(plan).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), before)  # nobody's draws are moved
    other = make_reader(dataclasses.replace(plan, seed=4)).state_dict()
    assert not torch.equal(one["score.weight"], other["score.weight"])
    name = "encoder.embeddings.word_embeddings.weight"
    assert torch.equal(one[name], other[name])


def test_a_copy_scores_alone(reader):
    other = copy.deepcopy(reader)
    with torch.no_grad():
        before = other.scores(PAGES, ACTIONS)[0]
        reader.score.weight.zero_()
        assert torch.equal(other.scores(PAGES, ACTIONS)[0], before)


# ------------------------------------------------------------------------------------- the texts


def test_texts_are_prepared_as_webshops_agents_do():
    assert prepared(' "A" [SEP] it\'s [sep] B ') == "a [SEP] its [SEP] b"
    assert prepared("\ud800x") == "?x"


def test_signs_are_single_tokens(plan):
    words = Words(plan.vocabulary)
    for sign in (*SIGNS, "[SEP]"):
        assert len(words.tokens(sign, 64)) == 3
        assert len(words.tokens(sign.upper(), 64)) == 3
    assert len({int(words.tokens(sign, 64)[1]) for sign in SIGNS}) == 4
    assert len(words.tokens("[CLS]", 64)) > 3  # a title cannot begin a page


def test_of_longer_texts_the_last_tokens_are_read(plan):
    whole = Words(plan.vocabulary).tokens("red lamp " * 400, 10_000)
    cut = Words(plan.vocabulary).tokens("red lamp " * 400, 101)
    assert len(whole) == 802 and len(cut) == 101
    assert cut[0] == whole[0] and np.array_equal(cut[1:], whole[-100:])
    reader = make_reader(dataclasses.replace(plan, page_tokens=9, action_tokens=5))
    with torch.no_grad():
        one = reader.scores(["blue rug red lamp white rug red lamp work"], [["a b c red lamp ]"]])
        two = reader.scores(
            ["x " * 9 + "rug red lamp white rug red lamp work"][:1], [["red lamp ]"]]
        )
        close(one[0], two[0])
        many = make_reader(dataclasses.replace(plan, page_tokens=10_000))
        assert many.values(["red lamp " * 5_000]).isfinite().all()  # as many as it has positions


@pytest.mark.parametrize(
    "text", ["", " \n", "日本語 🎧", "Ünïcode ß", "\x00\x01", "\ud800", "a" * 9_000]
)
def test_any_text_has_a_score(reader, text):
    scores, values = reader([text, PAGES[0]], [[text, "click[red]"], [text]])
    assert torch.cat([*scores, values]).isfinite().all()


def test_texts_of_products_say_what_they_are():
    product = SimpleNamespace(
        name="Acme Rug", description="", bullets=("SOFT: yes", "flat"), instruction="i need a rug",
        options={"color": ("red", "blue")},
    )  # fmt: skip
    first, *texts = texts_of([product] * 3)
    assert "buy now" in first
    assert (
        texts == ["i need a rug [SEP] color red blue [SEP] Acme Rug [SEP] SOFT: yes [SEP] flat"] * 3
    )
    assert len(texts_of([product] * 10, most=4)) <= 5


# --------------------------------------------------------------------------------- the small BERT


def test_what_is_hidden_is_guessed_better_than_by_how_common_it_is(tmp_path):
    from transformers import AutoTokenizer, BertForMaskedLM

    folder = make_small_bert(TEXTS, tmp_path / "bert", steps=250)
    model = BertForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    counts = np.bincount(np.concatenate(rows), minlength=len(tokenizer)) + 1e-9
    common, losses = np.log(counts / counts.sum()), []
    with torch.no_grad():
        for row in rows:
            for place in range(1, len(row) - 1):
                shown = torch.tensor([row])
                shown[0, place] = tokenizer.mask_token_id
                logs = model(input_ids=shown).logits[0, place].log_softmax(0)
                losses.append((-float(logs[row[place]]), -common[row[place]]))
    mine, unigram = np.mean(losses, 0)
    assert mine < 0.5 * unigram


SCRIPT = """
import hashlib, sys, torch
from pathlib import Path
from recgym.agents.bert import make_small_bert
torch.set_num_threads(1)
torch.rand(int(sys.argv[2]))
folder = make_small_bert(sys.argv[3:], Path(sys.argv[1]), steps=3)
names = "model.safetensors", "tokenizer.json"
print(*(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names))
"""


def test_the_same_texts_and_seed_make_the_same_small_bert_in_every_process(tmp_path):
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / mark), mark, *TEXTS],
            capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        ).stdout
        for mark in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]


def test_a_small_bert_is_made_once_for_texts_and_a_seed(monkeypatch):
    made = []
    real = bert.make_small_bert

    def noted(*arguments, **options):
        made.append(options["seed"])
        return real(*arguments, **options, steps=2)

    monkeypatch.setattr(bert, "make_small_bert", noted)
    plan = reader_plan(SMALL, TEXTS, 0)
    assert reader_plan(SMALL, TEXTS, 0) == plan and made == [0]
    assert plan.model == "recgym-bert-small" and small_folder(plan.made).is_dir()
    assert kept_small(TEXTS, 1) != plan.made and made == [0, 1]
    assert make_reader(plan).values(PAGES).isfinite().all()


def test_without_its_weights_a_plan_of_a_small_bert_is_refused(plan):
    with pytest.raises(InvalidArgument, match="make the plan anew, of the same texts") as problem:
        make_reader(dataclasses.replace(plan, model=SMALL, made="gone"))
    said(problem)


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_no_text_makes_no_small_bert(texts):
    with pytest.raises(InvalidArgument, match="There is no text to make") as problem:
        reader_plan(SMALL, texts, 0)
    said(problem)


# ------------------------------------------------------------------------------- BERTs of others


def test_a_bert_that_does_not_know_the_signs_is_given_them(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "lamp", "click", "[", "]"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink(missing_ok=True)
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32,
    )  # fmt: skip
    theirs = BertModel(config)
    theirs.save_pretrained(tmp_path)
    plan = reader_plan(str(tmp_path))
    reader = make_reader(plan)
    table = reader.encoder.get_input_embeddings().weight
    assert len(table) == len(words) + 4 == len(reader.words)
    assert torch.equal(table[: len(words)], theirs.get_input_embeddings().weight)
    assert reader.words.tokens(" ".join(SIGNS), 64).tolist() == [2, 10, 11, 12, 13, 3]
    assert reader.scores(["red lamp " * 99], [["click[red]"]])[0].isfinite().all()


def test_what_is_no_bert_is_refused(plan, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    other = tmp_path / "gpt"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=9)).save_pretrained(other)
    (tmp_path / "empty").mkdir()
    for place in (other, tmp_path / "empty", tmp_path / "no" / "such" / "place"):
        with pytest.raises(InvalidArgument, match="^No BERT can be loaded from") as problem:
            reader_plan(str(place))
        said(problem)


def test_weights_that_are_missing_or_others_are_refused(plan, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "bert"
    shutil.copytree(plan.model, folder)
    mine = reader_plan(str(folder))
    weights = load_file(folder / "model.safetensors")
    some = {name: part for name, part in weights.items() if "layer.1.output" not in name}
    save_file(some, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidArgument, match="it lacks encoder.layer.1") as problem:
        make_reader(mine)
    said(problem)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InvalidArgument, match="^No BERT can be loaded from") as problem:
        make_reader(mine)
    said(problem)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")  # a pickle is not opened
    with pytest.raises(InvalidArgument, match="^No BERT can be loaded from") as problem:
        make_reader(mine)
    said(problem)


@pytest.mark.parametrize("changed", [{"num_hidden_layers": 3}, {"vocab_size": 20}])
def test_a_bert_that_was_replaced_is_refused(changed, plan):
    other = dataclasses.replace(plan, config={**plan.config, **changed})
    with pytest.raises(InvalidArgument, match="has changed since its plan was made") as problem:
        make_reader(other)
    said(problem)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("page_tokens", 2, "page_tokens is a whole number from 3 on, and 2"),
        ("action_tokens", 6.5, "action_tokens is a whole number"),
        ("dropout", 1.0, "dropout is a share"),
    ],
)
def test_an_option_that_means_nothing_is_refused(option, value, says, plan):
    with pytest.raises(InvalidArgument, match=f"^{says}") as problem:
        reader_plan(plan.model, **{option: value})
    said(problem)
