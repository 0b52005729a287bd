"""A task: a data set's splits seen through an encoder, its classes and their text, as several runs share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from avloc.components import component_id, make_encoder
from avloc.data import check_splits, open_dataset, open_split, repeated
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

    def features(self, split: str, *, computed: bool) -> FeatureSet:
        """A split as it is: features from the cache, or `computed` in every step."""
        if split not in self.splits:
            return no_features()
        return self._once(self.name, split, computed, lambda: self.splits[split], self.limit)

    def training_data(self, needs: Needs, train: Train) -> TrainingData:
        """What a method with these needs learns from.

        Raises:
            AvlocError: It learns from canvases, but the clips are canvases of another number of tiles.
        """
        train_clips, val_clips = (self._views(split, needs, train) for split in ("train", "val"))
        banks = {view: (clips, val_clips[view]) for view, clips in train_clips.items() if view}
        return TrainingData(train_clips[""], val_clips[""], self.classes, self.text, banks, train.copies)

    def _views(self, split: str, needs: Needs, train: Train) -> dict[str, FeatureSet]:
        """A split's clips under ``""``, on canvases where the method needs those, and their altered copies by view."""
        name, clips = self.name, self.features(split, computed=train.computed)
        data: Callable[[], Dataset] = partial(self.splits.__getitem__, split)
        have = {clips.tiles(id) for id in clips.ids}
        if needs.tiles and not have <= {needs.tiles}:
            if have != {1}:
                these = f"those of {self.name} have {sorted(have)}"
                raise AvlocError(f"It learns from canvases of {needs.tiles} clips, but {these}.")
            groups = {id: clips.group(id) for id in clips.ids}
            name, data = f"{name}-{needs.tiles}tiles", cache(partial(canvases, data(), groups, needs.tiles))
            clips = self._once(name, split, train.computed, data)

        def altered(view: str) -> Dataset:
            return Altered(data(), clips.ids, train.copies, pixels=view == "augmented")

        found = {"": clips}
        for view in needs.views:
            if view in ("augmented", "shifted_audio"):
                place = f"{split} {train.copies}"
                found[view] = self._once(f"{name}-{view}", place, train.computed, partial(altered, view))
        return found

    def _once(
        self, name: str, split: str, computed: bool, data: Callable[[], Dataset], limit: int | None = None
    ) -> FeatureSet:
        key = f"{name} {split}", computed
        if key not in self._made:
            if computed:
                self._made[key] = computed_features(data(), self.encoder, name, limit=limit)
            else:
                self._made[key] = cached_features(
                    data(), self.encoder, name, limit=limit, device=self.device, identity=self.identity["encoder"]
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
        test = open_split(registry().get("dataset", entry.name), data, "test", entry.params)
        if not test.status().present:
            raise AbsentError("none of its test clips is on this machine")
        encoder = make_encoder(entry.encoder)
    except AvlocError as error:
        raise AbsentError(str(error)) from error
    return test, encoder


def open_task(entry: SuiteDataset, data: Path | None, limit: int | None = None, device: str = "cpu") -> Task:
    """Open and check a data set's splits and its encoder; the encoder and the methods run on `device`.

    Raises:
        AbsentError: A data set that may be absent is.
        AvlocError: One that must be there is not, or its encoder cannot be built.
    """
    if entry.obtain:
        test, encoder = _look(entry, data)
    else:
        test, encoder = open_dataset(entry, "test", data), make_encoder(entry.encoder)
    splits, lacking = {"test": test}, ""
    try:
        splits |= {split: open_dataset(entry, split, data) for split in ("train", "val")}
    except DataError as error:
        lacking = str(error)
    return make_task(entry, splits, encoder.to(device), limit=limit, device=device, lacking=lacking)


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
    test = splits["test"]
    identity = {
        "data": {**component_id(entry, type(test)), "fingerprints": {"test": test.fingerprint()}},
        "encoder": {**component_id(entry.encoder, type(encoder)), **encoder_identity(encoder, encoder.fingerprint())},
    }
    known = splits["train"].classes if "train" in splits else test.classes
    asked = known if set(test.classes) <= set(known) else test.classes
    text, asked_text = (encode_text(encoder, names, identity["encoder"]) for names in (known, asked))
    return Task(entry.name, splits, encoder, identity, known, asked, text, asked_text, limit, device, lacking)


def task_notes(task: Task, forms: Iterable[bool]) -> list[str]:
    """Encode the splits, cached, computed or both; returns the sentences that a table prints about the data."""
    notes = dict.fromkeys([*task.test.notes, *task.test.remarks(), *_underscores(task)])
    for computed in forms:
        splits = {split: task.features(split, computed=computed) for split in SPLITS}
        media = {split: {id: clips.media(id) for id in clips.ids} for split, clips in splits.items()}
        notes |= dict.fromkeys([*_lost(splits), *_downmixed(splits["test"], task.encoder), *repeated(media)])
    return list(notes)


def _lost(splits: Mapping[str, FeatureSet]) -> Iterator[str]:
    """That clips could not be used; the scores count those of the test."""
    for split in ("train", "val"):
        clips = splits[split]
        lost = {**clips.missing, **clips.broken}
        if lost:
            (id, reason), total = next(iter(lost.items())), len(lost) + len(clips.ids)
            yield f"{len(lost)} of {total} {split} clips could not be used, the first: {id} ({reason})."


def _downmixed(test: FeatureSet, encoder: Encoder) -> Iterator[str]:
    """That clips are stereo, where the encoder is not."""
    if not encoder.info.stereo and (both := sum(map(test.stereo, test.ids))):
        yield f"{both} of {len(test.ids)} test clips are stereo; the encoder hears the mean of both channels."


def _underscores(task: Task) -> Iterator[str]:
    """That class names are changed for the text encoder, where they are."""
    names = dict.fromkeys((*task.classes, *task.test_classes))
    spelled = [name for name in names if "_" in name]
    if task.text is not None and spelled:
        count = f"{len(spelled)} of {len(names)} class names"
        yield f"The text encoder reads the underscores in {count} as spaces, the first: {spelled[0]}."
