"""T-VSL, paired: every logit has the features that its own class or query conditioned (`tvsl` has the equations)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc.functional import gather_sources, identity_linear, l2_normalize, mean

from .parts import Prompts, Switches, average_linear

CLS_TEMPERATURE, TAU, DETECTION_TEMPERATURE, DETECTION_BIAS = 0.01, 0.01, 0.07, -0.5
POWER = 0.25
"""Of the map: chosen on validation clips; average precision does not depend on it."""


class PairedHead(nn.Module):
    """Equations (2) to (9), each comparison under its own condition.

    Args:
        dim: Width of the joint space.
        switches: What every variant can leave out.
        length: The map keeps the length of the image tokens; off: their cosines alone.
    """

    def __init__(self, dim: int, switches: Switches, *, length: bool = True) -> None:
        super().__init__()
        self.switches, self.length = switches, length
        self.p_a, self.p_v, self.p_ac, self.p_vc, self.p_av, self.p_va = (identity_linear(dim) for _ in range(6))
        self.p_f = average_linear(dim)
        self.bias = nn.Parameter(torch.tensor(DETECTION_BIAS))
        self.prompts = Prompts(dim, switches.prompt_length)

    def detect(self, image: Tensor, audio: Tensor, text: Tensor) -> Tensor:
        """Logits ``(B, N)`` of equation (3), from token features ``(B, n, D)``."""
        return self._detect(self.p_v(image), self.p_a(audio), l2_normalize(self.prompts(text)))

    def _detect(self, image: Tensor, audio: Tensor, names: Tensor) -> Tensor:
        fused = l2_normalize(self.p_f(torch.cat([audio.mean(1), image.mean(1)], dim=1)))
        return (fused @ names.T + self.bias) / DETECTION_TEMPERATURE

    def _query(self, audio: Tensor, names: Tensor) -> Tensor:
        """Equation (8)'s q: what the sound of each named source ``(B, K, D)`` looks for."""
        fits = (names @ l2_normalize(audio).mT).clamp_min(0)  # (B, K, m)
        gates = fits if self.switches.audio_conditioning else torch.ones_like(fits)
        heard = gates @ audio / audio.shape[1]
        return self.p_av(heard) if self.switches.correspondence else heard

    def loss(self, image: Tensor, audio: Tensor, text: Tensor, labels: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """The terms, from token features ``(B, n, D)``, multi-hot labels and the list of sources."""
        use, names = self.switches, l2_normalize(self.prompts(text))
        image, audio = self.p_v(image), self.p_a(audio)
        terms = {"detection": F.binary_cross_entropy_with_logits(self._detect(image, audio, names), labels)}
        if use.image_conditioning:
            terms["image"] = classification_loss(image, self.p_vc, names, labels, sources)
        if use.audio_conditioning:
            terms["audio"] = classification_loss(audio, self.p_ac, names, labels, sources)
        if use.correspondence:
            queries = self._query(audio, gather_sources(names, sources))
            terms["correspondence"] = self._correspondence(l2_normalize(image), queries, names, labels, sources)
        return terms

    def _correspondence(self, image: Tensor, queries: Tensor, names: Tensor, labels: Tensor, sources: Tensor) -> Tensor:
        """Equation (9): every source's query must find its own image, each image gated by that very query.

        Other images that contain the source's class are no negatives: they are left out.
        """
        real = sources >= 0
        own, classes = real.nonzero()[:, 0], sources[real]  # (R,)
        query = l2_normalize(queries[real])
        gates = torch.einsum("bnd,rd->brn", image, query).clamp_min(0)
        if self.switches.image_conditioning:
            gates = gates * torch.einsum("bnd,rd->brn", image, names[classes]).clamp_min(0)
        found = self.p_va(gates @ image / image.shape[1])  # (B, R, D)
        logits = torch.einsum("brd,rd->rb", found, query) / TAU
        others = (labels.T[classes] > 0).scatter(1, own[:, None], False)
        return mean(F.cross_entropy(logits.masked_fill(others, -torch.inf), own, reduction="none"))

    def maps(self, image: Tensor, audio: Tensor, text: Tensor, sources: Tensor) -> Tensor:
        """``(B, K, n)``: how well the image tokens fit each source's name and its sound."""
        names = gather_sources(l2_normalize(self.prompts(text)), sources)
        image, query = self.p_v(image), l2_normalize(self._query(self.p_a(audio), names))
        if not self.length:
            image = l2_normalize(image)
        fits = (query @ image.mT).clamp_min(0)  # (B, K, n)
        if not self.switches.image_conditioning:
            return fits ** (2 * POWER)
        return (fits * (names @ image.mT).clamp_min(0)) ** POWER


def classification_loss(
    tokens: Tensor, projection: nn.Linear, names: Tensor, labels: Tensor, sources: Tensor
) -> Tensor:
    """Equation (7), half of L_cls: every class is asked with the features that its own name conditioned.

    A clip's other true classes are no negatives: they are left out.

    Args:
        tokens: ``(B, n, D)``, projected.
        projection: P_vc or P_ac.
        names: ``(N, D)`` unit vectors.
        labels: ``(B, N)`` multi-hot.
        sources: The list of sources ``(B, K)``.
    """
    unit = l2_normalize(tokens)
    features = projection((names @ unit.mT).clamp_min(0) @ unit / unit.shape[1])  # (B, N, D)
    logits = (features * names).sum(-1) / CLS_TEMPERATURE  # (B, N)
    real = sources >= 0
    own, classes = real.nonzero()[:, 0], sources[real]
    others = (labels[own] > 0).scatter(1, classes[:, None], False)
    return mean(F.cross_entropy(logits[own].masked_fill(others, -torch.inf), classes, reduction="none"))
