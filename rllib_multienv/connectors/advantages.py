"""Learner piece: batches of steps with generalised advantages, from rollouts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from rllib_multienv.connectors.pipelines import RolloutConnector
from rllib_multienv.normalization import CLIP
from rllib_multienv.rollout import EPISODE_ENDS, FIRST, TARGETS, VALID, Rollout, cut_sequences, join_sequences

#: Bytes of an environment's images in one forward pass for values, at most.
BLOCK_BYTES = 4 * 2**20


def generalized_advantages(
    rollout: Rollout,
    *,
    rewards: np.ndarray,
    values: np.ndarray,
    final_values: np.ndarray,
    gamma: float,
    lambda_: float,
    across_episodes: bool = True,
) -> np.ndarray:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16).

    Args:
        rollout: Says where episodes end.
        rewards: [T, B], as the values count them.
        values: [T, B], V of each step's observation.
        final_values: [F], V of :attr:`Rollout.final_obs`. It counts unless the step before it was terminal: a time
            limit is not an end, and neither is the end of a fragment (docs/deviations.md, 11).
        gamma: Discount factor.
        lambda_: Trace decay.
        across_episodes: Whether what follows within a trial counts for the steps of an earlier episode of it, as in
            RL². Otherwise nothing after an episode's last step does, whatever ended it.

    Returns:
        float64 [T, B]; without meaning where ``rollout.valid`` is False.
    """
    next_values = np.empty(values.shape)
    next_values[:-1] = values[1:]
    next_values.reshape(-1)[rollout.final_rows] = final_values
    ends = rollout.value_ends  # [T, B]
    if not across_episodes and EPISODE_ENDS in rollout.extra:
        ends = ends | rollout.extra[EPISODE_ENDS]
    next_values[ends] = 0.0
    deltas = rewards + gamma * next_values - values
    deltas[~rollout.valid] = 0.0
    decay = np.where(rollout.done | ends | ~rollout.valid, 0.0, gamma * lambda_)
    advantages = np.empty(values.shape)
    running = np.zeros(values.shape[1])  # [B]
    for t in reversed(range(len(values))):
        # A_t = delta_t + gamma lambda A_{t+1}, within an episode.
        running = deltas[t] + decay[t] * running
        advantages[t] = running
    return advantages


