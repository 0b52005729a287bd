"""A moment within a longer file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from avloc import DataError
from avloc.data import read_channels

ROUNDING = 0.1
"""Seconds by which a sound may be shorter than its column ``end``: codecs cut it to whole blocks."""


def read_moment(path: Path, start: float | None, end: float | None) -> tuple[npt.NDArray[np.float32], int]:
    """The whole sound of a file, or what of it lies between two seconds.

    Returns:
        ``(C, T)`` float32, and the samples per second.

    Raises:
        DataError: The file cannot be read, ends before, or nothing lies between the two seconds.
    """
    channels, rate = read_channels(path)
    seconds = channels.shape[1] / rate
    if start is None or end is None:
        return channels, rate
    if end > seconds + ROUNDING or start >= seconds:
        raise DataError(f"{path}: the sound lasts {seconds:.2f} s, so it has no part from {start:g} to {end:g}.")
    part = channels[:, round(start * rate) : round(end * rate)]
    if not part.size:
        raise DataError(f"{path}: there is no sound from second {start:g} to {end:g}.")
    return part, rate
