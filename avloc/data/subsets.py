"""A part of a data set's test list: heard or unheard classes, an extended set, what two laboratories both have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avloc.components import Component
from avloc.interfaces import Dataset
from avloc.registry import registry
from avloc.store import digest
from avloc.types import DataError, Status

ONLY = "only"
"""The parameter of every data set that names the file of such a list, in the working directory or under ``--data``."""


def open_dataset(component: Component, split: str, data: Path | None) -> Dataset:
    """One split of a data set under ``--data``, its media made where they can be."""
    opened = open_split(registry().get("dataset", component.name), data, split, component.params)
    opened.prepare()
    return opened


def open_split(kind: Any, root: Path | None, split: str, parameters: dict[str, Any]) -> Dataset:
    """One split of a data set of the class `kind`; of its test list the part in the file `ONLY`, where that is given.

    Raises:
        AvlocError: The data set refuses, or there is no such file.
    """
    given = {name: value for name, value in parameters.items() if name != ONLY}
    made: Dataset = kind(root, split=split, **given)
    if split != "test" or ONLY not in parameters:
        return made
    name = str(parameters[ONLY])
    places = [Path(name), *([root / name] if root else [])]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        sought = " nor ".join(map(str, places))
        raise DataError(f"only: there is no file {sought}; it should be a list of ids, one a line.")
    return narrowed(made, file)


def narrowed(dataset: Dataset, file: Path) -> Dataset:
    """The same data set with those clips only that a file lists, an id a line.

    Args:
        dataset: Its test split.
        file: In UTF-8; empty lines count for nothing.

    Raises:
        DataError: The file cannot be read. Where none of its ids is in the data set, `Dataset.ids` raises it.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a list of ids, one a line, in UTF-8 ({error}).") from error
    listed = list(dict.fromkeys(filter(None, map(str.strip, lines))))
    kind: Any = type(dataset)
    notes, wanted = dataset.notes, frozenset(listed)

    class Narrowed(kind):  # type: ignore[misc]  # whatever else a data set is and does, it stays
        @property
        def notes(self) -> tuple[str, ...]:
            whole = list(super().ids())
            kept, strange = len(wanted.intersection(whole)), [id for id in listed if id not in set(whole)]
            hash = digest(sorted(listed))[:12]
            found = [f"Only the clips listed in {file.name} (hash {hash}) are tested: {kept:,} of {len(whole):,}."]
            if strange:
                count = f"{len(strange):,} of {len(listed):,} ids in {file.name}"
                found.append(f"ATTENTION: {count} are not in the test list, the first: {strange[0]}.")
            return (*notes, *found)

        def ids(self) -> Sequence[str]:
            kept = [id for id in super().ids() if id in wanted]
            if not kept:
                first = repr(listed[0]) if listed else "empty lines"
                raise DataError(f"{file}: it should list ids of the test list, one a line, but has none, only {first}.")
            return kept

        def status(self) -> Status:
            whole, kept = super().status(), set(self.ids())
            missing, broken = (
                {id: reason for id, reason in reasons.items() if id in kept}
                for reasons in (whole.missing, whole.broken)
            )
            return Status(tuple(id for id in whole.present if id in kept), missing, broken)

        def fingerprint(self) -> str:
            return digest([super().fingerprint(), sorted(listed)])[:16]

    Narrowed.__name__, Narrowed.__qualname__ = kind.__name__, kind.__qualname__
    dataset.__class__ = Narrowed
    return dataset
