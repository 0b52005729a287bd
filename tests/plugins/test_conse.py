"""ConSE: its three networks against references written out here, the space of names, and how it is made of wheels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avloc import AvlocError
from avloc.store import weights_folder
from avloc_plugins.encoders.conse import ConSE
from avloc_plugins.encoders.conse.sounds import BANDS, CLASSES, YAMNet, _same, yamnet_state
from avloc_plugins.encoders.conse.space import IMAGES, SOUNDS, Space
from avloc_plugins.encoders.conse.words import DIM, HEADS, INNER, LAYERS, PLACES, WORDS, MiniLM, letters, minilm_state
from helpers import SHARED

INSTALLED = (weights_folder() / "conse.safetensors").is_file()
REALMINI = Path(os.environ.get("AVLOC_REALMINI") or SHARED / "realmini")


def bert(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random tensors under the names of the published sentence encoder."""

    def drawn(*shape: int) -> np.ndarray:
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": drawn(WORDS, DIM),
        "embeddings.position_embeddings.weight": drawn(PLACES, DIM),
        "embeddings.token_type_embeddings.weight": drawn(2, DIM),
        "embeddings.LayerNorm.weight": 1 + drawn(DIM),
        "embeddings.LayerNorm.bias": drawn(DIM),
    }
    for n in range(LAYERS):
        for name, (out, into) in {
            "attention.self.query": (DIM, DIM), "attention.self.key": (DIM, DIM), "attention.self.value": (DIM, DIM),
            "attention.output.dense": (DIM, DIM), "intermediate.dense": (INNER, DIM), "output.dense": (DIM, INNER),
        }.items():  # fmt: skip
            found[f"encoder.layer.{n}.{name}.weight"] = drawn(out, into)
            found[f"encoder.layer.{n}.{name}.bias"] = drawn(out)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found[f"encoder.layer.{n}.{name}.weight"] = 1 + drawn(DIM)
            found[f"encoder.layer.{n}.{name}.bias"] = drawn(DIM)
    return found


