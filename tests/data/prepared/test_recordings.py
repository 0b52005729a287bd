"""The reader of prepared media."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from avloc.data.prepared import Recording, Recordings
from avloc.data.prepared.recordings import read_manifest
from avloc.types import DataError

ONE = Recording("one", "one", ("one",))
RATE = 8000


def write_frame(folder: Path, name: str = "one.jpg", size: tuple[int, int] = (6, 8)) -> Path:
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    path = folder / "frames" / name
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))
    return path


def write_sound(folder: Path, samples: Any, name: str = "one.flac", subtype: str = "PCM_16") -> Path:
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    path = folder / "audio" / name
    soundfile.write(path, samples, RATE, subtype=subtype)
    return path


def note(folder: Path, *lines: dict[str, Any]) -> None:
    with (folder / "manifest.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def ramp(length: int = RATE) -> Any:
    return (np.arange(length) % 30000).astype(np.int16)


def test_a_folder_of_the_released_layout_is_read_as_it_is(tmp_path: Path) -> None:
    write_frame(tmp_path, "one.png")
    write_sound(tmp_path, ramp(), "one.wav")
    media = Recordings(tmp_path)
    wave, rate = media.audio(ONE)
    assert media.image(ONE).shape == (6, 8, 3) and media.size(ONE) == (6, 8)
    assert rate == RATE and np.array_equal(wave * 32768, ramp()) and wave.dtype == np.float32
    assert media.status({"one": [ONE]}).present == ("one",)


def test_status_distinguishes_missing_and_broken_and_a_pair_needs_both(tmp_path: Path) -> None:
    write_frame(tmp_path)
    write_sound(tmp_path, ramp())
    note(tmp_path, {"file": "frames/two.jpg", "source": "v/two.mp4", "broken": "the file has no video stream."})
    two, three = (Recording(name, name, (name,)) for name in ("two", "three"))
    status = Recordings(tmp_path).status({"a": [ONE], "b": [ONE, two], "c": [ONE, three], "d": [ONE, ONE]})
    assert status.present == ("a", "d")
    assert status.broken == {"b": "v/two.mp4: the file has no video stream."}
    assert status.missing == {"c": "frames/three.jpg, audio/three.flac: no video found."}


def test_status_sees_what_was_prepared_meanwhile(tmp_path: Path) -> None:
    media = Recordings(tmp_path / "later")
    assert media.status({"one": [ONE]}).present == ()
    write_frame(tmp_path / "later")
    write_sound(tmp_path / "later", ramp())
    note(tmp_path / "later", {"file": "frames/one.jpg", "height": 3, "width": 5, "bytes": 1})
    assert "but 1 were written" in media.status({"one": [ONE]}).broken["one"]
    with pytest.raises(DataError, match=r"but 1 were written when it was prepared"):
        media.size(ONE)


@pytest.mark.parametrize(
    ("around", "seconds", "start", "length"),
    [
        (None, None, 0, 8000),
        (None, 0.5, 2000, 4000),
        (0.5, 0.25, 3000, 2000),
        (0.0, 0.25, 0, 2000),
        (9.0, 0.5, 4000, 4000),
        (0.2, 7.0, 0, 8000),
    ],
)
def test_windows_are_seconds_of_the_source_and_stay_inside(
    tmp_path: Path, around: float | None, seconds: float | None, start: int, length: int
) -> None:
    write_sound(tmp_path, ramp())
    wave, _ = Recordings(tmp_path).audio(ONE, around=around, seconds=seconds)
    assert np.array_equal(wave * 32768, ramp()[start : start + length])


def test_the_gain_of_a_loud_source_is_taken_back(tmp_path: Path) -> None:
    size = write_sound(tmp_path, ramp()).stat().st_size
    note(tmp_path, {"file": "audio/one.flac", "gain": 0.5, "bytes": size})
    wave, _ = Recordings(tmp_path).audio(ONE)
    assert wave.max() == pytest.approx(2 * ramp().max() / 32768)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    write_sound(tmp_path, np.stack([ramp(), -ramp()], axis=1), "one.wav")
    assert not Recordings(tmp_path).audio(ONE)[0].any()


def test_content_comes_from_the_manifest_or_the_files(tmp_path: Path) -> None:
    files = [write_frame(tmp_path), write_sound(tmp_path, ramp())]
    media = Recordings(tmp_path)
    before = media.content(ONE)
    files[1].write_bytes(files[1].read_bytes() + b" ")
    edited = media.content(ONE)
    note(tmp_path, *({"file": f"{path.parent.name}/{path.name}", "bytes": path.stat().st_size,
                      "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in files))  # fmt: skip
    prepared = media.content(ONE)
    note(tmp_path, {"file": "audio/one.flac", "bytes": files[1].stat().st_size, "gain": 0.5})
    assert len({before, edited, prepared, media.content(ONE)}) == 4


def test_the_last_line_counts_and_a_torn_one_does_not(tmp_path: Path) -> None:
    note(tmp_path, {"file": "a", "broken": "x"}, {"file": "a", "bytes": 3})
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('not json\n[1]\n{"file": "b", "bytes": 3}')
    assert [line["file"] for line in read_manifest(tmp_path / "manifest.jsonl")] == ["a", "a"]
    assert Recordings(tmp_path).manifest()["a"].bytes == 3


def test_a_mask_is_zero_or_one(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "one.png"), np.array([[0, 255], [255, 0]], np.uint8))
    mask = Recordings(tmp_path).mask(ONE)
    assert mask.dtype == np.float32 and mask.tolist() == [[0, 1], [1, 0]]


def test_missing_media_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frames/one\.jpg: the file is missing"):
        Recordings(tmp_path).image(ONE)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.array([0, np.nan, 0], np.float32)])
def test_sounds_without_samples_or_with_nan_are_refused(tmp_path: Path, samples: Any) -> None:
    write_sound(tmp_path, samples, "one.wav", "FLOAT")
    with pytest.raises(DataError, match=r"one\.wav: the (file has no samples|sound has values that are not finite)"):
        Recordings(tmp_path).audio(ONE)


def test_a_damaged_sound_is_refused(tmp_path: Path) -> None:
    path = write_sound(tmp_path, np.random.default_rng(0).integers(-9000, 9000, RATE).astype(np.int16))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"one\.flac: the .*truncated"):
        Recordings(tmp_path).audio(ONE)
    path.write_bytes(b"not a sound")
    with pytest.raises(DataError, match="not a sound file"):
        Recordings(tmp_path).audio(ONE)


@pytest.mark.parametrize("name", ["../one", "a/b", "", "..", "a\\b"])
def test_ids_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot be the id"):
        Recording(name, "one", ())
    with pytest.raises(DataError, match="cannot be the id"):
        Recording("one", name, ())


def written(folder: Path) -> tuple[Path, Path]:
    """A frame and a sound with their lines."""
    files = write_frame(folder, "one.png"), write_sound(folder, ramp())
    for path in files:
        about, sha256 = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
        file = f"{path.parent.name}/{path.name}"
        note(folder, {"file": file, "bytes": about.st_size, "sha256": sha256, "time": about.st_mtime_ns})
    return files


def exchange(path: Path) -> None:
    """Change a byte, not the size."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("which", [0, 1])
