"""PEARL on many unlike environments (Rakelly et al. 2019, arXiv 1903.08254)."""

from rllib_multienv.algorithms.pearl.learner import MultiEnvPEARLLearner
from rllib_multienv.algorithms.pearl.pearl import MultiEnvPEARL, MultiEnvPEARLConfig

__all__ = ["MultiEnvPEARL", "MultiEnvPEARLConfig", "MultiEnvPEARLLearner"]
