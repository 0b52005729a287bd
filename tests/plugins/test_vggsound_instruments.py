"""VGGSound-Instruments: masks, class names, the overlap of its lists, and errors for malformed files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from avloc import AvlocError, DataError, Dataset
from helpers.published import COPIES, annotate, clip, copied, needs_copies, opened

SINGLES = "sample0000,accordion\r\nsample0001,violin"
DUETS = "sample0000,accordion,sample0001,violin\r\nsample0001,violin,sample0000,accordion"
TRAIN = "".join(f"{video:011d}_{video:06d},{'banjo' if video % 2 else 'steel_guitar'}\n" for video in range(40))


def small(root: Path, **texts: str) -> Path:
    """Two test clips and 40 to train on."""
    lists = {"vgginstruments_test_csv": SINGLES, "vgginstruments_multi_test_csv": DUETS}
    annotate(root, "vggsound_instruments", **{**lists, "vgginstruments_train_txt": TRAIN, **texts})
    return root


def sample(root: Path, id: str, mask: list[list[int]]) -> None:
    """A frame of 20 x 40, its sound, and a mask of another size."""
    clip(root, "vggsound_instruments", id)
    (root / "vggsound_instruments" / "masks").mkdir(exist_ok=True)
    pixels = np.array(mask, np.uint8) * 255
    PIL.Image.fromarray(pixels).save(root / "vggsound_instruments" / "masks" / f"{id}.png")


def noted(dataset: Dataset, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in dataset.notes)


def learned(root: Path, **parameters: bool) -> set[str]:
    return {id for split in ("train", "val") for id in opened("vggsound_instruments", root, split, **parameters).ids()}


def test_the_truth_is_a_mask_at_the_size_of_the_frame(tmp_path: Path) -> None:
    sample(small(tmp_path), "sample0000", [[1, 0], [0, 0]])
    data = opened("vggsound_instruments", tmp_path)
    assert list(data.ids()) == ["sample0000", "sample0001"] and data.status().present == ("sample0000",)
    loaded = data.load("sample0000")
    assert loaded.truth is not None and loaded.truth.labels == loaded.labels == ("playing accordion",)
    assert loaded.truth.masks.shape == (1, 20, 40) and loaded.truth.boxes == ()
    assert loaded.truth.masks[0, :10, :20].all() and loaded.truth.masks.sum() == 200
    np.testing.assert_array_equal(data.truth("sample0000").masks, loaded.truth.masks)
    assert data.recordings()[0].mask and data.recordings()[0].sources == ("sample0000",)


def test_classes_are_vggsounds_names_in_order(tmp_path: Path) -> None:
    data = opened("vggsound_instruments", small(tmp_path))
    assert len(data.classes) == 37 and list(data.classes) == sorted(data.classes)
    special = {"playing violin, fiddle", "playing steel guitar, slide guitar", "playing marimba, xylophone"}
    assert special | {"playing drum kit"} <= set(data.classes)


def test_a_clip_without_its_mask_is_missing_and_one_with_a_black_mask_is_refused(tmp_path: Path) -> None:
    clip(small(tmp_path), "vggsound_instruments", "sample0000")
    data = opened("vggsound_instruments", tmp_path)
    assert "masks/sample0000.png" in data.status().missing["sample0000"]
    sample(tmp_path, "sample0000", [[0, 0], [0, 0]])
    with pytest.raises(DataError, match=r"sample0000.*mask is black"):
        opened("vggsound_instruments", tmp_path).load("sample0000")


def test_another_mask_changes_the_fingerprint_but_not_the_content(tmp_path: Path) -> None:
    sample(small(tmp_path), "sample0000", [[1, 0], [0, 0]])
    before = opened("vggsound_instruments", tmp_path)
    content, fingerprint = before.content("sample0000"), before.fingerprint()
    sample(tmp_path, "sample0000", [[0, 1], [0, 0]])
    after = opened("vggsound_instruments", tmp_path)
    assert after.content("sample0000") == content and after.fingerprint() != fingerprint


def test_a_duet_is_two_clips_side_by_side(tmp_path: Path) -> None:
    sample(small(tmp_path), "sample0000", [[1, 0], [0, 0]])
    sample(tmp_path, "sample0001", [[0, 0], [0, 1]])
    data = opened("vggsound_instruments_duet", tmp_path)
    assert data.status().present == ("sample0000+sample0001", "sample0001+sample0000")
    loaded = data.load("sample0000+sample0001")
    assert loaded.clip.image.shape == (20, 80, 3) and loaded.clip.group == "sample0000+sample0001"
    assert loaded.truth is not None and loaded.truth.labels == ("playing accordion", "playing violin, fiddle")
    assert loaded.truth.masks[0, :10, :20].all() and loaded.truth.masks[1, 10:, 60:].all()
    assert loaded.truth.masks.sum() == 400


def test_training_duets_are_a_finite_bank_of_different_classes(tmp_path: Path) -> None:
    data = opened("vggsound_instruments_duet", small(tmp_path), "train", bank=30)
    assert len(data.ids()) == 30 and all(int(id[10]) % 2 != int(id[29]) % 2 for id in data.ids())
    assert len(opened("vggsound_instruments_duet", tmp_path, "val", bank=30).ids()) == 3


def test_clips_of_tested_videos_are_left_out_unless_wanted(tmp_path: Path) -> None:
    lists = {
        "vggsound_test_csv": "00000000000_000000.mp4,a\n00000000001_000009.mp4,a\n",
        "vggss_test_csv": "00000000002_000002\n",
    }
    small(tmp_path, **lists)
    assert len(learned(tmp_path)) == 37 and len(learned(tmp_path, leaks=True)) == 40
    data = opened("vggsound_instruments", tmp_path)
    assert noted(data, "1 training clips", "vggsound_test.csv") and noted(data, "1 training clips", "vggss_test.csv")
    assert noted(data, "3 training clips", "left out")
    assert noted(opened("vggsound_instruments", tmp_path, leaks=True), "3 training clips", "trained on")


def test_without_the_tested_lists_nothing_can_be_left_out_and_the_table_says_so(tmp_path: Path) -> None:
    assert len(learned(small(tmp_path))) == 40
    assert noted(opened("vggsound_instruments", tmp_path), "Without vggsound_test.csv", "left out")


def test_a_missing_list_says_how_to_get_it(tmp_path: Path) -> None:
    annotate(tmp_path, "vggsound_instruments", vgginstruments_test_csv=SINGLES)
    assert len(opened("vggsound_instruments", tmp_path).ids()) == 2
    with pytest.raises(
        DataError, match=r"vgginstruments_multi_test\.csv.*avloc data prepare vggsound_instruments_duet"
    ):
        opened("vggsound_instruments_duet", tmp_path)
    for split in ("train", "val"):
        with pytest.raises(DataError, match=r"vgginstruments_train\.txt.*avloc data prepare vggsound_instruments"):
            opened("vggsound_instruments", tmp_path, split)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{SINGLES}\r\nsample0000,accordion", "line 3: .*also in line 1"),
        ("../x,accordion", r"line 1: '\.\./x' is no id"),
        ("/sample0000,accordion", "line 1: .*is no id"),
        ("sample0000,acordion", "line 1: .*no class 'acordion'. Did you mean 'accordion'"),
        ("sample0000", "line 1: there should be 2 cells"),
        ("", "empty"),
    ],
)
def test_a_malformed_test_list_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=f"vgginstruments_test.csv.*{complaint}"):
        opened("vggsound_instruments", small(tmp_path, vgginstruments_test_csv=text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sample0000,accordion,sample0000,accordion", "line 1: .*its own partner"),
        ("sample0000,accordion,../x,violin", r"line 1: '\.\./x' is no id"),
        ("sample0000,accordion,sample0001,fiddle", "line 1: .*no class 'fiddle'"),
        ("sample0000,accordion", "line 1: there should be 4 cells"),
    ],
)
def test_a_malformed_list_of_duets_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        opened("vggsound_instruments_duet", small(tmp_path, vgginstruments_multi_test_csv=text))


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("vgginstruments_train_txt", f"{TRAIN}{TRAIN}", "line 41: .*also in line 1"),
        ("vgginstruments_train_txt", "../x,banjo", r"line 1: '\.\./x' is no id"),
        ("vgginstruments_train_txt", f"{TRAIN}yyyyyyyyyyy_000000,banjjo", "line 41: .*Did you mean 'banjo'"),
        ("vggsound_test_csv", "../x,a", r"line 1: '\.\./x' is no id"),
        ("vggss_test_csv", "yyyyyyyyyyy_000000,a", "line 1: there should be 1 cells"),
    ],
)
def test_a_malformed_training_or_tested_list_is_named_with_its_row(
    tmp_path: Path, file: str, text: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        opened("vggsound_instruments", small(tmp_path, **{file: text}), "train")


@pytest.mark.parametrize("name", ["vggsound_instruments", "vggsound_instruments_duet"])
def test_an_unknown_split_is_named_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(AvlocError, match="There is no split 'tset'"):
        opened(name, small(tmp_path), "tset")


@needs_copies
def test_the_published_lists_have_the_known_counts(tmp_path: Path) -> None:
    names = "vgginstruments_test.csv", "vgginstruments_multi_test.csv", "vggsound_test.csv", "vggss_test.csv"
    copied(tmp_path, "vggsound_instruments", *names, "vgginstruments_train.txt")
    single, duet = opened("vggsound_instruments", tmp_path), opened("vggsound_instruments_duet", tmp_path)
    assert len(single.ids()) == len(duet.ids()) == 446
    assert noted(single, "1 of 37 classes", "playing erhu")
    assert noted(single, "1,850 training clips", "vggsound_test.csv")
    assert noted(single, "868 training clips", "vggss_test.csv")
    assert len(learned(tmp_path, leaks=True)) == 33934
    vggsound = {line.rpartition(",")[0][:11] for line in (COPIES / "vggsound_test.csv").read_text().splitlines()}
    assert not {id[:11] for id in learned(tmp_path)} & vggsound


@needs_copies
def test_every_class_is_one_of_vggsound(tmp_path: Path) -> None:
    vggsound = (COPIES / "vggsound_classes.csv").read_text()
    assert all(name in vggsound for name in opened("vggsound_instruments", small(tmp_path)).classes)
