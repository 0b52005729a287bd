"""Finds plugins and looks their components up by name. The only module that knows pluggy.

A plugin is any module with hook implementations::

    from avloc import hookimpl

    @hookimpl
    def avloc_methods():
        return {"mine": "my_package.mine:Mine"}   # or the class itself

It is found through the entry-point group ``avloc`` or named with ``--plugin path/to/file.py``. Names map to classes or
to ``"module:Class"``, which is imported when it is first used. Other hooks: ``avloc_encoders``, ``avloc_datasets``,
``avloc_metrics``, and ``avloc_run_event``, which tells experiment trackers what happens, with its numbers.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol, get_args

import pluggy

from avloc._torch_ext import repair_torch_extensions
from avloc.types import AvlocError, unknown

GROUP = "avloc"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

Kind = Literal["encoder", "method", "dataset", "metric"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_FILES: set[str] = set()
"""Names of the modules that came from plugin files; a later file of the same name may replace them."""

Components = dict[str, str | type]
"""Name -> class, or ``"module:Class"``."""


class _Hooks(Protocol):
    @hookspec
    def avloc_encoders(self) -> Components: ...
    @hookspec
    def avloc_methods(self) -> Components: ...
    @hookspec
    def avloc_datasets(self) -> Components: ...
    @hookspec
    def avloc_metrics(self) -> Components: ...
    @hookspec
    def avloc_run_event(self, run: Any, event: str, values: Mapping[str, Any], folder: Path | None) -> None:
        """Something happened to a run. Implementations name the arguments that they take.

        Args:
            run: The run, with its ``method``, ``dataset``, ``seed``, ``hints`` and ``section``.
            event: ``started``, ``epoch``, ``scored`` or ``failed``.
            values: The numbers. Of ``epoch``, the line of ``train.jsonl``: ``epoch``, ``loss``, ``validation``, ...;
                of ``scored``, the value of every metric by its key; of ``failed``, the ``reason``.
            folder: Of the run's training (``epoch``) or of its predictions; ``None`` when it has just started.
        """


class Entry(NamedTuple):
    """A registered name, its class or ``"module:Class"``, and the plugin that registered it."""

    name: str
    target: str | type
    owner: str


class Registry:
    """All plugins of this process.

    Attributes:
        failures: Plugin name -> why it could not be imported.
        files: Those of `add_file`; other processes load them again.
        objects: Names of `add_module`; only this process has them.
    """

    def __init__(self, *, discover: bool = True) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(_Hooks)
        self.failures: dict[str, BaseException] = {}
        self.files: list[Path] = []
        self.objects: list[str] = []
        self._tables: dict[Kind, dict[str, Entry]] = {}
        if discover:
            for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
                self._add(point.name, point.load)

    def add_file(self, path: Path) -> None:
        """Load a plugin from a Python file (``--plugin``).

        Raises:
            AvlocError: There is no such file, or it does not import.
        """
        if not path.is_file():
            what = "is a folder; name the Python file in it" if path.is_dir() else "does not exist"
            raise AvlocError(f"Plugin file {path} {what}.")
        existing = None if path.stem in _FILES else importlib.util.find_spec(path.stem)
        if existing is not None and Path(existing.origin or "").resolve() != path.resolve():
            raise AvlocError(f"Plugin file {path} has the name of the installed module {path.stem!r}; rename it.")
        for name, plugin in self._manager.list_name_plugin():
            if Path(getattr(plugin, "__file__", None) or "").resolve() == path.resolve():
                self._manager.unregister(name=name)  # installed as well, or named twice: it counts once
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below says the same
            self._add(path.stem, lambda: _import_file(path))
        if path.stem in self.failures:
            cause = self.failures[path.stem]
            place = f"line {cause.lineno}: {cause.msg}" if isinstance(cause, SyntaxError) else repr(cause)
            raise AvlocError(f"Plugin file {path} does not import: {place}.") from cause
        module = self._manager.get_plugin(path.stem)
        if module is None or not self._manager.get_hookcallers(module):
            raise AvlocError(
                f"Plugin file {path} registers nothing: put @hookimpl over its avloc_methods() or the like."
            )
        self.files.append(path)

    def add_module(self, name: str, module: Any) -> None:
        """Register an object with hook implementations."""
        self._add(name, lambda: module)
        self.objects.append(name)

    def _add(self, name: str, load: Callable[[], Any]) -> None:
        repair_torch_extensions()
        try:
            module = load()
            self._manager.register(module, name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager.unregister(name=name)
            raise AvlocError(f"Plugin {name!r} does not fit avloc's hooks: {str(error).splitlines()[-1]}") from error
        except (Exception, SystemExit) as error:  # a plugin may raise anything; the others must still load
            self.failures[name] = error
            warnings.warn(f"Plugin {name!r} could not be imported and is left out: {error!r}", stacklevel=2)
        self._tables.clear()

    def entries(self, kind: Kind) -> dict[str, Entry]:
        """Every registered name of a kind, sorted; imports no component.

        Raises:
            AvlocError: There is no such kind ("did you mean"), or two plugins own one name.
        """
        if kind not in KINDS:
            raise AvlocError(unknown("kind of component", kind, KINDS))
        if kind in self._tables:
            return self._tables[kind]
        table: dict[str, Entry] = {}
        # One at a time rather than through `hook()`: a failing implementation must not silence the rest.
        for call in getattr(self._manager.hook, f"avloc_{kind}s").get_hookimpls():
            try:
                found = call.function()
                if not isinstance(found, dict):
                    raise TypeError(f"it returned {found!r}, not a dict of name -> class")
            except Exception as error:
                self.failures[call.plugin_name] = error
                warnings.warn(f"Plugin {call.plugin_name!r} failed to list its {kind}s: {error!r}", stacklevel=2)
                continue
            for name, target in found.items():
                if name in table:
                    owners = f"{table[name].owner!r} and {call.plugin_name!r}"
                    raise AvlocError(
                        f"Two plugins register the {kind} {name!r}: {owners}. Rename or uninstall one of them."
                    )
                table[name] = Entry(name, target, call.plugin_name)
        self._tables[kind] = dict(sorted(table.items()))
        return self._tables[kind]

    def get(self, kind: Kind, name: str) -> type:
        """The class behind a name.

        Raises:
            AvlocError: No plugin has this name ("did you mean"), or its module does not import.
        """
        entry = self.entries(kind).get(name)
        if entry is None:
            broken = "".join(f" Plugin {p!r} could not be imported: {e!r}." for p, e in self.failures.items())
            cause = next(iter(self.failures.values()), None)
            raise AvlocError(f"{unknown(kind, name, self.entries(kind))}{broken}") from cause
        if not isinstance(entry.target, str):
            return entry.target
        module, _, attribute = entry.target.partition(":")
        repair_torch_extensions()
        try:
            component = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise AvlocError(f"The {kind} {name!r} of plugin {entry.owner!r} does not import: {error!r}") from error
        if not isinstance(component, type):
            raise AvlocError(f"The {kind} {name!r} of plugin {entry.owner!r} is not a class: {entry.target}.")
        return component

    def announce(self, run: Any, event: str, values: Mapping[str, Any], folder: Path | None) -> None:
        """Call every plugin's `avloc_run_event`; one that fails is warned about, and the run continues."""
        given = {"run": run, "event": event, "values": values, "folder": folder}
        for call in self._manager.hook.avloc_run_event.get_hookimpls():
            try:
                call.function(**{name: given[name] for name in call.argnames})
            except Exception as error:
                warnings.warn(f"Plugin {call.plugin_name!r} failed on event {event!r}: {error!r}", stacklevel=2)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    _FILES.add(path.stem)
    spec.loader.exec_module(module)
    return module


@cache
def registry() -> Registry:
    """The registry of this process."""
    return Registry()


def get_component(kind: Kind, name: str) -> type:
    """The class behind a name, from whichever plugin has it.

    Args:
        kind: ``encoder``, ``method``, ``dataset`` or ``metric``.
        name: As `list_components` gives it.

    Raises:
        AvlocError: There is no such kind or name ("did you mean"), or its module does not import.

    Example:
        >>> avloc.get_component("method", "tvsl").title
    """
    return registry().get(kind, name)


def list_components(kind: Kind) -> list[str]:
    """The names of all components of a kind, sorted; imports none of them.

    Args:
        kind: ``encoder``, ``method``, ``dataset`` or ``metric``.

    Raises:
        AvlocError: There is no such kind ("did you mean"), or two plugins own one name.

    Example:
        >>> avloc.list_components("metric")
    """
    return list(registry().entries(kind))
