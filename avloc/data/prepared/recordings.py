"""Prepared media: one frame and one sound per clip, as ``avloc data prepare`` leaves them.

::

    DATA/<family>/  annotations/     files as their authors published them, which loaders read
                    frames/ID.jpg    (or .png)
                    audio/SOUND.flac (or .wav)
                    masks/ID.png     where the truth is a mask
                    manifest.jsonl   one line per file that was made, or that could not be

A folder without a manifest, laid out as the released loaders expect it (``frames/ID.jpg`` and ``audio/ID.wav``), is
read as it is. A line of the manifest has ``file``, ``source`` (relative to the folder it was found in),
``source_bytes``, ``source_time`` and either ``broken``, the reason, with ``transient`` where it may pass, or ``bytes``,
``sha256`` and ``time`` (ns; absent in old manifests) of the file, ``decoder``, and: for a frame ``height``, ``width``
and ``at`` (seconds; absent: the middle frame); for a sound ``rate``, ``seconds``, ``peak`` of the source, ``clipped``
(share of its samples at or beyond full scale) and ``gain`` (what the samples were multiplied by to fit 16 bits); for a
mask ``height``, ``width`` and ``area``. The last line about a file counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from avloc.data import Image, Wave, file_digest, read_image, read_mask
from avloc.types import DataError, Status

FRAMES, SOUNDS, MASKS = (".jpg", ".png"), (".flac", ".wav"), (".png",)
"""Suffixes that are looked for, in this order; prepared files have the first."""
SECOND = 10**9
"""In ns."""

State = tuple[int, int]
"""Bytes and time (ns) of a file."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Which media a clip needs, and where they can come from.

    Attributes:
        id: The clip: ``frames/ID.jpg``, and ``masks/ID.png`` where it has a mask.
        sound: ``audio/SOUND.flac``; clips of one video may share a sound.
        sources: Stems a source file may have (``ytid_000030``, ``ytid_30``, ``ytid_30000_40000``), best first.
        at: Seconds into the source file of the frame; ``None``: the middle frame.
        mask: Whether a mask belongs to it.
    """

    id: str
    sound: str
    sources: tuple[str, ...]
    at: float | None = None
    mask: bool = False

    def __post_init__(self) -> None:
        for name in (self.id, self.sound):
            if not name or name in (".", "..") or set("/\\\0") & set(name):
                raise DataError(f"{name!r} cannot be the id of a clip or sound: it would leave the data folder.")

    @property
    def files(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """Folder, stem and suffixes of everything it needs."""
        masks = (("masks", self.id, MASKS),) if self.mask else ()
        return (("frames", self.id, FRAMES), ("audio", self.sound, SOUNDS), *masks)


class HasRecordings(ABC):
    """A data set whose media are prepared from what the user has (``avloc data prepare``): inherit before `Dataset`."""

    family: ClassVar[str]
    """Folder under ``--data`` that holds its prepared media and annotations; shared by datasets over the same media."""
    annotations: ClassVar[Mapping[str, str]] = {}
    """Annotation files it reads -> where their authors publish them."""

    @abstractmethod
    def recordings(self) -> Sequence[Recording]:
        """The media to look for."""


class Made(NamedTuple):
    """What is kept in memory of a manifest line; `broken` is empty where the file was made."""

    source: str
    source_bytes: int
    source_time: int
    bytes: int
    sha256: str
    time: int
    height: int
    width: int
    gain: float
    broken: str
    transient: bool

    @property
    def failed_for_good(self) -> bool:
        """Whether the same source would fail again."""
        return bool(self.broken) and not self.transient


class Recordings:
    """The prepared media of one family of data sets.

    Args:
        folder: ``data_folder(root) / family``; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: dict[str, Made] = {}
        self._read: tuple[int, int] = (0, 0)  # size and time of the manifest when it was read

    def status(self, wanted: Mapping[str, Sequence[Recording]]) -> Status:
        """Which clips have all their files, as they were written; lists the folders once and decodes nothing.

        Args:
            wanted: Clip id -> the recordings it needs, two in a duet.
        """
        there = {folder: listed(self.folder / folder) for folder in ("frames", "audio", "masks")}
        made = self.manifest()
        present, missing, broken = [], {}, {}
        for id, recordings in wanted.items():
            needs = [need for recording in recordings for need in recording.files]
            absent = [f"{folder}/{stem}{ends[0]}" for folder, stem, ends in needs
                      if not any(stem + end in there[folder] for end in ends)]  # fmt: skip
            failed = [made[file] for file in absent if file in made and made[file].broken]
            damaged = [] if absent else [text for need in needs if (text := self._damage(need, there))]
            if damaged:
                broken[id] = damaged[0]
            elif not absent:
                present.append(id)
            elif failed:
                broken[id] = f"{failed[0].source}: {failed[0].broken}"
            else:
                missing[id] = f"{', '.join(dict.fromkeys(absent))}: not prepared."
        return Status(tuple(present), missing, broken)

    def image(self, recording: Recording) -> Image:
        """``(H, W, 3)`` uint8 RGB.

        Raises:
            DataError: The frame is missing, is not the one that was prepared, or cannot be decoded.
        """
        return read_image(self._path("frames", recording.id, FRAMES))

    def size(self, recording: Recording) -> tuple[int, int]:
        """``(height, width)`` of the frame, from the manifest where it was prepared.

        Raises:
            DataError: The frame is missing, is not the one that was prepared, or cannot be decoded.
        """
        path = self._path("frames", recording.id, FRAMES)
        line = self._made(path)
        if line is not None and line.height:
            return line.height, line.width
        height, width = read_image(path).shape[:2]
        return height, width

    def audio(
        self, recording: Recording, *, around: float | None = None, seconds: float | None = None
    ) -> tuple[Wave, int]:
        """The sound at the level of its source, whole or a window of it, which is read by seeking.

        Args:
            recording: Whose.
            around: Seconds from the start: the middle of the window; ``None``: the sound's own middle. A window that
                would reach past an end is shifted inside.
            seconds: Length of the window, or the whole sound where that is shorter; ``None``: the whole sound.

        Returns:
            ``(T,)`` float32, mono, and the samples per second. Decoded AAC and MP3 may peak a little above 1.

        Raises:
            DataError: The sound is missing, is not the one that was prepared, cannot be decoded, or has no samples.
        """
        path = self._path("audio", recording.sound, SOUNDS)
        line = self._made(path)
        wave, rate = _read_window(path, around, seconds)
        return (wave / np.float32(line.gain) if line is not None and line.gain != 1 else wave), rate

    def mask(self, recording: Recording) -> npt.NDArray[np.float32]:
        """``(h, w)`` 0 or 1, at the size it was published in.

        Raises:
            DataError: The mask is missing, is not the one that was prepared, cannot be decoded, or is black.
        """
        return read_mask(self._path("masks", recording.id, MASKS)).astype(np.float32)

    def content(self, recording: Recording) -> str:
        """A digest of frame and sound: from the manifest's hashes, or of the files where they were not prepared.

        Raises:
            DataError: A file is missing or is not the one that was prepared.
        """
        digest = hashlib.sha256()
        for folder, stem, ends in recording.files[:2]:
            path = self._path(folder, stem, ends)
            line = self._made(path)
            about = file_digest(path) if line is None else f"{line.sha256} {line.gain!r}"
            digest.update(f"{about}\n".encode())
        return digest.hexdigest()

    def _path(self, folder: str, stem: str, ends: Sequence[str]) -> Path:
        """The file, which must be the one that was prepared if it was."""
        for end in ends:
            path = self.folder / folder / f"{stem}{end}"
            if not path.is_file():
                continue
            reason = damage(self.folder, f"{folder}/{path.name}", _state(path), self._made(path))
            if reason:
                raise DataError(f"{path}: {reason}; prepare the data set again.")
            return path
        raise DataError(f"{self.folder / folder / stem}{ends[0]}: the file is missing; it was not prepared.")

    def _damage(self, need: tuple[str, str, tuple[str, ...]], there: Mapping[str, Mapping[str, State | None]]) -> str:
        """`damage` of a needed file that is there, as a sentence."""
        folder, stem, ends = need
        name = next(stem + end for end in ends if stem + end in there[folder])
        file = f"{folder}/{name}"
        reason = damage(self.folder, file, there[folder][name], self._lines.get(file))
        return f"{file}: {reason}; prepare it again." if reason else ""

    def _made(self, path: Path) -> Made | None:
        """The manifest's line about a file that is there; ``None``: it was put there by someone else."""
        line = self.manifest().get(f"{path.parent.name}/{path.name}")
        return None if line is None or line.broken else line

    def manifest(self) -> Mapping[str, Made]:
        """File -> its line, read again when the manifest has changed."""
        path = self.folder / "manifest.jsonl"
        try:
            state = path.stat()
        except OSError:
            self._lines, self._read = {}, (0, 0)
            return self._lines
        if self._read != (state.st_size, state.st_mtime_ns):
            self._lines = {line["file"]: _brief(line) for line in read_manifest(path)}
            self._read = state.st_size, state.st_mtime_ns
        return self._lines


