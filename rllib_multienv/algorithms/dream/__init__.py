"""DREAM: one policy explores a task, another exploits what it found; both by PPO, each with its own objective."""

from rllib_multienv.algorithms.dream.dream import MultiEnvDREAM, MultiEnvDREAMConfig
from rllib_multienv.algorithms.dream.learner import MultiEnvDREAMLearner

__all__ = ["MultiEnvDREAM", "MultiEnvDREAMConfig", "MultiEnvDREAMLearner"]
