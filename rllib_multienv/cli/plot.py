"""`multienv plot`, and the picture of the learning curves that `multienv train` leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rllib_multienv.cli.terminal import make_console, shown, user_errors

if TYPE_CHECKING:
    from rllib_multienv.spec import EnvSpec


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Results folders of runs, folders of trials, or progress.csv files."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The picture; the ending sets the format.")
    ] = Path("learning_curves.png"),
    title: Annotated[str | None, typer.Option(help="A line above the panels.", show_default=False)] = None,
    success: Annotated[
        bool, typer.Option("--success", help="The share of episodes with success instead of their return.")
    ] = False,
) -> None:
    """Draw the learning curves of one or several runs into one picture, with a panel per environment."""
    console = make_console()
    with user_errors():
        names = [run.name for run in runs]
        labels = names if len(set(names)) == len(names) else [str(run) for run in runs]
        picture = draw_runs(dict(zip(labels, runs, strict=True)), output, title=title, success=success)
    console.print(Text(f"learning curves in {shown(picture.resolve())}"), soft_wrap=True)


def draw_runs(runs: Mapping[str, Path], output: Path, *, title: str | None = None, success: bool = False) -> Path:
    """Draws the learning curves of runs by label.

    Args:
        runs: Results folders, whose trials are drawn where there are several; trials' folders; or progress files.
        output: The picture.
        title: A line above the panels.
        success: Success rates instead of returns.

    Raises:
        FileNotFoundError: A run has no progress.
        ValueError: There is nothing to draw.
    """
    from rllib_multienv.evaluation.learning_curves import plot_learning_curves
    from rllib_multienv.evaluation.random_scores import known_returns

    files: dict[str, Path] = {}
    specs: dict[str, EnvSpec] = {}
    windows: set[int] = set()
    for label, run in runs.items():
        found = _progress_files(run)
        files |= {label if len(found) == 1 else f"{label}/{file.parent.name}": file for file in found}
        with contextlib.suppress(OSError, TypeError, ValueError):  # curves without references, then
            episodes, envs = _settings(run)
            windows.add(episodes)
            specs |= {spec.id: spec for spec in envs}
    progress = next(iter(files.values())) if len(files) == 1 else files
    window = windows.pop() if len(windows) == 1 else None
    references = {} if success else known_returns(specs.values())
    return plot_learning_curves(progress, output, title=title, window=window, references=references, success=success)


def _progress_files(run: Path) -> list[Path]:
    if run.is_file():
        return [run]
    if (run / "progress.csv").is_file():
        return [run / "progress.csv"]
    found = sorted(run.glob("trial_*/progress.csv"))
    if not found:
        raise FileNotFoundError(f"{run} is not the folder of a run with results: it has no progress.csv")
    return found


def _settings(run: Path) -> tuple[int, tuple[EnvSpec, ...]]:
    """The window of the mean return, and the environments, of a run's configuration."""
    from rllib_multienv.config_files import load_config_file
    from rllib_multienv.spec import resolve_env_specs

    folder = run.parent if run.is_file() else run
    place = folder if (folder / "config.yaml").is_file() else folder.parent
    methods = load_config_file(place / "config.yaml").methods
    window = methods.get("reporting", {}).get("metrics_num_episodes_for_smoothing", 100)
    return window, resolve_env_specs(methods.get("environment", {}).get("envs") or ())
