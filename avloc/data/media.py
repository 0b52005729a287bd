"""Frames and waveforms out of media files, and the few operations on them that every part needs.

A file's time starts where its first stream does, for frames and sound alike, and a frame is chosen by time among those
that are shown: packets before the start of an edit list are none. Every failure is a `DataError` that names the file
and tells apart: missing, empty, truncated or not a media file, no video stream, no audio stream, nothing in the stream,
too large or too loud to be true.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from avloc._torch_ext import repair_torch_extensions
from avloc.types import LOUDEST, AvlocError, DataError

Image = npt.NDArray[np.uint8]
Wave = npt.NDArray[np.float32]

MOST_LOST_SECONDS = 0.5
"""A stream that ends this much before its header says is truncated; encoders pad the last packet by less."""
FORMATS = "aac,ac3,aiff,amr,asf,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav"
"""What FFmpeg may take a file for. Others, such as playlists, name further files or addresses to read."""
MOST_PIXELS = 1 << 26
"""Of an image or a frame: 200 MB of RGB, whatever the file's own size; a larger one is refused before it is decoded."""
STILL_SIDE, STILL_LEVELS = 32, 6
"""Two frames show the same where they differ by no more than this, of 255, at this width and height: codecs do too."""
LARGEST_KERNEL = 1 << 20
"""torchaudio tabulates one filter per output phase: 11127 Hz to 16 kHz takes 3 GB. Beyond this many values scipy's
polyphase filter does it; all usual rates are far below."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """When the frames of a video are shown.

    Attributes:
        path: The video, for errors.
        starts: ``(n,)`` seconds from the file's start to each frame's, ascending.
        end: When the last frame ends.
    """

    path: Path
    starts: npt.NDArray[np.float64]
    end: float

    @property
    def seconds(self) -> float:
        """How long frames are shown."""
        return float(self.end - self.starts[0])

    def at(self, seconds: float | None) -> float:
        """The start of the frame that is shown at a time; ``None``: after half of the video.

        Raises:
            DataError: No frame is shown then.
        """
        first = float(self.starts[0])
        wanted = first + self.seconds / 2 if seconds is None else seconds
        if not min(0.0, first) <= wanted <= self.end or wanted < first - MOST_LOST_SECONDS:
            shown = f"the video lasts {self.end:.2f} s" + f" and starts at {first:.2f} s" * (first > MOST_LOST_SECONDS)
            raise DataError(f"{self.path}: there is no frame at {wanted:g} s; {shown}.")
        return float(self.starts[max(0, int(np.searchsorted(self.starts, wanted + 1e-6, side="right")) - 1)])


def read_timeline(path: Path) -> Timeline:
    """When the frames of a video are shown, out of the packets' timestamps; decodes nothing.

    Raises:
        DataError: The file is missing, empty, truncated or not a video, or has no frames.
    """
    _require(path)
    return _timeline(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)  # many frames of one long video
def _timeline(path: Path, size: int, time: int) -> Timeline:
    with _opened(path) as container:
        stream = _video(container, path)
        begin, ends = _begin(container), _Ends(container)
        starts = []
        for packet in container.demux():
            ends.add(packet)
            stamp = packet.dts if _untimed(container) else packet.pts
            if packet.stream is stream and stamp is not None and packet.size and not packet.is_discard:
                starts.append(float(stamp * packet.time_base))
        if not starts:
            raise DataError(f"{path}: the video stream has no frames.")
        starts.sort()
        gap = max(np.diff(starts), default=np.inf)  # of a frame whose length is not written, the next one tells it
        ends.require_whole(path, stream, max(MOST_LOST_SECONDS, gap))
        end = max(ends.of(stream), 2 * starts[-1] - starts[-2] if len(starts) > 1 else starts[-1])
        return Timeline(path, np.array(starts) - begin, end - begin)


def read_frame(path: Path, at: float | None = None, *, most_pixels: int = MOST_PIXELS) -> Image:
    """One frame of a video.

    Args:
        path: The video.
        at: Seconds from the file's start; the frame shown then. ``None``: the one shown after half of the video.
        most_pixels: Of a frame; a larger one is refused before it is decoded.

    Returns:
        ``(H, W, 3)`` uint8 RGB, turned and mirrored as the file's metadata ask.

    Raises:
        DataError: The file is missing, empty, truncated, not a video, has no video stream or no such frame, or its
            frames have more than `most_pixels`.
    """
    timeline = read_timeline(path)
    start = timeline.at(at)
    frame = _shown_at(timeline, start, most_pixels, seeking=True) or _shown_at(timeline, start, most_pixels)
    if frame is None:
        raise DataError(f"{path}: the video is damaged: the frame at {start:.2f} s cannot be decoded.")
    return _upright(frame)


def is_still(path: Path) -> bool:
    """Whether a video shows one picture all the time; stops decoding at the first one that differs.

    Raises:
        DataError: The file is missing, empty, truncated or not a video.
    """
    for which in ("NONKEY", "DEFAULT"):  # most videos are told by two frames that need no others
        with _opened(path) as container:
            stream = _video(container, path)
            stream.codec_context.skip_frame = which
            first: npt.NDArray[np.int16] | None = None
            for frame in container.decode(stream):
                gray = frame.reformat(STILL_SIDE, STILL_SIDE, "gray", interpolation="AREA").to_ndarray()
                small = gray.astype(np.int16)
                first = small if first is None else first
                if np.abs(small - first).max() > STILL_LEVELS:
                    return False
    return True


def read_audio(path: Path) -> tuple[Wave, int]:
    """The whole sound of a video or sound file, its channels mixed to one.

    Returns:
        ``(T,)`` float32 mono, the mean of the channels that `read_channels` gives, and the samples per second.

    Raises:
        DataError: As `read_channels`.
    """
    channels, rate = read_channels(path)
    return channels.mean(axis=0), rate


def read_channels(path: Path) -> tuple[Wave, int]:
    """The whole waveform of a video or sound file, from the file's start: a late audio stream begins with silence.

    Of several audio streams the one is read that players choose: the default one. Full scale is 1. Nothing is clipped:
    what lossy decoders and float files have beyond full scale is kept.

    Returns:
        ``(C, T)`` float32, and the samples per second.

    Raises:
        DataError: The file is missing, empty, truncated, not a media file, has no audio stream or no samples, or
            samples that are not finite or beyond `LOUDEST` (floats scaled like integers).
    """
    with _opened(path) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise DataError(f"{path}: the file has no audio stream.")
        to_float = av.AudioResampler(format="flt")  # packed: planes beyond the eighth cannot be had
        pieces: list[Wave] = []
        start, rate, ends = None, 0, _Ends(container)
        for packet in container.demux():
            ends.add(packet)
            for frame in packet.decode() if packet.stream is stream else ():
                assert isinstance(frame, av.AudioFrame)
                if not rate:  # HE-AAC: the decoder's rate counts, which may be twice the header's
                    start, rate = frame.time, frame.sample_rate
                for part in to_float.resample(frame):
                    pieces.append(cast(Wave, part.to_ndarray()).reshape(-1, part.layout.nb_channels).T)
        if not any(piece.size for piece in pieces):
            raise DataError(f"{path}: the audio stream has no samples.")
        channels = np.concatenate(pieces, axis=1).astype(np.float32, copy=False)
        late = max(0, round(((start or 0.0) - _begin(container)) * rate))
        channels = np.pad(channels, ((0, 0), (late, 0)))
        ends.require_whole(path, stream, MOST_LOST_SECONDS, got=channels.shape[1] / rate)
    _require_sane(path, channels, rate)
    return channels, rate


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
    """Waveforms ``(..., T)`` at another rate (windowed sinc): ``(..., ceil(T * to / rate))`` float32."""
    if rate == to:
        return audio
    divisor = math.gcd(rate, to)
    if rate // divisor * (to // divisor) > LARGEST_KERNEL:
        from scipy.signal import resample_poly

        return np.asarray(resample_poly(audio, to // divisor, rate // divisor, axis=-1), np.float32)
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


def _shown_at(timeline: Timeline, start: float, most_pixels: int, *, seeking: bool = False) -> av.VideoFrame | None:
    """The frame of a start; ``None``: none that starts then, or shortly before, was decoded from where it began."""
    path, found = timeline.path, None
    with _opened(path) as container:
        stream = _video(container, path)
        _require_small(path, stream.width, stream.height, most_pixels)
        assert stream.time_base is not None  # it has packets with timestamps
        if _untimed(container):
            return next(islice(container.decode(stream), int(np.searchsorted(timeline.starts, start)), None), None)
        wanted = round((start + _begin(container)) / stream.time_base)
        if seeking:
            try:
                container.seek(wanted, stream=stream)
            except av.FFmpegError:  # some files have no index
                return None
        reached = -math.inf
        for frame in container.decode(stream):
            if frame.pts is not None:  # decoders may leave out the last one's
                if frame.pts > wanted:
                    break
                reached = frame.pts
            found = frame
            if reached == wanted:
                break
        # From the start, a little early is right: packets of frames that are not shown have starts too.
        return found if (wanted - reached) * stream.time_base <= (0 if seeking else MOST_LOST_SECONDS) else None


def _untimed(container: InputContainer) -> bool:
    """Whether a format has frames at a constant rate, and what FFmpeg gives as their times is of the wrong order."""
    return container.format.name == "avi"


def _upright(frame: av.VideoFrame) -> Image:
    """The frame's pixels, turned and mirrored by its display matrix, to a multiple of 90 degrees."""
    pixels = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:  # x goes to ax + cy, y to bx + dy
        a, b, _, c, d = np.frombuffer(cast(bytes, matrix), np.int32)[:5].astype(int)
        turned = abs(b) > abs(a)
        across, down = (c, b) if turned else (a, d)
        pixels = pixels.swapaxes(0, 1) if turned else pixels
        pixels = pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return cast(Image, np.ascontiguousarray(pixels))


