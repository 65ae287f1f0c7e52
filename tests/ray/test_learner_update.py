"""One update of the learner: which gradient, how many steps, at which rates, on which rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import assert_same, changed, running, tiny_config, weights

from rllib_multienv import MultiEnvPPO
from rllib_multienv.learners import Minibatch, RolloutData, Step
from rllib_multienv.learners.gradients import clip_by_global_norm
from rllib_multienv.learners.minibatches import Shuffle, minibatches
from rllib_multienv.rollout import Rollout

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1")
STEPS = 4  # 2 epochs of 2 minibatches

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def algo() -> Iterator[MultiEnvPPO]:
    with running(tiny_config(ENVS)) as built:
        yield built


def fragments(algo: MultiEnvPPO) -> dict[str, list[Rollout]]:
    return {env_id: [rollout] for env_id, rollout in algo.env_runner.sample_rollouts().items()}


def batch_of(algo: MultiEnvPPO) -> dict[str, Any]:
    """The learner's batch of a fresh fragment of every environment."""
    return algo.learner_group._learner.batch_of(fragments(algo))


def step_on(batch: dict[str, Any]) -> Step:
    return Step(minibatch=Minibatch(columns=batch, weights={}))


def gradient(algo: MultiEnvPPO, batch: dict[str, Any]) -> list[torch.Tensor]:
    return [g.clone() for g in algo.learner_group._learner.gradients(step_on(batch))]


def update(algo: MultiEnvPPO, data: dict[str, list[Rollout]]) -> Any:
    return algo.learner_group._learner.update(
        training_data=RolloutData.of({e: [(r, r.steps) for r in found] for e, found in data.items()}),
        timesteps={"num_env_steps_sampled_lifetime": 96},
        num_epochs=2,
        num_minibatches=2,
    )


def steps_taken(algo: MultiEnvPPO) -> set[float]:
    (optimizer,) = algo.learner_group._learner._optimizer_parameters
    return {float(state["step"]) for state in optimizer.state.values()}


def test_the_gradient_is_the_sum_over_environments(algo: MultiEnvPPO) -> None:
    batch = batch_of(algo)
    together = gradient(algo, batch)
    alone = [gradient(algo, {env_id: batch[env_id]}) for env_id in ENVS]
    assert len(together) == len(list(algo.learner_group._learner.network.parameters()))
    for whole, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(whole, torch.stack(parts).sum(0), rtol=1e-4, atol=1e-6)
    assert all(any(g.abs().max() > 1e-6 for g in grads) for grads in alone)


