"""What toybox looks like: a silhouette per noun, a surface per adjective, and a background."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

Mask = npt.NDArray[np.uint8]
Colors = npt.NDArray[np.float32]

SIDE = 96
"""Of the square that silhouettes are drawn on, in pixels."""
LEAN = 0.35
"""An object leans to either side by at most this angle, in radians."""

Point = tuple[float, float]


class Canvas:
    """A silhouette in coordinates from 0 to 1; corners are jittered."""

    def __init__(self, rng: Generator) -> None:
        self.mask: Mask = np.zeros((SIDE, SIDE), np.uint8)
        self._rng = rng

    def near(self, value: float) -> float:
        """The value, jittered by up to 0.02."""
        return value + self._rng.uniform(-0.02, 0.02)

    def polygon(self, points: Sequence[Point] | npt.NDArray[np.floating]) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.mask, [np.round(np.asarray(points) * SIDE).astype(np.int32)], 255)

    def ellipse(self, center: Point, radii: Point, value: int = 255) -> None:
        """Fill an ellipse, or with 0 punch a hole."""
        middle = (round(center[0] * SIDE), round(center[1] * SIDE))
        cv2.ellipse(self.mask, middle, (round(radii[0] * SIDE), round(radii[1] * SIDE)), 0, 0, 360, value, -1)

    def wheel(self, radii: npt.NDArray[np.floating], turn: float = 0.0) -> None:
        """Fill a star-shaped polygon given the radius at evenly spaced angles."""
        angles = turn + np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
        self.polygon(0.5 + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def _bell(draw: Canvas) -> None:
    right, left = (draw.near(0.92), 0.85), (draw.near(0.08), 0.85)
    draw.polygon([(0.38, 0.1), (0.62, 0.1), (draw.near(0.7), 0.5), right, left, (draw.near(0.3), 0.5)])
    draw.ellipse((0.5, 0.9), (0.08, 0.08))


def _pipe(draw: Canvas) -> None:
    draw.polygon([(draw.near(0.4), 0.03), (0.6, 0.03), (0.6, 0.97), (draw.near(0.4), 0.97)])


def _drum(draw: Canvas) -> None:
    draw.ellipse((0.5, 0.28), (0.44, 0.2))
    draw.polygon([(0.06, 0.28), (0.94, 0.28), (draw.near(0.86), 0.86), (draw.near(0.14), 0.86)])


def _horn(draw: Canvas) -> None:
    upper, lower = (0.5, draw.near(0.42)), (0.5, draw.near(0.58))
    draw.polygon([(0.04, 0.45), upper, (0.95, 0.08), (0.95, 0.92), lower, (0.04, 0.55)])


def _fiddle(draw: Canvas) -> None:
    draw.ellipse((0.5, 0.7), (0.33, 0.26))
    draw.ellipse((0.5, 0.38), (0.24, 0.2))
    draw.polygon([(0.45, 0), (0.55, 0), (0.55, 0.3), (0.45, 0.3)])


def _whistle(draw: Canvas) -> None:
    draw.ellipse((0.38, 0.6), (0.33, 0.33))
    draw.polygon([(0.3, 0.27), (0.98, draw.near(0.3)), (0.98, 0.5), (0.5, 0.6)])


def _motor(draw: Canvas) -> None:
    draw.wheel(np.tile([0.47, 0.47, 0.35, 0.35], 9))
    draw.ellipse((0.5, 0.5), (0.12, 0.12), 0)


def _rattle(draw: Canvas) -> None:
    draw.wheel(np.tile([0.49, 0.21], 5), turn=-np.pi / 2)


SILHOUETTES: dict[str, Callable[[Canvas], None]] = {
    "bell": _bell, "pipe": _pipe, "drum": _drum, "horn": _horn,
    "fiddle": _fiddle, "whistle": _whistle, "motor": _motor, "rattle": _rattle,
}  # fmt: skip


def silhouette(noun: str, rng: Generator) -> Mask:
    """``(h, w)`` uint8, 255 inside: leaning at random, and cut off where it ends, so that it fills its box."""
    draw = Canvas(rng)
    SILHOUETTES[noun](draw)
    lean = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), np.degrees(rng.uniform(-LEAN, LEAN)), 0.7)  # stays inside
    mask = cv2.warpAffine(draw.mask, lean, (SIDE, SIDE))
    rows, columns = (np.flatnonzero((mask > 127).any(axis=axis)) for axis in (1, 0))
    return np.asarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)


Plane = npt.NDArray[np.float64]


def _cell(coordinate: Plane) -> Plane:
    """Position within a period, 0 to 1."""
    return np.mod(coordinate, 1)


SURFACES: dict[str, Callable[[Plane, Plane], npt.NDArray[np.bool_]]] = {
    "striped": lambda u, v: _cell(u) < 0.5,
    "spotted": lambda u, v: np.hypot(_cell(u) - 0.5, _cell(v) - 0.5) < 0.3,
    "checked": lambda u, v: (_cell(u) < 0.5) ^ (_cell(v) < 0.5),
    "ringed": lambda u, v: _cell(1.6 * np.hypot(u, v)) < 0.5,
    "zigzag": lambda u, v: _cell(u + 0.7 * np.abs(np.mod(v, 2) - 1)) < 0.5,
    "plain": lambda u, v: np.zeros(u.shape, np.bool_),
}
"""The mask of the second color, from coordinates around the center in periods of the texture, randomly rotated."""


def surface(adjective: str, height: int, width: int, rng: Generator) -> Colors:
    """``(height, width, 3)`` in [0, 255]: two random hues in the adjective's texture, shaded from above.

    The texture's period grows with the square root of the longer side: large objects show more periods, not only
    larger ones.
    """
    longer = max(height, width)
    tile = max(longer, np.clip(SIDE * np.sqrt(longer / 40), 40, 220))  # pixels that 4 to 5.5 periods take
    y, x = np.mgrid[0 : 2 * height, 0 : 2 * width] / 2 + 0.25  # twice as fine, for smooth edges
    y, x = y - height / 2, x - width / 2
    angle, periods = rng.uniform(0, np.pi), rng.uniform(4, 5.5) / tile
    u = periods * (x * np.cos(angle) + y * np.sin(angle))
    v = periods * (y * np.cos(angle) - x * np.sin(angle))
    shift = (0.0, 0.0) if adjective == "ringed" else rng.uniform(0, 1, 2)  # rings stay centered
    second = SURFACES[adjective](u + shift[0], v + shift[1])
    colors = _two_colors(rng)
    shaded = np.where(second[..., None], colors[1], colors[0]) * (0.925 - 0.35 * y / height)[..., None]
    smooth = cv2.resize(shaded.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(smooth, 0, 255), np.float32)


def _two_colors(rng: Generator) -> Colors:
    """``(2, 3)`` RGB whose hues are at least 100 degrees apart."""
    hue = rng.integers(0, 180)  # OpenCV counts hues in steps of two degrees
    other = (hue + rng.integers(50, 130)) % 180
    first = (hue, rng.integers(120, 230), rng.integers(130, 240))
    second = (other, rng.integers(60, 230), rng.integers(60, 250))
    colors = cv2.cvtColor(np.array([[first, second]], np.uint8), cv2.COLOR_HSV2RGB)[0]
    return np.asarray(colors, np.float32)


def background(side: int, rng: Generator) -> Colors:
    """``(side, side, 3)`` in [0, 255]: soft noise at four scales around a random color."""
    picture = np.broadcast_to(rng.uniform(40, 200, 3), (side, side, 3)).astype(np.float32)
    for cells in (4, 8, 16, 32):
        coarse = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        picture += smooth * np.float32(rng.uniform(10, 26) / np.sqrt(cells / 4))
    return np.clip(picture, 0, 255)


def scenery(side: int, rng: Generator) -> Colors:
    """``(side, side, 3)`` in [0, 255]: a background with up to four soft blobs of other backgrounds on it."""
    picture = background(side, rng)
    for _ in range(int(rng.integers(0, 5))):
        cells = int(rng.integers(3, 6))
        blob = cv2.resize(rng.standard_normal((cells, cells)), (side, side), interpolation=cv2.INTER_CUBIC)
        cover = np.clip((blob - np.quantile(blob, rng.uniform(0.6, 0.9))) * 8, 0, 1) * rng.uniform(0.35, 0.8)
        picture += (background(side, rng) - picture) * cover[..., None].astype(np.float32)
    return picture
