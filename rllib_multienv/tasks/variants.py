"""Variants of Gymnasium's environments: other physics, components in another order, delayed actions.

``multienv/HopperVariant-v0`` without arguments is Hopper-v4, step by step. Physical quantities are given as factors of
the original's, so that 1 changes nothing:

    EnvSpec("heavy", make="multienv/HopperVariant-v0", kwargs={"mass": 1.3, "permutation_seed": 0})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator, registry

from rllib_multienv.gym_ids import did_you_mean

__all__ = ["DelayedActions", "Rearranged", "make_variant"]

Factors = Mapping[str, float]
_PARTS = ("observation", "action")


def make_variant(
    original: str,
    *,
    action_delay: int = 0,
    permutation: Mapping[str, Sequence[int]] | None = None,
    permutation_seed: int | None = None,
    sign_flips: Mapping[str, Sequence[int]] | None = None,
    **kwargs: Any,
) -> gym.Env:
    """Make a variant of an environment.

    Args:
        original: Its id, one of `ORIGINALS`.
        action_delay: Steps until an action is executed; until then the episode's first action is.
        permutation: ``{"observation": order, "action": order}``, or one of them: component (or discrete action) i is
            component ``order[i]`` of the original.
        permutation_seed: Draws both orders instead.
        sign_flips: ``{"observation": indices, "action": indices}``, or one of them: these components of the original
            have the opposite sign. Discrete actions have none.
        kwargs: Factors of physical quantities, 1 being the original; those that an environment has are listed in
            docs/tasks.md. All other arguments are the original's own.

    Raises:
        ValueError: An argument has no meaning for this environment, or a wrong value.
    """
    if original not in _PHYSICS:
        raise ValueError(f"original={original!r}: there are variants of {', '.join(_PHYSICS)}.")
    physics, name = _PHYSICS[original], f"multienv/{original.partition('-')[0]}Variant-v0"
    factors = {key: _factor(name, key, kwargs.pop(key)) for key in _QUANTITIES if key in kwargs}
    for key in factors:
        if key not in physics.quantities:
            raise ValueError(f"{name}: there is no {key!r} to change; it has {', '.join(physics.quantities)}.")
    if isinstance(action_delay, bool) or not isinstance(action_delay, int) or action_delay < 0:
        raise ValueError(f"{name}: action_delay={action_delay!r} must be a whole number of steps, 0 or more.")
    gym_spec = registry[original]
    creator: Any = gym_spec.entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    try:
        env: gym.Env = creator(**{**gym_spec.kwargs, **kwargs})
    except TypeError as error:
        for key in kwargs:
            if f"argument '{key}'" in str(error):
                known = (*physics.quantities, "action_delay", "permutation", "permutation_seed", "sign_flips")
                raise ValueError(
                    f"{name}: there is no argument {key!r}. It takes {', '.join(known)}, and what {original} "
                    f"takes.{did_you_mean(key, known)}"
                ) from error
        raise
    changed = {key: value for key, value in factors.items() if value != 1}
    if changed:
        env = physics.change(env, {key: 1.0 for key in physics.quantities} | changed)
    orders = _orders(name, env, permutation, permutation_seed)
    flips = _flips(name, env, sign_flips)
    if orders or any(flips.values()):
        env = Rearranged(env, orders, flips)
    return DelayedActions(env, action_delay) if action_delay else env


# Arguments


def _factor(name: str, key: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    zero_is_allowed = key in ("gravity", "friction", "damping")
    if not is_number or not np.isfinite(value) or value < 0 or (value == 0 and not zero_is_allowed):
        raise ValueError(
            f"{name}: {key}={value!r} must be a factor {'of 0 or more' if zero_is_allowed else 'above 0'}; "
            "1 is the original."
        )
    return float(value)


def _sizes(env: gym.Env) -> dict[str, int]:
    action = env.action_space
    assert env.observation_space.shape is not None
    number = int(action.n) if isinstance(action, gym.spaces.Discrete) else action.shape[0]  # type: ignore[index]
    return {"observation": env.observation_space.shape[0], "action": number}


def _check_parts(name: str, key: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not set(value) <= set(_PARTS):
        raise ValueError(
            f"{name}: {key}={value!r} must map 'observation' and 'action', or one of them, to lists of numbers."
        )


def _orders(name: str, env: gym.Env, permutation: Any, seed: int | None) -> dict[str, list[int]]:
    """The order of each part that has one."""
    sizes = _sizes(env)
    if seed is not None:
        if permutation is not None:
            raise ValueError(f"{name}: give either permutation or permutation_seed, not both.")
        rng = np.random.default_rng(seed)
        return {part: rng.permutation(sizes[part]).tolist() for part in _PARTS}
    if permutation is None:
        return {}
    _check_parts(name, "permutation", permutation)
    for part, order in permutation.items():
        if sorted(order) != list(range(sizes[part])):
            raise ValueError(
                f"{name}: permutation[{part!r}]={list(order)} must have each of 0 to {sizes[part] - 1} once."
            )
    return {part: list(order) for part, order in permutation.items()}


def _flips(name: str, env: gym.Env, sign_flips: Any) -> dict[str, list[int]]:
    if sign_flips is None:
        return {}
    _check_parts(name, "sign_flips", sign_flips)
    if sign_flips.get("action") and isinstance(env.action_space, gym.spaces.Discrete):
        raise ValueError(f"{name}: sign_flips['action'] has no meaning for discrete actions; use permutation.")
    sizes = _sizes(env)
    for part, indices in sign_flips.items():
        if not set(indices) <= set(range(sizes[part])):
            raise ValueError(f"{name}: sign_flips[{part!r}]={list(indices)} must be from 0 to {sizes[part] - 1}.")
    return {part: list(indices) for part, indices in sign_flips.items()}


# Wrappers


class Rearranged(gym.Wrapper):
    """Components of observations and actions in another order, and with other signs.

    Args:
        env: With a flat observation, and discrete actions or a flat vector of them.
        orders: By part ("observation", "action"), for each component the one of `env` that it is.
        flips: By part, the components of `env` with the opposite sign.
    """

    def __init__(self, env: gym.Env, orders: Mapping[str, Sequence[int]], flips: Mapping[str, Sequence[int]]) -> None:
        super().__init__(env)
        self._orders = {part: np.array(orders.get(part, range(size))) for part, size in _sizes(env).items()}
        self._is_flipped = {part: np.isin(order, flips.get(part, ())) for part, order in self._orders.items()}
        for part in _PARTS:
            space = getattr(env, f"{part}_space")
            if isinstance(space, gym.spaces.Box):
                low, high, flip = space.low[self._orders[part]], space.high[self._orders[part]], self._is_flipped[part]
                bounds = np.where(flip, -high, low), np.where(flip, -low, high)
                setattr(self, f"{part}_space", gym.spaces.Box(*bounds, dtype=bounds[0].dtype.type))

    def rename_components(
        self, obs_names: Sequence[str], action_names: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of `env`'s components in this order; those with the opposite sign are "reversed"."""
        renamed = [
            tuple(
                f"{names[i]} reversed" if flipped else names[i]
                for i, flipped in zip(self._orders[part], self._is_flipped[part], strict=True)
            )
            if names
            else ()
            for part, names in zip(_PARTS, (obs_names, action_names), strict=True)
        ]
        return renamed[0], renamed[1]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The original's reset."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._observation(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The original's step."""
        order, flip = self._orders["action"], self._is_flipped["action"]
        if isinstance(self.action_space, gym.spaces.Discrete):
            inner = order[action]
        else:
            inner = np.empty_like(action)
            inner[order] = np.where(flip, -action, action)
        obs, reward, terminated, truncated, info = self.env.step(inner)
        return self._observation(obs), reward, terminated, truncated, info

    def _observation(self, obs: np.ndarray) -> np.ndarray:
        ordered = obs[self._orders["observation"]]
        return np.where(self._is_flipped["observation"], -ordered, ordered)


class DelayedActions(gym.Wrapper):
    """Executes actions some steps late; until then the episode's first action."""

    def __init__(self, env: gym.Env, delay: int) -> None:
        super().__init__(env)
        self._delay = delay
        self._waiting: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The original's reset."""
        self._waiting = []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step with the action of `delay` steps ago."""
        action = np.array(action)[()]  # a copy: what is handed over may be a window onto a batch
        if not self._waiting:
            self._waiting = [action] * self._delay
        self._waiting.append(action)
        return self.env.step(self._waiting.pop(0))


class _Lander(gym.Wrapper):
    """LunarLander, which builds new bodies in each reset, with other ones."""

    def __init__(self, env: gym.Env, factors: Factors) -> None:
        super().__init__(env)
        self._factors = dict(factors)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The original's reset, whose push gives lander and legs the original's velocity."""
        obs, info = self.env.reset(seed=seed, options=options)
        inner: Any = self.unwrapped
        for body in (inner.lander, *inner.legs, inner.moon):
            for fixture in body.fixtures:
                fixture.density *= self._factors["mass"]
                fixture.friction *= self._factors["friction"]
            body.ResetMassData()
        return obs, info


