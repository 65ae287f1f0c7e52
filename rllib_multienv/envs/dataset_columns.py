"""Columns of a data set as observations and as targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_multienv.envs.dataset_sources import Column, DatasetError, Table
from rllib_multienv.spaces.leaves import IMAGE_SIDE

__all__ = ["Features", "Targets"]


def _numbered(name: str, count: int) -> tuple[str, ...]:
    """Words for each number of a column."""
    return (name,) if count == 1 else tuple(f"{name} {number}" for number in range(count))


def _check_finite(name: str, values: np.ndarray, role: str) -> None:
    if values.dtype.kind != "f" or not values.size:
        return
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)  # [N]
    if bad.any():
        row = int(np.argmax(bad))
        raise DatasetError(
            f"Column {name!r} has {int(bad.sum())} rows with a NaN or infinite {role}, the first is row {row}. Fill "
            "them in or drop them before the data set is made."
        )


@dataclass(frozen=True)
class Features:
    """What is observed of each row.

    Attributes:
        numbers: float32 ``[N, I]``, all numbers joined; without columns where there are none.
        images: uint8 ``[N, H, W, ...]``, by column.
        texts: Strings ``[N]``, by column.
        names: A few words for each number.
        num_cut: Texts that were too long and are cut.
    """

    numbers: np.ndarray
    images: Mapping[str, np.ndarray]
    texts: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    num_cut: int = 0

    @classmethod
    def of(
        cls,
        table: Table,
        names: Sequence[str],
        *,
        train: np.ndarray,
        standardize: bool,
        image_size: tuple[int, int] | None,
        max_length: int,
    ) -> Features:
        """The features of some columns.

        Args:
            table: The data set.
            names: Its columns that are observed.
            train: Rows of the training split, whose mean and deviation standardise numbers.
            standardize: Whether numbers that are no classes are standardised.
            image_size: Height and width that images are brought to.
            max_length: Characters of a text that are kept.

        Raises:
            DatasetError: A value is missing, or images differ in size.
        """
        numbers: list[np.ndarray] = [np.empty((len(table), 0), np.float32)]
        images: dict[str, np.ndarray] = {}
        texts: dict[str, np.ndarray] = {}
        words: list[str] = []
        num_cut = 0
        for name in names:
            column = table.columns[name]
            if column.classes:
                _check_classes(name, column.values, column.classes, "value")
                numbers.append(np.eye(len(column.classes), dtype=np.float32)[column.values.astype(np.int64)])
                words += [f"{name} is {value}" for value in column.classes]
            elif column.is_text:
                _check_texts(name, column.values)
                num_cut += sum(len(text) > max_length for text in column.values)
                texts[name] = np.array([text[:max_length] for text in column.values], dtype=object)
            elif (image := _image(name, column, image_size)) is not None:
                images[name] = image
            else:
                values = _padded(column.values) if column.is_ragged else column.values
                if values.dtype.kind not in "biuf":
                    raise DatasetError(f"Column {name!r} has values of an unsupported type, such as {values[0]!r:.80}.")
                _check_finite(name, values, "value")
                flat = values.reshape(len(values), -1).astype(np.float64)  # [N, K]
                if standardize and values.dtype != bool:
                    mean, std = flat[train].mean(0), flat[train].std(0)
                    flat = (flat - mean) / np.where(std > 0, std, 1.0)
                numbers.append(flat.astype(np.float32))
                words += _numbered(name, flat.shape[1])
        return cls(np.concatenate(numbers, axis=1), images, texts, tuple(words), num_cut)

    @property
    def space(self) -> Any:
        """Space of one row: a Box, a Text, or a Dict where there are several kinds."""
        parts: dict[str, Any] = {}
        if self.numbers.shape[1]:
            parts["numbers"] = spaces.Box(-np.inf, np.inf, self.numbers.shape[1:], np.float32)
        for name, images in self.images.items():
            parts[name] = spaces.Box(0, 255, images.shape[1:], np.uint8)
        for name, texts in self.texts.items():
            characters = "".join(sorted(set().union(*texts))) or " "
            parts[name] = spaces.Text(max(1, *map(len, texts)), min_length=0, charset=characters)
        return spaces.Dict(parts) if len(parts) != 1 else next(iter(parts.values()))

    def __getitem__(self, rows: Any) -> Any:
        """One row's observation, or with several rows arrays of these."""
        parts: dict[str, Any] = {"numbers": self.numbers[rows]} if self.numbers.shape[1] else {}
        parts |= {name: values[rows] for name, values in {**self.images, **self.texts}.items()}
        return parts if len(parts) != 1 else next(iter(parts.values()))


def _check_classes(name: str, values: np.ndarray, classes: Sequence[str], role: str) -> None:
    _check_finite(name, values, role)
    outside = (values < 0) | (values >= len(classes)) | (values != np.floor(values))
    if outside.any():
        row = int(np.argmax(outside))
        missing = " (-1 stands for a missing one)" if values[row] == -1 else ""
        raise DatasetError(
            f"Column {name!r}: row {row} has the {role} {values[row]}{missing}, but there are {len(classes)} classes, "
            f"0 to {len(classes) - 1}. Drop such rows, or set classes=... to the right number."
        )


