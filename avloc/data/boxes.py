"""Boxes: read from annotations, and drawn as masks."""

from __future__ import annotations

import numpy as np

from avloc.types import DataError, FloatArray, Maps


def read_boxes(where: str, boxes: object) -> FloatArray:
    """``(n, 4)`` from a JSON list of lists.

    Raises:
        DataError: It is anything else, or not finite.
    """
    try:
        found = np.array(boxes, np.float64)
    except (ValueError, TypeError, OverflowError):
        found = np.zeros(0)
    if found.ndim != 2 or found.shape[1] != 4 or not np.isfinite(found).all():
        raise DataError(f"{where}: boxes should be lists of four numbers, not {str(boxes)[:80]}.")
    return found


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
