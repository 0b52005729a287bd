"""EZ-VSL: pull the best-matching image cell of a clip towards its own sound, away from the sounds of other clips.

One linear head per modality maps image cells and the pooled sound into a shared space. The similarity of an image
with a sound is the cosine of the best cell, so that nobody has to say where the source is. A contrastive loss over
the batch trains the heads, and the map is the cosine of every cell with the clip's own sound.

Mo and Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022: the multiple-instance contrastive loss and the
localization by it. The paper's object-guided refinement is a prior that is fused with the map afterwards; it is no
part of this method.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Prediction
from avloc.functional import cosine_map, every_pair, symmetric_cross_entropy, unit, unnamed_predictions


def ezvsl_loss(image_map: Tensor, audio: Tensor, *, tau: float = 0.03) -> Tensor:
    """Multiple-instance contrastive loss, both directions summed.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to image n.
        tau: Temperature.
    """
    cosines = every_pair(image_map, audio)  # (B, B, h, w)
    return symmetric_cross_entropy(cosines.amax((2, 3)) / tau)


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

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, dim: int = 512, tau: float = 0.03) -> None:
        super().__init__()
        self.image_head = nn.Conv2d(encoder.dim, dim, kernel_size=1)
        self.audio_head = nn.Linear(encoder.dim, dim)
        self.tau = tau
        nn.init.kaiming_normal_(self.image_head.weight, mode="fan_out")
        nn.init.trunc_normal_(self.audio_head.weight, std=0.01)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        image_map = unit(self.image_head(features.image_map), dim=1)
        audio = unit(self.audio_head(features.audio))
        return {"contrastive": ezvsl_loss(image_map, audio, tau=self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        queries = self.audio_head(features.audio)[:, None]  # (B, 1, D): one query, the whole sound
        return unnamed_predictions(batch, cosine_map(self.image_head(features.image_map), queries))
