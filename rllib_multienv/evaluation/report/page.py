"""The page of a report: sections, opening sentences, and the HTML file that contains everything it shows."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import BETWEEN_PARTS, read_raw_metrics
from rllib_multienv.evaluation.report.figures import ReportFigure, report_figures
from rllib_multienv.evaluation.report.tables import number_text, report_tables, shown, write_table

METRICS_FOLDER = "metrics"
PAGE = "report.html"
# Text stays text, which is a third of the size, and ids do not change.
_SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "multienv report", "font.sans-serif": ["DejaVu Sans"]}


# Sections: heading, how their figures' names start, tables.
_LAYOUT: tuple[tuple[str, str, list[str]], ...] = (
    ("Results", "scores", ["scores", "environments"]),
    ("Learning curves", "curves", []),
    ("Adaptation", "adaptation", ["adaptation"]),
    ("Transfer", "transfer", ["transfer", "transfer_returns"]),
    ("Ablations", "ablations", ["ablations"]),
    ("Gradients", "gradients", ["gradient_cosines"]),
    ("References", "references", ["references"]),
    ("Runs", "runs", ["runs"]),
)


def report_sections(figures: Iterable[ReportFigure], tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """All sections with data, in order: their title, figures and names of tables."""
    sections = []
    for title, prefix, names in _LAYOUT:
        drawn = [figure for figure in figures if figure.name.split("_")[0] == prefix]
        found = [name for name in names if len(tables[name])]
        if drawn or found:
            sections.append({"title": title, "figures": drawn, "tables": found})
    return sections


def _best(table: pd.DataFrame, column: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """The row with the largest value in a column, for the page's opening sentences; None where there is none."""
    rows = table.dropna(subset=column) if len(table) else table
    if rows.empty:
        return None
    row = rows.loc[rows[column].idxmax()].to_dict()
    return {**row, "rows": len(rows), "label": labels[row["variant"]], "base_label": labels.get(row.get("base"))}


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes a page, `figures/*.png`, `tables/*.csv` and `tables/*.md` from the raw metrics alone.

    The same metrics give the same bytes. Files of an earlier report are overwritten, others stay.

    Args:
        folder: The experiment's folder, with its raw metrics in `metrics/`.
        output: The page, or an existing folder for it; default: `report.html` in `folder`. Figures and tables are
            written beside it. The page's path is returned.

    Raises:
        FileNotFoundError: The metrics are missing.
        ValueError: They are damaged; the message says where.
    """
    import matplotlib

    folder = Path(folder)
    page = page_path(folder, output)
    scores = ExperimentScores(read_raw_metrics(folder / METRICS_FOLDER))
    for name in ("figures", "tables"):
        (page.parent / name).mkdir(parents=True, exist_ok=True)
    tables = report_tables(scores)
    with matplotlib.rc_context(_SVG):
        figures = report_figures(scores, tables)
        for figure in figures:
            figure.figure.savefig(page.parent / f"figures/{figure.name}.png", dpi=110, metadata={"Software": None})
        text = _render(scores, figures, tables)
    for name, table in tables.items():
        if len(table):
            write_table(table, page.parent / f"tables/{name}.csv", scores.labels)
    page.write_text(text, encoding="utf-8", newline="")
    return page


def page_path(folder: Path, output: str | Path | None = None) -> Path:
    """The path of the page that `write_report` writes for an experiment's folder."""
    page = folder / PAGE if output is None else Path(output)
    return page / PAGE if page.is_dir() else page


def _render(scores: ExperimentScores, figures: list[ReportFigure], tables: Mapping[str, pd.DataFrame]) -> str:
    """The HTML text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(files(__package__).joinpath("template.html").read_text(encoding="utf-8"))
    info, table = scores.experiment, tables["scores"]
    main = table[table["phase"] == table["phase"].iloc[0]] if len(table) else table
    return template.render(
        info=info,
        runs=scores.metrics.runs.to_dict("records"),
        best=_best(main, "average", scores.labels),
        transfer=_best(tables["transfer"], "final_average", scores.labels),
        ablation=_best(tables["ablations"], "final_average", scores.labels),
        adaptation=_best(tables["adaptation"], "sum", scores.labels),
        commands=[command for command in info.command.split(BETWEEN_PARTS) if command],
        headline=figures[0] if figures else None,
        sections=report_sections(figures[1:], tables),
        problems=scores.references.loc[scores.references["problem"] != "", "problem"].to_dict(),
        labels=scores.labels,
        shown={name: shown(table, scores.labels) for name, table in tables.items()},
        image=_image,
        number=number_text,
    )


def _image(figure: ReportFigure) -> str:
    """The figure as SVG in a data URI."""
    stream = io.StringIO()
    figure.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    # Hundredths of a point are enough for lines.
    text = re.sub(r'\bd="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), stream.getvalue())
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"
