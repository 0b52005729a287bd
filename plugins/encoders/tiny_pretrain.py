"""Trains the weights of `Tiny`: ``python -m avloc_plugins.encoders.tiny_pretrain --output tiny.safetensors``.

It is trained like AudioCLIP: on clips with one object, with only pooled embeddings in the loss, never single tokens.
Every batch has one clip of each seen class, so the contrastive loss has no false negatives. Masks are read only after
training, to report how well the tokens localize.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate, normalize, pad

from avloc import AvlocError, Sample, get_component, progress, track
from avloc.data import resample, resize_image

from .tiny import PRETRAIN, RATE, SECONDS, SHIPPED, Tiny

DATA = "toybox_single"
EVAL_BATCH = 100


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything but the seed that the weights depend on.

    Attributes:
        train, val: Clips of toybox's splits; val chooses the checkpoint. Test is never read.
        steps: Optimizer steps, with one clip of each class in each.
        check_every: Steps between evaluations on val.
        learning_rate: Of AdamW at its peak; a tenth of the steps to warm up, then a cosine down to zero.
        weight_decay: Of AdamW.
        temperature: Initial value; it is learned.
        shift: Images move by at most this many pixels.
        jitter: Contrast changes by at most this factor, every color channel by at most twice as much.
        hidden_mels: At most this many neighboring mel bands are hidden.
    """

    train: int = 6000
    val: int = 400
    steps: int = 8000
    check_every: int = 400
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    temperature: float = 0.07
    shift: int = 8
    jitter: float = 0.15
    hidden_mels: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """A split in memory.

    Attributes:
        images: ``(n, 3, H, W)`` uint8.
        mels: ``(n, 1, time, mels)`` standardized log-mel spectra.
        labels: ``(n,)`` int64 into `classes`.
        classes: The class names.
        fingerprint: Of the data set.
        masks: ``(n, H, W)`` bool, or empty in training.
    """

    images: Tensor
    mels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    fingerprint: str
    masks: npt.NDArray[np.bool_]


def pretrain(output: Path, *, seed: int = 0, device: str = "cpu", recipe: Recipe | None = None) -> Path:
    """Train on toybox; write the weights as fp16 and a card (``.json`` and ``.md``) beside them.

    The same seed, machine and number of threads give the same weights.

    Raises:
        AvlocError: The data cannot be made, or the weights cannot be written.
    """
    began, recipe = time.monotonic(), recipe or Recipe()
    if not output.parent.is_dir():
        raise AvlocError(f"Cannot write the weights to {output}: there is no folder {output.parent}.")
    encoder: Tiny = get_component("encoder", "tiny")(weights="random").to(device)
    encoder.initialize(seed)
    train, val = read("train", encoder, recipe), read("val", encoder, recipe)
    step, temperature = fit(encoder, train, val, recipe, seed)
    state = {name: tensor.cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    stored = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    try:
        save_file(stored, output)
    except (OSError, SafetensorError) as error:
        raise AvlocError(f"Cannot write the weights to {output}: {error}.") from error
    finished = Tiny(weights=str(output)).to(device)
    card = {
        "encoder": "tiny",
        "weights": finished.info.weights,
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "fingerprint": finished.fingerprint(),
        "seed": seed,
        "recipe": asdict(recipe),
        "data": {"name": DATA, "train": train.fingerprint, "val": val.fingerprint, "classes": list(train.classes)},
        "chosen_step": step,
        "learned_temperature": round(temperature, 4),
        "val": measure(finished, val),
        "made_with": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": device,
            "threads": torch.get_num_threads(),
            "minutes": round((time.monotonic() - began) / 60, 1),
        },
    }
    output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(_markdown(card), encoding="utf-8")
    return output


def read(split: str, encoder: Tiny, recipe: Recipe) -> Clips:
    """Make and decode a split, with the masks of val only."""
    dataset = get_component("dataset", DATA)(None, split=split, train=recipe.train, val=recipe.val, alone=True)
    dataset.prepare()
    ids = dataset.ids()
    images, mels, labels, masks = [], [], [], []
    for id in track(ids, f"read toybox {split}", len(ids)):
        sample: Sample = dataset.load(id)
        image, wave = _inputs(sample, encoder.info.image_size)
        images.append(image)
        mels.append(encoder.mel(wave[None].to(encoder.window.device))[0].cpu())
        labels.append(dataset.classes.index(sample.labels[0]))
        if split == "val" and sample.truth is not None:
            masks.append(sample.truth.masks[0] > 0.5)
    return Clips(
        torch.stack(images), torch.stack(mels), torch.tensor(labels), dataset.classes, dataset.fingerprint(),
        np.array(masks, bool),
    )  # fmt: skip


