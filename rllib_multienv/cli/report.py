"""`multienv report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rllib_multienv.cli.terminal import make_console, shown, user_errors


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Folder of an experiment, or several folders, each with some of its runs.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="The page; figures and tables are written beside it. Default: report.html in DIR. Required for "
            "several DIR, whose merged raw metrics are written beside it too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make the report of an experiment from its raw metrics: a page, figures and tables."""
    console = make_console()
    with user_errors():
        from rllib_multienv.evaluation.report import METRICS_FOLDER, page_path, write_report

        source = folders[0]
        if len(folders) > 1:
            if output is None:
                raise ValueError("the report of several folders needs --output FILE.html")
            source = page_path(source, output).parent
            if (source / "runs").is_dir():
                raise ValueError(
                    f"{source} contains runs with their own raw metrics; choose another folder for --output"
                )
        with console.status("collecting") as status:
            for folder in folders:
                collect_runs(folder)
                if not (folder / METRICS_FOLDER).is_dir():
                    raise FileNotFoundError(
                        f"{folder} has no folder {METRICS_FOLDER} with the raw metrics of an experiment; "
                        "multienv experiment writes it"
                    )
            if len(folders) > 1:
                merge_parts(folders, source)
            status.update("drawing")
            page = write_report(source, output)
        console.print(Text(f"report in {shown(page)}"), soft_wrap=True)


def merge_parts(folders: list[Path], target: Path) -> None:
    """Writes the merged raw metrics of all parts of an experiment."""
    from rllib_multienv.evaluation.raw_metrics import merge_raw_metrics, read_raw_metrics, write_raw_metrics
    from rllib_multienv.evaluation.report import METRICS_FOLDER

    parts = {str(folder): read_raw_metrics(folder / METRICS_FOLDER) for folder in folders}
    write_raw_metrics(merge_raw_metrics(parts), target / METRICS_FOLDER)


def collect_runs(folder: Path) -> None:
    """Updates the raw metrics from an experiment's runs, where the folder has these."""
    if (folder / "experiment.yaml").is_file() and (folder / "runs").is_dir():
        from rllib_multienv.experiments.collect import collect

        collect(folder)
