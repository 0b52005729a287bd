"""VGGSound-Instruments: clips of musical instruments with masks, alone or two side by side.

Class names are VGGSound's ("playing violin, fiddle"), sorted, because text prompts need them; the lists' own names
("violin") are mapped to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from avloc import AvlocError, DataError, unknown
from avloc.data import Row, data_folder
from avloc.data.prepared import (
    CUT,
    SPLITS,
    Listed,
    Recording,
    Tile,
    annotation,
    cuts,
    learning_pairs,
    learning_part,
    listed_pairs,
    read_rows,
)

SAMPLE = r"sample[0-9]{4}"
"""Format of a test clip's id."""
TRAIN = ("vgginstruments_train.txt", "vgginstruments_multi_train.txt")
"""Names of the training list, which have the same content; the first file that exists is read."""
TESTED = {"vggsound_test.csv": ("id", "class"), "vggss_test.csv": ("id",)}
"""Other benchmarks' test lists, and their columns; clips of the lists that exist are left out of training."""
NAMES = (
    "accordion acoustic_guitar banjo bass_drum bass_guitar bongo cello clarinet congas cornet cymbal djembe "
    "double_bass drum_kit electric_guitar electronic_organ erhu flute glockenspiel guiro hammond_organ harp "
    "harpsichord mandolin piano saxophone sitar snare_drum steel_guitar tabla timbales trumpet ukulele vibraphone "
    "violin xylophone zither"
)
RENAMED = {
    "steel_guitar": "playing steel guitar, slide guitar",
    "violin": "playing violin, fiddle",
    "xylophone": "playing marimba, xylophone",
}
CLASSES = {name: RENAMED.get(name, f"playing {name.replace('_', ' ')}") for name in NAMES.split()}
"""Name in the lists -> class of VGGSound."""


class VGGSoundInstruments(Listed):
    """Clips of single instruments: a frame, its sound, and one mask. 446 test clips of 36 classes, 37 in training.

    Known flaws, and how they are handled:

    * The training list contains 1,850 clips of VGGSound's test split, of which 868 are test clips of VGG-SS. Clips of
      those videos are left out and counted if ``vggsound_test.csv`` or ``vggss_test.csv`` exists.
    * The videos of the test samples are not published, so a further overlap can be neither detected nor excluded.
    * The class of the erhu has no test clip.

    Args:
        root: The data folder; ``None``: the one in the user's cache.
        split: ``train``, ``val`` (a tenth of the training list's videos) or ``test``.
        leaks: Also train on clips of test videos of VGGSound and VGG-SS, as released.

    Raises:
        DataError: An annotation file is missing or malformed; names file and row.
    """

    title = "VGGSound-Instruments"
    license = "VGGSound CC BY 4.0; the masks have no published license"
    citation = "Hu et al., Mix and Localize: Localizing Sound Sources in Mixtures, CVPR 2022"
    url = "https://github.com/hxixixh/mix-and-localize"
    revision = 3
    family = "vggsound_instruments"
    annotations: ClassVar[Mapping[str, str]] = {
        "vgginstruments_test.csv": "https://github.com/stoneMo/AVGN (metadata)",
        "vgginstruments_train.txt": "https://github.com/stoneMo/AVGN (metadata)",
        "vggsound_test.csv": "https://github.com/hche11/VGGSound (data), as test.csv (optional, see leaks)",
        "vggss_test.csv": "https://github.com/stoneMo/AVGN (metadata) (optional, see leaks)",
    }

    def __init__(self, root: Path | None, *, split: str, leaks: bool = False) -> None:
        folder = data_folder(root) / self.family
        classes = tuple(sorted(CLASSES.values()))
        found: dict[str, tuple[Tile, ...]]
        train, notes = _training(folder, self.annotations, "vggsound_instruments", split, leaks)
        if split == "test":
            path = annotation(
                folder / "annotations", "vgginstruments_test.csv", self.annotations, "vggsound_instruments"
            )
            rows = read_rows(path, ("id", "class"), SAMPLE)
            found = {id: (_sample(id, row["class"], row),) for id, row in rows.items()}
            notes += _about(classes, found)
        else:
            found = learning_part(cuts(train), split)
        super().__init__(folder, classes, found, notes=notes)


