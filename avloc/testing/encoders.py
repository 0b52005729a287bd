"""What every encoder must do so that its features are of the clip alone, tried on drawn images and sounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avloc.features import class_text, clip_features, encoder_audio, encoder_image
from avloc.interfaces import Encoder, EncoderInfo
from avloc.testing.findings import named, require, require_attributes, require_parameters
from avloc.testing.scenes import CLASSES
from avloc.types import Clip

CLIPS, SIDE, RATE, SECONDS = 4, 96, 16_000, 2
SAME = 1e-3
"""Features that differ by less than this share of their peak are the same."""
HALF = 65_504
"""The largest value that the feature cache, of half precision, can hold."""


class Subject:
    """An encoder on trial with parameters of its constructor."""

    def __init__(self, kind: type[Encoder], parameters: Mapping[str, Any]) -> None:
        self.kind, self.parameters = kind, parameters

    def build(self) -> Encoder:
        """The encoder as avloc builds it: evaluating, frozen, on the CPU."""
        return self.kind(**self.parameters).eval().requires_grad_(False)

    @cached_property
    def encoder(self) -> Encoder:
        """One that the checks share."""
        return self.build()

    @property
    def info(self) -> EncoderInfo:
        """What it says of itself."""
        require(isinstance(getattr(self.encoder, "info", None), EncoderInfo), "Its info must be an avloc.EncoderInfo.")
        return self.encoder.info


def drawn(tiles: int = 1, count: int = CLIPS) -> list[Clip]:
    """Clips of colored blocks and noisy chords, each another; what is drawn does not depend on `tiles` to its left."""
    clips = []
    for n in range(count):
        rng = np.random.default_rng(n)
        blocks = rng.integers(0, 256, (tiles, 6, 6, 3), np.uint8)
        image = np.concatenate([block.repeat(SIDE // 6, 0).repeat(SIDE // 6, 1) for block in blocks], axis=1)
        time = np.arange(RATE * SECONDS) / RATE
        tones = sum(np.sin(2 * np.pi * pitch * time) for pitch in rng.uniform(100, 3000, 3))
        wave = np.stack([0.2 * tones, 0.1 * rng.standard_normal(len(time))]).astype(np.float32)
        clips.append(Clip(f"drawn {n}", image, wave, RATE, tiles))
    return clips


def encoded(encoder: Encoder, clips: list[Clip]) -> dict[str, Tensor]:
    """What the encoder makes of clips in one batch, by name."""
    images = torch.stack([encoder_image(clip, encoder.info) for clip in clips])
    waves = torch.stack([encoder_audio(clip, encoder.info) for clip in clips])
    with torch.no_grad():
        image_map, image, backbone = encoder.encode_image(images)
        audio_map, audio = encoder.encode_audio(waves)
    found = {"image_map": image_map, "image": image, "audio_map": audio_map, "audio": audio, "backbone_map": backbone}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def change(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the peak; infinite where shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


def described(subject: Subject) -> None:
    """Lists print it."""
    require_attributes(subject.kind, ())


def parametrized(subject: Subject) -> None:
    """So that a suite can set them and an id hold them."""
    require_parameters(subject.kind, ())


def promised(subject: Subject) -> None:
    """`EncoderInfo` tells methods what to expect, of one tile and of several."""
    require(subject.info.weights, "Its info names no weights; tables print their name.")
    for tiles in (1, 2, 3):
        with named(f"{tiles} tiles side by side" if tiles > 1 else "one tile"):
            clip_features(drawn(tiles, 1)[0], subject.encoder, "cpu", rounded=False)


def alike(subject: Subject) -> None:
    """The same parameters are the same encoder in every process."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    other = subject.build()
    require(torch.equal(before, torch.random.get_rng_state()), "Building it draws from torch's global generator.")
    mine, its = subject.encoder.state_dict(), other.state_dict()
    right = mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)
    require(right, "Built twice, it has other weights; draw them from a seed of its own.")
    require(subject.encoder.fingerprint() == other.fingerprint(), "Built twice, it has another fingerprint().")


def fingerprinted(subject: Subject) -> None:
    """The feature cache finds features by the weights that made them."""
    other = subject.build()
    before = other.fingerprint()
    require(before and isinstance(before, str), f"fingerprint() must be a string, but is {before!r}.")
    weights = [(name, x) for name, x in other.state_dict().items() if x.is_floating_point() and x.numel()]
    for name, tensor in {weights[0][0]: weights[0][1], weights[-1][0]: weights[-1][1]}.items() if weights else ():
        tensor.flatten()[:1].add_(1)
        require(other.fingerprint() != before, f"fingerprint() stays the same when {name} changes; hash all weights.")
        before = other.fingerprint()


