"""Errors of V against the returns of the data, before and after learning.

    python benchmarks/offline/value_errors.py CHECKPOINT

V's loss compares it with Q. Both begin at zero, so the loss rises while they move away from there and says little about
progress. This compares V with the returns of the data's policy: the discounted rewards from a state to the end of its
episode, plus V of the last observation of an episode that was cut.

The table has the mean squared error over the variance of these returns (1 for their mean) and the correlation. With an
expectile above 0.5, V aims above the mean return, so the error does not go to zero.
"""

from __future__ import annotations

import argparse
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from rllib_multienv import MultiEnvIQL
from rllib_multienv.discounting import discounted_sums
from rllib_multienv.offline.replay import DatasetReplay

STATES = 4000


def returns_to_go(rewards: np.ndarray, ends: np.ndarray, tails: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted rewards from each step on, ``[N]``; ``tails`` [E] is what follows the end of each episode."""
    found = np.empty(len(rewards))
    borders = [0, *(np.flatnonzero(ends) + 1)]
    for (first, last), tail in zip(pairwise(borders), tails, strict=True):
        backwards = rewards[first:last][::-1].astype(np.float64)
        backwards[0] += gamma * tail
        found[first:last] = discounted_sums(backwards, gamma)[::-1]
    return found


def values(algorithm: MultiEnvIQL, env_id: str, observations: np.ndarray) -> np.ndarray:
    """V of normalised observations ``[N, I]``."""
    shared = algorithm.learner_group._learner.module.shared
    found = [
        shared.compute_values({env_id: {Columns.OBS: torch.from_numpy(part)}})[env_id].numpy()
        for part in np.array_split(observations, max(1, len(observations) // 512))
    ]
    return np.concatenate(found)


def error_and_correlation(algorithm: MultiEnvIQL, env_id: str, replay: DatasetReplay) -> tuple[float, float]:
    """Of V and the returns, over states of whole episodes drawn at random."""
    data = replay.transitions
    gamma = algorithm.config.get_config_for_module(env_id).gamma
    ends = np.flatnonzero(data.ends)
    length = ends[-1] + 1  # an episode that the data set breaks off has no end
    at_ends = replay.columns(ends)
    tails = np.where(data.terminals[ends], 0.0, values(algorithm, env_id, at_ends[Columns.NEXT_OBS]))
    rewards = replay.rewards(data.rewards[:length]) / replay.value_scale
    returns = returns_to_go(rewards, data.ends[:length], tails, gamma)
    steps = np.random.default_rng(0).choice(length, min(STATES, length), replace=False)
    found = values(algorithm, env_id, replay.columns(steps)[Columns.OBS])
    error = np.square(found - returns[steps]).mean() / returns[steps].var()
    return float(error), float(np.corrcoef(found, returns[steps])[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    options = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    trained = MultiEnvIQL.from_checkpoint(options.checkpoint)
    config = trained.config.copy(copy_frozen=False).learners(num_learners=0).environment(envs=[])
    algorithm = config.evaluation(evaluation_interval=None).build_algo()
    rows = {name: [name] for name in config.datasets}
    for stage in ("untrained", "trained"):
        if stage == "trained":
            algorithm.learner_group.set_weights(trained.learner_group.get_weights())
        for name, replay in algorithm.training_data.datasets.items():
            rows[name] += [f"{number:.2f}" for number in error_and_correlation(algorithm, name, replay)]
    print("| data set | error, untrained | correlation | error, trained | correlation |\n|---|---:|---:|---:|---:|")
    for row in rows.values():
        print("| " + " | ".join(row) + " |")
    trained.stop()
    algorithm.stop()


if __name__ == "__main__":
    main()
