"""The encoders: what they read and what not, their sizes, and a slow recomputation."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, GPT2Model

from recgym.agents.batches import seen_of
from recgym.agents.encoders import ENCODERS, encoder_named
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.supervised import Supervised
from recgym.errors import InvalidArgument, UnknownName

from ..sentences import said
from .worlds import cyclic, hit_rate, scattered

pytestmark = pytest.mark.usefixtures("one_thread")
ITEMS, LENGTH, SIZE = 12, 6, 8
EVERY = [name for name in ENCODERS if name != "caser"]
MASKED = ["caser", "nextitnet", "sasrec"]
STARTED = [name for name in ENCODERS if name not in MASKED]


def an_encoder(name, answers=0, size=SIZE, scale=0.5):
    return scattered(ENCODERS[name](ITEMS, LENGTH, answers, size), scale=scale).eval()


def histories(lengths, seed=0):
    """Items, right-padded, and how many count."""
    items = torch.full((len(lengths), LENGTH), ITEMS)
    generator = torch.Generator().manual_seed(seed)
    for row, length in enumerate(lengths):
        items[row, :length] = torch.randint(ITEMS, (length,), generator=generator)
    return items, torch.tensor(lengths).clamp(min=1)


def recommender(name, n_items, size=64):
    torch.manual_seed(0)
    parts = {"history": [0, LENGTH]}
    return Recommender(Plan(name, n_items, 0, parts, size, 0.1, {"supervised": n_items})).eval()


def first_cross_entropy(name, n_items, zero=False):
    network = recommender(name, n_items)
    items = torch.randint(n_items, (256, LENGTH))
    items[:128, 3:] = n_items
    head = network.head("supervised")
    if zero:
        nn.init.zeros_(head.weight)
    states = network.state(seen_of(items, None, n_items))
    return head.cross_entropy(states, torch.randint(n_items, (256,)))[0].item()


# -------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ENCODERS)
def test_the_row_of_the_pad_changes_nothing_for_a_full_history(name):
    encoder, seen = an_encoder(name), histories([LENGTH] * 4)
    before = encoder(*seen)
    with torch.no_grad():
        encoder.items.weight[ITEMS] += 1
    assert torch.equal(encoder(*seen), before)


@pytest.mark.parametrize("name", MASKED)
def test_the_row_of_the_pad_is_never_read_where_pads_are_zero(name):
    encoder, seen = an_encoder(name), histories([0, 1, 3, 5])
    before = encoder(*seen)
    before.square().sum().backward()
    assert not encoder.items.weight.grad[ITEMS].any() and encoder.items.weight.grad.any()
    with torch.no_grad():
        encoder.items.weight[ITEMS] += 1
    assert torch.equal(encoder(*seen), before)


@pytest.mark.parametrize("name", STARTED)
def test_the_pad_is_a_start_token_that_others_learn(name):
    encoder = an_encoder(name)
    encoder(*histories([0])).square().sum().backward()
    assert encoder.items.weight.grad[ITEMS].all() and not encoder.items.weight.grad[:ITEMS].any()
    encoder.zero_grad()
    encoder(*histories([1, 3])).square().sum().backward()  # a history that has begun has none
    assert not encoder.items.weight.grad[ITEMS].any()


@pytest.mark.parametrize("name", ENCODERS)
def test_items_beyond_the_length_change_nothing(name):
    encoder, (items, lengths) = an_encoder(name), histories([1, 2, 3, 5])
    beyond = torch.arange(LENGTH) >= lengths[:, None]
    others = torch.where(beyond, torch.randint(ITEMS, items.shape), items)
    torch.testing.assert_close(encoder(others, lengths), encoder(items, lengths))


@pytest.mark.parametrize("name", ENCODERS)
def test_each_item_that_counts_is_read(name):
    encoder = an_encoder(name)
    for length in range(1, LENGTH + 1):
        items, lengths = histories([length])
        for place in range(length):
            other = items.clone()
            other[0, place] = (other[0, place] + 1) % ITEMS
            assert not torch.allclose(encoder(other, lengths), encoder(items, lengths))


@pytest.mark.parametrize("name", EVERY)
def test_no_state_sees_what_follows(name):
    encoder, (items, lengths) = an_encoder(name), histories([LENGTH] * 8)
    states = encoder.every(items, lengths)
    for place in range(LENGTH - 1):
        others = items.clone()
        others[:, place + 1 :] = torch.randint(ITEMS, others[:, place + 1 :].shape)
        found = encoder.every(others, lengths)
        torch.testing.assert_close(found[:, : place + 1], states[:, : place + 1])
        assert not torch.allclose(found[:, place + 1 :], states[:, place + 1 :])


@pytest.mark.parametrize("name", EVERY)
def test_the_state_is_that_after_the_last_item_that_counts(name):
    encoder, (items, lengths) = an_encoder(name), histories([0, 1, 3, LENGTH])
    states, last = encoder(items, lengths), encoder.every(items, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(states[row], last[row, length - 1])


@pytest.mark.parametrize("name", EVERY)
def test_each_state_is_that_of_the_history_so_far(name):
    encoder, (items, lengths) = an_encoder(name), histories([LENGTH] * 3)
    states = encoder.every(items, lengths)
    for count in range(1, LENGTH + 1):
        so_far = torch.where(torch.arange(LENGTH) < count, items, ITEMS)
        alone = encoder(so_far, torch.full((3,), count))
        torch.testing.assert_close(states[:, count - 1], alone)


def test_caser_has_no_state_after_each_item():
    with pytest.raises(InvalidArgument) as problem:
        an_encoder("caser").every(*histories([3]))
    assert "sees a window as a whole" in said(problem)


def test_caser_refuses_a_window_below_its_filters():
    with pytest.raises(InvalidArgument) as problem:
        ENCODERS["caser"](ITEMS, 3)
    assert "sees 4 items at a time, and this history holds 3" in said(problem)


def test_an_encoder_of_another_name_is_refused():
    with pytest.raises(UnknownName) as problem:
        encoder_named("sasrek")
    assert "sasrec" in said(problem)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_answer_is_added_to_its_item(name):
    told, plain = an_encoder(name, answers=3), an_encoder(name)
    shared = {key: value for key, value in told.state_dict().items() if "answers" not in key}
    items, lengths = histories([0, 1, 4, LENGTH])
    for answer in range(3):
        plain.load_state_dict(shared)
        with torch.no_grad():
            plain.items.weight += told.answers.weight[answer]
        found = told(items, lengths, torch.full_like(items, answer))
        torch.testing.assert_close(found, plain(items, lengths))
    assert not torch.allclose(
        told(items, lengths, torch.zeros_like(items)), told(items, lengths, torch.ones_like(items))
    )


# ------------------------------------------------------------------------------ empty histories


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("training", [False, True])
def test_the_state_of_an_empty_history_is_finite_and_learns(name, training):
    encoder = an_encoder(name).train(training)
    state = encoder(*histories([0, 0]))
    assert state.isfinite().all()
    state.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_what_the_masked_encoders_say_of_an_empty_history_are_their_biases():
    empty = histories([0])
    sasrec, nextitnet, caser = (an_encoder(n) for n in ("sasrec", "nextitnet", "caser"))
    assert torch.equal(sasrec(*empty)[0], sasrec.normed[2].bias)
    assert not nextitnet(*empty).any()
    biases = [layer.bias for layer in caser.across] + [caser.down.bias.expand(SIZE)]
    assert torch.equal(caser(*empty)[0], torch.cat(biases).relu())


@pytest.mark.parametrize("name", ENCODERS)
def test_an_empty_history_beside_others_is_as_alone(name):
    encoder = an_encoder(name)
    torch.testing.assert_close(encoder(*histories([3, 0, 5]))[1], encoder(*histories([0]))[0])


# ---------------------------------------------------------------------------- sizes, beginnings


def test_encoders_have_the_numbers_of_the_papers():
    d, length = 64, 10
    table, norm, dense = (ITEMS + 1) * d, 2 * d, d * d + d
    expected = {
        "gru4rec": table + 3 * d * (d + d) + 2 * 3 * d,
        "sasrec": table + length * d + 3 * norm + 5 * dense,
        "caser": table + sum(16 * (height * d + 1) for height in (2, 3, 4)) + length + 1,
        "nextitnet": table + 12 * (3 * d * d + d + norm),
        "gpt2-small": table + length * d + 2 * (12 * d * d + 13 * d) + norm,
        "distilgpt2": table + length * d + 6 * (12 * d * d + 13 * d) + norm,
        "lstm": table + 4 * d * (d + d) + 2 * 4 * d,
    }
    for name, count in expected.items():
        encoder = ENCODERS[name](ITEMS, length)
        assert sum(p.numel() for p in encoder.parameters()) == count, name
        assert encoder.width == (112 if name == "caser" else 64)
        assert encoder(torch.zeros(2, length).long(), torch.tensor([1, 10])).shape[1] == (
            encoder.width
        )
    assert recommender("caser", ITEMS).head("supervised").weight.shape == (ITEMS, 112)


def body(encoder):
    """How many numbers an encoder has beside its embeddings of items."""
    return sum(p.numel() for n, p in encoder.named_parameters() if n != "items.weight")


@pytest.mark.parametrize("name", ["gpt2-small", "distilgpt2"])
@pytest.mark.parametrize("size", [48, 64, 128, 256])
@pytest.mark.parametrize("length", [10, 50])
def test_an_lstm_in_place_of_a_gpt2_has_as_many_numbers(name, size, length):
    wanted = body(ENCODERS[name](ITEMS, length, 0, size))
    lstm = ENCODERS[f"lstm-as-{name}"](ITEMS, length, 0, size)
    assert abs(body(lstm) / wanted - 1) < 0.01
    assert lstm.width > size and lstm.lstm.num_layers == 2

    def of_width(width):
        return body(nn.LSTM(size, width, 2, device="meta"))

    assert body(lstm) == of_width(lstm.width)
    for other in (lstm.width - 1, lstm.width + 1):
        assert abs(of_width(other) - wanted) > abs(body(lstm) - wanted)


@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings_begin_small_with_the_pad_among_them(name):
    torch.manual_seed(0)
    weights = ENCODERS[name](5000, LENGTH).items.weight
    assert abs(weights.std() - 0.01) < 1e-4 and abs(weights.mean()) < 1e-4
    assert weights[5000].all()


@pytest.mark.parametrize("name", ENCODERS)
def test_the_first_cross_entropy_of_zero_heads_is_that_of_a_uniform_guess(name):
    assert abs(first_cross_entropy(name, 50, zero=True) - math.log(50)) < 1e-5


@pytest.mark.parametrize(
    ("name", "n_items"),
    [
        *[("gru4rec", 50), ("caser", 50), ("sasrec", 20_000), ("nextitnet", 20_000)],
        *[("gpt2-small", 20_000), ("distilgpt2", 20_000), ("lstm", 50)],
    ],
)
def test_the_first_cross_entropy_is_near_that_of_a_uniform_guess(name, n_items):
    assert abs(first_cross_entropy(name, n_items) - math.log(n_items)) < 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout_is_off_in_evaluation_only(name):
    encoder, seen = ENCODERS[name](ITEMS, LENGTH, 0, SIZE, 0.5), histories([3, LENGTH])
    assert torch.equal(encoder.eval()(*seen), encoder(*seen))
    if name not in ("gru4rec", "nextitnet", "lstm"):  # they have none
        assert not torch.equal(encoder.train()(*seen), encoder(*seen))


# ---------------------------------------------------------------------------- slow recomputation


def normed(rows, layer):
    centred = rows - rows.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-8)
    return scaled * layer["weight"] + layer["bias"]


def dense(rows, layer):
    return rows @ layer["weight"].T + layer["bias"]


def weights_of(module):
    """The weights of a module by the dotted names of its layers."""
    found = {}
    for name, weights in module.state_dict().items():
        layer, _, which = name.rpartition(".")
        found.setdefault(layer, {})[which] = weights.double().numpy()
    return found


def slow_sasrec(layers, items, length):
    """The state after `length` items, one query at a time."""
    if items[0] == ITEMS:
        return layers["normed.2"]["bias"]
    known = np.stack([layers["items"]["weight"][items[place]] + layers["places"]["weight"][place]
                      for place in range(length)])  # fmt: skip
    query = normed(known[-1], layers["normed.0"])
    asked, keys = dense(query, layers["query"]), dense(known, layers["key"])
    scores = np.array([asked @ key for key in keys]) / math.sqrt(SIZE)
    chances = np.exp(scores) / np.exp(scores).sum()
    attended = sum(p * v for p, v in zip(chances, dense(known, layers["value"]), strict=True))
    middle = normed(attended + query, layers["normed.1"])
    inner = np.maximum(dense(middle, layers["inner"]), 0)
    return normed(dense(inner, layers["outer"]) + middle, layers["normed.2"])


def slow_nextitnet(layers, items, length):
    """The state after `length` items, one place at a time."""
    there = [place < length and items[place] != ITEMS for place in range(LENGTH)]
    steps = [layers["items"]["weight"][items[p]] * there[p] for p in range(LENGTH)]

    def causal(rows, number, spread):
        kernel = layers[f"layers.{number}.convolution"]
        found = []
        for place in range(LENGTH):
            total = kernel["bias"].copy()
            for tap in range(3):  # the last one is this place, the first the farthest back
                if (behind := place - (2 - tap) * spread) >= 0:
                    total += kernel["weight"][:, :, tap] @ rows[behind]
            found.append(np.maximum(normed(total, layers[f"layers.{number}.norm"]), 0))
        return found

    for block, spread in enumerate((1, 2, 1, 2, 1, 2)):
        inner = causal(causal(steps, 2 * block, spread), 2 * block + 1, 2 * spread)
        steps = [(steps[p] + inner[p]) * there[p] for p in range(LENGTH)]
    return steps[length - 1]


def slow_caser(layers, items, length):
    """The state of a window, one filter and one place at a time."""
    there = [place < length and items[place] != ITEMS for place in range(LENGTH)]
    image = np.stack([layers["items"]["weight"][items[p]] * there[p] for p in range(LENGTH)])
    found = []
    for number, height in enumerate((2, 3, 4)):
        filters = layers[f"across.{number}"]
        for one, bias in zip(filters["weight"], filters["bias"], strict=True):  # (size, height)
            found.append(max(0, *((image[top : top + height] * one.T).sum() + bias
                                  for top in range(LENGTH - height + 1))))  # fmt: skip
    down = layers["down"]
    for column in image.T:
        found.append(max(0, (column * down["weight"][0]).sum() + down["bias"][0]))
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "slow"),
    [("sasrec", slow_sasrec), ("nextitnet", slow_nextitnet), ("caser", slow_caser)],
)
def test_states_are_those_of_a_slow_recomputation(name, slow):
    encoder = an_encoder(name, scale=0.3)
    items, lengths = histories([0, 1, 2, 3, 4, 5, LENGTH, LENGTH])
    items[1, 1:] = 0  # items beyond the length
    found = encoder(items, lengths).detach().numpy()
    layers = weights_of(encoder)
    for row in range(len(items)):
        expected = slow(layers, items[row].tolist(), int(lengths[row]))
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


def test_states_of_a_gru_are_those_of_a_slow_recomputation():
    encoder = an_encoder("gru4rec")
    items, lengths = histories([0, 1, 4, LENGTH])
    found, layers = encoder(items, lengths).detach().numpy(), weights_of(encoder)
    gru = layers["gru"]

    def sigmoid(numbers):
        return 1 / (1 + np.exp(-numbers))

    for row in range(len(items)):
        state = np.zeros(SIZE)
        for place in range(int(lengths[row])):
            item = layers["items"]["weight"][items[row, place]]
            of_item = np.split(gru["weight_ih_l0"] @ item + gru["bias_ih_l0"], 3)
            of_state = np.split(gru["weight_hh_l0"] @ state + gru["bias_hh_l0"], 3)
            reset, update = (sigmoid(of_item[gate] + of_state[gate]) for gate in (0, 1))
            state = update * state + (1 - update) * np.tanh(of_item[2] + reset * of_state[2])
        np.testing.assert_allclose(found[row], state, rtol=1e-5, atol=1e-5)


def test_states_of_an_lstm_are_those_of_a_slow_recomputation():
    encoder = an_encoder("lstm")
    items, lengths = histories([0, 1, 4, LENGTH])
    found, layers = encoder(items, lengths).detach().numpy(), weights_of(encoder)
    lstm = layers["lstm"]

    def sigmoid(numbers):
        return 1 / (1 + np.exp(-numbers))

    for row in range(len(items)):
        state, cell = np.zeros(SIZE), np.zeros(SIZE)
        for place in range(int(lengths[row])):
            item = layers["items"]["weight"][items[row, place]]
            gates = lstm["weight_ih_l0"] @ item + lstm["bias_ih_l0"]
            gates += lstm["weight_hh_l0"] @ state + lstm["bias_hh_l0"]
            enters, stays, adds, shows = np.split(gates, 4)
            cell = sigmoid(stays) * cell + sigmoid(enters) * np.tanh(adds)
            state = sigmoid(shows) * np.tanh(cell)
        np.testing.assert_allclose(found[row], state, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------- published weights


def published(folder, size=128, layers=2, heads=2, places=16, kind=GPT2LMHeadModel):
    """A GPT-2 whose weights are far from where they begin, as Transformers saves one."""
    config = GPT2Config(
        vocab_size=5, n_positions=places, n_embd=size, n_layer=layers, n_head=heads,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = scattered(kind(config), scale=0.2).eval()
    model.save_pretrained(folder)
    return model if kind is GPT2Model else model.transformer


@pytest.mark.parametrize(("name", "layers"), [("gpt2-small", 2), ("distilgpt2", 6)])
@pytest.mark.parametrize("kind", [GPT2Model, GPT2LMHeadModel])
def test_published_weights_say_what_they_say_in_transformers(name, layers, kind, tmp_path):
    model = published(tmp_path, layers=layers, kind=kind)
    encoder = an_encoder(name, size=128, scale=0.2)
    own = encoder.items.weight.clone()
    items, lengths = histories([0, 1, 2, 3, 5, LENGTH])
    before = encoder(items, lengths)
    encoder.load_published(str(tmp_path))
    assert torch.equal(encoder.items.weight, own)
    counts = (torch.arange(LENGTH) < lengths[:, None]).long()
    with torch.no_grad():
        wanted = model(inputs_embeds=encoder.items(items), attention_mask=counts)[0]
        every, last = encoder.every(items, lengths), encoder(items, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(every[row, :length], wanted[row, :length])
        torch.testing.assert_close(last[row], wanted[row, length - 1])
    assert not torch.allclose(last, before)


def test_published_weights_learn_on_and_draw_nothing(tmp_path):
    published(tmp_path)
    encoder = an_encoder("gpt2-small", answers=3, size=128)
    encoder.load_published(str(tmp_path))
    encoder.every(*histories([LENGTH] * 20)).square().sum().backward()
    learned = {name for name, weights in encoder.named_parameters() if weights.grad is not None}
    assert learned == {name for name, _ in encoder.named_parameters()} - {"answers.weight"}
    assert all(weights.dtype == torch.float32 for weights in encoder.parameters())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 64, "heads": 1}, "is a GPT-2 of 2 blocks, 1 heads, size 64 and 16 places"),
        ({"layers": 3}, "is a GPT-2 of 3 blocks, 2 heads, size 128"),
        ({"layers": 1}, "is a GPT-2 of 1 blocks"),
        ({"places": 5}, "and 5 places, and this encoder has 2, 2, 128 and 6"),
        ({"heads": 4}, "is a GPT-2 of 2 blocks, 4 heads"),  # whose weights have the same shapes
    ],
)
def test_published_weights_of_another_shape_are_refused(change, says, tmp_path):
    published(tmp_path, **change)
    assert_not_loaded(tmp_path, says)


def assert_not_loaded(folder, says):
    encoder = an_encoder("gpt2-small", size=128)
    before = {name: weights.clone() for name, weights in encoder.state_dict().items()}
    with pytest.raises(InvalidArgument) as problem:
        encoder.load_published(str(folder))
    assert says in said(problem)
    assert all(torch.equal(before[name], now) for name, now in encoder.state_dict().items())


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert_not_loaded(tmp_path / "none", "cannot be loaded")
    assert_not_loaded(tmp_path, "give the folder of a GPT-2 in safetensors")


def test_pickled_weights_are_refused_and_never_unpickled(tmp_path):
    published(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    trap = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self):
            return trap.touch, ()

    torch.save(weights | {"trap": Trap()}, tmp_path / "pytorch_model.bin")
    assert_not_loaded(tmp_path, "cannot be loaded")
    assert not trap.exists()


@pytest.mark.parametrize("lacks", ["h.1.", "ln_f", "wpe", ""])
def test_weights_that_are_not_all_there_are_refused(lacks, tmp_path):
    """Transformers would draw what is missing."""
    published(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {name: one for name, one in load_file(file).items() if lacks not in name}
    save_file(weights, file, {"format": "pt"})
    assert_not_loaded(tmp_path, "cannot be loaded (it has no ")


def test_weights_of_another_model_are_refused(tmp_path):
    """Transformers would take the shape of the other one, and draw all weights."""
    config = BertConfig(
        vocab_size=5, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=512,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    assert_not_loaded(tmp_path, "cannot be loaded (it has no ")


def test_spoiled_weights_are_refused(tmp_path):
    published(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"spoiled" * 99)
    assert_not_loaded(tmp_path, "cannot be loaded (Error while deserializing")
    published(tmp_path, size=64)
    weights = (tmp_path / "model.safetensors").read_bytes()
    published(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)  # of another size than its config says
    assert_not_loaded(tmp_path, "cannot be loaded")


def test_a_size_that_no_heads_share_is_refused():
    with pytest.raises(InvalidArgument) as problem:
        ENCODERS["gpt2-small"](ITEMS, LENGTH, 0, 200)
    assert "cannot be split evenly into 3 heads of GPT-2: take 192 or 256" in said(problem)
    for size, heads in ((8, 1), (64, 1), (100, 1), (128, 2), (768, 12)):
        assert ENCODERS["gpt2-small"](ITEMS, LENGTH, 0, size).h[0].heads == heads


# ------------------------------------------------------------------------------------ all of it


@pytest.mark.parametrize("name", ENCODERS)
def test_scores_move_with_the_numbers_of_items_and_do_not_change(name):
    network = scattered(recommender(name, ITEMS, SIZE))
    moved = recommender(name, ITEMS, SIZE)
    moved.load_state_dict(network.state_dict())
    order = torch.randperm(ITEMS)  # item order[i] is called i
    with_pad = torch.cat([order, torch.tensor([ITEMS])])
    with torch.no_grad():
        moved.encoder.items.weight.copy_(network.encoder.items.weight[with_pad])
        moved.head("supervised").weight.copy_(network.head("supervised").weight[order])
        moved.head("supervised").bias.copy_(network.head("supervised").bias[order])
    items, _ = histories([0, 1, 3, LENGTH])
    renamed = torch.argsort(with_pad)[items]
    before, after = (
        one.head("supervised")(one.state(seen_of(codes, None, ITEMS)))
        for one, codes in ((network, items), (moved, renamed))
    )
    torch.testing.assert_close(after, before[:, order])


@pytest.mark.parametrize("name", ENCODERS)
def test_what_follows_in_a_cycle_is_learned(name):
    train = cyclic("cycle", n_items=12)
    agent = Supervised(encoder=name, size=32, steps=200, batch_size=64).fit(train)
    assert hit_rate(agent, train) > 0.99
