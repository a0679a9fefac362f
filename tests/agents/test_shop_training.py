"""Trainings of shoppers: stopped at any step, repeated, and asked by a benchmark."""

import dataclasses
from functools import wraps

import gymnasium
import pytest
import torch

from recgym.agent import load_agent
from recgym.agents.imitation import Imitation
from recgym.before import Before
from recgym.benchmarks import Benchmark
from recgym.demonstrations import demonstrate
from recgym.errors import InvalidArgument
from recgym.evaluation.report import evaluate, read_json
from recgym.runs import Run

from ..sentences import said
from .shops import ENV, QUICK, shopper
from .test_checkpoint import Killed, Stopping, assert_same, metrics, outcome
from .worlds import assert_same_bits

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
]

PHASES = {
    "shop-imitation": {"steps": 8, "patience": 2},
    "shop-dpo": {"steps": 9, "warmup_steps": 4, "rejected": "reference"},
    "shop-ppo": {
        "steps": 7, "warmup_steps": 3, "users": 3, "rollout": 4, "epochs": 2, "value_warmup": 2,
        "kl": 0.1,
    },
}  # fmt: skip
BENCHMARK = Benchmark(
    "small-v0", "recgym/minishop/scripted-v0", "score", "that tests pass", "all else",
    "recgym data collect", env=ENV, made_in=ENV, baseline="shop-rule",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "validates"), [("shop-imitation", False), ("shop-dpo", True), ("shop-ppo", True)]
)
def test_stopped_and_gone_on_from_every_step_it_ends_in_the_same_bits(
    shopping, small_bert, name, validates, tmp_path
):
    (train, validation, env), kind = shopping, load_agent(name)
    options = PHASES[name] | {"dropout": 0.3, "validate_every": 2, "seed": 5}
    for folder in (tmp_path / "whole", tmp_path / "cut"):
        folder.mkdir()
        while True:
            run = Run(folder, every=0) if folder.name == "whole" else Stopping(folder, 3)
            agent = shopper(kind, small_bert, **options)
            try:
                agent.fit(train, validation if validates else None, env, run)
                break
            except Killed:
                env = gymnasium.make(ENV)  # of another process
        agent.save(folder / "agent")
    wanted = outcome(tmp_path / "whole")
    assert_same(outcome(tmp_path / "cut"), wanted)
    standing = wanted[3]["standing"]
    assert standing["at"] == options["steps"]
    assert standing["memory"].get("warm since") == options.get("warmup_steps")
    assert any("hr@1" in line for line in wanted[1]) == validates


@pytest.mark.parametrize("name", ["shop-dpo", "shop-ppo"])
def test_a_seed_decides_all(shopping, small_bert, name):
    train, _, env = shopping
    one, same, other = (
        shopper(load_agent(name), small_bert, **PHASES[name], seed=seed).fit(train, env=env)
        for seed in (1, 1, 2)
    )
    weights = [agent._network.state_dict() for agent in (one, same, other)]
    assert_same_bits(weights[0], weights[1])
    assert not torch.equal(weights[0]["layer.weight"], weights[2]["layer.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [({"beta": 0.5}, "of another beta"), ({"page_tokens": 41}, "of another page_tokens"),
     ({"rejected": "all"}, "of another rejected"), ({"preferred": 2}, "of another preferred")],
)  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused(shopping, small_bert, tmp_path, change, says):
    kind, options = load_agent("shop-dpo"), PHASES["shop-dpo"]
    shopper(kind, small_bert, **options).fit(shopping[0], run=Run(tmp_path))
    with pytest.raises(InvalidArgument, match=says) as problem:
        shopper(kind, small_bert, **options | change).fit(shopping[0], run=Run(tmp_path))
    said(problem)


def test_a_checkpoint_of_another_environment_is_refused(shopping, small_bert, tmp_path):
    (train, _, env), other = shopping, gymnasium.make(ENV, steps=7)
    agent = shopper(load_agent("shop-ppo"), small_bert, **PHASES["shop-ppo"])
    agent.fit(train, env=env, run=Run(tmp_path))
    with pytest.raises(InvalidArgument, match="is of another environment") as problem:
        agent.fit(train, env=other, run=Run(tmp_path))
    said(problem)


# ------------------------------------------------------------------------------- by a benchmark


