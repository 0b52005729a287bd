"""Predictions that were made elsewhere, as files: read, checked, and named where something is wrong.

A folder holds, for every clip with the id ID,

* ``ID.npz``: the array ``maps`` ``(Q, h, w)`` or ``(h, w)``, any scale, high where something sounds; optionally
  ``labels`` ``(Q,)``, class names, and ``scores`` ``(Q,)``, how sure it is that each of them sounds;
* or ``ID.npy``, such maps alone, without names;
* or ``ID.png``, one gray map without a name; or ``ID__LABEL.png``, one per class;
* or an entry of any ``.json`` file, ``{ID: [{"label": ..., "box": [x1, y1, x2, y2]}, ...]}``: per source ``box``,
  ``boxes`` or ``mask``, optionally ``label`` and ``score``. Boxes are shares of the canvas' width and height; a mask is
  rows of numbers, or a gray image's path beside the JSON file. ``[]``: nothing was found.

A map covers the whole canvas: all tiles of one that has several, so it is that many times wider than high.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from avloc.scoring.maps import check_aspect, stacked
from avloc.types import AvlocError, FloatArray, Prediction, did_you_mean, unknown

SUFFIXES = (".npz", ".npy", ".png", ".json")
ARRAYS = ("maps", "labels", "scores")
SHAPES = ("box", "boxes", "mask")
BETWEEN = "__"
"""Between a clip's id and a label in the name of an image."""
SIDE = 224
"""Pixels of a frame onto which boxes are drawn where no mask gives a size."""
Source = Mapping[str, Any]


