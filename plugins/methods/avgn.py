"""AVGN: learned class tokens group the tokens of image and sound into one feature per class.

One token per class, shared by both modalities, goes through one group encoder together with the image tokens and
through another together with the sound. The outputs predict which classes are present, and the sound's output is the
query of its class: a contrastive loss matches each sounding class with its own image by the best cell. The map of a
class is the product of its query with the image's own cells.

Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures", CVPR 2023, as released. The release
takes one class per image. Here, a clip with K classes forms K pairs of image and query; the other queries of the same
clip are not negatives, because the image contains them too. With K = 1, this is the release's loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import (
    diagonal_cross_entropy,
    l2_normalize,
    labelled_sources,
    named_predictions,
    pairwise_similarity,
    queried_sources,
    require_labels,
    tokens,
)

from ._avgn_grouping import GroupEncoder


def localization_loss(image_map: Tensor, queries: Tensor, sources: Tensor, *, tau: float = 0.03) -> Tensor:
    """Contrastive loss between images and the queries of their sources, both directions summed.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        queries: ``(B, K, D)``, one per source, not normalized.
        sources: The list of sources ``(B, K)``.
        tau: Temperature.
    """
    real = sources >= 0
    own = real.nonzero()[:, 0]  # (R,) the clip of every source
    logits = (
        pairwise_similarity(image_map, queries[real]).amax((2, 3))[own] / tau
    )  # (R, R): the source's image, every query
    sibling = (own[:, None] == own) & ~torch.eye(len(own), dtype=torch.bool, device=own.device)
    logits = logits.masked_fill(sibling, -torch.inf)
    return diagonal_cross_entropy(logits) + diagonal_cross_entropy(logits.T)


class AVGN(Method):
    """Audio-visual grouping network over encoder features.

    Args:
        encoder: What the features come from.
        classes: One token each; AVGN cannot map other classes.
        dim: Width of the shared space and of the group encoders.
        depth: Self-attention blocks per group encoder.
        heads: Attention heads.
        drop_path: Stochastic depth while training.
        tau: Temperature.
    """

    title = "AVGN"
    paper = "Mo and Tian, Audio-Visual Grouping Network for Sound Localization from Mixtures, CVPR 2023"
    needs = Needs(hints="vocabulary", labels=True, closed_set=True)

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 512,
        depth: int = 3,
        heads: int = 8,
        drop_path: float = 0.1,
        tau: float = 0.03,
    ) -> None:
        super().__init__()
        self.index, self.tau = {name: n for n, name in enumerate(classes)}, tau
        self.img_proj, self.aud_proj = nn.Conv2d(encoder.dim, dim, kernel_size=1), nn.Linear(encoder.dim, dim)
        self.av_token = nn.Parameter(torch.zeros(len(classes), dim))
        self.visual_encoder, self.audio_encoder = (
            GroupEncoder(dim, len(classes), depth=depth, heads=heads, drop_path=drop_path) for _ in range(2)
        )
        self.fc_prob_v, self.fc_prob_a, self.fc_cls = nn.Linear(dim, 1), nn.Linear(dim, 1), nn.Linear(dim, len(classes))
        self.apply(initialize)

    def group(self, image_map: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Unit image map ``(B, D, h, w)`` and unit sound ``(B, D)`` to ``(B, C, D)`` per class, for each of them."""
        visual = self.visual_encoder(tokens(image_map), self.av_token)
        return visual, self.audio_encoder(audio[:, None], self.av_token)

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Unit image map, then per class of the batch: queries ``(B, N, D)`` and the logits of image and sound."""
        unseen = [name for name in batch.classes if name not in self.index]
        if unseen:
            raise AvlocError(f"AVGN learns one token per class and has none for {', '.join(unseen)}.")
        columns = [self.index[name] for name in batch.classes]
        image_map, audio = (
            l2_normalize(self.img_proj(features.image_map), dim=1),
            l2_normalize(self.aud_proj(features.audio)),
        )
        visual, sound = (x[:, columns] for x in self.group(image_map, audio))
        return image_map, sound, self.fc_prob_v(visual).squeeze(2), self.fc_prob_a(sound).squeeze(2)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        labels = require_labels(batch)
        sources = labelled_sources(labels)
        image_map, sound, seen, heard = self.forward(features, batch)
        return {
            "localization": localization_loss(image_map, of_sources(sound, sources), sources, tau=self.tau),
            "tokens": diagonal_cross_entropy(self.fc_cls(self.av_token)),
            "image": F.binary_cross_entropy_with_logits(seen, labels),
            "audio": F.binary_cross_entropy_with_logits(heard, labels),
        }

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, sound, seen, heard = self.forward(features, batch)
        probabilities = ((seen + heard) / 2).sigmoid()  # both must agree: a source sounds and is visible
        sources = queried_sources(batch, probabilities)
        maps = torch.einsum("bdhw,bkd->bkhw", image_map, of_sources(sound, sources)) / self.tau
        return named_predictions(batch, sources, maps, probabilities)


def of_sources(per_class: Tensor, sources: Tensor) -> Tensor:
    """The ``(B, K, D)`` rows of ``(B, N, D)`` that a list of sources ``(B, K)`` names."""
    return torch.take_along_dim(per_class, sources.clamp_min(0)[:, :, None], dim=1)


def initialize(module: nn.Module) -> None:
    """The release's initialization."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
