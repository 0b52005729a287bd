"""One toybox clip: its objects, how they move, what they sound like; frames, sound and exact masks.

Every clip has its own random generator, seeded by (seed, split, presentation, index), so any clip can be generated
alone, and a larger set never changes its earlier clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .kinds import Kind
from .layout import (
    STRETCH,
    Cast,
    Place,
    Recipe,
    Rng,
    box_area,
    box_place,
    box_sides,
    draw_cast,
    stratified_kind,
    stratified_quantiles,
)
from .shapes import Colors, Mask, scenery, silhouette, surface
from .sounds import SAMPLES, SECONDS, room, voice

SIDE = 112
FPS = 8
FRAMES = int(FPS * SECONDS)
ANNOTATED = FRAMES // 2
"""The frame whose objects are annotated."""
LEAST_SHARE, LEAST_PIXELS = 0.5, 40
"""What must be visible of a source: else the clip's objects are placed again."""
NEAR_TRIES = 20
"""After so many tries with other silent objects and another order, the sources are placed elsewhere."""


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
        ids: ``(SIDE, SIDE)`` uint8 at the annotated frame: 0 background, n the n-th object.
        objects: Sounding ones first.
        offscreen: Class names that sound but are not visible.
    """

    frames: npt.NDArray[np.uint8]
    audio: npt.NDArray[np.float32]
    ids: Mask
    objects: tuple[Object, ...]
    offscreen: tuple[str, ...]


def render(recipe: Recipe, entropy: Sequence[int]) -> Rendered:
    """Make a clip; the same recipe and entropy (seed, split, presentation, index) give the same arrays."""
    *world, index = entropy
    rng = np.random.default_rng(np.random.SeedSequence(list(entropy)))
    cast = draw_cast(recipe, stratified_kind(recipe.kinds, world, index), rng)
    actors, ids = _stage(recipe, cast, stratified_quantiles(recipe.sources, world, index), rng)
    objects = tuple(
        Object(actor.number, actor.kind.name, actor.number <= recipe.sources, _box(mask), float(mask.mean()))
        for actor in sorted(actors, key=lambda actor: actor.number)
        if (mask := ids == actor.number).any()
    )
    audio = _record(cast, rng)
    return Rendered(_film(actors, rng), audio, ids, objects, tuple(kind.name for kind in cast.offscreen))


def _record(cast: Cast, rng: Rng) -> npt.NDArray[np.float32]:
    """The mixed sound, with room and noise, at a power that AAC does not clip."""
    sound = np.zeros(SAMPLES)
    for kind in cast.sounding:
        sound += voice(kind, rng) * 10 ** (rng.uniform(-4, 0) / 20)
    for kind in cast.offscreen:
        sound += voice(kind, rng) * 10 ** (rng.uniform(-8, -2) / 20)
    return room(sound, rng, snr_db=rng.uniform(8, 20))


@dataclass(frozen=True, slots=True)
class _Actor:
    """An object and how it moves.

    Attributes:
        number: From 1, sources first.
        cover: ``(h, w)`` in [0, 1], filling its box.
        texture: ``(h, w, 3)`` in [0, 255].
        corner: Left and top of its box at the annotated frame, in pixels.
        sway: How far it moves, in pixels.
    """

    number: int
    kind: Kind
    cover: npt.NDArray[np.float32]
    texture: Colors
    corner: tuple[int, int]
    sway: float
    phase: float
    speed: float

    def move(self, frame: int) -> npt.NDArray[np.float64]:
        """``(2, 3)`` affine map from the object's pixels to the frame's: a plain shift at the annotated frame."""
        now, then = (2 * np.pi * self.speed * n / FPS for n in (frame, ANNOTATED))
        x = self.sway * (np.sin(now + self.phase) - np.sin(then + self.phase))
        y = self.sway * (np.cos(0.7 * now + self.phase) - np.cos(0.7 * then + self.phase))
        lean = np.degrees(0.12 * (np.sin(now + self.phase) - np.sin(then + self.phase)))
        height, width = self.cover.shape
        moved = cv2.getRotationMatrix2D((width / 2, height / 2), lean, 1)
        moved[:, 2] += (self.corner[0] + x, self.corner[1] + y)
        return np.asarray(moved, np.float64)


def _stage(recipe: Recipe, cast: Cast, quantiles: npt.NDArray[np.float64], rng: Rng) -> tuple[list[_Actor], Mask]:
    """Place the objects, from back to front, and the ids at the annotated frame, after occlusion.

    The sources' areas stay as they are given; the silent objects, the order and at last the places are drawn again
    until enough of every source is visible.
    """
    areas = [box_area(q, recipe.scale) for q in quantiles[:, 0]]
    places = [box_place(x, y) for _, x, y in quantiles]
    tries = 0
    while True:
        tries += 1
        if tries % NEAR_TRIES == 0:
            places = [box_place(*rng.random(2)) for _ in areas]
        silent = [(box_area(q, recipe.scale), box_place(x, y)) for q, x, y in rng.random((len(cast.silent), 3))]
        drawn = [*zip(areas, places, strict=True), *silent]
        kinds = (*cast.sounding, *cast.silent)
        actors = [_actor(n + 1, kinds[n], *drawn[n], rng) for n in rng.permutation(len(kinds)).tolist()]
        ids = _ids(actors)
        if all(_enough(actor, ids) for actor in actors if actor.number <= recipe.sources):
            return actors, ids


def _ids(actors: Sequence[_Actor]) -> Mask:
    """``(SIDE, SIDE)``: who covers more than half of each pixel at the annotated frame."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    for actor in actors:
        (left, top), (height, width) = actor.corner, actor.cover.shape
        ids[top : top + height, left : left + width][actor.cover > 0.5] = actor.number
    return ids


