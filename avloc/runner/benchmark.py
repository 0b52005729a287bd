"""The bench: for every run of a suite, encode, fit, predict, score; then the manifest that tables read.

What is on disk is not done again. A run that fails leaves ``error.txt`` and the others go on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from avloc.components import check_parameters, check_values, make_metrics, method_class
from avloc.hints import suffices
from avloc.interfaces import Method
from avloc.progress import say, track
from avloc.registry import registry
from avloc.results import Invocation, Manifest, Options, Row, column_of, row_of
from avloc.runner import run as stages
from avloc.runner.run import Stage
from avloc.runner.task import AbsentError, absence, open_column
from avloc.scoring import load_protocol, score_run
from avloc.store import RunFolder, content_id, read_json, write_json
from avloc.suite import Run, Suite, SuiteMethod
from avloc.types import AvlocError, unknown
from avloc.workers import Died, each


def bench(suite: Suite, options: Options) -> Manifest:
    """Run a suite and write its manifest; failures of single runs are recorded there, never raised.

    Raises:
        AvlocError: The suite names something that does not exist, or the results folder cannot be written.
    """
    work, path = _begin(suite, options), options.results / "suites" / f"{suite.name}.json"
    work.external = _external(work, path)
    here, apart = _divide(work)
    _settle_threads(1)
    try:
        for index in here:
            _run_column(work, index)
        count = min(options.together, len(apart))
        parts = [Part(work.suite, options, tuple(registry().files), index, count) for index in apart]
        for place, found in each(_run_apart, parts, count):
            _take(work, apart[place], found)
    finally:
        if any(row["status"] for row in work.rows):
            write_json(path, work.manifest())
    return work.manifest()


def _begin(suite: Suite, options: Options) -> Invocation:
    """Everything looked up, and a line for every run and dataset, in table order."""
    work = _prepare(suite, options)
    work.runs = _runs(work.suite)
    work.rows = [row_of(run, work.suite) for run in work.runs]
    work.columns = [column_of(entry, work.suite) for entry in work.suite.datasets]
    return work


def _external(work: Invocation, path: Path) -> list[Row]:
    """The rows that ``avloc score --predictions`` added to the suite's table and that still fit into it."""
    if not path.is_file():
        return []
    before, now = read_json(path), work.manifest()
    folders = {row["run"]: RunFolder(work.options.results, row["run"]) for row in before["rows"] if row["run"]}
    outside = {
        id for id, folder in folders.items() if folder.complete and folder.identity()["identity"]["stage"] == "external"
    }
    columns = {(column["name"], column["encoder"]) for column in work.columns}
    same = all(before[key] == now[key] for key in ("protocol", "metrics", "limit"))
    rows = [row for row in before["rows"] if row["run"] in outside]
    kept = [row for row in rows if same and (row["dataset"], row["encoder"]) in columns]
    if len(kept) < len(rows):
        say(f"{len(rows) - len(kept)} rows of predictions made elsewhere no longer fit the table; score them again.")
    return kept


def _divide(work: Invocation) -> tuple[list[int], list[int]]:
    """Which datasets are worked on one after the other in this process, and which beside each other in their own."""
    every, options = range(len(work.suite.datasets)), work.options
    there = [index for index in every if not absence(work.suite.datasets[index], options.data)]
    one_by_one = options.force or registry().objects  # forced stages that datasets share are done once; see `objects`
    if one_by_one or min(options.together, len(there)) < 2:
        return list(every), []
    return [index for index in every if index not in there], there


@dataclass(frozen=True, slots=True)
class Part:
    """What a process needs to know to work on one dataset, one of `count` such processes."""

    suite: Suite
    options: Options
    plugins: tuple[Path, ...]
    index: int
    count: int


def _run_apart(part: Part) -> tuple[Row, list[Row]]:
    """One dataset in a process of its own."""
    for file in part.plugins:
        registry().add_file(file)
    work = _begin(part.suite, part.options)
    _settle_threads(part.count)
    _run_column(work, part.index)
    return work.columns[part.index], [row for _, row in work.of(part.index)]


