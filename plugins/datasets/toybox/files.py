"""Toybox on disk: real mp4 files, id masks, and a log of what was made.

::

    toybox/v2/<presentation>/<split>/  00000.mp4   H.264 + AAC
                                       00000.png   object ids at the annotated frame
                                       annotations.jsonl   one line per finished clip, with sizes and hashes

A clip is finished when its line is in the log; an interrupted run resumes after the last one. A file that is damaged
later no longer matches its line and is reported, never silently regenerated.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avloc import AvlocError, DataError
from avloc.data import write_video

from .layout import Recipe
from .scene import ANNOTATED, FPS, Rendered, render
from .sounds import RATE

VERSION = "v2"

Annotation = dict[str, Any]
Job = tuple[Path, int, Recipe, Sequence[int]]
"""Folder, index, what to make, and the clip's entropy."""


def name_of(index: int) -> str:
    """The file name of a clip, without ending."""
    return f"{index:05d}"


def write_clip(job: Job) -> Annotation:
    """Render one clip and write its two files; returns its line for the log."""
    folder, index, recipe, entropy = job
    cv2.setNumThreads(1)
    clip = render(recipe, entropy)
    name = name_of(index)
    video, mask = folder / f"{name}.mp4", folder / f"{name}.png"
    temporary = folder / f"{name}.{os.getpid()}.tmp"
    write_video(temporary, clip.frames, FPS, clip.audio, RATE)
    temporary.replace(video)
    _, png = cv2.imencode(".png", clip.ids)
    temporary.write_bytes(png.tobytes())
    temporary.replace(mask)
    return {
        "name": name,
        "objects": [asdict(item) for item in clip.objects],
        "offscreen": list(clip.offscreen),
        "frame_time": ANNOTATED / FPS,
        "content": content_hash(clip),
        "files": {path.name: _file_hash(path) for path in (video, mask)},
        "bytes": {path.name: path.stat().st_size for path in (video, mask)},
    }


def content_hash(clip: Rendered) -> str:
    """SHA-256 of what was made, before encoding: equal on machines whose encoders write other bytes."""
    digest = hashlib.sha256(clip.frames[ANNOTATED].tobytes())
    digest.update(np.round(clip.audio * 2**12).astype(np.int16).tobytes())
    digest.update(clip.ids.tobytes())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify(folder: Path, annotation: Annotation) -> None:
    """Check a clip's files against their hashes.

    Raises:
        DataError: A file is missing or was changed after it was made.
    """
    for name, expected in annotation["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is gone. Delete {folder} and the built-in data is made again.")
        if _file_hash(path) != expected:
            raise DataError(f"{path} was changed or damaged after it was made (its SHA-256 differs).")


def read_log(folder: Path) -> dict[str, Annotation]:
    """Name -> annotation of every finished clip of a split.

    Raises:
        AvlocError: A line that is not the last cannot be read.
    """
    log = folder / "annotations.jsonl"
    if not log.is_file():
        return {}
    lines = log.read_text(encoding="utf-8").split("\n")
    try:
        found = [json.loads(line) for line in lines[:-1]]  # the last is empty, or torn by a kill
    except ValueError as error:
        raise AvlocError(f"{log} is damaged ({error}). Delete {folder}; it is made again.") from error
    return {annotation["name"]: annotation for annotation in found}


def drop_torn_line(log: Path) -> None:
    """Remove a line that an interruption left incomplete."""
    if log.is_file():
        os.truncate(log, log.read_bytes().rfind(b"\n") + 1)