def sentence(weights: Mapping[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """BERT (Devlin et al., 2019) written out, the mean of its tokens at length 1."""
    from scipy.special import erf

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for n in range(LAYERS):
        at = f"encoder.layer.{n}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(ids), HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2]))
        mixed = (scores / scores.sum(2, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    pooled = x.mean(0)
    return np.asarray(pooled / np.linalg.norm(pooled))


def test_the_sentence_encoder_is_bert_with_the_published_names() -> None:
    published = bert(np.random.default_rng(0))
    model = MiniLM(letters()).eval()
    model.load_state_dict(minilm_state({name: torch.from_numpy(x) for name, x in published.items()}))
    texts = ["dog", "playing violin"]
    with torch.no_grad():
        found = model(texts).numpy()
    for row, text in zip(found, texts, strict=True):
        ids = model.tokenizer.encode(text).ids
        assert len(ids) == len(text) + 2
        np.testing.assert_allclose(row, sentence(published, ids), atol=1e-5)


def test_a_long_text_is_cut_where_the_model_was_trained_to_read() -> None:
    model = MiniLM(letters())
    assert len(model.tokenizer.encode("a" * 1000).ids) == 256


def test_the_log_mel_spectrogram_is_that_of_its_formula() -> None:
    net, wave = YAMNet(), np.random.default_rng(0).standard_normal(4000)
    found = net.spectrogram(torch.from_numpy(wave).float()[None])[0].numpy()
    assert found.shape == (1 + (4000 - 400) // 160, BANDS)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([125, 7500]) / 700)), BANDS + 2) / 2595) - 1)
    tones = np.arange(257) * 16_000 / 512
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bands = np.clip(np.minimum((tones - low) / (middle - low), (high - tones) / (high - middle)), 0, None)
    for n in (0, 7, 22):
        spectrum = np.abs(np.fft.fft(wave[160 * n : 160 * n + 400] * window, 512))[:257]
        np.testing.assert_allclose(found[n], np.log(bands @ spectrum + 1e-3), atol=1e-3)


def test_patches_overlap_by_half_and_are_classified_alone() -> None:
    net = YAMNet().eval()
    waves = 0.1 * torch.randn(2, 80_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = net(waves)
        alone = net(waves[1:, 160 * 48 : 160 * (48 + 95) + 400])
    assert logits.shape == (2, 9, CLASSES)
    assert torch.allclose(alone[0, 0], logits[1, 1], atol=1e-4)


def test_odd_pixels_are_padded_last_as_tensorflow_does() -> None:
    net = YAMNet()
    sizes = [(96, 64)]
    x = torch.ones(1, 1, 96, 64)
    for convolution in net.convolutions:
        kernel, stride = convolution.kernel_size[0], convolution.stride[0]
        padded = _same(x, convolution)
        extra = padded.shape[2] - x.shape[2]
        if kernel == 3 and stride == 2:
            assert extra == 1 and padded[0, 0, -1].sum() == 0 and padded[0, 0, 0].sum() > 0
        x = torch.ones(1, convolution.out_channels, *convolution(padded).shape[2:])
        sizes.append((x.shape[2], x.shape[3]))
    assert sizes[1] == (48, 32) and sizes[-1] == (3, 2)


def test_weights_are_read_from_an_onnx_file_through_its_quantization(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in
              {"w0": (2, 1, 3, 3), "b0": (2,), "w1": (5, 2), "b1": (5,)}.items()}  # fmt: skip
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    nodes = []
    for name in ("w0", "w1"):
        nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_d"]))
    nodes += [
        helper.make_node("Conv", ["audio", "w0_d", "b0"], ["map"]),
        helper.make_node("Gemm", ["map", "w1_d", "b1"], ["scores"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("audio", "scores")]
    kept = [numpy_helper.from_array(x, name) for name, x in {**values, "scale": scale, "zero": zero}.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], kept)), str(tmp_path / "m.onnx"))
    found = yamnet_state(tmp_path / "m.onnx")
    wanted = {"convolutions.0.weight": "w0", "convolutions.0.bias": "b0", "head.weight": "w1", "head.bias": "b1"}
    assert found.keys() == wanted.keys()
    for name, source in wanted.items():
        np.testing.assert_array_equal(found[name].numpy(), values[source])


@pytest.fixture(scope="module")
def space() -> Space:
    names = torch.nn.functional.normalize(torch.randn(IMAGES + SOUNDS, DIM, generator=torch.Generator().manual_seed(0)))
    return Space(names, threshold=3.0, heard=2, tau=0.5, blank=20.0)


def test_names_resemble_each_other_by_the_kernel(space: Space) -> None:
    found = torch.cat([space.images, space.sounds])
    wanted = ((space.anchors @ space.anchors.T - 1) / 0.5).exp()
    assert torch.allclose(found @ found.T, wanted, atol=1e-4)
    assert found[:, -1].abs().max() == 0 and space.dim == IMAGES + SOUNDS + 1


def test_a_cell_sums_the_names_of_what_it_shows_beside_something_else(space: Space) -> None:
    logits = torch.zeros(1, IMAGES, 1, 2)
    logits[0, 4, 0, 1], logits[0, 9, 0, 1] = 5.0, 3.5
    nothing, token = space.seen(logits)[0, :, 0].T
    assert nothing[:-1].abs().max() == 0 and nothing[-1] == token[-1] == 20
    assert torch.allclose(token[:-1], (2 * space.images[4] + 0.5 * space.images[9])[:-1], atol=1e-5)


def test_a_patch_tells_its_most_probable_classes_one_by_one(space: Space) -> None:
    logits = torch.full((1, 3, SOUNDS), -9.0)
    logits[0, 1, 7], logits[0, 1, 2] = 1.0, 0.0
    tokens = space.told(logits)  # (1, D, 3, 2)
    assert tokens.shape == (1, space.dim, 3, 2)
    assert torch.allclose(tokens[0, :, 1, 0], torch.tensor(1.0).sigmoid() * space.sounds[7], atol=1e-5)
    assert torch.allclose(tokens[0, :, 1, 1], 0.5 * space.sounds[2], atol=1e-5)


def test_parameters_and_names_are_in_the_fingerprint() -> None:
    one = ConSE(weights="random")
    assert one.fingerprint() == ConSE(weights="random").fingerprint() != ConSE(weights="random", tau=0.2).fingerprint()
    assert one.encode_text(["dog"]).shape == (1, one.info.dim)


def test_another_file_is_refused_with_its_keys(tmp_path: Path) -> None:
    torch.save({"image.conv_stem.weight": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(AvlocError, match=r"does not hold these weights.*missing"):
        ConSE(weights=str(tmp_path / "w.pt"))


@pytest.mark.skipif(not INSTALLED, reason="conse is not installed: avloc weights fetch conse --accept-licenses")
def test_words_are_near_where_they_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVLOC_WEIGHTS", str(PLACE))
    words = torch.nn.functional.normalize(ConSE().encode_text(["dog", "puppy", "violin", "fiddle"]))
    likeness = words @ words.T
    assert min(likeness[0, 1], likeness[2, 3]) > 2 * likeness[:2, 2:].max()


@pytest.mark.skipif(not INSTALLED, reason="conse is not installed: avloc weights fetch conse --accept-licenses")
@pytest.mark.skipif(not REALMINI.is_dir(), reason=f"{REALMINI} is absent")
@pytest.mark.slow
def test_it_knows_photographs_and_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    import csv

    from avloc import Clip
    from avloc.data import read_audio, read_image
    from avloc.features import class_text, clip_features

    monkeypatch.setenv("AVLOC_WEIGHTS", str(PLACE))
    with (REALMINI / "annotations.csv").open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["pool"] == "wild" and line["split"] == "train"]
    lines = [line for line in lines if line["label"] in ("bird", "cat", "clock", "dog")][::4]  # "person" is near all
    encoder, classes = ConSE(), sorted({line["label"] for line in lines})
    text = torch.nn.functional.normalize(class_text(encoder, classes))
    right: dict[str, list[bool]] = {"image": [], "audio": []}
    for line in lines:
        clip = Clip(line["id"], read_image(REALMINI / line["image"]), *read_audio(REALMINI / line["audio"]))
        features = clip_features(clip, encoder, "cpu", rounded=False)
        for name, found in right.items():
            pooled: Tensor = getattr(features, name)
            found.append(classes[int((pooled @ text.T).argmax())] == line["label"])
    rates: dict[str, Any] = {name: float(np.mean(found)) for name, found in right.items()}
    assert rates["image"] > 0.8 and rates["audio"] > 0.6, rates  # chance is one in four


PLACE = weights_folder()
