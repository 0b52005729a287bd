"""The T-VSL head as its authors released it, which differs from the paper (see `tvsl`).

Written from a description of the released model, not from its code, whose license forbids that. Parameters carry
the released names, except that a projector's gate is ``visual_proj.gate`` rather than ``vp_w``, and so on.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc.functional import gather_sources, l2_normalize, symmetric_cross_entropy

from .parts import GatedMLP, Prompts, Switches

HUNDRED = math.log(100)


class ReleasedHead(nn.Module):
    """Forward pass, losses and maps of the released model, for any number of sources.

    It has no equation (8): without correspondence, the map compares the gated tokens without their last projections.

    Args:
        dim: Width of the joint space.
        switches: What every variant can leave out.
    """

    logit_scale: Tensor
    logit_scale_ai: Tensor
    logit_scale_at: Tensor

    def __init__(self, dim: int, switches: Switches) -> None:
        super().__init__()
        self.switches, self.prompts = switches, Prompts(dim, switches.prompt_length)
        self.visual_proj, self.audio_proj = GatedMLP(dim), GatedMLP(dim)
        self.img_cls_proj, self.aud_cls_proj = GatedMLP(dim), GatedMLP(dim)
        self.img_aud_proj, self.aud_img_proj = GatedMLP(dim), GatedMLP(dim)
        self.fusion_proj = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, 2 * dim))
        self.logit_scale_ml = nn.Parameter(torch.tensor(HUNDRED))
        # AudioCLIP's own scales for image-text, audio-image and audio-text pairs; frozen with it.
        for name in ("logit_scale", "logit_scale_ai", "logit_scale_at"):
            self.register_buffer(name, torch.tensor(HUNDRED))

    def project(self, image: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image and audio tokens ``(B, n, D)`` to unit tokens and the fused ``(B, 2 D)`` vector of both means."""
        visual, sound = self.visual_proj(l2_normalize(image)), self.audio_proj(audio)
        fused = self.fusion_proj(torch.cat([visual.mean(1), sound.mean(1)], dim=1))
        return l2_normalize(visual), l2_normalize(sound), l2_normalize(fused)

    def detect(self, image: Tensor, audio: Tensor, text: Tensor) -> Tensor:
        """Logits ``(B, N)`` of the classes. The release trains this detector and never asks it."""
        return self._detect(self.project(image, audio)[2], l2_normalize(self.prompts(text)))

    def _detect(self, fused: Tensor, text: Tensor) -> Tensor:
        return scale(self.logit_scale_ml) * fused @ l2_normalize(torch.cat([text, text], dim=1)).T

    def _gates(self, tokens: Tensor, queries: Tensor, switch: bool) -> Tensor:
        """``(B, K, n)``, L2-normalized over the tokens: cosines of unit tokens with unit queries, or all the same."""
        cosines = queries @ tokens.mT
        return l2_normalize(cosines if switch else torch.ones_like(cosines))

    def loss(self, image: Tensor, audio: Tensor, text: Tensor, labels: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """The four terms, from token features ``(B, n, D)``, multi-hot labels and the list of sources."""
        use, text = self.switches, l2_normalize(self.prompts(text))
        visual, sound, fused = self.project(image, audio)
        queries = gather_sources(text, sources)
        mean_visual = gated_mean(visual, self._gates(visual, queries, use.image_conditioning))  # (B, K, D)
        mean_sound = gated_mean(sound, self._gates(sound, queries, use.audio_conditioning))
        real = sources >= 0
        targets = sources[real]
        terms = {"detection": F.binary_cross_entropy_with_logits(self._detect(fused, text), labels)}
        if use.image_conditioning:
            logits = scale(self.logit_scale) * l2_normalize(self.img_cls_proj(mean_visual[real])) @ text.T
            terms["image"] = F.cross_entropy(logits, targets, reduction="sum") / max(len(targets), 1)
        if use.audio_conditioning:
            logits = scale(self.logit_scale_at) * l2_normalize(self.aud_cls_proj(mean_sound[real])) @ text.T
            terms["audio"] = F.cross_entropy(logits, targets, reduction="sum") / max(len(targets), 1)
        if use.correspondence:
            queried = l2_normalize(self.aud_img_proj(mean_sound[real]))
            answered = l2_normalize(self.img_aud_proj(mean_visual[real]))
            terms["correspondence"] = symmetric_cross_entropy(scale(self.logit_scale_ai) * queried @ answered.T) / 2
        return terms

    def maps(self, image: Tensor, audio: Tensor, text: Tensor, sources: Tensor) -> Tensor:
        """``(B, K, n)`` scores of the image tokens, L2-normalized over the tokens."""
        use = self.switches
        visual, sound, _ = self.project(image, audio)
        queries = gather_sources(l2_normalize(self.prompts(text)), sources)
        query = gated_mean(sound, self._gates(sound, queries, use.audio_conditioning))  # (B, K, D)
        conditioned = self._gates(visual, queries, use.image_conditioning)[..., None] * visual[:, None]  # (B, K, n, D)
        if use.correspondence:
            query, conditioned = self.aud_img_proj(query), self.img_aud_proj(conditioned)
        return l2_normalize(torch.einsum("bknd,bkd->bkn", l2_normalize(conditioned), l2_normalize(query)))


def scale(logarithm: Tensor) -> Tensor:
    """A learned temperature's inverse, kept in [1, 100]."""
    return logarithm.exp().clamp(1, 100)


def gated_mean(tokens: Tensor, gates: Tensor) -> Tensor:
    """Mean over the tokens ``(B, n, D)``, each scaled by its gate ``(B, K, n)``: ``(B, K, D)``."""
    return gates @ tokens / tokens.shape[1]
