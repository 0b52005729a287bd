"""The bench: every run of a suite, data set by data set, then the manifest that tables read.

Finished runs are reused; a run that fails leaves ``error.txt``, and the others go on.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from avloc.progress import say, track
from avloc.registry import registry
from avloc.results import Results
from avloc.runner.plan import Options, Plan, make_plan, refusal, torch_device
from avloc.runner.run import execute
from avloc.runner.task import AbsentError, absence, open_task, task_notes
from avloc.store import DatasetEntry, Manifest, Row, RunFolder
from avloc.suite import Suite, load_suite
from avloc.types import AvlocError
from avloc.workers import Died, each


def bench(
    suite: str | Path | Suite,
    *,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    encoder: str | None = None,
    hints: Sequence[str] | None = None,
    limit: int | None = None,
    settings: Sequence[str] = (),
    results: str | Path = "results",
    data: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    jobs: int | None = 1,
    command: str = "",
) -> Results:
    """Run a suite: fit, predict and score every method on every data set, and keep everything in the store.

    Finished runs are reused, and an interrupted bench resumes. What goes wrong in a single run stands in its row.

    Example:
        >>> results = avloc.bench("multi_source", methods=["tvsl", "avgn"], seeds=[0])
        >>> print(results.table().to_markdown())

    Args:
        suite: The name of a suite that ships with avloc, a YAML file, or a `Suite`.
        methods: Only these; one that the suite does not list is added with its defaults.
        datasets: Only these; one that the suite does not list is added.
        seeds: Instead of the suite's.
        encoder: One for all data sets.
        hints: What is disclosed to methods: some of ``none``, ``vocabulary``, ``count``, ``oracle``.
        limit: Only the first clips of every split.
        settings: ``"method.parameter=value"`` or ``"train.epochs=5"``.
        results: The folder of the store.
        data: The folder of your own data sets.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        force: Fit, predict and score again what is there.
        jobs: How many processes share the runs; ``None``: one per core, or one on a GPU.
        command: What makes the table again, for its notes; empty: this call.

    Returns:
        The results: a table, scores per source, and the raw predictions.

    Raises:
        AvlocError: Something that was asked for does not exist, or the results folder cannot be written.
    """
    command = command or _call(suite, locals())
    opened = suite if isinstance(suite, Suite) else load_suite(suite)
    chosen = opened.override(
        methods=methods, datasets=datasets, seeds=seeds, encoder=encoder, hints=hints, limit=limit, settings=settings
    )
    options = Options(Path(results), Path(data) if data else None, device, force, jobs, command)
    return Results(run_suite(chosen, options), options.results)


def _call(suite: str | Path | Suite, given: Mapping[str, Any]) -> str:
    """The call of `bench` that makes the same table, with the arguments that are not as by default."""
    known = signature(bench).parameters
    changed = {name: given[name] for name in known if name != "suite" and given[name] != known[name].default}
    named = f"<suite {suite.name!r}>" if isinstance(suite, Suite) else repr(str(suite))
    return f"avloc.bench({', '.join([named, *(f'{name}={_literal(value)}' for name, value in changed.items())])})"


def _literal(value: Any) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    return repr(list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value)


def run_suite(suite: Suite, options: Options) -> Manifest:
    """Run a suite as it is and write its manifest; failures of single runs are recorded there, never raised.

    Raises:
        AvlocError: The suite names something that does not exist, or the results folder cannot be written.
    """
    plan = make_plan(suite, options)
    plan.manifest.rows += _external_rows(plan)
    here, apart = _divide(plan)
    _settle_threads(1)
    _keep_memory()
    try:
        for index in here:
            _run_dataset(plan, index, range(len(plan.of(index))))
        count = min(options.processes, len(apart))
        work = partial(_run_apart, plan.suite, options, registry().files, count)
        for number, found in each(work, apart, count):
            _take(plan, *apart[number], found)
    finally:
        if any(row.status for row in plan.manifest.rows):
            plan.manifest.save(plan.path)
    return plan.manifest


def plan_suite(suite: Suite, options: Options) -> list[Row]:
    """What `run_suite` would do: its rows with status ``todo`` or ``skipped``. Makes, encodes and trains nothing."""
    plan = make_plan(suite, options)
    absent = {id(entry): absence(entry, options.data) for entry in plan.suite.datasets}
    for run, row in zip(plan.runs, plan.manifest.rows, strict=True):
        row.reason = absent[id(run.dataset)] or refusal(run)
        row.status = "skipped" if row.reason else "todo"
    return plan.manifest.rows


def _external_rows(plan: Plan) -> list[Row]:
    """The rows that ``avloc score --predictions`` added to the suite's table and that still fit into it."""
    if not plan.path.is_file():
        return []
    try:
        before, now = Manifest.load(plan.path), plan.manifest
    except AvlocError:
        say(f"{plan.path} is damaged; it is written anew. Rows of predictions made elsewhere must be scored again.")
        return []
    folders = [(row, RunFolder(plan.options.results, row.run)) for row in before.rows if row.run]
    outside = [row for row, run in folders if run.complete and run.identity()["identity"]["stage"] == "external"]
    datasets = {(entry.name, entry.encoder) for entry in now.datasets}
    same = (before.protocol, before.metrics, before.limit) == (now.protocol, now.metrics, now.limit)
    kept = [row for row in outside if same and (row.dataset, row.encoder) in datasets]
    if len(kept) < len(outside):
        lost = len(outside) - len(kept)
        say(f"{lost} rows of predictions made elsewhere no longer fit the table; score them again.")
    return kept


