"""HiP-BMDP: soft actor-critic with task embeddings that are as far apart as what the tasks do (arXiv 2007.07206)."""

from rllib_multienv.algorithms.hip_bmdp.hip_bmdp import MultiEnvHiPBMDP, MultiEnvHiPBMDPConfig
from rllib_multienv.algorithms.hip_bmdp.learner import MultiEnvHiPBMDPLearner

__all__ = ["MultiEnvHiPBMDP", "MultiEnvHiPBMDPConfig", "MultiEnvHiPBMDPLearner"]
