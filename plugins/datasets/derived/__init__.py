"""Data sets made of any other one: with negatives, unseen classes, clips side by side, or its validation clips.

Each takes the other data set as ``of``, written like components in suites: its registered name, or
``{name: ..., parameter: ...}``.
"""

from __future__ import annotations

from .negatives import Negatives as Negatives
from .side_by_side import SideBySide as SideBySide
from .validation import Validation as Validation
from .zero_shot import ZeroShot as ZeroShot
