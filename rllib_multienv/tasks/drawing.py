"""Pictures of simple environments, drawn with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["BLUE", "DARK", "GREEN", "GREY", "RED", "Picture"]

Colour = tuple[int, int, int]
RED, GREEN, BLUE, GREY, DARK = (205, 60, 50), (60, 150, 70), (60, 100, 200), (205, 205, 205), (60, 60, 60)


class Picture:
    """A white picture in coordinates of the environment, y upwards.

    Args:
        low: x and y of the lower left corner.
        high: x and y of the upper right corner.
        size: Pixels of the longer side.

    Attributes:
        pixels: uint8 ``[H, W, 3]``.
    """

    def __init__(self, low: tuple[float, float], high: tuple[float, float], size: int = 200) -> None:
        width, height = high[0] - low[0], high[1] - low[1]
        shape = round(size * height / max(width, height)), round(size * width / max(width, height))
        self.pixels = np.full((*shape, 3), 255, np.uint8)
        self._x = (low[0] + (np.arange(shape[1]) + 0.5) / shape[1] * width)[None, :]  # [1, W]
        self._y = (high[1] - (np.arange(shape[0]) + 0.5) / shape[0] * height)[:, None]  # [H, 1]

    def disc(self, at: Any, radius: float, colour: Colour) -> None:
        """Fill a disc around ``at``, x and y."""
        x, y = at
        self.pixels[(self._x - x) ** 2 + (self._y - y) ** 2 <= radius**2] = colour

    def box(self, at: Any, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle around ``at``, x and y."""
        x, y = at
        self.pixels[(abs(self._x - x) <= width / 2) & (abs(self._y - y) <= height / 2)] = colour
