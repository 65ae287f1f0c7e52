"""What all learners share: one optimiser, minibatches by environment, one reduced gradient."""

from rllib_multienv.learners.multi_env_learner import MultiEnvLearner
from rllib_multienv.learners.training_data import MultiEnvTrainingData

__all__ = ["MultiEnvLearner", "MultiEnvTrainingData"]
