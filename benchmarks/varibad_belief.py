"""Picture of VariBAD's belief about the goal of GridNavi after each step of a trial, from a checkpoint.

    python benchmarks/varibad_belief.py CHECKPOINT OUTPUT.png [--copy 0] [--steps 0 4 8 12 15 30]

Each panel is the grid: the reward that the decoder predicts for each cell, averaged over draws from the posterior, with
the cells that the agent has visited (dots) and the goal (a frame). Above it is the posterior's mean standard deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from rllib_multienv import MultiEnvVariBAD
from rllib_multienv.algorithms.varibad.loss import Posteriors
from rllib_multienv.connectors import NormalizeObservations
from rllib_multienv.nets import Inputs
from rllib_multienv.normalization import ObservationNormalizer

DRAWS = 200


def believed_rewards(
    shared: Any, env_id: str, rows: np.ndarray, cells: np.ndarray, neighbours: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean predicted reward of moving to each cell after each step ``[T, C]``, and the posterior's deviation ``[T]``.

    Args:
        shared: the module of a learner.
        env_id: the environment.
        rows: ``[T, I]``, a trial as the module saw it.
        cells: ``[C, I]``, such rows of an agent in each cell.
        neighbours: bool ``[C, C]``, the cells that are one move apart.
    """
    first = torch.zeros(len(rows), 1, dtype=torch.bool)
    first[0] = True
    with torch.no_grad():
        belief = shared.belief.infer(
            {env_id: Inputs(torch.from_numpy(rows))}, {env_id: first}, {env_id: ~first | first}
        )
        mean, log_var = belief[:, None].chunk(2, -1)  # [T, 1, D] each
        before, after = np.argwhere(neighbours).T  # [P] each, all moves from one cell to the next
        steps = shared.decoder.encode(
            shared.network.interfaces,
            {env_id: Inputs(torch.from_numpy(cells[before]))},
            {env_id: Inputs(torch.from_numpy(cells[after]))},
        )[:, None]  # [P, 1, F]
        posteriors = Posteriors(mean, log_var, ~first | first)
        generator = torch.Generator().manual_seed(0)
        draws = [posteriors.sample(torch.randn(mean.shape, generator=generator)) for _ in range(DRAWS)]
        of_moves = torch.stack([shared.decoder.decode(steps, latents)[..., 0] for latents in draws]).mean(0)  # [T, P]
    predicted = np.stack([of_moves.numpy()[:, after == cell].mean(1) for cell in range(len(cells))], 1)  # [T, C]
    return predicted, (0.5 * log_var).exp().mean((1, 2)).numpy()


def main(checkpoint: str, output: str, copy: int, steps: Sequence[int]) -> None:
    """Play trials of training tasks, and draw the beliefs in one of them."""
    algo = MultiEnvVariBAD.from_checkpoint(checkpoint)
    (env_id,) = algo.config.space_specs
    runner = algo.env_runner
    runner.sample_rollouts()  # to the end of a trial
    family = runner.environments[env_id].copies.env.env
    goal, size = family.tasks[copy].copy(), family.size
    rollout = runner.sample_rollouts()[env_id]
    assert rollout.first[0, copy], "a fragment must be a whole number of trials"
    spaces = algo.config.space_specs[env_id]
    raw = np.zeros((size * size, spaces.obs_size), np.float32)
    places = np.array([(x, y) for y in range(size) for x in range(size)])
    raw[:, :2] = places
    neighbours = np.abs(places[:, None] - places).sum(2) == 1
    moments = [piece.moments() for piece in runner.statistics if isinstance(piece, NormalizeObservations)]
    normalize = ObservationNormalizer.of(moments[0][env_id].total()) if moments else lambda rows: rows
    cells = normalize(raw)
    (shared,) = (result.get() for result in algo.learner_group.foreach_learner(lambda learner: learner.module.shared))
    predicted, deviations = believed_rewards(shared, env_id, rollout.obs[:, copy], cells, neighbours)
    visited = np.abs(rollout.obs[:, copy, None, :2] - cells[:, :2]).sum(2).argmin(1)  # [T]
    figure = Figure(figsize=(1.8 * len(steps), 2.4), layout="constrained")
    axes = figure.subplots(1, len(steps))
    for ax, step in zip(axes, steps, strict=True):
        ax.imshow(predicted[step].reshape(size, size), origin="lower", vmin=predicted.min(), vmax=predicted.max())
        ax.plot(visited[: step + 1] % size, visited[: step + 1] // size, "w.-", markersize=6, linewidth=0.8)
        ax.add_patch(_frame(goal))
        ax.set(title=f"step {step}\nstd {deviations[step]:.2f}", xticks=[], yticks=[])
    figure.savefig(output, dpi=150)
    algo.stop()


def _frame(goal: np.ndarray) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((goal[0] - 0.5, goal[1] - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("output")
    parser.add_argument("--copy", type=int, default=0)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 4, 8, 12, 15, 30])
    options = parser.parse_args()
    main(options.checkpoint, options.output, options.copy, options.steps)
