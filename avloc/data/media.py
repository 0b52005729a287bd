"""Frames and waveforms out of media files, and the few operations on them that every part needs.

Frames are read by decord, waveforms by PyAV: decord's audio readers leak memory and drop the start offset. Where
decord cannot read a video (AV1, or a platform without its wheel) PyAV decodes it and, where it fails too, says why.
Every failure is a `DataError` that names the file and tells apart: missing, empty, truncated or not a media file,
no video stream, no audio stream, nothing in the stream, too large or too loud to be true.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
from av.container import InputContainer

from avloc._torch_ext import repair_torch_extensions
from avloc.types import LOUDEST, AvlocError, DataError

Image = npt.NDArray[np.uint8]
Wave = npt.NDArray[np.float32]

MOST_LOST_SECONDS = 0.5
"""A stream that ends this much before its header says is truncated; encoders pad the last packet by less."""
MOST_PIXELS = 1 << 26
"""Of an image or a frame: 200 MB of RGB, whatever the file's own size; a larger one is refused before it is decoded."""
LARGEST_KERNEL = 1 << 20
"""torchaudio tabulates one filter per output phase: 11127 Hz to 16 kHz takes 3 GB. Beyond this many values scipy's
polyphase filter does it; all usual rates are far below."""


def read_frame(path: Path, at: float | None = None, *, most_pixels: int = MOST_PIXELS) -> Image:
    """One frame of a video.

    Args:
        path: The video.
        at: Seconds from its start; the frame shown then. ``None``: the middle frame, number ``n // 2`` of ``n``,
            which VGG-SS annotated.
        most_pixels: Of a frame; a larger one is refused before it is decoded.

    Returns:
        ``(H, W, 3)`` uint8 RGB, rotated as the file's metadata asks.

    Raises:
        DataError: The file is missing, empty, truncated, not a video, has no video stream or no such frame, or its
            frames have more than `most_pixels`.
    """
    with _opened(path) as container:  # PyAV says what is wrong with a file; decord only that something is
        if not container.streams.video:
            raise DataError(f"{path}: the file has no video stream.")
        _require_small(path, container.streams.video[0].width, container.streams.video[0].height, most_pixels)
    decord = _decord()
    if decord is None:
        return _read_frame_av(path, at)
    with suppress(decord.DECORDError, decord.DECORDLimitReachedError, IndexError):
        reader = decord.VideoReader(str(path), num_threads=1)
        index = len(reader) // 2
        if at is not None:
            starts = reader.get_frame_timestamp(range(len(reader)))[:, 0]
            index = frame_at(starts - starts[0], at, path)
        frame = cast(Image, reader[index].asnumpy())
        if frame.shape[2] == 3:  # of some very narrow videos it makes images with other numbers of channels
            return frame
    return _read_frame_av(path, at)


def read_audio(path: Path) -> tuple[Wave, int]:
    """The whole waveform of a video or sound file, from the container's start: a late audio stream begins with silence.

    Full scale is 1. Nothing is clipped: what lossy decoders and float files have beyond full scale is kept.

    Returns:
        ``(T,)`` float32 mono (the mean of the channels), and the samples per second.

    Raises:
        DataError: The file is missing, empty, truncated, not a media file, has no audio stream or no samples, or
            samples that are not finite or beyond `LOUDEST` (floats scaled like integers).
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise DataError(f"{path}: the file has no audio stream.")
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        pieces: list[Wave] = []
        start, rate = None, 0
        for frame in container.decode(stream):
            if not rate:  # HE-AAC: the decoder's rate counts, which may be twice the header's
                start, rate = frame.time, frame.sample_rate
            pieces += [part.to_ndarray().mean(axis=0) for part in to_float.resample(frame)]
        if not any(map(len, pieces)):
            raise DataError(f"{path}: the audio stream has no samples.")
        wave = np.concatenate(pieces).astype(np.float32)
        if stream.duration and stream.time_base:
            got, promised = len(wave) / rate, float(stream.duration * stream.time_base)
            if got < promised - MOST_LOST_SECONDS:
                raise DataError(f"{path}: the audio is truncated: {got:.2f} s of {promised:.2f} s are there.")
        begin = (container.start_time or 0) / av.time_base
        late = max(0, round(((start or 0.0) - begin) * rate))
    _require_sane(path, wave, rate)
    return np.pad(wave, (late, 0)), rate


def read_image(path: Path) -> Image:
    """``(H, W, 3)`` uint8 RGB of an image file of 8 or 16 bits.

    Grayscale is repeated, transparency dropped, 16 bits become their upper 8, CMYK is converted, EXIF rotation applied.

    Raises:
        DataError: The file is missing, empty, truncated, not an image, has more than `MOST_PIXELS`, or float pixels.
    """
    _require(path)
    try:
        with PIL.Image.open(path) as picture:  # reads the header only
            _require_small(path, *picture.size, MOST_PIXELS)
            upright = PIL.ImageOps.exif_transpose(picture)
    except DataError:
        raise
    except PIL.Image.DecompressionBombError as error:  # far beyond our own limit
        raise DataError(f"{path}: the image has too many pixels ({error})") from error
    except Exception as error:  # Pillow lets out whatever its parsers stumble over
        raise DataError(f"{path}: the file is truncated or not an image ({error}).") from error
    if upright.mode[0] not in "IF":
        return np.array(upright.convert("RGB"))
    pixels = np.asarray(upright)
    if upright.mode[0] == "F" or not 0 <= pixels.min() <= pixels.max() < 1 << 16:
        raise DataError(f"{path}: the pixels are floats or have 32 bits; save the image with 8 or 16 bits a channel.")
    return np.repeat((pixels >> 8).astype(np.uint8)[..., None], 3, axis=2)


def resample(audio: Wave, rate: int, to: int) -> Wave:
    """A ``(T,)`` waveform at another rate (windowed sinc); ``(ceil(T * to / rate),)`` float32."""
    if rate == to:
        return audio
    divisor = math.gcd(rate, to)
    if rate // divisor * (to // divisor) > LARGEST_KERNEL:
        from scipy.signal import resample_poly

        return np.asarray(resample_poly(audio, to // divisor, rate // divisor), np.float32)
    import torch

    repair_torch_extensions()
    from torchaudio.functional import resample as sinc

    return cast(Wave, sinc(torch.from_numpy(np.ascontiguousarray(audio)), rate, to).numpy())


def resize_image(image: Image, height: int, width: int) -> Image:
    """``(H, W, 3)`` uint8 to ``(height, width, 3)``: bilinear, with antialiasing where it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # (1, 3, H, W)
    resized = torch.nn.functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return cast(Image, np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy()))


