"""HiP-BMDP (Zhang et al. 2020, arXiv 2007.07206): its settings, and the algorithm."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

from rllib_multienv.algorithms.hip_bmdp.learner import MultiEnvHiPBMDPLearner
from rllib_multienv.algorithms.hip_bmdp.module import HiPBMDPSharedModule
from rllib_multienv.algorithms.sac.sac import MultiEnvSAC, MultiEnvSACConfig
from rllib_multienv.algorithms.settings import NonNegative, PerEnvironment, settings
from rllib_multienv.nets import HiPNetConfig, NetConfig


class MultiEnvHiPBMDPConfig(MultiEnvSACConfig):
    """Configuration of :class:`MultiEnvHiPBMDP`: SAC's, and the weights of the auxiliary losses.

    The network is a `HiPNetConfig`. Each task is an environment of its own, ``EnvSpec(..., kwargs={"task": [...]})``.
    """

    shared_module_class = HiPBMDPSharedModule

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvHiPBMDP)

    @settings
    def training(
        self,
        *,
        bisimulation_coeff: PerEnvironment[NonNegative] = 0.01,
        transition_loss_coeff: PerEnvironment[NonNegative] = 1.0,
        reward_loss_coeff: PerEnvironment[NonNegative] = 1.0,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            bisimulation_coeff: Factor of the loss that makes two tasks' embeddings as far apart as what is predicted in
                them; 0: HiP-BMDP-nobisim of the paper.
            transition_loss_coeff: Factor of the transition model's loss.
            reward_loss_coeff: Factor of the reward model's loss.
        """

    def validate(self) -> None:
        """Check all settings."""
        super().validate()
        if not isinstance(network := self.network_config, HiPNetConfig):
            self._value_error(
                f"The network is of type {network.type!r}; HiP-BMDP's is 'hip': rl_module(model_config=HiPNetConfig())."
            )
        for env_id in self.space_specs:
            if self.get_config_for_module(env_id).n_step > 1:
                self._value_error(f"Environment {env_id!r}: n_step must be 1; the models predict single steps.")
        if not self.in_evaluation and not any(
            self.space_specs[one].has_spaces_of(self.space_specs[other])
            for one, other in itertools.combinations(self.space_specs, 2)
        ):
            warnings.warn(
                "No two environments have the same spaces, so HiP-BMDP compares no embeddings. Each task is an "
                'environment of its own: EnvSpec("heavy", make=..., kwargs={"task": [...]}).',
                UserWarning,
                stacklevel=2,
            )

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration; by default a `HiPNetConfig`."""
        if not self._model_config and self.initial_network is None:
            return HiPNetConfig().for_environments(self.space_specs)
        return super().network_config

    @property
    def adapter(self) -> Mapping[str, Any]:
        """Agents infer the embedding of a task."""
        return {"type": "embedding"}

    def get_default_learner_class(self) -> type:
        """HiP-BMDP's learner."""
        return MultiEnvHiPBMDPLearner


class MultiEnvHiPBMDP(MultiEnvSAC):
    """SAC for tasks that differ in hidden parameters: each has an embedding, which is all that the networks know of it.

    Beside SAC's losses there are those of a transition and a reward model, which have the embeddings too, and one that
    makes the distance of two embeddings that of what the transition model predicts in the two tasks. In a task that was
    not trained on an agent acts with the mean embedding, or infers one from what it sees (docs/multitask_networks.md).
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvHiPBMDPConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvHiPBMDPConfig()
