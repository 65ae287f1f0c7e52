"""DREAM (Liu et al. 2020, arXiv 2008.02790): its settings, and the algorithm."""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_multienv.algorithms.dream.advantages import ExplorationAdvantages
from rllib_multienv.algorithms.dream.learner import MultiEnvDREAMLearner
from rllib_multienv.algorithms.dream.module import DreamSharedModule
from rllib_multienv.algorithms.dream.runner import LabellingRunner
from rllib_multienv.algorithms.ppo.ppo import MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.algorithms.settings import NonNegative, PerEnvironment, Positive, settings
from rllib_multienv.envs.make import is_task_family
from rllib_multienv.nets import DreamNetConfig, NetConfig


class MultiEnvDREAMConfig(MultiEnvPPOConfig):
    """Configuration of :class:`MultiEnvDREAM`: PPO's, and the settings of exploring.

    Environments are trials of task families, ``EnvSpec(..., trial_episodes=2)``: an exploration episode, then those
    whose return counts. The network is a `DreamNetConfig`, or the configuration of its policies.
    """

    shared_module_class = DreamSharedModule
    advantages_class = ExplorationAdvantages
    memories: ClassVar[tuple[str, ...]] = ("dream",)
    trains_worlds: ClassVar[bool] = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvDREAM)
        self.env_runner_cls = LabellingRunner
        self.advantages_across_episodes = False

    @settings
    def training(
        self,
        *,
        exploration_cost: PerEnvironment[NonNegative] = 0.0,
        bottleneck: Positive = 10.0,
        bottleneck_coeff: NonNegative = 1.0,
        inference_coeff: Positive = 1.0,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            exploration_cost: Cost of a step of exploring (c), in squared distances of embeddings: 0.1 in the paper's
                grids, 0 in its sign task. Where an episode can be ended early, a high cost makes it end early.
            bottleneck: Squared length of a label's embedding from which on it costs to be longer.
            bottleneck_coeff: Factor of that cost.
            inference_coeff: Factor of the squared errors of what is inferred from exploring.
        """

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration: a `DreamNetConfig` of the policies' network, if that was given."""
        given = super().network_config
        if isinstance(given, DreamNetConfig) or given.memory not in (None, "gru", "s4"):
            return given
        return DreamNetConfig(policy=given, max_seq_len=given.max_seq_len)

    def get_default_learner_class(self) -> type:
        """DREAM's learner."""
        return MultiEnvDREAMLearner

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        super().validate()
        if self.in_evaluation:
            return
        for spec in self.env_specs:
            if (spec.trial_episodes or 1) < 2:
                self._value_error(
                    f"Environment {spec.id!r} has trial_episodes={spec.trial_episodes!r}: a trial needs an exploration "
                    "episode and at least one more; write EnvSpec(..., trial_episodes=2)."
                )
            if not is_task_family(spec):
                self._value_error(f"Environment {spec.id!r} is no task family: it has no tasks to find out about.")


class MultiEnvDREAM(MultiEnvPPO):
    """PPO for two policies: one explores a task in the first episode of a trial, one has all other episodes.

    The explorer is rewarded for what its steps tell of the task, and the exploiter by the environment, conditioned on
    the label of the task or, in every second trial, on what was inferred.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvDREAMConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvDREAMConfig()
