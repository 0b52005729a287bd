"""Makes prepared media: one file out of one source, in processes that may crash without taking the others along.

Decoders meet damaged files here, and some of those kill the process that reads them. The processes are started as
``python -m``, not by multiprocessing, which would import the caller's script again in every process.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
import soundfile

from avloc.data import read_audio, read_frame, read_image, read_mask
from avloc.data.prepared.sources import transient
from avloc.store import writing
from avloc.types import DataError

QUALITY = 95
"""Of JPEG frames."""
FULL = 1 << 15
"""Of 16-bit samples: the value that stands for 1."""

LONGEST = 1800.0
"""Seconds after which a decoder that does not come to an end is killed."""
CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
"""What a decoder does to itself; any other end of its process comes from outside and says nothing about the file."""

Kind = Literal["frame", "sound", "mask"]
Line = dict[str, Any]


class Output(NamedTuple):
    """A file to make.

    Attributes:
        file: ``frames/ID.jpg`` and the like, as the manifest names it.
        kind: What it is.
        at: Seconds into the source, for a frame of a video; ``None``: the middle frame.
    """

    file: str
    kind: Kind
    at: float | None = None


class Batch(NamedTuple):
    """All that is to be made out of one file.

    Attributes:
        name: Of the source, for whoever gets the results.
        path: The file, or why it cannot be had.
        outputs: What to make.
        passing: Whether the file is deleted afterwards.
    """

    name: str
    path: Path | DataError
    outputs: Sequence[Output]
    passing: bool = False


class Result(NamedTuple):
    """One output.

    Attributes:
        name: Of the source.
        output: What was to be made.
        line: Its part of the manifest's line: ``broken``, and ``transient`` where that may pass, or what was made.
        temporary: The file, where it was made.
    """

    name: str
    output: Output
    line: Line
    temporary: Path


def make_all(batches: Iterable[Batch], total: int, folder: Path, jobs: int) -> Generator[Result, None, None]:
    """Make files in several processes; yields each as soon as it is there.

    Args:
        batches: Asked for the next one whenever a process has nothing to do.
        total: Outputs of all batches together.
        folder: For files under temporary names.
        jobs: Processes.

    Raises:
        AvlocError: The files cannot be written.
    """
    source, turn, stop = iter(batches), threading.Lock(), threading.Event()
    results: SimpleQueue[Result | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            with closing(Worker()) as worker:
                while not stop.is_set():
                    with turn:
                        batch = next(source, None)
                    if batch is None:
                        return
                    _make_batch(batch, worker, folder, results, stop)
        except BaseException as error:  # raised again where the results are read
            results.put(error)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(total):
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _make_batch(
    batch: Batch,
    worker: Worker,
    folder: Path,
    results: SimpleQueue[Result | BaseException],
    stop: threading.Event,
) -> None:
    for output in batch.outputs:
        if stop.is_set():
            break
        temporary = folder / output.file.replace("/", "-")
        path = batch.path
        line = worker.make(path, output, temporary) if isinstance(path, Path) else _failure(str(path), transient(path))
        results.put(Result(batch.name, output, line, temporary))
    if batch.passing and isinstance(batch.path, Path):
        batch.path.unlink(missing_ok=True)


def make(path: Path, output: Output, temporary: Path) -> Line:
    """Make one file under a temporary name.

    Returns:
        Its part of the manifest's line; see `Result`.

    Raises:
        OSError: `temporary` cannot be written.
    """
    try:
        content, about = _MAKERS[output.kind](path, output)
    except Exception as error:  # decoders raise nearly anything; the other clips must go on
        known = isinstance(error, DataError)
        text = str(error).removeprefix(f"{path}: ") if known else f"{type(error).__name__}: {error}"
        return _failure(text.replace(str(path), "the file"), transient(error) or not path.exists())
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave its name without its content
    time = temporary.stat().st_mtime_ns
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "time": time, **about}


def _failure(reason: str, passing: bool) -> Line:
    return {"broken": reason, "transient": True} if passing else {"broken": reason}


def _frame(path: Path, output: Output) -> tuple[bytes, Line]:
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):  # ready-made: kept as it is, not compressed again
        height, width = read_image(path).shape[:2]
        return path.read_bytes(), {"decoder": "none", "height": height, "width": width}
    image = read_frame(path, output.at)
    about = {"decoder": _decoders("decord", "av"), "at": _time(path, output.at)}
    coded, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not coded:
        raise DataError(f"{path}: a frame of {image.shape[0]}x{image.shape[1]} pixels cannot be stored as JPEG.")
    return content.tobytes(), {**about, "height": image.shape[0], "width": image.shape[1]}


def _time(path: Path, at: float | None) -> float:
    """Seconds from the first frame to the one that `read_frame` gives."""
    starts = _starts(path)
    index = len(starts) // 2 if at is None else int(np.searchsorted(starts, at + 1e-6, side="right")) - 1
    return round(float(starts[index]), 6)


@lru_cache(maxsize=1)  # many frames of one long video
def _starts(path: Path) -> npt.NDArray[np.float64]:
    """Seconds from the first frame to every frame, out of the packets' timestamps; decodes nothing."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        starts = [float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base]
    return np.sort(np.array(starts, np.float64) - min(starts))


