"""`multienv train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_multienv.cli.errors import user_errors
from rllib_multienv.cli.training import resumed, run_training, with_options
from rllib_multienv.config_files.file import load_config_file
from rllib_multienv.runs.run_folder import RunFolder

File = Annotated[Path | None, typer.Argument(metavar="[FILE.yaml]", help="What to train.", show_default=False)]
Seed = Annotated[int | None, typer.Option(help="Random seed, in the place of the file's.", show_default=False)]
Results = Annotated[Path, typer.Option(help="Folder in which the run gets a folder of its own.")]
Name = Annotated[str | None, typer.Option(help="Name of that folder; default: the file's name.", show_default=False)]
Resume = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Go on with the run in this folder.", show_default=False)
]
StopSteps = Annotated[
    int | None, typer.Option(help="Stop at so many environment steps (offline: updates).", show_default=False)
]
StopTime = Annotated[float | None, typer.Option(help="Stop after this many seconds of training.", show_default=False)]
EnvRunners = Annotated[
    int | None,
    typer.Option(help="Processes that step the environments; 0: none of their own.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any value of the file, as in training.gamma=0.9; repeatable."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the files of offline data sets are (d4rl:NAME).", show_default=False),
]
Episodes = Annotated[int, typer.Option(help="Episodes per environment in the final evaluation; 0 leaves it out.")]


def train(
    file: File = None,
    seed: Seed = None,
    results: Results = Path("results"),
    name: Name = None,
    resume: Resume = None,
    stop_steps: StopSteps = None,
    stop_time: StopTime = None,
    env_runners: EnvRunners = None,
    data_dir: DataDir = None,
    settings: Settings = None,
    episodes: Episodes = 20,
) -> None:
    """Train one agent on the environments of a file.

    Ctrl-C saves a checkpoint and ends; --resume DIR goes on from there.
    """
    with user_errors():
        if (file is None) == (resume is None):
            raise ValueError("give a FILE.yaml to train, or --resume DIR to go on with an earlier run")
        if resume is not None:
            if any(option is not None for option in (seed, name, env_runners, data_dir)) or settings:
                raise ValueError("a run is resumed as it was; only --stop-steps and --stop-time can be changed")
            folder = RunFolder.existing(resume)
            config = resumed(folder, stop_steps=stop_steps, stop_time=stop_time)
            run_training(config, results=folder.path.parent, resume=folder, episodes=episodes)
            return
        assert file is not None
        config = with_options(
            load_config_file(file),
            seed=seed,
            name=name,
            stop_steps=stop_steps,
            stop_time=stop_time,
            env_runners=env_runners,
            data_dir=data_dir,
            settings=settings,
        )
        run_training(config, results=results, resume=None, episodes=episodes)
