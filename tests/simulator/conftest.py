"""Language models for tests: tiny ones made from configs, a small one, and a pre-trained one."""

import copy

import pytest
import torch
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from recgym.simulator.language import Language
from recgym.simulator.small import Texts, make_small

from .shelves import TEXTS

SHAPE = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.3,
}  # fmt: skip
ITEMS = 12


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """What make_small writes, after few steps."""
    return make_small(Texts(TEXTS), tmp_path_factory.mktemp("models") / "small", steps=60)


@pytest.fixture(scope="session")
def tokenizer(small_folder):
    return AutoTokenizer.from_pretrained(small_folder)


def made(kind, tokenizer, positions=256, seed=0, items=ITEMS, **shape):
    """A tiny model whose weights are far from nought, with item tokens that are drawn."""
    words = len(tokenizer)
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=words, n_positions=positions, n_embd=16, n_layer=2, n_head=2,
            initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    else:
        configured, built = {
            "llama": (LlamaConfig, LlamaForCausalLM), "mistral": (MistralConfig, MistralForCausalLM)
        }[kind]  # fmt: skip
        window = {"sliding_window": 8} if kind == "mistral" else {}
        places = {"vocab_size": words, "max_position_embeddings": positions}
        model = built(configured(**places, **SHAPE | window | shape))
    language = Language(model, tokenizer, f"a tiny {kind}")
    language.items = torch.randn(items, language.width)
    return language


@pytest.fixture(params=["llama", "gpt2", "mistral"])
def any_language(request, tokenizer):
    """Each of the tiny models in turn: rotary places, learned ones, a window of 8."""
    return made(request.param, tokenizer)


@pytest.fixture
def llama(tokenizer):
    return made("llama", tokenizer)


@pytest.fixture(scope="session")
def small_read(small_folder):
    return Language.load(str(small_folder))


@pytest.fixture
def small(small_read):
    """The small model, as it was made."""
    return copy.deepcopy(small_read)


@pytest.fixture(scope="session")
def stories_read(samples):
    return Language.load(str(samples / "lm" / "stories260k"))


@pytest.fixture
def stories(stories_read):
    """The pre-trained model, as it is published."""
    return copy.deepcopy(stories_read)
