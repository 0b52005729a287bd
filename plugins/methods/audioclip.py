"""AudioCLIP as a localizer: the cosine of every image token with the clip's sound, or with a class name.

The encoder's joint space is used as it is (zero-shot), or through one linear adapter per modality that starts as the
identity and is trained with a contrastive loss on the best-matching token. Nothing else is learned, so this row shows
the performance of the encoder alone.

Guzhov et al., "AudioCLIP", ICASSP 2022, for the space; the row "AudioCLIP" of T-VSL's tables is fine-tuned with a loss
that the paper does not give. Here it is the one of EZ-VSL (Mo and Morgado, ECCV 2022). With unit image tokens v, unit
sounds a and queries q, the sound or class names::

    L[n, m] = max_p <v[n, p], a[m]> / tau,    loss = CE(L) + CE(L^T),    map[n, p] = <v[n, p], q[n]>
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Phase, Prediction
from avloc.functional import (
    cosine_map,
    gather_sources,
    identity_heads,
    l2_normalize,
    max_similarity,
    named_predictions,
    queried_sources,
    require_text,
    symmetric_cross_entropy,
    unnamed_predictions,
)


class AudioCLIP(Method):
    """Cosine maps of the joint space.

    Args:
        encoder: What the features come from.
        classes: Not used.
        trained: Fine-tune an adapter per modality; False: zero-shot, nothing to train.
        query: What the tokens are compared with: ``audio`` gives one unnamed map; ``text`` one map per class that the
            hints disclose, or per class name that is most similar to the sound.
        tau: Temperature of the loss, and of the softmax over class names.
    """

    title = "AudioCLIP"
    paper = "Guzhov et al., AudioCLIP: Extending CLIP to Image, Text and Audio, ICASSP 2022"
    revision = 2

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        trained: bool = True,
        query: str = "audio",
        tau: float = 0.03,
    ) -> None:
        super().__init__()
        if query not in ("audio", "text"):
            raise AvlocError(f"AudioCLIP: query must be audio or text, not {query!r}.")
        self.query, self.tau = query, tau
        self.adapters = identity_heads(encoder.dim) if trained else None

    def phases(self) -> Sequence[Phase]:
        return () if self.adapters is None else (Phase(),)

    def project(self, features: Features) -> tuple[Tensor, Tensor]:
        """Unit image map ``(B, D, h, w)`` and unit sound ``(B, D)``."""
        if self.adapters is None:
            return l2_normalize(features.image_map, dim=1), l2_normalize(features.audio)
        image_map, audio = self.adapters(features.image_map, features.audio)
        return image_map, audio

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        if self.adapters is None:
            return {}
        return {"contrastive": symmetric_cross_entropy(max_similarity(*self.project(features)) / self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = self.project(features)
        if self.query == "audio":
            return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))
        text = require_text(features)
        probabilities = (audio @ l2_normalize(text).T / self.tau).softmax(dim=1)
        sources = queried_sources(batch, probabilities)
        return named_predictions(batch, sources, cosine_map(image_map, gather_sources(text, sources)), probabilities)
