"""What is odd about clips whose files are whole: silent, short, still, of another length than promised.

Tables and ``avloc data status`` count such clips. What was found is kept in the cache, by the files' content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avloc.data.media import Wave, is_still, read_channels
from avloc.progress import say
from avloc.store import cache_folder, file_digest, read_json, tag_as_cache, write_json
from avloc.types import AvlocError, DataError

SILENT = 1e-3
"""Peaks below this (-60 dB of full scale) are silence."""
CANCELED = 0.02
"""A mean that peaks below this share of the loudest channel's peak is what channels of opposite sign leave."""
SHORT = 0.5
"""Seconds of sound."""
TOLERANCE = 0.5
"""Seconds by which a clip may be longer or shorter than promised."""


class Heard(NamedTuple):
    """A sound's measures.

    Attributes:
        seconds: Its length.
        peak: Of the mean of its channels, of full scale.
        loudest: The peak of its loudest channel.
    """

    seconds: float
    peak: float
    loudest: float

    @classmethod
    def of(cls, channels: Wave, rate: int) -> Heard:
        """Measure ``(C, T)``."""
        mean = float(np.abs(channels.mean(axis=0)).max())
        return cls(round(channels.shape[1] / rate, 6), mean, float(np.abs(channels).max()))

    @property
    def canceled(self) -> bool:
        """Whether the channels are heard, each by itself, but their mean is not."""
        return self.loudest >= SILENT and self.peak < CANCELED * self.loudest

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear in any channel."""
        return self.peak < SILENT and not self.canceled


class Traits(NamedTuple):
    """Of a clip, as far as they are known.

    Attributes:
        heard: Its sound.
        seconds: How long its video lasts.
        still: Whether its video shows one picture all the time.
        promised: Seconds that the data set says it lasts.
    """

    heard: Heard | None = None
    seconds: float | None = None
    still: bool = False
    promised: float | None = None

    @property
    def strange_lengths(self) -> list[float]:
        """Lengths of its video and its sound that are not what was promised."""
        known = [self.seconds, self.heard.seconds if self.heard else None]
        return [one for one in known if one is not None and self.promised and abs(one - self.promised) > TOLERANCE]


def remarks(clips: Mapping[str, Traits]) -> tuple[str, ...]:
    """A sentence about every kind of oddity, with its count and first clip."""

    def counted(what: str, holds: Callable[[Traits], object]) -> list[str]:
        found = [id for id, traits in clips.items() if holds(traits)]
        return [f"{len(found):,} of {len(clips):,} clips {what}, the first: {found[0]}."] if found else []

    lengths = sorted(length for traits in clips.values() for length in traits.strange_lengths)
    promised = " or ".join(dict.fromkeys(f"{one.promised:g}" for one in clips.values() if one.strange_lengths))
    span = f"shortest {lengths[0]:.1f} s, longest {lengths[-1]:.1f} s" if lengths else ""
    canceled = "have channels that cancel: their mean, which is heard, is next to nothing"
    return (
        *counted(
            f"do not last {promised} s ({span}), so their frames may not be the annotated ones",
            lambda one: one.strange_lengths,
        ),
        *counted("are silent", lambda one: one.heard and one.heard.silent),
        *counted(canceled, lambda one: one.heard and one.heard.canceled),
        *counted(f"have less than {SHORT:g} s of sound", lambda one: one.heard and one.heard.seconds < SHORT),
        *counted("show a still picture", lambda one: one.still),
    )


class Look:
    """Traits of files that are decoded once: ``with Look() as look``. Files that cannot be decoded have none."""

    def __init__(self) -> None:
        self._file = cache_folder() / "traits" / "files.json"
        self._known = self._kept()
        self._fresh = False

    def _kept(self) -> dict[str, Any]:
        """What was found before; where that is damaged it is found again."""
        try:
            kept: dict[str, Any] = read_json(self._file) if self._file.is_file() else {}
        except AvlocError as error:
            say(f"{error} The files are looked at again.")
            return {}
        return kept

    def heard(self, sound: Path, start: float | None = None, end: float | None = None) -> Heard | None:
        """A sound's, or that of a video; of a moment where two seconds are given."""

        def read() -> Heard:
            channels, rate = read_channels(sound)
            if start is not None and end is not None:
                channels = channels[:, round(start * rate) : round(end * rate)]
            if not channels.size:
                raise DataError(f"{sound}: the sound ends before second {start:g}.")
            return Heard.of(channels, rate)

        kind = "sound" if start is None or end is None else f"sound {start!r} {end!r}"
        found = self._found(kind, sound, read)
        return None if found is None else Heard(*found)

    def still(self, video: Path) -> bool:
        """Whether a video shows one picture all the time."""
        return bool(self._found("video", video, lambda: is_still(video)))

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fresh:
            tag_as_cache(self._file.parent)
            write_json(self._file, self._known)

    def _found(self, kind: str, path: Path, read: Callable[[], Any]) -> Any:
        try:
            key = f"{kind} {file_digest(path)}"
            if key not in self._known:
                self._known[key] = read()
                self._fresh = True
        except DataError:
            return None
        return self._known[key]
