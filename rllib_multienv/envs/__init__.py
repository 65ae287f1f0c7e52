"""Makes environments, and steps many copies of each."""

from rllib_multienv.envs.catalogue import TrainableEnv, list_trainable, nearest_env_ids
from rllib_multienv.envs.errors import EnvFailure, NonFiniteError
from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.measure import with_measurements
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.envs.vector import EnvCopies, VectorStep

__all__ = [
    "EnvCopies",
    "EnvFailure",
    "NonFiniteError",
    "TrainableEnv",
    "VectorStep",
    "list_trainable",
    "make_env",
    "nearest_env_ids",
    "probe_spaces",
    "with_measurements",
]
