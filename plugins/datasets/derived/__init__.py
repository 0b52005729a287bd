"""Data sets derived from any other data set: with negatives, with held-out classes, or with clips side by side.

Each takes the other data set as ``of``, written like components in suites: its registered name, or
``{name: ..., parameter: ...}``.
"""

from __future__ import annotations

from .negatives import Negatives as Negatives
from .side_by_side import SideBySide as SideBySide
from .zero_shot import ZeroShot as ZeroShot
