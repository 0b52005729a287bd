"""The data set that another one is derived from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avloc import AvlocError, Dataset, get_component, unknown
from avloc.data import ONLY, open_split

Named = str | Mapping[str, Any]
TOYBOX: Named = {"name": "toybox_single"}


def opened(of: Named, root: Path | None, split: str) -> Dataset:
    """One split of it.

    Raises:
        AvlocError: There is no such data set or parameter ("did you mean"), or the data set refuses.
    """
    named = {"name": of} if isinstance(of, str) else of
    if not isinstance(named, Mapping) or not isinstance(named.get("name"), str):
        raise AvlocError(f"The parameter 'of' should be name or {{name: ..., parameter: ...}}, but is {of!r}.")
    name = named["name"]
    parameters = {key: value for key, value in named.items() if key != "name"}
    kind: Any = get_component("dataset", name)
    found = inspect.signature(kind).parameters.values()
    known = {ONLY} | {parameter.name for parameter in found if parameter.kind is parameter.KEYWORD_ONLY} - {"split"}
    for parameter in parameters:
        if parameter not in known:
            raise AvlocError(unknown(f"parameter of the dataset {name!r} named", parameter, known))
    return open_split(kind, root, split, parameters)
