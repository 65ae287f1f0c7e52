"""Evaluation of a checkpoint, and its table."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table

from rllib_multienv.cli.terminal import make_table, number
from rllib_multienv.evaluation.table import EvaluationRow


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    env_ids: Sequence[str] = (),
    episodes: int = 20,
    seed: int = 0,
    video_dir: Path | None = None,
    on_env: Callable[[str], object] = lambda env_id: None,
) -> list[EvaluationRow]:
    """Run episodes with the agent of a checkpoint, in this process, without Ray and without exploration.

    Args:
        checkpoint: The checkpoint's folder.
        env_ids: Environments, also ones that the agent was not trained on; default: those of its training.
        episodes: Episodes per environment.
        seed: Seed of the environments.
        video_dir: Folder for videos of the episodes; default: no videos.
        on_env: Called with each environment before its episodes.
    """
    from rllib_multienv import MultiEnvAgent

    agent = MultiEnvAgent.from_checkpoint(checkpoint)
    rows = []
    with _one_torch_thread(), _quiet_rendering():
        for env_id in env_ids or list(agent.env_specs):
            on_env(env_id)
            key = agent.add_env(env_id)
            rows.append(EvaluationRow.of(key, agent.evaluate(key, episodes=episodes, seed=seed, video_dir=video_dir)))
    return rows


@contextmanager
def _quiet_rendering() -> Iterator[None]:
    """Render off screen and without sound: otherwise pygame complains where it finds no device."""
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(name, "dummy")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Oo]verwriting existing videos")
        yield


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Use one thread: a handful of observations per call is too little work for several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def evaluation_table(rows: Sequence[EvaluationRow]) -> Table:
    """Mean, standard deviation, smallest and largest return per environment."""
    headings = ("episodes", "mean", "std", "min", "max", "mean length")
    table = make_table("environment", *headings, title="Evaluation: return per episode")
    for row in rows:
        values = [number(value) for value in (row.mean, row.std, row.min, row.max, row.mean_length)]
        table.add_row(row.env_id, str(len(row.returns)), *values)
    return table
