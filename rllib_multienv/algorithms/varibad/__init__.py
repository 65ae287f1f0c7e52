"""VariBAD: PPO on a belief about the task, which is trained to predict rewards of whole trials."""

from rllib_multienv.algorithms.varibad.learner import MultiEnvVariBADLearner
from rllib_multienv.algorithms.varibad.varibad import MultiEnvVariBAD, MultiEnvVariBADConfig

__all__ = ["MultiEnvVariBAD", "MultiEnvVariBADConfig", "MultiEnvVariBADLearner"]