def _take(work: Invocation, index: int, found: tuple[Row, list[Row]] | Died) -> None:
    column, rows = work.columns[index], [row for _, row in work.of(index)]
    if isinstance(found, Died):
        _fail(column, rows, str(found))
        return
    column.update(found[0])
    for row, theirs in zip(rows, found[1], strict=True):
        row.update(theirs)


def _settle_threads(jobs: int) -> None:
    """Compute on half of the cores, or all where several processes share them, unless ``OMP_NUM_THREADS`` is set.

    Where something else runs, as many OpenMP threads as cores stall each other and take several times longer.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // max(2, jobs)))


def plan(suite: Suite, options: Options) -> list[Row]:
    """What `bench` would do: its rows with status ``todo`` or ``skipped``. Makes, encodes and trains nothing."""
    suite = _prepare(suite, options).suite
    absent = {id(entry): absence(entry, options.data) for entry in suite.datasets}
    rows = []
    for run in _runs(suite):
        reason = absent[id(run.dataset)] or _refusal(run, method_class(run.method))
        rows.append({**row_of(run, suite), "status": "skipped" if reason else "todo", "reason": reason})
    return rows


def _prepare(suite: Suite, options: Options) -> Invocation:
    """Look everything up before anything runs, so that a misspelt name costs nothing."""
    _ = options.torch_device
    if options.results.exists() and not options.results.is_dir():
        raise AvlocError(f"{options.results} is a file; results need a folder. Choose another with --results.")
    protocol = load_protocol(suite.protocol)
    if protocol.refine:
        suite = _with_priors(suite)
    metrics = make_metrics(suite.metrics)
    for entry in {id(run.method): run.method for run in suite.runs()}.values():  # each once, not once per seed
        # While some plugin does not import, the name may be one of its own: then its row fails and the others go on.
        if entry.name not in registry().entries("method") and not registry().failures:
            raise AvlocError(unknown("method", entry.name, registry().entries("method")))
        method = method_class(entry)
        if isinstance(method, type):
            check_parameters("method", entry, method)
            check_values(entry, method)
    for data in suite.datasets:
        if not data.obtain:
            check_parameters("dataset", data, registry().get("dataset", data.name))
            check_parameters("encoder", data.encoder, registry().get("encoder", data.encoder.name))
    return Invocation(suite, options, protocol, list(suite.metrics), metrics)


def _with_priors(suite: Suite) -> Suite:
    """The suite with the object prior's own row: without it nobody sees what refined maps owe to the prior."""
    kinds = {name: method_class(SuiteMethod(name=name)) for name in registry().entries("method")}
    priors = [name for name, kind in kinds.items() if isinstance(kind, type) and kind.is_prior]
    listed = {entry.name for entry in (*suite.methods, *suite.controls)}
    added = tuple(SuiteMethod(name=name) for name in priors if name not in listed)
    return suite.model_copy(update={"controls": (*suite.controls, *added)})


def _runs(suite: Suite) -> list[Run]:
    """The suite's runs without those that would repeat another one."""
    kept = []
    for run in suite.runs():
        method = method_class(run.method)
        if isinstance(method, type):
            repeats = run.seed != suite.seeds[0] and not method.trainable
            pointless = (run.section == "untrained" and not method.trainable) or (
                run.shuffled_audio and not method.uses_audio
            )
            if repeats or pointless:
                continue
        kept.append(run)
    return kept


def _refusal(run: Run, method: type[Method] | Exception) -> str:
    """Why the protocol does not let this method run; empty when it does."""
    if not isinstance(method, type):
        return ""
    if not suffices(run.hints, method.needs.hints):
        return f"needs the hints {method.needs.hints}, but gets {run.hints}"
    return ""


