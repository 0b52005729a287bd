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


@pytest.mark.parametrize("decord", [True, False], ids=["decord", "PyAV"])
def test_the_middle_frame_is_number_n_over_2_and_others_go_by_time(
    clip: Path, decord: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not decord:  # a platform without its wheel
        monkeypatch.setattr(media, "_decord", lambda: None)
    assert shown(media.read_frame(clip)) == COUNT // 2
    for at, expected in ((0.0, 0), (0.124, 0), (0.125, 1), (1.5, 12), (2.99, 23)):
        assert shown(media.read_frame(clip, at)) == expected
    for at in (-0.1, 3.2):
        with pytest.raises(DataError, match=r"no frame at .* the video lasts 3.00 s"):
            media.read_frame(clip, at)


def test_both_readers_give_the_same_pixels(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = media.read_frame(clip)
    monkeypatch.setattr(media, "_decord", lambda: None)
    np.testing.assert_array_equal(one, media.read_frame(clip))


def test_videos_that_decord_cannot_decode_are_still_read(tmp_path: Path) -> None:
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV cannot write AV1")
    path = write(tmp_path / "av1.mkv", video="libsvtav1", audio=None)
    assert shown(media.read_frame(path)) == COUNT // 2


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
    (media.read_frame, no_video, "has no video stream"),
    (media.read_audio, missing, "the file is missing"),
    (media.read_audio, empty, "empty (zero length)"),
    (media.read_audio, junk, "not a media file"),
    (media.read_audio, cut_short, "truncated"),
    (media.read_audio, cut_streamed, "truncated"),
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
