"""Settings of RLlib that have no effect with any algorithm of this package, and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping

_FRAGMENTS = "Set env_runners(rollout_fragment_length=..., num_envs_per_env_runner=...)."
_OLD = "It belongs to RLlib's old API stack."
_OURS = "This package's connectors are always added; RLlib's expect episodes of one environment."

#: For each method of a configuration; see `SettingsMixin.NO_EFFECT`.
NO_EFFECT: Mapping[str, Mapping[str, str]] = {
    "callbacks": {"*offline*": "Agents are evaluated in environments."},
    "checkpointing": {"*": "It belongs to RLlib's old API stack; tune.CheckpointConfig says when to save."},
    "debugging": {"fake_sampler": _OLD},
    "environment": {
        "*": 'Environments are described by EnvSpec: environment(envs=[EnvSpec("CartPole-v1", ...)]).',
        "env": 'Write environment(envs=["CartPole-v1", ...]).',
        "env_config": "Give arguments to one environment: EnvSpec(..., kwargs={...}).",
        "clip_rewards": "Rewards are normalised by training(normalize_rewards=...).",
        "clip_actions normalize_actions": "Actions are always converted to the environments' action spaces.",
    },
    "env_runners": {
        "batch_mode": f"A fragment has a fixed number of time steps. {_FRAGMENTS}",
        "compress_observations episodes_to_numpy": "Fragments are arrays in Ray's object store.",
        "create_local_env_runner": "The local runner is always there: it keeps the merged statistics.",
        "*env_runner_state_server*": "The driver sends the states.",
        "episode_lookback_horizon": "Fragments have all that is needed of the time before them.",
        "gym_env_vectorize_mode": 'Choose for each environment: EnvSpec(..., backend="sync" or "async").',
        "observation_filter": "Set training(normalize_obs=...).",
        "add_default_connectors_*": _OURS,
        "enable_tf1_* exploration_config preprocessor_* remote_* sample_collector sampler_* *_filter_stats": _OLD,
    },
    "evaluation": {
        "off_policy_* ope_* *offline* dataset_*": "Agents are evaluated in environments: environment(envs=[...]).",
    },
    "framework": {
        "eager_*": "The framework is torch.",
        "torch_ddp_kwargs": "Gradients are summed without DistributedDataParallel.",
        "torch_skip_nan_gradients": "Steps whose gradient is not finite are always skipped and counted.",
    },
    "learners": {
        "add_default_connectors_*": _OURS,
        "max_requests_in_flight_per_learner": "Learners get one update at a time.",
        "*aggregator_actor*": "There are no aggregator actors.",
    },
    "multi_agent": {
        "*": "Every environment (or role of its agents) is a module already, with its env id: "
        "environment(envs=[...]). Settings of one environment: "
        "rl_module(algorithm_config_overrides_per_module={env_id: {...}}).",
    },
    "offline_data": {"*": "This algorithm samples from environments; MultiEnvIQL trains on data sets."},
    "reporting": {
        "log_gradients": "Set reporting(gradient_cosine_interval=...); the gradient's norm is always reported.",
        "keep_per_episode_custom_metrics metrics_episode_collection_timeout_s": _OLD,
    },
    "resources": {
        "_fake_gpus num_gpus": "Set learners(num_gpus_per_learner=...), env_runners(num_gpus_per_env_runner=...).",
    },
    "rl_module": {
        "rl_module_spec": "The module is always MultiEnvModule, which holds one network for all environments; "
        "choose the network: rl_module(model_config=...)."
    },
    "training": {
        "add_default_connectors_*": _OURS,
        "minibatch_size": "Set training(num_minibatches=...).",
        "model": "Choose the network: rl_module(model_config=...).",
        "optimizer": "Set training(lr=..., adam_epsilon=..., grad_clip=...).",
        "shuffle_batch_per_epoch": "Rows are always shuffled.",
        "train_batch_size*": _FRAGMENTS,
    },
}
