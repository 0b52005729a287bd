"""What there is of the data sets: which splits open, which of their clips can be used, and why the others cannot."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from avloc.components import Component, check_parameters, read_setting
from avloc.data import open_split
from avloc.data.prepared.lists import SPLITS
from avloc.data.prepared.recordings import HasRecordings
from avloc.interfaces import Dataset
from avloc.progress import say
from avloc.registry import registry
from avloc.store import data_folder
from avloc.types import AvlocError, Status, unknown


class ChecksAnnotations(ABC):
    """A data set that reads users' own annotation files (``avloc data check FILE``): inherit before `Dataset`."""

    checks: ClassVar[tuple[str, ...]]
    """Suffixes of the files it understands, such as ``.csv``."""

    @classmethod
    @abstractmethod
    def check(cls, file: Path, parameters: Mapping[str, Any]) -> list[str]:
        """Everything wrong with such a file and its media, read with these parameters, a sentence each."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A data set's splits.

    Attributes:
        splits: Those whose annotations are there.
        failed: Split -> why it does not open.
        absent: Annotation files that are not there -> where their authors publish them.
    """

    splits: dict[str, Dataset]
    failed: dict[str, str]
    absent: dict[str, str]

    @property
    def optional(self) -> dict[str, str]:
        """Those of `absent` that the splits which opened do without, and that no other split asks for."""
        asked = " ".join(self.failed.values())
        return {file: place for file, place in self.absent.items() if self.splits and file not in asked}


def dataset_class(name: str) -> type[Dataset]:
    """A registered data set's class.

    Raises:
        AvlocError: There is no such data set ("did you mean"), or its plugin does not import.
    """
    found: type[Dataset] = registry().get("dataset", name)
    return found


def open_splits(name: str, data: Path | None, settings: Sequence[str] = (), split: str | None = None) -> Opened:
    """Open a data set's splits, as far as their annotations are there.

    Args:
        name: As registered.
        data: What ``--data`` says.
        settings: ``"parameter=value"``; values are YAML.
        split: One of them; ``None``: train, val and test.

    Raises:
        AvlocError: An unknown data set or parameter, or a setting that cannot be read.
    """
    if split and split not in SPLITS:
        raise AvlocError(unknown("split", split, SPLITS))
    cls: Any = dataset_class(name)  # constructors differ
    parameters = dict(read_setting(text) for text in settings)
    check_parameters("dataset", Component(name=name, params=parameters), cls)
    opened = Opened({}, {}, {})
    if issubclass(cls, HasRecordings):
        files = data_folder(data) / cls.family / "annotations"
        opened.absent.update((file, place) for file, place in cls.annotations.items() if not (files / file).is_file())
    for one in (split,) if split else SPLITS:
        try:
            opened.splits[one] = open_split(cls, data, one, parameters)
        except AvlocError as error:
            opened.failed[one] = str(error)
    return opened


@dataclass(frozen=True, slots=True)
class Report:
    """What can be used of a split.

    Attributes:
        split: Its name.
        ids: The official list.
        status: Present, missing and broken clips.
        classes: Class -> how many clips are present, missing and broken; a clip of two classes counts in both.
    """

    split: str
    ids: Sequence[str]
    status: Status
    classes: Mapping[str, Counter[str]] = field(default_factory=dict)

    @property
    def counts(self) -> str:
        """Such as ``4,812 of 5,158 test clips``."""
        return f"{len(self.status.present):,} of {len(self.ids):,} {self.split} clips"

    @property
    def verdict(self) -> str:
        """`counts`, and the `list_hash` of the present clips."""
        return f"{self.counts}, list hash {list_hash(self.status.present)}"


def list_hash(ids: Iterable[str]) -> str:
    """What two people compare to know that they scored the same clips, in whatever order.

    The first 12 hex digits of the SHA-256 over the sorted ids, a line each.
    """
    return hashlib.sha256("".join(f"{id}\n" for id in sorted(ids)).encode()).hexdigest()[:12]


