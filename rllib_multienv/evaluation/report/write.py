"""Makes the report of an experiment."""

from __future__ import annotations

import re
from pathlib import Path

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import read_raw_metrics
from rllib_multienv.evaluation.report.figures.figure import write_png
from rllib_multienv.evaluation.report.figures.palette import variant_colors
from rllib_multienv.evaluation.report.page import render_page
from rllib_multienv.evaluation.report.sections import report_sections
from rllib_multienv.evaluation.report.summary import summarize
from rllib_multienv.evaluation.report.tables.table import write_csv, write_markdown

METRICS_FOLDER = "metrics"
PAGE = "report.html"


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes a page, `figures/*.png`, `tables/*.csv` and `tables/*.md` from the raw metrics alone.

    The same metrics give the same bytes. Files of an earlier report are overwritten, others stay.

    Args:
        folder: The experiment's folder, with its raw metrics in `metrics/`.
        output: The page, or an existing folder for it; default: `report.html` in `folder`. Figures and tables lie
            beside it.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: If the metrics are missing.
        ValueError: If they are damaged; the message says where.
    """
    folder = Path(folder)
    page = page_path(folder, output)
    scores = ExperimentScores(read_raw_metrics(folder / METRICS_FOLDER))
    colors = variant_colors(scores)
    summary = summarize(scores)
    sections = report_sections(scores, colors)
    figures, tables = page.parent / "figures", page.parent / "tables"
    for needed in (figures, tables):
        needed.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for figure in section.figures:
            write_png(figure, figures / f"{_file_name(figure.name)}.png")
        for table in (*section.tables, *section.folded):
            write_csv(table, tables / f"{_file_name(table.name)}.csv")
            write_markdown(table, tables / f"{_file_name(table.name)}.md")
    text = render_page(summary, sections, colors, scores.experiment.commands)
    page.write_text(text, encoding="utf-8", newline="")
    return page


def page_path(folder: Path, output: str | Path | None = None) -> Path:
    """Where `write_report` writes the page of an experiment's folder."""
    page = folder / PAGE if output is None else Path(output)
    return page / PAGE if page.is_dir() else page


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
