"""Evaluation of a checkpoint, and its table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.table import Table

from rllib_multienv.cli.terminal import make_table, number
from rllib_multienv.evaluation.table import EvaluationResult, write_csv

if TYPE_CHECKING:
    from rllib_multienv import MultiEnvAgent
    from rllib_multienv.evaluation.random_scores import RandomScore


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of one environment.

    Args:
        result: Its episodes.
        unseen: Whether the agent was not trained on it.
        random: The return of random actions, if it was asked for.
    """

    result: EvaluationResult
    unseen: bool = False
    random: RandomScore | None = None

    def to_dict(self) -> dict[str, Any]:
        """One row of a table."""
        row = {**self.result.to_dict(), "unseen": self.unseen}
        if self.random is not None:
            row |= {"random_mean": self.random.mean, "random_std": self.random.std}
        return row


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    envs: Sequence[str] = (),
    episodes: int = 20,
    seed: int = 0,
    video_dir: Path | None = None,
    video_format: str = "mp4",
    random: bool = False,
    on_env: Callable[[str], object] = lambda env_id: None,
) -> list[Evaluated]:
    """Run episodes with the agent of a checkpoint, in this process, without Ray and without exploration.

    Args:
        checkpoint: The checkpoint's folder.
        envs: Environments, also ones that the agent was not trained on: an id, or ``ID=MAKE`` (see `EnvSpec.make`).
            Default: those of its training.
        episodes: Episodes per environment.
        seed: Seed of the environments.
        video_dir: Folder for a video of one episode per environment; default: no videos.
        video_format: ``"mp4"`` or ``"gif"``.
        random: Measure the return of random actions too.
        on_env: Called with each environment before its episodes.

    Raises:
        ValueError: The checkpoint cannot make an environment of its training.
    """
    from rllib_multienv import MultiEnvAgent
    from rllib_multienv.envs.video import check_video
    from rllib_multienv.evaluation.random_scores import random_score
    from rllib_multienv.process import set_threads

    if video_dir is not None:
        check_video(video_format)
    agent = MultiEnvAgent.from_checkpoint(checkpoint)
    if not envs:
        _check_all_can_be_made(agent)
    trained_on = set(agent.space_specs)
    set_threads(agent.num_parameters)
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(name, "dummy")  # pygame renders off screen and without sound
    rows = []
    for env in envs or list(agent.env_specs):
        env_id, equals, make = env.partition("=")
        on_env(env_id)
        agent.add_env({"id": env_id, "make": make} if equals else env_id)
        result = agent.evaluate(env_id, episodes=episodes, seed=seed, video_dir=video_dir, video_format=video_format)
        score = random_score(agent.env_specs[env_id], episodes=episodes, seed=seed) if random else None
        rows.append(Evaluated(result, env_id not in trained_on, score))
    return rows


def _check_all_can_be_made(agent: MultiEnvAgent) -> None:
    missing = [env_id for env_id in agent.space_specs if env_id not in agent.env_specs]
    if missing:
        options = " ".join(f"--env {env_id}=your_module:function" for env_id in missing)
        others = f" To evaluate only the others: --env {next(iter(agent.env_specs))}." if agent.env_specs else ""
        raise ValueError(
            f"{', '.join(missing)}: made by functions that the checkpoint does not hold. Name them: {options}; or in "
            f'Python: agent.evaluate(EnvSpec("{missing[0]}", make=function)).{others}'
        )


def write_rows(rows: Sequence[Evaluated], *, json_file: Path | None = None, csv_file: Path | None = None) -> None:
    """Write an evaluation as JSON, with the return of each episode, and as CSV; ``-`` stands for standard output."""
    if json_file is not None:
        with opened_file(json_file) as file:
            data = [{**row.to_dict(), "returns": row.result.returns, "lengths": row.result.lengths} for row in rows]
            file.write(json.dumps(data, indent=2) + "\n")
    if csv_file is not None:
        with opened_file(csv_file) as file:
            write_csv([row.to_dict() for row in rows], file)


@contextmanager
def opened_file(path: Path) -> Iterator[TextIO]:
    """A file for writing; ``-`` is standard output."""
    if path == Path("-"):
        yield sys.stdout
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        yield file


def evaluation_table(rows: Sequence[Evaluated]) -> Table:
    """Mean, standard deviation, smallest and largest return per environment."""
    headings = ["episodes", "mean", "std", "min", "max", "mean length"]
    with_random = any(row.random is not None for row in rows)
    if with_random:
        headings.append("random")
    with_success = any(row.result.successes for row in rows)
    if with_success:
        headings.append("success")
    table = make_table("environment", *headings, title="Evaluation: return per episode")
    for row in rows:
        result = row.result
        values: list[float | None] = [result.mean, result.std, result.min, result.max, result.mean_length]
        if row.random is not None:
            values.append(row.random.mean)
        if with_success:
            values.append(result.success_rate)
        name = f"{result.env_id} (unseen)" if row.unseen else result.env_id
        table.add_row(name, str(len(result)), *map(number, values))
    return table
