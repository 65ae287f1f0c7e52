"""RLlib code as users write it: Tune with a search space, callbacks, connectors, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from tiny_runs import running, tiny_config
from tune_pieces import CountEpisodes, make_halve_observations

from rllib_multienv import EnvSpec, MultiEnvAgent, MultiEnvPPO, MultiEnvPPOConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")

LISTS = (["CartPole-v1", "Acrobot-v1"], ["CartPole-v1", EnvSpec("swing", make="Pendulum-v1", max_episode_steps=20)])
RATES = (1e-3, 1e-4)


def user_config() -> MultiEnvPPOConfig:
    return (
        tiny_config()
        .environment(envs=tune.grid_search(list(LISTS)))
        .training(actor_lr=tune.grid_search(list(RATES)))
        .env_runners(rollout_fragment_length=64, env_to_module_connector=make_halve_observations)
        .callbacks(CountEpisodes)
    )


@pytest.fixture(scope="module")
def results(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tune.ResultGrid]:
    tuner = tune.Tuner(
        "MultiEnvPPO",
        param_space=user_config(),
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(tmp_path_factory.mktemp("tune")),
            stop={"training_iteration": 1},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            verbose=0,
        ),
    )
    yield tuner.fit()


def names(result: Any) -> tuple[str, ...]:
    return tuple(EnvSpec.of(env).id for env in result.config["envs"])


def test_every_trial_trains_its_environments_at_its_rate(results: tune.ResultGrid) -> None:
    assert len(results) == 4 and results.num_errors == 0
    found = {(names(result), result.config["actor_lr"]) for result in results}
    assert found == {
        (envs, rate) for envs in (("CartPole-v1", "Acrobot-v1"), ("CartPole-v1", "swing")) for rate in RATES
    }
    for result in results:
        metrics = result.metrics
        for env_id in names(result):
            assert metrics["env_runners"]["num_module_steps_sampled_lifetime"][env_id] == 128
            assert np.isfinite(metrics["learners"][env_id]["policy_loss"])
        assert metrics["env_runners"]["module_episode_return_mean"]["CartPole-v1"] > 0
        assert np.isfinite(metrics["env_runners"]["episode_return_worst"])
        assert metrics["learners"]["shared"]["actor_lr"] == pytest.approx(result.config["actor_lr"])


def test_callbacks_and_connectors_of_the_user_ran(results: tune.ResultGrid) -> None:
    for result in results:
        metrics = result.metrics
        assert metrics["my_rate"] == result.config["actor_lr"]
        assert metrics["env_runners"]["my_episodes"]["CartPole-v1"] > 0
        for env_id in names(result):
            assert metrics["env_runners"]["my_rows"][env_id] >= 128


def test_results_can_be_searched_by_metric(results: tune.ResultGrid) -> None:
    best = results.get_best_result(metric="env_runners/module_episode_return_mean/CartPole-v1", mode="max")
    assert best.metrics["env_runners"]["module_episode_return_mean"]["CartPole-v1"] == max(
        result.metrics["env_runners"]["module_episode_return_mean"]["CartPole-v1"] for result in results
    )


def test_checkpoints_of_trials_can_be_loaded(results: tune.ResultGrid) -> None:
    result = next(r for r in results if "swing" in names(r))
    assert result.checkpoint is not None
    with running(MultiEnvPPO.from_checkpoint(result.checkpoint)) as algo:
        assert algo.iteration == 1
        assert algo.train()["env_runners"]["num_module_steps_sampled_lifetime"]["swing"] == 256
    agent = MultiEnvAgent.from_checkpoint(result.checkpoint.path)
    assert [length for _, length in agent.evaluate("swing", episodes=2)] == [20, 20]
    assert agent.act("CartPole-v1", np.zeros(4, np.float32)) in (0, 1)


def test_a_configuration_as_a_dictionary(tmp_path: Path) -> None:
    """What Tune makes of a configuration, and what users of plain dictionaries pass on."""
    config = tiny_config(["CartPole-v1", EnvSpec("swing", make="Pendulum-v1")], actor_lr=2e-4)
    values = config.to_dict()
    again = MultiEnvPPOConfig.from_dict(values)
    assert [spec.id for spec in again.env_specs] == ["CartPole-v1", "swing"]
    assert again.network_config == config.network_config
    assert again.actor_lr == 2e-4
    with running(MultiEnvPPO(config=values)) as algo:
        assert set(algo.train()["env_runners"]["num_module_steps_sampled_lifetime"]) == {"CartPole-v1", "swing"}
