"""OTS: the sounding object is the cell that best shows that an image and a sound belong together.

A small network per modality maps image cells and the pooled sound into a shared space. The score of the best cell
predicts whether image and sound belong together; it is trained by logistic regression on the clip's own image and on
one of another video. The map is the same score at every cell.

Arandjelovic and Zisserman, "Objects that Sound", ECCV 2018 (AVOL-Net). With unit image cells v of the clip, u of a
clip of another video, and the unit sound a::

    y(v) = sigma( w max_p <v[p], a> + b ),    loss = -mean( log y(v) + log(1 - y(u)) ) / 2
    map[p] = sigma( w <v[p], a> + b )

No official code exists; w and b start at the 5 and 0 of DSOL, whose public code has the same loss. The one public
reimplementation is of AVE-Net, the paper's retrieval network, which draws no maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import binary_contrast, cosine_map, l2_normalize, matched_similarity, mlp, unnamed_predictions


def ots_loss(
    image_map: Tensor, other_map: Tensor, audio: Tensor, *, scale: Tensor | float = 5.0, bias: Tensor | float = 0.0
) -> Tensor:
    """Logistic loss of the best cell: the clip's own image is positive, another video's is negative.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        other_map: ``(B, D, h, w)`` of clips of other videos, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to row n of `image_map`.
        scale: w.
        bias: b.
    """
    own, other = (matched_similarity(v, audio[:, None]).amax((1, 2, 3)) for v in (image_map, other_map))
    return binary_contrast(scale * own + bias, scale * other + bias)


class OTS(Method):
    """Image and audio networks trained with `ots_loss`.

    Args:
        encoder: What the features come from.
        classes: Not used: OTS learns without labels.
        dim: Width of the shared space.
    """

    title = "OTS"
    paper = "Arandjelovic and Zisserman, Objects that Sound, ECCV 2018"
    needs = Needs(views=("other_video",))

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, dim: int = 128) -> None:
        super().__init__()
        self.image, self.audio = mlp(encoder.dim, dim, cells=True), mlp(encoder.dim, dim)
        self.scale, self.bias = nn.Parameter(torch.tensor(5.0)), nn.Parameter(torch.tensor(0.0))

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        own, other = (l2_normalize(self.image(f.image_map), dim=1) for f in (features, features.views["other_video"]))
        audio = l2_normalize(self.audio(features.audio))
        return {"correspondence": ots_loss(own, other, audio, scale=self.scale, bias=self.bias)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        cosines = cosine_map(self.image(features.image_map), self.audio(features.audio)[:, None])
        return unnamed_predictions(batch, (self.scale * cosines + self.bias).sigmoid())
