"""What one invocation of the bench was asked for and what became of it: the manifest, which tables read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avloc.components import Component, method_class
from avloc.scoring import Protocol
from avloc.suite import Run, Suite, SuiteDataset
from avloc.types import AvlocError

if TYPE_CHECKING:
    from avloc.interfaces import Metric

Row = dict[str, Any]
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a suite.

    Attributes:
        results: The store.
        data: Where the user's data sets are; ``None``: the user's cache only.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        force: Fit, predict and score again; features still come from their cache.
        jobs: How many datasets at a time, each in a process of its own; ``None``: one per core, or one on a GPU.
        command: What the user typed, for the manifest.
    """

    results: Path
    data: Path | None = None
    device: str = "auto"
    force: bool = False
    jobs: int | None = 1
    command: str = ""

    @property
    def torch_device(self) -> str:
        """`device` with ``auto`` resolved.

        Raises:
            AvlocError: A GPU was asked for that torch does not see.
        """
        import torch  # late: printing a table does not need it

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.device != "cpu":
            index, count = int(self.device.partition(":")[2] or 0), torch.cuda.device_count()
            if index >= count:
                raise AvlocError(f"There is no device {self.device!r}: torch sees {count} GPUs here. Use --device cpu.")
        return self.device

    @property
    def together(self) -> int:
        """`jobs` with ``None`` resolved."""
        if self.jobs is None:
            return (os.cpu_count() or 1) if self.torch_device == "cpu" else 1
        return self.jobs


@dataclass(slots=True)
class Invocation:
    """One invocation.

    Attributes:
        components: The metrics as the suite writes them, in the order of `metrics`.
        runs: Those of `rows`.
        rows: What became of every run.
        external: The rows of predictions made elsewhere that the suite's table has.
        columns: What became of every dataset of the suite.
        forced: Ids already done again under ``--force``.
    """

    suite: Suite
    options: Options
    protocol: Protocol
    components: list[Component]
    metrics: dict[str, Metric]
    runs: list[Run] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    external: list[Row] = field(default_factory=list)
    columns: list[Row] = field(default_factory=list)
    forced: set[str] = field(default_factory=set)

    def _reference(self) -> str:
        """The suite's reference method, unless the command line left it out."""
        return self.suite.reference if self.suite.reference in {row["method"] for row in self.rows} else ""

    def of(self, column: int) -> list[tuple[Run, Row]]:
        """The runs on one dataset, and their rows."""
        entry = self.suite.datasets[column]
        return [(run, row) for run, row in zip(self.runs, self.rows, strict=True) if run.dataset is entry]

    def manifest(self) -> Manifest:
        return {
            "suite": self.suite.name, "title": self.suite.title, "paper": self.suite.paper,
            "command": self.options.command, "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "protocol": self.protocol.model_dump(), "protocol_text": self.protocol.describe(),
            "train_text": _train_text(self.suite), "limit": self.suite.limit, "reference": self._reference(),
            "metrics": [
                {"key": key, "title": m.title, "higher_is_better": m.higher_is_better, **c.model_dump()}
                for c, (key, m) in zip(self.components, self.metrics.items(), strict=True)
            ],
            "datasets": self.columns, "rows": [*self.rows, *self.external],
        }  # fmt: skip


def _train_text(suite: Suite) -> str:
    """How methods were trained, for the notes of a table."""
    exceptions = [f"{entry.name}: {_spelt(entry.train)}" for entry in suite.methods if entry.train]
    return "; ".join([_spelt(suite.train.model_dump()), *exceptions])


def _spelt(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _column_name(entry: SuiteDataset, suite: Suite) -> str:
    """The dataset's name; where the suite has it more than once, with the parameters that tell the columns apart."""
    twins = [twin for twin in suite.datasets if (twin.name, twin.encoder.name) == (entry.name, entry.encoder.name)]
    mine, others = _changed(entry), [_changed(twin) for twin in twins]
    telling = {key: value for key, value in mine.items() if any(other.get(key) != value for other in others)}
    return f"{entry.name} ({_spelt(telling) or 'defaults'})" if len(twins) > 1 else entry.name


def _changed(entry: SuiteDataset) -> dict[str, Any]:
    """The parameters of a dataset and of its encoder that the suite sets."""
    return {**entry.params, **{f"encoder {key}": value for key, value in entry.encoder.params.items()}}


def row_of(run: Run, suite: Suite) -> Row:
    """What a manifest says about a run before it has run."""
    method = method_class(run.method)
    label = method.title if isinstance(method, type) and method.title else run.method.name
    params = {**run.method.params, **({"train": run.method.train} if run.method.train else {})}
    uses_audio = not isinstance(method, type) or method.uses_audio
    return {
        "method": run.method.name, "label": label, "uses_audio": uses_audio, "section": run.section, "params": params,
        "dataset": _column_name(run.dataset, suite), "hints": run.hints, "encoder": run.dataset.encoder.name,
        "train": run.train.model_dump(), "limit": run.limit, "weights": "", "seed": run.seed,
        "status": "", "reason": "", "run": "", "fit": "", "score": "",
    }  # fmt: skip


def column_of(entry: SuiteDataset, suite: Suite) -> Row:
    """What a manifest says about a dataset before anything has run."""
    name = _column_name(entry, suite)
    column: Row = {"name": name, "title": entry.title or name, "encoder": entry.encoder.name, "status": "ran"}
    return column | {"reason": "", "command": entry.obtain, "notes": [], "printed": entry.printed}
