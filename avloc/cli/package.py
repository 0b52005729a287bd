"""Starting a plugin: a package of one's own that works before a line of it was written."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from avloc.registry import registry
from avloc.store import writing
from avloc.suite import SHUFFLED_AUDIO, UNTRAINED
from avloc.types import AvlocError

TEMPLATES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "plugin.py.tmpl": "avloc_{name}.py",
    "test_plugin.py.tmpl": "test_{name}.py",
    "README.md.tmpl": "README.md",
}
"""Template -> the file it becomes."""


def new_method(name: str, folder: Path) -> list[Path]:
    """Write the package of a method that trains, is tested and appears in a table at once.

    Args:
        name: Of the method, in lower case: ``my_method``.
        folder: Where the package's own folder, of that name, is made.

    Returns:
        The files written: the plugin first.

    Raises:
        AvlocError: The name cannot be used, or somebody has it, or there is such a folder already.
    """
    _check_name(name)
    package = folder / name
    if package.exists():
        raise AvlocError(f"{package} exists already, and nothing is overwritten; choose another name or --to.")
    texts = _texts(name)
    with writing(package):
        package.mkdir(parents=True)
        for file, text in texts.items():
            (package / file).write_text(text, encoding="utf-8")
    plugin = package / f"avloc_{name}.py"
    return [plugin, *(package / file for file in texts if package / file != plugin)]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or any(map(keyword.iskeyword, (name, _class_name(name)))):
        raise AvlocError(
            f"{name!r} cannot name a method: use lower-case letters, digits and single underscores, beginning with a "
            "letter, and no word of Python's."
        )
    owner = registry().entries("method").get(name)
    if owner is not None:
        raise AvlocError(f"There is a method {name!r} already, of the plugin {owner.owner!r}; choose another name.")
    imported = " ".join(re.findall("^from .*", _template("plugin.py.tmpl"), re.MULTILINE))
    if name in ("avloc", UNTRAINED, SHUFFLED_AUDIO) or _class_name(name) in re.findall(r"\w+", imported):
        raise AvlocError(f"{name!r} means something else to avloc; choose another name.")
    module = importlib.util.find_spec(f"avloc_{name}")
    if module is not None:
        raise AvlocError(f"There is a module avloc_{name} already ({module.origin}); choose another name.")


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _texts(name: str) -> dict[str, str]:
    """File name -> its content."""
    fields = {"name": name, "class_name": _class_name(name), "title": name.replace("_", " ").capitalize()}
    return {file.format(name=name): Template(_template(text)).substitute(fields) for text, file in TEMPLATES.items()}


def _template(name: str) -> str:
    return (files("avloc.cli") / "templates" / "method" / name).read_text(encoding="utf-8")
