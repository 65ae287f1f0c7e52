"""Names of observation and action components, for networks with ``descriptions="auto"``.

A name is a few words, such as ``"velocity hinge thigh back"``. Components with the same words in two environments are
alike to the network. They are read from MuJoCo models, and from a table for Gymnasium's other environments. Any other
environment may have them in an attribute ``component_names``: those of the observation, and those of the action.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from rllib_multienv.envs.atari import AtariEnv

__all__ = ["component_names"]

Names = tuple[tuple[str, ...], tuple[str, ...]]

_LIDAR = tuple(f"lidar distance {ray}" for ray in range(10))
_LEGS = tuple(
    f"{side} {part}"
    for side in ("left", "right")
    for part in ("hip hinge angle", "hip hinge velocity", "knee hinge angle", "knee hinge velocity", "foot contact")
)
_LANDER = (
    "position x", "position y", "velocity x", "velocity y", "angle", "angular velocity",
    "left foot contact", "right foot contact",
)  # fmt: skip
_LINKS = tuple(f"{link} pole hinge {kind}" for link in ("first", "second") for kind in ("cos", "sin"))

# Observation components, then discrete actions or components of continuous ones, by the name of the class.
_TABLE: dict[str, Names] = {
    "CartPoleEnv": (
        ("position slide cart", "velocity slide cart", "angle hinge pole", "velocity hinge pole"),
        ("force slide cart left", "force slide cart right"),
    ),
    "PendulumEnv": (("cos hinge pole", "sin hinge pole", "velocity hinge pole"), ("torque hinge pole",)),
    "AcrobotEnv": (
        (*_LINKS, "first pole hinge velocity", "second pole hinge velocity"),
        ("torque hinge negative", "torque hinge none", "torque hinge positive"),
    ),
    "MountainCarEnv": (
        ("position slide cart", "velocity slide cart"),
        ("force slide cart left", "force slide cart none", "force slide cart right"),
    ),
    "Continuous_MountainCarEnv": (("position slide cart", "velocity slide cart"), ("force slide cart",)),
    "LunarLander": (_LANDER, ("engine none", "engine left", "engine main", "engine right")),
    "LunarLander continuous": (_LANDER, ("engine main", "engine side")),
    # Observations of MuJoCo's environments that are not positions and velocities; their actions are in the model.
    "InvertedDoublePendulumEnv": (
        (
            "position slide cart", "sin hinge pole", "sin hinge pole 2", "cos hinge pole", "cos hinge pole 2",
            "velocity slide cart", "velocity hinge pole", "velocity hinge pole 2",
            "constraint force slide cart", "constraint force hinge pole", "constraint force hinge pole 2",
        ),
        (),
    ),
    "ReacherEnv": (
        (
            "cos hinge 0 body", "cos hinge 1 body", "sin hinge 0 body", "sin hinge 1 body", "target x", "target y",
            "velocity hinge 0 body", "velocity hinge 1 body", "distance target x", "distance target y",
            "distance target z",
        ),
        (),
    ),
    "BipedalWalker": (
        ("angle torso", "angular velocity torso", "velocity x torso", "velocity y torso", *_LEGS, *_LIDAR),
        tuple(f"torque {side} {joint} hinge" for side in ("left", "right") for joint in ("hip", "knee")),
    ),
}  # fmt: skip

_KINDS = ("free", "ball", "slide", "hinge")
_FREE = ("position x", "position y", "position z", *(f"quaternion {axis}" for axis in "wxyz"))
_FREE_VELOCITY = tuple(f"{kind} {axis}" for kind in ("velocity", "angular velocity") for axis in "xyz")
_INERTIA = tuple(f"inertia {number}" for number in range(10))
_SPATIAL = tuple(f"{kind} {axis}" for kind in ("rotation", "translation") for axis in "xyz")
_PARTS = "thigh|shin|foot|leg|hip|knee|ankle|arm|shoulder|elbow|waist|root"
_SIDES = {"b": "back", "f": "front", "l": "left", "r": "right"}


def component_names(env: gym.Env) -> Names:
    """Names of the components of an environment's observation and action; empty where nothing is known.

    A wrapper that changes components has a method ``rename_components(obs_names, action_names)``; without it the names
    are not known.
    """
    if not isinstance(env, gym.Wrapper):
        return _of_environment(env)
    obs_names, action_names = component_names(env.env)
    rename = getattr(env, "rename_components", None)
    if rename is not None:
        return rename(obs_names, action_names)
    return (
        obs_names if _has_same_components(env.observation_space, env.env.observation_space) else (),
        action_names if _has_same_components(env.action_space, env.env.action_space) else (),
    )


def _has_same_components(space: gym.Space, inner: gym.Space) -> bool:
    are_boxes = isinstance(space, gym.spaces.Box) and isinstance(inner, gym.spaces.Box)
    return space == inner or (are_boxes and space.shape == inner.shape)


def _of_environment(inner: Any) -> Names:
    if isinstance(inner, AtariEnv):
        return (), inner.action_names
    if (own := getattr(inner, "component_names", None)) is not None:
        return own
    module, name = type(inner).__module__, type(inner).__name__
    extra = getattr(inner, "extra_names", None)  # of a family's components, after those of the model
    if module.startswith("gymnasium.envs.mujoco.") or extra is not None:
        extra = extra or ()
        obs_names, action_names = _of_mujoco(inner, inner.observation_space.shape[0] - len(extra))
        return (*obs_names, *extra) if obs_names else (), action_names
    if not module.startswith("gymnasium.envs."):
        return (), ()
    if name == "LunarLander" and inner.continuous:
        name += " continuous"
    return _TABLE.get(name, ((), ()))


def _of_mujoco(env: Any, size: int) -> Names:
    """Names from the joints, bodies and actuators of a model of Gymnasium's MuJoCo environments."""
    model = env.model
    position, velocity = [], []
    for number in range(model.njnt):
        kind, words = _KINDS[model.jnt_type[number]], _joint_words(model, number)
        if kind == "free":
            position += [f"{name} {words}" for name in _FREE]
            velocity += [f"{name} {words}" for name in _FREE_VELOCITY]
        else:
            position.append(f"position {kind} {words}")
            velocity.append(f"velocity {kind} {words}")
    actions = tuple(f"torque {_joint_words(model, joint)}" for joint, _ in model.actuator_trnid)
    if (len(position), len(velocity)) != (model.nq, model.nv):
        return (), actions
    bodies = [_words(model.body(number).name) or str(number) for number in range(model.nbody)]
    # Humanoid's order; version 5 leaves out the world's body, and says so in its observation's structure.
    extra: list[str] = []
    structure = getattr(env, "observation_structure", None)
    for key, names in {
        "cinert": [f"{name} {body}" for body in bodies for name in _INERTIA],
        "cvel": [f"{name} {body}" for body in bodies for name in _SPATIAL],
        "qfrc_actuator": [f"force {name}" for name in velocity],
        "cfrc_ext": [f"contact {name} {body}" for body in bodies for name in _SPATIAL],
    }.items():
        extra += names if structure is None else names[len(names) - structure.get(key, 0) :]
    for observed in ([*position, *velocity], [*position, *velocity, *extra]):
        skipped = len(observed) - size  # leading positions that are not observed
        if 0 <= skipped <= 3:
            return tuple(observed[skipped:]), actions
    in_table, _ = _TABLE.get(type(env).__name__, ((), ()))
    return in_table[:size], actions


def _joint_words(model: Any, number: int) -> str:
    body = model.body(int(model.jnt_bodyid[number])).name
    words = dict.fromkeys([*_words(model.joint(number).name).split(), *_words(body).split()])
    return " ".join(word for word in words if word not in ("joint", "link"))


def _words(name: str) -> str:
    return " ".join(_split(name))


def _split(name: str) -> Iterator[str]:
    """``"bthigh_joint2"`` as ``back thigh joint 2``."""
    for word in re.findall(r"[a-z]+|\d+", name.lower()):
        found = re.fullmatch(rf"([bflr]?)({_PARTS})([xyz]?)", word)
        pieces = found.groups() if found else (word,)
        yield from (_SIDES.get(piece, piece) for piece in pieces if piece)
