"""VGGSound-Single and VGGSound-Duet: clips of VGGSound with the boxes of VGG-SS, alone or two side by side.

The files are those of the AVGN and T-VSL releases, read as published. Class names are VGGSound's own ("female speech,
woman speaking"), sorted, because text prompts need them; names in the lists (``female_speech_woman_speaking``) are
mapped to the classes of VGG-SS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from avloc import AvlocError, DataError, unknown
from avloc.data import Row, data_folder, on_canvas, rasterize, read_boxes
from avloc.data.prepared import (
    CUT,
    SPLITS,
    Listed,
    Tile,
    annotation,
    cut,
    cuts,
    learning_pairs,
    learning_part,
    listed_pairs,
    read_objects,
    read_rows,
)

COLUMNS = ("id", "class")
"""Of the lists of single clips."""
CORRUPT = -2.8823037615171176e16
"""A coordinate of 12 boxes of VGG-SS."""
TRAIN = ("vggsound_single_train.txt", "vggsound_duet_train.txt", "train.csv")
"""Names of the training list; the first file that exists is read. The first two have the same content."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What the annotation files say.

    Attributes:
        classes: Names of VGG-SS, sorted.
        tiles: Annotated clip -> its tile.
        train: Training clip -> its class.
        notes: Flaws with their counts.
    """

    classes: tuple[str, ...]
    tiles: Mapping[str, Tile]
    train: Mapping[str, str]
    notes: tuple[str, ...]


class VGGSoundSingle(Listed):
    """Clips of VGGSound: the middle frame, ten seconds of sound, and the boxes of VGG-SS. 5,158 test clips.

    Known flaws, and how they are handled:

    * 12 of 5,941 boxes hold the number -2.88e16, and 6 have no area. They are left out; 2 clips (M1P1xla8rg0_000000,
      MKC9LvRivTM_000030) have no other box and are reported as broken.
    * 144 clips have boxes that overlap. The truth is their union; released loaders count such pixels several times.
    * Public training lists contain clips of test videos. They are left out and counted.
    * Clips have one label, although 70 % have more than one audible class according to VGGSounder.

    Args:
        root: The data folder; ``None``: the one in the user's cache.
        split: ``train``, ``val`` (a tenth of the training list's videos) or ``test``.
        boxes: ``right``, or ``released``: as AVGN and T-VSL read them, overlaps counted and empty truths scored.
        leaks: Train on clips of test videos too.

    Raises:
        DataError: An annotation file is missing or malformed; names file and row.
    """

    title = "VGGSound-Single"
    license = "VGGSound CC BY 4.0, VGG-SS Apache-2.0"
    citation = "Chen et al., VGGSound, ICASSP 2020; Chen et al., Localizing Visual Sounds the Hard Way, CVPR 2021"
    url = "https://www.robots.ox.ac.uk/~vgg/data/vggsound/"
    revision = 2
    family = "vggsound"
    annotations: ClassVar[Mapping[str, str]] = {
        "vggss.json": "https://github.com/stoneMo/AVGN (metadata)",
        "vggsound_single_test.csv": "https://github.com/stoneMo/AVGN (metadata)",
        "vggsound_single_train.txt": "https://github.com/stoneMo/AVGN (metadata), or use VGGSound's own list: "
        "train.csv and stat.csv of https://github.com/hche11/VGGSound (data)",
        "train.csv": "https://github.com/hche11/VGGSound (data) (instead of vggsound_single_train.txt)",
        "stat.csv": "https://github.com/hche11/VGGSound (data) (with train.csv)",
    }

    def __init__(self, root: Path | None, *, split: str, boxes: str = "right", leaks: bool = False) -> None:
        if boxes not in ("right", "released"):
            raise AvlocError(unknown("value of boxes", boxes, ("right", "released")))
        folder = data_folder(root) / self.family
        lists = read_lists(folder, self.annotations, "vggsound_single", split, boxes == "right", leaks)
        found: dict[str, tuple[Tile, ...]]
        if split == "test":
            path = annotation(folder / "annotations", "vggsound_single_test.csv", self.annotations, "vggsound_single")
            rows = read_rows(path, COLUMNS, CUT)
            found = {id: (_annotated(id, row["class"], row, lists.tiles),) for id, row in rows.items()}
        else:
            found = learning_part(cuts(lists.train), split)
        super().__init__(folder, lists.classes, found, notes=lists.notes, counted=boxes == "released")
        self.leaks = leaks


class VGGSoundDuet(Listed):
    """Two clips of `VGGSoundSingle` side by side, their sounds summed. 5,158 fixed test pairs.

    Training and validation clips are finite banks of mixtures of two clips of different classes, drawn once. It has the
    flaws of `VGGSoundSingle` (every pair with one of its two broken clips is broken) and these:

    * 22 test pairs have two clips of the same class. They are kept, both sources under one label.
    * AVGN's loader gives the first clip the boxes of the second, and the second the boxes of the clip it is paired with
      as a first clip: no pair has its own boxes. T-VSL's loader has them in the first pass, but shifts the second
      source's boxes by one tile at every access, so its truth is empty in all later passes. Here, each source has its
      own boxes.

    Args:
        root, split, leaks: As in `VGGSoundSingle`.
        boxes: ``right``; ``avgn``, the mispaired boxes; ``tvsl``, the second source's truth empty. The latter two count
            overlaps and score empty truths, as released.
        bank: Mixtures to train on; a tenth as many for validation.
        same_class: Keep the 22 test pairs of one class.

    Raises:
        DataError: An annotation file is missing or malformed; names file and row.
    """

    title = "VGGSound-Duet"
    license = VGGSoundSingle.license
    citation = "Mo and Tian, Audio-Visual Grouping Network for Sound Localization from Mixtures, CVPR 2023"
    url = VGGSoundSingle.url
    revision = 3
    family = VGGSoundSingle.family
    annotations: ClassVar[Mapping[str, str]] = {
        "vggss.json": VGGSoundSingle.annotations["vggss.json"],
        "vggsound_duet_test.csv": "https://github.com/stoneMo/AVGN (metadata)",
        "vggsound_duet_train.txt": VGGSoundSingle.annotations["vggsound_single_train.txt"],
        "train.csv": "https://github.com/hche11/VGGSound (data) (instead of vggsound_duet_train.txt)",
        "stat.csv": VGGSoundSingle.annotations["stat.csv"],
    }

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        boxes: str = "right",
        leaks: bool = False,
        bank: int = 20000,
        same_class: bool = True,
    ) -> None:
        if boxes not in ("right", "avgn", "tvsl"):
            raise AvlocError(unknown("value of boxes", boxes, ("right", "avgn", "tvsl")))
        folder = data_folder(root) / self.family
        lists = read_lists(folder, self.annotations, "vggsound_duet", split, boxes == "right", leaks)
        notes = lists.notes
        if split == "test":
            path = annotation(folder / "annotations", "vggsound_duet_test.csv", self.annotations, "vggsound_duet")
            pairs = listed_pairs(path, CUT, lambda id, name, row: _annotated(id, name, row, lists.tiles))
            alike = {id for id, (first, second) in pairs.items() if first.labels == second.labels}
            notes = (*notes, *_about(pairs, len(alike), boxes, same_class))
            found = {id: pair for id, pair in _published(pairs, boxes).items() if same_class or id not in alike}
        else:
            found = learning_pairs(cuts(lists.train), split, bank)
        super().__init__(folder, lists.classes, found, notes=notes, counted=boxes != "right")
        self.leaks = leaks


def read_lists(folder: Path, published: Mapping[str, str], dataset: str, split: str, right: bool, leaks: bool) -> Lists:
    """The boxes, and the training list if it exists or `split` needs it.

    Args:
        folder: Of the family.
        published: Annotation files -> where they come from.
        dataset: Registered name.
        split: ``train``, ``val`` or ``test``.
        right: Leave out boxes without area, and report clips that have no other box as broken.
        leaks: Keep training clips of test videos.
    """
    if split not in SPLITS:
        raise AvlocError(unknown("split", split, SPLITS))
    files = folder / "annotations"
    tiles, notes = read_boxes_of_vggss(annotation(files, "vggss.json", published, dataset), right)
    classes = tuple(sorted({tile.labels[0] for tile in tiles.values()}))
    name = next((name for name in TRAIN if (files / name).is_file()), "")
    if not name and split == "test":
        return Lists(classes, tiles, {}, notes)
    path = files / name if name else annotation(files, next(n for n in published if n in TRAIN), published, dataset)
    others = _other_classes(annotation(files, "stat.csv", published, dataset)) if name == "train.csv" else set()
    names = {spelled: label for label in classes for spelled in (label, spell(label))}
    train: dict[str, str] = {}
    excluded = leaking = 0
    tested = {tile.group for tile in tiles.values()}
    for id, row in read_rows(path, COLUMNS, CUT).items():
        label = row["class"]
        if label not in names and label not in others:
            raise DataError(f"{row.where}: {unknown('class', label, names)}")
        excluded += label not in names
        leaking += label in names and id[:11] in tested
        if label in names and (leaks or id[:11] not in tested):
            train[id] = names[label]
    if excluded:
        notes += (f"{excluded:,} clips of {path.name} have a class that VGG-SS does not have and are not trained on.",)
    kept = "are trained on anyway (leaks)" if leaks else "are left out"
    notes += (f"{leaking:,} training clips come from videos of the test clips of VGG-SS and {kept}.",)
    return Lists(classes, tiles, train, notes)


def read_boxes_of_vggss(path: Path, right: bool) -> tuple[dict[str, Tile], tuple[str, ...]]:
    """``vggss.json`` as tiles, and its flaws.

    Raises:
        DataError: A box extends beyond the frame (except for `CORRUPT`) or is inverted; an id is wrong or repeated.
    """
    tiles: dict[str, Tile] = {}
    total = corrupt = flat = overlapping = spoiled = 0
    for id, entry in read_objects(path, ("class", "bbox"), CUT).items():
        boxes = read_boxes(entry.where, entry.values["bbox"])
        bad = (boxes == CORRUPT).any(axis=1)
        inside = on_canvas(boxes[~bad])
        if inside is None or (inside[:, 2:] < inside[:, :2]).any():
            raise DataError(f"{entry.where}: boxes should be x1 <= x2, y1 <= y2 in [0, 1], not {boxes.tolist()}.")
        boxes[~bad] = inside
        empty = ~bad & (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
        good = boxes[~bad & ~empty]
        total, corrupt, flat = total + len(boxes), corrupt + int(bad.sum()), flat + int(empty.sum())
        spoiled += not len(good)
        overlapping += bool(rasterize(good, 224, 224).max(initial=0) > 1)
        reason = f"{path.name}: none of its {len(boxes)} boxes covers anything." if right and not len(good) else ""
        tiles[id] = replace(
            cut(id, str(entry.values["class"])), boxes=(good if right else boxes.clip(0, 1),), unusable=reason
        )
    left_out, scored = ("left out", "broken") if right else ("kept", "scored on an empty truth")
    return tiles, (
        f"VGG-SS: {corrupt} of {total:,} boxes hold the number -2.88e16 and {flat} have no area; they are {left_out}, "
        f"and {spoiled} clips without any other box are {scored}.",
        f"{overlapping} clips of VGG-SS have boxes that overlap; their pixels count "
        + ("once (released loaders: once per box)." if right else "once per box, as released."),
    )


def spell(name: str) -> str:
    """``female speech, woman speaking`` -> ``female_speech_woman_speaking``, as in the lists."""
    return "_".join(re.split("[, ]+", name))


def _annotated(id: str, spelled: str, row: Row, tiles: Mapping[str, Tile]) -> Tile:
    """A listed clip's tile, with its class as in VGG-SS."""
    if id not in tiles:
        raise DataError(f"{row.where}: the clip {id!r} has no boxes in vggss.json.")
    label = tiles[id].labels[0]
    if spelled not in (label, spell(label)):
        names = {spell(name) for tile in tiles.values() for name in tile.labels}
        hint = f"vggss.json has {label!r}" if spelled in names else unknown("class", spelled, names)
        raise DataError(f"{row.where}: the clip {id!r} should not have the class {spelled!r}: {hint}.")
    return tiles[id]


def _published(pairs: Mapping[str, tuple[Tile, Tile]], boxes: str) -> dict[str, tuple[Tile, ...]]:
    """The pairs with the boxes that a released loader assigns to them."""
    partner = {first.recording.id: second for first, second in pairs.values()}
    found: dict[str, tuple[Tile, ...]] = {}
    for id, (first, second) in pairs.items():
        if boxes == "avgn":
            if second.recording.id not in partner:
                raise DataError(f"vggsound_duet_test.csv: no row begins with {second.recording.id!r}, as AVGN needs.")
            third = partner[second.recording.id]
            found[id] = replace(first, boxes=second.boxes), replace(second, boxes=third.boxes)
        elif boxes == "tvsl":
            found[id] = first, replace(second, boxes=(np.zeros((0, 4)),))
        else:
            found[id] = first, second
    return found


def _about(pairs: Mapping[str, tuple[Tile, Tile]], alike: int, boxes: str, same_class: bool) -> Iterator[str]:
    """Notes for tables over the duets."""
    spoiled = sum(any(tile.unusable for tile in pair) for pair in pairs.values())
    if spoiled:
        yield f"{spoiled} of {len(pairs):,} duets have a clip without any box that covers something and are broken."
    yield f"{alike} of {len(pairs):,} duets have two clips of one class and are {'kept' if same_class else 'left out'}."
    if boxes == "avgn":
        yield f"ATTENTION: all {len(pairs):,} duets are scored on the boxes of other clips, as in AVGN's release."
    elif boxes == "tvsl":
        yield (
            f"ATTENTION: the second source of all {len(pairs):,} duets is scored on an empty truth, as in every pass "
            "of T-VSL's release except the first."
        )


def _other_classes(path: Path) -> set[str]:
    """The 309 names of VGGSound, in both spellings."""
    rows = read_rows(path, ("class", "training clips", "test clips"), ".+")
    return {spelled for name in rows for spelled in (name, spell(name))}
