"""The encoder `tiny`: shapes, independence of batch mates, odd inputs, words, weights files, and its recipe."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from avloc import AvlocError, get_component
from avloc_plugins.encoders import tiny_pretrain
from avloc_plugins.encoders.tiny import SHIPPED, Tiny

SECONDS_3 = 48_000


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny(weights="random")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def saved(state: dict[str, torch.Tensor], folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file(state, path)
    return path


def test_is_registered() -> None:
    assert get_component("encoder", "tiny") is Tiny


@pytest.mark.parametrize("frames", [1, 2, 3])
@torch.no_grad()
def test_a_canvas_is_encoded_as_one_image(tiny: Tiny, frames: int) -> None:
    height, width = tiny.info.image_grid
    size = tiny.info.image_size
    tokens, pooled, backbone = tiny.encode_image(noise(2, 3, size, frames * size))
    assert tokens.shape == (2, tiny.info.dim, height, frames * width)
    assert pooled.shape == (2, tiny.info.dim)
    assert backbone.shape == (2, tiny.info.backbone_dim, height, frames * width)


@torch.no_grad()
def test_sound_gives_the_grid_that_info_promises(tiny: Tiny) -> None:
    length = round(tiny.info.audio_seconds * tiny.info.audio_rate)
    tokens, pooled = tiny.encode_audio(noise(2, length) / 10)
    assert tokens.shape == (2, tiny.info.dim, *tiny.info.audio_grid)
    assert pooled.shape == (2, tiny.info.dim)


@torch.no_grad()
def test_no_clip_depends_on_its_batch_mates(tiny: Tiny) -> None:
    images, waves = noise(3, 3, 112, 112), noise(3, SECONDS_3) * torch.tensor([[0.01], [0.1], [1.0]])
    for encode, inputs in ((tiny.encode_image, images), (tiny.encode_audio, waves)):
        together = encode(inputs)
        for row in range(3):
            for batched, alone in zip(together, encode(inputs[row : row + 1]), strict=True):
                torch.testing.assert_close(batched[row], alone[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_hardly_depend_on_loudness(tiny: Tiny) -> None:
    wave = noise(1, SECONDS_3) / 10
    loud, quiet = tiny.encode_audio(wave)[1], tiny.encode_audio(wave / 4)[1]
    assert cosine_similarity(loud, quiet).item() > 0.99


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0])
@torch.no_grad()
def test_silence_and_constants_stay_finite(tiny: Tiny, level: float) -> None:
    for output in tiny.encode_audio(torch.full((1, SECONDS_3), level)):
        assert output.isfinite().all()
    for output in tiny.encode_image(torch.full((1, 3, 112, 112), level)):
        assert output.isfinite().all()


@torch.no_grad()
def test_names_are_read_word_by_word(tiny: Tiny) -> None:
    one, swapped, underscored, other = tiny.encode_text(
        ["striped bell", "Bell, striped", "striped_bell", "spotted bell"]
    )
    torch.testing.assert_close(one, swapped)
    torch.testing.assert_close(one, underscored)
    assert not torch.allclose(one, other)


@torch.no_grad()
def test_unknown_words_have_their_own_vectors(tiny: Tiny) -> None:
    names = ["playing acoustic guitar", "playing violin, fiddle", "pájaro cantando", "犬", "!?", ""]
    found = tiny.encode_text(names)
    assert found.shape == (len(names), tiny.info.dim)
    assert found.isfinite().all()
    assert len({tuple(row.tolist()) for row in found}) == len(names)
    torch.testing.assert_close(found, Tiny(weights="random").encode_text(names))


def test_it_never_trains_by_accident(tiny: Tiny) -> None:
    assert not any(module.training for module in tiny.modules())


def test_drawing_weights_leaves_the_global_random_state() -> None:
    encoder = Tiny(weights="random")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    encoder.initialize(3)
    assert torch.rand(1) == expected


def test_random_weights_depend_on_their_seed_alone() -> None:
    torch.manual_seed(5)
    first = Tiny(weights="random")
    torch.manual_seed(6)
    second = Tiny(weights="random")
    assert first.fingerprint() == second.fingerprint()
    second.initialize(1)
    assert first.fingerprint() != second.fingerprint()


def test_fingerprint_is_stable_and_changes_with_any_weight() -> None:
    first, second = Tiny(weights="random"), Tiny(weights="random")
    assert first.fingerprint() == second.fingerprint()
    with torch.no_grad():
        second.text_projection.bias[0] += 1e-3
    assert first.fingerprint() != second.fingerprint()


def test_a_weights_file_is_read_back(tiny: Tiny, tmp_path: Path) -> None:
    path = saved(tiny.state_dict(), tmp_path)
    read = Tiny(weights=str(path))
    assert read.fingerprint() == tiny.fingerprint()
    assert read.info.weights == f"tiny-{tiny.fingerprint()[:8]}"


def test_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(AvlocError, match=r"gone\.safetensors .*do not exist; python -m .*tiny_pretrain makes"):
        Tiny(weights=str(tmp_path / "gone.safetensors"))


def test_a_damaged_weights_file(tiny: Tiny, tmp_path: Path) -> None:
    path = saved(tiny.state_dict(), tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AvlocError, match=r"weights\.safetensors .*cannot be read"):
        Tiny(weights=str(path))


def test_other_weights_are_refused_by_name_and_shape(tiny: Tiny, tmp_path: Path) -> None:
    state = tiny.state_dict()
    state["words"] = torch.zeros(3, 128)
    state["stranger"] = torch.zeros(1)
    del state["text_projection.bias"]
    with pytest.raises(AvlocError) as error:
        Tiny(weights=str(saved(state, tmp_path)))
    for part in ("lacks text_projection.bias", "has also stranger", "words is (3, 128), not (14, 128)"):
        assert part in str(error.value)


def test_the_shipped_weights_are_those_of_the_card() -> None:
    card = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(SHIPPED.read_bytes()).hexdigest() == card["sha256"]
    assert SHIPPED.stat().st_size <= 3_000_000
    assert card["sha256"] in SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    shipped = Tiny()
    assert shipped.info.weights == card["weights"]
    assert all(value.isfinite().all() for value in shipped.state_dict().values())


def test_the_card_claims_what_the_bench_needs() -> None:
    card = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))["val"]
    assert card["image_top1"] >= 0.7
    assert card["audio_top1"] >= 0.5
    assert card["audio_to_image_recall_at_10"] > 4 * 10 / card["clips"]
    assert card["name_cosine_on_object"] > card["name_cosine_off_object"]  # upright, not inverted


@torch.no_grad()
def test_shipped_names_lie_by_their_words() -> None:
    bell, same_noun, nothing_shared = Tiny().encode_text(["striped bell", "spotted bell", "plain drum"])
    assert cosine_similarity(bell, same_noun, dim=0) > cosine_similarity(bell, nothing_shared, dim=0)


def test_the_loss_is_least_for_matching_pairs() -> None:
    vectors, scale = noise(6, 16), torch.tensor(10.0)
    matched = tiny_pretrain.contrastive_loss(vectors, vectors, vectors, scale)
    crossed = tiny_pretrain.contrastive_loss(vectors, vectors.roll(1, 0), vectors, scale)
    blind = tiny_pretrain.contrastive_loss(*[torch.ones(6, 16)] * 3, scale)
    assert matched < crossed
    assert blind.item() == pytest.approx(torch.tensor(6.0).log().item())  # the mean of six cross-entropies


def synthetic(count: int, classes: tuple[str, ...]) -> tiny_pretrain.Clips:
    """Clips of noise, so that the recipe runs without media."""
    masks = torch.zeros(count, 112, 112, dtype=torch.bool)
    masks[:, 32:64, 32:64] = True
    return tiny_pretrain.Clips(
        images=(noise(count, 3, 112, 112) * 40 + 128).clamp(0, 255).to(torch.uint8),
        mels=noise(count, 1, 94, 64),
        labels=torch.arange(count) % len(classes),
        classes=classes,
        fingerprint=f"synthetic {count}",
        masks=masks.numpy(),
    )


def test_two_steps_of_the_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    classes = ("plain drum", "spotted bell", "striped bell", "zigzag horn")
    clips = {"train": synthetic(12, classes), "val": synthetic(8, classes)}
    monkeypatch.setattr(tiny_pretrain, "read", lambda split, encoder, recipe: clips[split])
    recipe = tiny_pretrain.Recipe(train=12, val=8, steps=2, check_every=1)
    first, again, other = (
        tiny_pretrain.pretrain(tmp_path / f"{name}.safetensors", seed=seed, recipe=recipe)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    card = json.loads(first.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert (card["seed"], card["recipe"]["steps"], card["val"]["clips"]) == (0, 2, 8)
    assert card["sha256"] in first.with_suffix(".md").read_text(encoding="utf-8")
    assert Tiny(weights=str(first)).info.weights == card["weights"]
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    before, after = Tiny(weights="random").state_dict(), load_file(first)
    assert not torch.equal(before["words"].half(), after["words"])


def test_the_command_passes_its_options_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def pretrain(output: Path, *, seed: int, device: str) -> Path:
        calls.append((output, seed, device))
        return output

    output = tmp_path / "w.safetensors"
    monkeypatch.setattr(tiny_pretrain, "pretrain", pretrain)
    tiny_pretrain.main(["--output", str(output), "--seed", "3", "--device", "cpu"])
    assert calls == [(output, 3, "cpu")]
    assert capsys.readouterr().err == f"Wrote {output}\n"


def test_the_command_runs_as_a_module_and_reports_mistakes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avloc_plugins.encoders.tiny_pretrain", "--output", tmp_path / "no" / "w"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"there is no folder {tmp_path / 'no'}" in done.stderr


def test_the_recipe_never_reads_the_test_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[str] = []

    def remember(split: str, encoder: Tiny, recipe: tiny_pretrain.Recipe) -> tiny_pretrain.Clips:
        read.append(split)
        return synthetic(4, ("plain drum", "spotted bell"))

    monkeypatch.setattr(tiny_pretrain, "read", remember)
    tiny_pretrain.pretrain(tmp_path / "w.safetensors", recipe=tiny_pretrain.Recipe(steps=1, check_every=1))
    assert read == ["train", "val"]


@pytest.mark.slow
def test_reads_toybox_and_masks_of_val_only(tiny: Tiny) -> None:
    recipe = tiny_pretrain.Recipe(train=4, val=3)
    train, val = (tiny_pretrain.read(split, tiny, recipe) for split in ("train", "val"))
    assert train.images.shape == (4, 3, 112, 112)
    assert train.images.dtype == torch.uint8
    assert train.mels.shape[:2] == (4, 1)
    assert train.masks.size == 0
    assert val.masks.shape == (3, 112, 112)
    assert len(train.classes) == 36
    assert 0 < tiny_pretrain.measure(tiny, val)["object_share_of_pixels"] < 0.5