class GeneralizedAdvantages(RolloutConnector):
    """One batch per environment, N valid steps of all its rollouts: what was seen and done, and advantages.

    Columns, as tensors: ``"obs"``, ``"actions"``, ``"action_logp"``, ``"action_dist_inputs"``, ``"advantages"``,
    ``"value_targets"``, ``"vf_preds"`` (values before the update) and the rollouts' extra columns.

    Data sets that are trained supervised have ``"obs"`` and ``"targets"`` only.

    Where the network has memory, the N rows are those of sequences of `NetConfig.max_seq_len` time steps, time first:
    the columns ``"first"`` and ``"valid"`` [L, S] say which, and ``"state_in"`` [S, D] is the memory's state before
    each as it was sampled, with which also the values are computed. Where environments are in worlds there are
    sequences without memory too, of one time step, so that those of a world can be kept together. Values of what
    follows a member's last step see what the others observe then.

    Values of all environments come from one packed forward; of images from one for each `BLOCK_BYTES`. Images of a
    single rollout without steps that only reset are not copied. Rewards are divided by the environment's running scale.
    Advantages are standardised per environment over all that the learner was given of it, but not blown up where they
    are small (``min_advantage_std``; docs/deviations.md, 16).

    Attributes:
        carried: Extra columns that the module also needs to value what follows a step.
    """

    carried: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, config: Any, device: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.device = device or "cpu"

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], rollouts: Mapping[str, Sequence[Rollout]], **kwargs: Any
    ) -> dict[str, Any]:
        """Add every environment that has rollouts to ``batch``; columns that are there already stay."""
        found = {env_id: rollouts_ for env_id, rollouts_ in rollouts.items() if any(r.steps for r in rollouts_)}
        if self.config.network_config.memory is not None or self._worlds(found):
            return self._sequences(rl_module, batch, found)
        for env_id in [env_id for env_id, rollouts_ in found.items() if TARGETS in rollouts_[0].extra]:
            columns = _joined([_columns(rollout) for rollout in found.pop(env_id)])
            batch[env_id] = {key: self._tensor(columns[key]) for key in (Columns.OBS, TARGETS)}
        values = self._values(rl_module, found)
        for env_id, rollouts_ in found.items():
            columns = _joined([_columns(rollout) for rollout in rollouts_])
            columns |= self._advantages(env_id, rollouts_, values[env_id])
            batch[env_id] = {key: self._tensor(column) for key, column in columns.items()} | batch.get(env_id, {})
        return batch

    def _values(self, rl_module: Any, rollouts: Mapping[str, Sequence[Rollout]]) -> dict[str, np.ndarray]:
        """float64 ``{env_id: [sum of n + F]}``, V of the observations in `_blocks`."""
        left = {env_id: _blocks(rollouts_) for env_id, rollouts_ in rollouts.items()}
        values: dict[str, list[np.ndarray]] = {env_id: [] for env_id in left}
        while left:
            batch = {env_id: {Columns.OBS: self._tensor(blocks.pop(0))} for env_id, blocks in left.items()}
            for env_id, found in rl_module.shared.compute_values(batch).items():
                values[env_id].append(found.double().cpu().numpy())
            left = {env_id: blocks for env_id, blocks in left.items() if blocks}
        return {env_id: np.concatenate(parts) for env_id, parts in values.items()}

    def _sequences(
        self, rl_module: Any, batch: dict[str, Any], rollouts: Mapping[str, Sequence[Rollout]]
    ) -> dict[str, Any]:
        """The batch for a network with memory, or with worlds."""
        network, worlds = self.config.network_config, self._worlds(rollouts)
        length = 1 if network.memory is None else network.max_seq_len
        columns = {env_id: sequence_columns(rollouts_, length) for env_id, rollouts_ in rollouts.items()}
        tensors = {e: {key: self._tensor(column) for key, column in own.items()} for e, own in columns.items()}
        learned = {env_id: own for env_id, own in tensors.items() if TARGETS not in own}
        values = rl_module.shared.compute_values(learned) if learned else {}
        last = {
            env_id: final_columns(rollouts[env_id], with_first=bool(worlds), carried=self.carried) for env_id in learned
        }
        wanted: dict[str, np.ndarray] = {}
        for members in worlds.values():
            found = {env_id: rollouts[env_id] for env_id in members if env_id in learned}
            last |= _world_final_columns(found, {e: self.config.space_specs[e].world_copies for e in found}, wanted)
        last_tensors = {e: {key: self._tensor(column) for key, column in own.items()} for e, own in last.items()}
        final_values = rl_module.shared.compute_values(last_tensors) if learned else {}
        final_values |= {env_id: final_values[env_id][self._tensor(own)] for env_id, own in wanted.items()}
        rewards = self._rewards({env_id: rollouts[env_id] for env_id in learned})
        for env_id, own in tensors.items():
            if env_id in learned:
                valid = columns[env_id][VALID]  # [L, S]
                of_rows = values[env_id].double().cpu().numpy()  # [N]
                added = self._of_sequences(
                    env_id, rollouts[env_id], rewards[env_id], of_rows, valid, final_values[env_id]
                )
                own = own | {key: self._tensor(column) for key, column in added.items()}
            batch[env_id] = own | batch.get(env_id, {})
        return batch

    def _of_sequences(
        self,
        env_id: str,
        rollouts: Sequence[Rollout],
        rewards: Sequence[np.ndarray],
        values: np.ndarray,
        valid: np.ndarray,
        final_values: torch.Tensor,
    ) -> dict[str, np.ndarray]:
        """Advantages, value targets and values of the rows of sequences, from values [N] and ``valid`` [L, S]."""
        steps = of_steps(values, valid, rollouts)
        last = np.split(final_values.double().cpu().numpy(), np.cumsum([len(r.final_obs) for r in rollouts])[:-1])
        found = zip(rollouts, rewards, steps, last, strict=True)
        columns = [self._of_rollout(env_id, *of_rollout) for of_rollout in found]
        advantages = np.concatenate([cut_sequences(column, len(valid)) for column in columns], axis=1)  # [L, S]
        return self._standardised(advantages[valid], values)

    def _advantages(self, env_id: str, rollouts: Sequence[Rollout], values: np.ndarray) -> dict[str, np.ndarray]:
        """Advantages, value targets and values [N].

        Args:
            env_id: The environment.
            rollouts: Its rollouts.
            values: For each of them V of the valid steps' observations [n], then of the final ones [F].
        """
        parts, start = [], 0
        for rollout in rollouts:
            final = start + rollout.steps
            step_values = np.zeros(rollout.valid.shape)  # [T, B]
            step_values[rollout.valid] = values[start:final]
            start = final + len(rollout.final_obs)
            rewards = self._scaled_rewards(rollout)
            advantages = self._of_rollout(env_id, rollout, rewards, step_values, values[final:start])
            parts.append((advantages[rollout.valid], step_values[rollout.valid]))  # [n] each
        return self._standardised(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _scaled_rewards(self, rollout: Rollout) -> np.ndarray:
        """A rollout's own rewards [T, B] as values count them."""
        rewards = rollout.clipped_rewards / rollout.reward_scale
        return np.clip(rewards, -CLIP, CLIP) if self.config.normalize_rewards else rewards

    def _worlds(self, env_ids: Iterable[str]) -> dict[str, list[str]]:
        """Worlds with those of their members that are among these environments."""
        worlds: dict[str, list[str]] = {}
        for env_id in env_ids:
            if world := self.config.space_specs[env_id].world:
                worlds.setdefault(world, []).append(env_id)
        return worlds

    def _rewards(self, rollouts: Mapping[str, Sequence[Rollout]]) -> dict[str, list[np.ndarray]]:
        """Rewards [T, B] that each rollout's steps are credited with; see `WorldSpec.credit`."""
        rewards = {env_id: [self._scaled_rewards(r) for r in rollouts_] for env_id, rollouts_ in rollouts.items()}
        for name, members in self._worlds(rollouts).items():
            world = self.config.worlds[name]
            if world.credit == "own":
                continue
            copies = {env_id: self.config.space_specs[env_id].world_copies for env_id in members}
            for number in range(len(rollouts[members[0]])):
                total: Any = 0.0  # [T, worlds]
                for env_id, k in copies.items():
                    own = np.where(rollouts[env_id][number].valid, rewards[env_id][number], 0.0)  # [T, B]
                    total = total + world.weights.get(env_id, 1.0) * own.reshape(len(own), -1, k).sum(2)
                for env_id, k in copies.items():
                    rewards[env_id][number] = total.repeat(k, axis=1)  # [T, B]
        return rewards

    def _of_rollout(
        self, env_id: str, rollout: Rollout, rewards: np.ndarray, values: np.ndarray, final_values: np.ndarray
    ) -> np.ndarray:
        """Advantages [T, B] of a rollout's steps, with rewards and values [T, B], and values [F]."""
        config = self.config.get_config_for_module(env_id)
        return generalized_advantages(
            rollout,
            rewards=rewards,
            values=values,
            final_values=final_values,
            gamma=config.gamma,
            lambda_=config.lambda_,
            across_episodes=config.advantages_across_episodes,
        )

    def _standardised(self, advantages: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of an environment's N steps, from their advantages and values [N]."""
        floor = self.config.min_advantage_std if self.config.normalize_rewards else 0.0
        standardised = (advantages - advantages.mean()) / max(advantages.std(), floor, 1e-8)
        return {
            Columns.VF_PREDS: values.astype(np.float32),
            Postprocessing.VALUE_TARGETS: (advantages + values).astype(np.float32),
            Postprocessing.ADVANTAGES: standardised.astype(np.float32),
        }

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        with warnings.catch_warnings():
            # Images in the object store are read-only, and nobody writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _blocks(rollouts: Sequence[Rollout]) -> list[np.ndarray]:
    """For each rollout the observations of its valid steps [n, ...], then the final ones [F, ...].

    They are joined or, where they are bytes, views of at most `BLOCK_BYTES` each.
    """
    parts = [part for rollout in rollouts for part in (_observations(rollout), rollout.final_obs)]
    if parts[0].dtype != np.uint8:
        return [np.concatenate(parts)]
    rows = max(1, BLOCK_BYTES // parts[0].shape[1])
    return [part[first : first + rows] for part in parts for first in range(0, len(part), rows)]


def _observations(rollout: Rollout) -> np.ndarray:
    """Those of the valid steps [n, ...]. Images are large, and nobody writes to them: they are not copied."""
    if rollout.obs.dtype == np.uint8 and rollout.valid.all():
        return rollout.obs.reshape(-1, rollout.obs.shape[-1])
    return rollout.obs[rollout.valid]


def _columns(rollout: Rollout) -> dict[str, np.ndarray]:
    """What was seen and done in the valid steps of a rollout, [n, ...] each."""
    found = {key: column[rollout.valid] for key, column in _all_columns(rollout).items()}
    return {Columns.OBS: _observations(rollout), **found}


def _all_columns(rollout: Rollout) -> dict[str, np.ndarray]:
    """What was done, and further columns, [T, B, ...] each."""
    columns = {
        Columns.ACTIONS: rollout.actions,
        Columns.ACTION_LOGP: rollout.logp,
        Columns.ACTION_DIST_INPUTS: rollout.action_dist_inputs,
        **rollout.extra,
    }
    return {key: column for key, column in columns.items() if column is not None}


def sequence_columns(rollouts: Sequence[Rollout], max_seq_len: int) -> dict[str, np.ndarray]:
    """The columns of all rollouts as rows [N, ...] of sequences, time first, and what says where they are.

    Data sets that are trained supervised have their targets instead of actions.
    """
    length = min(max_seq_len, max(len(rollout.valid) for rollout in rollouts))

    def joined(columns: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([cut_sequences(column, length) for column in columns], axis=1)  # [L, S, ...]

    valid = joined([rollout.valid for rollout in rollouts])
    every = [_all_columns(rollout) for rollout in rollouts]
    keys = [TARGETS] if TARGETS in rollouts[0].extra else list(every[0])
    columns = {Columns.OBS: joined([rollout.obs for rollout in rollouts])[valid]}
    columns |= {key: joined([own[key] for own in every])[valid] for key in keys}
    columns |= {FIRST: joined([rollout.first for rollout in rollouts]), VALID: valid}
    states = [state.reshape(-1, state.shape[-1]) for r in rollouts if (state := r.state_in) is not None]
    return {**columns, Columns.STATE_IN: np.concatenate(states)} if states else columns


def of_steps(rows: np.ndarray, valid: np.ndarray, rollouts: Sequence[Rollout]) -> list[np.ndarray]:
    """Rows [N] of the sequences of rollouts, bool ``valid`` [L, S], as steps [T, B] of each; 0 where there is none."""
    steps = np.zeros(valid.shape, rows.dtype)
    steps[valid] = rows
    sizes = [-(-len(r.valid) // len(valid)) * r.valid.shape[1] for r in rollouts]
    own = np.split(steps, np.cumsum(sizes)[:-1], axis=1)  # [L, S of the rollout] each
    return [join_sequences(column, len(r.valid)) for column, r in zip(own, rollouts, strict=True)]


def final_columns(
    rollouts: Sequence[Rollout], *, with_first: bool = False, carried: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """What all rollouts end with, a row for each of their `final_obs`; with worlds, as sequences of one step.

    Extra columns that are ``carried`` are those of the steps before.
    """
    columns = {Columns.OBS: np.concatenate([r.final_obs for r in rollouts])}
    for key in carried:
        steps = [r.extra[key].reshape(-1, *r.extra[key].shape[2:])[r.final_rows] for r in rollouts]
        columns[key] = np.concatenate(steps)  # [F, ...]
    if with_first:
        columns[FIRST] = np.zeros((1, len(columns[Columns.OBS])), bool)
    states = [r.final_state for r in rollouts if r.final_state is not None]
    return {**columns, Columns.STATE_IN: np.concatenate(states)} if states else columns


def _world_final_columns(
    rollouts: Mapping[str, Sequence[Rollout]], copies: Mapping[str, int], wanted: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """What all members of a world observe after each step after which the value of one of them is wanted.

    Args:
        rollouts: Those of each member, of equal shape.
        copies: Copies of each member in one world.
        wanted: Gets bool [n] for each member, the rows that are those of its `final_obs`, in their order.

    Returns:
        Columns of each member as sequences of one time step. A member's memory matters to itself alone.
    """
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {env_id: [] for env_id in rollouts}
    for of_members in zip(*rollouts.values(), strict=True):
        num_steps, num_worlds = (
            of_members[0].valid.shape[0],
            of_members[0].valid.shape[1] // next(iter(copies.values())),
        )
        asked = [  # t * worlds + world
            rows // own.valid.shape[1] * num_worlds + rows % own.valid.shape[1] // k
            for own, k in zip(of_members, copies.values(), strict=True)
            for rows in [own.final_rows]
        ]
        t, world = np.divmod(np.unique(np.concatenate(asked)), num_worlds)  # [U]
        after = np.minimum(t + 1, num_steps - 1)[:, None]
        for (env_id, k), own in zip(copies.items(), of_members, strict=True):
            rows = world[:, None] * k + np.arange(k)  # [U, k]
            place = np.searchsorted(own.final_rows, t[:, None] * own.valid.shape[1] + rows)
            place = np.minimum(place, len(own.final_rows) - 1)
            if len(own.final_rows):
                is_final = own.final_rows[place] == t[:, None] * own.valid.shape[1] + rows
            else:
                is_final = np.zeros(rows.shape, bool)
            obs = own.obs[after, rows]  # [U, k, ...]
            obs[is_final] = own.final_obs[place[is_final]]
            present = is_final | (own.valid[after, rows] & (t + 1 < num_steps)[:, None])
            found = [obs[present], present.flatten(), is_final[present]]
            if own.final_state is not None:
                states = np.zeros((*rows.shape, own.final_state.shape[1]), own.final_state.dtype)  # [U, k, D]
                states[is_final] = own.final_state[place[is_final]]
                found.append(states.reshape(-1, states.shape[2]))
            parts[env_id].append(tuple(found))
    columns = {}
    for env_id, of_rollouts in parts.items():
        obs, valid, wanted[env_id], *state = [np.concatenate(arrays) for arrays in zip(*of_rollouts, strict=True)]
        columns[env_id] = {Columns.OBS: obs, FIRST: np.zeros((1, len(valid)), bool), VALID: valid[None]}
        if state:
            columns[env_id][Columns.STATE_IN] = state[0]
    return columns


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of all parts one after another, [N, ...] each."""
    return dict(parts[0]) if len(parts) == 1 else {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
