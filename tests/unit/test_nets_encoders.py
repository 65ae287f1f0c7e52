"""Encoders of images and text: what they are given, and what they tell apart."""

from __future__ import annotations

import pytest
import torch

from rllib_multienv.nets import ImageEncoderConfig, TextEncoderConfig
from rllib_multienv.nets.encoders import ImageEncoder, TextEncoder

SMALL = ImageEncoderConfig(channels=(8, 16), blocks=(0, 1), positions=3, width=32)


def image_encoder(config: ImageEncoderConfig = SMALL) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(config)


@pytest.mark.parametrize("config", [SMALL, ImageEncoderConfig(), ImageEncoderConfig.paper()], ids=["s", "default", "p"])
@pytest.mark.parametrize("shape", [(3, 16, 16), (4, 84, 84), (1, 16, 50), (20, 17, 33), (2, 1, 1)])
def test_images_of_any_size_and_number_of_channels(config: ImageEncoderConfig, shape: tuple[int, int, int]) -> None:
    encoder = image_encoder(config)
    images = torch.randint(256, (2, *shape), dtype=torch.uint8)
    encoded = encoder(images)
    assert encoded.shape == (2, config.width) and encoded.isfinite().all()
    assert (encoded[0] != encoded[1]).any()
    # The scale at the start is that of other inputs of a network, whatever the size of the image.
    assert 0.1 < encoded.square().mean().sqrt() < 5.0


def test_channels_and_their_order_matter() -> None:
    encoder, images = image_encoder(), torch.randint(256, (5, 4, 16, 16), dtype=torch.uint8)
    assert not torch.allclose(encoder(images), encoder(images.flip(1)))


def test_an_image_after_inference_mode_can_be_trained_on() -> None:
    encoder, images = image_encoder(), torch.randint(256, (2, 3, 19, 23), dtype=torch.uint8)
    with torch.inference_mode():
        expected = encoder(images).clone()
    found = encoder(images)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 20)])
def test_the_place_of_an_object_is_read_from_the_encoding(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(64, 2, generator=generator)
    images = torch.full((64, 1, height, width), 30, dtype=torch.uint8)
    for image, (row, column) in zip(images, places.tolist(), strict=True):
        top, left = int(row * (height - 2)), int(column * (width - 2))
        image[:, top : top + 2, left : left + 2] = 220
    net = torch.nn.Sequential(image_encoder(), torch.nn.Linear(SMALL.width, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (net(images) - places).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01  # a constant has 0.083


def test_bf16_is_near_float32() -> None:
    encoder, images = image_encoder(), torch.randint(256, (3, 3, 20, 20), dtype=torch.uint8)
    exact = encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(images)
    assert 0 < (rounded - exact).abs().max() < 0.1
    rounded.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def text(words: str, length: int) -> torch.Tensor:
    return torch.tensor([list(words.encode().ljust(length, b"\0"))], dtype=torch.uint8)


def test_padding_changes_nothing_and_words_and_their_order_do() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextEncoderConfig())
    base = encoder(text("go to the red ball", 20))
    torch.testing.assert_close(base, encoder(text("go to the red ball", 64)))
    for other in ("go to the red door", "ball red the to go", ""):
        found = encoder(text(other, 20))
        assert found.isfinite().all() and not torch.allclose(base, found, atol=1e-3)
