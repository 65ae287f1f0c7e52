"""A table: columns with a kind, cells with plain values, and how these are written as text, Markdown and CSV."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rllib_multienv.evaluation.csv_rows import csv_text, rounded
from rllib_multienv.evaluation.intervals import Interval
from rllib_multienv.evaluation.raw_metrics import VariantInfo
from rllib_multienv.evaluation.report.text import (
    NOTHING,
    count_text,
    duration_text,
    interval_text,
    number_text,
    score_text,
)

Kind = Literal["text", "variant", "count", "number", "score", "interval", "number_interval", "duration", "flag"]
Cell = str | int | float | bool | Interval | VariantInfo | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        key: Its name in the CSV file; an interval has two more columns, with ``_low`` and ``_high`` behind it.
        title: Its heading.
        kind: What its cells are. Any cell may be a text, too, which says why there is no number, or None.
        best: Whether the largest value is to stand out.
        variant: Whose numbers stand in it, where they are those of one.
        optional: Whether it is shown only where a cell of it says something; it is in the CSV file in any case.
    """

    key: str
    title: str
    kind: Kind = "text"
    best: bool = False
    variant: VariantInfo | None = None
    optional: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it is to be aligned left."""
        return self.kind in ("text", "variant")


def variant_column(variant: VariantInfo, kind: Kind) -> Column:
    """The column of a variant's numbers."""
    return Column(key=variant.name, title=variant.label, kind=kind, variant=variant)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report.

    Args:
        name: File name, without ending.
        caption: What it shows.
        columns: Its columns.
        rows: One cell per column.
        notes: Sentences below it.
        turns: Whether the page shows its columns as lines where there are more of them than rows.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    turns: bool = False

    def shown(self) -> Table:
        """The table as a reader sees it: without optional columns in which nothing stands."""
        kept = [
            index
            for index, column in enumerate(self.columns)
            if not column.optional or any(row[index] not in (None, "") for row in self.rows)
        ]
        return replace(
            self,
            columns=tuple(self.columns[index] for index in kept),
            rows=tuple(tuple(row[index] for index in kept) for row in self.rows),
        )

    def text(self, column: int, cell: Cell) -> str:
        """A cell as it is shown."""
        return _text(self.columns[column].kind, cell)

    def is_best(self, column: int, cell: Cell) -> bool:
        """Whether a cell is to stand out: it shows the largest value of its column, and there are others."""
        if not self.columns[column].best:
            return False
        values = [value for row in self.rows if (value := _value(row[column])) is not None]
        mine = _value(cell)
        return mine is not None and len(values) > 1 and mine == max(values)


def write_csv(table: Table, path: Path) -> None:
    """Writes a table as CSV: numbers with 6 significant digits, empty cells where there is none."""
    header: list[str] = []
    for column in table.columns:
        header.append(column.key)
        if column.kind in ("interval", "number_interval"):
            header += [f"{column.key}_low", f"{column.key}_high"]
    lines = [
        [text for column, cell in zip(table.columns, row, strict=True) for text in _csv_cells(column.kind, cell)]
        for row in table.rows
    ]
    path.write_text(csv_text(header, lines), encoding="utf-8", newline="")


def write_markdown(table: Table, path: Path) -> None:
    """Writes a table as Markdown, with its caption above and its notes below."""
    table = table.shown()
    titles = [_escaped(column.title) for column in table.columns]
    rules = ["---" if column.is_text else "---:" for column in table.columns]
    lines = [table.caption, "", f"| {' | '.join(titles)} |", f"|{'|'.join(rules)}|"]
    for row in table.rows:
        cells = []
        for index, cell in enumerate(row):
            text = _escaped(table.text(index, cell))
            cells.append(f"**{text}**" if table.is_best(index, cell) else text)
        lines.append(f"| {' | '.join(cells)} |")
    for note in table.notes:
        lines += ["", note]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _value(cell: Cell) -> float | None:
    if isinstance(cell, Interval):
        return cell.value
    return float(cell) if isinstance(cell, int | float) else None


def _text(kind: Kind, cell: Cell) -> str:
    if cell is None:
        return NOTHING
    if isinstance(cell, str):
        return cell
    if isinstance(cell, VariantInfo):
        return cell.label
    if isinstance(cell, Interval):
        return interval_text(cell, score=kind == "interval")
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if kind == "count" and isinstance(cell, int):
        return count_text(cell)
    if kind == "duration":
        return duration_text(cell)
    return score_text(cell) if kind == "score" else number_text(cell)


def _csv_cells(kind: Kind, cell: Cell) -> list[str]:
    wide = kind in ("interval", "number_interval")
    if isinstance(cell, Interval):
        values = [_csv_number(value) for value in (cell.value, cell.low, cell.high)]
        return values if wide else values[:1]
    if isinstance(cell, VariantInfo):
        text = cell.name
    elif cell is None or isinstance(cell, str):
        text = cell or ""
    elif isinstance(cell, bool):
        text = "yes" if cell else "no"
    else:
        text = _csv_number(cell)
    return [text, "", ""] if wide else [text]


def _csv_number(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else repr(rounded(value))
