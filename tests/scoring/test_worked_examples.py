"""Cases to check by hand: a ramp of value 223 - x at column x, against the left half, a quarter, a corner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from avloc import Prediction, Truth
from avloc.scoring import load_protocol
from avloc_plugins.metrics.average_precision import PixelAP
from avloc_plugins.metrics.iou import auc_of
from avloc_plugins.metrics.iou_success import CIoUMean, CIoUSuccess

SIZE = 224
RAMP = np.tile(223 - np.arange(SIZE, dtype=np.float32), (SIZE, 1))
SHAPES = {"left half": (224, 112), "quarter": (112, 112), "corner": (56, 56)}


def source(height: int, width: int) -> Truth:
    """A source at the top left."""
    mask = np.zeros((1, SIZE, SIZE), np.float32)
    mask[:, :height, :width] = 1
    return Truth(mask, ("it",))


def values(protocol: Any) -> tuple[list[float], list[float]]:
    """cIoU and AP of the ramp for the three shapes."""
    pairs = []
    for shape in SHAPES.values():
        found, truth = load_protocol(protocol).apply(Prediction("ramp", RAMP[None], ("it",)), source(*shape))
        pairs.append((CIoUMean().rows(found, truth)[0, 0], PixelAP().rows(found, truth)[0, 0]))
    return [c for c, _ in pairs], [ap for _, ap in pairs]


def test_top_half() -> None:
    """Columns 0 to 111; IoU 1, 112/224, 56 * 56 / (112 * 224)."""
    assert values({"preset": "avloc", "binarize": {"top": 0.5}})[0] == pytest.approx([1, 0.5, 0.125])


def test_truth_area() -> None:
    """Columns 0 to 111, 0 to 55, 0 to 13: overlaps of all, 112 * 56 and 56 * 14 pixels."""
    overlap = [112 * 56 / (2 * 112 * 112 - 112 * 56), 56 * 14 / (2 * 56 * 56 - 56 * 14)]
    assert values({"preset": "avloc", "binarize": {"truth_area": True}})[0] == pytest.approx([1, *overlap])


def test_upright_at_three_tenths() -> None:
    cious, aps = values({"preset": "avloc", "binarize": {"at": 0.3}})
    assert cious == pytest.approx([112 / 157, 56 / 157, 14 / 157])
    assert cious == pytest.approx([0.713376, 0.356688, 0.089172], abs=1e-6)
    assert aps == pytest.approx([1, 0.5, 0.25])


def test_as_released_upside_down() -> None:
    cious, aps = values({"preset": "tvsl_released", "binarize": {"at": 0.3}})
    assert cious == pytest.approx([0.200893, 0.118110, 0], abs=1e-6)
    assert aps == pytest.approx([0.309080, 0.154540, 0.034796], abs=1e-6)


@pytest.mark.parametrize(("value", "area"), [(0.37, 0.375), (0.0, 0.025), (0.3, 0.275), (1.0, 1.0)])
def test_auc_of_a_single_ciou_is_the_center_of_its_bin(value: float, area: float) -> None:
    assert auc_of(np.array([value])) == pytest.approx(area)


def test_success_area_and_mean_of_four() -> None:
    cious = np.array([0.7, 0.2, 0.6, 0.5])
    assert (np.mean(cious >= 0.5), auc_of(cious), cious.mean()) == pytest.approx((0.75, 0.5, 0.5))


@pytest.mark.parametrize(("width", "succeeds"), [(55, False), (56, True)])
def test_top_half_has_a_ceiling(width: int, succeeds: bool) -> None:
    """Half of the canvas against a source of less than a quarter: even the truth as the map fails at 0.5."""
    truth = source(224, width)
    prediction = Prediction("perfect", truth.masks, ("it",))
    found, resized = load_protocol({"preset": "avloc", "binarize": {"top": 0.5}}).apply(prediction, truth)
    assert CIoUSuccess(at=0.5).rows(found, resized)[0, 0] == succeeds
    found, resized = load_protocol("avloc").apply(prediction, truth)
    assert CIoUSuccess(at=0.5).rows(found, resized)[0, 0] == 1


def test_duet_the_right_half_scores_the_source_s_area() -> None:
    """A map that only finds the right tile: cIoU is the source's share of that tile; the whole canvas gives half."""
    side = np.hstack([np.ones((7, 7)), np.zeros((7, 7))]).astype(np.float32)
    mask = np.zeros((1, SIZE, 2 * SIZE), np.float32)
    mask[:, :112, :112] = 1
    for map, ciou in [(side.repeat(32, 0).repeat(32, 1), 0.25), (np.ones((7, 14), np.float32), 0.125)]:
        found, truth = load_protocol("avloc").apply(Prediction("side", map[None], ("it",)), Truth(mask, ("it",)), 2)
        assert CIoUMean().rows(found, truth)[0, 0] == pytest.approx(ciou)