def test_loss_weights_scale_the_gradient() -> None:
    with running(tiny_config(ENVS)) as plain:
        batch = batch_of(plain)
        alone = {env_id: gradient(plain, {env_id: batch[env_id]}) for env_id in ENVS}
    with running(tiny_config(ENVS, env_loss_weights={"CartPole-v1": 0.0, "Reacher-v4": 3.0})) as weighted:
        found = gradient(weighted, batch)
    for g, _, reacher, pendulum in zip(found, *alone.values(), strict=True):
        torch.testing.assert_close(g, 3 * reacher + pendulum, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("present", [ENVS, ENVS[:1], ENVS[1:], ()])
def test_the_number_of_steps_does_not_depend_on_the_data(algo: MultiEnvPPO, present: tuple[str, ...]) -> None:
    data = fragments(algo)
    result = update(algo, {env_id: data[env_id] for env_id in present})
    if present:
        assert steps_taken(algo) == {STEPS}
    else:
        assert steps_taken(algo) <= {STEPS}
    assert {env_id for env_id in ENVS if env_id in result and "total_loss" in result[env_id]} == set(present)


def test_a_gradient_that_is_not_finite_is_no_step_and_is_counted(algo: MultiEnvPPO) -> None:
    before, data = weights(algo), fragments(algo)
    data["Reacher-v4"][0].rewards[:] = np.nan
    result = update(algo, data)
    assert_same(weights(algo), before)
    assert steps_taken(algo) == set()
    assert result["__all_modules__"]["num_steps_skipped_lifetime"].peek() == STEPS
    update(algo, fragments(algo))
    assert steps_taken(algo) == {STEPS}
    assert all(np.isfinite(array).all() for array in weights(algo).values())


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    with running(tiny_config(ENVS, grad_clip=0.01)) as algo:
        learner, batch = algo.learner_group._learner, batch_of(algo)
        raw = gradient(algo, batch)
        norm = torch.stack([g.norm() for g in raw]).norm()
        assert norm > 0.02
        learner.take(step_on(batch))
        clipped = [parameter.grad for parameter in learner.parameters]
        assert float(torch.stack([g.norm() for g in clipped]).norm()) == pytest.approx(0.01, rel=1e-3)
        for before, after in zip(raw, clipped, strict=True):
            torch.testing.assert_close(after, before * (0.01 / norm), rtol=1e-3, atol=1e-8)
        reported = algo.train()["learners"]["__all_modules__"]["gradient_norm"]
        assert reported > 0.02  # what it was before


def test_a_small_gradient_is_left_as_it_is() -> None:
    gradients = [torch.tensor([0.3, 0.0]), torch.tensor([[0.4]])]
    assert float(clip_by_global_norm(gradients, 0.51)) == pytest.approx(0.5)
    assert gradients[0].tolist() == pytest.approx([0.3, 0.0]) and gradients[1].tolist() == [pytest.approx([0.4])]
    assert float(clip_by_global_norm(gradients, None)) == pytest.approx(0.5)


def rates(algo: MultiEnvPPO) -> dict[str, float]:
    (optimizer,) = algo.learner_group._learner._optimizer_parameters
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def test_rates_fall_linearly_to_zero_and_stay_there() -> None:
    with running(tiny_config(ENVS, actor_lr=1e-3, critic_lr=4e-3, lr_anneal_steps=240)) as algo:
        seen = [rates(algo)]
        for _ in range(3):
            result = algo.train()
            seen.append(rates(algo))
        assert result["learners"]["shared"]["actor_lr"] == result["learners"]["shared"]["critic_lr"] == 0.0
        before = weights(algo)
        algo.train()
        assert not changed(before, weights(algo))
    # 96 steps an iteration
    for name, start in (("actor", 1e-3), ("critic", 4e-3)):
        expected = [start, start * 0.6, start * 0.2, 0.0]
        assert [r[name] for r in seen] == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_schedules_of_each_rate() -> None:
    with running(tiny_config(ENVS, actor_lr=[[0, 1e-3], [192, 5e-4]], critic_lr=2e-3)) as algo:
        algo.train()
        assert rates(algo) == pytest.approx({"actor": 7.5e-4, "critic": 2e-3}, rel=1e-5)
        algo.train()
        assert rates(algo) == pytest.approx({"actor": 5e-4, "critic": 2e-3}, rel=1e-5)


@pytest.mark.parametrize("still, moving", [("actor", "critic"), ("critic", "actor")])
def test_actor_and_critic_have_rates_of_their_own(still: str, moving: str) -> None:
    with running(tiny_config(ENVS, **{f"{still}_lr": 0.0, f"{moving}_lr": 1e-3})) as algo:
        before = weights(algo)
        algo.train()
        assert changed(before, weights(algo)) == {n for n in before if n.startswith(f"shared/network.{moving}.")}


def test_lr_sets_both() -> None:
    with running(tiny_config(ENVS[:1], lr=2e-4)) as algo:
        assert rates(algo) == {"actor": 2e-4, "critic": 2e-4}


def test_minibatches_cover_all_rows_once_per_epoch() -> None:
    batch = {"a": {"row": torch.arange(23), "twice": 2 * torch.arange(23)}, "b": {"row": torch.arange(8)}}
    found = list(
        minibatches(batch, num_minibatches=5, num_epochs=3, shuffle=Shuffle(seed=0, update=1), keys={"a": 1, "b": 2})
    )
    assert len(found) == 15
    orders = []
    for epoch in range(3):
        parts = [part.columns for part in found[5 * epoch : 5 * epoch + 5]]
        for env_id, size in (("a", 23), ("b", 8)):
            rows = torch.cat([part[env_id]["row"] for part in parts])
            assert sorted(rows.tolist()) == list(range(size))
            sizes = [len(part[env_id]["row"]) for part in parts]
            assert max(sizes) - min(sizes) <= 1
        orders.append(torch.cat([part["a"]["row"] for part in parts]).tolist())
        assert all(torch.equal(part["a"]["twice"], 2 * part["a"]["row"]) for part in parts)
    assert orders[0] != orders[1] != orders[2]


def test_fewer_rows_than_minibatches() -> None:
    found = list(
        minibatches(
            {"a": {"row": torch.arange(2)}},
            num_minibatches=4,
            num_epochs=2,
            shuffle=Shuffle(seed=0, update=1),
            keys={"a": 1},
        )
    )
    assert len(found) == 8
    assert sorted(int(part.columns["a"]["row"][0]) for part in found if part.columns) == [0, 0, 1, 1]
