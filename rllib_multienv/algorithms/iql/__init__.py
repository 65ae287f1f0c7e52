"""Implicit Q-learning from many data sets (Algorithm 2 of the paper)."""

from rllib_multienv.algorithms.iql.config import MultiEnvIQLConfig
from rllib_multienv.algorithms.iql.iql import MultiEnvIQL
from rllib_multienv.algorithms.iql.learner import MultiEnvIQLLearner

__all__ = ["MultiEnvIQL", "MultiEnvIQLConfig", "MultiEnvIQLLearner"]
