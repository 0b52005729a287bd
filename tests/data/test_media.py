"""Frames and waveforms: the content of good files, and the errors for bad ones."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest
import soundfile

from avloc import AvlocError, DataError
from avloc.data import media

FPS, COUNT, RATE = 8, 24, 16000
LEVELS = np.linspace(20, 230, COUNT)
"""Frame n is a flat gray of this brightness."""


def frames(height: int = 64, width: int = 64) -> np.ndarray:
    return np.broadcast_to(LEVELS[:, None, None, None], (COUNT, height, width, 3)).astype(np.uint8)


def tone(seconds: float = 3.0, rate: int = RATE, hertz: float = 440) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write(
    path: Path,
    *,
    video: str | None = "libx264",
    audio: str | None = "aac",
    pictures: np.ndarray | None = None,
    late: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """A file with any streams, interleaved; the sound starts `late` seconds after the picture."""
    pictures = frames() if pictures is None else pictures
    with av.open(str(path), "w", options=options or {}) as container:
        if video:
            picture = container.add_stream(video, rate=FPS)
            picture.height, picture.width = pictures.shape[1:3]
            picture.pix_fmt = "yuv420p"
        if audio:
            sound = container.add_stream(audio, rate=RATE, layout="mono")
        step = RATE // FPS
        for n, pixels in enumerate(pictures):
            if video:
                container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            if audio:
                part = av.AudioFrame.from_ndarray(tone()[None, n * step : (n + 1) * step], "fltp", "mono")
                part.sample_rate, part.time_base = RATE, Fraction(1, RATE)
                part.pts = n * step + round(late * RATE)
                container.mux(sound.encode(part))
        container.mux(picture.encode() if video else [])
        container.mux(sound.encode() if audio else [])
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    media.write_video(path, frames(), FPS, tone(), RATE)
    return path


def shown(image: np.ndarray) -> int:
    """Which of the gray frames this is."""
    return int(np.abs(LEVELS - image.mean()).argmin())


def test_a_written_video_reads_back(clip: Path) -> None:
    image = media.read_frame(clip)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    audio, rate = media.read_audio(clip)
    assert audio.dtype == np.float32 and rate == RATE
    assert len(tone()) <= len(audio) < len(tone()) + 2048  # AAC comes in blocks of 1024
    errors = [np.abs(audio[2000 + lag : 40000 + lag] - tone()[2000:40000]).mean() for lag in range(-20, 21)]
    assert np.argmin(errors) == 20 and min(errors) < 0.02  # in step to the sample


def test_the_same_arrays_give_the_same_file(clip: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.mp4"
    media.write_video(again, frames(), FPS, tone(), RATE)
    assert again.read_bytes() == clip.read_bytes()


def test_odd_sizes_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(AvlocError, match="even height and width, but the frames are 64x63"):
        media.write_video(tmp_path / "odd.mp4", frames(64, 63), FPS, tone(), RATE)


def test_the_middle_frame_is_number_n_over_2_and_others_go_by_time(clip: Path) -> None:
    assert shown(media.read_frame(clip)) == COUNT // 2
    for at, expected in ((0.0, 0), (0.124, 0), (0.125, 1), (1.5, 12), (2.99, 23)):
        assert shown(media.read_frame(clip, at)) == expected
    for at in (-0.1, 3.2):
        with pytest.raises(DataError, match=r"no frame at .* the video lasts 3.00 s"):
            media.read_frame(clip, at)


def copied(source: Path, path: Path, *, back: float, sound_back: float | None = None) -> Path:
    """A copy without coding, as of ``ffmpeg -c copy``: streams begin earlier by some seconds."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.pts is None:
                continue
            seconds = back if packet.stream.type == "video" or sound_back is None else sound_back
            shift = round(seconds / packet.time_base)
            packet.pts -= shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if packet.stream.type == "video" or packet.pts >= 0:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return path


