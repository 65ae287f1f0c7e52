"""A CSV file as rows of one frozen dataclass: a column for each field, types by the fields' annotations."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

Row = TypeVar("Row")


def read_rows(path: str | Path, kind: type[Row]) -> tuple[Row, ...]:
    """Reads a file that `write_rows` has written, or that was written by hand like it.

    Columns that are no field are ignored. Fields may be `str`, `int`, `float` and the latter two with `None`,
    which is an empty cell.

    Args:
        path: The file.
        kind: The dataclass.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing, or a cell is no finite number where one is wanted, or the dataclass
            refuses the row; the message names file, row (the header is row 1) and column.
    """
    path = Path(path)
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in names if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: the column {', '.join(map(repr, missing))} is missing")
        for number, cells in enumerate(reader, start=2):
            values = {name: _parse(cells[name], types[name], f"{path}, row {number}, {name}") for name in names}
            try:
                rows.append(kind(**values))
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: {error}") from error
    return tuple(rows)


def write_rows(path: str | Path, kind: type[Row], rows: Iterable[Row]) -> Path:
    """Writes one line per row, in the given order; floats with 6 significant digits, lines end with LF.

    Args:
        path: The file; its folder must exist.
        kind: The dataclass of the rows.
        rows: The rows.

    Raises:
        ValueError: If a number is not finite; the message names the column and the row.
    """
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    lines = [[_format(getattr(row, name), types[name], f"{name} of {row}") for name in names] for row in rows]
    path = Path(path)
    path.write_text(csv_text(names, lines), encoding="utf-8", newline="")
    return path


def csv_text(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A CSV file's content, with LF at the ends of the lines."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return stream.getvalue()


def rounded(value: float) -> float:
    """The number with 6 significant digits."""
    return float(f"{value:.6g}")


def _parse(text: str | None, kind: Any, where: str) -> Any:
    if kind is str:
        return text or ""
    optional = isinstance(kind, UnionType)
    if not (text or "").strip():
        if optional:
            return None
        raise ValueError(f"{where}: the cell is empty, a number is wanted")
    base = get_args(kind)[0] if optional else kind
    try:
        value = float(text or "")
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no number") from None
    if not math.isfinite(value) or (base is int and value != round(value)):
        raise ValueError(f"{where}: {text!r} is no {'whole' if base is int else 'finite'} number")
    return int(value) if base is int else value


def _format(value: Any, kind: Any, where: str) -> str:
    if value is None:
        return ""
    if kind is str:
        return str(value)
    base = get_args(kind)[0] if isinstance(kind, UnionType) else kind
    if not math.isfinite(value):
        raise ValueError(f"{where}: {value!r} is no finite number")
    return str(int(value)) if base is int else repr(rounded(float(value)))