def _sound(path: Path, output: Output) -> tuple[bytes, Line]:
    """Mono FLAC at the source's rate. Samples of 16 bits are kept to the bit; louder ones are scaled down to fit."""
    wave, rate = read_audio(path)
    peak = float(np.abs(wave).max())
    gain = 1.0 if round(float(wave.max()) * FULL) < FULL and wave.min() >= -1 else (FULL - 1) / FULL / peak
    samples = np.rint(wave.astype(np.float64) * gain * FULL).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    clipped = float((np.abs(wave) >= (FULL - 1) / FULL).mean())
    about = {"rate": rate, "seconds": round(len(wave) / rate, 6), "peak": peak, "clipped": clipped, "gain": gain}
    return buffer.getvalue(), {"decoder": _decoders("av"), **about}


def _mask(path: Path, output: Output) -> tuple[bytes, Line]:
    inside = read_mask(path)
    _, content = cv2.imencode(".png", inside.astype(np.uint8) * 255)
    height, width = inside.shape
    return content.tobytes(), {"decoder": "none", "height": height, "width": width, "area": float(inside.mean())}


_MAKERS: dict[Kind, Callable[[Path, Output], tuple[bytes, Line]]] = {"frame": _frame, "sound": _sound, "mask": _mask}


def _decoders(*packages: str) -> str:
    """Names and versions of those that are installed, in the order in which they are tried."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", else ".join(found)


class Worker:
    """A process that makes one file after the other; a new one takes its place where a decoder kills it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def make(self, path: Path, output: Output, temporary: Path) -> Line:
        """`make`, over there.

        Raises:
            AvlocError: The file cannot be written.
        """
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        guard = threading.Timer(LONGEST, process.kill)
        guard.start()
        try:
            process.stdin.write(json.dumps([str(path), output, str(temporary)]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            guard.cancel()
        if not answer.endswith("\n"):
            code = self.close()
            end = signal.strsignal(-code) if code < 0 else f"status {code}"
            return _failure(f"the decoder crashed ({end})", -code not in CRASHES)
        line: Line = json.loads(answer)
        if "errno" in line:
            with writing(temporary):
                raise OSError(line["errno"], line["error"])
        return line

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment,
        )  # fmt: skip
        return self._process

    def close(self) -> int:
        """Let it finish and end; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        code = process.wait()
        process.stdout.close()
        return code


def main() -> None:
    """Answer jobs until the caller closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:  # the pipe
        os.dup2(2, 1)  # what libraries print is no answer
        for job in sys.stdin:
            answers.write(json.dumps(_answer(job)) + "\n")
            answers.flush()


def _answer(job: str) -> Line:
    path, output, temporary = json.loads(job)
    try:
        return make(Path(path), Output(*output), Path(temporary))
    except OSError as error:
        return {"errno": error.errno, "error": error.strerror or str(error)}


if __name__ == "__main__":
    main()
