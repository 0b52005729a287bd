"""AVGN against the official network: the heads on given features, and behind the image backbone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from avloc import Batch, EncoderInfo, Features
from avloc.functional import diagonal_cross_entropy
from avloc_plugins.methods.avgn import AVGN, localization_loss

pytestmark = pytest.mark.golden

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def keys(golden_folder: Path) -> dict[str, list[int]]:
    """Official parameter names and shapes."""
    return dict(json.loads((golden_folder / "avgn/avgn_keys.json").read_text(encoding="utf-8")))


def built(keys: Mapping[str, list[int]], fill: ModuleType) -> AVGN:
    """AVGN with the official weights: our names are the official ones."""
    classes, dim = keys["av_token"]
    method = AVGN(EncoderInfo(dim), [str(n) for n in range(classes)], dim=dim)
    for name, value in method.state_dict().items():
        assert list(value.shape) == keys[name], name
    unused = {key for key in keys if key not in method.state_dict()}
    assert all(key.startswith(("imgnet.", "audnet.", "audio_encoder.han_encoder.")) for key in unused)
    method.load_state_dict({k: torch.as_tensor(fill.fill(k, v.shape)) for k, v in method.state_dict().items()})
    return method.eval()


def check(method: AVGN, features: Features, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    of_image, other = torch.as_tensor(given["cls_v"]), torch.as_tensor(given["cls_a"])
    count, classes = len(of_image), int(given["num_class"])
    batch = Batch(
        ids=tuple(map(str, range(count))), groups=tuple(map(str, range(count))), tiles=torch.ones(count).long(),
        classes=tuple(map(str, range(classes))), sources=of_image[:, None],
    )  # fmt: skip
    image_map, queries, seen, heard = method(features, batch)
    own = queries[torch.arange(count), of_image][:, None]

    visual, _ = method.group(image_map, F.normalize(method.aud_proj(features.audio)))
    close(visual, expected["xv"])
    close(queries, expected["xa"])
    close(localization_loss(image_map, own, of_image[:, None]), expected["loc_loss"])
    close(diagonal_cross_entropy(method.fc_cls(method.av_token)), expected["token_loss"])
    visible = F.one_hot(of_image, classes).float()
    sounding = visible + F.one_hot(other, classes).float()
    prediction = F.binary_cross_entropy_with_logits(seen, visible)
    prediction = prediction + F.binary_cross_entropy_with_logits(heard, sounding)
    close(prediction, expected["pred_loss"])
    close(torch.as_tensor(np.concatenate([found.maps for found in method.localize(features, batch)])), expected["map"])


def close(found: Tensor, expected: Any) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5 * np.abs(expected).max())


def features(image_map: Any, audio: Any) -> Features:
    image_map, audio = torch.as_tensor(image_map), torch.as_tensor(audio)
    return Features(image_map, image_map.mean((2, 3)), audio[:, :, None, None], audio)


def without(layer: nn.Conv2d | nn.Linear) -> None:
    """Make a projection the identity: the recorded features come after it."""
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    layer.weight.data = torch.eye(len(layer.weight)).reshape(layer.weight.shape)


def test_heads(golden_folder: Path, golden_module: Load, keys: dict[str, list[int]]) -> None:
    given = np.load(golden_folder / "avgn/avgn_head_in.npz")
    method = built(keys, golden_module("fill.py"))
    without(method.img_proj)
    without(method.aud_proj)
    check(method, features(given["img"], given["aud"]), given, np.load(golden_folder / "avgn/avgn_head_out.npz"))


def test_network(golden_folder: Path, golden_module: Load, keys: dict[str, list[int]]) -> None:
    """The image goes through the whole network; the recorded sound enters behind its projection.

    (The fixed spectrogram that the record was made with is not part of the golden files.)
    """
    fill = golden_module("fill.py")
    expected = np.load(golden_folder / "avgn/avgn_net_out.npz")
    backbone = torchvision.models.resnet18()
    names = {name: value for name, value in backbone.state_dict().items() if not name.startswith("fc.")}
    backbone.load_state_dict({n: torch.as_tensor(fill.fill(f"imgnet.{n}", v.shape)) for n, v in names.items()}, False)
    trunk = nn.Sequential(*list(backbone.eval().children())[:-2])
    with torch.no_grad():
        image_map = trunk(torch.as_tensor(fill.fixed_image(len(expected["map"]))))

    method = built(keys, fill)
    close(method.img_proj(image_map), expected["img_proj"])
    without(method.aud_proj)
    given = np.load(golden_folder / "avgn/avgn_head_in.npz")
    check(method, features(image_map, expected["aud_proj"]), given, expected)
