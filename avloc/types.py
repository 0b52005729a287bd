"""The nouns of avloc: what flows from a video to a score.

``Clip -> Features -> Prediction -> Localization -> scores``. Methods see `Batch` and `Features`; ground truth lives in
`Truth`, which only protocols and metrics get. Constructors check their arguments and name the clip in the error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
Maps = npt.NDArray[np.float32]

LOUDEST = 10.0
"""A peak over full scale (+20 dB) that no decoder's overshoot explains: the floats must be scaled like integers."""


class AvlocError(Exception):
    """A problem the user can solve; its text says what is wrong, where, and what to do."""


class DataError(AvlocError):
    """A clip or an annotation that cannot be used; names the file and the cause."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """All that a method may know of an example: one image (or several side by side) and the sound.

    Attributes:
        id: Stable for ever.
        image: ``(H, W, 3)`` uint8 RGB, `tiles` equal tiles side by side.
        audio: ``(T,)`` float32, mono, full scale at 1. Lossy decoders overshoot it, and so may float files and a
            mixture, the sum of its parts; no part exceeds `LOUDEST`. Given two channels ``(2, T)``, it is their mean.
        rate: Samples per second.
        group: The video the clip comes from; statistics cluster by it.
        stereo: ``(2, T)``, the channels that `audio` is the mean of; ``None`` where it was given one.
    """

    id: str
    image: npt.NDArray[np.uint8]
    audio: npt.NDArray[np.float32]
    rate: int
    tiles: int = 1
    group: str = ""
    stereo: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        where = f"clip {self.id!r}"
        if self.audio.ndim == 2 and len(self.audio) in (1, 2) and self.audio.dtype == np.float32:
            object.__setattr__(self, "stereo", self.audio if len(self.audio) == 2 else None)
            object.__setattr__(self, "audio", self.audio.mean(axis=0))
        elif self.stereo is not None and not np.array_equal(self.stereo.mean(axis=0), self.audio):
            raise DataError(f"{where}: the audio is not the mean of stereo; give new channels as audio, (2, T).")
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise DataError(
                f"{where}: the image must be (H, W, 3) uint8, but is {self.image.shape} {self.image.dtype}."
            )
        if 0 in self.image.shape:
            raise DataError(f"{where}: the image has no pixels.")
        if self.audio.ndim != 1 or self.audio.dtype != np.float32:
            got = f"{self.audio.shape} {self.audio.dtype}"
            raise DataError(f"{where}: the audio must be (T,) float32, or (2, T) for stereo, but is {got}.")
        if self.audio.size == 0:
            raise DataError(f"{where}: the audio has no samples.")
        if not np.isfinite(self.channels).all():
            raise DataError(f"{where}: the audio has values that are not finite.")
        if (peak := float(np.abs(self.channels).max())) > LOUDEST * self.tiles:
            raise DataError(f"{where}: the audio reaches {peak:.4g} times full scale, which should be 1.")
        if self.rate <= 0 or self.tiles <= 0 or self.image.shape[1] % self.tiles:
            raise DataError(
                f"{where}: rate ({self.rate}) and tiles ({self.tiles}) must be positive, and the width "
                f"({self.image.shape[1]}) a multiple of tiles."
            )

    @property
    def channels(self) -> npt.NDArray[np.float32]:
        """``(2, T)`` in stereo, else ``(1, T)``."""
        return self.audio[None] if self.stereo is None else self.stereo


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Where the sounding sources of a clip are. Never handed to a method.

    Attributes:
        masks: ``(S, H, W)`` float32 in [0, 1], one soft mask per sounding source. An empty mask is a source that is not
            visible; a clip with ``S = 0`` has no rows in any metric.
        labels: ``(S,)`` class names.
        boxes: Per source the annotators' boxes ``(n, 4)``, xyxy, normalized to the canvas; empty where it has a mask.
        ignore: ``(H, W)`` bool, pixels that take part in no metric; ``None``: all do.
    """

    masks: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    boxes: tuple[FloatArray, ...] = ()
    ignore: BoolArray | None = None

    def __post_init__(self) -> None:
        if self.masks.ndim != 3:
            raise DataError(f"truth masks must be (S, H, W), but are {self.masks.shape}.")
        if len(self.labels) != len(self.masks):
            raise DataError(f"truth has {len(self.masks)} masks but {len(self.labels)} labels.")
        if self.boxes and len(self.boxes) != len(self.masks):
            raise DataError(f"truth has {len(self.masks)} masks but boxes of {len(self.boxes)} sources.")
        if self.masks.size and not (self.masks.min() >= 0 and np.isfinite(self.masks).all()):
            raise DataError("truth masks must be finite and not negative.")
        if self.ignore is not None and (self.ignore.dtype != bool or self.ignore.shape != self.masks.shape[1:]):
            raise DataError(f"truth ignore must be (H, W) bool like the masks, but is {self.ignore.shape}.")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a dataset loads.

    Attributes:
        clip: What a method may see.
        truth: What protocols and metrics see. ``None``: this clip is not annotated (most training clips).
        labels: Which classes sound in the video, without any place: weak labels to train with, and what hints disclose.
    """

    clip: Clip
    truth: Truth | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """Which clips of the official list can be used.

    Attributes:
        present: Ids whose media are there.
        missing: Id -> reason, media absent.
        broken: Id -> reason, media there but known to be unusable.
    """

    present: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Collated clips: what encoders and methods get.

    Attributes:
        ids: ``(B,)`` clip ids.
        tiles: ``(B,)`` int64, tiles on the canvas.
        groups: ``(B,)`` the videos the clips come from.
        classes: ``(N,)`` the class names that `sources`, `labels` and ``Features.text`` index, the test set's in a
            zero-shot run; empty where none are disclosed.
        images: ``(B, 3, H, W)`` encoder-normalized; ``None`` where features come from the cache.
        audio: ``(B, T)`` at the encoder's rate; ``None`` where features come from the cache.
        sources: ``(B, K)`` int64 indices into `classes` of the sources that sound, where that is disclosed, -1 padded.
        source_counts: ``(B,)`` int64, how many sources sound, where that is disclosed.
        labels: ``(B, N)`` float32 multi-hot video-level labels; in training only.
        views: Other versions of the same clips, or neighbors of them, which `Needs.views` asked for; in training only.
    """

    ids: tuple[str, ...]
    tiles: Tensor
    groups: tuple[str, ...]
    classes: tuple[str, ...] = ()
    images: Tensor | None = None
    audio: Tensor | None = None
    sources: Tensor | None = None
    source_counts: Tensor | None = None
    labels: Tensor | None = None
    views: Mapping[str, Batch] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """An encoder's view of a batch. Nothing is L2-normalized here.

    Attributes:
        image_map: ``(B, D, h, w)`` image tokens in the joint space; two tiles side by side give ``2 w``.
        image: ``(B, D)`` pooled image.
        audio_map: ``(B, D, m, f)`` audio tokens, time x frequency.
        audio: ``(B, D)`` pooled audio.
        backbone_map: ``(B, C, h, w)`` before the projection, for audio-free saliency; ``None``: the encoder has none.
        text: ``(N, D)``, one row per class name; ``None``: the encoder has no text, or no names are disclosed.
        views: Features of `Batch.views`, row for row those of the batch.
    """

    image_map: Tensor
    image: Tensor
    audio_map: Tensor
    audio: Tensor
    backbone_map: Tensor | None = None
    text: Tensor | None = None
    views: Mapping[str, Features] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Raw evidence of one clip, before any resize, sign, normalization or threshold.

    Attributes:
        clip: Its id.
        maps: ``(Q, h, w)`` float, native resolution, any scale; higher means more likely sounding.
        labels: ``(Q,)`` class names, or ``()`` when the maps are unnamed.
        scores: ``(Q,)`` how sure the method is that this source sounds; ``None``: the protocol derives it.
    """

    clip: str
    maps: FloatArray
    labels: tuple[str, ...] = ()
    scores: FloatArray | None = None

    def __post_init__(self) -> None:
        where = f"prediction for clip {self.clip!r}"
        if not isinstance(self.maps, np.ndarray):
            raise AvlocError(f"{where}: maps must be a NumPy array; make one with .detach().cpu().numpy().")
        if self.maps.ndim != 3 or not np.issubdtype(self.maps.dtype, np.floating):
            raise AvlocError(f"{where}: maps must be (Q, h, w) floats, but are {self.maps.shape}.")
        if not np.isfinite(self.maps).all():
            raise AvlocError(f"{where}: maps have values that are not finite.")
        if self.labels and len(self.labels) != len(self.maps):
            raise AvlocError(f"{where}: {len(self.maps)} maps but {len(self.labels)} labels.")
        if self.scores is not None and self.scores.shape != (len(self.maps),):
            raise AvlocError(f"{where}: {len(self.maps)} maps but scores of shape {self.scores.shape}.")
        if self.scores is not None and not np.isfinite(self.scores).all():
            raise AvlocError(f"{where}: scores have values that are not finite.")


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """A prediction after the protocol: one map and one mask per true source.

    Attributes:
        scores: ``(S, H, W)`` float32, after resize, normalization and sign.
        masks: ``(S, H, W)`` bool, what the method claims the source covers.
        confidence: ``(S,)`` float, how sure the method is that the source sounds.
        found: ``(S,)`` bool; False where the method offered no map for this source: its maps and masks are zero, and
            every metric counts it as a miss.
        false_alarms: Named maps that match no true source.
        named: Whether the method says which source a map shows. Maps without names are found for every source.
        by_truth: Whether sources were given their maps by how well these fit the true masks.
        empty_is_miss: Whether an overlap with an empty true mask is 0, rather than undefined.
    """

    scores: npt.NDArray[np.float32]
    masks: BoolArray
    confidence: FloatArray
    found: BoolArray
    false_alarms: int = 0
    named: bool = True
    by_truth: bool = False
    empty_is_miss: bool = True

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.masks.shape != self.scores.shape:
            raise AvlocError(f"localization: scores {self.scores.shape} and masks {self.masks.shape} differ.")
        if not self.confidence.shape == self.found.shape == self.scores.shape[:1]:
            raise AvlocError("localization: confidence and found must have one value per source.")


@contextmanager
def blaming(what: str, kind: type[AvlocError] = AvlocError) -> Iterator[None]:
    """Turn whatever a plugin raises inside into a `kind` of error that says `what` failed; its own sentences stay."""
    try:
        yield
    except AvlocError:
        raise
    except (Exception, SystemExit) as error:
        raise kind(f"{what}: {type(error).__name__}: {error}") from error


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def require_list(what: str, given: object) -> None:
    """Refuse a lone string where a list of strings belongs: its letters would be taken for names.

    Raises:
        AvlocError: It is one.
    """
    if isinstance(given, str):
        raise AvlocError(f"{what} should be a list, but is {given!r}; write [{given!r}].")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does."""
    known = sorted(known)
    return f"There is no {what} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest name as a question, with a space before it; empty when none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
