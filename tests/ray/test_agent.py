"""An agent from a checkpoint acts without Ray, as the algorithm's own policy does."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from cli_helpers import environment
from tiny_runs import running, tiny_config
from toy_envs import Counter, Grid

from rllib_multienv import EnvSpec, MLPNetConfig, MultiEnvAgent
from rllib_multienv.checkpoints import read_checkpoint

TRAINED = ("CartPole-v1", "Pendulum-v1", "InvertedPendulum-v4")


def observe(env_id: str, count: int) -> np.ndarray:
    """Observations of an environment under random actions."""
    env = gym.make(env_id)
    env.action_space.seed(1)
    env.reset(seed=1)
    rows = []
    while len(rows) < count:
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        rows.append(obs)
        if terminated or truncated:
            env.reset()
    env.close()
    return np.stack(rows)


@pytest.fixture(scope="module")
def trained(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A checkpoint, observations, and the algorithm's own deterministic actions on them."""
    path = tmp_path_factory.mktemp("agent")
    grid = EnvSpec("grid", make="toy_envs:Grid", max_episode_steps=5)
    local = EnvSpec("local", make=lambda: Counter(), max_episode_steps=5)
    with running(tiny_config([*TRAINED, grid, local], actor_lr=0.01)) as algo:
        for _ in range(2):
            algo.train()
        algo.save_to_path(path)
        obs = {env_id: observe(env_id, 20) for env_id in TRAINED}
        runner = algo.env_runner
        call = {"rl_module": runner.module, "episodes": [], "explore": False, "shared_data": {}, "metrics": None}
        batch = runner._env_to_module(batch={env_id: {"obs": rows} for env_id, rows in obs.items()}, **call)
        outputs = runner._module_to_env(batch=runner.module.forward_inference(batch), **call)
        actions = {env_id: columns["actions_for_env"] for env_id, columns in outputs.items()}
    return {"path": path, "obs": obs, "actions": actions}


@pytest.fixture
def agent(trained: dict[str, Any]) -> MultiEnvAgent:
    return MultiEnvAgent.from_checkpoint(trained["path"])


