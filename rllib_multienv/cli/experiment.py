"""`multienv experiment`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rllib_multienv.cli.terminal import user_errors

INTERRUPTED = 130


def experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The experiment.")],
    results: Annotated[Path, typer.Option(help="Folder that gets the experiment's folder.")] = Path("results"),
    name: Annotated[str | None, typer.Option(help="Name of that folder; default: the file's name.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHASE[/VARIANT[/...]]",
            help="Run only these, and the runs that they start from; * matches any. Repeatable.",
        ),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; default: one for each CPU.", show_default=False)
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show the state of the runs, and exit.")] = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
) -> None:
    """Run variants x seeds x phases, each run in its own folder, and write the report.

    The same command resumes: finished runs are kept, interrupted ones are resumed, failed ones are tried again.
    """
    with user_errors():
        from rllib_multienv.cli.experiment_display import ExperimentDisplay
        from rllib_multienv.cli.training import find_config
        from rllib_multienv.experiments.file import load_experiment_file
        from rllib_multienv.experiments.plan import check_runs, plan, selected
        from rllib_multienv.experiments.run import Execution

        file = find_config(file, "experiments")
        wanted = load_experiment_file(file)
        root = (results / (name or wanted.info.name)).resolve()
        runs = selected(plan(wanted, root), only or [])
        with ExperimentDisplay(runs, live=not status) as display:
            if status:
                return
            display.message("checking the configurations")
            check_runs(runs)
            execution = Execution(
                runs,
                parallel=parallel or os.cpu_count() or 1,
                episodes=wanted.episodes,
                on_change=display.changed,
            )
            execution.check()
            _write_description(root, file, wanted.info.name)
            before = {number: signal.signal(number, lambda *_: execution.interrupt()) for number in _SIGNALS}
            try:
                done = execution.run()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        if execution.interrupted:
            typer.echo("Interrupted. The same command resumes.")
            raise typer.Exit(INTERRUPTED)
        if report:
            _report(root)
        if not done:
            raise typer.Exit(1)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _write_description(root: Path, file: Path, name: str) -> None:
    """Keeps the experiment's file, and how it was run, with its results."""
    from rllib_multienv.experiments.invocation import EXPERIMENT_FILE, record_invocation

    root.mkdir(parents=True, exist_ok=True)
    if file.resolve() != root / EXPERIMENT_FILE:
        (root / EXPERIMENT_FILE).write_bytes(file.read_bytes())
    command = shlex.join(["multienv", "experiment", *sys.argv[2:]])
    record_invocation(root, name=name, command=command)


def _report(root: Path) -> None:
    from rllib_multienv.evaluation.report import write_report
    from rllib_multienv.experiments.collect import collect

    collect(root)
    typer.echo(f"report          {write_report(root)}")
