"""Pages of the documentation site that are not in docs/: hooks that mkdocs calls (`make docs`).

The start page is the README. Files and folders outside docs/ to which pages link, such as examples, become pages that
show them. The reference has a page for each room with public names.
"""

from __future__ import annotations

import importlib
import re
from os.path import dirname, normpath, relpath
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
#: Titles of the reference's pages, and the rooms whose public names they have. The first page has the package's others.
ROOMS = {
    "Algorithms": "rllib_multienv.algorithms",
    "Networks": "rllib_multienv.nets",
    "Artificial Experience": "rllib_multienv.experience",
    "Task families": "rllib_multienv.tasks",
    "Learners": "rllib_multienv.learners",
    "Combiners": "rllib_multienv.learners.combine",
    "Connectors": "rllib_multienv.connectors",
    "Data sets": "rllib_multienv.offline",
    "Configuration files": "rllib_multienv.config_files",
}


def reference_pages() -> dict[str, str]:
    """Title and Markdown of each page of the reference, made from `__all__` of the package and of its rooms."""
    package = importlib.import_module("rllib_multienv")
    homes = {name: f"rllib_multienv.{home}" for home, names in package._NAMES.items() for name in names}
    pages = {"Agent and environments": homes}
    for title, room in ROOMS.items():
        module = importlib.import_module(room)
        others = {name: room for name in getattr(module, "__all__", ()) if getattr(module, name).__doc__}
        pages[title] = others | {name: home for name, home in homes.items() if home.startswith(room)}
        for name in pages[title]:
            homes.pop(name, None)
    return {
        title: "\n\n".join([f"# {title}", *(f"::: {home}.{name}" for name, home in sorted(names.items()))])
        for title, names in pages.items()
    }


def linked(page: str, link: str) -> str | None:
    """The file or folder of the repository to which a link of one of its pages leads; None if it leads elsewhere."""
    path = normpath(f"{dirname(page)}/{link}" if dirname(page) else link)
    return path if not re.match(r"\w+:|\.\.", path) and (ROOT / path).exists() else None


def page_of(path: str) -> str:
    """The site's page of a file or folder of the repository."""
    in_docs = path.startswith("docs/") and (ROOT / path).is_file()
    return TOP.get(path) or (path.removeprefix("docs/") if in_docs else f"source/{path}.md")


def source_of(page: str) -> str:
    """The file of the repository that a page of the site shows."""
    return {new: old for old, new in TOP.items()}.get(page, f"docs/{page}")


def shown(path: str) -> str:
    """Markdown of a page that shows a file or a folder."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(name.name for name in file.iterdir() if not name.name.startswith((".", "__")))
        rows = "\n".join(f"- [{name}]({relpath(page_of(f'{path}/{name}'), dirname(page_of(path)))})" for name in names)
        return f"# {path}\n\n{rows}\n"
    return f"# {path}\n\n````{file.suffix[1:]}\n{file.read_text()}\n````\n"


def on_config(config: Any) -> None:
    """Lists the reference in the navigation."""
    pages = [{title: f"reference/{title}.md"} for title in reference_pages()]
    config.nav.insert(-2, {"Reference": pages})


def on_files(files: Any, config: Any) -> None:
    """Adds the pages."""
    from mkdocs.structure.files import File

    for path, page in TOP.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    for title, text in reference_pages().items():
        files.append(File.generated(config, f"reference/{title}.md", content=text))
    new = {
        path
        for page in files.documentation_pages()
        for link in LINK.findall(page.content_string)
        if (path := linked(source_of(page.src_uri), link))
    }
    while new:
        path = new.pop()
        if (ROOT / path).is_dir():
            new |= {f"{path}/{file.name}" for file in (ROOT / path).iterdir() if file.name[0] not in "._"}
        if page_of(path).startswith("source/") and not files.get_file_from_path(page_of(path)):
            files.append(File.generated(config, page_of(path), content=shown(path)))


LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links between files of the repository into links between pages."""

    def on_the_site(match: re.Match[str]) -> str:
        path = linked(source_of(page.file.src_uri), match[0])
        return relpath(page_of(path), dirname(page.file.src_uri)) if path else match[0]

    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation"]
    return markdown if page.file.src_uri.startswith(("source/", "reference/")) else LINK.sub(on_the_site, markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Makes docstrings of the reference look like pages: no roles such as ``:class:``, and links to pages of docs/."""
    if not page.file.src_uri.startswith("reference/"):
        return html
    html = re.sub(r":(?:class|func|meth|mod|attr|data|exc):(?=<code>)", "", html)
    return re.sub(r"docs/(\w+)\.md", r'<a href="../\1.html">\1</a>', html)
