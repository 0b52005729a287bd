"""K clips on one canvas: frames side by side, sounds summed, truth moved along.

The construction of VGGSound-Duet (T-VSL, AVGN): a plain sum of the waveforms, without level control.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from avloc.media import resample, resize_image
from avloc.types import Clip, FloatArray, Sample, Truth


def side_by_side(samples: Sequence[Sample], id: str) -> Sample:
    """Put one-frame samples next to each other, left to right.

    Tiles are resized to the first one's size; sounds are brought to the first one's rate, the shorter ones are
    repeated to the longest, and summed.

    Args:
        samples: One or more samples of one frame each, all with truth or all without.
        id: The mixture's id.

    Returns:
        A sample with ``frames = len(samples)``, all sources and labels in order, and boxes normalized to the canvas.
    """
    clips = [sample.clip for sample in samples]
    height, width = clips[0].image.shape[:2]
    clip = Clip(
        id,
        np.concatenate([resize_image(clip.image, height, width) for clip in clips], axis=1),
        _sum([resample(clip.audio, clip.rate, clips[0].rate) for clip in clips]),
        clips[0].rate,
        frames=len(clips),
        group="+".join(dict.fromkeys(clip.group for clip in clips)),
    )
    labels = tuple(dict.fromkeys(label for sample in samples for label in sample.labels))
    return Sample(clip, mixed_truth([sample.truth for sample in samples], height, width), labels)


def mixed_truth(truths: Sequence[Truth | None], height: int, width: int) -> Truth | None:
    """The truth of tiles of ``height x width`` side by side; ``None`` when a tile has none."""
    masks: list[npt.NDArray[np.float32]] = []
    labels: list[str] = []
    boxes: list[FloatArray] = []
    for position, truth in enumerate(truths):
        if truth is None:
            return None
        for mask in truth.masks:
            canvas = np.zeros((height, width * len(truths)), np.float32)
            canvas[:, position * width : (position + 1) * width] = _nearest(mask, height, width)
            masks.append(canvas)
        shift, scale = np.array([position, 0, position, 0]), np.array([len(truths), 1, len(truths), 1])
        boxes += [(box + shift) / scale for box in truth.boxes]
        labels += truth.labels
    stacked = np.stack(masks) if masks else np.zeros((0, height, width * len(truths)), np.float32)
    return Truth(stacked, tuple(labels), tuple(boxes) if len(boxes) == len(labels) else ())


def _nearest(mask: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    resized: npt.NDArray[np.float32] = mask[rows][:, columns]
    return resized


def _sum(waves: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    length = max(len(wave) for wave in waves)
    total = np.zeros(length, np.float32)
    for wave in waves:
        total += np.tile(wave, -(-length // len(wave)))[:length]
    return total
