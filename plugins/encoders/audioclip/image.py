"""CLIP's image tower with a token for every cell: the attention pool of its ResNet, with one query per cell."""

from __future__ import annotations

from typing import Literal

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from torch import Tensor
from torch.nn.functional import interpolate, scaled_dot_product_attention

Position = Literal["correct", "released"]
Tokens = Literal["attended", "values"]


def backbone(tower: ModifiedResNet, images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` normalized images to the last stage's map ``(B, 2048, H/32, W/32)``."""
    x: Tensor = tower.stem(images)
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        x = layer(x)
    return x


def attention_pool(pool: AttentionPool2d, x: Tensor, position: Position, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """The last stage's map ``(B, 2048, h, w)`` to tokens ``(B, D, h, w)`` and pooled ``(B, D)``.

    The pooled embedding is CLIP's: the mean cell attends to all cells of the canvas, however many tiles it has.

    Args:
        pool: CLIP's attention pool.
        x: The last stage's map.
        position: ``"correct"``: the mean has its own position embedding, as in CLIP, and those of the cells are
            resized in two dimensions if the canvas is not one tile. ``"released"``: as in T-VSL's code.
        tokens: ``"attended"``: every cell attends to all others, as in T-VSL's code. ``"values"``: its own value
            projection, without position, as in MaskCLIP (Zhou et al., ECCV 2022).
    """
    height, width = x.shape[2:]
    cells = x.flatten(2).mT  # (B, n, 2048)
    whole = torch.cat([cells.mean(1, keepdim=True), cells], 1)  # (B, 1 + n, 2048)
    if position == "correct":
        whole = whole + resized_positions(pool.positional_embedding, height, width)
        cells = whole[:, 1:]
        context = whole
    else:
        whole = whole + released_positions(pool.positional_embedding, 1 + height * width)
        cells = context = cells + released_positions(pool.positional_embedding, height * width)
    pooled = _attend(pool, whole[:, :1], whole)[:, 0]
    found = _attend(pool, cells, context) if tokens == "attended" else pool.c_proj(pool.v_proj(x.flatten(2).mT))
    return found.mT.reshape(len(x), -1, height, width), pooled


def resized_positions(table: Tensor, height: int, width: int) -> Tensor:
    """``(1 + s s, C)`` embeddings of the mean and of a square grid to ``(1 + height width, C)``, bicubic."""
    side = round((len(table) - 1) ** 0.5)
    if (height, width) == (side, side):
        return table
    grid = table[1:].T.reshape(1, -1, side, side)
    grid = interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def released_positions(table: Tensor, count: int) -> Tensor:
    """``(1 + n, C)`` embeddings to ``(count, C)`` as T-VSL's code resamples them.

    The first row stays the first, and the rest is interpolated as if the grid were a line. For the cells alone,
    without the mean, the first cell thus gets the embedding of the mean, and every other cell that of an earlier
    position.
    """
    if count == len(table):
        return table
    line = interpolate(table[1:].T[None], count - 1, mode="linear", align_corners=True)
    return torch.cat([table[:1], line[0].T])


def _attend(pool: AttentionPool2d, queries: Tensor, context: Tensor) -> Tensor:
    """``(B, q, C)`` queries over ``(B, n, C)`` cells to ``(B, q, D)``."""
    query, key, value = (
        projected.unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # (B, heads, n, C / heads)
        for projected in (pool.q_proj(queries), pool.k_proj(context), pool.v_proj(context))
    )
    found: Tensor = pool.c_proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
    return found
