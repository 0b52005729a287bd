"""What was run, read back: scored again under other protocols, joined by predictions made elsewhere.

In comes the store, out come manifests that tables read. ``avloc score`` calls it.
"""

from avloc.results.external import Wanted, score_external
from avloc.results.manifest import Invocation, Manifest, Options, Row, column_of, row_of
from avloc.results.rescoring import LONGEST_NAME, rescore
from avloc.results.results import Results

__all__ = [
    "LONGEST_NAME",
    "Invocation",
    "Manifest",
    "Options",
    "Results",
    "Row",
    "Wanted",
    "column_of",
    "rescore",
    "row_of",
    "score_external",
]
