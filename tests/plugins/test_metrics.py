"""Metrics: formulas against brute force, what happens at the edges, and how rows become numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from avloc_plugins.metrics.average_precision import CAP, PixelAP, pixel_average_precision
from avloc_plugins.metrics.detection import DetectionF1
from avloc_plugins.metrics.iou import AUC, CIoUMean, CIoUSuccess, IoUSmoothed, auc_of, ciou, smoothed_iou
from avloc_plugins.metrics.side import SideAccuracy, picks_own_tile
from sklearn.metrics import auc as sklearn_auc, average_precision_score

from avloc import AvlocError, Localization, Metric, Truth
from avloc.interfaces import parameters
from avloc.registry import registry

Array = npt.NDArray[Any]
ALL: list[Metric] = [
    PixelAP(), CAP(), CIoUSuccess(at=0.3), CIoUMean(), AUC(), IoUSmoothed(), SideAccuracy(), DetectionF1(),
]  # fmt: skip


def case(count: int = 6, frames: int = 2, seed: int = 0) -> tuple[Localization, Truth]:
    """Random maps with ties, their upper half as masks, and random boxes as truth."""
    rng = np.random.default_rng(seed)
    scores = rng.random((count, 8, 8 * frames)).round(1).astype(np.float32)
    truth = np.zeros_like(scores)
    for mask in truth:
        y, x = rng.integers(0, 5), rng.integers(0, 8 * frames - 3)
        mask[y : y + 3, x : x + 3] = 1
    found = Localization(scores, scores >= 0.5, np.ones(count), np.ones(count, bool))
    return found, Truth(truth, tuple(f"class {n}" for n in range(count)))


def some(found: Localization, truth: Truth, index: Any) -> tuple[Localization, Truth]:
    """Some sources only, in the order of `index`."""
    labels = tuple(np.array(truth.labels)[index])
    cut = Localization(found.scores[index], found.masks[index], found.confidence[index], found.found[index])
    return cut, Truth(truth.masks[index], labels)


# All of them


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.key)
def test_order_and_batches_change_nothing(metric: Metric) -> None:
    found, truth = case()
    rows = metric.rows(found, truth)
    assert rows.shape[0] == len(truth.labels)
    assert rows.dtype == np.float64
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_array_equal(metric.rows(*some(found, truth, order)), rows[order])
    parts = [metric.rows(*some(found, truth, slice(n, n + 1))) for n in range(len(rows))]
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    assert metric.reduce(rows[order]) == pytest.approx(metric.reduce(rows))


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.key)
def test_a_source_without_a_map_gets_the_worst_value(metric: Metric) -> None:
    found, truth = case()
    lost = Localization(found.scores * 0, found.masks & False, found.confidence, found.found & False)
    for masks in (truth.masks, truth.masks * 0):  # even where there is nothing to see
        value = metric.reduce(metric.rows(lost, Truth(masks, truth.labels)))
        assert value == (pytest.approx(0.025) if metric.key == "auc" else 0) or np.isnan(value)
        assert not np.isnan(value) or metric.key == "side_accuracy"


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.key)
def test_no_sources_is_no_number(metric: Metric) -> None:
    rows = metric.rows(*case(count=0))
    assert len(rows) == 0
    assert np.isnan(metric.reduce(rows))


def test_names_keys_and_titles_agree() -> None:
    entries = registry().entries("metric")
    built_in = {name for name, entry in entries.items() if str(entry.target).startswith("avloc_plugins.")}
    assert built_in == {metric.key.partition("@")[0] for metric in ALL}
    assert len({metric.title for metric in ALL}) == len(ALL)
    for metric in ALL:
        name = metric.key.partition("@")[0]
        assert registry().get("metric", name) is type(metric)
        json.dumps(parameters(type(metric)))


def test_a_rate_and_a_mean_have_different_names() -> None:
    assert CIoUSuccess(at=0.3).title == "cIoU success@0.3"
    assert CIoUSuccess(at=0.3).key == "ciou_success@0.3"
    assert CIoUMean().title == "mean cIoU"
    with pytest.raises(AvlocError, match="'at' must be in"):
        CIoUSuccess(at=30)


# Average precision


@pytest.mark.parametrize("decimals", [0, 1, 2, 9])
def test_pixel_ap_equals_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    scores = rng.normal(size=(30, 9, 11)).round(decimals)
    masks = (rng.random((30, 9, 11)) < rng.random((30, 1, 1))).astype(np.float32)
    masks[:, 0, 0] = 1
    wanted = [average_precision_score(m.ravel(), s.ravel()) for s, m in zip(scores, masks, strict=True)]
    np.testing.assert_allclose(pixel_average_precision(scores, masks), wanted, rtol=1e-12)


def test_pixel_ap_at_the_edges() -> None:
    scores, mask = np.arange(16.0).reshape(1, 4, 4), np.zeros((1, 4, 4))
    assert pixel_average_precision(scores, mask) == 0
    mask[0, 3] = 1
    assert pixel_average_precision(scores, mask) == 1
    assert pixel_average_precision(scores * 0, mask) == 0.25
    assert pixel_average_precision(np.exp(scores), mask * 2) == 1, "monotone changes and weights do not matter"


def test_undefined_ap_is_dropped_only_when_asked_and_can_be_counted() -> None:
    found, truth = case(4)
    truth.masks[0, 0, 0] = 2  # overlapping boxes
    found.scores[1] = np.nan  # a constant map, normalized as the release does
    found.scores[2] = 0.5
    found.found[3] = False
    for kind in (PixelAP, CAP):
        metric = kind(drop_undefined=True)
        rows = metric.rows(found, truth)
        assert np.isnan(rows[:, 0]).tolist() == [True, True, False, False]
        assert metric.reduce(rows) == pytest.approx(rows[2:].mean())
        assert metric.key != kind().key
        plain = kind().rows(found, truth)
        assert np.isfinite(plain).all()
        assert plain[1] == 0


# Overlap


def test_ciou_is_iou_for_binary_truth() -> None:
    rng = np.random.default_rng(0)
    claimed, truth = rng.random((20, 6, 6)) < 0.4, rng.random((20, 6, 6)) < 0.3
    iou = (claimed & truth).sum((1, 2)) / (claimed | truth).sum((1, 2))
    np.testing.assert_allclose(ciou(claimed, truth.astype(np.float32)), iou)
    np.testing.assert_allclose(smoothed_iou(claimed, truth.astype(np.float32)), iou, atol=1e-3)


def test_ciou_weights_graded_truth() -> None:
    """Two annotators agree on a 128-pixel square of 256, a third saw another one (evaluators.md, E9)."""
    truth = np.zeros((1, 224, 224), np.float32)
    truth[0, :112, :112] += 1
    truth[0, 56:168, 56:168] += 0.5
    claimed = np.zeros(truth.shape, bool)
    claimed[:, :, :112] = True
    assert ciou(claimed, truth.clip(0, 1)) == pytest.approx(0.5294, abs=1e-4)


def test_overlap_of_nothing_with_nothing() -> None:
    nothing = np.zeros((1, 4, 4))
    assert ciou(nothing > 0, nothing) == 0
    assert smoothed_iou(nothing > 0, nothing) == 1
    assert ciou(nothing == 0, nothing) == 0


def test_auc_is_scikit_learn_s_and_close_to_the_mean() -> None:
    rng = np.random.default_rng(0)
    thresholds = [0.05 * n for n in range(21)]
    for size in [1, 2, 3, 10, 100] * 20:
        cious = rng.random(size).round(2)
        area = sklearn_auc(thresholds, [np.mean(cious >= t) for t in thresholds])
        assert auc_of(cious) == pytest.approx(area)
        assert abs(auc_of(cious) - cious.mean()) <= 0.025 + 1e-9


def test_auc_thresholds_are_floating_point_products() -> None:
    assert auc_of(np.array([0.3, 0.55, 0.8])) == pytest.approx(0.558333, abs=1e-6)
    assert auc_of(np.array([0.31, 0.55, 0.8])) == pytest.approx(0.575)


def test_success_is_reached_at_the_threshold() -> None:
    found, truth = case(1, 1)
    truth.masks[:] = 0
    truth.masks[0, :1] = 1
    found.masks[:] = False
    found.masks[0, :2] = True
    assert CIoUSuccess(at=0.5).rows(found, truth) == 1
    assert CIoUSuccess(at=0.51).rows(found, truth) == 0


# Sides and detection


def test_side_accuracy() -> None:
    scores = np.zeros((5, 4, 12), np.float32)
    truth = np.zeros_like(scores)
    truth[:4, :, 4:6] = 1  # all but the last lie in the middle
    scores[0, :, 4:8] = 0.2
    scores[1, :, 4:8], scores[1, :, 8:] = 0.2, 0.3
    scores[2] = 0.7  # favours no side
    scores[3, 0, 0], scores[3, :, 4:8] = 1, 0.2  # one high cell does not decide
    assert picks_own_tile(scores, truth, 3)[:4].tolist() == [1, 0, 0, 1]
    found = Localization(scores, scores > 0, np.ones(5), np.ones(5, bool))
    rows = SideAccuracy().rows(found, Truth(truth, tuple("abcde")))
    assert np.isnan(rows[4]), "no mask, no side"
    assert SideAccuracy().reduce(rows) == 0.5


def test_one_frame_has_no_sides() -> None:
    rows = SideAccuracy().rows(*case(frames=1))
    assert np.isnan(rows).all()
    assert np.isnan(SideAccuracy().reduce(rows))


def test_detection_f1() -> None:
    """Two clips: 2 of 3 found and 1 false alarm; 1 of 1 found and 2 false alarms. TP 3, FP 3, FN 1."""
    rows = []
    for present, alarms in [([True, True, False], 1), ([True], 2)]:
        found, truth = case(len(present))
        named = Localization(found.scores, found.masks, found.confidence, np.array(present), alarms)
        rows.append(DetectionF1().rows(named, truth))
    assert DetectionF1().reduce(np.concatenate(rows)) == pytest.approx(6 / 10)
