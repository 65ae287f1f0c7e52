"""What all learners share: one optimiser, minibatches by environment, one combined and reduced gradient."""

from rllib_multienv.learners.hooks import LearnerHook
from rllib_multienv.learners.learner_group import LearnerFailure, MultiEnvLearnerGroup
from rllib_multienv.learners.minibatches import Minibatch, Step
from rllib_multienv.learners.multi_env_learner import MultiEnvLearner
from rllib_multienv.learners.shares import describe_shares, share_environments
from rllib_multienv.learners.training_data import RolloutData, SharedTrainingData

__all__ = [
    "LearnerFailure",
    "LearnerHook",
    "Minibatch",
    "MultiEnvLearner",
    "MultiEnvLearnerGroup",
    "RolloutData",
    "SharedTrainingData",
    "Step",
    "describe_shares",
    "share_environments",
]