def write_video(path: Path, frames: Image, fps: int, audio: Wave, rate: int) -> None:
    """Write an mp4 with H.264 and AAC.

    The same arrays give the same bytes with the same FFmpeg; the index comes last, so a truncated file never opens.

    Args:
        path: The file; its folder must exist.
        frames: ``(N, H, W, 3)`` uint8 RGB, H and W even.
        fps: Frames per second.
        audio: ``(T,)`` float32 in [-1, 1].
        rate: Samples per second of `audio`.

    Raises:
        AvlocError: Height or width is odd, which H.264 cannot store.
        OSError: The file cannot be written.
    """
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise AvlocError(f"{path}: an H.264 video needs an even height and width, but the frames are {height}x{width}.")
    exact = {"flags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "ultrafast", **exact})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1  # more threads cut the picture into slices, by machine
        sound = container.add_stream("aac", rate=rate, layout="mono", options={"aac_coder": "fast", **exact})
        sound.bit_rate = 96_000
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        wave = av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="fltp", layout="mono")
        wave.sample_rate, wave.pts, wave.time_base = rate, 0, Fraction(1, rate)
        container.mux(sound.encode(wave))
        container.mux(sound.encode())


def _read_frame_av(path: Path, at: float | None) -> Image:
    """`read_frame` without decord."""
    starts = frame_starts(path)
    with _opened(path) as container:
        stream = container.streams.video[0]
        count = stream.frames or len(starts)  # what the header promises, where it does
        index = count // 2 if at is None else frame_at(starts, at, path)
        for number, frame in enumerate(container.decode(stream)):
            if number == index:
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                return cast(Image, np.ascontiguousarray(turned))
    raise DataError(f"{path}: the video is truncated: frame {index} of {count} cannot be decoded.")


def frame_starts(path: Path) -> npt.NDArray[np.float64]:
    """Seconds from a video's first frame to every frame, out of the packets' timestamps; decodes nothing.

    Raises:
        DataError: The file is missing, empty, truncated or not a video, or has no frames.
    """
    with _opened(path) as container:
        packets = container.demux(container.streams.video[0])
        starts = np.sort([float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base])
    if not len(starts):
        raise DataError(f"{path}: the video stream has no frames.")
    return cast(npt.NDArray[np.float64], starts - starts[0])


def frame_at(starts: npt.NDArray[np.floating], at: float, path: Path) -> int:
    """Index of the frame shown `at` seconds, given every frame's start.

    Raises:
        DataError: The video has no such time.
    """
    last = 2 * starts[-1] - starts[-2] if len(starts) > 1 else np.inf
    if not 0 <= at <= last:
        raise DataError(f"{path}: there is no frame at {at:g} s; the video lasts {last:.2f} s.")
    return int(np.searchsorted(starts, at + 1e-6, side="right")) - 1


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The container; whatever FFmpeg raises on the way becomes a `DataError`."""
    _require(path)
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise DataError(f"{path}: the file is truncated, damaged or not a media file ({error.strerror}).") from error


def _require(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: the file is missing.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (zero length).")


def _require_small(path: Path, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise DataError(f"{path}: {width} x {height} pixels are too many (the limit is {most:,}); shrink it.")


def _require_sane(path: Path, wave: Wave, rate: int) -> None:
    strange = np.flatnonzero(~np.isfinite(wave))
    if len(strange):
        raise DataError(f"{path}: the sound has values that are not finite, the first at {strange[0] / rate:.2f} s.")
    peak = float(np.abs(wave).max())
    if peak > LOUDEST:
        advice = "its floats seem scaled like integers; divide them (by 32768 for 16 bits)"
        raise DataError(f"{path}: the sound reaches {peak:.4g} times full scale; {advice}.")


@cache
def _decord() -> Any:
    """The module, or ``None`` on platforms that have no wheel of it."""
    try:
        decord = importlib.import_module("decord")
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord
