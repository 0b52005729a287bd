"""What was run, read back: as one object, scored again under other protocols, joined by predictions made elsewhere.

In comes the store, out come `Results`, whose tables, rows and predictions can be asked for. The runner returns it, and
``avloc score`` and ``avloc table`` call it. Loads no torch before something is scored.
"""

from avloc.results.external import score_external
from avloc.results.rescoring import LONGEST_NAME, rescore
from avloc.results.stored import Results, load_results, metric_entries

__all__ = ["LONGEST_NAME", "Results", "load_results", "metric_entries", "rescore", "score_external"]
