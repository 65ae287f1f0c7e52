"""The files in `tune_configs/` train, and the second goes on with the agent of the first."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import ROOT, run_cli

from rllib_multienv.checkpoints import read_checkpoint
from rllib_multienv.config_files import build_config, load_config_file
from rllib_multienv.evaluation.progress import read_progress

CONFIGS = ROOT / "tune_configs"
SMALL = ("--stop-steps", 1, "--episodes", 0)
FAST = ("--set", "env_runners.rollout_fragment_length=32", "--set", "training.num_epochs=1")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_valid(path: Path) -> None:
    build_config(load_config_file(path), examples=True).validate()


def test_the_quickstarts_agent_goes_on_in_environments_that_it_never_saw(tmp_path: Path) -> None:
    first = run_cli("train", CONFIGS / "quickstart.yaml", *SMALL, *FAST, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    before = read_checkpoint(tmp_path / "results/quickstart/checkpoint")
    assert list(before.env_specs) == ["CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4"]

    transfer = ("transfer", "results/quickstart", CONFIGS / "transfer_quickstart.yaml", *SMALL, *FAST)
    second = run_cli(*transfer, "--freeze", "actor", cwd=tmp_path)
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
    first = run_cli(*train, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    (tmp_path / "bare.yaml").write_text("environment: {envs: [CartPole-v1]}\n")
    second = run_cli("transfer", "results/transfer_quickstart", "bare.yaml", *SMALL, *FAST, cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert read_checkpoint(tmp_path / "results/bare/checkpoint").network.to_dict()["d_model"] == 16
