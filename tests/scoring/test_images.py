"""IIoU and IAUC: one image with several sounds, in one clip or in several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import avloc
from avloc import Clip, Dataset, Prediction, Sample, Truth, hookimpl
from avloc.registry import registry
from avloc.results import score_external
from avloc.scoring.scores import same_images

METRICS = ["ciou_success@0.5", "interactive_ciou@0.5", "interactive_auc"]
PLAIN = {"preset": "avloc", "size": 8}
LEFT, RIGHT = (np.zeros((8, 8), np.float32) for _ in range(2))
LEFT[:, :4] = RIGHT[:, 4:] = 1
RIGHT_ONES = {("0", "cat"), ("0", "dog"), ("1", "cat")}
"""Image 0 has both sounds right, image 1 one of them, image 2 none."""


def clips() -> dict[str, tuple[str, str, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Id -> image, class, mask and map: two clips per image."""
    found = {}
    for image in "012":
        for label, mask in (("cat", LEFT), ("dog", RIGHT)):
            found[f"{image} {label}"] = image, label, mask, mask if (image, label) in RIGHT_ONES else 1 - mask
    return found


def evaluated(groups: Mapping[str, str] | None) -> dict[str, float]:
    maps = {id: Prediction(id, map[None], (label,)) for id, (_, label, _, map) in clips().items()}
    truths = {id: Truth(mask[None], (label,)) for id, (_, label, mask, _) in clips().items()}
    return avloc.evaluate(maps, truths, PLAIN, METRICS, groups=groups).values


def test_the_sounds_of_an_image_in_clips_of_their_own() -> None:
    found = evaluated({id: image for id, (image, *_) in clips().items()})
    assert found == pytest.approx({METRICS[0]: 1 / 2, METRICS[1]: 1 / 3, METRICS[2]: 0.35})


def test_without_a_group_no_image_has_two_sounds() -> None:
    found = evaluated(None)
    assert found[METRICS[0]] == 0.5 and np.isnan(found[METRICS[1]]) and np.isnan(found[METRICS[2]])


def test_an_image_with_one_sound_counts_where_others_have_two() -> None:
    groups = {id: image for id, (image, *_) in clips().items()}
    assert evaluated({**groups, "0 dog": "other"})[METRICS[1]] == 2 / 4


def test_a_clip_of_two_sources_needs_no_group() -> None:
    maps = {"one": Prediction("one", np.stack([LEFT, LEFT]), ("cat", "dog"))}
    truths = {"one": Truth(np.stack([LEFT, RIGHT]), ("cat", "dog"))}
    assert avloc.evaluate(maps, truths, PLAIN, METRICS).values[METRICS[1]] == 0


@pytest.mark.parametrize(
    ("groups", "labels", "pixels", "wanted"),
    [
        ("aabb", "cdcd", "1234", [[0, 1], [2, 3]]),  # a group, other classes
        ("aabb", "cccd", "1234", [[0], [1], [2, 3]]),  # one class: two moments of a video
        ("abcd", "cccc", "1122", [[0, 1], [2, 3]]),  # the same pixels
        ("aacd", "cdcd", "1223", [[0, 1, 2], [3]]),  # either
    ],
)
def test_what_one_image_is(groups: str, labels: str, pixels: str, wanted: list[list[int]]) -> None:
    ids = [f"clip{n}" for n in range(4)]
    rows = pd.DataFrame({"clip": ids, "group": list(groups), "label": list(labels)})
    found = same_images(rows, dict(zip(ids, pixels, strict=True)))
    assert sorted([n for n in range(4) if found[n] == name] for name in set(found)) == wanted


class Interactive(Dataset):
    """The clips above; `shared`: those of one image have the same pixels, `named`: the same group."""

    title = "Interactive"
    classes = ("cat", "dog")

    def __init__(self, root: Path | None, *, split: str, shared: bool = True, named: bool = False) -> None:
        self.shared, self.named = shared, named

    def ids(self) -> list[str]:
        return list(clips())

    def load(self, id: str) -> Sample:
        image, label, mask, _ = clips()[id]
        pixels = np.full((8, 8, 3), int(image) + (0 if self.shared or label == "cat" else 9), np.uint8)
        clip = Clip(id, pixels, np.ones(100, np.float32), 100, group=image if self.named else id)
        return Sample(clip, Truth(mask[None], (label,)), (label,))


class Plugin:
    @hookimpl
    def avloc_datasets(self) -> dict[str, Any]:
        return {"interactive": Interactive}


@pytest.mark.parametrize(
    ("shared", "named", "wanted"),
    [(True, False, ["33.3", "35.0"]), (False, True, ["33.3", "35.0"]), (False, False, ["—", "—"])],
)
def test_the_same_pixels_or_group_in_a_table(tmp_path: Path, shared: bool, named: bool, wanted: list[str]) -> None:
    registry.cache_clear()
    registry().add_module("interactive", Plugin())
    (tmp_path / "maps").mkdir()
    for id, (_, label, _, map) in clips().items():
        np.savez(tmp_path / "maps" / f"{id}.npz", maps=map, labels=[label])
    spec = f"{{name: interactive, shared: {shared}, named: {named}}}"
    found = score_external(tmp_path / "maps", spec, metrics=METRICS, results=tmp_path / "r")
    registry.cache_clear()
    table = found.table(intervals=True)
    cells = table.rows[0].cells[0]
    assert [cell.text.partition(" ")[0] for cell in cells] == ["50.0", *wanted]
    assert any("no image has two sounds" in note for note in table.notes) == (wanted[0] == "—")
