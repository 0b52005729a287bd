"""All problems of an annotation file, a list of mixtures, and the media, a sentence each."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from avloc import DataError, track
from avloc.data import Heard, MaskValues, file_digest, is_still, read_frame, read_header, read_image, read_mask, say

from .entries import NOTHING, Entry, scan_entries, unknown_columns
from .mixtures import REQUIRED, scan_mixtures
from .moments import read_moment

FULL = 0.999
MOST_FULL = 0.01
"""A sound with more samples at full scale than this share is clipped."""
SHORT = 1.0
"""Seconds."""
SMALL, LARGE, SLIM = 16, 1 << 25, 4
"""Smallest side in pixels, number of pixels, and aspect ratio beyond which an image is reported."""
RARE, COMMON = 2, 5
"""A label of at most `RARE` clips may be a misspelling of a label with `COMMON` times as many."""


class Use(NamedTuple):
    """A file that a clip is read from, and which moment of it."""

    name: str
    kind: Literal["image", "frame", "sound", "mask"]
    at: float | None = None
    start: float | None = None
    end: float | None = None


def check(path: Path, values: MaskValues | None = None) -> list[str]:
    """All problems of a file, in its order within each kind: rows, labels, splits, media (all are decoded once)."""
    if "members" in read_header(path):
        return _check_list(path)
    entries, wrong = scan_entries(path)
    clips = list(entries.values())
    named = [*_spelling(clips), *_untrained(clips), *_shared(clips, "group", lambda entry: [entry.group])]
    named += [*_underscores(clips), *_copies(path.parent, clips)]
    named += _shared(clips, "file", lambda entry: dict.fromkeys(name for name in (entry.media, entry.audio) if name))
    found = [f"{path}, line {line}: {sentence}" for line, sentence in named]
    sources = [source for entry in clips for source in entry.sources if source.unusable]
    boxes = [f"{path}, line {source.line}: {source.unusable}" for source in sources]
    return [
        *[f"{path}: {sentence}" for sentence in unknown_columns(path)],
        *wrong,
        *boxes,
        *found,
        *_media(path, clips, values),
    ]


def _check_list(path: Path) -> list[str]:
    """Check a list of mixtures against the annotation file beside it that has most of its members."""
    beside = [other for other in sorted(path.parent.glob("*.csv")) if {"media", "label"} <= set(read_header(other))]
    if not beside:
        return [f"{path}: a list of mixtures belongs beside its annotation CSV, but there is none."]
    known = {other: scan_entries(other)[0] for other in beside}
    members = [member for mixture in scan_mixtures(path, {})[0] for member in mixture.members]
    most = max(known, key=lambda other: sum(member in known[other] for member in members))
    say(f"{path} is compared with {most}.")
    return [
        *[f"{path}: {sentence}" for sentence in unknown_columns(path, REQUIRED)],
        *scan_mixtures(path, known[most])[1],
    ]


def _spelling(clips: list[Entry]) -> Iterator[tuple[int, str]]:
    """Labels that may be misspellings of another label."""
    counts = Counter(label for entry in clips for label in entry.labels if label)
    lines = {label: entry.line for entry in reversed(clips) for label in entry.labels}
    for label, count in counts.items():
        common = [other for other in counts if counts[other] > count or (counts[other] == count and other < label)]
        twins = [other for other in common if _plain(other) == _plain(label)]
        if count <= RARE and not twins:
            frequent = [other for other in common if counts[other] >= COMMON * count]
            twins = difflib.get_close_matches(label, frequent, n=1, cutoff=0.8)
        if twins:
            other = f"{twins[0]!r} of {_many(counts[twins[0]])}"
            yield lines[label], f"the label {label!r} of {_many(count)} looks like {other}. Did you mean that?"


def _plain(label: str) -> str:
    """Ignore case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", label).casefold()


def _many(clips: int) -> str:
    return f"{clips} clip{'s' * (clips != 1)}"


def _untrained(clips: list[Entry]) -> Iterator[tuple[int, str]]:
    """Classes of test clips that have no training clips, if there are training clips."""
    learned = {label for entry in clips if entry.split == "train" for label in entry.labels}
    tested = [entry for entry in clips if entry.split == "test"]
    counts = Counter(label for entry in tested for label in entry.labels)
    lines = {label: entry.line for entry in reversed(tested) for label in entry.labels}
    for label, count in counts.items():
        if learned and label not in {*learned, NOTHING}:
            yield lines[label], f"the class {label!r} of {_many(count)} in test has no training clips."


def _shared(
    clips: list[Entry], what: str, values: Callable[[Entry], list[str] | dict[str, None]]
) -> Iterator[tuple[int, str]]:
    """Groups or files of test clips that are also in training."""
    learned = {value: entry.line for entry in clips if entry.split in ("train", "val") for value in values(entry)}
    tested = {value: entry.line for entry in reversed(clips) if entry.split == "test" for value in values(entry)}
    for value, line in tested.items():
        if value in learned:
            yield line, f"the {what} {value!r} is tested here and trained on in line {learned[value]}."


