"""Conformance checks for methods, ours and third parties', in a small synthetic world where the truth is known.

Takes a method, and returns a sentence for each check that it fails. ``avloc check`` and test suites call it.
"""

from avloc.testing.checks import CHECKS, conformance, conformance_checks
from avloc.testing.harness import ConformanceError
from avloc.testing.scenes import CLASSES, scene

__all__ = ["CHECKS", "CLASSES", "ConformanceError", "conformance", "conformance_checks", "scene"]
