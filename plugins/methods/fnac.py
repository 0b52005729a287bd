"""FNAC: EZ-VSL that detects false negatives, clips of a batch that look or sound alike, and suppresses them.

The similarities among the sounds of a batch, and among its images, indicate false negatives: the cross-modal
similarities should follow both (false negative suppression). The sounding regions should be as similar to each other as
their sounds are, which keeps true negatives apart (true negative enhancement). These terms are added to EZ-VSL's
contrastive loss after a warm-up, and the map is EZ-VSL's.

Sun et al., "Learning Audio-Visual Source Localization via False Negative Aware Contrastive Learning", CVPR 2023.
With unit image cells v, unit sounds a, s[n, m, p] = <v[n, p], a[m]> and P(X) = softmax over each row of X / tau::

    L = max_p s,    base = CE(L / tau) + CE(L^T / tau)
    fns1 = mean | P(a a^T) - P(L) |                     vbar[n] = mean_p v[n, p]
    fns2 = mean | P(vbar vbar^T) - P(L) |               f[n] = mean_p v[n, p] [minmax(s[n, n])_p > region]
    tns  = mean | P(a a^T) - P(f f^T) |                 loss = base + 100 (fns1 + tns + fns2)

As in the official code, only the mask is detached, and f and vbar are not normalized, so tns cannot reach 0. The means
are over all B^2 pairs and shrink as batches grow: the weight 100 goes with the paper's batches of 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Prediction
from avloc.functional import (
    Heads,
    cosine_map,
    matched_maps,
    pairwise_similarity,
    symmetric_cross_entropy,
    unnamed_predictions,
)

EPS = 1e-5
"""In the denominator of the min-max normalization, as in the official code."""


def fnac_loss(
    image_map: Tensor,
    audio: Tensor,
    *,
    tau: float = 0.03,
    region: float = 0.6,
    fns1: float = 100.0,
    tns: float = 100.0,
    fns2: float = 100.0,
) -> dict[str, Tensor]:
    """Contrastive loss and the three weighted affinity terms; with zero weights their sum is EZ-VSL's loss.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to image n.
        tau: Temperature of all softmaxes.
        region: Min-max normalized cosine above which a cell belongs to the sounding region.
        fns1: Weight of the false negative suppression by sounds.
        tns: Weight of the true negative enhancement by sounding regions.
        fns2: Weight of the false negative suppression by images.
    """
    cosines = pairwise_similarity(image_map, audio)  # (B, B, h, w)
    best = cosines.amax((2, 3)) / tau
    across = best.softmax(1)
    heard = _affinity(audio, tau)
    seen = _affinity(image_map.mean((2, 3)), tau)
    mask = _sounding(matched_maps(cosines.detach()), region)  # (B, h, w)
    sounding = _affinity((image_map * mask[:, None]).mean((2, 3)), tau)
    return {
        "contrastive": symmetric_cross_entropy(best),
        "fns1": fns1 * (heard - across).abs().mean(),
        "tns": tns * (heard - sounding).abs().mean(),
        "fns2": fns2 * (seen - across).abs().mean(),
    }


def _affinity(vectors: Tensor, tau: float) -> Tensor:
    """``(B, D)`` to ``(B, B)``: softmax over the similarities of each row's vector with all of them."""
    return (pairwise_similarity(vectors, vectors) / tau).softmax(1)


def _sounding(maps: Tensor, region: float) -> Tensor:
    """``(B, h, w)`` bool: the cells of each map above `region` of its range."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + EPS) > region


class FNAC(Method):
    """Image and audio heads under `fnac_loss`, with dropout on the encoder's image map.

    Args:
        encoder: What the features come from.
        classes: Not used: FNAC learns without labels.
        dim: Width of the shared space.
        tau: Temperature.
        dropout: Share of the image map's values that are dropped in training.
        region: Min-max normalized cosine above which a cell belongs to the sounding region.
        fns1: Weight of the false negative suppression by sounds.
        tns: Weight of the true negative enhancement by sounding regions.
        fns2: Weight of the false negative suppression by images.
        warmup: Epochs that train with the contrastive term alone.
    """

    title = "FNAC"
    paper = (
        "Sun et al., Learning Audio-Visual Source Localization via False Negative Aware Contrastive Learning, CVPR 2023"
    )

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 512,
        tau: float = 0.03,
        dropout: float = 0.9,
        region: float = 0.6,
        fns1: float = 100.0,
        tns: float = 100.0,
        fns2: float = 100.0,
        warmup: int = 3,
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.warmup = Heads(encoder.dim, dim), nn.Dropout(dropout), warmup
        self.criterion = partial(fnac_loss, tau=tau, region=region, fns1=fns1, tns=tns, fns2=fns2)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        terms = self.criterion(*self.heads(self.dropout(features.image_map), features.audio))
        # On held-out clips, all terms always count; otherwise, the warm-up epochs would seem to be the best.
        if self.training and context.epoch < self.warmup:
            return {"contrastive": terms["contrastive"]}
        return terms

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = self.heads(features.image_map, features.audio)
        return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))
