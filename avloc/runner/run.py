"""The three stages of one run, each with an id of its own and skipped when its result is on disk.

``fit`` leaves a checkpoint, ``predict`` the raw maps, ``score`` one row per true source. What identifies a stage
(names, revisions, parameters with defaults filled in, fingerprints, seed, what was told) is component_id; where and
when it ran is recorded beside it.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from avloc.components import component_id
from avloc.features import VIEWS_REVISION, Encoded
from avloc.hints import Hints, disclose
from avloc.interfaces import Dataset, EncoderInfo, Method
from avloc.progress import say, track
from avloc.registry import registry
from avloc.store import ArrayLog, RunFolder, content_id, provenance
from avloc.suite import Run
from avloc.training import Fit, Supply, restore, to_device
from avloc.types import AvlocError, Batch, Features, Prediction

PREDICT_BATCH = 64


@dataclass(frozen=True, slots=True)
class Stage:
    """A dataset seen through an encoder: everything the runs of one table column share.

    Attributes:
        identity: Names, parameters, revisions and fingerprints, for the ids.
        info: Of the encoder.
        supply: Encodes what methods learn from.
        test: Encoded test clips.
        test_data: For the truths.
        classes: The class names that predictions are about: those of training, or other ones (zero-shot).
        text: Their embeddings, where the encoder has a text tower.
        device: Where methods run.
        untrainable: Why nothing can be learned here; empty when there are training clips.
    """

    identity: Mapping[str, Any]
    info: EncoderInfo
    supply: Supply
    test: Encoded
    test_data: Dataset
    classes: tuple[str, ...]
    text: Tensor | None
    device: str
    untrainable: str = ""

    @property
    def unseen(self) -> tuple[str, ...]:
        """Test classes that training does not show."""
        return tuple(name for name in self.classes if name not in self.supply.classes)


def build(run: Run, method: type[Method], stage: Stage) -> Method:
    """The method as the seed makes it, before any training."""
    torch.manual_seed(run.seed)
    return method(stage.info, stage.supply.classes, **run.method.params)


def learns(run: Run, method: type[Method], stage: Stage) -> bool:
    """Whether there is anything to train."""
    return method.trainable and run.train.epochs > 0 and bool(list(build(run, method, stage).parameters()))


def fit_identity(run: Run, method: type[Method], stage: Stage) -> dict[str, Any] | None:
    """What a training run is; ``None`` when there is nothing to train. Clips count by content, whatever lists them."""
    if not learns(run, method, stage):
        return None
    altered = {"views": VIEWS_REVISION} if method.needs.views else {}
    return {
        "stage": "fit", "method": component_id(run.method, method), "encoder": stage.identity["encoder"],
        "classes": stage.supply.classes, "seed": run.seed, "train": run.train.model_dump(), **altered,
        "clips": {split: _contents(stage.supply.encoded(split)) for split in ("train", "val")},
    }  # fmt: skip


def predict_identity(run: Run, method: type[Method], stage: Stage, fitted: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a set of predictions is, given the `fit_identity` of its weights."""
    cache = {} if fitted or not run.train.live else {"cache": False}
    return {
        "stage": "predict", "fit": content_id(fitted) if fitted else None, "method": component_id(run.method, method),
        "encoder": stage.identity["encoder"], "data": stage.identity["data"],
        "classes": {"train": stage.supply.classes, "test": stage.classes},
        "clips": _contents(stage.test), "missing": sorted(stage.test.missing), "broken": sorted(stage.test.broken),
        "seed": run.seed, "hints": run.hints, "shuffled_audio": run.shuffled_audio, **cache,
    }  # fmt: skip


def _contents(encoded: Encoded) -> str:
    """The usable clips and what is in them, in their order, which decides batches and partners."""
    return content_id({"clips": list(encoded.keys.items())})


def fit(
    run: Run, method: type[Method], stage: Stage, folder: RunFolder, identity: Mapping[str, Any], *, force: bool
) -> None:
    """Train unless the checkpoint is there; a killed training goes on from its last saved step."""
    with folder.exclusive(f"the training of {run.method.name}"):
        if force:
            folder.clear()
        if folder.complete:
            _mention_edit(folder, method, run)
            return
        started = time.time()
        accelerator, _, index = stage.device.partition(":")
        precision: Any = run.train.precision
        fabric = Fabric(accelerator=accelerator, devices=[int(index)] if index else 1, precision=precision)
        material = stage.supply.material(method.needs, run.train)
        work = Fit(
            build(run, method, stage), material, run.train, seed=run.seed, folder=folder.path, fabric=fabric,
            description=f"fit {run.method.name} on {run.dataset.name}, seed {run.seed}",
            on_epoch=lambda line: registry().announce(run, "epoch", line, folder.path),
        )  # fmt: skip
        work.run()
        about = {"source": _source(method), "dataset": run.dataset.name}
        folder.finish(identity, {**provenance(started, stage.device), **about})


