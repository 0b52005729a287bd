"""Metrics: formulas against brute force, edge cases, and the reduction of rows to numbers."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import auc as sklearn_auc, average_precision_score, roc_auc_score

from avloc import AvlocError, Localization, Metric, Prediction, Truth
from avloc.components import parameters
from avloc.registry import registry
from avloc.scoring import load_protocol
from avloc_plugins.metrics.average_precision import (
    CAP,
    PermutationAP,
    PixelAP,
    PixelAUROC,
    SwappedPIAP,
    pixel_auroc,
    pixel_average_precision,
)
from avloc_plugins.metrics.detection import DetectionF1
from avloc_plugins.metrics.iou import auc_of, ciou, smoothed_iou
from avloc_plugins.metrics.iou_extended import ExtendedAP, ExtendedF1, ExtendedPrecision, Localized, extended_ap
from avloc_plugins.metrics.iou_groups import ClipAUC, ClipCIoUSuccess, InteractiveAUC, InteractiveCIoU
from avloc_plugins.metrics.iou_negatives import FAUC, NSA, PIA, PIAAUC, FLoc
from avloc_plugins.metrics.iou_success import AUC, CIoUMean, CIoUSuccess, IoUSmoothed
from avloc_plugins.metrics.iou_sweep import AUCBestThreshold, CIoUBestThreshold
from avloc_plugins.metrics.side import SideAccuracy, picks_own_tile

Array = npt.NDArray[Any]
OF_SOURCES: list[Metric] = [
    PixelAP(), CAP(), SwappedPIAP(), PixelAUROC(), CIoUSuccess(at=0.3), CIoUMean(), AUC(), IoUSmoothed(),
    CIoUBestThreshold(at=0.3), AUCBestThreshold(), ExtendedAP(), ExtendedF1(), ExtendedPrecision(), SideAccuracy(),
    DetectionF1(),
]  # fmt: skip
OF_CLIPS: list[Metric] = [PermutationAP(), InteractiveCIoU(), InteractiveAUC(), ClipCIoUSuccess(), ClipAUC()]
OF_NEGATIVES: list[Metric] = [PIA(), PIAAUC(), NSA(), FLoc(), FAUC()]
ALL = OF_SOURCES + OF_CLIPS + OF_NEGATIVES
AVLOC: list[Metric] = [PixelAP(), CAP(), PermutationAP(), CIoUSuccess(), CIoUMean(), AUC()]


def case(count: int = 6, tiles: int = 2, seed: int = 0) -> tuple[Localization, Truth]:
    """Random maps with ties, their upper half as masks, and random boxes as truth."""
    rng = np.random.default_rng(seed)
    scores = rng.random((count, 8, 8 * tiles)).round(1).astype(np.float32)
    truth = np.zeros_like(scores)
    for mask in truth:
        y, x = rng.integers(0, 5), rng.integers(0, 8 * tiles - 3)
        mask[y : y + 3, x : x + 3] = 1
    found = Localization(scores, scores >= 0.5, np.ones(count), np.ones(count, bool))
    return found, Truth(truth, tuple(f"class {n}" for n in range(count)))


def some(found: Localization, truth: Truth, index: Any) -> tuple[Localization, Truth]:
    """Some sources only, in the order of `index`."""
    labels = tuple(np.array(truth.labels)[index])
    cut = Localization(found.scores[index], found.masks[index], found.confidence[index], found.found[index])
    return cut, Truth(truth.masks[index], labels)


# All of them


@pytest.mark.parametrize("metric", OF_SOURCES + OF_NEGATIVES, ids=lambda m: m.key)
def test_order_and_batches_change_nothing(metric: Metric) -> None:
    found, truth = case()
    rows = metric.rows(found, truth)
    assert rows.shape[0] == len(truth.labels)
    assert rows.dtype == np.float64
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_array_equal(metric.rows(*some(found, truth, order)), rows[order])
    parts = [metric.rows(*some(found, truth, slice(n, n + 1))) for n in range(len(rows))]
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    assert metric.reduce(rows[order]) == pytest.approx(metric.reduce(rows), nan_ok=True)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.key)
def test_the_order_of_sources_and_clips_changes_nothing(metric: Metric) -> None:
    clips = [case(count=count, seed=count) for count in (1, 2, 3, 4)]
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(metric.rows(*some(*clips[2], order)), metric.rows(*clips[2])[order])
    rows = [metric.rows(*clip) for clip in clips]
    backwards = metric.reduce(np.concatenate(rows[::-1]))
    assert metric.reduce(np.concatenate(rows)) == pytest.approx(backwards, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("share", [None, 0.5])
def test_scores_of_avloc_depend_on_neither_order_nor_workers(share: float | None) -> None:
    """Maps with many ties, thrice: in order, shuffled, and by four threads; the same bits come out."""
    spec = {"preset": "avloc", "size": 32} | ({"binarize": {"top": share}} if share else {})
    protocol, rng = load_protocol(spec), np.random.default_rng(0)
    clips = []
    for n in range(24):
        sources = 1 + n % 3
        maps = rng.random((sources, 7, 7 * sources)).round(1).clip(0.4)
        names = tuple(map(str, range(sources)))
        masks = (rng.random((sources, 8, 8 * sources)) < 0.3).astype(np.float32)
        clips.append((Prediction(str(n), maps, names), Truth(masks, names), sources))

    def work(index: int) -> list[Array]:
        found = protocol.apply(*clips[index])
        return [metric.rows(*found) for metric in AVLOC]

    plain = [work(n) for n in range(len(clips))]
    order = rng.permutation(len(clips))
    shuffled = dict(zip(order.tolist(), [work(n) for n in order], strict=True))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(work, range(len(clips))))
    for n, rows in enumerate(plain):
        for one, other, third in zip(rows, shuffled[n], threaded[n], strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, third)
    for n, (prediction, truth, tiles) in enumerate(clips):  # one source at a time
        for source, label in enumerate(truth.labels):
            alone = Prediction("alone", prediction.maps[source : source + 1], (label,))
            pair = protocol.apply(alone, Truth(truth.masks[source : source + 1], (label,)), tiles)
            assert CIoUMean().rows(*pair)[0] == plain[n][4][source]
            assert PixelAP().rows(*pair)[0] == plain[n][0][source]


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.key)
def test_a_source_without_a_map_gets_the_worst_value(metric: Metric) -> None:
    found, truth = case()
    lost = Localization(found.scores * 0, found.masks & False, found.confidence, found.found & False)
    for masks in (truth.masks, truth.masks * 0):  # even where there is nothing to see
        value = metric.reduce(metric.rows(lost, Truth(masks, truth.labels)))
        if masks.any() and metric not in OF_NEGATIVES and metric.key != "side_accuracy":
            assert value == (pytest.approx(0.025) if "auc" in metric.key.split("_") else 0)
        else:
            assert np.isnan(value) or value in (0, 0.025, 1)


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
        assert re.fullmatch(r"[a-z0-9_@.]+", metric.key)
        assert registry().get("metric", name) is type(metric)
        json.dumps(parameters(type(metric)))


def test_a_rate_and_a_mean_have_different_names() -> None:
    assert CIoUSuccess(at=0.3).title == "cIoU success rate @0.3"
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["noise", "upscaled", "relu", "negative", "constant", "denormal", "truth"])
def test_pixel_ap_and_auroc_equal_scikit_learn_at_full_size(kind: str, dtype: type) -> None:
    rng = np.random.default_rng(3)
    small = rng.normal(size=(3, 7, 7))
    masks = np.zeros((3, 224, 224), bool)
    masks[0, 30:150, 40:200] = masks[1, :5, :5] = masks[2, 100:] = True
    large = small.repeat(32, 1).repeat(32, 2)
    scores = {
        "noise": rng.normal(size=(3, 224, 224)), "upscaled": large, "relu": large.clip(0), "negative": -np.exp(large),
        "constant": np.zeros((3, 224, 224)), "denormal": large * 1e-42, "truth": masks - 0.5,
    }[kind].astype(dtype)  # fmt: skip
    flat = [(mask.ravel(), score.ravel()) for mask, score in zip(masks, scores, strict=True)]
    wanted = [average_precision_score(*pair) for pair in flat]
    np.testing.assert_allclose(pixel_average_precision(scores, masks), wanted, rtol=0, atol=1e-9)
    wanted = [roc_auc_score(*pair) for pair in flat]
    np.testing.assert_allclose(pixel_auroc(scores, masks), wanted, rtol=0, atol=1e-9)


def test_signed_zeros_tie() -> None:
    scores, mask = np.array([[[0.0, -0.0, 0.0, -0.0]]], np.float32), np.array([[[1.0, 0, 0, 0]]])
    assert pixel_average_precision(scores, mask) == 0.25
    assert pixel_auroc(scores, mask) == 0.5
    assert np.isnan(pixel_auroc(scores, mask * 0))


def test_permutation_ap_is_the_best_of_all_assignments() -> None:
    for seed in range(5):
        found, truth = case(count=3, seed=seed)
        every = [pixel_average_precision(np.stack([score] * 3), truth.masks) for score in found.scores]
        best = max(np.mean([every[m][s] for s, m in enumerate(order)]) for order in permutations(range(3)))
        rows = PermutationAP().rows(found, truth)
        assert rows.mean() == pytest.approx(best)
        assert rows.mean() >= PixelAP().rows(found, truth).mean() - 1e-12
        swapped = Localization(found.scores[[1, 2, 0]], found.masks, found.confidence, found.found)
        assert PermutationAP().rows(swapped, truth).mean() == pytest.approx(best)
    assert "ours" in PermutationAP().title


def test_swapped_piap_of_a_map_that_claims_everything_is_one() -> None:
    found, truth = case()
    everything = Localization(found.scores, found.masks | True, found.confidence, found.found)
    assert SwappedPIAP().reduce(SwappedPIAP().rows(everything, truth)) == 1


def test_values_are_computed_anew_for_other_arrays() -> None:
    found, truth = case()
    first = PixelAP().rows(found, truth)
    upside_down = Localization(1 - found.scores, ~found.masks, found.confidence, found.found)
    assert not np.array_equal(PixelAP().rows(upside_down, truth), first)
    assert not np.array_equal(CIoUMean().rows(upside_down, truth), CIoUMean().rows(found, truth))
    np.testing.assert_array_equal(PixelAP().rows(found, truth), first)


def test_pixel_ap_at_the_edges() -> None:
    scores, mask = np.arange(16.0).reshape(1, 4, 4), np.zeros((1, 4, 4))
    assert pixel_average_precision(scores, mask) == 0
    mask[0, 3] = 1
    assert pixel_average_precision(scores, mask) == 1
    assert pixel_average_precision(scores * 0, mask) == 0.25
    assert pixel_average_precision(np.exp(scores), mask * 2) == 1, "monotone changes and weights do not matter"


@pytest.mark.parametrize("metric", [PixelAP(), CAP(), PermutationAP(), PixelAUROC()], ids=lambda m: m.key)
def test_ap_is_undefined_for_empty_masks(metric: Metric) -> None:
    found, truth = case(4)
    truth.masks[[1, 3]] = 0
    found.found[3] = False  # it makes no difference whether the method offered a map
    rows = metric.rows(found, truth)[:, 0]
    assert np.isnan(rows).tolist() == [False, True, False, True]
    alone = metric.rows(*some(found, truth, slice(1, 2)))
    assert np.isnan(alone).all() and np.isnan(metric.reduce(alone))
    assert metric.reduce(rows[:, None]) == pytest.approx(np.nanmean(rows))


EMPTY = [case(3)[1].masks[0], np.zeros((8, 16), np.float32), case(3)[1].masks[2]]


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.key)
@pytest.mark.parametrize("rule", ["miss", "undefined"])
def test_what_an_empty_truth_is(metric: Metric, rule: str) -> None:
    """A miss counts as 0, undefined sources are left out; metrics of negatives and APs read them either way."""
    found, truth = case(3)
    truth = Truth(np.stack(EMPTY), truth.labels)
    found = replace(found, empty_is_miss=rule == "miss")
    rows = metric.rows(found, truth)
    value, others = metric.reduce(rows), metric.reduce(metric.rows(*some(found, truth, np.array([0, 2]))))
    overlap = metric.key.partition("@")[0] in OVERLAPS
    if overlap and rule == "undefined":
        assert np.isnan(rows[1]).any() and np.isfinite(rows[[0, 2]]).all()
        assert value == pytest.approx(others)
    elif overlap:
        assert np.isfinite(rows).all() and value <= others
    else:
        np.testing.assert_array_equal(rows, metric.rows(replace(found, empty_is_miss=True), truth))


OVERLAPS = {
    "ciou_success", "ciou_mean", "auc", "iou_smoothed", "ciou_best_threshold", "auc_best_threshold", "interactive_ciou",
    "interactive_auc", "clip_ciou_success", "clip_auc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "wanted"),
    [("avloc", np.nan), ("vssl_eval", np.nan), ("as_written", 0), ("ezvsl", 0), ("tvsl_released", 0), ("slavc", 0)],
)
def test_a_protocol_says_what_an_empty_truth_is(preset: str, wanted: float) -> None:
    prediction, nothing = Prediction("a", np.eye(8)[None], ("x",)), Truth(np.zeros((1, 8, 8), np.float32), ("x",))
    for spec, value in ((preset, wanted), *(({"preset": preset, "empty_truth": rule}, end) for rule, end in RULES)):
        rows = CIoUMean().rows(*load_protocol(spec).apply(prediction, nothing))
        np.testing.assert_array_equal(rows, [[value]])


RULES = [("miss", 0), ("undefined", np.nan)]


def test_the_best_threshold_breaks_ties_as_the_release_does() -> None:
    """Two thresholds have the same AUC but for rounding, in which the release's sum prefers the second."""
    rows = np.zeros((3, 19))
    rows[:, 4], rows[:, 9] = [0.71, 0.76, 0.51], [0.56, 0.76, 0.66]
    assert CIoUBestThreshold(at=0.55).reduce(rows) == 1


