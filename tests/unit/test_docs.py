"""Links of the README and the documentation lead somewhere; published raw metrics can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_helpers import ROOT

from rllib_multienv.evaluation.raw_metrics import read_raw_metrics

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
METRICS = sorted((ROOT / "docs" / "results").glob("*/metrics"))


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"\w+:", link):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("folder", METRICS, ids=lambda folder: folder.parent.name)
def test_published_metrics_can_be_read(folder: Path) -> None:
    metrics = read_raw_metrics(folder)
    assert set(metrics.runs["status"]) == {"done"}
    assert len(metrics.evaluations) and len(metrics.curves)