def read_manifest(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a manifest, in order; one that a killed process left half-written is no line."""
    with path.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if text.endswith(b"\n") and isinstance(line, dict) and isinstance(line.get("file"), str):
                yield line


def _brief(line: Mapping[str, Any]) -> Made:
    return Made(
        source=str(line.get("source", "")),
        source_bytes=int(line.get("source_bytes", 0)),
        source_time=int(line.get("source_time", 0)),
        bytes=int(line.get("bytes", 0)),
        sha256=str(line.get("sha256", "")),
        time=int(line.get("time", 0)),
        height=int(line.get("height", 0)),
        width=int(line.get("width", 0)),
        gain=float(line.get("gain", 1)),
        broken=str(line.get("broken", "")),
        transient=bool(line.get("transient", False)),
    )


def listed(folder: Path) -> dict[str, State | None]:
    """The files of a folder; ``None``: a broken link."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: _state(entry) for entry in entries}


def _state(file: Path | os.DirEntry[str]) -> State | None:
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def damage(folder: Path, file: str, state: State | None, made: Made | None) -> str:
    """How a file differs from what was written; empty where it does not, or was put there by others.

    Its content is read only where its time is another.

    Args:
        folder: The family's.
        file: Below it, as the manifest names it.
        state: As listed.
        made: Its line.
    """
    if state is None:
        return "it is a broken link"
    if made is None or made.broken:
        return ""
    size, time = state
    if size != made.bytes:
        return f"it has {size} bytes, but {made.bytes} were written when it was prepared"
    if not made.time or time in (made.time, made.time // SECOND * SECOND):  # tar archives keep whole seconds
        return ""
    try:
        same = file_digest(folder / file, "sha256") == made.sha256
    except OSError as error:
        return f"it was changed since it was prepared and cannot be read ({error.strerror})"
    return "" if same else "its content was changed since it was prepared"


def _read_window(path: Path, around: float | None, seconds: float | None) -> tuple[Wave, int]:
    try:
        with soundfile.SoundFile(path) as file:
            rate, length = int(file.samplerate), int(file.frames)
            wanted = length if seconds is None else min(length, round(seconds * rate))
            middle = length / 2 if around is None else around * rate
            start = min(max(0, round(middle - wanted / 2)), length - wanted)
            file.seek(start)
            wave: Wave = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: the file is truncated, damaged or not a sound file ({error.error_string})."
        ) from error
    if len(wave) == 0 or len(wave) < wanted:
        raise DataError(f"{path}: {'the sound is truncated' if len(wave) else 'the file has no samples'}.")
    if not np.isfinite(wave).all():
        raise DataError(f"{path}: the sound has values that are not finite.")
    return wave, rate
