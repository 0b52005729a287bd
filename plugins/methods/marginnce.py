"""MarginNCE: EZ-VSL with a negative margin on the positive pairs, because web video has noisy correspondence.

A clip's own sound often does not come from a visible object, and another clip's sound often matches as well. A negative
margin gives every positive pair a bonus in the contrastive loss, so that a pair that only equals the negatives is
hardly pulled together. Heads, pooling and the map (without the margin) are those of EZ-VSL.

Park, Senocak and Chung, "MarginNCE: Robust Sound Localization with a Negative Margin", ICASSP 2023. With unit image
cells v and unit sounds a::

    L[n, m] = (max_p <v[n, p], a[m]> - margin [n = m]) / tau,    loss = CE(L) + CE(L^T),    map[n, p] = <v[n, p], a[n]>

There is no public code: the values of `margin` and `tau` are unverified (0.07 is the other candidate for `tau`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features, Method, Prediction
from avloc.functional import Heads, cosine_map, max_similarity, symmetric_cross_entropy, unnamed_predictions


def marginnce_loss(image_map: Tensor, audio: Tensor, *, margin: float = -0.2, tau: float = 0.03) -> Tensor:
    """Contrastive loss with a margin on the positives, both directions summed; with margin 0 that of EZ-VSL.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to image n.
        margin: Subtracted from the cosine of every positive pair; a negative one relaxes the boundary.
        tau: Temperature.
    """
    cosines = max_similarity(image_map, audio)  # (B, B)
    own = torch.eye(len(audio), dtype=cosines.dtype, device=cosines.device)
    return symmetric_cross_entropy((cosines - margin * own) / tau)


class MarginNCE(Method):
    """Image and audio heads under `marginnce_loss`.

    Args:
        encoder: What the features come from.
        classes: Not used: MarginNCE learns without labels.
        dim: Width of the shared space.
        margin: Subtracted from the cosine of every positive pair in training.
        tau: Temperature.
    """

    title = "MarginNCE"
    paper = "Park, Senocak and Chung, MarginNCE: Robust Sound Localization with a Negative Margin, ICASSP 2023"

    def __init__(
        self, encoder: EncoderInfo, classes: Sequence[str], *, dim: int = 512, margin: float = -0.2, tau: float = 0.03
    ) -> None:
        super().__init__()
        self.heads, self.margin, self.tau = Heads(encoder.dim, dim), margin, tau

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        image_map, audio = self.heads(features.image_map, features.audio)
        return {"contrastive": marginnce_loss(image_map, audio, margin=self.margin, tau=self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = self.heads(features.image_map, features.audio)
        return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))
