"""`multienv evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rllib_multienv.cli.display import make_console
from rllib_multienv.cli.errors import user_errors
from rllib_multienv.cli.evaluation import evaluate_checkpoint, evaluation_table
from rllib_multienv.cli.training import shown
from rllib_multienv.runs.run_folder import find_checkpoint


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the results folder of a run.")],
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="An environment, also a new one; repeatable. Default: those of the training."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes per environment.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the environments.")] = 0,
    video: Annotated[bool, typer.Option("--video", help="Record one episode each (needs the extra [video]).")] = False,
) -> None:
    """Run episodes with a trained agent, without exploration, and print their returns."""
    console = make_console()
    with user_errors():
        folder = find_checkpoint(checkpoint)
        videos = folder.parent / f"{folder.name}-videos" if video else None
        with console.status("loading the agent") as status:
            rows = evaluate_checkpoint(
                folder,
                env_ids=env or (),
                episodes=episodes,
                seed=seed,
                video_dir=videos,
                on_env=lambda env_id: status.update(f"evaluating {env_id}"),
            )
        console.print(evaluation_table(rows))
        if videos is not None:
            console.print(Text(f"videos in {shown(videos)}"), soft_wrap=True)
