"""Conformance checks for methods, ours and third parties', in a small made-up world where the truth is known.

In comes a method, out come sentences about what a table could not rely on. ``avloc check`` calls it, and test suites.
"""

from avloc.testing.checks import CHECKS, conformance, conformance_checks
from avloc.testing.harness import ConformanceError
from avloc.testing.scenes import CLASSES, scene

__all__ = ["CHECKS", "CLASSES", "ConformanceError", "conformance", "conformance_checks", "scene"]
