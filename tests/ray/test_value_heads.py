"""PPO with values as distributions over bins, and decoders that start orthogonal."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import AgnosticNetConfig, MultiEnvIQLConfig

ENVS = ("CartPole-v1", "Pendulum-v1")
SMALL = {"d_model": 8, "d_state": 4}

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize("kind", ["two_hot", "hl_gauss"])
def test_values_are_the_means_of_the_distribution_and_learn(kind: str) -> None:
    config = tiny_config(ENVS, lr=3e-3, num_epochs=4)
    with running(config.rl_module(model_config=AgnosticNetConfig(value_head=kind, num_value_bins=31, **SMALL))) as algo:
        learner = algo.learner_group._learner
        obs = {env_id: {"obs": torch.randn(5, size)} for env_id, size in (("CartPole-v1", 4), ("Pendulum-v1", 3))}
        out = learner.module.shared.forward_train(obs)["Pendulum-v1"]
        assert out["vf_logits"].shape == (5, 31)
        torch.testing.assert_close(out["vf_preds"], learner.network.value_bins.read(out["vf_logits"]))
        torch.testing.assert_close(out["vf_preds"], learner.module.shared.compute_values(obs)["Pendulum-v1"])
        before = weights(algo)
        losses = [algo.train()["learners"]["Pendulum-v1"]["vf_loss"] for _ in range(6)]
        assert losses[-1] < 0.7 * losses[0]
        after = weights(algo)
        head = [name for name in after if "critic.decoders.value.head" in name]
        assert head and all((after[name] != before[name]).any() for name in head)


def test_a_packed_forward_reads_the_same_values_as_one_at_a_time() -> None:
    with running(tiny_config(ENVS).rl_module(model_config=AgnosticNetConfig(value_head="hl_gauss", **SMALL))) as algo:
        network = algo.learner_group._learner.network
        obs = {"CartPole-v1": torch.randn(5, 4), "Pendulum-v1": torch.randn(3, 3)}
        together = network.value(obs)
        for env_id, own in obs.items():
            torch.testing.assert_close(network.value({env_id: own})[env_id], together[env_id])
        assert network.value({"CartPole-v1": torch.zeros(0, 4)})["CartPole-v1"].shape == (0,)


def test_a_checkpoint_keeps_the_head(tmp_path: object) -> None:
    config = tiny_config(ENVS).rl_module(model_config=AgnosticNetConfig(value_head="two_hot", **SMALL))
    with running(config) as algo:
        algo.train()
        path = algo.save_to_path(f"{tmp_path}/checkpoint")
        expected = weights(algo)
    with running(config.copy()) as other:
        other.restore_from_path(path)
        assert_same(weights(other), expected)


def test_offline_learning_refuses_bins() -> None:
    config = MultiEnvIQLConfig().rl_module(model_config=AgnosticNetConfig(value_head="two_hot"))
    with pytest.raises(ValueError, match="value_head='two_hot'"):
        config.offline_data(datasets={"CartPole-v1": "nothing.hdf5"}).validate()


def test_orthogonal_decoders_have_orthogonal_layers() -> None:
    torch.manual_seed(0)
    for start, expected in (("default", False), ("orthogonal", True)):
        network = AgnosticNetConfig(output_init=start, init_scale=1.0, num_transformer_layers=1, **SMALL).build({})
        weight = network.actor.decoders["mean"].trunk.transformer[0].feedforward_in.weight
        product = weight @ weight.T
        assert torch.allclose(product, 2.0 * torch.eye(len(product)), atol=1e-4) is expected


@pytest.mark.parametrize(
    "fields", [{"value_head": "gauss"}, {"num_value_bins": 2}, {"value_limit": 0.0}, {"output_init": "zero"}]
)
def test_bad_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        AgnosticNetConfig(**fields)  # type: ignore[arg-type]
