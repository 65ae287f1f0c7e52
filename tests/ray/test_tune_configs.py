"""The files in `tune_configs/` are valid and what they say they are; those for two cores train, one after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_helpers import ROOT, call_cli
from tiny_runs import running

from rllib_multienv import AgnosticNetConfig, MultiEnvPPOConfig
from rllib_multienv.checkpoints import read_checkpoint
from rllib_multienv.config_files import ConfigFile, build_config, build_tuner, load_config_file
from rllib_multienv.evaluation.progress import read_progress

pytestmark = pytest.mark.usefixtures("ray_cluster")

CONFIGS = ROOT / "tune_configs"
SMALL = ("--stop-steps", 1, "--episodes", 0)
FAST = ("--set", "env_runners.rollout_fragment_length=32", "--set", "training.num_epochs=1")


SPLITS = ("mix_to_mix", "classic_to_mujoco", "mujoco_to_classic")
HALVES = tuple(f"{split}_{half}" for split in SPLITS for half in ("pretrain", "transfer"))


def read(name: str) -> ConfigFile:
    return load_config_file(CONFIGS / f"{name}.yaml")


def env_ids(name: str) -> list[str]:
    return [spec.id for spec in build_config(read(name)).env_specs]


# The data sets of Table 1 are not at hand; see test_offline_configs.py.
ROOMS = ("experience", "meta", "multitask", "worlds")
AT_HAND = [
    *(path for path in sorted(CONFIGS.glob("*.yaml")) if path.stem != "offline_d4rl_eight"),
    *(path for room in ROOMS for path in sorted((CONFIGS / room).glob("*.yaml"))),
]


@pytest.mark.parametrize("path", AT_HAND, ids=lambda path: path.stem)
def test_every_file_is_valid(path: Path, tmp_path: Path) -> None:
    if path.stem.startswith("atari"):
        pytest.importorskip("ale_py")
    if path.stem.startswith(("mt10", "meta_world")):
        pytest.importorskip("metaworld")
    file = load_config_file(path)
    build_config(file, examples=True).validate()
    build_tuner(file, storage_path=tmp_path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_how_it_is_run(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    command = "transfer results/" if "transfer" in path.stem else "train"
    assert f"multienv {command}" in header and f"tune_configs/{path.name}" in header
    if "transfer" in path.stem:
        first = "quickstart" if path.stem == "transfer_quickstart" else path.stem.replace("transfer", "pretrain")
        assert f"results/{first} " in header and (CONFIGS / f"{first}.yaml").is_file()


@pytest.mark.parametrize("name", [*HALVES, "sixteen"])
def test_the_full_size_is_the_papers(name: str) -> None:
    file = read(name)
    config = build_config(file)
    assert isinstance(config, MultiEnvPPOConfig)
    assert config.network_config == AgnosticNetConfig.paper()
    assert {config.num_copies(spec) for spec in config.env_specs} == {32}
    # More runners than environments would have several runners step the same one, and so more copies of it.
    assert config.num_env_runners == len(config.env_specs) and config.rollout_fragment_length == 128
    assert (config.num_minibatches, config.num_epochs, config.grad_clip) == (8, 10, 0.5)
    assert (config.actor_lr, config.critic_lr, config.gamma, config.lambda_) == (3e-4, 5e-4, 0.99, 0.95)
    assert (config.clip_param, config.vf_clip_param, config.vf_loss_coeff, config.entropy_coeff) == (0.2, 0.2, 0.5, 0)
    assert config.num_learners > 1
    assert file.stop.any_of == {"num_env_steps_sampled_lifetime": len(config.env_specs) * 1e6}


@pytest.mark.parametrize("name", HALVES)
def test_the_small_file_has_the_same_environments(name: str) -> None:
    assert env_ids(f"{name}_small") == env_ids(name)
    assert build_config(read(f"{name}_small")).num_env_runners == 0


@pytest.mark.parametrize("split", SPLITS)
def test_the_halves_of_a_split_share_the_network_and_no_environment(split: str) -> None:
    for size in ("", "_small"):
        first, second = (f"{split}_{half}{size}" for half in ("pretrain", "transfer"))
        assert not set(env_ids(first)) & set(env_ids(second))
        assert build_config(read(first)).network_config == build_config(read(second)).network_config


def test_the_second_split_is_the_third_one_turned_round() -> None:
    assert set(env_ids("classic_to_mujoco_pretrain")) == set(env_ids("mujoco_to_classic_transfer"))
    assert set(env_ids("classic_to_mujoco_transfer")) == set(env_ids("mujoco_to_classic_pretrain"))
    assert len(env_ids("classic_to_mujoco_transfer")) == 11
    assert len(env_ids("sixteen")) == 16


def tiny(file: ConfigFile) -> MultiEnvPPOConfig:
    """The file's configuration with as little work in each iteration as it allows."""
    file = file.override("env_runners.rollout_fragment_length", 8).override("training.num_epochs", 1)
    specs = build_config(file).env_specs
    file = file.override("environment.envs", [{"id": spec.id, "make": spec.make, "num_envs": 1} for spec in specs])
    config = build_config(file)
    assert isinstance(config, MultiEnvPPOConfig)
    return config


