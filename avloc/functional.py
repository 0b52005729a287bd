"""What methods share: cosines between tokens and queries, contrastive losses, and the way from class scores to maps.

A *list of sources* is written as ``Batch.sources`` is: ``(B, K)`` int64 indices into the class names, -1 padded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avloc.types import AvlocError, Batch, Features, Prediction

EPS = 1e-6


def l2_normalize(x: Tensor, dim: int = -1) -> Tensor:
    """``x`` divided by its L2 norm along `dim`.

    A vector shorter than `EPS` becomes zero and passes no gradient: silence and blank images leave losses finite.
    """
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x * torch.where(norm > EPS, 1 / norm.clamp_min(EPS), 0)


def tokens(feature_map: Tensor) -> Tensor:
    """``(B, D, h, w)`` to ``(B, h * w, D)``, row by row."""
    return feature_map.flatten(2).transpose(1, 2)


def cosine_map(image_map: Tensor, queries: Tensor) -> Tensor:
    """Cosine of every cell ``(B, D, h, w)`` with every query of its own clip ``(B, K, D)``: ``(B, K, h, w)``."""
    return matched_similarity(l2_normalize(image_map, 1), l2_normalize(queries))


def matched_similarity(image_map: Tensor, queries: Tensor) -> Tensor:
    """Inner product of every cell ``(B, D, h, w)`` with every query of its own clip ``(B, K, D)``: ``(B, K, h, w)``.

    Never in half precision, whose rounding a temperature magnifies.
    """
    with torch.autocast(image_map.device.type, enabled=False):
        return torch.einsum("bdhw,bkd->bkhw", _at_least_single(image_map), _at_least_single(queries))


def split_tiles(feature_map: Tensor, count: int) -> Tensor:
    """A map of canvases ``(B, D, h, count * w)`` as its tiles, left to right: ``(B, count, D, h, w)``.

    Raises:
        AvlocError: The canvas does not split into that many tiles.
    """
    batch, channels, height, width = feature_map.shape
    if width % count:
        raise AvlocError(f"A map {width} cells wide does not split into {count} tiles.")
    return feature_map.reshape(batch, channels, height, count, width // count).movedim(3, 1)


def pairwise_similarity(image_map: Tensor, queries: Tensor) -> Tensor:
    """Inner product of every cell of every image ``(n, D, h, w)`` with every query ``(m, D)``: ``(n, m, h, w)``.

    Of every vector ``(n, D)`` likewise: ``(n, m)``. Never in half precision, whose rounding a temperature magnifies.
    """
    with torch.autocast(image_map.device.type, enabled=False):
        return torch.einsum("nd...,md->nm...", _at_least_single(image_map), _at_least_single(queries))


def _at_least_single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def matched_maps(maps: Tensor) -> Tensor:
    """Of the maps ``(n, n, h, w)`` of every pair those of the images with their own sounds: ``(n, h, w)``."""
    return maps.diagonal(dim1=0, dim2=1).movedim(-1, 0)


def max_similarity(image_map: Tensor, queries: Tensor) -> Tensor:
    """The product of every query with its best cell of every image, ``(n, m)``: nobody says which cell is meant."""
    return pairwise_similarity(image_map, queries).amax((2, 3))


def sigmoid_weighted_mean(maps: Tensor, threshold: float, tau: float) -> Tensor:
    """Mean over the cells of ``(..., h, w)``, each weighted by ``sigmoid((x - threshold) / tau)``: ``(...)``.

    A negative `tau` weighs the cells below the threshold instead. Far below it the weights are ``softmax(x / tau)``:
    it is always a mean over some cells. Computed from the weights' logarithms, in no less than float32: they underflow.
    """
    cells = _at_least_single(maps.flatten(-2))
    weights = nn.functional.logsigmoid((cells - threshold) / tau).softmax(-1)
    return (weights * cells).sum(-1)


class Heads(nn.Module):
    """A linear head per modality into one space of width `dim`: for image cells (a 1x1 convolution) and pooled sounds.

    They start as those of EZ-VSL (Mo and Morgado, ECCV 2022).
    """

    def __init__(self, encoder_dim: int, dim: int) -> None:
        super().__init__()
        self.image, self.audio = nn.Conv2d(encoder_dim, dim, kernel_size=1), nn.Linear(encoder_dim, dim)
        nn.init.kaiming_normal_(self.image.weight, mode="fan_out")
        nn.init.trunc_normal_(self.audio.weight, std=0.01)

    def forward(self, image_map: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, D, h, w)`` and ``(B, D)`` to unit vectors, ``(B, dim, h, w)`` and ``(B, dim)``."""
        return l2_normalize(self.image(image_map), dim=1), l2_normalize(self.audio(audio))


def identity_heads(dim: int) -> Heads:
    """Heads that start as the identity, so that a method starts from the encoder's own space."""
    heads = Heads(dim, dim)
    nn.init.dirac_(heads.image.weight)
    nn.init.eye_(heads.audio.weight)
    for name, parameter in heads.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return heads


def mlp(encoder_dim: int, dim: int, *, cells: bool = False) -> nn.Sequential:
    """``encoder_dim -> dim -> dim`` with a ReLU between, on vectors, or on every cell of a map (1x1 convolutions)."""
    if cells:
        return nn.Sequential(nn.Conv2d(encoder_dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))
    return nn.Sequential(nn.Linear(encoder_dim, dim), nn.ReLU(), nn.Linear(dim, dim))


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Exponential moving average ``q <- momentum q + (1 - momentum) p`` of a module's parameters, not its buffers."""
    for q, p in zip(average.parameters(), module.parameters(), strict=True):
        q.mul_(momentum).add_(p, alpha=1 - momentum)


