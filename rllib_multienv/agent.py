"""Acting with a trained agent, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.envs.errors import MAX_EPISODE_STEPS, endless
from rllib_multienv.envs.make import is_task_family, make_env
from rllib_multienv.envs.measure import with_measurements
from rllib_multienv.envs.previous import PreviousInputs
from rllib_multienv.envs.vector import EnvCopies, VectorStep, probe_roles
from rllib_multienv.envs.video import check_video, record_episode
from rllib_multienv.evaluation.adaptation import AdaptationResult, Adapter, check_adaptation, measure_adaptation
from rllib_multienv.evaluation.table import EvaluationResult
from rllib_multienv.inner_loop import InnerLoop, StepSizes, TaskPolicies
from rllib_multienv.nets import ActorCritic, distribution_for, owning_environments
from rllib_multienv.normalization import ObservationNormalizer
from rllib_multienv.opponents import RANDOM, AgentOpponent, Match, Opponent, RandomOpponent
from rllib_multienv.spaces.observations import ACTION_MASK
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs
from rllib_multienv.transfer import random_moments


class MultiEnvAgent:
    """An agent from a checkpoint: the network, and each environment's spaces and observation statistics.

    It acts in the environments that it was trained on and, if no parameter of its network belongs to an environment, in
    any other environment of a supported kind; there it normalises observations by statistics of a short random rollout.

    An agent with memory, or that sees previous inputs, remembers from one `act` to the next, for each environment
    apart; `reset_memory` says that episodes begin.

    Attributes:
        checkpoint: The checkpoint.
        env_specs: Environments that it can make, by env id.
        space_specs: Spaces of all known environments, by env id; grows with each new environment.
    """

    def __init__(self, checkpoint: AgentCheckpoint, *, device: str | torch.device = "cpu") -> None:
        """Build the network of ``checkpoint``, which must have its weights, on ``device``."""
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.env_specs: dict[str, EnvSpec] = dict(checkpoint.env_specs)
        self.space_specs: dict[str, SpaceSpec] = dict(checkpoint.space_specs)
        self._network = checkpoint.network.build(self.space_specs)
        weights = dict(checkpoint.weights or {})
        if not any(name.startswith(f"{child}.") for child in self._network.critic_only for name in weights):
            self._network.drop_critic()  # a runner's weights
        checkpoint.network.check_memory(self._network)
        StepSizes.add_where_in(self._network, weights)
        self._network.load_state_dict(weights)
        self._network.to(self.device).eval()
        self._normalizers = {
            env_id: ObservationNormalizer.of(moments) for env_id, moments in checkpoint.obs_moments.items()
        }
        self._acting: dict[str, _Acting] = {}

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """Load an agent.

        Args:
            path: A checkpoint folder, or the folder of a run or a trial, of which the newest checkpoint is taken.
            device: Device of the network.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: The folder is not a checkpoint of this package.
        """
        return cls(read_checkpoint(path), device=device)

    def add_env(self, env: str | EnvSpec | Mapping[str, Any]) -> str:
        """Make an environment known, if it is not known yet, and return its id.

        A known id may come with another specification, which then makes the environment: with other ``kwargs``, or
        because the checkpoint could not hold the function that makes it. Its spaces must be the same; the network keeps
        the description that it was trained with.

        Raises:
            ValueError: It does not exist, its spaces are not supported, or they differ from those known by this id; or
                it is new, and the network has parameters for each environment.
        """
        if isinstance(env, str) and env in self.space_specs:
            return env
        spec = EnvSpec.of(env)
        if self.env_specs.get(spec.id) == spec:
            return spec.id
        (spec,) = resolve_env_specs([spec])
        (spec, spaces), *roles = probe_roles(spec)
        for role, of_role in roles:
            self._add(role, of_role)
        return self._add(spec, spaces)

    def _add(self, spec: EnvSpec, spaces: SpaceSpec) -> str:
        known, spaces = self.space_specs.get(spec.id), spaces.with_inputs(self.checkpoint.network.inputs)
        if known is None:
            self._check_for_any(spec.id)
            squashed = any(of_known.squashed for of_known in self.checkpoint.space_specs.values())
            spaces = replace(spaces, squashed=squashed)
            if self.checkpoint.network.needs_measurements:
                spaces = with_measurements(spec, spaces)
            if self._normalizers:
                self._normalizers[spec.id] = ObservationNormalizer.of(random_moments(spec, spaces)[0])
            self._network.add_env(spec.id, spaces)
            self.space_specs[spec.id] = spaces
        elif not known.has_spaces_of(spaces):
            raise ValueError(
                f"{spec.id!r} is the id of an environment with observations {known.observation_space} and actions "
                f"{known.action_space}; this one has {spaces.observation_space} and {spaces.action_space}. Give it "
                "another id."
            )
        self.env_specs[spec.id] = spec
        return spec.id

    def _check_for_any(self, env_id: str) -> None:
        """Raise a ValueError if the network has parameters that belong to single environments."""
        if owning_environments(self._network.state_dict()):
            raise ValueError(
                f"{env_id}: this agent's network (type {self.checkpoint.network.type!r}) has parameters for each "
                f"environment, and none for this one; it would act at random. It knows "
                f"{', '.join(self.checkpoint.space_specs)}. To train it on others: config.initialize_from(path)."
            )

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
    ) -> dict[str, Any]:
        """Choose actions in all environments of a world at once, each seeing the others (docs/worlds.md).

        Args:
            obs: What `act` takes, by env id. Members that are missing are absent. An environment with k copies in a
                world has a batch of k; in a batch of W worlds it has W * k, those of a world side by side.
            explore, generator: As in `act`.
            rewards, dones, action_masks: As in `act`, by env id.

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
        return self._act(given, explore, generator, apart=False)

    def _act(
        self,
        given: Mapping[str, tuple[Any, Any, Any, Any]],
        explore: bool,
        generator: torch.Generator | None,
        *,
        apart: bool,
    ) -> dict[str, Any]:
        """Actions from observation, action mask, reward and end flag by env id; remembers."""
        raws, singles, remembered = {}, {}, dict[str, _Acting]()
        for env_id, (obs, action_mask, reward, done) in given.items():
            spaces = self.space_specs[env_id]
            raw, singles[env_id] = spaces.without_inputs.reader.given(obs, action_mask)
            if self._network.memory is not None or spaces.inputs:
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
        actions, states = self._actions(raws, explore, generator, states, apart=apart)
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

    def initial_state(self, count: int) -> torch.Tensor | None:
        """The memory's states ``[count, D]`` at the beginning of episodes; None without memory."""
        return None if self._network.memory is None else self._network.memory.core.initial_state(count)

    def begun(self, state: torch.Tensor | None, rows: np.ndarray) -> torch.Tensor | None:
        """The memory's states ``[B, D]``, where rows in bool ``[B]`` begin episodes."""
        if state is None or not rows.any():
            return state
        fresh: Any = self.initial_state(len(state))
        return torch.where(torch.from_numpy(rows)[:, None].to(self.device), fresh, state)

    def act_on_raw(
        self,
        env_id: str,
        raw: np.ndarray,
        explore: bool = False,
        generator: torch.Generator | None = None,
        state: torch.Tensor | None = None,
    ) -> tuple[Any, torch.Tensor | None]:
        """Actions for a batch of raw observations ``[B, ...]`` (`spaces.observations`, with previous inputs).

        Args:
            env_id: A known environment.
            raw: The observations.
            explore, generator: As in `act`.
            state: ``[B, D]``, what the memory holds; None: episodes begin.

        Returns:
            Actions as `act` returns them, and the memory's next state; None without memory.
        """
        states = {} if state is None else {env_id: state}
        actions, states = self._actions({env_id: raw}, explore, generator, states, apart=True)
        return actions[env_id], states.get(env_id)

    @torch.no_grad()
    def _actions(
        self,
        raws: Mapping[str, np.ndarray],
        explore: bool,
        generator: torch.Generator | None,
        states: Mapping[str, torch.Tensor],
        *,
        apart: bool,
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Actions and next states by env id, by one pass of the network; see `act_on_raw`."""
        actions, rows = {}, {env_id: self.rows(env_id, raw) for env_id, raw in raws.items()}
        outputs = self._network(rows, states or None, parts=("actor",), apart=apart)
        for env_id, logits in outputs.policy.items():
            spaces = self.space_specs[env_id]
            distribution = distribution_for(spaces).from_logits(logits)
            drawn = distribution.sample(generator=generator) if explore else distribution.to_deterministic().sample()
            actions[env_id] = spaces.action_to_env(drawn.cpu().numpy())
        return actions, dict(outputs.state)

    def rows(self, env_id: str, raw: np.ndarray) -> torch.Tensor:
        """Raw observations ``[B, ...]`` as the network sees them, ``[B, width]``."""
        spaces = self.space_specs[env_id]
        numbers, extra = spaces.reader.split(raw)
        if env_id in self._normalizers:
            numbers = self._normalizers[env_id](numbers)
        return torch.from_numpy(spaces.observation.join(numbers, extra)).to(self.device)

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
        generator = self._generator(seed)
        # Each copy plays a fixed number of episodes: taking the first ones that end would favour short episodes.
        members = self._copies(self.env_specs[env_id], min(episodes, 10), seed)
        copies = members[env_id]
        result = EvaluationResult(env_id)
        try:
            agents = copies.space_spec.agents
            match = _match(copies, opponent, seed)
            left = np.array(copies.shares(episodes))  # [B]
            obs = {member: own.reset() for member, own in members.items()}
            returns, lengths = np.zeros(copies.num_envs), np.zeros(copies.num_envs, dtype=int)
            states: dict[str, torch.Tensor | None] = dict.fromkeys(members)
            reached = np.zeros(copies.num_envs, dtype=bool)
            while left.any():
                actions = {}
                for member, own in members.items():
                    seen, before = obs[member], states[member]
                    actions[member], after = self.act_on_raw(member, seen, explore, generator, before)
                    if own.acting is not None and after is not None:  # the others have seen nothing
                        kept: Any = self.begun(after, ~own.acting) if before is None else before
                        after = torch.where(torch.from_numpy(own.acting)[:, None].to(after.device), after, kept)
                    states[member] = after
                if match is not None and copies.acting is not None:
                    actions[env_id] = match.override(obs[env_id], copies.acting, actions[env_id])
                for member, own in members.items():
                    own.send(actions[member])
                steps = {member: own.step(actions[member]) for member, own in members.items()}
                for member, own_step in steps.items():
                    ended = own_step.terminated | own_step.truncated
                    states[member] = self.begun(states[member], ended)
                step, mine = steps[env_id], ~steps[env_id].is_reset
                returns += step.rewards
                lengths += mine
                reached |= False if step.success is None else step.success
                if lengths.max() > max_steps:
                    raise endless(env_id, max_steps, ", or pass a larger max_steps")
                counted = np.ones(copies.num_envs, dtype=bool) if match is None else match.learning()
                for row in np.flatnonzero(step.terminated | step.truncated):
                    if left[row] and counted[row]:
                        result.append((float(returns[row]), int(lengths[row])))
                        result.agents += [agents[row % len(agents)]] if agents else []
                        result.successes += [] if step.success is None else [bool(reached[row])]
                        left[row] -= 1
                    returns[row], lengths[row], reached[row] = 0.0, 0, False
                if match is not None:
                    match.begin(copies.restarted)
                obs = {member: own.obs for member, own in steps.items()}
        finally:
            for own in members.values():
                own.close()
        if video_dir is not None:
            rendered = make_env(self.env_specs[env_id], render_mode="rgb_array")
            path = Path(video_dir) / f"{env_id.replace('/', '-')}.{video_format}"

            def act(obs: Any, info: Any, reward: float) -> Any:
                return self.act(env_id, obs, explore, action_mask=info.get(ACTION_MASK), reward=reward)

            self.reset_memory(env_id)
            record_episode(rendered, act, path, seed=seed, max_steps=max_steps)
            self.reset_memory(env_id)
        return result

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
                by those of the checkpoint, or by memory where it has none.

        Raises:
            ValueError: The environment is no task family, it cannot be made from the checkpoint alone, or a number is
                not positive.
            EnvFailure: The environment raised, or an episode does not end.
        """
        check_adaptation(split=split, num_tasks=num_tasks, episodes=episodes)
        env_id = self._makeable(env)
        spec = replace(self.env_specs[env_id], trial_episodes=episodes)
        (copies,) = self._copies(spec, num_tasks, seed).values()
        try:
            adapter = self.adapter(env_id, explore=explore, generator=self._generator(seed), inner_loop=inner_loop)
            return measure_adaptation(copies, adapter, split=split, episodes=episodes, seed=seed)
        finally:
            copies.close()

    @property
    def families(self) -> list[str]:
        """Ids of the task families among the environments that it can make."""
        return [env_id for env_id, spec in self.env_specs.items() if is_task_family(spec)]

    def adapter(
        self,
        env_id: str,
        *,
        explore: bool,
        generator: torch.Generator,
        inner_loop: InnerLoop | Mapping[str, Any] | None = None,
    ) -> Adapter:
        """What adapts to tasks of an environment: steps of a gradient, or the memory, where the network has one."""
        known = self.checkpoint.inner_loop
        if isinstance(inner_loop, Mapping):
            inner_loop = InnerLoop(**inner_loop) if known is None else replace(known, **inner_loop)
        if (inner_loop := inner_loop or known) is None:
            return _MemoryAdapter(self, env_id, explore, generator)
        if self._network.memory is not None:
            raise ValueError("inner_loop: a network with memory does not adapt by steps of a gradient.")
        return _GradientAdapter(self, env_id, generator, inner_loop)

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

    def _generator(self, seed: int | None) -> torch.Generator:
        generator = torch.Generator(device=self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    def _copies(self, spec: EnvSpec, num_copies: int, seed: int | None) -> dict[str, EnvCopies]:
        """New copies of an environment, by env id; of all roles where it is one role of a multi-agent environment."""
        members = dict[str, EnvCopies]()
        for role_id, role in self.env_specs.items():
            if role_id == spec.id or (spec.role and role.base_id == spec.base_id):
                members[role_id] = EnvCopies(
                    spec if role_id == spec.id else role,
                    num_copies,
                    seed=seed,
                    mask_in_info=self.space_specs[role_id].mask_in_info,
                    inputs=self.space_specs[role_id].inputs,
                    evaluation=True,
                    partner=next(iter(members.values()), None),
                )
        return members

    @property
    def network(self) -> ActorCritic:
        """The network."""
        return self._network

    @property
    def num_parameters(self) -> int:
        """Size of the network, critic included."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def __repr__(self) -> str:
        """Network, parameters and environments."""
        network = f"{self.checkpoint.network.type} network with {self.num_parameters:,} parameters"
        return f"MultiEnvAgent({network}; environments: {', '.join(self.space_specs)})"


class _MemoryAdapter:
    """Acts with the policy; what it knows of a task is in its memory."""

    def __init__(self, agent: MultiEnvAgent, env_id: str, explore: bool, generator: torch.Generator) -> None:
        self._agent, self._env_id, self._explore, self._generator = agent, env_id, explore, generator
        self._state: torch.Tensor | None = None

    def begin(self, num_tasks: int) -> None:
        self._state = None

    def act(self, raw: np.ndarray) -> Any:
        actions, self._state = self._agent.act_on_raw(self._env_id, raw, self._explore, self._generator, self._state)
        return actions

    def observe(self, step: VectorStep) -> None:
        self._state = self._agent.begun(self._state, step.terminated | step.truncated)


class _GradientAdapter:
    """Acts with a policy for each task, which takes steps of the gradient between episodes."""

    def __init__(self, agent: MultiEnvAgent, env_id: str, generator: torch.Generator, inner_loop: InnerLoop) -> None:
        self._agent, self._env_id, self._generator, self._inner_loop = agent, env_id, generator, inner_loop

    def begin(self, num_tasks: int) -> None:
        self._policies = TaskPolicies(self._inner_loop, self._agent.network, self._env_id, num_tasks)

    def act(self, raw: np.ndarray) -> Any:
        spaces, rows = self._agent.space_specs[self._env_id], self._agent.rows(self._env_id, raw)
        inputs = self._policies(rows)
        distribution = distribution_for(spaces).from_logits(inputs)
        actions = distribution.sample(generator=self._generator)
        columns = {"obs": rows, "actions": actions, "logp": distribution.logp(actions), "dist_inputs": inputs}
        self._seen = {key: column.cpu().numpy() for key, column in columns.items()}
        return spaces.action_to_env(self._seen["actions"])

    def observe(self, step: VectorStep) -> None:
        assert step.episode_ends is not None  # in trials
        done = step.terminated | step.truncated
        self._policies.observe(self._seen, step.rewards, step.episode_ends, done, ~step.is_reset)


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


def _match(copies: EnvCopies, opponent: str | Path | None, seed: int | None) -> Match | None:
    """The seats of a game against an opponent; None without one.

    Raises:
        ValueError: The environment is no game whose agents have equal spaces.
    """
    if opponent is None:
        return None
    if len(copies.space_spec.agents) < 2 or copies.spec.role:
        raise ValueError(
            f"opponent={str(opponent)!r}: environment {copies.spec.id!r} must have several agents with equal spaces."
        )
    return Match(copies.space_spec, copies.num_copies, [make_opponent(str(opponent))], self_play=0.0, seed=seed)


def make_opponent(name: str) -> Opponent:
    """``"random"``, or the agent of a checkpoint folder.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is not a checkpoint.
    """
    return RandomOpponent() if name == RANDOM else AgentOpponent(MultiEnvAgent.from_checkpoint(name))
