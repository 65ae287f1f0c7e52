"""Errors in an offline configuration are raised before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iql_runs import iql_config, noise

from rllib_multienv import MLPNetConfig, MultiEnvIQLConfig

CART = {"CartPole-v1": noise(4, 2, discrete=True)}


def overrides(**settings: Any) -> Any:
    return lambda c: c.multi_agent(algorithm_config_overrides_per_module={"CartPole-v1": settings})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.environment(envs=["Acrobot-v1"]), r"'Acrobot-v1' has no data set.*CartPole-v1"),
        (lambda c: c.training(env_loss_weights={"CartPole": 1.0}), r"env_loss_weights.*'CartPole'.*CartPole-v1"),
        (lambda c: c.offline_data(reference_scores={"x": (0, 1)}), r"reference_scores.*'x'"),
        (lambda c: c.offline_data(reference_scores={"CartPole-v1": (9, 1)}), r"reference_scores.*above"),
        (lambda c: c.training(expectile=1.0), r"expectile=1.0"),
        (lambda c: c.training(beta=-1.0), r"beta=-1.0"),
        (lambda c: c.training(tau=0.0), r"tau=0.0"),
        (lambda c: c.training(batch_size=0), r"batch_size=0"),
        (lambda c: c.training(batch_size=2).learners(num_learners=3), r"batch_size=2.*each of 3 learners"),
        (lambda c: c.training(num_steps_per_iteration=0), r"num_steps_per_iteration=0"),
        (lambda c: c.training(reward_normalization="std"), r"reward_normalization='std'.*'standardize'"),
        (overrides(expectile=0.0), r"'CartPole-v1'.*expectile=0.0"),
        (overrides(tau=0.1), r"'tau' cannot differ"),
        (lambda c: c.env_runners(num_env_runners=1), r"num_env_runners=1.*evaluation_num_env_runners"),
        (lambda c: c.evaluation(evaluation_interval=1), r"evaluation needs environments"),
        (lambda c: c.training(actor_lr=[[0, 1e-3], [9, 0.0]], actor_lr_cosine_steps=9), r"actor_lr_cosine_steps"),
        (lambda c: c.rl_module(model_config=MLPNetConfig()).offline_data(datasets={**CART, "b": noise(3, 1)}), r"one"),
    ],
)
def test_validate_names_the_setting(change: Any, message: str) -> None:
    config = iql_config(CART)
    with pytest.raises(ValueError, match=message):
        change(config)
        config.validate()
        config.network_config.build(config.space_specs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.offline_data(input_="file.json"), r"input_.*datasets"),
        (lambda c: c.offline_data(datasets=["a.hdf5"]), r"datasets=\['a.hdf5'\]: must be a mapping"),
        (lambda c: c.training(train_batch_size=5), r"train_batch_size.*batch_size"),
        (lambda c: c.training(num_epochs=5), r"num_epochs.*batch_size"),
    ],
)
def test_methods_refuse_what_has_no_meaning(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(MultiEnvIQLConfig())


def test_a_misspelt_setting_is_named() -> None:
    with pytest.raises(TypeError, match=r"dataset=.*'datasets'"):
        MultiEnvIQLConfig().offline_data(dataset={})


def test_there_must_be_a_data_set() -> None:
    with pytest.raises(ValueError, match="no data set was given"):
        MultiEnvIQLConfig().validate()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.hdf5"):
        iql_config({"CartPole-v1": str(tmp_path / "nowhere.hdf5")}).validate()


def test_spaces_come_from_the_data_where_there_is_no_environment() -> None:
    config = iql_config({**CART, "other": noise(9, 2)})
    config.validate()
    assert (config.space_specs["CartPole-v1"].action_size, config.space_specs["CartPole-v1"].discrete) == (2, True)
    assert (config.space_specs["other"].obs_size, config.space_specs["other"].action_size) == (9, 2)
    config.environment(envs=[]).offline_data(datasets={"other": noise(5, 2)})
    config.validate()
    assert {env_id: spec.obs_size for env_id, spec in config.space_specs.items()} == {"other": 5}


def test_the_cosine_falls_to_zero() -> None:
    schedule = iql_config(CART, actor_lr=1e-3, actor_lr_cosine_steps=1000).learning_rates()["actor"]
    updates, rates = np.array(schedule).T
    np.testing.assert_allclose(rates, 0.5e-3 * (1 + np.cos(np.pi * np.arange(65) / 64)), atol=1e-9)
    assert updates[0] == 0 and updates[-1] == 1000 and (np.diff(updates) > 0).all()
