"""Structured exploration by a latent for each task (MAESN)."""

from rllib_multienv.algorithms.maesn.learner import MultiEnvMAESNLearner
from rllib_multienv.algorithms.maesn.maesn import MultiEnvMAESN, MultiEnvMAESNConfig

__all__ = ["MultiEnvMAESN", "MultiEnvMAESNConfig", "MultiEnvMAESNLearner"]
