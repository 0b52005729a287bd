"""The presets of published evaluators, against the official outputs for the same maps."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from avloc import Localization, Metric, Prediction, Truth
from avloc.scoring import load_protocol
from avloc_plugins.metrics.average_precision import SwappedPIAP
from avloc_plugins.metrics.iou import auc_of
from avloc_plugins.metrics.iou_extended import ExtendedAP, ExtendedPrecision, extended_f1, f1_at
from avloc_plugins.metrics.iou_groups import ClipAUC, ClipCIoUSuccess, InteractiveAUC, InteractiveCIoU, lowest_of_group
from avloc_plugins.metrics.iou_success import AUC, CIoUMean, CIoUSuccess
from avloc_plugins.metrics.iou_sweep import THRESHOLDS, AUCBestThreshold, CIoUBestThreshold

PROJECT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("AVLOC_GOLDEN", PROJECT.parent / "shared" / "golden"))
OFFICIAL = json.loads(path.read_text()) if (path := FOLDER / "evaluators" / "official.json").is_file() else {}
TAU = 0.03
CONTROL: dict[str, Any] = {"control": "saliency"}
"""Official models return cosine / TAU in float32, which decides ties at a threshold."""
SCALED = {"preset": "slavc", "normalize": {"range": [-1 / TAU, 1 / TAU]}}

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not OFFICIAL, reason=f"no golden files in {FOLDER} (AVLOC_GOLDEN)"),
]

Array = npt.NDArray[Any]
Scored = list[tuple[Localization, Truth]]


def maps_of(name: str, *, scaled: bool = True) -> Array:
    maps = np.load(FOLDER / "evaluators/maps.npz")[name].astype(np.float32)
    return maps / np.float32(TAU) if scaled else maps


def boxes_of(key: str = "boxes") -> list[Any]:
    return list(json.loads((FOLDER / "evaluators/boxes.json").read_text())[key])


def truth_of(*boxes: Any) -> Truth:
    """A source per argument, each with its boxes, normalized; no boxes make a negative."""
    arrays = tuple(np.asarray(one, np.float64).reshape(-1, 4) for one in boxes)
    return Truth(np.zeros((len(boxes), 1, 1), np.float32), tuple(map(str, range(len(boxes)))), arrays)


def localized(spec: Any, maps: Array, truths: Sequence[Truth], priors: Array | None = None) -> Scored:
    """Every map ``(S, h, w)``, or ``(h, w)`` of one source, as the protocol localizes it."""
    protocol, found = load_protocol(spec), []
    for n, (map, truth) in enumerate(zip(maps, truths, strict=True)):
        stack = map.reshape(-1, *map.shape[-2:])
        prediction = Prediction(f"clip {n}", stack, truth.labels)
        found.append(protocol.apply(prediction, truth, 1, None if priors is None else priors[n]))
    return found


def rows(scored: Scored, metric: Metric) -> Array:
    return np.concatenate([metric.rows(found, truth) for found, truth in scored])


def value(scored: Scored, metric: Metric) -> float:
    return metric.reduce(rows(scored, metric))


def metric_of(key: str) -> Metric:
    """Our metric for this name in an official evaluator's output."""
    name, _, at = key.partition("@")
    kind, _, subset = name.partition("-")
    threshold = int(at.partition("_")[0] or 50) / 100
    named: dict[str, Metric] = {
        "cIoU_at_50": CIoUSuccess(), "cIoU_adap": CIoUSuccess(), "mean_cIoU": CIoUMean(), "per_sample": CIoUMean(),
        "per_sample_adap": CIoUMean(), "AUC": AUC(), "AUC_adap": AUC(), "IIoU": InteractiveCIoU(),
        "IIoU_adap": InteractiveCIoU(), "IAUC": InteractiveAUC(), "IAUC_adap": InteractiveAUC(),
        "piap_mean": SwappedPIAP(), "AP_at_50()": ExtendedAP(curve="slavc"),
    }  # fmt: skip
    if key in named:
        return named[key]
    if kind == "Precision":
        return ExtendedPrecision(at=threshold, subset=subset, curve="slavc")
    if kind == "AP":
        return ExtendedAP(at=threshold, subset=subset, curve="slavc")
    if kind == "PIAP":
        return SwappedPIAP()
    raise KeyError(key)