def test_acts_where_ray_cannot_be_imported(trained: dict[str, Any]) -> None:
    program = Path(__file__).parents[1] / "helpers" / "agent_without_ray.py"
    observations = json.dumps({env_id: rows.tolist() for env_id, rows in trained["obs"].items()})
    done = subprocess.run(
        [sys.executable, str(program), str(trained["path"]), observations],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ray"] == []
    assert found["trained"] == [*TRAINED, "grid"]
    for env_id, actions in trained["actions"].items():
        np.testing.assert_allclose(found["batches"][env_id], actions, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["single"][env_id], actions, rtol=1e-5, atol=1e-6)
    assert np.shape(found["new"]) == (3,)
    assert len(found["episodes"]) == 3


def test_the_same_actions_as_the_algorithm(trained: dict[str, Any], agent: MultiEnvAgent) -> None:
    for env_id, rows in trained["obs"].items():
        actions = agent.act(env_id, rows)
        assert actions.dtype == trained["actions"][env_id].dtype
        np.testing.assert_allclose(actions, trained["actions"][env_id], rtol=1e-5, atol=1e-6)
    # The statistics matter: without them some actions are others.
    raw = MultiEnvAgent(dataclasses.replace(read_checkpoint(trained["path"]), obs_moments={}))
    rows = trained["obs"]["Pendulum-v1"]
    assert not np.allclose(raw.act("Pendulum-v1", rows), agent.act("Pendulum-v1", rows))


def test_one_observation_or_a_batch(trained: dict[str, Any], agent: MultiEnvAgent) -> None:
    for env_id, rows in trained["obs"].items():
        space = gym.make(env_id).action_space
        for row, expected in zip(rows, agent.act(env_id, rows), strict=True):
            action = agent.act(env_id, row)
            assert space.contains(action)
            np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
        assert np.shape(agent.act(env_id, rows.tolist())) == np.shape(agent.act(env_id, rows))


def test_exploration_draws_from_the_given_generator(trained: dict[str, Any], agent: MultiEnvAgent) -> None:
    for env_id, rows in trained["obs"].items():
        drawn = [
            agent.act(env_id, rows, explore=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert not np.array_equal(drawn[0], drawn[2])
        assert not np.array_equal(drawn[0], agent.act(env_id, rows))


@pytest.mark.parametrize("env_id, bound", [("Pendulum-v1", 2.0), ("InvertedPendulum-v4", 3.0)])
def test_actions_reach_the_bounds_and_no_further(
    trained: dict[str, Any], agent: MultiEnvAgent, env_id: str, bound: float
) -> None:
    rows = np.repeat(trained["obs"][env_id], 50, axis=0)
    actions = agent.act(env_id, rows, explore=True, generator=torch.Generator().manual_seed(0))
    assert actions.shape == (1000, 1)
    assert actions.max() == pytest.approx(bound)
    assert actions.min() == pytest.approx(-bound)


def test_discrete_spaces_that_do_not_start_at_zero(agent: MultiEnvAgent) -> None:
    assert agent.act("grid", -2) in (5, 6, 7)
    drawn = agent.act("grid", np.full(200, 1), explore=True, generator=torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {5, 6, 7}
    assert Grid().action_space.contains(agent.act("grid", np.int64(0)))


@pytest.mark.parametrize("env_id", ["Hopper-v4", "Acrobot-v1"])
def test_a_new_environment_of_other_sizes(agent: MultiEnvAgent, env_id: str) -> None:
    env = gym.make(env_id)
    obs, _ = env.reset(seed=0)
    action = agent.act(env_id, obs)
    assert env.action_space.contains(action)
    assert len(agent.act(env_id, np.stack([obs, obs]))) == 2
    assert env_id in agent.env_specs
    (episode,) = agent.evaluate(EnvSpec("short", make=env_id, max_episode_steps=7), episodes=1)
    assert episode[1] <= 7


def test_evaluation_gives_whole_episodes_and_is_reproducible(agent: MultiEnvAgent) -> None:
    episodes = agent.evaluate("CartPole-v1", episodes=23, seed=3)
    assert len(episodes) == 23
    assert all(total == length >= 1 for total, length in episodes)  # CartPole's reward is 1 for each step
    assert agent.evaluate("CartPole-v1", episodes=23, seed=3) == episodes
    assert agent.evaluate("CartPole-v1", episodes=23, seed=4) != episodes
    drawn = agent.evaluate("CartPole-v1", episodes=5, seed=3, explore=True)
    assert agent.evaluate("CartPole-v1", episodes=5, seed=3, explore=True) == drawn
    assert [length for _, length in agent.evaluate("Pendulum-v1", episodes=2)] == [200, 200]
    with pytest.raises(ValueError, match="episodes=0"):
        agent.evaluate("CartPole-v1", episodes=0)


def test_evaluation_does_not_change_the_agent(trained: dict[str, Any], agent: MultiEnvAgent) -> None:
    before = agent.act("Pendulum-v1", trained["obs"]["Pendulum-v1"])
    agent.evaluate("Pendulum-v1", episodes=1, explore=True)
    agent.evaluate("Acrobot-v1", episodes=1)
    np.testing.assert_array_equal(agent.act("Pendulum-v1", trained["obs"]["Pendulum-v1"]), before)


def test_an_episode_that_does_not_end_is_an_error(agent: MultiEnvAgent) -> None:
    # Pendulum never terminates.
    endless = EnvSpec("endless", make="Pendulum-v1", max_episode_steps=1000)
    with pytest.raises(RuntimeError, match=r"'endless' failed .* has not ended after 50 steps.*max_episode_steps"):
        agent.evaluate(endless, episodes=1, max_steps=50)
    assert [length for _, length in agent.evaluate(endless, episodes=1)] == [1000]


def test_wrong_shapes_are_errors(agent: MultiEnvAgent) -> None:
    for shape in ((5,), (3, 5), (2, 3, 4), ()):
        with pytest.raises(ValueError, match=r"CartPole-v1: the observation has shape .*, but its space says \(4,\)"):
            agent.act("CartPole-v1", np.zeros(shape, np.float32))


def test_an_environment_that_the_checkpoint_could_not_hold(agent: MultiEnvAgent) -> None:
    assert agent.act("local", np.zeros(2, np.float32)) in (0, 1, 2)
    with pytest.raises(ValueError, match="pass an EnvSpec that makes it"):
        agent.evaluate("local", episodes=1)
    ((_, length),) = agent.evaluate(EnvSpec("local", make=Counter), episodes=1)
    assert length == 3


def test_an_id_stays_with_its_spaces(agent: MultiEnvAgent) -> None:
    with pytest.raises(ValueError, match="'CartPole-v1' is the id of an environment with observations"):
        agent.act(EnvSpec("CartPole-v1", make="Acrobot-v1"), np.zeros(6, np.float32))
    with pytest.raises(ValueError, match="Acrobot-v1"):
        agent.act("Acrobat-v1", np.zeros(6, np.float32))


def test_an_mlp_has_its_one_environment_only(ray_cluster: None, tmp_path: Path) -> None:
    with running(tiny_config(["Pendulum-v1"]).rl_module(model_config=MLPNetConfig(hidden=(8,)))) as algo:
        algo.train()
        path = algo.save_to_path(tmp_path)
    agent = MultiEnvAgent.from_checkpoint(path)
    assert abs(agent.act("Pendulum-v1", np.zeros(3, np.float32))[0]) <= 2
    with pytest.raises(ValueError, match=r"one environment.*Acrobot"):
        agent.act("Acrobot-v1", np.zeros(6, np.float32))


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MultiEnvAgent.from_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no file multienv\.json"):
        MultiEnvAgent.from_checkpoint(tmp_path)
    (tmp_path / "multienv.json").write_text("{")
    with pytest.raises(ValueError, match=r"multienv\.json is damaged"):
        MultiEnvAgent.from_checkpoint(tmp_path)
    (tmp_path / "multienv.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has format 99; this version reads format 1"):
        MultiEnvAgent.from_checkpoint(tmp_path)
