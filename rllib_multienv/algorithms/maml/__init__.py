"""Adaptation by gradients: MAML, ProMP and Reptile."""

from rllib_multienv.algorithms.maml.learner import MultiEnvMAMLLearner
from rllib_multienv.algorithms.maml.maml import MultiEnvMAML, MultiEnvMAMLConfig

__all__ = ["MultiEnvMAML", "MultiEnvMAMLConfig", "MultiEnvMAMLLearner"]
