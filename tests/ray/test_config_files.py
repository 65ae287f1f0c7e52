"""A configuration file becomes the config, and the Tuner, that the same words in Python would make."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_multienv.config_files import ConfigFile, build_config, build_tuner, load_config_file

TEXT = """\
algorithm: PPO
environment: {env: CartPole-v1}
env_runners:
  num_env_runners: 0
  num_envs_per_env_runner: 3
training: {lr: 3e-4, gamma: 0.9, grad_clip: 0.5}
debugging: {seed: 7}
stop: {training_iteration: 2}
tune:
  num_samples: 2
  checkpoint_config: {checkpoint_frequency: 5}
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return load_config_file(path)


def test_every_method_is_called_with_its_arguments(file: ConfigFile) -> None:
    config = build_config(file)
    assert config.env == "CartPole-v1"
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (0, 3)
    # "3e-4" is a number here, although YAML 1.1 calls it a text.
    assert (config.lr, config.gamma, config.grad_clip, config.seed) == (3e-4, 0.9, 0.5, 7)


def test_the_name_is_the_files_unless_it_says_otherwise(file: ConfigFile) -> None:
    assert file.name == "small"
    assert file.override("name", "other").name == "other"


def test_the_algorithm_is_multienvppo_unless_the_file_says_otherwise() -> None:
    assert ConfigFile({}).algorithm == "MultiEnvPPO"


def test_overrides_replace_and_add_and_leave_the_original_alone(file: ConfigFile) -> None:
    changed = file.override("training.gamma", 0.5).override("evaluation.evaluation_interval", 3)
    config = build_config(changed)
    assert (config.gamma, config.lr, config.evaluation_interval) == (0.5, 3e-4, 3)
    assert file.methods["training"]["gamma"] == 0.9


def test_an_override_can_reach_into_a_list() -> None:
    file = ConfigFile({"environment": {"envs": ["CartPole-v1", "Pendulum-v1"]}})
    changed = file.override("environment.envs.1", "Acrobot-v1")
    assert changed.methods["environment"]["envs"] == ["CartPole-v1", "Acrobot-v1"]


def test_what_is_dumped_reads_back_the_same(file: ConfigFile, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(file.override("training.lr", 1e-5).dump())
    again = load_config_file(path)
    assert again.name == "small"
    assert again.methods == {**file.methods, "training": {**file.methods["training"], "lr": 1e-5}}
    assert (again.stop, again.tune) == (file.stop, file.tune)


def test_the_tuner_gets_the_tune_section(file: ConfigFile, tmp_path: Path) -> None:
    tuner = build_tuner(file, storage_path=tmp_path / "results", name="here")
    run_config, tune_config = tuner._local_tuner.get_run_config(), tuner._local_tuner._tune_config
    assert (run_config.name, run_config.storage_path) == ("here", str(tmp_path / "results"))
    assert tune_config.num_samples == 2
    checkpoints = run_config.checkpoint_config
    assert (checkpoints.checkpoint_frequency, checkpoints.checkpoint_at_end) == (5, True)


def test_a_scheduler_is_made_from_its_name(file: ConfigFile, tmp_path: Path) -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    metric = "env_runners/episode_return_mean"
    scheduler = {"type": "async_hyperband", "metric": metric, "mode": "max", "max_t": 9}
    tuner = build_tuner(file.override("tune.scheduler", scheduler), storage_path=tmp_path)
    assert isinstance(tuner._local_tuner._tune_config.scheduler, AsyncHyperBandScheduler)


def test_the_quickstart_names_four_environments() -> None:
    file = load_config_file(Path(__file__).parents[2] / "tune_configs" / "quickstart.yaml")
    assert file.methods["environment"]["envs"] == [
        "CartPole-v1",
        "Acrobot-v1",
        "InvertedPendulum-v4",
        "Reacher-v4",
    ]
    assert file.stop.any_of["time_total_s"] <= 480
