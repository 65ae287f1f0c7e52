"""Rollouts: what a runner hands to learners for one environment, and RLlib's episodes made from it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_multienv.envs.vector import VectorStep
from rllib_multienv.normalization import Moments

#: Column of the flat observations before normalisation, from which statistics are counted. It stays with the runner.
RAW_OBS = "raw_obs"
#: Column of steps, bool [T, B], that learners count as terminal although the episode goes on; in `Rollout.extra`.
LOST_LIFE = "lost_life"
#: Column of the actions, [T, B, ...] as the network gives them, that would have been right; in `Rollout.extra` of data
#: sets that are trained supervised.
TARGETS = "targets"
#: Column of steps, bool [T, B], that were the last of an episode within a trial, the trial's last one too; in
#: `Rollout.extra` of environments with `trial_episodes`.
EPISODE_ENDS = "episode_ends"
#: Columns bool [L, S] of a learner's batch whose rows are sequences for a network with memory: the memory is reset
#: before this time step; the time step has a row.
FIRST, VALID = "first", "valid"
#: Column of a time step of a runner, bool [B]: the row is in its world, and the other members see it.
PRESENT = "present"
_SUCCESS = "success"


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """A fragment of one environment as arrays, time first: T time steps of B copies.

    Attributes:
        obs: [T, B, ...], as the module saw them (flat, normalised).
        obs_moments: Statistics that `obs` and `final_obs` were normalised by; None where they were not.
        actions: [T, B] or [T, B, A], the network's.
        logp: [T, B], log probabilities under the policy that sampled; None where it did not explore.
        action_dist_inputs: [T, B, D].
        rewards: [T, B], the environment's own.
        reward_scale: What learners divide rewards by.
        reward_clip: What learners clip rewards to before, as ``[-1, 1] * reward_clip``; None where they do not.
        terminated: bool [T, B], the step reached a terminal state.
        truncated: bool [T, B], the step ended the episode otherwise, as by a time limit. Never both.
        valid: bool [T, B]; False where no experience happened: the copy was only being reset (NEXT_STEP), or the row's
            agent acted less often than others. The steps of a row that acts less often stand at its beginning.
        final_obs: [F, ...], as the module would see them: the observation after the last step of each finished
            episode, and after each copy's last step in an unfinished one.
        final_rows: int [F], the steps that these follow, as rows ``t * B + b`` in ascending order.
        state_in: [S, B, D], the memory's state before the first of every `NetConfig.max_seq_len` steps of a copy; None
            without memory.
        final_state: [F, D], the memory's state after the steps that `final_obs` follow.
        first: bool [T, B], the memory was reset before this step.
        extra: ``{name: [T, B, ...]}``, further columns, such as those that a user's connector adds.
        success: bool [T, B], the environment's goal is reached; None where it does not say.
        infos: dict [T, B, 2], the environment's info that came with the observation acted on, and the one that the step
            returned; None where nobody takes episodes.
    """

    obs: np.ndarray
    obs_moments: Moments | None = None
    actions: np.ndarray
    logp: np.ndarray | None
    action_dist_inputs: np.ndarray
    rewards: np.ndarray
    reward_scale: float = 1.0
    reward_clip: float | None = None
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    final_obs: np.ndarray
    final_rows: np.ndarray
    state_in: np.ndarray | None = None
    final_state: np.ndarray | None = None
    first: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    success: np.ndarray | None = None
    infos: np.ndarray | None = None

    @property
    def done(self) -> np.ndarray:
        """bool [T, B], the step ended an episode."""
        return self.terminated | self.truncated

    @property
    def clipped_rewards(self) -> np.ndarray:
        """[T, B], rewards as learners see them, before they are divided by their scale."""
        return self.rewards if self.reward_clip is None else np.clip(self.rewards, -self.reward_clip, self.reward_clip)

    @property
    def value_ends(self) -> np.ndarray:
        """bool [T, B], nothing after the step counts for its value: a terminal state or, on request, a lost life."""
        return self.terminated | self.extra[LOST_LIFE] if LOST_LIFE in self.extra else self.terminated

    @property
    def steps(self) -> int:
        """Steps of experience."""
        return int(self.valid.sum())

    def infos_of(self, chunk: tuple[int, int, int]) -> list[dict[str, Any]]:
        """Infos of a chunk's observations, the last one's included."""
        b, first, stop = chunk
        if self.infos is None:
            return [{}] * (stop - first + 1)
        return [self.infos[first, b, 0], *self.infos[first:stop, b, 1]]

    def final_place(self, t: int, b: int) -> int:
        """Where in `final_obs` the observation after step (t, b) is, the last of a chunk."""
        return int(np.searchsorted(self.final_rows, t * self.valid.shape[1] + b))

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """``(b, first, stop)`` of every run of steps ``[first, stop)`` of one episode, copy by copy in time order."""
        length = len(self.valid)
        valid = self.valid.T.tolist()  # [B, T]
        for b, ends in enumerate((self.done & self.valid).T):  # [T]
            first = 0
            for end in [*np.flatnonzero(ends).tolist(), length - 1]:
                while first <= end and not valid[b][first]:
                    first += 1
                while first <= end and not valid[b][end]:
                    end -= 1
                if first <= end:
                    yield b, first, end + 1
                first = end + 1

    def limited(self, quota: list[int]) -> Rollout:
        """This rollout without what copies did after as many episodes as they are still to finish.

        Args:
            quota: [B], episodes that each copy is still to finish; counted down in place.
        """
        valid = self.valid.copy()
        for b, left in enumerate(quota):
            ends = np.flatnonzero(self.done[:, b] & valid[:, b])[:left]
            if len(ends) == left:
                valid[ends[-1] + 1 if left else 0 :, b] = False
            quota[b] -= len(ends)
        kept = valid.reshape(-1)[self.final_rows]  # [F]
        final_state = None if self.final_state is None else self.final_state[kept]
        return replace(
            self,
            valid=valid,
            final_obs=self.final_obs[kept],
            final_rows=self.final_rows[kept],
            final_state=final_state,
        )


class RolloutBuilder:
    """Collects the time steps of one environment into arrays, which are allocated once.

    Args:
        length: Time steps T.
        num_envs: Copies B.
        infos: [B], the infos that came with the first observations; None where infos are not wanted.
        max_seq_len: Time steps of the sequences whose first state is kept, where the network has memory.
    """

    def __init__(
        self, length: int, num_envs: int, infos: Sequence[Any] | None = None, max_seq_len: int | None = None
    ) -> None:
        self._length, self._num_envs, self._t = length, num_envs, 0
        self._max_seq_len = max_seq_len or length
        self._state_in: np.ndarray | None = None
        self._final_states: dict[int, np.ndarray] = {}
        self._infos: np.ndarray | None = None
        if infos is not None:
            self._infos = np.empty((length, num_envs, 2), dtype=object)
            self._infos[0, :, 0] = infos
        self._columns: dict[str, np.ndarray] = {}
        self._final: dict[int, np.ndarray] = {}  # raw observation after the step t * B + b
        self._counts: np.ndarray | None = None  # [B], steps of each row; None where all have one at each time step
        self.rewards = np.empty((length, num_envs))
        self.terminated, self.truncated, self.is_reset = (np.empty((length, num_envs), dtype=bool) for _ in range(3))

    def append(
        self,
        columns: Mapping[str, np.ndarray],
        step: VectorStep,
        before: np.ndarray | None = None,
        after: np.ndarray | None = None,
    ) -> None:
        """Add a time step.

        Args:
            columns: What the module saw and did, [B, ...] each.
            step: What the environment answered.
            before, after: The memory's state [B, D] before the step and after it; None without memory.
        """
        if step.lost_life is not None:
            columns = {**columns, LOST_LIFE: step.lost_life}
        if step.targets is not None:
            columns = {**columns, TARGETS: step.targets}
        if step.episode_ends is not None:
            columns = {**columns, EPISODE_ENDS: step.episode_ends}
        if step.success is not None:
            columns = {**columns, _SUCCESS: step.success}
        for key in columns.keys() - self._columns.keys():  # all of them come with the first step, but for the last one
            value = columns[key]
            self._columns[key] = np.zeros((self._length, *value.shape), value.dtype)
        if self._t == 0 and step.acting is not None:
            self._counts = np.zeros(self._num_envs, dtype=np.int64)
            for array in (self.rewards, self.terminated, self.truncated):
                array[:] = 0
            self.is_reset[:] = True
        if self._counts is None:
            rows, times = range(self._num_envs), [self._t] * self._num_envs
            at: Any = self._t
            chosen: Any = slice(None)
        else:
            chosen = np.flatnonzero(~step.is_reset)
            rows, times, at = chosen.tolist(), self._counts.tolist(), (self._counts[chosen], chosen)
            self._counts[chosen] += 1
        if before is not None:
            self._keep_state(before, rows, times)
        for key, value in columns.items():
            self._columns[key][at] = value[chosen]
        self.rewards[at] = step.rewards[chosen]
        self.terminated[at] = step.terminated[chosen]
        self.truncated[at] = step.truncated[chosen]
        self.is_reset[at] = step.is_reset[chosen]
        if self._infos is not None:
            for b in rows:
                self._infos[times[b], b, 1] = info = step.infos[b]
                if times[b] + 1 < self._length:
                    self._infos[times[b] + 1, b, 0] = step.reset_infos.get(b, info)
        for b, observation in step.final_obs.items():
            self._final[times[b] * self._num_envs + b] = observation
            if after is not None:
                self._final_states[times[b] * self._num_envs + b] = after[b]
        self._t += 1

    def _keep_state(self, before: np.ndarray, rows: Sequence[int], times: Sequence[int]) -> None:
        """Keep the state [B, D] of rows that begin a sequence; ``times`` [B] are the numbers of their steps."""
        if self._state_in is None:
            self._state_in = np.zeros((-(-self._length // self._max_seq_len), *before.shape), before.dtype)
        if self._counts is None and times[0] % self._max_seq_len:
            return
        for b in rows:
            number, within = divmod(times[b], self._max_seq_len)
            if not within:
                self._state_in[number, b] = before[b]

    def final_observations(self, obs: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows and raw values of :attr:`Rollout.final_obs`.

        Args:
            obs: [B, ...], raw observations that the policy would act on next.
            state: [B, D], the memory's state then.
        """
        counts = np.full(self._num_envs, self._length) if self._counts is None else self._counts
        found = dict(self._final)
        for b, last in enumerate((counts - 1).tolist()):
            if last >= 0 and not (self.terminated[last, b] or self.truncated[last, b] or self.is_reset[last, b]):
                found[last * self._num_envs + b] = obs[b]
                if state is not None:
                    self._final_states[last * self._num_envs + b] = state[b]
        rows = sorted(found)
        values = np.stack([found[row] for row in rows]) if rows else obs[:0]
        return np.array(rows, dtype=np.int64), values

    def finish(
        self, final_rows: np.ndarray, final_obs: np.ndarray, begins: np.ndarray
    ) -> tuple[Rollout, np.ndarray | None]:
        """The rollout, and the raw observations [T, B, ...] (None where they are not normalised).

        Args:
            final_rows: See :attr:`Rollout.final_rows`.
            final_obs: See :attr:`Rollout.final_obs`.
            begins: bool [B], whether each copy was at the beginning of an episode before the first step.
        """
        columns = self._columns
        if self._counts is not None:  # no row has more steps than this
            longest = max(1, int(self._counts.max()))
            columns = {key: column[:longest] for key, column in columns.items()}
            for name in ("rewards", "terminated", "truncated", "is_reset"):
                setattr(self, name, getattr(self, name)[:longest])
            if self._infos is not None:
                self._infos = self._infos[:longest]
            if self._state_in is not None:
                self._state_in = self._state_in[: -(-longest // self._max_seq_len)]
        raw, success = columns.pop(RAW_OBS, None), columns.pop(_SUCCESS, None)
        ended = self.terminated | self.truncated | self.is_reset
        first = np.concatenate([begins[None], ended[:-1]]) & ~self.is_reset  # [T, B]
        rollout = Rollout(
            obs=columns.pop(Columns.OBS),
            actions=columns.pop(Columns.ACTIONS),
            logp=columns.pop(Columns.ACTION_LOGP, None),
            action_dist_inputs=columns.pop(Columns.ACTION_DIST_INPUTS),
            rewards=self.rewards,
            terminated=self.terminated,
            truncated=self.truncated & ~self.terminated,
            valid=~self.is_reset,
            final_obs=final_obs,
            final_rows=final_rows,
            state_in=self._state_in,
            final_state=self._stacked_final_states(final_rows),
            first=first,
            extra=columns,
            success=success,
            infos=self._infos,
        )
        return rollout, raw

    def _stacked_final_states(self, final_rows: np.ndarray) -> np.ndarray | None:
        if self._state_in is None:
            return None
        found = [self._final_states[row] for row in final_rows.tolist()]
        return np.stack(found) if found else self._state_in[0, :0]


# Sequences, where the network has memory


def cut_sequences(column: np.ndarray, length: int) -> np.ndarray:
    """The steps [T, B, ...] of a rollout as sequences [L, S * B, ...] of ``length`` time steps; the last are padded."""
    number = -(-len(column) // length)
    if missing := number * length - len(column):
        column = np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)])
    pieces = column.reshape(number, length, *column.shape[1:]).swapaxes(0, 1)  # [L, S, B, ...]
    return pieces.reshape(length, number * column.shape[1], *column.shape[2:])


