"""The runner that steps all its environments in lockstep, and the driver's side of sampling."""

from rllib_multienv.env_runners.assignment import assign_environments, environment_cost
from rllib_multienv.env_runners.multi_env_runner import MultiEnvRunner
from rllib_multienv.env_runners.sampling import SamplingFailure

__all__ = ["MultiEnvRunner", "SamplingFailure", "assign_environments", "environment_cost"]
