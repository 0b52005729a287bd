"""One run: fit, predict, score, each with an id of its own and reused when its result is on disk.

``fit`` leaves a checkpoint, ``predict`` the raw maps, ``score`` one row per true source. An id covers everything that
changes a number (names, revisions, parameters with defaults filled in, content of the clips, seed, hints); where and
when a result was made is recorded beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import tee
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from avloc.components import component_id, fit_id, make_method, mention_edits, method_class, source_digest
from avloc.features import VIEWS_REVISION, FeatureSet
from avloc.hints import disclose
from avloc.interfaces import Method
from avloc.progress import say, track
from avloc.registry import registry
from avloc.runner.plan import Plan, refusal
from avloc.runner.task import Task
from avloc.scoring import score_run
from avloc.store import ArrayLog, Counts, Row, RunFolder, content_id, file_digest, provenance
from avloc.suite import Run
from avloc.training import ENCODER, Fit, learned_nothing, load_weights, restore, to_device
from avloc.types import AvlocError, Batch, Features, Prediction, blaming

COMMIT_EVERY = 32


def execute(run: Run, row: Row, task: Task, plan: Plan) -> None:
    """Fit, predict and score one run; what becomes of it, whatever goes wrong, is written into its row."""
    kind = method_class(run.method)
    row.weights = task.encoder.info.weights
    results = plan.options.results
    folder = RunFolder(results, content_id({"unbuilt": run.method.name, "dataset": run.dataset.name}))
    try:
        if not isinstance(kind, type):
            raise kind
        row.reason = refusal(run) or impossible(run, kind, task)
        if row.reason:
            row.status = "skipped"
            return
        registry().announce(run, "started", {}, None)
        method, checkpoint = build(run, kind, task), None
        fitted = fit_identity(run, method, task)
        if fitted is not None:
            folder = RunFolder(results, content_id(fitted))
            row.fit = row.run = folder.id
            checkpoint = fit(run, method, task, folder, fitted, force=plan.again(folder.id))
            row.remark = folder.identity()["provenance"]["remark"]
        predicted = predict_identity(run, method, task, fitted)
        folder = RunFolder(results, content_id(predicted))
        row.run = folder.id
        predict(run, method, task, folder, predicted, checkpoint, force=plan.again(folder.id))
        test, listed = task.features("test", computed=run.train.computed), len(task.test.ids())
        unread = listed - len(test.ids) - len(test.missing) - len(test.broken)
        counts = Counts(listed=listed, unread=unread, missing=test.missing, broken=test.broken)
        score = score_run(folder, task.test, plan.protocol, plan.metrics, counts, f"score {run}")
        row.status, row.score = "done", score.score
        registry().announce(run, "scored", score.values, folder.path)
    except (Exception, SystemExit) as error:  # a method may raise anything; the other runs must go on
        row.status, row.reason, row.run = "failed", folder.fail(error), folder.id
        registry().announce(run, "failed", {"reason": row.reason}, folder.path)
        say(f"{run}, failed: {row.reason}")


def impossible(run: Run, method: type[Method], task: Task) -> str:
    """Why this task's data or encoder do not let this method run; empty when they do."""
    test = task.features("test", computed=run.train.computed)
    if method.needs.text and task.test_text is None:
        return f"needs class-name embeddings, which the encoder {run.dataset.encoder.name!r} does not have"
    unseen = set(task.test_classes) - set(task.classes)
    if method.needs.closed_set and unseen:
        return f"maps only classes that it was trained on, but {len(unseen)} of the test's are new"
    if run.shuffled_audio and len({test.group(id) for id in test.ids}) < 2:
        return "needs test clips from at least two videos to exchange their sounds"
    taught = task.features("train", computed=run.train.computed)
    if not taught.ids and learns(run, build(run, method, task)):
        broken = [f"none of its training clips can be used: {reason}" for reason in taught.broken.values()]
        return f"learns, but {task.lacking or [*broken, 'none of its training clips is on this machine'][0]}"
    return ""


def build(run: Run, kind: type[Method], task: Task) -> Method:
    """The method of a run, before any training."""
    return make_method(run.method, kind, task.encoder.info, task.classes, run.seed)


def learns(run: Run, method: Method) -> bool:
    """Whether there is anything to train."""
    return method.trainable and run.train.epochs > 0 and bool(list(method.parameters()))


