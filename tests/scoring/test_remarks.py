"""What must be known about a row: maps of two values, maps that the truth assigned, and maps of another canvas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

import avloc
from avloc import AvlocError, Prediction, Truth
from avloc.cli import app
from avloc.results import score_external
from avloc.scoring import load_protocol, preset_names

FIT = {
    "avloc", "as_written", "lvs", "acl", "dsol_solo", "dsol_duet", "dsol_synthetic", "coarse_to_fine",
    "coarse_to_fine_original", "vssl_eval",
}  # fmt: skip
"""The protocols that claim the higher of two values, however large the box."""


def box(share: float = 0.2, size: int = 224, wide: int = 1) -> npt.NDArray[np.float32]:
    map = np.zeros((size, size * wide), np.float32)
    map[:, : round(share * size * wide)] = 1
    return map


@pytest.mark.parametrize("preset", preset_names())
def test_a_protocol_fits_boxes_or_says_what_it_claims(preset: str) -> None:
    protocol = load_protocol(preset)
    claims = [protocol.misread(box(share)) for share in (0.1, 0.4, 0.7)]
    assert (claims == ["", "", ""]) == (preset in FIT)
    if preset in ("avloc", "as_written", "acl"):  # the edges of small maps are ramps when enlarged
        assert protocol.misread(box(size=14)) == protocol.misread(np.eye(7)) == ""
    noise = np.random.default_rng(0).random((32, 32))
    assert protocol.misread(noise) == protocol.misread(noise * 0) == ""


def test_the_help_names_the_protocols_that_fit_boxes() -> None:
    text = re.sub(r"[\s│]+", " ", CliRunner().invoke(app, ["score", "--help"], env={"COLUMNS": "300"}).output)
    (named,) = re.findall(r"not every protocol is made for: (.*?) claim their higher value", text)
    assert set(re.split(r", | and ", named)) == FIT


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        *[
            (name, "the whole frame for 3")
            for name in ("ezvsl", "ezvsl_train", "fnac", "flickr", "slavc", "acl_median")
        ],
        *[(name, "the whole frame for 3") for name in preset_names() if name.startswith(("avgn", "slavc_abs"))],
        ("sslalignment_adaptive", "nothing for 3"),
        ("tvsl_released", "other pixels than the higher ones for 3"),
        ("avloc", ""),
        ("lvs", ""),
        ("sslalignment", ""),
    ],
)
def test_boxes_under_a_protocol_that_is_not_made_for_them(preset: str, words: str) -> None:
    maps = {str(share): box(share) for share in (0.1, 0.2, 0.4)}
    found = avloc.evaluate(maps, maps, preset, ["ciou_mean"])
    assert (found.values["ciou_mean"] == pytest.approx(1)) == (not words)
    assert bool(found.remarks) == bool(words)
    if words:
        (remark,) = found.remarks
        assert remark.startswith("3 of 3 maps have two values") and words in remark


def test_only_maps_of_two_values_are_counted() -> None:
    maps = {"a": box(), "b": np.random.default_rng(0).random((224, 224)), "c": 0.3 + 0.1 * box(), "d": box() * 0}
    found = avloc.evaluate(maps, dict.fromkeys(maps, box()), "ezvsl", ["ciou_mean"])
    assert found.remarks[0].startswith("2 of 4 maps have two values")


def test_the_adaptive_rule_claims_less_than_the_truth_s_number_of_pixels() -> None:
    """Above the value that leaves the truth's area (evaluators.md, E1): a perfect box has no pixel above its own."""
    perfect, small = box(0.5), box(0.25)
    for map, wanted in ((perfect, 0.0), (small, 0.5), (box(0.75), 0.0)):
        assert avloc.evaluate({"a": map}, {"a": perfect}, "sslalignment_adaptive", ["ciou_mean"]).values == {
            "ciou_mean": pytest.approx(wanted, abs=0.01)
        }


