"""What comes from a data set, which anyone may have written, is checked once where it enters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from avloc.data.boxes import on_canvas
from avloc.types import DataError, Sample, Truth, blaming

if TYPE_CHECKING:
    from avloc.interfaces import Dataset


def check_splits(name: str, splits: Mapping[str, Dataset]) -> None:
    """Check that an id stands for one clip of one split.

    Args:
        name: Of the data set, for the message.
        splits: Split -> data set.

    Raises:
        DataError: An id is in a split twice, or in two splits where `Dataset.leaks` is false.
    """
    seen: dict[str, str] = {}
    leaking = any(dataset.leaks for dataset in splits.values())
    for split, dataset in splits.items():
        ids = list(dataset.ids())
        repeated = [id for id, count in Counter(ids).items() if count > 1]
        if repeated:
            raise DataError(f"{name}: the clip {repeated[0]!r} is in the {split} split twice; ids must differ.")
        shared = [id for id in ids if id in seen]
        if shared and not leaking:
            raise DataError(f"{name}: the clip {shared[0]!r} is in the {seen[shared[0]]} and the {split} split.")
        seen |= dict.fromkeys(ids, split)


def repeated(media: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """That test clips have the image and sound of other clips, in training or in the test itself.

    Args:
        media: Split -> id -> a digest of the clip's image and sound, as `Dataset.media` gives it.
    """
    learned: dict[str, str] = {}
    tested: dict[str, str] = {}
    for split in ("train", "val"):
        for id, found in media.get(split, {}).items():
            learned.setdefault(found, id)
    leaks, twins = [], []
    test = media.get("test", {})
    for id, found in test.items():
        if learned.get(found, id) != id:
            leaks.append(f"{id} is {learned[found]}")
        if tested.setdefault(found, id) != id:
            twins.append(f"{id} is {tested[found]}")
    if leaks:
        yield (
            f"ATTENTION: {len(leaks)} of {len(test)} test clips have the image and sound of a clip that is trained "
            f"or validated on under another name, the first: {leaks[0]}."
        )
    if twins:
        yield (
            f"ATTENTION: {len(twins)} of {len(test)} test clips have the image and sound of another test clip, the "
            f"first: {twins[0]}."
        )


def media_of(splits: Mapping[str, Dataset]) -> dict[str, dict[str, str]]:
    """Split -> id -> `Dataset.media` of the clips that are present, for `repeated`."""
    found: dict[str, dict[str, str]] = {}
    for split, dataset in splits.items():
        found[split] = {}
        for id in dataset.status().present:
            with suppress(DataError):  # it is counted as broken elsewhere
                found[split][id] = dataset.media(id)
    return found


def load_clip(dataset: Dataset, id: str) -> Sample:
    """`Dataset.load`, checked.

    Raises:
        DataError: It raised, whatever, or its result is not what it should be; names the data set and the clip.
    """
    where = _where(dataset, id)
    with blaming(where, DataError):
        sample = dataset.load(id)
    if not isinstance(sample, Sample):
        raise DataError(f"{where}: load should return avloc.Sample, not {type(sample).__name__}.")
    if sample.clip.id != id:
        raise DataError(f"{where}: load returned the clip {sample.clip.id!r}.")
    _check_labels(dataset, sample.labels, where)
    if sample.truth is not None:
        _check_truth(dataset, sample.truth, where)
        size, masks = sample.clip.image.shape[:2], sample.truth.masks.shape[1:]
        if masks != size:
            raise DataError(f"{where}: masks must have the image's size, {size}, but have {masks}.")
    return sample


def load_truth(dataset: Dataset, id: str) -> Truth:
    """`Dataset.truth`, checked.

    Raises:
        DataError: It raised, whatever, or its result is not what it should be; names the data set and the clip.
    """
    where = _where(dataset, id)
    with blaming(where, DataError):
        truth = dataset.truth(id)
    if not isinstance(truth, Truth):
        raise DataError(f"{where}: truth should return avloc.Truth, not {type(truth).__name__}.")
    _check_truth(dataset, truth, where)
    return truth


def _where(dataset: Dataset, id: str) -> str:
    return f"{dataset.title or type(dataset).__name__}, clip {id!r}"


def _check_labels(dataset: Dataset, labels: Sequence[str], where: str) -> None:
    for label in labels:
        if label not in dataset.classes:
            raise DataError(f"{where}: the label {label!r} is not in the data set's classes.")


def _check_truth(dataset: Dataset, truth: Truth, where: str) -> None:
    _check_labels(dataset, truth.labels, where)
    for boxes in truth.boxes:
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DataError(f"{where}: the boxes of a source must be (n, 4), but are {boxes.shape}.")
        if on_canvas(boxes) is None:
            raise DataError(f"{where}: boxes must be shares of the canvas, from 0 to 1, but are {boxes.tolist()}.")
