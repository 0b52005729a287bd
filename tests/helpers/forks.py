"""Copies of a process that has imported everything: a test that kills one many times starts Python once."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """The exit status of a copy of this process that does the work: 0, 1 after an exception, negative for a signal.

    Call it in a process of the test's own, which has not computed gradients: PyTorch cannot fork afterwards.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
