"""`multienv transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_multienv.cli.errors import user_errors
from rllib_multienv.cli.train import EnvRunners, Episodes, Name, Results, Seed, Settings, StopSteps, StopTime
from rllib_multienv.cli.training import run_training, with_options
from rllib_multienv.config_files.file import load_config_file
from rllib_multienv.runs.run_folder import find_checkpoint


def transfer(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the results folder of a run.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="What to train now, on other environments.")],
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Part of the networks to keep as it is, as in encoder."),
    ] = None,
    seed: Seed = None,
    results: Results = Path("results"),
    name: Name = None,
    stop_steps: StopSteps = None,
    stop_time: StopTime = None,
    env_runners: EnvRunners = None,
    settings: Settings = None,
    episodes: Episodes = 20,
) -> None:
    """Train on the environments of a file, beginning with the networks of a trained agent.

    A file without rl_module takes the checkpoint's network.
    """
    with user_errors():
        from rllib_multienv.checkpoints import read_checkpoint

        start: dict[str, object] = {"path": str(find_checkpoint(checkpoint).resolve())}
        if freeze:
            start["freeze"] = list(freeze)
        chosen = load_config_file(file).override("initialize_from", start)
        if "rl_module" not in chosen.methods:
            network = read_checkpoint(str(start["path"]), weights=False).network
            chosen = chosen.override("rl_module.model_config", network.to_dict())
        config = with_options(
            chosen,
            seed=seed,
            name=name,
            stop_steps=stop_steps,
            stop_time=stop_time,
            env_runners=env_runners,
            settings=settings,
        )
        run_training(config, results=results, resume=None, episodes=episodes)
