"""How the weights of `Tiny` are made: ``avloc pretrain tiny``.

As AudioCLIP was trained: clips with one object, and only pooled embeddings in the loss, never a single token. Every
batch holds one clip of each seen class, so that no two of its clips, sounds or texts agree by accident and the
contrastive loss has no false negatives. Masks are read after training, to report how the tokens localize.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, normalize, pad

from avloc import AvlocError, lookup, track
from avloc.media import resample, resize_image

from .tiny import RATE, SECONDS, Tiny

DATA = "toybox_single"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything but the seed that the weights depend on.

    Attributes:
        train, val: Clips of toybox's splits; val chooses the checkpoint. Test is never read.
        steps: Optimizer steps, one clip of each class in each.
        check_every: Steps between two looks at val.
        learning_rate: Of AdamW at its peak; a tenth of the steps to warm up, a cosine down to zero.
        weight_decay: Of AdamW.
        temperature: The first; it is learned.
        shift: Images move by at most so many pixels.
        jitter: Contrast by a factor 1 +- jitter, every colour channel by +- jitter.
        hidden_mels: At most so many neighbouring mel bands are hidden.
    """

    train: int = 4000
    val: int = 400
    steps: int = 2000
    check_every: int = 200
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    temperature: float = 0.07
    shift: int = 8
    jitter: float = 0.15
    hidden_mels: int = 8


@dataclass(frozen=True, slots=True)
class _Clips:
    """A split in memory.

    Attributes:
        images: ``(n, 3, H, W)`` uint8.
        mels: ``(n, 1, time, mels)``.
        labels: ``(n,)`` int64 into `classes`.
        masks: ``(n, H, W)`` bool; val only, for the report.
        classes: The class names.
        fingerprint: Of the data set.
    """

    images: Tensor
    mels: Tensor
    labels: Tensor
    masks: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    fingerprint: str


def pretrain(output: Path, *, seed: int = 0, device: str = "cpu", recipe: Recipe | None = None) -> Path:
    """Train on toybox, write the weights as fp16 and a card (``.json`` and ``.md``) beside them.

    The same seed, machine and number of threads give the same weights.

    Raises:
        AvlocError: The data cannot be made, or the output cannot be written.
    """
    recipe = recipe or Recipe()
    began = time.monotonic()
    encoder = Tiny(weights="random").to(device)
    encoder.initialize(seed)
    train, val = _read("train", encoder, recipe), _read("val", encoder, recipe)
    chosen, temperature = fit(encoder, train, val, recipe, seed)
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in encoder.state_dict().items()
    }
    try:
        save_file(weights, output)
    except OSError as error:
        raise AvlocError(f"Cannot write the weights to {output}: {error}.") from error
    shipped = Tiny(weights=str(output)).to(device)  # measured as stored, rounded to fp16
    card = {
        "encoder": "tiny",
        "weights": shipped.info.weights,
        "fingerprint": shipped.fingerprint(),
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "seed": seed,
        "recipe": asdict(recipe),
        "data": {"name": DATA, "train": train.fingerprint, "val": val.fingerprint, "classes": list(train.classes)},
        "chosen_step": chosen,
        "learned_temperature": round(temperature, 4),
        "val": measure(shipped, val),
        "made_with": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": device,
            "minutes": round((time.monotonic() - began) / 60, 1),
        },
    }
    output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(_markdown(card), encoding="utf-8")
    return output


