"""Published checkpoints of encoders: found, downloaded, checked, kept as safetensors.

In comes a checkpoint's name or file, out come tensors. Encoders call it in their constructors, and ``avloc weights``.
"""

from avloc.weights.checkpoints import (
    Checkpoint,
    HasCheckpoints,
    add,
    card_of,
    fetch,
    load_checkpoint,
    read_state,
    require_exact,
)

__all__ = ["Checkpoint", "HasCheckpoints", "add", "card_of", "fetch", "load_checkpoint", "read_state", "require_exact"]
