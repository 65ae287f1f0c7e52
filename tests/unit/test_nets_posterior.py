"""The posterior over tasks: a product of Gaussian factors, the same from a set and step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rllib_multienv import AgnosticNetConfig, EnvSpec, GeneratedNetConfig, SpaceSpec
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.nets import Inputs, NetConfig, Posterior, PosteriorNetConfig, net_config_from_dict
from rllib_multienv.nets.posterior import PosteriorActorCritic

D = 2
SMALL = GeneratedNetConfig(width=8, depth=1, generator_width=8, code_size=8)
POINT = SpaceSpec.from_spaces("point", gym.spaces.Box(-9, 9, (2,)), gym.spaces.Box(-1, 1, (2,)))
GRID = SpaceSpec.from_spaces("grid", gym.spaces.Box(0, 4, (3,)), gym.spaces.Discrete(4))


def built(network: NetConfig = SMALL, **fields: Any) -> PosteriorActorCritic:
    """A network for two unlike environments."""
    torch.manual_seed(0)
    config = PosteriorNetConfig(network=network, belief_size=D, **fields)
    return config.build({spaces.env_id: spaces.with_inputs(config.inputs) for spaces in (POINT, GRID)})


def sets(network: PosteriorActorCritic, tasks: int, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random observations before and after ``size`` transitions of each of ``tasks`` tasks: ``[tasks * size, I]``."""
    generator = torch.Generator().manual_seed(1)
    before, after = (
        {
            e: Inputs(torch.randn(tasks * size, one.obs_size, generator=generator))
            for e, one in network.interfaces.items()
        }
        for _ in range(2)
    )
    return before, after


def every(network: PosteriorActorCritic, tasks: int, size: int) -> dict[str, torch.Tensor]:
    return {env_id: torch.ones(tasks, size, dtype=torch.bool) for env_id in network.interfaces}


@pytest.mark.parametrize("net", [SMALL, AgnosticNetConfig(d_model=8, d_state=4)], ids=lambda net: net.type)
def test_neither_the_order_of_a_context_nor_padding_matters(net: NetConfig) -> None:
    network = built(net)
    before, after = sets(network, tasks=3, size=5)
    expected = network.memory.infer(before, after, every(network, 3, 5))
    order = torch.tensor([4, 0, 3, 1, 2, -1, -1])  # and two transitions that are not there

    def shuffled(inputs: dict[str, Inputs]) -> dict[str, Inputs]:
        return {e: Inputs(own.numbers.unflatten(0, (3, 5))[:, order].flatten(0, 1)) for e, own in inputs.items()}

    found = network.memory.infer(shuffled(before), shuffled(after), {e: (order >= 0).expand(3, 7) for e in before})
    for env_id, posterior in expected.items():
        for own, other in zip(posterior, found[env_id], strict=True):
            torch.testing.assert_close(own, other)