def check(expected: dict[str, Any], scored: Scored) -> None:
    """Check every number that the official evaluator printed; unknown names are errors."""
    visible = [pair for pair in scored if pair[1].masks.any()]
    detection = ExtendedAP(curve="slavc")
    for key, wanted in expected.items():
        if key in ("per_sample", "per_sample_adap"):
            each = visible if len(wanted) < len(scored) else scored
            np.testing.assert_allclose(rows(each, CIoUMean())[:, 0], wanted, atol=1e-6, err_msg=key)
            continue
        subset = visible if "-visible" in key else scored
        if key == "conf":
            got: Any = rows(scored, detection)[:, 1]
        elif key == "n_visible":
            got = len(visible)
        elif key.startswith("AUC-"):
            got = value(visible, AUC())
        elif key.endswith("_strict"):
            got = value(visible, CIoUSuccess(at=int(key[5:7]) / 100, strict=True))
        elif key.startswith(("F1-", "maxF1-")):
            at = int(key.partition("@")[2]) / 100
            percents = [f"{100 * f1:.1f}" for f1 in extended_f1(detection.chosen(rows(subset, detection)), at, "slavc")]
            wanted = wanted.split() if isinstance(wanted, str) else f"{100 * wanted:.1f}"
            assert (percents if isinstance(wanted, list) else max(percents, key=float)) == wanted, key
            continue
        elif key == "F1_at_50()(conf .5)":
            got = f1_at(detection.chosen(rows(scored, detection)), 0.5, np.array([0.5]), "slavc")
        else:
            got = value(subset, metric_of(key))
        np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=key)


def variants(expected: dict[str, Any], spec: dict[str, Any], alpha: float, maps: Array, truths: list[Truth]) -> None:
    """The method's maps, the prior alone, and their sum."""
    priors = maps_of("saliency", scaled=False)
    seen = sum(len(truth.boxes[0]) > 0 for truth in truths)
    priors = np.resize(priors[:seen], (len(truths), *priors.shape[1:]))  # negatives repeat the images of the positives
    scale = CONTROL | ({"prior_range": 2.5} if spec["preset"].startswith(("slavc", "avgn")) else {})
    refinements = {"av": None, "obj": {"alpha": 0.0, **scale}, "av_obj": {"alpha": alpha, **scale}}
    for name, wanted in expected.items():
        scored = localized({**spec, "refine": refinements[name]}, maps, truths, priors)
        check(wanted, scored)


KINDS = [name for name in OFFICIAL if name.startswith("single/")]
RULES: dict[str, tuple[dict[str, Any], float]] = {
    "ezvsl_test": ({"preset": "ezvsl"}, 0.4),
    "ezvsl_train_validate": ({"preset": "ezvsl_train"}, 0.4),
    "fnac_test": ({"preset": "fnac"}, 0.4),
    "slavc_relative": (SCALED, 0.9),
    "slavc_absolute": ({**SCALED, "preset": "slavc_absolute"}, 0.9),
    "avgn_test": ({**SCALED, "preset": "avgn_released_vggss"}, 0.3),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_one_source(kind: str, rule: str) -> None:
    spec, alpha = RULES[rule]
    truths = [truth_of(boxes) for boxes in boxes_of()]
    variants(OFFICIAL[kind][rule], spec, alpha, maps_of(kind.replace("/", "_")), truths)


@pytest.mark.parametrize("kind", KINDS)
def test_lvs(kind: str) -> None:
    truths = [truth_of(boxes) for boxes in boxes_of()]
    check(OFFICIAL[kind]["lvs_test"]["av"], localized("lvs", maps_of(kind.replace("/", "_"), scaled=False), truths))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["sslalignment", "sslalignment_lvs_path"])
def test_sslalignment(kind: str, path: str) -> None:
    truths = [truth_of(boxes) for boxes in boxes_of()]
    spec = {"preset": path.removesuffix("_path")}
    maps = maps_of(kind.replace("/", "_"), scaled=path == "sslalignment")
    for adaptive in (False, True):
        if adaptive:
            spec = {"preset": "sslalignment_adaptive"} if path == "sslalignment" else {**spec, "binarize": ADAPTIVE}
        expected = {name: half(numbers, adaptive) for name, numbers in OFFICIAL[kind][path].items()}
        variants(expected, spec, 0.4, maps, truths)


ADAPTIVE = {"quantile": "truth"}


def half(expected: dict[str, Any], adaptive: bool) -> dict[str, Any]:
    """The numbers under one of the two rules that SSLalignment prints side by side."""
    return {key: wanted for key, wanted in expected.items() if key.endswith("_adap") == adaptive}


