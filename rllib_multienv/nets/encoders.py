"""Encoders of images and text, shared by all environments and by actor and critic.

Both are convolutions, so that images and texts of any size fit. What was found at the cells is summed up by its mean
and its moments: its products with a few cosines of the cell's position. A linear layer reads where something is from
these, as it would from all cells if their number were fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rllib_multienv.spaces.rows import ImageShape, ObservationRow

from .cache import CachedModule
from .context import position_codes, position_features
from .interface import Inputs, Interface

__all__ = ["Encoders", "ImageEncoder", "ImageEncoderConfig", "TextEncoder", "TextEncoderConfig", "check_encoders"]

# Length of the code of an image's channel, from which the first filters are generated.
_CODE_SIZE = 32
# Sides of images, in cells, are not halved below this.
_SMALLEST = 4
# Features of a byte, and of its position in the text.
_BYTE_SIZE, _TEXT_POSITIONS = 32, 9


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """Config of `ImageEncoder`. The defaults suit two CPU cores; `paper` is a larger residual network.

    Attributes:
        channels: features of each stage. A stage begins with a convolution that halves the sides.
        blocks: residual blocks of each stage.
        stride: of the first convolution, instead of two; its filters are twice as wide.
        positions: cosines of the position along each axis, the constant one included.
        width: length of the encoded image.
    """

    channels: tuple[int, ...] = (32, 32, 64)
    blocks: tuple[int, ...] = (0, 1, 1)
    stride: int = 4
    positions: int = 4
    width: int = 256

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("channels", "blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, values, least in (
            ("channels", self.channels, 1),
            ("blocks", self.blocks, 0),
            *((name, (getattr(self, name),), 1) for name in ("stride", "positions", "width")),
        ):
            if not values or not all(isinstance(value, int) and value >= least for value in values):
                raise ValueError(f"image_encoder: {name}={getattr(self, name)!r}: must be whole numbers >= {least}")
        if len(self.channels) != len(self.blocks):
            raise ValueError(f"image_encoder: blocks={self.blocks!r}: must be one number for each of {self.channels!r}")

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The residual network of IMPALA (Espeholt et al. 2018) with strides instead of pooling.

        The paper's appendix C has a ResNet of sizes that it does not give (docs/deviations.md, 25).
        """
        fields: dict[str, Any] = {"channels": (16, 32, 32), "blocks": (2, 2, 2), "stride": 2}
        return cls(**(fields | changes))


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """Config of `TextEncoder`.

    Attributes:
        channels: features of each place in the text.
        window: bytes that a place sees, odd.
        width: length of the encoded text.
    """

    channels: int = 64
    window: int = 5
    width: int = 256

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("channels", "window", "width"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"text_encoder: {name}={value!r}: must be a whole number >= 1")
        if self.window % 2 == 0:
            raise ValueError(f"text_encoder: window={self.window!r}: must be odd")


