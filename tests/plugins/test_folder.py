"""The user's own data: valid and invalid CSVs, and bad files."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

from avloc import AvlocError, DataError, Prediction, evaluate, get_component
from avloc.data import cache_folder, media
from avloc.progress import Event, receiving
from helpers import ROOT
from helpers.folders import COLUMNS, LEFT, PICTURED, Row, opened, photograph, row, table


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds; frame n has the brightness 10 n."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    frames = np.broadcast_to(10 * np.arange(24)[:, None, None, None], (24, 40, 60, 3)).astype(np.uint8)
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(48000) / 16000)
    media.write_video(path, frames, 8, tone.astype(np.float32), 16000)
    return path


@pytest.fixture
def folder(tmp_path: Path, video: Path) -> Path:
    """A folder with one good video in it."""
    shutil.copy(video, tmp_path)
    return tmp_path


def test_a_clip_is_its_middle_frame_its_sound_and_its_boxes(folder: Path) -> None:
    table(folder, [row(label="dog, barking")])
    data = opened(folder)
    assert list(data.ids()) == ["a"] and data.classes == ("dog, barking",)
    assert data.status().present == ("a",)
    sample = data.load("a")
    assert sample.clip.image.shape == (40, 60, 3) and abs(sample.clip.image.mean() - 120) < 4
    assert sample.clip.rate == 16000 and abs(len(sample.clip.audio) - 48000) < 2048
    assert sample.clip.group == "a" and sample.labels == ("dog, barking",)
    assert sample.truth is not None and sample.truth.masks.shape == (1, 40, 60)
    assert (sample.truth.masks[0, :, :30] == 1).all() and (sample.truth.masks[0, :, 30:] == 0).all()
    np.testing.assert_allclose(sample.truth.boxes[0], [[0, 0, 0.5, 1]])


def test_rows_of_one_id_are_sources_of_one_clip(folder: Path) -> None:
    boxes = "[[0, 0, 0.1, 0.1], [0.5, 0.5, 1, 1]]"
    table(folder, [row(), row(label="cat", boxes=boxes), row(label="dog", boxes="[[0.9,0,1,0.1]]"), row("b")])
    data = opened(folder)
    assert list(data.ids()) == ["a", "b"] and data.classes == ("cat", "dog")
    sample = data.load("a")
    assert sample.truth is not None and sample.truth.labels == ("dog", "cat", "dog")
    assert sample.labels == ("dog", "cat")
    assert [len(found) for found in sample.truth.boxes] == [1, 2, 1]
    assert sample.truth.masks.sum(axis=(1, 2)).tolist() == [40 * 30, 4 * 6 + 20 * 30, 4 * 6]


def test_the_truth_alone_equals_the_loaded_one(folder: Path) -> None:
    table(folder, [row()])
    alone, loaded = opened(folder).truth("a"), opened(folder).load("a").truth
    assert loaded is not None and alone.labels == loaded.labels
    np.testing.assert_array_equal(alone.masks, loaded.masks)


@pytest.mark.parametrize("bright", [1, 255])
def test_a_mask_file_of_any_size_and_brightness(folder: Path, bright: int) -> None:
    mask = np.zeros((80, 120), np.uint8)
    mask[40:] = bright
    cv2.imwrite(str(folder / "mask.png"), mask)
    table(folder, [row(boxes="", mask="mask.png")], (*COLUMNS, "mask"))
    truth = opened(folder).truth("a")
    assert truth.masks.shape == (1, 40, 60) and len(truth.boxes[0]) == 0
    assert truth.masks[0, :20].sum() == 0 and truth.masks[0, 20:].all()


def test_a_mask_of_other_values_needs_a_rule_and_ignored_pixels_take_no_part(folder: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[20:], mask[:8] = 1, 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    table(folder, [row(boxes="", mask="mask.png")], (*COLUMNS, "mask"))
    with pytest.raises(DataError, match=r"mask\.png: the mask has 3 values \(0, 1, 255\)"):
        opened(folder).truth("a")
    data = opened(folder, mask_values={"inside": [1], "ignore": [255]})
    truth = data.truth("a")
    assert truth.masks.sum() == 20 * 60 and truth.ignore is not None and truth.ignore.sum() == 8 * 60
    both = opened(folder, mask_values={"inside": [1, 255]})
    assert both.truth("a").ignore is None and both.fingerprint() != data.fingerprint()
    # The map claims the source and the ignored band alike.
    claimed = np.kron(mask > 0, np.ones((4, 4)))[None].astype(np.float32)
    maps = {"a": Prediction("a", claimed)}
    protocol = {"preset": "avloc", "truth": "mask", "binarize": {"at": 0.5}}
    metrics = ["ciou_success@0.97", "pixel_ap", "pixel_auroc", "side_accuracy"]
    scores = evaluate(maps, {"a": truth}, protocol, metrics).values
    assert [round(scores[key], 2) for key in metrics[:3]] == [1, 1, 1] and np.isnan(scores["side_accuracy"])
    assert evaluate(maps, {"a": replace(truth, ignore=None)}, protocol, metrics[:1]).values[metrics[0]] == 0


def test_ignored_pixels_move_with_their_clip_onto_canvases(folder: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[20:], mask[:8] = 1, 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    rows = [row("a", boxes="", mask="mask.png"), row("b", label="cat")]
    table(folder, rows, (*COLUMNS, "mask"))
    table(folder, [{"id": "m", "split": "test", "members": "b+a"}], ("id", "split", "members"), "mixtures.csv")
    data = opened(folder, mask_values={"inside": [1], "ignore": [255]}, mixtures="mixtures.csv")
    truth = data.truth("m")
    assert truth.ignore is not None and truth.ignore[:8, 60:].all() and truth.ignore.sum() == 8 * 60
    maps = {"m": Prediction("m", np.ones((1, 7, 14), np.float32))}
    with pytest.raises(AvlocError, match=r"ignores pixels.*canvas: whole"):
        evaluate(maps, {"m": truth}, {"preset": "avloc", "canvas": "tile"}, tiles=2)


def test_a_photograph_with_a_sound_file(folder: Path) -> None:
    cv2.imwrite(str(folder / "photo.PNG"), np.full((30, 50, 3), (0, 0, 200), np.uint8))
    soundfile.write(folder / "bark.flac", np.full(4410, 0.25), 44100)
    table(folder, [row(media="photo.PNG", audio="bark.flac")], (*COLUMNS, "audio"))
    clip = opened(folder).load("a").clip
    assert clip.image.shape == (30, 50, 3) and clip.image[0, 0].tolist() == [200, 0, 0]
    assert clip.rate == 44100 and len(clip.audio) == 4410


def test_a_sound_file_replaces_the_videos_sound(folder: Path) -> None:
    soundfile.write(folder / "bark.wav", np.full(800, 0.25), 8000)
    table(folder, [row(audio="bark.wav")], (*COLUMNS, "audio"))
    assert len(opened(folder).load("a").clip.audio) == 800


def test_training_clips_need_no_boxes(folder: Path) -> None:
    table(folder, [row(), row("b", split="train", boxes="")])
    sample = opened(folder, "train").load("b")
    assert sample.truth is None and sample.labels == ("dog",)
    with pytest.raises(DataError, match="'b' has neither boxes nor a mask"):
        opened(folder, "train").truth("b")


def test_classes_are_all_labels_or_those_asked_for(folder: Path) -> None:
    table(folder, [row(label="dog"), row("b", label="cat", split="train")])
    assert opened(folder).classes == opened(folder, "train").classes == ("cat", "dog")
    assert opened(folder, classes=["dog", "cow", "cat"]).classes == ("dog", "cow", "cat")
    with pytest.raises(DataError, match=r"line 3: .*class 'cat'.* Did you mean 'cats'"):
        opened(folder, classes=["dog", "cats"])


def train_rows(count: int, groups: int) -> list[Row]:
    return [row(f"t{n}", split="train", group=f"video{n % groups}") for n in range(count)]


def test_a_tenth_of_training_is_held_out_where_no_row_is_val(folder: Path) -> None:
    columns = (*COLUMNS, "group")
    table(folder, [row(), *train_rows(60, 30)], columns)
    train, val = opened(folder, "train"), opened(folder, "val")
    assert len(val.ids()) == 6 and len(train.ids()) == 54
    assert set(train.ids()) | set(val.ids()) == {f"t{n}" for n in range(60)}
    groups = [{int(id[1:]) % 30 for id in data.ids()} for data in (train, val)]
    assert not groups[0] & groups[1]
    assert list(opened(folder, "val").ids()) == list(val.ids())
    assert list(opened(folder).ids()) == ["a"]


@pytest.mark.parametrize(("count", "groups", "held_out"), [(9, 9, 0), (10, 10, 1), (20, 1, 0), (20, 2, 10)])
def test_small_training_sets_hold_out_a_group_or_nothing(folder: Path, count: int, groups: int, held_out: int) -> None:
    table(folder, train_rows(count, groups), (*COLUMNS, "group"))
    assert len(opened(folder, "val").ids()) == held_out
    assert len(opened(folder, "train").ids()) == count - held_out


def test_rows_marked_val_are_the_validation_clips(folder: Path) -> None:
    table(folder, [*train_rows(20, 20), row("v", split="val")], (*COLUMNS, "group"))
    assert list(opened(folder, "val").ids()) == ["v"] and len(opened(folder, "train").ids()) == 20


def test_a_folder_of_test_clips_has_nothing_to_train_on(folder: Path) -> None:
    table(folder, [row()])
    assert list(opened(folder, "train").ids()) == list(opened(folder, "val").ids()) == []
    assert opened(folder, "train").status().present == ()


def test_tables_say_when_test_and_training_share_a_video(folder: Path) -> None:
    columns = (*COLUMNS, "group")
    table(folder, [row(group="v"), row("b", group="w"), row("c", group="v", split="train")], columns)
    assert opened(folder).notes == ("1 of 2 test clips come from groups that are also trained on.",)
    table(folder, [row(group="v"), row("c", group="w", split="train")], columns)
    assert opened(folder).notes == ()


WRONG = {
    "split": ([row(split="tset")], r"line 2: There is no split 'tset'\. Did you mean 'test'"),
    "no id": ([row(id="")], "line 2: id is empty"),
    "no label": ([row(), row("b", label=" ")], "line 3: label is empty"),
    "unannotated": ([row(boxes="")], "line 2: a test clip needs boxes or a mask"),
    "two media": ([row(), row(media="other.mp4")], r"line 3: clip 'a' has the media 'other\.mp4' here but 'clip\.mp4'"),
    "two splits": ([row(), row(split="train")], "line 3: clip 'a' has the split 'train' here but 'test'"),
    "outside path": ([row(media="../secret.mp4")], r"line 2: \.\./secret\.mp4 leaves the folder"),
    "hidden path": ([row(media="videos/../../secret.mp4")], "line 2: .* leaves the folder"),
    "absolute path": ([row(media=str(Path("/").resolve() / "clip.mp4"))], "line 2: .* leaves the folder"),
    "outside id": ([row(id="../a")], r"line 2: the id \.\./a reads as a path that leaves the folder"),
    "repeated": ([row(), row("b"), row()], r"line 4: the row repeats line 2"),
    "photo, no sound": ([row(media="photo.jpg")], r"line 2: photo\.jpg is an image, so the column audio must name"),
}


BOXES = {
    "quoted": ('[["0.1", "0.2", "0.3", "0.4"]]', r"line 2: boxes should be a JSON list of \[x1, y1, x2, y2\]"),
    "booleans": ("[[false, false, true, true]]", "line 2: boxes should be a JSON list"),
    "outside": ("[[0.1, 0.1, 1.2, 0.5]]", r"line 2: .*from 0 to 1, not \[\[0\.1, 0\.1, 1\.2, 0\.5\]\]"),
    "negative": ("[[-0.1, 0.1, 0.2, 0.5]]", "line 2: .*from 0 to 1"),
    "pixels": ("[[10, 20, 100, 200]]", "line 2: .*from 0 to 1"),
    "not a number": ("[[NaN, 0.1, 0.2, 0.5]]", "line 2: boxes should be a JSON list"),
    "xywh": ("[[0.5, 0.5, 0.2, 0.2]]", "line 2: .*x1 < x2"),
    "no area": ("[[0.5, 0.5, 0.5, 0.6]]", "line 2: .*x1 < x2"),
    "flat list": ("[0.1, 0.2, 0.3, 0.4]", r"line 2: .*list of \[x1, y1, x2, y2\]"),
    "ragged": ("[[0.1, 0.2, 0.3]]", "line 2: boxes should be a JSON list"),
    "no JSON": ("0.1 0.2 0.3 0.4", "line 2: boxes should be a JSON list"),
    "beyond all floats": (f"[[{'9' * 400}, 0, 1, 1]]", "line 2: boxes should be a JSON list"),
    "object": ('{"x": 1}', "line 2: boxes should be a JSON list"),
}


@pytest.mark.parametrize(("boxes", "message"), BOXES.values(), ids=BOXES)
def test_wrong_boxes_break_their_clip_and_no_other(folder: Path, boxes: str, message: str) -> None:
    path = table(folder, [row(boxes=boxes), row("b")])
    status = opened(folder).status()
    assert status.present == ("b",) and list(status.broken) == ["a"]
    assert status.broken["a"].startswith(str(path)) and re.search(message, status.broken["a"])


def test_two_sources_with_wrong_boxes_are_not_taken_for_one(folder: Path) -> None:
    table(folder, [row(boxes="[[0, 0, 2, 1]]"), row(boxes="[[0, 0, 1, 3]]")])
    assert "line 2: boxes should be shares" in opened(folder).status().broken["a"]


@pytest.mark.parametrize("beyond", [1e-7, 4e-5, -6e-5])
def test_rounding_is_no_wrong_box(folder: Path, beyond: float) -> None:
    table(folder, [row(boxes=f"[[{-beyond}, 0, 0.5, {1 + beyond}]]")])
    assert opened(folder).truth("a").boxes[0].tolist() == [[max(0, -beyond), 0, 0.5, min(1, 1 + beyond)]]


@pytest.mark.parametrize("boxes", ["[[0, 0, 1.0001, 1]]", "[[-0.0001, 0, 1, 1]]"])
def test_more_than_rounding_is_a_wrong_box(folder: Path, boxes: str) -> None:
    table(folder, [row(boxes=boxes)])
    assert "line 2: boxes should be shares" in opened(folder).status().broken["a"]


@pytest.mark.parametrize("cells", [{"boxes": "none"}, {"label": "nothing", "boxes": ""}, {"label": "nothing"}])
def test_a_clip_in_which_nothing_visible_sounds(folder: Path, cells: Row) -> None:
    mine = {**row(), "boxes": "[]", **cells}
    assert get_component("dataset", "folder").check(table(folder, [mine]), {}) == []  # type: ignore[attr-defined]
    table(folder, [row("b"), mine])
    data = opened(folder)
    truth = data.truth("a")
    assert truth.masks.shape == (1, 40, 60) and not truth.masks.any() and truth.boxes[0].shape == (0, 4)
    assert truth.labels == (cells.get("label", "dog"),) and set(truth.labels) <= set(data.classes)
    maps = {id: Prediction(id, np.eye(4, dtype=np.float32)[None]) for id in ("a", "b")}
    scores = evaluate(maps, {id: data.truth(id) for id in maps}, metrics=["pia", "cap"])
    assert scores.values["pia"] > 0 and scores.rows.cap.isna().tolist() == [True, False]


def test_a_black_mask_is_a_source_that_is_not_visible(folder: Path) -> None:
    cv2.imwrite(str(folder / "black.png"), np.zeros((4, 6), np.uint8))
    path = table(folder, [row(boxes="", mask="black.png")], (*COLUMNS, "mask"))
    assert not opened(folder).truth("a").masks.any()
    assert get_component("dataset", "folder").check(path, {}) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"label": "nothing"}, "line 2: the label 'nothing' says that the source is not visible, but there are boxes"),
        ({"boxes": "none", "mask": "m.png"}, "line 2: none in boxes says that the source is not visible"),
    ],
)
def test_a_source_is_visible_or_not(folder: Path, cells: Row, message: str) -> None:
    table(folder, [row(**cells)], (*COLUMNS, "mask"))
    with pytest.raises(DataError, match=message):
        opened(folder)


def test_nothing_sounds_alone(folder: Path) -> None:
    table(folder, [row(), row(label="nothing", boxes="")])
    with pytest.raises(DataError, match="line 3: clip 'a' has the label 'nothing' and other ones"):
        opened(folder)


MOMENT = (*COLUMNS, "audio", "at", "start", "end")


def test_a_moment_chooses_frame_and_sound(folder: Path) -> None:
    rows = [row(at="1.01"), row("b", start="1", end="2.5"), row("c", start="1", end="2.5", at="0.26"), row("d")]
    table(folder, rows, MOMENT)
    data = opened(folder)
    clips = {id: data.load(id).clip for id in "abcd"}
    for id, frame in {"a": 8, "b": 14, "c": 2, "d": 12}.items():
        assert abs(clips[id].image.mean() - 10 * frame) < 4
    assert len(clips["b"].audio) == len(clips["c"].audio) == 24000 and len(clips["a"].audio) > 46000
    np.testing.assert_array_equal(clips["b"].audio, clips["d"].audio[16000:40000])
    assert len({data.content(id) for id in "abcd"}) == 4


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"at": "soon"}, "line 2: at should be seconds from the file's start, such as 12.5, not soon"),
        ({"at": "-1"}, "line 2: at should be seconds"),
        ({"start": "1"}, "line 2: start and end go together"),
        ({"start": "2", "end": "1"}, "line 2: start and end go together, start before end"),
        ({"media": "a.png", "audio": "a.wav", "at": "1"}, "line 2: a.png is an image, so it has no second 1"),
    ],
)
def test_a_wrong_moment_is_named(folder: Path, cells: Row, message: str) -> None:
    table(folder, [row(**cells)], MOMENT)
    with pytest.raises(DataError, match=message):
        opened(folder)


@pytest.mark.parametrize("cells", [{"start": "1", "end": "9", "at": "1"}, {"start": "5", "end": "5.5", "at": "1"}])
def test_a_moment_after_the_end_breaks_the_clip(folder: Path, cells: Row) -> None:
    path = table(folder, [row(**cells)], MOMENT)
    with pytest.raises(DataError, match=r"the sound lasts 3\.\d+ s, so it has no part from"):
        opened(folder).load("a")
    assert any("so it has no part from" in line for line in get_component("dataset", "folder").check(path, {}))  # type: ignore[attr-defined]


def test_check_goes_on_after_a_moment_of_no_length(folder: Path) -> None:
    path = table(folder, [row(start="3", end="1"), row("b", boxes="[[2, 0, 3, 1]]")], MOMENT)
    found = get_component("dataset", "folder").check(path, {})  # type: ignore[attr-defined]
    assert any("line 2: start and end go together, start before end" in sentence for sentence in found)
    assert any("line 3" in sentence and "from 0 to 1" in sentence for sentence in found)


def test_columns_that_are_not_read_are_named(folder: Path) -> None:
    path = table(folder, [row(), row("b", split="train", boxes="", gruop="v")], (*COLUMNS, "gruop"))
    known = "Known: at, audio, boxes, end, group, id, label, mask, media, split, start. It is not read."
    sentence = f"There is no column 'gruop'. Did you mean 'group'? {known}"
    assert opened(folder).notes == (f"annotations.csv: {sentence}",)
    assert f"{path}: {sentence}" in get_component("dataset", "folder").check(path, {})  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rows", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_row_is_named(folder: Path, rows: list[Row], message: str) -> None:
    path = table(folder, rows)
    with pytest.raises(DataError, match=message) as error:
        opened(folder)
    assert str(error.value).startswith(str(path))


def test_the_first_problem_is_raised_with_the_command_for_the_others(folder: Path) -> None:
    path = table(folder, [row(split="tset"), row("b", label="", media="")])
    with pytest.raises(DataError, match=rf"line 2: .* 2 more problems: avloc data check {path}"):
        opened(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,media,label,split\na,clip.mp4,dog,test\n", r"the header has no column boxes \(or mask\)"),
        ("id,label,boxes\n", "the header has no column media, split; it has id, label, boxes"),
        ("", "it has none"),
        ("id,media,label,boxes,split,label\n", "the header has a column twice"),
        ("id,media,label,boxes,split\na,clip.mp4,dog, barking,[],test\n", "line 2: the row has more cells"),
        ("id,media,label,boxes,split\na,clip.mp4\n", "line 2: label is empty"),
        ('id,media,label,boxes,split\na,"clip.mp4,dog\n', "not a CSV in UTF-8"),
        (b"\xff\xfe\x00id,media", "not a CSV in UTF-8"),
    ],
    ids=["no boxes", "no media", "empty", "twice", "comma", "short row", "open quote", "binary"],
)
def test_a_wrong_file_is_refused(folder: Path, text: str | bytes, message: str) -> None:
    (folder / "annotations.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        opened(folder)


def test_a_spreadsheets_csv_is_read(folder: Path) -> None:
    text = f'\ufeffid,media,label,boxes,split\r\na,clip.mp4,dog,"{LEFT}",test\r\n\r\n'
    (folder / "annotations.csv").write_text(text, encoding="utf-8", newline="")
    assert list(opened(folder).ids()) == ["a"]


def test_the_readmes_example_is_read(folder: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, example = readme.split("## Your own clips")[1].split("```\n")[:2]
    (folder / "annotations.csv").write_text(example, encoding="utf-8")
    test, train = opened(folder), opened(folder, "train")
    assert list(test.ids()) == ["a1", "b7"] and list(train.ids()) == ["c3"]
    assert test.classes == ("cat", "dog, barking", "person")


def test_where_the_csv_may_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(folder, [row()])
    assert opened(folder.parent, csv=f"{folder.name}/annotations.csv").status().present == ("a",)
    assert opened(folder.parent, csv=str(path)).status().present == ("a",)
    monkeypatch.chdir(folder)
    data = get_component("dataset", "folder")(None, split="test", csv="annotations.csv")
    assert data.load("a").clip.id == "a"
    with pytest.raises(DataError, match=r"other\.csv: the annotation file is missing"):
        opened(folder, csv="other.csv")
    with pytest.raises(DataError, match=r"no split 'tests'.* Did you mean 'test'"):
        opened(folder, "tests")


def test_missing_files_are_missing_with_the_reason(folder: Path) -> None:
    rows = [row(), row("b", media="gone.mp4"), row("c", audio="gone.wav"), row("d", boxes="", mask="gone.png")]
    table(folder, rows, (*COLUMNS, "audio", "mask"))
    status = opened(folder).status()
    assert status.present == ("a",)
    assert {id: Path(reason.split(":")[0]).name for id, reason in status.missing.items()} == {
        "b": "gone.mp4", "c": "gone.wav", "d": "gone.png",
    }  # fmt: skip
    assert all(reason.endswith("the file is missing.") for reason in status.missing.values())
    for read in (opened(folder).load, opened(folder).content):
        with pytest.raises(DataError, match=r"gone\.mp4: the file is missing"):
            read("b")


def without(kind: str, source: Path, target: Path) -> None:
    """Copy a video but for one of its streams."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        kept = next(stream for stream in old.streams if stream.type != kind)
        stream = new.add_stream_from_template(kept)
        for packet in old.demux(kept):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


