"""An offline algorithm of a user's own is settings, a loss and the offline loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from offline_files import noise
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from tiny_runs import TINY_NET
from torch import Tensor

from rllib_multienv.algorithms.offline import OfflineAlgorithm, OfflineConfigMixin
from rllib_multienv.algorithms.settings import Positive, settings
from rllib_multienv.learners import MultiEnvLearner, Step


class CloningConfig(OfflineConfigMixin, AlgorithmConfig):
    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Cloning)

    @settings
    def training(self, *, weight: Positive = 1.0, **rllib: Any) -> None:
        """Set how to train.

        Args:
            weight: Factor of the loss.
        """

    def get_default_learner_class(self) -> type:
        return CloningLearner


class CloningLearner(MultiEnvLearner):
    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        distribution_class = self.module[module_id].get_train_action_dist_cls()
        distribution = distribution_class.from_logits(fwd_out["action_dist_inputs"])
        return -config.weight * distribution.logp(batch["actions"]).mean()


class Cloning(OfflineAlgorithm):
    @classmethod
    def get_default_config(cls) -> CloningConfig:
        return CloningConfig()


def one_action(obs_size: int, actions: int, *, discrete: bool = False) -> Any:
    """A data set in which all actions are the same: 1, or zeros."""
    arrays = noise(obs_size, actions, discrete=discrete)()
    return lambda: {**arrays, "actions": np.full_like(arrays["actions"], int(discrete))}


@pytest.mark.usefixtures("ray_cluster")
def test_behaviour_cloning_on_two_data_sets() -> None:
    config = (
        CloningConfig()
        .offline_data(datasets={"cart": one_action(4, 2, discrete=True), "ant": one_action(27, 8)})
        .rl_module(model_config=TINY_NET)
        .training(num_steps_per_iteration=20, batch_size=32, lr=[[0, 3e-3], [40, 0.0]], weight=2.0)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    first, second = algo.train(), algo.train()
    algo.stop()
    assert second["num_steps_lifetime"] == 40
    for env_id in ("cart", "ant"):
        assert second["learners"][env_id]["total_loss"] < first["learners"][env_id]["total_loss"]
        assert second["learners"][env_id]["num_module_steps_trained_lifetime"] == 40 * 32
    # Learning rates move with the optimiser's steps.
    assert first["learners"]["shared"]["actor_lr"] == pytest.approx(1.5e-3)
    assert second["learners"]["shared"]["actor_lr"] == pytest.approx(0.0)
