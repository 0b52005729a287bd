"""One column of a table: a data set's splits seen through an encoder, opened, checked and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avloc.components import component_id, make_encoder, open_dataset
from avloc.features import Encoded, encode_text, encoder_identity
from avloc.interfaces import Dataset, Encoder
from avloc.registry import registry
from avloc.runner.run import Stage
from avloc.suite import SuiteDataset
from avloc.training import Supply
from avloc.types import AvlocError, DataError, Sample, Status


class AbsentError(AvlocError):
    """A dataset that may be absent, and is; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Column:
    """What the runs of a column share.

    Attributes:
        title: Of the dataset, as tables print it; empty: its name.
        notes: Sentences for the table.
        stages: With cached features (False), and with clips that are encoded in every step (True).
    """

    title: str
    notes: list[str]
    stages: dict[bool, Stage]


class Nothing(Dataset):
    """A split of which this machine has not even the list."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    def ids(self) -> Sequence[str]:
        return ()

    def status(self) -> Status:
        return Status(())

    def load(self, id: str) -> Sample:
        raise DataError(f"There is no clip {id!r}: the split is not on this machine.")

    def fingerprint(self) -> str:
        return "nothing"


def absence(entry: SuiteDataset, data: Path | None) -> str:
    """Why a dataset that may be absent is; empty when it is there. Makes and encodes nothing."""
    try:
        if entry.obtain:
            _look(entry, data)
    except AvlocError as error:
        return str(error)
    return ""


def _look(entry: SuiteDataset, data: Path | None) -> tuple[Dataset, Encoder]:
    """The test split and the encoder of a dataset that may be absent."""
    if entry.name not in registry().entries("dataset"):
        raise AbsentError(f"no installed plugin reads {entry.name!r} yet")
    if entry.encoder.name not in registry().entries("encoder"):
        raise AbsentError(f"no installed plugin provides the encoder {entry.encoder.name!r} yet")
    try:
        test: Dataset = registry().get("dataset", entry.name)(data, split="test", **entry.params)
        if not test.status().present:
            raise AbsentError("none of its test clips is on this machine")
        encoder: Encoder = make_encoder(entry.encoder)
    except AvlocError as error:
        raise AbsentError(str(error)) from error
    return test, encoder


def open_column(entry: SuiteDataset, data: Path | None, limit: int | None, device: str, live: set[bool]) -> Column:
    """Make, check and encode a dataset's splits.

    Args:
        entry: The dataset and its encoder.
        data: Where the user's datasets are.
        limit: Only the first clips of every split.
        device: Where to encode.
        live: Which stages the runs ask for.

    Raises:
        AbsentError: A dataset that may be absent is.
        AvlocError: One that must be there is not, or its encoder cannot be built.
    """
    if entry.obtain:
        test, encoder = _look(entry, data)
    else:
        test = open_dataset(entry, "test", data)
        encoder = make_encoder(entry.encoder)
    splits, lacking = _training(entry, data, test)
    return _encode(entry, splits, encoder.to(device), limit, device, live, lacking)


def _training(entry: SuiteDataset, data: Path | None, test: Dataset) -> tuple[dict[str, Dataset], str]:
    """All splits; where there is no training list here, why."""
    try:
        train, val = (open_dataset(entry, split, data) for split in ("train", "val"))
    except DataError as error:
        nothing = Nothing(test.classes)
        return {"train": nothing, "val": nothing, "test": test}, str(error)
    return {"train": train, "val": val, "test": test}, ""


def _encode(
    entry: SuiteDataset,
    splits: Mapping[str, Dataset],
    encoder: Encoder,
    limit: int | None,
    device: str,
    live: set[bool],
    lacking: str,
) -> Column:
    test, fingerprint = splits["test"], encoder.fingerprint()
    identity = {
        "data": {**component_id(entry, type(test)), "fingerprints": {"test": test.fingerprint()}},
        "encoder": {**component_id(entry.encoder, type(encoder)), **encoder_identity(encoder, fingerprint)},
    }
    known, asked = splits["train"].classes, test.classes
    asked = known if set(asked) <= set(known) else asked
    text, asked_text = (encode_text(encoder, names, fingerprint) for names in (known, asked))
    notes, made = list(test.notes), {}
    for one in live:
        supply = Supply(splits, encoder, entry.name, limit, device, fingerprint, one, known, text)
        encoded = {split: supply.encoded(split) for split in splits}
        notes += [note for note in _unusable(encoded) if note not in notes]
        untrainable = "" if encoded["train"].ids else lacking or "none of its training clips is on this machine"
        made[one] = Stage(identity, encoder.info, supply, encoded["test"], test, asked, asked_text, device, untrainable)
    return Column(type(test).title, notes, made)


def _unusable(encoded: Mapping[str, Encoded]) -> list[str]:
    """Sentences on training clips that could not be used; the test clips' are in the scores."""
    sentences = []
    for split in ("train", "val"):
        lost = {**encoded[split].missing, **encoded[split].broken}
        if lost:
            id, reason = next(iter(lost.items()))
            total = len(lost) + len(encoded[split].ids)
            sentences.append(f"{len(lost)} of {total} {split} clips could not be used, the first: {id} ({reason}).")
    return sentences
