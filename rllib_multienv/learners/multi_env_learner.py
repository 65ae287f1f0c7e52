"""The learner that all algorithms build on."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import VF_LOSS_KEY, Learner
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

from rllib_multienv.learners.combine import Combiner
from rllib_multienv.learners.combined_gradient import CombinedGradient
from rllib_multienv.learners.gradients import Reduction, clip_by_global_norm
from rllib_multienv.learners.hooks import GradientCosines, LearnerHook
from rllib_multienv.learners.minibatches import LossMeans, Step
from rllib_multienv.learners.training_data import SharedTrainingData
from rllib_multienv.metrics import ACCURACY, GRADIENT_NORM, NUM_STEPS_SKIPPED_LIFETIME, R_SQUARED
from rllib_multienv.modules import SHARED_MODULE, MultiEnvModule
from rllib_multienv.nets import ActorCritic, frozen_parameters
from rllib_multienv.offline.replay import GrowingReplay, Replay
from rllib_multienv.process import keep_freed_memory, set_threads
from rllib_multienv.rollout import TARGETS, Rollout
from rllib_multienv.spec import environment_keys

_COMPONENT_PROGRESS = "progress"
_COMPONENT_COMBINERS = "combiners"
_COMPONENT_HOOKS = "hooks"
_COMPONENT_REPLAYS = "replays"


class MultiEnvLearner(TorchLearner):
    """Trains the shared module on several environments at once.

    One optimiser holds every parameter once, in groups with a learning rate each (actor, critic). Each step of an
    update makes one packed forward, one loss per environment, combines their gradients (by default their weighted sum,
    Algorithm 1 of the paper, in one backward), sums over all learners, clips by the global norm (or each environment's
    gradient by its own, before they are combined), and takes one optimiser step. A step whose gradient is not finite is
    skipped and counted.

    Several learners hold the same parameters bit for bit: they start from learner 0's, and every step applies the same
    reduced gradient. An environment that several learners share has its rows split over them, each loss weighted by its
    rows, so the gradient is that of one learner with everything, whatever their number.

    An algorithm gives the loss in :meth:`compute_loss_for_module`, and where it needs them :meth:`parameter_groups`,
    :meth:`make_hooks` and :meth:`after_step`.

    Attributes:
        hooks: Diagnostics and adaptive quantities.
        groups: Trained parameters of each group of the optimiser, by name.
        replays: Replay stores of this learner's environments, for algorithms that draw from such.
        reduction: Sums over all learners.
        parameters: All trained parameters, in the optimiser's order.
        num_updates: Updates made (all steps on the data of one iteration), the present one included.
        num_steps: Optimiser steps made in earlier updates.
        shuffle_seed: Seed of the minibatches, the same on all learners.
    """

    config: Any
    _learner_connector: Any

    #: Groups of parameters that belong to values, each with the key under which `compute_loss_for_module` logs its
    #: loss. Combiners for the critic weigh these.
    critic_losses: ClassVar[Mapping[str, str]] = MappingProxyType({"critic": VF_LOSS_KEY})

    def build(self) -> None:
        """Build module and optimiser; with several learners, agree on the initial weights and the seed of shuffles."""
        if self._is_built:
            return
        keep_freed_memory()
        self.num_updates = self.num_steps = 0
        self.reduction = Reduction()
        self._combined = CombinedGradient(self)
        self.hooks = self.make_hooks()
        if self.config.grad_clip_by == "environment_running":
            self.hooks.append(self._combined.running_norms)
        self.replays: dict[str, Replay] = {}
        super().build()
        set_threads(sum(parameter.numel() for parameter in self.module.shared.parameters()))
        self._combined.build()
        seed = torch.tensor([secrets.randbits(31) if self.config.seed is None else self.config.seed])
        if self.distributed:
            # Another group than RLlib's, whose timeout cannot be set.
            self.reduction = Reduction(True, dist.new_group(timeout=timedelta(seconds=self.config.learner_timeout_s)))
            seed = seed.to(self._device)
            self.reduction.broadcast_first([*self.module.shared.state_dict().values(), seed])
        self.shuffle_seed = int(seed)

    @property
    def is_first(self) -> bool:
        """Whether this learner reports the values that all learners have in common."""
        return not self.distributed or dist.get_rank() == 0

    @property
    def combiner(self) -> Combiner:
        """How the gradients of environments become one."""
        return self._combined.combiner

    @property
    def device(self) -> Any:
        """Where the parameters are."""
        return self._device

    @property
    def module(self) -> MultiEnvModule:
        """The agent."""
        return self._module

    @property
    def network(self) -> ActorCritic:
        """The network of all environments."""
        return self.module.shared.network

    @property
    def env_ids(self) -> tuple[str, ...]:
        """All environments of the run, in the order that all learners use."""
        return tuple(self.config.space_specs)

    @property
    def env_keys(self) -> dict[str, int]:
        """Key of each environment for the order of its rows; it does not depend on the environment's id.

        Environments of a world have that of its first one.
        """
        specs = self.config.space_specs
        keys, of_world = environment_keys(specs.values()), {s.world: env_id for env_id, s in reversed(specs.items())}
        return {env_id: keys[of_world[spec.world] if spec.world else env_id] for env_id, spec in specs.items()}

    # What an algorithm gives

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """The loss of one environment's minibatch, a scalar.

        Args:
            module_id: The environment's id.
            config: The configuration with that environment's overrides.
            batch: Columns [n, ...] of the minibatch.
            fwd_out: What the module's ``forward_train`` gave for it.
            step: The step; ``step.log(module_id, key, scalar)`` reports a value.
        """
        raise NotImplementedError

    def compute_losses(self, *, fwd_out: dict[str, Any], step: Step) -> dict[str, Tensor]:
        """The loss of each environment in a step; called by all learners together.

        Data sets that are trained supervised, which have ``"targets"``, have the same loss with every algorithm.
        """
        return {
            env_id: self.compute_supervised_loss(env_id, columns[TARGETS], fwd_out[env_id], step)
            if TARGETS in columns
            else self.compute_loss_for_module(
                module_id=env_id,
                config=self.config.get_config_for_module(env_id),
                batch=columns,
                fwd_out=fwd_out[env_id],
                step=step,
            )
            for env_id, columns in step.minibatch.columns.items()
        }

    def compute_supervised_loss(self, env_id: str, targets: Tensor, fwd_out: dict[str, Tensor], step: Step) -> Tensor:
        """The mean negative log likelihood of the targets ``[n, ...]``; logs accuracy or R squared.

        R squared is that within the minibatch.
        """
        distribution = self.module[env_id].get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        if step.is_reported:
            predicted = distribution.to_deterministic().sample().detach()
            if self.config.space_specs[env_id].action.num_continuous:
                error = (predicted - targets).square().mean(0)  # [A]
                variance = targets.var(0, correction=0).clamp(min=1e-8)  # [A]
                step.log(env_id, R_SQUARED, 1.0 - (error / variance).mean())
            else:
                step.log(env_id, ACCURACY, (predicted == targets).float().mean())
        return -distribution.logp(targets).mean()

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """Name, parameters and learning rate (a number or a schedule) of each group of the optimiser."""
        rates = self.config.learning_rates()
        yield "actor", self.network.actor_parameters(), rates["actor"]
        yield "critic", self.network.critic_parameters(), rates["critic"]

    def new_replay(self, env_id: str, capacity: int) -> GrowingReplay:
        """An empty replay store of an environment, for off-policy algorithms."""
        return GrowingReplay(capacity, self.config.space_specs[env_id].observation)

    def make_hooks(self) -> list[LearnerHook]:
        """The hooks of this learner; of several of one class only the last is saved."""
        interval = self.config.gradient_cosine_interval
        return [] if interval is None else [GradientCosines(interval)]

    def after_step(self) -> None:
        """Called after each optimiser step, also one that was skipped."""

    def schedule_time(self, timesteps: dict[str, Any]) -> int:
        """Where the learning rates are on their schedules: environment steps of all environments; offline, steps."""
        return timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, self.num_steps)

    # Module and optimiser

    def configure_optimizers(self) -> None:
        """Register one optimiser for the shared parameters, without those that are frozen."""
        frozen = frozen_parameters(self.network, self.config.frozen_parts)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in frozen)
        self.groups: dict[str, list[nn.Parameter]] = {}
        groups, self._lr_schedules = [], {}
        for name, candidates, lr in self.parameter_groups():
            trained = [p for p in candidates if p.requires_grad]
            if not trained:
                continue
            schedule = Scheduler(fixed_value_or_schedule=lr, framework="torch", device=self._device)
            self._lr_schedules[name] = schedule
            self.groups[name] = trained
            groups.append({"params": trained, "lr": float(schedule.get_current_value()), "name": name})
        self.parameters = [parameter for group in self.groups.values() for parameter in group]
        optimizer = torch.optim.Adam(groups, eps=self.config.adam_epsilon, fused=True)
        self.register_optimizer(
            module_id=SHARED_MODULE,
            optimizer=optimizer,
            params=self.parameters,
        )

    def change_environments(self, config: Any) -> None:
        """Let the environments of the run be those of ``config``, which differs in nothing else.

        Parameters and the optimiser's moments stay as they are. Parameters that belong to a new environment
        (of the specific network, and of ``context="embedding"``) are learner 0's.
        """
        self.config = config.copy(copy_frozen=False)  # RLlib changes a learner's own copy when it restores
        self._module_spec = config.get_multi_rl_module_spec()
        shared = self.module.shared
        before = set(shared.parameters())
        self.module.change_environments(config.space_specs)
        shared.to(self._device)
        if set(shared.parameters()) != before:
            self.reduction.broadcast_first(list(shared.state_dict().values()))
            self._renew_optimizer()
        connector = config.build_learner_connector(device=self._device)
        connector.set_state(self._learner_connector.get_state())
        self._learner_connector = connector

    def _renew_optimizer(self) -> None:
        """Build another optimiser for other parameters, keeping the moments of those that it had."""
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
        training_data: SharedTrainingData,
        timesteps: dict[str, Any] | None = None,
        _no_metrics_reduce: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Take the optimiser steps of one update.

        Args:
            training_data: This learner's part of the data.
            timesteps: Counters for schedules; see :meth:`schedule_time`.
            _no_metrics_reduce: RLlib's: leave metrics in the logger.
            kwargs: Passed to ``training_data.steps``.

        Returns:
            The reduced metrics.
        """
        self._check_is_built()
        timesteps = timesteps or {}
        self.before_gradient_based_update(timesteps=timesteps)
        self._weights_seq_no += 1
        self.num_updates += 1
        means, rows, number = LossMeans(), Counter[str](), 0
        for number, minibatch in enumerate(training_data.steps(self, **kwargs), start=1):
            self.take(Step(minibatch=minibatch, update=self.num_updates, number=number - 1, means=means))
            if minibatch.is_reported:  # each step of experience counts once
                rows.update({env_id: len(next(iter(c.values()))) for env_id, c in minibatch.columns.items()})
        self.num_steps += number
        for hook in self.hooks:
            hook.after_update(self, means)
        self._report(means, rows)
        self.after_gradient_based_update(timesteps=timesteps)
        return None if _no_metrics_reduce else self.metrics.reduce()

    def batch_of(self, rollouts: Mapping[str, Sequence[Rollout]]) -> dict[str, dict[str, Tensor]]:
        """What the learner connectors make of rollouts: ``{env_id: {column: [N_e, ...]}}``."""
        batch = self._learner_connector(
            rl_module=self.module, batch={}, rollouts=rollouts, shared_data={}, metrics=self.metrics
        )
        return {env_id: columns for env_id, columns in batch.items() if self.should_module_be_updated(env_id)}

    def take(self, step: Step) -> None:
        """One optimiser step, together with all other learners; none if the gradient is not finite."""
        gradients = self.gradients(step)
        norm = clip_by_global_norm(gradients, None if self._combined.clips_environments else self.config.grad_clip)
        step.log(ALL_MODULES, GRADIENT_NORM, norm)
        if bool(torch.isfinite(norm)):  # the same on all learners: they have the same sum
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            for optimizer in self._optimizer_parameters:
                optimizer.step()
        elif self.is_first:
            self.metrics.log_value((ALL_MODULES, NUM_STEPS_SKIPPED_LIFETIME), 1, reduce="lifetime_sum")
        self.after_step()

    def gradients(self, step: Step) -> list[Tensor]:
        """The combined gradient of a step over all learners, for each of :attr:`parameters`; not clipped.

        A loss is the mean over this learner's rows of a minibatch; it counts as much as these are of all rows, so that
        the sum over learners is the mean over the whole minibatch.
        """
        columns = step.minibatch.columns
        if self._combined.goes_one_by_one(step):
            # A graph for each environment: a backward through the packed one costs as much as that of all.
            forward = {key: out for env_id in columns for key, out in self._forward({env_id: columns[env_id]}).items()}
        else:
            forward = self._forward(columns) if columns else {}
        losses = {}
        for env_id, loss in self.compute_losses(fwd_out=forward, step=step).items():
            step.log(env_id, self.TOTAL_LOSS_KEY, loss)
            weight = self.config.env_loss_weights.get(env_id, 1.0) * step.minibatch.weights.get(env_id, 1.0)
            losses[env_id] = loss if weight == 1.0 else loss * weight
        for hook in self.hooks:
            hook.before_backward(self, step, losses)
        return self._combined.of(step, losses)

    def _forward(self, batch: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
        """One packed forward, in the configured precision; its outputs are float32."""
        if self.config.precision == "float32":
            return self.module.forward_train(batch)
        # Weights that autocast keeps from a part without gradients (targets, next values) would have none later on.
        with torch.autocast(torch.device(self._device).type, torch.bfloat16, cache_enabled=False):
            forward = self.module.forward_train(batch)
        return {env_id: {key: t.float() for key, t in columns.items()} for env_id, columns in forward.items()}

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the learning rates along their schedules."""
        super().after_gradient_based_update(timesteps=timesteps)
        now = self.schedule_time(timesteps)
        for optimizer in self._optimizer_parameters:
            for group in optimizer.param_groups:
                group["lr"] = float(self._lr_schedules[group["name"]].update(timestep=now))
                self.metrics.log_value((SHARED_MODULE, f"{group['name']}_lr"), group["lr"], window=1)

    def mean_over_learners(self, means: LossMeans, key: str) -> dict[str, float]:
        """The mean of what was logged in this update, over the rows of all learners, by environment.

        All learners call this together. Environments that none of them has trained on are left out.
        """
        sums = torch.tensor([means.sum_and_weight(env_id, key) for env_id in self.env_ids], dtype=torch.float64)
        sums = sums.to(self._device)  # [E, 2]
        self.reduction.sum([sums])
        return {e: total / weight for e, (total, weight) in zip(self.env_ids, sums.tolist(), strict=True) if weight}

    def _report(self, means: LossMeans, rows: Mapping[str, int]) -> None:
        """Log means, and the steps of each environment that this learner trained on."""
        for env_id, key, mean in means:
            self.metrics.log_value((env_id, key), mean, window=1)
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
        """RLlib's state, counters, random generators (shuffles, dropout), combiners, hooks, growing replays."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        parts = {
            _COMPONENT_PROGRESS: lambda: {
                "shuffle_seed": self.shuffle_seed,
                "updates": self.num_updates,
                "steps": self.num_steps,
                "torch": torch.get_rng_state().numpy(),
            },
            _COMPONENT_COMBINERS: self._combined.get_state,
            _COMPONENT_HOOKS: lambda: {type(hook).__name__: hook.get_state() for hook in self.hooks},
            _COMPONENT_REPLAYS: lambda: {
                env_id: store.get_state() for env_id, store in self.replays.items() if isinstance(store, GrowingReplay)
            },
        }
        for name, get in parts.items():
            if self._check_component(name, components, not_components):
                state[name] = get()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over (parts of) a state, also one of fewer updates than this learner has made itself."""
        if COMPONENT_RL_MODULE in state:
            self._weights_seq_no = -1  # RLlib would keep its own weights if they are of a later update
        Learner.set_state(self, state)
        if progress := state.get(_COMPONENT_PROGRESS):
            self.shuffle_seed = progress["shuffle_seed"]
            self.num_updates, self.num_steps = progress["updates"], progress["steps"]
            torch.set_rng_state(torch.from_numpy(progress["torch"].copy()))
        self._combined.set_state(state.get(_COMPONENT_COMBINERS, {}))
        for env_id, saved in state.get(_COMPONENT_REPLAYS, {}).items():
            store = self.replays[env_id] = self.new_replay(env_id, saved["capacity"])
            store.set_state(saved)
        for hook in self.hooks:
            if (saved := state.get(_COMPONENT_HOOKS, {}).get(type(hook).__name__)) is not None:
                hook.set_state(saved)