def two_iterations(config: MultiEnvPPOConfig, checkpoint: Path) -> None:
    """Trains for two iterations, checks that every environment took part, and saves."""
    with running(config) as algo:
        algo.train()
        result = algo.train()
        algo.save_to_path(checkpoint)
    for spec in config.env_specs:
        assert result["env_runners"]["num_module_steps_sampled_lifetime"][spec.id] == 16
        assert np.isfinite(result["learners"][spec.id]["policy_loss"])
        assert np.isfinite(result["learners"][spec.id]["vf_loss"])


def test_games_train_beside_control(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    assert len(env_ids("atari_and_mujoco")) == 16
    two_iterations(tiny(read("atari_and_control_small")), tmp_path / "checkpoint")


@pytest.mark.parametrize("split", SPLITS)
def test_the_small_halves_train_one_after_the_other(split: str, tmp_path: Path) -> None:
    two_iterations(tiny(read(f"{split}_pretrain_small")), tmp_path / "first")
    transfer = tiny(read(f"{split}_transfer_small").override("initialize_from", {"path": str(tmp_path / "first")}))
    assert transfer.initial_checkpoint == str(tmp_path / "first")
    two_iterations(transfer, tmp_path / "second")
    assert list(read_checkpoint(tmp_path / "second").env_specs) == env_ids(f"{split}_transfer_small")


def test_the_quickstarts_agent_goes_on_in_environments_that_it_never_saw(tmp_path: Path) -> None:
    first = call_cli("train", CONFIGS / "quickstart.yaml", *SMALL, *FAST, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    before = read_checkpoint(tmp_path / "results/quickstart/checkpoint")
    assert list(before.env_specs) == ["CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4"]

    transfer = ("transfer", "results/quickstart", CONFIGS / "transfer_quickstart.yaml", *SMALL, *FAST)
    second = call_cli(*transfer, "--freeze", "actor", cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    results = tmp_path / "results/transfer_quickstart"
    after = read_checkpoint(results / "checkpoint")
    assert list(after.env_specs) == ["Pendulum-v1", "InvertedDoublePendulum-v4"]
    assert before.weights is not None and after.weights is not None
    assert before.weights.keys() == after.weights.keys()
    changed = {name for name, weight in after.weights.items() if not weight.equal(before.weights[name])}
    assert changed and all(name.startswith("critic.") for name in changed)
    assert "learners/Pendulum-v1/policy_loss" in read_progress(results / "progress.csv")[-1]


def test_a_file_without_rl_module_takes_the_checkpoints_network(tmp_path: Path) -> None:
    train = ("train", CONFIGS / "transfer_quickstart.yaml", *SMALL, *FAST, "--set", "rl_module.model_config.d_model=16")
    first = call_cli(*train, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    (tmp_path / "bare.yaml").write_text("environment: {envs: [CartPole-v1]}\n")
    second = call_cli("transfer", "results/transfer_quickstart", "bare.yaml", *SMALL, *FAST, cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert read_checkpoint(tmp_path / "results/bare/checkpoint").network.to_dict()["d_model"] == 16
