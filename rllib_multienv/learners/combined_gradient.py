"""The gradient of a step: the gradients of environments combined, each clipped where asked, summed over learners."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.utils.metrics import ALL_MODULES
from torch import Tensor, nn

from rllib_multienv.learners.combine import TaskGradients, WeightedSum, make_combiner
from rllib_multienv.learners.gradients import clip_by_global_norm, clip_factors, flat_gradient
from rllib_multienv.learners.hooks import RunningNorms
from rllib_multienv.learners.minibatches import Step
from rllib_multienv.rollout import TARGETS


class CombinedGradient:
    """Makes one gradient of the environments' losses, for all groups of parameters (actor, critic).

    Weights that depend on no gradient, as those of the weighted sum, take one backward. A combiner that looks at the
    gradient of each environment, and exact clipping of each, take a forward and a backward for each environment.

    Args:
        learner: The learner, whose configuration says how.

    Attributes:
        combiner: How the gradients of environments become one.
        running_norms: Norms for clipping without looking at each environment's gradient.
    """

    def __init__(self, learner: Any) -> None:
        self._learner = learner
        self.combiner = copy.deepcopy(make_combiner(learner.config.gradient_combiner))
        self.running_norms = RunningNorms()

    def build(self) -> None:
        """Make a combiner for each group of parameters that has its own; the learner's module and groups are built."""
        self._combiners = {ALL_MODULES: self.combiner}
        if self.looks_at_gradients or self.combiner.of_critic:
            of_critic = self.combiner.of_critic
            groups = [name for name in self._groups if name in self._learner.critic_losses or not of_critic]
            self._combiners = {name: copy.deepcopy(self.combiner) for name in groups}

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the combiners."""
        return {name: combiner.get_state() for name, combiner in self._combiners.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state; combiners that are not in it stay as they are."""
        for name in state.keys() & self._combiners.keys():
            self._combiners[name].set_state(state[name])

    # What a step does

    @property
    def _groups(self) -> Mapping[str, list[nn.Parameter]]:
        groups: Mapping[str, list[nn.Parameter]] = self._learner.groups
        return groups

    @property
    def looks_at_gradients(self) -> bool:
        """Whether the combiner looks at the gradient of each environment."""
        return bool(self.combiner.needs & {"gram", "gradients"})

    @property
    def clips_environments(self) -> bool:
        """Whether each environment's gradient is clipped, not their sum."""
        return bool(self._learner.config.grad_clip_by != "global_norm")

    def _combines_anew(self, step: Step) -> bool:
        """Whether a combiner looks at the gradients of this step; if not, its last weights still hold."""
        if not self.looks_at_gradients:
            return False
        is_due = (self._learner.num_steps + step.number) % self._learner.config.combine_every == 0
        return is_due or any(c.remembered.keys() != set(self._learner.env_ids) for c in self._combiners.values())

    def goes_one_by_one(self, step: Step) -> bool:
        """Whether a step computes the gradient of each environment."""
        by = self._learner.config.grad_clip_by
        return self._combines_anew(step) or by == "environment" or (by == "environment_running" and step.number == 0)

    def of(self, step: Step, losses: Mapping[str, Tensor]) -> list[Tensor]:
        """The gradient of a step for each of the learner's parameters.

        Args:
            step: The step.
            losses: This learner's share of each environment's loss, each from a graph of its own where
                `goes_one_by_one`.
        """
        flat = self._one_by_one(step, losses) if self.goes_one_by_one(step) else self._together(step, losses)  # [P]
        parameters = self._learner.parameters
        parts = flat.split([p.numel() for p in parameters])
        return [part.view_as(p) for p, part in zip(parameters, parts, strict=True)]

    # Without looking at the gradients of environments

    def _together(self, step: Step, losses: Mapping[str, Tensor]) -> Tensor:
        """[P], the gradient of the weighted sum of losses: one all-reduce, and a backward for each set of weights."""
        learner, groups, weights = self._learner, self._groups, self._weights(step, losses)
        for name, own in weights.items():
            self._log_weights(step, name, own)
        clips, max_norm = self.clips_environments, learner.config.grad_clip
        first, *others = weights.values()
        if not clips and all(other is first for other in others):
            groups, weights = {ALL_MODULES: learner.parameters}, {ALL_MODULES: first}
        parts, last = [], list(groups)[-1]
        for name, parameters in groups.items():  # together these backwards cost what one costs
            factors = weights[name].cpu()  # [E]
            if clips:
                factors = factors * clip_factors(self.running_norms.of(name, learner.env_ids), max_norm)
            total = self._weighted(losses, factors) if losses else None
            parts.append(flat_gradient(total, parameters, retain_graph=name != last))  # [P of the group]
        learner.reduction.sum(parts)
        if clips:
            for part in parts:
                # A gradient far above the running norm: the sum is held to what exact clipping would allow.
                clip_by_global_norm([part], max_norm * len(learner.env_ids))
        return torch.cat(parts)

    def _weighted(self, losses: Mapping[str, Tensor], weights: Tensor) -> Tensor:
        """The sum of losses, weighted by [E]."""
        terms = [
            losses[e] if w == 1.0 else losses[e] * w
            for e, w in zip(self._learner.env_ids, weights.tolist(), strict=True)
            if e in losses
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def _weights(self, step: Step, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights [E] of each group where no gradient is looked at."""
        env_ids = self._learner.env_ids
        if self.looks_at_gradients:
            found = {
                name: torch.tensor([combiner.remembered[env_id] for env_id in env_ids], dtype=torch.float64)
                for name, combiner in self._combiners.items()
            }
        else:
            found = {name: c.checked(self._tasks(step, losses, name)) for name, c in self._combiners.items()}
        ones = found.get(ALL_MODULES, torch.ones(len(env_ids)))
        return {name: found.get(name, ones) for name in self._groups}

    def _log_weights(self, step: Step, group: str, weights: Tensor) -> None:
        """Report weights [E] of a group, except those of the weighted sum, which are one."""
        if isinstance(self.combiner, WeightedSum) or not step.is_reported:
            return
        for env_id, weight in zip(self._learner.env_ids, weights, strict=True):
            if env_id in step.minibatch.columns:
                step.log(env_id, f"{group}_weight", weight)

    # Looking at the gradients of environments

    def _one_by_one(self, step: Step, losses: Mapping[str, Tensor]) -> Tensor:
        """[P], where the gradient of each environment is looked at, or clipped."""
        needs = self.combiner.needs if self._combines_anew(step) else frozenset[str]()
        learner, env_ids, clips = self._learner, self._learner.env_ids, self.clips_environments
        has_rows = torch.tensor([env_id in losses for env_id in env_ids], device=learner.device)  # [E]
        own = [flat_gradient(losses[env_id], learner.parameters) for env_id in env_ids if env_id in losses]
        size = sum(p.numel() for p in learner.parameters)
        rows = torch.stack(own) if own else torch.zeros(0, size, device=learner.device)  # [E_own, P]
        parts, sizes = [], [sum(p.numel() for p in group) for group in self._groups.values()]
        weights = {} if needs & {"gram", "gradients"} else self._weights(step, losses)
        for name, columns in zip(self._groups, rows.split(sizes, 1), strict=True):  # [E_own, P of the group]
            gram, combiner = None, self._combiners.get(name)
            if (combiner is not None and "gram" in needs) or clips:
                gram = learner.reduction.gram(columns, has_rows)  # [E, E]
            if gram is not None and clips:
                norms = gram.diagonal().sqrt()
                self.running_norms.observe(name, env_ids, norms)
                factors = clip_factors(norms, learner.config.grad_clip)  # [E]
                columns = columns * factors[has_rows, None].to(columns)
                gram = factors[:, None] * gram * factors
            every = None
            if "gradients" in needs:
                every = columns.new_zeros(len(env_ids), columns.shape[1])  # [E, P of the group]
                every[has_rows] = columns
                learner.reduction.sum([every])
            if name in weights:
                result = weights[name]
            elif combiner is None:  # there is one for the critic alone
                result = torch.ones(len(env_ids)) if every is None else every.sum(0)
            else:
                seen = gram.cpu() if gram is not None and "gram" in needs else None
                result = combiner.checked(self._tasks(step, losses, name, gram=seen, gradients=every))
            if every is None:
                self._log_weights(step, name, result)
            result = result.to(columns)
            # Without all gradients at hand, the sum over learners is still to come.
            parts.append(result if every is not None else result[has_rows] @ columns)  # [P of the group]
        flat = torch.cat(parts)
        if "gradients" not in needs:
            learner.reduction.sum([flat])
        return flat

    def _tasks(
        self,
        step: Step,
        losses: Mapping[str, Tensor],
        group: str,
        *,
        gram: Tensor | None = None,
        gradients: Tensor | None = None,
    ) -> TaskGradients:
        learner, values = self._learner, None
        if "losses" in self.combiner.needs:
            zero = torch.zeros((), device=learner.device)
            if self.combiner.of_critic:
                losses = self._critic_losses(step, learner.critic_losses[group])
            values = torch.stack([losses.get(env_id, zero).detach() for env_id in learner.env_ids])  # [E]
            learner.reduction.sum([values])
        seed = (learner.shuffle_seed, step.update, step.number)
        return TaskGradients(env_ids=learner.env_ids, losses=values, gram=gram, gradients=gradients, seed=seed)

    def _critic_losses(self, step: Step, key: str) -> dict[str, Tensor]:
        """This learner's share of each environment's loss of values; environments trained supervised have none."""
        found = {}
        for env_id, columns in step.minibatch.columns.items():
            if (env_id, key) in step.logged:
                found[env_id] = step.logged[env_id, key] * step.minibatch.weights.get(env_id, 1.0)
            elif TARGETS not in columns:
                raise ValueError(
                    f"gradient_combiner={type(self.combiner).__name__}: it weighs losses of values, and "
                    f"{type(self._learner).__name__} logs none under {key!r}. Log it in compute_loss_for_module "
                    f"(step.log(module_id, {key!r}, loss)), or name its key in the learner's critic_losses."
                )
        return found
