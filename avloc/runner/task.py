"""A task: a data set's splits seen through an encoder, its classes and their text, as several runs share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from avloc.components import component_id, make_encoder, open_dataset
from avloc.data import check_splits
from avloc.data.prepared import SPLITS
from avloc.features import (
    Altered,
    FeatureSet,
    cached_features,
    canvases,
    computed_features,
    encode_text,
    encoder_identity,
    no_features,
)
from avloc.interfaces import Dataset, Encoder, Needs
from avloc.registry import registry
from avloc.suite import SuiteDataset, Train
from avloc.training import TrainingData
from avloc.types import AvlocError, DataError


class AbsentError(AvlocError):
    """A data set that may be absent, and is; the text is the reason."""


@dataclass(slots=True)
class Task:
    """A data set's splits and an encoder; what is asked for is encoded then, and kept.

    Attributes:
        name: Of the data set.
        splits: ``train``, ``val`` and ``test``, as far as they are on this machine.
        encoder: In evaluation mode on `device`, frozen.
        identity: Names, parameters, revisions and fingerprints of data and encoder, for ids.
        classes: The class names that training shows.
        test_classes: Those that predictions are about: the same, or other ones (zero-shot).
        text, test_text: ``(N, D)`` embeddings of both, where the encoder has a text tower.
        limit: Only the first clips of every split.
        device: Where the encoder is and methods run.
        lacking: Why there is no training list; empty where there is one.
    """

    name: str
    splits: Mapping[str, Dataset]
    encoder: Encoder
    identity: Mapping[str, Any]
    classes: tuple[str, ...]
    test_classes: tuple[str, ...]
    text: Tensor | None
    test_text: Tensor | None
    limit: int | None = None
    device: str = "cpu"
    lacking: str = ""
    _made: dict[tuple[str, bool], FeatureSet] = field(default_factory=dict)

    @property
    def test(self) -> Dataset:
        """For the truths."""
        return self.splits["test"]

    @property
    def unseen(self) -> tuple[str, ...]:
        """Test classes that training does not show."""
        return tuple(name for name in self.test_classes if name not in self.classes)

    def features(self, split: str, *, computed: bool) -> FeatureSet:
        """A split as it is: features from the cache, or `computed` in every step."""
        if split not in self.splits:
            return no_features()
        return self._once(self.name, split, computed, lambda: self.splits[split], self.limit)

    def untrainable(self, *, computed: bool) -> str:
        """Why nothing can be learned here; empty when there are training clips."""
        clips = self.features("train", computed=computed)
        if clips.ids:
            return ""
        broken = f"none of its training clips can be used: {next(iter(clips.broken.values()))}" if clips.broken else ""
        return self.lacking or broken or "none of its training clips is on this machine"

    def training_data(self, needs: Needs, train: Train) -> TrainingData:
        """What a method with these needs learns from.

        Raises:
            AvlocError: It learns from canvases, but the clips are canvases of another number of tiles.
        """
        clips = {split: self._canvases(split, needs.tiles, train.computed) for split in ("train", "val")}
        banks: dict[str, tuple[FeatureSet, FeatureSet]] = {
            view: (self._bank("train", view, needs, train), self._bank("val", view, needs, train))
            for view in needs.views
            if view in ("augmented", "shifted_audio")
        }
        return TrainingData(clips["train"], clips["val"], self.classes, self.text, banks, train.copies)

    def _canvases(self, split: str, tiles: int, computed: bool) -> FeatureSet:
        """A split as canvases of that many tiles."""
        plain = self.features(split, computed=computed)
        if not self._to_tile(plain, tiles):
            return plain
        return self._once(f"{self.name}-{tiles}tiles", split, computed, lambda: self._mixed(split, plain, tiles))

    def _bank(self, split: str, view: str, needs: Needs, train: Train) -> FeatureSet:
        """Altered copies of a split."""
        plain = self.features(split, computed=train.computed)
        tile = self._to_tile(plain, needs.tiles)

        def altered() -> Dataset:
            data = self._mixed(split, plain, needs.tiles) if tile else self.splits[split]
            ids = self._canvases(split, needs.tiles, train.computed).ids
            return Altered(data, ids, train.copies, pixels=view == "augmented")

        name = f"{self.name}-{needs.tiles}tiles-{view}" if tile else f"{self.name}-{view}"
        return self._once(name, f"{split} {train.copies}", train.computed, altered)

    def _to_tile(self, clips: FeatureSet, tiles: int) -> bool:
        """Whether clips must be put side by side for canvases of that many."""
        have = {clips.tiles(id) for id in clips.ids}
        if not tiles or have <= {tiles}:
            return False
        if have != {1}:
            raise AvlocError(f"It learns from canvases of {tiles} clips, but those of {self.name} have {sorted(have)}.")
        return True

    def _mixed(self, split: str, clips: FeatureSet, tiles: int) -> Dataset:
        return canvases(self.splits[split], {id: clips.group(id) for id in clips.ids}, tiles)

    def _once(
        self, name: str, split: str, computed: bool, data: Callable[[], Dataset], limit: int | None = None
    ) -> FeatureSet:
        key = f"{name} {split}", computed
        if key not in self._made:
            if computed:
                self._made[key] = computed_features(data(), self.encoder, name, limit=limit)
            else:
                fingerprint = self.identity["encoder"]["encoder"]
                self._made[key] = cached_features(
                    data(), self.encoder, name, limit=limit, device=self.device, fingerprint=fingerprint
                )
        return self._made[key]


def absence(entry: SuiteDataset, data: Path | None) -> str:
    """Why a data set that may be absent is; empty when it is there. Makes and encodes nothing."""
    try:
        if entry.obtain:
            _look(entry, data)
    except AvlocError as error:
        return str(error)
    return ""


def _look(entry: SuiteDataset, data: Path | None) -> tuple[Dataset, Encoder]:
    """The test split and the encoder of a data set that may be absent."""
    if entry.name not in registry().entries("dataset"):
        raise AbsentError(f"no installed plugin reads {entry.name!r} yet")
    if entry.encoder.name not in registry().entries("encoder"):
        raise AbsentError(f"no installed plugin provides the encoder {entry.encoder.name!r} yet")
    try:
        test: Dataset = registry().get("dataset", entry.name)(data, split="test", **entry.params)
        if not test.status().present:
            raise AbsentError("none of its test clips is on this machine")
        encoder = make_encoder(entry.encoder)
    except AvlocError as error:
        raise AbsentError(str(error)) from error
    return test, encoder


def open_task(entry: SuiteDataset, data: Path | None, limit: int | None = None, device: str = "cpu") -> Task:
    """Open and check a data set's splits and its encoder.

    Args:
        entry: The data set and its encoder.
        data: Where the user's data sets are.
        limit: Only the first clips of every split.
        device: Where to encode.

    Raises:
        AbsentError: A data set that may be absent is.
        AvlocError: One that must be there is not, or its encoder cannot be built.
    """
    if entry.obtain:
        test, encoder = _look(entry, data)
    else:
        test, encoder = open_dataset(entry, "test", data), make_encoder(entry.encoder)
    splits, lacking = _splits(entry, data, test)
    return make_task(entry, splits, encoder.to(device), limit=limit, device=device, lacking=lacking)


def _splits(entry: SuiteDataset, data: Path | None, test: Dataset) -> tuple[dict[str, Dataset], str]:
    """All splits; where there is no training list here, why."""
    try:
        train, val = (open_dataset(entry, split, data) for split in ("train", "val"))
    except DataError as error:
        return {"test": test}, str(error)
    return {"train": train, "val": val, "test": test}, ""


def make_task(
    entry: SuiteDataset,
    splits: Mapping[str, Dataset],
    encoder: Encoder,
    *,
    limit: int | None = None,
    device: str = "cpu",
    lacking: str = "",
) -> Task:
    """The task of splits and an encoder that are open already."""
    check_splits(entry.name, splits)
    test, fingerprint = splits["test"], encoder.fingerprint()
    identity = {
        "data": {**component_id(entry, type(test)), "fingerprints": {"test": test.fingerprint()}},
        "encoder": {**component_id(entry.encoder, type(encoder)), **encoder_identity(encoder, fingerprint)},
    }
    known = splits["train"].classes if "train" in splits else test.classes
    asked = known if set(test.classes) <= set(known) else test.classes
    text, asked_text = (encode_text(encoder, names, fingerprint) for names in (known, asked))
    return Task(entry.name, splits, encoder, identity, known, asked, text, asked_text, limit, device, lacking)


def unusable(task: Task, *, computed: bool) -> Iterator[str]:
    """Sentences on training clips that could not be used; the test clips' are in the scores."""
    for split in ("train", "val"):
        clips = task.features(split, computed=computed)
        lost = {**clips.missing, **clips.broken}
        if lost:
            id, reason = next(iter(lost.items()))
            total = len(lost) + len(clips.ids)
            yield f"{len(lost)} of {total} {split} clips could not be used, the first: {id} ({reason})."


def task_notes(task: Task, forms: Iterable[bool]) -> list[str]:
    """Encode the splits, cached, computed or both; returns the sentences that a table prints about the data."""
    notes = list(task.test.notes)
    for computed in forms:
        for split in SPLITS:
            task.features(split, computed=computed)
        notes += [note for note in unusable(task, computed=computed) if note not in notes]
    return notes