class Predictions:
    """What a folder has for the clips of a test list.

    Args:
        folder: With the files.
        ids: The test list.
        classes: What labels may be.

    Raises:
        AvlocError: No folder or nothing in it; a file that is none of the above, is about no clip of the list, or is
            about one that another file is about as well.
    """

    def __init__(self, folder: Path, ids: Collection[str], classes: Sequence[str]) -> None:
        if not folder.is_dir():
            raise AvlocError(f"{folder} is not a folder; --predictions needs one with .npz, .npy, .png or .json files.")
        self._classes, self._ids = classes, set(ids)
        self._files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        self._found: dict[str, dict[Path, str | list[Source] | None]] = {}
        masks = set()  # images that JSON files name
        for path in self._files:
            if path.suffix.lower() not in SUFFIXES:
                raise AvlocError(f"{path}: predictions are .npz, .npy, .png or .json files; move others elsewhere.")
            if path.suffix.lower() == ".json":
                for id, sources in _read_json(path).items():
                    self._add(id, path, sources)
                    masks |= {(path.parent / str(source["mask"])).resolve() for source in sources if "mask" in source}
        for path in self._files:
            if path.suffix.lower() != ".json" and path.resolve() not in masks:
                name = path.relative_to(folder).as_posix()[: -len(path.suffix)]
                id, label = self._split(name) if path.suffix.lower() == ".png" else (name, None)
                self._add(id, path, label)
        if not self._found:
            raise AvlocError(f"{folder} holds no predictions; see avloc score --help.")
        for id, found in self._found.items():
            first, *others = found
            named = all(isinstance(found[path], str) and path.suffix.lower() == ".png" for path in found)
            if others and not named:  # several files about one clip can only be images with labels
                raise AvlocError(f"Clip {id!r} has predictions in {first} and in {others[0]}; keep one of them.")

    def __contains__(self, id: object) -> bool:
        return id in self._found

    def content(self) -> str:
        """A digest of what the files say about the clips."""
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(f"{path.name} {path.stat().st_size} ".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def load(self, id: str, canvas: tuple[int, ...], tiles: int) -> Prediction:
        """The prediction of a clip that has one, on a canvas of so many pixels and tiles.

        Raises:
            AvlocError: A file that cannot be read, shapes that do not go together or not with the canvas, values that
                are not finite, or an unknown class; names the file.
        """
        sources = self._found[id]
        first = next(iter(sources))
        match first.suffix.lower():
            case ".npz":
                arrays = _read_arrays(first)
            case ".npy":
                arrays = {"maps": stacked(str(first), _read_array(first), "maps")}
            case ".png":
                arrays = {"maps": _stacked([_gray(path) for path in sources], str(first))}
                arrays["labels"] = [label for label in sources.values() if label is not None]
            case _:
                listed = sources[first]
                assert isinstance(listed, list)
                arrays = _drawn(listed, tiles, f"{first}, clip {id!r}", first.parent)
        labels = tuple(map(str, arrays.get("labels", ())))
        for label in labels:
            if label not in self._classes:
                raise AvlocError(f"{first}, clip {id!r}: {unknown('class', label, self._classes)}")
        try:
            found = Prediction(id, arrays["maps"], labels, arrays.get("scores"))
            twice = [label for label, count in Counter(labels).items() if count > 1]
            if twice and found.scores is None:
                raise AvlocError(
                    f"{len(labels)} maps, of which several are of {twice[0]!r}; give each class one map, or scores, of "
                    "which the highest counts."
                )
        except AvlocError as error:
            raise AvlocError(f"{first}: {error}") from error
        check_aspect(f"{first}, clip {id!r}", found.maps, canvas, tiles)
        return found

    def _add(self, id: str, path: Path, what: str | list[Source] | None) -> None:
        if id not in self._ids:
            raise AvlocError(f"{path}: the test list has no clip {id!r}.{did_you_mean(id, self._ids)}")
        self._found.setdefault(id, {})[path] = what

    def _split(self, name: str) -> tuple[str, str | None]:
        """An image's clip and label; ids may hold the mark between them too, so the longest id counts."""
        parts = name.split(BETWEEN)
        for count in range(len(parts), 0, -1):
            id, label = BETWEEN.join(parts[:count]), BETWEEN.join(parts[count:])
            if id in self._ids:
                return id, label if count < len(parts) else None
        return name, None


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise AvlocError(f"{path}: not an .npz file of plain arrays ({error}).") from error
    for name in arrays:
        if name not in ARRAYS:
            raise AvlocError(f"{path}: {unknown('array', name, ARRAYS)}")
    if "maps" not in arrays:
        raise AvlocError(f"{path}: the array 'maps' (Q, h, w) is missing.")
    arrays["maps"] = stacked(str(path), arrays["maps"], "maps")
    for name, kinds, what in (("labels", "U", "class names"), ("scores", "fiu", "numbers")):
        if name in arrays and (arrays[name].ndim != 1 or arrays[name].dtype.kind not in kinds):
            got = f"{arrays[name].shape} {arrays[name].dtype}"
            raise AvlocError(f"{path}: {name} must be {what} (Q,), but are {got}.")
    return arrays | ({"scores": arrays["scores"].astype(np.float64)} if "scores" in arrays else {})


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise AvlocError(f"{path}: not an .npy file of a plain array ({error}).") from error


def _gray(path: Path) -> npt.NDArray[np.float32]:
    """``(h, w)`` in [0, 1]."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if image is None:
        raise AvlocError(f"{path}: the image is missing or cannot be read.")
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise AvlocError(f"{path}: a map must be a gray image of 8 or 16 bits, but is {image.shape} {image.dtype}.")
    return np.asarray(image / (255 if image.dtype == np.uint8 else 65535), np.float32)


def _stacked(maps: Sequence[FloatArray], where: str) -> FloatArray:
    shapes = {array.shape for array in maps}
    if len(shapes) > 1:
        raise AvlocError(f"{where}: the maps of a clip must have one size, but have {sorted(shapes)}.")
    return np.stack(maps).astype(np.float32)


def _read_json(path: Path) -> dict[str, list[Source]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AvlocError(f"{path}: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise AvlocError(f"{path}: there should be an object, {{clip: [sources]}}, not {str(content)[:40]!r}.")
    for id, sources in content.items():
        where = f"{path}, clip {id!r}"
        if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
            raise AvlocError(f"{where}: there should be a list of objects, not {str(sources)[:40]!r}.")
        for source in sources:
            for key in source:
                if key not in (*SHAPES, "label", "score"):
                    raise AvlocError(f"{where}: {unknown('key', key, (*SHAPES, 'label', 'score'))}")
            if sum(shape in source for shape in SHAPES) != 1:
                raise AvlocError(f"{where}: every source has one of box, boxes and mask; one has {sorted(source)}.")
        for key in ("label", "score"):
            if len({key in source for source in sources}) > 1:
                raise AvlocError(f"{where}: either all sources of a clip have a {key}, or none.")
    return content


def _drawn(sources: Sequence[Source], tiles: int, where: str, beside: Path) -> dict[str, Any]:
    """The sources of a JSON entry as maps of 0 and 1, or of a mask's own values."""
    masks = {n: _mask(source["mask"], where, beside) for n, source in enumerate(sources) if "mask" in source}
    height, width = next(iter(masks.values())).shape if masks else (SIDE, SIDE * tiles)
    maps = [masks[n] if n in masks else _boxes(source, where, height, width) for n, source in enumerate(sources)]
    found: dict[str, Any] = {"maps": _stacked(maps, where) if maps else np.zeros((0, height, width), np.float32)}
    if sources and "label" in sources[0]:
        found["labels"] = [source["label"] for source in sources]
    if sources and "score" in sources[0]:
        found["scores"] = np.array([_number(source["score"], where) for source in sources])
    return found


def _boxes(source: Source, where: str, height: int, width: int) -> FloatArray:
    """``(height, width)``: the union of a source's boxes."""
    from avloc.data import on_canvas, rasterize, read_boxes  # late: printing a table needs no decoder

    boxes = read_boxes(where, [source["box"]] if "box" in source else source["boxes"])
    inside = on_canvas(boxes)
    if inside is None or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise AvlocError(f"{where}: boxes should be x1 < x2, y1 < y2 in [0, 1], not {boxes.tolist()}.")
    return np.minimum(rasterize(inside, height, width), 1)


def _mask(mask: object, where: str, beside: Path) -> npt.NDArray[np.float32]:
    if isinstance(mask, str):
        return _gray(beside / mask)
    try:
        found = np.array(mask, np.float32)
    except (ValueError, TypeError):
        found = np.zeros(0, np.float32)
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise AvlocError(f"{where}: a mask should be rows of numbers or a gray image's path, not {str(mask)[:40]!r}.")
    return found


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AvlocError(f"{where}: a score should be a number, not {value!r}.")
    return float(value)
