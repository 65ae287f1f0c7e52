"""Data sets of any library as columns in memory.

Rows are read into memory when a data set is made: NumPy arrays, scikit-learn's bunches, pandas frames, PyTorch's data
sets, Hugging Face's `datasets`, data sources of TensorFlow Datasets, Deep Lake, and any other sequence or iterable of
rows. None of these libraries is imported here; a source tells by its methods which one it is of.
"""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Column", "DatasetError", "Table", "read_table"]

#: Names of splits that a source may have of its own.
_SPLITS = ("train", "test", "validation", "val", "valid", "eval", "unsupervised")


class DatasetError(ValueError):
    """A data set cannot be used as it is: a value or label is missing, a split is empty, a type is not known."""


@dataclass(frozen=True, eq=False)
class Column:
    """The values of one column.

    Attributes:
        values: ``[N, ...]``; an object array ``[N]`` of strings, or of arrays whose shapes differ.
        classes: Names of classes, where values are their numbers.
    """

    values: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether values are strings."""
        return self.values.dtype == object and isinstance(self.values[0], str)

    @property
    def is_ragged(self) -> bool:
        """Whether values are arrays of several shapes."""
        return self.values.dtype == object and isinstance(self.values[0], np.ndarray)


@dataclass(frozen=True, eq=False)
class Table:
    """A data set in memory.

    Attributes:
        columns: By name.
        x: Names of the columns that are observed, where the source says so.
        y: Name of the column to predict, where the source says so.
        name: What the source calls itself; empty where it does not.
        splits: Rows of the source's own splits, by name.
    """

    columns: Mapping[str, Column]
    x: tuple[str, ...] = ()
    y: str | None = None
    name: str = ""
    splits: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Compare all columns by their values."""
        if not isinstance(other, Table) or self.columns.keys() != other.columns.keys():
            return False
        pairs = [(column, other.columns[name]) for name, column in self.columns.items()]
        return all(a.classes == b.classes and np.array_equal(a.values, b.values) for a, b in pairs)

    def __len__(self) -> int:
        return min((len(column.values) for column in self.columns.values()), default=0)


