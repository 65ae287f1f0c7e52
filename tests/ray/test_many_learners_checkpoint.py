"""A run of several learners goes on from a checkpoint as if it had not been interrupted, also with another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import MultiEnvPPO

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1")

pytestmark = pytest.mark.usefixtures("ray_cluster")


def trained(result: Any) -> dict[str, float]:
    learners = result["learners"]
    counted = {env_id: learners[env_id]["num_module_steps_trained_lifetime"] for env_id in ENVS}
    return {**counted, "all": learners["__all_modules__"]["num_env_steps_trained_lifetime"]}


def test_the_next_update_is_the_one_that_would_have_followed(tmp_path: Path) -> None:
    config = tiny_config(ENVS).learners(num_learners=2)
    with running(config) as algo:
        algo.train()
        algo.train()
        path = algo.save_to_path(tmp_path / "saved")
        expected = trained(algo.train()), weights(algo)
    assert expected[0] == {**dict.fromkeys(ENVS, 96), "all": 288}
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        found = trained(algo.train()), weights(algo)
        assert_same(found, expected)
        both = [
            result.get()
            for result in algo.learner_group.foreach_learner(lambda learner: learner.get_state()["optimizer"])
        ]
        assert_same(both[0], both[1])
    for others in (0, 3):
        with running(tiny_config(ENVS).learners(num_learners=others)) as algo:
            algo.restore_from_path(path)
            assert trained(algo.train()) == expected[0]
            for name, array in weights(algo).items():
                np.testing.assert_allclose(array, expected[1][name], atol=1e-4, err_msg=name)
