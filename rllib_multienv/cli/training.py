"""Training a configuration file on the command line, from the options to the final evaluation."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from rllib_multienv.cli.display import Display, TrialStatus, environment_table, trial_table
from rllib_multienv.cli.evaluate import evaluate_checkpoint, evaluation_table
from rllib_multienv.cli.terminal import QuietOutput, make_console, quiet_output, shown
from rllib_multienv.config_files.errors import ConfigFileError
from rllib_multienv.config_files.file import ConfigFile, load_config_file
from rllib_multienv.config_files.yaml_text import parse_scalar
from rllib_multienv.evaluation.progress import OFFLINE, ONLINE, read_progress
from rllib_multienv.evaluation.table import write_evaluation
from rllib_multienv.runs.folder import RunFolder

INTERRUPTED = 130  # Exit status after Ctrl-C.


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
) -> ConfigFile:
    """The file with the changes of the command line.

    Raises:
        ConfigFileError: A setting is not ``KEY=VALUE``.
    """
    changes: dict[str, object] = {
        "debugging.seed": seed,
        "name": name,
        f"stop.{OFFLINE.total if file.algorithm == 'MultiEnvIQL' else ONLINE.total}": stop_steps,
        "stop.time_total_s": stop_time,
        "env_runners.num_env_runners": env_runners,
        "offline_data.data_dir": None if data_dir is None else str(data_dir.absolute()),
    }
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigFileError(f"--set takes KEY=VALUE, as in training.gamma=0.9, not {setting!r}")
        changes[key.strip()] = parse_scalar(value)
    for key, change in changes.items():
        if change is not None:
            file = file.override(key, change)
    return file


def resumed(folder: RunFolder, *, stop_steps: float | None, stop_time: float | None) -> ConfigFile:
    """The configuration of an earlier run, with later stop criteria if they are given.

    Raises:
        ConfigFileError: It has reached its stop criteria already.
    """
    from rllib_multienv.runs.resume import TuneState, newest_saved_iteration

    file = with_options(load_config_file(folder.config), stop_steps=stop_steps, stop_time=stop_time)
    rows = read_progress(folder.progress) if folder.progress.exists() else []
    if not TuneState(folder.path).finished():
        # The run was killed: iterations after the newest complete checkpoint are lost.
        saved = newest_saved_iteration(folder.path)
        rows = [row for row in rows if row.get("training_iteration", 0) <= saved]
    reached = file.stop.reached(rows[-1]) if rows else None
    if reached:
        raise ConfigFileError(
            f"the run in {shown(folder.path)} is done: {reached}; give a later --stop-steps or --stop-time"
        )
    return file


def run_training(file: ConfigFile, *, results: Path, resume: RunFolder | None, episodes: int) -> None:
    """Train, draw the learning curves, evaluate, and print the table and the paths.

    Args:
        file: The configuration.
        results: Folder in which a new run gets its own folder.
        resume: Folder of the run to resume, None for a new one.
        episodes: Episodes per environment in the final evaluation; 0 leaves it out.

    Raises:
        typer.Exit: With 1 if the training or evaluation failed, with 130 if it was interrupted.
    """
    handle, path = tempfile.mkstemp(prefix="multienv-", suffix=".log")
    os.close(handle)
    try:
        with quiet_output(Path(path)) as output:
            status = _run(file, output, results=results, resume=resume, episodes=episodes)
    finally:
        Path(path).unlink(missing_ok=True)
    if status:
        raise typer.Exit(status)


def _run(file: ConfigFile, output: QuietOutput, *, results: Path, resume: RunFolder | None, episodes: int) -> int:
    console = make_console(output.screen)
    with Display(console, title=file.name, several=not file.single) as display:
        display.message("loading RLlib")
        # These imports are slow, and print warnings.
        from rllib_multienv.cli.session import check_gpus, run_session
        from rllib_multienv.config_files.build import check_config_file

        check_gpus(check_config_file(file))
        folder = resume or RunFolder.create(results, file.name)
        output.move_log(folder.log)
        folder.write_config(file.dump())
        display.message(f"writing to {shown(folder.path)}", lasting=True)
        display.message("starting Ray")
        try:
            outcome = run_session(file, folder, display, resume=resume is not None)
        except KeyboardInterrupt:
            console.print(Text(f"Stopped at once. {_resume_hint(folder)}"), soft_wrap=True)
            return INTERRUPTED
        display.message("failed" if outcome.errors else "interrupted" if outcome.interrupted else "done")
    if not console.is_terminal and outcome.trials:
        trials = list(outcome.trials.values())
        console.print(environment_table(trials[0]) if file.single else trial_table(trials))
    curves = _draw(folder, outcome.trials)
    best = _best(outcome.trials)
    for name, reason in outcome.errors.items():
        console.print(Text.assemble((f"Error in {name}: ", "bold red"), reason), soft_wrap=True)
    if outcome.errors:
        _paths(console, folder, curves, best)
        return 1
    if outcome.interrupted:
        console.print(Text(f"Interrupted. {_resume_hint(folder)}"), soft_wrap=True)
        _paths(console, folder, curves, best)
        return INTERRUPTED
    evaluated = True
    if episodes and best is not None and best.checkpoint is not None:
        evaluated = _evaluate(console, folder, Path(best.checkpoint), episodes)
    _paths(console, folder, curves, best)
    return 0 if evaluated else 1


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
    write_evaluation(rows, folder.evaluation)
    if console.is_terminal:
        console.print()
    console.print(evaluation_table(rows))
    return True


def _draw(folder: RunFolder, trials: dict[str, TrialStatus]) -> Path | None:
    from rllib_multienv.evaluation.learning_curves import plot_learning_curves

    single = folder.progress.exists()
    files = {"": folder.progress} if single else {t: folder.path / t / "progress.csv" for t in trials}
    try:
        return plot_learning_curves({k: p for k, p in files.items() if p.exists()}, folder.plot, title=folder.path.name)
    except ValueError:
        return None  # no episode has ended yet


def _best(trials: dict[str, TrialStatus]) -> TrialStatus | None:
    """The trial with the largest return averaged over its environments; with one trial, that one."""

    def score(trial: TrialStatus) -> float:
        returns = [env.last for env in trial.envs.values() if env.last is not None]
        return sum(returns) / len(returns) if returns else float("-inf")

    return max(trials.values(), key=score) if trials else None


def _paths(console: Console, folder: RunFolder, curves: Path | None, best: TrialStatus | None) -> None:
    lines = {
        "checkpoint": None if best is None or best.checkpoint is None else Path(best.checkpoint),
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
