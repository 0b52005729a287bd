"""From predictions to scores: protocols turn raw maps into masks, metrics turn masks into rows.

Takes predictions and truths, and returns one row per true source. The runner and `avloc.results` score what is stored;
`evaluate` scores arrays in memory by the same code.
"""

from avloc.scoring.evaluation import Evaluation, evaluate, metric_components
from avloc.scoring.predictions import Predictions
from avloc.scoring.protocol import Protocol, load_protocol, preset_names
from avloc.scoring.scores import score_run, stored_prediction

__all__ = [
    "Evaluation",
    "Predictions",
    "Protocol",
    "evaluate",
    "load_protocol",
    "metric_components",
    "preset_names",
    "score_run",
    "stored_prediction",
]
