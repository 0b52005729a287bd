"""Zero-shot splits and side-by-side canvases, derived from any data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import AvlocError, DataError, Dataset, get_component
from avloc.suite import load_suite
from avloc.testing import CLASSES
from helpers.published import copied, needs_copies

DUETS = {"name": "toybox_duet", "train": 30, "val": 12, "test": 24, "bank": 60}
SINGLES = {"name": "toybox_single", "train": 30, "val": 12, "test": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root for the clips of this file."""
    return tmp_path_factory.mktemp("toybox")


def opened(name: str, root: Path | None, split: str, **parameters: Any) -> Dataset:
    dataset: Dataset = get_component("dataset", name)(root, split=split, **parameters)
    dataset.prepare()
    return dataset


# Zero-shot.


@pytest.mark.parametrize("of", [SINGLES, DUETS])
def test_the_test_shares_no_name_and_no_clip_with_training(made: Path, of: dict[str, Any]) -> None:
    splits = {split: opened("zero_shot", made, split, of=of) for split in ("train", "val", "test")}
    whole = opened(of["name"], made, "test", **{key: value for key, value in of.items() if key != "name"})
    seen, unseen = set(splits["train"].classes), set(splits["test"].classes)
    assert seen == set(splits["val"].classes) and not seen & unseen
    assert seen | unseen == set(whole.classes) and len(unseen) == len(whole.classes) // 2
    for split, data in splits.items():
        assert data.ids(), split
        assert set(data.status().present) == set(data.ids())
        for id in data.ids():
            assert set(data.labels(id)) <= set(data.classes)
            assert data.load(id).labels == data.labels(id)
    members = {split: {part for id in data.ids() for part in id.split("+")} for split, data in splits.items()}
    assert not members["test"] & (members["train"] | members["val"])
    left_out = set(whole.ids()) - set(splits["test"].ids())
    assert left_out and all(set(whole.labels(id)) & seen for id in left_out)
    assert "left out" in splits["test"].notes[-1]


def test_which_classes_are_unseen_depends_on_the_names_alone(world: Any) -> None:
    few, many = (opened("zero_shot", None, "test", of={"name": "blocks", "count": n}) for n in (8, 30))
    assert few.classes == many.classes and few.fingerprint() != many.fingerprint()
    data, whole = opened("zero_shot", None, "train", of="blocks"), opened("blocks", None, "train")
    for id in data.ids():
        assert data.content(id) == whole.content(id)
        assert np.array_equal(data.truth(id).masks, whole.truth(id).masks)


def test_missing_media_are_reported(world: Any) -> None:
    ids = opened("zero_shot", None, "test", of={"name": "blocks", "count": 30}).ids()
    data = opened("zero_shot", None, "test", of={"name": "blocks", "count": 30, "gone": [ids[0], "test999"]})
    assert data.status().missing == {ids[0]: "no file"} and list(data.ids()) == list(ids)


def test_classes_may_be_chosen(world: Any) -> None:
    chosen: dict[str, Any] = {"of": "blocks", "unseen": ["rain", "bell"]}
    train, test = (opened("zero_shot", None, split, **chosen) for split in ("train", "test"))
    assert (train.classes, test.classes) == (("cat", "dog", "drum", "horn", "song", "train"), ("bell", "rain"))
    assert {label for id in train.ids() for label in train.labels(id)} == set(train.classes)