def fit_identity(run: Run, method: Method, task: Task) -> dict[str, Any] | None:
    """What a training run is; ``None`` when there is nothing to train. Clips count by content, whatever lists them."""
    if not learns(run, method):
        return None
    views = {"views": VIEWS_REVISION} if method.needs.views else {}
    clips = {split: _contents(task.features(split, computed=run.train.computed)) for split in ("train", "val")}
    return {
        "stage": "fit", "method": fit_id(run.method, type(method)), "encoder": task.identity["encoder"],
        "classes": task.classes, "clips": clips, "seed": run.seed, "train": run.train.model_dump(), **views,
    }  # fmt: skip


def predict_identity(run: Run, method: Method, task: Task, fitted: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a set of predictions is, given the `fit_identity` of its weights."""
    test = task.features("test", computed=run.train.computed)
    return {
        "stage": "predict", "fit": content_id(fitted) if fitted else None,
        "method": component_id(run.method, type(method)), **task.identity,
        "classes": {"train": task.classes, "test": task.test_classes},
        "clips": _contents(test), "missing": sorted(test.missing), "broken": sorted(test.broken),
        "seed": run.seed, "hints": run.hints, "shuffled_audio": run.shuffled_audio,
        **({} if fitted or not run.train.computed else {"cache": False}),
    }  # fmt: skip


def _contents(clips: FeatureSet) -> str:
    """The usable clips and what is in them, in their order, which decides batches and exchanged sounds."""
    return content_id({"clips": list(clips.keys.items())})


def fit(run: Run, method: Method, task: Task, folder: RunFolder, identity: Mapping[str, Any], *, force: bool) -> Path:
    """Train unless the checkpoint is there; an interrupted training resumes. Returns the checkpoint."""
    checkpoint = folder.path / "checkpoint.safetensors"
    with folder.exclusive(f"the training of {run.method.name}"):
        if force:
            folder.clear()
        if folder.complete and _as_written(checkpoint, folder):
            mention_edits(_code_of(folder), _code(run, method, task))
            return checkpoint
        started = time.time()
        accelerator, _, index = task.device.partition(":")
        precision: Any = run.train.precision
        fabric = Fabric(accelerator=accelerator, devices=[int(index)] if index else 1, precision=precision)
        work = Fit(
            method, task.training_data(method.needs, run.train), run.train, seed=run.seed, folder=folder.path,
            fabric=fabric, description=f"fit {run}", source=source_digest(type(method)),
            on_epoch=lambda line: registry().announce(run, "epoch", line, folder.path),
        )  # fmt: skip
        before = {name: weight.detach().clone() for name, weight in method.named_parameters()}
        if run.train.train_encoder:  # a copy of it is trained
            before |= {ENCODER + name: weight for name, weight in task.encoder.named_parameters()}
        work.run()
        remark = learned_nothing(checkpoint.with_name("train.jsonl"), run.train, before, load_weights(checkpoint))
        code = _code(run, method, task)
        about = {"code": code, "dataset": run.dataset.name, "checkpoint": _weights(checkpoint), "remark": remark}
        folder.finish(identity, {**provenance(started, task.device), **about})
    return checkpoint


@torch.no_grad()
def predict(
    run: Run,
    method: Method,
    task: Task,
    folder: RunFolder,
    identity: Mapping[str, Any],
    checkpoint: Path | None,
    *,
    force: bool,
) -> None:
    """Store the raw maps of every usable test clip; an interrupted run resumes from the last stored batch."""
    with folder.exclusive(f"the predictions of {run.method.name}"):
        if force:
            folder.clear()
        test, weights = task.features("test", computed=run.train.computed), _weights(checkpoint)
        if folder.complete and weights and folder.identity()["provenance"]["weights"] != weights:
            folder.clear()  # of a training that was done again since
        log = ArrayLog(folder.path)
        log.verify()
        if folder.complete and set(test.ids) <= log.records.keys():
            mention_edits(_code_of(folder), _code(run, method, task))
            return
        started = time.time()
        if checkpoint is not None:
            test = restore(checkpoint, method, test)
        # A training in half precision has converted the method; a checkpoint read into a fresh one is in single.
        module = method.float().to(task.device).eval().evaluation_module()
        sounds = {id: _partner(test, n) for n, id in enumerate(test.ids)} if run.shuffled_audio else {}
        todo = [id for id in test.ids if id not in log.records]
        for done, id in enumerate(track(todo, f"predict {run}", len(todo)), start=1):
            # Alone, so that rounding depends on no batch mates: the bits are the same wherever a run was interrupted.
            features, batch = _inputs(run, task, test, id, sounds.get(id))
            torch.manual_seed(run.seed)
            (prediction,) = localized(run.method.name, module, features, batch)
            _append(log, test, features, prediction)
            if done % COMMIT_EVERY == 0:
                log.commit()
        log.commit()
        about = {"code": _code(run, method, task), "weights": weights, "clips": len(log.records)}
        folder.finish(identity, {**provenance(started, task.device), **about})


def _append(log: ArrayLog, test: FeatureSet, features: Features, prediction: Prediction) -> None:
    """Store a clip's maps, and the object prior that some protocols mix in."""
    id, backbone = prediction.clip, features.backbone_map
    arrays = {"maps": prediction.maps}
    arrays |= {} if backbone is None else {"prior": backbone[0].abs().mean(0).cpu().numpy()}
    arrays |= {} if prediction.scores is None else {"scores": prediction.scores}
    about = {"labels": list(prediction.labels), "group": test.group(id), "tiles": test.tiles(id)}
    log.append(id, arrays, half=False, **about)


def _code(run: Run, method: Method, task: Task) -> dict[str, str]:
    """Digests of the files of everything that computes a run's features, weights and maps."""
    return {
        f"method {run.method.name!r}": source_digest(type(method)),
        f"encoder {run.dataset.encoder.name!r}": source_digest(type(task.encoder)),
        f"data set {run.dataset.name!r}": source_digest(type(task.test)),
    }


def _code_of(folder: RunFolder) -> dict[str, str]:
    """The digests when a finished run was made."""
    found: dict[str, str] = folder.identity()["provenance"].get("code", {})
    return found


def _as_written(checkpoint: Path, folder: RunFolder) -> bool:
    """Whether a training's weights are those that it ended with, or gone; changed ones are named, and trained again."""
    if not checkpoint.is_file() or _weights(checkpoint) == folder.identity()["provenance"]["checkpoint"]:
        return True
    say(f"{checkpoint} is damaged: it is not what was written. It is trained again.")
    folder.clear()
    return False


def _weights(checkpoint: Path | None) -> str:
    """A digest of a checkpoint; empty where there is none (any more)."""
    return file_digest(checkpoint)[:12] if checkpoint is not None and checkpoint.is_file() else ""


def _inputs(run: Run, task: Task, test: FeatureSet, id: str, audio_of: str | None) -> tuple[Features, Batch]:
    """A clip's features and batch with what the run's hints disclose, and nothing else."""
    features, batch = disclose(
        test.features([id], audio_of=None if audio_of is None else [audio_of]),
        Batch((id,), torch.tensor([test.tiles(id)]), (test.group(id),)),
        run.hints, classes=task.test_classes, text=task.test_text, labels=[test.labels(id)],
    )  # fmt: skip
    device = torch.device(task.device)
    return to_device(features, device), to_device(batch, device)


def _partner(clips: FeatureSet, position: int) -> str:
    """Another video's clip, half the list away, with other classes if there is one. There are at least two videos."""
    ids, id = clips.ids, clips.ids[position]
    order = (ids[(position + len(ids) // 2 + step) % len(ids)] for step in range(len(ids)))
    others, same = tee(other for other in order if clips.group(other) != clips.group(id))
    unlike = (other for other in others if not set(clips.labels(other)) & set(clips.labels(id)))
    return next(unlike, None) or next(same)


def localized(name: str, method: Method, features: Features, batch: Batch) -> list[Prediction]:
    """What a method predicts for a batch on its device, checked.

    Raises:
        AvlocError: It fails, or returns something else than a prediction per clip: in order, of disclosed classes, with
            maps of the canvas' aspect.
    """
    shown = ", ".join(map(repr, batch.ids[:3])) + (", ..." if len(batch) > 3 else "")
    with blaming(f"{name} failed to localize in {shown}"):
        predictions = list(method.localize(features, batch))
    got = tuple(one.clip if isinstance(one, Prediction) else type(one).__name__ for one in predictions)
    if got != batch.ids:
        raise AvlocError(f"{name} must return one prediction per clip, in order: for {shown} it returned {got[:3]}.")
    height, width = features.image_map.shape[2:]
    for prediction in predictions:
        strange = set(prediction.labels) - set(batch.classes)
        if strange:
            raise AvlocError(
                f"{name} named classes for clip {prediction.clip!r} that were not disclosed: {sorted(strange)}."
            )
        h, w = prediction.maps.shape[1:]
        if not abs(w * height / width - h) < 1:  # less than a cell: grids are whole numbers
            raise AvlocError(
                f"{name} mapped clip {prediction.clip!r} in {h} x {w} cells, whose aspect is not that of its canvas: "
                f"its image map has {height} x {width}. Maps cover the canvas, all tiles side by side."
            )
    return predictions
