"""The ids of the environments."""

import gymnasium

gymnasium.register("recgym/Replay-v0", entry_point="recgym.envs.replay:ReplayEnv")
