"""What encoders make of clips: computed once and kept on disk for frozen ones, or anew in every step.

The cache is one `ArrayLog` per encoder and data set, shared by all splits, methods and seeds. A clip's key is the
digest of its content, so an edited file is encoded again and an added one leaves the others alone. Every clip is
encoded by itself: its features do not depend on its neighbors, on the batch size, or on whether another process was
killed half-way. Arrays are memory-mapped; what stays in memory is an index.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avloc.data import load_clip, resample, resize_image
from avloc.interfaces import Dataset, Encoder, EncoderInfo
from avloc.progress import track
from avloc.store import ArrayLog, cache_folder, content_id, digest, exclusive, round_to_half, write_json
from avloc.types import AvlocError, Clip, DataError, Features, Sample, blaming

COMMIT_EVERY = 32
READERS = 4
"""Threads that decode media ahead of the encoder."""
ARRAYS = ("image_map", "image", "audio_map", "audio", "backbone_map")
"""Of `Features`, as the cache keeps them."""
KEPT = 1 << 28
"""Bytes of cached features that a split keeps in memory, so that later epochs need not read them again."""
PREPROCESSING = 4
"""Raise it when `encoder_image`, `encoder_audio` or `avloc.data` give other values."""


def encoder_image(clip: Clip, info: EncoderInfo) -> Tensor:
    """``(3, size, tiles * size)``: the canvas as the encoder wants it."""
    pixels = resize_image(clip.image, info.image_size, info.image_size * clip.tiles)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255  # (3, H, W)
    mean, std = torch.tensor(info.image_mean), torch.tensor(info.image_std)
    return (image - mean[:, None, None]) / std[:, None, None]


def encoder_audio(clip: Clip, info: EncoderInfo) -> Tensor:
    """``(T,)``, or ``(2, T)`` in stereo: the center window at the encoder's rate, tiled where the clip is shorter."""
    wave = resample(clip.channels if info.stereo else clip.audio[None], clip.rate, info.audio_rate)  # (C, T)
    length = round(info.audio_seconds * info.audio_rate)
    if wave.shape[1] < length:
        wave = np.tile(wave, (1, -(-length // wave.shape[1])))
    start = (wave.shape[1] - length) // 2
    window = torch.from_numpy(np.ascontiguousarray(wave[:, start : start + length], dtype=np.float32))
    return window.expand(2, -1).contiguous() if info.stereo else window[0]


@dataclass(frozen=True)
class FeatureSet:
    """The usable clips of one split, seen through an encoder.

    Features are read from the cache (half precision, from a memory map), or computed every time, with gradients where
    the encoder is being trained.

    Attributes:
        log: What is known of the clips: labels, group, tiles, and where they are cached their features.
        keys: Usable clip -> its key in `log`, in the data set's order.
        missing: Id -> reason, media absent.
        broken: Id -> reason, media there but unusable.
        dataset, encoder: Load and see the clips where features are computed every time; ``None`` where they are cached.
    """

    log: ArrayLog
    keys: Mapping[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    dataset: Dataset | None = None
    encoder: Encoder | None = None
    _kept: dict[str, dict[str, np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """Usable clips."""
        return tuple(self.keys)

    def labels(self, id: str) -> tuple[str, ...]:
        """Video-level class names of a clip."""
        return tuple(self.log.records[self.keys[id]]["labels"])

    def group(self, id: str) -> str:
        """The video a clip comes from."""
        return str(self.log.records[self.keys[id]]["group"] or id)

    def tiles(self, id: str) -> int:
        """Tiles on the clip's canvas."""
        return int(self.log.records[self.keys[id]]["tiles"])

    def stereo(self, id: str) -> bool:
        """Whether the clip has two channels."""
        return bool(self.log.records[self.keys[id]]["stereo"])

    def media(self, id: str) -> str:
        """A digest of the clip's pixels and samples: clips under two names that have the same are one."""
        return str(self.log.records[self.keys[id]]["media"])

    def through(self, encoder: Encoder) -> FeatureSet:
        """The same clips seen through another encoder, such as a trained copy; features must not be cached."""
        assert self.dataset is not None
        return replace(self, encoder=encoder)

    def features(self, ids: Sequence[str], *, audio_of: Sequence[str] | None = None) -> Features:
        """Stack the features of clips with equally many tiles; with `audio_of`, their audio comes from other clips."""
        if self.encoder is None:
            return self._read(ids, audio_of)
        return self._compute(self.encoder, ids, audio_of)

    def _read(self, ids: Sequence[str], audio_of: Sequence[str] | None) -> Features:
        images = [self._cached(self.keys[id]) for id in ids]
        sounds = images if audio_of is None else [self._cached(self.keys[id]) for id in audio_of]

        def stack(name: str, source: list[dict[str, np.ndarray]]) -> Tensor:
            return torch.from_numpy(np.stack([arrays[name] for arrays in source]))

        return Features(
            image_map=stack("image_map", images),
            image=stack("image", images),
            audio_map=stack("audio_map", sounds),
            audio=stack("audio", sounds),
            backbone_map=stack("backbone_map", images) if "backbone_map" in images[0] else None,
        )

    def _cached(self, key: str) -> dict[str, np.ndarray]:
        """A clip's cached arrays; the first clips that are asked for stay in memory, as many as fit."""
        if key in self._kept:
            return self._kept[key]
        arrays = self.log.read(key)
        if sum(array.nbytes for array in arrays.values()) * (len(self._kept) + 1) <= KEPT:
            self._kept[key] = arrays
        return arrays

    def _compute(self, encoder: Encoder, ids: Sequence[str], audio_of: Sequence[str] | None) -> Features:
        assert self.dataset is not None
        with ThreadPoolExecutor(READERS) as pool:  # a clip that stopped being readable ends the run, with its reason
            samples = list(pool.map(partial(load_clip, self.dataset), sorted({*ids, *(audio_of or ())})))
        clips = {sample.clip.id: sample.clip for sample in samples}
        device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
        images = torch.stack([encoder_image(clips[id], encoder.info) for id in ids])  # (B, 3, H, W)
        waves = torch.stack([encoder_audio(clips[id], encoder.info) for id in audio_of or ids])  # (B, T)
        return _encode(encoder, images.to(device), waves.to(device), ids, clips[ids[0]].tiles)


@torch.no_grad()
def cached_features(
    dataset: Dataset,
    encoder: Encoder,
    name: str,
    *,
    limit: int | None,
    device: str,
    identity: Mapping[str, Any] | None = None,
) -> FeatureSet:
    """Encode what is not in the cache yet of a split; media that cannot be used are named, never replaced.

    Args:
        dataset: One split.
        encoder: Frozen, in evaluation mode, on `device`.
        name: Of the data set; its splits and variants share one log.
        limit: Only the first clips of the official list.
        device: Where the encoder is.
        identity: All that makes the encoder what it is; ``None``: `encoder_identity`.
    """
    folder = _encoder_folder(identity or encoder_identity(encoder, encoder.fingerprint())) / name
    about = {"dataset": name, "encoder": type(encoder).__name__, "weights": encoder.info.weights}
    return _usable(dataset, folder, encoder, limit, device, about)


def computed_features(dataset: Dataset, encoder: Encoder, name: str, *, limit: int | None) -> FeatureSet:
    """A split whose clips are encoded in every step; each is decoded once beforehand, to know which cannot be used."""
    folder = cache_folder() / "features" / "decoded" / str(PREPROCESSING) / name
    usable = _usable(dataset, folder, None, limit, "cpu", {"dataset": name, "encoder": "", "weights": ""})
    return replace(usable, dataset=dataset, encoder=encoder)


def no_features() -> FeatureSet:
    """The features of a split that is not on this machine."""
    return FeatureSet(ArrayLog(cache_folder() / "features" / "none"), {})


@torch.no_grad()
def clip_features(clip: Clip, encoder: Encoder, device: str, *, rounded: bool) -> Features:
    """The features of one clip ``(1, ...)``, where asked rounded to half precision as in the cache."""
    arrays = _arrays(clip, encoder, device)
    arrays = {name: round_to_half(array) for name, array in arrays.items()} if rounded else arrays
    found: dict[str, Any] = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    return Features(**found)


@torch.no_grad()
def class_text(encoder: Encoder, names: Sequence[str]) -> Tensor:
    """``(N, D)`` embeddings of class names, rounded to half precision as in the cache."""
    return torch.from_numpy(np.stack([round_to_half(row) for row in _embed(encoder, names)]))


def encoder_identity(encoder: Encoder, fingerprint: str) -> dict[str, Any]:
    """Everything that decides what an encoder makes of a clip."""
    return {
        "encoder": fingerprint, "revision": encoder.revision, "info": repr(replace(encoder.info, weights="")),
        "preprocessing": PREPROCESSING,
    }  # fmt: skip


def _encoder_folder(identity: Mapping[str, Any]) -> Path:
    """Where the cache keeps what this encoder, with these parameters and weights, made of clips."""
    return cache_folder() / "features" / content_id(identity)


@torch.no_grad()
def encode_text(encoder: Encoder, classes: Sequence[str], identity: Mapping[str, Any]) -> Tensor | None:
    """``(N, D)`` embeddings of class names, from the cache where they are there; ``None`` without a text tower."""
    if not encoder.info.has_text:
        return None
    folder = _encoder_folder(identity) / "text"
    log = ArrayLog(folder)
    log.verify()
    if not set(classes) <= log.records.keys():
        with exclusive(folder, "the class names' embeddings"):
            log = ArrayLog(folder)
            log.verify()
            todo = [name for name in dict.fromkeys(classes) if name not in log.records]
            if todo:  # unless another process embedded them while this one waited
                for name, row in zip(todo, _embed(encoder, todo), strict=True):
                    log.append(name, {"text": row}, half=True)
                log.commit()
    return torch.from_numpy(np.stack([log.read(name)["text"] for name in classes]))


def _embed(encoder: Encoder, names: Sequence[str]) -> np.ndarray:
    """``(N, D)``: class names as words, one at a time, so that an embedding depends on no other name."""
    about, wanted, rows = f"The encoder {type(encoder).__name__}", (1, encoder.info.dim), []
    for name in names:
        with blaming(f"{about} failed on the class name {name!r}"):
            row = encoder.encode_text([name.replace("_", " ")]).float().cpu().numpy()
        if row.shape != wanted:
            raise AvlocError(f"{about} promised text of shape {wanted} for one name, but returned {row.shape}.")
        if not np.isfinite(row).all():
            raise AvlocError(f"{about} made values of the class name {name!r} that are not finite.")
        rows.append(row[0])
    return np.stack(rows)


def _usable(
    dataset: Dataset, folder: Path, encoder: Encoder | None, limit: int | None, device: str, about: Mapping[str, str]
) -> FeatureSet:
    """The usable clips of a split, all of them in the log of a folder."""
    status = dataset.status()
    present = set(status.present)
    listed = _first(dataset.ids(), present, limit)
    missing = {id: status.missing[id] for id in listed if id in status.missing}
    broken = {id: status.broken[id] for id in listed if id in status.broken}
    keys: dict[str, str] = {}
    for id in listed:
        try:
            if id in present:
                with blaming(f"The data set {type(dataset).__name__} failed on clip {id!r}", DataError):
                    keys[id] = digest([dataset.content(id), dataset.revision])[:24]
        except DataError as error:
            broken[id] = str(error)
    log = ArrayLog(folder)
    log.verify()
    if any(key not in log.records for key in keys.values()):
        with exclusive(folder, f"the features of {about['dataset']}"):
            write_json(folder / "about.json", about)
            log = ArrayLog(folder)  # another process may have written while this one waited
            log.verify()
            _encode_clips(keys, dataset, encoder, log, broken, device, f"encode {about['dataset']}")
    return FeatureSet(log, {id: key for id, key in keys.items() if id not in broken}, missing, broken)


def _first(ids: Sequence[str], present: set[str], limit: int | None) -> Sequence[str]:
    """The list up to its `limit`-th clip that is here: where clips are missing a limit still leaves something to do."""
    if limit is None:
        return ids
    here = [position for position, id in enumerate(ids) if id in present]
    return ids[: here[limit - 1] + 1] if len(here) >= limit else ids


def _encode_clips(
    keys: Mapping[str, str],
    dataset: Dataset,
    encoder: Encoder | None,
    log: ArrayLog,
    broken: dict[str, str],
    device: str,
    description: str,
) -> None:
    """Append the clips that the log does not have; what cannot be used ends in `broken`, with its reason."""
    first_of = {key: id for id, key in reversed(list(keys.items())) if key not in log.records}
    todo = list(reversed(first_of.values()))
    for done, (id, future) in enumerate(track(_ahead(dataset, todo), description, len(todo)), start=1):
        try:
            sample = future.result()
            arrays = {} if encoder is None else _arrays(sample.clip, encoder, device)
        except DataError as error:  # it cannot be read, or its features are not finite
            broken[id] = str(error)
            continue
        clip = sample.clip
        group = "" if clip.group == id else clip.group  # the same content may go by several ids
        media = _media(clip)
        if done == 1:
            _require_same(dataset, id, media)
        about = {"labels": list(sample.labels), "group": group, "tiles": clip.tiles, "stereo": clip.stereo is not None}
        log.append(keys[id], arrays, half=True, media=media, **about)
        if done % COMMIT_EVERY == 0:
            log.commit()
    log.commit()
    reasons = {keys[id]: reason for id, reason in broken.items() if id in keys}
    broken.update({id: reasons[key] for id, key in keys.items() if key in reasons})


def _media(clip: Clip) -> str:
    return digest([clip.image.shape, clip.channels.shape, clip.rate, _hash(clip.image), _hash(clip.channels)])


def _require_same(dataset: Dataset, id: str, media: str) -> None:
    """A clip is loaded in several places, so it must be the same whenever it is.

    Raises:
        AvlocError: It is not.
    """
    if _media(load_clip(dataset, id).clip) != media:
        raise AvlocError(
            f"{dataset.title or type(dataset).__name__}: load({id!r}) returned another image or sound the second time; "
            "a clip must be the same whenever it is loaded. avloc check finds more of this kind."
        )


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _arrays(clip: Clip, encoder: Encoder, device: str) -> dict[str, np.ndarray]:
    image, wave = encoder_image(clip, encoder.info), encoder_audio(clip, encoder.info)
    found = _encode(encoder, image[None].to(device), wave[None].to(device), [clip.id], clip.tiles)
    tensors = {name: getattr(found, name) for name in ARRAYS}
    return {name: x[0].float().cpu().numpy() for name, x in tensors.items() if x is not None}


def _encode(encoder: Encoder, images: Tensor, waves: Tensor, ids: Sequence[str], tiles: int) -> Features:
    """What an encoder makes of clips of equally many tiles, checked.

    Raises:
        AvlocError: It fails, or returns something else than it promised.
        DataError: The features of a clip are not finite.
    """
    name = f"The encoder {type(encoder).__name__}"
    with blaming(f"{name} failed on clip {', '.join(map(repr, ids[:3]))}{', ...' if len(ids) > 3 else ''}"):
        image_map, image, backbone = encoder.encode_image(images)
        found = Features(image_map, image, *encoder.encode_audio(waves), backbone)
    dim, (height, width) = encoder.info.dim, encoder.info.image_grid
    promised: dict[str, tuple[int, ...]] = {
        "image_map": (dim, height, width * tiles), "image": (dim,), "audio_map": (dim, *encoder.info.audio_grid),
        "audio": (dim,), "backbone_map": (encoder.info.backbone_dim, height, width * tiles),
    }  # fmt: skip
    if backbone is None and not encoder.info.backbone_dim:
        del promised["backbone_map"]
    for array, shape in promised.items():
        tensor, wanted = getattr(found, array), (len(ids), *shape)
        got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if got != wanted:
            raise AvlocError(f"{name} promised {array} of shape {wanted} for clip {ids[0]!r}, but returned {got}.")
        finite = tensor.isfinite().flatten(1).all(1)
        if not finite.all():
            id = ids[int(finite.int().argmin())]
            raise DataError(f"{name} made values of clip {id!r} that are not finite ({array}).")
    return found


def _ahead(dataset: Dataset, ids: Sequence[str]) -> Iterator[tuple[str, Future[Sample]]]:
    """Every clip in order, decoded a few clips ahead of whoever asks."""
    left = iter(ids)
    with ThreadPoolExecutor(READERS) as pool:
        waiting = deque((id, pool.submit(load_clip, dataset, id)) for id in islice(left, 2 * READERS))
        try:
            while waiting:
                yield waiting.popleft()
                waiting.extend((id, pool.submit(load_clip, dataset, id)) for id in islice(left, 1))
        finally:
            pool.shutdown(cancel_futures=True)
