"""One pool of processes: a function over many items, each in a process that may crash without harm to the others.

The processes are started as ``python -c``, not by multiprocessing, which would import the caller's script again in
every process: that hangs where the script has no ``__main__`` guard and fails where it comes from standard input. They
import nothing but what the function needs, report progress to their caller, and end when it ends, even by ``kill -9``.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from avloc.progress import Event, forward, receiving

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Died:
    """What takes the place of a result where there is none; `str` of it is the reason.

    Attributes:
        code: The exit status of the process, negative for a signal; 0: it did not end.
        error: What the function raised instead.
    """

    code: int
    error: Exception | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        why = f"was ended by signal {-self.code} (9: often the memory was full)" if self.code < 0 else "ended"
        return f"its process {why} before it was done; run the same command again to resume"


def each(
    work: Callable[[T], R],
    items: Iterable[T],
    jobs: int,
    *,
    reuse: bool = False,
    threads: int | None = None,
    limit: float | None = None,
) -> Iterator[tuple[int, R | Died]]:
    """Yield the index and the result of every item, as they are done.

    Args:
        work: A function of a module, not of the script that was started.
        items: Can be pickled, as can the results. Asked for the next one when a process is free.
        jobs: How many at a time.
        reuse: Whether a process takes one item after the other; else each has a new one.
        threads: Of the numerical libraries in a process; ``None``: as they decide.
        limit: Seconds after which the process of an item is killed.
    """
    source, events = enumerate(items), SimpleQueue[tuple[_Worker[R], Event]]()
    running: dict[_Worker[R], int] = {}
    idle: list[_Worker[R]] = []
    with ExitStack() as stack:
        while True:
            while len(running) < jobs and (job := next(source, None)) is not None:
                if idle:
                    worker = idle.pop()
                else:
                    worker = _Worker[R].start(events, threads)
                    stack.callback(worker.stop)
                running[worker] = job[0]
                worker.give(work, job[1], limit)
            if not running:
                return
            worker, event = events.get()
            if worker.handle(event):
                continue
            index = running.pop(worker, None)
            if reuse and worker.process.returncode is None:
                idle.append(worker)
            else:
                worker.stop()
                idle = [one for one in idle if one is not worker]
            if index is not None:
                yield index, worker.result


@dataclass(slots=True, eq=False)
class _Worker(Generic[R]):
    """A process as its caller sees it.

    Attributes:
        result: Of the last item; `Died` as long as there is nothing.
        busy: Whether it works on an item.
        guard: Kills the process when the item takes too long.
        loops: Those that it has open, as `avloc.progress` names them.
    """

    process: subprocess.Popen[bytes]
    result: R | Died = field(default_factory=lambda: Died(0))
    busy: bool = False
    guard: threading.Timer | None = None
    loops: set[object] = field(default_factory=set)

    @classmethod
    def start(cls, events: SimpleQueue[tuple[_Worker[R], Event]], threads: int | None) -> _Worker[R]:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if threads else ()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **dict.fromkeys(names, str(threads))},
        )  # fmt: skip
        worker = cls(process)
        threading.Thread(target=worker._listen, args=(events,), daemon=True).start()
        worker._send(sys.path)
        return worker

    def give(self, work: Callable[[T], R], item: T, limit: float | None) -> None:
        """Hand an item over; events follow, `handle` tells which is the last."""
        self.result, self.busy = Died(0), True
        if limit is not None:
            self.guard = threading.Timer(limit, self.process.kill)
            self.guard.start()
        self._send(pickle.dumps((work, item)))

    def _send(self, content: object) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died, which its last event tells
            pickle.dump(content, self.process.stdin)
            self.process.stdin.flush()

    def _listen(self, events: SimpleQueue[tuple[_Worker[R], Event]]) -> None:
        """In a thread: pass on what it sends, then its end."""
        assert self.process.stdout is not None
        with self.process.stdout as pipe, suppress(EOFError, pickle.UnpicklingError):  # perhaps within a message
            while True:
                events.put((self, pickle.load(pipe)))
        events.put((self, ("end", self.process.wait())))

    def handle(self, event: Event) -> bool:
        """Handle one event; returns whether the item is unfinished."""
        match event:
            case "result", result:
                self.result = result
            case "end", code:
                self.result = Died(code)
            case _:
                if event[0] in ("start", "stop"):
                    self.loops ^= {event[1]}
                forward(event)
                return True
        self.busy = False
        if self.guard is not None:
            self.guard.cancel()
        for loop in self.loops:
            forward(("stop", loop))
        self.loops.clear()
        return False

    def stop(self) -> None:
        """End the process, at once where it works on an item."""
        if self.guard is not None:
            self.guard.cancel()
        if self.busy:
            self.process.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """In the process: work on one item after the other, and send events and results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the caller ends this one
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no message

    def send(event: Event) -> None:
        message = pickle.dumps(event)
        try:
            pipe.write(message)
            pipe.flush()
        except OSError:  # the caller is gone, killed perhaps: nobody wants the result
            os._exit(1)

    sys.path[:] = pickle.load(sys.stdin.buffer)
    jobs, free = SimpleQueue[bytes](), threading.Event()
    threading.Thread(target=_receive, args=(jobs, free), daemon=True).start()
    with receiving(send):
        free.set()
        while job := jobs.get():
            free.clear()
            send(("result", _result(job)))
            free.set()


def _receive(jobs: SimpleQueue[bytes], free: threading.Event) -> None:
    """In a thread of the process: take jobs until the caller closes the pipe, or dies; then nobody wants a result."""
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    jobs.put(b"")
    if not free.is_set():
        os._exit(1)


def _result(job: bytes) -> Any:
    """What the function returns; what it raises is for the caller to judge."""
    try:
        work, item = pickle.loads(job)
        return work(item)
    except SystemExit as error:
        return Died(0, RuntimeError(repr(error)))
    except Exception as error:
        with suppress(Exception):  # its class may not survive the way to the caller
            pickle.loads(pickle.dumps(error))
            return Died(0, error)
        return Died(0, RuntimeError(repr(error)))
