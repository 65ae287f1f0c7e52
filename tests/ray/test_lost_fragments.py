"""A fragment whose node is gone when learners want it: none of them uses it, and it is counted."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import ray
from tiny_runs import assert_same, running, tiny_config

from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.learners import RolloutData

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1")


@ray.remote(num_cpus=0)
class Owner:
    """Objects that it puts into the object store are lost when it dies."""

    def put(self, data: Any) -> list[ray.ObjectRef]:
        return [ray.put(data)]


@ray.remote(num_cpus=0)
def is_lost(references: list[ray.ObjectRef]) -> bool:
    try:
        ray.get(references)
    except ray.exceptions.ObjectLostError:
        return True
    return False


pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize("num_learners", [1, 2])
def test_all_learners_leave_it_out(num_learners: int) -> None:
    with running(tiny_config(ENVS, grad_clip=None).learners(num_learners=num_learners)) as algo:
        sampled = {
            env_id: [(ray.put(rollout), rollout.steps)]
            for _ in range(2)
            for env_id, rollout in algo.env_runner.sample_rollouts().items()
        }
        owner = Owner.remote()
        second = {
            env_id: ray.get(owner.put.remote(rollout))[0]
            for env_id, rollout in algo.env_runner.sample_rollouts().items()
        }
        sampled["Reacher-v4"].append((second["Reacher-v4"], 32))  # shared by both learners
        sampled["CartPole-v1"] = [(second["CartPole-v1"], 32)]  # all that there is of it
        ray.kill(owner)
        deadline = time.monotonic() + 60
        while not all(ray.get(is_lost.remote([reference])) for reference in second.values()):
            assert time.monotonic() < deadline
        results = algo.learner_group.update(
            training_data=RolloutData.of(sampled, environment_costs(algo.config)),
            timesteps={"num_env_steps_sampled_lifetime": 0},
            num_epochs=2,
            num_minibatches=2,
        )
        algo.metrics.aggregate(results, key="learners")
        found = algo.metrics.peek("learners")
        assert found["Reacher-v4"]["num_module_steps_trained_lifetime"] == 32
        assert found["Pendulum-v1"]["num_module_steps_trained_lifetime"] == 32
        assert "num_module_steps_trained_lifetime" not in found["CartPole-v1"]
        for env_id in ("Reacher-v4", "CartPole-v1"):
            assert found[env_id]["num_fragments_lost_lifetime"] == 1
            assert found[env_id]["num_env_steps_lost_lifetime"] == 32
        parameters = [
            result.get()
            for result in algo.learner_group.foreach_learner(
                lambda learner: {n: p.detach().numpy().copy() for n, p in learner.network.named_parameters()}
            )
        ]
        assert len(parameters) == num_learners
        for other in parameters[1:]:
            assert_same(other, parameters[0])
        assert all(np.isfinite(array).all() for array in parameters[0].values())
