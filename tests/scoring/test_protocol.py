"""Protocols: presets, and the way from a raw map to a mask per source."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from sklearn.metrics import average_precision_score

from avloc import AvlocError, Prediction, Truth
from avloc.data import rasterize
from avloc.scoring import Protocol, load_protocol, preset_names
from avloc.scoring.maps import top_pixels, top_quarter

Array = npt.NDArray[Any]


def small(**changes: Any) -> Protocol:
    return load_protocol({"preset": "avloc", "size": 8, **changes})


def truth(*labels: str, tiles: int = 1) -> Truth:
    """Source n covers row n of an 8 x 8 tile, in tile ``n % tiles``."""
    masks = np.zeros((len(labels), 8, 8 * tiles), np.float32)
    for n in range(len(labels)):
        masks[n, n, 8 * (n % tiles) : 8 * (n % tiles) + 8] = 1
    return Truth(masks, labels)


def rows(*which: int, width: int = 8) -> Array:
    """Maps that are high on one row each."""
    maps = np.zeros((len(which), 8, width), np.float32)
    for n, row in enumerate(which):
        maps[n, row] = 1
    return maps


# Presets


def test_every_preset_loads_and_describes_itself_in_one_line() -> None:
    assert preset_names()[0] == "avloc"
    for name in preset_names():
        protocol = load_protocol(name)
        assert protocol.describe().startswith(f"{name}: ")
        assert "\n" not in protocol.describe()
        assert protocol.source
        assert protocol.note


def test_every_preset_states_every_key_that_decides_a_number() -> None:
    presets = yaml.safe_load((files("avloc_benchmarks") / "protocols.yaml").read_text(encoding="utf-8"))
    keys = set(load_protocol("avloc").model_dump()) - {"preset"}
    for name, preset in presets.items():
        assert set(preset) - {"source", "note", "warning", "checked"} == keys, name
        explained = load_protocol(name).explain()
        assert {key for key, _, _ in explained} == keys
        assert all(meaning for _, _, meaning in explained)


def test_values_are_explained_as_they_are_written() -> None:
    values = {key: value for key, value, _ in load_protocol("lvs").explain()}
    assert values["strict"] == "true"
    assert yaml.safe_load(values["binarize"]) == {"quantile": 0.5, "keep_ones": True}


def test_a_changed_preset_says_so() -> None:
    protocol = load_protocol({"preset": "avloc", "binarize": {"top": 0.5}})
    assert "avloc (changed: binarize):" in protocol.describe()
    assert "top 50%" in protocol.describe()
    assert "Maps are inverted before they are scored" in load_protocol("tvsl_released").describe()


def test_a_dumped_protocol_loads_again_without_prose() -> None:
    changed: dict[str, Any] = {"preset": "avloc", "binarize": {"top": 0.25}, "canvas": "tile"}
    for spec in [*({"preset": name} for name in preset_names()), changed]:
        dumped = json.loads(json.dumps(load_protocol(spec).model_dump()))
        assert not {"source", "note", "warning"} & set(dumped)
        assert load_protocol(dumped) == load_protocol(spec)
    assert dumped["binarize"] == {"top": 0.25}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("avlok", "Did you mean 'avloc'"),
        ({"preset": "avlok"}, "Did you mean 'avloc'"),
        ({"size": 3}, "must name its preset"),
        ({"preset": 3}, "must name its preset"),
        ({"preset": "avloc", "binarise": {"at": 0.5}}, "Did you mean 'binarize'"),
        ({"preset": "avloc", "size": "big"}, "'size'.*valid integer.*'big'"),
        ({"preset": "avloc", "size": 0}, "'size'.*greater than or equal to 1"),
        ({"preset": "avloc", "hints": "oracle"}, "no key 'hints'"),
        ({"preset": "avloc", "resize": "nearest"}, "'resize'.*'bilinear'.*'bicubic'"),
        ({"preset": "avloc", "binarize": 0.5}, "'binarize'.*{at: value}"),
        ({"preset": "avloc", "binarize": {"top": 0.5, "at": 0.5}}, "'binarize'"),
        ({"preset": "avloc", "binarize": {"top": 1.5}}, "'binarize'"),
        ({"preset": "avloc", "binarize": {"at": float("nan")}}, "'binarize'"),
        ({"preset": "avloc", "normalize": "none", "invert": True}, "'invert'"),
        ({"preset": "avloc", "normalize": "cosine"}, "'normalize'.*{range: "),
        ({"preset": "avloc", "normalize": {"range": [1, -1]}}, "'normalize'"),
        ({"preset": "avloc", "binarize": {"quantile": 1}}, "'binarize'.*{quantile: "),
        ({"preset": "avloc", "binarize": {"quantile": "median"}}, "'binarize'"),
        ({"preset": "avloc", "binarize": {"of_max": 0}}, "'binarize'.*{of_max: "),
        ({"preset": "avloc", "refine": {"alpha": 0.4}}, "'refine'.*control: name of the control"),
    ],
)
def test_what_does_not_fit_is_named(spec: Any, words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        load_protocol(spec)


def test_one_sentence_per_key() -> None:
    with pytest.raises(AvlocError) as error:
        load_protocol({"preset": "avloc", "binarize": {"mean": 1}, "size": None})
    assert str(error.value).count("'binarize'") == 1
    assert "'size'" in str(error.value)


def test_loading_needs_no_torch() -> None:
    code = (
        "import sys, avloc.scoring.protocol as p; p.load_protocol('avloc').describe(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Masks


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("kind", ["noise", "ties", "constant", "relu"])
def test_top_claims_exactly_its_share(share: float, kind: str) -> None:
    noise = np.random.default_rng(0).normal(size=(5, 7, 7)).astype(np.float32)
    maps = {"noise": noise, "ties": noise.round(), "constant": noise * 0 + 0.1, "relu": noise.clip(0)}[kind]
    protocol = load_protocol({"preset": "avloc", "size": 33, "binarize": {"top": share}})
    found, _ = protocol.apply(Prediction("clip", maps, tuple("abcde")), truth(*"abcde"))
    assert (found.masks.sum((1, 2)) == round(share * 33 * 33)).all()


def test_top_pixels_equals_a_stable_sort() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 5, (40, 6, 9)).astype(np.float32)
    counts = rng.integers(0, 55, 40).tolist()
    for score, mask, count in zip(scores, top_pixels(scores, counts), counts, strict=True):
        best = np.argsort(-score, axis=None, kind="stable")[:count]
        assert set(np.flatnonzero(mask)) == set(best)


def test_at_is_a_value_of_the_normalized_map() -> None:
    map = np.arange(64, dtype=np.float32).reshape(1, 8, 8) * 7 - 100
    prediction = Prediction("clip", map, ("a",))
    for at, strict, count in [(0.0, False, 64), (0.0, True, 63), (1.0, False, 1), (1.0, True, 0)]:
        found, _ = small(binarize={"at": at}, strict=strict).apply(prediction, truth("a"))
        assert found.masks.sum() == count
    assert found.scores.min() == 0
    assert found.scores.max() == 1


@pytest.mark.parametrize(("value", "count"), [(1.0, 64), (0.0, 0), (0.1, 0)])
def test_a_constant_map_is_not_normalized(value: float, count: int) -> None:
    """A map of ones claims everything, a map of zeros nothing, and interpolation adds no pattern."""
    found, _ = small(size=8).apply(Prediction("clip", np.full((1, 3, 7), value), ("a",)), truth("a"))
    assert found.masks.sum() == count
    assert found.scores == pytest.approx(value)
    assert np.ptp(found.scores) == 0


def test_a_constant_map_is_undefined_where_the_release_divides_by_zero() -> None:
    protocol = load_protocol({"preset": "tvsl_released", "size": 8})
    found, _ = protocol.apply(Prediction("clip", np.zeros((1, 7, 7)), ("a",)), truth("a"))
    assert np.isnan(found.scores).all()
    assert not found.masks.any()


def test_truth_area() -> None:
    found, _ = small(binarize={"truth_area": True}).apply(Prediction("clip", rows(0), ("a",)), truth("a"))
    assert np.array_equal(found.masks, truth("a").masks > 0)


@pytest.mark.parametrize(
    ("rule", "strict", "count"),
    [
        ({"quantile": 0.5}, False, 32),
        ({"quantile": 0.5}, True, 31),
        ({"quantile": 0}, False, 64),
        ({"quantile": "truth"}, False, 8),
        ({"quantile": "truth"}, True, 7),
        ({"of_max": 0.5}, False, 33),
        ({"of_max": 0.5}, True, 32),
        ({"of_max": 1}, False, 1),
        ({"of_max": 1}, True, 0),
    ],
)
def test_rules_that_take_their_value_from_the_map(rule: dict[str, Any], strict: bool, count: int) -> None:
    """Pixels of 1 to 64; the truth has eight."""
    map = np.arange(1, 65, dtype=np.float32).reshape(1, 8, 8)
    found, _ = small(normalize="none", binarize=rule, strict=strict).apply(Prediction("clip", map, ("a",)), truth("a"))
    assert found.masks.sum() == count


def test_ties_at_the_median() -> None:
    """A binary map: every pixel reaches its median, a few exceed it, and those of 1 can be kept."""
    prediction, sources = Prediction("clip", rows(0), ("a",)), truth("a")
    for keep, strict, count in [(False, False, 64), (False, True, 8)]:
        rule = {"quantile": 0.5, "keep_ones": keep}
        assert small(binarize=rule, strict=strict).apply(prediction, sources)[0].masks.sum() == count
    most = Prediction("clip", 1 - rows(0), ("a",))  # 56 ones: the median is 1, and nothing exceeds it
    for keep, count in [(False, 0), (True, 56)]:
        rule = {"quantile": 0.5, "keep_ones": keep}
        assert small(binarize=rule, strict=True).apply(most, sources)[0].masks.sum() == count


def test_the_quantile_of_an_empty_truth_is_the_median() -> None:
    map = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    nothing = Truth(np.zeros((1, 8, 8), np.float32), ("a",))
    found, _ = small(binarize={"quantile": "truth"}).apply(Prediction("clip", map, ("a",)), nothing)
    assert found.masks.sum() == 32


@pytest.mark.parametrize(("kind", "wanted"), [("method", 7), ("top_quarter", (7 + 3 * 4) / 4 / 7)])
def test_confidence(kind: str, wanted: float) -> None:
    map = np.array([[[0.0, 1, 2, 3], [4, 4, 4, 4], [4, 4, 4, 4], [4, 4, 4, 7]]])
    protocol = load_protocol({"preset": "avloc", "size": 4, "confidence": kind})
    found, _ = protocol.apply(Prediction("clip", map, ("a",)), Truth(np.ones((1, 4, 4), np.float32), ("a",)))
    assert found.confidence[0] == pytest.approx(wanted)


def test_normalizations() -> None:
    prediction = Prediction("clip", np.array([[[-1.0, 0.0], [0.5, 1.0]]]), ("a",))
    half = Truth(np.ones((1, 2, 2), np.float32), ("a",))
    for normalize, invert, wanted in [
        ("none", False, [-1, 0, 0.5, 1]),
        ({"range": [-1, 1]}, False, [0, 0.5, 0.75, 1]),
        ("minmax", False, [0, 0.5, 0.75, 1]),
        ("minmax", True, [1, 0.5, 0.25, 0]),
        ("minmax_negated", False, [0, 0.5, 0.75, 1]),
        ("relu_max", False, [0, 0, 0.5, 1]),
        ({"range": [0, 2]}, False, [-0.5, 0, 0.25, 0.5]),
    ]:
        found, _ = small(size=2, normalize=normalize, invert=invert).apply(prediction, half)
        assert found.scores.ravel() == pytest.approx(wanted)


def test_the_resize_follows_the_protocol() -> None:
    map = np.array([[[0.0, 1.0]]])
    one = Truth(np.ones((1, 1, 4), np.float32), ("a",))
    scores = {}
    for align in (False, True):
        found, _ = small(size=4, align_corners=align, normalize="none").apply(Prediction("clip", map, ("a",)), one)
        scores[align] = found.scores[0, 0]
    assert scores[False] == pytest.approx([0, 0.25, 0.75, 1])
    assert scores[True] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    found, _ = small(size=4, resize="bicubic", normalize="none").apply(Prediction("clip", map, ("a",)), one)
    assert found.scores.max() > 1  # bicubic overshoots


# Truth


def test_masks_keep_their_values() -> None:
    mask = np.array([[[0.0, 0.5], [1.0, 0.0]]], np.float32)
    _, resized = small(size=6).apply(Prediction("clip", rows(0), ("a",)), Truth(mask, ("a",)))
    assert np.array_equal(resized.masks[0], mask[0].repeat(3, 0).repeat(3, 1))
    _, resized = small(size=2).apply(Prediction("clip", rows(0), ("a",)), Truth(resized.masks, ("a",)))
    assert np.array_equal(resized.masks, mask)
    dot = np.array([[[0, 0, 0], [0, 1, 0], [0, 0, 0]]], np.float32)
    _, resized = small(size=1).apply(Prediction("clip", rows(0), ("a",)), Truth(dot, ("a",)))
    assert resized.masks == 1, "a pixel takes the value at its center"


@pytest.mark.parametrize(
    ("kind", "value"), [("mask", 0.25), ("boxes_union", 1), ("boxes_count", 2), ("boxes_consensus", 1)]
)
def test_boxes(kind: str, value: float) -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 1.0]])
    given = Truth(np.full((2, 8, 8), 0.25, np.float32), ("a", "b"), (boxes, np.zeros((0, 4))))
    _, resized = small(truth=kind).apply(Prediction("clip", rows(0, 1), ("a", "b")), given)
    assert resized.masks[0, 0, 0] == value
    assert (resized.masks[1] == 0.25).all(), "a source without boxes keeps its mask"
    if kind != "mask":
        assert resized.masks[0].sum() == {"boxes_union": 32, "boxes_count": 48, "boxes_consensus": 24}[kind]


def test_avgn_counts_a_box_inside_another_in_one_format_and_not_in_the_other() -> None:
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.25, 0.25]])
    given = Truth(np.zeros((1, 8, 8), np.float32), ("a",), (boxes,))
    prediction = Prediction("clip", np.ones((1, 7, 7)), ("a",))
    sums = {end: load_protocol(f"avgn_released{end}").apply(prediction, given)[1].masks.sum() for end in ("", "_vggss")}
    assert sums == {"": 112**2 + 56**2, "_vggss": 112**2}


def test_rasterize_truncates_clips_and_survives_corrupt_boxes() -> None:
    assert rasterize(np.array([[0.3, 0.0, 0.8, 1.0]]), 1, 4).tolist() == [[0, 1, 1, 0]]
    assert rasterize(np.array([[-1, -1, 2, 2]]), 2, 2).all()
    assert not rasterize(np.array([[0.5, 0.5, -2.88e16, 0.9], [0.5, 0.2, 0.5, 0.9]]), 8, 8).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_rasterize_gives_pixel_corners_back(dtype: type, tiles: int) -> None:
    for pixel in range(1, 224):
        for tile in range(tiles):
            box: Array = np.array([[(pixel / 224 + tile) / tiles, 0, (1 + tile) / tiles, 1]], dtype)
            assert rasterize(box, 1, 224 * tiles).sum() == 224 - pixel


# Matching


def test_maps_are_matched_with_sources_by_name() -> None:
    prediction = Prediction("clip", rows(5, 1, 0), ("c", "b", "a"), np.array([3.0, 2.0, 1.0]))
    found, _ = small().apply(prediction, truth("a", "b", "d"))
    assert found.found.tolist() == [True, True, False]
    assert [mask.any(1).nonzero()[0].tolist() for mask in found.masks] == [[0], [1], []]
    assert found.confidence.tolist() == [1, 2, -np.inf]
    assert found.false_alarms == 1
    assert not found.scores[2].any()


def test_two_sources_of_one_class_share_the_most_confident_map() -> None:
    prediction = Prediction("clip", rows(0, 5), ("a", "a"), np.array([1.0, 2.0]))
    found, _ = small().apply(prediction, truth("a", "a"))
    assert found.masks[:, 5].all()
    assert found.false_alarms == 0


def test_one_unnamed_map_is_used_for_every_source() -> None:
    found, _ = small().apply(Prediction("clip", rows(3)), truth("a", "b"))
    assert found.masks[:, 3].all()
    assert found.found.all()
    assert found.confidence.tolist() == [1, 1]


def test_unnamed_maps_are_matched_with_the_best_fitting_sources() -> None:
    found, _ = small().apply(Prediction("clip", rows(5, 1, 0)), truth("a", "b"))
    assert [mask.any(1).nonzero()[0].tolist() for mask in found.masks] == [[0], [1]]
    assert found.false_alarms == 0
    few, _ = small().apply(Prediction("clip", rows(2, 1)), truth("a", "b", "c"))
    assert few.found.tolist() == [False, True, True]


def test_greedy_takes_the_best_pair_first() -> None:
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, 0], maps[0, 1], maps[0, 7], maps[1, 0], maps[1, 7] = 0.9, 0.8, 1, 0.7, 1
    prediction = Prediction("clip", maps, ("b", "a"))
    for match, wanted in [("hungarian", [0.7, 0.9]), ("greedy", [0.9, 0.7])]:  # the order of the two maps
        found, _ = small(match=match).apply(prediction, truth("a", "b"))
        assert found.scores[:, 0, 0] == pytest.approx(wanted)


def test_broadcast_gives_every_source_the_maximum() -> None:
    prediction = Prediction("clip", rows(0, 5), ("a", "b"), np.array([1.0, 2.0]))
    found, _ = small(match="broadcast").apply(prediction, truth("a", "b"))
    assert found.masks[:, [0, 5]].all()
    assert found.masks.sum() == 32
    assert found.confidence.tolist() == [2, 2]


@pytest.mark.parametrize("match", ["label", "hungarian", "greedy", "broadcast"])
@pytest.mark.parametrize("canvas", ["whole", "tile"])
def test_no_sources_or_no_maps(match: str, canvas: str) -> None:
    protocol = small(match=match, canvas=canvas)
    none = Truth(np.zeros((0, 8, 16), np.float32), ())
    found, resized = protocol.apply(Prediction("clip", rows(0, width=16), ("a",)), none, 2)
    assert len(found.scores) == len(resized.masks) == 0
    assert found.false_alarms == (match in ("label", "hungarian", "greedy"))
    found, _ = protocol.apply(Prediction("clip", np.zeros((0, 8, 16), np.float32)), truth("a", "b", tiles=2), 2)
    assert not found.found.any()
    assert not found.masks.any()


# Canvases


def test_canvas_whole_and_tile() -> None:
    maps = np.zeros((2, 8, 16), np.float32)
    maps[0, 0, :8], maps[0, 5, 8:] = 1, 9  # high on the wrong tile
    maps[1, 1, 8:] = 1
    prediction, sources = Prediction("clip", maps, ("a", "b")), truth("a", "b", tiles=2)
    whole, resized = small().apply(prediction, sources, 2)
    assert whole.masks.shape == resized.masks.shape == (2, 8, 16)
    assert not whole.masks[0, 0].any()
    alone, resized = small(canvas="tile").apply(prediction, sources, 2)
    assert alone.masks.shape == resized.masks.shape == (2, 8, 8)
    assert np.array_equal(alone.masks, resized.masks > 0)


def test_tiles_must_fit_the_maps() -> None:
    with pytest.raises(AvlocError, match="do not split into 2 tiles"):
        small(canvas="tile").apply(Prediction("clip", rows(0, width=7), ("a",)), truth("a", tiles=2), 2)


# Object-guided refinement


def test_a_refined_map_is_the_sum_with_the_prior() -> None:
    """EZ-VSL: both min-maxed at full size, summed, and min-maxed again; computed here by hand."""
    rng = np.random.default_rng(0)
    map, prior = rng.normal(size=(8, 8)).astype(np.float32), rng.random((8, 8)).astype(np.float32) * 7
    found, _ = small(refine={"alpha": 0.4, "control": "saliency"}).apply(
        Prediction("clip", map[None], ("a",)), truth("a"), prior=prior
    )

    def minmax(x: Array) -> Array:
        return (x - x.min()) / (x.max() - x.min())

    assert np.allclose(found.scores[0], minmax(0.4 * minmax(map) + 0.6 * minmax(prior)), atol=1e-5)


def test_maps_on_an_absolute_scale_stay_there() -> None:
    """SLAVC: cosines to [0, 1], the prior divided by its range, no min-max."""
    map, prior = np.full((1, 8, 8), 0.5, np.float32), np.full((8, 8), 1.25, np.float32)
    protocol = small(refine={"alpha": 0.9, "control": "saliency", "prior_range": 2.5}, normalize={"range": [-1, 1]})
    found, _ = protocol.apply(Prediction("clip", map, ("a",)), truth("a"), prior=prior)
    assert np.allclose(found.scores, 0.9 * 0.75 + 0.1 * 0.5)


def test_all_of_the_prior_is_the_prior_and_none_of_it_the_map() -> None:
    map, prior = rows(2), rows(5)[0]
    for alpha, row in ((0.0, 5), (1.0, 2)):
        found, _ = small(refine={"alpha": alpha, "control": "saliency"}).apply(
            Prediction("clip", map, ("a",)), truth("a"), prior=prior
        )
        assert np.array_equal(found.masks[0], rows(row)[0] > 0)


def test_tiles_are_refined_by_their_own_prior() -> None:
    map, prior = np.zeros((2, 8, 16)), np.concatenate([rows(1)[0], rows(6)[0]], axis=1)
    protocol = small(refine={"alpha": 0.0, "control": "saliency"}, canvas="tile")
    found, _ = protocol.apply(Prediction("clip", map, ("a", "b")), truth("a", "b", tiles=2), tiles=2, prior=prior)
    assert np.array_equal(found.masks, rows(1, 6) > 0)


def test_refining_without_a_prior_is_an_error_and_says_so_in_the_table() -> None:
    protocol = small(refine={"alpha": 0.4, "control": "saliency"})
    assert "refined by the object prior, 60% of the sum" in protocol.describe()
    with pytest.raises(AvlocError, match="no object prior"):
        protocol.apply(Prediction("clip", rows(0), ("a",)), truth("a"))


@pytest.mark.parametrize("preset", ["avloc", "tvsl_released"])
def test_maps_without_names_are_distinguished_from_named_ones_and_from_none(preset: str) -> None:
    protocol, truth = (
        load_protocol(preset),
        Truth(np.ones((1, 4, 4), np.float32), ("dog",), (np.array([[0, 0, 1, 1]]),)),
    )
    maps = np.random.default_rng(0).random((1, 4, 4))
    assert not protocol.apply(Prediction("a", maps), truth)[0].named
    assert protocol.apply(Prediction("a", maps, ("dog",)), truth)[0].named
    assert protocol.apply(Prediction("a", maps[:0]), truth)[0].named


def test_a_clip_of_which_no_source_was_found_has_no_highest_quarter() -> None:
    assert top_quarter(np.zeros((0, 8, 8), np.float32)).shape == (0,)
    np.testing.assert_allclose(top_quarter(np.arange(8.0, dtype=np.float32).reshape(1, 2, 4)), [6.5])


def test_an_exponent_moves_what_is_claimed_and_no_average_precision() -> None:
    rng = np.random.default_rng(0)
    maps, mask = rng.random((1, 7, 7)), np.zeros((1, 112, 112), np.float32)
    mask[0, 20:70, 30:90] = 1
    prediction, truth = Prediction("a", maps, ("dog",)), Truth(mask, ("dog",))
    claimed, precision = [], []
    for exponent in (1, 0.25, 3):
        protocol = load_protocol({"preset": "avloc", "size": 112, "exponent": exponent})
        found, at_size = protocol.apply(prediction, truth)
        plain, _ = load_protocol({"preset": "avloc", "size": 112}).apply(prediction, truth)
        np.testing.assert_allclose(found.scores, plain.scores**exponent, rtol=1e-5)
        claimed.append(found.masks.mean())
        precision.append(average_precision_score(at_size.masks.ravel() > 0, found.scores.ravel()))
    assert claimed[1] > 1.5 * claimed[0] and claimed[2] < 0.7 * claimed[0]
    assert np.ptp(precision) < 1e-4


def test_an_exponent_keeps_the_order_of_values_below_zero() -> None:
    maps = np.linspace(-1, 1, 16).reshape(1, 4, 4)
    protocol = load_protocol({"preset": "avloc", "size": 4, "normalize": "none", "exponent": 0.5})
    found, _ = protocol.apply(Prediction("a", maps, ("dog",)), Truth(np.ones((1, 4, 4), np.float32), ("dog",)))
    assert (np.diff(found.scores.ravel()) > 0).all() and found.scores.min() == -1


@pytest.mark.parametrize("exponent", [0, -1, "half"])
def test_an_exponent_is_above_zero(exponent: Any) -> None:
    with pytest.raises(AvlocError, match="exponent"):
        load_protocol({"preset": "avloc", "exponent": exponent})
