"""The operations over packed sequences equal their plain definitions, gradients included."""

import pytest
import torch

from rllib_multienv.nets import packed
from rllib_multienv.nets.packed import (
    Segments,
    block_linear,
    causal_convolution,
    lift_components,
    read_rows,
    repeat_rows,
    segment_mean,
)

LAYOUT = Segments.of([(1, 2), (3, 1), (3, 2), (6, 2)])


def test_equal_neighbours_become_one_group() -> None:
    assert [(group.length, group.count) for group in LAYOUT.groups] == [(1, 2), (3, 3), (6, 2)]
    assert (LAYOUT.num_tokens, LAYOUT.num_rows, LAYOUT.max_length) == (2 + 9 + 12, 7, 6)


def test_no_sequence_is_empty() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Segments.of([(0, 3)])


@pytest.mark.parametrize(("long", "block"), [(100, 64), (5, 64), (5, 4)])
def test_convolution_equals_its_definition(long: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_LONG", long)  # both ways to the kernel's gradient
    monkeypatch.setattr(packed, "_BLOCK", block)
    tokens = torch.randn(LAYOUT.num_tokens, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    out = causal_convolution(tokens, kernel, LAYOUT)
    for group in LAYOUT.groups:
        u, y = group.tokens(tokens), group.tokens(out)
        for position in range(group.length):
            expected = sum(kernel[lag] * u[:, position - lag] for lag in range(position + 1))
            assert torch.allclose(y[:, position], expected)
    assert torch.autograd.gradcheck(lambda x, k: causal_convolution(x, k, LAYOUT), (tokens, kernel))


def test_mean_over_positions() -> None:
    tokens = torch.randn(LAYOUT.num_tokens, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.cat([group.tokens(tokens).mean(1) for group in LAYOUT.groups])
    assert torch.allclose(segment_mean(tokens, LAYOUT), expected)
    assert torch.autograd.gradcheck(lambda x: segment_mean(x, LAYOUT), (tokens,))


def test_repeated_rows() -> None:
    rows = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    positions = torch.randn(1 + 3 + 3 + 6 + 6, 3, dtype=torch.float64)
    sources = ((4, 2, 1), (1, 2, 3), (7, 1, 3), (6, 1, 6), (0, 1, 6))
    expected = torch.cat(
        [
            (rows[start : start + count, None] + own).flatten(0, 1)
            for (start, count, _), own in zip(sources, positions.split([1, 3, 3, 6, 6]), strict=True)
        ]
    )
    assert torch.allclose(repeat_rows(rows, positions, sources), expected)
    assert torch.autograd.gradcheck(lambda x: repeat_rows(x, positions, sources), (rows,))


def test_lifted_components() -> None:
    blocks = ((2, 1), (1, 3), (3, 4))
    scalars = torch.randn(2 + 3 + 12, dtype=torch.float64, requires_grad=True)
    constants, slopes = (torch.randn(8, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    component_of = torch.tensor([0, 0, 1, 2, 3, *[4, 5, 6, 7] * 3])
    expected = constants[component_of] + scalars[:, None] * slopes[component_of]
    assert torch.allclose(lift_components(scalars, constants, slopes, blocks), expected)
    assert torch.autograd.gradcheck(lambda *x: lift_components(*x, blocks), (scalars, constants, slopes))


def test_a_linear_layer_for_each_block() -> None:
    blocks = ((2, 1), (1, 3), (3, 4))
    scalars = torch.randn(2 + 3 + 12, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    biases = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    first, second, third = scalars.split([2, 3, 12])
    expected = [
        first.view(2, 1) @ weights[:1] + biases[0],
        second.view(1, 3) @ weights[1:4] / 3**0.5 + biases[1],
        third.view(3, 4) @ weights[4:] / 2 + biases[2],
    ]
    assert torch.allclose(block_linear(scalars, weights, biases, blocks), torch.cat(expected))
    assert torch.autograd.gradcheck(lambda *x: block_linear(*x, blocks), (scalars, weights, biases))


def test_outputs_read_from_rows() -> None:
    rows = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    biases = torch.randn(4, dtype=torch.float64, requires_grad=True)
    sources = ((4, 2, 3), (0, 3, 1))  # row 3 is read by nobody
    expected = [rows[4:] @ weights[:3].T + biases[:3], rows[:3] @ weights[3:].T + biases[3:]]
    assert torch.allclose(read_rows(rows, weights, biases, sources), torch.cat([x.flatten() for x in expected]))
    assert torch.autograd.gradcheck(lambda *x: read_rows(*x, sources), (rows, weights, biases))