def test_unusable_videos_have_distinct_errors(folder: Path, video: Path) -> None:
    without("audio", video, folder / "mute.mp4")
    without("video", video, folder / "blind.mp4")
    (folder / "cut.mp4").write_bytes(video.read_bytes()[:3000])
    (folder / "empty.mp4").touch()
    reasons = {
        "mute": "has no audio stream", "blind": "has no video stream", "cut": "truncated", "empty": "zero length",
    }  # fmt: skip
    table(folder, [row(), *(row(name, media=f"{name}.mp4") for name in reasons)])
    data = opened(folder)
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=rf"{name}\.mp4: .*{reason}"):
            data.load(name)
    assert data.load("a").clip.id == "a"


def test_odd_clips_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = np.full((8, 40, 60, 3), 99, np.uint8)
    media.write_video(folder / "still.mp4", still, 8, np.ones(16000, np.float32), 16000)
    tone = 0.3 * np.sin(np.arange(16000) / 5)
    waves = {"silent": 0 * tone, "canceled": np.stack([tone, -tone], 1), "short": tone[:4000], "plain": tone}
    rows = [photograph(folder, name) for name in waves]
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, 16000)
    table(folder, [*rows, row("a"), row("still", media="still.mp4")], columns=PICTURED)
    found = opened(folder).remarks()
    assert [(sentence[:11], sentence.rpartition(": ")[2]) for sentence in found] == [
        ("1 of 6 clip", "silent."), ("1 of 6 clip", "canceled."), ("1 of 6 clip", "short."), ("1 of 6 clip", "still."),
    ]  # fmt: skip
    monkeypatch.setattr("avloc.data.traits.read_channels", lambda path: pytest.fail("it was decoded twice"))
    assert opened(folder).remarks() == found


