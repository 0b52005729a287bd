"""``avloc new``: start a plugin, as a package that works before you wrote a line of it."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated, Literal

import typer

from avloc.types import AvlocError

TEMPLATES = {
    "avloc_{name}.py": "plugin.py.tmpl", "pyproject.toml": "pyproject.toml.tmpl",
    "test_{name}.py": "test_plugin.py.tmpl", "README.md": "README.md.tmpl",
}  # fmt: skip
"""File -> what it is made of; the plugin first."""


def new(
    what: Annotated[Literal["method"], typer.Argument(help="What to start.")],
    name: Annotated[str, typer.Argument(help="Its name in suites and tables, such as my_method.")],
    to: Annotated[Path, typer.Option(help="The folder in which its own is made.")] = Path(),
) -> None:
    """Write a working package: a plugin that trains, its test, and how to install it."""
    plugin, *others = new_method(name, to)
    typer.echo(f"Wrote {plugin} and, beside it, {', '.join(file.name for file in others)}. Next:")
    typer.echo(f"  avloc check {name} --plugin {plugin}")
    typer.echo(f"  avloc bench --plugin {plugin} --methods {name} --suite smoke")
    typer.echo(f"  pip install -e {plugin.parent}   # then it is found without --plugin")


def new_method(name: str, folder: Path) -> list[Path]:
    """Write a package ``folder / name``; returns its files, the plugin first.

    Raises:
        AvlocError: The name cannot be used or is taken, or the folder exists.
    """
    from avloc.store import writing

    _check_name(name)
    package = folder / name
    if package.exists():
        raise AvlocError(f"{package} exists, and nothing is overwritten; choose another name or --to.")
    fields = {"name": name, "class_name": _class_name(name), "title": name.replace("_", " ").capitalize()}
    files = {package / file.format(name=name): Template(_template(text)) for file, text in TEMPLATES.items()}
    with writing(package):
        package.mkdir(parents=True)
        for file, template in files.items():
            file.write_text(template.substitute(fields), encoding="utf-8")
    return list(files)


def _check_name(name: str) -> None:
    from avloc.registry import registry
    from avloc.suite import SHUFFLED_AUDIO, UNTRAINED

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or any(map(keyword.iskeyword, (name, _class_name(name)))):
        letters = "lower-case letters, digits and single underscores, beginning with a letter, and no keyword of Python"
        raise AvlocError(f"{name!r} cannot name a method: use {letters}.")
    owner = registry().entries("method").get(name)
    if owner is not None:
        raise AvlocError(f"There is a method {name!r} already, of the plugin {owner.owner!r}; choose another name.")
    imported = " ".join(re.findall("^from .*", _template("plugin.py.tmpl"), re.MULTILINE))
    if name in ("avloc", UNTRAINED, SHUFFLED_AUDIO) or _class_name(name) in re.findall(r"\w+", imported):
        raise AvlocError(f"{name!r} has another meaning in avloc; choose another name.")
    module = importlib.util.find_spec(f"avloc_{name}")
    if module is not None:
        raise AvlocError(f"There is a module avloc_{name} already ({module.origin}); choose another name.")


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _template(name: str) -> str:
    return (resources.files("avloc.cli") / "templates" / "method" / name).read_text(encoding="utf-8")
