"""PPO of TorchRL on oracle users: `python torchrl_ppo.py [BATCHES]`; needs Gymnasium >= 1.1."""

import sys

import gymnasium
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Categorical
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import recgym  # noqa: F401  # Gymnasium learns our ids

WORLD = {"n_items": 30, "n_topics": 5, "n_liked": 1, "fresh": 5, "organic": 10, "history": 10}


def users(count, seed):
    """Oracle users, who begin anew when TorchRL says so."""
    batch = gymnasium.make_vec("recgym/OracleStatic-v0", count, autoreset_mode="Disabled", **WORLD)
    env = GymWrapper(batch, categorical_action_encoding=True)
    env.set_seed(seed)
    return env


def network(outputs):
    """Reads an observation: the codes of ten items, and of how each was answered."""
    embedded = nn.Embedding(WORLD["n_items"], 16), nn.Flatten(-2)
    return nn.Sequential(*embedded, nn.Linear(20 * 16, 128), nn.ReLU(), nn.Linear(128, outputs))


def mean_return(policy=None):
    """The mean return of 2,000 other users for a policy; without one, for random items."""
    steps = users(2000, seed=10**6).rollout(50, policy, break_when_any_done=False)["next"]
    first = steps["done"].cumsum(1) <= steps["done"]  # those of the first episode
    return (steps["reward"] * first).sum(1).mean()


torch.manual_seed(0)
torch.set_num_threads(1)  # networks this small are slower with more
logits = TensorDictModule(network(WORLD["n_items"]), ["observation"], ["logits"])
actor = ProbabilisticActor(logits, ["logits"], distribution_class=Categorical, return_log_prob=True)
critic = ValueOperator(network(1), in_keys=["observation"])
advantage = GAE(gamma=0.5, lmbda=0.95, value_network=critic)
loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=True)
optimizer = torch.optim.Adam(loss.parameters(), lr=0.004)
print(f"random {mean_return():.3f}, untrained {mean_return(actor):.3f}")
batches = int(sys.argv[1]) if len(sys.argv) > 1 else 50
frames = {"frames_per_batch": 2048, "total_frames": 2048 * batches}
for batch in Collector(users(64, seed=0), actor, **frames, auto_register_policy_transforms=False):
    advantage(batch)
    for _ in range(8):
        for part in batch.reshape(-1)[torch.randperm(batch.numel())].split(512):
            sum(value for name, value in loss(part).items() if name.startswith("loss_")).backward()
            optimizer.step()
            optimizer.zero_grad()
print(f"trained {mean_return(actor):.3f}")
