"""Soft actor-critic on many unlike environments (Haarnoja et al. 2018, arXiv 1812.05905)."""

from rllib_multienv.algorithms.sac.learner import MultiEnvSACLearner
from rllib_multienv.algorithms.sac.sac import MultiEnvSAC, MultiEnvSACConfig

__all__ = ["MultiEnvSAC", "MultiEnvSACConfig", "MultiEnvSACLearner"]
