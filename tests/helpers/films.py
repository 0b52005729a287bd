"""A data set whose media come from videos, and tiny videos, for tests of the preparation."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from avloc import Clip, DataError, Dataset, Sample, Status, hookimpl
from avloc.data import data_folder, remarks, write_video
from avloc.data.prepared import HasRecordings, Recording, Recordings

RATE, FPS, SIZE = 8000, 8, (48, 64)


class Films(HasRecordings, Dataset):
    """``films.csv``: id, split, class, sound, mask. A source may carry the id or ``YTID_<start without zeros>``."""

    title = "Films"
    family = "films"
    annotations = {"films.csv": "https://example.org/films"}  # noqa: RUF012
    classes = ("a", "b")

    def __init__(self, root: Path | None, *, split: str, at: float = -1.0, lasts: float | None = None) -> None:
        folder = data_folder(root) / self.family
        file = folder / "annotations" / "films.csv"
        if not file.is_file():
            raise DataError(f"{folder / 'annotations'}: the annotation file is missing; avloc data prepare copies it.")
        with file.open(newline="") as lines:
            self._rows = {row["id"]: row for row in csv.DictReader(lines) if row["split"] == split}
        self._media, self._at, self._lasts = Recordings(folder), None if at < 0 else at, lasts

    def recordings(self) -> Sequence[Recording]:
        return [self._recording(id) for id in self._rows]

    def _recording(self, id: str) -> Recording:
        row, (name, _, start) = self._rows[id], id.rpartition("_")
        sources = (id, f"{name}_{int(start)}", f"{name}_{int(start)}000_{int(start) + 10}000", row["sound"])
        return Recording(id, row["sound"] or id, tuple(filter(None, sources)), self._at, bool(row["mask"]), self._lasts)

    def ids(self) -> list[str]:
        return list(self._rows)

    def labels(self, id: str) -> tuple[str, ...]:
        return (self._rows[id]["class"],)

    def status(self) -> Status:
        return self._media.status({id: [self._recording(id)] for id in self._rows})

    def remarks(self) -> tuple[str, ...]:
        return remarks(self._media.traits({id: self._recording(id) for id in self.status().present}))

    def load(self, id: str) -> Sample:
        recording = self._recording(id)
        return Sample(Clip(id, self._media.image(recording), *self._media.audio(recording)), None, self.labels(id))

    def fingerprint(self) -> str:
        return ""


class Cinema:
    """The plugin module."""

    @hookimpl
    def avloc_datasets(self) -> dict[str, str | type]:
        return {"films": Films}


def annotate(folder: Path, ids: Sequence[str], *, sound: str = "", mask: str = "") -> None:
    """Write ``films.csv``: every id is a test clip of class a or b."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{id},test,{'ab'[n % 2]},{sound},{mask}" for n, id in enumerate(ids)]
    (folder / "films.csv").write_text("\n".join(["id,split,class,sound,mask", *rows]) + "\n")


@cache
def film(hue: int = 0, seconds: float = 1.0) -> bytes:
    """An mp4 whose frames get brighter."""
    count = round(seconds * FPS)
    frames = np.zeros((count, *SIZE, 3), np.uint8)
    frames[..., hue % 3] = np.linspace(40, 240, count, dtype=np.uint8)[:, None, None]
    wave = 0.5 * np.sin(np.arange(round(seconds * RATE)) * (0.1 + hue / 50))
    with TemporaryDirectory() as folder:
        write_video(Path(folder) / "film.mp4", frames, FPS, wave.astype(np.float32), RATE)
        return (Path(folder) / "film.mp4").read_bytes()


def put(path: Path, content: bytes) -> Path:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pack(path: Path, members: dict[str, bytes]) -> Path:
    """A tar shard; ``.gz`` by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)
