"""`avloc data check` reports all problems of a user's CSV, each with file and line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from avloc import get_component
from avloc.data import write_video
from avloc.progress import Event, receiving
from helpers.folders import PICTURED, Row, photograph, row, table


def check(path: Path) -> list[str]:
    found: list[str] = get_component("dataset", "folder").check(path, {})  # type: ignore[attr-defined]
    return found


def checked(folder: Path, *rows: Row) -> list[str]:
    """The problems of these rows, without the CSV's name in front."""
    path = table(folder, rows, (*PICTURED, "mask"))
    sentences = check(path)
    assert all(sentence.startswith(f"{path}, line ") for sentence in sentences)
    return [sentence.removeprefix(f"{path}, ").replace(f"{folder}/", "") for sentence in sentences]


def test_nothing_is_said_about_good_clips(tmp_path: Path) -> None:
    rows = [photograph(tmp_path, "a", split="train", boxes=""), photograph(tmp_path, "b")]
    assert checked(tmp_path, *rows) == []


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    good = photograph(tmp_path, "a")
    rows: list[Any] = [
        {**good, "split": "tset"},
        {**good, "id": "b", "boxes": "[[0.2, 0.2, 0.1, 1.5]]", "media": "../a.png"},
        {**good, "id": "../c", "boxes": "[[0.5, 0.5, 0.2, 0.2]]", "label": ""},
        {**good, "id": "d", "boxes": "", "audio": "gone.wav"},
        {**good, "group": "other"},
    ]
    found = checked(tmp_path, *rows)
    expected = [
        "line 2: There is no split 'tset'. Did you mean 'test'?",
        "line 3: ../a.png leaves the folder of the CSV",
        "line 4: label is empty.",
        "line 4: the id ../c reads as a path that leaves the folder",
        "line 5: a test clip needs boxes or a mask",
        "line 6: clip 'a' has the split 'test' here but 'tset' in line 2.",
        "line 6: clip 'a' has the group 'other' here but 'a' in line 2.",
        "line 3: boxes should be shares of width and height, from 0 to 1",
        "line 4: boxes should be [x1, y1, x2, y2] with x1 < x2",
        "line 5: gone.wav: the file is missing.",
    ]
    for sentence, start in zip(found, expected, strict=True):
        assert sentence.startswith(start)


@pytest.mark.parametrize(
    ("label", "other", "count"),
    [("Dog", "dog", 2), ("playing_drum", "playing drum", 2), ("donkye", "donkey", 6)],
)
def test_labels_that_look_misspelled(tmp_path: Path, label: str, other: str, count: int) -> None:
    good = photograph(tmp_path, "a", split="train")
    rows = [{**good, "id": f"{n}", "label": other} for n in range(count)]
    found = checked(tmp_path, *rows, {**good, "id": "x", "label": label})
    assert [line for line in found if "underscores" not in line] == [
        f"line {count + 2}: the label {label!r} of 1 clip looks like {other!r} of {count} clips. Did you mean that?"
    ]


def test_classes_that_are_only_similar_are_left_alone(tmp_path: Path) -> None:
    good = photograph(tmp_path, "a", split="train")
    labels = ["male singing", "female singing", "playing harp", "playing harpsichord"] * 3
    assert checked(tmp_path, *({**good, "id": f"{n}", "label": label} for n, label in enumerate(labels))) == []


def test_what_test_and_training_share_and_what_training_lacks(tmp_path: Path) -> None:
    rows = [
        photograph(tmp_path, "a", split="train"),
        photograph(tmp_path, "b", group="a"),
        photograph(tmp_path, "c", label="unheard"),
        {**photograph(tmp_path, "d"), "audio": "a.wav"},
    ]
    assert checked(tmp_path, *rows) == [
        "line 4: the class 'unheard' of 1 clip in test has no training clips.",
        "line 3: the group 'a' is tested here and trained on in line 2.",
        "line 5: the file 'a.wav' is tested here and trained on in line 2.",
    ]


def test_odd_sounds(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 8000)
    waves = {
        "short": (0.1 * tone[:2000], "lasts 0.25 s"),
        "silent": (0 * tone, "is silent"),
        "canceled": (0.3 * np.stack([tone, -tone], 1), "left and right cancel (their mean, which is heard, peaks at 0"),
        "canceling": (0.3 * np.stack([tone, tone, -2 * tone], 1), "its 3 channels cancel"),
        "clipped": (np.clip(3 * tone, -1, 1), "is clipped: 79% of its samples"),
        "empty": (tone[:0], "no samples"),
        "nan": (np.where(np.arange(16000) == 7, np.nan, tone), "not finite"),
        "scaled": (20000 * tone, "times full scale"),
    }
    rows = []
    for name, (wave, _) in waves.items():
        rows.append(photograph(tmp_path, name))
        soundfile.write(tmp_path / f"{name}.wav", wave, 8000, subtype="FLOAT")
    found = checked(tmp_path, *rows)
    for line, (name, (_, words)) in enumerate(waves.items(), start=2):
        [sentence] = [sentence for sentence in found if sentence.startswith(f"line {line}: {name}.wav: ")]
        assert words in sentence


