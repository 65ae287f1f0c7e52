"""Metric keys of this package, and the glossary of all metrics in a result, from which docs/metrics.md is made.

RLlib's own keys are in ``ray.rllib.utils.metrics``; rooms without Ray find those that they need here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Progress
NUM_ENV_STEPS_SAMPLED_LIFETIME = "num_env_steps_sampled_lifetime"  # RLlib's
NUM_STEPS_LIFETIME = "num_steps_lifetime"

# Sampling
MODULE_EPISODE_RETURN_MEAN = "module_episode_return_mean"
MODULE_EPISODE_RETURN_MIN = "module_episode_return_min"
MODULE_EPISODE_RETURN_MAX = "module_episode_return_max"
MODULE_EPISODE_RETURN_STD = "module_episode_return_std"
MODULE_EPISODE_LEN_MEAN = "module_episode_len_mean"
MODULE_EPISODES = "module_episodes"
EPISODE_RETURNS = "episode_returns"
EPISODE_RETURN_AVERAGE = "episode_return_average"
EPISODE_RETURN_MEDIAN = "episode_return_median"
EPISODE_RETURN_WORST = "episode_return_worst"
SAMPLING_SHARE = "sampling_share"
NORMALIZED_SCORE = "normalized_score"
AGENT_RETURN_MEAN = "agent_return_mean"
WIN_RATE = "win_rate"
DRAW_RATE = "draw_rate"
SUCCESS_RATE = "success_rate"
TRIAL_EPISODE_RETURN_MEAN = "trial_episode_return_mean"
ADAPTATION_RETURN_MEAN = "adaptation_return_mean"

# Failures
NUM_FRAGMENTS_LOST_LIFETIME = "num_fragments_lost_lifetime"
NUM_ENV_STEPS_LOST_LIFETIME = "num_env_steps_lost_lifetime"
NUM_TEXTS_CUT_LIFETIME = "num_texts_cut_lifetime"

# Learning
GRADIENT_NORM = "gradient_norm"
NUM_STEPS_SKIPPED_LIFETIME = "num_steps_skipped_lifetime"
GRADIENT_COSINE = "gradient_cosine"
ACCURACY = "accuracy"
R_SQUARED = "r2"
QF_LOSS = "qf_loss"
QF_EXPLAINED_VAR = "qf_explained_var"
ADVANTAGE_MEAN = "advantage_mean"
CLIPPED_WEIGHTS = "clipped_weights"
ALPHA = "alpha"
NEGATIVE_ELBO = "negative_elbo"
REWARD_ERROR = "reward_error"
STATE_ERROR = "state_error"
TRANSITION_LOSS = "transition_loss"
BISIMULATION_LOSS = "bisimulation_loss"
POSTERIOR_KL = "posterior_kl"
POSTERIOR_STD = "posterior_std"
POSTERIOR_STD_FIRST = "posterior_std_first"
POSTERIOR_STD_LAST = "posterior_std_last"
INFERENCE_ERROR = "inference_error"
INFORMATION_GAIN = "information_gain"
TASK_EMBEDDING_SIZE = "task_embedding_size"

#: Meaning of every metric, by section and key. ENV stands for an env id, OTHER for a second one, GROUP for a group of
#: parameters. What is under ``env_runners/`` is also under ``evaluation/env_runners/`` where there was one.
GLOSSARY: dict[str, dict[str, str]] = {
    "Progress": {
        "training_iteration": "Iterations so far.",
        NUM_ENV_STEPS_SAMPLED_LIFETIME: "Environment steps so far, of all environments together.",
        NUM_STEPS_LIFETIME: "Optimiser steps so far (offline).",
        "num_agent_steps_sampled_lifetime": "The same as environment steps: each environment has one agent.",
        "num_training_step_calls_per_iteration": "Updates in this iteration.",
        "time_total_s": "Seconds of training so far, including those before a resume.",
        "time_this_iter_s": "Seconds of this iteration.",
        "time_since_restore": "Seconds of training since the start of this process.",
        "iterations_since_restore": "Iterations since the start of this process.",
        "timestamp": "Time of the result, in seconds since 1970.",
        "timesteps_total": "Set by Ray Tune; empty here.",
    },
    "Returns and steps of each environment": {
        f"env_runners/{MODULE_EPISODE_RETURN_MEAN}/ENV": "Mean return (undiscounted, raw rewards) of the last "
        "`metrics_num_episodes_for_smoothing` episodes; in evaluation of all episodes.",
        f"env_runners/{AGENT_RETURN_MEAN}/ENV/AGENT": "The same for each agent of a multi-agent environment.",
        f"env_runners/{TRIAL_EPISODE_RETURN_MEAN}/ENV/NUMBER": "Mean return of the first, second, ... episode of a "
        "trial, with `trial_episodes`; a trial counts as one episode in all other keys.",
        f"env_runners/{ADAPTATION_RETURN_MEAN}/ENV/NUMBER": "In evaluation with `adaptation`: mean return of the "
        "first, second, ... episode in tasks that the agent adapts to.",
        f"env_runners/{WIN_RATE}/ENV/OPPONENT/AGENT": "In evaluation with `opponents`: share of the games against an "
        "opponent that the learner won as this agent, that is with a positive return.",
        f"env_runners/{DRAW_RATE}/ENV/OPPONENT/AGENT": "The same for returns of 0.",
        f"env_runners/{SUCCESS_RATE}/ENV": "Share of these episodes in which the environment reported success at any "
        "step, as Meta-World and Gymnasium-Robotics do (`success` or `is_success` in the info).",
        f"env_runners/{MODULE_EPISODE_RETURN_MIN}/ENV": "Smallest return of the same episodes.",
        f"env_runners/{MODULE_EPISODE_RETURN_MAX}/ENV": "Largest return of the same episodes.",
        f"env_runners/{MODULE_EPISODE_LEN_MEAN}/ENV": "Mean number of steps of the same episodes.",
        f"env_runners/{MODULE_EPISODE_RETURN_STD}/ENV": "Standard deviation of the returns of this iteration's "
        "episodes.",
        f"env_runners/{MODULE_EPISODES}/ENV": "Episodes that ended in this iteration.",
        f"env_runners/{EPISODE_RETURNS}/ENV": "Return of each of these episodes (a list).",
        f"env_runners/{NORMALIZED_SCORE}/ENV": "Mean return, normalised so that 0 and 100 are the reference scores "
        "(offline, where these are known).",
        f"env_runners/{SAMPLING_SHARE}/ENV": "Share of the steps of this iteration; 0 where the schedule left it out.",
        "env_runners/num_module_steps_sampled/ENV": "Steps of this iteration.",
        "env_runners/num_module_steps_sampled_lifetime/ENV": "Steps so far.",
        "env_runners/num_agent_steps_sampled/ENV": "The same as `num_module_steps_sampled`.",
        "env_runners/num_agent_steps_sampled_lifetime/ENV": "The same as `num_module_steps_sampled_lifetime`.",
    },
    "All environments together": {
        f"env_runners/{EPISODE_RETURN_AVERAGE}": "Mean of the environments' mean returns.",
        f"env_runners/{EPISODE_RETURN_MEDIAN}": "Their median.",
        f"env_runners/{EPISODE_RETURN_WORST}": "The smallest of them.",
        f"env_runners/{NORMALIZED_SCORE}_average": "Mean of the environments' normalised scores.",
        f"env_runners/{NORMALIZED_SCORE}_median": "Their median.",
        f"env_runners/{NORMALIZED_SCORE}_worst": "The smallest of them.",
        "env_runners/episode_return_mean": "Mean return over the episodes of all environments, however different "
        "their scales.",
        "env_runners/episode_len_mean": "Mean number of steps over the episodes of all environments.",
        "env_runners/num_episodes": "Episodes that ended in this iteration.",
        "env_runners/num_episodes_lifetime": "Episodes so far.",
        "env_runners/num_env_steps_sampled": "Steps of this iteration.",
        f"env_runners/{NUM_ENV_STEPS_SAMPLED_LIFETIME}": "Steps so far.",
        f"env_runners/{NUM_ENV_STEPS_SAMPLED_LIFETIME}_throughput/throughput_since_last_reduce": "Steps per second "
        "since the last result.",
        f"env_runners/{NUM_ENV_STEPS_SAMPLED_LIFETIME}_throughput/throughput_since_last_restore": "Steps per second "
        "since the start of this process.",
    },
    "Learning, by environment": {
        "learners/ENV/policy_loss": "Loss of the policy.",
        "learners/ENV/vf_loss": "Loss of the value function, before `vf_loss_coeff`.",
        "learners/ENV/total_loss": "Loss of the environment, before `env_loss_weights`.",
        "learners/ENV/entropy": "Entropy of the policy (PPO, SAC); of squashed Gaussians an estimate.",
        f"learners/ENV/{ALPHA}": "Temperature (SAC).",
        "learners/ENV/mean_kl_loss": "KL divergence of the policy from the one before the update (PPO).",
        "learners/ENV/curr_kl_coeff": "Coefficient of the KL divergence in the loss (PPO with `use_kl_loss`).",
        "learners/ENV/vf_explained_var": "Share of the variance of the value targets that the values explain; offline "
        "of the variance of Q.",
        f"learners/ENV/{ACCURACY}": "Share of the targets that the most probable actions hit (data sets with classes).",
        f"learners/ENV/{R_SQUARED}": "Share of the targets' variance that the mean actions explain, within a minibatch "
        "(data sets with numbers to predict).",
        f"learners/ENV/{QF_LOSS}": "Loss of Q, summed over its estimates (IQL, SAC).",
        f"learners/ENV/{QF_EXPLAINED_VAR}": "Share of the variance of Q's targets that Q explains (IQL, SAC).",
        f"learners/ENV/{ADVANTAGE_MEAN}": "Mean of Q - V, in normalised rewards (IQL).",
        f"learners/ENV/{CLIPPED_WEIGHTS}": "Share of the policy's weights that are at their bound (IQL).",
        f"learners/ENV/{NEGATIVE_ELBO}": "Loss of the belief about the task: squared errors of the predicted rewards "
        "of a trial, in their standard deviations, and `kl_weight` times the KL (VariBAD).",
        f"learners/ENV/{REWARD_ERROR}": "Mean squared error of the predicted rewards: in the same unit (VariBAD), "
        "or in normalised ones (HiP-BMDP).",
        f"learners/ENV/{STATE_ERROR}": "Mean squared error of the predicted next observations, as the network sees "
        "them (VariBAD with `state_loss_coeff`, HiP-BMDP).",
        f"learners/ENV/{TRANSITION_LOSS}": "Negative log likelihood of the next observations, without constant, "
        "weighted by the standard deviation (HiP-BMDP).",
        f"learners/ENV/{BISIMULATION_LOSS}": "Mean squared difference between the distance of two embeddings and that "
        "of what the transition model predicts in the two tasks (HiP-BMDP).",
        f"learners/ENV/{POSTERIOR_KL}": "Mean KL divergence of a posterior over tasks from the one before "
        "(VariBAD), or from the prior (PEARL).",
        f"learners/ENV/{POSTERIOR_STD}": "Mean standard deviation of the posteriors over tasks (PEARL).",
        f"learners/ENV/{POSTERIOR_STD_FIRST}": "Mean standard deviation of the posterior after the first observation "
        "of a trial (VariBAD).",
        f"learners/ENV/{POSTERIOR_STD_LAST}": "The same at the end of the trial (VariBAD).",
        f"learners/ENV/{INFERENCE_ERROR}": "Mean squared distance between the embedding of a trial's task and what is "
        "inferred from exploring (DREAM).",
        f"learners/ENV/{INFORMATION_GAIN}": "Mean return of the explorer: by how much an exploration episode lowers "
        "that distance, less its cost, in units of `bottleneck` (DREAM).",
        f"learners/ENV/{TASK_EMBEDDING_SIZE}": "Mean squared length of the embeddings of tasks (DREAM).",
        f"learners/ENV/{GRADIENT_COSINE}/OTHER": "Cosine between the gradients of two environments, with "
        "`reporting(gradient_cosine_interval=...)`.",
        "learners/ENV/GROUP_weight": "Weight of the environment's gradient in the step of a group of parameters, with "
        "`training(gradient_combiner=...)`.",
        "learners/ENV/num_module_steps_trained": "Steps trained on in this iteration; each counts once.",
        "learners/ENV/num_module_steps_trained_lifetime": "Steps trained on so far.",
        "learners/ENV/module_train_batch_size_mean": "Mean number of steps trained on per update.",
    },
    "Learning, all environments together": {
        f"learners/__all_modules__/{GRADIENT_NORM}": "Global norm of the combined gradient before clipping.",
        f"learners/__all_modules__/{NUM_STEPS_SKIPPED_LIFETIME}": "Optimiser steps skipped because their gradient "
        "was not finite.",
        "learners/__all_modules__/num_env_steps_trained": "Steps trained on in this iteration.",
        "learners/__all_modules__/num_env_steps_trained_lifetime": "Steps trained on so far.",
        "learners/__all_modules__/num_module_steps_trained": "The same as `num_env_steps_trained`.",
        "learners/__all_modules__/num_module_steps_trained_lifetime": "The same as `num_env_steps_trained_lifetime`.",
        "learners/__all_modules__/num_trainable_parameters": "Parameters that are trained; in the first result.",
        "learners/__all_modules__/num_non_trainable_parameters": "Parameters that are frozen; in the first result.",
        "learners/shared/num_trainable_parameters": "Trained parameters of the shared module; in the first result.",
        "learners/shared/num_non_trainable_parameters": "Frozen parameters of the shared module; in the first result.",
        "learners/shared/GROUP_lr": "Learning rate of a group of parameters: `actor`, `critic`, `value`.",
        "learners/shared/default_optimizer_learning_rate": "RLlib's, the rate of the first group.",
    },
    "Failures": {
        f"env_runners/{NUM_FRAGMENTS_LOST_LIFETIME}/ENV": "Fragments that were sampled or requested and could not be "
        "used.",
        f"env_runners/{NUM_ENV_STEPS_LOST_LIFETIME}/ENV": "Steps that were sampled and not trained on, because the "
        "environment had been removed.",
        f"env_runners/{NUM_TEXTS_CUT_LIFETIME}/ENV": "Texts in observations that were longer than their space says.",
        f"learners/ENV/{NUM_FRAGMENTS_LOST_LIFETIME}": "Fragments that were lost with their node on the way to the "
        "learners.",
        f"learners/ENV/{NUM_ENV_STEPS_LOST_LIFETIME}": "Steps in these fragments.",
        "fault_tolerance/num_healthy_workers": "Remote env runners that answer.",
        "fault_tolerance/num_remote_worker_restarts": "Restarts of env runners so far.",
        "fault_tolerance/num_env_runners_dropped_lifetime": "Env runners that were given up.",
        "env_runner_group/actor_manager_num_outstanding_async_reqs": "Unanswered requests to env runners.",
        "evaluation/num_healthy_workers": "Remote evaluation runners that answer.",
        "evaluation/num_remote_worker_restarts": "Restarts of evaluation runners so far.",
        "evaluation/num_env_runners_dropped_lifetime": "Evaluation runners that were given up.",
        "evaluation/actor_manager_num_outstanding_async_reqs": "Unanswered requests to evaluation runners.",
    },
    "Time and resources": {
        "env_runners/sample": "Seconds of sampling in an iteration, by a runner.",
        "env_runners/env_step_timer": "Seconds of these in the environments.",
        "env_runners/rlmodule_inference_timer": "Seconds of these in the network.",
        "timers/training_iteration": "Seconds of an iteration, with evaluation.",
        "timers/training_step": "Seconds of sampling, updating and sending weights.",
        "timers/env_runner_sampling_timer": "Seconds of sampling, as the driver sees it.",
        "timers/learner_update_timer": "Seconds of the update.",
        "timers/synch_weights": "Seconds of sending the new weights.",
        "timers/synch_env_connectors": "Seconds of merging the statistics of observations and rewards.",
        "timers/synch_eval_env_connectors": "The same, for evaluation.",
        "timers/evaluation_iteration": "Seconds of an evaluation.",
        "timers/restore_env_runners": "Seconds of restarting env runners.",
        "timers/restore_eval_env_runners": "Seconds of restarting runners of the evaluation.",
        "perf/cpu_util_percent": "Load of the machine's CPUs.",
        "perf/ram_util_percent": "Memory in use on the machine.",
    },
}

# Flat results, with ``/`` between the keys


@dataclass(frozen=True, kw_only=True)
class ResultKeys:
    """Keys of a flat result.

    Args:
        total, unit: What training counts, and its name.
        env_total, env_unit: The same of one environment; ``{}`` stands for its id.
        returns: Prefix of the returns per episode.
    """

    total: str
    unit: str
    env_total: str
    env_unit: str
    returns: str

    def steps(self, env_id: str) -> str:
        """How much of an environment was trained on."""
        return self.env_total.format(env_id)

    def episode_return(self, which: str, env_id: str) -> str:
        """The ``"mean"``, ``"min"`` or ``"max"`` of the last episodes' returns."""
        return f"{self.returns}module_episode_return_{which}/{env_id}"

    def success_rate(self, env_id: str) -> str:
        """The share of the last episodes with success."""
        return f"{self.returns}{SUCCESS_RATE}/{env_id}"

    def env_ids(self, keys: Iterable[str]) -> list[str]:
        """The environments in a flat result, in the order of its keys."""
        before, after = self.env_total.split("{}")
        patterns = ((before, after), (self.episode_return("mean", ""), ""))
        ids = (
            key.removeprefix(prefix).removesuffix(suffix)
            for prefix, suffix in patterns
            for key in keys
            if key.startswith(prefix) and key.endswith(suffix)
        )
        return [env_id for env_id in dict.fromkeys(ids) if env_id != "__all_modules__"]


ONLINE = ResultKeys(
    total=NUM_ENV_STEPS_SAMPLED_LIFETIME,
    unit="steps",
    env_total="env_runners/num_module_steps_sampled_lifetime/{}",
    env_unit="steps",
    returns="env_runners/",
)
#: Offline, returns come from evaluation alone.
OFFLINE = ResultKeys(
    total=NUM_STEPS_LIFETIME,
    unit="optimiser steps",
    env_total="learners/{}/num_module_steps_trained_lifetime",
    env_unit="transitions",
    returns="evaluation/env_runners/",
)


def keys_of(row: Iterable[str]) -> ResultKeys:
    """The keys of a flat result, or of a progress."""
    return OFFLINE if OFFLINE.total in row else ONLINE
