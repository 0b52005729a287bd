"""The encoder `wav2clip`: shapes, canvases, batch mates, silence, prompts, options, and its two checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from avloc import AvlocError, get_component
from avloc.cli import app
from avloc_plugins.encoders.wav2clip import Wav2CLIP

SECONDS_3 = 48_000


@pytest.fixture(scope="module")
def encoder() -> Wav2CLIP:
    return Wav2CLIP(weights="random")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder."""
    monkeypatch.setenv("AVLOC_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def published(encoder: Wav2CLIP, folder: Path) -> tuple[Path, Path]:
    """Files as their authors publish them: Wav2CLIP.pt, and CLIP in half precision with three numbers beside."""
    audio, clip = folder / "Wav2CLIP.pt", folder / "ViT-B-32.pt"
    torch.save(encoder.audio.state_dict() | {"audio_encoder.spectrogram.window": torch.hann_window(512)}, audio)
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    half = {name: tensor.half() for name, tensor in encoder.clip.state_dict().items()}
    torch.save(half | {name: torch.tensor(number) for name, number in numbers.items()}, clip)
    return audio, clip


def add(path: Path, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["weights", "add", str(path), *more])
    return result.exit_code, result.output


def test_is_registered() -> None:
    assert get_component("encoder", "wav2clip") is Wav2CLIP


@torch.no_grad()
def test_tiles_of_a_canvas_are_encoded_separately(encoder: Wav2CLIP) -> None:
    canvas = noise(2, 3, 224, 448)
    tokens, pooled, backbone = encoder.encode_image(canvas)
    assert tokens.shape == (2, 512, 7, 14) and pooled.shape == (2, 512) and backbone is None
    left, right = (encoder.encode_image(frame) for frame in canvas.split(224, dim=3))
    assert torch.allclose(tokens, torch.cat([left[0], right[0]], dim=3), atol=1e-5)
    assert torch.allclose(pooled, (left[1] + right[1]) / 2, atol=1e-5)


@torch.no_grad()
def test_a_token_stands_where_its_patch_is(encoder: Wav2CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder.clip.visual.transformer, "forward", lambda x: x)  # nothing is mixed between patches
    image = torch.zeros(1, 3, 224, 224)
    changed = image.clone()
    changed[..., 64:96, 160:192] = 1
    moved = (encoder.encode_image(changed)[0] - encoder.encode_image(image)[0]).abs().sum(1)[0] > 1e-4
    assert moved.nonzero().tolist() == [[2, 5]]


def test_other_sizes_are_refused(encoder: Wav2CLIP) -> None:
    with pytest.raises(AvlocError, match=r"224 x 224 side by side, not \(224, 300\)"):
        encoder.encode_image(torch.zeros(1, 3, 224, 300))


@torch.no_grad()
def test_sound_gives_the_grid_that_info_promises(encoder: Wav2CLIP) -> None:
    assert round(encoder.info.audio_seconds * encoder.info.audio_rate) == SECONDS_3
    tokens, pooled = encoder.encode_audio(noise(2, SECONDS_3) / 10)
    assert tokens.shape == (2, encoder.info.dim, *encoder.info.audio_grid) and pooled.shape == (2, 512)


@torch.no_grad()
def test_no_clip_depends_on_its_batch_mates_unless_asked_to(encoder: Wav2CLIP) -> None:
    waves = torch.stack([noise(SECONDS_3) / 10, torch.sin(torch.arange(SECONDS_3) / 9)])
    assert torch.allclose(encoder.encode_audio(waves)[1][:1], encoder.encode_audio(waves[:1])[1], atol=1e-5)
    released = Wav2CLIP(weights="random", standardize="batch")
    assert not torch.allclose(released.encode_audio(waves)[1][:1], released.encode_audio(waves[:1])[1], atol=1e-3)
    assert released.fingerprint() != encoder.fingerprint()


@torch.no_grad()
def test_silence_is_zeros_not_noise(encoder: Wav2CLIP) -> None:
    assert encoder.spectrum(torch.zeros(1, SECONDS_3)).abs().max() < 0.01
    assert encoder.encode_audio(torch.zeros(1, SECONDS_3))[1].isfinite().all()


@torch.no_grad()
def test_class_names_are_read_as_they_are(encoder: Wav2CLIP) -> None:
    both = encoder.encode_text(["dog barking", "playing violin, fiddle"])
    assert both.shape == (2, 512)
    assert torch.allclose(both[:1], encoder.encode_text(["dog barking"]), atol=1e-5)
    assert not torch.allclose(both[:1], encoder.encode_text(["a photo of a dog barking"]), atol=1e-3)
    with pytest.raises(AvlocError, match=r"CLIP reads 75 tokens of text, but .* has 80"):
        encoder.encode_text(["dog " * 80])


def test_random_weights_leave_the_caller_s_random_state_alone(encoder: Wav2CLIP) -> None:
    before = torch.get_rng_state()
    again = Wav2CLIP(weights="random")
    assert torch.equal(torch.get_rng_state(), before)
    assert again.fingerprint() == encoder.fingerprint() and again.info.weights == "random"
    assert not again.train().training and not again.audio.training


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(AvlocError, match="Did you mean 'batch'"):
        Wav2CLIP(weights="random", standardize="batsh")  # type: ignore[arg-type]


@pytest.mark.slow
def test_both_checkpoints_are_needed_and_each_is_checked(encoder: Wav2CLIP, tmp_path: Path, folder: Path) -> None:
    audio, clip = published(encoder, tmp_path)
    with pytest.raises(AvlocError, match="avloc weights fetch wav2clip"):
        Wav2CLIP()
    assert add(audio)[0] == 0
    assert "spectrogram" not in " ".join(load_file(folder / "wav2clip.safetensors"))
    with pytest.raises(AvlocError, match="avloc weights fetch clip_vit_b32"):
        Wav2CLIP()
    status, hints = add(clip)
    assert status == 0 and "it is another version" in hints
    loaded = Wav2CLIP()
    assert loaded.info.weights == "wav2clip" and not any(tensor.is_meta for tensor in loaded.buffers())
    assert torch.equal(loaded.audio.audio_encoder.conv1.weight, encoder.audio.audio_encoder.conv1.weight)
    assert torch.equal(loaded.clip.visual.proj, encoder.clip.visual.proj.half().float())
    own = Wav2CLIP(weights=str(audio))
    assert own.fingerprint() == loaded.fingerprint() and own.info.weights.startswith("Wav2CLIP-")


def test_other_files_are_refused(encoder: Wav2CLIP, tmp_path: Path) -> None:
    audio, clip = published(encoder, tmp_path)
    status, hints = add(clip, "--as", "wav2clip")
    assert status == 2 and "is not wav2clip" in hints
    status, hints = add(audio, "--as", "clip_vit_b32")
    assert status == 2 and "is not clip_vit_b32" in hints
    torch.save({"fc.weight": torch.zeros(1)}, audio)
    status, hints = add(audio)
    assert status == 2 and "1 extra (fc.weight)" in hints and "missing" in hints
    with pytest.raises(AvlocError, match=r"ViT-B-32\.pt does not hold"):
        Wav2CLIP(weights=str(clip))
