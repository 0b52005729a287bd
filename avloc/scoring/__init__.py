"""From predictions to scores: protocols turn raw maps into masks, metrics turn masks into rows.

In come predictions and truths, out comes one row per true source. The runner calls it, and ``avloc score``.
"""

from avloc.scoring.maps import top_pixels
from avloc.scoring.predictions import Predictions
from avloc.scoring.protocol import Protocol, load_protocol, preset_names
from avloc.scoring.scores import score_run

__all__ = [
    "Predictions",
    "Protocol",
    "load_protocol",
    "preset_names",
    "score_run",
    "top_pixels",
]
