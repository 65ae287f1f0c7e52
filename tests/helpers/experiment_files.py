"""An experiment that is as small as can be."""

from __future__ import annotations

from pathlib import Path

from rllib_multienv.experiments.file import ExperimentFile, load_experiment_file

TINY = """\
title: A tiny experiment
base:
  env_runners: {num_env_runners: 0, num_envs_per_env_runner: 2, rollout_fragment_length: 32}
  training: {num_epochs: 1, num_minibatches: 1}
  reporting: {gradient_cosine_interval: 1}
variants:
  agnostic:
    title: Agnostic
    phases: [pretrain, transfer]
    rl_module: {model_config: {type: agnostic, d_model: 8, d_state: 4}}
  plain:
    ablation_of: agnostic
    phases: [pretrain]
    rl_module: {model_config: {num_transformer_layers: 1}}
  single:
    phases: [alone]
    rl_module: {model_config: {type: mlp, hidden: [8]}}
phases:
  pretrain:
    environment: {envs: [CartPole-v1, Pendulum-v1]}
    steps_per_environment: 256
  transfer:
    from: pretrain
    environment: {envs: [Acrobot-v1]}
    steps_per_environment: 256
  alone:
    one_by_one: true
    environment: {envs: [CartPole-v1, {id: Pendulum-v1, num_envs: 1}]}
    steps_per_environment: 256
seeds: [0, 1]
episodes: 1
anneal: true
"""


def written(folder: Path, text: str = TINY) -> Path:
    """The file ``tiny.yaml`` with this text."""
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str = TINY) -> ExperimentFile:
    """The experiment of this text."""
    return load_experiment_file(written(folder, text))
