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
and, of a video, ``at`` (seconds), ``seconds`` (its length) and ``still`` (whether it shows one picture); for a sound
``rate``, ``seconds``, ``peak`` of the source's mono mix, ``loudest`` (peak of its loudest channel), ``clipped`` (share
of the samples at or beyond full scale) and ``gain`` (what the samples were multiplied by to fit 16 bits); for a mask
``height``, ``width`` and ``area``. The last line about a file counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from avloc.data import Image, file_digest, read_image, read_mask
from avloc.data.media import Wave
from avloc.data.traits import Heard, Look, Traits
from avloc.types import DataError, Status

FOLDERS = {"frames": (".jpg", ".png"), "audio": (".flac", ".wav"), "masks": (".png",)}
"""Suffixes that are looked for in each, in this order; prepared files have the first."""

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
        lasts: Seconds that the source should last, so that its middle is known whatever was downloaded; ``None``: any.
    """

    id: str
    sound: str
    sources: tuple[str, ...]
    at: float | None = None
    mask: bool = False
    lasts: float | None = None

    def __post_init__(self) -> None:
        for name in (self.id, self.sound):
            if not name or name in (".", "..") or set("/\\\0") & set(name):
                raise DataError(f"{name!r} cannot be the id of a clip or sound: it would leave the data folder.")

    @property
    def files(self) -> list[tuple[str, ...]]:
        """Everything it needs, each by the names it may have."""
        return [self.names(folder) for folder in FOLDERS if folder != "masks" or self.mask]

    def names(self, folder: str) -> tuple[str, ...]:
        """The names that its file in a folder may have, the prepared one's first."""
        stem = self.sound if folder == "audio" else self.id
        return tuple(f"{folder}/{stem}{end}" for end in FOLDERS[folder])


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

    source: str = ""
    source_bytes: int = 0
    source_time: int = 0
    bytes: int = 0
    sha256: str = ""
    time: int = 0
    height: int = 0
    width: int = 0
    gain: float = 1.0
    seconds: float = 0.0
    peak: float = 0.0
    loudest: float = 0.0
    still: bool = False
    broken: str = ""
    transient: bool = False

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
        there, made = listed(self.folder), self.manifest()
        present, missing, broken = [], {}, {}
        for id, recordings in wanted.items():
            needs = {names[0]: find(names, there) for recording in recordings for names in recording.files}
            absent = [file for file, found in needs.items() if found is None]
            failed = [made[file] for file in absent if file in made and made[file].broken]
            reasons = {file: damage(self.folder, file, there[file], made.get(file)) for file in needs.values() if file}
            damaged = next((file for file, reason in reasons.items() if reason), None)
            if damaged and not absent:
                broken[id] = f"{damaged}: {reasons[damaged]}; prepare it again."
            elif not absent:
                present.append(id)
            elif failed:
                broken[id] = f"{failed[0].source}: {failed[0].broken}"
            else:
                missing[id] = f"{', '.join(absent)}: no video found."
        return Status(tuple(present), missing, broken)

    def image(self, recording: Recording) -> Image:
        """``(H, W, 3)`` uint8 RGB.

        Raises:
            DataError: The frame is missing, is not the one that was prepared, or cannot be decoded.
        """
        return read_image(self._file(recording.names("frames"))[0])

    def size(self, recording: Recording) -> tuple[int, int]:
        """``(height, width)`` of the frame, from the manifest where it was prepared.

        Raises:
            DataError: The frame is missing, is not the one that was prepared, or cannot be decoded.
        """
        path, line = self._file(recording.names("frames"))
        height, width = (line.height, line.width) if line is not None and line.height else read_image(path).shape[:2]
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
        path, line = self._file(recording.names("audio"))
        wave, rate = _read_window(path, around, seconds)
        return (wave / np.float32(line.gain) if line is not None and line.gain != 1 else wave), rate

    def mask(self, recording: Recording) -> npt.NDArray[np.float32]:
        """``(h, w)`` 0 or 1, at the size it was published in.

        Raises:
            DataError: The mask is missing, is not the one that was prepared, cannot be decoded, or is black.
        """
        return read_mask(self._file(recording.names("masks"))[0]).inside.astype(np.float32)

    def traits(self, recordings: Mapping[str, Recording]) -> dict[str, Traits]:
        """What is odd about clips that are present: of their sources where they were prepared, else of the files."""
        found = {}
        with Look() as look:
            for id, recording in recordings.items():
                (_, frame), (path, sound) = (self._file(recording.names(folder)) for folder in ("frames", "audio"))
                heard = Heard(sound.seconds, sound.peak, sound.loudest) if sound else look.heard(path)
                seconds, still = (frame.seconds or None, frame.still) if frame else (None, False)
                found[id] = Traits(heard, seconds, still, recording.lasts)
        return found

    def content(self, recording: Recording) -> str:
        """A digest of frame and sound: from the manifest's hashes, or of the files where they were not prepared.

        Raises:
            DataError: A file is missing or is not the one that was prepared.
        """
        digest = hashlib.sha256()
        for folder in ("frames", "audio"):
            path, line = self._file(recording.names(folder))
            about = file_digest(path) if line is None else f"{line.sha256} {line.gain!r}"
            digest.update(f"{about}\n".encode())
        return digest.hexdigest()

    def _file(self, names: Sequence[str]) -> tuple[Path, Made | None]:
        """The first of the names that is there, and its line; ``None``: it was put there by someone else."""
        for name in names:
            path = self.folder / name
            if path.is_file():
                line = self.manifest().get(name)
                line = None if line is None or line.broken else line
                if reason := damage(self.folder, name, _state(path), line):
                    raise DataError(f"{path}: {reason}; prepare the data set again.")
                return path, line
        raise DataError(f"{self.folder / names[0]}: the file is missing; it was not prepared.")

    def manifest(self) -> Mapping[str, Made]:
        """File -> its line, read again when the manifest has changed."""
        path = self.folder / "manifest.jsonl"
        try:
            state = path.stat()
        except OSError:
            self._lines, self._read = {}, (0, 0)
            return self._lines
        if self._read != (state.st_size, state.st_mtime_ns):
            self._lines = {
                line["file"]: Made(**{key: line[key] for key in Made._fields if key in line})
                for line in read_manifest(path)
            }
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


def listed(folder: Path) -> dict[str, State | None]:
    """Every frame, sound and mask of a family's folder, as the manifest names it; ``None``: a broken link."""
    found: dict[str, State | None] = {}
    for name in FOLDERS:
        if (folder / name).is_dir():
            with os.scandir(folder / name) as entries:
                found |= {f"{name}/{entry.name}": _state(entry) for entry in entries}
    return found


def find(names: Iterable[str], there: Mapping[str, State | None]) -> str | None:
    """The first of the names that is there."""
    return next((name for name in names if name in there), None)


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
    if not made.time or time in (made.time, made.time // 10**9 * 10**9):  # tar archives keep whole seconds
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
