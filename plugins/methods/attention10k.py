"""Attention10k: a sound attends to an image, and the attended image must identify the sound.

A softmax over the cosines of the image cells with the sound is an attention map. A small network maps the attended
image to a vector that must be closer to the clip's own sound than to the sound of another video. The attention is the
map.

Senocak, Oh, Kim, Yang and Kweon, "Learning to Localize Sound Source in Visual Scenes", CVPR 2018, without its optional
supervision. With image cells v, the projected sound h, the encoder's own features f+ of the sound and f- of another
one, and a two-layer network g::

    att = softmax_p( relu(cos(v[p], h)) / tau ),    z = g( relu(sum_p att[p] v[p]) )
    d+- = || z - f+- + 1e-6 ||,    loss = mean( (softmax(d+, d-) - (0, 1))^2 )

The paper has no temperature (tau is 1), so its attention is nearly uniform: over n cells it stays within a factor e of
1 / n. A smaller tau is our variant. The sounds that z is compared with get no gradient, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import cosine_map, mlp, unnamed_predictions


def attend(image_map: Tensor, audio: Tensor, *, tau: float = 1.0) -> tuple[Tensor, Tensor]:
    """Attention of a sound to an image, and the attended image.

    Args:
        image_map: ``(B, D, h, w)``.
        audio: ``(B, D)``.
        tau: Temperature; the paper has none.

    Returns:
        The attention ``(B, h, w)``, which sums to 1 over the cells, and the attended image ``(B, D)``.
    """
    cosines = cosine_map(image_map, audio[:, None])[:, 0].relu()  # (B, h, w)
    attention = (cosines / tau).flatten(1).softmax(1).view_as(cosines)
    return attention, (attention[:, None] * image_map).sum((2, 3)).relu()


def attention10k_loss(image: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """The attended image must be closer to its own sound than to another; ``(B, D)`` each, not normalized."""
    distances = torch.stack([F.pairwise_distance(image, own), F.pairwise_distance(image, other)], dim=1)
    return (distances.softmax(1) - distances.new_tensor([0.0, 1.0])).square().mean()


class Attention10k(Method):
    """Image and audio networks, and one for the attended image, trained with `attention10k_loss`.

    Args:
        encoder: What the features come from.
        classes: Not used: it learns without labels.
        dim: Width of the space of the attention.
        tau: Temperature of the attention; the paper has none.
    """

    title = "Attention10k"
    paper = "Senocak et al., Learning to Localize Sound Source in Visual Scenes, CVPR 2018"
    needs = Needs(views=("other_video",))

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, dim: int = 512, tau: float = 1.0) -> None:
        super().__init__()
        self.image, self.audio = nn.Conv2d(encoder.dim, dim, kernel_size=1), mlp(encoder.dim, dim)
        self.answer = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, encoder.dim))
        self.tau = tau

    def attend(self, features: Features) -> tuple[Tensor, Tensor]:
        """Attention ``(B, h, w)`` and attended image ``(B, dim)``."""
        return attend(self.image(features.image_map), self.audio(features.audio), tau=self.tau)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        own, other = features.audio.detach(), features.views["other_video"].audio.detach()
        return {"distance": attention10k_loss(self.answer(self.attend(features)[1]), own, other)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, self.attend(features)[0][:, None])