def test_odd_images(tmp_path: Path) -> None:
    sizes = {
        "dot": ((1, 1), "1 x 1 pixels; sources cannot be seen in so few"),
        "wide": ((2000, 40), "2000 x 40 pixels; encoders squash it"),
        "large": ((5800, 5800), "5800 x 5800 pixels; every load decodes all of them"),
    }
    rows = []
    for name, (size, _) in sizes.items():
        rows.append(photograph(tmp_path, name))
        PIL.Image.new("1", size).save(tmp_path / f"{name}.png")
    rows.append(photograph(tmp_path, "broken"))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    found = checked(tmp_path, *rows)
    for line, (name, (_, words)) in enumerate(sizes.items(), start=2):
        assert f"line {line}: {name}.png: the image is {words}" in "\n".join(found)
    assert found[-1].startswith("line 5: broken.png: the file is truncated or not an image")


def test_files_that_are_no_media_or_no_masks(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    PIL.Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2)).save(tmp_path / "numbers.png")
    rows = [
        row("a", media="text.mp4"),
        row("b", media="gone.mp4"),
        photograph(tmp_path, "c", boxes="", mask="numbers.png"),
    ]
    found = checked(tmp_path, *rows)
    assert len(found) == 3  # each once, though a video is both picture and sound
    assert found[0].startswith("line 2: text.mp4: the file is truncated, damaged or not a media file")
    assert found[1] == "line 3: gone.mp4: the file is missing."
    assert found[2].startswith("line 4: numbers.png: the mask has 4 values (0, 1, 2, 3)")


def test_a_video_of_one_picture(tmp_path: Path) -> None:
    for name, step in (("still", 0), ("moving", 20)):
        frames = np.stack([np.full((40, 60, 3), 60 + step * n, np.uint8) for n in range(8)])
        write_video(tmp_path / f"{name}.mp4", frames, 4, 0.3 * np.sin(np.arange(32000, dtype=np.float32)), 16000)
    found = checked(tmp_path, row("a", media="still.mp4"), row("b", media="moving.mp4"))
    assert found == ["line 2: still.mp4: the video shows one picture all the time."]


def test_a_file_that_many_clips_share_is_decoded_once(tmp_path: Path) -> None:
    good = photograph(tmp_path, "a")
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    found = checked(tmp_path, good, {**good, "id": "b"}, {**good, "id": "c"})
    assert sum("silent" in line for line in found) == 1


def test_the_same_content_under_two_names_in_training_and_test(tmp_path: Path) -> None:
    old, new = photograph(tmp_path, "a", split="train", boxes=""), photograph(tmp_path, "b")
    for suffix in ("png", "wav"):
        shutil.copy(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    assert checked(tmp_path, old, new) == ["line 3: b.png has the same content as a.png, which is trained on."]
    assert checked(tmp_path, {**old, "split": "val"}, new) == [
        "line 3: b.png has the same content as a.png, which is validated on."
    ]
    photograph(tmp_path, "c")
    other = {**new, "media": "c.png"}  # the sound alone
    assert checked(tmp_path, old, other) == ["line 3: b.wav has the same content as a.wav, which is trained on."]


def test_a_test_clip_that_is_there_twice(tmp_path: Path) -> None:
    first, second, third = photograph(tmp_path, "a"), photograph(tmp_path, "b"), photograph(tmp_path, "c")
    for suffix in ("png", "wav"):
        shutil.copy(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    shutil.copy(tmp_path / "a.png", tmp_path / "c.png")  # one image with another sound is another clip
    assert checked(tmp_path, first, second, third) == ["line 3: the clip 'b' has the image and sound of 'a' in line 2."]
    moments = [{**first, "start": str(n), "end": str(n + 1)} for n in range(2)]
    assert not any("image and sound" in line for line in check(moment(tmp_path, moments)))


def moment(folder: Path, rows: list[Row]) -> Path:
    return table(folder, [{**one, "id": f"{n}"} for n, one in enumerate(rows)], (*PICTURED, "start", "end"))


def test_labels_with_underscores_are_remarked_on_once(tmp_path: Path) -> None:
    rows = [photograph(tmp_path, name, label="playing_acoustic_guitar") for name in "ab"]
    assert checked(tmp_path, *rows) == [
        "line 2: the label 'playing_acoustic_guitar' has underscores; text encoders read 'playing acoustic guitar'."
    ]


def test_lists_of_mixtures_are_checked_against_the_clips_beside_them(tmp_path: Path) -> None:
    table(tmp_path, [photograph(tmp_path, "a"), photograph(tmp_path, "b")], PICTURED)
    path = tmp_path / "mixtures.csv"
    path.write_text("id,split,members\nm,test,a+b\nn,test,a\nm,train,a+x\n")
    assert check(path) == [
        f"{path}, line 3: a mixture has two or more members, not a.",
        f"{path}, line 4: the member 'a' is a test clip, but the mixture is for train.",
        f"{path}, line 4: there is no clip 'x'.",
        f"{path}, line 4: the id 'm' is already in line 2.",
    ]
    table(tmp_path, [photograph(tmp_path, "c")], PICTURED, "another.csv")
    events: list[Event] = []
    with receiving(events.append):
        assert len(check(path)) == 4  # it belongs to the file that has its clips
    assert events == [("say", f"{path} is compared with {tmp_path / 'annotations.csv'}.")]
    for name in ("annotations.csv", "another.csv"):
        (tmp_path / name).unlink()
    assert check(path) == [f"{path}: a list of mixtures belongs beside its annotation CSV, but there is none."]


@pytest.mark.parametrize(("text", "words"), [(None, "is missing"), ("", "it has none"), ("\xff", "not a CSV")])
def test_files_that_are_not_annotations_are_reported(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "clips.csv"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    [sentence] = check(path)
    assert sentence.startswith(str(path)) and words in sentence
