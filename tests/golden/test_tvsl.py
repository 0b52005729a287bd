"""T-VSL's released variant against the official head: losses, gradients and maps on given tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features
from avloc_plugins.methods.tvsl import TVSL

pytestmark = pytest.mark.golden

GATES = {
    "visual_proj.gate": "vp_w", "audio_proj.gate": "ap_w", "img_cls_proj.gate": "icp_w",
    "aud_cls_proj.gate": "acp_w", "aud_img_proj.gate": "aip_w", "img_aud_proj.gate": "iap_w",
}  # fmt: skip
"""Our names of the gates to the official ones; every other parameter carries its official name."""

TERMS = {"detection": "mcl", "image": "image_cls", "audio": "audio_cls", "correspondence": "contrastive"}


def official(name: str) -> str:
    name = name.removeprefix("head.")
    return GATES.get(name, name)


def released(dim: int, gates: Tensor, fill: ModuleType) -> TVSL:
    method = TVSL(EncoderInfo(dim), (), variant="released")
    state = {}
    for name, value in method.state_dict().items():
        state[name] = gates if name.endswith(".gate") else torch.as_tensor(fill.fill(official(name), value.shape))
    method.load_state_dict(state)
    return method


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, (height, width))


@pytest.mark.parametrize("case", ["b1", "gate1", "single", "wide"])
def test_head(case: str, golden_folder: Path, golden_module: Callable[[str], ModuleType]) -> None:
    given = {k: torch.as_tensor(v) for k, v in np.load(golden_folder / f"tvsl/tvsl_head_{case}_in.npz").items()}
    expected: dict[str, Any] = dict(np.load(golden_folder / f"tvsl/tvsl_head_{case}_out.npz"))
    hints = torch.stack([given["cls1"], given["cls2"]], dim=1)
    count, text = len(hints), given["text_all"]
    image_map = as_map(given["img_tokens"], *expected["heat1"].shape[2:])
    audio_map = as_map(given["aud_tokens"], given["aud_tokens"].shape[1], 1)
    features = Features(image_map, image_map.mean((2, 3)), audio_map, audio_map.mean((2, 3)), text=text)
    batch = Batch(
        ids=tuple(map(str, range(count))), groups=tuple(map(str, range(count))), tiles=torch.ones(count).long(),
        classes=tuple(f"class {n}" for n in range(len(text))), sources=hints,
        labels=torch.zeros(count, len(text)).scatter(1, hints, 1),
    )  # fmt: skip
    method = released(text.shape[1], given["gates"].float(), golden_module("fill.py"))

    losses = method.loss(features, batch, Context())
    for term, key in TERMS.items():
        assert losses[term].item() == pytest.approx(float(expected[key]), rel=1e-5), term
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(float(expected["total"]), rel=1e-5)

    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None
        norm = parameter.grad.abs().sum().item()
        assert norm == pytest.approx(float(expected[f"grad_{official(name)}"]), rel=1e-5, abs=1e-6), name

    for n, found in enumerate(method.localize(features, batch)):
        heat = np.concatenate([expected["heat1"][n], expected["heat2"][n]])
        np.testing.assert_allclose(found.maps, heat, atol=1e-5 * np.abs(heat).max())
        assert found.labels == tuple(f"class {k}" for k in hints[n].tolist())
