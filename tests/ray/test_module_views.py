"""The module of an agent: one shared part with all parameters, and views without any."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny_runs import running, tiny_config

from rllib_multienv import MultiEnvPPO

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1")
SIZES = {"CartPole-v1": (4, 2), "Reacher-v4": (11, 4), "Pendulum-v1": (3, 2)}

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def algo(ray_cluster: None) -> Iterator[MultiEnvPPO]:
    with running(tiny_config(ENVS)) as built:
        yield built


@pytest.mark.parametrize("env_id", ENVS)
def test_a_view_acts_like_a_module_of_its_own(algo: MultiEnvPPO, env_id: str) -> None:
    obs_size, inputs_size = SIZES[env_id]
    view, batch = algo.get_module(env_id), {"obs": torch.randn(7, obs_size)}
    out = view.forward_inference(batch)
    assert out["action_dist_inputs"].shape == (7, inputs_size)
    torch.testing.assert_close(view.forward_exploration(batch)["action_dist_inputs"], out["action_dist_inputs"])
    actions = view.get_inference_action_dist_cls().from_logits(out["action_dist_inputs"]).to_deterministic().sample()
    assert actions.shape == ((7,) if env_id == "CartPole-v1" else (7, inputs_size // 2))
    space = algo.config.space_specs[env_id]
    assert view.observation_space == space.observation_space and view.action_space == space.action_space


def test_views_have_no_parameters(algo: MultiEnvPPO) -> None:
    module = algo.learner_group._learner.module
    assert set(module.keys()) == {"shared", *ENVS}
    for env_id in ENVS:
        assert list(module[env_id].parameters()) == []
        assert module[env_id].get_state() == {}
    assert len(list(module["shared"].parameters())) > 0


def test_views_give_what_the_packed_forward_gives(algo: MultiEnvPPO) -> None:
    module = algo.learner_group._learner.module
    batch = {env_id: {"obs": torch.randn(3 + i, SIZES[env_id][0])} for i, env_id in enumerate(ENVS)}
    packed = module.forward_train(batch)
    for env_id in ENVS:
        alone = module[env_id].forward_train(batch[env_id])
        torch.testing.assert_close(alone["action_dist_inputs"], packed[env_id]["action_dist_inputs"])
        torch.testing.assert_close(alone["vf_preds"], packed[env_id]["vf_preds"])
        torch.testing.assert_close(module[env_id].compute_values(batch[env_id]), packed[env_id]["vf_preds"])


def test_no_parameter_belongs_to_an_environment(algo: MultiEnvPPO) -> None:
    state = algo.learner_group._learner.module.get_state()
    assert state["shared"]
    assert not any(state[env_id] for env_id in ENVS)
    assert not [name for name in state["shared"] if any(env_id in name for env_id in ENVS)]
    with running(tiny_config(["Acrobot-v1"])) as other:
        network = other.learner_group._learner.module.shared.network
        ours = algo.learner_group._learner.module.shared.network.state_dict()
        assert {n: t.shape for n, t in network.state_dict().items()} == {n: t.shape for n, t in ours.items()}
        network.load_state_dict(ours, strict=True)


def test_runners_have_no_critic(algo: MultiEnvPPO) -> None:
    runner = set(algo.env_runner.module.get_state()["shared"])
    learner = set(algo.learner_group._learner.module.get_state()["shared"])
    assert any(".critic." in name for name in learner)
    assert {name for name in learner if ".critic." not in name} == runner
    assert set(algo.learner_group._learner.module.get_state(inference_only=True)["shared"]) == runner
