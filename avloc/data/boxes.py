"""Boxes: read from annotations, and drawn as masks."""

from __future__ import annotations

import json

import numpy as np

from avloc.types import DataError, FloatArray, Maps

TOLERANCE = 0.5 / 10_000
"""How far a box may reach beyond the canvas, which is rounding: half a pixel of an image of 10,000."""


def read_boxes(where: str, boxes: object, *, corners: bool = False) -> FloatArray:
    """Boxes of an annotation.

    Args:
        where: File and line, for errors.
        boxes: A list of lists of four numbers, or its JSON text.
        corners: Whether they must be ``[x1, y1, x2, y2]``, x1 < x2 and y1 < y2, as shares of width and height.

    Returns:
        ``(n, 4)`` float64. Corners beyond the canvas by no more than `TOLERANCE` are on its edge.

    Raises:
        DataError: They are anything else, or not finite.
    """
    text, wanted = str(boxes)[:80], "a JSON list of [x1, y1, x2, y2]" if corners else "lists of four numbers"
    try:
        given = json.loads(boxes) if isinstance(boxes, str) else boxes
        if not np.issubdtype(np.array(given).dtype, np.number):  # not even true, or a number in quotes
            raise ValueError
        found = np.array(given, np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        found = np.zeros(0)
    if found.ndim != 2 or found.shape[1] != 4 or not np.isfinite(found).all():
        raise DataError(f"{where}: boxes should be {wanted}, as in [[0.1, 0.2, 0.5, 0.9]], not {text}.")
    if not corners:
        return found
    inside = on_canvas(found)
    if inside is None:
        raise DataError(f"{where}: boxes should be shares of width and height, from 0 to 1, not {text}.")
    found = np.asarray(inside, np.float64)
    if not (found[:, :2] < found[:, 2:]).all():
        raise DataError(f"{where}: boxes should be [x1, y1, x2, y2] with x1 < x2 and y1 < y2, not {text}.")
    return found


def on_canvas(boxes: FloatArray) -> FloatArray | None:
    """The same boxes ``(n, 4)`` without what rounding puts beyond the canvas; ``None`` where more than that is."""
    inside = boxes.clip(0, 1)
    return inside if (np.abs(boxes - inside) <= TOLERANCE).all() else None


def rasterize(boxes: FloatArray, height: int, width: int) -> Maps:
    """How many boxes cover each pixel: corners clipped to the canvas and truncated, the far ones exclusive.

    Args:
        boxes: ``(n, 4)`` xyxy, normalized to the canvas.
        height, width: Of the canvas, in pixels.

    Returns:
        ``(height, width)`` counts.
    """
    # A corner that lies on a pixel edge must not fall short of it by rounding, even where boxes are float32.
    corners = np.clip(boxes, 0.0, 1.0).astype(np.float64) * np.array([width, height] * 2) + 1e-4
    counts = np.zeros((height, width), np.float32)
    for left, top, right, bottom in corners.astype(int):
        counts[top:bottom, left:right] += 1
    return counts