def _underscores(clips: list[Entry]) -> Iterator[tuple[int, str]]:
    """Labels that text encoders are given with spaces."""
    lines = {label: entry.line for entry in reversed(clips) for label in entry.labels if "_" in label}
    for label, line in lines.items():
        yield line, f"the label {label!r} has underscores; text encoders read {label.replace('_', ' ')!r}."


def _copies(folder: Path, clips: list[Entry]) -> Iterator[tuple[int, str]]:
    """Test clips with a file of the same content as one that is trained on, or that are another test clip once more."""
    hashes = {
        name: file_digest(folder / name)
        for name in dict.fromkeys(name for entry in clips for name in (entry.media, entry.audio))
        if name and (folder / name).is_file()
    }
    learned = {
        hashes[name]: (name, entry.split)
        for entry in reversed(clips)
        for name in (entry.media, entry.audio)
        if name in hashes and entry.split in ("train", "val")
    }
    seen: dict[tuple[object, ...], Entry] = {}
    for entry in (entry for entry in clips if entry.split == "test"):
        names = [name for name in (entry.media, entry.audio) if name]
        for name in names:
            known, split = learned.get(hashes.get(name, ""), (name, ""))
            if known != name:
                use = "trained on" if split == "train" else "validated on"
                yield entry.line, f"{name} has the same content as {known}, which is {use}."
                break
        if all(name in hashes for name in names):
            twin = seen.setdefault((*(hashes[name] for name in names), entry.at, entry.start, entry.end), entry)
            if twin is not entry:
                yield entry.line, f"the clip {entry.id!r} has the image and sound of {twin.id!r} in line {twin.line}."


def _media(path: Path, clips: list[Entry], values: MaskValues | None) -> list[str]:
    """Decode every file once, as many at a time as there are cores."""
    uses: dict[Use, int] = {}
    for entry in clips:
        for use in _uses(entry):
            uses.setdefault(use, entry.line)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda use: _inspect(path.parent, use, values), uses)
        found = list(track(results, "decode", len(uses)))
    complaints = zip(uses.values(), found, strict=True)
    # A missing video would be reported twice, for image and sound.
    return list(dict.fromkeys(f"{path}, line {line}: {sentence}" for line, all in complaints for sentence in all))


def _uses(entry: Entry) -> Iterator[Use]:
    if entry.media:
        yield Use(entry.media, "image" if entry.pictured else "frame", at=entry.moment)
    if entry.sound and not (entry.pictured and not entry.audio):
        yield Use(entry.sound, "sound", start=entry.start, end=entry.end)
    for name in entry.masks:
        yield Use(name, "mask")


def _inspect(folder: Path, use: Use, values: MaskValues | None) -> list[str]:
    """What is wrong with one file."""
    path = folder / use.name
    try:
        if use.kind == "sound":
            return [f"{path}: {trait}" for trait in _odd_sound(*read_moment(path, use.start, use.end))]
        if use.kind == "mask":
            read_mask(path, values, black=True)
            return []
        image = read_image(path) if use.kind == "image" else read_frame(path, use.at)
        still = use.kind == "frame" and is_still(path)
        odd = [*_odd_image(image), *(["the video shows one picture all the time."] if still else [])]
        return [f"{path}: {trait}" for trait in odd]
    except DataError as error:
        return [str(error)]


def _odd_sound(channels: npt.NDArray[np.float32], rate: int) -> Iterator[str]:
    heard = Heard.of(channels, rate)
    full = float((np.abs(channels.mean(axis=0)) >= FULL).mean())
    if heard.seconds < SHORT:
        yield f"the sound lasts {heard.seconds:.2f} s; encoders repeat it to fill their window."
    if heard.canceled:
        which = "left and right cancel" if len(channels) == 2 else f"its {len(channels)} channels cancel"
        peaks = f"their mean, which is heard, peaks at {heard.peak:.1g}, the loudest of them at {heard.loudest:.2g}"
        yield f"{which} ({peaks} of full scale); keep one channel."
    elif heard.silent:
        yield f"the sound is silent (its peak is {heard.peak:.1g} of full scale)."
    elif full > MOST_FULL:
        yield f"the sound is clipped: {full:.0%} of its samples are at full scale."


def _odd_image(image: npt.NDArray[np.uint8]) -> Iterator[str]:
    height, width = image.shape[:2]
    size = f"the image is {width} x {height} pixels"
    if min(height, width) < SMALL:
        yield f"{size}; sources cannot be seen in so few."
    elif max(height, width) > SLIM * min(height, width):
        yield f"{size}; encoders squash it to a square."
    if height * width > LARGE:
        yield f"{size}; every load decodes all of them, so make it smaller."
