"""What several metrics of one localization need is computed once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from weakref import ref

import numpy as np
import numpy.typing as npt

from avloc.types import Localization, Truth

Values = npt.NDArray[np.float64]
OfBoth = Callable[[Localization, Truth], Values]


def shared(function: OfBoth) -> OfBoth:
    """Remember, per thread, the values of the localization and truth that came last.

    Metrics are asked one after another for rows of the same pair, whose arrays nobody writes to by then. Arrays are
    told apart by identity, and not kept alive.

    Args:
        function: Of a localization and its truth.

    Returns:
        The same function; its values cannot be written to.
    """
    local = threading.local()

    @wraps(function)
    def remembering(found: Localization, truth: Truth) -> Values:
        arrays = (found.scores, found.masks, found.found, truth.masks)
        of, values = getattr(local, "latest", ((), np.zeros(0)))
        if len(of) != len(arrays) or any(known() is not array for known, array in zip(of, arrays, strict=True)):
            values = function(found, truth)
            values.flags.writeable = False
            local.latest = (tuple(map(ref, arrays)), values)
        return np.asarray(values, np.float64)

    return remembering
