"""The learner that all algorithms build on."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    MODULE_TRAIN_BATCH_SIZE_MEAN,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
)
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor, nn

from rllib_multienv.env_runners.episode_metrics import NUM_FRAGMENTS_LOST_LIFETIME
from rllib_multienv.evaluation.progress import GRADIENT_COSINE
from rllib_multienv.learners.gradient_cosines import cosines, environment_gradients
from rllib_multienv.learners.gradients import all_reduce_sum, broadcast_from_first, clip_by_global_norm
from rllib_multienv.learners.minibatches import Minibatch, Shuffle, minibatches
from rllib_multienv.learners.training_data import MultiEnvTrainingData
from rllib_multienv.modules import SHARED_MODULE, MultiEnvModule
from rllib_multienv.nets import ActorCritic, frozen_parameters
from rllib_multienv.process import keep_freed_memory, use_assigned_cpus

logger = logging.getLogger("ray.rllib")

GRADIENT_NORM = "gradient_norm"
NUM_STEPS_SKIPPED_LIFETIME = "num_steps_skipped_lifetime"
NUM_ENV_STEPS_LOST_LIFETIME = "num_env_steps_lost_lifetime"
_COMPONENT_RANDOM = "random"


class MultiEnvLearner(TorchLearner):
    """Trains the shared module on several environments at once.

    One optimiser holds every parameter once, in two groups with learning rates of their own (actor, critic). Each of
    the ``num_epochs * num_minibatches`` steps of an update makes one packed forward, one loss per environment, their
    weighted sum (Algorithm 1 of the paper), one backward, the sum of gradients over all learners, clipping by the
    global norm, and one optimiser step. A step whose gradient is not finite is skipped and counted.

    Several learners hold the same parameters bit for bit: they start from learner 0's, and every step applies the same
    reduced gradient. An environment that several learners share has its rows split over them, each loss weighted by its
    rows, so the gradient is that of one learner with everything, whatever their number.

    Subclasses give the losses in ``compute_loss_for_module``.

    Attributes:
        is_reported: Whether what is logged of the present step is reported: it is in the last pass over the data.
    """

    config: Any
    _learner_connector: Any

    def build(self) -> None:
        """Build module and optimiser; with several learners, agree on the initial weights and the seed of shuffles."""
        if self._is_built:
            return
        use_assigned_cpus()
        keep_freed_memory()
        self._num_updates = 0
        self.is_reported = True
        self._loss_sums: dict[tuple[str, str], Tensor] = {}
        self._loss_counts: dict[tuple[str, str], float] = {}
        self._row_weights: dict[str, float] = {}
        self._cosines_wanted, self._next_cosines = False, 0
        self._group: Any = None
        super().build()
        seed = torch.tensor([secrets.randbits(31) if self.config.seed is None else self.config.seed])
        if self.distributed:
            # A group of our own, because the timeout of RLlib's cannot be set.
            self._group = dist.new_group(timeout=timedelta(seconds=self.config.learner_timeout_s))
            seed = seed.to(self._device)
            broadcast_from_first([*self.network.state_dict().values(), seed], self._group)
        self._shuffle_seed = int(seed)

    @property
    def _is_first(self) -> bool:
        """Whether this learner reports what all learners have in common."""
        return not self.distributed or dist.get_rank() == 0

    @property
    def module(self) -> MultiEnvModule:
        """The agent."""
        return self._module

    @property
    def network(self) -> ActorCritic:
        """The network of all environments."""
        return self.module.shared.network

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """Name, parameters and learning rate (a number or a schedule) of each group of the optimiser."""
        rates = self.config.learning_rates()
        yield "actor", self.network.actor_parameters(), rates["actor"]
        yield "critic", self.network.critic_parameters(), rates["critic"]

    def configure_optimizers(self) -> None:
        """Register one optimiser for the shared parameters, without those that are frozen."""
        frozen = frozen_parameters(self.network, self.config.frozen_parts)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in frozen)
        groups, parameters, self._lr_schedules = [], [], {}
        for name, candidates, lr in self.parameter_groups():
            trained = [p for p in candidates if p.requires_grad]
            if not trained:
                continue
            schedule = Scheduler(fixed_value_or_schedule=lr, framework="torch", device=self._device)
            self._lr_schedules[name] = schedule
            parameters.append(trained)
            groups.append({"params": trained, "lr": float(schedule.get_current_value()), "name": name})
        optimizer = torch.optim.Adam(groups, eps=self.config.adam_epsilon, fused=True)
        self.register_optimizer(
            module_id=SHARED_MODULE,
            optimizer=optimizer,
            params=[p for trained in parameters for p in trained],
        )

    def change_environments(self, config: Any) -> None:
        """Let the environments of the run be those of ``config``, which differs in nothing else.

        Parameters and the optimiser's moments stay as they are. Parameters that belong to a new environment
        (of the specific network, and of ``context="embedding"``) are learner 0's.
        """
        self.config = config.copy(copy_frozen=False)  # RLlib changes a learner's own copy when it restores
        self._module_spec = config.get_multi_rl_module_spec()
        before = set(self.network.parameters())
        self.module.change_environments(config.space_specs)
        self.network.to(self._device)
        if set(self.network.parameters()) != before:
            if self.distributed:
                broadcast_from_first(list(self.network.state_dict().values()), self._group)
            self._renew_optimizer()
        connector = config.build_learner_connector(device=self._device)
        connector.set_state(self._learner_connector.get_state())
        self._learner_connector = connector

    def _renew_optimizer(self) -> None:
        """Make the optimiser anew for other parameters, keeping the moments of those that it had."""
        (old,) = self._optimizer_parameters
        rates = {group["name"]: group["lr"] for group in old.param_groups}
        schedules = self._lr_schedules
        for book in (self._optimizer_parameters, self._params, self._module_optimizers):
            book.clear()
        self.configure_optimizers()
        (new,) = self._optimizer_parameters
        for group in new.param_groups:
            group["lr"] = rates[group["name"]]
            new.state.update({p: old.state[p] for p in group["params"] if p in old.state})
        self._lr_schedules = schedules

    def _make_modules_ddp_if_necessary(self) -> None:
        """Leave the module unwrapped: the gradient is reduced explicitly (see :mod:`~.gradients`)."""

    # One update

    def update(
        self,
        *,
        training_data: Any,
        timesteps: dict[str, Any] | None = None,
        _no_metrics_reduce: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Take the optimiser steps of one update.

        Args:
            training_data: This learner's part of the data.
            timesteps: Counters for schedules; see :meth:`schedule_time`.
            _no_metrics_reduce: RLlib's: leave metrics in the logger.
            kwargs: Passed to :meth:`passes`.

        Returns:
            The reduced metrics.
        """
        self._check_is_built()
        timesteps = timesteps or {}
        self.before_gradient_based_update(timesteps=timesteps)
        self._weights_seq_no += 1
        interval = self.config.gradient_cosine_interval
        if interval is not None and self._num_updates >= self._next_cosines:
            self._cosines_wanted = True
            self._next_cosines = (self._num_updates // interval + 1) * interval
        rows: dict[str, int] = {}
        self._loss_sums.clear()
        self._loss_counts.clear()
        for is_last, steps in self.passes(training_data, **kwargs):
            self.is_reported = is_last  # each step of experience counts once
            for minibatch in steps:
                self._step(minibatch)
                for env_id, columns in minibatch.columns.items() if is_last else ():
                    rows[env_id] = rows.get(env_id, 0) + len(next(iter(columns.values())))
        self._report(rows)
        self.after_gradient_based_update(timesteps=timesteps)
        return None if _no_metrics_reduce else self.metrics.reduce()

    def passes(
        self, training_data: MultiEnvTrainingData, *, num_epochs: int = 1, num_minibatches: int = 1, **kwargs: Any
    ) -> Iterator[tuple[bool, Iterator[Minibatch]]]:
        """For each of ``num_epochs`` passes over the data whether it is the last, and its ``num_minibatches``.

        All learners make the same number of steps, whatever they were given.

        Args:
            training_data: Fragments of this learner's environments.
            num_epochs: Passes over the data.
            num_minibatches: Minibatches per pass.
            kwargs: Ignored, for compatibility.
        """
        self._fetch(training_data)
        self._num_updates += 1
        batch = self._learner_connector(
            rl_module=self.module,
            batch={},
            episodes=training_data.episode_chunks(),
            shared_data={},
            metrics=self.metrics,
        )
        batch = {env_id: columns for env_id, columns in batch.items() if self.should_module_be_updated(env_id)}
        self.before_steps(batch)
        steps = minibatches(
            batch,
            num_minibatches=num_minibatches,
            num_epochs=num_epochs,
            shuffle=Shuffle(seed=self._shuffle_seed, update=self._num_updates),
            shares=training_data.shares,
        )
        for epoch in range(num_epochs):
            yield epoch == num_epochs - 1, islice(steps, num_minibatches)

    def _fetch(self, training_data: MultiEnvTrainingData) -> None:
        """Fetch the fragments; what one learner cannot have, none uses, for they may share an environment."""
        training_data.solve_refs()
        lost = training_data.lost
        if self.distributed:
            flags = torch.zeros(max(1, training_data.num_fragments), dtype=torch.int32, device=self._device)
            flags[list(lost)] = 1
            dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._group)
            lost = frozenset(flags.nonzero().flatten().tolist())
        for env_id, steps in training_data.drop(lost).items():
            logger.warning("Fragments of %r with %d steps are lost: the node that held them is gone.", env_id, steps)
            if training_data.share(env_id).start == 0.0:  # of several learners one counts
                self.metrics.log_value((env_id, NUM_FRAGMENTS_LOST_LIFETIME), 1, reduce="lifetime_sum")
                self.metrics.log_value((env_id, NUM_ENV_STEPS_LOST_LIFETIME), steps, reduce="lifetime_sum")

    def _step(self, minibatch: Minibatch) -> None:
        """One optimiser step on this learner's part of a minibatch."""
        self._row_weights = minibatch.weights
        _, losses, _ = self._update(minibatch.columns)
        for env_id, loss in losses.items():
            self.log_loss(env_id, self.TOTAL_LOSS_KEY, loss)

    def before_steps(self, batch: dict[str, dict[str, Tensor]]) -> None:
        """Called with the whole batch before the first step; for metrics of the data as it came."""

    def log_loss(self, env_id: str, key: str, value: Tensor) -> None:
        """Remember a scalar of this step; reported as its mean over the last pass of the update."""
        if not self.is_reported:
            return
        place, weight = (env_id, key), self._row_weights.get(env_id, 1.0)
        value = value.detach() if weight == 1.0 else value.detach() * weight
        self._loss_sums[place] = self._loss_sums[place] + value if place in self._loss_sums else value
        self._loss_counts[place] = self._loss_counts.get(place, 0.0) + weight

    def mean_over_learners(self, key: str) -> dict[str, float]:
        """The mean of what :meth:`log_loss` was given in this update, over the rows of all learners, by environment.

        All learners call this together. Environments that none of them has trained on are left out.
        """
        env_ids = [*self.config.space_specs]
        sums = torch.zeros(len(env_ids), 2, dtype=torch.float64, device=self._device)
        for row, env_id in enumerate(env_ids):
            if (env_id, key) in self._loss_sums:
                sums[row, 0], sums[row, 1] = self._loss_sums[env_id, key], self._loss_counts[env_id, key]
        if self.distributed:
            all_reduce_sum([sums], self._group)
        return {env_id: total / count for env_id, (total, count) in zip(env_ids, sums.tolist(), strict=True) if count}

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        forward = self._forward(batch) if batch else {}
        losses = self.compute_losses(fwd_out=forward, batch=batch)
        if self._cosines_wanted:
            self._log_gradient_cosines(losses)
        gradients = self.postprocess_gradients(self.compute_gradients(losses))
        self.apply_gradients(gradients)
        return forward, losses, {}

    def _forward(self, batch: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
        """One packed forward, in the configured precision; what comes out is in float32."""
        if self.config.precision == "float32":
            return self.module.forward_train(batch)
        # Weights that autocast keeps from a part without gradients (targets, next values) would have none later on.
        with torch.autocast(torch.device(self._device).type, torch.bfloat16, cache_enabled=False):
            forward = self.module.forward_train(batch)
        return {env_id: {key: t.float() for key, t in columns.items()} for env_id, columns in forward.items()}

    def _log_gradient_cosines(self, losses: dict[str, Tensor]) -> None:
        """Log how much the environments' gradients agree in this step; the next step of the update does not ask."""
        self._cosines_wanted = False
        env_ids = [*self.config.space_specs]
        gradients = environment_gradients(
            {env_id: loss * self._row_weights.get(env_id, 1.0) for env_id, loss in losses.items()},
            env_ids,
            list(self._params.values()),
            self.reduce_gradients if self.distributed else lambda gradients: None,
        )
        if self._is_first:
            for env_a, env_b, cosine in cosines(gradients, env_ids):
                self.metrics.log_value((env_a, GRADIENT_COSINE, env_b), cosine, reduce="mean")

    def combine_losses(self, losses: dict[str, Tensor]) -> Tensor | None:
        """Total loss over environments: the sum of Algorithm 1, weighted by ``env_loss_weights``.

        A loss is the mean over this learner's rows of a minibatch; it counts as much as these are of all rows, so that
        the sum over learners is the mean over the whole minibatch.
        """
        total = None
        for env_id, loss in losses.items():
            weight = self.config.env_loss_weights.get(env_id, 1.0) * self._row_weights.get(env_id, 1.0)
            term = loss if weight == 1.0 else loss * weight
            total = term if total is None else total + term
        return total

    def compute_gradients(self, loss_per_module: dict[str, Tensor], **kwargs: Any) -> dict[Any, Tensor]:
        """Gradients of the combined loss for every trained parameter; zeros where it does not reach."""
        for optimizer in self._optimizer_parameters:
            optimizer.zero_grad(set_to_none=True)
        total = self.combine_losses(loss_per_module)
        if total is not None:
            total.backward()
        return {ref: torch.zeros_like(p) if p.grad is None else p.grad for ref, p in self._params.items()}

    def postprocess_gradients(self, gradients_dict: dict[Any, Tensor]) -> dict[Any, Tensor]:
        """Sum over all learners, then clip by the global norm of that sum."""
        gradients = list(gradients_dict.values())
        if self.distributed:
            self.reduce_gradients(gradients)
        norm = clip_by_global_norm(gradients, self.config.grad_clip)
        self.log_loss(ALL_MODULES, GRADIENT_NORM, norm)
        self._gradient_is_finite = bool(torch.isfinite(norm))
        return gradients_dict

    def reduce_gradients(self, gradients: list[Tensor]) -> None:
        """Replace each gradient by its sum over all learners; called where there are several."""
        all_reduce_sum(gradients, self._group)

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """One optimiser step; none if the gradient is not finite (on any learner: they all have the same sum)."""
        if not self._gradient_is_finite:
            if self._is_first:
                self.metrics.log_value((ALL_MODULES, NUM_STEPS_SKIPPED_LIFETIME), 1, reduce="lifetime_sum")
            return
        for ref, gradient in gradients_dict.items():
            self._params[ref].grad = gradient
        for optimizer in self._optimizer_parameters:
            optimizer.step()

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the learning rates along their schedules."""
        super().after_gradient_based_update(timesteps=timesteps)
        now = self.schedule_time(timesteps)
        for optimizer in self._optimizer_parameters:
            for group in optimizer.param_groups:
                group["lr"] = float(self._lr_schedules[group["name"]].update(timestep=now))
                self.metrics.log_value((SHARED_MODULE, f"{group['name']}_lr"), group["lr"], window=1)

    def schedule_time(self, timesteps: dict[str, Any]) -> int:
        """Where the learning rates are on their schedules: environment steps of all environments."""
        return timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)

    def _report(self, rows: dict[str, int]) -> None:
        """Log losses, and the steps of each environment that this learner trained on."""
        for (env_id, key), total in self._loss_sums.items():
            self.metrics.log_value((env_id, key), total / self._loss_counts[env_id, key], window=1)
        log = self.metrics.log_value
        for env_id, steps in rows.items():
            log((env_id, NUM_MODULE_STEPS_TRAINED), steps, reduce="sum")
            log((env_id, NUM_MODULE_STEPS_TRAINED_LIFETIME), steps, reduce="lifetime_sum")
            log((env_id, MODULE_TRAIN_BATCH_SIZE_MEAN), steps, reduce="mean")
            for key, reduce in (
                (NUM_MODULE_STEPS_TRAINED, "sum"),
                (NUM_MODULE_STEPS_TRAINED_LIFETIME, "lifetime_sum"),
                (NUM_ENV_STEPS_TRAINED, "sum"),
                (NUM_ENV_STEPS_TRAINED_LIFETIME, "lifetime_sum"),
            ):
                log((ALL_MODULES, key), steps, reduce=reduce)

    # State

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state and that of the random generators (shuffles, dropout)."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(_COMPONENT_RANDOM, components, not_components):
            state[_COMPONENT_RANDOM] = {
                "shuffle_seed": self._shuffle_seed,
                "updates": self._num_updates,
                "torch": torch.get_rng_state().numpy(),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over (parts of) a state, also one of fewer updates than this learner has made itself."""
        if COMPONENT_RL_MODULE in state:
            self._weights_seq_no = -1  # RLlib would keep its own weights if they are of a later update
        Learner.set_state(self, state)
        if _COMPONENT_RANDOM in state:
            self._shuffle_seed = state[_COMPONENT_RANDOM]["shuffle_seed"]
            self._num_updates = state[_COMPONENT_RANDOM]["updates"]
            interval = self.config.gradient_cosine_interval or 1
            self._next_cosines = -(-self._num_updates // interval) * interval
            torch.set_rng_state(torch.from_numpy(state[_COMPONENT_RANDOM]["torch"].copy()))