def read_table(source: Any, max_rows: int) -> Table:
    """Read a data set.

    Args:
        source: See `DatasetEnv`.
        max_rows: Rows that are read at most.

    Raises:
        DatasetError: It is of a kind that is not known, or has no rows.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, str):
        source = _named(source)
    if callable(source) and not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
        source = source()
    table = _read(source, max_rows)
    if not len(table):
        raise DatasetError(f"{_brief(source)} has no rows.")
    return table


def _read(source: Any, max_rows: int) -> Table:
    if isinstance(source, Mapping) and source and source.keys() <= {*_SPLITS} and not _is_array(_any_value(source)):
        return _joined({name: _read(part, max_rows) for name, part in source.items()})
    for applies, read in _READERS:
        if applies(source):
            return read(source, max_rows)
    if isinstance(source, Mapping):
        return Table({str(name): _column(values[:max_rows]) for name, values in source.items()})
    if isinstance(source, tuple) and len(source) == 2 and all(map(_is_array, source)):
        x, y = (_column(np.asarray(part)[:max_rows]) for part in source)
        if len(x.values) != len(y.values):
            raise DatasetError(f"X has {len(x.values)} rows, but Y has {len(y.values)}.")
        return Table({"x": x, "y": y}, ("x",), "y")
    if _is_array(source):
        return Table({"x": _column(np.asarray(source)[:max_rows])}, ("x",))
    if hasattr(type(source), "__iter__"):
        return _of_rows(itertools.islice(source, max_rows))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _of_rows(source[row] for row in range(min(len(source), max_rows)))
    raise DatasetError(
        f"A data set is arrays (X, Y), a mapping of columns, a frame, or rows to iterate over, not {_brief(source)}."
    )


def _brief(source: Any) -> str:
    return f"{type(source).__module__}.{type(source).__qualname__}"


def _any_value(mapping: Mapping[str, Any]) -> Any:
    return next(iter(mapping.values()))


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") or (isinstance(value, list) and not any(isinstance(v, Mapping) for v in value))


def _named(name: str) -> Any:
    """A file, or what ``"module:function"`` names."""
    path = Path(name)
    if path.suffix in (".csv", ".parquet", ".npz"):
        import pandas as pd

        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return dict(arrays)
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    module, _, function = name.rpartition(":")
    if not module:
        raise DatasetError(
            f"source={name!r} must be a file (.csv, .parquet, .npz) or a function 'module:function', such as "
            "'sklearn.datasets:load_digits'."
        )
    return getattr(importlib.import_module(module), function)


def _of_bunch(bunch: Any, max_rows: int) -> Table:
    data, target = np.asarray(bunch.data)[:max_rows], np.asarray(bunch.target)[:max_rows]
    found = bunch.get("feature_names")  # may be an array
    names = () if found is None else _names(found)
    columns = {"data": _column(data)}
    if data.ndim == 2 and len(names) == data.shape[1]:
        columns = {name: _column(data[:, i]) for i, name in enumerate(names)}
    labels = bunch.get("target_names")
    classes = tuple(map(str, labels)) if target.dtype.kind in "iu" and labels is not None and target.ndim == 1 else ()
    title = re.search(r"\.\. _(\w+)_dataset:", bunch.get("DESCR") or "")
    y = Column(target, classes)
    return Table({**columns, "target": y}, tuple(columns), "target", title[1] if title else "")


def _of_frame(frame: Any, max_rows: int) -> Table:
    columns = {}
    for name in frame.columns:
        series = frame[name].iloc[:max_rows]
        if series.dtype.name == "category":
            columns[str(name)] = Column(series.cat.codes.to_numpy().astype(np.int64), _names(series.cat.categories))
        else:
            numeric = series.dtype.kind in "biuf" if isinstance(series.dtype, np.dtype) else False
            columns[str(name)] = _column(series.to_numpy() if numeric else series.tolist())
    return Table(columns)


def _of_hugging_face(dataset: Any, max_rows: int) -> Table:
    rows = dataset.with_format("numpy") if hasattr(dataset, "with_format") else dataset
    table = _of_rows(itertools.islice(rows, max_rows))
    columns = dict(table.columns)
    for name, feature in (dataset.features or {}).items():
        feature = getattr(feature, "feature", feature)  # of a list of labels
        if getattr(feature, "names", None) is not None and name in columns:
            columns[name] = Column(columns[name].values, _names(feature.names))
    info = getattr(dataset, "info", None)
    return Table(columns, name=str(getattr(info, "dataset_name", None) or ""))


def _of_tfds(source: Any, max_rows: int) -> Table:
    info = source.dataset_info
    table = _of_rows(source[row] for row in range(min(len(source), max_rows)))
    columns = {
        name: Column(column.values, _names(getattr(info.features[name], "names", None) or ()))
        if hasattr(info.features[name], "num_classes")
        else column
        for name, column in table.columns.items()
    }
    keys = info.supervised_keys
    x, y = ((keys[0],), keys[1]) if keys else ((), None)
    return Table(columns, x, y, info.name)


def _of_deeplake(dataset: Any, max_rows: int) -> Table:
    return Table(
        {c.name: _column(list(dataset[c.name][: min(len(dataset), max_rows)])) for c in dataset.schema.columns}
    )


def _of_rows(rows: Iterable[Any]) -> Table:
    """Rows that are mappings, pairs (X, Y), or X alone."""
    read: list[Any] = list(rows)
    if not read:
        return Table({})
    if isinstance(read[0], Mapping):
        return Table({str(name): _column([row[name] for row in read]) for name in read[0]})
    if isinstance(read[0], tuple | list) and len(read[0]) == 2:
        return Table({"x": _column([row[0] for row in read]), "y": _column([row[1] for row in read])}, ("x",), "y")
    return Table({"x": _column(read)}, ("x",))


_READERS: tuple[tuple[Callable[[Any], bool], Callable[[Any, int], Table]], ...] = (
    (lambda s: hasattr(s, "data") and hasattr(s, "target") and hasattr(s, "get"), _of_bunch),
    (lambda s: hasattr(s, "iloc") and hasattr(s, "columns"), _of_frame),
    (lambda s: hasattr(s, "dataset_info") and hasattr(s, "__getitem__"), _of_tfds),
    (lambda s: hasattr(s, "features") and hasattr(s, "with_format"), _of_hugging_face),
    (lambda s: hasattr(s, "schema") and hasattr(s, "batches"), _of_deeplake),
)


def _joined(parts: Mapping[str, Table]) -> Table:
    """The tables of a source's splits one after another."""
    first = _any_value(parts)
    columns = {
        name: Column(_stacked(itertools.chain(*(part.columns[name].values for part in parts.values()))), column.classes)
        for name, column in first.columns.items()
    }
    ends = np.cumsum([len(part) for part in parts.values()])
    splits = {name: np.arange(end - len(part), end) for (name, part), end in zip(parts.items(), ends, strict=True)}
    return Table(columns, first.x, first.y, first.name, splits)


def _names(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, names))


def _column(values: Any) -> Column:
    return Column(values if isinstance(values, np.ndarray) and values.dtype != object else _stacked(values))


def _stacked(values: Iterable[Any]) -> np.ndarray:
    """One array of all values where these have one shape and are numbers, else an object array of them."""
    found = [_plain(value) for value in values]
    is_text = any(isinstance(value, str) for value in found)
    arrays = [] if is_text else [np.asarray(value, dtype=np.float64 if value is None else None) for value in found]
    if not is_text and len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    column = np.empty(len(found), dtype=object)
    for row, value in enumerate(found if is_text else arrays):
        column[row] = value
    return column


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode(errors="replace")
    return str(value) if isinstance(value, np.str_) else value