def _run_column(work: Invocation, index: int) -> None:
    """All runs on one dataset."""
    entry, column, pairs, options = work.suite.datasets[index], work.columns[index], work.of(index), work.options
    rows = [row for _, row in pairs]
    try:
        live = {run.train.live for run, _ in pairs}
        opened = open_column(entry, options.data, work.suite.limit, options.torch_device, live)
    except AbsentError as absent:
        said = "avloc " in str(absent)  # the reason itself says what to run
        column |= {"status": "absent", "reason": str(absent), "command": "" if said else entry.obtain}
        for row in rows:
            row |= {"status": "skipped", "reason": f"{entry.name}: {absent!s}"}
        return
    except Exception as error:  # a dataset or an encoder may raise anything; the other columns must go on
        _fail(column, rows, str(error) if isinstance(error, AvlocError) else repr(error))
        return
    name = column["name"]
    column |= {"notes": opened.notes, "title": entry.title or name.replace(entry.name, opened.title or entry.name)}
    for run, row in track(pairs, f"runs on {entry.name}", len(pairs)):
        stage = opened.stages[run.train.live]
        row["weights"] = stage.info.weights
        _run(work, run, stage, row)


def _fail(column: Row, rows: list[Row], reason: str) -> None:
    """A whole dataset failed."""
    column |= {"status": "failed", "reason": reason}
    for row in rows:
        row |= {"status": "failed", "reason": reason}
    say(f"{column['name']}: {reason}")


def _run(work: Invocation, run: Run, stage: Stage, row: Row) -> None:
    """One run, from fit to score; whatever goes wrong ends in its row."""
    method = method_class(run.method)
    row["reason"] = _refusal(run, method) or _impossible(run, method, stage)
    if row["reason"]:
        row["status"] = "skipped"
        return
    folder = RunFolder(work.options.results, content_id({"unbuilt": run.method.name, "dataset": run.dataset.name}))
    try:
        if not isinstance(method, type):
            raise method
        registry().announce(run, "started", {}, None)
        fitted = stages.fit_identity(run, method, stage)
        checkpoint = None
        if fitted is not None:
            folder = RunFolder(work.options.results, content_id(fitted))
            row["fit"] = row["run"] = folder.id
            stages.fit(run, method, stage, folder, fitted, force=_once(work, folder.id))
            checkpoint = folder.path / "checkpoint.safetensors"
        predicted = stages.predict_identity(run, method, stage, fitted)
        folder = RunFolder(work.options.results, content_id(predicted))
        row["run"] = folder.id
        stages.predict(run, method, stage, folder, predicted, checkpoint, force=_once(work, folder.id))
        title = f"score {run.method.name} on {run.dataset.name}, seed {run.seed}"
        counts = _counts(stage)
        row["score"] = score_run(folder, stage.test_data, work.protocol, work.metrics, counts, title)
        row["status"] = "done"
        values = read_json(folder.path / "scores" / f"{row['score']}.json")["values"]
        registry().announce(run, "scored", values, folder.path)
    except (Exception, SystemExit) as error:  # a method may raise anything; the other runs must go on
        row |= {"status": "failed", "reason": folder.fail(error), "run": folder.id}
        registry().announce(run, "failed", {"reason": row["reason"]}, folder.path)
        say(f"{run.method.name} on {run.dataset.name}, seed {run.seed}, failed: {row['reason']}")


def _impossible(run: Run, method: type[Method] | Exception, stage: Stage) -> str:
    """Why this column's data or encoder do not let this method run; empty when they do."""
    if not isinstance(method, type):
        return ""
    if method.needs.text and stage.text is None:
        return f"needs class-name embeddings, which the encoder {run.dataset.encoder.name!r} does not have"
    if method.needs.closed_set and stage.unseen:
        return f"maps only classes that it was trained on, but {len(stage.unseen)} of the test's are new"
    if run.shuffled_audio and len({stage.test.group(id) for id in stage.test.ids}) < 2:
        return "needs test clips from at least two videos to exchange their sounds"
    if stage.untrainable and stages.learns(run, method, stage):
        return f"learns, but {stage.untrainable}"
    return ""


def _once(work: Invocation, id: str) -> bool:
    """Whether to do `id` again: under ``--force``, the first time it is met."""
    fresh = work.options.force and id not in work.forced
    work.forced.add(id)
    return fresh


def _counts(stage: Stage) -> Row:
    listed = len(stage.test_data.ids())
    lost = {"missing": stage.test.missing, "broken": stage.test.broken}
    return {"listed": listed, "unread": listed - len(stage.test.ids) - sum(map(len, lost.values())), **lost}