def _check_texts(name: str, values: np.ndarray) -> None:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DatasetError(f"Column {name!r} has no text in row {row} but {value!r:.80}. Fill it in or drop it.")


def _image(name: str, column: Column, size: tuple[int, int] | None) -> np.ndarray | None:
    """The images of a column, of one size; None where it has none."""
    values = column.values
    first = values[0] if column.is_ragged else values[0, ...]
    if first.dtype != np.uint8 or first.ndim not in (2, 3) or min(sorted(first.shape)[-2:]) < IMAGE_SIDE:
        return None
    if size is None and not column.is_ragged:
        return values
    if size is None:
        raise DatasetError(f"Images of column {name!r} differ in size: set image_size=(height, width).")
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize(size[::-1])) for image in values])


def _padded(values: np.ndarray) -> np.ndarray:
    """``[N, L + 1]`` of N lists of numbers: the numbers, padded with 0, and how many there are."""
    rows = [np.asarray(value, dtype=np.float64).reshape(-1) for value in values]
    padded = np.zeros((len(rows), max(map(len, rows)) + 1))
    for row, numbers in enumerate(rows):
        padded[row, : len(numbers)] = numbers
        padded[row, -1] = len(numbers)
    return padded


@dataclass(frozen=True)
class Targets:
    """What is to be predicted of each row.

    Attributes:
        values: int64 ``[N]`` (classes), int8 ``[N, K]`` (several labels each), or float32 ``[N, D]`` (regression).
        space: The action space whose actions predict them.
        names: Names of the classes, or words for each number.
        problem: ``"classification"``, ``"labels"`` (several each) or ``"regression"``.
    """

    values: np.ndarray
    space: Any
    names: tuple[str, ...]
    problem: str

    @classmethod
    def of(
        cls,
        name: str,
        column: Column,
        *,
        train: np.ndarray,
        classes: int | Sequence[str] | None = None,
        regression: bool = False,
    ) -> Targets:
        """The targets of a column.

        Args:
            name: The column.
            column: Its values.
            train: Rows of the training split, from which the range of numbers is taken.
            classes: Number or names of classes, where the source does not say.
            regression: Whether whole numbers are amounts.

        Raises:
            DatasetError: A label is missing, or whole numbers may be classes or amounts.
        """
        values, known = column.values, column.classes
        if classes is not None:
            known = tuple(map(str, range(classes) if isinstance(classes, int) else classes))
        if column.is_text:
            _check_texts(name, values)
            known = known or tuple(sorted(set(values)))
            unknown = set(values) - set(known)
            if unknown:
                raise DatasetError(f"Column {name!r} has labels that are not in classes: {sorted(unknown)[:5]}.")
            values = np.array([known.index(value) for value in values])
        if column.is_ragged:
            if not known:
                raise DatasetError(f"Column {name!r} has lists of labels: set classes=... to the number of labels.")
            bits = np.zeros((len(values), len(known)), np.int8)
            for row, labels in enumerate(values):
                _check_classes(name, np.asarray(labels, dtype=np.float64), known, "label")
                bits[row, np.asarray(labels, dtype=np.int64)] = 1
            return cls(bits, spaces.MultiBinary(len(known)), known, "labels")
        if values.dtype == bool and values.ndim == 2:
            names = known or tuple(f"{name} {number}" for number in range(values.shape[1]))
            return cls(values.astype(np.int8), spaces.MultiBinary(values.shape[1]), names, "labels")
        if values.dtype == bool and values.ndim == 1:
            known = known or (f"not {name}", name)
        if known and not regression:
            _check_classes(name, values, known, "label")
            return cls(values.astype(np.int64), spaces.Discrete(len(known)), known, "classification")
        _check_finite(name, values, "label")
        if values.dtype.kind in "iu" and not regression:
            raise DatasetError(
                f"Column {name!r} has whole numbers from {values.min()} to {values.max()}: set "
                f"classes={values.max() + 1} where these are classes, or regression=True where they are amounts."
            )
        if values.dtype.kind not in "iuf":
            raise DatasetError(f"Column {name!r} has labels of an unsupported type, such as {values[0]!r:.80}.")
        flat = values.reshape(len(values), -1).astype(np.float32)  # [N, D]
        mean = flat[train].mean(0)
        half = np.maximum(np.abs(flat[train] - mean).max(0), 1e-6 + 1e-3 * np.abs(mean))
        space = spaces.Box((mean - half).astype(np.float32), (mean + half).astype(np.float32))
        return cls(flat, space, _numbered(name, flat.shape[1]), "regression")

    def scores(self, rows: Any, predictions: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """How good predictions ``[n, ...]`` of rows ``[n]`` are, ``[n]``: their mean is the accuracy or R squared.

        Args:
            rows: The rows.
            predictions: Actions.
            scale: Variance ``[D]`` of the targets of the split, for regression.
        """
        values = self.values[rows]
        if self.problem == "classification":
            return (np.asarray(predictions) == values).astype(np.float64)
        if self.problem == "labels":
            return (np.asarray(predictions).reshape(values.shape) == values).mean(-1)
        error = np.square(np.asarray(predictions, dtype=np.float64).reshape(values.shape) - values)
        return 1.0 - (error / scale).mean(-1)
