"""One prepared file out of one source: a frame, a sound or a mask.

`avloc.workers` runs this in processes of its own, for decoders meet damaged files here, and some of those kill the
process that reads them. It imports no torch.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import soundfile

from avloc.data.masks import read_mask
from avloc.data.media import is_still, read_channels, read_frame, read_image, read_timeline
from avloc.data.traits import Heard
from avloc.types import DataError

QUALITY = 95
"""Of JPEG frames."""
FULL = 1 << 15
"""Of 16-bit samples: the value that stands for 1."""

Line = dict[str, Any]
"""Part of the manifest's line about a file: ``broken``, and ``transient`` where that may pass, or what was made."""


class Spare(NamedTuple):
    """What to make a file of where its source has no such stream; attributes as those of `Job`."""

    source: str
    stamp: tuple[int, int]
    path: Path


class Job(NamedTuple):
    """One file to make.

    Attributes:
        file: ``frames/ID.jpg`` and the like, as the manifest names it.
        source: Name of what it is made of, for the manifest.
        stamp: Bytes and time (ns) of that.
        temporary: Under what name to make it.
        path: Where the source is, or the line that says why it cannot be had.
        at: Seconds into the source, for a frame of a video; ``None``: its middle.
        lasts: How long the source should last: the middle is that of these seconds, or of a video that ends before it.
        damaged: The file of ours whose place it takes.
        spare: Another source for where the first one fails: a sound beside a video without sound.
    """

    file: str
    source: str
    stamp: tuple[int, int]
    temporary: Path
    path: Path | Line
    at: float | None = None
    lasts: float | None = None
    damaged: str | None = None
    spare: Spare | None = None


def make(job: Job) -> Line:
    """Make one file under its temporary name.

    Raises:
        OSError: `Job.temporary` cannot be written.
    """
    if not isinstance(job.path, Path):
        return job.path
    line = _made(job, job.path)
    if job.spare is None or "broken" not in line or "transient" in line:
        return line
    source, stamp, path = job.spare
    return {"source": source, "source_bytes": stamp[0], "source_time": stamp[1], **_made(job, path)}


def _made(job: Job, path: Path) -> Line:
    try:
        content, about = _MAKERS[job.file.partition("/")[0]](path, job)
    except Exception as error:  # decoders raise nearly anything; the other clips must go on
        known = isinstance(error, DataError)
        text = str(error).removeprefix(f"{path}: ") if known else f"{type(error).__name__}: {error}"
        return failure(text.replace(str(path), "the file"), transient(error) or not path.exists())
    with job.temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave its name without its content
    time = job.temporary.stat().st_mtime_ns
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "time": time, **about}


def failure(reason: str, passing: bool) -> Line:
    """A line about a file that could not be made."""
    return {"broken": reason, "transient": True} if passing else {"broken": reason}


def transient(error: BaseException | None) -> bool:
    """Whether an error, or its cause, says nothing about the file: no memory or handles left, a share that is gone.

    Decoders and parsers raise `OSError` too, but without a number of the operating system.
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in errno.errorcode):
            return True
        error = error.__cause__
    return False


def _frame(path: Path, job: Job) -> tuple[bytes, Line]:
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):  # ready-made: kept as it is, not compressed again
        height, width = read_image(path).shape[:2]
        return path.read_bytes(), {"decoder": "none", "height": height, "width": width}
    timeline = read_timeline(path)
    middle = job.lasts / 2 if job.lasts is not None and job.lasts / 2 < timeline.end else None
    start = timeline.at(middle if job.at is None else job.at)
    image = read_frame(path, start)
    state = path.stat()
    about = {"decoder": _decoder(), "at": round(start, 6), "seconds": round(timeline.seconds, 6)}
    about["still"] = _still(path, state.st_size, state.st_mtime_ns)
    coded, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not coded:
        raise DataError(f"{path}: a frame of {image.shape[0]}x{image.shape[1]} pixels cannot be stored as JPEG.")
    return content.tobytes(), {**about, "height": image.shape[0], "width": image.shape[1]}


@lru_cache(maxsize=1)  # many frames of one long video
def _still(path: Path, size: int, time: int) -> bool:
    return is_still(path)


def _sound(path: Path, job: Job) -> tuple[bytes, Line]:
    """Mono FLAC at the source's rate. Samples of 16 bits are kept to the bit; louder ones are scaled down to fit."""
    channels, rate = read_channels(path)
    wave = channels.mean(axis=0)
    seconds, peak, loudest = Heard.of(channels, rate)
    gain = 1.0 if round(float(wave.max()) * FULL) < FULL and wave.min() >= -1 else (FULL - 1) / FULL / peak
    samples = np.rint(wave.astype(np.float64) * gain * FULL).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    clipped = float((np.abs(wave) >= (FULL - 1) / FULL).mean())
    about = {"rate": rate, "seconds": seconds, "peak": peak, "loudest": loudest, "clipped": clipped, "gain": gain}
    return buffer.getvalue(), {"decoder": _decoder(), **about}


def _mask(path: Path, job: Job) -> tuple[bytes, Line]:
    inside = read_mask(path).inside
    _, content = cv2.imencode(".png", inside.astype(np.uint8) * 255)
    height, width = inside.shape
    return content.tobytes(), {"decoder": "none", "height": height, "width": width, "area": float(inside.mean())}


_MAKERS: dict[str, Callable[[Path, Job], tuple[bytes, Line]]] = {
    "frames": _frame, "audio": _sound, "masks": _mask,
}  # fmt: skip
"""By the folder that a file goes to."""


def _decoder() -> str:
    return f"av {version('av')}"
