"""The runner that steps all the environments that it owns in lockstep."""

from rllib_multienv.env_runners.assignment import assign_environments, environment_cost
from rllib_multienv.env_runners.multi_env_runner import MultiEnvRunner
from rllib_multienv.env_runners.sampling_failure import SamplingFailure

__all__ = ["MultiEnvRunner", "SamplingFailure", "assign_environments", "environment_cost"]
