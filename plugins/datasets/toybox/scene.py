"""One toybox clip: its objects, their layout, motion and sounds, rendered as frames, audio and exact masks.

Every clip has its own random generator, seeded by (seed, split, presentation, index), so any clip can be generated
alone, and a larger set never changes its earlier clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .kinds import SEEN, Kind
from .shapes import SIDE as PATCH, Colors, Mask, background, silhouette, surface
from .sounds import SAMPLES, SECONDS, room, voice

SIDE = 112
FPS = 8
MIN_AREA = 0.004
"""A source whose visible share of the frame is below this is not annotated: the layout is drawn again."""

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a clip should contain.

    Attributes:
        kinds: Classes to draw from.
        sources: Sounding, visible objects.
        max_silent: Largest number of visible silent objects.
        offscreen: Probability of a sound whose object is not visible.
        similar: Probability that the second source shares noun or adjective with the first.
    """

    kinds: tuple[Kind, ...] = SEEN
    sources: int = 1
    max_silent: int = 0
    offscreen: float = 0.0
    similar: float = 0.5


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a clip.

    Attributes:
        number: Its value in the id mask.
        label: Its class name.
        sounding: Whether it sounds.
        box: xyxy, normalized, of its visible part in the annotated frame.
        area: Visible share of the frame.
    """

    number: int
    label: str
    sounding: bool
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished clip.

    Attributes:
        frames: ``(N, SIDE, SIDE, 3)`` uint8.
        audio: ``(T,)`` float32.
        ids: ``(SIDE, SIDE)`` uint8 at the middle frame: 0 background, n the n-th object.
        objects: Sounding ones first.
        offscreen: Class names that sound but are not visible.
    """

    frames: npt.NDArray[np.uint8]
    audio: npt.NDArray[np.float32]
    ids: Mask
    objects: tuple[Object, ...]
    offscreen: tuple[str, ...]


def render(recipe: Recipe, entropy: Sequence[int]) -> Rendered:
    """Make a clip; the same recipe and entropy give the same arrays."""
    rng = np.random.default_rng(np.random.SeedSequence(list(entropy)))
    while True:
        sounding, silent, hidden = _cast(recipe, rng)
        kinds = [*sounding, *silent]
        frames, ids = _film(kinds, rng)
        areas = [float(np.mean(ids == n)) for n in range(1, len(kinds) + 1)]
        if min(areas[: len(sounding)]) >= MIN_AREA:
            break
    objects = tuple(
        Object(index + 1, kind.name, index < len(sounding), _box(ids == index + 1), areas[index])
        for index, kind in enumerate(kinds)
        if areas[index] > 0
    )
    audio = _record(sounding, hidden, rng)
    return Rendered(frames, audio, ids, objects, tuple(kind.name for kind in hidden))


def _cast(recipe: Recipe, rng: Rng) -> tuple[list[Kind], list[Kind], list[Kind]]:
    """Draw the classes that sound, that are silent, and that sound off-screen; all different."""
    order = [recipe.kinds[i] for i in rng.permutation(len(recipe.kinds))]
    sounding = order[: recipe.sources]
    if recipe.sources > 1 and rng.random() < recipe.similar:
        first = sounding[0]
        close = [k for k in order[recipe.sources :] if (k[0] == first[0]) != (k[1] == first[1])]
        sounding[1] = close[0] if close else sounding[1]
    rest = [kind for kind in order if kind not in sounding]
    silent = rest[: int(rng.integers(0, recipe.max_silent + 1))]
    hidden = rest[len(silent) : len(silent) + 1] if rng.random() < recipe.offscreen else []
    return sounding, silent, hidden


def _record(sounding: list[Kind], hidden: list[Kind], rng: Rng) -> npt.NDArray[np.float32]:
    """The mixed sound, with room and noise, at a power that AAC does not clip."""
    sound = np.zeros(SAMPLES)
    for kind in sounding:
        sound += voice(kind, rng) * 10 ** (rng.uniform(-4, 0) / 20)
    for kind in hidden:
        sound += voice(kind, rng) * 10 ** (rng.uniform(-8, -2) / 20)
    return room(sound, rng, snr_db=rng.uniform(8, 20))


