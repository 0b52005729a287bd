"""Losses of the contrastive family against the official values, in float64."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from avloc_plugins.methods.ezvsl import ezvsl_loss

pytestmark = pytest.mark.golden


def test_ezvsl(golden_folder: Path, golden_module: Callable[[str], ModuleType]) -> None:
    inputs = golden_module("losses/inputs.py")
    values = json.loads((golden_folder / "losses/values.json").read_text(encoding="utf-8"))
    checked = 0
    for name, losses in values.items():
        case = re.fullmatch(r"B(\d+)_D(\d+)_gain([\d.]+)", name)
        if case is None:
            continue
        pair = inputs.unit_pair(B=int(case[1]), D=int(case[2]), gain=float(case[3]))
        for key, expected in losses.items():
            variant = re.fullmatch(r"ezvsl(?:_tau([\d.]+))?", key)
            if variant is None:
                continue
            image_map, audio = (torch.tensor(x, requires_grad=True) for x in pair)
            loss = ezvsl_loss(image_map, audio, **({"tau": float(variant[1])} if variant[1] else {}))
            loss.backward()  # type: ignore[no-untyped-call]
            assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)
            assert image_map.grad is not None and audio.grad is not None
            assert image_map.grad.norm().item() == pytest.approx(expected["grad_v"], rel=1e-9)
            assert audio.grad.norm().item() == pytest.approx(expected["grad_a"], rel=1e-9)
            checked += 1
    assert checked >= 4
