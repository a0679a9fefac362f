"""A language with items: spliced vectors, states read together as alone, what cannot be loaded."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)
from transformers.utils import logging

from recgym.errors import Diverged, InvalidArgument, OutOfRoom
from recgym.published import quietly
from recgym.simulator.language import Language, lacks_memory
from recgym.simulator.prompts import DOMAINS, Prompts

from ..sentences import said
from .conftest import made

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@torch.no_grad()
def alone(language, prompt):
    """The state after a prompt, from its vectors one by one, by the model's own road."""
    rows = [
        language.table[token] if token < language.words else language.items[token - language.words]
        for token in prompt
    ]
    found = language.model(
        inputs_embeds=torch.stack(rows)[None], output_hidden_states=True, use_cache=False
    )
    return found.hidden_states[-1][0, -1]


def drawn(language, count, seed=0, longest=14, shortest=1):
    """Ragged rows of words and items."""
    rng = np.random.default_rng(seed)
    most = language.words + len(language.items)
    return [
        rng.integers(3, most, size=rng.integers(shortest, longest + 1)).tolist()
        for _ in range(count)
    ]


def asked(language, seed=0):
    """Beginnings, one of them empty, endings that share them, and which follows which."""
    beginnings = [[], *drawn(language, 6, seed), [1, 5, 7], [9, 2, 4]]
    of = np.random.default_rng(seed).integers(len(beginnings), size=40)
    return beginnings, drawn(language, len(of), seed + 1), of


def hold(found, language, beginnings, endings, of):
    wanted = [alone(language, [*beginnings[one], *ending])
              for one, ending in zip(of, endings, strict=True)]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(wanted), **CLOSE)


# ------------------------------------------------------------------------------------- splicing


@pytest.mark.parametrize("place", [0, 1, 4, 8])
def test_an_item_with_a_words_vector_is_that_word(any_language, place):
    language = any_language
    words = [1, 30, 31, 32, 33, 34, 35, 36, 37]
    language.items[3] = language.table[words[place]]
    spliced = [*words[:place], language.words + 3, *words[place + 1 :]]
    with torch.no_grad():
        plain = language.model(input_ids=torch.tensor([words])).logits
        states = language.read(language.vectors(torch.tensor([spliced]))).last_hidden_state
    torch.testing.assert_close(language.next_words(states), plain, **CLOSE)
    other = language.vectors(torch.tensor([[*words[:place], language.words + 4]]))
    assert not torch.equal(other[0, place], language.table[words[place]])


def test_a_prompt_with_words_in_place_of_items_is_the_plain_text(stories):
    """Of a model that was pre-trained, with the tokens of the text as a whole."""
    prompts = Prompts(stories, DOMAINS["tracks"])
    names = [" Lily", " mom", " Timmy"]
    words = [stories.tokens(name) for name in names]
    assert all(len(word) == 1 for word in words), words
    stories.items = torch.cat([stories.table[word].detach() for word in words])
    text = (
        "The user has listened to these tracks in chronological order: Lily Timmy, Compute the "
        "likelihood that mom be the next track to be listened to based on the listening history."
    )
    tokens = stories.tokenizer(text)["input_ids"]
    prompt = [*prompts.likelihood([0, 2]), *prompts.of(1)]
    assert [token if token < stories.words else words[token - stories.words][0]
            for token in prompt] == tokens  # fmt: skip
    with torch.no_grad():
        plain = stories.model(input_ids=torch.tensor([tokens])).logits
        states = stories.read(stories.vectors(torch.tensor([prompt]))).last_hidden_state
    torch.testing.assert_close(stories.next_words(states), plain, **CLOSE)


def test_a_text_goes_on_without_a_second_space(stories, small):
    whole = "Once upon a time, there was a bird."
    for language in (stories, small):
        parts = [*language.opening("Once upon a time"), *language.tokens(",")]
        parts += language.tokens(" there was")
        parts += language.tokens(" a bird.")
        assert language.tokenizer.decode(parts).strip() == whole
    assert stories.opening(whole) == [
        *stories.opening("Once upon a time"), *stories.tokens(","),
        *stories.tokens(" there was"), *stories.tokens(" a bird."),
    ]  # fmt: skip


# -------------------------------------------------------------------------- states, read together


def test_states_are_those_of_prompts_read_alone(any_language):
    beginnings, endings, of = asked(any_language)
    found = any_language.after(beginnings, endings, of)
    assert found.dtype == torch.float32
    hold(found, any_language, beginnings, endings, of)