def test_published_evaluators_score_0_for_empty_masks() -> None:
    """evaluators.md, E1: cIoU 0 always; tvsl.md: T-VSL's AP is 0."""
    found, truth = case(3)
    truth.masks[1] = 0
    for metric in (PixelAP(drop_undefined=True), CAP(drop_undefined=True), CIoUMean(), CIoUSuccess(at=0.3), AUC()):
        rows = metric.rows(found, truth)
        assert rows[1, 0] == 0 and np.isfinite(rows).all()


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


def test_overlap_of_two_empty_masks() -> None:
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
        assert auc_of(cious) == area, "to the last bit: it breaks ties between thresholds"
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


def test_strict_success_must_exceed() -> None:
    found, truth = case(1, 1)
    truth.masks[:], found.masks[:] = 0, False
    truth.masks[0, :1], found.masks[0, :2] = 1, True
    assert CIoUSuccess(at=0.5, strict=True).rows(found, truth) == 0
    assert CIoUSuccess(at=0.5, strict=True).key != CIoUSuccess(at=0.5).key


# Groups, sweeps


def with_cious(*cious: float) -> tuple[Localization, Truth]:
    """Sources of one clip, with these cIoUs in steps of 0.01."""
    truth, masks = np.zeros((len(cious), 10, 10), np.float32), np.zeros((len(cious), 10, 10), bool)
    truth[:] = 1
    for mask, value in zip(masks, cious, strict=True):
        mask.flat[: round(100 * value)] = True
    ones = np.ones(len(cious))
    return Localization(masks.astype(np.float32), masks, ones, ones > 0), Truth(truth, tuple(map(str, cious)))


