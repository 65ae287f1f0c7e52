"""Recording experience: plays an environment with given behaviours and keeps every step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_multienv.checkpoints import installed_versions
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.offline.behaviours import Act, Behaviour, Follow
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.spec import EnvSpec


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

    Episodes stand one after the other, in the order in which they began, so which of them are kept does not depend on
    their lengths. Only the last episode of each behaviour may be cut, with ``timeouts`` true after its last step.

    Args:
        env: The environment. Backend ``"auto"`` is ``"sync"`` here: the same data on every machine.
        behaviours: At least one.
        num_steps: Environment steps in all.
        seed: Determines everything. None draws one, which the metadata then has.
        num_envs: Copies to play at once, at most; fewer where they would play much more than is kept.
        ref_min_score: Mean return that counts as 0 in normalised scores, for the metadata.
        ref_max_score: Mean return that counts as 100.

    Returns:
        ``observations`` and ``next_observations`` ``[N, I]``, float32 or the space's integers (``[N, 1]`` of a
        discrete space), or raw rows of other spaces than a Box of numbers or Discrete (see `spaces.observations`);
        ``actions`` exactly as the environment was given them, int64 ``[N]`` or ``[N, ...]``, or the network's rows in a
        Dict or Tuple space; ``rewards`` float32 ``[N]``; ``terminals`` and ``timeouts`` bool ``[N]``, never both.

    Raises:
        ValueError: A number is not allowed, a behaviour would get no step, or it gave an invalid action.
        EnvFailure: The environment raised.
        NonFiniteError: The environment gave an observation or a reward that is not finite.
    """
    check_whole_number("num_steps", num_steps, 1)
    check_whole_number("num_envs", num_envs, 1)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    check_whole_number("seed", seed, 0)
    steps_each = _split(num_steps, behaviours)
    if env.backend == "auto":
        env = dataclasses.replace(env, backend="sync")
    limit, spaces = episode_limit(env), probe_spaces(env)
    actors = [behaviour.actor(env, spaces) for behaviour in behaviours]
    parts: list[dict[str, np.ndarray]] = []
    played: list[dict[str, Any]] = []
    seeds = np.random.SeedSequence(seed).spawn(len(behaviours))
    for behaviour, actor, steps, branch in zip(behaviours, actors, steps_each, seeds, strict=True):
        for_envs, for_actions = branch.spawn(2)
        count = min(num_envs, max(1, steps // limit)) if limit is not None else num_envs
        seed_of_envs = int(for_envs.generate_state(1)[0])
        copies = EnvCopies(env, count, seed=seed_of_envs, mask_in_info=spaces.mask_in_info)
        try:
            part, returns = _play(copies, *actor, steps, np.random.default_rng(for_actions))
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
    metadata = {
        **_made_from(env),
        "max_episode_steps": limit,
        "behaviours": json.dumps(played),
        "seed": seed,
        "versions": json.dumps(installed_versions()),
        "ref_min_score": ref_min_score,
        "ref_max_score": ref_max_score,
        # Arrays alone do not say how rows are made up.
        "spaces": None if spaces.has_arrays else json.dumps(spaces.to_dict()),
    }
    arrays: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return RawDataset(
        source=f"recording of {env.id}",
        **arrays,
        metadata={key: value for key, value in metadata.items() if value is not None},
        observation_space=spaces.observation_space,
        action_space=spaces.action_space,
        mask_in_info=spaces.mask_in_info,
    )


def check_whole_number(name: str, value: Any, least: int) -> None:
    """Raise a ValueError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number, at least {least}.")


def _split(num_steps: int, behaviours: Sequence[Behaviour]) -> list[int]:
    """The steps of each behaviour; they sum to ``num_steps``."""
    if not behaviours:
        raise ValueError("No behaviour was given: at least one must act.")
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


@dataclass
class _Episode:
    """One episode of one copy: the number of its first vector step, its steps so far, and whether it has ended."""

    copy: int
    start: int
    length: int = 0
    ended: bool = False


def _play(
    copies: EnvCopies, act: Act, follow: Follow, num_steps: int, generator: np.random.Generator
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Play until the episodes that began first have ``num_steps`` steps.

    Returns:
        The arrays of these steps, and the returns of the whole episodes among them.
    """
    spaces = copies.space_spec
    obs_dtype = spaces.reader.raw_dtype if spaces.reader.raw_dtype.kind in "iu" else np.dtype(np.float32)
    columns: dict[str, list[np.ndarray]] = {}  # of each vector step, [B, ...]
    episodes: list[_Episode] = []  # in the order in which they began
    playing: list[_Episode | None] = [None] * copies.num_envs
    num_ended = steps_ended = 0  # of the first episodes, how many have all ended, and their steps
    obs = copies.reset()
    time = 0
    while True:
        actions = act(obs, generator)
        step = copies.step(
            actions.astype(spaces.action_space.dtype, copy=False) if isinstance(actions, np.ndarray) else actions
        )
        follow(actions, step)
        following = step.obs.copy()
        for copy, final in step.final_obs.items():
            following[copy] = final
        for key, column in {
            "observations": obs.reshape(len(obs), -1).astype(obs_dtype),
            "actions": actions if isinstance(actions, np.ndarray) else spaces.action_from_env(actions),
            "rewards": step.rewards,
            "terminals": step.terminated,
            "timeouts": step.truncated & ~step.terminated,
            "next_observations": following.reshape(len(obs), -1).astype(obs_dtype),
        }.items():
            columns.setdefault(key, []).append(column)
        for copy in np.flatnonzero(~step.is_reset).tolist():
            episode = playing[copy]
            if episode is None:
                episode = playing[copy] = _Episode(copy, time)
                episodes.append(episode)
            episode.length += 1
            if step.terminated[copy] or step.truncated[copy]:
                episode.ended, playing[copy] = True, None
        while num_ended < len(episodes) and episodes[num_ended].ended:
            steps_ended += episodes[num_ended].length
            num_ended += 1
        first_open = episodes[num_ended].length if num_ended < len(episodes) else 0
        if steps_ended + first_open >= num_steps:
            return _steps_of(episodes, columns, num_steps)
        obs, time = step.obs, time + 1


def _steps_of(
    episodes: Sequence[_Episode], columns: dict[str, list[np.ndarray]], num_steps: int
) -> tuple[dict[str, np.ndarray], list[float]]:
    """The first ``num_steps`` steps of these episodes, and the returns of the episodes that end among them."""
    times = np.concatenate([np.arange(e.start, e.start + e.length) for e in episodes])[:num_steps]
    copies = np.repeat([e.copy for e in episodes], [e.length for e in episodes])[:num_steps]
    arrays = {key: np.stack(column)[times, copies] for key, column in columns.items()}
    arrays["timeouts"][-1] |= not arrays["terminals"][-1]
    bounds = np.cumsum([0, *(e.length for e in episodes)])
    whole = [e.ended and bound <= num_steps for e, bound in zip(episodes, bounds[1:], strict=True)]
    returns = [float(arrays["rewards"][bounds[i] : bounds[i + 1]].sum()) for i in np.flatnonzero(whole)]
    arrays["rewards"] = arrays["rewards"].astype(np.float32)
    return arrays, returns