@pytest.mark.parametrize("adaptive", [False, True])
def test_two_sounds_of_one_image(adaptive: bool) -> None:
    """IIoU: consecutive annotations are of one image."""
    expected = OFFICIAL["pairs/good"]["sslalignment_is3"]
    boxes, maps = boxes_of(), maps_of("single_good")
    truths = [truth_of(*boxes[n : n + 2]) for n in range(0, len(boxes), 2)]
    spec = {"preset": "sslalignment_adaptive" if adaptive else "sslalignment"}
    scored = localized(spec, maps.reshape(len(truths), 2, *maps.shape[1:]), truths)
    check(half(expected["av"], adaptive), scored)
    lowest = lowest_of_group(rows(scored, CIoUMean())[:, 0], [n // 2 for n in range(len(boxes))])
    suffix = "_adap" if adaptive else ""
    assert np.mean(lowest >= 0.5) == pytest.approx(expected["av"]["IIoU" + suffix])
    assert auc_of(lowest) == pytest.approx(expected["av"]["IAUC" + suffix])
    one_each = [truth_of(box) for box in boxes]
    variants({"av_obj": half(expected["av_obj"], adaptive)}, spec, 0.4, maps, one_each)


@pytest.mark.parametrize("kind", KINDS)
def test_acl(kind: str) -> None:
    expected, truths = OFFICIAL[kind]["acl_minmax"], [truth_of(boxes) for boxes in boxes_of()]
    maps = maps_of(kind.replace("/", "_"), scaled=False)
    scored = localized("acl", maps, truths)
    assert value(scored, CIoUBestThreshold()) == pytest.approx(expected["best"]["cIoU"], abs=1e-6)
    rates = (rows(scored, AUCBestThreshold()) >= 0.5).mean(axis=0)
    assert rates.max() == pytest.approx(expected["best_cIoU"], abs=1e-6)
    assert value(scored, AUCBestThreshold()) == pytest.approx(expected["best"]["AUC"], abs=1e-6)
    areas = [auc_of(column) for column in rows(scored, AUCBestThreshold()).T]
    assert THRESHOLDS[int(np.argmax(areas))] == pytest.approx(float(expected["best_thr"]))
    scored = localized("acl_median", maps, truths)
    assert value(scored, CIoUSuccess()) == pytest.approx(expected["median_rule"]["cIoU"], abs=1e-6)
    assert value(scored, AUC()) == pytest.approx(expected["median_rule"]["AUC"], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_dsol(kind: str) -> None:
    expected, truths = OFFICIAL[kind]["dsol_single_sigmoid20"], [truth_of(boxes) for boxes in boxes_of()]
    maps = 1 / (1 + np.exp(-20 * (maps_of(kind.replace("/", "_"), scaled=False) - 0.05)))
    scored = localized("dsol_solo", maps, truths)
    assert value(scored, ClipAUC()) == pytest.approx(expected["AUC"], abs=1e-6)
    assert value(scored, ClipCIoUSuccess()) == pytest.approx(expected["cIoU_at_50"], abs=1e-6)


@pytest.mark.parametrize("rule", ["relative", "absolute"])
def test_extended(rule: str) -> None:
    maps = np.concatenate([maps_of("extended_positive"), maps_of("extended_negative")])
    positives = len(maps_of("extended_positive"))
    truths = [truth_of(boxes if n < positives else []) for n, boxes in enumerate(boxes_of())]
    spec = SCALED if rule == "relative" else {**SCALED, "preset": "slavc_absolute"}
    variants(OFFICIAL[f"extended/{rule}"]["slavc_test"], spec, 0.9, maps, truths)


def test_sounds_by_image() -> None:
    """The groups come from names; an image with one sound counts like the others."""
    expected = json.loads((FOLDER / "field/iiou.json").read_text())
    names = [name.rpartition("/")[2].rpartition("_")[0] for name in expected["names"]]
    for suffix in ("", "_adap"):
        rows = np.stack([expected["ciou" + suffix], np.ones(len(names))], axis=1)
        for metric, key in ((InteractiveCIoU(), "IIoU"), (InteractiveAUC(), "IAUC")):
            merged = metric.by_image(rows, names)
            assert metric.reduce(merged) == pytest.approx(expected[key + suffix], abs=1e-9)


def test_flickr() -> None:
    annotated = boxes_of("flickr_annotators_256px")
    truths = [truth_of([np.array(box) / 256 for person in clip for box in person]) for clip in annotated]
    priors = maps_of("flickr_saliency", scaled=False)
    for name, wanted in OFFICIAL["flickr/fair"]["ezvsl_flickr"].items():
        refine = {"av": None, "obj": {"alpha": 0.0, **CONTROL}, "av_obj": {"alpha": 0.4, **CONTROL}}[name]
        check(wanted, localized({"preset": "flickr", "refine": refine}, maps_of("flickr_map"), truths, priors))


AVGN_DUET = {**SCALED, "preset": "avgn_released_duet"}


@pytest.mark.parametrize("kind", [name for name in OFFICIAL if name.startswith("duet/")])
def test_avgn_duet(kind: str) -> None:
    """Sources are listed one side after the other, and rates averaged over the sides."""
    expected, boxes = OFFICIAL[kind]["avgn_duet"], boxes_of()
    name = kind.replace("/", "_")
    sides = [maps_of(f"{name}_{side}") for side in (1, 2)]
    scored = localized(AVGN_DUET, np.concatenate(sides), [truth_of(box) for box in boxes])
    np.testing.assert_allclose(rows(scored, CIoUMean())[:, 0], expected["per_sample"], atol=1e-6)
    parts = [scored[: len(sides[0])], scored[len(sides[0]) :]]
    detection = ExtendedAP(curve="slavc")
    for key, metric in [
        ("CIoU_at_10", CIoUSuccess(at=0.1, strict=True)), ("CIoU_at_30", CIoUSuccess(at=0.3, strict=True)),
        ("PIAP_swapped_args", SwappedPIAP()), ("AUC", AUC()),
    ]:  # fmt: skip
        assert np.mean([value(part, metric) for part in parts]) == pytest.approx(expected[key], abs=1e-6), key
    f1 = [f1_at(detection.chosen(rows(part, detection)), 0.3, np.array([0.5]), "slavc") for part in parts]
    assert np.mean(f1) == pytest.approx(expected["F1_at_30"], abs=1e-6)


def test_avgn_validate_multi() -> None:
    data = np.load(FOLDER / "avgn/eval_avgn_multi.npz")
    expected = json.loads((FOLDER / "avgn/eval_avgn_multi.json").read_text())
    bound = 1 / float(data["tau"])
    spec = {"preset": "avgn_released_duet", "normalize": {"range": [-bound, bound]}, "truth": "mask"}
    evaluators: list[Scored] = []
    for side, wanted in enumerate(expected["evaluators"]):
        truths = [Truth(truth[None].astype(np.float32), ("0",)) for truth in data["gt"][:, side]]
        scored = localized(spec, data["heat"][:, side], truths)
        check_avgn(wanted, scored)
        evaluators.append(scored)
    returned = expected["returned"]
    precision = [value(scored, CIoUSuccess(at=0.1, strict=True)) for scored in evaluators]
    assert np.mean(precision) == pytest.approx(returned["precision"], abs=1e-6)
    assert np.mean([value(scored, SwappedPIAP()) for scored in evaluators]) == pytest.approx(returned["ap"], abs=1e-6)
    detection = ExtendedAP(curve="slavc")
    f1 = [f1_at(detection.chosen(rows(s, detection)), 0.3, np.array([0.5]), "slavc") for s in evaluators]
    assert np.mean(f1) == pytest.approx(returned["f1"], abs=1e-6)


def test_avgn_evaluator() -> None:
    """Predictions, thresholds and confidences are given; a sample without boxes is a negative whatever its mask."""
    data = np.load(FOLDER / "avgn/eval_avgn_update.npz")
    expected = json.loads((FOLDER / "avgn/eval_avgn_update.json").read_text())
    scored = []
    for map, truth, threshold, confidence in zip(data["pred"], data["gt"], data["thr"], data["conf"], strict=True):
        mask = (map >= threshold)[None]
        found = Localization(map[None].astype(np.float32), mask, np.array([confidence]), np.ones(1, bool))
        scored.append((found, Truth(truth[None].astype(np.float32), ("0",))))
    check_avgn(expected, scored, data["nbb"] > 0)


def check_avgn(expected: dict[str, Any], scored: Scored, visible: Array | None = None) -> None:
    """What AVGN's evaluator keeps per sample, and what it makes of it."""
    found = ExtendedAP(curve="slavc").rows
    table = np.concatenate([found(*pair) for pair in scored])
    piap = rows(scored, SwappedPIAP())[:, 0]
    for key, got in [("ciou", table[:, 0]), ("conf", table[:, 1]), ("area", table[:, 2]), ("piap", piap)]:
        np.testing.assert_allclose(got, expected[key], rtol=1e-6, atol=1e-6, err_msg=key)
    assert piap.mean() == pytest.approx(expected["piap_average"], abs=1e-6)
    seen = np.ones(len(table), bool) if visible is None else visible
    for at in (10, 30, 50):
        rate = np.mean(table[seen, 0] > at / 100)
        assert rate == pytest.approx(expected[f"precision_at_{at}"], abs=1e-6), at
    from avloc_plugins.metrics.iou_extended import Localized, extended_ap

    localized = Localized(table[:, 0], table[:, 1], seen)
    for at in (30, 50):
        assert extended_ap(localized, at / 100, "slavc") == pytest.approx(expected[f"ap_at_{at}"], abs=1e-6), at
        f1 = f1_at(localized, at / 100, np.array([0.5]), "slavc")
        assert f1 == pytest.approx(expected[f"f1_at_{at}"], abs=1e-6), at
