"""Data sets whose media are extracted once: recordings, annotation lists, extraction, and what there is of them.

Takes the videos and annotation files that a user has, and writes frames, sounds and masks under ``--data``. The papers'
data sets and ``avloc data`` call it.
"""

from avloc.data.prepared.inventory import (
    ChecksAnnotations,
    Opened,
    check_file,
    inspect,
    list_hash,
    listings,
    open_splits,
    reasons,
)
from avloc.data.prepared.lists import (
    CUT,
    SPLITS,
    Entry,
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
from avloc.data.prepared.preparation import Prepared, prepare
from avloc.data.prepared.recordings import HasRecordings, Recording, Recordings

__all__ = [
    "CUT",
    "SPLITS",
    "ChecksAnnotations",
    "Entry",
    "HasRecordings",
    "Listed",
    "Opened",
    "Prepared",
    "Recording",
    "Recordings",
    "Tile",
    "annotation",
    "check_file",
    "cut",
    "cuts",
    "inspect",
    "learning_pairs",
    "learning_part",
    "list_hash",
    "listed_pairs",
    "listings",
    "open_splits",
    "prepare",
    "read_objects",
    "read_rows",
    "reasons",
]
