"""Imports point upwards in the table of docs/architecture.md, form no circle, and keep Ray out of some rooms."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter

from cli_helpers import ROOT

PACKAGE = "rllib_multienv"
OUTSIDE = {"", "__main__"}  # the package itself, which offers names of all rooms, and its program

# What breaks a rule today: (importer, imported), and modules that the table leaves out. Both lists only shrink.
KNOWN: set[tuple[str, str]] = set()
LEFT_OUT = {"discounting"}

MODULE, FUNCTION, TYPES = "with the module", "in a function", "for types"
Graph = dict[str, dict[str, set[str]]]  # importer -> imported -> when; names without the package's


@cache
def rooms() -> list[tuple[str, int, list[str]]]:
    """(room, row, rooms that it may import inside functions too) of the table's first column.

    A row allows such imports with the words: inside functions also `room/`, `room.py`.
    """
    text = (ROOT / "docs" / "architecture.md").read_text()
    found = []
    for row, (names, about) in enumerate(re.findall(r"^\| (`.+?) \| (.+) \|$", text, re.MULTILINE)):
        also = _paths(about.partition("inside functions also")[2])
        found += [(name, row, also) for name in _paths(names)]
    return found


def _paths(text: str) -> list[str]:
    """`a/b.py` and `a/` as a.b and a."""
    return [path.removesuffix(".py").strip("/").replace("/", ".") for path in re.findall(r"`([\w/]+(?:\.py|/))`", text)]


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees of all modules; a folder's own module has the folder's name."""
    root = ROOT / PACKAGE
    trees = {}
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text(), str(file))
    return trees


def _imports(tree: ast.AST, folder: str, when: str = MODULE) -> Iterator[tuple[str, str]]:
    """Full names of what is imported, and when: with the module, in a function or for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"line {node.lineno} of a module in {folder}: name the module in full"
            source = ".".join(filter(None, [folder if node.level else None, node.module]))
            yield from ((f"{source}.{alias.name}", when) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(node, folder, FUNCTION)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from _imports(node, folder, TYPES)
        else:
            yield from _imports(node, folder, when)


@cache
def imports(module: str) -> set[tuple[str, str]]:
    """Full names of what a module imports, and when."""
    is_folder = (ROOT / PACKAGE / module.replace(".", "/")).is_dir()
    folder = module if is_folder else module.rpartition(".")[0]
    return set(_imports(modules()[module], f"{PACKAGE}.{folder}".rstrip(".")))


@cache
def graph() -> Graph:
    """Imports between modules. Who imports a module from outside its folder also runs the folder's own module."""
    homes = {full_name.rpartition(".")[2]: full_name for full_name, _ in imports("")}
    found: Graph = {name: {} for name in modules()}
    for importer in modules():
        for full_name, when in imports(importer):
            package, _, name = full_name.partition(".")
            if package != PACKAGE:
                continue
            name = homes.get(name, full_name).removeprefix(f"{PACKAGE}.")  # what the package itself offers
            while name not in modules():
                name = name.rpartition(".")[0]
            folders = [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
            for imported in [name, *(folder for folder in folders if not f"{importer}.".startswith(f"{folder}."))]:
                found[importer].setdefault(imported, set()).add(when)
    return found


def _room(module: str) -> tuple[str, int, list[str]] | None:
    inside = [entry for entry in rooms() if f"{module}.".startswith(f"{entry[0]}.")]
    return max(inside, key=lambda entry: len(entry[0]), default=None)


def room_of(module: str) -> tuple[str, int, list[str]]:
    found = _room(module)
    assert found, f"{module} is in no row of the table in docs/architecture.md"
    return found


def test_every_row_names_what_is_there() -> None:
    assert len(rooms()) > 5
    assert {name for name, *_ in rooms()} <= set(modules())


def test_imports_point_upwards() -> None:
    wrong = set()
    for importer in set(modules()) - OUTSIDE - LEFT_OUT:
        _, row, also = room_of(importer)
        for imported, when in graph()[importer].items():
            if imported in OUTSIDE | LEFT_OUT:
                continue
            room, other, _ = room_of(imported)
            if other > row and not (when == {FUNCTION} and room in also):
                wrong.add((importer, imported))
    assert wrong - KNOWN == set(), "imports that point downwards in the table"


def test_there_are_no_circles() -> None:
    left = {name: set(found) - {to for who, to in KNOWN if who == name} for name, found in graph().items()}
    try:
        TopologicalSorter(left).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise AssertionError(f"modules import each other in a circle: {circle}") from None


def test_known_exceptions_are_still_there() -> None:
    assert {(who, to) for who, to in KNOWN if to not in graph().get(who, {})} == set(), "remove these from KNOWN"
    assert {name for name in LEFT_OUT if _room(name) or name not in modules()} == set(), "remove these from LEFT_OUT"


def test_rooms_without_ray() -> None:
    """They and all that they import work where Ray is not installed; some ask for it inside functions."""
    text = (ROOT / "docs" / "architecture.md").read_text().replace("\n", " ")
    without = _paths(text.partition("never import Ray")[0].rpartition(". ")[2])
    assert {"nets", "envs"} <= set(without)
    todo = [name for name in modules() if any(f"{name}.".startswith(f"{room}.") for room in without)]
    seen = set(OUTSIDE)
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            assert not [what for what, when in imports(name) if when == MODULE and what.split(".")[0] == "ray"], name
            todo += [imported for imported, when in graph()[name].items() if MODULE in when]
