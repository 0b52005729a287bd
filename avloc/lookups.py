"""Everything a suite names is looked up and tried before anything runs, so that a mistake costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from avloc.interfaces import EncoderInfo, Method, Metric, Needs, View, parameters
from avloc.registry import Kind, registry, unknown
from avloc.suite import Component
from avloc.types import TOLD_LEVELS, AvlocError


def make_metrics(components: Iterable[Component]) -> dict[str, Metric]:
    """Metrics by key, in order.

    Raises:
        AvlocError: An unknown metric or parameter, or one key twice.
    """
    found = {}
    for component in components:
        kind = registry().get("metric", component.name)
        check_parameters("metric", component, kind)
        metric = kind(**component.params)
        if metric.key in found:
            raise AvlocError(f"The metric {metric.key!r} is listed twice.")
        found[metric.key] = metric
    return found


def check_parameters(kind: Kind, component: Component, cls: type) -> None:
    """Names must exist and values must be of their default's kind."""
    known = parameters(cls)
    for name, value in component.params.items():
        if name not in known:
            raise AvlocError(unknown(f"parameter of the {kind} {component.name!r} named", name, known))
        expected = type(known[name])
        accepted = (int, float) if expected is float else expected
        if expected in (bool, int, float, str) and (
            not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool)
        ):
            raise AvlocError(f"{component.name}: {name} should be of type {expected.__name__}, but is {value!r}.")


def check_values(entry: Component, method: type[Method]) -> None:
    """Build the method once, small, so that a value it refuses is known before anything runs."""
    try:
        method(EncoderInfo(8, backbone_dim=8), ("a", "b"), **entry.params)
    except AvlocError:
        raise
    except Exception:  # it may want a real encoder; its run will tell
        return


def component(kind: Kind, entry: Component) -> type[Method] | Exception:
    """The class, or the reason why a registered name does not import or is no method."""
    try:
        found = registry().get(kind, entry.name)
    except AvlocError as error:
        return error
    if not issubclass(found, Method):
        return AvlocError(f"The {kind} {entry.name!r} is not derived from avloc.Method.")
    wrong = _wrong_attribute(found)
    return AvlocError(f"The class of the {kind} {entry.name!r}: {wrong}") if wrong else found


def _wrong_attribute(method: type[Method]) -> str:
    """What is wrong with what a method declares; empty when nothing is."""
    for name, kind in (("title", str), ("paper", str), ("revision", int), ("trains", bool), ("hears", bool)):
        if type(getattr(method, name)) is not kind:
            return f"{name} should be of type {kind.__name__}, but is {getattr(method, name)!r}."
    needs = method.needs
    if not isinstance(needs, Needs):
        return f"needs should be made by avloc.Needs(...), but is {needs!r}."
    for name, known in (("told", TOLD_LEVELS), ("labels", ("none", "weak"))):
        if getattr(needs, name) not in known:
            return unknown(f"value of needs.{name}", str(getattr(needs, name)), known)
    for view in needs.views:
        if view not in get_args(View):
            return unknown("view", str(view), get_args(View))
    return ""
