"""Published lists and tiny media beside them, as the tests of the real data sets use them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from avloc import Dataset, get_component
from helpers import SHARED

COPIES = Path(os.environ.get("AVLOC_ANNOTATIONS") or SHARED / "annotations")
needs_copies = pytest.mark.skipif(
    not (COPIES / "vggss.json").is_file(), reason=f"no published annotations in {COPIES} (AVLOC_ANNOTATIONS)"
)


def opened(name: str, root: Path, split: str = "test", **parameters: Any) -> Dataset:
    dataset: Dataset = get_component("dataset", name)(root, split=split, **parameters)
    return dataset


def annotate(root: Path, family: str, **texts: str) -> Path:
    """Write annotation files; ``_csv`` and the like at the end of a name is its suffix."""
    folder = root / family / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8", newline="")
    return folder


def copied(root: Path, family: str, *names: str) -> Path:
    """The data folder with copies of the published files; ``new=old`` renames."""
    folder = annotate(root, family)
    for name in names:
        to, _, source = name.partition("=")
        shutil.copyfile(COPIES / (source or to), folder / to)
    return root


def frame(root: Path, family: str, id: str, size: tuple[int, int] = (20, 40), gray: int = 100) -> None:
    """A frame of ``(height, width)``."""
    (root / family / "frames").mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size[::-1], (gray,) * 3).save(root / family / "frames" / f"{id}.jpg")


def sound(root: Path, family: str, id: str, seconds: float = 1.0, rate: int = 8000) -> None:
    """A sound that rises from 0 to 0.5."""
    (root / family / "audio").mkdir(parents=True, exist_ok=True)
    soundfile.write(root / family / "audio" / f"{id}.flac", np.linspace(0, 0.5, round(seconds * rate)), rate)


def clip(root: Path, family: str, id: str, size: tuple[int, int] = (20, 40), gray: int = 100) -> None:
    """Frame and sound under one id."""
    frame(root, family, id, size, gray)
    sound(root, family, id)