def _video(container: InputContainer, path: Path) -> VideoStream:
    """The stream that players show."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise DataError(f"{path}: the file has no video stream.")
    return stream


def _begin(container: InputContainer) -> float:
    """The start of the first stream, in seconds on the file's own clock."""
    return (container.start_time or 0) / av.time_base


class _Ends:
    """When the streams of a file end, in seconds on the file's own clock, as far as its packets were read."""

    def __init__(self, container: InputContainer) -> None:
        self._container = container
        self._ends: dict[int, float] = {}

    def add(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base is not None:
            end = (packet.pts + (packet.duration or 0)) * float(packet.time_base)
            self._ends[packet.stream.index] = max(end, self._ends.get(packet.stream.index, end))

    def of(self, stream: AudioStream | VideoStream) -> float:
        return self._ends.get(stream.index, 0.0)

    def require_whole(
        self, path: Path, stream: AudioStream | VideoStream, most: float, got: float | None = None
    ) -> None:
        """Check the end that headers promise, of the stream or else of the whole file.

        Args:
            path: For the error.
            stream: Which was read.
            most: How many seconds may be missing.
            got: Seconds of it that could be decoded, where that is known.
        """
        begin = _begin(self._container)
        if stream.duration and stream.time_base:
            promised = float(stream.duration * stream.time_base)
            got = self.of(stream) - begin if got is None else got
        else:
            promised = (self._container.duration or 0) / av.time_base
            last = max(self._ends.values(), default=0.0)
            got = max(last, last - begin)
        if got < promised - most:
            kind = "audio" if isinstance(stream, AudioStream) else "video"
            raise DataError(f"{path}: the {kind} is truncated: {got:.2f} s of {promised:.2f} s are there.")


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The container; whatever FFmpeg raises on the way becomes a `DataError`."""
    _require(path)
    try:
        with av.open(f"file:{path}", container_options={"format_whitelist": FORMATS}) as container:
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


def _require_sane(path: Path, channels: Wave, rate: int) -> None:
    strange = np.flatnonzero(~np.isfinite(channels).all(axis=0))
    if len(strange):
        raise DataError(f"{path}: the sound has values that are not finite, the first at {strange[0] / rate:.2f} s.")
    peak = float(np.abs(channels).max())
    if peak > LOUDEST:
        advice = "its floats seem scaled like integers; divide them (by 32768 for 16 bits)"
        raise DataError(f"{path}: the sound reaches {peak:.4g} times full scale; {advice}.")
