"""Masks: resized, and read as authors publish them, also from pickles, of which nothing is run."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from avloc.data.media import MOST_PIXELS
from avloc.types import BoolArray, DataError, Maps, unknown

ARRAYS = {".npy", ".pickle", ".pkl"}
"""Suffixes of masks that are arrays; all others are images."""
LARGEST = 1 << 28
"""Bytes of a pickle: none that holds one mask is as large."""
GRAY = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")
"""Modes of Pillow with one channel; of a palette (P) it is the index."""
NAMED = 8
"""How many values of a mask an error names."""
EXAMPLE = "{inside: [1], ignore: [255]}"


@dataclass(frozen=True, slots=True)
class MaskValues:
    """What the values of a mask file mean; all others are background.

    Attributes:
        inside: Values of the source.
        ignore: Values of pixels that take part in no metric.

    Raises:
        DataError: A value is no number, is in both lists, or `inside` is empty.
    """

    inside: tuple[float, ...]
    ignore: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        values = (*self.inside, *self.ignore)
        if not self.inside or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise DataError(f"mask_values: inside and ignore are lists of numbers, as in {EXAMPLE}, not {values}.")
        if both := sorted(set(self.inside) & set(self.ignore)):
            raise DataError(f"mask_values: {both[0]} is both inside and ignored.")

    @classmethod
    def parse(cls, given: object) -> MaskValues:
        """From ``{inside: [...], ignore: [...]}``; the latter is optional."""
        if not isinstance(given, Mapping):
            raise DataError(f"mask_values should be as in {EXAMPLE}, not {given!r}.")
        for key in given:
            if key not in ("inside", "ignore"):
                raise DataError(unknown("key of mask_values", key, ("inside", "ignore")))
        for key, value in given.items():
            if not isinstance(value, list):
                raise DataError(f"mask_values: {key} should be a list of numbers, as in {EXAMPLE}, not {value!r}.")
        return cls(tuple(given.get("inside", ())), tuple(given.get("ignore", ())))


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A mask file.

    Attributes:
        inside: ``(h, w)``: where the source is.
        ignore: ``(h, w)``: which pixels take part in no metric.
    """

    inside: BoolArray
    ignore: BoolArray


def read_mask(path: Path, values: MaskValues | None = None, *, black: bool = False) -> Mask:
    """Where a source is.

    Args:
        path: A pickled array, an ``.npy`` file or an image: ``(h, w)``, with axes of length 1 allowed. Images of a
            palette are read by index; colors are the numbers ``0xRRGGBB``.
        values: Which values are the source, and which are ignored. ``None``: the mask has two values, 0 outside and
            another one inside.
        black: Whether no pixel needs to be inside.

    Raises:
        DataError: The file is damaged, is not one plain array of numbers, has another shape or other values, or no
            pixel is inside.
    """
    array = _read_array(path) if path.suffix.lower() in ARRAYS else _read_picture(path)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise DataError(f"{path}: a mask should be an array of finite numbers, not of {array.dtype}.")
    squeezed = array.squeeze()
    if squeezed.ndim != 2 or not squeezed.size:
        raise DataError(f"{path}: a mask should be (h, w), not {array.shape}.")
    found = np.unique(squeezed)
    if values is None:
        _require_two(path, found)
        inside, ignore = squeezed > 0, np.zeros(squeezed.shape, bool)
    else:
        inside, ignore = np.isin(squeezed, values.inside), np.isin(squeezed, values.ignore)
    if not (black or inside.any()):
        whole = "the mask is black" if values is None else f"no pixel has a value of inside; it has {_listed(found)}"
        raise DataError(f"{path}: {whole}, so the source is nowhere.")
    return Mask(inside, ignore)


def _require_two(path: Path, found: npt.NDArray[Any]) -> None:
    """Refuse a mask whose values do not say by themselves what is inside."""
    if len(found) > 2 or (len(found) == 2 and found[0] != 0) or found[0] < 0:
        lossy = " JPEG does not keep values; save masks as PNG." if path.suffix.lower() in (".jpg", ".jpeg") else ""
        raise DataError(
            f"{path}: the mask has {len(found)} values ({_listed(found)}) where there should be 0 and one above it;"
            f"{lossy} say which are the source: mask_values: {EXAMPLE}."
        )


