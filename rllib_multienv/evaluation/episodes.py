"""Whole episodes of a policy: returns, lengths and successes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.errors import MAX_EPISODE_STEPS, endless
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.evaluation.table import EvaluationResult
from rllib_multienv.opponents import Match, make_opponent
from rllib_multienv.policy import AgentPolicy
from rllib_multienv.spec import EnvSpec


def copies_for(policy: AgentPolicy, spec: EnvSpec, num_copies: int, seed: int | None) -> dict[str, EnvCopies]:
    """New copies of an environment, by env id; of all roles where it is one role of a multi-agent environment."""
    members = dict[str, EnvCopies]()
    for role_id, role in policy.env_specs.items():
        if role_id == spec.id or (spec.role and role.base_id == spec.base_id):
            members[role_id] = EnvCopies(
                spec if role_id == spec.id else role,
                num_copies,
                seed=seed,
                mask_in_info=policy.space_specs[role_id].mask_in_info,
                inputs=policy.space_specs[role_id].inputs,
                evaluation=True,
                partner=next(iter(members.values()), None),
            )
    return members


def play_episodes(
    policy: AgentPolicy,
    spec: EnvSpec,
    episodes: int,
    *,
    seed: int | None,
    explore: bool = False,
    opponent: str | None = None,
    max_steps: int = MAX_EPISODE_STEPS,
) -> EvaluationResult:
    """Play whole episodes; see `MultiEnvAgent.evaluate`."""
    env_id, result, generator = spec.id, EvaluationResult(spec.id), policy.generator(seed)
    # Each copy plays a fixed number of episodes: taking the first ones that end would favour short episodes.
    members = copies_for(policy, spec, min(episodes, 10), seed)
    copies = members[env_id]
    try:
        agents = copies.space_spec.agents
        match = None if opponent is None else _match(copies, opponent, seed)
        left = np.array(copies.shares(episodes))  # [B]
        obs = {member: own.reset() for member, own in members.items()}
        returns, lengths = np.zeros(copies.num_envs), np.zeros(copies.num_envs, dtype=int)
        reached = np.zeros(copies.num_envs, dtype=bool)
        states: dict[str, torch.Tensor | None] = dict.fromkeys(members)
        while left.any():
            actions = {}
            for member, own in members.items():
                before = states[member]
                actions[member], after = policy.act_on_raw(member, obs[member], explore, generator, before)
                if own.acting is not None and after is not None:  # the others have seen nothing
                    kept: Any = policy.begun(after, ~own.acting) if before is None else before
                    after = torch.where(torch.from_numpy(own.acting)[:, None].to(after.device), after, kept)
                states[member] = after
            if match is not None and copies.acting is not None:
                actions[env_id] = match.override(obs[env_id], copies.acting, actions[env_id])
            steps = _step(members, actions)
            for member, own_step in steps.items():
                states[member] = policy.begun(states[member], own_step.terminated | own_step.truncated)
            step = steps[env_id]
            returns += step.rewards
            lengths += ~step.is_reset
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
    return result


def _step(members: Mapping[str, EnvCopies], actions: Mapping[str, Any]) -> dict[str, VectorStep]:
    """Step all roles of an environment together."""
    for member, own in members.items():
        own.send(actions[member])
    return {member: own.step(actions[member]) for member, own in members.items()}


def _match(copies: EnvCopies, opponent: str, seed: int | None) -> Match:
    """The seats of a game against an opponent.

    Raises:
        ValueError: The environment is no game whose agents have equal spaces.
    """
    if len(copies.space_spec.agents) < 2 or copies.spec.role:
        raise ValueError(
            f"opponent={opponent!r}: environment {copies.spec.id!r} must have several agents with equal spaces."
        )
    return Match(copies.space_spec, copies.num_copies, [make_opponent(opponent)], self_play=0.0, seed=seed)