def test_states_of_a_pre_trained_model_are_those_of_prompts_read_alone(stories):
    stories.items = stories.table[40:52].clone()
    beginnings, endings, of = asked(stories)
    hold(stories.after(beginnings, endings, of), stories, beginnings, endings, of)


def counted(language, monkeypatch):
    """The shapes of what the model's body reads, as it reads them."""
    shapes, read = [], language.read
    monkeypatch.setattr(
        language, "read", lambda vectors, *rest, **more: (
            shapes.append(tuple(vectors.shape[:2])), read(vectors, *rest, **more))[1]
    )  # fmt: skip
    return shapes


@pytest.mark.parametrize("together", [1, 7, 60, 200])
def test_batches_of_any_size_say_the_same(any_language, together, monkeypatch):
    beginnings, endings, of = asked(any_language, seed=3)
    any_language.together = together
    shapes = counted(any_language, monkeypatch)
    hold(any_language.after(beginnings, endings, of), any_language, beginnings, endings, of)
    if together == 1:
        assert max(rows for rows, _ in shapes) == 1


def test_a_beginning_is_read_once_for_all_that_follow_it(llama, monkeypatch):
    shapes = counted(llama, monkeypatch)
    endings = drawn(llama, 50, longest=3)
    llama.after([[5] * 20, [6] * 20], endings, np.arange(50) % 2)
    assert shapes == [(2, 20), (50, max(map(len, endings)))]


def test_nothing_to_read_is_no_state(llama):
    assert llama.after([], [], np.zeros(0, np.int64)).shape == (0, llama.width)


def short_of_memory(language, rows, monkeypatch, problem=torch.OutOfMemoryError):
    """A machine on which the model reads no more than so many prompts at once."""
    read = language.read

    def reading(vectors, *rest, **more):
        if len(vectors) > rows:
            raise problem("DefaultCPUAllocator: can't allocate memory")
        return read(vectors, *rest, **more)

    monkeypatch.setattr(language, "read", reading)