def _listed(found: npt.NDArray[Any]) -> str:
    """The values, shortened; colors in hexadecimal."""
    spelled = [f"0x{value:06x}" if found.max() > 0xFFFF else f"{value:g}" for value in found[:NAMED].tolist()]
    return ", ".join([*spelled, *["..."] * (len(found) > NAMED)])


def _read_picture(path: Path) -> npt.NDArray[Any]:
    """``(h, w)`` gray values, indices of a palette, or colors as numbers."""
    if not path.is_file():
        raise DataError(f"{path}: the file is missing.")
    try:
        with PIL.Image.open(path) as picture:  # reads the header only
            if picture.width * picture.height > MOST_PIXELS:
                raise DataError(f"{path}: the mask has {picture.width} x {picture.height} pixels, which is too many.")
            upright = PIL.ImageOps.exif_transpose(picture)
            if upright.mode in GRAY:
                return np.asarray(upright)
            channels = np.asarray(upright.convert("RGBA"))
    except DataError:
        raise
    except Exception as error:  # Pillow lets out whatever its parsers stumble over
        raise DataError(f"{path}: the file is truncated or not an image ({error}).") from error
    if channels[..., 3].min() < 255:
        raise DataError(f"{path}: the mask is partly transparent; save it without transparency.")
    red, green, blue = (channels[..., n].astype(np.int64) for n in range(3))
    return red if (red == green).all() and (green == blue).all() else (red << 16) + (green << 8) + blue


def resize_mask(masks: npt.NDArray[Any], height: int, width: int) -> Maps:
    """Masks at another size: every pixel has the value at its center, so that no new values arise.

    Args:
        masks: ``(..., h, w)`` of any kind of number.
        height, width: The size wanted.

    Returns:
        ``(..., height, width)`` float32.
    """
    rows, columns = (
        ((np.arange(wanted) + 0.5) * size / wanted).astype(np.intp)
        for size, wanted in zip(masks.shape[-2:], (height, width), strict=True)
    )
    # Indexing leaves the leading axes innermost, and everything after it would be several times slower.
    return np.array(masks[..., rows[:, None], columns], np.float32, order="C")


def _read_array(path: Path) -> npt.NDArray[Any]:
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: the file is too large for a mask.")
    content = path.read_bytes()
    try:
        if path.suffix.lower() == ".npy":
            found = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            found = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(f"{path}: the file is truncated or damaged ({type(error).__name__}: {error}).") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path}: the file holds a {type(found).__name__}, not an array.")
    return found


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays of numbers; any other name that a pickle asks for is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy.core", "numpy._core"), name))
        if known is None:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which no array needs; nothing was run.")
        return known


class _ArrayType:
    """Stands for ``numpy.ndarray``, which a pickle must not call: it allocates whatever size it is told."""


def _reconstruct(kind: type, shape: tuple[int, ...], letter: object) -> npt.NDArray[Any]:
    if kind is not _ArrayType or shape != (0,):
        raise pickle.UnpicklingError("the pickle builds something else than a plain array; nothing was run.")
    return np.empty(0, np.uint8)


def _frombuffer(content: bytes, kind: np.dtype[Any], shape: tuple[int, ...], order: Any) -> npt.NDArray[Any]:
    return np.frombuffer(content, kind).reshape(shape, order=order)


def _dtype(code: str, *flags: int) -> np.dtype[Any]:
    kind = np.dtype(code if isinstance(code, str) else "O", copy=True)  # what follows in the pickle changes it
    if kind.kind not in "biuf":
        raise pickle.UnpicklingError(f"the pickle holds an array of {code!r}, not of numbers; nothing was run.")
    return kind


def _encode(text: str, encoding: str) -> bytes:
    """How old protocols write bytes."""
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}
