"""Numbers that papers printed, from ``benchmarks/published/``. Shown beside ours when asked for, never mixed with them.

A suite's ``paper: T-VSL, Table 2`` finds the file whose name starts with the letters and digits of the first word,
``<paper>_<venue>.csv``, and in it the lines of that table.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from avloc.types import AvlocError

Line = dict[str, str]


@dataclass(frozen=True, slots=True)
class Columns:
    """One dataset's printed numbers.

    Attributes:
        headers: The metrics, as the paper calls them.
        rows: Per row of our table one text per header, as printed; empty where the paper has no number.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Printed:
    """One table of one paper.

    Attributes:
        paper: As the suite names it.
        file: Where the numbers are.
        lines: The CSV's lines of this table.
    """

    paper: str
    file: str
    lines: tuple[Line, ...]

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
            if entry.name.startswith(start) and entry.name.endswith(".csv"):
                lines = csv.DictReader(entry.read_text(encoding="utf-8").splitlines())
                return cls(
                    paper, f"benchmarks/published/{entry.name}", tuple(ln for ln in lines if ln["table"] == table)
                )
        whose = f"the paper of this suite ({paper})" if paper else "a suite that names no paper"
        raise AvlocError(f"No printed numbers ship with avloc for {whose}.")

    def beside(self, dataset: str, rows: Sequence[Mapping[str, Any]]) -> Columns | None:
        """The printed numbers for the rows of our table; ``None`` when the paper has none for any of them."""
        left = [line for line in self.lines if line["dataset"] == dataset]
        headers = tuple(dict.fromkeys(line["metric"] for line in left))
        texts = []
        for row in rows:
            mine = {line["metric"]: line["percent"] for line in left if _same(line, row)}
            left = [line for line in left if not _same(line, row)]  # a number stands in one row only
            texts.append(tuple(mine.get(header, "") for header in headers))
        return Columns(headers, tuple(texts)) if any(map(any, texts)) else None

    def note(self) -> str:
        """What the reader must know about the columns marked as printed."""
        return (
            f"Columns marked (printed): the numbers of {self.paper}, from {self.file}, with the metric names, data, "
            "training and evaluation of that paper; they do not compare line by line with ours."
        )


def _same(line: Line, row: Mapping[str, Any]) -> bool:
    """Whether a printed line is about our row: the same method, and the same switches where the paper varies them."""
    if row["block"] != "methods" or row["method"] != line["method"]:
        return False
    params = json.loads(row["params"])
    switches = dict(pair.split("=") for pair in line["label"].split(";") if "=" in pair)
    return all(key in params and float(params[key]) == float(value) for key, value in switches.items())
