"""Building blocks of methods: cosines, contrastive losses, lists of sources, predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avloc import AvlocError, Batch, Features
from avloc.functional import (
    cosine_map,
    diagonal_cross_entropy,
    gather_sources,
    identity_linear,
    l2_normalize,
    labelled_sources,
    log_mean_exp,
    named_predictions,
    pairwise_similarity,
    queried_sources,
    require_labels,
    require_text,
    symmetric_cross_entropy,
    tokens,
    unnamed_predictions,
)

CLASSES = ("ant", "bee", "cat", "dog")


def batch(count: int, **hints: object) -> Batch:
    ids = tuple(f"clip{n}" for n in range(count))
    return Batch(ids, torch.ones(count).long(), ids, **{"classes": CLASSES, **hints})  # type: ignore[arg-type]


def test_l2_normalize_keeps_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    y = l2_normalize(x)
    torch.testing.assert_close(y, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and torch.isfinite(x.grad).all()
    assert (x.grad[1] == 0).all()
    torch.testing.assert_close(l2_normalize(x.detach(), dim=0)[:, 0], torch.tensor([1.0, 0.0]))


def test_tokens_are_read_row_by_row() -> None:
    grid = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert tokens(grid)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_cosine_map_is_the_cosine_of_each_cell() -> None:
    image_map, queries = torch.randn(2, 5, 3, 4), torch.randn(2, 3, 5)
    maps = cosine_map(image_map, queries)
    assert maps.shape == (2, 3, 3, 4)
    expected = F.cosine_similarity(image_map[1, :, 2, 3], queries[1, 2], dim=0)
    torch.testing.assert_close(maps[1, 2, 2, 3], expected)


def test_pairwise_similarity() -> None:
    image_map, queries = torch.randn(2, 5, 3, 4), torch.randn(6, 5)
    torch.testing.assert_close(pairwise_similarity(image_map, queries)[1, 4, 2, 0], image_map[1, :, 2, 0] @ queries[4])


def test_log_mean_exp_lies_between_mean_and_maximum() -> None:
    x = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 5.0]])
    pooled = log_mean_exp(x)
    assert pooled[0] == pytest.approx(1.0)
    assert pooled[1] == pytest.approx(math.log((1 + math.exp(2) + math.exp(5)) / 3))


def test_symmetric_cross_entropy_sums_both_directions() -> None:
    logits, target = torch.randn(5, 5), torch.arange(5)
    rows, columns = F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)
    torch.testing.assert_close(symmetric_cross_entropy(logits), rows + columns)
    torch.testing.assert_close(diagonal_cross_entropy(logits), rows)
    assert symmetric_cross_entropy(torch.zeros(0, 0)) == 0


def test_identity_linear() -> None:
    x = torch.randn(2, 4)
    torch.testing.assert_close(identity_linear(4)(x), x)


def test_labelled_sources_pads_and_keeps_order() -> None:
    labels = torch.tensor([[0, 1.0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert labelled_sources(labels).tolist() == [[1, 3], [0, -1], [-1, -1]]


def test_queried_sources_by_hint_level() -> None:
    probabilities = torch.tensor([[0.1, 0.9, 0.6, 0.2], [0.3, 0.1, 0.2, 0.4]])
    sources = torch.tensor([[2, 0], [1, -1]])
    counts = torch.tensor([1, 3])
    assert queried_sources(batch(2, sources=sources, source_counts=counts), probabilities).tolist() == sources.tolist()
    assert queried_sources(batch(2, source_counts=counts), probabilities).tolist() == [[1, -1, -1], [3, 0, 2]]
    assert queried_sources(batch(2), probabilities).tolist() == [[1, 2], [3, -1]]  # none above .5: the best one
    assert queried_sources(batch(2), probabilities, threshold=0.25).tolist() == [[1, 2], [3, 0]]
    with pytest.raises(AvlocError, match="vocabulary"):
        queried_sources(batch(2, classes=()), probabilities[:, :0])


def test_queried_sources_with_counts_beyond_the_vocabulary_or_zero() -> None:
    probabilities = torch.rand(2, 4)
    found = queried_sources(batch(2, source_counts=torch.tensor([9, 0])), probabilities)
    assert sorted(found[0].tolist()) == [0, 1, 2, 3]
    assert found[1].tolist() == [-1] * 4


def test_gather_sources_reads_rows_and_handles_padding() -> None:
    table = torch.eye(4)
    assert gather_sources(table, torch.tensor([[3, -1]]))[0, 0].tolist() == [0, 0, 0, 1]


def test_named_predictions_leave_the_padding_out() -> None:
    sources = torch.tensor([[2, 0], [1, -1], [-1, -1]])
    maps = torch.arange(3 * 2 * 2.0).reshape(3, 2, 1, 2)
    probabilities = torch.rand(3, 4)
    found = named_predictions(batch(3), sources, maps, probabilities)
    assert [p.labels for p in found] == [("cat", "ant"), ("bee",), ()]
    assert [p.maps.shape for p in found] == [(2, 1, 2), (1, 1, 2), (0, 1, 2)]
    assert found[1].maps[0, 0].tolist() == [4, 5]
    scores = found[0].scores
    assert scores is not None
    np.testing.assert_allclose(scores, probabilities[0, [2, 0]])
    assert named_predictions(batch(3), sources, maps)[0].scores is None


def test_unnamed_predictions() -> None:
    found = unnamed_predictions(batch(2), torch.zeros(2, 3, 4, 5, requires_grad=True))
    assert [p.clip for p in found] == ["clip0", "clip1"]
    assert found[0].maps.shape == (3, 4, 5)
    assert found[0].labels == ()


def test_missing_inputs_are_reported() -> None:
    empty = torch.zeros(1, 1, 1, 1)
    with pytest.raises(AvlocError, match="text tower"):
        require_text(Features(empty, empty, empty, empty))
    with pytest.raises(AvlocError, match="video-level labels"):
        require_labels(batch(1))
