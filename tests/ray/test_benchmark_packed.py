"""The benchmark of the packed forward compares two ways to the same numbers."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from benchmark_runs import benchmark_module, run_benchmark
from cli_helpers import ROOT

from rllib_multienv import AgnosticNetConfig


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark_module("packed", monkeypatch)


def test_the_table_has_ratios_and_one_parameter_count(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("packed", "--output", output, cwd=tmp_path)
    lines = [line for line in output.read_text().splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [int(row[0]) for row in rows] == [16, 16] + [1, 4, 16, 64] * 4
    assert len({row[-1] for row in rows}) == 1
    for number, row in enumerate(rows):
        milliseconds = float(row[4].split("(")[0])
        assert float(row[8]) == pytest.approx(milliseconds * 1e3 / (int(row[0]) * int(row[2])), rel=0.02)
        if number < 2:
            low, high = (float(part) for part in row[6].split("(")[1].rstrip(")").split(" to "))
            assert 0 < low <= float(row[6].split("(")[0]) <= high
        else:
            assert row[5:8] == ["", "", ""]


def test_a_part_of_the_sixteen_alone(packed: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    packed.main(["--short", "--no-synthetic", "--without", "Humanoid-v4", "HumanoidStandup-v4"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| 1")]
    assert [(int(row[0]), row[1].strip()) for row in rows] == [
        (14, "the paper's, inference"),
        (14, "the paper's, training step"),
    ]
    tokens = sum(env.obs_size + env.action_size for env in packed.SIXTEEN if "Humanoid" not in env.env_id) / 14
    assert all(float(row[3]) == pytest.approx(tokens, abs=0.05) for row in rows)


def test_both_ways_give_the_same_policy(packed: ModuleType) -> None:
    model = packed.build(AgnosticNetConfig(d_model=16), packed.SIXTEEN)
    obs = packed.observations(packed.SIXTEEN, 2)
    together, apart = (way(packed.INFERENCE, model, obs) for way in (packed.packed, packed.looped))
    assert together.keys() == apart.keys() == {env.env_id for env in packed.SIXTEEN}
    for env in packed.SIXTEEN:
        assert together[env.env_id].shape == (2, env.action_size * (1 if env.discrete else 2))
        torch.testing.assert_close(together[env.env_id], apart[env.env_id], rtol=1e-4, atol=1e-5)


def test_both_ways_give_the_same_gradients(packed: ModuleType) -> None:
    model = packed.build(AgnosticNetConfig(d_model=16), packed.SIXTEEN).double()
    obs = {env_id: value.double() for env_id, value in packed.observations(packed.SIXTEEN, 2).items()}

    def gradients(way: str) -> dict[str, torch.Tensor]:
        getattr(packed, way)(packed.TRAINING, model, obs)
        return {
            name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
        }

    together, apart, again = gradients("packed"), gradients("looped"), gradients("packed")
    assert together.keys() == apart.keys() and len(together) > 10
    for name, gradient in together.items():
        assert gradient.abs().max() > 0, name
        # The loss is in float32, so the sum over the environments is rounded.
        torch.testing.assert_close(gradient, apart[name], rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))
        torch.testing.assert_close(gradient, again[name])


def test_parameters_do_not_depend_on_the_environments(packed: ModuleType) -> None:
    config = AgnosticNetConfig(d_model=16)
    sets = [packed.SIXTEEN, *(packed.synthetic(count) for count in packed.SYNTHETIC_COUNTS)]
    assert len({packed.parameters(packed.build(config, environments)) for environments in sets}) == 1


def test_synthetic_sets_have_their_sizes_and_alike_means(packed: ModuleType) -> None:
    for count in packed.SYNTHETIC_COUNTS:
        environments = packed.synthetic(count)
        assert len({env.env_id for env in environments}) == count
        assert all(3 <= env.obs_size <= 48 and 1 <= env.action_size <= 8 for env in environments)
        assert 25 < sum(env.obs_size + env.action_size for env in environments) / count < 40
        assert environments == packed.synthetic(count)
    assert {env.discrete for env in packed.synthetic(64)} == {True, False}


def test_the_sixteen_are_those_of_the_experiment(packed: ModuleType) -> None:
    experiment = yaml.safe_load((ROOT / "tune_configs" / "sixteen.yaml").read_text())
    assert [env.env_id for env in packed.SIXTEEN] == experiment["environment"]["envs"]