# Physics


@dataclass(frozen=True)
class _Physics:
    """The quantities that can be changed, and a function that changes them by factors of all of these."""

    quantities: tuple[str, ...]
    change: Callable[[Any, Factors], gym.Env]


def _cart_pole(env: Any, factors: Factors) -> gym.Env:
    env.gravity *= factors["gravity"]
    env.masscart *= factors["mass"]
    env.masspole *= factors["mass"]
    env.length *= factors["length"]
    env.force_mag *= factors["gear"]
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length
    return env


def _pendulum(env: Any, factors: Factors) -> gym.Env:
    env.g *= factors["gravity"]
    env.m *= factors["mass"]
    env.l *= factors["length"]
    return env


def _acrobot(env: Any, factors: Factors) -> gym.Env:
    for link in "12":
        for name in ("LINK_LENGTH", "LINK_COM_POS"):
            setattr(env, f"{name}_{link}", getattr(env, f"{name}_{link}") * factors["length"])
        setattr(env, f"LINK_MASS_{link}", getattr(env, f"LINK_MASS_{link}") * factors["mass"])
    env.LINK_MOI *= factors["mass"] * factors["length"] ** 2
    env.AVAIL_TORQUE = [torque * factors["gear"] for torque in env.AVAIL_TORQUE]
    return env


