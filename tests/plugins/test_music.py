"""MUSIC-Solo and -Duet: boxes, sound around the frame, few videos, and errors for malformed files."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import AvlocError, DataError, Dataset
from helpers.published import COPIES, annotate, copied, frame, needs_copies, opened, sound

A, B = "aaaaaaaaaaa_004_00135", "bbbbbbbbbb-_000_00007"
SOLO: list[dict[str, Any]] = [
    {"file": A, "class": "acoustic_guitar", "bbox": [0.5, 0.25, 0.25, 0.5]},
    {"file": B, "class": "cello", "bbox": [0, 0, 1, 1]},
]
DUET: list[dict[str, Any]] = [
    {"file": A, "class_src1": "cello", "bbox_src1": [0, 0, 0.5, 1]}
    | {"class_src2": "flute", "bbox_src2": [0.5, 0.5, 0.25, 0.5]}
]
TRAIN = "".join(f"{video:011d}_{second:03d}_{25 * second:05d},flute\n" for video in range(20) for second in (0, 8))


def small(root: Path, entries: object = SOLO, **texts: str) -> Path:
    """Two solos, a duet, and 40 frames of 20 videos to train on."""
    lists = {"music_solo_test_csv": f"{A},acoustic_guitar\r\n{B},cello", "music_duet_test_csv": A}
    boxes = {"music_solo_json": entries if isinstance(entries, str) else json.dumps(entries)}
    annotate(
        root, "music", **boxes, **{"music_duet_json": json.dumps(DUET), "music_solo_train_txt": TRAIN, **lists, **texts}
    )
    return root


def ready(root: Path) -> Path:
    """The frame A and ten seconds of its video's sound."""
    frame(small(root), "music", A)
    sound(root, "music", A[:11], seconds=10)
    return root


def noted(dataset: Dataset, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in dataset.notes)


def test_boxes_are_read_as_x_y_width_height(tmp_path: Path) -> None:
    data = opened("music_solo", ready(tmp_path))
    assert list(data.ids()) == [A, B] and data.status().present == (A,) and list(data.status().missing) == [B]
    truth = data.truth(A)
    np.testing.assert_allclose(truth.boxes[0], [[0.5, 0.25, 0.75, 0.75]])
    assert truth.masks.shape == (1, 20, 40) and truth.masks[0, 5:15, 20:30].all() and truth.masks.sum() == 100
    assert truth.labels == ("acoustic guitar",)


def test_released_reading_leaves_truths_empty_and_says_so(tmp_path: Path) -> None:
    data = opened("music_solo", ready(tmp_path), boxes="released")
    assert not data.truth(A).masks.any() and data.truth(A).boxes[0].tolist() == [SOLO[0]["bbox"]]
    assert noted(data, "ATTENTION", "1 of 2 sources nowhere") and data.status().present == (A,)
    right = opened("music_solo", tmp_path)
    assert noted(right, "released loaders", "1 of 2 sources nowhere") and not noted(right, "ATTENTION")
    assert right.fingerprint() != data.fingerprint() and right.content(A) == data.content(A)


def test_the_sound_is_around_the_frame_or_in_the_middle_as_released(tmp_path: Path) -> None:
    near = opened("music_solo", ready(tmp_path), seconds=1.0)
    center = opened("music_solo", tmp_path, seconds=1.0, sound="center")
    clip, released = near.load(A).clip, center.load(A).clip
    assert clip.rate == 8000 and len(clip.audio) == len(released.audio) == 8000
    assert abs(clip.audio.mean() - 0.5 * 4.5 / 10) < 1e-3 and abs(released.audio.mean() - 0.25) < 1e-3
    assert clip.group == A[:11] and near.content(A) != center.content(A)
    assert len(opened("music_solo", tmp_path).load(A).clip.audio) == 40000
    assert noted(near, "each of the 2 test frames", "1 s around it") and noted(center, "middle 1 s", "as released")


def test_a_duet_is_one_frame_with_two_sources(tmp_path: Path) -> None:
    data = opened("music_duet", ready(tmp_path))
    sample = data.load(A)
    assert sample.clip.tiles == 1 and sample.clip.image.shape == (20, 40, 3) and sample.labels == ("cello", "flute")
    assert sample.truth is not None and sample.truth.labels == ("cello", "flute")
    assert sample.truth.masks[0, :, :20].all() and sample.truth.masks[1, 10:, 20:30].all()
    assert sample.truth.masks.sum() == 500


