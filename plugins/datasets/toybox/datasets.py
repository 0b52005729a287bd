"""Toybox: a procedural data set of real mp4 files with exact masks, built in and generated on first use.

Classes are compositional, adjective x noun ("striped bell"): 48 in all, of which 12 combinations are kept out of
training. One world, three presentations: `ToyboxSingle` (one source among silent objects), `ToyboxDuet` (single clips
side by side, sounds summed, as VGGSound-Duet is built) and `ToyboxScene` (several sources in one frame). The objects'
boxes have the areas, aspects and positions of VGG-SS's (`layout`). The truth has the box of every source's visible
part, which protocols score that use boxes (``truth: boxes_union``, as the built-in suites do), and its exact mask
(``truth: mask``). Train and test clips differ in seed, backgrounds and layout; ``val`` is a held-out part of train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from avloc import AvlocError, Clip, DataError, Dataset, Sample, Status, Truth
from avloc.data import Members, Mixtures, cache_folder, digest, read_audio, read_frame, tag_as_cache

from .files import VERSION, Annotation, name_of, read_log, verify
from .kinds import SEEN, UNSEEN, Kind
from .layout import Recipe
from .making import make

SPLITS = {"train": 0, "val": 1, "test": 2}


def _folder(root: Path | None) -> Path:
    return (root or cache_folder()) / "toybox" / VERSION


def _names(kinds: Sequence[Kind]) -> tuple[str, ...]:
    return tuple(sorted(kind.name for kind in kinds))


class _Toybox(Dataset):
    """The common base of the presentations: clips as files in a split's folder."""

    license = "Apache-2.0 (made by avloc)"
    citation = "avloc, built-in data"
    revision = 2
    presentation: int
    """Part of every clip's entropy."""

    def __init__(
        self, root: Path | None, *, split: str, seed: int = 0, train: int, val: int, test: int, unseen: bool = False
    ) -> None:
        if split not in SPLITS:
            raise AvlocError(f"toybox has no split {split!r}; it has {', '.join(SPLITS)}.")
        self.split, self.seed = split, seed
        self.count = {"train": train, "val": val, "test": test}[split]
        self.kinds = UNSEEN if unseen and split == "test" else SEEN
        self.classes = _names(self.kinds)
        self.folder = _folder(root) / f"{self._variant()}-{seed}" / (split + "-unseen" * (self.kinds is UNSEEN))
        self._annotations: dict[str, Annotation] | None = None

    def _variant(self) -> str:
        raise NotImplementedError

    def _recipe(self, index: int) -> Recipe:
        raise NotImplementedError

    def ids(self) -> Sequence[str]:
        prefix = f"{self._variant()}-{self.seed}-{self.folder.name}"
        return [f"{prefix}-{name_of(index)}" for index in range(self.count)]

    def prepare(self) -> None:
        tag_as_cache(self.folder.parents[2])
        recipes = [self._recipe(index) for index in range(self.count)]
        entropy = (self.seed, SPLITS[self.split] + 8 * (self.kinds is UNSEEN), self.presentation)
        make(self.folder, recipes, entropy, f"make {self._variant()} {self.folder.name}")
        self._annotations = None

    def _annotation(self, id: str) -> Annotation:
        if self._annotations is None:
            self._annotations = read_log(self.folder)
        name = id.rpartition("-")[2]
        if name not in self._annotations:
            raise DataError(f"Clip {id!r} has not been made yet; call prepare() or run avloc bench.")
        return self._annotations[name]

    def status(self) -> Status:
        present, missing, broken = [], {}, {}
        for id in self.ids():
            try:
                sizes = self._annotation(id)["bytes"]
            except DataError as error:
                missing[id] = str(error)
                continue
            wrong = [self.folder / name for name, size in sizes.items() if _size(self.folder / name) != size]
            if not wrong:
                present.append(id)
            elif wrong[0].is_file():
                broken[id] = f"{wrong[0]} was changed after it was made (its size differs)"
            else:
                missing[id] = f"{wrong[0]} is gone; delete {self.folder} and it is made again"
        return Status(tuple(present), missing, broken)

    def load(self, id: str) -> Sample:
        annotation = self._annotation(id)
        verify(self.folder, annotation)
        video = self.folder / f"{annotation['name']}.mp4"
        audio, rate = read_audio(video)
        truth = self.truth(id)
        clip = Clip(id, read_frame(video, at=annotation["frame_time"]), audio, rate, group=id)
        return Sample(clip, truth, truth.labels)

    def labels(self, id: str) -> tuple[str, ...]:
        objects = self._annotation(id)["objects"]
        return tuple(dict.fromkeys(item["label"] for item in objects if item["sounding"]))

    def truth(self, id: str) -> Truth:
        annotation = self._annotation(id)
        path = self.folder / f"{annotation['name']}.png"
        numbers = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if numbers is None:
            raise DataError(f"{path} is gone or no image; delete {self.folder} and it is made again.")
        sounding = [item for item in annotation["objects"] if item["sounding"]]
        masks = np.stack([(numbers == item["number"]).astype(np.float32) for item in sounding])
        boxes = tuple(np.array([item["box"]]) for item in sounding)
        return Truth(masks, tuple(item["label"] for item in sounding), boxes)

    def content(self, id: str) -> str:
        return digest([id, self._annotation(id)["content"]])

    def media(self, id: str) -> str:
        return str(self._annotation(id)["content"])

    def fingerprint(self) -> str:
        present = {id: self._annotation(id)["content"] for id in self.status().present}
        return digest([self.classes, list(self.ids()), present])[:16]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


