"""The page: one HTML file that holds everything it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rllib_multienv.evaluation.raw_metrics import VariantInfo
from rllib_multienv.evaluation.report.figures.figure import ReportFigure
from rllib_multienv.evaluation.report.figures.svg import panel_svg
from rllib_multienv.evaluation.report.sections import Section
from rllib_multienv.evaluation.report.summary import Summary
from rllib_multienv.evaluation.report.tables.table import Cell, Table

# Panels up to this width in inches stand side by side; wider ones have a line of their own, that scrolls.
_NARROW = 6.0


def render_page(
    summary: Summary, sections: Sequence[Section], colors: Mapping[str, str], commands: Sequence[str]
) -> str:
    """Renders the page.

    Args:
        summary: Its head.
        sections: Its sections.
        colors: By variant.
        commands: The command that runs the experiment again, or those that run its parts; there may be none.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(files(__package__).joinpath("template.html").read_text(encoding="utf-8"))
    numbers = _Numbers(colors)
    return template.render(
        summary=summary,
        phases=numbers.table(summary.phases),
        commands=commands,
        sections=[
            {
                "key": section.key,
                "title": section.title,
                "text": section.text,
                "figures": [numbers.figure(figure) for figure in section.figures],
                "tables": [numbers.table(table) for table in section.tables],
                "folded": [numbers.table(table) for table in section.folded],
            }
            for section in sections
        ],
    )


class _Numbers:
    """Numbers figures and tables as they come, and prepares them for the template."""

    def __init__(self, colors: Mapping[str, str]) -> None:
        self._colors = colors
        self._figures = 0
        self._tables = 0

    def figure(self, figure: ReportFigure) -> dict[str, Any]:
        self._figures += 1
        width = figure.panel_size[0]
        return {
            "number": self._figures,
            "caption": figure.caption,
            "legend": figure.legend,
            "wide": width > _NARROW,
            "least": round(70 * width),
            "most": round(115 * width),
            "panels": [
                panel_svg(panel, size=figure.panel_size, key=f"f{self._figures}p{index}")
                for index, panel in enumerate(figure.panels)
            ],
        }

    def table(self, table: Table) -> dict[str, Any]:
        self._tables += 1
        table = table.shown()
        headings = [
            {"text": column.title, "left": column.is_text, "color": self._color(column.variant)}
            for column in table.columns
        ]
        rows = [
            [
                {
                    "text": table.text(index, cell),
                    "best": table.is_best(index, cell),
                    "left": table.columns[index].is_text,
                    "color": self._color(cell),
                }
                for index, cell in enumerate(row)
            ]
            for row in table.rows
        ]
        if table.turns and len(headings) - 1 > len(rows):
            headings, rows = _turned(headings, rows)
        return {
            "number": self._tables,
            "caption": table.caption,
            "headings": headings,
            "notes": table.notes,
            "rows": rows,
        }

    def _color(self, cell: Cell) -> str | None:
        """A variant's colour, where the cell is one."""
        return self._colors.get(cell.name) if isinstance(cell, VariantInfo) else None


def _turned(
    headings: list[dict[str, Any]], rows: list[list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Columns as rows: the first row's cells become headings, and the headings the first cells."""
    first, *others = zip(*rows, strict=True)
    return (
        [{"text": "", "left": True, "color": None}, *({**cell, "left": False} for cell in first)],
        [
            [{**heading, "best": False, "left": True}, *cells]
            for heading, cells in zip(headings[1:], others, strict=True)
        ],
    )
