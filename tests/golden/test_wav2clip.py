"""Wav2CLIP's audio tower against the outputs of the official one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from avloc_plugins.encoders.wav2clip import Standardize, Wav2CLIP

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def expected(golden_folder: Path) -> dict[str, Any]:
    with np.load(golden_folder / "wav2clip" / "wav2clip_out.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def waves(golden_module: Callable[[str], ModuleType]) -> torch.Tensor:
    return torch.from_numpy(golden_module("fill.py").fixed_audio(2, 48000, 16000)[:, 0])


@pytest.fixture(scope="module")
def encoders(golden_module: Callable[[str], ModuleType]) -> dict[Standardize, Wav2CLIP]:
    """The two ways to standardize, with the golden weights in the audio tower."""
    fill, both = golden_module("fill.py").fill, {}
    for standardize in ("clip", "batch"):
        encoder = both[standardize] = Wav2CLIP(weights="random", standardize=standardize)  # type: ignore[arg-type]
        names = encoder.audio.state_dict()
        encoder.audio.load_state_dict({name: torch.from_numpy(fill(name, t.shape)) for name, t in names.items()})
    return both  # type: ignore[return-value]


def same(found: torch.Tensor, expected: Any) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


@torch.no_grad()
def test_the_release_s_embeddings_depend_on_the_batch(encoders: Any, waves: Any, expected: Any) -> None:
    same(encoders["batch"].encode_audio(waves)[1], expected["emb"])
    same(encoders["batch"].encode_audio(waves[:1])[1], expected["emb_single"])


@torch.no_grad()
def test_per_clip_a_clip_is_embedded_as_if_it_were_alone(encoders: Any, waves: Any, expected: Any) -> None:
    same(encoders["clip"].encode_audio(waves)[1][:1], expected["emb_single"])
    assert np.abs(encoders["clip"].encode_audio(waves)[1].numpy() - expected["emb"]).max() > 1e-3


@torch.no_grad()
def test_the_stages_on_the_way(encoders: Any, waves: Any, expected: Any) -> None:
    encoder = encoders["batch"]
    power = torch.stft(waves, 512, 353, window=encoder.window, return_complex=True).abs().square()
    same(power[:, None], expected["spec"])
    layer4 = encoder.audio.backbone(encoder.spectrum(waves))
    same(layer4, expected["layer4"])
    same(layer4.mean((2, 3)), expected["feat"])


@torch.no_grad()
def test_a_token_is_its_cell_through_the_head(encoders: Any, waves: Any, expected: Any) -> None:
    tokens = encoders["batch"].encode_audio(waves)[0]  # (B, D, time, frequency)
    cells = torch.from_numpy(expected["layer4"])
    head = encoders["batch"].audio.audio_transform["sequential"]
    for time, frequency in ((0, 0), (4, 2), (1, 8)):
        same(tokens[:, :, time, frequency], head(cells[:, :, frequency, time]).numpy())
