"""TorchRL's PPO on oracle users: `python torchrl_ppo.py [STEPS]`, with Gymnasium 1.1 or newer."""

import sys

import gymnasium
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import recgym  # noqa: F401  # Gymnasium learns our ids

ITEMS, HISTORY, STEPS, ANSWERS = 30, 10, 20, 5
WORLD = {"n_items": ITEMS, "n_topics": 5, "n_liked": 1, "fresh": 5, "organic": HISTORY}


def users(count, seed):
    batch = gymnasium.make_vec(
        "recgym/OracleStatic-v0",
        num_envs=count,
        history=HISTORY,
        steps=STEPS,
        autoreset_mode="Disabled",
        **WORLD,
    )
    env = GymWrapper(batch, categorical_action_encoding=True)
    env.set_seed(seed)
    return env


class Reader(nn.Module):
    """Sums what it makes of every item shown, its answer and its place."""

    def __init__(self, outputs, size=64):
        super().__init__()
        self.items, self.answers = nn.Embedding(ITEMS, size), nn.Embedding(ANSWERS, size)
        self.places = nn.Parameter(torch.randn(HISTORY, size))
        self.head = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, outputs))

    def forward(self, observation):
        items, answers = observation.chunk(2, -1)
        shown = self.items(items) + self.answers(answers) + self.places
        return self.head(shown.relu().sum(-2) / HISTORY**0.5)


def mean_return(policy):
    with torch.no_grad():
        steps = users(2000, seed=10**6).rollout(STEPS, policy, break_when_any_done=False)["next"]
    first = steps["done"].cumsum(1) <= steps["done"]  # steps of each user's first episode
    return (steps["reward"] * first).sum(1).mean().item()


torch.manual_seed(0)
logits = TensorDictModule(Reader(ITEMS), ["observation"], ["logits"])
actor = ProbabilisticActor(
    logits,
    in_keys=["logits"],
    distribution_class=torch.distributions.Categorical,
    return_log_prob=True,
)
critic = ValueOperator(Reader(1), in_keys=["observation"])
advantage = GAE(gamma=0.5, lmbda=0.95, value_network=critic)
loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=True)
optimizer = torch.optim.Adam(loss.parameters(), lr=0.004)
print(f"random {mean_return(None):.3f}, before {mean_return(actor):.3f}")
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
for batch in Collector(users(64, seed=0), actor, frames_per_batch=2048, total_frames=steps):
    for _ in range(8):
        advantage(batch)
        for part in batch.reshape(-1)[torch.randperm(batch.numel())].split(512):
            losses = loss(part)
            optimizer.zero_grad()
            (losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]).backward()
            optimizer.step()
print(f"after {steps} steps {mean_return(actor):.3f}")
