"""AudioCLIP against the official model and against T-VSL's copy of it that returns tokens."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avloc.functional import l2_normalize
from avloc_plugins.encoders.audioclip.audio import ESResNeXt, from_int16
from avloc_plugins.encoders.audioclip.encoder import AudioCLIP

pytestmark = pytest.mark.golden

PROMPTS = (
    "dog barking", "female speech, woman speaking", "playing violin, fiddle", "cattle, bovinae cowbell", "airplane",
    "people eating",
)  # fmt: skip
SCALES = pytest.mark.parametrize("scale", [32768, 1])
SIZES = pytest.mark.parametrize("size", [(224, 224), (224, 448)], ids=["224x224", "224x448"])


@pytest.fixture(scope="module", autouse=True)
def two_threads_without_gradients() -> Iterator[None]:
    """As in the recordings: the number of threads affects the last bit of sums; see `close_sound`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fill(golden_module: Callable[[str], ModuleType]) -> ModuleType:
    return golden_module("fill.py")


@pytest.fixture(scope="module")
def model(fill: ModuleType) -> AudioCLIP:
    model = AudioCLIP(weights="random")
    for name, tensor in model.state_dict().items():
        if not name.endswith(fill.KEEP):
            tensor.copy_(torch.as_tensor(fill.fill(name, tensor.shape)))
    return model


@pytest.fixture(scope="module")
def original(golden_folder: Path) -> dict[str, Any]:
    return dict(np.load(golden_folder / "audioclip/audioclip_orig.npz"))


@pytest.fixture(scope="module")
def tvsl(golden_folder: Path) -> dict[str, Any]:
    return dict(np.load(golden_folder / "audioclip/audioclip_tvsl.npz"))


@pytest.fixture(scope="module")
def waves(fill: ModuleType) -> Tensor:
    return torch.as_tensor(fill.fixed_audio(2))[:, 0]


@pytest.fixture(scope="module")
def embeddings(model: AudioCLIP, fill: ModuleType, waves: Tensor) -> dict[str, Tensor]:
    """Of the three modalities, pooled, and not normalized."""
    return {
        "image": model.encode_image(torch.as_tensor(fill.fixed_image(2)))[1],
        "text": model.encode_text(PROMPTS),
        "audio": model.encode_audio(waves)[1],
    }


def error(found: Tensor, expected: Any) -> float:
    """The largest error, in relation to the largest value."""
    expected = np.asarray(expected)
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def close(found: Tensor, expected: Any) -> None:
    assert error(found, expected) <= 1e-5


def close_sound(model: AudioCLIP, waves: Tensor, recorded: Mapping[str, Any]) -> None:
    """The audio tower's outputs to 1e-5 or, on a machine that rounds differently, to their rounding error.

    With these weights the tower multiplies errors by thousands: in half the digits of float32 or less its outputs
    are those of float64. Where sums are formed in the recorded order they are the recorded ones in all digits.
    """
    decibels = model.audio.decibels(model.audio.spectrum(from_int16(waves * model.scale)))
    found = outputs(model, decibels)
    for part, expected in recorded.items():
        if error(found[part], expected) > 1e-5:
            exact = copy.deepcopy(model)
            exact.audio.double()
            assert error(found[part], expected) <= 4 * error(found[part], outputs(exact, decibels.double())[part]), part


def outputs(model: AudioCLIP, decibels: Tensor) -> dict[str, Tensor]:
    x = model.audio.backbone(decibels)
    tokens, pooled = model.audio.pool(x)
    return {"map": x, "tokens": tokens.permute(0, 3, 2, 1).flatten(1, 2), "pooled": pooled}  # rows of frequency first


def test_names_and_shapes_are_the_official_ones(model: AudioCLIP, golden_folder: Path) -> None:
    listed = json.loads((golden_folder / "audioclip/state_dict.json").read_text(encoding="utf-8"))
    official = {entry["key"]: (entry["shape"], entry["dtype"]) for entry in listed["keys"]}
    ours = {
        name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in model.state_dict().items()
    }
    assert ours == official
    assert len(ours) == listed["n_keys"]
    assert sum(parameter.numel() for parameter in model.parameters()) == listed["n_params"]


