"""A plugin's name with its parameters: how suites write it, what is checked before anything runs, and its identity.

`avloc.interfaces` is imported late: reading a suite must not load torch.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import Field, model_validator

from avloc.hints import HINT_LEVELS
from avloc.progress import say
from avloc.registry import Kind, registry
from avloc.types import AvlocError, StrictModel, unknown

if TYPE_CHECKING:
    from avloc.interfaces import Encoder, EncoderInfo, Method, Metric


ABOUT_ROWS = ("clip", "group", "source", "label")
"""The columns of rows that say which source they are of; the others are those of metrics."""


class Component(StrictModel):
    """A plugin's name and the parameters that differ from its defaults: ``name`` or ``{name: ..., parameter: ...}``."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _grammar(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and "params" not in value:
            fields = {key: value[key] for key in value if key in cls.model_fields}
            return {**fields, "params": {key: value[key] for key in value if key not in fields}}
        return value


def read_setting(text: str) -> tuple[str, Any]:
    """Name and value of ``"parameter=value"``; the value is YAML.

    Raises:
        AvlocError: It cannot be read.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise AvlocError(f"--set {text!r} cannot be read; write parameter=value.")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise AvlocError(f"--set {text!r}: the value is not YAML ({error}).") from error


def parameters(kind: type) -> dict[str, Any]:
    """Keyword-only constructor parameters of a plugin class with their defaults."""
    found = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY and p.name != "split"}


def component_id(component: Component, kind: type) -> dict[str, Any]:
    """A component as it stands in ids: name, revision, and parameters with defaults filled in."""
    filled = {**parameters(kind), **component.params}
    return {"name": component.name, "revision": getattr(kind, "revision", 1), "params": filled}


def fit_id(component: Component, method: type[Method]) -> dict[str, Any]:
    """The same of a method's training: without the parameters that change its maps alone."""
    found = component_id(component, method)
    return {**found, "params": {k: v for k, v in found["params"].items() if k not in method.map_parameters}}


def source_digest(kind: type) -> str:
    """A digest of the file that a plugin's class stands in; empty where it stands in none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()[:12]
    except (OSError, TypeError):
        return ""


def mention_edits(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say which plugins' files are others than those that stored results were made by.

    An id knows a plugin's parameters and revision, and not its code.

    Args:
        before, now: Plugin, such as ``method 'tvsl'`` -> its `source_digest`.
    """
    for plugin, digest in now.items():
        if digest and before.get(plugin, digest) not in ("", digest):
            _say_once(
                f"The file of the {plugin} was changed since its stored results were made, which are kept. If it "
                "computes something else now, raise its class attribute revision, or run avloc bench --force."
            )


_say_once = cache(say)


def recorded(identity: Mapping[str, Any]) -> Component:
    """The component of a `component_id`."""
    return Component(name=identity["name"], params=identity["params"])


def check_parameters(kind: Kind, component: Component, cls: type) -> None:
    """Names must exist and values must be of their default's kind. Every data set has the parameter ``only``.

    Raises:
        AvlocError: A parameter does not exist ("did you mean"), or its value is of another type.
    """
    known = {**parameters(cls), **({"only": ""} if kind == "dataset" else {})}
    for name, value in component.params.items():
        if name not in known:
            raise AvlocError(unknown(f"parameter of the {kind} {component.name!r} named", name, known))
        expected = type(known[name])
        accepted = (int, float) if expected is float else expected
        fits = isinstance(value, accepted) and (expected is bool or not isinstance(value, bool))
        if expected in (bool, int, float, str) and not fits:
            raise AvlocError(f"{component.name}: {name} should be of type {expected.__name__}, but is {value!r}.")


def make_metrics(components: Iterable[Component]) -> dict[str, Metric]:
    """Metrics by key, in order.

    Raises:
        AvlocError: An unknown metric or parameter, or one key twice, or a key that would take another's columns.
    """
    found = {}
    for component in components:
        kind = registry().get("metric", component.name)
        check_parameters("metric", component, kind)
        metric = kind(**component.params)
        if metric.key in found:
            raise AvlocError(f"The metric {metric.key!r} is listed twice.")
        if metric.key in ABOUT_ROWS or "#" in metric.key:
            raise AvlocError(
                f"The metric {component.name!r} has the key {metric.key!r}; it should be none of "
                f"{', '.join(ABOUT_ROWS)}, and hold no #, since rows have such columns."
            )
        found[metric.key] = metric
    return found


def make_encoder(component: Component) -> Encoder:
    """The encoder, in evaluation mode on the CPU, frozen."""
    encoder: Encoder = registry().get("encoder", component.name)(**component.params)
    return encoder.eval().requires_grad_(False)


def method_class(component: Component) -> type[Method] | Exception:
    """The class, or why a registered name does not import or is no method."""
    from avloc.interfaces import Method

    try:
        found = registry().get("method", component.name)
    except AvlocError as error:
        return error
    if not issubclass(found, Method):
        return AvlocError(f"The method {component.name!r} is not derived from avloc.Method.")
    wrong = wrong_attribute(found)
    return AvlocError(f"The class of the method {component.name!r}: {wrong}") if wrong else found


def make_method(
    component: Component, kind: type[Method], encoder: EncoderInfo, classes: Sequence[str], seed: int
) -> Method:
    """The method as the seed makes it, before any training."""
    import torch

    torch.manual_seed(seed)
    return kind(encoder, tuple(classes), **component.params)


def method_traits(component: Component) -> type[Method]:
    """What a method declares: its class, or `Method` with its defaults where that does not import."""
    from avloc.interfaces import Method

    found = method_class(component)
    return found if isinstance(found, type) else Method


def check_values(component: Component, method: type[Method]) -> None:
    """Build the method once, small, so that a value it refuses is known before anything runs."""
    from avloc.interfaces import EncoderInfo

    try:
        method(EncoderInfo(8, backbone_dim=8), ("a", "b"), **component.params)
    except AvlocError:
        raise
    except Exception:  # it may want a real encoder; its run will tell
        return


def wrong_attribute(method: type[Method]) -> str:
    """What is wrong with what a method declares; empty when nothing is."""
    from avloc.interfaces import Needs, View

    for name, kind in (("title", str), ("paper", str), ("revision", int), ("trainable", bool), ("uses_audio", bool)):
        if type(getattr(method, name)) is not kind:
            return f"{name} should be of type {kind.__name__}, but is {getattr(method, name)!r}."
    for name in method.map_parameters:
        if name not in parameters(method):
            return unknown("parameter for map_parameters named", name, parameters(method))
    needs = method.needs
    if not isinstance(needs, Needs):
        return f"needs should be made by avloc.Needs(...), but is {needs!r}."
    if needs.hints not in HINT_LEVELS:
        return unknown("value of needs.hints", str(needs.hints), HINT_LEVELS)
    if not isinstance(needs.labels, bool):
        return f"needs.labels should be True or False, but is {needs.labels!r}."
    if strange := sorted(set(needs.views) - set(get_args(View))):
        return f"needs.views has {strange}. {unknown('view', str(strange[0]), get_args(View))}"
    return ""
