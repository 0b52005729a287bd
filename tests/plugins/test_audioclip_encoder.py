"""The encoder `audioclip`: shapes, options, frozen statistics, prompts, identity, and weights files good and bad."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avloc import AvlocError, get_component
from avloc_plugins.encoders.audioclip.audio import ESResNeXt
from avloc_plugins.encoders.audioclip.encoder import AudioCLIP
from avloc_plugins.encoders.audioclip.image import released_positions, resized_positions

SECONDS_5 = 220_500


def no_network(*arguments: Any, **options: Any) -> None:
    raise AssertionError("the network was asked")


@pytest.fixture(scope="module")
def audioclip() -> AudioCLIP:
    """Built once, without a network and without touching the global random state."""
    before = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", no_network)
        built = AudioCLIP(weights="random")
    assert torch.equal(torch.get_rng_state(), before)
    return built.requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_is_registered() -> None:
    assert get_component("encoder", "audioclip") is AudioCLIP


@pytest.mark.parametrize("frames", [1, 2])
def test_a_canvas_is_encoded_as_one_image(audioclip: AudioCLIP, frames: int) -> None:
    info = audioclip.info
    tokens, pooled, backbone = audioclip.encode_image(noise(1, 3, 224, frames * 224))
    assert tokens.shape == (1, info.dim, info.image_grid[0], frames * info.image_grid[1])
    assert pooled.shape == (1, info.dim)
    assert backbone.shape == (1, info.backbone_dim, info.image_grid[0], frames * info.image_grid[1])


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_sound_gives_the_grid_that_info_promises(audioclip: AudioCLIP, level: float) -> None:
    assert round(audioclip.info.audio_seconds * audioclip.info.audio_rate) == SECONDS_5
    tokens, pooled = audioclip.encode_audio(level * noise(1, SECONDS_5))
    assert tokens.shape == (1, audioclip.info.dim, *audioclip.info.audio_grid)
    assert pooled.shape == (1, audioclip.info.dim)
    assert tokens.isfinite().all() and pooled.isfinite().all()


@pytest.mark.parametrize("samples", [1, 1654, 1655])
def test_the_shortest_sounds_are_padded(audioclip: AudioCLIP, samples: int) -> None:
    assert audioclip.encode_audio(noise(1, samples) / 10)[0].shape == (1, 1024, 1, 11)


def test_no_clip_depends_on_its_batch_mates(audioclip: AudioCLIP) -> None:
    images, waves = noise(2, 3, 224, 224), noise(2, 44_100) * torch.tensor([[0.01], [0.3]])
    for encode, inputs in ((audioclip.encode_image, images), (audioclip.encode_audio, waves)):
        for batched, alone in zip(encode(inputs), encode(inputs[1:]), strict=True):
            torch.testing.assert_close(batched[1:], alone, rtol=1e-3, atol=1e-3 * alone.abs().max().item())


def test_batch_norm_stays_frozen(audioclip: AudioCLIP) -> None:
    statistics = {name: tensor.clone() for name, tensor in audioclip.named_buffers() if "running" in name}
    image = noise(1, 3, 224, 224)
    before = audioclip.encode_image(image)[1]
    torch.nn.Sequential(audioclip).train()
    torch.testing.assert_close(audioclip.encode_image(image)[1], before)
    audioclip.encode_audio(noise(1, 44_100) / 10)
    assert not any(module.training for module in audioclip.modules())
    for name, tensor in statistics.items():
        assert torch.equal(audioclip.get_buffer(name), tensor)


def test_the_sound_tower_can_be_trained() -> None:
    with torch.random.fork_rng():
        tower = ESResNeXt().eval()
    tokens, pooled = tower(noise(1, 44_100) * 3000)
    (tokens.square().mean() + pooled.square().mean()).backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None or name == "fbsp.bias", name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_the_scale_multiplies_the_wave(audioclip: AudioCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(1, 44_100) / 10
    expected = audioclip.encode_audio(wave)[1]
    monkeypatch.setattr(audioclip, "scale", 1.0)
    torch.testing.assert_close(audioclip.encode_audio(wave * 32768)[1], expected)
    assert not torch.allclose(audioclip.encode_audio(wave)[1], expected, rtol=0.01)


def test_positions_are_resized_in_two_dimensions() -> None:
    row, column = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    table = torch.cat([torch.tensor([[-5.0, -5.0]]), torch.stack([row, column], 2).flatten(0, 1)])
    assert resized_positions(table, 7, 7) is table
    wide = resized_positions(table, 7, 14)
    assert wide[0].tolist() == [-5, -5]
    rows, columns = wide[1:].reshape(7, 14, 2).unbind(2)
    torch.testing.assert_close(rows, row[:, :1].expand(7, 14))
    middle = (torch.arange(2.0, 12) / 2 - 0.25).expand(7, 10)  # between the edges, where bicubic sees all neighbors
    torch.testing.assert_close(columns[:, 2:-2], middle, rtol=0, atol=0.1)


@pytest.mark.parametrize(("count", "places"), [(49, lambda p: (p - 1) * 48 / 47), (98, lambda p: (p - 1) / 2)])
def test_released_positions_are_those_of_a_line(count: int, places: Callable[[Tensor], Tensor]) -> None:
    table = torch.cat([torch.tensor([-1.0]), torch.arange(49.0)])[:, None]
    found = released_positions(table, count)[:, 0]
    assert found[0] == -1
    torch.testing.assert_close(found[1:], places(torch.arange(1.0, count)), rtol=0, atol=1e-4)


def test_released_positions_move_the_tokens_of_a_frame_but_not_pooled(
    audioclip: AudioCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(1, 3, 224, 224)
    tokens, pooled, _ = audioclip.encode_image(image)
    monkeypatch.setattr(audioclip, "position", "released")
    released_tokens, released_pooled, _ = audioclip.encode_image(image)
    assert not torch.allclose(released_tokens, tokens, rtol=1e-3)
    assert torch.equal(released_pooled, pooled)


def test_pooled_is_what_clip_pools(audioclip: AudioCLIP) -> None:
    image = noise(1, 3, 224, 224)
    torch.testing.assert_close(audioclip.encode_image(image)[1], audioclip.visual(image), rtol=1e-4, atol=1e-5)


def test_a_value_token_depends_on_its_own_cell_only(audioclip: AudioCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(1, 3, 224, 224)
    pooled = audioclip.encode_image(image)[1]
    monkeypatch.setattr(audioclip, "tokens", "values")
    tokens, same, backbone = audioclip.encode_image(image)
    pool = audioclip.visual.attnpool
    torch.testing.assert_close(tokens[0, :, 2, 5], pool.c_proj(pool.v_proj(backbone[0, :, 2, 5])), rtol=1e-4, atol=1e-5)
    assert torch.equal(same, pooled)


def test_a_prompt_does_not_depend_on_longer_ones(audioclip: AudioCLIP) -> None:
    prompts = ["airplane", "female speech, woman speaking", "Playing violin,  fiddle"]
    together = audioclip.encode_text(prompts)
    assert together.shape == (3, 1024)
    torch.testing.assert_close(together[:1], audioclip.encode_text(prompts[:1]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[2:], audioclip.encode_text(["playing violin, fiddle"]), rtol=1e-4, atol=1e-5)
    assert audioclip.encode_text([]).shape == (0, 1024)


def test_a_prompt_that_is_too_long_is_refused(audioclip: AudioCLIP) -> None:
    assert audioclip.encode_text(["dog " * 75]).shape == (1, 1024)
    with pytest.raises(AvlocError, match=r"reads 75 tokens of text, but 'dog dog .* has 76"):
        audioclip.encode_text(["cat", "dog " * 76])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "release"}, "position: There is no value 'release'. Did you mean 'released'?"),
        ({"tokens": 3}, "tokens: There is no value '3'. Known: attended, values."),
        ({"scale": 0}, "scale must be a positive number"),
        ({"scale": float("nan")}, "scale must be a positive number"),
        ({"scale": "loud"}, "scale must be a positive number"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AvlocError) as caught:
        AudioCLIP(weights="random", **options)
    assert message in str(caught.value)


def test_the_fingerprint_is_of_weights_and_options(audioclip: AudioCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {audioclip.fingerprint()}
    assert audioclip.fingerprint() in seen
    for option, value in (("scale", 1.0), ("position", "released"), ("tokens", "values")):
        with monkeypatch.context() as patch:
            patch.setattr(audioclip, option, value)
            seen.add(audioclip.fingerprint())
    assert len(seen) == 4


def test_a_file_gives_the_same_encoder(audioclip: AudioCLIP, tmp_path: Path) -> None:
    """Whatever the order of its keys; and other weights give another fingerprint."""
    state = dict(reversed(audioclip.state_dict().items()))
    path = tmp_path / "mine.pt"
    torch.save(state, path)
    before = torch.get_rng_state()
    loaded = AudioCLIP(weights=str(path), tokens="attended")
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.fingerprint() == audioclip.fingerprint()
    assert loaded.info.weights.startswith("mine-")
    prompt = ["dog barking"]
    assert torch.equal(loaded.encode_text(prompt), audioclip.encode_text(prompt))
    assert torch.equal(loaded.encode_audio(noise(1, 8000))[0], audioclip.encode_audio(noise(1, 8000))[0])

    torch.save({**state, "audio.fc.bias": state["audio.fc.bias"] + 1}, path)
    del loaded  # two models in memory at once are enough
    assert AudioCLIP(weights=str(path)).fingerprint() != audioclip.fingerprint()


def test_accept_returns_what_it_accepts(audioclip: AudioCLIP) -> None:
    state = audioclip.state_dict()
    kept = AudioCLIP.accept({**state, "audio.fc.bias": state["audio.fc.bias"].half()}, "some.pt")
    assert kept.keys() == state.keys()
    assert kept["audio.fc.bias"].dtype == torch.float32
    assert AudioCLIP.accept(kept, "some.pt").keys() == state.keys()


def test_another_model_is_refused_with_the_keys_that_differ(audioclip: AudioCLIP) -> None:
    state = dict(audioclip.state_dict())
    del state["audio.fbsp.m"]
    state["transformer.stray"] = torch.zeros(1)
    state["audio.fc.weight"] = torch.zeros(527, 2048)
    with pytest.raises(AvlocError) as caught:
        AudioCLIP.accept(state, "ESRNXFBSP.pt")
    for part in ("ESRNXFBSP.pt", "audio.fbsp.m", "transformer.stray", "audio.fc.weight", "(527, 2048)"):
        assert part in str(caught.value)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda found, path: path.write_bytes(pickle.dumps(found))])
def test_code_in_a_file_is_never_run(save: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    path, trace = tmp_path / "AudioCLIP-Full-Training.pt", tmp_path / "trace"
    save({"audio.fc.bias": Bomb(trace)}, path)
    with pytest.raises(AvlocError, match=r"AudioCLIP-Full-Training\.pt is refused"):
        AudioCLIP(weights=str(path))
    assert not trace.exists()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "AudioCLIP-Full-Training.pt"
    torch.save({"audio.fc.bias": torch.zeros(1024)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AvlocError, match=r"AudioCLIP-Full-Training\.pt is truncated"):
        AudioCLIP(weights=str(path))


@pytest.mark.parametrize("checkpoint", AudioCLIP.checkpoints, ids=lambda checkpoint: checkpoint.name)
def test_weights_that_are_not_installed_are_named_with_the_command(
    checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVLOC_WEIGHTS", str(tmp_path))
    with pytest.raises(AvlocError, match=f"avloc weights fetch {checkpoint.name}"):
        AudioCLIP(weights=checkpoint.name)
