"""Implicit Q-learning from many data sets (Algorithm 2 of the paper)."""

from rllib_multienv.algorithms.iql.iql import MultiEnvIQL, MultiEnvIQLConfig
from rllib_multienv.algorithms.iql.learner import MultiEnvIQLLearner

__all__ = ["MultiEnvIQL", "MultiEnvIQLConfig", "MultiEnvIQLLearner"]