def _enough(actor: _Actor, ids: Mask) -> bool:
    visible = np.count_nonzero(ids == actor.number)
    return visible >= max(LEAST_SHARE * np.count_nonzero(actor.cover > 0.5), LEAST_PIXELS)


def _actor(number: int, kind: Kind, area: float, place: Place, rng: Rng) -> _Actor:
    mask = silhouette(kind.noun, rng)
    aspect = mask.shape[1] / mask.shape[0] * np.exp(rng.normal(0, STRETCH))
    width, height = (max(6, round(side * SIDE)) for side in box_sides(area, aspect))
    method = cv2.INTER_AREA if width < mask.shape[1] else cv2.INTER_LINEAR
    cover = cv2.resize(mask, (width, height), interpolation=method).astype(np.float32) / 255
    corner = (round(place[0] * (SIDE - width)), round(place[1] * (SIDE - height)))
    sway, phase, speed = SIDE * rng.uniform(0.02, 0.05), rng.uniform(0, 6.28), rng.uniform(0.3, 0.9)
    texture = surface(kind.adjective, height, width, rng)
    return _Actor(number, kind, cover, texture, corner, sway, phase, speed)


def _film(actors: Sequence[_Actor], rng: Rng) -> npt.NDArray[np.uint8]:
    """All frames: objects that sway over still scenery, with noise, and light that changes slowly."""
    still = scenery(SIDE, rng)
    light = np.linspace(rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15), FRAMES)
    grain = rng.standard_normal((SIDE + 64, SIDE + 64, 3), dtype=np.float32) * 4
    offsets = rng.integers(0, 64, (FRAMES, 2))
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    for n, (top, left) in enumerate(offsets):
        frame = still.copy()
        for actor in actors:
            _paint(actor, n, frame)
        frame *= np.float32(light[n])
        frames[n] = np.clip(frame + grain[top : top + SIDE, left : left + SIDE], 0, 255)
    return frames


def _paint(actor: _Actor, number: int, frame: Colors) -> None:
    """Blend an object into a frame."""
    move = actor.move(number)
    cover = cv2.warpAffine(actor.cover, move, (SIDE, SIDE))
    texture = cv2.warpAffine(actor.texture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    frame += (texture - frame) * cover[..., None]


def _box(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    height, width = mask.shape
    return (
        float(columns[0] / width), float(rows[0] / height),
        float((columns[-1] + 1) / width), float((rows[-1] + 1) / height),
    )  # fmt: skip
