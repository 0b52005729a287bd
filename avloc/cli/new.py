"""``avloc new``: start a plugin, as a package that works before you wrote a line of it."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from avloc.registry import Kind
from avloc.types import AvlocError

FILES = {
    "avloc_{name}.py": "{kind}/plugin.py.tmpl", "pyproject.toml": "pyproject.toml.tmpl",
    "test_{name}.py": "{kind}/test_plugin.py.tmpl", "README.md": "README.md.tmpl",
}  # fmt: skip
"""File -> what it is made of; the plugin first."""
USES: dict[Kind, str] = {
    "encoder": "avloc bench {plugin}--encoder {name} --suite smoke",
    "method": "avloc bench {plugin}--methods {name} --suite smoke",
    "dataset": "avloc bench {plugin}--datasets {name} --suite smoke",
    "metric": "avloc score {plugin}--suite smoke --metrics {name}",
}
"""The command that shows what it does."""


def new(
    what: Annotated[Kind, typer.Argument(help="What to start.")],
    name: Annotated[str, typer.Argument(help="Its name in suites and tables, such as mine.")],
    to: Annotated[Path, typer.Option(help="The folder in which its own is made.")] = Path(),
) -> None:
    """Write a working package: a plugin, its test, and how to install it."""
    plugin, *others = write_package(what, name, to)
    typer.echo(f"Wrote {plugin} and, beside it, {', '.join(file.name for file in others)}. Next:")
    typer.echo(f"  avloc check {name} --plugin {plugin}")
    if what == "metric":
        typer.echo("  avloc bench --suite smoke   # maps to score")
    typer.echo(f"  {_use(what, name, plugin)}")
    typer.echo(f"  pip install -e {plugin.parent}   # then it is found without --plugin")


def write_package(kind: Kind, name: str, folder: Path) -> list[Path]:
    """Write a package ``folder / name``; returns its files, the plugin first.

    Raises:
        AvlocError: The name cannot be used or is taken, or the folder exists.
    """
    from avloc.store import writing

    _check_name(kind, name)
    package = folder / name
    if package.exists():
        raise AvlocError(f"{package} exists, and nothing is overwritten; choose another name or --to.")
    fields = {
        "name": name, "class_name": _class_name(name), "title": name.replace("_", " ").capitalize(),
        "what": "data set" if kind == "dataset" else kind, "first": _use(kind, name, Path(f"avloc_{name}.py")),
        "then": _use(kind, name),
    }  # fmt: skip
    files = {package / file.format(name=name): _template(text.format(kind=kind)) for file, text in FILES.items()}
    with writing(package):
        package.mkdir(parents=True)
        for file, text in files.items():
            file.write_text(Template(text).substitute(fields), encoding="utf-8")
    return list(files)


def _use(kind: Kind, name: str, plugin: Path | None = None) -> str:
    return USES[kind].format(name=name, plugin=f"--plugin {plugin} " if plugin else "")


def _check_name(kind: Kind, name: str) -> None:
    from avloc.registry import registry
    from avloc.suite import SHUFFLED_AUDIO, UNTRAINED

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or any(map(keyword.iskeyword, (name, _class_name(name)))):
        letters = "lower-case letters, digits and single underscores, beginning with a letter, and no keyword of Python"
        raise AvlocError(f"{name!r} cannot name a plugin: use {letters}.")
    owner = registry().entries(kind).get(name)
    if owner is not None:
        raise AvlocError(f"There is a {kind} {name!r} already, of the plugin {owner.owner!r}; choose another name.")
    imported = " ".join(re.findall("^from .*", _template(f"{kind}/plugin.py.tmpl"), re.MULTILINE))
    if name in ("avloc", UNTRAINED, SHUFFLED_AUDIO) or _class_name(name) in re.findall(r"\w+", imported):
        raise AvlocError(f"{name!r} has another meaning in avloc; choose another name.")
    module = importlib.util.find_spec(f"avloc_{name}")
    if module is not None:
        raise AvlocError(f"There is a module avloc_{name} already ({module.origin}); choose another name.")


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _template(name: str) -> str:
    return (resources.files("avloc.cli") / "templates").joinpath(*name.split("/")).read_text(encoding="utf-8")