@pytest.mark.parametrize(
    ("match", "labels", "maps", "counted"),
    [
        ("label", (), 2, True),
        ("label", ("x", "y"), 2, False),
        ("label", (), 1, False),
        ("hungarian", ("x", "y"), 2, True),
        ("greedy", ("x", "y"), 2, True),
        ("broadcast", (), 2, False),
    ],
)
def test_maps_that_the_truth_assigned(match: str, labels: tuple[str, ...], maps: int, counted: bool) -> None:
    rng = np.random.default_rng(0)
    predictions = {id: Prediction(id, rng.random((maps, 8, 8)), labels) for id in "abc"}
    truths = {id: Truth(np.stack([box(0.5, 8), 1 - box(0.5, 8)]), ("x", "y")) for id in "abc"}
    found = avloc.evaluate(predictions, truths, {"preset": "avloc", "size": 8, "match": match}, ["ciou_mean"])
    assert [remark.startswith("in 3 of 3 clips") for remark in found.remarks] == [True] * counted


@pytest.mark.parametrize(
    ("shape", "canvas", "tiles", "fits"),
    [
        ((7, 14), (224, 448), 2, True),
        ((7, 7), (224, 448), 2, False),
        ((256, 256), (256, 512), 2, False),
        ((7, 21), (224, 448), 2, False),
        ((36, 64), (360, 1280), 2, False),  # one wide frame
        ((18, 64), (360, 1280), 2, True),
        ((7, 14), (360, 1280), 2, True),  # two squares
        ((4, 15), (64, 250), 2, True),  # the canvas' own aspect, as far as cells can have it
        ((7, 7), (360, 640), 1, True),
        ((9, 16), (360, 640), 1, True),
        ((12, 16), (360, 640), 1, True),
        ((7, 14), (224, 224), 1, False),
        ((256, 768), (256, 256), 1, False),
        ((7, 14), (300, 600), 1, True),
    ],
)
def test_maps_must_cover_the_canvas(shape: tuple[int, int], canvas: tuple[int, int], tiles: int, fits: bool) -> None:
    maps, masks = {"m1": np.random.default_rng(0).random(shape)}, {"m1": np.ones(canvas)}
    if fits:
        assert avloc.evaluate(maps, masks, metrics=["cap"], tiles=tiles).values == {"cap": 1}
        return
    with pytest.raises(AvlocError, match=rf"'m1': maps are {shape[0]} x {shape[1]} but the canvas has {tiles} frame"):
        avloc.evaluate(maps, masks, metrics=["cap"], tiles=tiles)


@pytest.mark.parametrize("kind", ["npz", "mask"])
def test_a_file_with_maps_of_one_frame_for_two_is_named(world: Any, tmp_path: Path, kind: str) -> None:
    spec, maps = "{name: blocks, count: 4}", tmp_path / "maps"
    maps.mkdir()
    wide = box(0.5, 8, wide=2)
    if kind == "npz":
        np.savez(maps / "test0.npz", maps=wide)
    else:
        (maps / "a.json").write_text(json.dumps({"test0": [{"mask": wide.tolist()}]}))
    with pytest.raises(AvlocError, match=r"(test0\.npz|a\.json), clip 'test0': maps are 8 x 16 but the canvas has 1"):
        score_external(maps, spec, results=tmp_path / "r")


def test_a_row_of_boxes_is_marked_in_its_table(world: Any, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    sources = {f"test{n}": [{"box": [0.1, 0.1, 0.4, 0.6]}] for n in range(4)}
    (maps / "a.json").write_text(json.dumps(sources))
    for protocol, marked in (("ezvsl", True), ("avloc", False)):
        found = score_external(maps, "{name: blocks, count: 4}", protocol=protocol, results=tmp_path / "r")
        table = found.table()
        assert bool(table.rows[0].mark) == marked
        assert any("4 of 4 maps have two values" in note for note in table.notes) == marked
