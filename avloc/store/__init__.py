"""What is on disk: atomic writes, append logs of arrays, run folders, the cache.

Takes arrays and records, and returns the same ones after any crash. Features, training, scoring and the runner call it.
"""

from avloc.store.arrays import ArrayLog, round_to_half
from avloc.store.cache import clear, entries
from avloc.store.disk import (
    cache_folder,
    data_folder,
    exclusive,
    read_json,
    replacing,
    tag_as_cache,
    weights_folder,
    write_json,
    writing,
)
from avloc.store.hashing import content_id, digest, file_digest
from avloc.store.manifest import Counts, DatasetEntry, Manifest, MetricEntry, Row, Score, score_path
from avloc.store.runs import RunFolder, provenance
from avloc.store.tensors import read_tensors, write_tensors

__all__ = [
    "ArrayLog",
    "Counts",
    "DatasetEntry",
    "Manifest",
    "MetricEntry",
    "Row",
    "RunFolder",
    "Score",
    "cache_folder",
    "clear",
    "content_id",
    "data_folder",
    "digest",
    "entries",
    "exclusive",
    "file_digest",
    "provenance",
    "read_json",
    "read_tensors",
    "replacing",
    "round_to_half",
    "score_path",
    "tag_as_cache",
    "weights_folder",
    "write_json",
    "write_tensors",
    "writing",
]
