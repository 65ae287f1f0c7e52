"""Position codes and the task context come from an environment's description, the same in every process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from interfaces import described, interface

from rllib_multienv.nets import AgnosticNetConfig
from rllib_multienv.nets.context import (
    CONTEXT_SIZE,
    TaskContext,
    component_codes,
    describe,
    position_codes,
    position_features,
)


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


def test_codes_are_signs_and_the_same_in_every_process() -> None:
    assert position_codes("CartPole-v1", 4, 6).tolist() == [
        [-1, -1, -1, 1, 1, -1],
        [-1, 1, -1, -1, 1, -1],
        [-1, 1, -1, -1, 1, 1],
        [-1, -1, 1, -1, 1, -1],
    ]


def test_the_code_of_a_component_does_not_depend_on_how_many_there_are() -> None:
    long = position_codes("Ant-v4", 400, 32)
    for length in (1, 3, 27, 111):
        assert torch.equal(position_codes("Ant-v4", length, 32), long[:length])


def test_codes_of_other_environments_and_positions_are_nearly_orthogonal() -> None:
    codes = torch.cat([position_codes(env_id, 20, 256) for env_id in ("Ant-v4", "Ant-v5", "CartPole-v1")])
    cosines = codes @ codes.T / 256
    assert cosines.fill_diagonal_(0.0).abs().max() < 0.35


def test_features_of_a_position_are_followed_by_its_codes() -> None:
    found = AgnosticNetConfig(position_codes=8).of_components(interface(5, 2, False, description="Ant-v4"))
    assert torch.equal(found[:, :17], position_features(5, 17))
    assert torch.equal(found[:, 17:], position_codes("Ant-v4", 5, 8))


@pytest.mark.parametrize(("codes", "same"), [(0, True), (32, False)])
def test_equal_observations_of_two_environments_are_encoded_apart(codes: int, same: bool) -> None:
    interfaces = described({"one": interface(6, 2, False), "two": interface(6, 2, False)})
    net = AgnosticNetConfig(d_model=16, context="none", position_codes=codes).build(interfaces)
    obs = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    values = net.value({"one": obs, "two": obs})
    assert torch.allclose(values["one"], values["two"], atol=1e-6) is same


def test_each_output_is_read_from_half_of_the_features() -> None:
    config, names = AgnosticNetConfig(d_model=256), ("Ant-v4", "Ant-v5", "CartPole-v1")
    readouts = torch.cat([config.of_actions(interface(5, 10, False, description=name))[:, 256:] for name in names])
    assert set(readouts.unique().tolist()) == {0.0, 2.0}
    shared = readouts @ readouts.T / (4 * 256)
    assert (shared.diagonal() - 0.5).abs().max() < 0.12
    assert (shared.fill_diagonal_(0.25) - 0.25).abs().max() < 0.12


@pytest.mark.parametrize(("codes", "same"), [(0, True), (32, False)])
def test_equal_vectors_of_two_environments_are_decoded_apart(codes: int, same: bool) -> None:
    interfaces = described({"one": interface(1, 2, False), "two": interface(1, 2, False)})
    net = AgnosticNetConfig(d_model=16, context="none", position_codes=codes).build(interfaces)
    with torch.no_grad():  # an encoder that gives every observation the same vector
        net.actor.encoder.lift.weight.zero_()
    policy = net.policy({"one": torch.zeros(1, 1), "two": torch.zeros(1, 1)})
    assert torch.allclose(policy["one"], policy["two"], atol=1e-6) is same


@pytest.mark.parametrize("std_of_state", [False, True])
def test_outputs_start_near_zero_whatever_they_are_read_from(std_of_state: bool) -> None:
    interfaces = described({"a": interface(6, 5, False), "b": interface(4, 3, True)})
    torch.manual_seed(0)
    net = AgnosticNetConfig(d_model=32, position_codes=32, state_dependent_std=std_of_state).build(interfaces)
    policy, value, *_ = net({"a": torch.randn(64, 6), "b": torch.randn(64, 4)})
    assert policy["a"][:, :5].abs().max() < 0.3
    assert (policy["a"][:, 5:] + 0.5).abs().max() < 0.3
    assert policy["b"].abs().max() < 0.3
    assert max(v.abs().max() for v in value.values()) < 0.3


def test_no_parameter_belongs_to_an_environment() -> None:
    one = {"a": interface(6, 2, False)}
    many = {**one, "b": interface(300, 17, False), "c": interface(4, 2, True)}
    nets = [AgnosticNetConfig(d_model=16, position_codes=32).build(interfaces) for interfaces in (one, many)]
    sizes = [{name: p.shape for name, p in net.named_parameters()} for net in nets]
    assert sizes[0] == sizes[1]


def test_as_in_the_paper_there_are_none() -> None:
    assert AgnosticNetConfig.paper().position_size == 1
    assert AgnosticNetConfig.paper().position_codes == 0


def test_codes_of_words_are_nearly_the_same_in_all_environments_and_in_any_order() -> None:
    names = ("velocity hinge thigh", "position slide cart")
    first = component_codes("Hopper-v4", names, (), 2, 512, "auto")
    second = component_codes("Walker2d-v4", names[::-1], (), 2, 512, "auto").flip(0)
    cosines = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=2)
    assert cosines.diagonal().min() > 0.85
    assert cosines[0, 1].abs() < 0.2 and cosines[1, 0].abs() < 0.2
    assert not torch.equal(first, second)
    assert (first.square().mean(1) - 1).abs().max() < 0.3
    # Components that share words are alike, and without words or with kind "id" only the position counts.
    alike = component_codes("a", ("velocity hinge thigh", "velocity hinge shin"), (), 2, 512, "auto")
    assert 0.4 < torch.nn.functional.cosine_similarity(*alike, dim=0) < 0.8
    for kind, given in (("id", names), ("auto", ())):
        assert torch.equal(component_codes("a", given, (), 2, 8, kind), position_codes("a", 2, 8))
