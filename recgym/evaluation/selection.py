"""How well off-policy estimates choose among agents, where the truth is known."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium

from recgym.agent import load_agent, made, taught
from recgym.benchmarks import Benchmark
from recgym.errors import InvalidArgument
from recgym.evaluation.closed_loop import FIRST_SEEDS, recommended
from recgym.evaluation.off_policy import (
    Estimate,
    Selection,
    Softened,
    estimates,
    logged,
    selection,
    true_value,
)
from recgym.evaluation.report import write_json
from recgym.evaluation.tasks import EvaluatedSplit, Progress, Task

EPSILON = 0.05


@dataclass(frozen=True)
class Judgement:
    """What estimators say of agents, what is true, and what it costs to believe them."""

    benchmark: str
    dataset: str  # from which the estimates are
    epsilon: float  # how often any item at all is recommended, so that weights are defined
    users: int  # on whom the truth was measured
    estimates: dict[str, dict[str, Estimate]]  # by agent and estimator
    truths: dict[str, float]  # by agent; empty where no environment answers
    selection: dict[str, Selection]  # by estimator; empty without truths of two agents

    def add_to(self, file: Path) -> None:
        """Add this to a JSON file of judgements by benchmark."""
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        write_json(file, dict(sorted((known | {self.benchmark: asdict(self)}).items())))


def judged(
    agents: Sequence[str],
    benchmark: Benchmark,
    *,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    split: EvaluatedSplit = "test",
    epsilon: float = EPSILON,
    users: int,
    progress: Progress,
) -> Judgement:
    """Train agents, estimate each one's return from the log of a split, and let it act."""
    if not 0 < epsilon <= 1:
        raise InvalidArgument(
            f"epsilon is a share above 0, or weights are undefined, and {epsilon} was given."
        )
    if benchmark.shop:
        raise InvalidArgument(
            f"Off-policy estimates are of recommended items, and in {benchmark.name} agents shop: "
            "evaluate them there."
        )
    task = Task(benchmark, split, progress)
    data, found, truths = logged(task.test), {}, {}
    env = gymnasium.make(benchmark.env) if benchmark.env else None
    for name in agents:
        progress(f"training {name}", None)
        agent = made(load_agent(name), config or {}, seed)
        agent = taught(agent, task.train, task.validation, env)

        def greedy(observations: Any, agent: Any = agent) -> Any:
            return recommended(agent, observations, {}, task.n_items)

        policy = Softened(greedy, task.n_items, epsilon)
        progress(f"estimating {name}", None)
        found[name] = estimates(data, policy)
        if benchmark.env:
            progress(f"letting {name} act", None)
            truths[name] = true_value(benchmark.env, policy, users, FIRST_SEEDS[split])
    chosen = {}
    if len(truths) > 1:
        for estimator in next(iter(found.values())):
            said = [found[name][estimator].mean for name in agents]
            chosen[estimator] = selection(said, [truths[name] for name in agents])
    return Judgement(benchmark.name, task.test.id, epsilon, users, found, truths, chosen)
