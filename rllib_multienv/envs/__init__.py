"""Making environments, and stepping many copies of each."""

from rllib_multienv.envs.catalogue import TrainableEnv, list_trainable, nearest_env_ids
from rllib_multienv.envs.errors import EnvFailure, NonFiniteError, check_finite, find_nonfinite
from rllib_multienv.envs.make import make_env, probe_spaces
from rllib_multienv.envs.vector import EnvCopies, VectorStep

__all__ = [
    "EnvCopies",
    "EnvFailure",
    "NonFiniteError",
    "TrainableEnv",
    "VectorStep",
    "check_finite",
    "find_nonfinite",
    "list_trainable",
    "make_env",
    "nearest_env_ids",
    "probe_spaces",
]
