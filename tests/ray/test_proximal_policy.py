"""Fragments of an older policy: PPO clips against the policy before the update and weights rows by both."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from tiny_runs import learner_batch, make_runner, tiny_config

from rllib_multienv.algorithms.ppo.loss import ppo_loss
from rllib_multienv.algorithms.ppo.proximal_policy import IMPORTANCE_WEIGHTS, MAX_IMPORTANCE_WEIGHT
from rllib_multienv.nets import DiagGaussian

ENVS = ("CartPole-v1", "Reacher-v4")


def learner_batches(noise: float) -> tuple[Any, Any, Any]:
    """What learners get of one fragment, as sampled and corrected, with all parameters moved by ``noise`` since."""
    torch.manual_seed(0)
    plain = tiny_config(ENVS)
    runner = make_runner(plain)
    rollouts = runner.sample_rollouts()
    module = plain.get_multi_rl_module_spec().build()
    module.set_state(runner.module.get_state())
    with torch.no_grad():
        for parameter in module.shared.parameters():
            parameter += noise * torch.randn_like(parameter)
    ahead = plain.copy(copy_frozen=False).env_runners(num_env_runners=1, sample_ahead=True)
    sampled, corrected = (learner_batch(config, module, rollouts) for config in (plain, ahead))
    return sampled, corrected, module


def test_the_same_policy_has_weights_of_one() -> None:
    sampled, corrected, _ = learner_batches(noise=0.0)
    for env_id in ENVS:
        assert IMPORTANCE_WEIGHTS not in sampled[env_id]
        torch.testing.assert_close(corrected[env_id][IMPORTANCE_WEIGHTS], torch.ones(32), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(corrected[env_id][Columns.ACTION_LOGP], sampled[env_id][Columns.ACTION_LOGP])


def test_rows_count_by_how_likely_the_new_policy_finds_them() -> None:
    sampled, corrected, module = learner_batches(noise=0.3)
    outputs = module.shared.forward_train(corrected)
    for env_id in ENVS:
        inputs = outputs[env_id][Columns.ACTION_DIST_INPUTS].detach()
        distribution = module[env_id].get_train_action_dist_cls().from_logits(inputs)
        logp = distribution.logp(sampled[env_id][Columns.ACTIONS])
        ratios = torch.exp(logp - sampled[env_id][Columns.ACTION_LOGP])
        assert (ratios - 1.0).abs().max() > 0.2  # or nothing would be clipped
        torch.testing.assert_close(corrected[env_id][Columns.ACTION_LOGP], logp)
        torch.testing.assert_close(corrected[env_id][Columns.ACTION_DIST_INPUTS], inputs)
        torch.testing.assert_close(corrected[env_id][IMPORTANCE_WEIGHTS], ratios.clamp(max=MAX_IMPORTANCE_WEIGHT))


def gradient(old_logp: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Of the loss by the mean of a Gaussian at 0, for the actions 1 and -1 with advantages of 1 and -1."""
    mean = torch.zeros(2, 1, requires_grad=True)
    inputs = torch.cat([mean, torch.zeros(2, 1)], 1)
    loss = ppo_loss(
        distribution=DiagGaussian.from_logits(inputs),
        actions=torch.tensor([[1.0], [-1.0]]),
        old_logp=old_logp,
        advantages=torch.tensor([1.0, -1.0]),
        value_loss=torch.zeros(()),
        clip_param=0.2,
        vf_loss_coeff=0.0,
        entropy_coeff=0.0,
        importance_weights=weights,
    )
    loss.total.backward()
    return mean.grad[:, 0]


def test_a_row_that_the_policy_has_come_to_like_is_not_clipped_before_the_first_step() -> None:
    now = DiagGaussian.from_logits(torch.zeros(2, 2)).logp(torch.tensor([[1.0], [-1.0]]))
    likelier = now - torch.log(torch.tensor([1.5, 0.5]))  # ratios to the policy that sampled of 1.5 and 0.5
    assert gradient(likelier, None).tolist() == [0.0, 0.0]
    # d/dmean of -w A logp is -w A (a - mean) / std^2, over two rows: -1/2 * 1.5 * 1 and -1/2 * 0.5 * -1 * -1.
    torch.testing.assert_close(gradient(now, torch.tensor([1.5, 0.5])), torch.tensor([-0.75, -0.25]))
    torch.testing.assert_close(gradient(now, None), torch.tensor([-0.5, -0.5]))
