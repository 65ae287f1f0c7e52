"""Environments as networks see them, without any environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rllib_multienv.spaces.rows import ActionPart, ActionRow, ImageShape, ObservationRow


def interface(obs_size: int, action_size: int, discrete: bool, bound: float = 1.0, description: str = "env") -> Any:
    """Sizes and kind of an environment, with actions between ``-bound`` and ``bound`` where they are continuous."""
    part = ActionPart("categorical" if discrete else "continuous", action_size)
    return any_interface(obs_size, [part], bound=bound, description=description)


def any_interface(
    obs_size: int,
    parts: Sequence[tuple[Any, int]],
    *,
    images: Sequence[tuple[Any, ...]] = (),
    texts: Sequence[int] = (),
    mask: bool = False,
    bound: float = 1.0,
    description: str = "env",
) -> Any:
    """An environment of any observation and action; see `ActionPart` and `ImageShape`."""
    action = ActionRow(tuple(ActionPart(*part) for part in parts))
    image_shapes = tuple(ImageShape(*image) for image in images)
    return SimpleNamespace(
        description=description,
        observation=ObservationRow(obs_size, image_shapes, tuple(texts), action.num_logits if mask else 0),
        action=action,
        obs_names=(),
        action_names=(),
        obs_measured=tuple((float(i), 0.5) for i in range(obs_size)),
        action_measured=tuple((float(i), 0.5, 0.0) for i in range(action.num_logits + action.num_continuous)),
        obs_size=obs_size,
        action_size=action.num_logits + action.num_continuous,
        discrete=action.discrete,
        action_low=(-bound,) * action.num_continuous,
        action_high=(bound,) * action.num_continuous,
        squashed=False,
        world="",
        world_copies=1,
    )


def described(interfaces: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each id as the description."""
    return {env_id: SimpleNamespace(**{**vars(one), "description": env_id}) for env_id, one in interfaces.items()}


def rows_of(one: Any, count: int, seed: int = 0) -> Tensor:
    """Random observations ``[count, width]``; masks allow every second action and the first."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, one.obs_size, generator=generator)
    row = one.observation
    if not row.packed:
        return numbers
    extra = torch.randint(256, (count, row.extra), dtype=torch.uint8, generator=generator)
    if row.mask:
        extra[:, -row.mask :] = torch.arange(row.mask) % 2 == 0
    return torch.from_numpy(row.join(numbers.numpy(), extra.numpy()))


def actions_of(one: Any, count: int, seed: int = 0) -> Tensor:
    """Random actions ``[count]`` or ``[count, width]``."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for kind, size in one.action.parts:
        if kind == "categorical":
            found.append(torch.randint(size, (count, 1), generator=generator))
        elif kind == "bernoulli":
            found.append(torch.randint(2, (count, size), generator=generator))
        else:
            found.append(torch.rand(count, size, generator=generator) * 2 - 1)
    return found[0][:, 0] if one.discrete else torch.cat([action.float() for action in found], 1)
