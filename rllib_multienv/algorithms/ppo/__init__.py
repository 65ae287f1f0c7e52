"""Decentralised PPO over many environments (Algorithm 1 of the paper)."""

from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.algorithms.ppo.ppo import MultiEnvPPO, MultiEnvPPOConfig

__all__ = ["MultiEnvPPO", "MultiEnvPPOConfig", "MultiEnvPPOLearner"]
