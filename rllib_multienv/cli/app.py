"""The commands put together."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from rllib_multienv.cli import envs, evaluate, experiment, record, report, train, transfer

app = typer.Typer(
    name="multienv",
    help="Train one reinforcement-learning agent on many unlike environments.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("transfer")(transfer.transfer)
app.command("experiment")(experiment.experiment)
app.command("record")(record.record)
app.command("report")(report.report)
app.command("envs")(envs.envs)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"multienv {version('rllib-multienv')}")
        except PackageNotFoundError:
            typer.echo("multienv (not installed)")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end."),
    ] = False,
) -> None:
    """Train one reinforcement-learning agent on many unlike environments."""
    # As `python -m` does: environments in the user's own folder can be named as "module:Environment", also by
    # the processes that Ray starts.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