def test_damaged_notes_about_files_are_made_again(folder: Path) -> None:
    soundfile.write(folder / "short.wav", 0.3 * np.sin(np.arange(4000) / 5), 16000)
    table(folder, [row(audio="short.wav")], (*COLUMNS, "audio"))
    found = opened(folder).remarks()
    (kept,) = cache_folder().glob("traits/*.json")
    assert "0.25" in kept.read_text() and found
    for text in (kept.read_text().replace("0.25", "9.25"), "{"):
        kept.write_text(text)
        events: list[Event] = []
        with receiving(events.append):
            assert opened(folder).remarks() == found
        assert any("is damaged or was edited" in str(event) for event in events)
        assert opened(folder).remarks() == found


def test_of_a_moment_the_sound_that_is_heard_counts(folder: Path) -> None:
    tone = 0.3 * np.sin(np.arange(32000) / 5)
    soundfile.write(folder / "half.wav", np.concatenate([0 * tone, tone]), 16000)
    moments = {"silent": ("0", "1.5"), "short": ("2.5", "2.75"), "plain": ("2", "4")}
    rows = [row(id, media="clip.mp4", audio="half.wav", start=a, end=b, at="1") for id, (a, b) in moments.items()]
    table(folder, rows, MOMENT)
    assert [sentence.rpartition("clips ")[2] for sentence in opened(folder).remarks()] == [
        "are silent, the first: silent.",
        "have less than 0.5 s of sound, the first: short.",
    ]
    table(folder, [row(media="clip.mp4", audio="half.wav", start="5", end="6", at="1")], MOMENT)
    assert opened(folder).remarks() == ()  # it is broken, and loading it says why


