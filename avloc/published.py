"""Numbers that papers printed, from ``benchmarks/published/``. Shown beside ours when asked for, never mixed with them.

A suite's ``paper: T-VSL, Table 2`` finds the file whose name starts with the letters and digits of the first word,
``<paper>_<venue>.csv``, and in it the lines of that table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import pandas as pd

from avloc.types import AvlocError


@dataclass(frozen=True, slots=True)
class Columns:
    """One dataset's printed numbers.

    Attributes:
        headers: The metrics, as the paper calls them.
        rows: Per row of our table one text per header; empty where the paper has no number.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Printed:
    """One table of one paper.

    Attributes:
        paper: As the suite names it.
        file: Where the numbers are.
        lines: The CSV's lines of this table.
    """

    paper: str
    file: str
    lines: pd.DataFrame

    @classmethod
    def of(cls, paper: str) -> Printed:
        """The printed numbers of a suite's paper.

        Raises:
            AvlocError: avloc has no such numbers.
        """
        name, _, table = paper.partition(", Table ")
        start = re.sub(r"[^a-z0-9]", "", name.lower()) + "_"
        folder = files("avloc_benchmarks") / "published"
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if name and entry.name.startswith(start) and entry.name.endswith(".csv"):
                with as_file(entry) as path:
                    lines = pd.read_csv(path, dtype={"table": str})
                return cls(paper, f"benchmarks/published/{entry.name}", lines[lines.table == table])
        raise AvlocError(f"avloc has no printed numbers for {paper or 'a suite that names no paper'!r}; see {folder}.")

    def beside(self, dataset: str, rows: Sequence[Mapping[str, Any]]) -> Columns | None:
        """The printed numbers for the rows of our table; ``None`` when the paper has none for any of them."""
        lines = self.lines[self.lines.dataset == dataset]
        headers = tuple(dict.fromkeys(lines.metric))
        taken: set[int] = set()
        texts = []
        for row in rows:
            mine = lines[[index not in taken and _same(line, row) for index, line in lines.iterrows()]]
            taken |= set(mine.index)
            numbers = dict(zip(mine.metric, mine.percent, strict=True))
            texts.append(tuple("" if pd.isna(v := numbers.get(h)) else f"{v:.1f}" for h in headers))
        return Columns(headers, tuple(texts)) if taken else None

    def note(self) -> str:
        """What the reader must know about the columns marked as printed."""
        return (
            f"Columns marked (printed): the numbers of {self.paper}, from {self.file}, with the metric names, data, "
            "training and evaluation of that paper; they do not compare line by line with ours."
        )


def _same(line: pd.Series[Any], row: Mapping[str, Any]) -> bool:
    """Whether a printed line is about our row: the same method, and the same switches where the paper varies them."""
    if row["block"] != "methods" or row["method"] != line.method:
        return False
    params = json.loads(row["params"])
    switches = dict(pair.split("=") for pair in line.label.split(";") if "=" in pair)
    return all(key in params and float(params[key]) == float(value) for key, value in switches.items())
