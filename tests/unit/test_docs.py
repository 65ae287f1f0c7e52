"""The README and the documentation: links, length, generated pages; published raw metrics can be read."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest
from cli_helpers import ROOT
from PIL import Image
from untrained_agent import save_untrained

from rllib_multienv.evaluation.raw_metrics import read_raw_metrics

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
METRICS = sorted((ROOT / "docs" / "results").glob("*/metrics"))


def links(page: Path) -> list[str]:
    """Targets of the links of a page, those in its code left out."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if not re.match(r"\w+:", link):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_all_pages_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    new = {ROOT / "README.md"}
    while new:
        reached |= new
        targets = {(page.parent / link.partition("#")[0]).resolve() for page in new for link in links(page)}
        new = {target for target in targets if target.suffix == ".md" and target.is_file()} - reached
    assert set(PAGES) <= reached


def test_all_pages_are_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)
    own = [str(page.relative_to(ROOT / "docs")) for page in PAGES if "docs" in page.parts]
    assert sorted(listed) == sorted([*own, "index.md", "CONTRIBUTING.md", "CHANGELOG.md"])


def test_links_between_files_become_links_between_pages_of_the_site() -> None:
    hooks = runpy.run_path(str(ROOT / "docs/site_hooks.py"))
    linked, page_of = hooks["linked"], hooks["page_of"]
    assert page_of(linked("docs/results/meta.md", "../../examples/memory.py")) == "source/examples/memory.py.md"
    assert page_of(linked("README.md", "docs/memory.md")) == "memory.md"
    assert page_of(linked("docs/memory.md", "../README.md")) == "index.md"
    assert linked("README.md", "https://docs.ray.io") is None


def test_deviations_are_numbered_in_order_and_comments_name_them() -> None:
    numbers = re.findall(r"^\*\*(\d+)\. ", (ROOT / "docs/deviations.md").read_text(), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    for file in (ROOT / "rllib_multienv").rglob("*.py"):
        for named in re.findall(r"docs/deviations\.md,\s+(\d+)(?: and (\d+))?", file.read_text()):
            assert set(named) <= {*numbers, ""}, file


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_every_example_is_in_the_gallery_and_says_how_to_run_it() -> None:
    gallery = (ROOT / "docs/gallery.md").read_text()
    for program in (ROOT / "examples").glob("*.py"):
        assert f"](../examples/{program.name})" in gallery
        text = ast.get_docstring(ast.parse(program.read_text())) or ""
        assert f"    python examples/{program.name}" in text and len(text.splitlines()) > 5, program.name


def test_the_gif_of_the_readme_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    agent = save_untrained(tmp_path / "agent", ["CartPole-v1", "Acrobot-v1"])
    record = runpy.run_path(str(ROOT / "examples/record_gif.py"))["main"]
    record(str(agent), str(tmp_path / "two.gif"), "1")
    with Image.open(tmp_path / "two.gif") as gif, Image.open(ROOT / "docs/quickstart.gif") as published:
        assert gif.width == 2 / 4 * published.width and gif.height == published.height
        assert gif.n_frames == 15
    assert (ROOT / "docs/quickstart.gif").stat().st_size < 1e6


def test_the_page_of_metrics_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "docs/make_metrics.py"))["page"]()
    assert (ROOT / "docs/metrics.md").read_text() == page, "run: python docs/make_metrics.py"


@pytest.mark.parametrize("folder", METRICS, ids=lambda folder: folder.parent.name)
def test_published_metrics_can_be_read(folder: Path) -> None:
    metrics = read_raw_metrics(folder)
    assert set(metrics.runs["status"]) == {"done"}
    assert len(metrics.evaluations) and len(metrics.curves)
