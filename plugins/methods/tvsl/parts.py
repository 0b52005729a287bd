"""What the variants of T-VSL share: switches, prompts and projections."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avloc.functional import l2_normalize


@dataclass(frozen=True, slots=True)
class Switches:
    """What every variant can leave out (the paper's Table 3), and its prompts (Table 6).

    Attributes:
        audio_conditioning, image_conditioning: Gate the tokens by the text (equation 5) and classify what is left
            (equation 7). Off: the tokens stay as they are, and that half of equation (7) is left out.
        correspondence: Equations (8) and (9). Off: the map compares the mean audio token with the image tokens.
        prompt_length: Learned prompt vectors that every class name attends to; 0: none.
    """

    audio_conditioning: bool = True
    image_conditioning: bool = True
    correspondence: bool = True
    prompt_length: int = 0


class Prompts(nn.Module):
    """Learned context for class names: each attends to the prompt vectors and adds what it reads.

    Without any, a name stays as it is.

    The paper learns prompt words in front of the text tower (as CoOp does). A method here sees text embeddings only,
    so its prompts live in the joint space. The output starts at zero: untrained, it is the plain text.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.length = length
        if not length:
            return
        self.vectors = nn.Parameter(torch.randn(length, dim) / math.sqrt(dim))
        self.output = nn.Linear(dim, dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, text: Tensor) -> Tensor:
        """``(N, D)`` to ``(N, D)``."""
        if not self.length:
            return text
        text = l2_normalize(text)
        attention = (text @ self.vectors.T).softmax(dim=1)
        context: Tensor = self.output(attention @ self.vectors)
        return text + context


class GatedMLP(nn.Sequential):
    """``w x + (1 - w) MLP(x)`` with a learned scalar w that starts at 1: the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self:
            y = layer(y)
        return self.gate * x + (1 - self.gate) * y


def average_linear(dim: int) -> nn.Linear:
    """A linear layer that starts as the average of its two inputs ``(..., 2 D)``."""
    layer = nn.Linear(2 * dim, dim)
    nn.init.zeros_(layer.bias)
    layer.weight.data = torch.cat([torch.eye(dim), torch.eye(dim)], dim=1) / 2
    return layer
