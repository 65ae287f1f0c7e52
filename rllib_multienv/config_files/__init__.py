"""YAML files that say what to train: from text to `AlgorithmConfig` and `tune.Tuner`.

A file uses RLlib's own words: its top-level keys are the names of `AlgorithmConfig` methods, the keys below
them the keyword arguments of these methods. ::

    algorithm: MultiEnvPPO
    environment:
      envs: [CartPole-v1, Pendulum-v1]
    training:
      actor_lr: !loguniform [1.0e-4, 1.0e-3]
    stop:
      num_env_steps_sampled_lifetime: 200000

Four more keys stand beside the methods: ``algorithm``, ``name``, ``stop`` and ``tune`` (see `ConfigFile`).
Reading a file needs no Ray; building from it does.
"""

from rllib_multienv.config_files.build import build_config, build_tuner, check_config_file
from rllib_multienv.config_files.file import ConfigFile, load_config_file
from rllib_multienv.config_files.yaml_text import ConfigFileError, SearchSpace

__all__ = [
    "ConfigFile",
    "ConfigFileError",
    "SearchSpace",
    "build_config",
    "build_tuner",
    "check_config_file",
    "load_config_file",
]
