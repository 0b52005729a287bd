"""Progress of long work on stderr: loops as bars of tqdm, messages as lines.

`track` and `say` make events; nothing is shown outside of `shown`, which the command line enters, except in notebooks.
A process of `avloc.workers` sends its events to its caller, which forwards them: see `receiving` and `forward`.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any, TypeVar

T = TypeVar("T")

Event = tuple[Any, ...]
"""``("start", loop, description, total)``, ``("advance", loop, done)``, ``("stop", loop)`` or ``("say", message)``.

A loop is named by its process and a number.
"""
Receiver = Callable[[Event], None]

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
BARS = {"leave": False, "dynamic_ncols": True, "miniters": 1, "bar_format": BAR}
LINES = {"gui": True, "mininterval": 10.0, "bar_format": "{desc}: {n}/{total}, {remaining} left"}

_receiver: ContextVar[Receiver | None] = ContextVar("receiver", default=None)
_numbers = itertools.count()


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` and show how many of `total` are done, and how long the others will take."""
    send, loop = _receiver.get() or _default(), (os.getpid(), next(_numbers))
    send(("start", loop, description, total))
    try:
        for done, item in enumerate(items, start=1):
            yield item
            send(("advance", loop, done))
    finally:
        send(("stop", loop))


def say(message: str) -> None:
    """Show one line, such as "waiting for another process"."""
    forward(("say", message))


def forward(event: Event) -> None:
    """Show an event of another process."""
    (_receiver.get() or _default())(event)


@contextmanager
def receiving(receiver: Receiver) -> Iterator[None]:
    """Send the events of everything inside to `receiver`."""
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)


@contextmanager
def shown() -> Iterator[None]:
    """Show the progress of everything inside: bars in a terminal or a notebook, plain lines elsewhere."""
    display = _Display()
    try:
        with receiving(display):
            yield
    finally:
        display.close()


@cache
def _default() -> Receiver:
    """What is shown where nobody entered `shown`."""
    return _Display() if _in_notebook() else lambda event: None


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _in_terminal() -> bool:
    """Whether stderr is a terminal with room to draw in; those of some containers have no lines."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 0


class _Display:
    """One bar for every open loop."""

    def __init__(self) -> None:
        self._open: dict[object, Any] = {}

    @cached_property
    def _kind(self) -> Any:
        if not _in_notebook() and not _in_terminal():
            return _lines()
        from tqdm.auto import tqdm

        return tqdm

    def __call__(self, event: Event) -> None:
        match event:
            case "start", loop, description, total:
                self._open[loop] = self._kind(desc=description, total=total, **BARS)
            case "advance", loop, done:
                self._open[loop].update(done - self._open[loop].n)
            case "stop", loop:
                self._open.pop(loop).close()
            case _, message:
                self._kind.write(message, file=sys.stderr)

    def close(self) -> None:
        """Leave a clean terminal, also where loops were interrupted."""
        for bar in reversed(self._open.values()):
            bar.close()


@cache
def _lines() -> Any:
    """Lines for logs: at the start of a loop, every ten seconds, and at its end."""
    from tqdm.std import tqdm

    class Line(tqdm):  # type: ignore[misc]  # it has no types
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | LINES)
            if not self.disable:
                self.write(f"{self.desc}: {self.total} to do")

        def display(self, *_: Any, **__: Any) -> None:
            if self.n < self.total:
                self.write(str(self))

        def close(self) -> None:
            if not self.disable:
                self.write(f"{self.desc}: {self.n}/{self.total} in {self.format_interval(self.format_dict['elapsed'])}")
            super().close()

        @classmethod
        def write(cls, s: str, **_: Any) -> None:
            print(s, file=sys.stderr, flush=True)

    return Line
