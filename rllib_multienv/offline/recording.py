"""Recording experience: plays an environment with given behaviours and keeps every step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_multienv.checkpoints import installed_versions
from rllib_multienv.envs.errors import check_finite
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.offline.behaviours import Behaviour, env_actions
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec


@dataclass
class _Episode:
    """One episode of one copy.

    Attributes:
        copy: Which copy.
        start: Number of the vector step that was its first.
        length: Steps so far.
        whole: Whether it has ended by itself.
    """

    copy: int
    start: int
    length: int = 0
    whole: bool = False


def record_steps(
    env: EnvSpec,
    behaviours: Sequence[Behaviour],
    *,
    num_steps: int,
    seed: int | None,
    num_envs: int = 8,
    ref_min_score: float | None = None,
    ref_max_score: float | None = None,
) -> RawDataset:
    """Play whole episodes with each behaviour in turn, for its share of the steps.

    Episodes stand one after the other, in the order in which they began: which of them are kept does not depend on how
    long they last. Only the last one of each behaviour may be cut, with ``timeouts`` true after its last step, where
    the behaviour has all its steps.

    Args:
        env: The environment. Backend ``"auto"`` is ``"sync"`` here: the same data on every machine.
        behaviours: Who acts.
        num_steps: Environment steps in all.
        seed: Everything follows from it. None draws one, which the metadata then has.
        num_envs: Copies to play at once, at most; fewer where they would play much more than is kept.
        ref_min_score: Mean return that counts as 0 in normalised scores, for the metadata.
        ref_max_score: Mean return that counts as 100.

    Returns:
        ``observations`` and ``next_observations`` ``[N, I]``, float32 or the space's whole numbers (``[N, 1]`` of a
        discrete space); ``actions`` exactly as the environment was given them, int64 ``[N]`` or ``[N, A]``;
        ``rewards`` float32 ``[N]``; ``terminals`` and ``timeouts`` bool ``[N]``, never both.

    Raises:
        ValueError: There is no behaviour, or one of them would get no step; or it gave what is no action.
        EnvFailure: The environment raised.
        NonFiniteError: The environment gave an observation or a reward that is not finite.
    """
    _check_counts(num_steps, num_envs, seed)
    steps_each = _shared_out(num_steps, behaviours)
    if env.backend == "auto":
        env = dataclasses.replace(env, backend="sync")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    limit = episode_limit(env)
    parts: list[dict[str, np.ndarray]] = []
    played: list[dict[str, Any]] = []
    spaces: SpaceSpec | None = None
    for behaviour, steps, branch in zip(
        behaviours, steps_each, np.random.SeedSequence(seed).spawn(len(behaviours)), strict=True
    ):
        for_envs, for_actions = branch.spawn(2)
        count = min(num_envs, max(1, steps // limit)) if limit is not None else num_envs
        copies = EnvCopies(env, count, seed=int(for_envs.generate_state(1)[0]))
        try:
            part, returns = _play(copies, behaviour, steps, np.random.default_rng(for_actions))
            spaces = copies.space_spec
        finally:
            copies.close()
        parts.append(part)
        played.append(
            {
                "name": behaviour.name,
                "share": behaviour.share,
                "steps": steps,
                "episodes": len(returns),
                "mean_return": float(np.mean(returns)) if returns else None,
            }
        )
    assert spaces is not None
    metadata = {
        **_made_from(env),
        "max_episode_steps": limit,
        "behaviours": json.dumps(played),
        "seed": seed,
        "versions": json.dumps(installed_versions()),
        "ref_min_score": ref_min_score,
        "ref_max_score": ref_max_score,
    }
    arrays: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return RawDataset(
        source=f"recording of {env.id}",
        **arrays,
        metadata={key: value for key, value in metadata.items() if value is not None},
        observation_space=spaces.observation_space,
        action_space=spaces.action_space,
    )


def _check_counts(num_steps: int, num_envs: int, seed: int | None) -> None:
    for name, value, least in (("num_steps", num_steps, 1), ("num_envs", num_envs, 1), ("seed", seed, 0)):
        if value is None and name == "seed":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r}: must be a whole number, at least {least}.")


def _shared_out(num_steps: int, behaviours: Sequence[Behaviour]) -> list[int]:
    """The steps of each behaviour; they sum to ``num_steps``."""
    if not behaviours:
        raise ValueError("No behaviour was given: there must be at least one to act.")
    shares = np.array([behaviour.share for behaviour in behaviours], np.float64)
    bounds = np.rint(np.cumsum(shares) / shares.sum() * num_steps).astype(np.int64)
    steps = np.diff(bounds, prepend=0).tolist()
    for behaviour, count in zip(behaviours, steps, strict=True):
        if count < 1:
            raise ValueError(
                f"Behaviour {behaviour.name!r}: a share of {behaviour.share} of {num_steps} steps is none; record more "
                "steps or give it a larger share."
            )
    return steps


def _made_from(env: EnvSpec) -> dict[str, str]:
    """How to make the environment again: ``gymnasium.make(env_id, **json.loads(env_kwargs))``."""
    try:
        written = env.to_dict()
    except ValueError:  # a function without a name that can be imported
        written = {"id": env.id}
    return {"env_id": written.get("make", env.id), "env_kwargs": json.dumps(dict(env.kwargs), default=str)}


def _play(
    copies: EnvCopies, behaviour: Behaviour, num_steps: int, generator: np.random.Generator
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Play until the episodes that began first have ``num_steps`` steps.

    Returns:
        The arrays of these steps, and the returns of the whole episodes among them.
    """
    spaces, rows = copies.space_spec, _Rows(copies.space_spec)
    obs = copies.reset()
    check_finite(copies.spec.id, "observation", obs)
    episodes: list[_Episode] = []  # in the order in which they began
    playing: list[_Episode | None] = [None] * copies.num_envs
    first_open, steps_before = 0, 0  # the first episode that has not ended, and the steps of those before it
    time = 0
    while True:
        actions = env_actions(behaviour.act(obs, generator), spaces, len(obs), behaviour.name)
        step = copies.step(actions.astype(spaces.action_space.dtype, copy=False))
        check_finite(copies.spec.id, "reward", step.rewards)
        following = step.obs.copy()
        for copy, final in step.final_obs.items():
            following[copy] = final
        check_finite(copies.spec.id, "observation", following)
        check_finite(copies.spec.id, "observation", step.obs)
        rows.add(obs, actions, step.rewards, step.terminated, step.truncated, following)
        done = step.terminated | step.truncated
        for copy in np.flatnonzero(~step.is_reset).tolist():
            episode = playing[copy]
            if episode is None:
                episode = playing[copy] = _Episode(copy, time)
                episodes.append(episode)
            episode.length += 1
            if done[copy]:
                episode.whole, playing[copy] = True, None
        while first_open < len(episodes) and episodes[first_open].whole:
            steps_before += episodes[first_open].length
            first_open += 1
        so_far = episodes[first_open].length if first_open < len(episodes) else 0
        if steps_before + so_far >= num_steps:
            return rows.of(episodes, num_steps)
        obs, time = step.obs, time + 1