def test_a_replaced_file_of_the_same_size_is_reported(tmp_path: Path, which: int) -> None:
    path = written(tmp_path)[which]
    exchange(path)
    media = Recordings(tmp_path)
    assert f"{path.parent.name}/{path.name}: its content was changed" in media.status({"one": [ONE]}).broken["one"]
    with pytest.raises(DataError, match=r"its content was changed .* prepare the data set again"):
        media.content(ONE)


def test_a_file_that_was_copied_is_the_same(tmp_path: Path) -> None:
    frame, sound = written(tmp_path)
    os.utime(frame, ns=(0, 5))
    os.utime(sound, (0, sound.stat().st_mtime_ns // 10**9))
    media = Recordings(tmp_path)
    assert media.status({"one": [ONE]}).present == ("one",) and media.image(ONE).shape == (6, 8, 3)


def test_what_was_not_touched_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sound = written(tmp_path)
    os.utime(sound, (0, sound.stat().st_mtime_ns // 10**9))  # out of a tar archive
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("a file was read"))
    assert Recordings(tmp_path).status({"one": [ONE]}).present == ("one",)


def test_a_manifest_without_times_is_read(tmp_path: Path) -> None:
    path = write_sound(tmp_path, ramp())
    write_frame(tmp_path)
    note(tmp_path, {"file": "audio/one.flac", "bytes": path.stat().st_size, "sha256": "of old"})
    assert Recordings(tmp_path).status({"one": [ONE]}).present == ("one",)


def test_a_link_that_leads_nowhere_is_broken(tmp_path: Path) -> None:
    write_sound(tmp_path, ramp())
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "one.jpg").symlink_to(tmp_path / "gone.jpg")
    broken = Recordings(tmp_path).status({"one": [ONE]}).broken
    assert broken == {"one": "frames/one.jpg: it is a broken link; prepare it again."}
