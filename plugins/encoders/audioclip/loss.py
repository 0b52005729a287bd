"""What AudioCLIP is trained with: a contrast of every two modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def logits(first: Tensor, second: Tensor, log_scale: Tensor) -> Tensor:
    """``(A, D)`` and ``(B, D)`` embeddings to ``(A, B)`` cosines times a learned scale between 1 and 100."""
    return log_scale.exp().clamp(1, 100) * normalize(first, dim=1) @ normalize(second, dim=1).T


def contrastive_loss(pairs: Sequence[Tensor], penalty: Tensor | float = 0.0) -> Tensor:
    """AudioCLIP's loss of the logits of one pair of modalities, or of all three.

    The cross-entropies of both directions are summed, and divided by the factorial of the number of pairs, as the
    official code does: by 1 for one pair, by 6 for three.

    Args:
        pairs: `logits` per pair of modalities, each ``(B, B)``; row i and column i belong together.
        penalty: `Fbsp.penalty`, where sounds take part.
    """
    terms = []
    for scores in pairs:
        own = torch.arange(len(scores), device=scores.device)
        terms += [cross_entropy(scores, own), cross_entropy(scores.T, own)]
    return torch.stack(terms).sum() / math.factorial(len(pairs)) + penalty
