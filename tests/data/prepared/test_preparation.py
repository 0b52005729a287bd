"""Preparing media: which files are made, only once, also after interruptions."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile

from avloc.data import read_audio, read_frame, write_video
from avloc.data.extract import Job, make
from avloc.data.prepared import Prepared, Recording, Recordings, inventory, prepare
from avloc.data.prepared.recordings import read_manifest
from avloc.progress import Event, receiving
from avloc.registry import registry
from avloc.store import exclusive
from avloc.types import AvlocError, Status
from helpers import TESTS
from helpers.films import FPS, RATE, SIZE, Bomb, Cinema, annotate, film, pack, put

ID = "ab_cd-ef_1_000030"


@pytest.fixture(autouse=True)
def cinema() -> Iterator[None]:
    registry.cache_clear()
    registry().add_module("cinema", Cinema())
    yield
    registry.cache_clear()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


class Box:
    """Where videos come from and where the prepared media go."""

    def __init__(self, root: Path) -> None:
        self.source, self.data = root / "in", root / "data"
        self.folder = self.data / "films"
        annotate(self.source, [ID])

    def prepare(self, **options: Any) -> Prepared:
        return prepare("films", self.source, data=self.data, jobs=1, **options)

    def status(self) -> Status:
        return inventory.open_splits("films", self.data).splits["test"].status()

    def lines(self) -> dict[str, dict[str, Any]]:
        return {line["file"]: line for line in read_manifest(self.folder / "manifest.jsonl")}

    def times(self) -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in [self.data, *self.data.rglob("*")]}


def wav(samples: Any, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def jpeg(height: int, width: int, suffix: str = ".jpg") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1])


def test_a_video_becomes_its_middle_frame_and_its_sound(box: Box) -> None:
    video = put(box.source / "deep" / f"{ID}.mp4", film())
    done = box.prepare()
    media, recording = Recordings(box.folder), Recording(ID, ID, ())
    assert (done.made, done.broken, done.copied) == (2, {}, ["films.csv"])
    assert np.abs(media.image(recording).astype(int) - read_frame(video)).max() < 12
    wave, rate = media.audio(recording)
    assert rate == RATE and np.abs(wave - read_audio(video)[0]).max() < 1e-4
    frame, sound = box.lines()[f"frames/{ID}.jpg"], box.lines()[f"audio/{ID}.flac"]
    assert frame["source"] == sound["source"] == f"deep/{ID}.mp4" and "av " in sound["decoder"]
    assert (frame["at"], frame["height"], frame["width"]) == (0.5, *SIZE) and "av " in frame["decoder"]
    assert sound["rate"] == RATE and sound["seconds"] == pytest.approx(1, abs=0.2) and sound["gain"] == 1
    assert sound["peak"] == pytest.approx(0.5, abs=0.1) and sound["clipped"] == 0
    for file, line in box.lines().items():
        content = (box.folder / file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (line["bytes"], line["sha256"])
    assert not (box.folder / ".making").exists()


def test_the_frame_may_be_asked_for_at_a_time(box: Box) -> None:
    video = put(box.source / f"{ID}.mp4", film())
    box.prepare(settings=["at=0.3"])
    assert box.lines()[f"frames/{ID}.jpg"]["at"] == pytest.approx(2 / FPS)
    image = Recordings(box.folder).image(Recording(ID, ID, ())).astype(int)
    assert np.abs(image - read_frame(video, 0.3)).mean() < np.abs(image - read_frame(video)).mean()


@pytest.mark.parametrize(("lasts", "at"), [(2, 1.0), (4, 2.0), (100, 1.5)])
def test_the_middle_is_that_of_what_was_promised_and_other_lengths_are_counted(
    box: Box, lasts: float, at: float
) -> None:
    put(box.source / f"{ID}.mp4", film(seconds=3))
    box.prepare(settings=[f"lasts={lasts}"])
    assert box.lines()[f"frames/{ID}.jpg"]["at"] == at
    test = inventory.open_splits("films", box.data, [f"lasts={lasts}"]).splits["test"]
    assert test.remarks() == (
        f"1 of 1 clips do not last {lasts} s (shortest 3.0 s, longest 3.1 s), "
        f"so their frames may not be the annotated ones, the first: {ID}.",
    )


def test_odd_sounds_and_still_pictures_are_counted(box: Box) -> None:
    ids = ["a_000001", "b_000001", "c_000001", "d_000001"]
    annotate(box.source, ids)
    tone = 0.5 * np.sin(np.arange(RATE) / 3)
    waves = [0 * tone, np.stack([tone, -tone], 1), tone[: RATE // 4], tone]
    for id, wave in zip(ids, waves, strict=True):
        put(box.source / "audio" / f"{id}.wav", wav(wave))
        put(box.source / "frames" / f"{id}.jpg", jpeg(8, 8))
    write_video(box.source / "d_000001.mp4", np.full((FPS, *SIZE, 3), 99, np.uint8), FPS, tone.astype("f4"), RATE)
    box.prepare()
    sentences = inventory.open_splits("films", box.data).splits["test"].remarks()
    assert [sentence.rpartition(": ")[2] for sentence in sentences] == [f"{id}." for id in ids]
    kinds = ["are silent", "cancel", "0.5 s of sound", "still picture"]
    assert all(kind in sentence for kind, sentence in zip(kinds, sentences, strict=True))


def test_odd_sounds_are_counted_where_others_made_the_folder(box: Box) -> None:
    annotate(box.folder / "annotations", [ID])
    put(box.folder / "frames" / f"{ID}.jpg", jpeg(8, 8))
    put(box.folder / "audio" / f"{ID}.wav", wav(np.zeros(RATE)))
    test = inventory.open_splits("films", box.data, ["lasts=10"]).splits["test"]
    assert [sentence[:20] for sentence in test.remarks()] == ["1 of 1 clips do not ", "1 of 1 clips are sil"]
    assert test.remarks() == test.remarks()


def test_naming_conventions(box: Box) -> None:
    names = [
        "a-_1_000030.mp4",
        "b-_2_30.webm",
        "c-_3_30000_40000.mkv",
        "x/vggss_d-_4_000030.avi",
        "a title [e-_5_30].mov",
    ]
    annotate(box.source, [f"{id}_000030" for id in ("a-_1", "b-_2", "c-_3", "d-_4", "e-_5")])
    for name in names:
        put(box.source / name, film())
    assert box.prepare().made == 10 and len(box.status().present) == 5


FOLDERS = [
    ("visual_frames", "audio_wav", "wav"), ("extend_frames", "extend_audio", "flac"), ("frames", "audio", "mp3"),
    ("x/Frames/test", "x/Audio/test", "ogg"), ("a", "b", ""),
]  # fmt: skip


@pytest.mark.parametrize(("frames", "sounds", "ending"), FOLDERS)
def test_folders_of_other_releases(box: Box, frames: str, sounds: str, ending: str) -> None:
    put(box.source / frames / f"{ID}.png", jpeg(8, 8, ".png"))
    (box.source / sounds).mkdir(parents=True, exist_ok=True)
    soundfile.write(box.source / sounds / f"{ID}.{ending or 'wav'}", 0.5 * np.sin(np.arange(RATE)), RATE)
    done = box.prepare()
    assert (done.made, len(done.apart), done.found) == ((2, 0, True) if ending else (0, 2, False))


def test_media_of_no_clip_are_counted_and_the_likeliest_is_named(box: Box) -> None:
    for name in ("other_000001", f"[{ID}]_x", f"{ID}.f137", f"{ID}.mp4"):
        put(box.source / f"{name}.webm", film())
    done = box.prepare()
    assert (done.found, done.seen, len(done.strays), done.meant[1]) == (False, 4, 4, ID)
    assert done.names[:2] == (ID, "ab_cd-ef_1_30")
    put(box.source / f"{ID}.avi", film())
    done = box.prepare()
    assert (done.found, done.seen, len(done.strays), done.made) == (True, 5, 4, 2)


def mute() -> bytes:
    """A video without sound."""
    with TemporaryDirectory() as folder:
        with av.open(f"{folder}/mute.mp4", "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.height, stream.width = SIZE
            for n in range(FPS):
                picture = np.full((*SIZE, 3), 20 * n, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return Path(folder, "mute.mp4").read_bytes()


@pytest.mark.parametrize("sound", [f"{ID}.wav", f"audio/{ID}.wav"])
def test_a_video_without_sound_takes_that_of_the_same_name(box: Box, sound: str) -> None:
    put(box.source / f"{ID}.mp4", mute())
    assert box.prepare().made == 1 and "no audio stream" in box.status().broken[ID]
    put(box.source / sound, wav(np.zeros(0)))
    assert "no samples" in box.prepare().broken[f"audio/{ID}.flac"]
    assert box.prepare().kept == 1 and box.status().broken[ID].startswith(f"{sound}: ")
    put(box.source / sound, wav(0.5 * np.sin(np.arange(RATE))))
    done = box.prepare()
    assert (done.made, done.broken) == (1, {}) and box.status().present == (ID,)
    assert box.lines()[f"audio/{ID}.flac"]["source"] == sound
    assert box.prepare().made == 0


def test_the_sound_of_a_video_comes_before_one_beside_it(box: Box) -> None:
    put(box.source / f"{ID}.mp4", film())
    put(box.source / f"{ID}.wav", wav(np.zeros(RATE)))
    assert box.prepare().made == 2 and box.lines()[f"audio/{ID}.flac"]["source"] == f"{ID}.mp4"


@pytest.mark.parametrize("shard", ["00.tar", "00.tar.gz"])
def test_tar_shards(box: Box, shard: str) -> None:
    annotate(box.source, [ID, "v_000002", "v_000003"])
    pack(box.source / shard, {f"scratch/video/{name}.mp4": film() for name in (ID, "other", "v_000002")})
    assert box.prepare().made == 4 and box.status().present == (ID, "v_000002")
    assert box.lines()[f"frames/{ID}.jpg"]["source"] == f"{shard}:scratch/video/{ID}.mp4"
    before = box.times()
    assert box.prepare().made == 0 and box.times() == before
    assert sorted(path.name for path in box.folder.iterdir() if path.name != ".lock") == [
        "annotations", "audio", "frames", "manifest.jsonl", "masks", "shards.json",
    ]  # fmt: skip


def test_a_damaged_shard_is_named_and_gives_what_it_has(box: Box) -> None:
    annotate(box.source, [ID, "v_000002"])
    shard = pack(box.source / "00.tar", {f"{ID}.mp4": film(), "v_000002.mp4": film()})
    shard.write_bytes(shard.read_bytes()[: len(film()) + 4000])
    done = box.prepare()
    assert done.made == 2 and "damaged after" in done.damaged["00.tar"] and box.status().present == (ID,)
    assert all("truncated or damaged" in reason for reason in done.broken.values())


@pytest.mark.parametrize(("frame", "sound"), [("jpg", "wav"), ("png", "flac")])
def test_ready_made_pairs_are_kept_to_the_bit(box: Box, frame: str, sound: str) -> None:
    image = put(box.source / "x" / "frames" / f"{ID}.{frame}", jpeg(5, 7, f".{frame}"))
    (box.source / "y" / "audio").mkdir(parents=True)
    samples = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, 900).astype(np.int16)
    soundfile.write(box.source / "y" / "audio" / f"{ID}.{sound}", samples, 44100)
    assert box.prepare().made == 2 and box.status().present == (ID,)
    assert (box.folder / "frames" / f"{ID}.{frame}").read_bytes() == image.read_bytes()
    wave, rate = Recordings(box.folder).audio(Recording(ID, ID, ()))
    assert rate == 44100 and np.array_equal(wave * 32768, samples)


def test_a_loud_sound_is_scaled_down_and_comes_back_as_it_was(box: Box) -> None:
    wave = np.array([0.1, 1.25, -2.5, 1.0], np.float32)
    put(box.source / "frames" / f"{ID}.jpg", jpeg(4, 4))
    put(box.source / "audio" / f"{ID}.wav", wav(wave, subtype="FLOAT"))
    box.prepare()
    line = box.lines()[f"audio/{ID}.flac"]
    assert line["peak"] == 2.5 and line["clipped"] == 0.75 and line["gain"] == pytest.approx(0.4, rel=1e-3)
    assert np.allclose(Recordings(box.folder).audio(Recording(ID, ID, ()))[0], wave, atol=1e-4)


def test_clips_of_one_video_share_its_sound(box: Box) -> None:
    ids = ["v_000001", "v_000002"]
    annotate(box.source, ids, sound="v")
    put(box.source / "v.mp4", film())
    assert box.prepare().made == 3 and box.status().present == tuple(ids)
    assert sorted(box.lines()) == ["audio/v.flac", "frames/v_000001.jpg", "frames/v_000002.jpg"]


def test_masks(box: Box) -> None:
    annotate(box.source, [ID], mask="yes")
    put(box.source / f"{ID}.mp4", film())
    mask = np.eye(5, 7, dtype=bool)
    put(box.source / "anno" / f"{ID}.jpg.pkl", pickle.dumps(mask))
    assert box.prepare().made == 3 and box.status().present == (ID,)
    assert np.array_equal(Recordings(box.folder).mask(Recording(ID, ID, (), mask=True)), mask)


def test_a_malicious_mask_is_refused_and_not_run(box: Box) -> None:
    annotate(box.source, [ID], mask="yes")
    put(box.source / f"{ID}.mp4", film())
    put(box.source / "anno" / f"{ID}.pkl", pickle.dumps(Bomb(box.source / "executed")))
    assert box.prepare().made == 2 and not (box.source / "executed").exists()
    assert "nothing was run" in box.status().broken[ID]


def streams(*, video: bool, sound: bool) -> bytes:
    """An mp4 without one of its streams, or whose sound is none."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        if video:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
            for _ in range(3):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.zeros((36, 48, 3), np.uint8), format="rgb24"))
                )
            container.mux(stream.encode())
        if sound:
            track = container.add_stream("aac", rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
            frame.sample_rate = RATE
            container.mux([*track.encode(frame), *track.encode()])
    return buffer.getvalue()


def test_broken_videos_are_named_and_do_not_stop_the_others(box: Box) -> None:
    reasons = {
        "empty_1": (b"", "empty"),
        "junk_2": (b"this is no video at all" * 99, "not a media file"),
        "half_3": (film()[: len(film()) // 2], "truncated"),
        "deaf_4": (streams(video=False, sound=True), "no video stream"),
        "mute_5": (streams(video=True, sound=False), "no audio stream"),
    }
    annotate(box.source, [*reasons, "good_6"])
    for id, (content, _) in {**reasons, "good_6": (film(), "")}.items():
        put(box.source / f"{id}.mp4", content)
    done = box.prepare()
    assert done.made == 4 and len(done.broken) == 8  # of two streams, one may be well
    assert box.status().present == ("good_6",)
    for id, (_, reason) in reasons.items():
        assert box.status().broken[id].startswith(f"{id}.mp4: ") and reason in box.status().broken[id]
    assert box.prepare().kept == 8  # the same files are not tried again
    put(box.source / "junk_2.mp4", film())
    again = box.prepare()
    assert (again.made, again.kept) == (2, 6) and "junk_2" in box.status().present


def test_sounds_without_samples_or_with_nan(box: Box) -> None:
    annotate(box.source, ["none_1", "nan_2"])
    for id, samples in {"none_1": [], "nan_2": [0, np.nan, 0]}.items():
        put(box.source / "frames" / f"{id}.jpg", jpeg(4, 4))
        put(box.source / "audio" / f"{id}.wav", wav(np.array(samples, np.float32), subtype="FLOAT"))
    assert box.prepare().made == 2
    assert "no samples" in box.status().broken["none_1"] and "not finite" in box.status().broken["nan_2"]


def test_tiny_and_very_wide_images(box: Box) -> None:
    sizes = {"tiny_1": (1, 1), "wide_2": (2, 20_000)}
    annotate(box.source, list(sizes))
    for id, size in sizes.items():
        put(box.source / "frames" / f"{id}.png", jpeg(*size, ".png"))
        put(box.source / "audio" / f"{id}.wav", wav(np.zeros(100, np.int16)))
    assert box.prepare().made == 4 and len(box.status().present) == 2
    for id, size in sizes.items():
        assert Recordings(box.folder).size(Recording(id, id, ())) == size
        assert Recordings(box.folder).image(Recording(id, id, ())).shape == (*size, 3)


def test_a_broken_frame_is_broken_under_either_suffix(box: Box) -> None:
    put(box.source / "frames" / f"{ID}.png", b"no image")
    assert box.prepare().made == 0 and "not an image" in box.status().broken[ID]
    assert box.prepare().kept == 1


def test_a_second_run_touches_nothing_and_new_sources_are_made(box: Box) -> None:
    annotate(box.source, [ID, "v_000002"])
    put(box.source / f"{ID}.mp4", film())
    box.prepare()
    before = box.times()
    assert box.prepare().made == 0 and box.times() == before
    put(box.source / "v_000002.mp4", film())
    assert box.prepare().made == 2
    after = box.times()
    media = [path for path in before if path.endswith((".jpg", ".flac", ".csv"))]
    assert media and all(after[path] == before[path] for path in media)


def test_an_incomplete_line_is_ignored(box: Box) -> None:
    annotate(box.source, [ID, "v_000002"])
    put(box.source / f"{ID}.mp4", film())
    box.prepare()
    manifest = box.folder / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    torn = json.loads(lines[-1])["file"]
    manifest.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    (box.folder / torn).unlink()
    put(box.source / "v_000002.mp4", film())
    assert box.prepare().made == 3 and len(box.status().present) == 2 and len(box.lines()) == 4


def test_killed_and_run_again(box: Box) -> None:
    ids = [f"v_{n:06}" for n in range(16)]
    annotate(box.source, ids)
    for n, id in enumerate(ids):
        put(box.source / f"{id}.mp4", film(n % 2))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from helpers.films import Cinema; from avloc.registry import registry\n"
        "from avloc.data.prepared import prepare\n"
        "from pathlib import Path; registry().add_module('cinema', Cinema())\n"
        "prepare('films', Path(sys.argv[2]), data=Path(sys.argv[3]), jobs=1)"
    )
    here = TESTS
    process = subprocess.Popen([sys.executable, "-c", code, str(here), str(box.source), str(box.data)])
    deadline = time.monotonic() + 60
    while len(list(box.folder.glob("frames/*.jpg"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in box.folder.glob("[fa]*/*.[jf]*")}
    assert 3 <= len(before) < 32
    done = box.prepare()
    assert done.made == 32 - len(before) and not done.broken and len(box.status().present) == 16
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert all((box.folder / file).stat().st_size == line["bytes"] for file, line in box.lines().items())


def test_a_decoder_that_crashes_loses_one_file(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = (
        "import avloc, avloc.data.media, os\navloc.data.media.read_frame = lambda path, at: os.kill(os.getpid(), 11)\n"
    )
    put(tmp_path / "site" / "sitecustomize.py", crash.encode())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    put(box.source / f"{ID}.mp4", film())
    done = box.prepare()
    assert done.made == 1 and list(done.broken.values()) == [f"{ID}.mp4: the decoder crashed (Segmentation fault)"]


def test_a_decoder_that_never_ends_is_killed(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hang = "import avloc.data.media, time\navloc.data.media.read_frame = lambda path, at: time.sleep(99)\n"
    put(tmp_path / "site" / "sitecustomize.py", hang.encode())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    put(box.source / f"{ID}.mp4", film())
    assert "the decoder crashed (Killed)" in box.prepare(longest=5).transient[f"frames/{ID}.jpg"]
    monkeypatch.delenv("PYTHONPATH")
    assert box.prepare().made == 1 and box.status().present == (ID,)


def test_videos_may_lie_in_the_data_folder(box: Box) -> None:
    put(box.folder / "videos" / f"{ID}.mp4", film())
    annotate(box.folder, [ID])
    box.source = box.folder
    assert box.prepare().made == 2 and box.prepare().made == 0 and box.status().present == (ID,)


def test_a_full_disk_stops_with_a_sentence(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box.source / f"{ID}.mp4", film())
    box.prepare()
    (box.folder / "frames" / f"{ID}.jpg").unlink()
    monkeypatch.setattr(
        "avloc.data.prepared.preparation._keep",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(AvlocError, match=r"Cannot write to .*films: No space left on device"):
        box.prepare()


def test_two_processes_do_not_prepare_at_once(box: Box) -> None:
    put(box.source / f"{ID}.mp4", film())
    events: list[Event] = []

    def run() -> Prepared:
        with receiving(events.append):
            return box.prepare()

    with ThreadPoolExecutor(1) as pool:
        with exclusive(box.folder, "a test"):
            future = pool.submit(run)
            while not any(event[0] == "say" and "waiting" in event[1] for event in events):
                time.sleep(0.01)
            assert not (box.folder / "frames").exists()
        assert future.result(timeout=30).made == 2


def test_missing_annotations_are_named_with_their_place(box: Box) -> None:
    (box.source / "films.csv").unlink()
    with pytest.raises(AvlocError, match=r"No split of films .* films\.csv is published at https://example\.org/films"):
        box.prepare()


def test_annotations_may_lie_elsewhere(box: Box, tmp_path: Path) -> None:
    annotate(tmp_path / "papers" / "one", [ID, "more_000001"])
    put(box.source / f"{ID}.mp4", film())
    box.prepare(annotations=tmp_path / "papers")
    assert set(box.status().missing) == {"more_000001"}
    with pytest.raises(AvlocError, match="not a folder"):
        box.prepare(annotations=tmp_path / "nowhere")


def test_data_sets_without_media_to_prepare(box: Box, world: Any) -> None:
    with pytest.raises(AvlocError, match="nothing to prepare"):
        prepare("blocks", box.source)
    with pytest.raises(AvlocError, match="is not a folder"):
        registry().add_module("cinema", Cinema())
        prepare("films", box.source / "nowhere", data=box.data)


def test_a_damaged_file_is_reported_by_status_and_made_again(box: Box) -> None:
    put(box.source / f"{ID}.mp4", film())
    box.prepare()
    frame = next(box.data.rglob("frames/*.jpg"))
    frame.write_bytes(frame.read_bytes()[:100])
    status = box.status()
    assert status.present == () and "has 100 bytes" in status.broken[ID]
    box.prepare()
    assert box.status().present == (ID,)


def test_a_replaced_file_of_the_same_size_is_made_again(box: Box) -> None:
    put(box.source / f"{ID}.mp4", film())
    box.prepare()
    frame = box.folder / "frames" / f"{ID}.jpg"
    assert box.lines()[f"frames/{ID}.jpg"]["time"] == frame.stat().st_mtime_ns
    content = frame.read_bytes()
    frame.write_bytes(bytes(len(content)))
    assert "its content was changed" in box.status().broken[ID]
    assert box.prepare().made == 1 and box.status().present == (ID,) and frame.read_bytes() == content


@pytest.mark.parametrize(
    "failure",
    [
        "os.kill(os.getpid(), 9)",
        "raise_(MemoryError())",
        "raise_(OSError(24, 'Too many open files'))",
        "os.unlink(path)",  # what is no longer there may come back
    ],
)
def test_what_failed_for_a_passing_reason_is_tried_again(
    box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: str
) -> None:
    code = (
        "import avloc, avloc.data.media, os\ndef raise_(error): raise error\n"
        f"def read_channels(path):\n    {failure}\n    raise avloc.DataError('the file is missing')\n"
        "avloc.data.media.read_channels = read_channels\n"
    )
    put(tmp_path / "site" / "sitecustomize.py", code.encode())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    video = put(box.source / f"{ID}.mp4", film())
    state = video.stat()
    done = box.prepare()
    assert (done.made, done.broken, list(done.transient)) == (1, {}, [f"audio/{ID}.flac"])
    assert box.lines()[f"audio/{ID}.flac"]["transient"] and ID in box.status().broken
    monkeypatch.delenv("PYTHONPATH")
    put(video, film())
    os.utime(video, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = box.prepare()
    assert (again.made, again.kept, again.transient) == (1, 0, {}) and box.status().present == (ID,)


def damaged(box: Box, suffix: str) -> Path:
    """A prepared frame that was cut, and a video to make it of again; a ready-made one had the suffix."""
    image = put(box.source / "frames" / f"{ID}{suffix}", jpeg(5, 7, suffix))
    put(box.source / "audio" / f"{ID}.wav", wav(np.zeros(100, np.int16)))
    box.prepare()
    image.unlink()
    frame = box.folder / "frames" / f"{ID}{suffix}"
    frame.write_bytes(b"cut")
    return frame


def test_a_damaged_file_stays_until_the_lock_is_held(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = damaged(box, ".jpg")
    put(box.source / f"{ID}.mp4", film())

    def stop(*_: object) -> None:
        raise AvlocError("another process has it")

    with monkeypatch.context() as patch:
        patch.setattr("avloc.data.prepared.preparation.exclusive", stop)
        with pytest.raises(AvlocError, match="another process"):
            box.prepare()
    assert frame.read_bytes() == b"cut"
    assert box.prepare().made == 1 and box.status().present == (ID,)


def test_a_damaged_file_goes_when_its_replacement_has_another_suffix(box: Box) -> None:
    frame = damaged(box, ".png")
    put(box.source / f"{ID}.mp4", film())
    assert box.prepare().made == 1 and box.status().present == (ID,) and not frame.exists()
    assert frame.with_suffix(".jpg").exists()


def test_a_damaged_file_whose_source_is_broken_now_goes_too(box: Box) -> None:
    frame = damaged(box, ".jpg")
    put(box.source / f"{ID}.mp4", b"no video")
    assert len(box.prepare().broken) == 1 and not frame.exists()
    assert "not a media file" in box.status().broken[ID]


def test_a_link_that_leads_nowhere_is_made_anew(box: Box) -> None:
    put(box.source / f"{ID}.mp4", film())
    (box.folder / "frames").mkdir(parents=True)
    (box.folder / "frames" / f"{ID}.jpg").symlink_to(box.folder / "gone.jpg")
    assert box.prepare().made == 2 and box.status().present == (ID,)


def test_duplicates_are_reported(box: Box) -> None:
    annotate(box.source, [ID], mask="yes")
    put(box.source / f"{ID}.mp4", film())
    put(box.source / "anno" / f"{ID}.png", jpeg(4, 4, ".png"))
    put(box.source / "truth" / f"{ID}.pkl", pickle.dumps(np.eye(5, 7, dtype=bool)))
    assert box.prepare().doubles == {f"masks/{ID}.png": f"truth/{ID}.pkl"}


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    source = put(tmp_path / "one.png", jpeg(5, 7, ".png"))
    line = make(Job("frames/one.png", "one.png", (0, 0), tmp_path / "made", source))
    assert synced == [line["bytes"]] == [(tmp_path / "made").stat().st_size]


def test_making_media_needs_no_torch() -> None:
    code = "import sys, avloc.workers, avloc.data.extract; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
