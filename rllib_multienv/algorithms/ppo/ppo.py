"""PPO on many environments at once."""

from __future__ import annotations

from ray.rllib.algorithms.ppo.ppo import PPO

from rllib_multienv.algorithms.on_policy import OnPolicyAlgorithm
from rllib_multienv.algorithms.ppo.config import MultiEnvPPOConfig


class MultiEnvPPO(OnPolicyAlgorithm, PPO):
    """PPO in the on-policy loop.

    Where fragments were sampled ahead, :class:`~rllib_multienv.algorithms.ppo.proximal_policy.ProximalPolicy` corrects
    for the older policy; values and advantages are computed when the fragments are learned from.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvPPOConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvPPOConfig()
