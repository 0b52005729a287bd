"""Losses of OTS, Attention10k, CoarsetoFine and DSOL, and their gradients, against the official values in float64."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from avloc.functional import cosine_map, l2_normalize
from avloc_plugins.methods.attention10k import attend, attention10k_loss
from avloc_plugins.methods.coarse_to_fine import fine_loss, pair_loss
from avloc_plugins.methods.dsol import class_maps, location_loss, sounding_loss
from avloc_plugins.methods.ots import ots_loss

pytestmark = pytest.mark.golden

near = partial(pytest.approx, rel=1e-9, abs=1e-12)
ROUNDED = 1e-7
"""Approximate error of the count that CoarsetoFine's official positive term divides by."""


@pytest.fixture
def inputs(golden_module: Callable[[str], ModuleType]) -> ModuleType:
    return golden_module("losses/inputs.py")


@pytest.fixture
def value(golden_folder: Path) -> Callable[[str], tuple[dict[str, Any], tuple[str, ...]]]:
    """The one record whose key matches a pattern, and the pattern's groups."""
    values = json.loads((golden_folder / "losses/values.json").read_text(encoding="utf-8"))

    def matching(pattern: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        ((key, match),) = [(key, match) for key in values if (match := re.fullmatch(pattern, key))]
        return values[key], match.groups()

    return matching


Value = Callable[[str], tuple[dict[str, Any], tuple[str, ...]]]


def leaves(*arrays: Any) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(array, requires_grad=True) for array in arrays)


def check(loss: Tensor, expected: dict[str, Any], rel: float = 1e-9, **inputs: Tensor) -> None:
    """The value, and the norm of the gradient to each of the inputs."""
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == near(expected["loss"], rel=rel)
    for name, x in inputs.items():
        assert x.grad is not None
        assert x.grad.norm().item() == near(expected[f"grad_{name}"], rel=rel), name


@pytest.mark.parametrize("method", ["ots", "dsol"])
def test_the_best_cell_tells_images_apart(inputs: ModuleType, value: Value, method: str) -> None:
    """One loss under two names: OTS, and DSOL's first stage."""
    image_map, audio, own, *_ = inputs.dsol()
    v, a = leaves(image_map, audio)
    own = torch.tensor(own, dtype=torch.bool)
    if method == "ots":
        loss = ots_loss(l2_normalize(v[own], 1), l2_normalize(v[~own], 1), l2_normalize(a[own]))
    else:
        logits = 5 * cosine_map(v, a[:, None])[:, 0]
        loss = location_loss(logits[own], logits[~own])
    expected, _ = value(r"dsol_stage1_.*")
    assert loss.item() == near(expected["loss"])
    loss.backward()  # type: ignore[no-untyped-call]
    assert v.grad is not None and v.grad.norm().item() == near(expected["grad_v"])
    if method == "dsol":  # of OTS, both images of a pair share one row of `audio`
        assert a.grad is not None and a.grad.norm().item() == near(expected["grad_a"])


def test_dsol_second_stage(inputs: ModuleType, value: Value) -> None:
    image_map, audio, own, dictionary, heard = inputs.dsol()
    v, a = leaves(image_map, audio)
    own = torch.tensor(own, dtype=torch.bool)
    logits = 5 * cosine_map(v, a[:, None])[:, 0]
    objects = class_maps(v[own], torch.tensor(dictionary), logits[own])
    terms = sounding_loss(logits[own], logits[~own], objects, torch.tensor(heard))
    expected, _ = value(r"dsol_stage2_.*")
    assert terms["category"].item() == near(expected["cat"])
    assert 2 * terms["location"].item() == near(expected["loc"])
    check(terms["category"] + terms["location"], expected, v=v, a=a)


def test_attention10k(inputs: ModuleType, value: Value) -> None:
    v, p, n = leaves(*inputs.attention10k())
    check(attention10k_loss(v, p, n), value(r"attention10k_rng\d+")[0], v=v, p=p, n=n)


def test_attention10k_map(inputs: ModuleType, value: Value) -> None:
    attention, attended = attend(*leaves(*inputs.attention10k_map()))
    expected, _ = value(r"attention10k_map_rng\d+")
    assert attended.sum().item() == near(expected["z_sum"])
    assert attention.max().item() == near(expected["att_max"])
    assert attention.sum().item() == near(expected["att_sum"])
    assert attention.min().item() * attention[0].numel() == near(expected["att_min_times_400"])


def _present(logits: Any, threshold: float = 0.3) -> Tensor:
    """Probable classes as a list of sources."""
    probable = torch.tensor(logits).sigmoid() > threshold
    return torch.arange(probable.shape[1]).where(probable, -1)


def test_coarse_to_fine(inputs: ModuleType, value: Value) -> None:
    audio_logits, image_logits, audio, image, _ = inputs.coarse_to_fine()
    a, v = leaves(audio, image)  # (B, D, C)
    heard, seen = _present(audio_logits), _present(image_logits)
    terms = fine_loss(v.mT, a.mT, seen, heard)
    expected, _ = value(r"coarsetofine_stage2_.*")
    assert (seen >= 0).sum() * (heard >= 0).sum() == expected["eff"]
    assert terms["attract"].item() == near(expected["pos"], rel=ROUNDED)
    assert terms["repel"].item() == near(expected["neg"], rel=ROUNDED)
    check(terms["attract"] + terms["repel"], expected, rel=ROUNDED, a=a, v=v)


def test_coarse_to_fine_pairs(inputs: ModuleType, value: Value) -> None:
    logits = torch.tensor(inputs.coarse_to_fine()[-1])
    check(pair_loss(logits.requires_grad_()), value(r"coarsetofine_avc_.*")[0])