def test_frames_of_a_video_share_its_file_and_know_their_time(tmp_path: Path) -> None:
    recording = opened("music_solo", small(tmp_path)).recordings()[0]
    assert (recording.id, recording.sound, recording.sources) == (A, A[:11], (A[:11],)) and recording.at == 4.5
    train = [one for split in ("train", "val") for one in opened("music_solo", tmp_path, split).recordings()]
    assert {one.at for one in train} == {0, 8}  # 25 frames a second, as the list itself shows


def test_val_is_other_videos_of_the_training_list(tmp_path: Path) -> None:
    train, val = (opened("music_solo", small(tmp_path), split) for split in ("train", "val"))
    assert len(train.ids()) == 36 and len(val.ids()) == 4
    assert not {id[:11] for id in train.ids()} & {id[:11] for id in val.ids()}
    with pytest.raises(DataError, match="not annotated"):
        val.truth(val.ids()[0])


@pytest.mark.parametrize(
    ("name", "file"),
    [("music_solo", "music_solo.json"), ("music_solo", "music_solo_test.csv"), ("music_duet", "music_duet_test.csv")],
)
def test_a_missing_test_list_says_how_to_get_it(tmp_path: Path, name: str, file: str) -> None:
    (small(tmp_path) / "music" / "annotations" / file).unlink()
    with pytest.raises(DataError, match=f"{file}.*github.com/stoneMo/AVGN.*avloc data prepare {name} --from"):
        opened(name, tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_training_list_stops_training_only(tmp_path: Path, split: str) -> None:
    assert opened("music_duet", small(tmp_path)).ids() == [A]
    with pytest.raises(DataError, match=r"music_duet_train\.txt.*avloc data prepare music_duet"):
        opened("music_duet", tmp_path, split)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{A},acoustic_guitar\n{A},acoustic_guitar", "line 2: .*also in line 1"),
        ("../x,cello", r"line 1: '\.\./x' is no id"),
        ("/aaaaaaaaaa_000_00000,cello", "line 1: .*is no id"),
        (f"{A},cello", r"line 1: the class should be that of music_solo\.json, 'acoustic guitar'"),
        (f"{A},guitar", "line 1: .*no class 'guitar'. Did you mean 'acoustic guitar'"),
        ("ccccccccccc_000_00000,cello", r"line 1: .*no boxes in music_solo\.json"),
        (A, "line 1: there should be 2 cells"),
        ("", "empty"),
    ],
)
def test_a_malformed_test_list_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=f"music_solo_test.csv.*{complaint}"):
        opened("music_solo", small(tmp_path, music_solo_test_csv=text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{TRAIN}{TRAIN}", "line 41: .*also in line 1"),
        ("../x,cello", r"line 1: '\.\./x' is no id"),
        (f"{TRAIN}yyyyyyyyyyy_000_00000,celo", "line 41: .*Did you mean 'cello'"),
        (f"{A},cello,flute", "line 1: there should be 2 cells"),
        ("", "empty"),
    ],
)
def test_a_malformed_training_list_is_named_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=f"music_solo_train.txt.*{complaint}"):
        opened("music_solo", small(tmp_path, music_solo_train_txt=text), "train")


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([{**SOLO[0], "bbox": [0.5, 0, 0.6, 1]}], r"entry 1: bbox should be x, y, width, height within \[0, 1\]"),
        ([{**SOLO[0], "bbox": [-0.1, 0, 0.6, 1]}], "entry 1: bbox should be"),
        ([{**SOLO[0], "bbox": [0.5, 0, -0.2, 1]}], "entry 1: bbox should be"),
        ([{**SOLO[0], "bbox": [0.5, 0, 0, 1]}], "entry 1: bbox should be"),
        ([{**SOLO[0], "bbox": [0, 0, 1]}], "entry 1: boxes should be lists of four numbers"),
        ([SOLO[0], {"file": B}], "entry 2: there should be an object with file, class, bbox"),
        ([SOLO[0], SOLO[0]], "entry 2: .*also in entry 1"),
        ([{**SOLO[0], "file": "../x"}], r"entry 1: '\.\./x' is no id"),
        ([{**SOLO[0], "class": "lute"}], "entry 1: .*no class 'lute'. Did you mean 'flute'"),
        ([], "there should be a JSON list"),
        ("[1", "not JSON"),
    ],
)
def test_a_malformed_file_of_boxes_is_named_with_its_entry(tmp_path: Path, entries: object, complaint: str) -> None:
    with pytest.raises(DataError, match=f"music_solo.json.*{complaint}"):
        opened("music_solo", small(tmp_path, entries))


