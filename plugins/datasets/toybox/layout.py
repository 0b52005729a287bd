"""Which objects a toybox clip has and where: boxes that follow VGG-SS's, stratified over the clips of a split.

The law was measured on the 5,156 usable annotations of VGG-SS (the union of each clip's boxes): areas by their
quantiles, positions as a share of the room that a box of that size has. Areas, positions and classes of the sources
are taken from low-discrepancy sequences over the clips' numbers, so that the first 150 clips have the distribution and
not a draw of it, and more clips leave the earlier ones as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from .kinds import SEEN, Kind

AREA_QUANTILES = (0.0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)
AREAS = (0.008, 0.011, 0.033, 0.054, 0.121, 0.253, 0.463, 0.677, 0.780, 0.921, 0.980)
"""Box areas of VGG-SS at these quantiles, as a share of the frame."""
LONGEST_SIDE = 0.985
CENTER_X, CENTER_Y = (0.0, 0.5), (0.06, 0.62)
"""Mean and standard deviation of a box's place between the frame's edges: -1 and 1 touch them."""
STRETCH = 0.3
"""Standard deviation of the logarithm by which an object is wider than its silhouette."""

Rng = np.random.Generator
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a clip should contain.

    Attributes:
        kinds: Classes to draw from.
        sources: Sounding, visible objects.
        silent: Least and greatest number of visible objects that do not sound.
        offscreen: Probability of a sound whose object is not visible.
        similar: Probability that the second source shares noun or adjective with the first.
        scale: Of every area.
    """

    kinds: tuple[Kind, ...] = SEEN
    sources: int = 1
    silent: tuple[int, int] = (0, 0)
    offscreen: float = 0.0
    similar: float = 0.5
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Cast:
    """The classes of a clip; all different."""

    sounding: tuple[Kind, ...]
    silent: tuple[Kind, ...]
    offscreen: tuple[Kind, ...]


def draw_cast(recipe: Recipe, first: Kind, rng: Rng) -> Cast:
    """Draw the classes beside the first source's, which is given."""
    rest = [kind for kind in (recipe.kinds[i] for i in rng.permutation(len(recipe.kinds))) if kind != first]
    if recipe.sources > 1 and rng.random() < recipe.similar:
        rest.sort(key=lambda kind: (kind.adjective == first.adjective) == (kind.noun == first.noun))  # alike ones first
    others, rest = rest[: recipe.sources - 1], rest[recipe.sources - 1 :]
    silent = int(rng.integers(recipe.silent[0], recipe.silent[1] + 1))
    hidden = 1 if rng.random() < recipe.offscreen else 0
    return Cast((first, *others), tuple(rest[:silent]), tuple(rest[silent : silent + hidden]))


def stratified_kind(kinds: Sequence[Kind], world: Sequence[int], index: int) -> Kind:
    """The first source's class: every class comes once among each ``len(kinds)`` clips."""
    turn, position = divmod(index, len(kinds))
    order = np.random.default_rng(np.random.SeedSequence(list(world), spawn_key=(turn,))).permutation(len(kinds))
    return kinds[order[position]]


def stratified_quantiles(count: int, world: Sequence[int], index: int) -> npt.NDArray[np.float64]:
    """``(count, 3)`` in (0, 1) of a clip's sources, for area, x and y; even in every dimension over the clips.

    The additive recurrence of M. Roberts (2018), whose steps are powers of the generalized golden ratio, from a
    random start.
    """
    size = 3 * count
    ratio = 2.0
    for _ in range(64):  # the root of r^(size + 1) = r + 1
        ratio = (1 + ratio) ** (1 / (size + 1))
    steps = ratio ** -np.arange(1, size + 1)
    start = np.random.default_rng(np.random.SeedSequence(list(world))).random(size)
    return np.clip((start + (index + 1) * steps) % 1, 1e-6, 1 - 1e-6).reshape(count, 3)


def box_area(quantile: float, scale: float) -> float:
    """VGG-SS's area at a quantile, scaled; never less than its least."""
    return max(float(np.interp(quantile, AREA_QUANTILES, AREAS)) * scale, AREAS[0])


def box_place(x: float, y: float) -> Place:
    """Where a box lies between the frame's edges, 0 to 1 each, at two quantiles."""
    found = [np.clip(mean + deviation * ndtri(q), -1, 1) for (mean, deviation), q in ((CENTER_X, x), (CENTER_Y, y))]
    return (float(1 + found[0]) / 2, float(1 + found[1]) / 2)


def box_sides(area: float, aspect: float) -> tuple[float, float]:
    """Width and height of a box of that area; where one would be too long, the other grows instead."""
    width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    if width > LONGEST_SIDE:
        width, height = LONGEST_SIDE, min(LONGEST_SIDE, area / LONGEST_SIDE)
    elif height > LONGEST_SIDE:
        width, height = min(LONGEST_SIDE, area / LONGEST_SIDE), LONGEST_SIDE
    return float(width), float(height)
