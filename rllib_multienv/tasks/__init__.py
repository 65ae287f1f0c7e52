"""Task families: related environments, and what they have in common.

Importing this room registers its environments with Gymnasium; importing ``rllib_multienv`` does so too.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from rllib_multienv.tasks.family import TaskFamily, VectorFamily, family_of, register_vector_family

__all__ = ["ORIGINALS", "VECTOR_FAMILIES", "TaskFamily", "VectorFamily", "family_of"]

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
VECTOR_FAMILIES = {"GridNavi": "grid:GridNavi"}

for _name, _family in VECTOR_FAMILIES.items():
    register_vector_family(f"multienv/{_name}-v0", f"rllib_multienv.tasks.{_family}")
