"""From a suite to results: every run fitted, predicted and scored, once.

In comes a suite, out comes its manifest in the store. ``avloc bench`` calls it.
"""

from avloc.runner.benchmark import bench, plan

__all__ = [
    "bench",
    "plan",
]