def inspect(split: str, dataset: Dataset, *, classes: bool = False) -> Report:
    """Look at a split; decodes nothing.

    Args:
        split: Its name.
        dataset: Opened.
        classes: Whether to count classes.
    """
    ids, status = list(dataset.ids()), dataset.status()
    counts: dict[str, Counter[str]] = {}
    for id in ids if classes else ():
        state = "missing" if id in status.missing else "broken" if id in status.broken else "present"
        try:
            labels = set(dataset.labels(id))
        except AvlocError:  # they cannot be had without the clip's media
            labels = {"unknown"}
        for label in labels:
            counts.setdefault(label, Counter())[state] += 1
    return Report(split, ids, status, dict(sorted(counts.items())))


def reasons(clips: Mapping[str, str]) -> dict[str, list[str]]:
    """Reason, as its first clip has it -> its clips, whatever file or number they name; the most frequent first."""
    groups: dict[str, tuple[str, list[str]]] = {}
    for id, sentence in clips.items():
        text = sentence.split(": ", 1)[-1]  # without its file's name
        groups.setdefault(re.sub(r"\d+(\.\d+)?", "#", text), (text, []))[1].append(id)
    return dict(sorted(groups.values(), key=lambda group: -len(group[1])))


class Listing(NamedTuple):
    """A registered data set in ``avloc data list``.

    Attributes:
        name: As registered.
        needs: Annotation files and media.
        place: Where they are, or would be.
        state: ``present``, ``partly``, ``absent``, ``built in``, ``yours`` or ``broken``, with what there is to say.
    """

    name: str
    needs: str
    place: str
    state: str


def listings(data: Path | None) -> list[Listing]:
    """Every registered data set, seen through its test split."""
    return [_listing(name, data) for name in registry().entries("dataset")]


def _listing(name: str, data: Path | None) -> Listing:
    try:
        cls = dataset_class(name)
    except AvlocError as error:
        return Listing(name, "", "", f"broken: {error}")
    if issubclass(cls, ChecksAnnotations):
        return Listing(name, f"a {' or '.join(cls.checks)} file that names your media", "anywhere", "yours")
    if not issubclass(cls, HasRecordings):
        return Listing(name, "nothing", "made when needed", "built in")
    folder = data_folder(data) / cls.family
    needs = f"{', '.join(cls.annotations)}; videos"
    opened = open_splits(name, data, split="test")
    if not opened.splits:
        reason = opened.failed["test"]
        gone = [file for file in opened.absent if file in reason]
        return Listing(name, needs, str(folder), f"absent: {f'no {gone[0]}' if gone else reason}")
    dataset = opened.splits["test"]
    report = inspect("test", dataset)
    present = len(report.status.present)
    state = "absent" if not present else "present" if present == len(report.ids) else "partly"
    assert isinstance(dataset, HasRecordings)
    masks = " and masks" if any(recording.mask for recording in dataset.recordings()) else ""
    return Listing(name, needs + masks, str(folder), f"{state}: {report.counts}")


def check_file(file: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Everything wrong with a user's annotation file, a sentence each, as said by the data sets that read such files.

    Args:
        file: The annotation file.
        parameters: Those of the data set that say how to read it, such as ``mask_values``.

    Raises:
        AvlocError: There is no such file, no data set reads files of its suffix, or it has no such parameter.
    """
    if not file.is_file():
        raise AvlocError(f"{file}: the file is missing.")
    suffixes: set[str] = set()
    problems: list[str] = []
    for name in registry().entries("dataset"):
        try:
            cls = dataset_class(name)
        except AvlocError as error:  # one broken plugin must not keep the others from checking
            say(str(error))
            continue
        if not issubclass(cls, ChecksAnnotations):
            continue
        suffixes.update(cls.checks)
        if file.suffix.lower() in cls.checks:
            check_parameters("dataset", Component(name=name, params=dict(parameters)), cls)
            problems += cls.check(file, parameters)
    if file.suffix.lower() not in suffixes:
        known = ", ".join(sorted(suffixes)) or "none"
        raise AvlocError(f"{file}: no data set reads such files of users; known: {known}.")
    return list(dict.fromkeys(problems))