class VGGSoundInstrumentsDuet(Listed):
    """Two clips of `VGGSoundInstruments` side by side, their sounds summed. 446 fixed test pairs, none of one class.

    Training and validation clips are finite banks of mixtures of two clips of different classes, drawn once. The flaws
    are those of `VGGSoundInstruments`.

    Args:
        root, split, leaks: As in `VGGSoundInstruments`.
        bank: Mixtures to train on; a tenth as many for validation.

    Raises:
        DataError: An annotation file is missing or malformed; names file and row.
    """

    title = "VGGSound-Instruments duet"
    license = VGGSoundInstruments.license
    citation = "Mo and Tian, Audio-Visual Grouping Network for Sound Localization from Mixtures, CVPR 2023"
    url = VGGSoundInstruments.url
    revision = 3
    family = VGGSoundInstruments.family
    annotations: ClassVar[Mapping[str, str]] = {
        "vgginstruments_multi_test.csv": "https://github.com/stoneMo/AVGN (metadata)",
        "vgginstruments_multi_train.txt": "https://github.com/stoneMo/AVGN (metadata)",
        "vggsound_test.csv": VGGSoundInstruments.annotations["vggsound_test.csv"],
        "vggss_test.csv": VGGSoundInstruments.annotations["vggss_test.csv"],
    }

    def __init__(self, root: Path | None, *, split: str, leaks: bool = False, bank: int = 20000) -> None:
        folder = data_folder(root) / self.family
        classes = tuple(sorted(CLASSES.values()))
        found: dict[str, tuple[Tile, ...]]
        train, notes = _training(folder, self.annotations, "vggsound_instruments_duet", split, leaks)
        if split == "test":
            name = "vgginstruments_multi_test.csv"
            path = annotation(folder / "annotations", name, self.annotations, "vggsound_instruments_duet")
            found = dict(listed_pairs(path, SAMPLE, _sample))
            notes += _about(classes, found)
        else:
            found = learning_pairs(cuts(train), split, bank)
        super().__init__(folder, classes, found, notes=notes)


def _training(
    folder: Path, published: Mapping[str, str], dataset: str, split: str, leaks: bool
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The training list, clip -> class, if it exists or `split` needs it, and its flaws.

    Args:
        folder: Of the family.
        published: Annotation files -> where they come from.
        dataset: Registered name.
        split: ``train``, ``val`` or ``test``.
        leaks: Keep clips of other benchmarks' test videos.
    """
    if split not in SPLITS:
        raise AvlocError(unknown("split", split, SPLITS))
    files = folder / "annotations"
    name = next((name for name in TRAIN if (files / name).is_file()), "")
    if not name and split == "test":
        return {}, ()
    path = files / name if name else annotation(files, next(n for n in published if n in TRAIN), published, dataset)
    labels = {id: _label(row["class"], row) for id, row in read_rows(path, ("id", "class"), CUT).items()}
    tested: set[str] = set()
    notes = []
    for name in TESTED:
        if (files / name).is_file():
            ids = {id for id, _ in read_rows(files / name, TESTED[name], CUT).items()}
            notes.append(f"{len(ids & labels.keys()):,} training clips of {path.name} are in {name}.")
            tested |= {id[:11] for id in ids}
    leaking = {id for id in labels if id[:11] in tested}
    if tested:
        kept = "are trained on anyway (leaks)" if leaks else "are left out"
        notes.append(f"{len(leaking):,} training clips come from videos that these lists test on and {kept}.")
    else:
        notes.append(f"Without {' or '.join(TESTED)} no training clip that VGGSound or VGG-SS tests on is left out.")
    return {id: label for id, label in labels.items() if leaks or id not in leaking}, tuple(notes)


def _sample(id: str, name: str, row: Row) -> Tile:
    """A test clip."""
    return Tile(Recording(id, id, (id,), mask=True), (_label(name, row),), id)


def _label(name: str, row: Row) -> str:
    if name not in CLASSES:
        raise DataError(f"{row.where}: {unknown('class', name, CLASSES)}")
    return CLASSES[name]


def _about(classes: Sequence[str], clips: Mapping[str, tuple[Tile, ...]]) -> tuple[str, ...]:
    """Notes for tables over the test clips."""
    absent = sorted(set(classes) - {label for tiles in clips.values() for tile in tiles for label in tile.labels})
    notes = (f"{len(absent)} of {len(classes)} classes have no test clip: {', '.join(absent)}.",) if absent else ()
    return (*notes, "Which videos the test clips come from is not published: clips of them may be trained on.")
