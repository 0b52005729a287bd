"""VGGSound-Single and -Duet: the published lists, notes about their flaws, and errors for malformed files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import AvlocError, DataError, Dataset
from avloc.data import rasterize
from helpers.published import annotate, clip, copied, needs_copies, opened

A, B, C = "aaaaaaaaaaa_000010", "bbbbbbbbbb-_000000", "_cccccccccc_000120"
CORRUPT = -2.8823037615171176e16
ENTRIES: list[dict[str, Any]] = [
    {"file": A, "class": "dog, barking", "bbox": [[0, 0, 0.5, 0.5], [0.25, 0, 0.5, 1]]},
    {"file": B, "class": "cat", "bbox": [[0.5, 0.5, 1, 1], [0.1, 0.1, CORRUPT, 0.4]]},
    {"file": C, "class": "cat", "bbox": [[0.5, 0.5, 0.5, 1]]},
]
SINGLES = f"{A},dog_barking\r\n{B},cat\r\n{C},cat"
DUETS = f"{A},dog_barking,{B},cat\r\n{B},cat,{C},cat\r\n{C},cat,{A},dog_barking"
TRAIN = "".join(f"{video:011d}_{video:06d},{'cat' if video % 2 else 'dog_barking'}\n" for video in range(40))


def small(root: Path, entries: object = ENTRIES, **texts: str) -> Path:
    """Three annotated clips and 40 to train on."""
    lists = {"vggsound_single_test_csv": SINGLES, "vggsound_duet_test_csv": DUETS, "vggsound_single_train_txt": TRAIN}
    vggss = entries if isinstance(entries, str) else json.dumps(entries)
    annotate(root, "vggsound", vggss_json=vggss, **{**lists, **texts})
    return root


def noted(dataset: Dataset, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in dataset.notes)


def test_a_clip_is_its_frame_its_sound_and_the_union_of_its_boxes(tmp_path: Path) -> None:
    clip(small(tmp_path), "vggsound", A)
    data = opened("vggsound_single", tmp_path)
    assert list(data.ids()) == [A, B, C] and data.classes == ("cat", "dog, barking")
    assert data.status().present == (A,) and list(data.status().missing) == [B] and list(data.status().broken) == [C]
    sample = data.load(A)
    assert sample.clip.image.shape == (20, 40, 3) and sample.clip.rate == 8000 and len(sample.clip.audio) == 8000
    assert sample.clip.group == A[:11] and sample.labels == ("dog, barking",)
    assert sample.truth is not None and sample.truth.labels == ("dog, barking",)
    expected = np.zeros((20, 40))
    expected[:10, :20] = expected[:, 10:20] = 1
    np.testing.assert_array_equal(sample.truth.masks[0], expected)
    np.testing.assert_array_equal(data.truth(A).boxes[0], ENTRIES[0]["bbox"])


def test_truth_decodes_no_sound(tmp_path: Path) -> None:
    clip(small(tmp_path), "vggsound", A)
    (tmp_path / "vggsound" / "audio" / f"{A}.flac").write_bytes(b"damaged")
    data = opened("vggsound_single", tmp_path)
    assert data.truth(A).masks.shape == (1, 20, 40)
    with pytest.raises(DataError, match="damaged"):
        data.load(A)


def test_corrupt_boxes_are_left_out_and_clips_without_others_are_broken(tmp_path: Path) -> None:
    clip(small(tmp_path), "vggsound", B)
    clip(tmp_path, "vggsound", C)
    data = opened("vggsound_single", tmp_path)
    assert len(data.truth(B).boxes[0]) == 1
    assert "boxes covers anything" in data.status().broken[C] and C not in data.status().present
    with pytest.raises(DataError, match="cannot be scored"):
        data.truth(C)
    assert noted(data, "1 of 5 boxes hold the number -2.88e16 and 1 have no area", "1 clips", "broken")
    assert noted(data, "1 clips of VGG-SS have boxes that overlap", "once")


def test_released_boxes_count_overlaps_and_score_empty_truths(tmp_path: Path) -> None:
    for id in (A, C):
        clip(small(tmp_path), "vggsound", id)
    data = opened("vggsound_single", tmp_path, boxes="released")
    assert data.truth(A).masks.max() == 2 and data.status().present == (A, C)
    assert data.truth(C).masks.sum() == 0
    assert noted(data, "scored on an empty truth") and noted(data, "once per box, as released")
    assert data.fingerprint() != opened("vggsound_single", tmp_path).fingerprint()


def test_a_duet_is_two_clips_side_by_side(tmp_path: Path) -> None:
    for id in (A, B):
        clip(small(tmp_path), "vggsound", id)
    data = opened("vggsound_duet", tmp_path)
    assert list(data.ids()) == [f"{A}+{B}", f"{B}+{C}", f"{C}+{A}"]
    assert data.status().present == (f"{A}+{B}",) and len(data.status().broken) == 2
    sample = data.load(f"{A}+{B}")
    assert sample.clip.tiles == 2 and sample.clip.image.shape == (20, 80, 3)
    assert sample.clip.group == f"{A[:11]}+{B[:11]}" and sample.labels == ("dog, barking", "cat")
    np.testing.assert_allclose(sample.clip.audio, np.linspace(0, 1, 8000), atol=1e-3)
    assert sample.truth is not None and sample.truth.labels == ("dog, barking", "cat")
    assert not sample.truth.masks[0, :, 40:].any() and not sample.truth.masks[1, :, :40].any()
    np.testing.assert_array_equal(sample.truth.masks, data.truth(f"{A}+{B}").masks)
    assert noted(data, "1 of 3 duets have two clips of one class", "kept") and noted(data, "2 of 3 duets", "broken")


def test_pairs_of_one_class_can_be_left_out(tmp_path: Path) -> None:
    data = opened("vggsound_duet", small(tmp_path), same_class=False)
    assert list(data.ids()) == [f"{A}+{B}", f"{C}+{A}"] and noted(data, "1 of 3", "left out")


def test_released_loaders_give_duets_wrong_or_empty_boxes(tmp_path: Path) -> None:
    for id in (A, B):
        clip(small(tmp_path), "vggsound", id)
    avgn = opened("vggsound_duet", tmp_path, boxes="avgn")
    boxes = avgn.truth(f"{A}+{B}").boxes
    inside = np.clip(ENTRIES[1]["bbox"], 0, 1)  # which covers the same pixels
    np.testing.assert_array_equal(boxes[0] * [2, 1, 2, 1], inside)
    np.testing.assert_array_equal(boxes[1] * [2, 1, 2, 1] - [1, 0, 1, 0], ENTRIES[2]["bbox"])
    tvsl = opened("vggsound_duet", tmp_path, boxes="tvsl")
    assert tvsl.truth(f"{A}+{B}").masks[0].any() and not tvsl.truth(f"{A}+{B}").masks[1].any()
    assert noted(avgn, "ATTENTION", "all 3") and noted(tvsl, "ATTENTION", "all 3")
    assert tvsl.content(f"{A}+{B}") == avgn.content(f"{A}+{B}")  # only the truth differs
    assert tvsl.fingerprint() != avgn.fingerprint()


def test_val_is_a_part_of_the_training_list_by_video_and_has_no_truth(tmp_path: Path) -> None:
    train, val = (opened("vggsound_single", small(tmp_path), split) for split in ("train", "val"))
    assert len(train.ids()) == 36 and len(val.ids()) == 4 and not set(train.ids()) & set(val.ids())
    id = val.ids()[0]
    clip(tmp_path, "vggsound", id)
    assert val.load(id).truth is None and val.load(id).labels
    with pytest.raises(DataError, match="not annotated"):
        val.truth(id)


def test_training_duets_are_a_finite_bank_of_different_classes(tmp_path: Path) -> None:
    data = opened("vggsound_duet", small(tmp_path), "train", bank=30)
    assert len(data.ids()) == 30 and len(opened("vggsound_duet", tmp_path, "val", bank=30).ids()) == 3
    assert all(int(id[10]) % 2 != int(id[29]) % 2 for id in data.ids())
    assert data.ids() == opened("vggsound_duet", tmp_path, "train", bank=30).ids()
    with pytest.raises(AvlocError, match="10 or more"):
        opened("vggsound_duet", tmp_path, "train", bank=9)


def test_training_clips_of_test_videos_are_left_out_unless_wanted(tmp_path: Path) -> None:
    small(tmp_path, vggsound_single_train_txt=f"{TRAIN}{A[:11]}_000099,cat\n{B},cat\n")
    ids = {id for split in ("train", "val") for id in opened("vggsound_single", tmp_path, split).ids()}
    assert len(ids) == 40 and noted(opened("vggsound_single", tmp_path), "2 training clips", "left out")
    ids = {id for split in ("train", "val") for id in opened("vggsound_single", tmp_path, split, leaks=True).ids()}
    assert len(ids) == 42 and noted(opened("vggsound_single", tmp_path, leaks=True), "2 training clips", "trained on")


def test_vggsounds_own_training_list_is_read_too(tmp_path: Path) -> None:
    folder = small(tmp_path) / "vggsound" / "annotations"
    (folder / "vggsound_single_train.txt").unlink()
    rows = [f'{video:011d}_{video:06d}.mp4,"{"dog, barking" if video % 2 else "cat"}"' for video in range(20)]
    (folder / "train.csv").write_text("\n".join([*rows, "00000000099_000000.mp4,zebra braying"]))
    with pytest.raises(DataError, match=r"stat\.csv: the annotation file is missing"):
        opened("vggsound_single", tmp_path, "train")
    (folder / "stat.csv").write_text('"dog, barking",10,animals\ncat,10,animals\nzebra braying,10,animals')
    data = opened("vggsound_duet", tmp_path, "train", bank=20)
    assert len(data.ids()) == 20 and noted(data, "1 clips of train.csv have a class that VGG-SS does not have")


def test_prepare_finds_files_by_the_usual_names(tmp_path: Path) -> None:
    recording = opened("vggsound_single", small(tmp_path)).recordings()[0]
    stems = "aaaaaaaaaaa_000010", "aaaaaaaaaaa_10", "aaaaaaaaaaa_10000_20000", "aaaaaaaaaaa_000010_000020"
    stems += ("aaaaaaaaaaa_10_20",)
    assert recording.id == recording.sound == A and recording.at is None and recording.sources == stems


def test_content_and_fingerprint_follow_the_files(tmp_path: Path) -> None:
    clip(small(tmp_path), "vggsound", A, gray=10)
    data = opened("vggsound_single", tmp_path)
    content, fingerprint = data.content(A), data.fingerprint()
    clip(tmp_path, "vggsound", A, gray=200)
    again = opened("vggsound_single", tmp_path)
    assert again.content(A) != content and again.fingerprint() != fingerprint
    moved = [*ENTRIES[:1], {**ENTRIES[1], "bbox": [[0, 0, 1, 1]]}, ENTRIES[2]]
    other = opened("vggsound_single", small(tmp_path, moved))
    assert other.content(A) == again.content(A) and other.fingerprint() != again.fingerprint()


@pytest.mark.parametrize("file", ["vggss.json", "vggsound_single_test.csv"])
def test_a_missing_test_list_says_how_to_get_it(tmp_path: Path, file: str) -> None:
    (small(tmp_path) / "vggsound" / "annotations" / file).unlink()
    with pytest.raises(DataError, match=f"{file}.*github.com/stoneMo/AVGN.*avloc data prepare vggsound_single --from"):
        opened("vggsound_single", tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_training_list_stops_training_only(tmp_path: Path, split: str) -> None:
    (small(tmp_path) / "vggsound" / "annotations" / "vggsound_single_train.txt").unlink()
    assert len(opened("vggsound_single", tmp_path).ids()) == 3
    with pytest.raises(DataError, match=r"vggsound_single_train\.txt.*avloc data prepare"):
        opened("vggsound_single", tmp_path, split)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{SINGLES}\r\n{A},dog_barking", rf"line 4: the id '{A}' is also in line 1"),
        ("../x,cat", r"line 1: '\.\./x' is no id"),
        ("/etc/passwd,cat", r"line 1: '/etc/passwd' is no id"),
        ("a/b,cat", r"line 1: 'a/b' is no id"),
        (f"{A},dgo_barking", r"line 1: .*no class 'dgo_barking'. Did you mean 'dog_barking'"),
        (f"{A},cat", r"line 1: .*vggss\.json has 'dog, barking'"),
        ("zzzzzzzzzzz_000000,cat", r"line 1: .*no boxes in vggss\.json"),
        (f"{A},dog,barking", r"line 1: there should be 2 cells \(id, class\), not 3: '.*dog,barking'"),
        (f"{A}", r"line 1: there should be 2 cells"),
        (f"{A},", r"line 1: class should not be empty"),
        ("", r"vggsound_single_test\.csv: the annotation file is empty"),
        (f'{A},"cat', "not a CSV"),
    ],
)
def test_a_malformed_test_list_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        opened("vggsound_single", small(tmp_path, vggsound_single_test_csv=text))


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path) / "vggsound" / "annotations" / "vggsound_single_test.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        opened("vggsound_single", tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{A},dog_barking,{A},dog_barking", "line 1: .*its own partner"),
        (f"{A},dog_barking,../x,cat", r"line 1: '\.\./x' is no id"),
        (f"{A},dog_barking,{B},dog_barking", r"line 1: .*vggss\.json has 'cat'"),
        (f"{A},dog_barking", "line 1: there should be 4 cells"),
        (f"{DUETS}\r\n{A},dog_barking,{C},cat", "line 4: .*also in line 1"),
    ],
)
def test_a_malformed_list_of_duets_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        opened("vggsound_duet", small(tmp_path, vggsound_duet_test_csv=text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("../x,cat", r"line 1: '\.\./x' is no id"),
        (f"{TRAIN}{TRAIN}", "line 41: .*also in line 1"),
        (f"{TRAIN}yyyyyyyyyyy_000000,ct\n", r"line 41: .*no class 'ct'. Did you mean 'cat'"),
        (f"{TRAIN}yyyyyyyyyyy_000000\n", "line 41: there should be 2 cells"),
        ("", "empty"),
    ],
)
def test_a_malformed_training_list_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=f"vggsound_single_train.txt.*{complaint}"):
        opened("vggsound_single", small(tmp_path, vggsound_single_train_txt=text), "train")


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([{**ENTRIES[0], "bbox": [[0, 0, 1.5, 1]]}], r"entry 1: boxes should be x1 <= x2, y1 <= y2 in \[0, 1\]"),
        ([{**ENTRIES[0], "bbox": [[-0.1, 0, 1, 1]]}], r"entry 1: boxes should be"),
        ([{**ENTRIES[0], "bbox": [[0.5, 0, 0.2, 1]]}], r"entry 1: boxes should be"),
        ([{**ENTRIES[0], "bbox": [[0, 0, 1]]}], r"entry 1: boxes should be lists of four numbers"),
        ([{**ENTRIES[0], "bbox": "everywhere"}], r"entry 1: boxes should be lists of four numbers"),
        ([{**ENTRIES[0], "bbox": [[0, 0, float("nan"), 1]]}], r"entry 1: boxes should be lists of four numbers"),
        ([ENTRIES[0], {"file": B}], r"entry 2: there should be an object with file, class, bbox"),
        ([ENTRIES[0], ENTRIES[0]], r"entry 2: .*also in entry 1"),
        ([{**ENTRIES[0], "file": "../x"}], r"entry 1: '\.\./x' is no id"),
        ([], r"vggss\.json: there should be a JSON list"),
        ({"file": A}, r"vggss\.json: there should be a JSON list"),
        ('[{"file": ', r"vggss\.json: not JSON"),
        ("", r"vggss\.json: not JSON"),
    ],
)
def test_a_malformed_file_of_boxes_is_named_with_its_entry(tmp_path: Path, entries: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        opened("vggsound_single", small(tmp_path, entries))


@pytest.mark.parametrize("values", [{"split": "tset"}, {"boxes": "wrong"}])
@pytest.mark.parametrize("name", ["vggsound_single", "vggsound_duet"])
def test_an_unknown_value_is_named_with_the_known_ones(tmp_path: Path, name: str, values: dict[str, str]) -> None:
    with pytest.raises(AvlocError, match=r"There is no .*Known: "):
        opened(name, small(tmp_path), **values)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files; a training list of VGGSound's test split replaces the real one."""
    names = "vggss.json", "vggsound_single_test.csv", "vggsound_duet_test.csv"
    return copied(
        tmp_path_factory.mktemp("real"),
        "vggsound",
        *names,
        "train.csv=vggsound_test.csv",
        "stat.csv=vggsound_classes.csv",
    )