class _Rows:
    """The steps of all copies, as they come."""

    def __init__(self, spaces: SpaceSpec) -> None:
        dtype = spaces.observation_space.dtype
        self._obs_dtype = dtype if dtype is not None and np.issubdtype(dtype, np.integer) else np.dtype(np.float32)
        self._columns: dict[str, list[np.ndarray]] = {
            key: []
            for key in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
        }  # fmt: skip

    def add(
        self,
        obs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        following: np.ndarray,
    ) -> None:
        """One step of all copies."""
        columns = (self._flat(obs), actions, rewards, terminated, truncated & ~terminated, self._flat(following))
        for kept, column in zip(self._columns.values(), columns, strict=True):
            kept.append(column)

    def _flat(self, obs: np.ndarray) -> np.ndarray:
        return obs.reshape(len(obs), -1).astype(self._obs_dtype)

    def of(self, episodes: Sequence[_Episode], num_steps: int) -> tuple[dict[str, np.ndarray], list[float]]:
        """The first ``num_steps`` steps of these episodes, and the returns of those that are whole."""
        times, copies, whole = [], [], []
        left, is_whole = num_steps, False
        for episode in episodes:
            count = min(episode.length, left)
            times.append(np.arange(episode.start, episode.start + count))
            copies.append(np.full(count, episode.copy))
            left -= count
            is_whole = episode.whole and count == episode.length
            if is_whole:
                whole.append(slice(num_steps - left - count, num_steps - left))
            if left == 0:
                break
        index = np.concatenate(times), np.concatenate(copies)
        arrays = {key: np.stack(column)[index] for key, column in self._columns.items()}
        arrays["timeouts"][-1] |= not is_whole
        returns = [float(arrays["rewards"][rows].sum()) for rows in whole]
        arrays["rewards"] = arrays["rewards"].astype(np.float32)
        return arrays, returns
