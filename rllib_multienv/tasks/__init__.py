"""Task families: related environments, and what they have in common.

Importing this room registers its environments with Gymnasium; importing ``rllib_multienv`` does so too.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from rllib_multienv.tasks.family import TaskFamily, TaskSplits, VectorFamily, family_of, register_vector_family

__all__ = ["ORIGINALS", "PHYSICS_FAMILIES", "VECTOR_FAMILIES", "TaskFamily", "TaskSplits", "VectorFamily", "family_of"]

#: Environments of which `variants.py` makes variants: "Hopper-v4" as "multienv/HopperVariant-v0".
ORIGINALS = (
    "CartPole-v1", "Pendulum-v1", "Acrobot-v1", "LunarLander-v3", "Hopper-v4", "HalfCheetah-v4", "Walker2d-v4",
)  # fmt: skip

for _original in ORIGINALS:
    register(
        id=f"multienv/{_original.partition('-')[0]}Variant-v0",
        entry_point="rllib_multienv.tasks.variants:make_variant",
        kwargs={"original": _original},
        max_episode_steps=registry[_original].max_episode_steps,
        reward_threshold=registry[_original].reward_threshold,
    )

#: Task families that are stepped as arrays: ids without "multienv/" and version, and their classes.
VECTOR_FAMILIES = {
    "GridNavi": "grid:GridNavi",
    "PointNavigation": "point:PointNavigation",
    "PointSemicircle": "point:PointSemicircle",
    "PointDirection": "point:PointDirection",
    "PointVelocity": "point:PointVelocity",
    "PointGoal": "point:PointGoal",
    "TwoGoalMaze": "maze:TwoGoalMaze",
    "Bandit": "bandit:Bandit",
    "TabularMDP": "bandit:TabularMDP",
    "CartPoleHidden": "hidden_parameters:CartPoleHidden",
    "Oracle": "worlds:Oracle",
    "Guess": "worlds:Guess",
    "Question": "worlds:Question",
    "Search": "worlds:Search",
    "DigitQuestion": "digits:DigitQuestion",
    "DigitSearch": "digits:DigitSearch",
}

for _name, _family in VECTOR_FAMILIES.items():
    register_vector_family(f"multienv/{_name}-v0", f"rllib_multienv.tasks.{_family}")

#: Task families that MuJoCo simulates: ids as above, their classes, and steps of an episode.
PHYSICS_FAMILIES = {
    "HalfCheetahDirection": ("running:HalfCheetahDirection", 200),
    "HalfCheetahVelocity": ("running:HalfCheetahVelocity", 200),
    "AntDirection": ("running:AntDirection", 200),
    "AntDirection2D": ("running:AntDirection2D", 200),
    "AntVelocity": ("running:AntVelocity", 200),
    "AntGoal": ("running:AntGoal", 200),
    "WheeledRing": ("maesn:WheeledRing", 200),
    "AntRing": ("maesn:AntRing", 200),
    "BlockPushing": ("maesn:BlockPushing", 100),
    "HalfCheetahTorso": ("hidden_parameters:HalfCheetahTorso", 1000),
    "Walker2dFriction": ("hidden_parameters:Walker2dFriction", 1000),
    "Walker2dFoot": ("hidden_parameters:Walker2dFoot", 1000),
}

register(
    id="multienv/MetaWorld-v0", entry_point="rllib_multienv.tasks.meta_world:make_meta_world", max_episode_steps=500
)
register(id="multienv/SignNavigation-v0", entry_point="rllib_multienv.tasks.sign:SignNavigation")

for _name, (_family, _steps) in PHYSICS_FAMILIES.items():
    register(id=f"multienv/{_name}-v0", entry_point=f"rllib_multienv.tasks.{_family}", max_episode_steps=_steps)
