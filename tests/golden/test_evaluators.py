"""The preset of T-VSL's release, and its metrics, against the outputs of its evaluator."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from avloc import Localization, Metric, Prediction, Truth
from avloc.data import rasterize
from avloc.scoring import Protocol, load_protocol
from avloc_plugins.metrics.average_precision import PixelAP, pixel_average_precision
from avloc_plugins.metrics.iou import auc_of, ciou, smoothed_iou
from avloc_plugins.metrics.iou_success import AUC, CIoUMean, CIoUSuccess, IoUSmoothed

PROJECT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("AVLOC_GOLDEN", PROJECT.parent / "shared" / "golden"))
SIZE = 224

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not (GOLDEN / "evaluators").is_dir(), reason=f"no golden files in {GOLDEN} (AVLOC_GOLDEN)"),
]

Array = npt.NDArray[Any]
Case = tuple[Array, Truth, int]
"""One map, its source, and the number of tiles of its canvas."""


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def on_canvas(boxes: Array, tile: int, tiles: int) -> Truth:
    """One source in one tile of a canvas; `boxes` in pixels of that tile, or normalized to it."""
    boxes = np.asarray(boxes).reshape(-1, 4)
    unit = SIZE if np.issubdtype(boxes.dtype, np.integer) else 1
    placed = np.clip(boxes / unit, 0, 1) + np.array([tile, 0, tile, 0])
    return Truth(np.zeros((1, 1, tiles), np.float32), ("it",), (placed / np.array([tiles, 1, tiles, 1]),))


def scored(protocol: Protocol, cases: Iterable[Case], metrics: Sequence[Metric]) -> list[Array]:
    """The rows of every metric over all cases."""
    rows: list[list[Array]] = [[] for _ in metrics]
    for map, truth, tiles in cases:
        found, resized = protocol.apply(Prediction("clip", map[None], ("it",)), truth, tiles)
        for n, metric in enumerate(metrics):
            rows[n].append(metric.rows(found, resized))
    return [np.concatenate(parts) for parts in rows]


def released(at: float, **changes: Any) -> Protocol:
    return load_protocol({"preset": "tvsl_released", "binarize": {"at": at}, **changes})


def test_validate_multi() -> None:
    data, expected = np.load(GOLDEN / "tvsl/eval_tvsl_multi.npz"), golden("tvsl/eval_tvsl_multi.json")
    cases = []
    for clip in range(len(data["heat1"])):
        for tile in (0, 1):
            boxes = data[f"boxes{tile + 1}"][clip]
            cases.append((data[f"heat{tile + 1}"][clip, 0], on_canvas(boxes[boxes[:, 0] >= 0], tile, 2), 2))
    mean, auc, ap, iou = CIoUMean(), AUC(), PixelAP(drop_undefined=True), IoUSmoothed()
    found = scored(released(float(data["ciou_thr"])), cases, [mean, auc, ap])
    (smoothed,) = scored(released(float(data["iou_thr"])), cases, [iou])

    each, returned = expected["per_sample"], expected["returned"]
    np.testing.assert_allclose(found[0][:, 0], each["ciou"], atol=1e-6)
    np.testing.assert_allclose(smoothed[:, 0], each["iou"], atol=1e-6)
    np.testing.assert_allclose(found[2][~np.isnan(found[2])], each["ap"], atol=1e-6)
    assert mean.reduce(found[0]) == pytest.approx(returned["ciou"], abs=1e-6)
    assert auc.reduce(found[1]) == pytest.approx(returned["auc"], abs=1e-6)
    assert ap.reduce(found[2]) == pytest.approx(returned["ap"], abs=1e-6)
    aggregates = [mean.reduce(found[0]), iou.reduce(smoothed), auc.reduce(found[1]), ap.reduce(found[2])]
    np.testing.assert_allclose(aggregates, each["agg"], atol=1e-6)


def test_evaluator() -> None:
    data, expected = np.load(GOLDEN / "tvsl/eval_tvsl_evaluator.npz"), golden("tvsl/eval_tvsl_evaluator.json")
    score, truth = data["score"], data["gt"]
    cious = ciou(score >= data["ciou_thr"], truth)
    ious = smoothed_iou(score >= data["iou_thr"], truth)
    np.testing.assert_allclose(cious, expected["ciou"], atol=1e-6)
    np.testing.assert_allclose(ious, expected["iou"], atol=1e-6)
    np.testing.assert_allclose(
        [cious.mean(), ious.mean(), auc_of(cious)],
        [expected["mean_ciou"], expected["mean_iou"], expected["auc"]],
        atol=1e-6,
    )
    masks, sources = score >= data["ciou_thr"], len(score)
    found = Localization(score.astype(np.float32), masks, np.zeros(sources), np.ones(sources, bool))
    ap = PixelAP(drop_undefined=True)
    rows = ap.rows(found, Truth(truth.astype(np.float32), ("it",) * sources))
    wanted = [np.nan if value is None else value for value in expected["ap_per_sample"]]
    np.testing.assert_allclose(rows[:, 0], wanted, atol=1e-6)
    assert ap.reduce(rows) == pytest.approx(expected["mean_ap"], abs=1e-6)


KINDS = ["random", "fair", "good", "center", "relu_ties", "constant"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inverted", [True, False])
def test_single_source(kind: str, inverted: bool) -> None:
    expected = golden("evaluators/official.json")[f"single/{kind}"]
    expected = expected["tvsl_single_t0.5" + ("" if inverted else "_not_inverted")]
    maps = np.load(GOLDEN / "evaluators/maps.npz")[f"single_{kind}"]
    boxes = golden("evaluators/boxes.json")["boxes"]
    cases = [(map, on_canvas(box, 0, 1), 1) for map, box in zip(maps, boxes, strict=True)]
    metrics: list[Metric] = [CIoUMean(), IoUSmoothed(), AUC(), PixelAP(drop_undefined=True), CIoUSuccess(at=0.5)]
    rows = scored(released(0.5, invert=inverted), cases, metrics)
    np.testing.assert_allclose(rows[0][:, 0], expected["per_sample"], atol=1e-6)
    for metric, found, key in zip(metrics, rows, ["mean_CIoU", "mean_IoU", "AUC", "AP", "frac_ge_50"], strict=True):
        assert metric.reduce(found) == pytest.approx(expected[key], abs=1e-6), key
    assert np.isfinite(rows[3]).sum() == expected["n_ap"]


@pytest.mark.parametrize("kind", ["random", "fair", "good", "center"])
@pytest.mark.parametrize("at", [0.1, 0.3])
@pytest.mark.parametrize("sign", [1, -1])
def test_duet(kind: str, at: float, sign: int) -> None:
    expected = golden("evaluators/official.json")[f"duet/{kind}"]
    expected = expected[f"tvsl_duet_t{at:g}" + ("" if sign == 1 else "_negated_maps")]
    maps, boxes = np.load(GOLDEN / "evaluators/maps.npz"), golden("evaluators/boxes.json")["boxes"]
    pairs = len(maps[f"duet_{kind}_1"])
    cases = []
    for clip in range(pairs):
        for tile in (0, 1):
            halves = np.full((2, 7, 7), -0.05)  # golden/README.md: the other half's map
            halves[tile] = maps[f"duet_{kind}_{tile + 1}"][clip]
            cases.append((sign * np.hstack(list(halves)), on_canvas(boxes[clip + tile * pairs], tile, 2), 2))
    metrics: list[Metric] = [CIoUMean(), IoUSmoothed(), AUC(), PixelAP(drop_undefined=True)]
    rows = scored(released(at), cases, metrics)
    np.testing.assert_allclose(rows[0][:, 0], expected["per_sample"], atol=1e-6)
    for metric, found, key in zip(metrics, rows, ["CIoU", "IoU", "AUC", "AP"], strict=True):
        assert metric.reduce(found) == pytest.approx(expected[key], abs=1e-6), key
    assert len(rows[0]) == expected["n_ciou"]
    assert np.isfinite(rows[3]).sum() == expected["n_ap"]


def square(*boxes: tuple[int, int, int, int], width: int = SIZE) -> Array:
    """``(1, 224, width)`` counts of boxes given in pixels."""
    return rasterize(np.array(boxes, np.float64).reshape(-1, 4) / [width, SIZE, width, SIZE], SIZE, width)[None]


def test_worked_masks() -> None:
    expected = golden("tvsl/worked_examples.json")

    def check(name: str, claimed: Array, truth: Array, keys: Sequence[str] = ("ciou", "iou", "ap")) -> None:
        claimed = claimed > 0
        values = {
            "ciou": ciou(claimed, truth),
            "iou": smoothed_iou(claimed, truth),
            "ap": pixel_average_precision(claimed.astype(float), truth),
        }
        for key in keys:
            assert values[key][0] == pytest.approx(expected[name][key], abs=1e-6), (name, key)

    a, half = square((56, 56, 168, 168)), square((0, 0, 112, 224))
    check("A EvaluatorNew", square((84, 84, 224, 224)), a)
    one, two = (0, 0, 100, 100), (50, 50, 150, 150)
    check("B overlap sum-gt", square(one), square(one, two), ["ciou"])
    check("B overlap clipped", square(one), np.minimum(square(one, two), 1), ["ciou"])
    check("B EvaluatorNew", square(one), square(one, two), ["ciou", "iou"])
    check("C empty gt EvaluatorNew", half, np.zeros_like(half))
    check("D duet, all-ones mask", np.ones((1, SIZE, 2 * SIZE)), square((56, 56, 168, 168), width=2 * SIZE))


def test_worked_overlap_has_no_released_ap() -> None:
    assert golden("tvsl/worked_examples.json")["B EvaluatorNew"]["ap"] is None
    truth = square((0, 0, 100, 100), (50, 50, 150, 150))
    found = Localization(square((0, 0, 100, 100)), truth > 0, np.ones(1), np.ones(1, bool))
    assert np.isnan(PixelAP(drop_undefined=True).rows(found, Truth(truth, ("it",)))).all()
    assert np.isfinite(PixelAP().rows(found, Truth(truth, ("it",)))).all()


def test_worked_auc() -> None:
    expected = golden("tvsl/worked_examples.json")
    for name, value in expected.items():
        if name.startswith("E auc "):
            cious = np.array(json.loads(name.removeprefix("E auc ").replace("[.", "[0.").replace(",.", ",0.")))
            assert auc_of(cious) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize(("name", "value"), [("low", -1.0), ("high", 1.0)])
def test_worked_polarity(name: str, value: float) -> None:
    expected = golden("tvsl/worked_examples.json")[f"G validate_multi {name} on object"]
    cases = []
    for tile in (0, 1):
        map = np.zeros((7, 14), np.float32)
        map[2:5, 7 * tile + 2 : 7 * tile + 5] = value
        cases.append((map, on_canvas(np.array([[64, 64, 160, 160]]), tile, 2), 2))
    metrics: dict[str, Metric] = {"ciou": CIoUMean(), "auc": AUC(), "ap": PixelAP(drop_undefined=True)}
    for (key, metric), rows in zip(metrics.items(), scored(released(0.3), cases, list(metrics.values())), strict=True):
        assert metric.reduce(rows) == pytest.approx(expected[key], abs=1e-6), key