@pytest.mark.parametrize("problem", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_half_as_much_is_read_where_memory_does_not_suffice(any_language, problem, monkeypatch):
    beginnings, endings, of = asked(any_language)
    told, most = [], 3
    short_of_memory(any_language, most, monkeypatch, problem)
    found = any_language.after(beginnings, endings, of, told.append)
    hold(found, any_language, beginnings, endings, of)
    assert told and all(re.fullmatch(r"Memory does not suffice for \d+ prompts at a time: half "
                                     r"are read\.", one) for one in told)  # fmt: skip
    told.clear()
    any_language.after(beginnings, endings, of, told.append)
    assert len(told) < 2  # it is remembered


def test_where_not_even_one_prompt_fits_it_is_said(llama, monkeypatch):
    short_of_memory(llama, 0, monkeypatch)
    with pytest.raises(OutOfRoom) as problem:
        llama.after([[1]], [[2]], np.array([0]))
    assert "for one prompt of a tiny llama: take a smaller model" in said(problem)


def test_other_faults_are_not_taken_for_lack_of_memory(llama, monkeypatch):
    short_of_memory(llama, 0, monkeypatch, lambda text: RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        llama.after([[1]], [[2]], np.array([0]))


def test_torch_itself_says_on_a_cpu_that_memory_does_not_suffice():
    with pytest.raises(RuntimeError) as problem:
        torch.empty(1 << 60)
    assert lacks_memory(problem.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_state_that_is_no_number_is_said(llama, value):
    llama.items[2] = value
    assert llama.after([[1]], [[llama.words + 1]], np.array([0])).isfinite().all()
    with pytest.raises(Diverged) as problem:
        llama.after([[1]], [[llama.words + 2], [4]], np.array([0, 0]))
    assert "A state of a tiny llama is no number" in said(problem)


def bare_tokenizer(**special):
    """One that knows of nothing that begins, ends or pads."""
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate("abcdefgh")}, "a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def test_no_token_for_pads_is_needed(llama):
    tokenizer = bare_tokenizer()
    assert tokenizer.pad_token is None and tokenizer.bos_token is None
    language = Language(llama.model, tokenizer, "bare")
    language.items = llama.items
    assert language.begins == [0] and Prompts(language, DOMAINS["tracks"]).state([]) == [0]
    beginnings, endings, of = asked(language)
    hold(language.after(beginnings, endings, of), language, beginnings, endings, of)
    before = language.after(beginnings, endings, of)
    with torch.no_grad():
        language.table[0] += 5  # the word that pads: none of these prompts holds it
    assert torch.equal(language.after(beginnings, endings, of), before)


def test_what_begins_a_prompt_is_the_tokenizers_own_or_its_end(llama):
    assert llama.begins == [llama.tokenizer.bos_token_id] == [1]
    assert Language(llama.model, bare_tokenizer(eos_token="c"), "bare").begins == [2]


# -------------------------------------------------------------------------------------- loading


def test_a_folder_is_loaded_frozen_and_as_it_is(small_folder, small):
    assert not any(values.requires_grad for values in small.model.parameters())
    assert not small.model.training and small.positions == 512
    assert small.parameters == sum(v.numel() for v in small.model.parameters())
    again = Language.load(str(small_folder))
    assert again.sha256 == small.sha256 and len(again.sha256) == 64
    with torch.no_grad():
        next(iter(again.model.parameters())).view(-1)[0] += 1e-3
    assert Language(again.model, again.tokenizer, "").sha256 != small.sha256


def test_half_the_precision_says_about_the_same(small_folder, small):
    half = Language.load(str(small_folder), precision="bf16")
    assert half.table.dtype == torch.bfloat16
    prompt = small.opening("A garden lamp belongs to")
    wanted = small.after([[1]], [prompt], np.array([0]))
    found = half.after([[1]], [prompt], np.array([0]))
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.05 * wanted.norm()


def test_loading_says_nothing_and_leaves_transformers_as_it_was(small_folder, capfd):
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    Language.load(str(small_folder))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
    logging.disable_progress_bar()
    try:
        with quietly():
            pass
        assert not logging.is_progress_bar_enabled()
    finally:
        if bars:
            logging.enable_progress_bar()


def refused(folder, *says):
    with pytest.raises(InvalidArgument) as problem:
        Language.load(str(folder))
    assert all(one in said(problem) for one in says), str(problem.value)


@pytest.fixture
def folder(llama, tmp_path):
    """A tiny Llama as Transformers writes it."""
    with quietly():
        llama.model.save_pretrained(tmp_path)
        llama.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_model_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "none", "No causal language model can be loaded", "give its name")
    refused(tmp_path, "No causal language model can be loaded")


def test_pickled_weights_are_refused_and_never_unpickled(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    trap = folder / "unpickled"

    class Trap:
        def __reduce__(self):
            return trap.touch, ()

    torch.save(weights | {"trap": Trap()}, folder / "pytorch_model.bin")
    refused(folder, "No causal language model can be loaded", "safetensors")
    assert not trap.exists()


def test_code_that_comes_with_a_model_is_refused_and_never_run(folder):
    trap = folder / "was_run"
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w')\nclass C: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM":
                                                 "own.C"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "No causal language model can be loaded")
    assert not trap.exists()


def test_spoiled_weights_are_refused(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for spoiled in (b"spoiled" * 99, whole[: len(whole) // 2], b""):
        (folder / "model.safetensors").write_bytes(spoiled)
        refused(folder, "No causal language model can be loaded")


def test_a_spoiled_config_or_tokenizer_is_refused(folder):
    for name in ("config.json", "tokenizer.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_text("{spoiled")
        refused(folder, "No causal language model can be loaded")
        (folder / name).write_bytes(whole)


def test_weights_that_are_not_all_there_are_refused(folder):
    """Transformers would draw what is missing."""
    file = folder / "model.safetensors"
    weights = {name: one for name, one in load_file(file).items() if "layers.1.mlp" not in name}
    save_file(weights, file, {"format": "pt"})
    refused(folder, "lacks weights of a causal language model, model.layers.1.mlp")


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 48}
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "No causal language model can be loaded")


def test_a_body_without_words_is_refused(folder, tokenizer):
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32,
                         num_hidden_layers=1, num_attention_heads=2)  # fmt: skip
    with quietly():
        LlamaModel(config).save_pretrained(folder)
    refused(folder, "lacks weights of a causal language model, lm_head.weight")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (BertForMaskedLM, "sees what follows a word"),
        (BertModel, "lacks weights of a causal language model"),
        (T5Model, "No causal language model can be loaded"),
    ],
)
def test_a_model_that_is_not_causal_is_refused(kind, says, folder, tokenizer):
    if kind is T5Model:
        config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1,
                          num_heads=2)  # fmt: skip
    else:
        config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2,
                            num_attention_heads=2, intermediate_size=32)  # fmt: skip
    with quietly():
        kind(config).save_pretrained(folder)
    refused(folder, says)


def test_tiny_models_are_causal(any_language):
    assert any_language.is_causal()


def test_positions_are_those_of_the_model(tokenizer):
    assert made("llama", tokenizer, positions=99).positions == 99
    assert made("gpt2", tokenizer, positions=77).positions == 77
