"""Constants computed from an environment's description: position encodings, position codes, and the task context.

The paper feeds the environment's name and action space as a learned task embedding. Here a vector of fixed length is
computed from the description and the spaces, so a new environment has a context without a new parameter, and
environments with similar descriptions or spaces have similar contexts (docs/deviations.md, 4).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import shake_128
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from .interface import Interface, StateActionInterface
from .parameters import env_key, insert_part

__all__ = [
    "CONTEXT_SIZE",
    "DESCRIPTIONS",
    "Descriptions",
    "TaskContext",
    "component_codes",
    "describe",
    "describe_actions",
    "describe_observation",
    "measured_codes",
    "position_codes",
    "position_features",
    "sinusoidal_encoding",
    "word_codes",
]

# Wavelengths of the encoder's position features, in positions: from near the shortest that neighbours can show to a few
# times the longest common observation (376).
_SHORTEST, _LONGEST = 3.0, 1500.0
# Share of what is hashed from the environment's description where there is something better.
_ID_SHARE = 0.3
# Deviation of the frequencies of random Fourier features: measured features that differ by 1 have codes with a cosine
# of about 0.8, by 3 one of 0.1.
_FREQUENCY = 0.7
Descriptions = Literal["id", "auto", "measured", "auto+measured"]
DESCRIPTIONS = get_args(Descriptions)
_NAME_SIZE = 48
_BOUND_SIZE = 6
_LARGEST_BOUND = 1e6
CONTEXT_SIZE = _NAME_SIZE + 4 + _BOUND_SIZE
WORDS_SIZE = 64


def sinusoidal_encoding(length: int, d_model: int) -> Tensor:
    """``[length, d_model]`` sines and cosines (Vaswani et al., 2017) minus their mean over the features.

    The decoder averages over the features; an encoding with a mean would give every position a constant offset of the
    output before anything is learned (docs/deviations.md, 3).
    """
    rates = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10_000.0) / d_model))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    table = torch.stack([torch.sin(angles), torch.cos(angles)], -1).flatten(1)[:, :d_model]
    return table - table.mean(1, keepdim=True)


def position_features(length: int, size: int) -> Tensor:
    """``[length, size]``: a one, then sines and cosines of geometric wavelengths; ``size`` is odd."""
    count = (size - 1) // 2
    waves = _SHORTEST * (_LONGEST / _SHORTEST) ** torch.linspace(0, 1, count, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * (2 * math.pi / waves)
    ones = torch.ones(length, 1, dtype=torch.float64)
    return torch.cat([ones, math.sqrt(2) * torch.sin(angles), math.sqrt(2) * torch.cos(angles)], 1)


def position_codes(description: str, length: int, size: int) -> Tensor:
    """``[length, size]`` signs by hashing description and position (feature hashing, Weinberger et al., 2009).

    Codes of different environments or positions are nearly orthogonal, so every environment has directions of its own
    in shared weights, also a new one, without a new parameter (docs/deviations.md, 1).
    """
    # A hash, because the numbers of a random generator may change with its library's version.
    digests = (shake_128(f"{position} {description}".encode()).digest(-(-size // 8)) for position in range(length))
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(length, -1)[:, :size]
    return torch.from_numpy(2.0 * bits - 1.0)


def measured_codes(features: Sequence[Sequence[float]], size: int) -> Tensor:
    """``[N, size]`` random Fourier features (Rahimi and Recht, 2007) of measured features ``[N, K]``.

    Of mean square one; the cosine between two codes is about ``exp(-(0.7 * distance)**2 / 2)``.
    """
    values = torch.tensor(features, dtype=torch.float64)
    count, half, draws = values.shape[1], -(-size // 2), 8
    signs = position_codes(f"measured {count}", count * draws, half).view(count, draws, half)
    frequencies = signs.sum(1) * (_FREQUENCY / math.sqrt(draws))  # [K, size / 2], nearly normal
    angles = values @ frequencies
    return math.sqrt(2) * torch.stack([torch.sin(angles), torch.cos(angles)], -1).flatten(1)[:, :size]


def component_codes(
    description: str,
    names: Sequence[str],
    measured: Sequence[Sequence[float]],
    length: int,
    size: int,
    kind: str,
) -> Tensor:
    """``[length, size]`` codes of components, of mean square about one.

    Args:
        description: of the environment and the kind of components.
        names: a few words for each component; empty if nothing is known, or those of which nothing is.
        measured: features of each component, see `measured_codes`; empty if they were not measured.
        length: number of components.
        size: length of a code.
        kind: ``"id"``: `position_codes`. ``"auto"``: sums of the words' codes, so that components with the same words
            are nearly the same in all environments. ``"measured"``: `measured_codes`, so that components that behave
            alike are. ``"auto+measured"``: the sum of both. All but the first have a small share of `position_codes`
            beside, and these alone where nothing is known.

    Raises:
        ValueError: codes of measured features are asked for, and there are none.
    """
    own = position_codes(description, length, size)
    known = []
    if "auto" in kind and names:
        words = [[position_codes(word, 1, size) for word in dict.fromkeys(name.split())] for name in names]
        sums = [torch.cat(codes).sum(0, keepdim=True) / math.sqrt(len(codes)) if codes else None for codes in words]
        known.append(torch.cat([own[i : i + 1] if known is None else known for i, known in enumerate(sums)]))
    if "measured" in kind:
        if not measured:
            raise ValueError(
                f"descriptions={kind!r}: nothing was measured in the environment that is described as {description!r}. "
                'Give the network with_measurements(spec, spaces) (rllib_multienv.envs), or use descriptions="auto".'
            )
        known.append(measured_codes(measured, size))
    if not known:
        return own
    shared = sum(known[1:], known[0]) / math.sqrt(len(known))
    return (shared + _ID_SHARE * own) / math.sqrt(1 + _ID_SHARE**2)


def describe_observation(interface: Interface, size: int, kind: str) -> Tensor:
    """``[I, size]``: codes of the components of an environment's observation, see `component_codes`."""
    if not isinstance(interface, StateActionInterface):
        known = (interface.obs_names, interface.obs_measured)
        return component_codes(interface.description, *known, interface.obs_size, size, kind)
    environment = interface.environment
    components = describe_observation(environment, size, kind)
    if interface.obs_size == environment.obs_size:  # it has no action
        return components
    return torch.cat([components, describe_actions(environment, size, kind)])


