"""Checkpoints of encoders: named, checked, kept as safetensors in the weights folder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file of weights that its authors published.

    Attributes:
        name: As ``weights=`` of the encoder and ``avloc weights`` spell it, such as ``audioclip_full``.
        file: The published file's name.
        url: Where it lies.
        sha256: Its hash; ``"2441d35b...632c44"`` where only both ends are known, ``""`` where nothing is.
        size: Bytes; 0 where that is not known.
        license: Of the weights.
    """

    name: str
    file: str
    url: str
    sha256: str = ""
    size: int = 0
    license: str = ""
