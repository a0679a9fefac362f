"""Agents, one file per paper; those that are named without a module."""

AGENTS = {
    "random": "recgym.agents.baselines:Random",
    "popular": "recgym.agents.baselines:Popular",
    "repeat-last": "recgym.agents.baselines:RepeatLast",
    "markov": "recgym.agents.baselines:Markov",
    "itemknn": "recgym.agents.baselines:ItemKNN",
    "vsknn": "recgym.agents.baselines:VSKNN",
    "greedy": "recgym.envs.references:Greedy",
    "observer": "recgym.envs.references:Observer",
    "d3rlpy-bc": "recgym.agents.d3rlpy_agents:DiscreteBC",
    "d3rlpy-double-dqn": "recgym.agents.d3rlpy_agents:DoubleDQN",
    "d3rlpy-cql": "recgym.agents.d3rlpy_agents:DiscreteCQL",
    "d3rlpy-sac": "recgym.agents.d3rlpy_agents:DiscreteSAC",
    "sb3-ppo": "recgym.agents.sb3_agents:PPO",
}