def test_content_follows_the_files_the_labels_and_the_group(folder: Path) -> None:
    """The key of the feature cache depends neither on boxes and masks nor on the id."""
    cells = {"label": "cow"}, {"group": "herd"}, {}
    about = [photograph(folder, "b", **cell) for cell in cells]
    seen = []
    for line in (*about, {**about[-1], "id": "c"}, {**about[-1], "boxes": "[[0.1, 0.1, 0.2, 0.2]]"}):
        table(folder, [line], PICTURED)
        seen.append(opened(folder).content(line["id"]))
    assert len(set(seen)) == 3 and seen[2] == seen[3] == seen[4]
    soundfile.write(folder / "b.wav", np.full(8000, 0.1), 8000)
    assert opened(folder).content("b") not in seen


def test_no_edit_of_a_long_sound_goes_unnoticed(folder: Path) -> None:
    line = photograph(folder, "b")
    table(folder, [line], PICTURED)
    seen = []
    for second in (10, 20):
        wave = np.zeros(60 * 44100)
        wave[second * 44100] = 0.5
        soundfile.write(folder / "b.wav", wave, 44100)
        seen.append(opened(folder).content("b"))
    assert seen[0] != seen[1]


def test_another_middle_frame_of_a_long_raw_video_does_not_go_unnoticed(folder: Path) -> None:
    """Its size, both its ends and its sound stay as they were."""
    table(folder, [{**photograph(folder, "b"), "media": "raw.avi"}], PICTURED)
    seen = []
    for brightness in (50, 200):
        with av.open(folder / "raw.avi", "w") as file:
            stream = file.add_stream("rawvideo", rate=8)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "bgr24"
            for number in range(25):
                picture = np.full((240, 320, 3), brightness if number == 12 else 0, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            file.mux(stream.encode())
        data = opened(folder)
        size = (folder / "raw.avi").stat().st_size
        seen.append((size, data.load("b").clip.image.mean(), data.content("b"), data.fingerprint()))
    sizes, means, contents, fingerprints = (set(column) for column in zip(*seen, strict=True))
    assert min(sizes) > 1 << 22 and len(sizes) == 1
    assert len(means) == len(contents) == len(fingerprints) == 2


def test_the_fingerprint_follows_rows_files_and_presence(folder: Path) -> None:
    shutil.copy(folder / "clip.mp4", folder / "two.mp4")
    table(folder, [row(), row("b", media="two.mp4")])
    seen = [opened(folder).fingerprint()]
    assert opened(folder).fingerprint() == seen[0]
    table(folder, [row(boxes="[[0.1, 0.1, 0.2, 0.2]]"), row("b", media="two.mp4")])
    seen.append(opened(folder).fingerprint())
    with (folder / "two.mp4").open("ab") as file:
        file.write(b"more")
    seen.append(opened(folder).fingerprint())
    (folder / "two.mp4").unlink()
    seen.append(opened(folder).fingerprint())
    assert len(set(seen)) == 4