def _inputs(sample: Sample, side: int) -> tuple[Tensor, Tensor]:
    """A clip's frame ``(3, side, side)`` and the center of its sound ``(T,)``."""
    image = torch.from_numpy(resize_image(sample.clip.image, side, side)).permute(2, 0, 1)
    wave = torch.from_numpy(resample(sample.clip.audio, sample.clip.rate, RATE))
    length = round(SECONDS * RATE)
    return image, wave.narrow(0, (len(wave) - length) // 2, length)


def fit(encoder: Tiny, train: Clips, val: Clips, recipe: Recipe, seed: int) -> tuple[int, float]:
    """Train in place and keep the weights that classify val best. Returns their step and temperature."""
    device = encoder.window.device
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    log_scale = nn.Parameter(torch.tensor(-math.log(recipe.temperature), device=device))
    trained = [*encoder.parameters(), log_scale]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, recipe.steps))
    members = [np.flatnonzero(train.labels.numpy() == k) for k in range(len(train.classes))]
    best, best_step, temperature, kept = -1.0, 0, 0.0, encoder.state_dict()
    for step in track(range(1, recipe.steps + 1), "pre-train tiny", recipe.steps):
        encoder.train()
        rows = torch.tensor([rng.choice(rows) for rows in members if len(rows)])
        image = encoder.encode_image(_augment_images(train.images[rows], recipe, noise).to(device))[1]
        audio = encoder.encode_mel(_augment_mels(train.mels[rows], recipe, noise).to(device))[1]
        text = encoder.encode_text([train.classes[k] for k in train.labels[rows]])
        loss = contrastive_loss(image, audio, text, log_scale.exp().clamp(1, 100))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % recipe.check_every == 0 or step == recipe.steps:
            encoder.eval()
            found = embed(encoder, val)
            score = (found.accuracy(found.image) + found.accuracy(found.audio)) / 2
            if score >= best:
                best, best_step, temperature = score, step, math.exp(-log_scale.item())
                kept = copy.deepcopy(encoder.state_dict())
    encoder.load_state_dict(kept)
    encoder.eval()
    return best_step, temperature


