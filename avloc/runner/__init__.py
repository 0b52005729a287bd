"""From a suite to results: every run trained, predicted and scored once.

Takes a suite and writes its manifest to the store (``avloc bench``), or loads a finished run as a `Localizer`.
"""

from avloc.runner.benchmark import bench, plan_suite, run_suite
from avloc.runner.localizer import Localizer, load
from avloc.runner.plan import Options
from avloc.runner.task import Task, make_task

__all__ = ["Localizer", "Options", "Task", "bench", "load", "make_task", "plan_suite", "run_suite"]
