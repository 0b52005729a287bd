"""From features to weights: the one training loop.

Takes a method and its training data, and writes a checkpoint. The runner and the conformance checks use it.
"""

from avloc.training.checkpoint import ENCODER, Trained, load_weights, restore
from avloc.training.data import TrainingData
from avloc.training.fit import Fit, to_device
from avloc.training.learning import learned_nothing

__all__ = ["ENCODER", "Fit", "Trained", "TrainingData", "learned_nothing", "load_weights", "restore", "to_device"]