def describe_actions(interface: Interface, size: int, kind: str) -> Tensor:
    """``[A, size]``: codes of the logits and continuous components of an environment's action."""
    known = (interface.action_names, interface.action_measured)
    return component_codes(f"{interface.description} action", *known, interface.action_size, size, kind)


@lru_cache(maxsize=256)
def _name_features(description: str) -> Tensor:
    """Signed hashed character n-grams (2 to 4) of the description (Weinberger et al., 2009), mean square one."""
    text = f"^{description.lower()}$"
    vector = torch.zeros(_NAME_SIZE, dtype=torch.float64)
    for size in (2, 3, 4):
        for start in range(len(text) - size + 1):
            code = zlib.crc32(text[start : start + size].encode())
            # The bucket and the sign come from different bits; crc32 is the same in every process and version.
            vector[(code >> 1) % _NAME_SIZE] += 1.0 if code & 1 else -1.0
    norm = vector.norm()
    return vector * (math.sqrt(_NAME_SIZE) / norm) if norm > 0 else vector


def describe(interface: Interface, kind: str = "id") -> Tensor:
    """The context features ``[CONTEXT_SIZE]`` (float32) of an environment.

    N-grams of the description, kind of the actions (±1), log2 sizes of observation and action, and mean, spread and
    extremes of the action bounds on a signed log scale. Where components are described by words or measurements, their
    mean code stands for the n-grams, which keep a small share.
    """
    sizes = torch.tensor(
        [
            1.0 if interface.discrete else -1.0,
            math.log2(interface.obs_size) / 4 - 1,
            math.log2(interface.action_size) / 2 - 1,
            math.log2(interface.obs_size) - math.log2(interface.action_size) - 2,
        ],
        dtype=torch.float64,
    )
    bounds = torch.zeros(_BOUND_SIZE, dtype=torch.float64)
    if len(interface.action_low):
        low, high = (
            torch.tensor(bound, dtype=torch.float64).clamp(-_LARGEST_BOUND, _LARGEST_BOUND)
            for bound in (interface.action_low, interface.action_high)
        )
        low, high = (torch.sign(x) * torch.log1p(x.abs()) for x in (low, high))
        bounds[:] = torch.stack(
            [low.mean(), high.mean(), low.min(), high.max(), (high - low).min(), (high + low).max()]
        )
    name = _name_features(interface.description)
    if kind != "id":
        of_observation, of_actions = (d(interface, _NAME_SIZE, kind) for d in (describe_observation, describe_actions))
        mean = torch.cat([of_observation, of_actions]).mean(0)
        name = (mean / mean.square().mean().sqrt() + _ID_SHARE * name) / math.sqrt(1 + _ID_SHARE**2)
    return torch.cat([name, sizes, bounds]).float()