@pytest.mark.parametrize("values", [{"split": "tset"}, {"boxes": "xyxy"}, {"sound": "middle"}])
def test_an_unknown_value_is_named_with_the_known_ones(tmp_path: Path, values: dict[str, str]) -> None:
    with pytest.raises(AvlocError, match=r"There is no .*Known: "):
        opened("music_solo", small(tmp_path), **values)


def test_a_window_needs_a_length(tmp_path: Path) -> None:
    with pytest.raises(AvlocError, match="seconds should be above 0"):
        opened("music_solo", small(tmp_path), seconds=0.0)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files."""
    names = [f"music_{kind}{end}" for kind in ("solo", "duet") for end in (".json", "_test.csv", "_train.txt")]
    return copied(tmp_path_factory.mktemp("real"), "music", *names)


@pytest.mark.slow
@needs_copies
@pytest.mark.parametrize(
    ("name", "frames", "videos", "trained", "classes", "notes"),
    [
        (
            "music_solo",
            2124,
            20,
            217,
            11,
            ("2,094 of 2,124 test frames come from 7 of 20", "4 of 11", "1,648 of 2,124"),
        ),
        ("music_duet", 1020, 6, 112, 8, ("1,008 of 1,020 test frames come from 1 of 6", "2 of 8", "1,027 of 2,040")),
    ],
)
def test_the_published_lists_have_the_known_counts(
    real: Path, name: str, frames: int, videos: int, trained: int, classes: int, notes: tuple[str, ...]
) -> None:
    data = opened(name, real)
    tested = {id[:11] for id in data.ids()}
    assert (len(data.ids()), len(tested), len(data.classes)) == (frames, videos, classes)
    assert all(noted(data, note) for note in notes) and noted(
        opened(name, real, boxes="released"), "ATTENTION", notes[2]
    )
    train, val = ({id[:11] for id in opened(name, real, split).ids()} for split in ("train", "val"))
    assert len(train | val) == trained and not train & val and not (train | val) & tested
    listed = (COPIES / f"{name}_train.txt").read_text().splitlines()
    names = {label.replace("_", " ") for line in listed for label in line.split(",")[1:]}
    assert names == set(data.classes)


@needs_copies
def test_one_video_holds_nearly_all_duets(real: Path) -> None:
    frames = Counter(id[:11] for id in opened("music_duet", real).ids())
    assert frames.most_common(1) == [("HnUOaSfTA6c", 1008)]


@pytest.mark.slow
@needs_copies
def test_frames_lie_in_the_second_that_their_ids_name(real: Path) -> None:
    for name in ("music_solo", "music_duet"):
        for split in ("train", "val", "test"):
            for one in opened(name, real, split).recordings():
                assert one.at is not None and -0.1 < one.at - int(one.id[12:15]) < 1.1


@needs_copies
def test_boxes_are_those_that_their_first_authors_publish_as_x_y_width_height(real: Path, tmp_path: Path) -> None:
    data = opened("music_solo", real)
    first = json.loads((COPIES / "dsol_music_solotest.json").read_text())
    pixels = {}
    for key, found in first.items():
        video, second, number = re.fullmatch(r"(.{11})_0_1000/frame_(\d+)/(\d+)\.jpg", key).groups()  # type: ignore[union-attr]
        size = np.array([found["wdith"], found["height"]] * 2)
        pixels[f"{video}_{second}_{number}"] = [np.array(one["box"]) / size for one in found["bbox"]]
    published = json.loads((COPIES / "music_solo.json").read_text())
    for entry in published:
        matching = [box for box in pixels[entry["file"]] if np.allclose(box, entry["bbox"])]
        assert matching and matching[0][0] + matching[0][2] <= 1 and matching[0][1] + matching[0][3] <= 1
    assert len(published) == len(data.ids())