def _divide(plan: Plan) -> tuple[list[int], list[tuple[int, list[int]]]]:
    """The data sets whose runs are done in this process, and the parts of the others for processes of their own.

    A part is a data set and places in its runs; the first parts of all data sets come first.
    """
    options, every = plan.options, range(len(plan.suite.datasets))
    # What data sets share is done once under --force; plugins that were added as objects exist in this process only.
    if options.force or registry().objects or options.processes < 2:
        return list(every), []
    there = [index for index in every if not absence(plan.suite.datasets[index], options.data)]
    each_in = 2 * options.processes // max(1, len(there))  # two parts for a process, so that all end at about one time
    parts = [[(index, part) for part in plan.parts(index, each_in)] for index in there]
    apart = [part for turn in zip_longest(*parts) for part in turn if part]
    return (list(every), []) if len(apart) < 2 else ([index for index in every if index not in there], apart)


def _run_apart(
    suite: Suite, options: Options, plugins: Sequence[Path], count: int, part: tuple[int, list[int]]
) -> tuple[DatasetEntry, list[Row]]:
    """Part of the runs on a data set in a process of its own, one of `count` such processes."""
    for file in plugins:
        registry().add_file(file)
    plan = make_plan(suite, options)
    _settle_threads(count)
    _keep_memory()
    index, places = part
    _run_dataset(plan, index, places)
    pairs = plan.of(index)
    return plan.manifest.datasets[index], [pairs[place][1] for place in places]


def _take(plan: Plan, index: int, places: Sequence[int], found: tuple[DatasetEntry, list[Row]] | Died) -> None:
    """Put what another process found into the manifest."""
    if isinstance(found, Died):
        _fail(plan, index, places, str(found))
        return
    plan.manifest.datasets[index], rows = found
    mine = [place for place, run in enumerate(plan.runs) if run.dataset is plan.suite.datasets[index]]
    for place, row in zip(places, rows, strict=True):
        plan.manifest.rows[mine[place]] = row


def _settle_threads(jobs: int) -> None:
    """Compute on half of the cores, or all where several processes share them, unless ``OMP_NUM_THREADS`` is set.

    As many OpenMP threads as cores stall each other where something else runs.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // max(2, jobs)))


def _keep_memory() -> None:
    """Have glibc keep freed memory: else large tensors get fresh pages in every step, which may halve the speed."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3
        for parameter, size in ((trim_threshold, 1 << 30), (top_pad, 64 << 20), (mmap_threshold, 32 << 20)):
            mallopt(parameter, size)


def _run_dataset(plan: Plan, index: int, places: Sequence[int]) -> None:
    """The runs on one data set, or those at some places."""
    entry, shown, every = plan.suite.datasets[index], plan.manifest.datasets[index], plan.of(index)
    pairs = [every[place] for place in places]
    try:
        task = open_task(entry, plan.options.data, plan.suite.limit, torch_device(plan.options.device))
        shown.notes = task_notes(task, sorted({run.train.computed for run, _ in pairs}))
    except AbsentError as absent:
        said = "avloc " in str(absent)  # the reason itself says what to run
        shown.status, shown.reason, shown.command = "absent", str(absent), "" if said else entry.obtain
        for _, row in pairs:
            row.status, row.reason = "skipped", f"{entry.name}: {absent!s}"
        return
    except (Exception, SystemExit) as error:  # a data set or an encoder may raise anything; the others must go on
        _fail(plan, index, places, str(error) if isinstance(error, AvlocError) else repr(error))
        return
    if not entry.title:
        shown.title = shown.name.replace(entry.name, type(task.test).title or entry.name)
    for run, row in track(pairs, f"runs on {entry.name}", len(pairs)):
        execute(run, row, task, plan)


def _fail(plan: Plan, index: int, places: Sequence[int], reason: str) -> None:
    """Runs on a data set failed before they began, perhaps all of them."""
    shown, pairs = plan.manifest.datasets[index], plan.of(index)
    for place in places:
        row = pairs[place][1]
        row.status, row.reason = "failed", reason
    if not any(row.status == "done" for _, row in pairs):
        shown.status, shown.reason = "failed", reason
    say(f"{shown.name}: {reason}")