@pytest.mark.parametrize(
    ("unseen", "words"),
    [([], "one half is empty"), ([*CLASSES], "one half is empty"), (["bel"], "Did you mean 'bell'")],
)
def test_both_halves_need_a_class(world: Any, unseen: list[str], words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        opened("zero_shot", None, "test", of="blocks", unseen=unseen)


def test_a_half_without_clips_is_reported(world: Any) -> None:
    one = {"name": "blocks", "count": 1}
    (label,) = opened("blocks", None, "test", count=1).labels("test0")
    others = [name for name in CLASSES if name != label]
    with pytest.raises(AvlocError, match=r"no clip of this split.*unseen: \["):
        opened("zero_shot", None, "test", of=one, unseen=others).ids()


@needs_copies
def test_the_halves_of_the_shipped_suite_leave_clips_of_real_data_sets(tmp_path: Path) -> None:
    files = ("music_duet.json", "music_duet_test.csv", "music_duet_train.txt")
    copied(tmp_path, "music", *files)
    for entry in load_suite("zero_shot").datasets:
        if entry.name == "zero_shot" and entry.params["of"] == "music_duet":
            train, test = (opened("zero_shot", tmp_path, split, **entry.params) for split in ("train", "test"))
            assert len(test.ids()) == 1015 and len(train.ids()) > 3000
            with pytest.raises(AvlocError, match="no clip of this split"):  # what the hashes would choose
                opened("zero_shot", tmp_path, "test", of="music_duet").ids()


# Side by side.


@pytest.mark.parametrize("sources", [2, 3, 4])
def test_canvases_have_different_classes_and_every_clip_is_first_once(made: Path, sources: int) -> None:
    data = opened("side_by_side", made, "test", of=SINGLES, sources=sources)
    singles = opened("toybox_single", made, "test", train=30, val=12, test=12)
    assert [id.split("+")[0] for id in data.ids()] == list(singles.ids())
    for id in data.ids()[:4]:
        sample = data.load(id)
        assert sample.clip.tiles == sources == len(sample.labels) and sample.labels == data.labels(id)
        assert sample.truth is not None and sample.truth.masks.shape == (sources, 112, 112 * sources)
        assert np.array_equal(sample.truth.masks, data.truth(id).masks)
    assert set(data.status().present) == set(data.ids())


def test_training_is_the_same_for_any_number_of_sources(world: Any) -> None:
    whole = opened("blocks", None, "train")
    for sources in (2, 3):
        data = opened("side_by_side", None, "train", of="blocks", sources=sources)
        assert list(data.ids()) == whole.ids()
        assert [data.content(id) for id in data.ids()] == [whole.content(id) for id in whole.ids()]
        assert data.load("train0").clip.tiles == 1


def test_the_list_does_not_depend_on_which_clips_are_present(world: Any) -> None:
    every = opened("side_by_side", None, "test", of="blocks", sources=2)
    some = opened("side_by_side", None, "test", of={"name": "blocks", "gone": ["test1"]}, sources=2)
    assert list(some.ids()) == list(every.ids())
    assert set(some.status().missing) == {id for id in every.ids() if "test1" in id.split("+")}
    assert some.fingerprint() != every.fingerprint()


def test_invalid_side_by_side_data_are_reported(world: Any, made: Path) -> None:
    with pytest.raises(AvlocError, match="2 or more sources"):
        opened("side_by_side", None, "test", of="blocks", sources=1)
    with pytest.raises(AvlocError, match="too few classes"):
        opened("side_by_side", None, "test", of="blocks", sources=9).ids()
    canvases = opened("side_by_side", made, "test", of=DUETS)
    with pytest.raises(DataError, match="several tiles"):
        canvases.load(canvases.ids()[0])


# Validation clips.


def test_settings_are_chosen_on_validation_clips_alone(tmp_path: Path) -> None:
    made = tmp_path
    train, val, test = (opened("validation_clips", made, split, of=DUETS) for split in ("train", "val", "test"))
    whole = {
        split: opened("toybox_duet", made, split, train=30, val=12, test=24, bank=60) for split in ("train", "val")
    }
    assert list(train.ids()) == list(whole["train"].ids())
    assert list(val.ids()) == list(test.ids()) == list(whole["val"].ids())
    assert test.leaks and "validation clips" in test.notes[-1]
    id = test.ids()[0]
    assert test.labels(id) == whole["val"].labels(id) and test.content(id) == whole["val"].content(id)
    assert np.array_equal(test.truth(id).masks, whole["val"].truth(id).masks)
    assert np.array_equal(test.load(id).clip.image, whole["val"].load(id).clip.image)
    assert test.fingerprint() not in (whole["val"].fingerprint(), train.fingerprint())
    assert not list(made.rglob("test"))