@dataclass(frozen=True, slots=True)
class _Actor:
    mask: Mask
    texture: Colors
    scale: float
    x: float
    y: float
    angle: float
    sway: float
    phase: float
    speed: float

    def place(self, seconds: float) -> tuple[float, float, float]:
        """Center in pixels and rotation in degrees at a time."""
        turn = 2 * np.pi * self.speed * seconds
        x = (self.x + self.sway * np.sin(turn + self.phase)) * SIDE
        y = (self.y + self.sway * np.cos(0.7 * turn + self.phase)) * SIDE
        return x, y, float(np.degrees(self.angle + 0.12 * np.sin(turn + self.phase)))


def _film(kinds: list[Kind], rng: Rng) -> tuple[npt.NDArray[np.uint8], Mask]:
    """All frames, and the object ids at the middle one, after occlusion."""
    actors = [_actor(kind, spot, rng) for kind, spot in zip(kinds, _spots(len(kinds), rng), strict=True)]
    order = rng.permutation(len(actors))
    scenery = background(SIDE, rng)
    count = int(FPS * SECONDS)
    brightness = np.linspace(rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15), count)
    grain = rng.standard_normal((SIDE + 64, SIDE + 64, 3), dtype=np.float32) * 4
    offsets = rng.integers(0, 64, (count, 2))
    frames = np.empty((count, SIDE, SIDE, 3), np.uint8)
    annotated = np.zeros((SIDE, SIDE), np.uint8)
    for n in range(count):
        frame, ids = scenery * np.float32(brightness[n]), np.zeros((SIDE, SIDE), np.uint8)
        for index in order:
            _draw(actors[index], n / FPS, index + 1, frame, ids)
        top, left = offsets[n]
        frames[n] = np.clip(frame + grain[top : top + SIDE, left : left + SIDE], 0, 255)
        if n == count // 2:
            annotated = ids
    return frames, annotated


def _actor(kind: Kind, spot: tuple[float, float, float], rng: Rng) -> _Actor:
    x, y, size = spot
    mask, texture = silhouette(kind.noun, rng), surface(kind.adjective, rng)
    angle, sway = rng.uniform(-0.45, 0.45), rng.uniform(0.02, 0.05)
    scale = size * SIDE / PATCH
    return _Actor(mask, texture, scale, x, y, angle, sway, rng.uniform(0, 6.28), rng.uniform(0.3, 0.9))


def _spots(count: int, rng: Rng) -> list[tuple[float, float, float]]:
    """Center and size of `count` objects, uniform over the frame, with little overlap."""
    while True:
        spots: list[tuple[float, float, float]] = []
        for _ in range(400):
            size = rng.uniform(0.24, 0.46) * (1.0 if count < 4 else 0.82)
            x, y = rng.uniform(size / 2, 1 - size / 2, 2)
            if all(_overlap((x, y, size), other) <= 0.15 for other in spots):
                spots.append((float(x), float(y), float(size)))
            if len(spots) == count:
                return spots


def _overlap(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Shared area of two squares over the smaller one's."""
    sides = [
        max(0.0, min(p + a[2] / 2, q + b[2] / 2) - max(p - a[2] / 2, q - b[2] / 2))
        for p, q in zip(a[:2], b[:2], strict=True)
    ]
    return sides[0] * sides[1] / min(a[2], b[2]) ** 2


def _draw(actor: _Actor, seconds: float, number: int, frame: Colors, ids: Mask) -> None:
    """Blend an actor into the frame and write its number where it covers more than half of a pixel."""
    x, y, degrees = actor.place(seconds)
    middle = PATCH / 2
    turn = cv2.getRotationMatrix2D((middle, middle), degrees, actor.scale)
    turn[:, 2] += np.array([x - middle, y - middle])
    cover = cv2.warpAffine(actor.mask, turn, (SIDE, SIDE)).astype(np.float32) / 255
    texture = cv2.warpAffine(actor.texture, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    frame += (texture - frame) * cover[..., None]
    ids[cover > 0.5] = number


def _box(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    height, width = mask.shape
    return (
        float(columns[0] / width), float(rows[0] / height),
        float((columns[-1] + 1) / width), float((rows[-1] + 1) / height),
    )  # fmt: skip
