"""The one training loop: heads over an encoder's features, and where asked the encoder too, on Lightning Fabric.

Deterministic by construction: the clips of an epoch are a permutation drawn from (seed, phase, epoch), and every
step seeds torch from (seed, step). A run that is killed and resumed therefore takes the very steps that it would
have taken, from the last saved one. The kept epoch is the one with the lowest loss on a held-out part of *train*.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from avloc.features import FeatureSet
from avloc.interfaces import Context, Encoder, Method, Phase
from avloc.progress import say, track
from avloc.store import write_tensors, writing
from avloc.suite import Train
from avloc.training.checkpoint import Trained, load_weights
from avloc.training.data import TrainingData
from avloc.training.resume import Position, load_position, put_optimizer, save_position
from avloc.types import AvlocError, Batch, Features

SAVE_EVERY_SECONDS = 2.0
SAVE_SHARE = 0.05
"""At most this share of the time goes into saving the place, whatever the size of what is trained."""


class Fit:
    """One training run in one folder; `run` starts it or resumes one that was interrupted.

    Args:
        method: The freshly built method.
        data: What it learns from.
        train: How.
        seed: Of the order of clips and of dropout.
        folder: Where ``checkpoint.safetensors`` and ``train.jsonl`` go.
        fabric: Device, precision and processes.
        description: For the progress bar.
        on_epoch: Called with every line of ``train.jsonl``.
        save_every: Seconds between resume points; ``None``: `SAVE_EVERY_SECONDS`, or more where saving would otherwise
            take more than `SAVE_SHARE` of the time.
        source: A digest of the method's file: a training that another version of it began starts anew.
    """

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        train: Train,
        *,
        seed: int,
        folder: Path,
        fabric: Fabric,
        description: str = "fit",
        on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
        save_every: float | None = None,
        source: str = "",
    ) -> None:
        if not data.train.ids:
            raise AvlocError("There are no usable training clips; a method that trains cannot run here.")
        self.data, self.train, self.seed = data, train, seed
        self.folder, self.fabric, self.description = folder, fabric, description
        self.on_epoch = on_epoch
        self.phases = list(method.phases())
        self.epochs = _split_epochs(train.epochs, self.phases)
        self.method = method
        self.trained = Trained(method, self._own_encoder())
        self.steps = -(-len(data.train.ids) // train.batch_size)
        self.position = Position(source=source)
        self.adaptive, self.saved_at = save_every is None, time.monotonic()
        self.save_every = SAVE_EVERY_SECONDS if save_every is None else save_every

    def _own_encoder(self) -> Encoder | None:
        """A copy of the encoder to train, under the data of this fit alone; ``None``: it stays frozen."""
        if not self.train.train_encoder:
            return None
        frozen = self.data.train.encoder
        assert frozen is not None
        encoder = copy.deepcopy(frozen).requires_grad_(True)
        self.data = self.data.through(lambda clips: clips.through(encoder))
        return encoder

    def run(self) -> Path:
        """Train to the end; returns the checkpoint of the kept epoch."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for torn in self.folder.glob("*.tmp") if self.fabric.is_global_zero else ():  # of a process that was killed
                torn.unlink()
        optimizer_state = self._resume()
        left = sum(self.epochs) * self.steps - self.position.total
        for _ in track(self._train(optimizer_state), self.description, left):
            pass
        self._resume_file.unlink(missing_ok=True)
        return self.checkpoint

    @property
    def checkpoint(self) -> Path:
        """Weights of the kept epoch."""
        return self.folder / "checkpoint.safetensors"

    @property
    def _resume_file(self) -> Path:
        return self.folder / "resume.safetensors"

    def _train(self, optimizer_state: dict[str, Tensor]) -> Iterator[None]:
        """Yield after every optimizer step."""
        at = self.position
        for phase in range(at.phase, len(self.phases)):
            at.phase = phase
            if not at.epoch and not at.step:
                self._before(self.phases[phase])
            model, optimizer = self._set_up(self.phases[phase], optimizer_state)
            optimizer_state = {}
            for epoch in range(at.epoch, self.epochs[phase]):
                at.epoch = epoch
                started = time.monotonic()
                for ids in self._epoch_ids()[at.step :]:
                    self._step(model, optimizer, ids)
                    if time.monotonic() - self.saved_at > self.save_every:
                        self._save_position(optimizer)
                    yield
                self._finish_epoch(model, time.monotonic() - started)
            self.fabric.barrier()  # the first process writes what all of them read
            if self.train.select == "loss":
                self.trained.put(load_weights(self.checkpoint))
            # A phase starts from the end of the one before; resuming must not find a later phase's checkpoint there.
            at.phase, at.epoch, at.best = phase + 1, 0, None
            self._save_position(None)

    @torch.no_grad()
    def _before(self, phase: Phase) -> None:
        """Let the method look at all of the training clips, always with the same random numbers."""
        torch.manual_seed(self.seed * 1_000_003 + self.position.phase)
        self.fabric.to_device(self.trained)
        self.trained.eval()
        labels, device = self.method.needs.labels, self.fabric.device

        def dataset_pass() -> Iterator[tuple[Features, Batch]]:
            for features, batch in self.data.one_pass(self.train.batch_size, labels=labels):
                yield to_device(features, device), to_device(batch, device)

        self.method.before_phase(phase.name, dataset_pass)

    def _set_up(self, phase: Phase, optimizer_state: dict[str, Tensor]) -> Any:
        optimizer = torch.optim.Adam(self.trained.chosen(phase, self.train.lr), weight_decay=self.train.weight_decay)
        if optimizer_state:
            put_optimizer(optimizer, optimizer_state)
        return self.fabric.setup(self.trained, optimizer)

    def _epoch_ids(self) -> list[list[str]]:
        """The epoch's batches: a permutation that depends on seed, phase and epoch alone."""
        at, ids = self.position, self.data.train.ids
        order = np.random.default_rng([self.seed, at.phase, at.epoch]).permutation(len(ids))
        return [[ids[i] for i in order[start :: self.steps]] for start in range(self.steps)]

    def _step(self, model: Any, optimizer: Any, ids: list[str]) -> None:
        at = self.position
        torch.manual_seed(self.seed * 1_000_003 + at.total)
        model.train()
        self.method.before_step(self._context())
        optimizer.zero_grad()
        at.sums = at.sums if at.sums is not None else {}
        parts = [ids[start :: self.train.accumulate] for start in range(self.train.accumulate)]
        for part in filter(None, parts):
            terms = model(self._load(self.data.train, part))
            _require_terms(terms, type(self.method).__name__)
            total = torch.stack(list(terms.values())).sum() / len(parts)
            if not torch.isfinite(total):
                values = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
                raise AvlocError(f"The loss is not finite in epoch {at.epoch}, step {at.step}: {values}.")
            self.fabric.backward(total)
            for name, term in terms.items():
                at.sums[name] = at.sums.get(name, 0.0) + float(term.detach()) / len(parts)
        optimizer.step()
        at.step, at.total = at.step + 1, at.total + 1

    def _load(self, clips: FeatureSet, ids: Sequence[str]) -> Callable[[], tuple[Features, Batch, Context]]:
        """A batch on the device: each process reads its share, all compute on the whole, with the same negatives."""
        context = self._context()
        rows = self.data.draw(self.method, clips, ids, context)
        batch = to_device(self.data.batch(rows, labels=self.method.needs.labels), self.fabric.device)

        def features() -> Features:
            found = to_device(self.data.features(rows, self._share), self.fabric.device)
            return _gathered(found, self.fabric, len(ids)) if self.fabric.world_size > 1 else found

        return lambda: (features(), batch, context)

    def _share(self, ids: Sequence[str]) -> Sequence[str]:
        """What this process reads of a batch: every n-th clip of n processes, the same number in each."""
        world, rank = self.fabric.world_size, self.fabric.global_rank
        return [ids[(rank + world * i) % len(ids)] for i in range(-(-len(ids) // world))]

    def _context(self) -> Context:
        at = self.position
        done = at.epoch * self.steps + at.step
        return Context(self.phases[at.phase].name, at.epoch, self.epochs[at.phase], done)

    def _finish_epoch(self, model: Any, seconds: float) -> None:
        at = self.position
        assert at.sums is not None
        means = {name: value / self.steps for name, value in at.sums.items()}
        validation = self._validate(model)
        score = sum(validation.values()) if validation else None
        if score is not None and not math.isfinite(score):
            raise AvlocError(f"The loss on the held-out clips is not finite in epoch {at.epoch}: {validation}.")
        keep = self.train.select == "last" or score is None or at.best is None or score < at.best
        if keep:
            at.best = score
            self._save_weights()
        line = {
            "phase": self.phases[at.phase].name, "epoch": at.epoch, "step": at.total, "loss": means,
            "validation": validation, "kept": keep, "seconds": round(seconds, 3),
        }  # fmt: skip
        at.step, at.sums = 0, None
        if self.fabric.is_global_zero:
            log = self.folder / "train.jsonl"
            with writing(log), log.open("ab") as file:
                file.truncate(at.log_bytes)
                at.log_bytes += file.write((json.dumps(line) + "\n").encode())
        self.on_epoch(line)

    @torch.no_grad()
    def _validate(self, model: Any) -> dict[str, float]:
        """Mean loss terms over the held-out clips, in batches that never change."""
        ids = self.data.val.ids
        if not ids:
            return {}
        torch.manual_seed(self.seed)
        model.eval()
        count = -(-len(ids) // self.train.batch_size)
        sums: dict[str, float] = {}
        for start in range(count):
            for name, term in model(self._load(self.data.val, ids[start::count])).items():
                sums[name] = sums.get(name, 0.0) + float(term) / count
        return sums

    def _save_weights(self) -> None:
        if self.fabric.is_global_zero:
            write_tensors(self.checkpoint, self.trained.tensors())

    def _save_position(self, optimizer: Any) -> None:
        if not self.fabric.is_global_zero:
            return
        started = time.monotonic()
        save_position(self._resume_file, self.position, self.trained.tensors(), optimizer)
        self.saved_at = time.monotonic()
        if self.adaptive:
            self.save_every = max(SAVE_EVERY_SECONDS, (self.saved_at - started) / SAVE_SHARE)

    def _resume(self) -> dict[str, Tensor]:
        """Go to where an interrupted training was; returns the optimizer's tensors."""
        found = load_position(self._resume_file)
        if found is None:
            return {}
        position, model, optimizer = found
        if position.source != self.position.source:
            say(f"The file of {type(self.method).__name__} was changed: its training starts from its first step.")
            return {}
        self.position = position
        self.trained.put(model)
        return optimizer


def _require_terms(terms: object, name: str) -> None:
    """What a method's loss returned must be trainable: named scalars that depend on its weights."""
    if not isinstance(terms, dict):
        raise AvlocError(
            f"The loss of {name} should return a dict of named terms, but returned {type(terms).__name__}."
        )
    if not terms:
        raise AvlocError(f"{name} has weights but its loss returned no terms.")
    for term, value in terms.items():
        if not isinstance(value, Tensor) or value.ndim:
            what = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise AvlocError(f"The loss of {name}: the term {term!r} should be a scalar tensor, but is {what}.")
    if not any(value.requires_grad for value in terms.values()):
        raise AvlocError(f"The loss of {name} depends on none of its weights; is a detach() or no_grad() in the way?")


def _split_epochs(epochs: int, phases: Sequence[Phase]) -> list[int]:
    """Whole epochs per phase by their shares, `epochs` in total; every phase gets at least one."""
    total = sum(phase.share for phase in phases)
    exact = [epochs * phase.share / total for phase in phases]
    whole = [1] * len(phases)
    for _ in range(epochs - len(phases)):
        whole[max(range(len(phases)), key=lambda n: exact[n] - whole[n])] += 1
    return whole


def _gathered(features: Features, fabric: Fabric, count: int) -> Features:
    """The whole batch, in its order, from every process's interleaved share. Text is the same everywhere."""
    whole: dict[str, Any] = {"views": {name: _gathered(view, fabric, count) for name, view in features.views.items()}}
    for name in features.__dataclass_fields__:
        share = getattr(features, name)
        if isinstance(share, Tensor) and name != "text":
            shares: Any = fabric.all_gather(share, sync_grads=share.requires_grad)  # (world, n, ...)
            whole[name] = shares.transpose(0, 1).flatten(0, 1)[:count]
    return replace(features, **whole)


def to_device(item: Any, device: torch.device) -> Any:
    """A `Features` or `Batch` with its tensors, and those of its views, on `device`."""
    moved: dict[str, Any] = {"views": {name: to_device(view, device) for name, view in item.views.items()}}
    for name in item.__dataclass_fields__:
        value = getattr(item, name)
        if isinstance(value, Tensor):
            moved[name] = value.to(device)
    return replace(item, **moved)
