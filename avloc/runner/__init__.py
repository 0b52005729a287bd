"""From a suite to results: every run fitted, predicted and scored, once.

In comes a suite, out comes its manifest in the store, or from a finished run a method that localizes in anybody's
images and sounds. ``avloc bench`` calls it.
"""

from avloc.runner.benchmark import bench, plan_suite, run_suite
from avloc.runner.localizer import Localizer, load
from avloc.runner.plan import Options
from avloc.runner.task import Task, make_task

__all__ = ["Localizer", "Options", "Task", "bench", "load", "make_task", "plan_suite", "run_suite"]