def test_interactive_and_clip_ciou() -> None:
    """evaluators.md, E10: pairs (.7, .2), (.6, .5), (.9, .49)."""
    clips = [with_cious(0.7, 0.2), with_cious(0.6, 0.5), with_cious(0.9, 0.49)]

    def value(metric: Metric) -> float:
        return metric.reduce(np.concatenate([metric.rows(*clip) for clip in clips]))

    assert value(CIoUSuccess()) == pytest.approx(2 / 3)
    assert value(InteractiveCIoU()) == pytest.approx(1 / 3)
    assert value(InteractiveAUC()) == pytest.approx(0.40833, abs=1e-5)
    assert value(ClipCIoUSuccess()) == pytest.approx(2 / 3)  # means .45, .55, .695
    assert value(ClipAUC()) == pytest.approx(auc_of(np.array([(0.7 + 0.2) / 2, (0.6 + 0.5) / 2, 0.695])))


def test_a_clip_counts_once_however_many_sources_it_has() -> None:
    clips = [with_cious(0.9), with_cious(0.1, 0.1, 0.1)]
    for metric in (InteractiveCIoU(), ClipCIoUSuccess()):
        assert metric.reduce(np.concatenate([metric.rows(*clip) for clip in clips])) == pytest.approx(0.5)


