"""A function over several items, each in a process of its own; progress and results come back through a pipe.

A process that is killed costs its own item: the others go on, and the caller is told. They stop with the caller.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Generic, TypeVar

from avloc.progress import Event, forward, receiving

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Died:
    """What stands in the place of a result when a process ended without one; `str` of it is the reason."""

    code: int

    def __str__(self) -> str:
        why = f"was ended by signal {-self.code} (9: often the memory was full)" if self.code < 0 else "ended"
        return f"its process {why} before it was done; run the same command again to go on"


def each(work: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[tuple[int, R | Died]]:
    """Yield the index and the result of every item, in the order in which they are done.

    Args:
        work: A function of a module; what it raises is not handed on, so it should not.
        items: Can be pickled, as can the results.
        jobs: How many at a time.
    """
    waiting = list(enumerate(items))
    running: dict[Any, tuple[int, _Worker[R]]] = {}
    with ExitStack() as stack:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, item = waiting.pop(0)
                worker = _Worker.start(work, item)
                stack.callback(worker.stop)
                running[worker.pipe] = index, worker
            for pipe in connection.wait(list(running)):
                index, worker = running[pipe]
                if not worker.hear():
                    del running[worker.pipe]
                    yield index, worker.result


@dataclass(slots=True)
class _Worker(Generic[R]):
    """A process as its caller sees it.

    Attributes:
        pipe: From it.
        result: What it found; `Died` as long as there is nothing.
        loops: Those that it has open, as `avloc.progress` names them.
    """

    process: BaseProcess
    pipe: Connection[Any, Any]
    result: R | Died = field(default_factory=lambda: Died(0))
    loops: set[object] = field(default_factory=set)

    @classmethod
    def start(cls, work: Callable[[T], R], item: T) -> _Worker[R]:
        context = get_context("spawn")  # a fork of a process with threads may never wake up
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(work, item, theirs))
        with _no_script():
            process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return cls(process, ours)

    def hear(self) -> bool:
        """Handle one event; returns whether more can come."""
        try:
            event = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            if isinstance(self.result, Died):
                self.result = Died(self.process.exitcode or 0)
            for loop in self.loops:
                forward(("stop", loop))
            return False
        match event:
            case "result", result:
                self.result = result
                return True
            case "start", loop, *_:
                self.loops.add(loop)
            case "stop", loop:
                self.loops.remove(loop)
        forward(event)
        return True

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


@contextmanager
def _no_script() -> Iterator[None]:
    """Hide the running script from a new process, which would run it again where no ``if __name__`` guards it."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _run(work: Callable[[T], R], item: T, pipe: Connection[Any, Any]) -> None:
    """In the process: work, and send events and the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the caller ends this one

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:  # the caller is gone, killed perhaps: nobody wants the result
            os._exit(1)

    with receiving(send):
        result = work(item)
    send(("result", result))