@needs_copies
def test_the_published_single_list_has_the_known_counts(real: Path) -> None:
    data = opened("vggsound_single", real)
    assert len(data.ids()) == 5158 and len(data.classes) == 221 and list(data.classes) == sorted(data.classes)
    assert data.ids()[0] == "zpWuikVorYg_000032" and "female speech, woman speaking" in data.classes
    assert list(data.status().broken) == ["M1P1xla8rg0_000000", "MKC9LvRivTM_000030"]
    assert noted(data, "12 of 5,941 boxes hold the number", "6 have no area", "2 clips") and noted(data, "144 clips")


@needs_copies
def test_the_published_duets_have_the_known_counts(real: Path) -> None:
    data = opened("vggsound_duet", real)
    assert len(data.ids()) == 5158 and len({id[19:] for id in data.ids()}) == 3255
    assert noted(data, "22 of 5,158 duets have two clips of one class") and len(data.status().broken) == 3
    assert len(opened("vggsound_duet", real, same_class=False).ids()) == 5136
    swapped = data.classes.index("cattle mooing"), data.classes.index("cattle, bovinae cowbell")
    assert swapped == (29, 30)  # T-VSL's labels have these in another order than its texts


@needs_copies
def test_all_clips_of_vggss_are_left_out_of_training(real: Path) -> None:
    tested = {id[:11] for id in opened("vggsound_single", real).ids()}
    train = opened("vggsound_single", real, "train")
    assert (
        len(tested) == 5017 and not {id[:11] for id in train.ids()} & tested and noted(train, "train.csv have a class")
    )
    kept = opened("vggsound_single", real, "train", leaks=True)
    assert {id[:11] for id in kept.ids()} & tested


def test_boxes_are_rasterized_by_the_protocols_rule() -> None:
    from avloc.data import rasterize as protocols

    boxes = np.random.default_rng(0).random((20, 4))
    np.testing.assert_array_equal(rasterize(boxes, 37, 91), protocols(boxes, 37, 91))
