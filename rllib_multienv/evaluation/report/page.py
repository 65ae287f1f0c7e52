"""The page of a report: sections, opening sentences, and the HTML file that contains everything it shows."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import BETWEEN_PARTS, read_raw_metrics
from rllib_multienv.evaluation.report import figures
from rllib_multienv.evaluation.report.figures import ReportFigure
from rllib_multienv.evaluation.report.tables import Table, number_text, report_tables

METRICS_FOLDER = "metrics"
PAGE = "report.html"
# Text stays text, which is a third of the size, and ids do not change.
_SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "multienv report", "font.sans-serif": ["DejaVu Sans"]}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page: its heading, figures, tables, and tables that are shown on demand."""

    title: str
    figures: list[ReportFigure]
    tables: list[Table]
    folded: list[Table]


def report_sections(scores: ExperimentScores, tables: Mapping[str, Table]) -> Iterator[Section]:
    """All sections with data, in order."""
    frames = {name: table.frame for name, table in tables.items()}
    curves: list[ReportFigure | None] = list(figures.curve_figures(scores))
    headline = figures.score_figure(scores, frames["scores"], frames["environments"])
    if headline is None and curves:  # no normalised scores
        headline = curves.pop(0)
    for title, drawn, shown, folded in (
        ("Results", [headline], ["scores"], ["environments"]),
        ("Learning curves", curves, [], []),
        ("Transfer", [], ["transfer"], ["transfer_environments"]),
        ("Ablations", [figures.ablation_figure(scores, frames["ablations"])], ["ablations"], []),
        ("Gradients", [figures.cosine_figure(scores, frames["gradient_cosines"])], [], ["gradient_cosines"]),
        ("References", [], ["references"], []),
        ("Runs", [], [], ["runs"]),
    ):
        section = Section(
            title=title,
            figures=[figure for figure in drawn if figure is not None],
            tables=[tables[name] for name in shown if len(frames[name])],
            folded=[tables[name] for name in folded if len(frames[name])],
        )
        if section.figures or section.tables or section.folded:
            yield section


def opening_sentences(scores: ExperimentScores, tables: Mapping[str, Table]) -> Iterator[str]:
    """Three sentences: what was run, which variant is best, and how transfer or ablations compare."""
    runs, table = scores.metrics.runs, tables["scores"].frame
    done, steps, hours = (runs["status"] == "done").sum(), runs["env_steps"].sum(), runs["seconds"].sum() / 3600
    yield (
        f"{len(scores.labels)} variants, {len(scores.references)} environments, {len(scores.experiment.seeds)} seeds: "
        f"{done} of {len(runs)} runs are done, {steps:,} environment steps in {hours:.1f} hours of training."
    )
    scored = table.dropna(subset="average") if len(table) else table
    if scored.empty:
        yield "There are no normalised scores: the references are missing."
        return
    rows = scored[scored["phase"] == scored["phase"].iloc[0]]
    best = rows.loc[rows["average"].idxmax()]
    yield (
        f"After the phase {best['phase']}, {scores.labels[best['variant']]} has the highest average normalised score "
        f"of {len(rows)} variants: {number_text(best['average'])}, and {number_text(best['worst'])} in its worst "
        "environment (0: random actions, 100: the best agent trained in each environment alone)."
    )
    transfer, ablations = tables["transfer"].frame, tables["ablations"].frame
    if len(transfer) and transfer["final_difference"].notna().any():
        row = transfer.loc[transfer["final_difference"].idxmax()]
        yield (
            f"Transfer does best with {scores.labels[row['variant']]} in the phase {row['phase']}: after a quarter of "
            f"the steps it is ahead of training from scratch in {row['ahead_of_quarter_scratch']} environments, and "
            f"its final score minus that of scratch is {number_text(row['final_difference'])}."
        )
    elif len(ablations):
        apart = (ablations["final_low"] > 0) | (ablations["final_high"] < 0)
        yield f"{apart.sum()} of {len(apart)} ablations differ from their base by more than the spread of the seeds."


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes a page, `figures/*.png`, `tables/*.csv` and `tables/*.md` from the raw metrics alone.

    The same metrics give the same bytes. Files of an earlier report are overwritten, others stay.

    Args:
        folder: The experiment's folder, with its raw metrics in `metrics/`.
        output: The page, or an existing folder for it; default: `report.html` in `folder`. Figures and tables are
            written beside it.

    Returns:
        The page's path.

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
        sections = list(report_sections(scores, tables))
        for figure in (figure for section in sections for figure in section.figures):
            figure.figure.savefig(page.parent / f"figures/{figure.name}.png", dpi=110, metadata={"Software": None})
        text = _render(scores, sections, tables)
    for table in (table for table in tables.values() if len(table.frame)):
        table.write(page.parent / "tables", scores.labels)
    page.write_text(text, encoding="utf-8", newline="")
    return page


def page_path(folder: Path, output: str | Path | None = None) -> Path:
    """Where `write_report` writes the page of an experiment's folder."""
    page = folder / PAGE if output is None else Path(output)
    return page / PAGE if page.is_dir() else page


def _render(scores: ExperimentScores, sections: list[Section], tables: Mapping[str, Table]) -> str:
    """The HTML text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(files(__package__).joinpath("template.html").read_text(encoding="utf-8"))
    info, runs = scores.experiment, scores.metrics.runs
    return template.render(
        info=info,
        opening=" ".join(opening_sentences(scores, tables)),
        commands=[command for command in info.command.split(BETWEEN_PARTS) if command],
        not_done=runs[runs["status"] != "done"].to_dict("records"),
        sections=sections,
        labels=scores.labels,
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
