"""What comes from a data set, which anyone may have written, is checked once where it enters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
