"""The space of names: what classifiers believe, as sums of their class names' vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGES, SOUNDS = 1000, 521


class Space(nn.Module):
    """Names resemble each other by ``exp((cos - 1) / tau)`` of their centered sentence embeddings.

    A vector's coordinates are those of that kernel's feature space, seen from all class names (Nystroem): with K the
    kernel between them and k(x) the kernel from x to them, ``k(x) K^(-1/2)``. One more coordinate is `blank` in every
    image token and 0 elsewhere: "something else", so that weak evidence gives small cosines.

    Args:
        names: ``(1521, 384)`` sentence embeddings of ImageNet's and AudioSet's class names.
        threshold: An image class counts for what its logit exceeds this.
        heard: So many classes of a sound patch are its tokens, the most probable, each as long as it is probable.
        tau: How quickly likeness falls with the angle between two names.
        blank: The last coordinate of image tokens.
    """

    def __init__(self, names: Tensor, *, threshold: float, heard: int, tau: float, blank: float) -> None:
        super().__init__()
        self.threshold, self.heard, self.tau, self.blank = threshold, heard, tau, blank
        parts = names.split([IMAGES, SOUNDS])
        self.register_buffer("common", torch.stack([part.mean(0) for part in parts]).mean(0))  # of all names
        centered = [nn.functional.normalize(part - part.mean(0), dim=1) for part in parts]
        self.register_buffer("anchors", torch.cat(centered))
        kernel = ((self.anchors @ self.anchors.T - 1) / tau).exp().double()
        values, vectors = torch.linalg.eigh(kernel)
        root = (vectors / values.clamp(min=1e-6).sqrt()) @ vectors.T  # unlike the vectors, the same everywhere
        self.register_buffer("root", root.float())
        images, sounds = self._lifted(self.anchors).split([IMAGES, SOUNDS])
        self.register_buffer("images", images)
        self.register_buffer("sounds", sounds)

    common: Tensor
    anchors: Tensor
    root: Tensor
    images: Tensor
    sounds: Tensor

    @property
    def dim(self) -> int:
        """Width D."""
        return len(self.anchors) + 1

    def _lifted(self, names: Tensor) -> Tensor:
        """Unit vectors ``(N, 384)`` to ``(N, D)``."""
        lifted = ((names @ self.anchors.T - 1) / self.tau).exp() @ self.root
        return nn.functional.pad(nn.functional.normalize(lifted, dim=1), (0, 1))

    def words(self, embeddings: Tensor) -> Tensor:
        """``(N, 384)`` sentence embeddings to ``(N, D)``."""
        return self._lifted(nn.functional.normalize(embeddings - self.common, dim=1))

    def seen(self, logits: Tensor) -> Tensor:
        """``(B, 1000, h, w)`` logits of cells to tokens ``(B, D, h, w)``."""
        evidence = (logits - self.threshold).clamp(min=0)
        tokens = torch.einsum("bchw,cd->bdhw", evidence, self.images)
        tokens[:, -1] = self.blank
        return tokens

    def told(self, logits: Tensor) -> Tensor:
        """``(B, P, 521)`` logits of patches to tokens ``(B, D, P, heard)``."""
        best = logits.sigmoid().topk(self.heard, dim=2)
        return (best.values[..., None] * self.sounds[best.indices]).permute(0, 3, 1, 2)
