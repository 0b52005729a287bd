"""T-VSL: text embeddings of the sounding classes disentangle a mixture, in the audio and in the image.

A detector predicts the sounding classes from pooled audio and image. The text embedding of each class gates the audio
tokens and the image tokens by similarity. For every class, the gated audio is then compared with the gated image
tokens, and a contrastive loss aligns the two. The map is their cosine.

Mahmud, Tian and Marculescu, "T-VSL: Text-Guided Visual Sound Source Localization in Mixtures", CVPR 2024, equations
(2) to (9) as printed, for any number of sources. Our choices where the paper is silent: projectors start as the
identity and P_f as the average of its two inputs, so that an untrained T-VSL compares the encoder's own tokens; the
contrastive term is the mean of both directions of InfoNCE over all (clip, source) pairs of the batch.

Equation (6) affects the map: of a cosine inside a cosine, only the sign remains, so as printed the map is
``|cos(V'_j, g_k)|``, however well token j matches the text. ``gate="clamp"`` drops negative cosines and ``map="dot"``
keeps the magnitude of the gates; both are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import (
    EPS,
    gather_sources,
    identity_linear,
    l2_normalize,
    labelled_sources,
    named_predictions,
    queried_sources,
    require_labels,
    require_text,
    symmetric_cross_entropy,
    tokens,
)

from ._tvsl_released import GatedMLP, ReleasedHead


@dataclass(frozen=True, slots=True)
class Options:
    """The switches of the paper's variant; the defaults are the paper's.

    Attributes:
        audio_conditioning, image_conditioning: Gate the tokens by the text (equation 5) and classify what is left
            (equation 7). Off: the tokens are unchanged, and that half of equation (7) is left out.
        correspondence: Equations (8) and (9). Off: the map compares the mean audio token with the image tokens.
        prompt_length: Learned prompt vectors that every class name attends to; 0: none.
        gate: ``signed`` as printed, or ``clamp``: max(0, cosine).
        map: ``cosine`` as printed, or ``dot``: keeps the gates' magnitude.
        projector: ``linear`` as printed, or ``gated_mlp`` as released, for the six projections from D to D.
        tau: Temperature of equation (9).
        cls_temperature: Of the logits of equations (3) and (7); ``None``: none, as printed.
    """

    audio_conditioning: bool = True
    image_conditioning: bool = True
    correspondence: bool = True
    prompt_length: int = 0
    gate: str = "signed"
    map: str = "cosine"
    projector: str = "linear"
    tau: float = 0.07
    cls_temperature: float | None = None

    def __post_init__(self) -> None:
        choices = {"gate": ("signed", "clamp"), "map": ("cosine", "dot"), "projector": ("linear", "gated_mlp")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise AvlocError(f"T-VSL: {name} must be {' or '.join(known)}, not {getattr(self, name)!r}.")


@dataclass(frozen=True, slots=True)
class Conditioned:
    """Tokens gated per source: ``gates[b, k, j] * tokens[b, j]``, without computing the product.

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