def identity_linear(dim: int) -> nn.Linear:
    """A linear layer that starts as the identity, so that a method starts from the encoder's own space."""
    layer = nn.Linear(dim, dim)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def log_mean_exp(x: Tensor, dim: int = -1) -> Tensor:
    """``log(mean(exp(x)))``: a maximum that listens to the runners-up, and equals `x` where all are equal."""
    return torch.logsumexp(x, dim) - math.log(x.shape[dim])


def diagonal_cross_entropy(logits: Tensor) -> Tensor:
    """Mean over the rows of ``(n, n)`` logits of the cross-entropy whose target is the diagonal; 0 when n is 0."""
    return (torch.logsumexp(logits, 1) - logits.diagonal()).sum() / max(len(logits), 1)


def symmetric_cross_entropy(logits: Tensor) -> Tensor:
    """``CE(L) + CE(L^T)``, the sum of both directions of the contrastive (InfoNCE) loss on ``(n, n)`` logits."""
    return diagonal_cross_entropy(logits) + diagonal_cross_entropy(logits.T)


def binary_contrast(positives: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross-entropy of logits of any shape, half over the positives and half over the negatives, if any."""
    return (mean(nn.functional.softplus(-positives)) + mean(nn.functional.softplus(negatives))) / 2


def mean(x: Tensor) -> Tensor:
    """The mean of all elements; 0, with a gradient, where there are none."""
    return x.sum() / max(x.numel(), 1)


def require_text(features: Features) -> Tensor:
    """The class names' embeddings ``(N, D)``, or an `AvlocError`: none are disclosed, or the encoder has none."""
    if features.text is None:
        raise AvlocError(
            "This method reads the class names' text, but got none: use hints: vocabulary or more, and an encoder with "
            "a text tower."
        )
    return features.text


def require_labels(batch: Batch) -> Tensor:
    """The video-level labels ``(B, N)``, multi-hot, or an `AvlocError`: the batch has none."""
    if batch.labels is None:
        raise AvlocError("This method learns from video-level labels, but the batch has none.")
    return batch.labels


def labelled_sources(labels: Tensor) -> Tensor:
    """``(B, N)`` multi-hot labels as a list of sources ``(B, K)``, padded with -1."""
    return _highest(labels, (labels > 0).sum(1))


def queried_sources(batch: Batch, probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """Which classes a method maps, as a list of sources: disclosed ones, else what its own detector finds.

    Where the batch says how many sources sound, that many of the most probable; where it has only the vocabulary, all
    above `threshold`, and at least the most probable one.

    Args:
        batch: The clips with their hints.
        probabilities: ``(B, N)``, the method's belief that each class sounds.
        threshold: Of a probability.

    Raises:
        AvlocError: No classes are disclosed.
    """
    if batch.sources is not None:
        return batch.sources
    if not batch.classes:
        raise AvlocError("This method maps named classes, but knows none: use hints: vocabulary, count or oracle.")
    if batch.source_counts is not None:
        return _highest(probabilities, batch.source_counts)
    return _highest(probabilities, (probabilities > threshold).sum(1).clamp_min(1))


def _highest(scores: Tensor, counts: Tensor) -> Tensor:
    """Per row the indices of its `counts` highest scores, highest first, ties by index, padded with -1."""
    counts = counts.clamp_max(scores.shape[1])
    width = int(counts.max()) if len(counts) else 0
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :width]
    rank = torch.arange(width, device=scores.device)
    return torch.where(rank < counts[:, None], order, -1)


def gather_sources(table: Tensor, sources: Tensor) -> Tensor:
    """Rows of an ``(N, D)`` table for a list of sources: ``(B, K, D)``. The padding gets row 0: mask it."""
    return table[sources.clamp_min(0)]


def named_predictions(
    batch: Batch, sources: Tensor, maps: Tensor, probabilities: Tensor | None = None
) -> list[Prediction]:
    """One map per source, called by its class.

    Args:
        batch: The clips.
        sources: A list of sources ``(B, K)``.
        maps: ``(B, K, h, w)``, higher where the source is more likely.
        probabilities: ``(B, N)``, that each class sounds; ``None``: the method has no opinion.
    """
    found = []
    beliefs = None if probabilities is None else probabilities.detach().float().cpu().numpy()
    arrays = maps.detach().float().cpu().numpy()
    for clip, chosen in enumerate(sources.tolist()):
        kept = [k for k, source in enumerate(chosen) if source >= 0]
        classes = [chosen[k] for k in kept]
        scores = None if beliefs is None else beliefs[clip, classes]
        labels = tuple(batch.classes[source] for source in classes)
        found.append(Prediction(batch.ids[clip], arrays[clip, kept], labels, scores))
    return found


def unnamed_predictions(batch: Batch, maps: Tensor) -> list[Prediction]:
    """Maps ``(B, Q, h, w)`` of methods that do not know which source they show."""
    arrays = maps.detach().float().cpu().numpy()
    return [Prediction(id, arrays[clip]) for clip, id in enumerate(batch.ids)]
