"""A run that goes on from a checkpoint makes the updates that the uninterrupted run makes, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import FOUR, assert_same, running, tiny_config, weights

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvPPO, MultiEnvPPOConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")

ANNEAL_STEPS = 2_000  # 128 steps an iteration: the five of a test are within it


def config(dropout: float = 0.0) -> MultiEnvPPOConfig:
    return tiny_config(FOUR, lr_anneal_steps=ANNEAL_STEPS, actor_lr=1e-3, critic_lr=2e-3).rl_module(
        model_config=AgnosticNetConfig(d_model=8, d_state=4, dropout=dropout)
    )


def untimed(tree: Any) -> Any:
    """A result without what the clock says."""
    if isinstance(tree, dict):
        return {
            key: untimed(value)
            for key, value in tree.items()
            if key != "sample" and not any(word in key for word in ("timer", "throughput"))
        }
    return tree


def state(algo: MultiEnvPPO) -> dict[str, Any]:
    """All that an update depends on, or leaves behind."""
    learner = algo.learner_group._learner
    (optimizer,) = learner._optimizer_parameters
    runner = algo.env_runner
    environments = runner.get_state(components="environments")["environments"]
    return {
        "weights": weights(algo),
        "moments": {
            str(number): {name: tensor.numpy().copy() for name, tensor in kept.items()}
            for number, kept in optimizer.state_dict()["state"].items()
        },
        "rates": {group["name"]: group["lr"] for group in optimizer.param_groups},
        "statistics": [
            piece.get_state() for piece in runner._env_to_module.connectors if hasattr(piece, "normalizers")
        ],
        "windows": environments["windows"],
        "observations": {env_id: environment.obs.copy() for env_id, environment in runner.environments.items()},
        "episodes": {
            env_id: [(e.id_, e.length, e.return_) for e in environment.running]
            for env_id, environment in runner.environments.items()
        },
        "runner": {name: tensor.numpy().copy() for name, tensor in runner.module.shared.network.state_dict().items()},
    }


def go_on(algo: MultiEnvPPO) -> list[Any]:
    """Two more iterations: their results, and the state after each."""
    seen = []
    for _ in range(2):
        result = algo.train()
        found = {
            "learners": untimed(result["learners"]),
            "env_runners": untimed(result["env_runners"]),
            "iteration": result["training_iteration"],
            **state(algo),
        }
        del found["episodes"]  # episodes that begin after the restore have new random names
        seen.append(found)
    return seen


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["plain", "dropout"])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The checkpoint after three iterations, the state then, and the two iterations that followed."""
    path = tmp_path_factory.mktemp("checkpoint")
    with running(config(request.param)) as algo:
        for _ in range(3):
            algo.train()
        algo.save_to_path(path)
        then = state(algo)
        yield request.param, path, then, go_on(algo)


def test_the_run_covers_what_is_claimed(uninterrupted: Any) -> None:
    _, _, then, after = uninterrupted
    # The learning rate after n steps of all environments, linearly to zero.
    for iterations, rates in ((3, then["rates"]), (4, after[0]["rates"]), (5, after[1]["rates"])):
        left = 1 - iterations * 128 / ANNEAL_STEPS
        assert rates["actor"] == pytest.approx(1e-3 * left, rel=1e-5)
        assert rates["critic"] == pytest.approx(2e-3 * left, rel=1e-5)
    assert after[1]["env_runners"]["num_env_steps_sampled_lifetime"] == 5 * 128
    assert after[1]["iteration"] == 5
    for env_id in FOUR:
        for key in ("policy_loss", "vf_loss", "total_loss", "entropy", "mean_kl_loss", "vf_explained_var"):
            assert np.isfinite(after[0]["learners"][env_id][key])
    assert not np.array_equal(*(step["learners"]["CartPole-v1"]["total_loss"] for step in after))
    assert then["windows"]["CartPole-v1"]
    assert any(length for _, length, _ in then["episodes"]["Reacher-v4"])


def test_from_checkpoint(uninterrupted: Any) -> None:
    _, path, then, after = uninterrupted
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        assert_same(state(algo), then)
        assert_same(go_on(algo), after)


def test_restore_into_a_new_algorithm(uninterrupted: Any) -> None:
    dropout, path, then, after = uninterrupted
    with running(config(dropout).debugging(seed=77)) as algo:
        algo.restore_from_path(path)
        assert_same(state(algo), then)
        assert_same(go_on(algo), after)


@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_restore_into_an_algorithm_that_has_trained(uninterrupted: Any, iterations: int) -> None:
    dropout, path, then, after = uninterrupted
    with running(config(dropout).debugging(seed=78)) as algo:
        for _ in range(iterations):
            algo.train()
        algo.restore_from_path(str(path))
        assert_same(state(algo), then)
        assert_same(go_on(algo), after)


def test_going_back_to_an_own_checkpoint(uninterrupted: Any, tmp_path: Path) -> None:
    _, path, _, after = uninterrupted
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        assert_same(go_on(algo), after)
        algo.evaluate()  # makes runners of its own, which are saved too
        algo.save_to_path(tmp_path)
        algo.restore_from_path(path)
        assert_same(go_on(algo), after)
        algo.restore_from_path(tmp_path)
        assert_same(weights(algo), after[1]["weights"])


def test_state_as_a_dictionary(uninterrupted: Any) -> None:
    """``get_state`` and ``set_state`` do the same without files."""
    _, path, then, after = uninterrupted
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        saved = algo.get_state()
        assert_same(go_on(algo), after)
        algo.set_state(saved)
        assert_same(state(algo), then)
        assert_same(go_on(algo), after)


def test_relative_paths(uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path, then, _ = uninterrupted
    monkeypatch.chdir(tmp_path)
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        algo.save_to_path("here")
        algo.train()
        algo.restore_from_path("here")
        assert_same(state(algo), then)
    assert (tmp_path / "here" / "multienv.json").is_file()


def test_a_checkpoint_of_a_resumed_run(uninterrupted: Any, tmp_path: Path) -> None:
    _, path, _, after = uninterrupted
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
    with running(MultiEnvPPO.from_checkpoint(tmp_path)) as algo:
        assert_same(go_on(algo)[:1], after[1:])


def test_a_checkpoint_that_describes_an_environment_otherwise_is_refused(tmp_path: Path) -> None:
    with running(tiny_config([EnvSpec("pole", make="CartPole-v1")])) as algo:
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
    other = tiny_config([EnvSpec("pole", make="CartPole-v1", description="a pole")])
    message = r"describes 'pole' to the network as 'CartPole-v1', this run as 'a pole'"
    with running(other) as algo, pytest.raises(ValueError, match=message):
        algo.restore_from_path(path)