class _ResidualBlock(nn.Module):
    """``x + conv(relu(conv(relu(x))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, cells: Tensor) -> Tensor:
        """``[B, C, h, w]`` to ``[B, C, h, w]``."""
        return cells + self.second(F.relu(self.first(F.relu(cells))))


class _Readout(nn.Module):
    """Moments of cells ``[B, M]`` to vectors ``[B, width]``."""

    def __init__(self, moments: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(moments)
        self.linear = nn.Linear(moments, width)
        nn.init.orthogonal_(self.linear.weight, math.sqrt(2))
        nn.init.zeros_(self.linear.bias)

    def forward(self, moments: Tensor) -> Tensor:
        encoded: Tensor = F.relu(self.linear(self.norm(moments)))
        return encoded


class _FirstConvolution(CachedModule):
    """A convolution whose filters are generated, for each channel, from a code of its place and the channels' number.

    Small images are sampled more densely: no parameter depends on the stride.
    """

    def __init__(self, features: int, stride: int) -> None:
        super().__init__()
        self.stride, self.kernel = stride, 2 * stride
        self.filters = nn.Linear(_CODE_SIZE, features * self.kernel**2, bias=False)
        self.bias = nn.Parameter(torch.zeros(features))
        nn.init.normal_(self.filters.weight, std=math.sqrt(2 / _CODE_SIZE) / self.kernel)

    def forward(self, images: Tensor) -> Tensor:
        """Bytes ``[B, channels, height, width]`` to ``[B, C, h, w]``."""
        channels, *sides = images.shape[1:]
        filters = self.cached(channels, lambda: self._generate(channels))
        stride = max(1, min(self.stride, min(sides) // (2 * _SMALLEST)))
        # Channels last is what convolutions on a CPU are fastest in.
        pixels = images.contiguous(memory_format=torch.channels_last).to(self.bias.dtype)
        return F.conv2d(pixels, filters, self.bias, stride, padding=(self.kernel - stride + 1) // 2)

    def _generate(self, channels: int) -> Tensor:
        """``[C, channels, k, k]``, for bytes."""
        codes = position_codes(f"channels of an image: {channels}", channels, _CODE_SIZE).to(self.bias)
        filters = self.filters(codes) / (255.0 * math.sqrt(channels))  # [channels, C k k]
        return filters.view(channels, -1, self.kernel, self.kernel).transpose(0, 1)


class ImageEncoder(nn.Module):
    """Images of any height, width and number of channels to vectors."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.first = _FirstConvolution(channels[0], config.stride)
        self.convolutions = nn.ModuleList(nn.Conv2d(*sizes, 3, padding=1) for sizes in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_ResidualBlock(size) for _ in range(count)))
            for size, count in zip(channels, config.blocks, strict=True)
        )
        self.readout = _Readout(channels[-1] * config.positions**2, config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Bytes ``[B, channels, height, width]`` to ``[B, F]``."""
        cells = self.blocks[0](self.first(images))  # [B, C, h, w]
        for convolution, blocks in zip(self.convolutions, self.blocks[1:], strict=True):
            weight, bias = cast(nn.Conv2d, convolution).weight, cast(nn.Conv2d, convolution).bias
            stride = 2 if min(cells.shape[2:]) >= 2 * _SMALLEST else 1
            cells = blocks(F.conv2d(F.relu(cells), weight, bias, stride, padding=1))  # [B, C, h, w]
        cells = F.relu(cells)
        positions = _cosines(cells.shape[2], cells.shape[3], self.config.positions).to(cells)  # [h w, P]
        moments = cells.flatten(2) @ positions  # [B, C, P]
        encoded: Tensor = self.readout(moments.flatten(1))
        return encoded


@lru_cache(maxsize=64)
def _cosines(height: int, width: int, count: int) -> Tensor:
    """``[height * width, count^2]``: products of cosines of the row and of the column, divided by the cells."""
    # Not in inference mode: the constants outlive the call, and later training steps save them for their backward.
    with torch.inference_mode(False):
        rows, columns = (
            torch.cos(math.pi * torch.outer((torch.arange(size) + 0.5) / size, torch.arange(float(count))))
            for size in (height, width)
        )
        return torch.einsum("hi,wj->hwij", rows, columns).reshape(height * width, -1) / (height * width)


class TextEncoder(nn.Module):
    """Texts of any length, bytes padded with 0, to vectors: a convolution over bytes, and moments over places."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(256, _BYTE_SIZE, padding_idx=0)
        self.convolution = nn.Conv1d(_BYTE_SIZE, config.channels, config.window, padding=config.window // 2)
        self.readout = _Readout(config.channels * _TEXT_POSITIONS, config.width)

    def forward(self, texts: Tensor) -> Tensor:
        """Bytes ``[B, L]`` to ``[B, F]``."""
        embedded = self.embedding(texts.long()).transpose(1, 2)  # [B, E, L]
        places = F.relu(self.convolution(embedded))  # [B, C, L]
        written = (texts != 0).to(places)  # [B, L]
        places = places * (written / written.sum(1, keepdim=True).clamp(min=1.0))[:, None]
        moments = places @ position_features(texts.shape[1], _TEXT_POSITIONS).to(places)  # [B, C, P]
        encoded: Tensor = self.readout(moments.flatten(1))
        return encoded


class Encoders(nn.Module):
    """What a network adds to its rows for images and text.

    Images and texts are encoded once for all parts of a network; each part has its own linear map of the result. Names
    in the state dict: ``image``, ``text``, ``PART.image``, ``PART.text``. None of them belongs to an environment.

    Args:
        image, text: sizes of the encoders; None for none.
        width: H, features of a network's rows.
        parts: names of the network's parts.
    """

    def __init__(
        self, image: ImageEncoderConfig | None, text: TextEncoderConfig | None, width: int, parts: Sequence[str]
    ) -> None:
        super().__init__()
        self.image = None if image is None else ImageEncoder(image)
        self.text = None if text is None else TextEncoder(text)
        for part in parts:
            linear = nn.ModuleDict()
            for name, config in (("image", image), ("text", text)):
                if config is not None:
                    # Of the size of what the first layer makes of numbers.
                    linear[name] = own = nn.Linear(config.width, width, bias=False)
                    nn.init.orthogonal_(own.weight)
            self.add_module(part, linear)

    @staticmethod
    def check(encoders: Encoders | None, env_id: str, interface: Interface) -> None:
        """Raise a ValueError if an environment has images or text, and ``encoders`` nothing for these."""
        image, text = (None, None) if encoders is None else (encoders.image, encoders.text)
        check_encoders(env_id, interface.observation, image=image, text=text)

    def encode(
        self, interfaces: Mapping[str, Interface], inputs: Mapping[str, Inputs], counts: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Encode the images and texts of several environments; those of equal shape run as one batch.

        Args:
            interfaces: the environments.
            inputs: their observations.
            counts: number of rows of each environment, in the order of the rows.

        Returns:
            ``{"image": [R, F], "text": [R, F]}``, without what no environment has. Rows of environments without are 0;
            several images or texts of an environment are added up, each with signs of its own.
        """
        images: dict[Any, list[_Piece]] = {}
        texts: dict[Any, list[_Piece]] = {}
        for env_id in counts:
            row, media = interfaces[env_id].observation, inputs[env_id].media
            if media is None:
                continue
            pieces = media.split([*(image.size for image in row.images), *row.texts], 1)
            for place, (image, own) in enumerate(zip(row.images, pieces, strict=False)):
                pixels = _channels_first(own, image)
                images.setdefault(pixels.shape[1:], []).append(_Piece(env_id, place, pixels))
            for place, own in enumerate(pieces[len(row.images) :]):
                texts.setdefault(own.shape[1], []).append(_Piece(env_id, place, own))
        found = {}
        if images and self.image is not None:
            found["image"] = _encode_groups(self.image, images.values(), counts)
        if texts and self.text is not None:
            found["text"] = _encode_groups(self.text, texts.values(), counts)
        return found

    def forward(self, part: str, encoded: Mapping[str, Tensor]) -> Tensor | None:
        """What a part adds to its rows, ``[R, H]``, from the result of `encode`; None if that is empty."""
        linear: Any = getattr(self, part)
        added: Tensor | None = None
        for name, rows in encoded.items():
            added = linear[name](rows) if added is None else added + linear[name](rows)
        return added


class _Piece(NamedTuple):
    """The images or texts at one place of an environment's observations, bytes ``[B, ...]``."""

    env_id: str
    place: int
    content: Tensor


def _channels_first(rows: Tensor, image: ImageShape) -> Tensor:
    """Bytes ``[B, size]`` as ``[B, channels, height, width]``, without a copy."""
    if image.channels_first:
        return rows.unflatten(1, (image.channels, image.height, image.width))
    return rows.unflatten(1, (image.height, image.width, image.channels)).permute(0, 3, 1, 2)


def _encode_groups(encoder: nn.Module, groups: Iterable[Sequence[_Piece]], counts: Mapping[str, int]) -> Tensor:
    """``[R, F]`` from groups of equal shape."""
    of_environments: dict[str, Tensor] = {}
    for group in groups:
        encoded = encoder(torch.cat([piece.content for piece in group]) if len(group) > 1 else group[0].content)
        for piece, rows in zip(group, encoded.split([len(piece.content) for piece in group]), strict=True):
            if piece.place:
                rows = rows * position_codes("place", piece.place + 1, rows.shape[1])[piece.place].to(rows)
            before = of_environments.get(piece.env_id)
            of_environments[piece.env_id] = rows if before is None else before + rows
    nothing = {env_id: rows.new_zeros(count, rows.shape[1]) for env_id, count in counts.items()}
    return torch.cat([of_environments.get(env_id, nothing[env_id]) for env_id in counts])


def check_encoders(env_id: str, row: ObservationRow, *, image: object, text: object) -> None:
    """Raise a ValueError if an environment has images or text, and the network's encoder of these is None."""
    for name, needed, encoder in (("image", row.images, image), ("text", row.texts, text)):
        if needed and encoder is None:
            raise ValueError(
                f"Environment {env_id!r} has {name}s in its observations, and the network has no {name} encoder, "
                f"because no environment had any when it was built. Build it with {name}_encoder: true in its "
                f"model_config ({name.capitalize()}EncoderConfig() in Python)."
            )
