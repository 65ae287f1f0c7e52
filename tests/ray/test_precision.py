"""`precision="bf16"`: matrix products in bfloat16, all else as in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from iql_runs import iql_config, noise, running_iql
from tiny_runs import changed, running, tiny_config, weights
from torch import nn

from rllib_multienv import AgnosticNetConfig

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def dtypes_of_products(algo: Any) -> set[torch.dtype]:
    """Fills up while the algorithm trains."""
    seen: set[torch.dtype] = set()
    for module in algo.learner_group._learner.module.shared.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(
                lambda module, args, out: seen.add(out.dtype) if torch.is_grad_enabled() else None
            )
    return seen


def test_ppo() -> None:
    after = {}
    for precision, dtype in DTYPES.items():
        config = tiny_config(["Reacher-v4"], precision=precision, actor_lr=1e-2, critic_lr=1e-2, num_epochs=1)
        with running(config.rl_module(model_config=AgnosticNetConfig(d_model=16))) as algo:
            seen, before = dtypes_of_products(algo), weights(algo)
            result = algo.train()
            after[precision] = weights(algo)
        assert seen == {dtype}
        assert np.isfinite(result["learners"]["Reacher-v4"]["total_loss"])
        assert all(array.dtype == np.float32 for array in after[precision].values())
    moved = changed(before, after["bf16"])
    assert moved == changed(before, after["float32"])
    steps = [
        np.concatenate([(found[name] - before[name]).ravel() for name in sorted(moved)]) for found in after.values()
    ]
    cosine = steps[0] @ steps[1] / np.prod([np.linalg.norm(step) for step in steps])
    assert 0.9 < cosine < 1.0  # the same way, not the same step


def test_iql_reaches_all_that_is_trained() -> None:
    # V is computed with and without gradients in one step.
    moved = {}
    for precision, dtype in DTYPES.items():
        config = iql_config({"ant": noise(27, 8), "cart": noise(4, 2, discrete=True)}, precision=precision)
        with running_iql(config) as algo:
            seen = dtypes_of_products(algo)
            module = algo.learner_group._learner.module.shared
            before = {name: p.detach().clone() for name, p in module.named_parameters()}
            algo.train()
            moved[precision] = {
                name
                for name, p in module.named_parameters()
                # A constant added to all logits has no gradient but for rounding.
                if "decoders.logits" not in name and not torch.equal(p, before[name])
            }
        assert seen == {dtype}
    assert moved["bf16"] == moved["float32"]
    assert any("critic" in name for name in moved["bf16"])


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"precision='fp16': must be 'float32' or 'bf16'"):
        tiny_config(precision="fp16").validate()