def join_sequences(column: np.ndarray, num_steps: int) -> np.ndarray:
    """The inverse of `cut_sequences`: [L, S * B, ...] as [T, B, ...]."""
    number = -(-num_steps // len(column))
    pieces = column.reshape(len(column), number, -1, *column.shape[2:]).swapaxes(0, 1)  # [S, L, B, ...]
    return pieces.reshape(number * len(column), *pieces.shape[2:])[:num_steps]


# RLlib's episodes, where a callback or a learner connector asks for them


@dataclass(slots=True)
class RunningEpisode:
    """The episode that one copy is in; it may span several fragments.

    Attributes:
        length: Steps in earlier fragments.
        return_: Rewards in earlier fragments.
        trial_returns: Returns of the trial's episodes that are over, then of the present one so far; empty without
            trials.
        success: Whether the environment's goal was reached in any step; None where it does not say.
        id_: RLlib's id; empty until an episode object is built.
        custom_data: What callbacks have put into the episode.
        chunks: Episode objects of earlier fragments, where a callback wants them.
    """

    length: int = 0
    return_: float = 0.0
    trial_returns: list[float] = field(default_factory=list)
    success: bool | None = None
    id_: str = ""
    custom_data: dict[str, Any] = field(default_factory=dict)
    chunks: list[SingleAgentEpisode] = field(default_factory=list)

    def advance(self, rewards: np.ndarray, ends: np.ndarray | None, success: np.ndarray | None = None) -> None:
        """Count further steps.

        Args:
            rewards: [n], theirs.
            ends: bool [n], see `EPISODE_ENDS`; None without trials.
            success: bool [n], see `Rollout.success`.
        """
        if success is not None:
            self.success = bool(self.success) or bool(success.any())
        self.length += len(rewards)
        self.return_ += float(rewards.sum())
        if ends is not None:
            *over, present = self.trial_returns or [0.0]
            first, *others = (float(part.sum()) for part in np.split(rewards, np.flatnonzero(ends) + 1))
            self.trial_returns = [*over, present + first, *others]

    def named(self) -> RunningEpisode:
        """This, with an id."""
        self.id_ = self.id_ or uuid.uuid4().hex
        return self


def episode_of(
    env_id: str, rollout: Rollout, chunk: tuple[int, int, int], running: RunningEpisode
) -> SingleAgentEpisode:
    """RLlib's episode object of one of a rollout's chunks."""
    b, first, stop = chunk
    rows = slice(first, stop)
    last = rollout.final_obs[rollout.final_place(stop - 1, b)]
    observations = np.concatenate([rollout.obs[rows, b], last[None]])  # [steps + 1, ...]
    columns = {
        Columns.ACTION_LOGP: rollout.logp,
        Columns.ACTION_DIST_INPUTS: rollout.action_dist_inputs,
        **rollout.extra,
    }
    episode = SingleAgentEpisode(
        id_=running.named().id_,
        agent_id=env_id,
        module_id=env_id,
        multi_agent_episode_id=running.id_,
        observations=InfiniteLookbackBuffer(observations),
        infos=InfiniteLookbackBuffer(rollout.infos_of(chunk)),
        # Copies, because callbacks and connectors may change them, and arrays from the object store are read-only.
        actions=InfiniteLookbackBuffer(rollout.actions[rows, b].copy()),
        rewards=InfiniteLookbackBuffer(rollout.rewards[rows, b].copy()),
        extra_model_outputs={
            key: InfiniteLookbackBuffer(column[rows, b].copy()) for key, column in columns.items() if column is not None
        },
        terminated=bool(rollout.terminated[stop - 1, b]),
        truncated=bool(rollout.truncated[stop - 1, b]),
        t_started=running.length,
        len_lookback_buffer=0,
    )
    episode.custom_data.update(running.custom_data)
    return episode


class EpisodeView:
    """Rollouts as RLlib's episodes for a user's learner connectors, and back.

    Attributes:
        episodes: One for each chunk of all rollouts; ``module_id`` is the env id.
    """

    def __init__(self, rollouts: Mapping[str, Sequence[Rollout]]) -> None:
        self._rollouts = rollouts
        self._places: dict[str, tuple[str, int, tuple[int, int, int]]] = {}
        self.episodes: list[SingleAgentEpisode] = []
        for env_id, found in rollouts.items():
            for number, rollout in enumerate(found):
                for chunk in rollout.chunks():
                    episode = episode_of(env_id, rollout, chunk, RunningEpisode())
                    self._places[episode.id_] = env_id, number, chunk
                    self.episodes.append(episode)

    def changed_rollouts(self) -> dict[str, list[Rollout]]:
        """The rollouts with what connectors have changed in the episodes; steps of removed episodes are not valid.

        Raises:
            ValueError: An episode is longer or shorter than it was, or was added.
        """
        result = {
            env_id: [
                replace(
                    rollout,
                    obs=rollout.obs.copy(),
                    actions=rollout.actions.copy(),
                    rewards=rollout.rewards.copy(),
                    valid=np.zeros_like(rollout.valid),
                    final_obs=rollout.final_obs.copy(),
                )
                for rollout in found
            ]
            for env_id, found in self._rollouts.items()
        }
        for episode in self.episodes:
            if episode.id_ not in self._places:
                raise ValueError(
                    f"A learner connector added an episode of {episode.module_id!r}. Connectors may change or remove "
                    "the episodes that they are given; steps of their own have no place in a rollout."
                )
            env_id, number, (b, first, stop) = self._places[episode.id_]
            rollout, rows = result[env_id][number], slice(first, stop)
            if len(episode) != stop - first:
                raise ValueError(
                    f"A learner connector changed the length of an episode of {env_id!r} from {stop - first} to "
                    f"{len(episode)} steps. Change values in place, or remove the whole episode from the list."
                )
            observations = episode.get_observations()
            rollout.obs[rows, b] = observations[:-1]
            rollout.actions[rows, b] = episode.get_actions()
            rollout.rewards[rows, b] = episode.get_rewards()
            rollout.valid[rows, b] = True
            rollout.final_obs[rollout.final_place(stop - 1, b)] = observations[-1]
        return result
