"""What checks of every kind of plugin share: how they say what is wrong, and what every constructor must be like."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from avloc.types import AvlocError


class ConformanceError(AssertionError):
    """What a check found wrong, as a sentence."""


def require(condition: object, sentence: str) -> None:
    """Raise `ConformanceError` with the sentence unless the condition holds."""
    if not condition:
        raise ConformanceError(sentence)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say of what an avloc error speaks, such as that of a prediction that is not finite."""
    try:
        yield
    except AvlocError as error:
        raise ConformanceError(f"Trouble with {what}: {error}") from error


def require_attributes(kind: type, names: Sequence[str]) -> None:
    """Class attributes that tables and lists print must be there, and a docstring."""
    for name in names:
        require(getattr(kind, name), f"The class attribute {name!r} is empty; tables and lists print it.")
    require(kind.__doc__, "The class has no docstring; say in a sentence what it does.")


def require_parameters(kind: type, first: Sequence[str], *, split: bool = False) -> None:
    """Parameters must be such that a suite can set them and an id hold them: keyword-only JSON values with defaults.

    Args:
        kind: The plugin's class.
        first: The positional parameters that its constructor must begin with, after ``self``.
        split: Whether it must have the parameter ``split``, which needs no default.
    """
    values = list(inspect.signature(kind).parameters.values())
    given = [(value.name, value.kind) for value in values[: len(first)]]
    wanted = [(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in first]
    form = ", ".join(["self", *first, "*", *(["split"] if split else []), "..."])
    require(given == wanted, f"The constructor must begin with ({form}).")
    require(not split or "split" in [value.name for value in values], f"The constructor must be ({form}).")
    for value in values[len(first) :]:
        where = f"The constructor's parameter {value.name!r}"
        require(value.kind is value.KEYWORD_ONLY, f"{where} must be keyword-only: put it behind a bare *.")
        if split and value.name == "split":
            continue
        require(value.default is not value.empty, f"{where} has no default; give the one that most users want.")
        try:
            plain = list(value.default) if isinstance(value.default, tuple) else value.default
            kept = json.loads(json.dumps(plain, allow_nan=False)) == plain
        except (TypeError, ValueError):
            kept = False
        require(kept, f"{where} has the default {value.default!r}, which is no JSON value; it could be in no suite.")