@torch.no_grad()
def predict(
    run: Run,
    method: type[Method],
    stage: Stage,
    folder: RunFolder,
    identity: Mapping[str, Any],
    checkpoint: Path | None,
    *,
    force: bool,
) -> None:
    """Store the raw maps of every usable test clip, going on where a killed run stopped."""
    with folder.exclusive(f"the predictions of {run.method.name}"):
        if force:
            folder.clear()
        log = ArrayLog(folder.path)
        if folder.complete and set(stage.test.ids) <= log.records.keys():
            _mention_edit(folder, method, run)
            return
        started = time.time()
        module = build(run, method, stage)
        if checkpoint is not None:
            stage = replace(stage, test=restore(checkpoint, module, stage.test))
        module = module.to(stage.device).eval().evaluation_module()
        partners = _other_clips(stage.test) if run.shuffled_audio else {}
        # The batches of an uninterrupted run, so that a resumed one computes with the same batch mates and seeds.
        batches = [ids for ids in _batches(stage.test.ids, stage.test) if not set(ids) <= log.records.keys()]
        title = f"predict {run.method.name} on {run.dataset.name}, seed {run.seed}"
        for ids in track(batches, title, len(batches)):
            features, batch = _inputs(ids, stage, run.hints, [partners[id] for id in ids] if partners else None)
            torch.manual_seed(run.seed)
            priors = None if features.backbone_map is None else features.backbone_map.abs().mean(1).cpu().numpy()
            found = _checked(module.localize(features, batch), batch, run.method.name)
            for row, prediction in enumerate(found):
                arrays = {"maps": prediction.maps}
                arrays |= {} if priors is None else {"prior": priors[row]}
                arrays |= {} if prediction.scores is None else {"scores": prediction.scores}
                id, test = prediction.clip, stage.test
                if id in log.records:
                    continue
                log.append(id, arrays, labels=list(prediction.labels), group=test.group(id), tiles=test.tiles(id))
            log.commit()
        about = {**provenance(started, stage.device), "source": _source(method), "clips": len(log.records)}
        folder.finish(identity, about)


def _source(method: type[Method]) -> str:
    """A digest of the file that a method stands in; empty where it stands in none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(method)).read_bytes()).hexdigest()[:12]
    except (OSError, TypeError):
        return ""


def _mention_edit(folder: RunFolder, method: type[Method], run: Run) -> None:
    """An id knows a method's parameters and revision, and not its code: say so where that is another now."""
    made_by = folder.identity()["provenance"].get("source")
    if made_by and made_by != _source(method):
        _say_once(
            f"{run.method.name}: its file was changed since its stored runs were made, which are kept. If it computes "
            "something else now, raise its class attribute revision, or use --force."
        )


@cache
def _say_once(message: str) -> None:
    say(message)


def _batches(ids: Sequence[str], encoded: Encoded) -> list[list[str]]:
    """Batches of clips with the same number of frames: their feature maps stack."""
    groups: dict[int, list[str]] = {}
    for id in ids:
        groups.setdefault(encoded.tiles(id), []).append(id)
    return [
        group[start : start + PREDICT_BATCH]
        for group in groups.values()
        for start in range(0, len(group), PREDICT_BATCH)
    ]


def _inputs(ids: Sequence[str], stage: Stage, hints: Hints, audio_of: Sequence[str] | None) -> tuple[Features, Batch]:
    """Features and batch with what the protocol tells, and nothing else."""
    test = stage.test
    features = test.features(ids, audio_of=audio_of)
    batch = Batch(tuple(ids), torch.tensor([test.tiles(id) for id in ids]), tuple(test.group(id) for id in ids))
    labels = [test.labels(id) for id in ids]
    features, batch = disclose(features, batch, hints, classes=stage.classes, text=stage.text, labels=labels)
    device = torch.device(stage.device)
    return to_device(features, device), to_device(batch, device)


def _other_clips(encoded: Encoded) -> dict[str, str]:
    """For every clip another video's, half the list away, whose classes differ where there is such a one.

    There are at least two videos.
    """
    ids, half = encoded.ids, len(encoded.ids) // 2
    partner: dict[str, str] = {}
    for position, id in enumerate(ids):
        order = (ids[(position + half + step) % len(ids)] for step in range(len(ids)))
        named, group, second_best = set(encoded.labels(id)), encoded.group(id), ""
        for other in order:
            if encoded.group(other) != group:
                second_best = second_best or other
                if not named & set(encoded.labels(other)):
                    partner[id] = other
                    break
        partner.setdefault(id, second_best)
    return partner


def _checked(predictions: Sequence[Prediction], batch: Batch, name: str) -> Iterable[Prediction]:
    got = tuple(prediction.clip for prediction in predictions)
    if got != batch.ids:
        raise AvlocError(f"{name} must return one prediction per clip, in order; it returned {len(got)} for {got[:3]}…")
    for prediction in predictions:
        strange = set(prediction.labels) - set(batch.classes)
        if strange:
            raise AvlocError(f"{name} named classes that the protocol did not disclose: {sorted(strange)}.")
    return predictions
