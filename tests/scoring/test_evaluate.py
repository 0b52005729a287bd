"""`avloc.evaluate`: against numbers computed by hand, pixel by pixel, and every error."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import avloc
from avloc import AvlocError, Metric, Prediction, Truth, hookimpl, load_protocol
from avloc.registry import registry

Array = npt.NDArray[Any]
PLAIN = {"preset": "avloc", "size": 8, "truth": "mask"}
RNG = np.random.default_rng(0)
MAPS = {name: RNG.normal(size=(2, 8, 8)) for name in "abc"}
MASKS = {name: (RNG.random((2, 8, 8)) < 0.3) for name in "abc"}


def test_the_numbers_are_those_of_a_plain_loop() -> None:
    """Min-max, a threshold of 0.5, cIoU, success and AP for every source, one pixel after another."""
    predictions = {id: Prediction(id, maps, ("dog", "cat")) for id, maps in MAPS.items()}
    truths = {id: Truth(masks.astype(np.float32), ("cat", "dog")) for id, masks in MASKS.items()}
    found = avloc.evaluate(predictions, truths, PLAIN, ["ciou_mean", "ciou_success@0.2", "pixel_ap"])
    cious, aps = [], []
    for id in "abc":
        for source, index in ((0, 1), (1, 0)):  # the maps stand in the other order
            map, mask = MAPS[id][index], MASKS[id][source]
            low, high = map.min(), map.max()
            both = either = 0
            for value, true in zip(map.ravel(), mask.ravel(), strict=True):
                claimed = (value - low) / (high - low) >= 0.5
                both, either = both + (claimed and true), either + (claimed or true)
            cious.append(both / either)
            ranked = [true for _, true in sorted(zip(map.ravel(), mask.ravel(), strict=True), reverse=True)]
            precisions = [sum(ranked[: n + 1]) / (n + 1) for n, true in enumerate(ranked) if true]
            aps.append(sum(precisions) / len(precisions))
    assert found.rows.ciou_mean.to_list() == pytest.approx(cious)
    assert found.rows.pixel_ap.to_list() == pytest.approx(aps)
    rate = sum(ciou >= 0.2 for ciou in cious) / 6
    assert found.values == pytest.approx(
        {"ciou_mean": sum(cious) / 6, "ciou_success@0.2": rate, "pixel_ap": sum(aps) / 6}
    )
    assert 0 < rate < 1
    assert found.rows[["clip", "source", "label"]].to_numpy().tolist() == [
        [id, n, label] for id in "abc" for n, label in enumerate(("cat", "dog"))
    ]
    assert found.protocol == load_protocol(PLAIN)


def test_arrays_without_names_are_maps_and_masks() -> None:
    one = {id: maps[0] for id, maps in MAPS.items()}
    plain = avloc.evaluate(one, {id: masks[0] for id, masks in MASKS.items()}, load_protocol(PLAIN), ["ciou_mean"])
    named = avloc.evaluate(
        {id: Prediction(id, map[None]) for id, map in one.items()},
        {id: Truth(masks[:1].astype(np.float32), ("dog",)) for id, masks in MASKS.items()}, PLAIN, ["ciou_mean"],
    )  # fmt: skip
    assert plain.values == named.values and set(plain.rows.label) == {""}


def test_clips_without_a_prediction_are_counted_and_the_suites_metrics_are_the_default() -> None:
    found = avloc.evaluate({"a": MAPS["a"]}, MASKS, PLAIN)
    assert (found.counts.listed, found.counts.scored) == (3, 1)
    assert found.counts.missing == {"b": "it has no prediction", "c": "it has no prediction"}
    assert list(found.values) == ["cap", "ciou_success@0.3", "ciou_mean", "auc"]
    nothing = avloc.evaluate({}, MASKS, PLAIN, ["cap"])
    assert np.isnan(nothing.values["cap"]) and nothing.counts.scored == 0


def test_canvases_of_several_tiles_and_priors() -> None:
    wide = np.concatenate([MAPS["a"][0], 9 * MAPS["b"][0]], axis=1)
    mask = np.concatenate([MASKS["a"][0], np.zeros((8, 8))], axis=1)
    alone = avloc.evaluate({"a": MAPS["a"][0]}, {"a": MASKS["a"][0]}, PLAIN, ["ciou_mean"])
    tile = avloc.evaluate({"a": wide}, {"a": mask}, {**PLAIN, "canvas": "tile"}, ["ciou_mean"], tiles=2)
    assert tile.values == alone.values
    rules = {**PLAIN, "refine": {"alpha": 0.0, "control": "saliency"}}
    refined = avloc.evaluate({"a": -wide[:, :8]}, {"a": mask[:, :8]}, rules, ["ciou_mean"], priors={"a": wide[:, :8]})
    assert refined.values == alone.values


@pytest.mark.parametrize(
    ("predictions", "truths", "others", "words"),
    [
        ({"aa": MAPS["a"]}, MASKS, {}, "no clip 'aa'.*Did you mean 'a'"),
        ({"a": MAPS["a"][0, 0]}, MASKS, {}, r"Clip 'a': maps should be .*\(h, w\)"),
        ({"a": np.array([["x"]])}, MASKS, {}, "Clip 'a': maps should be numbers"),
        ({"a": MAPS["a"]}, {"a": 255 * MASKS["a"]}, {}, r"Clip 'a': masks should be in \[0, 1\].*255"),
        ({"a": MAPS["a"] * np.nan}, MASKS, {}, "'a': maps have values that are not finite"),
        ({"a": Prediction("b", MAPS["a"])}, MASKS, {}, "is of clip 'b'"),
        ({"a": Prediction("a", MAPS["a"], ("x", "y"))}, MASKS, {}, "its maps have names but its masks have not"),
        (MAPS, MASKS, {"metrics": ["ciou_succes@0.3"]}, "Did you mean 'ciou_success'"),
        (MAPS, MASKS, {"metrics": ["ciou_success@high"]}, "after @ there should be a number"),
        (MAPS, MASKS, {"protocol": "ezvls"}, "Did you mean 'ezvsl'"),
        (MAPS, MASKS, {"protocol": {**PLAIN, "refine": {"alpha": 0.4, "control": "saliency"}}}, "no object prior"),
    ],
)
def test_what_does_not_fit_is_a_sentence(predictions: Any, truths: Any, others: dict[str, Any], words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        avloc.evaluate(predictions, truths, **{"protocol": PLAIN, "metrics": ["cap"], **others})


class Strange(Metric):
    """A metric that breaks the rules in a chosen way."""

    key = "strange"

    def __init__(self, *, kind: str = "raises") -> None:
        self.kind = kind

    def rows(self, found: Any, truth: Any) -> Any:
        if self.kind == "writes":
            found.scores[:] = 0
        if self.kind == "hides":
            truth.masks[:] = 0
        if self.kind == "unlocks":
            found.masks.flags.writeable = True
        width = int(truth.masks.sum()) if self.kind == "width" else 1
        shape = {"flat": (2,), "few": (1, 1), "empty": (2, 0)}.get(self.kind, (2, width))
        if self.kind == "exits":
            raise SystemExit(3)
        return np.ones(shape) if self.kind != "raises" else {}["nothing"]

    def reduce(self, rows: Any) -> float:
        if self.kind == "sorts":
            rows.sort()
        if self.kind == "reduce":
            raise ZeroDivisionError("no rows at all")
        return {"percent": 73.0, "minus": -2.0, "infinite": np.inf}.get(self.kind, 0.5)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raises", "on clip 'a': KeyError: 'nothing'"),
        ("exits", "on clip 'a': SystemExit: 3"),
        ("writes", "on clip 'a': ValueError: .*read-only"),
        ("hides", "on clip 'a': ValueError: .*read-only"),
        ("unlocks", "on clip 'a': ValueError: cannot set WRITEABLE flag to True"),
        ("flat", r"on clip 'a': rows should return .* \(2, k\), one row per true source, but returned \(2,\)"),
        ("few", r"but returned \(1, 1\)"),
        ("empty", r"but returned \(2, 0\)"),
        ("width", "clip '.' has no column strange#.*, but every clip should have as many"),
        ("reduce", "ZeroDivisionError: no rows at all"),
        ("sorts", "ValueError: .*read-only"),
        ("percent", "reduce should return a fraction, from -1 to 1, but returned 73"),
        ("minus", "but returned -2"),
        ("infinite", "but returned inf"),
    ],
)
def test_a_metric_that_fails_costs_its_own_column(kind: str, words: str) -> None:
    class Plugin:
        @hookimpl
        def avloc_metrics(self) -> dict[str, Any]:
            return {"strange": type("Kind", (Strange,), {"__init__": lambda self: Strange.__init__(self, kind=kind)})}

    registry.cache_clear()
    registry().add_module("strange", Plugin())
    found = avloc.evaluate(MAPS, MASKS, PLAIN, ["ciou_mean", "strange", "cap"])
    registry.cache_clear()
    assert list(found.failed) == ["strange"] and re.search(words, found.failed["strange"]), found.failed
    assert np.isnan(found.values.pop("strange"))
    alone = avloc.evaluate(MAPS, MASKS, PLAIN, ["ciou_mean", "cap"])
    assert found.values == alone.values
    pd.testing.assert_frame_equal(found.rows, alone.rows)


@pytest.mark.parametrize("key", ["label", "clip", "cap#1"])
def test_a_metric_cannot_take_the_columns_of_others(key: str) -> None:
    class Plugin:
        @hookimpl
        def avloc_metrics(self) -> dict[str, Any]:
            return {"strange": type("Taking", (Strange,), {"key": key})}

    registry.cache_clear()
    registry().add_module("strange", Plugin())
    with pytest.raises(AvlocError, match=f"'strange' has the key {key!r}; it should be none of clip, group"):
        avloc.evaluate(MAPS, MASKS, PLAIN, ["strange", "cap"])
    registry.cache_clear()


def test_a_metric_below_chance_is_a_fraction() -> None:
    class Plugin:
        @hookimpl
        def avloc_metrics(self) -> dict[str, Any]:
            return {"strange": type("Below", (Strange,), {"reduce": lambda self, rows: -0.25, "rows": _ones})}

    registry.cache_clear()
    registry().add_module("strange", Plugin())
    assert avloc.evaluate(MAPS, MASKS, PLAIN, ["strange"]).values == {"strange": -0.25}
    registry.cache_clear()


def _ones(self: Any, found: Any, truth: Any) -> Any:
    return np.ones((len(truth.labels), 1))