@pytest.mark.parametrize(
    ("name", "acting"),
    [("shop-imitation", "greedy"), ("shop-imitation", "sampled"), ("shop-dpo", "sampled"),
     ("shop-ppo", "greedy")],
)  # fmt: skip
def test_a_benchmark_asks_it_and_the_same_seed_answers_the_same(small_bert, name, acting):
    for split, sessions in (("train", 12), ("validation", 4)):
        demonstrate(ENV, "scripted", split, sessions=sessions)
    config = QUICK | PHASES[name] | {"reader": small_bert, "acting": acting}
    config |= {"steps": 4, "warmup_steps": 2} if "warmup_steps" in config else {"steps": 4}
    found = [evaluate(name, BENCHMARK, config=config, seeds=[3], users=3, anew=True)
             for _ in range(2)]  # fmt: skip
    (one,), (other,) = (report.results for report in found)
    assert one["predictions"] == other["predictions"] and one["metrics"] == other["metrics"]
    metrics = one["metrics"]["shop"]
    assert metrics["goals"] == 3 and metrics["invalid"] == 0
    assert found[0].learns_from == ("environment" if name == "shop-ppo" else "data")
    assert one["costs"]["parameters"] > 10_000


# ------------------------------------------------------------- what was learned before, once only


@pytest.mark.parametrize("name", ["shop-dpo", "shop-ppo"])
def test_what_others_have_imitated_alike_is_not_imitated_again_and_ends_in_the_same_bits(
    shopping, small_bert, name, tmp_path
):
    train, validation, env = shopping
    kept = tmp_path / "kept"
    second = PHASES[name] | {"warmup_steps": 3}

    def learned(name, folder, known=None, **options):
        run = Run(tmp_path / folder, before=Before(known, {"data": "the same"}))
        options = {"validate_every": 2, "seed": 5} | options
        agent = shopper(load_agent(name), small_bert, **options)
        agent.fit(train, validation, env, run)
        return agent._network.state_dict(), [line["step"] for line in metrics(run.folder)]

    alone, steps = learned(name, "alone", **second)
    learned("shop-imitation", "imitation", kept, steps=3)
    taken_up, later = learned(name, "taken-up", kept, **second)
    assert_same_bits(alone, taken_up)
    assert steps[:2] == [2, 3] and later == [step for step in steps if step > 3]
    assert len([*kept.iterdir()]) == 1
    for other in ({"seed": 6}, {"imitated": 3}):
        assert learned(name, f"other-{[*other]}", kept, **second | other)[1][0] == 2
    assert len([*kept.iterdir()]) == 3
    assert load_agent("shop-dpo")(warmup_steps=0).phase is None  # it ends when it stalls


def test_an_agent_asked_in_two_shops_of_the_same_data_learns_once(
    small_bert, monkeypatch, tmp_path
):
    for split, sessions in (("train", 12), ("validation", 4)):
        demonstrate(ENV, "scripted", split, sessions=sessions)
    code = {"package": "recgym", "commit": "0" * 40, "changed": False}
    monkeypatch.setattr("recgym.evaluation.report.code_of", lambda agent: code)
    monkeypatch.setattr("recgym.evaluation.report.home", lambda: tmp_path)
    config = QUICK | PHASES["shop-imitation"] | {"reader": small_bert}
    other = dataclasses.replace(BENCHMARK, name="other-v0")
    times, fit = [], Imitation.fit

    @wraps(fit)
    def counted(*given, **more):
        times.append(1)
        return fit(*given, **more)

    monkeypatch.setattr(Imitation, "fit", counted)
    one, again = (evaluate("shop-imitation", shop, config=config, seeds=[3], users=3).results[0]
                  for shop in (BENCHMARK, other))  # fmt: skip
    assert len(times) == 1
    assert one["predictions"] == again["predictions"]
    assert again["costs"]["training_seconds"] == pytest.approx(
        one["costs"]["training_seconds"], abs=1
    )
    last = [read_json(file)["training"] for file in tmp_path.glob("runs/*/*/seed-3/result.json")]
    assert len(last) == 2 and last[0] == last[1] and "imitation" in last[0]
    evaluate("shop-imitation", other, config=config, seeds=[3], users=3, anew=True)
    assert len(times) == 2  # to be reproduced is to be trained
