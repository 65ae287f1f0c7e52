"""Environments' gradients are clipped and combined into one, the same for any number of learners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from first_gradient import RecordsFirstGradient, assert_same_parameters, of_learners
from tiny_runs import assert_goes_on_when_restored, make_runner, running, tiny_config

from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.learners import Minibatch, RolloutData, Step
from rllib_multienv.learners.combine import COMBINERS, Combiner, PCGrad, TaskGradients, WeightedSum, make_combiner

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1", "Acrobot-v1")

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Recording(RecordsFirstGradient, MultiEnvPPOLearner):
    """Keeps its first gradient."""


class SignVote(Combiner):
    """A user's own: the mean size of the gradients, with the sign of most."""

    needs = frozenset({"gradients", "losses"})

    def combine(self, tasks: TaskGradients) -> torch.Tensor:
        assert tasks.losses is not None and tasks.gradients is not None and tasks.gram is None
        self.losses = tasks.losses.tolist()
        return tasks.gradients.sign().sum(0) * tasks.gradients.abs().mean(0)


class LeastLoss(Combiner):
    """Only the environment with the least loss counts; remembers how often it was asked."""

    needs = frozenset({"losses"})

    def __init__(self) -> None:
        self.calls = 0

    def combine(self, tasks: TaskGradients) -> torch.Tensor:
        assert tasks.losses is not None
        self.calls += 1
        return (tasks.losses == tasks.losses.min()).float()


def config(combiner: Any, num_learners: int = 0, **training: Any) -> Any:
    settings = {"grad_clip": None, "num_epochs": 1, "gradient_combiner": combiner, **training}
    made = tiny_config(ENVS, **settings, env_loss_weights={ENVS[1]: 3.0})
    made = made.learners(num_learners=num_learners, learner_class=Recording)
    made.validate()
    return made


@pytest.fixture(scope="module")
def gradients() -> dict[str, Any]:
    """One rollout of each environment, initial weights, and the environments' gradients by each group's parameters."""
    made = config("weighted_sum")
    rollouts = make_runner(made).sample_rollouts()
    group = made.build_learner_group()
    learner = group._learner
    batch = learner.batch_of({env_id: [rollout] for env_id, rollout in rollouts.items()})
    numbers = [sum(p.numel() for p in parameters) for parameters in learner.groups.values()]
    rows = []
    for env_id in ENVS:
        step = Step(minibatch=Minibatch(columns={env_id: batch[env_id]}, weights={}))
        rows.append(torch.cat([g.reshape(-1) for g in learner.gradients(step)]))
    entropy = np.random.SeedSequence([learner.shuffle_seed, 1, 0]).generate_state(1)[0]
    return {
        "rollouts": rollouts,
        "weights": group.get_weights(),
        "groups": torch.stack(rows).double().split(numbers, 1),
        "seed": int(entropy),
    }


def first_gradient(combiner: Any, gradients: dict[str, Any], num_learners: int, **training: Any) -> np.ndarray:
    """The gradient of the first step on whole rollouts; all learners have the same."""
    made = config(combiner, num_learners, **training)
    group = made.build_learner_group()
    try:
        group.set_weights(gradients["weights"])
        fragments = {env_id: [(ray.put(r), r.steps)] for env_id, r in gradients["rollouts"].items()}
        data = RolloutData.of(fragments, environment_costs(made))
        group.update(training_data=data, timesteps={}, num_epochs=1, num_minibatches=1)
        first, *others = of_learners(group, lambda learner: learner.first_gradient)
        for other in others:
            np.testing.assert_array_equal(other, first)
        return first
    finally:
        group.shutdown()


