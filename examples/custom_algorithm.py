"""A user's own algorithm: advantage actor-critic (A2C; Mnih et al. 2016, arXiv 1602.01783) on unlike environments.

Run it with::

    python examples/custom_algorithm.py [ITERATIONS]

An algorithm is its settings, a loss, and one of the loops. Everything else (any number of runners and learners,
checkpoints, new environments while training, data normalisation, gradient combiners) is the package's. A line now and
then shows the mean returns (300 iterations by default, less than a minute). CartPole-v1 rises from about 20 to 250;
InvertedPendulum-v4 rises from about 8 to more than 100 and falls again, as nothing bounds the steps of this algorithm.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from torch import Tensor

from rllib_multienv import AgnosticNetConfig
from rllib_multienv.algorithms.on_policy import OnPolicyAlgorithm, OnPolicyConfigMixin
from rllib_multienv.algorithms.settings import NonNegative, PerEnvironment, settings
from rllib_multienv.learners import MultiEnvLearner, Step


class A2CConfig(OnPolicyConfigMixin, AlgorithmConfig):
    """Configuration of :class:`A2C`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or A2C)

    @settings
    def training(
        self,
        *,
        vf_loss_coeff: PerEnvironment[NonNegative] = 0.5,
        entropy_coeff: PerEnvironment[NonNegative] = 0.01,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            vf_loss_coeff: Factor of the value loss.
            entropy_coeff: Factor of the entropy bonus.
        """

    def get_default_learner_class(self) -> type:
        """The learner with this algorithm's loss."""
        return A2CLearner


class A2CLearner(MultiEnvLearner):
    """The loss of advantage actor-critic."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Policy gradient, value regression and entropy bonus, means over the minibatch's rows."""
        distribution_class = self.module[module_id].get_train_action_dist_cls()
        distribution = distribution_class.from_logits(fwd_out["action_dist_inputs"])
        policy = -(distribution.logp(batch["actions"]) * batch["advantages"]).mean()
        value = 0.5 * (fwd_out["vf_preds"] - batch["value_targets"]).square().mean()
        entropy = distribution.entropy().mean()
        for name, term in (("policy_loss", policy), ("vf_loss", value), ("entropy", entropy)):
            step.log(module_id, name, term)
        return policy + config.vf_loss_coeff * value - config.entropy_coeff * entropy


class A2C(OnPolicyAlgorithm):
    """Sampling, one step on everything sampled, and new weights for the runners."""

    @classmethod
    def get_default_config(cls) -> A2CConfig:
        """The settings."""
        return A2CConfig()


def main() -> None:
    """Train on CartPole and InvertedPendulum, and print their returns."""
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    config = (
        A2CConfig()
        .environment(envs=["CartPole-v1", "InvertedPendulum-v4"])
        .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=16)
        .rl_module(model_config=AgnosticNetConfig(d_model=32))
        .training(lr=2e-3, entropy_coeff=0.0)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for iteration in range(1, iterations + 1):
        returns = algo.train()["env_runners"]["module_episode_return_mean"]
        if iteration % max(1, iterations // 30) == 0:
            print(iteration, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
    algo.stop()


if __name__ == "__main__":
    main()
