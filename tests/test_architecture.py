"""Which package imports which, who may print, and that the core names no plugin: an AST walk over the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from avloc.registry import KINDS, Registry
from helpers import ROOT

CORE = sorted((ROOT / "avloc").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))

FLOORS: tuple[tuple[str, ...], ...] = (
    ("types", "_torch_ext"),
    ("progress", "store", "registry", "hints", "interfaces", "functional"),
    ("workers", "weights", "components", "tables"),
    ("suite", "data"),
    ("features", "scoring"),
    ("training", "results"),
    ("runner",),
    ("report", "testing"),
    ("cli",),
)
"""A package imports packages of earlier lines, and those of its own line that stand left of it."""
ORDER = {package: place for place, package in enumerate(name for floor in FLOORS for name in floor)}
PUBLIC = {"functional", "data", "progress", "weights", "report", "testing"}
"""What plugins may import besides names from ``avloc`` itself."""
TORCHLESS = {"tables", "store", "suite", "progress", "registry"}
"""What listing things, reading suites and printing tables load."""

ENGLISH = {"cap", "center", "folder", "negatives", "random", "saliency", "tiny", "whole"}
"""Component names that are words as well: as a part of a sentence they are allowed, as a whole string they are not."""
VALUES = {"folder", "whole"}
"""And those that are an argument of a hook and a value of protocols as well."""


def package_of(path: Path) -> str:
    """``avloc/suite.py`` -> ``suite``; ``avloc/training/fit.py`` -> ``training``."""
    return path.relative_to(ROOT / "avloc").with_suffix("").parts[0]


def imports(path: Path, *, type_checking: bool = True) -> Iterator[tuple[str, str]]:
    """Every import as (module, name), wherever it stands; plain ``import x`` has an empty name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING" and not type_checking
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def names(path: Path, module: str) -> bool:
    """Whether a file imports a top-level package, also lazily; not for type hints only."""
    return any(found.split(".")[0] == module for found, _ in imports(path, type_checking=False))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_imports_go_one_way(path: Path) -> None:
    own = package_of(path)
    if own in ("__init__", "__main__"):  # the public front, which loads every name on first use
        return
    assert own in ORDER, f"give {own} a place in FLOORS"
    for module, name in imports(path):
        if module == "avloc":
            pytest.fail(f"{relative(path)} imports {name} from the public front; import it from its own package")
        if not module.startswith("avloc."):
            continue
        target = module.split(".")[1]
        if target != own:
            assert ORDER[target] < ORDER[own], f"{own} imports {target}"
            inner = module.removeprefix(f"avloc.{target}").strip(".")
            assert inner in ("", "prepared"), f"{relative(path)} imports {name} from {module}, not from its package"


@pytest.mark.parametrize("path", [path for path in CORE if path.name == "__init__.py"], ids=relative)
def test_a_package_says_what_it_is_and_what_it_exports(path: Path) -> None:
    module = ast.parse(path.read_text(encoding="utf-8"))
    assert len((ast.get_docstring(module) or "").split()) > 10
    assert any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in module.body)
    exported = {node.value for node in exports(module) if isinstance(node, ast.Constant)}
    assert not exported & {file.stem for file in path.parent.glob("*.py")}, "a module has the name of an export"


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_only_the_registry_knows_pluggy_and_nobody_knows_plugins(path: Path) -> None:
    assert not names(path, "pluggy") or package_of(path) == "registry"
    assert not names(path, "avloc_plugins")


@pytest.mark.parametrize("path", [path for path in CORE if package_of(path) in TORCHLESS], ids=relative)
def test_what_lists_and_prints_needs_no_torch(path: Path) -> None:
    assert not names(path, "torch")


LIGHT = {
    "import avloc, avloc.tables, avloc.store, avloc.suite, avloc.scoring, avloc.cli": ("torch",),
    "from avloc.registry import KINDS, registry; [registry().entries(kind) for kind in KINDS]": ("torch",),
    "from avloc import Method": ("av", "PIL", "soundfile", "cv2", "lightning_fabric", "pandas"),
    "import avloc.results": ("torch", "lightning_fabric", "av", "pandas"),
}
"""What some imports must not load."""


@pytest.mark.parametrize("code", LIGHT)
def test_what_is_imported_loads_no_more_than_it_needs(code: str) -> None:
    check = f"{code}; import sys; print(*sorted(set({LIGHT[code]}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=relative)
def test_only_the_command_line_prints(path: Path) -> None:
    if path in CORE and package_of(path) in ("cli", "progress"):
        return
    for module, _ in imports(path):
        assert module.split(".")[0] not in ("rich", "typer", "tqdm", "click"), f"{path} imports {module}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            assert node.id != "print", f"{path}:{node.lineno} prints"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("sys.stdout", "sys.stderr"), f"{path}:{node.lineno} prints"


@cache
def registered() -> dict[str, str]:
    """Every built-in name -> the module of its class."""
    found = [entry for kind in KINDS for entry in Registry().entries(kind).values() if entry.owner == "builtin"]
    return {entry.name: str(entry.target).partition(":")[0] for entry in found}


def docstrings(tree: ast.AST) -> set[ast.AST]:
    """Every string that stands alone as a statement."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def exports(tree: ast.Module) -> set[ast.AST]:
    """The strings of ``__all__``."""
    lists = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    return {node for found in lists for node in ast.walk(found)}


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_the_core_names_no_plugin(path: Path) -> None:
    plain = "|".join(sorted(map(re.escape, set(registered()) - ENGLISH), key=len, reverse=True))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = docstrings(tree) | exports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in ignored:
            where = f"{path.name}:{node.lineno} names a plugin: {node.value!r}"
            assert node.value not in set(registered()) - VALUES, where
            assert not re.search(rf"\b({plain})\b", node.value), where


@pytest.mark.parametrize("path", PLUGINS, ids=relative)
def test_plugins_import_the_public_surface_and_never_each_other(path: Path) -> None:
    import avloc

    kinds = {ROOT / "plugins" / folder for folder in ("methods", "encoders", "datasets", "metrics")}
    own_package = path.parent not in kinds and path.parent != ROOT / "plugins"
    targets = {module.rpartition(".")[2] for module in registered().values()}
    for module, name in imports(path):
        where = f"{relative(path)} imports {name} from {module}"
        assert not module.startswith("avloc_plugins"), where
        if module == "avloc":
            assert name in avloc.__all__ or name in PUBLIC, where
        elif module.startswith("avloc."):
            assert module.removeprefix("avloc.") in PUBLIC | {"data.prepared"}, where
        elif module.startswith("."):
            assert not module.startswith(".."), where
            # Beside a one-file plugin there may be a helper that carries its name, but not another plugin.
            mine, other = path.stem.strip("_"), (module.strip(".") or name).strip("_")
            related = mine.startswith(other) or other.startswith(mine)
            assert own_package or (related and not {mine, other} <= targets), where
