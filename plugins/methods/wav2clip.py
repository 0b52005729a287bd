"""Wav2CLIP as a localizer: the cosine of every image token with the clip's sound, in CLIP's space.

Its sound encoder was distilled from CLIP's image encoder, so that image tokens and sounds can be compared as they are
(zero-shot), or through one linear adapter per modality that starts as the identity and is trained with EZ-VSL's loss on
the best-matching token. It has the same head as the method AudioCLIP and is meant for the encoder wav2clip, whose sound
is one vector without tokens.

Wu, Seetharaman, Kumar and Bello, "Wav2CLIP: Learning Robust Audio Representations from CLIP", ICASSP 2022, for the
space. T-VSL's tables do not say how the row "Wav2CLIP" is trained. With unit image tokens v and unit sounds a::

    L[n, m] = max_p <v[n, p], a[m]> / tau,    loss = CE(L) + CE(L^T),    map[n, p] = <v[n, p], a[n]>
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features, Method, Phase, Prediction
from avloc.functional import cosine_map, identity_heads, max_similarity, symmetric_cross_entropy, unnamed_predictions


class Wav2CLIP(Method):
    """Cosine maps of CLIP's space.

    Args:
        encoder: What the features come from.
        classes: Not used.
        trained: Fine-tune an adapter per modality; False: zero-shot, nothing to train.
        tau: Temperature of the loss.
    """

    title = "Wav2CLIP"
    paper = "Wu et al., Wav2CLIP: Learning Robust Audio Representations from CLIP, ICASSP 2022"

    def __init__(
        self, encoder: EncoderInfo, classes: Sequence[str], *, trained: bool = True, tau: float = 0.03
    ) -> None:
        super().__init__()
        self.adapters = identity_heads(encoder.dim) if trained else None
        self.tau = tau

    def phases(self) -> Sequence[Phase]:
        return () if self.adapters is None else (Phase(),)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        if self.adapters is None:
            return {}
        cosines = max_similarity(*self.adapters(features.image_map, features.audio))
        return {"contrastive": symmetric_cross_entropy(cosines / self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = features.image_map, features.audio
        if self.adapters is not None:
            image_map, audio = self.adapters(image_map, audio)
        return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))
