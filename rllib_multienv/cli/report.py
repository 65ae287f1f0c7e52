"""`multienv report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rllib_multienv.cli.display import make_console
from rllib_multienv.cli.errors import user_errors
from rllib_multienv.cli.training import shown


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an experiment.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="The page, figures and tables beside it; default: report.html in DIR.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make the report of an experiment from its raw metrics: a page, figures and tables."""
    console = make_console()
    with user_errors():
        from rllib_multienv.evaluation.report import METRICS_FOLDER, write_report

        with console.status("collecting") as status:
            collect_runs(folder)
            status.update("drawing")
            if not (folder / METRICS_FOLDER).is_dir():
                raise FileNotFoundError(
                    f"{folder} has no folder {METRICS_FOLDER}, which holds an experiment's raw metrics; "
                    "multienv experiment makes it"
                )
            page = write_report(folder, output)
        console.print(Text(f"report in {shown(page)}"), soft_wrap=True)


def collect_runs(folder: Path) -> None:
    """Brings the raw metrics up to date with an experiment's runs, where these are here."""
    if (folder / "experiment.yaml").is_file() and (folder / "runs").is_dir():
        from rllib_multienv.experiments.collect import collect

        collect(folder)
