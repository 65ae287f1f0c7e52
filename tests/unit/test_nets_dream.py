"""DREAM's network: the phases of a trial, what each policy sees, and where gradients go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from interfaces import described, interface
from torch import Tensor, nn

from rllib_multienv.nets import DreamNetConfig, GeneratedNetConfig, SpecificNetConfig, net_config_from_dict
from rllib_multienv.nets.dream import DreamActorCritic, Label

INTERFACES = described({"grid": interface(6, 3, True), "arm": interface(9, 2, False)})
STEPS, COPIES, SIZE = 8, 3, 4


def build(**policy: object) -> DreamActorCritic:
    torch.manual_seed(0)
    small = GeneratedNetConfig(width=16, depth=1, generator_width=8, code_size=8, **policy)  # type: ignore[arg-type]
    return DreamNetConfig(policy=small, embedding_size=SIZE).build(INTERFACES).eval()


def trials() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Observations ``[T, B, I]`` that end with the previous end flag, and where trials begin.

    Copy 0 explores in steps 0 to 2, copy 1 in 0 to 1 and, in another trial, from step 5 on, copy 2 all the time.
    """
    generator = torch.Generator().manual_seed(1)
    obs, first = {}, {}
    for env_id, one in INTERFACES.items():
        obs[env_id] = torch.randn(STEPS, COPIES, one.obs_size, generator=generator)
        obs[env_id][..., -1] = 0.0
        for step, copy in ((3, 0), (6, 0), (2, 1)):
            obs[env_id][step, copy, -1] = 1.0
        first[env_id] = torch.zeros(STEPS, COPIES, dtype=torch.bool)
        first[env_id][0] = True
        first[env_id][5, 1] = True
    return obs, first


def labels(told: bool) -> dict[str, Label]:
    """Labels of two sizes."""
    generator = torch.Generator().manual_seed(2)
    rows = STEPS * COPIES
    return {
        env_id: Label(
            torch.randn(rows, size, generator=generator),
            torch.randn(rows, SIZE, generator=generator),
            torch.full((rows,), told),
        )
        for env_id, size in (("grid", 2), ("arm", 7))
    }


def flat(obs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {env_id: own.flatten(0, 1) for env_id, own in obs.items()}


def has_gradient(parameters: Iterable[nn.Parameter]) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in parameters)


def test_an_episode_explores_and_those_after_it_exploit() -> None:
    obs, first = trials()
    exploring = build()(flat(obs), first=first).extra["grid"]["exploring"].view(STEPS, COPIES)
    assert exploring.T.int().tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1, 1, 1], [1] * 8]


@pytest.mark.parametrize("memory", ["gru", "s4"])
def test_the_steps_of_a_runner_are_those_of_a_learners_sequence(memory: str) -> None:
    network, (obs, first) = build(memory=memory), trials()
    expected = network(flat(obs), first=first)
    state = network.initial_state(dict.fromkeys(obs, COPIES))
    for t in range(STEPS):
        fresh = network.initial_state(dict.fromkeys(obs, COPIES))
        state = {e: torch.where(first[e][t][:, None], fresh[e], own) for e, own in state.items()}
        found = network({env_id: own[t] for env_id, own in obs.items()}, state)
        state = found.state
        for env_id in obs:
            for name in ("policy", "values"):
                whole = getattr(expected, name)[env_id].unflatten(0, (STEPS, COPIES))[t]
                torch.testing.assert_close(getattr(found, name)[env_id], whole, atol=1e-5, rtol=1e-4)


def test_a_trial_that_goes_over_two_sequences_is_continued() -> None:
    network, (obs, first) = build(), trials()
    whole = network(flat(obs), first=first)
    early = network(flat({e: own[:4] for e, own in obs.items()}), first={e: own[:4] for e, own in first.items()})
    late = network(flat({e: own[4:] for e, own in obs.items()}), early.state, {e: own[4:] for e, own in first.items()})
    for env_id in obs:
        joined = torch.cat([early.policy[env_id], late.policy[env_id]])
        torch.testing.assert_close(joined, whole.policy[env_id], atol=1e-5, rtol=1e-4)


def test_what_was_inferred_holds_after_the_first_step_that_follows_the_exploration_episode() -> None:
    network, (obs, first) = build(), trials()
    inferred = network(flat(obs), first=first).extra["arm"]["inferred"].view(STEPS, COPIES, SIZE)
    changes = (inferred[1:] - inferred[:-1]).abs().amax(-1) > 0  # [T - 1, B]
    assert changes.T.int().tolist() == [[1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1, 1], [1] * 7]


def test_the_label_changes_what_the_exploiter_does_where_it_is_told_and_never_the_explorer() -> None:
    network, (obs, first) = build(), trials()
    exploring = network(flat(obs), first=first).extra["grid"]["exploring"]
    without, untold, told = (
        network(flat(obs), first=first, labels=given).policy["grid"] for given in (None, labels(False), labels(True))
    )
    assert torch.equal(without, untold)
    assert torch.equal(without[exploring], told[exploring])
    assert (without[~exploring] != told[~exploring]).any(1).all()


def test_no_gradient_leaves_the_part_whose_objective_it_is() -> None:
    for number, name in enumerate(("explorer", "exploiter")):
        network, (obs, first) = build(), trials()
        outputs = network(flat(obs), first=first, labels=labels(True))
        for env_id in obs:
            rows = outputs.extra[env_id]["exploring"] == (number == 0)
            (outputs.policy[env_id][rows].sum() + outputs.values[env_id][rows].sum()).backward(retain_graph=True)
        assert {n for n, child in network.named_children() if has_gradient(child.parameters())} == (
            {"explorer"} if name == "explorer" else {"exploiter", "labels"}
        )


def test_labels_have_no_gradient_from_trials_that_are_not_told() -> None:
    network, (obs, first) = build(), trials()
    outputs = network(flat(obs), first=first, labels=labels(False))
    sum(policy.sum() for policy in outputs.policy.values()).backward()  # type: ignore[union-attr]
    assert not has_gradient(network.labels.parameters())
    assert not has_gradient(network.memory.parameters())  # type: ignore[union-attr]


def test_environments_with_images_and_networks_of_other_kinds() -> None:
    network = DreamNetConfig(policy=SpecificNetConfig(width=8), embedding_size=SIZE).build(INTERFACES)
    obs, first = trials()
    assert network(flat(obs), first=first).policy["arm"].shape == (STEPS * COPIES, 4)


def test_a_config_survives_a_file_and_says_what_is_wrong() -> None:
    config = DreamNetConfig(policy=GeneratedNetConfig(width=8, memory="s4"), embedding_size=3, max_seq_len=20)
    assert net_config_from_dict(config.to_dict()) == config
    assert DreamNetConfig().policy.memory == "gru"
    with pytest.raises(ValueError, match="memory='belief': must be None, 'gru' or 's4' in DREAM's policies"):
        DreamNetConfig(policy=GeneratedNetConfig(memory="belief"))
    with pytest.raises(ValueError, match=r"inputs=\('age',\): must be left out"):
        DreamNetConfig(policy=GeneratedNetConfig(inputs=("age",)))
    with pytest.raises(ValueError, match="memory='gru': must be"):
        DreamNetConfig(memory="gru")
