"""Who may import whom, who may print, and that the core names no plugin: an AST walk over the sources."""

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

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "avloc").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))

LAYERS: tuple[tuple[str, ...], ...] = (
    ("types", "progress", "_torch_ext"),
    ("disk", "download", "parallel", "media", "functional", "shared", "splits", "statistics"),
    ("masks", "mixture", "recordings", "rules", "sources", "weights"),
    ("extract", "interfaces", "lists"),
    ("registry",),
    ("protocol", "suite", "store"),
    ("views", "grid"),
    ("features", "notes", "published", "lookups", "authoring", "predictions"),
    ("cache", "checkpoint", "inventory", "material", "evidence"),
    ("fit", "planted", "prepare", "tables"),
    ("stages", "trial", "render", "report", "manifest"),
    ("columns", "testing"),
    ("bench", "terminal"),
    ("rescore",),
    ("external",),
    ("cli",),
    ("__main__",),
)
"""A module imports only modules of rows above its own."""
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
LEAVES = {
    "disk",
    "download",
    "lists",
    "media",
    "mixture",
    "functional",
    "progress",
    "recordings",
    "rules",
    "shared",
    "splits",
    "statistics",
    "weights",
}
"""Usable from anywhere, plugins too; they know nothing but types and each other."""
TORCHLESS = {"tables", "grid", "evidence", "notes", "published", "render", "store", "statistics", "report"}
"""What only looks at results that are there."""
PRINTERS = {"cli", "terminal"}

ENGLISH = {"cap", "center", "folder", "negatives", "random", "saliency", "tiny", "whole"}
"""Component names that are words as well: as a part of a sentence they are allowed, as a whole string they are not."""


def module_of(path: Path) -> str:
    """``avloc/fit.py`` -> ``fit``; ``avloc/report/page.py`` -> ``report``."""
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


def core_modules(path: Path) -> Iterator[str]:
    """The modules of avloc that a core module imports."""
    for module, name in imports(path):
        if module == "avloc" and name in LEVEL:
            yield name
        elif module == "avloc" and name:
            pytest.fail(f"{path.name} imports {name} from the public front; import it from its own module")
        elif module.startswith("avloc."):
            yield module.split(".")[1]


def names(path: Path, module: str) -> bool:
    """Whether a file imports a top-level package, also lazily; not for type hints only."""
    return any(found.split(".")[0] == module for found, _ in imports(path, type_checking=False))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_imports_go_down(path: Path) -> None:
    module = module_of(path)
    if module == "__init__":  # the public front, which loads every name on first use
        return
    assert module in LEVEL, f"give {module} a place in LAYERS"
    for target in core_modules(path):
        assert target == module or LEVEL[target] < LEVEL[module], f"{module} imports {target}"
        if module in LEAVES:
            assert target in LEAVES | {"types"}, f"the leaf module {module} imports {target}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_only_the_registry_knows_pluggy_and_nobody_knows_plugins(path: Path) -> None:
    assert not names(path, "pluggy") or module_of(path) == "registry"
    assert not names(path, "avloc_plugins")


@pytest.mark.parametrize("path", [p for p in CORE if module_of(p) in TORCHLESS], ids=lambda path: path.name)
def test_what_reads_results_needs_no_torch(path: Path) -> None:
    assert not names(path, "torch")
    assert not {"interfaces", "features", "fit", "stages", "bench"} & set(core_modules(path))


@pytest.mark.parametrize(
    "code",
    [
        "import avloc, avloc.tables, avloc.render, avloc.store, avloc.suite, avloc.protocol, avloc.cli, avloc.terminal",
        "from avloc.registry import KINDS, registry; [registry().entries(kind) for kind in KINDS]",
    ],
)
def test_looking_things_up_imports_no_torch(code: str) -> None:
    check = f"{code}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints(path: Path) -> None:
    if path in CORE and module_of(path) in PRINTERS:
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


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_names_no_plugin(path: Path) -> None:
    plain = "|".join(sorted(map(re.escape, set(registered()) - ENGLISH), key=len, reverse=True))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in ignored:
            where = f"{path.name}:{node.lineno} names a plugin: {node.value!r}"
            assert node.value not in registered(), where
            assert not re.search(rf"\b({plain})\b", node.value), where


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_import_the_public_front_and_never_each_other(path: Path) -> None:
    import avloc

    kinds = {ROOT / "plugins" / folder for folder in ("methods", "encoders", "datasets", "metrics")}
    own_package = path.parent not in kinds and path.parent != ROOT / "plugins"
    targets = {module.rpartition(".")[2] for module in registered().values()}
    for module, name in imports(path):
        where = f"{path.relative_to(ROOT)} imports {module} {name}"
        assert not module.startswith("avloc_plugins"), where
        if module == "avloc":
            assert name in avloc.__all__ or name in LEAVES, where
        elif module.startswith("avloc."):
            assert module.split(".")[1] in LEAVES, where
        elif module.startswith("."):
            assert not module.startswith(".."), where
            # Beside a one-file plugin there may be a helper that carries its name, but not another plugin.
            mine, other = path.stem.strip("_"), (module.strip(".") or name).strip("_")
            related = mine.startswith(other) or other.startswith(mine)
            assert own_package or (related and not {mine, other} <= targets), where
