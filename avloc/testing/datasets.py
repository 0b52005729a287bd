"""What every data set must do so that its clips are scored as they are, tried on its own clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from avloc.data import check_splits, load_clip, load_truth, open_split
from avloc.data.prepared import SPLITS
from avloc.interfaces import Dataset
from avloc.testing.findings import ConformanceError, named, require, require_attributes, require_parameters
from avloc.types import AvlocError, Clip, DataError, Sample, Status, Truth

CLIPS = 24
"""Of each split, evenly spread over what is present: checks decode each a few times."""
READERS = 4
"""Threads, as many as decode ahead of an encoder."""


class Subject:
    """A data set on trial: its splits, and clips out of each.

    Args:
        kind: The class.
        parameters: Of its constructor; `root` among them is the folder of the user's data.
    """

    def __init__(self, kind: type[Dataset], parameters: Mapping[str, Any]) -> None:
        self.kind = kind
        self.root = None if parameters.get("root") is None else Path(parameters["root"])
        self.parameters = {name: value for name, value in parameters.items() if name != "root"}

    def open(self, split: str) -> Dataset:
        """A split as a new object, its media made where they can be."""
        made = open_split(self.kind, self.root, split, self.parameters)
        made.prepare()
        return made

    @cached_property
    def splits(self) -> dict[str, Dataset]:
        """Those that open; ``test`` must."""
        found = {"test": self.open("test")}
        for split in ("train", "val"):
            try:
                found[split] = self.open(split)
            except AvlocError:
                require(split == "train" or "train" not in found, "It has a train split, but val does not open.")
        return {split: found[split] for split in SPLITS if split in found}

    @cached_property
    def statuses(self) -> dict[str, Status]:
        """Of each split, asked once: the default decodes every clip."""
        return {split: dataset.status() for split, dataset in self.splits.items()}

    @cached_property
    def chosen(self) -> dict[str, list[str]]:
        """Split -> the ids to be tried."""
        found = {}
        for split, status in self.statuses.items():
            present = status.present
            places = np.unique(np.linspace(0, len(present) - 1, min(CLIPS, len(present))).round().astype(int))
            found[split] = [present[place] for place in places]
        return found

    @cached_property
    def samples(self) -> dict[str, dict[str, Sample]]:
        """Split -> id -> the clip, of those that can be loaded."""
        found: dict[str, dict[str, Sample]] = {split: {} for split in self.splits}
        for split, dataset in self.splits.items():
            for id in self.chosen[split]:
                try:
                    found[split][id] = dataset.load(id)
                except DataError:
                    continue  # a broken clip is counted in every table; `loads` says where there are no others
        return found

    def each(self) -> Iterator[tuple[str, Dataset, str, Sample]]:
        """Split, data set, id and clip, one after another."""
        for split, samples in self.samples.items():
            for id, sample in samples.items():
                yield split, self.splits[split], id, sample


def described(subject: Subject) -> None:
    """Tables and lists print them."""
    require_attributes(subject.kind, ("title",))


def parametrized(subject: Subject) -> None:
    """So that a suite can set them and a run's id can hold them."""
    require_parameters(subject.kind, ("root",), split=True)


def opens(subject: Subject) -> None:
    """An id stands for one clip of one split."""
    for split, dataset in subject.splits.items():
        ids, classes = list(dataset.ids()), dataset.classes
        require(ids, f"The {split} split has no ids.")
        require(all(isinstance(id, str) and id for id in ids), f"The ids of the {split} split must be strings.")
        require(ids == list(dataset.ids()), f"ids() of the {split} split changes from call to call.")
        right = isinstance(classes, tuple) and classes and len(set(classes)) == len(classes)
        require(right, f"classes must be a tuple of different names, but are {classes!r}.")
    with named("its splits"):
        check_splits(subject.kind.__name__, subject.splits)


def accounted(subject: Subject) -> None:
    """Tables count every clip of the list, once."""
    for split, dataset in subject.splits.items():
        ids, status = list(dataset.ids()), subject.statuses[split]
        counted = [*status.present, *status.missing, *status.broken]
        strange = sorted(set(counted) ^ set(ids)) or [id for id, count in Counter(counted).items() if count > 1]
        finding = "is in ids() and status() of the {} split not once each; every clip is present, missing or broken."
        require(not strange, f"The clip {next(iter(strange), '')!r} {finding.format(split)}")
        mute = [id for found in (status.missing, status.broken) for id, reason in found.items() if not reason]
        require(not mute, f"status() says no reason for the clip {next(iter(mute), '')!r}.")


def loads(subject: Subject) -> None:
    """Shapes, labels and boxes as promised; what cannot be used raises `DataError`."""
    for split, dataset in subject.splits.items():
        ids, reasons = subject.chosen[split], []
        status = subject.statuses[split]
        why = next(iter({**status.missing, **status.broken}.values()), "")
        require(ids, f"No clip of the {split} split can be loaded. The first: {why}")
        for id in [*ids, *list(status.broken)[:CLIPS]]:
            if reason := _refusal(dataset, id):
                reasons += [reason] if id in ids else []
                continue
            with named("a clip"):
                load_clip(dataset, id)
        require(len(reasons) < len(ids), f"No clip of the {split} split can be used. The first: {(reasons or [''])[0]}")


def _refusal(dataset: Dataset, id: str) -> str:
    """Why a clip cannot be used; empty where it can."""
    try:
        dataset.load(id)
    except DataError as error:
        return str(error)
    except Exception as error:
        finding = f"load({id!r}) raised {type(error).__name__}: {error}"
        raise ConformanceError(f"{finding}. What cannot be used raises a DataError that says why.") from error
    return ""


