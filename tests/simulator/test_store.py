"""Simulators in folders: as fitted, stopped and gone on with, refused, shared, damaged."""

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import minari
import numpy as np
import pytest
import torch

from recgym import checkpoint
from recgym.errors import Busy, Diverged, InvalidArgument, RecGymError, UnknownName
from recgym.home import home, locked
from recgym.published import quietly
from recgym.rollouts import collect
from recgym.simulator import store
from recgym.simulator.asked import Asked, Fit, Tokenization
from recgym.simulator.moments import Moments
from recgym.simulator.store import WHOLE, Simulator, fit_simulator, simulators, users_of

from ..agents.worlds import assert_same_bits, logged
from ..sentences import said
from ..training import SMALL
from .conftest import made

pytestmark = pytest.mark.usefixtures("one_thread")
FIT = Fit(share=0.4, epochs=1, batch_size=6, learning_rate=0.01)
TOKENS = Tokenization(iterations=4, together=60)
LEARNED, FITTED = "learning item tokens", "fitting rewards and states"


def saved(folder, tokenizer, seed=0, positions=512):
    """A tiny model as Transformers keeps it."""
    with quietly():
        made("llama", tokenizer, positions, seed).model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def model(tokenizer, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "tiny", tokenizer, seed=7)


@pytest.fixture
def data():
    return oracle("n")


def oracle(name, **others):
    return collect(
        "recgym/OracleBoredom-v0", "mixed", sessions=90, name=name, replace=True, **SMALL | others
    )


@pytest.fixture
def asked(model):
    return Asked(model=model, fit=FIT, tokens=TOKENS)


def place(name="n-training"):
    return home() / "simulators" / name


def questions(simulator, rows=7):
    """Some histories, and items to ask for after them."""
    rng = np.random.default_rng(0)
    histories = np.full((rows, 5), simulator.n_items, np.int32)
    for row in range(rows):
        histories[row, : row % 6] = rng.integers(simulator.n_items, size=row % 6)
    return histories, rng.integers(simulator.n_items, size=(rows, 4))


def answers(simulator):
    histories, items = questions(simulator)
    return simulator.rewards(histories, items), simulator.states(histories)


def assert_alike(one, other):
    assert one.sha256 == other.sha256 and one.scale == other.scale
    for mine, others in zip(answers(one), answers(other), strict=True):
        assert mine.tobytes() == others.tobytes()


def heard_of(*request, **more):
    """The simulator, and what was said."""
    heard = []
    return fit_simulator(*request, say=heard.append, **more), heard


def refused(*request, error=InvalidArgument):
    with pytest.raises(error) as found:
        fit_simulator(*request)
    return said(found)


def python(script, *words):
    """Another process."""
    begun = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(begun, stdout=subprocess.PIPE, text=True)


# ------------------------------------------------------------------------------- fitted and loaded

LOADS = """
import sys, torch
torch.set_num_threads(1)
from recgym.simulator.store import Simulator
from tests.simulator.test_store import answers
simulator = Simulator.load(sys.argv[1])
print(simulator.sha256, simulator.scale, *(found.tobytes().hex() for found in answers(simulator)))
"""


def test_what_was_fitted_is_what_is_loaded_here_and_in_another_process(data, asked):
    fitted = fit_simulator(data, asked, place())
    loaded = Simulator.load("n-training")
    assert_alike(fitted, loaded)
    _, held = users_of(Moments.of(data), FIT)  # by whom it was scaled before it was written
    assert store.scaled(loaded, held, 0.01, FIT.seed) == (loaded.scale, loaded.about["accuracy"])
    assert loaded.about == fitted.about and store.about(place()) == fitted.about
    assert store.asked_for(loaded.about) == asked
    with python(LOADS, "n-training") as other:
        found = other.communicate()[0].strip()
    told = [found.tobytes().hex() for found in answers(fitted)]
    assert found == " ".join([fitted.sha256, str(fitted.scale), *told])
    rewards = answers(fitted)[0]
    assert np.ptp(rewards) > 0 and simulators() == ["n-training"]
    assert {file.name for file in place().iterdir()} == {".lock", "request.safetensors", WHOLE}


def test_probabilities_are_those_of_the_scale(data, asked):
    fitted = fit_simulator(data, replace(asked, base_rate=0.2), place())
    histories, items = questions(fitted)
    found = fitted.probabilities(histories, items)
    assert np.array_equal(found, fitted.scale.probability(fitted.rewards(histories, items)))
    assert ((found > 0) & (found < 1)).all() and fitted.scale.base_rate == 0.2


