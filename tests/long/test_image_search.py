"""A classifier learns to ask an image search where it is unsure."""

from __future__ import annotations

import runpy

import pytest
from cli_helpers import ROOT


def test_it_is_right_more_often_than_alone_and_asks_where_it_would_be_wrong(ray_cluster: None) -> None:
    pytest.importorskip("sklearn")
    example = runpy.run_path(str(ROOT / "examples" / "image_search.py"))
    trained, play = example["trained"], example["play"]
    right, waited = play(trained(world_attention=True, iterations=60, seed=0))
    alone, _ = play(trained(world_attention=False, iterations=60, seed=0))
    assert right.mean() > 0.8 and right.mean() > alone.mean() + 0.1
    assert 0.2 < waited.mean() < 0.8
    assert 1 - alone[waited].mean() > 1.5 * (1 - alone[~waited].mean())
