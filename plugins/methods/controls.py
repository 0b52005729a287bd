"""Controls: baselines that a method must beat before its score means anything. None of them learns or uses the audio.

`Center`, `Whole` and `Random` ignore the clip. `Saliency` uses the image alone. `TextOnly` uses the image and the names
of the sounding classes, and shows what text alone achieves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import cosine_map, gather_sources, named_predictions, require_text, unnamed_predictions


class Control(Method):
    """A method that ignores its audio and has nothing to train."""

    paper = "control"
    uses_audio = False
    trainable = False

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str]) -> None:
        super().__init__()

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {}


class Center(Control):
    """A Gaussian at the center of each tile.

    Args:
        encoder: Not used.
        classes: Not used.
        sigma: Its standard deviation, as a fraction of the tile's side.
    """

    title = "Center"

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, sigma: float = 0.25) -> None:
        super().__init__(encoder, classes)
        self.sigma = sigma

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        h, w = features.image_map.shape[2:]
        found = []
        for clip, tiles in zip(batch.ids, batch.tiles.tolist(), strict=True):
            y, x = np.ogrid[0.5:h, 0.5:w]  # cell centers
            across = (x * tiles / w) % 1 - 0.5
            distance = (y / h - 0.5) ** 2 + across**2
            found.append(Prediction(clip, np.exp(-distance / (2 * self.sigma**2))[None]))
        return found


class Whole(Control):
    """The whole frame."""

    title = "Whole frame"

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, torch.ones_like(features.image_map[:, :1]))


class Random(Control):
    """Uniform noise that depends only on the clip's id and `seed`.

    Args:
        encoder: Not used.
        classes: Not used.
        seed: Seed of the noise.
    """

    title = "Random"

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, seed: int = 0) -> None:
        super().__init__(encoder, classes)
        self.seed = seed

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        shape = (1, *features.image_map.shape[2:])
        return [Prediction(id, self._generator(id).random(shape)) for id in batch.ids]

    def _generator(self, id: str) -> np.random.Generator:
        return np.random.default_rng(list(hashlib.sha256(f"{self.seed} {id}".encode()).digest()))


class Saliency(Control):
    """How strongly the image backbone responds: the mean absolute value over its channels.

    The object prior of EZ-VSL (Mo and Morgado, ECCV 2022) without its fusion.

    Args:
        encoder: One with a backbone map.
        classes: Not used.

    Raises:
        AvlocError: The encoder has no backbone map.
    """

    title = "Saliency (audio-free)"

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str]) -> None:
        super().__init__(encoder, classes)
        if not encoder.backbone_dim:
            raise AvlocError("The saliency control needs an encoder with a backbone map; this one has none.")

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert features.backbone_map is not None  # the encoder promised it
        return unnamed_predictions(batch, features.backbone_map.abs().mean(dim=1, keepdim=True))


class TextOnly(Control):
    """The cosine of every image token with the name of each sounding class."""

    title = "Text only (audio-free)"
    needs = Needs(hints="oracle", text=True)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        if batch.sources is None:
            raise AvlocError("The text-only control needs the names of the sounding classes: use hints: oracle.")
        queries = gather_sources(require_text(features), batch.sources)
        return named_predictions(batch, batch.sources, cosine_map(features.image_map, queries))
