"""Training a configuration file on the command line, from the options to the final evaluation."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from rllib_multienv.atomic_files import write_text
from rllib_multienv.checkpoints import newest_complete
from rllib_multienv.cli.display import Display, TrialStatus, best_trial, environment_table, trial_table
from rllib_multienv.cli.evaluate import evaluate_checkpoint, evaluation_table
from rllib_multienv.cli.terminal import QuietOutput, make_console, shown
from rllib_multienv.config_files.file import ConfigFile, load_config_file
from rllib_multienv.config_files.yaml_text import ConfigFileError, parse_scalar
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.evaluation.table import write_evaluation
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.metrics import OFFLINE, ONLINE
from rllib_multienv.runs.folder import RunFolder
from rllib_multienv.runs.search import Metric, with_values

INTERRUPTED = 130  # Exit status after Ctrl-C.


SHIPPED = Path(__file__).parents[1] / "tune_configs"


def find_config(path: Path, folder: str = "") -> Path:
    """A configuration file, or the one that the package ships under this name.

    Args:
        path: Its path, or a name such as ``quickstart``.
        folder: A folder of the shipped files; by default all but experiments.

    Raises:
        FileNotFoundError: There is neither; the nearest names are given.
    """
    files = sorted((SHIPPED / folder).rglob("*.yaml"))
    shipped = {file.stem: file for file in files if folder or file.parent.name != "experiments"}
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    if path.name not in shipped:
        known = did_you_mean(path.name, shipped) or f" The package ships {', '.join(shipped)}."
        raise FileNotFoundError(f"There is no file {path.name!r}, and no configuration of that name.{known}")
    return shipped[path.name]


def with_options(
    file: ConfigFile,
    *,
    seed: int | None = None,
    name: str | None = None,
    stop_steps: float | None = None,
    stop_time: float | None = None,
    env_runners: int | None = None,
    data_dir: Path | None = None,
    settings: list[str] | None = None,
    wandb: str | None = None,
) -> ConfigFile:
    """The file with the changes of the command line.

    Raises:
        ConfigFileError: A setting is not ``KEY=VALUE``.
    """
    # Off-policy algorithms count environment steps also where data sets fill their replay stores.
    offline = file.algorithm == "MultiEnvIQL" or ("offline_data" in file.methods and file.algorithm != "MultiEnvSAC")
    changes: dict[str, object] = {
        "debugging.seed": seed,
        "name": name,
        f"stop.{OFFLINE.total if offline else ONLINE.total}": stop_steps,
        "stop.time_total_s": stop_time,
        "env_runners.num_env_runners": env_runners,
        "offline_data.data_dir": None if data_dir is None else str(data_dir.absolute()),
    }
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigFileError(f"--set takes KEY=VALUE, as in training.gamma=0.9, not {setting!r}")
        changes[key.strip()] = parse_scalar(value)
    if wandb is not None:
        changes["tune.loggers"] = [*(file.tune.get("loggers") or []), {"type": "wandb", "project": wandb}]
    for key, change in changes.items():
        if change is not None:
            file = file.override(key, change)
    return file


@dataclass(frozen=True)
class Resumed:
    """An earlier run.

    Args:
        folder: Its folder.
        file: Its configuration, with later stop criteria if they are given.
        trained: Whether its training has ended, so that only the evaluation is missing.
    """

    folder: RunFolder
    file: ConfigFile
    trained: bool


def resumed(folder: RunFolder, *, stop_steps: float | None, stop_time: float | None, episodes: int) -> Resumed:
    """What is left to do of an earlier run.

    Args:
        folder: Its folder.
        stop_steps, stop_time: Later stop criteria: ask for more training.
        episodes: Episodes per environment in the evaluation; 0 leaves it out.

    Raises:
        ConfigFileError: Nothing is left.
    """
    from rllib_multienv.runs.resume import TuneState, newest_saved_iteration

    file = with_options(load_config_file(folder.config), stop_steps=stop_steps, stop_time=stop_time)
    rows = read_progress(folder.progress) if folder.progress.exists() else []
    finished = TuneState(folder.path).finished()
    if not finished:
        # The run was killed: iterations after the newest complete checkpoint are lost.
        saved = newest_saved_iteration(folder.path)
        rows = [row for row in rows if row.get("training_iteration", 0) <= saved]
    if file.single:
        reached = file.stop.reached(rows[-1]) if rows else None
    else:
        reached = "all trials have ended" if finished else None
    if reached and (folder.evaluation.exists() or not episodes or stop_steps is not None or stop_time is not None):
        raise ConfigFileError(f"the run in {shown(folder.path)} is done: {reached}{_to_continue(folder, reached)}")
    return Resumed(folder, file, trained=reached is not None)


def _to_continue(folder: RunFolder, reached: str) -> str:
    """How to train on after a stop criterion was reached."""
    options = {ONLINE.total: "--stop-steps", OFFLINE.total: "--stop-steps", "time_total_s": "--stop-time"}
    if option := options.get(reached.split(" ")[0]):
        return f"; give a later {option}"
    return f"; to train on, change 'stop' in {shown(folder.config)}" if ">=" in reached else ""


def run_training(
    file: ConfigFile, *, results: Path = Path("results"), resume: Resumed | None = None, episodes: int
) -> None:
    """Train, draw the learning curves, evaluate, and print the table and the paths.

    Args:
        file: The configuration.
        results: Folder in which a new run gets its own folder.
        resume: The run to resume, None for a new one.
        episodes: Episodes per environment in the final evaluation; 0 leaves it out.

    Raises:
        typer.Exit: With 1 if the training or evaluation failed, with 130 if it was interrupted.
    """
    with QuietOutput() as output:
        status = _run(file, output, results=results, resume=resume, episodes=episodes)
    if status:
        raise typer.Exit(status)


def _run(file: ConfigFile, output: QuietOutput, *, results: Path, resume: Resumed | None, episodes: int) -> int:
    console = make_console(output.screen)
    metric = Metric.of(file)
    errors: dict[str, str] = {}
    interrupted = False
    with Display(console, title=file.name, search=None if file.single else metric) as display:
        if resume is not None and resume.trained:
            folder = resume.folder
            output.log_to(folder.log)
            trials = _read_trials(file, folder)
            display.message(f"the training in {shown(folder.path)} has ended; its evaluation is missing", lasting=True)
        else:
            display.message("loading RLlib")
            # These imports are slow, and print warnings.
            from rllib_multienv.cli.session import check_gpus, run_session
            from rllib_multienv.config_files import check_config_file

            config = check_config_file(file)
            check_gpus(config)
            folder = RunFolder.create(results, file.name) if resume is None else resume.folder
            output.log_to(folder.log)
            folder.write_config(file.dump())
            folder.evaluation.unlink(missing_ok=True)  # of an earlier end of the run
            display.message(f"writing to {shown(folder.path)}", lasting=True)
            display.message("starting Ray")
            try:
                trials, errors, interrupted = run_session(file, config, folder, display, resume=resume is not None)
            except KeyboardInterrupt:
                console.print(Text(f"Stopped at once. {_resume_hint(folder)}"), soft_wrap=True)
                return INTERRUPTED
            display.message("failed" if errors else "interrupted" if interrupted else "done")
    best, _ = best_trial(trials.values(), metric)
    if not console.is_terminal and best is not None:
        console.print(environment_table(best) if file.single else trial_table(trials.values(), metric))
    for name, reason in errors.items():
        console.print(Text.assemble((f"Error in {name}: ", "bold red"), reason), soft_wrap=True)
    if interrupted:
        console.print(Text(f"Interrupted. {_resume_hint(folder)}"), soft_wrap=True)
    evaluated = True
    if best is not None and best.checkpoint is not None:
        if not file.single:
            folder.link_checkpoint(Path(best.checkpoint))
            write_text(folder.best_config, with_values(file, best.params).dump())
        if episodes and not errors and not interrupted:
            evaluated = _evaluate(console, folder, Path(best.checkpoint), episodes)
    _paths(console, folder, _draw(folder), best, search=not file.single)
    return 1 if errors or not evaluated else INTERRUPTED if interrupted else 0


def _read_trials(file: ConfigFile, folder: RunFolder) -> dict[str, TrialStatus]:
    """The trials of a run that has ended, from its files."""
    trials = {}
    for path in sorted(path for path in folder.path.glob("trial_*") if path.is_dir()):
        status = trials[path.name] = TrialStatus(path.name, file.stop)
        status.replay(folder.metrics(path.name, single=file.single))
        if (params := folder.params(path.name)).is_file():
            status.params = json.loads(params.read_text(encoding="utf-8"))
        newest = newest_complete(path)
        status.checkpoint = None if newest is None else str(newest)
    return trials


def _evaluate(console: Console, folder: RunFolder, checkpoint: Path, episodes: int) -> bool:
    """Evaluate the final checkpoint and print the table; False if that failed."""
    if not (checkpoint / "multienv.json").is_file():
        console.print(Text("No evaluation: only agents of this package's algorithms can be evaluated."))
        return True
    try:
        with console.status("evaluating") as status:
            rows = evaluate_checkpoint(
                checkpoint, episodes=episodes, on_env=lambda env_id: status.update(f"evaluating {env_id}")
            )
    except Exception as error:
        # The training is saved, and its paths are still to be shown. The traceback goes to the log.
        traceback.print_exc()
        console.print(Text(f"The evaluation failed: {type(error).__name__}: {error}"), soft_wrap=True)
        return False
    write_evaluation((row.result for row in rows), folder.evaluation)
    if console.is_terminal:
        console.print()
    console.print(evaluation_table(rows))
    return True


def _draw(folder: RunFolder) -> Path | None:
    from rllib_multienv.cli.plot import draw_runs

    try:
        return draw_runs({folder.path.name: folder.path}, folder.plot, title=folder.path.name)
    except (OSError, ValueError):
        return None  # no iteration was done


def _paths(console: Console, folder: RunFolder, curves: Path | None, best: TrialStatus | None, *, search: bool) -> None:
    lines = {
        "checkpoint": None if best is None or best.checkpoint is None else Path(best.checkpoint),
        "best checkpoint": folder.best_checkpoint if folder.best_checkpoint.is_dir() else None,
        "best settings": folder.best_config if search and folder.best_config.is_file() else None,
        "learning curves": curves,
        "metrics": folder.progress if folder.progress.exists() else folder.path,
        "log": folder.log,
    }
    for label, path in lines.items():
        if path is not None:
            console.print(Text(f"{label:<16}{shown(path)}"), soft_wrap=True)


def _resume_hint(folder: RunFolder) -> str:
    if any(folder.path.glob("trial_*/checkpoint_*")):
        return f"A checkpoint was saved; resume with: multienv train --resume {shown(folder.path)}"
    return "The first iteration was not finished, so nothing was saved."
