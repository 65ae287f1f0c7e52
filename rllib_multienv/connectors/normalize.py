"""Env-to-module pieces: flatten, normalise, to tensors; running statistics that merge exactly over runners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from rllib_multienv.normalization import Moments, ObservationNormalizer, RewardNormalizer, SharedMoments
from rllib_multienv.rollout import RAW_OBS, Rollout
from rllib_multienv.spec import SpaceSpec

#: Column of the bytes that follow the numbers in a row: images, texts and the action mask.
EXTRA = "obs_extra"


class FlattenObservations(ConnectorV2):
    """Replaces ``{env_id: {"obs": raw [B, ...]}}`` by ``{env_id: {"obs": float32 or float64 [B, I]}}``, its numbers.

    What else is in the observations is in the column ``"obs_extra"`` until `ObservationsToTensors` joins both.
    """

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.space_specs = dict(space_specs)

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Flatten by each environment's :class:`~rllib_multienv.spec.SpaceSpec`."""
        for env_id, columns in batch.items():
            columns[Columns.OBS], extra = self.space_specs[env_id].reader.split(np.asarray(columns[Columns.OBS]))
            if extra is not None:
                columns[EXTRA] = extra
        return batch


class SharedStatistics(ConnectorV2):
    """Moments per env id, which are collected from all runners, merged and sent back.

    They change between two fragments only: runners count finished rollouts, and merged statistics arrive with the
    weights. Within a fragment all that depends on them stays the same.
    """

    @abstractmethod
    def count(self, env_id: str, rollout: Rollout, raw_obs: np.ndarray | None) -> None:
        """Count a finished rollout.

        Args:
            env_id: The environment.
            rollout: What was sampled.
            raw_obs: [T, B, I], its observations before normalisation; None where they are not normalised.
        """

    @abstractmethod
    def moments(self) -> Mapping[str, SharedMoments]:
        """The statistics of each environment."""

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """``{env_id: {"base": moments, "delta": moments}}``."""
        return {
            env_id: {"base": shared.base.to_dict(), "delta": shared.delta.to_dict()}
            for env_id, shared in self.moments().items()
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over statistics; environments that this piece does not know are ignored."""
        for env_id, shared in self.moments().items():
            if env_id in state:
                shared.set(Moments.from_dict(state[env_id]["base"]), Moments.from_dict(state[env_id]["delta"]))

    def start_from(self, moments: Mapping[str, Moments]) -> None:
        """Start from statistics that were collected elsewhere; environments that are not in them keep theirs."""
        for env_id, shared in self.moments().items():
            if env_id in moments:
                shared.set(moments[env_id])

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """This piece's base with the deltas of all ``states``: the exact statistics of all runners together."""
        merged = {}
        for env_id, shared in self.moments().items():
            total = shared.merge_deltas(Moments.from_dict(s[env_id]["delta"]) for s in states if env_id in s)
            merged[env_id] = {"base": total.to_dict(), "delta": Moments.empty(len(total.mean)).to_dict()}
        return merged


class NormalizeObservations(SharedStatistics):
    """Maps ``{env_id: {"obs": [B, I]}}`` to zero mean and unit variance by statistics kept per env id.

    The observations as they were stay in the column ``"raw_obs"``, for the runner to count them.
    """

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalizers = {env_id: ObservationNormalizer(spec.obs_size) for env_id, spec in space_specs.items()}

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Normalise each environment's observations."""
        for env_id, columns in batch.items():
            columns[RAW_OBS] = columns[Columns.OBS]
            columns[Columns.OBS] = self.normalizers[env_id](columns[RAW_OBS])
        return batch

    def count(self, env_id: str, rollout: Rollout, raw_obs: np.ndarray | None) -> None:
        """Count the observations that were acted on."""
        if raw_obs is not None:
            self.normalizers[env_id].moments.add(raw_obs[rollout.valid])  # [N, I]

    def moments(self) -> Mapping[str, SharedMoments]:
        """Statistics of each environment's observations."""
        return {env_id: normalizer.moments for env_id, normalizer in self.normalizers.items()}


class RewardScale(SharedStatistics):
    """Statistics of discounted returns per env id, in a connector so that RLlib merges and saves them.

    Batches pass through unchanged. Rewards of a rollout stay as the environment gave them; the runner attaches
    :meth:`scale`, and the learner divides.
    """

    def __init__(self, *, num_envs: Mapping[str, int], gammas: Mapping[str, float], **kwargs: Any) -> None:
        """Set up.

        Args:
            num_envs: Copies of each environment on this runner.
            gammas: Discount factor of each environment.
            kwargs: Passed to ``ConnectorV2``.
        """
        super().__init__(**kwargs)
        self.normalizers = {env_id: RewardNormalizer(n, gammas[env_id]) for env_id, n in num_envs.items()}

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Pass ``batch`` on."""
        return batch

    def count(self, env_id: str, rollout: Rollout, raw_obs: np.ndarray | None = None) -> None:
        """Count the discounted returns of a rollout."""
        self.normalizers[env_id].observe(rollout.clipped_rewards, rollout.done | rollout.value_ends, rollout.valid)

    def scale(self, env_id: str) -> float:
        """What rewards of ``env_id`` are to be divided by."""
        return self.normalizers[env_id].scale

    def restart(self, env_id: str) -> None:
        """All copies of ``env_id`` begin new episodes."""
        self.normalizers[env_id].returns[:] = 0.0

    def moments(self) -> Mapping[str, SharedMoments]:
        """Statistics of each environment's discounted return."""
        return {env_id: normalizer.moments for env_id, normalizer in self.normalizers.items()}

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Moments and, for this runner alone, the discounted returns of running episodes."""
        state = super().get_state()
        for env_id, normalizer in self.normalizers.items():
            state[env_id]["returns"] = normalizer.returns.tolist()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over statistics; running returns only where they are in ``state`` and fit this runner."""
        super().set_state(state)
        for env_id, normalizer in self.normalizers.items():
            returns = np.asarray(state.get(env_id, {}).get("returns", ()), dtype=np.float64)
            if returns.shape == normalizer.returns.shape:
                normalizer.returns = returns


class ObservationsToTensors(ConnectorV2):
    """Replaces ``{env_id: {"obs": numbers}}`` by tensors: float32 ``[B, I]``, or rows of bytes (`ObservationRow`)."""

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], device: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layouts = {env_id: spec.observation for env_id, spec in space_specs.items()}
        self.device = device or "cpu"

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Convert; numbers alone without a copy where the device is the CPU."""
        for env_id, columns in batch.items():
            rows = self.layouts[env_id].join(columns[Columns.OBS], columns.pop(EXTRA, None))
            columns[Columns.OBS] = torch.from_numpy(rows).to(self.device)
        return batch
