"""Search spaces in YAML: ``!grid_search [1, 2]``, ``!uniform [0, 1]`` and Ray Tune's other samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Tag -> names of the parameters of the function of the same name in `ray.tune`. They are written down here,
# so that a file can be read and checked without importing Ray.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "grid_search": ("values",),
    "choice": ("categories",),
    "uniform": ("lower", "upper"),
    "quniform": ("lower", "upper", "q"),
    "loguniform": ("lower", "upper", "base"),
    "qloguniform": ("lower", "upper", "q", "base"),
    "randint": ("lower", "upper"),
    "qrandint": ("lower", "upper", "q"),
    "lograndint": ("lower", "upper", "base"),
    "qlograndint": ("lower", "upper", "q", "base"),
    "randn": ("mean", "sd"),
    "qrandn": ("mean", "sd", "q"),
}
_OPTIONAL = {"base", "mean", "sd"}
_OF_A_LIST = {"grid_search", "choice"}

TAGS: tuple[str, ...] = tuple(_PARAMETERS)


@dataclass(frozen=True)
class SearchSpace:
    """One search space: the sampler's name and its arguments, as the file gives them.

    Args:
        tag: Name of a function of `ray.tune`, one of `TAGS`.
        arguments: A list (positional arguments; for ``grid_search`` and ``choice`` the list of values itself)
            or a mapping (keyword arguments).
    """

    tag: str
    arguments: Any

    def __post_init__(self) -> None:
        """Checks the arguments' number and names.

        Raises:
            ValueError: If the tag or its arguments do not fit.
        """
        if self.tag not in _PARAMETERS:
            raise ValueError(f"unknown search space !{self.tag}; there are {', '.join('!' + t for t in TAGS)}")
        names = _PARAMETERS[self.tag]
        usage = f"!{self.tag} [{', '.join(names)}]"
        if self.tag in _OF_A_LIST:
            if not isinstance(self.arguments, list) or not self.arguments:
                raise ValueError(f"!{self.tag} takes a list with at least one value")
            return
        if not isinstance(self.arguments, list | dict):
            raise ValueError(f"!{self.tag} takes a list or a mapping: {usage}")
        given = set(names[: len(self.arguments)]) if isinstance(self.arguments, list) else set(self.arguments)
        missing = [name for name in names if name not in given and name not in _OPTIONAL]
        if missing or len(self.arguments) > len(names) or not given <= set(names):
            raise ValueError(f"!{self.tag} has wrong arguments {self.arguments!r}: {usage}")
        values = self.arguments if isinstance(self.arguments, list) else list(self.arguments.values())
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            raise ValueError(f"!{self.tag} takes numbers, not {self.arguments!r}")

    def to_tune(self) -> Any:
        """The sampler object of Ray Tune (a `Domain`, or the dict that stands for a grid search)."""
        from ray import tune

        sampler: Callable[..., Any] = getattr(tune, self.tag)
        if self.tag in _OF_A_LIST:
            return sampler(list(self.arguments))
        return sampler(**self.arguments) if isinstance(self.arguments, dict) else sampler(*self.arguments)

    def example(self) -> Any:
        """One value of the space, for checking a configuration before any trial is started."""
        return self.arguments[0] if self.tag in _OF_A_LIST else self.to_tune().sample()


def find_search_spaces(
    value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], SearchSpace]]:
    """All search spaces in a tree of dicts and lists, each with its path."""
    if isinstance(value, SearchSpace):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from find_search_spaces(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from find_search_spaces(child, (*path, index))


def replace_search_spaces(value: Any, replace: Callable[[SearchSpace], Any]) -> Any:
    """A copy of a tree of dicts and lists with every search space replaced by ``replace(space)``."""
    if isinstance(value, SearchSpace):
        return replace(value)
    if isinstance(value, dict):
        return {key: replace_search_spaces(child, replace) for key, child in value.items()}
    if isinstance(value, list):
        return [replace_search_spaces(child, replace) for child in value]
    return value
