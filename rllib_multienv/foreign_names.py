"""Settings and fields of networks under the names of Stable-Baselines3, CleanRL, garage, MTRL, LibMTL and RLlib."""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: Names elsewhere, and those of this package that do the same, the nearest first (with spaces between them). Those that
#: a configuration does not have are left out.
_SETTINGS = {
    "learning_rate": "lr",
    "pi_lr policy_lr actor_learning_rate": "actor_lr lr",
    "q_lr qf_lr vf_lr critic_learning_rate": "critic_lr lr",
    "anneal_lr": "lr_anneal_steps",
    "discount discount_factor": "gamma",
    "gae_lambda lam": "lambda_",
    "max_grad_norm clip_grad_norm": "grad_clip",
    "ent_coef entropy_coef entropy_coeff": "entropy_coeff initial_alpha",
    "alpha init_alpha init_temperature temperature": "initial_alpha",
    "autotune fixed_alpha learn_temperature use_automatic_entropy_tuning": "alpha_lr initial_alpha",
    "clip_coef clip_range clip_ratio lr_clip_range": "clip_param",
    "clip_range_vf clip_vloss": "vf_clip_param",
    "vf_coef value_loss_coef": "vf_loss_coeff",
    "target_kl": "kl_target",
    "n_epochs update_epochs ppo_epoch": "num_epochs update_to_data_ratio",
    "gradient_steps gradient_steps_per_itr replay_ratio train_freq training_intensity update_every utd utd_ratio": (
        "update_to_data_ratio"
    ),
    "batch_size buffer_batch_size mini_batch_size num_minibatches sgd_minibatch_size": "batch_size num_minibatches",
    "buffer_size replay_buffer_capacity replay_buffer_config replay_size": "replay_capacity",
    "learning_starts init_steps num_seed_steps num_steps_sampled_before_learning_starts start_steps": (
        "num_random_steps min_replay_size"
    ),
    "min_buffer_size": "min_replay_size",
    "polyak critic_tau soft_target_tau target_update_tau": "tau",
    "critic_target_update_freq target_network_frequency target_network_update_freq target_update_interval": "tau",
    "nstep n_steps": "n_step rollout_fragment_length",
    "num_steps": "rollout_fragment_length",
    "n_envs num_envs": "num_envs_per_env_runner",
    "num_workers num_rollout_workers": "num_env_runners",
    "reward_scaling": "reward_scale normalize_rewards",
    "norm_obs normalize_observation normalize_observations": "normalize_obs",
    "norm_reward normalize_reward": "normalize_rewards",
    "cuda device": "num_gpus_per_learner",
    "aggregator weighting": "gradient_combiner",
    "loss_weights task_weights": "env_loss_weights",
    "policy_kwargs": "model_config",
    "fcnet_hiddens hidden_dim hidden_size hidden_sizes net_arch units width": "width hidden d_model model_config",
    "n_layers num_hidden_layers num_layers": "depth middle_depth res_mlp_depth",
    "n_experts num_experts": "num_encoders num_modules",
    "encoder_type encoder_cfg model": "model_config",
    "env_id env_name env_names": "envs",
    "eval_freq": "evaluation_interval",
    "eval_episodes n_eval_episodes num_eval_episodes num_evaluation_episodes": "evaluation_duration",
}
#: The settings of this package for each name.
FOREIGN_NAMES = {name: tuple(ours.split()) for names, ours in _SETTINGS.items() for name in names.split()}


def settings_for(name: str, method: str, takes: Mapping[str, Collection[str]]) -> list[str]:
    """The settings that a user means by a name that is right in another library, or in another method.

    Args:
        name: A setting that ``method`` does not take.
        method: A method of a configuration.
        takes: The settings of each of its methods.

    Returns:
        Names of settings of ``method``, and ``"other_method(setting=...)"``.
    """
    methods = {method: takes[method], **takes}
    return [
        ours if place == method else f"{place}({ours}=...)"
        for ours in dict.fromkeys((*FOREIGN_NAMES.get(name, ()), name))
        for place, known in methods.items()
        if ours in known
    ]
