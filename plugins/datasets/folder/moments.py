"""A moment within a longer file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from avloc import DataError
from avloc.data import read_audio

ROUNDING = 0.1
"""Seconds by which a sound may be shorter than its column ``end``: codecs cut it to whole blocks."""


def read_sound(path: Path, start: float | None, end: float | None) -> tuple[npt.NDArray[np.float32], int]:
    """The whole sound of a file, or what of it lies between two seconds.

    Returns:
        ``(T,)`` float32, mono, and the samples per second.

    Raises:
        DataError: The file cannot be read, or ends before.
    """
    wave, rate = read_audio(path)
    if start is None or end is None:
        return wave, rate
    if end > len(wave) / rate + ROUNDING or start * rate >= len(wave):
        raise DataError(
            f"{path}: the sound lasts {len(wave) / rate:.2f} s, so it has no part from {start:g} to {end:g}."
        )
    return wave[round(start * rate) : round(end * rate)], rate
