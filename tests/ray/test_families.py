"""Atari, MiniGrid and robotics by name, in one agent; MiniGrid and robotics need nothing but their extras."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import running, tiny_config

from rllib_multienv import EnvSpec, MultiEnvAgent
from rllib_multienv.envs import make_env

NEEDED = ("ale_py", "minigrid", "gymnasium_robotics")
pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason=f"needs {', '.join(NEEDED)}"),
]
# Short games, because evaluation plays whole ones.
PONG = EnvSpec("ALE/Pong-v5", max_episode_steps=40, kwargs={"reward_clipping": True, "life_loss_info": True})
ENVS = ["FetchReach-v4", "PointMaze_UMaze-v3", "MiniGrid-Empty-5x5-v0", PONG]


@pytest.fixture(scope="module")
def trained(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The result of the second iteration with a remote runner, and its checkpoint."""
    path = tmp_path_factory.mktemp("families")
    config = tiny_config(ENVS, num_epochs=1).env_runners(num_env_runners=1, rollout_fragment_length=40)
    with running(config) as algo:
        algo.train()
        result = algo.train()
        algo.save_to_path(path)
    return result, path


def test_they_train_in_one_run(trained: tuple[dict[str, Any], Path]) -> None:
    result, _ = trained
    for env_id in ("FetchReach-v4", "PointMaze_UMaze-v3", "MiniGrid-Empty-5x5-v0", "ALE-Pong-v5"):
        assert result["env_runners"]["num_module_steps_sampled_lifetime"][env_id] == 160
        assert np.isfinite(result["learners"][env_id]["policy_loss"])
    returns = result["env_runners"]["module_episode_return_mean"]
    assert -21 <= returns["ALE-Pong-v5"] <= 0


def test_their_agent_acts_and_is_evaluated_without_ray(trained: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(trained[1])
    for spec in map(EnvSpec.of, ENVS):
        env = make_env(spec, seed=0)
        obs, _ = env.reset(seed=0)
        assert env.action_space.contains(agent.act(spec.id, obs))
        env.close()
    found = agent.evaluate("ALE-Pong-v5", episodes=1, seed=3, video_dir=tmp_path, video_format="gif")
    assert found.lengths == [40]
    assert (tmp_path / "ALE-Pong-v5.gif").stat().st_size > 1000
