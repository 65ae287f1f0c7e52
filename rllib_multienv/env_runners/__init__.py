"""The runner that steps all the environments that it owns in lockstep."""

from rllib_multienv.env_runners.assignment import assign_environments, environment_cost
from rllib_multienv.env_runners.multi_env_runner import MultiEnvRunner

__all__ = ["MultiEnvRunner", "assign_environments", "environment_cost"]
