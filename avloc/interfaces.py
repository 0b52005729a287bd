"""The four interfaces: encoder, method, dataset, metric. Everything concrete is a plugin."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from avloc.hints import Hints
from avloc.store import digest
from avloc.types import AvlocError, Batch, DataError, Features, Localization, Prediction, Sample, Status, Truth


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What a method may know of its encoder.

    Attributes:
        dim: Width D of the joint space.
        image_size: Side of one square frame, in pixels.
        image_mean, image_std: Per channel, for images in [0, 1].
        image_grid: ``(h, w)`` tokens of one frame.
        audio_rate: Hz.
        audio_seconds: Length of the window it gets.
        stereo: Whether it gets two channels, equal ones of a mono clip; else the mean of both.
        audio_grid: ``(m, f)`` audio tokens, time x frequency.
        backbone_dim: Channels of the backbone map; 0: it has none.
        has_text: Whether class names have an embedding.
        weights: Their name, for tables.
    """

    dim: int
    image_size: int = 224
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_grid: tuple[int, int] = (7, 7)
    audio_rate: int = 16000
    audio_seconds: float = 3.0
    stereo: bool = False
    audio_grid: tuple[int, int] = (10, 6)
    backbone_dim: int = 0
    has_text: bool = True
    weights: str = "untrained"


class Encoder(nn.Module, ABC):
    """Image, audio and (where it has one) text into one joint space. Nothing it returns is normalized."""

    info: EncoderInfo
    revision: ClassVar[int] = 1

    @abstractmethod
    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """``(B, 3, H, W)`` normalized images, one or more square frames side by side.

        Returns the token map ``(B, D, h, w)``, pooled ``(B, D)``, and the backbone map ``(B, C, h, w)`` or ``None``.
        """

    @abstractmethod
    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms ``(B, T)``, or ``(B, 2, T)`` in stereo, at `EncoderInfo.audio_rate`.

        Returns tokens ``(B, D, m, f)`` and pooled ``(B, D)``.
        """

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Class names to ``(N, D)``. An encoder whose ``info.has_text`` is False raises `NotImplementedError`."""
        raise NotImplementedError(f"{type(self).__name__} has no text tower.")

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of weights and preprocessing: the feature cache's key."""