def test_the_best_threshold_is_the_one_with_the_best_auc() -> None:
    found, truth = case(1, 1)
    found.scores[:] = truth.masks * 0.4 + 0.3  # 0.7 on the object, 0.3 elsewhere
    for metric in (CIoUBestThreshold(), AUCBestThreshold()):
        assert metric.reduce(metric.rows(found, truth)) == 1
    assert CIoUMean().rows(found, truth) < 1


# Negatives and confidence


def slavc_example() -> Localized:
    """evaluators.md, E10."""
    return Localized(
        np.array([0.7, 0.2, 0.6, 0, 0]), np.array([0.9, 0.8, 0.4, 0.6, 0.3]), np.array([True, True, True, False, False])
    )


def test_extended_sets_as_slavc_computes_them() -> None:
    found = slavc_example()
    rows = np.stack([found.ciou, found.confidence, 100.0 * found.visible], axis=1)
    assert ExtendedAP(curve="slavc").reduce(rows) == pytest.approx(0.25)
    assert ExtendedF1(curve="slavc").reduce(rows) == pytest.approx(2 / 3)
    assert ExtendedPrecision().reduce(rows) == pytest.approx(0.4)
    assert ExtendedPrecision(subset="visible").reduce(rows) == pytest.approx(2 / 3)
    assert np.isnan(ExtendedPrecision(subset="huge").reduce(rows))