def _lander(env: Any, factors: Factors) -> gym.Env:
    env.gravity *= factors["gravity"]
    return _Lander(env, factors)


def _mujoco(env: Any, factors: Factors) -> gym.Env:
    import mujoco

    model, length = env.model, factors["length"]
    model.opt.gravity *= factors["gravity"]
    model.geom_friction *= factors["friction"]
    model.dof_damping *= factors["damping"]
    model.actuator_gear *= factors["gear"]
    model.body_mass *= factors["mass"]
    model.body_inertia *= factors["mass"] * length**2
    if length != 1:
        # The whole body in another size, with the mass that it had; the world, which is body 0, stays.
        of_body = model.geom_bodyid > 0
        for sizes in (model.geom_pos, model.geom_size, model.geom_rbound, model.geom_aabb):
            sizes[of_body] *= length
        model.bvh_aabb[model.body_bvhadr[1] :] *= length
        for places in (model.body_pos, model.body_ipos, model.jnt_pos):
            places *= length
        slides = model.jnt_qposadr[model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE]
        for positions in (model.qpos0, model.qpos_spring, env.init_qpos):
            positions[slides] *= length
        if hasattr(env, "_healthy_z_range"):
            low, high = env._healthy_z_range
            env._healthy_z_range = (low * length, high * length)
    mujoco.mj_setConst(model, env.data)  # what MuJoCo has computed from masses and sizes
    mujoco.mj_resetData(model, env.data)
    return env


_QUANTITIES = ("gravity", "mass", "length", "friction", "damping", "gear")
_BODY = _Physics(_QUANTITIES, _mujoco)
_PHYSICS = {
    "CartPole-v1": _Physics(("gravity", "mass", "length", "gear"), _cart_pole),
    "Pendulum-v1": _Physics(("gravity", "mass", "length"), _pendulum),
    "Acrobot-v1": _Physics(("mass", "length", "gear"), _acrobot),  # its gravity is written into its equations
    "LunarLander-v3": _Physics(("gravity", "mass", "friction"), _lander),
    "Hopper-v4": _BODY,
    "HalfCheetah-v4": _BODY,
    "Walker2d-v4": _BODY,
}
