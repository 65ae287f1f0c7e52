"""Pictures of simple environments, drawn with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["BLUE", "DARK", "GREEN", "GREY", "RED", "YELLOW", "Picture"]

#: Colours, by their rows of the palette.
WHITE, GREY, DARK, RED, GREEN, BLUE, YELLOW = range(7)
_PALETTE = np.array(
    [[255, 255, 255], [205, 205, 205], [60, 60, 60], [205, 60, 50], [60, 150, 70], [60, 100, 200], [240, 200, 0]],
    np.uint8,
)


class Picture:
    """A white picture in coordinates of the environment, y upwards.

    Where places ``[B, 2]`` or colours ``[B]`` are given, it becomes B pictures.

    Args:
        low: x and y of the lower left corner.
        high: x and y of the upper right corner.
        size: Pixels of the longer side.
    """

    def __init__(self, low: tuple[float, float], high: tuple[float, float], size: int = 200) -> None:
        width, height = high[0] - low[0], high[1] - low[1]
        shape = round(size * height / max(width, height)), round(size * width / max(width, height))
        self._colours = np.full(shape, WHITE, np.uint8)
        self._x = (low[0] + (np.arange(shape[1]) + 0.5) / shape[1] * width)[None, :]  # [1, W]
        self._y = (high[1] - (np.arange(shape[0]) + 0.5) / shape[0] * height)[:, None]  # [H, 1]

    @property
    def pixels(self) -> np.ndarray:
        """uint8 ``[H, W, 3]`` or ``[B, H, W, 3]``."""
        return _PALETTE[self._colours]

    def disc(self, at: Any, radius: float, colour: Any) -> None:
        """Fill a disc around ``at``, x and y."""
        x, y = self._from(at)
        self._fill(x**2 + y**2 <= radius**2, colour)

    def box(self, at: Any, width: float, height: float, colour: Any) -> None:
        """Fill a rectangle around ``at``, x and y."""
        x, y = self._from(at)
        self._fill((abs(x) <= width / 2) & (abs(y) <= height / 2), colour)

    def _from(self, at: Any) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of pixels in x ``[..., 1, W]`` and in y ``[..., H, 1]``."""
        place = np.asarray(at, np.float64)[..., None, None]  # [..., 2, 1, 1]
        return self._x - place[..., 0, :, :], self._y - place[..., 1, :, :]

    def _fill(self, inside: np.ndarray, colour: Any) -> None:
        tone = np.asarray(colour, np.uint8)[..., None, None]  # [..., 1, 1]
        self._colours = np.where(inside, tone, self._colours)  # [..., H, W]
