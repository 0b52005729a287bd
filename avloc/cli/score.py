"""``avloc score``: score stored predictions again, or predictions made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avloc.cli.common import Commas, Data, Plugins, Results, floats, names, stem, typed
from avloc.types import AvlocError

PROTOCOL = "A protocol's name, see avloc protocols; several with commas between stand side by side."
EXPONENT = "Raise every map to this power, which moves thresholds and no CAP; several stand side by side."
DATASET = "Whose test clips they are: a name, or '{name: ..., parameter: ...}'; with --suite, one of its columns."


def score(
    suite: Annotated[str | None, typer.Option(help="A suite that was run here; default multi_source.")] = None,
    protocol: Annotated[str | None, typer.Option(help=PROTOCOL)] = None,
    exponent: Annotated[str | None, typer.Option(help=EXPONENT)] = None,
    metrics: Annotated[str | None, typer.Option(help="Names with commas between; name@value sets a threshold.")] = None,
    datasets: Commas = None,
    predictions: Annotated[Path | None, typer.Option(help="A folder of predictions made elsewhere.")] = None,
    dataset: Annotated[str | None, typer.Option(help=DATASET)] = None,
    name: Annotated[str | None, typer.Option(help="The row's name; default the folder's.")] = None,
    hints: Annotated[str | None, typer.Option(help="What the predictions were made with; default oracle.")] = None,
    results: Results = Path("results"),
    data: Data = None,
    plugin: Plugins = None,
) -> None:
    """Score stored predictions under other protocols or with other metrics; runs no method.

    Several protocols make a table of the same predictions with a group of columns for each.

    With --predictions: score maps, masks or boxes that were made outside avloc, in a folder with a file for every test
    clip ID: ID.npz (array maps (Q, h, w), optionally labels and scores (Q,)), ID.npy (maps alone), ID.png or
    ID__LABEL.png (gray), or any JSON file {ID: [{label, box | boxes | mask}]}. With --suite they become one more row of
    that suite's table.

    Boxes and masks have two values, which not every protocol is made for: avloc, as_written, lvs, acl, dsol_solo,
    dsol_duet, dsol_synthetic, coarse_to_fine, coarse_to_fine_original and vssl_eval claim their higher value. Others
    cut at a quantile of the pixels, expect cosines or invert maps, and claim the whole frame, nothing or other pixels;
    then the row is marked.
    """
    _check(predictions, datasets or exponent, {"--dataset": dataset, "--name": name, "--hints": hints})
    chosen, given = None if suite is None else stem(suite), names(metrics)
    from avloc.cli.terminal import show_table
    from avloc.results import rescore, score_external

    if predictions is not None:
        found = score_external(
            predictions, dataset or "", name=name or "", suite=chosen, protocol=protocol, metrics=given, hints=hints,
            results=results, data=data, command=typed(),
        )  # fmt: skip
    else:
        found = rescore(
            chosen or "multi_source", protocol=",".join(names(protocol) or ()) or None,
            exponents=floats(exponent), metrics=given, datasets=names(datasets), results=results, data=data,
            command=typed(),
        )  # fmt: skip
    show_table(found.table())


def _check(predictions: Path | None, ours: str | None, theirs: dict[str, str | None]) -> None:
    """Predictions made elsewhere need a data set, and some options are about them only."""
    if predictions is not None and ours:
        raise AvlocError("--datasets and --exponent are about a suite; --predictions are about one --dataset.")
    if predictions is not None and not theirs["--dataset"]:
        raise AvlocError("--predictions needs --dataset: whose test clips are they about?")
    for option, value in theirs.items():
        if predictions is None and value is not None:
            raise AvlocError(f"{option} is about predictions made elsewhere; say where they are with --predictions.")
