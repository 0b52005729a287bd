"""LVS: the cells that respond to a clip's sound are its positives, the cells that do not are hard negatives.

A soft threshold splits the map of a clip's image with its own sound into a positive region, a background, and an
ignored band between them (the "trimap"). The mean cosine of the positive region must exceed that of the clip's own
background, the hard negative, and that of the same image with every other sound. The map is the cosine of every cell
with the clip's own sound.

Chen, Xie, Afouras, Nagrani, Vedaldi and Zisserman, "Localizing Visual Sounds the Hard Way", CVPR 2021. With unit image
cells v, unit sounds a and s[n, m, p] = <v[n, p], a[m]>, where mean(x; w) = sum_p w_p x_p / sum_p w_p::

    P[n]    = mean(s[n, n]; sigma((s[n, n] - epsilon_p) / tau))
    N[n]    = mean(s[n, n]; 1 - sigma((s[n, n] - epsilon_n) / tau))
    M[n, m] = mean(s[n, m]; sigma((s[n, m] - epsilon_p) / tau))
    loss    = mean_n of  log( exp(P[n] / T) + exp(N[n] / T) + sum_{m != n} exp(M[n, m] / T) )  -  P[n] / T

The official code keeps M[n, n] among the negatives, multiplied by -99. That vanishes while M[n, n] is positive, but
swamps the loss as soon as it is negative, as with untrained heads; here, the sum leaves it out. The paper has no heads,
but without them there would be nothing to train on a frozen encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features, Method, Prediction
from avloc.functional import (
    Heads,
    cosine_map,
    matched_maps,
    pairwise_similarity,
    sigmoid_weighted_mean,
    unnamed_predictions,
)


def lvs_loss(
    image_map: Tensor,
    audio: Tensor,
    *,
    epsilon_p: float = 0.65,
    epsilon_n: float = 0.4,
    tau: float = 0.03,
    temperature: float = 0.07,
    hard_negative: bool = True,
) -> Tensor:
    """Contrastive loss of the positive region against background and other sounds, from image to sound.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to image n.
        epsilon_p: Cosine above which a cell is positive.
        epsilon_n: Cosine below which a cell is background; equal to `epsilon_p`: no trimap.
        tau: Softness of both thresholds.
        temperature: Of the contrast, T.
        hard_negative: Whether the background is a negative.
    """
    cosines = pairwise_similarity(image_map, audio)  # (B, B, h, w)
    pooled = sigmoid_weighted_mean(cosines, epsilon_p, tau)  # (B, B): P on the diagonal, M elsewhere
    positive = pooled.diagonal()
    own = torch.eye(len(pooled), dtype=torch.bool, device=pooled.device)
    others = pooled.where(~own, -torch.inf)
    columns = [positive[:, None], others]
    if hard_negative:
        columns.append(sigmoid_weighted_mean(matched_maps(cosines), epsilon_n, -tau)[:, None])
    logits = torch.cat(columns, dim=1) / temperature
    return (torch.logsumexp(logits, 1) - positive / temperature).mean()


class LVS(Method):
    """Image and audio heads under `lvs_loss`.

    Args:
        encoder: What the features come from.
        classes: Not used: LVS learns without labels.
        dim: Width of the shared space.
        epsilon_p: Cosine above which a cell is positive.
        epsilon_n: Cosine below which a cell is background.
        tau: Softness of both thresholds.
        temperature: Of the contrast.
    """

    title = "LVS"
    paper = "Chen et al., Localizing Visual Sounds the Hard Way, CVPR 2021"

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 512,
        epsilon_p: float = 0.65,
        epsilon_n: float = 0.4,
        tau: float = 0.03,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.heads = Heads(encoder.dim, dim)
        self.criterion = partial(lvs_loss, epsilon_p=epsilon_p, epsilon_n=epsilon_n, tau=tau, temperature=temperature)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"contrastive": self.criterion(*self.heads(features.image_map, features.audio))}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = self.heads(features.image_map, features.audio)
        return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))
