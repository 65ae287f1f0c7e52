"""Networks of as many parameters, to compare with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch

from .config import NetConfig, require
from .interface import Interface

__all__ = ["num_parameters", "same_size"]

Config = TypeVar("Config", bound=NetConfig)
_PROBED = (8, 16, 32)  # widths that all networks can have


def num_parameters(config: NetConfig, interfaces: Mapping[str, Interface]) -> int:
    """Parameters of policy and values for these environments."""
    with torch.random.fork_rng():
        return sum(parameter.numel() for parameter in config.build(interfaces).parameters())


def same_size(plain: Config, other: NetConfig, interfaces: Mapping[str, Interface]) -> Config:
    """``plain`` with the width at which it has most nearly as many parameters as ``other``.

    Args:
        plain: a config with a field ``width``, such as ``GeneratedNetConfig()``.
        other: the network to compare with.
        interfaces: the environments, ``algorithm_config.space_specs``.

    Raises:
        ValueError: ``plain`` has no width, or no width makes it as large.
    """
    has_width = any(field.name == "width" for field in dataclasses.fields(plain))
    require(has_width, "plain", plain, "a network with a width, such as GeneratedNetConfig()")

    def of(width: int) -> Config:
        return dataclasses.replace(plain, width=width)  # type: ignore[call-arg]

    # Layers of the width by the width, layers by the width, and others: a polynomial of degree 2.
    known = [num_parameters(of(width), interfaces) for width in _PROBED]
    coefficients = np.polyfit(_PROBED, known, 2)
    coefficients[-1] -= num_parameters(other, interfaces)
    width = round(float(np.roots(coefficients).real.max()))
    require(width >= 1, "other", other, f"of a size that {type(plain).__name__} can have")
    return of(width)