def test_a_posterior_is_the_normalised_product_of_its_factors() -> None:
    network = built()
    before, after = sets(network, tasks=1, size=4)
    ((_, posterior), _) = sorted(network.memory.infer(before, after, every(network, 1, 4)).items(), reverse=True)
    rows = [
        network.memory.network.encode_inputs({"point": Inputs(one["point"].numbers[:, :-D])}) for one in (before, after)
    ]
    precision, weighted = network.memory.core.factors(*rows)  # [4, D] each
    factors = torch.distributions.Normal((weighted / precision).double(), precision.double() ** -0.5)
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)[:, None, None]
    density = factors.log_prob(grid).sum(1).exp()  # [G, D]
    density = density / density.sum(0)
    mean = (grid[:, 0] * density).sum(0)
    variance = ((grid[:, 0] - mean).square() * density).sum(0)
    torch.testing.assert_close(posterior.mean[0].double(), mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(posterior.variance[0].double(), variance, atol=1e-4, rtol=1e-4)
    normal = torch.distributions.Normal(posterior.mean, posterior.variance.sqrt())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(posterior.kl_to_prior(), kl)


def test_without_a_factor_the_posterior_is_the_prior() -> None:
    posterior = Posterior.of(torch.zeros(1, D), torch.zeros(1, D))
    assert posterior.mean.tolist() == [[0.0] * D] and posterior.variance.tolist() == [[1.0] * D]
    assert posterior.kl_to_prior().tolist() == [0.0]


def trial(network: PosteriorActorCritic, ends: list[bool]) -> torch.Tensor:
    """Observations ``[T, 1, I]`` of a trial in which episodes have ended before some of them."""
    spaces = network.interfaces["point"]
    assert isinstance(spaces, SpaceSpec)
    rows = torch.randn(len(ends), 1, spaces.obs_size, generator=torch.Generator().manual_seed(2))
    rows[:, 0, spaces.columns_of("previous_done")] = torch.tensor(ends, dtype=torch.float32)[:, None]
    return rows


def latents(network: PosteriorActorCritic, rows: torch.Tensor) -> list[torch.Tensor]:
    """The latent ``[1, D]`` in each time step."""
    state, found = None, []
    for row in rows:
        state = network({"point": row}, state).state
        width = network.memory.core.width
        found.append(state["point"][:, width + 2 * D : width + 3 * D])
    return found


def test_an_agent_draws_from_the_posterior_of_what_it_has_seen_of_the_trial() -> None:
    network = built(exploration_episodes=1)
    rows = trial(network, [False, False, False, True, False, True])
    found = latents(network, rows)
    torch.testing.assert_close(found[0], rows[0, :, -D:])  # the prior, made of the noise
    for t in (1, 2, 4):
        torch.testing.assert_close(found[t], found[t - 1])  # the same for a whole episode
    for t in (3, 5):  # t transitions have been seen
        before, after = ({"point": Inputs(part[:, 0])} for part in (rows[:t], rows[1 : t + 1]))
        posterior = network.memory.infer(before, after, {"point": torch.ones(1, t, dtype=torch.bool)})["point"]
        torch.testing.assert_close(found[t], posterior.sample(rows[t, :, -D:]))


def test_exploration_episodes_are_played_with_the_prior() -> None:
    rows = trial(network := built(exploration_episodes=2), [False, True, False, True])
    found = latents(network, rows)
    torch.testing.assert_close(found[1], rows[1, :, -D:])
    assert not torch.allclose(found[3], rows[3, :, -D:])


def test_rewards_can_be_kept_from_the_encoder() -> None:
    for sees in (True, False):
        network = built(encoder_sees_reward=sees)
        before, after = sets(network, tasks=1, size=3)
        expected = network.memory.infer(before, after, every(network, 1, 3))["point"].mean
        spaces = network.interfaces["point"]
        assert isinstance(spaces, SpaceSpec)
        for name, seen in (("previous_action", True), ("previous_reward", sees)):
            other = {e: Inputs(own.numbers.clone()) for e, own in after.items()}
            other["point"].numbers[:, spaces.columns_of(name)] += 1.0
            found = network.memory.infer(before, other, every(network, 1, 3))["point"].mean
            assert torch.equal(found, expected) is not seen


def test_policy_and_values_see_nothing_of_the_past_but_the_latent_and_what_is_asked_for() -> None:
    network = built()
    rows = torch.randn(4, network.interfaces["point"].obs_size)
    other = rows.clone()
    other[:, 2:-D] += 1.0  # the previous inputs
    one, two = (network({"point": own}) for own in (rows, other))
    torch.testing.assert_close(one.policy["point"], two.policy["point"])
    torch.testing.assert_close(one.values["point"], two.values["point"])
    other[:, -D:] += 1.0
    assert not torch.allclose(network({"point": other}).policy["point"], one.policy["point"])
    network = built(replace(SMALL, inputs=("previous_reward",)))
    other = rows.clone()
    other[:, 2:4] += 1.0  # the previous action
    torch.testing.assert_close(network({"point": other}).policy["point"], network({"point": rows}).policy["point"])
    other[:, 4] += 1.0
    assert not torch.allclose(network({"point": other}).policy["point"], network({"point": rows}).policy["point"])


def test_a_packed_forward_equals_separate_ones() -> None:
    network = built()
    obs = {e: torch.randn(n, one.obs_size) for n, (e, one) in enumerate(network.interfaces.items(), 2)}
    together = network(obs)
    for env_id, rows in obs.items():
        alone = network({env_id: rows})
        torch.testing.assert_close(together.policy[env_id], alone.policy[env_id])
        torch.testing.assert_close(together.state[env_id], alone.state[env_id])


def test_no_parameter_belongs_to_an_environment() -> None:
    network = built()
    before = {name: value.shape for name, value in network.named_parameters()}
    added = replace(POINT, env_id="added", description="added").with_inputs(network.config.inputs)
    network.add_env("added", added)
    assert {name: value.shape for name, value in network.named_parameters()} == before
    assert network({"added": torch.randn(3, added.obs_size)}).policy["added"].shape == (3, 4)
    network.remove_env("added")
    with pytest.raises(KeyError, match="added"):
        network({"added": torch.randn(3, added.obs_size)})


def test_the_config_survives_a_file_and_refuses_what_it_cannot_have() -> None:
    config = PosteriorNetConfig(network=SMALL, belief_size=3, exploration_episodes=2)
    assert net_config_from_dict(config.to_dict()) == config and config.inputs[-1] == "noise:3"
    with pytest.raises(ValueError, match="memory='gru': must be None in PEARL's network"):
        PosteriorNetConfig(network=GeneratedNetConfig(memory="gru"))
    with pytest.raises(ValueError, match="latents cannot be measured"):
        PosteriorNetConfig(network=GeneratedNetConfig(descriptions="measured"))


def test_noise_is_drawn_for_each_episode_and_goes_on_after_a_restore() -> None:
    spec = EnvSpec("point", make="multienv/PointSemicircle-v0", kwargs={"horizon": 3}, trial_episodes=2)

    def run(copies: EnvCopies, steps: int) -> np.ndarray:
        return np.stack([copies.step(np.zeros((4, 2), np.float32)).obs[:, -D:] for _ in range(steps)])

    copies = EnvCopies(spec, 4, seed=0, inputs=("noise:2",))
    first = copies.reset()[None, :, -D:]
    seen = np.concatenate([first, run(copies, 4)])  # [5, 4, D]
    assert (seen[:3] == seen[0]).all() and (seen[3:] == seen[3]).all()
    assert len(np.unique(seen)) == 2 * 4 * D  # of each copy and episode another
    state = copies.snapshot()
    expected = run(copies, 6)
    other = EnvCopies(spec, 4, seed=1, inputs=("noise:2",))
    other.reset()
    other.restore(state)
    np.testing.assert_array_equal(run(other, 6), expected)
