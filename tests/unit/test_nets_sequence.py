"""What every sequence embedding adds to its tokens: little at the start, and as much as is learned later."""

from __future__ import annotations

import pytest
import torch

from rllib_multienv.nets.packed import Segments
from rllib_multienv.nets.sequence import SEQUENCE_EMBEDDINGS

SEGMENTS = Segments.of([(5, 4), (3, 2)])


@pytest.mark.parametrize("name", sorted(SEQUENCE_EMBEDDINGS))
def test_small_at_the_start_and_without_bound_later(name: str) -> None:
    torch.manual_seed(0)
    embedding = SEQUENCE_EMBEDDINGS[name](16, 8, 1, 0.0)
    embedding.scale_output(0.01)
    tokens = torch.randn(SEGMENTS.num_tokens, 16)
    added = embedding(tokens, SEGMENTS) - tokens
    assert 0 < added.abs().max() < 0.05

    # Decoders average over the features: without a bound on these, there is none on what they say.
    optimizer = torch.optim.Adam(embedding.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (embedding(tokens, SEGMENTS).mean(-1) - 5.0).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
