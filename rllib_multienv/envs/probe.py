"""The spaces of an environment, read from one copy of it."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym

from rllib_multienv.envs.agents import AgentsEnv, first_turns, role_agents, roles_of
from rllib_multienv.envs.components import component_names
from rllib_multienv.envs.errors import ENV_ERRORS
from rllib_multienv.envs.make import opened
from rllib_multienv.envs.vector import EnvCopies, resolve_backend
from rllib_multienv.spaces.leaves import ACTION_MASK
from rllib_multienv.spec import EnvSpec, SpaceSpec

__all__ = ["probe_roles", "probe_spaces"]


def probe_roles(spec: EnvSpec) -> list[tuple[EnvSpec, SpaceSpec]]:
    """Read an environment's spaces: makes one copy and closes it.

    Returns:
        The EnvSpec and its spaces; for a multi-agent environment with several roles one pair for each.

    Raises:
        EnvFailure: The environment cannot be made.
        UnsupportedSpaceError: Its spaces are of an unsupported kind.
        ValueError: It has no such role.
    """
    if spec.backend != "auto" and resolve_backend(spec) == "envpool":
        copies = EnvCopies(spec, 1)
        copies.close()
        return [(spec, copies.space_spec)]
    with opened(spec) as env:
        if not isinstance(env, AgentsEnv):
            obs_names, action_names = component_names(env)
            found = spec.space_spec(
                env.observation_space, env.action_space, obs_names=obs_names, action_names=action_names
            )
            if found.action.num_logits and not found.observation.mask and _has_mask(env):
                found = replace(found, mask_in_info=True)
            return [(spec, found)]
        roles, pairs = roles_of(env), []
        if spec.role:
            roles = {spec.role: role_agents(spec, roles)}
        masked = {agent for agent, (_, info) in first_turns(env).items() if ACTION_MASK in (info or {})}
        for role, agents in roles.items():
            own = spec if len(roles) == 1 else spec.of_role(role)
            spaces = own.space_spec(env.observation_space(agents[0]), env.action_space(agents[0]), agents=agents)
            wants_mask = bool(spaces.action.num_logits and not spaces.observation.mask)
            pairs.append((own, replace(spaces, mask_in_info=wants_mask and bool(masked & set(agents)))))
        return pairs


def probe_spaces(spec: EnvSpec) -> SpaceSpec:
    """The spaces of an environment that is a single one; see `probe_roles`.

    Raises:
        ValueError: Its agents have several roles.
    """
    found = probe_roles(spec)
    if len(found) > 1:
        ids = ", ".join(repr(own.id) for own, _ in found)
        raise ValueError(f"Environment {spec.id!r} has agents with different spaces: {ids}. Take one of these.")
    return found[0][1]


def _has_mask(env: gym.Env) -> bool:
    """Whether the info of an environment's first reset has an action mask."""
    try:
        _, info = env.reset()
        return ACTION_MASK in info
    except ENV_ERRORS:  # whoever steps it will say so
        return False
