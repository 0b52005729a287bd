"""T-VSL's equations (2) to (9) as they are printed (`tvsl` says what follows from that)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc import AvlocError
from avloc.functional import EPS, gather_sources, identity_linear, l2_normalize, symmetric_cross_entropy

from .parts import GatedMLP, Prompts, Switches, average_linear

CHOICES = {"gate": ("signed", "clamp"), "map": ("cosine", "dot"), "projector": ("linear", "gated_mlp")}


@dataclass(frozen=True, slots=True)
class Conditioned:
    """Tokens as K sources see them: ``gates[b, k, j] * tokens[b, j]``, without writing the product out.

    Attributes:
        tokens: ``(B, n, D)``.
        gates: ``(B, K, n)``.
    """

    tokens: Tensor
    gates: Tensor

    def dot(self, queries: Tensor) -> Tensor:
        """Inner products with one query per source, ``(B, K, D)``: ``(B, K, n)``."""
        return self.gates * (queries @ self.tokens.mT)

    def cosine(self, queries: Tensor) -> Tensor:
        """Cosines with one query per source: ``(B, K, n)``; 0 where a token or its gate is 0."""
        norm = self.gates.abs() * torch.linalg.vector_norm(self.tokens, dim=-1)[:, None]
        return self.dot(l2_normalize(queries)) * torch.where(norm > EPS, 1 / norm.clamp_min(EPS), 0)

    def mean(self) -> Tensor:
        """Mean token of every source: ``(B, K, D)``."""
        return self.gates @ self.tokens / self.tokens.shape[1]

    def phi(self, queries: Tensor, gate: str) -> Conditioned:
        """Equation (6), phi(X, q, X): every token times its cosine with its source's query."""
        cosine = self.cosine(queries)
        return Conditioned(self.tokens, self.gates * (cosine.clamp_min(0) if gate == "clamp" else cosine))


def detection_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Equation (3), L_mcl: binary cross-entropy summed over the classes; the cosines are the logits."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(labels)


def classification_loss(logits: Tensor, sources: Tensor) -> Tensor:
    """Equation (7), half of L_cls: ``(B, K, N)`` logits must name their source; summed over the sources."""
    return F.cross_entropy(logits.flatten(0, 1), sources.flatten(), ignore_index=-1, reduction="sum") / len(sources)


def correspondence_loss(image: Tensor, audio: Tensor, sources: Tensor, *, tau: float = 0.07) -> Tensor:
    """Equation (9), L_cnt: image and audio ``(B, K, D)`` of one source against those of every other in the batch."""
    real = sources >= 0
    return symmetric_cross_entropy(l2_normalize(image[real]) @ l2_normalize(audio[real]).T / tau) / 2


class PrintedHead(nn.Module):
    """Equations (2) to (9).

    Args:
        dim: Width of the joint space.
        switches: What every variant can leave out.
        gate: ``signed`` as printed, or ``clamp``: max(0, cosine).
        map: ``cosine`` as printed, or ``dot``: keeps the gates' magnitude.
        projector: ``linear`` as printed, or ``gated_mlp`` as released, for the six projections from D to D.
        tau: Temperature of equation (9).
        cls_temperature: Of the logits of equations (3) and (7); ``None``: none, as printed.

    Raises:
        AvlocError: `gate`, `map` or `projector` is none of these.
    """

    def __init__(
        self,
        dim: int,
        switches: Switches,
        *,
        gate: str = "signed",
        map: str = "cosine",
        projector: str = "linear",
        tau: float = 0.07,
        cls_temperature: float | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("gate", gate), ("map", map), ("projector", projector)):
            if value not in CHOICES[name]:
                raise AvlocError(f"T-VSL: {name} must be {' or '.join(CHOICES[name])}, not {value!r}.")
        self.switches, self.gate, self.map, self.tau = switches, gate, map, tau
        self.cls_temperature = cls_temperature or 1.0
        self.p_a, self.p_v, self.p_ac, self.p_vc, self.p_av, self.p_va = (
            GatedMLP(dim) if projector == "gated_mlp" else identity_linear(dim) for _ in range(6)
        )
        self.p_f = average_linear(dim)
        self.prompts = Prompts(dim, switches.prompt_length)

    def detect(self, image: Tensor, audio: Tensor, text: Tensor) -> Tensor:
        """Logits ``(B, N)`` of equation (2), from token features ``(B, n, D)``."""
        return self._detect(self.p_v(image), self.p_a(audio), self.prompts(text))

    def _detect(self, image: Tensor, audio: Tensor, text: Tensor) -> Tensor:
        fused = self.p_f(torch.cat([audio.mean(1), image.mean(1)], dim=1))
        return self._logits(fused, text)

    def _logits(self, vectors: Tensor, text: Tensor) -> Tensor:
        return l2_normalize(vectors) @ l2_normalize(text).T / self.cls_temperature

    def _condition(self, projected: Tensor, queries: Tensor, switch: bool) -> Conditioned:
        """Equation (5)."""
        batch, count, _ = queries.shape
        plain = Conditioned(projected, projected.new_ones(batch, count, projected.shape[1]))
        return plain.phi(queries, self.gate) if switch else plain

    def _correspond(self, image: Conditioned, audio: Conditioned) -> tuple[Conditioned, Tensor]:
        """Equation (8): image tokens that the sound agrees with, and the sound's query ``(B, K, D)``."""
        if not self.switches.correspondence:
            return image, audio.mean()
        query = self.p_av(audio.mean())
        return image.phi(query, self.gate), query

    def loss(self, image: Tensor, audio: Tensor, text: Tensor, labels: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """The terms, from token features ``(B, n, D)``, multi-hot labels and the list of sources."""
        use, text = self.switches, self.prompts(text)
        image, audio, queries = self.p_v(image), self.p_a(audio), gather_sources(text, sources)  # equation (4)
        seen = self._condition(image, queries, use.image_conditioning)
        heard = self._condition(audio, queries, use.audio_conditioning)
        terms = {"detection": detection_loss(self._detect(image, audio, text), labels)}
        if use.image_conditioning:
            terms["image"] = classification_loss(self._logits(self.p_vc(seen.mean()), text), sources)
        if use.audio_conditioning:
            terms["audio"] = classification_loss(self._logits(self.p_ac(heard.mean()), text), sources)
        if use.correspondence:
            found, query = self._correspond(seen, heard)
            terms["correspondence"] = correspondence_loss(self.p_va(found.mean()), query, sources, tau=self.tau)
        return terms

    def maps(self, image: Tensor, audio: Tensor, text: Tensor, sources: Tensor) -> Tensor:
        """``(B, K, n)``: how well the image tokens agree with each source's sound."""
        queries = gather_sources(self.prompts(text), sources)
        seen = self._condition(self.p_v(image), queries, self.switches.image_conditioning)
        heard = self._condition(self.p_a(audio), queries, self.switches.audio_conditioning)
        found, query = self._correspond(seen, heard)
        return found.dot(l2_normalize(query)) if self.map == "dot" else found.cosine(query)