def fit(encoder: Tiny, train: _Clips, val: _Clips, recipe: Recipe, seed: int) -> tuple[int, float]:
    """Train in place; the weights that classify val best stay. Returns their step and their temperature."""
    device = next(encoder.parameters()).device
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    scale = nn.Parameter(torch.tensor(-math.log(recipe.temperature), device=device))
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), scale], lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, recipe.steps))
    best, kept = (-1.0, 0, 0.0), copy.deepcopy(encoder.state_dict())
    encoder.to(memory_format=torch.channels_last)  # a third faster on CPUs
    for step in track(range(1, recipe.steps + 1), "pre-train tiny", recipe.steps):
        encoder.train()
        rows, classes = _one_of_each(train.labels.numpy(), rng)
        images = _augment_images(train.images[rows], recipe, noise).to(device)
        mels = _augment_mels(train.mels[rows], recipe, rng).to(device)
        loss = contrastive(
            encoder.encode_image(images)[1],
            encoder.encode_mel(mels)[1],
            encoder.encode_text([train.classes[k] for k in classes]),
            scale.exp().clamp(1, 100),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % recipe.check_every == 0 or step == recipe.steps:
            encoder.eval()
            seen = _embed(encoder, val)
            score = (_top1(seen.image, seen.text, val.labels) + _top1(seen.audio, seen.text, val.labels)) / 2
            if score >= best[0]:
                best = (score, step, float((-scale).exp()))
                kept = copy.deepcopy(encoder.state_dict())
    encoder.load_state_dict(kept)
    encoder.eval()
    return best[1], best[2]


def contrastive(image: Tensor, audio: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """T-VSL's equation (1), AudioCLIP's loss: symmetric InfoNCE of the pooled pairs image-audio, image-text, audio-text.

    Args:
        image, audio, text: ``(B, D)``; row n of each belongs together.
        scale: One over the temperature.
    """
    image, audio, text = (normalize(x, dim=1) for x in (image, audio, text))
    own = torch.arange(len(image), device=image.device)
    logits = [scale * a @ b.T for a, b in ((image, audio), (image, text), (audio, text))]
    return torch.stack([cross_entropy(x, own) + cross_entropy(x.T, own) for x in logits]).sum() / 6


def _warm_cosine(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1.0, 0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _one_of_each(labels: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, list[int]]:
    """Rows of one random clip of every class, and the classes."""
    classes = np.unique(labels)
    rows = [int(rng.choice(np.flatnonzero(labels == k))) for k in classes]
    return torch.tensor(rows), classes.tolist()


def _augment_images(pixels: Tensor, recipe: Recipe, noise: torch.Generator) -> Tensor:
    """Normalized images, flipped, moved, and of another contrast and tint; ``(B, 3, H, W)``."""
    count, _, height, width = pixels.shape
    images = _normalized(pixels)
    draw = torch.rand(count, 5, generator=noise)[..., None, None] * 2 - 1
    images = images * (1 + recipe.jitter * draw[:, :1]) + recipe.jitter * 2 * draw[:, 1:4]
    images = torch.where(draw[:, 4:] > 0, images.flip(3), images)
    top, left = torch.randint(0, 2 * recipe.shift + 1, (2,), generator=noise).tolist()
    images = pad(images, (recipe.shift,) * 4, mode="reflect")
    return images[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)


def _augment_mels(mels: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Rolled in time, a few bands hidden. Loudness needs no augmentation: standardization removes it."""
    mels = mels.roll(int(rng.integers(mels.shape[2])), 2)
    width = int(rng.integers(recipe.hidden_mels + 1))
    first = int(rng.integers(mels.shape[3] - width + 1))
    mels[..., first : first + width] = 0
    return mels


def _normalized(pixels: Tensor) -> Tensor:
    """uint8 to [-1, 1], which is mean and deviation .5."""
    return pixels.float() / 127.5 - 1


def _read(split: str, encoder: Tiny, recipe: Recipe) -> _Clips:
    dataset = lookup("dataset", DATA)(None, split=split, train=recipe.train, val=recipe.val)
    dataset.prepare()
    side, length = encoder.info.image_size, round(RATE * SECONDS)
    device = next(encoder.parameters()).device
    images, mels, labels, masks = [], [], [], []
    for id in track(dataset.ids(), f"read toybox {split}", len(dataset.ids())):
        sample = dataset.load(id)
        images.append(torch.from_numpy(resize_image(sample.clip.image, side, side)).permute(2, 0, 1))
        wave = torch.from_numpy(resample(sample.clip.audio, sample.clip.rate, RATE))
        start = (len(wave) - length) // 2
        mels.append(encoder.mel(wave[None, start : start + length].to(device))[0].cpu())
        labels.append(dataset.classes.index(sample.labels[0]))
        if split == "val":
            masks.append(sample.truth.masks[0] > 0.5)
    return _Clips(
        torch.stack(images), torch.stack(mels), torch.tensor(labels), np.array(masks), dataset.classes,
        dataset.fingerprint(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Embedded:
    """Unit embeddings of a split: tokens ``(n, D, h, w)``, pooled ``(n, D)``, class names ``(N, D)``."""

    tokens: Tensor
    image: Tensor
    audio: Tensor
    text: Tensor


@torch.no_grad()
def _embed(encoder: Tiny, clips: _Clips) -> _Embedded:
    device = next(encoder.parameters()).device

    def images() -> Iterator[tuple[Tensor, Tensor]]:
        for part in clips.images.split(100):
            tokens, pooled, _ = encoder.encode_image(_normalized(part).to(device))
            yield tokens.cpu(), pooled.cpu()

    tokens, image = (torch.cat(parts) for parts in zip(*images(), strict=True))
    audio = torch.cat([encoder.encode_mel(part.to(device))[1].cpu() for part in clips.mels.split(100)])
    text = encoder.encode_text(clips.classes).cpu()
    return _Embedded(*(normalize(x, dim=1) for x in (tokens, image, audio, text)))


def _top1(queries: Tensor, texts: Tensor, labels: Tensor) -> float:
    return float(((queries @ texts.T).argmax(1) == labels).float().mean())


def measure(encoder: Tiny, clips: _Clips) -> dict[str, Any]:
    """What the card says: accuracy of the pooled embeddings, and how the tokens localize without any training."""
    found = _embed(encoder, clips)
    named = found.text[clips.labels]  # (n, D): the text of each clip's class
    ranks = (found.audio @ found.image.T).argsort(1, descending=True)  # (n, n) images by likeness to each sound
    own = torch.arange(len(ranks))[:, None]
    text_maps, audio_maps = (torch.einsum("ndhw,nd->nhw", found.tokens, query) for query in (named, found.audio))
    grid = tuple(text_maps.shape[1:])
    cover = nn.functional.adaptive_avg_pool2d(torch.from_numpy(clips.masks).float(), grid)  # (n, h, w)
    values = {
        "image_top1": _top1(found.image, found.text, clips.labels),
        "audio_top1": _top1(found.audio, found.text, clips.labels),
        "audio_to_image_recall_at_1": float((ranks[:, :1] == own).any(1).float().mean()),
        "audio_to_image_recall_at_10": float((ranks[:, :10] == own).any(1).float().mean()),
        "audio_to_image_same_class_at_1": float((clips.labels[ranks[:, 0]] == clips.labels).float().mean()),
        "text_pixel_ap": _pixel_ap(text_maps, clips.masks),
        "audio_pixel_ap": _pixel_ap(audio_maps, clips.masks),
        "object_share_of_pixels": float(clips.masks.mean()),
        "text_cosine_on_object": float(text_maps[cover > 0.5].mean()),
        "text_cosine_off_object": float(text_maps[cover == 0].mean()),
    }
    return {"clips": len(clips.labels)} | {name: round(value, 4) for name, value in values.items()}


def _pixel_ap(maps: Tensor, masks: np.ndarray) -> float:
    """Mean over clips of the average precision over pixels, maps resized bilinearly."""
    resized = interpolate(maps[:, None], masks.shape[1:], mode="bilinear")[:, 0].numpy()
    return float(np.mean([average_precision_score(m.ravel(), s.ravel()) for m, s in zip(masks, resized, strict=True)]))


def _markdown(card: dict[str, Any]) -> str:
    val, recipe = card["val"], card["recipe"]
    chance = 1 / val["clips"]
    return f"""# Weights of the encoder `tiny`

Made by `avloc pretrain tiny --seed {card["seed"]}`, which wrote this card too. SHA-256 `{card["sha256"]}`.

**Recipe.** Loss: symmetric InfoNCE of the pooled pairs image-audio, image-text and audio-text (T-VSL's equation 1) with
a learned temperature ({card["learned_temperature"]} at the end). Data: {recipe["train"]} training clips of `{DATA}`, one object
each, of the {len(card["data"]["classes"])} seen classes. A batch has one clip of every class, so it has no false negatives.
No single token, mask or box enters training. {recipe["steps"]} steps of AdamW (peak {recipe["learning_rate"]}, decay
{recipe["weight_decay"]}, warm-up and cosine), seed {card["seed"]}; the checkpoint of step {card["chosen_step"]} classified the {val["clips"]} val
clips best and was kept. Augmented by flips, shifts, contrast and tint, rolls in time, hidden mel bands. Everything else is
in the JSON file beside this one.

**Measured** on the {val["clips"]} val clips (which chose the checkpoint), with the weights as stored (fp16). No test clip was read.

| | measured | chance |
|---|---|---|
| image to class name, top 1 | {val["image_top1"]:.3f} | {1 / len(card["data"]["classes"]):.3f} |
| audio to class name, top 1 | {val["audio_top1"]:.3f} | {1 / len(card["data"]["classes"]):.3f} |
| audio to its own image, recall at 1 | {val["audio_to_image_recall_at_1"]:.3f} | {chance:.3f} |
| audio to its own image, recall at 10 | {val["audio_to_image_recall_at_10"]:.3f} | {10 * chance:.3f} |
| audio to an image of its class, at 1 | {val["audio_to_image_same_class_at_1"]:.3f} | {1 / len(card["data"]["classes"]):.3f} |
| pixel AP, cosine of tokens with the class name | {val["text_pixel_ap"]:.3f} | {val["object_share_of_pixels"]:.3f} |
| pixel AP, cosine of tokens with the sound | {val["audio_pixel_ap"]:.3f} | {val["object_share_of_pixels"]:.3f} |

The cosine with the right name is {val["text_cosine_on_object"]:.3f} on the object and {val["text_cosine_off_object"]:.3f} off it.
"""