def word_codes(description: str) -> Tensor:
    """``[WORDS_SIZE]``, the sum of hashed codes of a description's words, of mean square one."""
    words = dict.fromkeys(re.findall(r"[a-z]+|[0-9.]+", description.lower())) or {"": None}
    total = torch.cat([position_codes(word, 1, WORDS_SIZE) for word in words]).sum(0)
    return (total / math.sqrt(len(words))).float()


def vector_of(env_id: str, interface: Interface, vectors: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """The vector that a user gave for the description of an environment; a ValueError if there is none."""
    if interface.description not in vectors:
        raise ValueError(
            f"context_vectors: there is none for {interface.description!r}, the description of environment {env_id!r}; "
            f"there are some for {sorted(vectors)}"
        )
    return vectors[interface.description]


class TaskContext(nn.Module):
    """Adds the task context to the encoder's vectors (paper, section 3.1: "feed the task embedding vector and sum it").

    Args:
        mode: ``"computed"``: a shared linear map of `describe`; ``"words"``: of `word_codes`; ``"vectors"``: of
            ``vectors``; ``"embedding"``: a learned row per environment, under its `env_key`; ``"none"``: nothing.
        d_model: features H.
        descriptions: of components, see `describe`.
        vectors: a vector for each environment's description.
    """

    def __init__(
        self,
        mode: str,
        d_model: int,
        descriptions: str = "id",
        vectors: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.mode = mode
        self.descriptions = descriptions
        self.d_model = d_model
        self._descriptions: dict[str, Tensor] = {}
        self._vectors = dict(vectors)
        sizes = {"computed": CONTEXT_SIZE, "words": WORDS_SIZE, "vectors": len(next(iter(vectors.values()), ()))}
        if mode in sizes:
            self.linear = nn.Linear(sizes[mode], d_model)
        elif mode == "embedding":
            self.rows = nn.ParameterDict()

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Add an environment that is not known yet; ``"embedding"`` gets a new row.

        Raises:
            ValueError: there is no vector for its description.
        """
        if env_id in self._descriptions:
            return
        if self.mode == "computed":
            self._descriptions[env_id] = describe(interface, self.descriptions)
        elif self.mode == "words":
            self._descriptions[env_id] = word_codes(interface.description)
        elif self.mode == "vectors":
            self._descriptions[env_id] = torch.tensor(vector_of(env_id, interface, self._vectors))
        elif self.mode == "embedding" and env_key(env_id) not in self.rows:
            reference = next(iter(self.rows.values()), None)
            row = torch.randn(self.d_model)
            row = row if reference is None else row.to(reference)
            insert_part(self.rows, env_id, nn.Parameter(row))

    def remove_env(self, env_id: str) -> None:
        """Remove an environment."""
        self._descriptions.pop(env_id, None)
        if self.mode == "embedding" and env_key(env_id) in self.rows:
            del self.rows[env_key(env_id)]

    def forward(self, rows: Tensor, order: tuple[str, ...], membership: Tensor) -> Tensor:
        """Add each row's context to ``rows [R, H]``; ``membership [R, E]`` is one-hot over ``order``."""
        if self.mode == "none":
            return rows
        return torch.addmm(rows, membership, self.table(order, rows))

    def table(self, env_ids: Sequence[str], like: Tensor) -> Tensor:
        """Contexts ``[E, H]`` in the dtype and on the device of ``like``; zeros for mode ``"none"``."""
        if self.mode == "none":
            return like.new_zeros(len(env_ids), self.d_model)
        if self.mode == "embedding":
            return torch.stack([self.rows[env_key(env_id)] for env_id in env_ids])
        table: Tensor = self.linear(torch.stack([self._descriptions[env_id] for env_id in env_ids]).to(like))
        return table
