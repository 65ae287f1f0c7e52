"""The benchmark of the network counts the right operations and divides the right numbers."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_runs import benchmark_module, run_benchmark

from rllib_multienv import AgnosticNetConfig


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark_module("network", monkeypatch)


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark_module("timing", monkeypatch)


def test_the_table_has_rates_and_shares_of_the_ceiling(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("network", "--output", output, cwd=tmp_path)
    rows = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("| 64 ")]
    assert [(row[1].strip(), row[2].strip()) for row in rows] == [
        (sizes, what) for sizes in ("4/2", "17/6") for what in ("training step", "inference")
    ]
    for *_, gflop, milliseconds, rate, share, by_cpu in rows:
        median = float(milliseconds.split("(")[0])
        assert float(rate) == pytest.approx(float(gflop) / median * 1e3, rel=0.02)
        assert float(share) > 0 and float(by_cpu) > 0


def expected_inference(tokens_of: list[tuple[int, int]], d_model: int, feedforward: int) -> int:
    """Operations of the trunks of ``(length, sequences)``: convolution, its gated layer and one transformer layer."""
    total = 0
    for length, count in tokens_of:
        projections = 3 if length > 1 else 1
        linear = 2 * d_model * (2 * d_model + (projections + 1) * d_model + 2 * feedforward)
        attention = 4 * length * d_model if length > 1 else 0
        convolution = (length + 1) * d_model
        total += length * count * (linear + attention + convolution)
    return total


def expected_lift(config: AgnosticNetConfig, obs_size: int) -> int:
    """Operations of the two vectors of each component of an observation, which do not depend on the batch."""
    return 2 * obs_size * 2 * config.position_size * config.d_model


@pytest.mark.parametrize(("obs_size", "action_size", "discrete"), [(7, 3, False), (5, 2, True)])
def test_operations_of_inference_are_those_of_the_definition(
    network: ModuleType, obs_size: int, action_size: int, discrete: bool
) -> None:
    d_model, feedforward, rows = 8, 24, 6
    config = AgnosticNetConfig(d_model=d_model, num_transformer_layers=1, dim_feedforward=feedforward, context="none")
    sizes = network.sized("env", obs_size, action_size, discrete)
    model = network.build(config, [sizes])
    obs = network.observations([sizes], rows)
    decoders = 1 if discrete else 2
    lift = expected_lift(config, obs_size)
    middle = rows * config.res_mlp_depth * 2 * 2 * d_model * d_model
    trunks = expected_inference([(obs_size, rows)] + [(action_size, rows)] * decoders, d_model, feedforward)
    assert network.count_operations(lambda: network.inference(model, obs)) == lift + middle + trunks


def test_a_training_step_is_three_forwards_of_both_towers_and_the_kernels(network: ModuleType) -> None:
    d_model, rows = 8, 50
    config = AgnosticNetConfig(d_model=d_model, num_transformer_layers=1, d_state=2, context="none")
    sizes = network.sized("env", 7, 3, False)
    model = network.build(config, [sizes])
    obs = network.observations([sizes], rows)
    lift = expected_lift(config, 7)
    middle = rows * config.res_mlp_depth * 2 * 2 * d_model * d_model
    trunks = expected_inference([(7, rows), (3, rows), (3, rows), (7, rows), (1, rows)], d_model, d_model)
    # No gradient goes to positions and observations; that of the two vectors is a product of each component's values.
    backward_of_lift = lift + 2 * 2 * 7 * rows * d_model
    without_kernels = 3 * (2 * middle + trunks) + 2 * (lift + backward_of_lift)
    counted = network.count_operations(lambda: network.training_step(model, obs))
    assert without_kernels < counted < 1.05 * without_kernels


def test_counting_leaves_the_network_as_it_is(network: ModuleType) -> None:
    sizes = network.ENVIRONMENTS["4/2"]
    model = network.build(AgnosticNetConfig(d_model=8), [sizes])
    obs = network.observations([sizes], 3)
    before = network.inference(model, obs)[sizes.env_id]
    network.count_operations(lambda: network.training_step(model, obs))
    assert (network.inference(model, obs)[sizes.env_id] == before).all()


def test_bf16_is_near_float32(network: ModuleType) -> None:
    sizes = network.ENVIRONMENTS["17/6"]  # long enough for the depthwise convolution
    model = network.build(AgnosticNetConfig(d_model=16), [sizes])
    obs = network.observations([sizes], 3)
    exact, rounded = (network.inference(model, obs, precision)[sizes.env_id] for precision in network.DTYPES)
    assert not (exact == rounded).all() and (exact - rounded.float()).abs().max() < 0.05
    network.training_step(model, obs, "bf16")
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 10


def test_the_profile_names_operators_and_the_graphs_nodes(
    network: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    network.main(["--short", "--profile", "--sizes", "4/2", "--batch", "8"])
    text = capsys.readouterr().out
    assert "| aten::addmm |" in text and "| AddmmBackward0 |" in text
    assert "| _CausalConvolutionBackward |" in text


def test_encoders_of_images_are_compared(network: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    network.main(["--short", "--images", "--batch", "2"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [line[0] for line in lines] == 2 * ["| Nature CNN", "| default", "| paper()"]
    assert lines[0][-1] == "1 (1 to 1) |"


def test_tasks_run_in_turn_after_the_warm_up(timing: ModuleType) -> None:
    order: list[str] = []
    tasks = {name: lambda name=name: order.append(name) for name in "ab"}
    found = timing.time_in_turn(tasks, repeats=3, min_seconds=0, warm_up=2)
    assert "".join(order) == "aabb" + "ab" * 3
    assert all(len(timing_of.seconds) == 3 and timing_of.calls == 1 for timing_of in found.values())


def test_short_tasks_are_called_until_the_time_is_filled(timing: ModuleType) -> None:
    calls: list[int] = []
    found = timing.time_in_turn({"quick": lambda: calls.append(1)}, repeats=2, min_seconds=0.001, warm_up=1)["quick"]
    assert found.calls > 1 and len(calls) == 1 + 2 * found.calls


def test_a_ratio_is_taken_within_each_repetition(timing: ModuleType) -> None:
    slow, fast = (
        timing.Timing((2.0, 20.0, 3.0), (1.0, 1.0, 8.0), 1),
        timing.Timing((1.0, 10.0, 1.0), (1.0, 0.5, 2.0), 1),
    )
    assert timing.ratio(slow, fast) == timing.Spread(2.0, 2.0, 3.0)
    assert timing.ratio(slow, fast, cpu=True) == timing.Spread(2.0, 1.0, 4.0)
    assert (slow.median, slow.low, slow.high, slow.cpu) == (3.0, 2.0, 20.0, 1.0)
    assert slow.wall.text(1e3) == "3e+03 (2e+03 to 2e+04)"
