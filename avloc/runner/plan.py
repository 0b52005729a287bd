"""What a bench will do: a suite checked before anything runs, its runs, and the table that they will fill."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from avloc.components import check_parameters, check_values, fit_id, make_metrics, method_class, method_traits
from avloc.hints import suffices
from avloc.interfaces import Metric
from avloc.registry import registry
from avloc.results import metric_entries
from avloc.scoring import Protocol, load_protocol
from avloc.store import DatasetEntry, Manifest, Row, digest
from avloc.suite import Run, Suite, SuiteDataset, SuiteMethod
from avloc.types import AvlocError, unknown

LEAST = 4
"""Trainings, or runs without one, that a process should have to do: to start it takes seconds."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a suite; `results` is the store, and all are as in `avloc.bench`."""

    results: Path
    data: Path | None = None
    device: str = "auto"
    force: bool = False
    jobs: int | None = 1
    command: str = ""

    @property
    def processes(self) -> int:
        """`jobs` with ``None`` resolved."""
        if self.jobs is None:
            return (os.cpu_count() or 1) if torch_device(self.device) == "cpu" else 1
        return self.jobs


def torch_device(device: str) -> str:
    """A device with ``auto`` resolved: the first GPU where there is one.

    Raises:
        AvlocError: It is none of ``auto``, ``cpu``, ``cuda`` and ``cuda:1``, or a GPU that torch does not see.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise AvlocError(f"The device {device!r} is not auto, cpu, cuda or cuda:NUMBER.")
    index, count = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if index >= count:
        raise AvlocError(f"There is no device {device!r}: torch sees {count} GPUs here. Use the device cpu.")
    return device


@dataclass(slots=True)
class Plan:
    """A checked suite and the table that it will fill.

    Attributes:
        runs: Those of the manifest's first rows, in order; rows of predictions made elsewhere follow them.
        done_again: Ids already done again under ``--force``.
    """

    suite: Suite
    options: Options
    protocol: Protocol
    metrics: dict[str, Metric]
    runs: list[Run]
    manifest: Manifest
    done_again: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        """Where the manifest goes."""
        return Manifest.path(self.options.results, self.suite.name)

    def of(self, dataset: int) -> list[tuple[Run, Row]]:
        """The runs on one data set, and their rows."""
        entry = self.suite.datasets[dataset]
        return [(run, row) for run, row in zip(self.runs, self.manifest.rows, strict=False) if run.dataset is entry]

    def parts(self, dataset: int, count: int) -> list[list[int]]:
        """The places in `of` of a data set's runs, in up to `count` parts; runs that share a training stay together."""
        groups: dict[str, list[int]] = {}
        for place, (run, _) in enumerate(self.of(dataset)):
            shared = [fit_id(run.method, method_traits(run.method)), run.train.model_dump(), run.seed]
            groups.setdefault(digest(shared), []).append(place)
        count = max(1, min(count, len(groups) // LEAST))
        return [sorted(chain(*list(groups.values())[part::count])) for part in range(count)]

    def again(self, id: str) -> bool:
        """Whether to do `id` again: under ``--force``, the first time it is met."""
        fresh = self.options.force and id not in self.done_again
        self.done_again.add(id)
        return fresh


def make_plan(suite: Suite, options: Options) -> Plan:
    """Look everything up before anything runs, so that a misspelled name costs nothing.

    Raises:
        AvlocError: The suite or the device names something that does not exist, or the results folder is a file.
    """
    torch_device(options.device)
    if options.jobs is not None and options.jobs < 1:
        raise AvlocError(f"jobs should be at least 1, but is {options.jobs}.")
    if options.results.exists() and not options.results.is_dir():
        raise AvlocError(f"{options.results} is a file; results need a folder. Choose another with --results.")
    protocol = load_protocol(suite.protocol)
    if protocol.refine:
        suite = _with_prior(suite, protocol.refine.control)
    metrics = make_metrics(suite.metrics)
    for entry in {id(run.method): run.method for run in suite.runs()}.values():  # each once, not once per seed
        _check_method(entry)
    for data in suite.datasets:
        if not data.obtain:
            check_parameters("dataset", data, registry().get("dataset", data.name))
            check_parameters("encoder", data.encoder, registry().get("encoder", data.encoder.name))
    runs = _runs(suite)
    manifest = _manifest(suite, options, protocol, metrics, [_row(run, suite) for run in runs])
    return Plan(suite, options, protocol, metrics, runs, manifest)


def _check_method(entry: SuiteMethod) -> None:
    # While some plugin does not import, the name may be one of its own: then its row fails and the others go on.
    if entry.name not in registry().entries("method") and not registry().failures:
        raise AvlocError(unknown("method", entry.name, registry().entries("method")))
    method = method_class(entry)
    if isinstance(method, type):
        check_parameters("method", entry, method)
        check_values(entry, method)


def _with_prior(suite: Suite, control: str) -> Suite:
    """The suite with the object prior's own row: without it nobody sees what refined maps owe to the prior."""
    if control in {entry.name for entry in (*suite.methods, *suite.controls)}:
        return suite
    return suite.model_copy(update={"controls": (*suite.controls, SuiteMethod(name=control))})


def _runs(suite: Suite) -> list[Run]:
    """The suite's runs without those that would repeat another one."""
    kept = []
    for run in suite.runs():
        method = method_traits(run.method)
        repeats = run.seed != suite.seeds[0] and not method.trainable
        same_untrained = run.section == "untrained" and not method.trainable
        same_shuffled = run.shuffled_audio and not method.uses_audio
        if not (repeats or same_untrained or same_shuffled):
            kept.append(run)
    return kept


def refusal(run: Run) -> str:
    """Why the run's hints do not let its method run; empty when they do."""
    needed = method_traits(run.method).needs.hints
    return "" if suffices(run.hints, needed) else f"needs the hints {needed}, but gets {run.hints}"


def _manifest(
    suite: Suite, options: Options, protocol: Protocol, metrics: Mapping[str, Metric], rows: list[Row]
) -> Manifest:
    listed = suite.reference in {row.method for row in rows}  # the command line may have left the reference out
    return Manifest(
        suite=suite.name,
        title=suite.title,
        paper=suite.paper,
        command=options.command,
        protocol=protocol.model_dump(),
        protocol_text=protocol.describe(),
        train_text=_train_text(suite),
        limit=suite.limit,
        reference=suite.reference if listed else "",
        metrics=metric_entries(suite.metrics, metrics),
        datasets=[_dataset(entry, suite) for entry in suite.datasets],
        rows=rows,
    )


def _row(run: Run, suite: Suite) -> Row:
    method = method_traits(run.method)
    return Row(
        method=run.method.name,
        label=method.title or run.method.name,
        section=run.section,
        uses_audio=method.uses_audio,
        params={**run.method.params, **({"train": run.method.train} if run.method.train else {})},
        dataset=_dataset_name(run.dataset, suite),
        encoder=run.dataset.encoder.name,
        hints=run.hints,
        train=run.train.model_dump(),
        limit=run.limit,
        seed=run.seed,
    )


def _dataset(entry: SuiteDataset, suite: Suite) -> DatasetEntry:
    name, encoder = _dataset_name(entry, suite), entry.encoder.name
    named = [twin.encoder.name for twin in suite.datasets if twin.title == entry.title != ""]
    title = f"{entry.title} (encoder {encoder})" if len(set(named)) > 1 else entry.title
    printed = entry.printed or (entry.name if name == f"{entry.name} (encoder {encoder})" else "")
    return DatasetEntry(name=name, title=title or name, encoder=encoder, command=entry.obtain, printed=printed)


def _dataset_name(entry: SuiteDataset, suite: Suite) -> str:
    """The data set's name; where the suite has it more than once, with what tells its entries apart."""
    mine = _telling(entry, suite)
    alike = {twin.encoder.name for twin in suite.datasets if twin.name == entry.name and _telling(twin, suite) == mine}
    parts = [*([mine] if mine else []), *([f"encoder {entry.encoder.name}"] if len(alike) > 1 else [])]
    return f"{entry.name} ({', '.join(parts)})" if parts else entry.name


def _telling(entry: SuiteDataset, suite: Suite) -> str:
    """The parameters that tell a data set from its twins under the same encoder; empty where it has none."""
    twins = [twin for twin in suite.datasets if (twin.name, twin.encoder.name) == (entry.name, entry.encoder.name)]
    mine, others = _changed(entry), [_changed(twin) for twin in twins]
    telling = {key: value for key, value in mine.items() if any(other.get(key) != value for other in others)}
    return (_spelled(telling) or "defaults") if len(twins) > 1 else ""


def _changed(entry: SuiteDataset) -> dict[str, Any]:
    """The parameters of a data set and of its encoder that the suite sets."""
    return {**entry.params, **{f"encoder {key}": value for key, value in entry.encoder.params.items()}}


def _train_text(suite: Suite) -> str:
    """How methods are trained, for the notes of a table."""
    exceptions = [f"{entry.name}: {_spelled(entry.train)}" for entry in suite.methods if entry.train]
    return "; ".join([_spelled(suite.train.model_dump()), *exceptions])


def _spelled(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())