View = Literal["augmented", "shifted_audio", "other_video", "neighbor"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a method asks of the framework; it is skipped, with the reason, where it cannot have it.

    Attributes:
        hints: The least that must be disclosed for it to localize.
        labels: Its loss reads video-level labels.
        text: It reads class-name embeddings.
        views: What its loss wants beside every training clip, as ``features.views[name]`` and ``batch.views[name]``:
            ``augmented``, the clip with its pixels changed and its sound cropped elsewhere; ``shifted_audio``, with its
            sound cropped elsewhere only; ``other_video``, a clip of another video; ``neighbor``, whatever clips
            `Method.neighbors` names.
        tiles: It learns from that many clips side by side with mixed sound; 0: from the data set's clips as they are.
        closed_set: It can map only classes that it was trained on, so it cannot do zero-shot localization.
    """

    hints: Hints = "none"
    labels: bool = False
    text: bool = False
    views: tuple[View, ...] = ()
    tiles: int = 0
    closed_set: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """One stage of training.

    Attributes:
        name: For logs and checkpoints.
        share: Its share of the run's epochs.
        parameters: Prefixes of the parameter names it trains; ``("",)`` trains all.
        lr_scale: Multiplies the run's learning rate.
    """

    name: str = "main"
    share: float = 1.0
    parameters: tuple[str, ...] = ("",)
    lr_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Context:
    """Where in its training a method is.

    Attributes:
        phase: Name of the phase.
        epoch: Epochs finished in this phase, from 0.
        epochs: Epochs of this phase.
        step: Optimizer steps finished in this phase.
    """

    phase: str = "main"
    epoch: int = 0
    epochs: int = 1
    step: int = 0


DatasetPass = Callable[[], Iterator[tuple[Features, Batch]]]


class Method(nn.Module, ABC):
    """A head over `Features` that learns from weak labels and maps each source.

    Constructors take ``(encoder: EncoderInfo, classes: Sequence[str], *, ...)``: keyword-only hyper-parameters with the
    paper's defaults, all of them JSON values.
    """

    needs: ClassVar[Needs] = Needs()
    title: ClassVar[str] = ""
    """As tables print it; empty: the registry name."""
    paper: ClassVar[str] = ""
    """Authors, title, venue, year."""
    revision: ClassVar[int] = 1
    """Raise it when results change: it is part of the ids of trainings and predictions."""
    uses_audio: ClassVar[bool] = True
    """False for controls that never read the audio: feeding them another clip's changes nothing."""
    trainable: ClassVar[bool] = True
    """False when there is nothing to learn: no fit, and one seed stands for all."""
    map_parameters: ClassVar[tuple[str, ...]] = ()
    """Constructor parameters that `loss` never reads: runs that differ in these alone share one training."""

    @abstractmethod
    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Named terms, each a scalar; their sum is minimized. ``{}``: there is nothing to train."""

    @abstractmethod
    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        """One prediction per clip of the batch, each independent of its batch mates."""

    def phases(self) -> Sequence[Phase]:
        """The stages of training, in order."""
        return (Phase(),)

    def before_phase(self, phase: str, dataset_pass: DatasetPass) -> None:
        """Called once at the start of every phase, for clustering, neighbor lists or dictionaries.

        What it finds out belongs in buffers: they are in the checkpoint, whatever shape they have by then. It is not
        called again when an interrupted run resumes in the middle of a phase.

        Args:
            phase: Its name.
            dataset_pass: Call it for one pass over all training clips, in the order of the official list, without
                views: yields ``(features, batch)``, detached, on the method's device.
        """

    def neighbors(self, ids: Sequence[str], context: Context) -> tuple[Sequence[str], Sequence[str]]:
        """For the view ``neighbor``: per training clip the clip whose image, and the one whose sound, is wanted.

        Draw with torch's global generator, which is seeded in every step.
        """
        raise NotImplementedError(f"{type(self).__name__} asks for the view 'neighbor' but names no neighbors.")

    def before_step(self, context: Context) -> None:
        """Called before every optimizer step, for example for an exponential moving average."""

    def evaluation_module(self) -> Method:
        """The module that localizes, for example the averaged copy."""
        return self


class Dataset(ABC):
    """An official list of clips, with truth where it was annotated.

    Constructors take ``(root: Path | None, *, split: str, ...)`` and read annotations only; `load` decodes. A data set
    needs `classes`, `ids` and `load`; the defaults of all else are right, but decode clips: override what annotations
    or files tell.
    """

    title: ClassVar[str] = ""
    license: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    url: ClassVar[str] = ""
    revision: ClassVar[int] = 1
    """Raise it when clips or truths change: it is part of the ids of trainings and predictions."""

    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Sentences about flaws of the annotation that every table over this data set prints."""
    leaks: bool = False
    """Whether clips may be in two splits, as some lists were published."""

    @abstractmethod
    def ids(self) -> Sequence[str]:
        """The official list of the split, unusable clips too: tables count them. Ids are unique in all splits."""

    @abstractmethod
    def load(self, id: str) -> Sample:
        """Decode one clip. Masks have the size of the image; labels are among `classes`.

        Raises:
            DataError: The media cannot be used; names the file and the cause.
        """

    def prepare(self) -> None:  # noqa: B027 (optional hook)
        """Make the media where they can be made here (the built-in data); called before `status`."""

    def status(self) -> Status:
        """Which clips are present, missing and broken, with reasons. The default tries to load every clip.

        Override it where files can be looked for: only then are clips missing rather than broken.
        """
        broken: dict[str, str] = {}
        for id in self.ids():
            try:
                self.load(id)
            except Exception as error:  # whatever a decoder raises
                broken[id] = str(error) if isinstance(error, AvlocError) else f"{type(error).__name__}: {error}"
        return Status(tuple(id for id in self.ids() if id not in broken), {}, broken)

    def remarks(self) -> tuple[str, ...]:
        """Sentences that count odd clips (silent, short, still); tables and ``avloc data status`` print them."""
        return ()

    def labels(self, id: str) -> tuple[str, ...]:
        """Video-level class names of one clip, or a `DataError`: it cannot be read."""
        return self.load(id).labels

    def truth(self, id: str) -> Truth:
        """The truth of one clip, or a `DataError`: it is not annotated, or its annotation cannot be read."""
        truth = self.load(id).truth
        if truth is None:
            raise DataError(f"Clip {id!r} has no annotation, so it cannot be scored.")
        return truth

    def content(self, id: str) -> str:
        """A digest of all that `load` returns for a clip but its truth, or a `DataError`: it cannot be read.

        Anything that changes image, sound, labels or group must change it: it is the feature cache's key.
        """
        sample = self.load(id)
        clip = sample.clip
        about = [int(clip.rate), clip.tiles, clip.group, sample.labels, clip.image.shape, len(clip.channels)]
        return _digest(about, clip.image, clip.channels)

    def media(self, id: str) -> str:
        """A digest of a clip's image and sound alone, or a `DataError`: clips that share it are one under two names."""
        clip = self.load(id).clip
        return _digest([int(clip.rate), clip.image.shape, clip.channels.shape], clip.image, clip.channels)

    def fingerprint(self) -> str:
        """A hash of the ids, and of the contents and truths of what is present: part of the ids of predictions.

        The default decodes every clip three times.
        """
        found = [[id, "", ""] for id in self.status().present]
        for row in found:
            with suppress(DataError):  # one bad file is no reason to stop
                row[1] = self.content(row[0])
            with suppress(DataError):
                truth = self.truth(row[0])
                about = [truth.labels, truth.masks.shape, [boxes.tolist() for boxes in truth.boxes]]
                row[2] = _digest(about, truth.masks, *([] if truth.ignore is None else [truth.ignore]))
        return digest([self.classes, list(self.ids()), found])[:16]


def _digest(about: list[Any], *arrays: npt.NDArray[Any]) -> str:
    return hashlib.sha256(digest(about).encode() + b"".join(array.tobytes() for array in arrays)).hexdigest()


class Metric(ABC):
    """Per-source rows and how they become one number."""

    title: str = ""
    """As tables print it, with its parameters."""
    higher_is_better: ClassVar[bool] = True
    revision: ClassVar[int] = 1
    undefined: ClassVar[str] = "no source could be scored"
    """Why it has no value where `reduce` returns NaN."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Name with parameters, such as ``ciou_success@0.3``; unique within a table."""

    @abstractmethod
    def rows(self, found: Localization, truth: Truth) -> npt.NDArray[np.float64]:
        """``(S, k)`` values, one row per true source. `truth` has the size of `found`."""

    @abstractmethod
    def reduce(self, rows: npt.NDArray[np.floating]) -> float:
        """``(n, k)`` rows of all sources to one number, as a fraction (tables print percent): from -1 to 1, or NaN."""

    def by_image(self, rows: npt.NDArray[np.float64], images: Sequence[str]) -> npt.NDArray[np.float64]:
        """The rows of all clips, before they are stored, where the clips of one image belong together.

        Args:
            rows: ``(n, k)``, one per source.
            images: ``(n,)`` which image the source is heard on, the same in all clips that show it.
        """
        return rows
