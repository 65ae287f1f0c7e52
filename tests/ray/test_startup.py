"""Before a run starts: is there room for its workers, and who does what."""

from __future__ import annotations

import pytest
import ray
import torch
from tiny_runs import running, tiny_config

from rllib_multienv.env_runners.assignment import near_their_learners

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1")

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_cluster_that_is_too_small_is_an_error_that_says_what_is_missing() -> None:
    config = tiny_config(ENVS).env_runners(num_env_runners=2).learners(num_learners=50)
    with pytest.raises(RuntimeError, match=r"2 env runners and 50 learners.*52 CPU are needed and \d of 4 are free"):
        config.resources(worker_startup_timeout_s=0.5).build_algo()


def test_the_assignment_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with running(tiny_config(ENVS).env_runners(num_env_runners=2).learners(num_learners=2)):
        lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("env runner 1: ") and lines[1].startswith("env runner 2: ")
    assert sorted(", ".join(line.split(": ")[1] for line in lines[:2]).split(", ")) == sorted(ENVS)
    assert lines[2].startswith("learner 0: 50% of the load: CartPole-v1, Reacher-v4 (rows 0% to ")
    assert lines[3].startswith("learner 1: 50% of the load: Reacher-v4 (rows ") and lines[3].endswith("Pendulum-v1")


def test_one_process_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with running(tiny_config(ENVS)):
        assert capsys.readouterr().out == ""


def test_every_worker_has_the_threads_of_its_cpus() -> None:
    config = tiny_config(ENVS).env_runners(num_env_runners=1).learners(num_learners=2, num_cpus_per_learner=1)
    with running(config) as algo:
        threads = [result.get() for result in algo.learner_group.foreach_learner(lambda _: torch.get_num_threads())]
        runners = algo.env_runner_group.foreach_env_runner(lambda _: torch.get_num_threads(), local_env_runner=False)
        assert threads == [1, 1] and runners == [1]
        nodes = algo.learner_group.foreach_learner(lambda _: ray.get_runtime_context().get_node_id())
        assert algo.learner_nodes == [node.get() for node in nodes]


def test_environments_stand_with_the_learners_of_their_node() -> None:
    costs = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    nodes = {"a": "right", "b": "left", "c": "far", "d": "left"}
    assert list(near_their_learners(costs, nodes, ["left", "right", "right"])) == ["b", "d", "a", "c"]
    assert near_their_learners(costs, nodes, ["left", "right"]) == costs
    assert list(near_their_learners(costs, {}, [])) == list(costs)