def contrastive_loss(image: Tensor, audio: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """T-VSL's equation (1), AudioCLIP's loss: symmetric InfoNCE of the pairs image-audio, image-text and audio-text.

    Args:
        image, audio, text: ``(B, D)`` pooled embeddings; row n of each belongs together.
        scale: One over the temperature.
    """
    image, audio, text = (normalize(x, dim=1) for x in (image, audio, text))
    own = torch.arange(len(image), device=image.device)
    logits = [scale * a @ b.T for a, b in ((image, audio), (image, text), (audio, text))]
    return torch.stack([cross_entropy(x, own) + cross_entropy(x.T, own) for x in logits]).sum() / 6


def _warm_cosine(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1.0, 0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _normalized(pixels: Tensor) -> Tensor:
    """uint8 to [-1, 1]: a mean and a deviation of .5."""
    return pixels.float() / 127.5 - 1


def _augment_images(pixels: Tensor, recipe: Recipe, noise: torch.Generator) -> Tensor:
    """``(B, 3, H, W)`` normalized; flipped or not, moved, with another contrast and tint."""
    count, _, height, width = pixels.shape
    draw = torch.rand(count, 5, 1, 1, generator=noise) * 2 - 1
    images = _normalized(pixels) * (1 + recipe.jitter * draw[:, :1]) + 2 * recipe.jitter * draw[:, 1:4]
    images = torch.where(draw[:, 4:] > 0, images.flip(3), images)
    top, left = torch.randint(0, 2 * recipe.shift + 1, (2,), generator=noise).tolist()
    images = pad(images, [recipe.shift] * 4, mode="reflect")[:, :, top : top + height, left : left + width]
    return images.contiguous(memory_format=torch.channels_last)  # a third faster on CPUs


def _augment_mels(mels: Tensor, recipe: Recipe, noise: torch.Generator) -> Tensor:
    """Rolled in time, a few bands hidden. A random gain would do nothing: standardization removes loudness."""
    roll, width, first = (
        int(torch.randint(0, limit, (), generator=noise))
        for limit in (mels.shape[2], recipe.hidden_mels + 1, mels.shape[3] - recipe.hidden_mels)
    )
    mels = mels.roll(roll, 2)
    mels[..., first : first + width] = 0
    return mels


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Unit vectors of a split.

    Attributes:
        tokens: ``(n, D, h, w)`` of the images.
        image, audio: ``(n, D)`` pooled.
        names: ``(N, D)`` of the class names.
        labels: ``(n,)`` into `names`.
    """

    tokens: Tensor
    image: Tensor
    audio: Tensor
    names: Tensor
    labels: Tensor

    def accuracy(self, queries: Tensor) -> float:
        """Share of ``(n, D)`` queries whose nearest class name is the right one."""
        return float(((queries @ self.names.T).argmax(1) == self.labels).float().mean())


@torch.no_grad()
def embed(encoder: Tiny, clips: Clips) -> Embedded:
    """Encode a split without augmentation."""
    device = encoder.window.device
    tokens, image, audio = [], [], []
    for start in range(0, len(clips.labels), EVAL_BATCH):
        rows = slice(start, start + EVAL_BATCH)
        cells, pooled, _ = encoder.encode_image(_normalized(clips.images[rows]).to(device))
        tokens.append(cells.cpu())
        image.append(pooled.cpu())
        audio.append(encoder.encode_mel(clips.mels[rows].to(device))[1].cpu())
    text = normalize(encoder.encode_text(clips.classes).cpu(), dim=1)
    cells, seen, heard = (normalize(torch.cat(parts), dim=1) for parts in (tokens, image, audio))
    return Embedded(cells, seen, heard, text, clips.labels)


def measure(encoder: Tiny, clips: Clips) -> dict[str, float]:
    """What the card reports: how the pooled embeddings classify and retrieve, and how the bare tokens localize."""
    found = embed(encoder, clips)
    ranked = (found.audio @ found.image.T).argsort(1, descending=True)  # (n, n) images, by likeness to each sound
    own = torch.arange(len(ranked))[:, None]
    by_name = torch.einsum("ndhw,nd->nhw", found.tokens, found.names[found.labels])
    by_sound = torch.einsum("ndhw,nd->nhw", found.tokens, found.audio)
    cover = adaptive_avg_pool2d(torch.from_numpy(clips.masks).float(), (by_name.shape[1], by_name.shape[2]))
    values = {
        "clips": len(ranked),
        "image_top1": found.accuracy(found.image),
        "audio_top1": found.accuracy(found.audio),
        "audio_to_image_recall_at_1": (ranked[:, :1] == own).any(1).float().mean(),
        "audio_to_image_recall_at_10": (ranked[:, :10] == own).any(1).float().mean(),
        "audio_to_image_same_class_at_1": (found.labels[ranked[:, 0]] == found.labels).float().mean(),
        "pixel_ap_of_name": _pixel_ap(by_name, clips.masks),
        "pixel_ap_of_sound": _pixel_ap(by_sound, clips.masks),
        "object_share_of_pixels": clips.masks.mean(),
        "name_cosine_on_object": by_name[cover > 0.5].mean(),
        "name_cosine_off_object": by_name[cover == 0].mean(),
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def _pixel_ap(maps: Tensor, masks: npt.NDArray[np.bool_]) -> float:
    """Mean over clips of the average precision over pixels; maps are resized bilinearly."""
    resized = interpolate(maps[:, None], masks.shape[1:], mode="bilinear")[:, 0].numpy()
    return float(np.mean([average_precision_score(m.ravel(), s.ravel()) for m, s in zip(masks, resized, strict=True)]))


def _markdown(card: dict[str, Any]) -> str:
    val, recipe, classes = card["val"], card["recipe"], len(card["data"]["classes"])
    rows = [
        ("image to class name, top 1", "image_top1", 1 / classes),
        ("audio to class name, top 1", "audio_top1", 1 / classes),
        ("audio to its own image, recall at 1", "audio_to_image_recall_at_1", 1 / val["clips"]),
        ("audio to its own image, recall at 10", "audio_to_image_recall_at_10", 10 / val["clips"]),
        ("audio to an image of its class, at 1", "audio_to_image_same_class_at_1", 1 / classes),
        ("pixel AP, cosine of tokens with the class name", "pixel_ap_of_name", val["object_share_of_pixels"]),
        ("pixel AP, cosine of tokens with the sound", "pixel_ap_of_sound", val["object_share_of_pixels"]),
    ]
    table = "\n".join(f"| {title} | {val[key]:.3f} | {chance:.3f} |" for title, key, chance in rows)
    return f"""# Weights of the encoder `tiny`

Made by `{PRETRAIN} --seed {card["seed"]}`, which also wrote this card.
The JSON file beside it has all details. SHA-256: `{card["sha256"]}`.

**Recipe.** Symmetric InfoNCE of the pooled pairs image-audio, image-text and audio-text (T-VSL's equation 1), with a
learned temperature (finally {card["learned_temperature"]}). Only pooled embeddings enter the loss: no single token, mask or box.
Data: {recipe["train"]} training clips of `{DATA}`, one object each, {classes} classes; every batch has one clip of each
class, so it has no false negatives. Augmented by flips, shifts, contrast, tint, rolls in time and hidden mel bands.
{recipe["steps"]} steps of AdamW (peak {recipe["learning_rate"]}, decay {recipe["weight_decay"]}, warm-up, cosine).
The val clips chose the checkpoint of step {card["chosen_step"]}.

**Measured** on those {int(val["clips"])} val clips, with the weights as stored in fp16. No test clip was read.

| | measured | chance |
|---|---|---|
{table}

Mean cosine of tokens with the right name: {val["name_cosine_on_object"]:.3f} on the object and
{val["name_cosine_off_object"]:.3f} off it.
"""


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog=PRETRAIN, description="Train the weights of the encoder tiny from scratch.")
    parser.add_argument("--output", type=Path, default=Path(SHIPPED.name), help="the file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the initialization and the order of clips")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    try:
        with progress.shown():
            progress.say(f"Wrote {pretrain(given.output, seed=given.seed, device=given.device)}")
    except AvlocError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
