"""What was run: read back, scored again under other protocols, or joined by predictions made elsewhere.

Takes the store and returns `Results`, with its table, its scores per source and its predictions. The runner, ``avloc
score`` and ``avloc table`` use it. Imports torch only to score.
"""

from avloc.results.external import score_external
from avloc.results.rescoring import LONGEST_NAME, rescore
from avloc.results.stored import Results, load_results, metric_entries

__all__ = ["LONGEST_NAME", "Results", "load_results", "metric_entries", "rescore", "score_external"]
