"""Features of frozen encoders: computed once per clip, kept on disk, shared by all methods and seeds.

The cache of a dataset's split is an `ArrayLog` keyed by the encoder's fingerprint and the dataset's identity.
Each clip is encoded alone, so its features do not depend on its neighbours, on the batch size, or on whether
another process was killed half-way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from avloc.disk import cache_folder, exclusive
from avloc.interfaces import Dataset, Encoder, EncoderInfo
from avloc.media import resample, resize_image
from avloc.progress import track
from avloc.store import ArrayLog
from avloc.suite import identify
from avloc.types import AvlocError, Clip, DataError, Features

COMMIT_EVERY = 32
PREPROCESSING = 1
"""Raise it when `encoder_image`, `encoder_audio` or what they call in `avloc.media` give other values."""


def encoder_image(clip: Clip, info: EncoderInfo) -> Tensor:
    """``(3, size, frames * size)``: the canvas as the encoder wants it."""
    pixels = resize_image(clip.image, info.image_size, info.image_size * clip.frames)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255  # (3, H, W)
    mean, std = torch.tensor(info.image_mean), torch.tensor(info.image_std)
    return (image - mean[:, None, None]) / std[:, None, None]


def encoder_audio(clip: Clip, info: EncoderInfo) -> Tensor:
    """``(T,)``: the centre window at the encoder's rate, tiled where the clip is shorter."""
    wave = resample(clip.audio, clip.rate, info.audio_rate)
    length = round(info.audio_seconds * info.audio_rate)
    if len(wave) < length:
        wave = np.tile(wave, -(-length // len(wave)))
    start = (len(wave) - length) // 2
    return torch.from_numpy(np.ascontiguousarray(wave[start : start + length], dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoded clips of one split.

    Attributes:
        log: The cache.
        ids: Usable clips, in the dataset's order.
        missing: Id -> reason, media absent.
        broken: Id -> reason, media there but unusable.
    """

    log: ArrayLog
    ids: tuple[str, ...]
    missing: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def labels(self, id: str) -> tuple[str, ...]:
        """Video-level class names of a clip."""
        return tuple(self.log.records[id]["labels"])

    def group(self, id: str) -> str:
        """The video a clip comes from."""
        return str(self.log.records[id]["group"])

    def frames(self, id: str) -> int:
        """Tiles on the clip's canvas."""
        return int(self.log.records[id]["frames"])

    def features(self, ids: Sequence[str], *, audio_of: Sequence[str] | None = None) -> Features:
        """Stack the features of clips; with `audio_of`, their audio comes from other clips."""
        images = [self.log.read(id) for id in ids]
        sounds = images if audio_of is None else [self.log.read(id) for id in audio_of]

        def stack(name: str, source: list[dict[str, np.ndarray]]) -> Tensor:
            return torch.from_numpy(np.stack([arrays[name] for arrays in source]))

        return Features(
            image_map=stack("image_map", images),
            image=stack("image", images),
            audio_map=stack("audio_map", sounds),
            audio=stack("audio", sounds),
            backbone_map=stack("backbone_map", images) if "backbone_map" in images[0] else None,
        )


@torch.no_grad()
def encode(
    dataset: Dataset, encoder: Encoder, identity: dict[str, object], *, limit: int | None, device: str
) -> Encoded:
    """Encode a split, or what is left of it; media that cannot be used are named, never replaced.

    Args:
        dataset: One split.
        encoder: In eval mode, on `device`.
        identity: What the split and the encoder are (names, parameters, revisions): the cache's key.
        limit: Only the first clips of the official list.
        device: Where the encoder is.
    """
    status = dataset.status()
    listed = list(dataset.ids())[:limit]
    present = set(status.present)
    key = identify({"data": identity, "encoder": encoder.fingerprint(), "preprocessing": PREPROCESSING})
    folder = cache_folder() / "features" / key
    broken = {id: reason for id, reason in status.broken.items() if id in set(listed)}
    with exclusive(folder, f"the features of {identity['name']}"):
        log = ArrayLog(folder)
        todo = [id for id in listed if id in present and id not in log.records]
        if todo:
            _encode_clips(todo, dataset, encoder, log, broken, device, f"encode {identity['name']} {identity['split']}")
    usable = tuple(id for id in listed if id in log.records and id in present)
    missing = {id: reason for id, reason in status.missing.items() if id in set(listed)}
    return Encoded(log, usable, missing, broken)


def _encode_clips(
    ids: Sequence[str],
    dataset: Dataset,
    encoder: Encoder,
    log: ArrayLog,
    broken: dict[str, str],
    device: str,
    description: str,
) -> None:
    for done, id in enumerate(track(ids, description, len(ids)), start=1):
        try:
            sample = dataset.load(id)
        except DataError as error:
            broken[id] = str(error)
            continue
        image = encoder_image(sample.clip, encoder.info)[None].to(device)
        image_map, pooled_image, backbone = encoder.encode_image(image)
        audio_map, pooled_audio = encoder.encode_audio(encoder_audio(sample.clip, encoder.info)[None].to(device))
        arrays = {"image_map": image_map, "image": pooled_image, "audio_map": audio_map, "audio": pooled_audio}
        if backbone is not None:
            arrays["backbone_map"] = backbone
        try:
            log.append(
                id,
                {name: array[0].float().cpu().numpy() for name, array in arrays.items()},
                labels=list(sample.labels),
                group=sample.clip.group or id,
                frames=sample.clip.frames,
            )
        except AvlocError as error:  # features that are not finite
            broken[id] = str(error)
        if done % COMMIT_EVERY == 0:
            log.commit()
    log.commit()