def test_the_sound_curve_is_average_precision() -> None:
    """Brute force: walk down the confidences, add what each new recall is worth."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = Localized(rng.random(40), rng.random(40).round(1), rng.random(40) < 0.6)
        hit, total, recall = found.visible & (found.ciou >= 0.5), 0.0, 0.0
        for threshold in sorted(set(found.confidence.tolist()), reverse=True):
            sure = found.confidence >= threshold
            now = (hit & sure).sum() / found.visible.sum()
            total += (hit & sure).sum() / sure.sum() * (now - recall)
            recall = now
        assert extended_ap(found) == pytest.approx(total)
    perfect = Localized(np.ones(4), np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, True]))
    assert extended_ap(perfect) == 1
    assert extended_ap(perfect, kind="slavc") == 0.5, "the first segment is lost"


def test_a_source_without_a_map_has_no_confidence() -> None:
    found = Localized(np.array([1.0, 0.0]), np.array([0.5, -np.inf]), np.array([True, False]))
    assert extended_ap(found) == 1
    rows = np.array([[1.0, 0.5, 9], [0.0, -np.inf, 0]])
    assert ExtendedF1().reduce(rows) == 1


@pytest.mark.parametrize("wrong", [{"at": 0}, {"subset": "tiny"}, {"curve": "both"}])
def test_extended_metrics_name_what_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(AvlocError, match=f"extended_ap: '{next(iter(wrong))}' must be"):
        ExtendedAP(**wrong)


def test_negatives() -> None:
    """One source found whole, one negative of which a quarter is claimed."""
    truth, masks = np.zeros((2, 8, 8), np.float32), np.zeros((2, 8, 8), bool)
    truth[0, :4], masks[0, :4], masks[1, :2] = 1, True, True
    found = Localization(masks * np.float32(0.9), masks, np.ones(2), np.ones(2, bool))
    pair = found, Truth(truth, ("a", "b"))
    values = {metric.key: metric.reduce(metric.rows(*pair)) for metric in OF_NEGATIVES}
    assert values["pia"] == 0.25
    assert values["nsa@0.2"] == 0.75
    assert values["f_loc"] == pytest.approx(2 * 0.75 / 1.75)
    assert values["pia_auc"] == pytest.approx(0.05 * (15 + 0.5))  # bounds .25, .3, ..., 1
    assert values["f_auc"] == pytest.approx(2 * values["pia_auc"] / (1 + values["pia_auc"]))
    for metric in OF_NEGATIVES:
        assert np.isnan(metric.reduce(metric.rows(*some(*pair, slice(0, 1))))), "no negatives, no number"


# Sides and detection


def test_side_accuracy() -> None:
    scores = np.zeros((5, 4, 12), np.float32)
    truth = np.zeros_like(scores)
    truth[:4, :, 4:6] = 1  # all but the last lie in the middle
    scores[0, :, 4:8] = 0.2
    scores[1, :, 4:8], scores[1, :, 8:] = 0.2, 0.3
    scores[2] = 0.7  # favors no tile
    scores[3, 0, 0], scores[3, :, 4:8] = 1, 0.2  # one high cell does not decide
    assert picks_own_tile(scores, truth, 3)[:4].tolist() == [1, 0, 0, 1]
    found = Localization(scores, scores > 0, np.ones(5), np.ones(5, bool))
    rows = SideAccuracy().rows(found, Truth(truth, tuple("abcde")))
    assert np.isnan(rows[4]), "no mask, no side"
    assert SideAccuracy().reduce(rows) == 0.5


def test_one_tile_has_no_sides() -> None:
    rows = SideAccuracy().rows(*case(tiles=1))
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
    nameless = replace(named, named=False)
    assert DetectionF1().reduce(np.concatenate([*rows, DetectionF1().rows(nameless, truth)])) == pytest.approx(6 / 10)
    assert np.isnan(DetectionF1().reduce(DetectionF1().rows(nameless, truth)))


@pytest.mark.parametrize("name", sorted(registry().entries("metric")))
def test_every_metric_says_what_an_empty_truth_is(name: str) -> None:
    assert "empty" in (registry().get("metric", name).__doc__ or "")


def test_an_empty_truth_is_as_documented() -> None:
    claimed = np.zeros((2, 4, 4), bool)
    claimed[0, :1] = True  # a quarter, and nothing
    found = Localization(claimed.astype(np.float32), claimed, np.ones(2), np.ones(2, bool))
    truth = Truth(np.zeros((2, 4, 4), np.float32), ("a", "b"))
    expected: list[tuple[Metric, list[float]]] = [
        (CIoUMean(), [0, 0]), (CIoUSuccess(), [0, 0]), (AUC(), [0, 0]), (SwappedPIAP(), [0.25, 0]),
        (CAP(), [np.nan, np.nan]), (PermutationAP(), [np.nan, np.nan]), (PixelAUROC(), [np.nan, np.nan]),
        (SideAccuracy(), [np.nan, np.nan]), (PIA(), [0.25, 0]), (NSA(), [0.75, 1]), (ExtendedPrecision(), [0, 0]),
    ]  # fmt: skip
    for metric, values in expected:
        np.testing.assert_allclose(metric.rows(found, truth)[:, 0], values, err_msg=metric.key)
    smoothed = IoUSmoothed().rows(found, truth)[:, 0]
    assert smoothed[0] < 1e-4 and smoothed[1] == 1
