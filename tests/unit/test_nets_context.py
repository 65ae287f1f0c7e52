"""The computed task context describes an environment the same way everywhere."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from interfaces import interface

from rllib_multienv.nets.context import CONTEXT_SIZE, TaskContext, describe, with_named_rows


def _interface(
    description: str, obs_size: int = 4, action_size: int = 2, discrete: bool = False, bound: float = 1.0
) -> Any:
    return interface(obs_size, action_size, discrete, bound, description)


def test_same_in_another_process() -> None:
    program = (
        "from types import SimpleNamespace as S; from rllib_multienv.nets.context import describe;"
        "i = S(description='Reacher-v4', obs_size=4, action_size=2, discrete=False,"
        " action_low=(-1.0,) * 2, action_high=(1.0,) * 2);"
        "print(repr(describe(i).tolist()))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == repr(describe(_interface("Reacher-v4")).tolist())


def test_every_part_of_the_description_matters() -> None:
    base = describe(_interface("Hopper-v4"))
    assert base.shape == (CONTEXT_SIZE,)
    others = [
        describe(_interface("Walker-v4")),
        describe(_interface("Hopper-v4", obs_size=5)),
        describe(_interface("Hopper-v4", action_size=3)),
        describe(_interface("Hopper-v4", discrete=True)),
        describe(_interface("Hopper-v4", bound=2.0)),
    ]
    assert all(not torch.equal(base, other) for other in others)


def test_alike_names_have_alike_contexts() -> None:
    ant, ant5, pong = (describe(_interface(name)) for name in ("Ant-v4", "Ant-v5", "ALE-Pong"))
    assert (ant - ant5).norm() < (ant - pong).norm()


def test_huge_and_infinite_sizes_stay_moderate() -> None:
    assert describe(_interface("x" * 300, 376, 17, bound=1e6)).abs().max() < 30
    assert describe(_interface("x", bound=float("inf"))).isfinite().all()


def test_embedding_rows_of_remaining_environments_stay() -> None:
    context = TaskContext("embedding", 4)
    for name in ("c", "b.1", "a"):
        context.add_env(name, _interface(name))
    row = context.rows["env:c"]
    context.remove_env("b.1")
    context.add_env("c", _interface("c"))
    out = context(torch.zeros(1, 4), ("c",), torch.ones(1, 1))
    assert torch.equal(out[0], row)
    assert list(context.state_dict()) == ["rows.env:a", "rows.env:c"]
    assert context.rows["env:c"] is row


def test_rows_of_earlier_versions_get_the_names_of_their_environments() -> None:
    numbered = {f"actor.context.rows.{i}": torch.full((4,), float(i)) for i in range(11)}
    numbered |= {"critic.context.rows.1": torch.ones(4), "actor.res_mlp.blocks.0": torch.zeros(4)}
    named = with_named_rows(numbered, ["one", *(f"{i}.x" for i in range(1, 11))])
    assert named["actor.context.rows.env:one"][0] == 0
    assert named["actor.context.rows.env:10%2Ex"][0] == 10
    assert named["critic.context.rows.env:1%2Ex"][0] == 1
    assert "actor.res_mlp.blocks.0" in named and len(named) == len(numbered)
    assert with_named_rows(named, []) == named


def test_numbered_rows_are_refused_even_where_names_may_differ() -> None:
    context = TaskContext("embedding", 4)
    context.add_env("a", _interface("a"))
    with pytest.raises(ValueError, match=r"earlier version.*initialize_from"):
        context.load_state_dict({"rows.0": torch.zeros(4)}, strict=False)