def test_text(model: AudioCLIP, original: Mapping[str, Any], embeddings: Mapping[str, Tensor]) -> None:
    np.testing.assert_array_equal(model.tokenizer(list(PROMPTS)), original["text_tokens"])
    close(embeddings["text"], original["text"])


def test_image(
    model: AudioCLIP, fill: ModuleType, original: Mapping[str, Any], embeddings: Mapping[str, Tensor]
) -> None:
    close(embeddings["image"], original["image"])
    close(model.encode_image(torch.as_tensor(fill.fixed_image(2)))[2], original["image_layer4"])


def test_text_of_the_whole_released_model(model: AudioCLIP, golden_folder: Path) -> None:
    """T-VSL's table of class names; its two mixed-up names stand in the order of the file."""
    whole = np.load(golden_folder / "tvsl/tvsl_e2e.npz")
    names = [str(name) for name in whole["names"]]
    close(l2_normalize(model.encode_text(names)), whole["text_all"])


@SIZES
def test_released_tokens(
    model: AudioCLIP,
    fill: ModuleType,
    tvsl: Mapping[str, Any],
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "position", "released")
    tokens, pooled, backbone = model.encode_image(torch.as_tensor(fill.fixed_image(2, *size)))
    name = f"{size[0]}x{size[1]}"
    close(tokens.flatten(2).mT, tvsl[f"image_tokens_raw_{name}"])
    close(torch.nn.functional.normalize(tokens.flatten(2).mT, dim=2), tvsl[f"image_tokens_{name}"])
    close(pooled, tvsl["image_pooled" if name == "224x224" else f"image_pooled_{name}"])
    if name != "224x224":
        close(backbone, tvsl[f"image_layer4_{name}"])


def test_spectrum(model: AudioCLIP, waves: Tensor, original: Mapping[str, Any]) -> None:
    """Recorded of waves in [-1, 1], without the step from 16-bit integers."""
    spectrum = torch.view_as_real(model.audio.spectrum(waves))
    assert list(spectrum.shape) == original["spec_shape"].tolist()
    close(spectrum[:, ::16, ::16], original["spec_sub"])


def test_decibels(model: AudioCLIP, waves: Tensor, original: Mapping[str, Any]) -> None:
    decibels = model.audio.decibels(model.audio.spectrum(from_int16(waves * model.scale)))[:, None]
    assert list(decibels.shape) == original["audio_db_shape"].tolist()
    np.testing.assert_allclose(decibels[..., ::8, ::8], original["audio_db"], rtol=0, atol=0.05)


@SCALES
def test_decibels_of_both_amplitude_conventions(
    model: AudioCLIP, waves: Tensor, tvsl: Mapping[str, Any], scale: int
) -> None:
    decibels = model.audio.decibels(model.audio.spectrum(from_int16(waves * scale)))
    found = [decibels.min(), decibels.max(), decibels.mean(), decibels.std()]
    np.testing.assert_allclose(found, tvsl[f"audio_db_stats_x{scale}"], rtol=0, atol=0.05)


@SCALES
def test_sound(
    model: AudioCLIP,
    waves: Tensor,
    original: Mapping[str, Any],
    tvsl: Mapping[str, Any],
    scale: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "scale", float(scale))
    recorded = {"tokens": tvsl[f"audio_tokens_x{scale}"], "pooled": tvsl[f"audio_pooled_x{scale}"]}
    if scale == 32768:  # the original's own convention
        np.testing.assert_array_equal(recorded["pooled"], original["audio"])
        recorded["map"] = original["audio_layer4"]
    close_sound(model, waves, recorded)


def test_shapes_of_sounds_of_any_length(tvsl: Mapping[str, Any]) -> None:
    with torch.device("meta"):  # shapes alone
        tower = ESResNeXt().eval()
    for samples, *expected in tvsl["len_to_shapes"].tolist():
        decibels = tower.decibels(tower.spectrum(torch.empty(1, samples, device="meta")))
        tokens, _ = tower.pool(tower.backbone(decibels))
        assert [*decibels.shape[2:], *reversed(tokens.shape[2:])] == expected
