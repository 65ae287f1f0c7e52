"""Distral's two policies: the product of both columns, and a distilled policy that is not told the environment."""

from __future__ import annotations

import pytest
import torch
from interfaces import any_interface, described, interface, rows_of

from rllib_multienv.nets import DistralNetConfig, GeneratedNetConfig, SpecificNetConfig, net_config_from_dict

INTERFACES = described({"left": interface(4, 3, True), "right": interface(4, 3, True), "arm": interface(6, 2, False)})
OBS = {env_id: rows_of(one, 5) for env_id, one in INTERFACES.items()} | {"right": rows_of(INTERFACES["left"], 5)}


def config(**fields: object) -> DistralNetConfig:
    both = {"tasks": SpecificNetConfig(width=8), "distilled": GeneratedNetConfig(width=8)}
    return DistralNetConfig(**{**both, **fields})  # type: ignore[arg-type]


def test_the_distilled_policy_does_not_know_where_it_is_and_the_tasks_do() -> None:
    torch.manual_seed(0)
    network = config().build(INTERFACES)
    distilled, tasks = network.distilled_policy(OBS), network.policy(OBS)
    assert torch.equal(distilled["left"], distilled["right"])
    assert not torch.equal(tasks["left"], tasks["right"])
    assert torch.equal(tasks["arm"], network.tasks.policy(OBS)["arm"])


def test_two_columns_are_the_product_of_both_policies() -> None:
    torch.manual_seed(0)
    network = config(columns=2, alpha=0.25).build(INTERFACES)
    own, distilled, joined = network.tasks.policy(OBS), network.distilled_policy(OBS), network.policy(OBS)
    torch.testing.assert_close(joined["left"], own["left"] + 0.25 * distilled["left"])
    actions = torch.randn(5, 2)

    def log_density(inputs: torch.Tensor) -> torch.Tensor:
        mean, log_std = inputs.chunk(2, 1)
        return torch.distributions.Normal(mean, log_std.exp()).log_prob(actions).sum(1)

    # Log densities are equal up to the normalisation, which does not depend on the action.
    wanted = log_density(own["arm"]) + 0.25 * log_density(distilled["arm"])
    difference = log_density(joined["arm"]) - wanted
    actions = torch.randn(5, 2)
    again = log_density(joined["arm"]) - log_density(own["arm"]) - 0.25 * log_density(distilled["arm"])
    torch.testing.assert_close(difference, again, rtol=1e-4, atol=1e-4)


def test_gradients_of_two_columns_reach_both() -> None:
    network = config(columns=2).build(INTERFACES)
    network.policy(OBS)["left"].square().sum().backward()
    for part in (network.tasks.actor.middle, network.distilled.actor.blocks):
        assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_environments_come_and_go_and_runners_have_no_values() -> None:
    network = config().build(INTERFACES)
    before = set(network.state_dict())
    network.add_env("new", interface(3, 1, False))
    assert network.policy({"new": torch.zeros(2, 3)})["new"].shape == (2, 2)
    network.remove_env("new")
    assert set(network.state_dict()) == before
    values = {name for name in before if any(name.startswith(f"{part}.") for part in network.critic_only)}
    assert len(network.critic_parameters()) == len(values) > 0
    network.drop_critic()
    assert set(network.state_dict()) == before - values


def test_a_config_survives_its_dictionary() -> None:
    one = config(columns=2, alpha=0.1)
    assert net_config_from_dict(one.to_dict()) == one
    assert net_config_from_dict({"type": "distral", "tasks": {"type": "specific", "width": 8}}).tasks == one.tasks  # type: ignore[attr-defined]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha=1\.0: must be in"):
        config(alpha=1.0)
    with pytest.raises(ValueError, match="a network config without memory"):
        config(tasks=SpecificNetConfig(memory="gru"))
    with pytest.raises(ValueError, match="'mixed': Distral takes a single choice or continuous actions"):
        config().build({"mixed": any_interface(3, [("categorical", 2), ("continuous", 1)])})