@pytest.mark.parametrize("back", [0.3, 1.0, 1.6])
def test_frames_before_the_start_of_an_edit_list_are_not_shown(tmp_path: Path, back: float) -> None:
    path = copied(write(tmp_path / "whole.mp4"), tmp_path / "cut.mp4", back=back)
    assert media.read_timeline(path).seconds == pytest.approx(3 - back, abs=0.13)
    for at in (0.0, 0.5, 1.0):
        assert 0 <= shown(media.read_frame(path, at)) - int((at + back) * FPS) <= 1
    assert shown(media.read_frame(path)) == pytest.approx((back + (3 - back) / 2) * FPS, abs=0.6)


def paced(path: Path, starts: list[float]) -> Path:
    """A video whose frame n is shown from ``starts[n]`` on, which ends with the last of them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 64, "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for start, pixels in zip(starts, frames(), strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(1000 * start), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("starts", "middle"),
    [
        ([0, *np.linspace(6, 10, 21)], 0),
        ([*np.linspace(0, 2, 21), 9.9, 10], 20),
        ([0, 1, 2, 4, 4.5, 4.9, 6, 8, 9.9, 10], 5),
    ],
    ids=["slow first", "slow last", "mixed"],
)
def test_a_variable_rate_does_not_move_the_middle(
    tmp_path: Path, ending: str, starts: list[float], middle: int
) -> None:
    path = paced(tmp_path / f"paced.{ending}", starts)
    assert shown(media.read_frame(path)) == shown(media.read_frame(path, 5.0)) == middle


VIDEOS = {
    "b.avi": "mpeg4", "x.avi": "libx264", "f.flv": "libx264", "v.webm": "libvpx", "w.webm": "libvpx-vp9",
    "a.mkv": "libsvtav1", "h.mkv": "libx265", "m.mpg": "mpeg2video",
}  # fmt: skip


@pytest.mark.parametrize(("name", "codec"), VIDEOS.items())
def test_every_container_shows_the_same(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    path = write(tmp_path / name, video=codec, audio=None)
    assert [shown(media.read_frame(path, at)) for at in (0.0, 0.5, 1.55, 2.95, None)] == [0, 4, 12, 23, 12]


def test_frame_and_sound_count_from_the_same_moment(tmp_path: Path) -> None:
    path = copied(write(tmp_path / "whole.mkv"), tmp_path / "late.mkv", back=-0.5, sound_back=0.0)
    assert [shown(media.read_frame(path, at)) for at in (0.1, 0.51, 1.51)] == [0, 0, 8]
    wave, rate = media.read_audio(path)
    assert np.abs(wave[: rate // 4]).max() > 0.4
    late = copied(write(tmp_path / "more.mkv"), tmp_path / "later.mkv", back=-2.0, sound_back=0.0)
    with pytest.raises(DataError, match=r"no frame at 0.5 s; .* starts at (1.94|2.00) s"):
        media.read_frame(late, 0.5)


MATRICES = {
    "turned": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "turned back": ((0, -1, 1, 0), np.rot90),
    "half turned": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "swapped": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
}


@pytest.mark.parametrize("kind", MATRICES)
def test_the_display_matrix_turns_and_mirrors(tmp_path: Path, kind: str) -> None:
    pictures = frames(48, 64).copy()
    pictures[:, :16, :16], pictures[:, 32:, :16] = 255, 0  # every corner differs
    plain = write(tmp_path / "plain.mp4", pictures=pictures)
    (a, b, c, d), change = MATRICES[kind]
    content = bytearray(plain.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # of the first track, the video
    one = 1 << 16
    content[at : at + 36] = np.array([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], ">i4").tobytes()
    (tmp_path / "other.mp4").write_bytes(content)
    np.testing.assert_array_equal(media.read_frame(tmp_path / "other.mp4"), change(media.read_frame(plain)))


def test_a_still_picture_is_told_from_a_video(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8).repeat(COUNT, 0)
    moving = noise.copy()
    moving[-3:, 20:40, 20:40] = 128  # only at the end, between key frames
    assert media.is_still(write(tmp_path / "still.mp4", pictures=noise))
    assert media.is_still(write(tmp_path / "one.mp4", pictures=noise[:1], audio=None))
    assert not media.is_still(write(tmp_path / "moving.mp4", pictures=moving))
    assert not media.is_still(write(tmp_path / "brighter.mp4"))


def test_a_late_sound_begins_with_silence(tmp_path: Path) -> None:
    audio, rate = media.read_audio(write(tmp_path / "late.mkv", late=0.5))
    assert np.abs(audio[: int(0.45 * rate)]).max() < 0.01
    assert np.abs(audio[int(0.55 * rate) : rate]).max() > 0.4


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_sound_files_become_mono(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"sound.{ending}"
    left, right = tone(1, 44100), tone(1, 44100, 1000)
    soundfile.write(path, np.stack([left, right], axis=1), 44100)
    audio, rate = media.read_audio(path)
    assert rate == 44100 and audio.ndim == 1 and len(audio) == 44100
    np.testing.assert_allclose(audio, (left + right) / 2, atol=1e-4)


def test_the_default_track_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "dubbed.mkv"
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("aac", rate=RATE, layout="mono") for _ in range(3)]
        tracks[1].disposition = av.stream.Disposition.default
        for track, level in zip(tracks, (0.0, 1.0, 0.2), strict=True):
            part = av.AudioFrame.from_ndarray(level * tone()[None], "fltp", "mono")
            part.sample_rate, part.pts = RATE, 0
            for packet in (*track.encode(part), *track.encode()):
                container.mux(packet)
    assert np.abs(media.read_audio(path)[0]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("count", [1, 2, 6, 8, 9, 16])
def test_any_number_of_channels_is_averaged(tmp_path: Path, count: int) -> None:
    levels = np.linspace(1, 0.1, count, dtype=np.float32)
    soundfile.write(tmp_path / "many.wav", tone(1)[:, None] * levels, RATE, subtype="FLOAT")
    channels, rate = media.read_channels(tmp_path / "many.wav")
    np.testing.assert_allclose(channels, levels[:, None] * tone(1), atol=1e-6)
    audio, _ = media.read_audio(tmp_path / "many.wav")
    assert rate == RATE and audio.dtype == np.float32
    np.testing.assert_allclose(audio, levels.mean() * tone(1), atol=1e-6)


@pytest.mark.parametrize("peak", [1.0, 1.5, 4.0])
def test_what_is_beyond_full_scale_is_kept(tmp_path: Path, peak: float) -> None:
    soundfile.write(tmp_path / "loud.wav", 2 * peak * tone(1), RATE, subtype="FLOAT")
    audio, _ = media.read_audio(tmp_path / "loud.wav")
    np.testing.assert_allclose(audio, 2 * peak * tone(1), rtol=1e-6)


def test_a_lossy_decoders_overshoot_is_kept(tmp_path: Path) -> None:
    square = np.sign(tone())
    media.write_video(tmp_path / "loud.mp4", frames(), FPS, square, RATE)
    audio, _ = media.read_audio(tmp_path / "loud.mp4")
    assert 1.02 < np.abs(audio).max() < 3


def test_floats_scaled_like_integers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "scaled.wav", 32768 * tone(1), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"scaled\.wav: .* reaches 1.638e\+04 times full scale; .* divide them"):
        media.read_audio(tmp_path / "scaled.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sound_with_values_that_are_no_numbers_is_refused(tmp_path: Path, value: float) -> None:
    wave = tone(1)
    wave[RATE // 4] = value
    soundfile.write(tmp_path / "broken.wav", wave, RATE, subtype="DOUBLE")
    with pytest.raises(DataError, match=r"broken\.wav: .* not finite, the first at 0\.25 s"):
        media.read_audio(tmp_path / "broken.wav")


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_sound_of_no_samples_is_refused(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / f"nothing.{ending}", np.zeros(0), RATE)
    with pytest.raises(DataError, match=rf"nothing\.{ending}: .*(no samples|zero length)"):
        media.read_audio(tmp_path / f"nothing.{ending}")


@pytest.mark.parametrize(
    ("wave", "rate"),
    [(tone(0.01), RATE), (tone(1, 8000), 8000), (tone(1, 96000), 96000), (0 * tone(1), RATE), (tone(1)[:1], RATE)],
    ids=["short", "8 kHz", "96 kHz", "silent", "one sample"],
)
def test_odd_sounds_are_read(tmp_path: Path, wave: np.ndarray, rate: int) -> None:
    soundfile.write(tmp_path / "odd.wav", wave, rate)
    audio, found = media.read_audio(tmp_path / "odd.wav")
    assert found == rate
    np.testing.assert_allclose(audio, wave, atol=1e-4)


def no_audio(folder: Path) -> Path:
    return write(folder / "silent film.mp4", audio=None)


def no_video(folder: Path) -> Path:
    return write(folder / "radio.mp4", video=None)


def cut_short(folder: Path) -> Path:
    """Ends after two fifths; the index comes last, so it is lost."""
    whole = write(folder / "whole.mp4").read_bytes()
    path = folder / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 5])
    return path


def cut_streamed(folder: Path) -> Path:
    """Ends after two fifths, but its index comes first, as in files made for the web."""
    noise = np.random.default_rng(0).integers(0, 255, (COUNT, 64, 64, 3), dtype=np.uint8)
    whole = write(folder / "web.mp4", pictures=noise, options={"movflags": "+faststart"}).read_bytes()
    path = folder / "cut web.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 5])
    return path


def half_downloaded(folder: Path) -> Path:
    """Its streams have no lengths, only the whole file has one."""
    noise = np.random.default_rng(0).integers(0, 255, (COUNT, 64, 64, 3), dtype=np.uint8)
    whole = write(folder / "whole.mkv", pictures=noise).read_bytes()
    path = folder / "half.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    return path


def playlist(folder: Path) -> Path:
    """Names another file to read."""
    write(folder / "secret.mp4")
    path = folder / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    return path


def streaming_list(folder: Path) -> Path:
    write(folder / "secret.mp4")
    path = folder / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    return path


def junk(folder: Path) -> Path:
    path = folder / "junk.mp4"
    path.write_bytes(b"<html>video unavailable</html>" * 50)
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


BAD = [
    (media.read_frame, missing, "the file is missing"),
    (media.read_frame, empty, "empty (zero length)"),
    (media.read_frame, junk, "not a media file"),
    (media.read_frame, cut_short, "truncated"),
    (media.read_frame, cut_streamed, "truncated"),
    (media.read_frame, half_downloaded, "truncated: 1.5"),
    (media.read_frame, playlist, "not a media file"),
    (media.read_frame, streaming_list, "not a media file"),
    (media.read_frame, no_video, "has no video stream"),
    (media.read_audio, missing, "the file is missing"),
    (media.read_audio, empty, "empty (zero length)"),
    (media.read_audio, junk, "not a media file"),
    (media.read_audio, cut_short, "truncated"),
    (media.read_audio, cut_streamed, "truncated"),
    (media.read_audio, half_downloaded, "truncated: 1.5"),
    (media.read_audio, playlist, "not a media file"),
    (media.read_audio, streaming_list, "not a media file"),
    (media.read_audio, no_audio, "has no audio stream"),
    (media.read_image, missing, "the file is missing"),
    (media.read_image, empty, "empty (zero length)"),
    (media.read_image, junk, "not an image"),
]


@pytest.mark.parametrize(("read", "make", "cause"), BAD, ids=lambda case: getattr(case, "__name__", ""))
def test_bad_files_have_distinct_errors(
    read: Callable[[Path], object], make: Callable[[Path], Path], cause: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(path) in str(error.value) and cause in str(error.value)


def test_bad_files_leave_the_terminal_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for make in (cut_short, junk, empty):
        with pytest.raises(DataError):
            media.read_frame(make(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_frames_need_no_sound_and_sounds_need_no_frames(tmp_path: Path) -> None:
    assert shown(media.read_frame(no_audio(tmp_path))) == COUNT // 2
    assert np.abs(media.read_audio(no_video(tmp_path))[0]).max() > 0.4


@pytest.mark.parametrize(
    "pixels",
    [np.full((20, 30), 100, np.uint8), np.full((20, 30, 3), 100, np.uint8), np.full((20, 30, 4), 100, np.uint8)],
    ids=["gray", "color", "transparent"],
)
def test_images_are_rgb(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "ünïcode.png"
    if pixels.ndim == 3:
        pixels[..., 0] = 200  # OpenCV's first channel is blue
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    image = media.read_image(path)
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == ([100, 100, 200] if pixels.ndim == 3 else [100] * 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    PIL.Image.new("RGB", (30, 20), (204, 51, 102)).convert(mode, dither=0).save(path)
    image = media.read_image(path)
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8 and image.flags.writeable
    expected = {"1": 0, "L": 103, "LA": 103}.get(mode, (204, 51, 102))
    np.testing.assert_allclose(image[10, 10], np.broadcast_to(expected, 3), atol=2)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_the_upper_8_of_16_bits_are_used(tmp_path: Path, ending: str) -> None:
    PIL.Image.fromarray(np.full((20, 30), 200 * 256 + 99, np.uint16)).save(tmp_path / f"scan.{ending}")
    assert (media.read_image(tmp_path / f"scan.{ending}") == np.full((20, 30, 3), 200)).all()


def test_what_is_transparent_keeps_its_color(tmp_path: Path) -> None:
    PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "glass.png")
    assert media.read_image(tmp_path / "glass.png")[0, 0].tolist() == [10, 20, 30]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert media.read_image(tmp_path / "turned.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (20_000, 30), (40, 20_000), (300, 200), (200, 300)])
def test_images_of_any_shape_fit_the_encoder(tmp_path: Path, size: tuple[int, int]) -> None:
    PIL.Image.new("RGB", size, (200, 40, 120)).save(tmp_path / "odd.png")
    image = media.read_image(tmp_path / "odd.png")
    assert image.shape == (size[1], size[0], 3)
    small = media.resize_image(image, 224, 224)
    assert small.shape == (224, 224, 3) and (small == (200, 40, 120)).all()


@pytest.mark.parametrize("side", [9000, 20_000])
def test_enormous_images_are_refused_before_they_are_decoded(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    PIL.Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000  # the file's size says nothing
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"bomb\.png: .*(are too many|too many pixels)"):
        media.read_image(tmp_path / "bomb.png")


def test_enormous_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"64 x 64 pixels are too many"):
        media.read_frame(no_audio(tmp_path), most_pixels=64 * 64 - 1)


def test_pixels_of_32_bits_are_refused(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(DataError, match=r"depth\.tiff: the pixels are floats"):
        media.read_image(tmp_path / "depth.tiff")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tiff"])
def test_half_an_image_is_refused(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole, half = tmp_path / f"whole.{ending}", tmp_path / f"half.{ending}"
    PIL.Image.fromarray(noise).save(whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"half\.{ending}: the file is truncated"):
        media.read_image(half)


def test_resampling_keeps_the_tone_and_the_length() -> None:
    wave = media.resample(tone(1, 44100), 44100, 16000)
    assert wave.dtype == np.float32 and len(wave) == 16000
    np.testing.assert_allclose(wave[500:-500], tone(1, 16000)[500:-500], atol=0.01)
    assert media.resample(wave, 16000, 16000) is wave


@pytest.mark.parametrize("rate", [8012, 11127, 22255, 44101, 192000])
def test_any_rate_is_resampled_with_little_memory(rate: int) -> None:
    wave = media.resample(tone(1, rate), rate, 16000)
    assert wave.dtype == np.float32 and len(wave) == 16000
    np.testing.assert_allclose(wave[500:-500], tone(1, 16000)[500:-500], atol=0.01)


def test_resizing_blends_rather_than_skips() -> None:
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[:, ::2] = 200
    small = media.resize_image(fine, 16, 8)
    assert small.shape == (16, 8, 3) and small.dtype == np.uint8
    assert abs(small[:, 2:-2].astype(float) - 100).max() < 15  # without antialiasing this would be 0 or 200
    assert media.resize_image(fine, 64, 64) is fine
    assert media.resize_image(fine, 128, 96).shape == (128, 96, 3)


@pytest.mark.parametrize("width", [8, 24, 48])
def test_narrow_videos_have_three_channels_too(tmp_path: Path, width: int) -> None:
    frames = np.full((4, 16, width, 3), 200, np.uint8)
    media.write_video(tmp_path / "narrow.mp4", frames, 4, np.zeros(16000, np.float32), 16000)
    assert media.read_frame(tmp_path / "narrow.mp4").shape == (16, width, 3)
