"""Prepared media: one frame and one sound per clip, as ``avloc data prepare`` leaves them.

::

    DATA/<family>/  annotations/     files as their authors published them, which loaders read
                    frames/ID.jpg    (or .png)
                    audio/SOUND.flac (or .wav)
                    masks/ID.png     where the truth is a mask
                    manifest.jsonl   one line per prepared file, with decoder, timestamps, sizes and hashes

A folder without a manifest, laid out as the released loaders expect it (``frames/ID.jpg`` and ``audio/ID.wav``), is
read as it is.
"""

from __future__ import annotations

from dataclasses import dataclass


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
