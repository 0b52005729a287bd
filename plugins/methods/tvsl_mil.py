"""T-VSL's three ideas (detection, text conditioning, audio-visual correspondence) as multiple-instance learning.

Where T-VSL averages over all tokens, this method pools by log-sum-exp: a few tokens must explain a label, and no token
may match an absent class. Negative cosines are dropped, and every source's sound must match its own image among the
batch. The map is the product of how well a token matches the name and how well it matches the sound.

Ours, after Mahmud, Tian and Marculescu, "T-VSL", CVPR 2024, equations (2) to (9); never report it as T-VSL.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import (
    gather_sources,
    identity_linear,
    l2_normalize,
    labelled_sources,
    log_mean_exp,
    named_predictions,
    queried_sources,
    require_labels,
    require_text,
    tokens,
)


def correspondence_loss(
    image: Tensor, queries: Tensor, sources: Tensor, labels: Tensor, *, pool_tau: float = 0.05, tau: float = 0.07
) -> Tensor:
    """Every source's sound must match its own image among the batch.

    Other images that contain the source's class are left out of the negatives.

    Args:
        image: ``(B, n, D)`` unit tokens.
        queries: ``(B, K, D)`` unit vectors, one per source.
        sources: The list of sources ``(B, K)``.
        labels: ``(B, N)`` multi-hot.
        pool_tau: Temperature of the pooling over tokens.
        tau: Temperature of the contrast.
    """
    real = sources >= 0
    own = real.nonzero()[:, 0]  # (R,) the clip of every source
    cosines = image @ queries[real].T  # (B, n, R)
    logits = log_mean_exp(cosines / pool_tau, dim=1).T * pool_tau / tau  # (R, B)
    same_class = labels.T[sources[real]] > 0  # (R, B)
    negative_or_own = ~same_class.scatter(1, own[:, None], False)
    return F.cross_entropy(logits.where(negative_or_own, -torch.inf), own, reduction="sum") / max(len(own), 1)


class TVSLMIL(Method):
    """Text-guided multiple-instance localization.

    Args:
        encoder: What the features come from.
        classes: Not used: this method gets class names as text only.
        pool_tau: Temperature of the log-sum-exp pooling.
        tau: Temperature of the correspondence loss.
        audio_conditioning: The query is the part of the sound that matches the name; off: the whole sound.
        image_conditioning: The map requires a match with both name and sound; off: with the sound alone.
        correspondence: Train with the correspondence loss; off: leave it out.
        neutral: Pooled cosine at which an untrained detector gives probability 0.5. It must be above the cosines of
            absent classes; otherwise, training starts by pushing every token away from every name.
    """

    title = "T-VSL-MIL (ours)"
    paper = "ours, after T-VSL, CVPR 2024"
    needs = Needs(hints="vocabulary", labels=True, text=True)

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        pool_tau: float = 0.05,
        tau: float = 0.07,
        audio_conditioning: bool = True,
        image_conditioning: bool = True,
        correspondence: bool = True,
        neutral: float = 0.5,
    ) -> None:
        super().__init__()
        self.p_v, self.p_a, self.p_q = (identity_linear(encoder.dim) for _ in range(3))
        self.bias = nn.Parameter(torch.full((2,), -neutral / pool_tau))  # for the image detector and the sound detector
        self.pool_tau, self.tau = pool_tau, tau
        self.audio_conditioning, self.image_conditioning = audio_conditioning, image_conditioning
        self.correspondence = correspondence

    def project(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Unit image tokens ``(B, n, D)``, unit audio tokens ``(B, m, D)``, unit text ``(N, D)``."""
        image, audio = self.p_v(tokens(features.image_map)), self.p_a(tokens(features.audio_map))
        return l2_normalize(image), l2_normalize(audio), l2_normalize(require_text(features))

    def detect(self, image: Tensor, audio: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, N)``: does the image show, does the sound contain the class?"""
        seen, heard = (log_mean_exp(x @ text.T / self.pool_tau, dim=1) for x in (image, audio))
        return seen + self.bias[0], heard + self.bias[1]

    def query(self, audio: Tensor, names: Tensor) -> Tensor:
        """``(B, K, D)``: the sound of each named source."""
        fits = (names @ audio.mT).clamp_min(0)  # (B, K, m)
        gates = fits if self.audio_conditioning else torch.ones_like(fits)
        return l2_normalize(self.p_q(gates @ audio / audio.shape[1]))

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        labels = require_labels(batch)
        sources = labelled_sources(labels)
        image, audio, text = self.project(features)
        seen, heard = self.detect(image, audio, text)
        terms = {
            "image": F.binary_cross_entropy_with_logits(seen, labels),
            "audio": F.binary_cross_entropy_with_logits(heard, labels),
        }
        if self.correspondence:
            queries, taus = (
                self.query(audio, gather_sources(text, sources)),
                {"pool_tau": self.pool_tau, "tau": self.tau},
            )
            terms["correspondence"] = correspondence_loss(image, queries, sources, labels, **taus)
        return terms

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image, audio, text = self.project(features)
        seen, heard = self.detect(image, audio, text)
        probabilities = ((seen + heard) / 2).sigmoid()  # both must agree: a source sounds and is visible
        sources = queried_sources(batch, probabilities)
        names = gather_sources(text, sources)
        length = torch.linalg.vector_norm(self.p_v(tokens(features.image_map)), dim=-1)[:, None]  # (B, 1, n)
        fits_name = (names @ image.mT).clamp_min(0) * length  # (B, K, n)
        fits_sound = (self.query(audio, names) @ image.mT).clamp_min(0) * length
        fits = (fits_name * fits_sound) ** 0.25 if self.image_conditioning else fits_sound**0.5
        maps = fits.reshape(*sources.shape, *features.image_map.shape[2:])
        return named_predictions(batch, sources, maps, probabilities)
