"""EZ-VSL: pull the best-matching image cell of a clip towards its own sound, away from the sounds of other clips.

One linear head per modality maps image cells and the pooled sound into a shared space. The similarity of an image
with a sound is the cosine of the best cell, so no location labels are needed. A contrastive loss over the batch trains
the heads, and the map is the cosine of every cell with the clip's own sound.

Mo and Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022. With unit image cells v and unit sounds a::

    L[n, m] = max_p <v[n, p], a[m]> / tau,    loss = CE(L) + CE(L^T),    map[n, p] = <v[n, p], a[n]>

The paper's object-guided refinement fuses the map with a prior afterwards; it belongs to the protocol (`refine`), not
to this method.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features, Method, Prediction
from avloc.functional import Heads, cosine_map, max_similarity, symmetric_cross_entropy, unnamed_predictions


def ezvsl_loss(image_map: Tensor, audio: Tensor, *, tau: float = 0.03) -> Tensor:
    """Multiple-instance contrastive loss, both directions summed.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to image n.
        tau: Temperature.
    """
    return symmetric_cross_entropy(max_similarity(image_map, audio) / tau)


class EZVSL(Method):
    """Image and audio heads under `ezvsl_loss`.

    Args:
        encoder: What the features come from.
        classes: Not used: EZ-VSL learns without labels.
        dim: Width of the shared space.
        tau: Temperature.
    """

    title = "EZ-VSL"
    paper = "Mo and Morgado, Localizing Visual Sounds the Easy Way, ECCV 2022"
    revision = 2

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, dim: int = 512, tau: float = 0.03) -> None:
        super().__init__()
        self.heads, self.tau = Heads(encoder.dim, dim), tau

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"contrastive": ezvsl_loss(*self.heads(features.image_map, features.audio), tau=self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = self.heads(features.image_map, features.audio)
        return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))  # one query, the whole sound
