"""Generates the clips that do not exist yet, in several processes, one per core."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from avloc import AvlocError, track
from avloc.data import Died, each, exclusive, writing

from .files import Annotation, Job, drop_torn_line, name_of, read_log, write_clip
from .layout import Recipe


def make(folder: Path, recipes: Sequence[Recipe], entropy: Sequence[int], description: str) -> None:
    """Generate the clips of a split that do not exist yet.

    Args:
        folder: The split's folder.
        recipes: One per clip; the position is the clip's index.
        entropy: Seed, split and presentation; the index is appended.
        description: For the progress bar.

    Raises:
        AvlocError: The folder cannot be written.
    """
    if len(read_log(folder)) >= len(recipes):
        return
    with exclusive(folder, "the built-in clips"), writing(folder):
        done = read_log(folder)
        jobs = [
            (folder, index, recipe, (*entropy, index))
            for index, recipe in enumerate(recipes)
            if name_of(index) not in done
        ]
        _write_all(folder, jobs, description)


def _write_all(folder: Path, jobs: Sequence[Job], description: str) -> None:
    log = folder / "annotations.jsonl"
    drop_torn_line(log)
    for left in folder.glob("*.tmp"):  # by a process that was killed
        left.unlink()
    annotations = _made(jobs, min(os.cpu_count() or 1, len(jobs) // 8))
    with log.open("a", encoding="utf-8") as file:
        for annotation in track(annotations, description, len(jobs)):
            file.write(json.dumps(annotation) + "\n")
            file.flush()
        os.fsync(file.fileno())


def _made(jobs: Sequence[Job], count: int) -> Iterator[Annotation]:
    """Generate clips in `count` processes, or in this one if there are few; yields the finished ones."""
    if count < 2:
        yield from map(write_clip, jobs)
        return
    for index, found in each(write_clip, jobs, count, reuse=True, threads=1):
        if isinstance(found, Died):
            if found.error is not None:
                raise found.error
            raise AvlocError(f"A process that makes clips in {jobs[index][0]} failed: {found}.")
        yield found
