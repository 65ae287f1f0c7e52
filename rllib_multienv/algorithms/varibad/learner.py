"""VariBAD's learner: PPO's steps, then steps of the belief on whole trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.algorithms.varibad.loss import Posteriors, negative_elbo, summed_errors
from rllib_multienv.algorithms.varibad.module import VariBADSharedModule
from rllib_multienv.algorithms.varibad.trials import TrialBatch, TrialStore
from rllib_multienv.learners import LearnerHook
from rllib_multienv.learners.gradients import clip_by_global_norm
from rllib_multienv.learners.minibatches import LossMeans
from rllib_multienv.learners.shares import Share, Shares
from rllib_multienv.learners.training_data import SharedTrainingData
from rllib_multienv.metrics import (
    NEGATIVE_ELBO,
    POSTERIOR_KL,
    POSTERIOR_STD_FIRST,
    POSTERIOR_STD_LAST,
    REWARD_ERROR,
    STATE_ERROR,
)
from rllib_multienv.nets import Inputs
from rllib_multienv.rollout import Rollout


class BeliefSteps(LearnerHook):
    """Trains encoder and decoder on trials of all environments, with an optimiser of their own.

    Learners that share an environment have the same trials and draw the same ones; each takes its part of them. All
    learners take the same number of steps, with the gradient that one learner would have.
    """

    def __init__(self) -> None:
        self.shares: Shares = {}
        self._stores: dict[str, TrialStore] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved: dict[str, Any] | None = None  # the state of an optimiser that is not made yet

    def add(self, rollouts: Mapping[str, Sequence[Rollout]], capacity: int) -> None:
        """Add the fragments of one iteration."""
        for env_id, own in rollouts.items():
            self._stores.setdefault(env_id, TrialStore(capacity)).add(own)

    def after_update(self, learner: Any, means: LossMeans) -> None:
        """Take the steps of one update, and log the losses of the last one."""
        config, shared = learner.config, learner.module.shared
        parameters = [*shared.belief.encoder_parameters(), *(p for d in shared.decoders for p in d.parameters())]
        optimizer = self._optimizer_of(parameters, config.vae_lr)
        for env_id in self._stores.keys() - set(learner.env_ids):
            del self._stores[env_id]
        for number in range(config.num_vae_updates):
            optimizer.zero_grad(set_to_none=True)
            total = self._loss(learner, number)
            if total is not None:
                total.backward()
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            learner.reduction.sum(gradients)
            if not torch.isfinite(clip_by_global_norm(gradients, None)):
                continue  # all learners have the same sum
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()

    def _optimizer_of(self, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimiser; another one that keeps the moments where parameters have come or gone."""
        before = self._optimizer
        if before is None or [id(p) for p in before.param_groups[0]["params"]] != [id(p) for p in parameters]:
            self._optimizer = torch.optim.Adam(list(parameters), lr=lr)
            if before is not None:
                self._optimizer.state.update({p: before.state[p] for p in parameters if p in before.state})
        assert self._optimizer is not None
        if self._saved is not None:
            self._optimizer.load_state_dict(self._saved)
            self._saved = None
        return self._optimizer

    def _loss(self, learner: Any, number: int) -> Tensor | None:
        """The loss of this learner's part of the trials of one step; None if it has none."""
        config, device = learner.config, learner.device
        batches: dict[str, TrialBatch] = {}
        weights: dict[str, float] = {}
        generators: dict[str, np.random.Generator] = {}
        size = config.vae_batch_num_trajs
        known = [env_id for env_id in learner.env_ids if env_id in self._stores]
        for env_id in sorted(known, key=lambda e: config.space_specs[e].obs_size):
            store = self._stores[env_id]
            own = self.shares.get(env_id, Share()).rows(0, size)
            if not len(store) or own.start == own.stop:
                continue
            entropy = [learner.shuffle_seed, learner.num_updates, number, learner.env_keys[env_id]]
            generators[env_id] = np.random.default_rng(entropy)
            batches[env_id] = store.batch(store.draw(generators[env_id], size)).part(own)
            weights[env_id] = batches[env_id].valid.shape[1] / size
        if not batches:
            return None
        shared: VariBADSharedModule = learner.module.shared
        inputs, after = (
            {
                env_id: Inputs.of(
                    env_id,
                    config.space_specs[env_id].observation,
                    torch.from_numpy(getattr(batch, name)[batch.valid]).to(device),
                )
                for env_id, batch in batches.items()
            }
            for name in ("obs", "next_obs")
        )
        valid = {env_id: torch.from_numpy(batch.valid).to(device) for env_id, batch in batches.items()}
        first = {env_id: torch.zeros_like(exists) for env_id, exists in valid.items()}
        for resets in first.values():
            resets[0] = True
        rows = [int(exists.sum()) for exists in valid.values()]
        spaces = {env_id: config.space_specs[env_id] for env_id in batches}
        columns = [shared.belief.infer(inputs, first, valid)]  # [R, 2 D]
        columns += [decoder.encode(spaces, inputs, after) for decoder in shared.decoders]  # [R, F] each
        total: Tensor | None = None
        for (env_id, batch), *parts in zip(batches.items(), *(column.split(rows) for column in columns), strict=True):
            exists = valid[env_id]
            belief, *steps = (_over_time(column, exists) for column in parts)  # [T, N, ...] each
            states = _over_time(after[env_id].numbers[:, : spaces[env_id].without_inputs.obs_size], exists)
            loss = self._of_environment(
                learner, env_id, batch, Posteriors.of(belief, exists), steps, states, generators[env_id],
                is_reported=number == config.num_vae_updates - 1,
            )  # fmt: skip
            weight = weights[env_id] * config.env_loss_weights.get(env_id, 1.0)
            total = loss * weight if total is None else total + loss * weight
        return total

    def _of_environment(
        self,
        learner: Any,
        env_id: str,
        batch: TrialBatch,
        posteriors: Posteriors,
        steps: Sequence[Tensor],
        states: Tensor,
        rng: np.random.Generator,
        *,
        is_reported: bool,
    ) -> Tensor:
        """Mean loss of an environment's trials.

        Args:
            learner: The learner.
            env_id: The environment.
            batch: Its trials.
            posteriors: Of each of their time steps.
            steps: ``[T, N, F]``, their steps as each decoder has encoded them.
            states: ``[T, N, I]``, numbers of the next observations.
            rng: Source of the draws.
            is_reported: Whether losses are logged.
        """
        config, shared = learner.config.get_config_for_module(env_id), learner.module.shared
        length, device = len(states), states.device
        inferred, decoded = (
            torch.from_numpy(np.sort(rng.permutation(length)[:count])).to(device)
            for count in (config.vae_subsample_elbos, config.vae_subsample_decodes)
        )
        # Noise of all trials of the batch, also of those that other learners have: it is the same in all of them.
        size, own = config.vae_batch_num_trajs, self.shares.get(env_id, Share())
        shape = (size, len(inferred), posteriors.mean.shape[2])
        noise = torch.from_numpy(rng.standard_normal(shape, np.float32)[own.rows(0, size)]).to(device)
        of_terms = posteriors.at(inferred)  # of Z time steps
        latents = of_terms.sample(noise.transpose(0, 1))  # [Z, N, D]
        rewards, known = (
            torch.from_numpy(column).to(device)[decoded] for column in (batch.rewards, batch.decoded & batch.valid)
        )  # [K, N] each
        predicted = shared.decoder.decode(steps[0][decoded], latents)  # [Z, K, N]
        errors = {REWARD_ERROR: summed_errors((predicted - rewards).square(), known)}  # [Z, N]
        total = errors[REWARD_ERROR]
        if shared.state_decoder is not None:
            following = shared.state_decoder.decode(env_id, steps[1][decoded], latents)  # [Z, K, N, I]
            errors[STATE_ERROR] = summed_errors((following - states[decoded]).square().mean(-1), known)
            total = total + config.state_loss_coeff * errors[STATE_ERROR]
        kl = posteriors.kl_to_previous()
        total = total * (length / len(decoded))
        loss = negative_elbo(total, of_terms.valid, kl, posteriors.valid, config.kl_weight).mean()
        if is_reported:
            first, last = posteriors.deviations()
            counted = (of_terms.valid[:, None] & known).sum().clamp(min=1)  # predictions
            reported = {
                NEGATIVE_ELBO: loss,
                **{key: error.masked_fill(~of_terms.valid, 0.0).sum() / counted for key, error in errors.items()},
                POSTERIOR_KL: kl.sum() / posteriors.valid.sum(),
                POSTERIOR_STD_FIRST: first.mean(),
                POSTERIOR_STD_LAST: last.mean(),
            }
            for key, value in reported.items():
                learner.metrics.log_value((env_id, key), value.detach(), window=1)
        return loss

    def get_state(self) -> dict[str, Any]:
        """Optimiser and trials."""
        optimizer = self._saved if self._optimizer is None else self._optimizer.state_dict()
        return {
            "optimizer": optimizer,
            "stores": {env_id: (store.capacity, store.get_state()) for env_id, store in self._stores.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        self._optimizer, self._saved = None, state["optimizer"]
        self._stores = {}
        for env_id, (capacity, saved) in state["stores"].items():
            self._stores[env_id] = TrialStore(capacity)
            self._stores[env_id].set_state(saved)


def _over_time(rows: Tensor, valid: Tensor) -> Tensor:
    """Rows ``[n, F]`` where ``valid`` ``[T, N]`` says, zeros elsewhere: ``[T, N, F]``."""
    return rows.new_zeros(*valid.shape, rows.shape[1]).masked_scatter(valid[..., None], rows)


class MultiEnvVariBADLearner(MultiEnvPPOLearner):
    """PPO's steps on policy and values; then those of `BeliefSteps` on encoder and decoder."""

    def make_hooks(self) -> list[LearnerHook]:
        """PPO's, and the belief's."""
        self._belief_steps = BeliefSteps()
        return [*super().make_hooks(), self._belief_steps]

    def parameter_groups(self) -> Any:
        """PPO's, without what makes beliefs."""
        own = {id(parameter) for parameter in self.module.shared.belief.encoder_parameters()}
        for name, parameters, rate in super().parameter_groups():
            yield name, [parameter for parameter in parameters if id(parameter) not in own], rate

    def update(self, *, training_data: SharedTrainingData, **kwargs: Any) -> Any:
        """Take the steps of one update."""
        self._belief_steps.shares = training_data.shares
        return super().update(training_data=training_data, **kwargs)

    def batch_of(self, rollouts: Mapping[str, Sequence[Rollout]]) -> dict[str, dict[str, Tensor]]:
        """The batch of PPO; the trials go to the store of the belief's steps."""
        self._belief_steps.add(rollouts, self.config.vae_buffer_size)
        return super().batch_of(rollouts)
