"""HiP-BMDP's learner: SAC's, with the losses of the models and of the distances between embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rllib_multienv.algorithms.hip_bmdp import module as outputs
from rllib_multienv.algorithms.hip_bmdp.loss import bisimulation_loss
from rllib_multienv.algorithms.hip_bmdp.module import HiPBMDPSharedModule
from rllib_multienv.algorithms.sac.learner import MultiEnvSACLearner
from rllib_multienv.learners import Step
from rllib_multienv.metrics import BISIMULATION_LOSS, REWARD_ERROR, STATE_ERROR, TRANSITION_LOSS
from rllib_multienv.nets.hip import Predicted
from rllib_multienv.rollout import TARGETS


class MultiEnvHiPBMDPLearner(MultiEnvSACLearner):
    """SAC's losses, and for each environment those of `loss`.

    The embedding of an environment is compared to that of one other in each step: all others of the same spaces in
    turn, whichever learners have them.
    """

    @property
    def _shared(self) -> HiPBMDPSharedModule:
        shared = self.module.shared
        assert isinstance(shared, HiPBMDPSharedModule)
        return shared

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """SAC's; embeddings and models belong to the critic."""
        embeddings = {id(parameter) for parameter in self._shared.network.context.parameters()}
        for name, parameters, rate in super().parameter_groups():
            if name == "actor":
                yield name, [p for p in parameters if id(p) not in embeddings], rate
            else:
                yield name, [*parameters, *self._shared.model_parameters()], rate

    def compute_losses(self, *, fwd_out: dict[str, Any], step: Step) -> dict[str, Tensor]:
        """See `MultiEnvSACLearner.compute_losses`; first what the models say of the other environments."""
        self._others = self._partners(self.num_steps + step.number)
        batch = {
            env_id: columns
            for env_id, columns in step.minibatch.columns.items()
            if env_id in self._others and TARGETS not in columns
        }
        with torch.no_grad():
            found = self._shared.predict(self._others, batch)
        self._in_others = {env_id: predicted.change for env_id, predicted in found.items()}
        return super().compute_losses(fwd_out=fwd_out, step=step)

    def _partners(self, step: int) -> dict[str, str]:
        """Another environment of the same spaces for each that has any: a permutation, another one in each step.

        Where observations are images or text alone, nothing is predicted, and nothing compared.
        """
        specs = self.config.space_specs
        groups: dict[str, list[str]] = {}  # by the first environment of each
        for env_id, spaces in specs.items():
            first = next((known for known in groups if spaces.has_spaces_of(specs[known])), env_id)
            groups.setdefault(first, []).append(env_id)
        partners: dict[str, str] = {}
        for group in groups.values():
            if (others := len(group) - 1) > 0 and specs[group[0]].obs_size:
                shift = 1 + step % others
                partners |= dict(zip(group, group[shift:] + group[:shift], strict=True))
        return partners

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch."""
        loss = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out, step=step
        )
        change = fwd_out[outputs.PREDICTED_CHANGE]
        predicted = Predicted(change, fwd_out[outputs.PREDICTED_LOG_STD], fwd_out[outputs.PREDICTED_REWARD])
        transition = predicted.negative_log_likelihood(fwd_out[outputs.CHANGE], beta=0.5)
        reward = (predicted.reward - batch[Columns.REWARDS] * config.reward_scale).square().mean()
        loss = loss + config.transition_loss_coeff * transition + config.reward_loss_coeff * reward
        step.log(module_id, TRANSITION_LOSS, transition)
        if change.shape[1]:
            step.log(module_id, STATE_ERROR, (change - fwd_out[outputs.CHANGE]).detach().square().mean())
        step.log(module_id, REWARD_ERROR, reward)
        if module_id in self._in_others:
            own, other = self._shared.network.thetas((module_id, self._others[module_id]))  # each [C]
            distance = bisimulation_loss(own, other, change, self._in_others[module_id])
            loss = loss + config.bisimulation_coeff * distance
            step.log(module_id, BISIMULATION_LOSS, distance)
        return loss