def test_how_it_was_made_is_told(data, asked):
    about = fit_simulator(data, asked, place()).about
    learned, held = users_of(Moments.of(data), FIT)
    assert (about["users"], about["moments"]) == (len(learned.users), len(learned))
    assert about["held"] == len(held) and about["batches"] == -(-len(learned) // 6)
    assert about["domain"] == "books" and about["dataset"] == data.id
    assert 0 <= about["accuracy"] <= 1 and about["scale"]["base_rate"] == 0.01


def test_the_hash_changes_with_all_that_answers_depend_on(data, asked, tokenizer, tmp_path):
    one = FIT
    others = {
        "as it is": asked,
        "other weights": replace(asked, model=saved(tmp_path / "other", tokenizer, seed=1)),
        "drawn weights": replace(asked, untrained=True),
        "another domain": replace(asked, domain="movies"),
        "other item tokens": replace(asked, tokens=replace(TOKENS, seed=1)),
        "titles": replace(asked, fit=replace(one, spelled=True)),
        **{
            str(change): replace(asked, fit=replace(one, **change))
            for change in (
                {"seed": 1}, {"role": "scoring"}, {"share": 0.3}, {"batches": 2}, {"rank": 4},
                {"alpha": 8}, {"state_weight": 0.0}, {"likeness": "scaled"}, {"shuffled": True},
            )
        },
    }  # fmt: skip
    quick = {name: replace(other, fit=replace(other.fit, batches=other.fit.batches or 3))
             for name, other in others.items()}  # fmt: skip
    hashes = {name: fit_simulator(data, other, place(f"n{number}")).sha256
              for number, (name, other) in enumerate(quick.items())}  # fmt: skip
    assert len(set(hashes.values())) == len(others), hashes
    again = fit_simulator(data, replace(quick["as it is"], base_rate=0.5), place("again"))
    assert again.sha256 == hashes["as it is"], "raw rewards know of no base rate"
    moved = place("moved")
    place("n0").rename(moved)
    assert Simulator.load(moved).sha256 == hashes["as it is"], "nor of a folder"


def test_the_hash_changes_with_the_scale_of_an_adapter_that_has_learned_nothing_yet(data, asked):
    hashes, adapters = [], []
    for alpha in (8, 16):
        how = replace(FIT, batches=1, state_weight=0.0, alpha=alpha)
        fit_simulator(data, replace(asked, fit=how), place(f"n{alpha}"))
        states, about = checkpoint.read(place(f"n{alpha}") / WHOLE)
        hashes.append(about["sha256"])
        adapters.append(states["adapter"])
    assert_same_bits(*adapters)
    assert len(set(hashes)) == 2


@pytest.mark.parametrize("change", [{"fit": replace(FIT, spelled=True)}, {"untrained": True}])
def test_controls_are_loaded_as_they_were_fitted(data, asked, change):
    fitted = fit_simulator(data, replace(asked, **change), place())
    assert_alike(fitted, Simulator.load(place()))
    _, held = users_of(Moments.of(data), FIT)
    assert store.scaled(fitted, held, 0.01, FIT.seed)[0] == fitted.scale
    plain = fit_simulator(data, asked, place("plain"))
    same_weights = fitted.about["model_sha256"] == plain.about["model_sha256"]
    assert same_weights != ("untrained" in change)
    assert (fitted.about["spelled"] is None) == ("untrained" in change)
    assert not np.array_equal(answers(fitted)[0], answers(plain)[0])


def test_a_model_is_loaded_in_the_precision_in_which_it_was_fitted(data, asked):
    halved = fit_simulator(data, replace(asked, precision="bf16"), place())
    assert halved.language.table.dtype == torch.bfloat16
    assert_alike(halved, Simulator.load(place()))
    assert halved.sha256 != fit_simulator(data, asked, place("whole")).sha256


def test_drawn_weights_are_those_of_the_seed(data, asked):
    def weights(seed, name):
        how = replace(asked, untrained=True, fit=replace(FIT, seed=seed, batches=1))
        return fit_simulator(data, how, place(name)).about["model_sha256"]

    assert weights(0, "a") == weights(0, "b") != weights(1, "c")


def test_titles_are_spelled_out(data, asked, tokenizer):
    fitted = fit_simulator(data, replace(asked, fit=replace(FIT, spelled=True)), place())
    title = store.catalogue_of(data).items[3]["title"]
    assert tokenizer.decode(fitted.about["spelled"][3]).strip() == title
    assert not (home() / "simulators" / ".tokens").exists(), "none were learned"


def test_the_small_model_is_kept_in_the_folder(data, small_folder, asked):
    place().mkdir(parents=True)
    (place() / "language").symlink_to(small_folder, target_is_directory=True)  # made quicker
    fitted = fit_simulator(data, replace(asked, model="recgym-small"), place())
    assert fitted.language.name == "recgym-small" == fitted.about["asked"]["model"]
    assert_alike(fitted, Simulator.load(place()))


# -------------------------------------------------------------------------------- stopped, gone on


def test_what_was_stopped_anywhere_goes_on_to_the_same(data, asked, monkeypatch):
    monkeypatch.setattr(store, "_EVERY", 0.0)
    seen, stopped, heard = Counter(), set(), []

    def stop(*event):
        seen[event] += 1
        if event not in stopped:
            stopped.add(event)
            raise KeyboardInterrupt

    for _ in range(100):
        try:
            parts = fit_simulator(data, asked, place("parts"), stop, heard.append)
            break
        except KeyboardInterrupt:
            assert simulators() == [], "it is not there half-made"
    assert sum(stage == LEARNED for stage, _ in stopped) > 3
    assert sum(stage == FITTED for stage, _ in stopped) > 3
    assert ("calibrating rewards", None) in stopped
    steps = {event: times for event, times in seen.items() if event[0] in (LEARNED, FITTED)}
    assert set(steps.values()) == {2}, "one is lost with its process, and none before it"
    assert any(sentence.startswith("Going on from batch 2 of ") for sentence in heard)
    (tokens,) = (home() / "simulators" / ".tokens").glob("*.safetensors")
    tokens.unlink()
    whole = fit_simulator(data, asked, place("whole"))
    assert_alike(parts, whole)
    assert parts.about | {"seconds": 0} == whole.about | {"seconds": 0}
    assert not (place("parts") / "fit.safetensors").exists()


FITS = """
import sys, torch
torch.set_num_threads(1)
import minari
from pathlib import Path
from recgym.simulator import store
from tests.simulator.test_store import FIT, TOKENS, Asked
store._EVERY = 0.0
asked = Asked(model=sys.argv[1], fit=FIT, tokens=TOKENS)
store.fit_simulator(minari.load_dataset(sys.argv[2]), asked, Path(sys.argv[3]),
                    lambda stage, share: print(stage, share, flush=True))
"""


def test_what_was_killed_goes_on_to_the_same(data, asked):
    with python(FITS, asked.model, data.id, place("killed")) as begun:
        for number, _ in enumerate(line for line in begun.stdout if line.startswith(FITTED)):
            if number == 2:
                begun.kill()
                break
    assert begun.returncode == -9 and not simulators()
    events = []
    killed = fit_simulator(data, asked, place("killed"), lambda *event: events.append(event))
    first = next(share for stage, share in events if stage == FITTED)
    (tokens,) = (home() / "simulators" / ".tokens").glob("*.safetensors")
    tokens.unlink()
    anew = []
    whole = fit_simulator(data, asked, place("whole"), lambda *event: anew.append(event))
    assert first > [share for stage, share in anew if stage == FITTED][1]
    assert LEARNED not in dict(events) and LEARNED in dict(anew)
    assert_alike(killed, whole)


def test_the_same_request_is_not_fitted_again(data, asked):
    first = fit_simulator(data, asked, place())
    before, events = (place() / WHOLE).stat(), []
    again, heard = heard_of(data, asked, place(), progress=lambda *event: events.append(event))
    assert_alike(first, again)
    assert heard == ["n-training is there already, and is not fitted again."] and not events
    assert (place() / WHOLE).stat() == before


def stop_at(stage):
    def progress(at, share):
        if at == stage:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("stage", [None, FITTED])
def test_another_request_for_the_same_folder_is_refused(data, asked, stage):
    if stage:
        with pytest.raises(KeyboardInterrupt):
            fit_simulator(data, asked, place(), stop_at(stage))
    else:
        fit_simulator(data, asked, place())
    contents = {file: file.read_bytes() for file in place().iterdir()}
    for other, name in (
        (replace(asked, fit=replace(FIT, seed=1, batch_size=4)), "batch_size, seed"),
        (replace(asked, base_rate=0.2), "base_rate"),
        (replace(asked, tokens=replace(TOKENS, noise=0.2)), "noise"),
    ):
        text = refused(data, other, place())
        assert f"(other: {name})" in text and "give another name, or delete it" in text
    assert "dataset, content" in refused(oracle("m", catalogue=1), asked, place())
    assert {file: file.read_bytes() for file in place().iterdir()} == contents
    assert fit_simulator(data, asked, place()).about["batches"] > 3


def test_a_small_model_of_another_request_is_not_taken(data, asked):
    small = replace(asked, model="recgym-small")
    stage = "making a small language model"
    with pytest.raises(KeyboardInterrupt):
        fit_simulator(data, small, place(), stop_at(stage))
    assert "(other: seed)" in refused(data, replace(small, fit=replace(FIT, seed=1)), place())


def test_a_folder_that_another_process_fits_into_is_busy(data, asked):
    place().mkdir(parents=True)
    with locked(place() / ".lock") as ours:
        assert ours
        assert "give another folder" in refused(data, asked, place(), error=Busy)
    fit_simulator(data, asked, place())


# ----------------------------------------------------------------------------------------- damaged


def spoil(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def test_a_damaged_simulator_is_said(data, asked):
    first = fit_simulator(data, asked, place())
    spoil(place() / WHOLE)
    for ask in (
        lambda: Simulator.load("n-training"),
        lambda: store.about("n-training"),
        lambda: fit_simulator(data, asked, place()),
    ):
        with pytest.raises(InvalidArgument) as found:
            ask()
        assert str(place() / WHOLE) in said(found) and "delete it" in said(found)
    (place() / WHOLE).unlink()
    assert "(other: seed)" in refused(data, replace(asked, fit=replace(FIT, seed=1)), place())
    assert fit_simulator(data, asked, place()).sha256 == first.sha256


@pytest.mark.parametrize("damage", [spoil, lambda file: file.write_bytes(b"")])
def test_damaged_steps_are_learned_again_and_said(data, asked, monkeypatch, damage):
    monkeypatch.setattr(store, "_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit_simulator(data, asked, place(), stop_at("calibrating rewards"))
    (tokens,) = (home() / "simulators" / ".tokens").glob("*.safetensors")
    for file in (tokens, place() / "fit.safetensors"):
        damage(file)
    events = []
    fitted, heard = heard_of(data, asked, place(), lambda *event: events.append(event[0]))
    assert heard == [f"{file} is damaged: what it kept is learned again."
                     for file in (tokens, place() / "fit.safetensors")]  # fmt: skip
    assert events.count(FITTED) == fitted.about["batches"] and LEARNED in events
    assert fitted.sha256 == fit_simulator(data, asked, place("whole")).sha256


# ------------------------------------------------------------------------------------- whose users


def test_training_and_scoring_learn_from_disjoint_users():
    moments = Moments.of(oracle("n"))
    parts = {role: users_of(moments, replace(FIT, share=0.5, role=role))
             for role in ("training", "scoring")}  # fmt: skip
    users = [set(part.users.tolist()) for both in parts.values() for part in both]
    every = set().union(*users)
    assert sum(map(len, users)) == len(every), "none is in two"
    assert len(moments.users) - 1 <= len(every) and every <= set(moments.users.tolist())
    learned, held = parts["training"]
    for part in (learned, held):
        assert len(part) == np.isin(moments.sessions, part.users).sum(), "all that they took"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 1.0])
def test_a_share_is_that_of_the_users(share):
    moments = Moments.of(oracle("n"))
    learned, held = users_of(moments, replace(FIT, share=share))
    count = len(learned.users) + len(held.users)
    assert count == round(share * len(moments.users))
    assert len(held.users) == round(0.1 * count)


def test_a_larger_share_has_the_users_of_a_smaller_one():
    moments = Moments.of(oracle("n"))
    found = [np.concatenate([part.users for part in users_of(moments, replace(FIT, share=share))])
             for share in (0.3, 0.6)]  # fmt: skip
    assert set(found[0]) < set(found[1])


def test_a_share_too_small_is_refused_before_anything_is_learned(data, asked):
    events = []
    for share in (0.01, 0.0001):
        how = replace(asked, fit=replace(FIT, share=share))
        with pytest.raises(InvalidArgument) as found:
            fit_simulator(data, how, place(), lambda *event: events.append(event))
        assert f"A share of {share:g} of " in said(found) and "10 or more" in said(found)
    assert not events


def test_shares_that_are_not_disjoint_are_refused():
    assert Fit(share=1.0) and Fit(share=0.5, role="scoring")
    for share in (0.51, 1.0):
        with pytest.raises(InvalidArgument) as found:
            Fit(share=share, role="scoring")
        assert "take 0.5 at most" in said(found)


def test_the_two_answer_differently(data, asked):
    one = fit_simulator(data, asked, place("training"))
    how = replace(asked, fit=replace(FIT, role="scoring", seed=1000))
    other = fit_simulator(data, replace(how, tokens=replace(TOKENS, seed=1000)), place("scoring"))
    assert one.sha256 != other.sha256
    assert not np.array_equal(answers(one)[0], answers(other)[0])
    assert not torch.equal(one.language.items, other.language.items)


# ------------------------------------------------------------------------------------- item tokens


def learned_in(*request):
    events = []
    fit_simulator(*request, lambda stage, share: events.append(stage))
    return events.count(LEARNED)


def test_item_tokens_are_learned_once_for_a_model_and_a_catalogue(data, asked):
    assert learned_in(data, asked, place("a")) > 3
    for number, change in enumerate([{"share": 0.3}, {"seed": 5}, {"role": "scoring"}]):
        how = replace(asked, fit=replace(FIT, **change))
        assert learned_in(data, how, place(f"b{number}")) == 0
    assert learned_in(oracle("m", drift=0.0), asked, place("c")) == 0, "the catalogue is the same"
    assert learned_in(data, replace(asked, tokens=replace(TOKENS, seed=1)), place("d")) > 3
    assert learned_in(data, replace(asked, domain="movies"), place("e")) > 3
    assert learned_in(oracle("m", catalogue=1), asked, place("f")) > 3
    files = list((home() / "simulators" / ".tokens").glob("*.safetensors"))
    assert len(files) == 4 and simulators() == ["a", "b0", "b1", "b2", "c", "d", "e", "f"]


def test_who_wants_item_tokens_that_another_learns_waits(data, asked, monkeypatch):
    sleeping = threading.Event()
    monkeypatch.setattr(store.time, "sleep", lambda seconds: sleeping.wait(0.02))
    fit_simulator(data, asked, place("a"))
    (tokens,) = (home() / "simulators" / ".tokens").glob("*.safetensors")
    tokens.unlink()
    events, found = [], []

    def fit():
        found.append(
            fit_simulator(data, asked, place("b"), lambda stage, share: events.append(stage))
        )

    thread = threading.Thread(target=fit)
    waiting = "waiting for item tokens that another process makes"
    with locked(tokens.with_suffix(".lock")) as ours:
        assert ours
        thread.start()
        while waiting not in events:
            assert thread.is_alive()
            sleeping.wait(0.02)
        assert LEARNED not in events and not found
    thread.join(60)
    assert events.index(waiting) < events.index(LEARNED)
    assert_alike(found[0], Simulator.load("a"))


# ----------------------------------------------------------------------------------------- refused


def test_a_simulator_is_refused_for_another_catalogue(data, asked):
    fitted = fit_simulator(data, asked, place())
    fitted.fits(data)
    fitted.fits(oracle("m", drift=0.0))
    with pytest.raises(InvalidArgument) as found:
        fitted.fits(oracle("other", catalogue=1))
    assert "recgym/n/mixed-v0, and recgym/other/mixed-v0 has another" in said(found)
    assert "`recgym simulator fit --data recgym/other/mixed-v0`" in said(found)


def test_a_model_whose_weights_have_changed_is_refused(data, asked, tokenizer, tmp_path):
    how = replace(asked, model=saved(tmp_path / "mine", tokenizer))
    first = fit_simulator(data, how, place())
    saved(tmp_path / "mine", tokenizer, seed=3)
    with pytest.raises(InvalidArgument) as found:
        Simulator.load(place())
    assert "n-training was fitted to other weights" in said(found)
    assert "n-training was fitted to other weights" in refused(data, how, place())
    saved(tmp_path / "mine", tokenizer)
    assert_alike(first, Simulator.load(place()))


def test_a_simulator_is_asked_where_it_was_fitted_if_that_is_at_hand(data, asked, monkeypatch):
    fit_simulator(data, asked, place())
    states, about = checkpoint.read(place() / WHOLE)
    about["asked"]["device"] = "cuda"
    checkpoint.write(place() / WHOLE, states, about)
    heard, on, load = [], [], store.Language.load
    monkeypatch.setattr(
        store.Language, "load", lambda place, device, kind: on.append(device) or load(place)
    )
    for there, device in ((True, ""), (False, ""), (True, "cpu")):
        monkeypatch.setattr(store, "_is_at_hand", lambda name, there=there: name == "cpu" or there)
        Simulator.load("n-training", device, heard.append)
    assert on == ["cuda", "cpu", "cpu"]
    assert heard == ["n-training was fitted on 'cuda', which is not at hand: it is asked on the "
                     "CPU."]  # fmt: skip


def test_an_unknown_name_lists_those_that_are_there(data, asked):
    with pytest.raises(UnknownName) as found:
        Simulator.load("n-training")
    assert "There is no simulator yet. Fit one with `recgym simulator fit" in said(found)
    fit_simulator(data, asked, place())
    (home() / "simulators" / "half").mkdir()
    for name in ("n-trainin", "half"):
        with pytest.raises(UnknownName) as found:
            store.about(name)
        assert "Known: n-training. Fit one" in said(found)


def test_a_model_that_is_not_there_leaves_nothing_half_made(data, asked, tmp_path):
    (tmp_path / "empty").mkdir()
    for model in (tmp_path / "nowhere", tmp_path / "empty"):
        text = refused(data, replace(asked, model=str(model)), place())
        assert "No causal language model can be loaded from" in text
    assert simulators() == []
    fit_simulator(data, asked, place())  # the folder is as good as new
    assert simulators() == ["n-training"]


def test_a_domain_and_a_device_that_are_not_there_are_refused(data, asked):
    text = refused(data, replace(asked, domain="moves"), place(), error=UnknownName)
    assert "Did you mean 'movies'?" in text
    for device in ("tpu7", "cuda:99", "meta"):
        assert f"The device '{device}' is not at hand" in refused(
            data, replace(asked, device=device), place()
        )


def test_a_test_dataset_is_refused(asked):
    collect("recgym/OracleBoredom-v0", "mixed", "test", sessions=30, name="n", **SMALL)
    text = refused(minari.load_dataset("recgym/n/mixed-test-v0"), asked, place())
    assert "recgym/n/mixed-test-v0 is a test dataset" in text and not place().exists()


def test_a_dataset_without_words_is_refused(asked):
    sessions = np.arange(120).reshape(30, 4) % 7
    assert "so its items have no words" in refused(logged("w", sessions, 7), asked, place())


def test_what_diverges_says_so_and_leaves_nothing_half_made(data, asked):
    wild = replace(asked, fit=replace(FIT, learning_rate=1e30))
    assert "a lower learning rate" in refused(data, wild, place(), error=Diverged)
    assert simulators() == []


# ----------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (Fit, "share", (0, 2, -0.1, float("nan"))),
        (Fit, "epochs", (0, -1)),
        (Fit, "batches", (-1,)),
        (Fit, "batch_size", (0, -5)),
        (Fit, "learning_rate", (-0.1, float("inf"), float("nan"))),
        (Fit, "rank", (0, -1)),
        (Fit, "alpha", (0,)),
        (Fit, "dropout", (-0.1, 1.0, 2.0)),
        (Fit, "state_weight", (-1.0, float("nan"))),
        (Fit, "seed", (-1, 2**32)),
        (Tokenization, "iterations", (0, -3)),
        (Tokenization, "learning_rate", (-1.0, float("inf"), float("nan"))),
        (Tokenization, "tokens", (0,)),
        (Tokenization, "patience", (-1,)),
        (Tokenization, "least", (-0.1, 1.0)),
        (Tokenization, "noise", (-0.1, float("inf"))),
        (Tokenization, "together", (0,)),
        (Tokenization, "seed", (-1,)),
        (Asked, "base_rate", (0, 1, -1, 2, float("nan"))),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(kind, name, values):
    for value in values:
        with pytest.raises(RecGymError) as found:
            kind(**{name: value})
        assert said(found).startswith(f"The option {name} is {value}, and has to be ")
