"""What all learners share: one optimiser, minibatches by environment, one reduced gradient."""

from rllib_multienv.learners.learner_group import LearnerFailure, MultiEnvLearnerGroup
from rllib_multienv.learners.multi_env_learner import MultiEnvLearner
from rllib_multienv.learners.shares import describe_shares, share_environments
from rllib_multienv.learners.training_data import MultiEnvTrainingData

__all__ = [
    "LearnerFailure",
    "MultiEnvLearner",
    "MultiEnvLearnerGroup",
    "MultiEnvTrainingData",
    "describe_shares",
    "share_environments",
]
