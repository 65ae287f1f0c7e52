"""IQL's losses against the equations, and what each of them trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rllib_multienv.algorithms.iql.loss import MAX_WEIGHT, iql_loss, policy_weights
from rllib_multienv.nets import Categorical

TERMS = {
    "values": torch.tensor([1.0, 2.0, 3.0, 0.0]),
    "next_values": torch.tensor([2.0, 4.0, 6.0, 8.0]),
    "q_values": torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 2.0]]),
    "target_q_values": torch.tensor([[2.0, 1.0, 3.5, 5.0], [3.0, 4.0, 3.0, 9.0]]),
    "distribution": Categorical(torch.zeros(4, 2)),
    "actions": torch.tensor([0, 1, 0, 1]),
    "rewards": torch.tensor([1.0, 0.0, 0.0, 1.0]),
    "terminals": torch.tensor([False, False, False, True]),
    "gamma": 0.5,
    "expectile": 0.7,
    "weights": torch.tensor([1.0, 2.0, 3.0, 6.0]),
}


def test_terms_are_those_of_the_equations() -> None:
    loss = iql_loss(**TERMS)
    # The smaller target is 2, 1, 3, 5; so advantages are 1, -1, 0, 5.
    assert loss.value.item() == pytest.approx((0.7 * 1 + 0.3 * 1 + 0.0 + 0.7 * 25) / 4)
    # Targets of Q are 1 + 0.5 * 2, 0.5 * 4, 0.5 * 6 and, after a terminal state, the reward alone.
    assert loss.q.item() == pytest.approx((1 + 1 + 4 + 0) / 4 + (4 + 0 + 9 + 1) / 4)
    assert loss.policy.item() == pytest.approx(3.0 * np.log(2), rel=1e-6)
    assert loss.advantage.item() == pytest.approx(5 / 4)
    assert loss.total.item() == pytest.approx((loss.value + loss.q + loss.policy).item())


def test_what_values_explain_is_of_the_targets_variance() -> None:
    loss = iql_loss(**TERMS)
    variance = np.var([2, 1, 3, 5])  # of the smaller target
    assert loss.value_explained.item() == max(-1.0, 1 - (1 + 1 + 0 + 25) / 4 / variance) == -1.0
    # Of both estimates together, targets are 2, 2, 3, 1.
    expected = 1 - ((1 + 1 + 4 + 0) / 4 + (4 + 0 + 9 + 1) / 4) / 2 / np.var([2, 2, 3, 1])
    assert loss.q_explained.item() == max(-1.0, expected) == -1.0
    near = {**TERMS, "values": torch.tensor([2.0, 1.0, 3.0, 4.0]), "q_values": torch.tensor([[2.0, 2.0, 3.0, 2.0]] * 2)}
    loss = iql_loss(**near)
    assert loss.value_explained.item() == pytest.approx(1 - 1 / 4 / variance)
    assert loss.q_explained.item() == pytest.approx(1 - 1 / 4 / np.var([2, 2, 3, 1]))
    assert not loss.value_explained.requires_grad and not loss.q_explained.requires_grad


def test_where_nothing_varies_nothing_is_divided_by_zero() -> None:
    same = {"rewards": torch.zeros(4), "next_values": torch.zeros(4), "q_values": torch.zeros(2, 4)}
    same |= {"values": torch.zeros(4), "target_q_values": torch.zeros(2, 4)}
    loss = iql_loss(**{**TERMS, **same})
    assert (loss.value_explained.item(), loss.q_explained.item()) == (1.0, 1.0)


def test_weights_are_exponential_and_bounded() -> None:
    values = TERMS["values"].clone().requires_grad_()
    weights = policy_weights(values=values, target_q_values=TERMS["target_q_values"], beta=2.0)
    assert not weights.requires_grad
    np.testing.assert_allclose(weights, [np.exp(2.0), np.exp(-2.0), 1.0, MAX_WEIGHT], rtol=1e-6)


def test_expectile_one_half_is_least_squares() -> None:
    error = TERMS["target_q_values"].min(0).values - TERMS["values"]
    loss = iql_loss(**{**TERMS, "expectile": 0.5})
    assert loss.value.item() == pytest.approx(0.5 * error.square().mean().item())


def test_no_two_terms_reach_the_same_tensor() -> None:
    leaves = {name: TERMS[name].clone().requires_grad_() for name in ("values", "q_values")}
    logits = torch.zeros(4, 2, requires_grad=True)
    loss = iql_loss(**{**TERMS, **leaves, "distribution": Categorical(logits)})
    everything = [leaves["values"], leaves["q_values"], logits]
    for term, own in ((loss.value, 0), (loss.q, 1), (loss.policy, 2)):
        gradients = torch.autograd.grad(term, everything, retain_graph=True, allow_unused=True)
        reached = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
        assert reached == [place == own for place in range(3)]