def pcgrad_as_in_the_paper(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Algorithm 1 of Yu et al. 2020 on whole gradients [E, P]."""
    projected = rows.clone()
    for i in range(len(rows)):
        for j in torch.randperm(len(rows), generator=generator).tolist():
            product = projected[i] @ rows[j]
            if j != i and product < 0:
                projected[i] -= product / rows[j].square().sum() * rows[j]
    return projected.sum(0)


def close(found: np.ndarray, expected: torch.Tensor) -> bool:
    return bool(np.linalg.norm(found - expected.numpy()) < 1e-5 * float(expected.norm()))


@pytest.mark.parametrize("num_learners", [0, 1, 2, 3])
def test_pcgrad_is_that_of_whole_gradients(num_learners: int, gradients: dict[str, Any]) -> None:
    groups = gradients["groups"]
    assert all((rows @ rows.T).min() < 0 for rows in groups)  # there is something to project
    parts = [pcgrad_as_in_the_paper(rows, torch.Generator().manual_seed(gradients["seed"])) for rows in groups]
    found = first_gradient("pcgrad", gradients, num_learners)
    assert close(found, torch.cat(parts))
    assert not close(found, torch.cat([rows.sum(0) for rows in groups]))


@pytest.mark.parametrize("num_learners", [0, 2])
def test_a_users_own_combiner_sees_all_gradients(num_learners: int, gradients: dict[str, Any]) -> None:
    expected = torch.cat([rows.sign().sum(0) * rows.abs().mean(0) for rows in gradients["groups"]])
    assert close(first_gradient(SignVote, gradients, num_learners), expected)


@pytest.mark.parametrize("num_learners", [0, 2])
def test_weights_from_losses_keep_the_single_backward(num_learners: int, gradients: dict[str, Any]) -> None:
    found = first_gradient(LeastLoss(), gradients, num_learners)
    alone = [torch.cat([rows[e] for rows in gradients["groups"]]) for e in range(len(ENVS))]
    assert sum(close(found, gradient) for gradient in alone) == 1


METHODS: dict[str, Any] = {
    name: {"type": name, **({"main": ENVS[0]} if name == "cosine" else {})}
    for name in COMBINERS
    if name not in ("weighted_sum", "pcgrad")
}


def tasks_of(rows: torch.Tensor) -> TaskGradients:
    return TaskGradients(env_ids=ENVS, losses=None, gram=rows @ rows.T, gradients=None, seed=(0,))


@pytest.mark.parametrize("name", METHODS)
def test_methods_combine_each_groups_gradients_alike_on_any_number_of_learners(
    name: str, gradients: dict[str, Any]
) -> None:
    combiner = make_combiner(METHODS[name])
    one, two = (first_gradient(METHODS[name], gradients, num_learners) for num_learners in (0, 2))
    assert close(two, torch.from_numpy(one))
    actor, critic = np.split(one, [gradients["groups"][0].shape[1]])
    for found, rows in zip((actor, critic), gradients["groups"], strict=True):
        if not combiner.of_critic:
            assert close(found, combiner.combine(tasks_of(rows)) @ rows)
    if combiner.of_critic:
        assert close(actor, gradients["groups"][0].sum(0))


def test_weights_are_remembered_between_two_looks_at_gradients(gradients: dict[str, Any]) -> None:
    made = config("mgda", combine_every=2)
    group = made.build_learner_group()
    group.set_weights(gradients["weights"])
    learner = group._learner
    batch = learner.batch_of({env_id: [rollout] for env_id, rollout in gradients["rollouts"].items()})

    def found(number: int, *env_ids: str) -> np.ndarray:
        minibatch = Minibatch(columns={env_id: batch[env_id] for env_id in env_ids}, weights={})
        step = Step(minibatch=minibatch, number=number)
        return torch.cat([g.reshape(-1) for g in learner.gradients(step)]).numpy()

    expected = torch.cat([make_combiner("mgda").combine(tasks_of(rows)) @ rows for rows in gradients["groups"]])
    assert close(found(0, *ENVS), expected)
    assert close(found(1, *ENVS), expected)
    # Another minibatch, still with the weights that were computed for all four.
    alone = torch.cat([make_combiner("mgda").combine(tasks_of(rows))[1] * rows[1] for rows in gradients["groups"]])
    assert close(found(1, ENVS[1]), alone)
    assert not close(found(2, ENVS[1]), alone)


def clipped(gradients: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
    """A norm between those of the environments' gradients, and these clipped by it, for each group."""
    norms = torch.stack([rows.norm(dim=1) for rows in gradients["groups"]])
    limit = float(norms.median())
    assert norms.min() < limit < norms.max()
    return limit, [rows * (limit / rows.norm(dim=1, keepdim=True)).clamp(max=1) for rows in gradients["groups"]]


@pytest.mark.parametrize("num_learners", [0, 1, 2])
@pytest.mark.parametrize("combiner", ["weighted_sum", "pcgrad", SignVote])
def test_each_environments_gradient_is_clipped_by_its_own_norm(
    combiner: Any, num_learners: int, gradients: dict[str, Any]
) -> None:
    limit, groups = clipped(gradients)
    combine = {
        "weighted_sum": lambda rows: rows.sum(0),
        "pcgrad": lambda rows: pcgrad_as_in_the_paper(rows, torch.Generator().manual_seed(gradients["seed"])),
        SignVote: lambda rows: rows.sign().sum(0) * rows.abs().mean(0),
    }[combiner]
    found = first_gradient(combiner, gradients, num_learners, grad_clip=limit, grad_clip_by="environment")
    assert close(found, torch.cat([combine(rows) for rows in groups]))


def test_running_norms_clip_the_later_steps_in_one_backward(gradients: dict[str, Any]) -> None:
    limit, groups = clipped(gradients)
    expected = torch.cat([rows.sum(0) for rows in groups])
    made = config("weighted_sum", grad_clip=limit, grad_clip_by="environment_running")
    group = made.build_learner_group()
    group.set_weights(gradients["weights"])
    learner = group._learner
    batch = learner.batch_of({env_id: [rollout] for env_id, rollout in gradients["rollouts"].items()})
    minibatch = Minibatch(columns=batch, weights={})
    for number in (0, 1, 2):
        flat = torch.cat([g.reshape(-1) for g in learner.gradients(Step(minibatch=minibatch, number=number))])
        assert close(flat.numpy(), expected)
    # Other data: still by the norms that were measured.
    alone = Minibatch(columns={ENVS[0]: batch[ENVS[0]]}, weights={})
    flat = torch.cat([g.reshape(-1) for g in learner.gradients(Step(minibatch=alone, number=1))])
    assert close(flat.numpy(), torch.cat([rows[0] for rows in groups]))


def test_clipping_by_running_norms_is_the_same_for_several_learners(gradients: dict[str, Any]) -> None:
    limit, _ = clipped(gradients)
    weights = []
    for num_learners in (1, 2):
        made = config("weighted_sum", num_learners, grad_clip=limit, grad_clip_by="environment_running")
        group = made.build_learner_group()
        try:
            group.set_weights(gradients["weights"])
            fragments = {env_id: [(ray.put(r), r.steps)] for env_id, r in gradients["rollouts"].items()}
            data = RolloutData.of(fragments, environment_costs(made))
            group.update(training_data=data, timesteps={}, num_epochs=2, num_minibatches=2)
            if num_learners > 1:
                assert_same_parameters(group)
            weights.append(group.get_weights())
        finally:
            group.shutdown()
    for one, other in zip(*(flat_values(tree) for tree in weights), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def flat_values(tree: Any) -> list[np.ndarray]:
    return [v for value in tree.values() for v in flat_values(value)] if isinstance(tree, dict) else [np.asarray(tree)]


def test_clipping_needs_a_norm() -> None:
    with pytest.raises(ValueError, match=r"grad_clip_by='environment': grad_clip must say how large"):
        config("weighted_sum", grad_clip=None, grad_clip_by="environment")


def test_learners_stay_equal_and_environments_come_and_go() -> None:
    with running(config("pcgrad", 2)) as algo:
        algo.train()
        assert_same_parameters(algo.learner_group)
        algo.remove_env(ENVS[0])
        algo.add_env("InvertedPendulum-v4")
        result = algo.train()
        assert_same_parameters(algo.learner_group)
        assert np.isfinite(result["learners"]["InvertedPendulum-v4"]["total_loss"])


@pytest.mark.parametrize("combiner", ["pcgrad", "famo", LeastLoss()])
def test_a_restored_run_continues_as_it_would_have(combiner: Any, tmp_path: Path) -> None:
    assert_goes_on_when_restored(config(combiner, num_minibatches=2, combine_every=3), tmp_path)


def test_running_norms_are_in_checkpoints(tmp_path: Path) -> None:
    assert_goes_on_when_restored(config("weighted_sum", grad_clip=0.1, grad_clip_by="environment_running"), tmp_path)


def test_state_is_in_checkpoints(tmp_path: Path) -> None:
    with running(config(LeastLoss())) as algo:
        algo.train()
        path = algo.save_to_path(tmp_path)
        calls = algo.learner_group._learner.combiner.calls
        assert calls == 2
    with running(config(LeastLoss())) as algo:
        algo.restore_from_path(path)
        assert algo.learner_group._learner.combiner.calls == calls


class Faulty(Combiner):
    needs = frozenset({"gram"})

    def __init__(self, result: Any) -> None:
        self.result = result

    def combine(self, tasks: TaskGradients) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.ones(3), r"Faulty.combine\(\) returned shape \(3,\); a weight for each environment .* shape \(4,\)"),
        ([1.0] * 4, r"Faulty.combine\(\) returned list"),
        (torch.full((4,), torch.nan), "not finite"),
    ],
)
def test_results_of_a_combiner_are_checked(result: Any, message: str) -> None:
    with running(config(Faulty(result))) as algo, pytest.raises(ValueError, match=message):
        algo.train()


class Misspelt(Combiner):
    needs = frozenset({"gramm"})

    def combine(self, tasks: TaskGradients) -> torch.Tensor:
        raise NotImplementedError


def test_names_and_classes() -> None:
    assert isinstance(make_combiner("rllib_multienv.learners.combine:PCGrad"), PCGrad)
    for value, message in (
        (Misspelt, r"Misspelt.needs: there is no 'gramm'.*'gram'"),
        (Faulty, r"gradient_combiner=Faulty: .*'result'.*gradient_combiner=Faulty\(\.\.\.\)"),
        ("no_module:Name", "gradient_combiner='no_module:Name': cannot be imported"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            make_combiner(value)
    assert isinstance(make_combiner("weighted_sum"), WeightedSum)
    assert isinstance(make_combiner(PCGrad), PCGrad)
    with pytest.raises(ValueError, match=r"gradient_combiner='pcgard'.*'pcgrad'"):
        make_combiner("pcgard")
    with pytest.raises(TypeError, match="gradient_combiner=3"):
        make_combiner(3)  # type: ignore[arg-type]
