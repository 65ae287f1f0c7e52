"""Scripted controllers of small environments: experience of known quality, without any training.

Each takes raw observations ``[B, I]`` and returns ``B`` actions in the environment's own units, so that it can be named
as ``"rllib_multienv.offline.controllers:cartpole"`` wherever a policy is asked for.
"""

from __future__ import annotations

import numpy as np

#: Distances from shoulder to elbow and from elbow to fingertip of Reacher's arm, in metres.
REACHER_LINKS = (0.1, 0.11)


def cartpole(observations: np.ndarray) -> np.ndarray:
    """Balance ``CartPole-v1`` for its 500 steps: push to the side to which the pole falls, a little sooner off centre.

    Args:
        observations: ``[B, 4]``: position (m), velocity, angle (rad, positive to the right), angular velocity.

    Returns:
        int64 ``[B]``: 0 pushes to the left, 1 to the right.
    """
    return (observations @ np.array([0.05, 0.2, 1.0, 0.5]) > 0).astype(np.int64)


def inverted_pendulum(observations: np.ndarray) -> np.ndarray:
    """Balance ``InvertedPendulum-v4`` for its 1000 steps by linear state feedback.

    Args:
        observations: ``[B, 4]``: position (m), angle (rad), velocity, angular velocity.

    Returns:
        float64 ``[B, 1]``, in [-3, 3].
    """
    return np.clip(observations @ np.array([[0.5], [5.0], [0.7], [1.0]]), -3.0, 3.0)


def reacher(observations: np.ndarray) -> np.ndarray:
    """Bring the finger of ``Reacher-v4`` to its target: a spring from the finger to the target, and damped joints.

    The spring's force acts on the joints through the transpose of the arm's Jacobian.

    Args:
        observations: ``[B, 11]``: cosines of both joint angles, their sines, the target's x and y (m), the joints'
            velocities (rad/s), and the vector from target to finger (m).

    Returns:
        float64 ``[B, 2]``, in [-1, 1].
    """
    cos1, cos2, sin1, sin2 = observations[:, :4].T
    velocities, error = observations[:, 6:8], observations[:, 8:10]
    # The second joint's angle counts from the first link.
    cos12, sin12 = cos1 * cos2 - sin1 * sin2, sin1 * cos2 + cos1 * sin2
    upper, lower = REACHER_LINKS
    by_second = np.stack([-lower * sin12, lower * cos12], axis=1)
    by_first = by_second + np.stack([-upper * sin1, upper * cos1], axis=1)
    torques = -np.stack([(by_first * error).sum(1), (by_second * error).sum(1)], axis=1)
    return np.clip(20.0 * torques - 0.08 * velocities, -1.0, 1.0)
