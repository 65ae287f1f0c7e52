"""The cosines between the environments' gradients, which are reported on request."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from tiny_runs import running, tiny_config

from rllib_multienv import MultiEnvPPO
from rllib_multienv.learners import Minibatch, Step
from rllib_multienv.learners.gradients import Reduction
from rllib_multienv.learners.hooks import GradientCosines

ENVS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")


def test_cosines_of_pairs_without_those_of_no_gradient() -> None:
    x = torch.zeros(2, requires_grad=True)
    gradients = {"a": [1.0, 0.0], "b": [0.0, 0.0], "c": [-2.0, 0.0], "d": [3.0, 3.0]}
    losses = {env_id: (x * torch.tensor(gradient)).sum() for env_id, gradient in gradients.items()}
    metrics = MetricsLogger(root=True)
    learner = SimpleNamespace(
        env_ids=(*gradients, "not here"), parameters=[x], reduction=Reduction(), is_first=True, metrics=metrics
    )
    step = Step(minibatch=Minibatch(columns={}, weights={}))
    GradientCosines(1).before_backward(learner, step, losses)
    found = {(a, b): float(v) for a, rows in metrics.reduce().items() for b, v in rows["gradient_cosine"].items()}
    assert found == pytest.approx({("a", "c"): -1.0, ("a", "d"): 0.5**0.5, ("c", "d"): -(0.5**0.5)})
    sum(losses.values(), torch.zeros(())).backward()  # the graph is still there
    assert x.grad is not None and x.grad.tolist() == [2.0, 3.0]


@pytest.mark.usefixtures("ray_cluster")
def test_they_are_reported_at_the_interval_and_change_nothing() -> None:
    histories, reported = [], []
    for interval in (None, 2):
        config = tiny_config(ENVS).reporting(gradient_cosine_interval=interval)
        with running(config) as algo:
            results = [algo.train() for _ in range(3)]
            histories.append({k: v.numpy().copy() for k, v in algo.learner_group._learner.network.state_dict().items()})
        reported.append(["gradient_cosine" in result["learners"][ENVS[0]] for result in results])
    assert reported == [[False] * 3, [True, False, True]]
    found = results[2]["learners"]
    pairs = [found[ENVS[0]]["gradient_cosine"][ENVS[1]], found[ENVS[0]]["gradient_cosine"][ENVS[2]]]
    pairs.append(found[ENVS[1]]["gradient_cosine"][ENVS[2]])
    assert all(-1.0 <= pair <= 1.0 and pair != 0.0 for pair in pairs)
    for name, value in histories[0].items():
        np.testing.assert_array_equal(value, histories[1][name])


@pytest.mark.usefixtures("ray_cluster")
def test_a_resumed_run_keeps_to_the_interval(tmp_path: Path) -> None:
    with running(tiny_config(ENVS).reporting(gradient_cosine_interval=3)) as algo:
        for _ in range(2):
            algo.train()
        algo.save_to_path(tmp_path)
    with running(MultiEnvPPO.from_checkpoint(tmp_path)) as algo:
        reported = ["gradient_cosine" in algo.train()["learners"][ENVS[0]] for _ in range(3)]
    assert reported == [False, True, False]


@pytest.mark.parametrize("interval", [0, -1, 1.5, True])
def test_bad_intervals_are_refused(interval: object) -> None:
    with pytest.raises(ValueError, match="gradient_cosine_interval"):
        tiny_config(ENVS).reporting(gradient_cosine_interval=interval).validate()
