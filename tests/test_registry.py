"""Finding plugins: names, owners, failing plugins, files, and modules that must not be imported."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import avloc.registry
from avloc import AvlocError, hookimpl
from avloc.registry import Registry
from avloc.types import unknown


class Shouting:
    """A plugin with two methods."""

    def __init__(self, **methods: Any) -> None:
        self.methods = methods

    @hookimpl
    def avloc_methods(self) -> dict[str, Any]:
        return self.methods


@pytest.fixture
def registry() -> Registry:
    return Registry(discover=False)


def installed(monkeypatch: pytest.MonkeyPatch, **loaders: Any) -> Registry:
    """A registry with these entry points."""
    points = [SimpleNamespace(name=name, load=load) for name, load in loaders.items()]
    monkeypatch.setattr(avloc.registry, "entry_points", lambda group: points)
    return Registry()


def fail() -> Any:
    raise ImportError("no module named colors")


def test_the_built_in_plugins_are_found() -> None:
    entries = Registry().entries("method")
    assert {"tvsl", "avgn", "center"} <= set(entries)
    assert list(entries) == sorted(entries)
    assert entries["tvsl"].owner == "builtin"


def test_names_map_to_classes_or_to_module_and_class(registry: Registry) -> None:
    registry.add_module("plugin", Shouting(one=dict, two="collections:OrderedDict"))
    assert registry.get("method", "one") is dict
    assert registry.get("method", "two").__name__ == "OrderedDict"


def test_unknown_names_get_did_you_mean(registry: Registry) -> None:
    registry.add_module("plugin", Shouting(whisper=dict, shout=dict))
    with pytest.raises(AvlocError, match=r"no method 'whispr'\. Did you mean 'whisper'\? Known: shout, whisper\."):
        registry.get("method", "whispr")
    assert unknown("metric", "x", []) == "There is no metric 'x'. Known: none."


def test_two_owners_of_a_name_are_both_named(registry: Registry) -> None:
    registry.add_module("first", Shouting(shout=dict))
    registry.add_module("second", Shouting(shout=list))
    with pytest.raises(AvlocError, match="'shout': 'first' and 'second'"):
        registry.entries("method")


def test_a_plugin_that_does_not_import_leaves_the_others_working(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="'broken' could not be imported.*no module named colors") as caught:
        registry = installed(monkeypatch, broken=fail, good=lambda: Shouting(shout=dict))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert registry.get("method", "shout") is dict
        with pytest.raises(AvlocError, match="no module named colors") as error:
            registry.get("method", "whisper")
    assert isinstance(error.value.__cause__, ImportError)


def test_a_hook_that_fails_leaves_the_others_working(registry: Registry) -> None:
    class Falling:
        @hookimpl
        def avloc_methods(self) -> dict[str, Any]:
            raise RuntimeError("failed")

    registry.add_module("falling", Falling())
    registry.add_module("good", Shouting(shout=dict))
    with pytest.warns(UserWarning, match="'falling' failed to list its methods"):
        assert registry.get("method", "shout") is dict


def test_a_component_that_does_not_import_raises_its_own_error(registry: Registry) -> None:
    registry.add_module("plugin", Shouting(lost="no_such_module:Thing", empty="json:Thing"))
    with pytest.raises(AvlocError, match=r"'lost' of plugin 'plugin' does not import.*no_such_module") as error:
        registry.get("method", "lost")
    assert isinstance(error.value.__cause__, ModuleNotFoundError)
    with pytest.raises(AvlocError, match=r"'empty'.*has no attribute 'Thing'"):
        registry.get("method", "empty")


def test_a_misspelled_hook_is_an_error(registry: Registry) -> None:
    class Misspelt:
        @hookimpl
        def avloc_method(self) -> dict[str, Any]:
            return {}

    with pytest.raises(AvlocError, match=r"'misspelt' does not fit avloc's hooks: .*avloc_method"):
        registry.add_module("misspelt", Misspelt())
    registry.add_module("good", Shouting(shout=dict))
    assert list(registry.entries("method")) == ["shout"]


def test_a_plugin_file(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "my_plugin_file.py"
    file.write_text(
        "from avloc import hookimpl\n"
        "class Mine: pass\n"
        "@hookimpl\n"
        "def avloc_methods(): return {'mine': Mine, 'later': 'my_plugin_file:Mine'}\n"
    )
    registry.add_file(file)
    assert registry.get("method", "mine").__name__ == "Mine"
    assert registry.get("method", "later") is registry.get("method", "mine")


@pytest.mark.filterwarnings("ignore:Plugin")
@pytest.mark.parametrize(
    ("code", "words"),
    [(None, "does not exist"), ("import no_such_module", "no_such_module"), ("def (", "line 1: invalid syntax")],
)
def test_a_plugin_file_that_cannot_be_used(registry: Registry, tmp_path: Path, code: str | None, words: str) -> None:
    file = tmp_path / "bad_plugin_file.py"
    if code is not None:
        file.write_text(code)
    with pytest.raises(AvlocError, match=rf"bad_plugin_file\.py.*{words}"):
        registry.add_file(file)


def test_trackers_take_the_arguments_they_name_and_can_fail(registry: Registry) -> None:
    heard: list[tuple[Any, ...]] = []

    class Small:
        @hookimpl
        def avloc_run_event(self, run: Any, event: str) -> None:
            heard.append((run, event))

    class Whole:
        @hookimpl
        def avloc_run_event(self, event: str, run: Any, folder: Path | None, values: Mapping[str, Any]) -> None:
            heard.append((run, event, values, folder))

    class Broken:
        @hookimpl
        def avloc_run_event(self, event: str) -> None:
            raise RuntimeError("no network")

    for plugin in (Small, Whole, Broken):
        registry.add_module(plugin.__name__, plugin())
    with pytest.warns(UserWarning, match="'Broken' failed on event 'scored'"):
        registry.announce("run", "scored", {"cap": 0.5}, Path("results"))
    assert sorted(heard, key=len) == [("run", "scored"), ("run", "scored", {"cap": 0.5}, Path("results"))]


def test_a_tracker_with_unknown_arguments_is_refused(registry: Registry) -> None:
    class Greedy:
        @hookimpl
        def avloc_run_event(self, run: Any, masks: Any) -> None: ...

    with pytest.raises(AvlocError, match=r"'greedy' does not fit avloc's hooks: .*masks"):
        registry.add_module("greedy", Greedy())


def test_near_misses_of_kinds_and_of_the_packages_names_are_sentences() -> None:
    with pytest.raises(AvlocError, match=r"no kind of component 'metrics'\. Did you mean 'metric'\?"):
        avloc.get_component("metrics", "cap")  # type: ignore[arg-type]
    with pytest.raises(AvlocError, match="no kind of component 'method_'"):
        avloc.list_components("method_")  # type: ignore[arg-type]
    with pytest.raises(
        AttributeError, match=r"^The package avloc has no 'get_componet'\. Did you mean 'get_component'\?$"
    ):
        avloc.get_componet  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no 'lookup'\. It has: .*get_component, "):
        avloc.lookup  # noqa: B018


def test_components_are_listed_and_loaded() -> None:
    assert avloc.list_components("metric") == sorted(avloc.list_components("metric"))
    assert avloc.get_component("metric", "cap").__name__ == "CAP"


@pytest.mark.parametrize("code", ["import avloc", "from avloc import Method", "from avloc import get_component"])
def test_importing_avloc_changes_no_other_import(code: str) -> None:
    check = f"import sys; before = list(sys.meta_path); {code}; sys.exit(sys.meta_path != before)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_listing_imports_no_component() -> None:
    code = (
        "import sys; from avloc.registry import KINDS, registry\n"
        "assert all(registry().entries(kind) for kind in KINDS)\n"
        "loaded = {m for m in sys.modules if m.split('.')[0] in ('torch', 'pandas', 'cv2', 'av')}\n"
        "loaded |= {m for m in sys.modules if m.startswith('avloc_plugins.')}\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plugin_that_exits_or_lists_nonsense_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listing:
        @hookimpl
        def avloc_methods(self) -> list[str]:
            return ["mine"]

    with pytest.warns(UserWarning, match="could not be imported"):
        found = installed(monkeypatch, exits=lambda: sys.exit("no GPU"), lists=Listing, good=lambda: Shouting(a=dict))
    with pytest.warns(UserWarning, match="failed to list its methods"):
        assert set(found.entries("method")) == {"a"}
    assert set(found.failures) == {"exits", "lists"}
    assert "not a dict of name -> class" in str(found.failures["lists"])


def test_a_file_that_registers_nothing_and_a_folder_are_named(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "forgot_the_hook.py"
    file.write_text("def avloc_methods():\n    return {'mine': dict}\n")
    with pytest.raises(AvlocError, match="registers nothing: put @hookimpl over"):
        registry.add_file(file)
    with pytest.raises(AvlocError, match="is a folder; name the Python file in it"):
        registry.add_file(tmp_path)
