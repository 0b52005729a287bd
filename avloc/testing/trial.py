"""The checks of a plugin, whatever its kind, as functions that raise and as cases of pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch

from avloc.interfaces import Dataset, Encoder, Method, Metric
from avloc.registry import KINDS, Kind, get_component, registry
from avloc.testing import datasets, encoders, harness, methods, metrics
from avloc.types import AvlocError, unknown

_BASES: dict[Kind, type] = {"encoder": Encoder, "method": Method, "dataset": Dataset, "metric": Metric}
_SUBJECTS: dict[Kind, Callable[..., Any]] = {
    "encoder": encoders.Subject, "method": harness.Subject, "dataset": datasets.Subject, "metric": metrics.Subject,
}  # fmt: skip
CHECKS: Mapping[Kind, Mapping[str, Callable[[Any], None]]] = {
    "encoder": encoders.CHECKS, "method": methods.CHECKS, "dataset": datasets.CHECKS, "metric": metrics.CHECKS,
}  # fmt: skip
"""Kind -> title -> check."""


def kinds_of(name: str) -> list[Kind]:
    """The kinds of plugin that are registered under a name.

    Raises:
        AvlocError: There is none ("did you mean").
    """
    found = [kind for kind in KINDS if name in registry().entries(kind)]
    if not found:
        known = {known for kind in KINDS for known in registry().entries(kind)}
        raise AvlocError(unknown("plugin", name, known))
    return found


def conformance_checks(
    plugin: str | type, kind: Kind | None = None, **parameters: Any
) -> list[tuple[str, Callable[[], None]]]:
    """All checks of a plugin.

    Args:
        plugin: A registered name, or the class.
        kind: Where several kinds of plugin have this name: ``encoder``, ``method``, ``dataset`` or ``metric``.
        parameters: Other values than the defaults of its constructor; of a data set also ``root``.

    Returns:
        Title and function of each. The functions share what they build; they raise `ConformanceError`, or let through
        what the plugin raises.

    Raises:
        AvlocError: No plugin has this name or several have it, or what has it is of no kind.
    """
    if isinstance(plugin, str):
        kinds = [kind] if kind else kinds_of(plugin)
        if len(kinds) > 1:
            raise AvlocError(f"{plugin!r} is the name of {' and '.join(kinds)}; say which with kind.")
        kind, plugin = kinds[0], get_component(kinds[0], plugin)
    kind = kind or next((kind for kind, base in _BASES.items() if issubclass(plugin, base)), None)
    if kind is None or not issubclass(plugin, _BASES[kind]):
        bases = f"avloc.{_BASES[kind].__name__}" if kind else "avloc.Encoder, Method, Dataset or Metric"
        raise AvlocError(f"{plugin.__name__} is no {kind or 'plugin'}: derive the class from {bases}.")
    subject = _SUBJECTS[kind](plugin, parameters)
    return [(title, partial(_run, check, subject)) for title, check in CHECKS[kind].items()]


def conformance(plugin: str | type, kind: Kind | None = None, **parameters: Any) -> Callable[..., None]:
    """A pytest function with one case per check; takes what `conformance_checks` does.

    Example:
        >>> test_conformance = conformance("mine")  # or the class itself
    """
    import pytest

    cases = [pytest.param(run, id=title) for title, run in conformance_checks(plugin, kind, **parameters)]

    @pytest.mark.parametrize("check", cases)
    def test(check: Callable[[], None]) -> None:
        check()

    return cast(Callable[..., None], test)


def _run(check: Callable[[Any], None], subject: Any) -> None:
    """One check, always with the same random numbers, which leaves the caller's alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check(subject)
