"""From features to weights: the one training loop.

In come a method and what it learns from, out comes a checkpoint. The runner calls it, and the conformance checks.
"""

from avloc.training.checkpoint import ENCODER, Trained, load_weights, restore
from avloc.training.data import TrainingData
from avloc.training.fit import Fit, to_device

__all__ = ["ENCODER", "Fit", "Trained", "TrainingData", "load_weights", "restore", "to_device"]
