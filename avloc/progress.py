"""How long-running work reports itself, without anyone but the command line printing.

Library code and plugins wrap a loop in `track`. Nothing is shown until somebody (the CLI) installs a reporter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reporter(Protocol):
    """What the CLI installs: `start` opens a bar and returns the function that advances it to a count."""

    def start(self, description: str, total: int) -> Callable[[int], None]: ...

    def stop(self, description: str) -> None: ...

    def say(self, message: str) -> None: ...


class Silent:
    """The reporter where nobody looks."""

    def start(self, description: str, total: int) -> Callable[[int], None]:
        return lambda done: None

    def stop(self, description: str) -> None:
        pass

    def say(self, message: str) -> None:
        pass


_reporter: ContextVar[Reporter] = ContextVar("reporter", default=Silent())  # noqa: B039


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send the progress of everything inside to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` and report how many of `total` are done."""
    reporter = current()
    advance = reporter.start(description, total)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            advance(done)
    finally:
        reporter.stop(description)


def say(message: str) -> None:
    """One line for the user, such as "waiting for another process"."""
    current().say(message)


def current() -> Reporter:
    """What is installed."""
    return _reporter.get()