def annotated(subject: Subject) -> None:
    """Test clips are scored, by the truth that belongs to the image."""
    for split, dataset, id, sample in subject.each():
        require(split != "test" or sample.truth is not None, f"The test clip {id!r} has no truth; it cannot be scored.")
        if sample.truth is None:
            continue
        with named("a truth"):
            truth = load_truth(dataset, id)
        require(_same_truth(truth, sample.truth), f"truth({id!r}) is not the truth that load({id!r}) returns.")
        peak = truth.masks.max(initial=0)
        require(peak <= 1, f"The masks of clip {id!r} must be in [0, 1], but reach {peak:g}.")
        require(dataset.labels(id) == sample.labels, f"labels({id!r}) are not the labels that load({id!r}) returns.")


def repeatable(subject: Subject) -> None:
    """A clip is the same whenever and by whomever it is loaded."""
    for split, dataset in subject.splits.items():
        other, samples = subject.open(split), subject.samples[split]
        for id, sample in samples.items():
            for what, again in (("a second time", dataset.load(id)), ("by another object", other.load(id))):
                changed = _change(sample, again)
                require(not changed, f"Loaded {what}, the clip {id!r} has another {changed}.")


def threaded(subject: Subject) -> None:
    """Several threads decode ahead of an encoder."""
    for split, dataset in subject.splits.items():
        samples = subject.samples[split]
        with ThreadPoolExecutor(READERS) as pool:
            for (id, sample), again in zip(samples.items(), pool.map(dataset.load, samples), strict=True):
                changed = _change(sample, again)
                require(not changed, f"Loaded by one of {READERS} threads, the clip {id!r} has another {changed}.")


def given_away(subject: Subject) -> None:
    """Who changes what was loaded does not change what is loaded next."""
    for split, _, id, _ in list(subject.each())[:: CLIPS // 4]:
        dataset = subject.open(split)  # of its own: what is spoiled here must not be found again by other checks
        taken = dataset.load(id)
        sample = deepcopy(taken)
        arrays: list[Any] = [taken.clip.image, taken.clip.audio, *([taken.truth.masks] if taken.truth else [])]
        for array in arrays:
            if array.flags.writeable:
                array[...] = 0
        changed = _change(sample, dataset.load(id))
        require(not changed, f"load({id!r}) hands out its own arrays: changing them changes the {changed} it has next.")


def keyed(subject: Subject) -> None:
    """The feature cache finds a clip by its content."""
    for split, dataset in subject.splits.items():
        again, seen = subject.open(split), dict[str, str]()
        for id, sample in subject.samples[split].items():
            content = dataset.content(id)
            require(content and isinstance(content, str), f"content({id!r}) must be a string, but is {content!r}.")
            require(content == again.content(id), f"content({id!r}) is another in a second object.")
            twin = seen.setdefault(content, id)
            changed = _change(subject.samples[split][twin], sample, truth=False)
            require(not changed, f"The clips {twin!r} and {id!r} have one content(), but not the same {changed}.")


def fingerprinted(subject: Subject) -> None:
    """Stored predictions are found by the fingerprint."""
    seen: dict[str, str] = {}
    for split, dataset in subject.splits.items():
        fingerprint = dataset.fingerprint()
        require(subject.open(split).fingerprint() == fingerprint, f"fingerprint() of {split} is another the next time.")
        first = seen.setdefault(fingerprint, split)
        same = list(subject.splits[first].ids()) == list(dataset.ids())
        require(same, f"The splits {first} and {split} list other clips, but share a fingerprint().")


def separate(subject: Subject) -> None:
    """What is tested was not trained on, under another name either."""
    if any(dataset.leaks for dataset in subject.splits.values()):
        return  # it says so, and tables count it
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for split, _, id, sample in subject.each():
        media = str(hash((sample.clip.image.tobytes(), sample.clip.channels.tobytes())))
        for what, value in (("group", sample.clip.group or id), ("image and sound", media)):
            first = seen.setdefault((what, value), (split, id))
            same = first[0] == split
            require(same, f"The clips {first[1]!r} ({first[0]}) and {id!r} ({split}) have the same {what}.")


def _change(one: Sample, other: Sample, *, truth: bool = True) -> str:
    """What differs between two loads; empty where nothing does."""
    a, b = one.clip, other.clip
    same = {
        "image": np.array_equal(a.image, b.image),
        "sound": a.rate == b.rate and np.array_equal(a.channels, b.channels),
        "tiles": a.tiles == b.tiles, "group": _group(a) == _group(b), "labels": one.labels == other.labels,
        "truth": not truth or _same_truth(one.truth, other.truth),
    }  # fmt: skip
    return next((name for name, equal in same.items() if not equal), "")


def _group(clip: Clip) -> str:
    return "" if clip.group == clip.id else clip.group


def _same_truth(one: Truth | None, other: Truth | None) -> bool:
    if one is None or other is None:
        return one is other

    def arrays(truth: Truth) -> Sequence[Any]:
        return [truth.masks, *truth.boxes, *([] if truth.ignore is None else [truth.ignore])]

    pairs = arrays(one), arrays(other)
    return (
        one.labels == other.labels
        and len(pairs[0]) == len(pairs[1])
        and all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))
    )


CHECKS: dict[str, Callable[[Subject], None]] = {
    "title and docstring are there": described,
    "parameters are keyword-only JSON values with defaults": parametrized,
    "splits open, with unique ids": opens,
    "every clip is present, missing or broken": accounted,
    "clips are what they should be": loads,
    "truth and labels are those of the clip": annotated,
    "a clip loaded again is the same": repeatable,
    "threads may load": threaded,
    "loaded arrays are the caller's": given_away,
    "one content, one clip": keyed,
    "fingerprints are stable, one per split": fingerprinted,
    "no video is in two splits": separate,
}