class PaperHead(nn.Module):
    """Equations (2) to (9).

    Args:
        dim: Width of the joint space.
        options: Switches.
    """

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.p_a, self.p_v, self.p_ac, self.p_vc, self.p_av, self.p_va = (
            GatedMLP(dim) if options.projector == "gated_mlp" else identity_linear(dim) for _ in range(6)
        )
        self.p_f = nn.Linear(2 * dim, dim)
        nn.init.zeros_(self.p_f.bias)
        self.p_f.weight.data = torch.cat([torch.eye(dim), torch.eye(dim)], dim=1) / 2
        self.prompts = Prompts(dim, options.prompt_length) if options.prompt_length else nn.Identity()

    def detect(self, image: Tensor, audio: Tensor, text: Tensor) -> Tensor:
        """Logits ``(B, N)`` of equation (2), from token features ``(B, n, D)``."""
        return self._detect(self.p_v(image), self.p_a(audio), self.prompts(text))

    def _detect(self, image: Tensor, audio: Tensor, text: Tensor) -> Tensor:
        fused = self.p_f(torch.cat([audio.mean(1), image.mean(1)], dim=1))
        return self._logits(fused, text)

    def _logits(self, vectors: Tensor, text: Tensor) -> Tensor:
        return l2_normalize(vectors) @ l2_normalize(text).T / (self.options.cls_temperature or 1)

    def _condition(self, projected: Tensor, queries: Tensor, switch: bool) -> Conditioned:
        """Equation (5)."""
        batch, count, _ = queries.shape
        plain = Conditioned(projected, projected.new_ones(batch, count, projected.shape[1]))
        return plain.phi(queries, self.options.gate) if switch else plain

    def _correspond(self, image: Conditioned, audio: Conditioned) -> tuple[Conditioned, Tensor]:
        """Equation (8): image tokens gated by the sound, and the sound's query ``(B, K, D)``."""
        if not self.options.correspondence:
            return image, audio.mean()
        query = self.p_av(audio.mean())
        return image.phi(query, self.options.gate), query

    def loss(self, image: Tensor, audio: Tensor, text: Tensor, labels: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """The terms, from token features ``(B, n, D)``, multi-hot labels and the list of sources."""
        use, text = self.options, self.prompts(text)
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
            terms["correspondence"] = correspondence_loss(self.p_va(found.mean()), query, sources, tau=use.tau)
        return terms

    def maps(self, image: Tensor, audio: Tensor, text: Tensor, sources: Tensor) -> Tensor:
        """``(B, K, n)``: how well the image tokens match each source's sound."""
        queries = gather_sources(self.prompts(text), sources)
        seen = self._condition(self.p_v(image), queries, self.options.image_conditioning)
        heard = self._condition(self.p_a(audio), queries, self.options.audio_conditioning)
        found, query = self._correspond(seen, heard)
        return found.dot(l2_normalize(query)) if self.options.map == "dot" else found.cosine(query)


class Prompts(nn.Module):
    """Learned context for class names: each name attends to the prompt vectors and adds the result to its embedding.

    The paper learns prompt words in front of the text tower, as CoOp does. Here, a method gets text embeddings only,
    so its prompts are vectors in the joint space. The output starts at zero, so untrained prompts change nothing.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(length, dim) / math.sqrt(dim))
        self.output = nn.Linear(dim, dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, text: Tensor) -> Tensor:
        """``(N, D)`` to ``(N, D)``."""
        text = l2_normalize(text)
        attention = (text @ self.vectors.T).softmax(dim=1)
        context: Tensor = self.output(attention @ self.vectors)
        return text + context


class TVSL(Method):
    """T-VSL as printed, or as released.

    Args:
        encoder: What the features come from.
        classes: Not used: this method gets class names as text only, so it can map unseen classes.
        variant: ``paper``, or ``released``: the authors' head, with gated MLPs, temperatures and gates normalized
            over the tokens, without equation (8). The other arguments belong to ``paper``, see `Options`.
    """

    title = "T-VSL"
    paper = "Mahmud, Tian and Marculescu, T-VSL: Text-Guided Visual Sound Source Localization in Mixtures, CVPR 2024"
    needs = Needs(hints="vocabulary", labels=True, text=True)

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        variant: str = "paper",
        audio_conditioning: bool = True,
        image_conditioning: bool = True,
        correspondence: bool = True,
        prompt_length: int = 0,
        gate: str = "signed",
        map: str = "cosine",
        projector: str = "linear",
        tau: float = 0.07,
        cls_temperature: float | None = None,
    ) -> None:
        super().__init__()
        options = Options(
            audio_conditioning, image_conditioning, correspondence, prompt_length, gate, map, projector, tau,
            cls_temperature,
        )  # fmt: skip
        if variant not in ("paper", "released"):
            raise AvlocError(f"T-VSL: variant must be paper or released, not {variant!r}.")
        if variant == "released" and options != Options():
            raise AvlocError("T-VSL: variant released has no switches; leave the other parameters at their defaults.")
        self.head = PaperHead(encoder.dim, options) if variant == "paper" else ReleasedHead(encoder.dim)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        image, audio, text = tokens(features.image_map), tokens(features.audio_map), require_text(features)
        labels = require_labels(batch)
        return self.head.loss(image, audio, text, labels, labelled_sources(labels))

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image, audio, text = tokens(features.image_map), tokens(features.audio_map), require_text(features)
        probabilities = self.head.detect(image, audio, text).sigmoid()
        sources = queried_sources(batch, probabilities)
        maps = self.head.maps(image, audio, text, sources)
        maps = maps.reshape(*maps.shape[:2], *features.image_map.shape[2:])  # (B, K, h, w)
        return named_predictions(batch, sources, maps, probabilities)
