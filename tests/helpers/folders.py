"""A user's folder of clips for the tests of the dataset `folder`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import soundfile

from avloc import Dataset, get_component

COLUMNS = ("id", "media", "label", "boxes", "split")
LEFT = "[[0.0, 0.0, 0.5, 1.0]]"

Row = dict[str, str]


def row(id: str = "a", **cells: str) -> Row:
    """One test clip, the video ``clip.mp4``."""
    return {"id": id, "media": "clip.mp4", "label": "dog", "boxes": LEFT, "split": "test", **cells}


def table(folder: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS, name: str = "annotations.csv") -> Path:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def opened(folder: Path, split: str = "test", **parameters: Any) -> Dataset:
    dataset: Dataset = get_component("dataset", "folder")(folder, split=split, **parameters)
    return dataset


def photograph(folder: Path, name: str, **cells: str) -> Row:
    """A gray photograph with a second of a tone, both written to the folder, and their row; columns `PICTURED`."""
    gray = 40 + sum(name.encode()) % 200
    PIL.Image.new("RGB", (48, 32), (gray,) * 3).save(folder / f"{name}.png")
    wave = 0.2 * np.sin(2 * np.pi * (200 + gray) * np.arange(8000) / 8000)
    soundfile.write(folder / f"{name}.wav", wave, 8000)
    return row(name, **{"media": f"{name}.png", "audio": f"{name}.wav", "group": name, **cells})


PICTURED = (*COLUMNS, "audio", "group")
