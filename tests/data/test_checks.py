"""A minimal data set has correct defaults, and its return values are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import Clip, DataError, Dataset, Sample, Truth
from avloc.data import check_splits, load_clip, load_truth


class Mine(Dataset):
    """All that a data set needs."""

    classes = ("dog", "cat")

    def __init__(self, root: Path | None = None, *, split: str = "test", value: int = 9, **changes: Any) -> None:
        self.split, self.value, self.changes = split, value, changes

    def ids(self) -> list[str]:
        return [f"{self.split}{n}" for n in range(3)]

    def load(self, id: str) -> Sample:
        if id.endswith("1"):
            raise ValueError("cannot decode")
        clip = Clip(id, np.full((4, 6, 3), self.value, np.uint8), np.ones(8, np.float32), 8)
        truth = Truth(np.ones((1, 4, 6), np.float32), ("dog",), (np.array([[0.0, 0, 1, 1]]),))
        made = {"clip": clip, "truth": truth, "labels": ("dog",), **self.changes}
        return Sample(**made)


def test_three_members_make_a_data_set() -> None:
    data = Mine()
    status = data.status()
    assert status.present == ("test0", "test2") and status.broken == {"test1": "ValueError: cannot decode"}
    assert data.labels("test0") == ("dog",) and data.truth("test0").labels == ("dog",) and not status.missing
    assert data.content("test0") == Mine().content("test0") == data.content("test2")
    assert data.fingerprint() == Mine().fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        Mine(split="val"), Mine(value=8), Mine(labels=("cat",)), Mine(truth=None),
        Mine(truth=Truth(np.ones((1, 4, 6), np.float32), ("cat",), (np.array([[0.0, 0, 1, 1]]),))),
        Mine(truth=Truth(np.ones((1, 4, 6), np.float32), ("dog",), (np.array([[0.0, 0, 1, 0.5]]),))),
        Mine(truth=Truth(np.zeros((1, 4, 6), np.float32), ("dog",), (np.array([[0.0, 0, 1, 1]]),))),
    ],
)  # fmt: skip
def test_the_fingerprint_follows_everything(other: Mine) -> None:
    assert other.fingerprint() != Mine().fingerprint()


def test_a_clip_without_truth_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="'test0' has no annotation"):
        Mine(truth=None).truth("test0")


def test_an_id_is_one_clip_of_one_split() -> None:
    class Twice(Mine):
        def ids(self) -> list[str]:
            return ["a", "b", "a"]

    check_splits("mine", {"train": Mine(split="train"), "test": Mine()})
    with pytest.raises(DataError, match="mine: the clip 'a' is in the val split twice"):
        check_splits("mine", {"val": Twice()})
    with pytest.raises(DataError, match="mine: the clip 'test0' is in the train and the test split"):
        check_splits("mine", {"train": Mine(), "test": Mine()})
    leaking = Mine()
    leaking.leaks = True
    check_splits("mine", {"train": leaking, "test": Mine()})


TRUTH = Truth(np.ones((1, 4, 6), np.float32), ("dog",))
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "label": ({"labels": ("cow",)}, "the label 'cow' is not in the data set's classes"),
    "true label": ({"truth": replace(TRUTH, labels=("cow",))}, "the label 'cow' is not in the data set's classes"),
    "size": ({"truth": Truth(np.ones((1, 6, 4), np.float32), ("dog",))}, r"masks must have the image's size, \(4, 6\)"),
    "pixels": ({"truth": replace(TRUTH, boxes=(np.array([[0, 0, 6, 4]]),))}, r"boxes must be shares of the canvas"),
    "flat": ({"truth": replace(TRUTH, boxes=(np.zeros(4),))}, r"must be \(n, 4\), but are \(4,\)"),
    "id": ({"clip": Clip("x", np.zeros((4, 6, 3), np.uint8), np.ones(8, np.float32), 8)}, "returned the clip 'x'"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_clip_names_it(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=f"Mine, clip 'test0': .*{words}"):
        load_clip(Mine(**changes), "test0")


def test_truths_are_checked_without_their_clip() -> None:
    assert load_truth(Mine(), "test0").labels == ("dog",) and load_clip(Mine(), "test0").clip.id == "test0"
    with pytest.raises(DataError, match="Mine, clip 'test0': boxes must be shares"):
        load_truth(Mine(truth=replace(TRUTH, boxes=(np.array([[0, 0, 6, 4]]),))), "test0")


def test_whatever_it_raises_names_the_clip() -> None:
    for method in (load_clip, load_truth):
        with pytest.raises(DataError, match="Mine, clip 'test1': ValueError: cannot decode"):
            method(Mine(), "test1")

    class Plain(Mine):
        def load(self, id: str) -> Any:
            return id

    with pytest.raises(DataError, match=r"load should return avloc\.Sample, not str"):
        load_clip(Plain(), "test0")