class ToyboxSingle(_Toybox):
    """One sounding object per clip, one or two silent ones, and in one of five clips a sound from off-screen.

    Args:
        root: The folder of the generated media; ``None``: the user's cache.
        split: ``train``, ``val`` or ``test``.
        seed: Seed of the whole data set.
        train, val, test: Clips per split; a larger number keeps the earlier clips.
        unseen: Test on the 12 classes that training never shows; train and val have the 36 others.
        alone: One object that sounds, and nothing else: what the encoder `tiny` is trained on.
    """

    title = "Toybox single"

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        seed: int = 0,
        train: int = 800,
        val: int = 120,
        test: int = 200,
        unseen: bool = False,
        alone: bool = False,
    ) -> None:
        self.alone, self.presentation = alone, 3 if alone else 0
        super().__init__(root, split=split, seed=seed, train=train, val=val, test=test, unseen=unseen)

    def _variant(self) -> str:
        return "alone" if self.alone else "single"

    def _recipe(self, index: int) -> Recipe:
        return Recipe(self.kinds) if self.alone else Recipe(self.kinds, silent=(1, 2), offscreen=0.2)


class ToyboxScene(_Toybox):
    """Several sounding objects in one frame, up to two silent ones; sounds from off-screen in three of ten clips.

    Half of the training clips have one source and half have two; test clips have `sources`. Areas are 0.6 of a single
    clip's, and less with three or four sources.

    Args:
        root, split, seed, train, val, test, unseen: As in `ToyboxSingle`.
        sources: Sounding objects of a test clip, 1 to 4.
    """

    title = "Toybox scene"
    presentation = 1

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        seed: int = 0,
        train: int = 1200,
        val: int = 150,
        test: int = 200,
        sources: int = 2,
        unseen: bool = False,
    ) -> None:
        if not 1 <= sources <= 4:
            raise AvlocError(f"toybox scenes have 1 to 4 sources, not {sources}.")
        self.sources = sources
        super().__init__(root, split=split, seed=seed, train=train, val=val, test=test, unseen=unseen)

    def _variant(self) -> str:
        return f"scene{self.sources}" if self.split == "test" else "scene"

    def _recipe(self, index: int) -> Recipe:
        sources = self.sources if self.split == "test" else 1 + index % 2
        return Recipe(self.kinds, sources, silent=(0, 2), offscreen=0.3, scale=min(0.6, 1.2 / sources))


class ToyboxDuet(Mixtures):
    """Clips of `ToyboxSingle` side by side on one canvas, their sounds summed (VGGSound-Duet's construction).

    Train and val are finite banks of mixtures of different classes, drawn once; test is a fixed list in which every
    single test clip is the first of one mixture.

    Args:
        root, split, seed, unseen: As in `ToyboxSingle`.
        train, val, test: Number of single clips to mix.
        bank: Training mixtures; a tenth as many for validation.
        sources: Tiles side by side, 2 to 4.
    """

    title = "Toybox duet"
    license = _Toybox.license
    citation = _Toybox.citation
    revision = _Toybox.revision

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        seed: int = 0,
        train: int = 800,
        val: int = 120,
        test: int = 200,
        bank: int = 1600,
        sources: int = 2,
        unseen: bool = False,
    ) -> None:
        if not 2 <= sources <= 4:
            raise AvlocError(f"toybox duets have 2 to 4 tiles side by side, not {sources}.")
        singles = ToyboxSingle(root, split=split, seed=seed, train=train, val=val, test=test, unseen=unseen)
        size = {"train": bank, "val": bank // 10, "test": test}[split]

        def members() -> Members:
            label = {id: singles.labels(id)[0] for id in singles.ids()}
            return _drawn(label, size, sources, np.random.default_rng([seed, SPLITS[split], 2, sources]))

        super().__init__(singles, members)


def _drawn(label: Mapping[str, str], size: int, sources: int, rng: np.random.Generator) -> Members:
    """Different mixtures of single clips of different classes; clips take turns as the first one."""
    ids = list(label)
    mixtures: dict[str, tuple[str, ...]] = {}
    repeats = 0
    while len(mixtures) < size:
        members = [ids[len(mixtures) % len(ids)]]
        for index in rng.permutation(len(ids)):
            if label[ids[index]] not in [label[member] for member in members]:
                members.append(ids[index])
            if len(members) == sources:
                break
        if len(members) < sources:
            raise AvlocError(f"{len(ids)} single clips are too few classes for {sources} side by side.")
        before = len(mixtures)
        mixtures.setdefault("+".join(members), tuple(members))
        repeats = 0 if len(mixtures) > before else repeats + 1
        if repeats > 1000:
            raise AvlocError(f"{len(ids)} single clips do not make {size} different mixtures; lower bank.")
    return mixtures
