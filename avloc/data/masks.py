"""Masks: resized, and read as authors publish them, also from pickles, of which nothing is run."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avloc.data.media import read_image
from avloc.types import DataError, Maps

ARRAYS = {".npy", ".pickle", ".pkl"}
"""Suffixes of masks that are arrays; all others are images."""
LARGEST = 1 << 28
"""Bytes of a pickle: none that holds one mask is as large."""


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Where a source is.

    Args:
        path: A pickled array, an ``.npy`` file or an image: ``(h, w)``, with axes of length 1 allowed. A pixel is
            inside where its value is above half of the largest.

    Returns:
        ``(h, w)`` bool.

    Raises:
        DataError: The file is damaged, is not one plain array of numbers, has another shape, or no pixel is inside.
    """
    array = _read_array(path) if path.suffix.lower() in ARRAYS else read_image(path).max(axis=2)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise DataError(f"{path}: a mask should be an array of finite numbers, not of {array.dtype}.")
    squeezed = array.squeeze().astype(np.float64)
    if squeezed.ndim != 2 or not squeezed.size:
        raise DataError(f"{path}: a mask should be (h, w), not {array.shape}.")
    if not squeezed.max() > 0:
        raise DataError(f"{path}: the mask is black, so the source is nowhere.")
    return np.asarray(2 * squeezed > squeezed.max(), np.bool_)


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
