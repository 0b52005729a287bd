"""Two networks from scratch, by way of timm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from lightning_fabric import Fabric

from avloc import AvlocError, get_component
from avloc.suite import Train
from avloc.training import ENCODER, Fit, load_weights
from avloc_plugins.encoders.timm_resnet import RATE, TimmResNet
from helpers.tasks import task_of
from helpers.world import Blocks


@pytest.fixture(scope="module")
def encoder() -> TimmResNet:
    return TimmResNet()


def test_shapes_are_those_of_the_papers(encoder: TimmResNet) -> None:
    assert (encoder.info.image_grid, encoder.info.backbone_dim, encoder.info.has_text) == ((7, 7), 512, False)
    with torch.no_grad():
        tokens, pooled, backbone = encoder.encode_image(torch.randn(2, 3, 224, 448))
        sound, whole = encoder.encode_audio(torch.randn(2, 48000))
    assert (tokens.shape, pooled.shape, backbone.shape) == ((2, 512, 7, 14), (2, 512), (2, 512, 7, 14))
    assert (sound.shape[:2], whole.shape) == ((2, 512), (2, 512))
    assert sound.shape[2:] == encoder.info.audio_grid
    assert encoder.spectrogram(torch.randn(1, 48000)).shape == (1, 1, 257, 200)


def test_the_spectrogram_is_scipys(encoder: TimmResNet) -> None:
    wave = np.random.default_rng(0).normal(size=48000) * 0.1 + 0.3
    _, _, expected = scipy.signal.spectrogram(wave, RATE, nperseg=512, noverlap=274)
    found = encoder.spectrogram(torch.from_numpy(wave).float()[None])[0, 0]
    assert np.allclose(found, np.log(expected + 1e-7) / 12, atol=1e-4)


@pytest.mark.slow
def test_seeds_make_the_weights_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two, other = TimmResNet(dim=8), TimmResNet(dim=8), TimmResNet(dim=8, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()


def test_silence_stays_finite(encoder: TimmResNet) -> None:
    with torch.no_grad():
        sound, whole = encoder.encode_audio(torch.zeros(1, 48000))
    assert torch.isfinite(sound).all() and torch.isfinite(whole).all()


def test_misspelled_models_are_named() -> None:
    with pytest.raises(AvlocError, match=r"no model 'resnet81'. Did you mean .*resnet"):
        TimmResNet(image="resnet81")


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mobilenetv3_small_050"])
def test_other_networks_give_maps_too(name: str) -> None:
    encoder = TimmResNet(image=name, dim=8)
    with torch.no_grad():
        assert encoder.encode_image(torch.zeros(1, 3, 224, 224))[0].shape == (1, 8, 7, 7)


@pytest.mark.parametrize(
    ("error", "pretrained", "words"),
    [
        (OSError("no route to host"), True, "cannot be downloaded .*pretrained: false"),
        (RuntimeError("No pretrained weights exist"), True, "has no pretrained weights"),
        (RuntimeError("features_only not implemented"), False, "gives no feature maps"),
    ],
)
def test_timm_errors_are_sentences(
    monkeypatch: pytest.MonkeyPatch, error: Exception, pretrained: bool, words: str
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(AvlocError, match=words):
        TimmResNet(pretrained=pretrained)


@pytest.mark.slow
def test_both_networks_learn_with_a_method(tmp_path: Path) -> None:
    encoder = TimmResNet(dim=16, seconds=1.0).requires_grad_(False)
    splits = {split: Blocks(None, split=split, count=4) for split in ("train", "val", "test")}
    task = task_of(splits, encoder)
    method = get_component("method", "ezvsl")
    train = Train(epochs=1, batch_size=2, train_encoder=True)
    before = encoder.fingerprint()
    fit = Fit(
        method(encoder.info, Blocks.classes), task.training_data(method.needs, train), train, seed=0, folder=tmp_path,
        fabric=Fabric(accelerator="cpu", devices=1),
    )  # fmt: skip
    tensors = load_weights(fit.run())
    assert encoder.fingerprint() == before
    for name in ("image_network.conv1.weight", "audio_network.conv1.weight", "audio_projection.weight"):
        assert not torch.equal(tensors[ENCODER + name], encoder.state_dict()[name])
