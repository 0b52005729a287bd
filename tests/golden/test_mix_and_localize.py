"""Mix-and-Localize against the official loss, its gradients, and the official network's outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avloc.functional import cosine_map, matched_similarity
from avloc_plugins.methods.mix_and_localize import cycle_loss

pytestmark = pytest.mark.golden

GAIN = 0.45
"""What the records of ``values.json`` were made with, at seeds 0 (K = 2) and 1 (K = 3): their keys do not say."""


def grouped(image_map: Tensor, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images ``(B, D, h, w)`` by mixture, and the heads' vectors ``(2 G, K, D)`` at both times."""
    groups = len(heads) // 2
    return image_map.unflatten(0, (groups, -1)), heads[:groups], heads[groups:]


def load(golden_folder: Path, name: str) -> dict[str, Any]:
    with np.load(golden_folder / "mix_and_localize" / name) as arrays:
        return dict(arrays)


def test_loss_and_gradients(golden_folder: Path) -> None:
    given, expected = (load(golden_folder, f"mixloc_loss_{part}.npz") for part in ("in", "out"))
    image_map, heads = (torch.tensor(given[name], requires_grad=True) for name in ("v", "a"))
    loss = cycle_loss(*grouped(image_map, heads))
    loss.backward()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(loss.item(), expected["loss"], rtol=1e-5)
    for x, name in ((image_map, "gv"), (heads, "ga")):
        assert x.grad is not None
        np.testing.assert_allclose(x.grad, expected[name], rtol=1e-5, atol=1e-6)


def test_the_networks_loss_and_maps(golden_folder: Path) -> None:
    found = load(golden_folder, "mixloc_net_out.npz")
    image_map, heads = torch.tensor(found["v"]), torch.tensor(found["a"])
    np.testing.assert_allclose(cycle_loss(*grouped(image_map, heads)).item(), found["loss"], rtol=1e-5)
    images, nodes = len(image_map), heads.flatten(0, 1)
    maps = cosine_map(image_map, nodes.expand(images, -1, -1)).numpy()  # every head's on every image
    factor = found["av_score"].ravel() @ maps.ravel() / (maps.ravel() @ maps.ravel())  # a weight of display only
    np.testing.assert_allclose(factor * maps, found["av_score"], rtol=1e-5, atol=1e-6)
    shown = np.arange(len(nodes))
    np.testing.assert_allclose(factor * maps[shown % images, shown], found["av_map"], rtol=1e-5, atol=1e-6)


def test_losses_in_double_precision(golden_folder: Path, golden_module: Callable[[str], ModuleType]) -> None:
    values = json.loads((golden_folder / "losses/values.json").read_text(encoding="utf-8"))
    inputs, checked = golden_module("losses/inputs.py"), 0
    for key, expected in values.items():
        if case := re.fullmatch(r"mixlocalize_G(\d+)_K(\d+)_D(\d+)_(\d+)x(\d+)", key):
            shape = dict(zip(("G", "K", "D", "h", "w"), map(int, case.groups()), strict=True))
            v, heard = inputs.mixture(shape["K"] - 2, **shape, gain=GAIN)
            image_map = torch.tensor(v, requires_grad=True)
            heads = [torch.tensor(head, requires_grad=True) for head in heard]
            loss = cycle_loss(*grouped(image_map, torch.stack(heads, 1)))
            loss.backward()  # type: ignore[no-untyped-call]
            assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)
            named = {"grad_v": image_map, **{f"grad_h{k}": head for k, head in enumerate(heads)}}
            for name in named.keys() & expected.keys():
                gradient = named[name].grad
                assert gradient is not None and gradient.norm().item() == pytest.approx(expected[name], rel=1e-9), name
            returns = (image_map.detach(), torch.stack(heads, 1).detach())
            assert _returned(*grouped(*returns)) == pytest.approx(expected["acc"])
            checked += 1
    assert checked


def _returned(images: Tensor, mixture1: Tensor, mixture2: Tensor) -> float:
    """How often the most likely end of a walk is its start."""
    count = images.shape[1]
    fits = [matched_similarity(images.flatten(0, 1), m.repeat_interleave(count, 0)).amax((2, 3)) / 0.07
            for m in (mixture1, mixture2)]  # fmt: skip
    to_sound, to_image = (fit.unflatten(0, (-1, count)) for fit in fits)
    walks = to_image.softmax(1).mT @ to_sound.softmax(2)  # (G, K, K)
    return (walks.argmax(2) == torch.arange(count)).double().mean().item()
