"""Names of parameters tell which environment they belong to, whatever its id."""

import pytest
import torch
from torch import nn

from rllib_multienv.nets.parameters import env_key, environment_of, insert_part, owning_environments


@pytest.mark.parametrize("env_id", ["CartPole-v1", "a.b", "%2E", "%252E.", ".", "keys", "0", "a b é", "env%"])
def test_an_id_comes_back_from_the_name(env_id: str) -> None:
    for parts in (nn.ModuleDict(), nn.ParameterDict()):
        root = nn.Module()
        root.inner = parts
        part = nn.Linear(1, 1) if isinstance(parts, nn.ModuleDict) else nn.Parameter(torch.zeros(1))
        insert_part(parts, env_id, part)
        names = [name for name, _ in root.named_parameters()]
        assert names and {environment_of(name) for name in names} == {env_id}
        assert parts[env_key(env_id)] is part


def test_different_ids_have_different_keys() -> None:
    ids = ["a.b", "a%2Eb", "a%252Eb", "a b", "a-b"]
    assert len({env_key(env_id) for env_id in ids}) == len(ids)


def test_shared_parameters_belong_to_none() -> None:
    names = ["actor.middle.blocks.0.weight", "actor.encoder.env:a%2Eb.weight", "environment.weight"]
    assert [environment_of(name) for name in names] == [None, "a.b", None]
    assert owning_environments(names) == {"a.b"}


def test_parts_are_sorted() -> None:
    parts = nn.ParameterDict()
    for env_id in ("c", "a", "b"):
        insert_part(parts, env_id, nn.Parameter(torch.zeros(1)))
    assert list(parts.state_dict()) == ["env:a", "env:b", "env:c"]
    assert [name for name, _ in parts.named_parameters()] == ["env:a", "env:b", "env:c"]