def lonely(subject: Subject) -> None:
    """Each clip is encoded by itself, or in a batch where an encoder is trained: its features are the same."""
    for tiles in (1, 2):
        clips = drawn(tiles)
        together, turned = encoded(subject.encoder, clips), encoded(subject.encoder, clips[::-1])
        alone = [encoded(subject.encoder, [clip]) for clip in clips]
        for name, tensor in together.items():
            for what, other in (
                ("alone", torch.cat([one[name] for one in alone])), ("in a batch of other order", turned[name].flip(0))
            ):  # fmt: skip
                share = change(tensor, other)
                require(share < SAME, f"The {name} of a clip {what} differs by {share:.2g} of its peak.")


def deterministic(subject: Subject) -> None:
    """The same clip, the same features."""
    one, other = (encoded(subject.encoder, drawn()) for _ in range(2))
    for name, tensor in one.items():
        require(torch.equal(tensor, other[name]), f"Asked twice, it gives another {name} in evaluation mode.")


def leaves_inputs(subject: Subject) -> None:
    """The caller may use them again."""
    clip = drawn(count=1)[0]
    image, wave = encoder_image(clip, subject.info)[None], encoder_audio(clip, subject.info)[None]
    given = image.clone(), wave.clone()
    with torch.no_grad():
        subject.encoder.encode_image(image)
        subject.encoder.encode_audio(wave)
    require(torch.equal(image, given[0]) and torch.equal(wave, given[1]), "It changes its input in place.")


def survives(subject: Subject) -> None:
    """Silent, black and white clips are in every data set; what is stored has half precision."""
    clip, silence = drawn(count=1)[0], np.zeros(RATE, np.float32)
    for what, image, audio in (
        ("a silent clip", clip.image, silence), ("a black image", np.zeros_like(clip.image), clip.audio),
        ("a white image", np.full_like(clip.image, 255), clip.audio), ("any clip", clip.image, clip.audio),
    ):  # fmt: skip
        with named(what):
            found = clip_features(Clip("drawn", image, audio, RATE), subject.encoder, "cpu", rounded=False)
        for name in ("image_map", "image", "audio_map", "audio", "backbone_map"):
            tensor = getattr(found, name)
            peak = 0.0 if tensor is None else float(tensor.abs().max())
            require(peak <= HALF, f"The {name} of {what} reaches {peak:g}; features are stored up to {HALF:,}.")


def sees_and_hears(subject: Subject) -> None:
    """Another image or sound gives other features, on the tile where it is."""
    found = encoded(subject.encoder, drawn())
    for name, tensor in found.items():
        share = min(change(tensor[:1], tensor[n : n + 1]) for n in range(1, CLIPS))
        require(share > SAME, f"Two clips that have nothing in common have the same {name}.")
    clip, other = drawn(2, 2)
    image = clip.image.copy()
    image[:, SIDE:] = other.image[:, SIDE:]
    changed = Clip("changed", image, clip.channels, RATE, 2)
    maps = encoded(subject.encoder, [clip, changed])["image_map"]
    left, right = (maps[1] - maps[0]).abs().chunk(2, dim=2)
    require(right.mean() > left.mean(), "Another right tile changes the left half of image_map more than the right.")


def names_classes(subject: Subject) -> None:
    """A class has one embedding, whichever others are asked for."""
    if not subject.info.has_text:
        try:
            subject.encoder.encode_text(list(CLASSES))
        except NotImplementedError:
            return
        require(False, "Its info says has_text=False, but encode_text() returns something.")
    with named("class names"):
        alone = class_text(subject.encoder, CLASSES)
    with torch.no_grad():
        together = subject.encoder.encode_text(list(CLASSES))
    share = change(together.float(), alone)
    require(share < SAME, f"A class name among others is embedded differently, by {share:.2g} of the peak.")
    require(len({tuple(row.tolist()) for row in alone}) == len(CLASSES), "Different class names have one embedding.")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "the docstring is there": described,
    "parameters are keyword-only JSON values with defaults": parametrized,
    "features are as promised on one tile and several": promised,
    "the same parameters, the same encoder": alike,
    "the fingerprint is that of the weights": fingerprinted,
    "a clip does not depend on its batch": lonely,
    "one clip, one result": deterministic,
    "inputs are left as they are": leaves_inputs,
    "silence and constant images have features": survives,
    "other images and sounds have other features": sees_and_hears,
    "a class name does not depend on the others": names_classes,
}
