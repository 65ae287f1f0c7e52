"""Acting with a trained agent, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.envs.errors import MAX_EPISODE_STEPS
from rllib_multienv.envs.make import is_task_family, make_env
from rllib_multienv.envs.previous import PreviousInputs
from rllib_multienv.envs.video import check_video, record_episode
from rllib_multienv.evaluation.adaptation import AdaptationResult, check_adaptation, measure_adaptation
from rllib_multienv.evaluation.adapters import chosen_way, make_adapter
from rllib_multienv.evaluation.episodes import copies_for, play_episodes
from rllib_multienv.evaluation.table import EvaluationResult
from rllib_multienv.inner_loop import InnerLoop
from rllib_multienv.policy import AgentPolicy
from rllib_multienv.spaces.leaves import ACTION_MASK
from rllib_multienv.spec import EnvSpec


class MultiEnvAgent(AgentPolicy):
    """An agent from a checkpoint: it acts, plays whole episodes, and adapts to tasks.

    With memory, or where it sees previous inputs, it remembers from one `act` to the next, for each environment apart;
    `reset_memory` says that episodes begin. See `AgentPolicy` for where it can act.
    """

    def __init__(self, checkpoint: AgentCheckpoint, *, device: str | torch.device = "cpu") -> None:
        """Build the network of ``checkpoint``, which must have its weights, on ``device``."""
        super().__init__(checkpoint, device=device)
        self._acting: dict[str, _Acting] = {}

    def act(
        self,
        env: str | EnvSpec | Mapping[str, Any],
        obs: Any,
        explore: bool = False,
        generator: torch.Generator | None = None,
        action_mask: Any = None,
        *,
        reward: Any = None,
        done: Any = False,
    ) -> Any:
        """Choose an action for an observation, or actions for a batch.

        Args:
            env: An env id or specification; a new one is added.
            obs: One observation as the environment gives it; or a batch of B along a new first axis (of every array in
                a Dict or Tuple), or, in a Dict or Tuple space, a list of B observations.
            explore: Draw from the policy's distribution instead of taking its mode.
            generator: Source of the draws; torch's global one by default.
            action_mask: ``info["action_mask"]`` (or B of them) of an environment whose infos have one.
            reward: Reward of the last step (or B of them), where the network sees the previous reward. At the first
                step after `reset_memory` it is not looked at.
            done: Whether an episode within a trial ended with the last step (or B of them).

        Returns:
            An action that ``env.step`` takes (in the space's bounds, shape and dtype), or B of them: an array, or a
            list where the action space is a Dict or a Tuple.

        Raises:
            ValueError: The observation is outside of the environment's space; the reward is missing; or the batch has
                another size than the one that the agent remembers.
        """
        env_id = self.add_env(env)
        return self._act({env_id: (obs, action_mask, reward, done)}, explore, generator, apart=True)[env_id]

    def act_world(
        self,
        obs: Mapping[str, Any],
        explore: bool = False,
        generator: torch.Generator | None = None,
        *,
        rewards: Mapping[str, Any] | None = None,
        dones: Mapping[str, Any] | None = None,
        action_masks: Mapping[str, Any] | None = None,
        present: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Choose actions in all environments of a world at once, each seeing the others (docs/worlds.md).

        Args:
            obs: What `act` takes, by env id. Members that are missing are absent. An environment with k copies in a
                world has a batch of k; in a batch of W worlds it has W * k, those of a world side by side.
            explore, generator: As in `act`.
            rewards, dones, action_masks: As in `act`, by env id.
            present: bool ``[B]`` by env id, where only some copies of a member are in their world; the others neither
                see nor are seen. Call `reset_memory` with ``rows`` for those that join.

        Returns:
            Actions by env id.

        Raises:
            KeyError: An environment is not known.
            ValueError: As in `act`; or the batches are not of the same number of worlds.
        """
        for env_id in obs:
            if env_id not in self.space_specs:
                raise KeyError(f"unknown environment {env_id!r}; known: {', '.join(self.space_specs)}")
        masks, rewards, dones = action_masks or {}, rewards or {}, dones or {}
        given = {e: (one, masks.get(e), rewards.get(e), dones.get(e, False)) for e, one in obs.items()}
        seen = {env_id: np.atleast_1d(np.asarray(own, bool)) for env_id, own in (present or {}).items()}
        return self._act(given, explore, generator, apart=False, present=seen)

    def _act(
        self,
        given: Mapping[str, tuple[Any, Any, Any, Any]],
        explore: bool,
        generator: torch.Generator | None,
        *,
        apart: bool,
        present: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Actions from observation, action mask, reward and end flag by env id; remembers."""
        raws, singles, remembered = {}, {}, dict[str, _Acting]()
        for env_id, (obs, action_mask, reward, done) in given.items():
            spaces = self.space_specs[env_id]
            raw, singles[env_id] = spaces.without_inputs.reader.given(obs, action_mask)
            if self.network.memory is not None or spaces.inputs:
                fresh = _Acting(PreviousInputs(spaces, len(raw)), np.ones(len(raw), bool))
                remembered[env_id] = acting = self._acting.setdefault(env_id, fresh)
                if len(acting.begins) != len(raw):
                    raise ValueError(
                        f"{env_id}: {len(raw)} observations, but the agent remembers {len(acting.begins)} episodes. "
                        f"Call agent.reset_memory({env_id!r}) before others begin."
                    )
                if spaces.inputs:
                    raw = acting.with_previous(env_id, raw, reward, done, needed="previous_reward" in spaces.inputs)
            raws[env_id] = raw
        states = {env_id: acting.state for env_id, acting in remembered.items() if acting.state is not None}
        actions, states = self.actions(raws, explore, generator, states, apart=apart, present=present)
        for env_id, acting in remembered.items():
            acting.state = states.get(env_id)
            acting.begins = np.zeros(len(acting.begins), dtype=bool)
            acting.previous.act(actions[env_id])
        return {env_id: own[0] if singles[env_id] else own for env_id, own in actions.items()}

    def reset_memory(self, env: str | None = None, rows: Any = None) -> None:
        """Forget what was remembered for `act`: episodes (of an environment with trials, trials) begin.

        Args:
            env: An env id; None: all environments.
            rows: Those of a batch that begin, as indices or bool ``[B]``; None: all, and the next batch may have
                another size.
        """
        if rows is None:
            for env_id in [env_id for env_id in self._acting if env in (None, env_id)]:
                del self._acting[env_id]
        elif env in self._acting:
            acting = self._acting[env]
            chosen = np.zeros(len(acting.begins), dtype=bool)
            chosen[rows] = True
            acting.begins |= chosen
            acting.previous.begin(chosen)
            acting.state = self.begun(acting.state, chosen)

    def evaluate(
        self,
        env: str | EnvSpec | Mapping[str, Any],
        episodes: int = 20,
        *,
        seed: int | None = 0,
        explore: bool = False,
        opponent: str | Path | None = None,
        max_steps: int = MAX_EPISODE_STEPS,
        video_dir: str | Path | None = None,
        video_format: str = "mp4",
    ) -> EvaluationResult:
        """Play whole episodes.

        Args:
            env: An env id or specification; a new one is added.
            episodes: Number of episodes, of each agent where there are several; a data set shows each row of its test
                split once instead.
            seed: Seed of the environment and of the draws; None for fresh entropy.
            explore: Draw actions instead of taking the mode.
            opponent: Who plays the other agents of a game: ``"random"``, or the folder of a checkpoint. Default: this
                agent plays all.
            max_steps: Limit of an episode's length: in an environment without a time limit a deterministic policy may
                never end an episode.
            video_dir: Also record an episode as a video in this folder.
            video_format: ``"mp4"``, which needs the extra ``video``, or ``"gif"``.

        Returns:
            Return (undiscounted sum of raw rewards) and length of each episode; a list with their ``mean``, ``std`` and
            so on. In a multi-agent environment an entry is an agent's part, and ``agents`` names the agents.

        Raises:
            ValueError: The environment cannot be made from the checkpoint alone, or ``episodes`` is not positive.
            ImportError: The video needs a package that is not installed.
            EnvFailure: The environment raised, or an episode is longer than ``max_steps``.
        """
        if episodes < 1:
            raise ValueError(f"episodes={episodes}: must be at least 1.")
        if video_dir is not None:
            check_video(video_format)
        env_id = self._makeable(env)
        if video_dir is not None and self.space_specs[env_id].agents:
            raise ValueError(f"Environment {env_id!r} has several agents: no video can be made of it yet.")
        result = play_episodes(
            self,
            self.env_specs[env_id],
            episodes,
            seed=seed,
            explore=explore,
            opponent=None if opponent is None else str(opponent),
            max_steps=max_steps,
        )
        if video_dir is not None:
            path = Path(video_dir) / f"{env_id.replace('/', '-')}.{video_format}"
            self._record(env_id, path, explore=explore, seed=seed, max_steps=max_steps)
        return result

    def _record(self, env_id: str, path: Path, *, explore: bool, seed: int | None, max_steps: int) -> None:
        """Write an episode as a video."""

        def act(obs: Any, info: Any, reward: float) -> Any:
            return self.act(env_id, obs, explore, action_mask=info.get(ACTION_MASK), reward=reward)

        self.reset_memory(env_id)
        rendered = make_env(self.env_specs[env_id], render_mode="rgb_array")
        record_episode(rendered, act, path, seed=seed, max_steps=max_steps)
        self.reset_memory(env_id)

    def adapt(
        self,
        env: str | EnvSpec | Mapping[str, Any],
        *,
        split: str = "test",
        num_tasks: int = 40,
        episodes: int = 4,
        explore: bool = False,
        seed: int | None = 0,
        inner_loop: InnerLoop | Mapping[str, Any] | None = None,
    ) -> AdaptationResult:
        """Adapt to tasks of a family, each anew, and measure the return of each episode.

        Args:
            env: An env id or specification of a task family; a new one is added.
            split: Tasks to adapt to, such as ``"test"`` or ``"train"``.
            num_tasks: Number of tasks; all are stepped together.
            episodes: Episodes in each task.
            explore: Draw actions instead of taking the mode.
            seed: Seed of tasks, environments and draws; None for fresh entropy.
            inner_loop: Adapt by these steps of the gradient (or with these of its fields), drawing all actions; None:
                in the way of the checkpoint, which is by memory where the algorithm has no other.

        Raises:
            ValueError: The environment is no task family, it cannot be made from the checkpoint alone, or a number is
                not positive.
            EnvFailure: The environment raised, or an episode does not end.
        """
        check_adaptation(split=split, num_tasks=num_tasks, episodes=episodes, seed=seed)
        way = chosen_way(self.checkpoint.adapter, inner_loop)
        env_id = self._makeable(env)
        generator = self.generator(seed)
        (copies,) = copies_for(self, replace(self.env_specs[env_id], trial_episodes=episodes), num_tasks, seed).values()
        try:
            adapter = make_adapter(way, self, env_id, explore=explore, generator=generator)
            return measure_adaptation(copies, adapter, split=split, episodes=episodes, seed=seed)
        finally:
            copies.close()

    @property
    def families(self) -> list[str]:
        """Ids of the task families among the environments that it can make."""
        return [env_id for env_id, spec in self.env_specs.items() if is_task_family(spec)]

    def _makeable(self, env: str | EnvSpec | Mapping[str, Any]) -> str:
        """The id of an environment, which becomes known.

        Raises:
            ValueError: The checkpoint does not hold what makes it.
        """
        env_id = self.add_env(env)
        if env_id not in self.env_specs:
            raise ValueError(
                f"Environment {env_id!r} was made by a function that the checkpoint does not hold: pass an EnvSpec "
                "that makes it."
            )
        return env_id


@dataclass
class _Acting:
    """What an agent remembers of an environment between two calls of `act`.

    Attributes:
        previous: The previous inputs.
        begins: bool ``[B]``, episodes that begin with the next observation.
        state: ``[B, D]``, of the network's memory.
    """

    previous: PreviousInputs
    begins: np.ndarray
    state: torch.Tensor | None = None

    def with_previous(self, env_id: str, raw: np.ndarray, reward: Any, done: Any, *, needed: bool) -> np.ndarray:
        """Raw observations ``[B, ...]`` with the previous inputs, given the last step's rewards and end flags."""
        if not self.begins.all():
            if needed and reward is None:
                raise ValueError(
                    f"{env_id}: this agent sees the previous reward; pass act(..., reward=...), or call reset_memory() "
                    "where an episode begins."
                )
            rewards = np.broadcast_to(np.asarray(0.0 if reward is None else reward, float), len(raw))
            self.previous.settle(rewards, ~self.begins, np.broadcast_to(np.asarray(done, float), len(raw)))
        return self.previous.added(raw)
