"""AVGN's group encoder: class tokens attend to the tokens of one modality and become one feature per class.

Xu et al., "GroupViT", CVPR 2022, as AVGN uses it. Parameters carry the names of AVGN's release.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class SelfAttention(nn.Module):
    """Multi-head self-attention with one joint projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        y: Tensor = self.proj(attend(q, k, v, self.heads))
        return y


class CrossAttention(nn.Module):
    """Multi-head attention of queries to keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        y: Tensor = self.proj(attend(self.q_proj(queries), self.k_proj(keys), self.v_proj(keys), self.heads))
        return y


class Assignment(CrossAttention):
    """Every key token is distributed over the queries (softmax over the queries), which then average their shares."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, heads=1)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        scores = self.q_proj(queries) @ self.k_proj(keys).mT / queries.shape[-1] ** 0.5  # (B, C, n)
        shares = scores.softmax(dim=1)
        y: Tensor = self.proj(shares @ self.v_proj(keys) / (shares.sum(dim=2, keepdim=True) + 1))
        return y


class Section(nn.Module):
    """Pre-norm transformer block with stochastic depth."""

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = SelfAttention(dim, heads), MLP(dim, 4 * dim)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, x: Tensor) -> Tensor:
        """Drops the whole residual branch of random clips during training."""
        if not self.training or not self.drop_path:
            return x
        keep = 1 - self.drop_path
        return x * torch.empty(len(x), 1, 1, device=x.device, dtype=x.dtype).bernoulli_(keep) / keep


class CrossBlock(nn.Module):
    """Post-norm cross-attention block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn, self.mlp = CrossAttention(dim, heads), MLP(dim, 4 * dim)
        self.norm2, self.norm_post = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        x = queries + self.attn(queries, keys)
        y: Tensor = self.norm_post(x + self.mlp(self.norm2(x)))
        return y


class Grouping(nn.Module):
    """Class tokens ``(B, C, D)`` collect the tokens ``(B, n, D)`` that belong to them."""

    def __init__(self, dim: int, classes: int, heads: int) -> None:
        super().__init__()
        self.norm_tokens, self.norm_x = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm_post_tokens, self.norm_new_x = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp_inter = MLP(classes, dim // 2)
        self.pre_assign_attn = CrossBlock(dim, heads)
        self.assign = Assignment(dim)
        self.mlp_channels = MLP(dim, 4 * dim)

    def forward(self, x: Tensor, groups: Tensor) -> Tensor:
        x = self.norm_x(x)
        groups = self.norm_post_tokens(self.mlp_inter(self.norm_tokens(groups).mT).mT)  # mixes the classes
        groups = self.pre_assign_attn(groups, x)
        groups = groups + self.assign(groups, x)
        y: Tensor = groups + self.mlp_channels(self.norm_new_x(groups))
        return y


class GroupEncoder(nn.Module):
    """Self-attention over tokens and class tokens together, then grouping.

    Args:
        dim: Width.
        classes: How many class tokens.
        depth: Self-attention blocks.
        heads: Attention heads.
        drop_path: Share of branches dropped in training.
    """

    def __init__(self, dim: int, classes: int, *, depth: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Section(dim, heads, drop_path) for _ in range(depth)))
        self.grouping = Grouping(dim, classes, heads)

    def forward(self, x: Tensor, class_tokens: Tensor) -> Tensor:
        """Tokens ``(B, n, D)`` and class tokens ``(C, D)`` to one feature per clip and class, ``(B, C, D)``."""
        count = x.shape[1]
        both = self.blocks(torch.cat([x, class_tokens.expand(len(x), -1, -1)], dim=1))
        y: Tensor = self.grouping(both[:, :count], both[:, count:])
        return y


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention with the channels split into heads."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
