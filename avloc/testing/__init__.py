"""Conformance checks for plugins, ours and third parties': methods, encoders, data sets and metrics.

Takes a plugin, and returns a sentence for each check that it fails. Methods and metrics are tried in small synthetic
worlds where the truth is known, encoders on drawn images and sounds, data sets on their own clips. ``avloc check`` and
test suites call it.
"""

from avloc.testing.findings import ConformanceError
from avloc.testing.scenes import CLASSES, scene
from avloc.testing.trial import CHECKS, conformance, conformance_checks, kinds_of

__all__ = ["CHECKS", "CLASSES", "ConformanceError", "conformance", "conformance_checks", "kinds_of", "scene"]
