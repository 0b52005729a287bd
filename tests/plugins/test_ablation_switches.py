"""The switches of the ablation: what each removes from the loss and the map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features, Method, get_component

SWITCHES = ("audio_conditioning", "image_conditioning", "correspondence")
NAMES = ("bell", "drum", "horn")
D = 8


def world() -> tuple[Features, Batch]:
    """Three clips with two disclosed sources each."""
    torch.manual_seed(0)
    image, audio = torch.randn(3, D, 4, 4), torch.randn(3, D, 5, 2)
    features = Features(image, image.mean((2, 3)), audio, audio.mean((2, 3)), text=torch.randn(3, D))
    hints = torch.tensor([[0, 1], [1, 2], [2, 0]])
    labels = torch.zeros(3, 3).scatter(1, hints, 1.0)
    ids = ("a", "b", "c")
    return features, Batch(ids, torch.ones(3, dtype=torch.int64), ids, NAMES, sources=hints, labels=labels)


def built(name: str, **switches: bool) -> Any:
    torch.manual_seed(0)
    method: type[Method] = get_component("method", name)
    return method(EncoderInfo(D), NAMES, **switches)


def maps(method: Method, features: Features, batch: Batch) -> Tensor:
    with torch.no_grad():
        return torch.stack([torch.from_numpy(found.maps) for found in method.localize(features, batch)])


@pytest.mark.parametrize("name", ["tvsl", "tvsl_mil"])
def test_every_switch_changes_what_is_learned_or_mapped(name: str) -> None:
    features, batch = world()
    whole = built(name)
    losses, map = whole.loss(features, batch, Context()), maps(whole, features, batch)
    assert set(losses) >= {"correspondence"}
    assert "correspondence" not in built(name, correspondence=False).loss(features, batch, Context())
    for switch in ("audio_conditioning", "image_conditioning"):
        changed = built(name, **{switch: False})
        other = maps(changed, features, batch)
        terms = changed.loss(features, batch, Context())
        same = all(torch.equal(terms[key], losses[key]) for key in losses if key in terms) and len(terms) == len(losses)
        assert not (same and torch.allclose(other, map)), switch


def test_without_conditioning_every_name_looks_for_the_whole_sound() -> None:
    features, batch = world()
    bare = maps(built("tvsl_mil", audio_conditioning=False, image_conditioning=False), features, batch)
    assert torch.allclose(bare[:, 0], bare[:, 1])
    whole = maps(built("tvsl_mil"), features, batch)
    assert not torch.allclose(whole[:, 0], whole[:, 1])


def test_without_image_conditioning_a_map_is_what_fits_the_sound() -> None:
    features, batch = world()
    method = built("tvsl_mil", image_conditioning=False)
    with torch.no_grad():
        image, audio, text = method.project(features)
        expected = (method.query(audio, text[batch.sources]) @ image.mT).clamp_min(0).reshape(3, 2, 4, 4)
    assert torch.allclose(maps(method, features, batch), expected)
