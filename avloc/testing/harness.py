"""A method on trial: how `avloc.testing` builds, trains and asks it, and compares what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from avloc.hints import Hints, disclose
from avloc.interfaces import Context, EncoderInfo, Method
from avloc.suite import Train
from avloc.testing.findings import require
from avloc.testing.scenes import CLASSES, Prism, Scene, training_data
from avloc.training import Fit, Trained, TrainingData, load_weights
from avloc.types import Batch, BoolArray, Features, Prediction

TRAIN = Train(batch_size=8, lr=0.015, select="last", copies=1)
"""How methods on trial train."""


class Subject:
    """A method on trial with parameters of its constructor, and what its checks share."""

    def __init__(self, kind: type[Method], parameters: Mapping[str, Any]) -> None:
        self.kind, self.parameters, self.needs = kind, parameters, kind.needs
        self._fitted: dict[tuple[int, int], Method] = {}

    def build(self, seed: int = 0, info: EncoderInfo = Prism.info) -> Method:
        """The method as the seed makes it."""
        torch.manual_seed(seed)
        return self.kind(info, CLASSES, **self.parameters).eval()

    @cached_property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return self.kind.trainable and bool(list(self.build().parameters()))

    @cached_property
    def data(self) -> TrainingData:
        """What it learns from: the views and canvases, labels and text that it declared, and no more."""
        found = training_data(self.needs, TRAIN)
        return found if self.needs.text else replace(found, text=None)

    def steps(self, method: Method, count: int = 4) -> Iterator[tuple[Features, Batch, Context]]:
        """What the method's loss gets in the first step of every phase: `count` clips, as the training loop gives."""
        data, labels = self.data, self.needs.labels
        ids = data.train.ids[1 : 1 + count]
        for phase in method.phases():
            with torch.no_grad():
                method.before_phase(phase.name, lambda: data.one_pass(TRAIN.batch_size, labels=labels))
            context = Context(phase.name)
            rows = data.draw(method, data.train, ids, context)
            method.before_step(context)
            yield data.features(rows), data.batch(rows, labels=labels), context

    def fit(self, seed: int = 0, epochs: int = 1) -> tuple[Method, dict[str, Tensor]]:
        """Train it; returns the method and its checkpoint."""
        method, train = self.build(seed), TRAIN.model_copy(update={"epochs": epochs})
        fabric = Fabric(accelerator="cpu", devices=1)
        with TemporaryDirectory() as folder:
            work = Fit(method, self.data, train, seed=seed, folder=Path(folder), fabric=fabric)
            return method, load_weights(work.run())

    @cached_property
    def briefly_fitted(self) -> tuple[Method, dict[str, Tensor]]:
        """The method after an epoch of every phase, and its checkpoint."""
        return self.fit()

    @property
    def taught(self) -> Method:
        """The method after an epoch of every phase; as it is where there is nothing to learn."""
        return self.briefly_fitted[0] if self.learns else self.build()

    def fitted(self, seed: int, epochs: int) -> Method:
        """The method after a training, from its checkpoint; as it is where there is nothing to train."""
        if (seed, epochs) not in self._fitted:
            method = self.build(seed)
            if self.learns:
                Trained(method, None).put(self.fit(seed, epochs)[1])
            self._fitted[seed, epochs] = method
        return self._fitted[seed, epochs]

    def given(self, world: Scene, hints: Hints) -> Scene:
        """The scene with what hints of that level disclose to this method."""
        text = world.features.text if self.needs.text else None
        features, batch = disclose(world.features, world.batch, hints, classes=CLASSES, text=text, labels=world.labels)
        return replace(world, features=features, batch=batch)


@torch.no_grad()
def localize(method: Method, tried: Scene) -> list[Prediction]:
    """What the bench would get: one prediction per clip, in order, that names disclosed classes only."""
    found = method.eval().evaluation_module().eval().localize(tried.features, tried.batch)
    for kind in map(type, found):
        require(issubclass(kind, Prediction), f"localize() must return avloc.Prediction objects, not {kind.__name__}.")
    ids = [prediction.clip for prediction in found]
    right = ids == list(tried.batch.ids)
    require(right, f"localize() must return one prediction per clip, in order; it returned {ids}.")
    for labels in (prediction.labels for prediction in found):
        strange = sorted(set(labels) - set(tried.batch.classes))
        require(not strange, f"It named {strange}, which the protocol did not disclose.")
        require(len(set(labels)) == len(labels), f"It named a class twice: {labels}.")
    return found


def rows(tried: Scene, chosen: Sequence[int]) -> Scene:
    """Some clips of a scene, without more padding than they need."""
    picked: dict[str, Any] = {n: x[list(chosen)] for n, x in tensors(tried.features).items() if n != "text"}
    own: dict[str, Any] = {n: x[list(chosen)] for n, x in tensors(tried.batch).items()}
    if "sources" in own:
        own["sources"] = own["sources"][:, : int((own["sources"] >= 0).sum(1).max())]
    ids = tuple(tried.batch.ids[n] for n in chosen)
    features, batch = replace(tried.features, **picked), replace(tried.batch, ids=ids, groups=ids, **own)
    return replace(tried, features=features, batch=batch)


def tensors(item: Features | Batch, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of features or a batch, those of its views too, by name."""
    found = {name: getattr(item, name) for name in item.__dataclass_fields__}
    own = {f"{prefix}{name}": value for name, value in found.items() if isinstance(value, Tensor)}
    for name, view in item.views.items():
        own |= tensors(view, f"{prefix}views.{name}.")
    return own


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of named tensors are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _changed(features: Features, change: Callable[[Features], dict[str, Any]]) -> Features:
    """The same features with what the function gives in place of their own, in their views too."""
    views = {name: _changed(view, change) for name, view in features.views.items()}
    return replace(features, **change(features), views=views)


def degenerate(features: Features) -> dict[str, Features]:
    """The same batch, broken in every way that real data are broken now and then."""
    images, sounds = ("image_map", "image", "backbone_map"), ("audio_map", "audio")

    def each(names: Sequence[str], change: Callable[[Tensor], Tensor]) -> Features:
        return _changed(features, lambda x: {name: change(y) for name, y in tensors(x).items() if name in names})

    def opposed(x: Features) -> dict[str, Tensor]:
        return {"image": -x.audio, "image_map": (-x.audio[:, :, None, None]).expand_as(x.image_map).clone()}

    return {
        "silence": each(sounds, torch.zeros_like),
        "black images": each(images, torch.zeros_like),
        "constant images": each(images, torch.ones_like),
        "nothing but zeros": each(images + sounds, torch.zeros_like),
        "identical clips": each(images + sounds, lambda x: x[:1].expand_as(x).clone()),
        "sounds opposed to every cell": _changed(features, opposed),
    }


def leaves(features: Features) -> Features:
    """The same features, to which gradients flow."""
    return _changed(features, lambda x: {n: y.detach().clone().requires_grad_() for n, y in tensors(x).items()
                                         if "." not in n})  # fmt: skip


def difference(one: Prediction, other: Prediction) -> float:
    """The largest difference of the maps of a clip, as a share of their peak; infinite where names or shapes differ."""
    if sorted(one.labels) != sorted(other.labels) or one.maps.shape != other.maps.shape:
        return float("inf")
    order = [other.labels.index(name) for name in one.labels] or slice(None)
    return float(np.abs(one.maps - other.maps[order]).max() / max(np.abs(one.maps).max(), 1e-12))


def rank(prediction: Prediction, source: BoolArray, other: BoolArray) -> float:
    """The probability that a pixel of the source ranks above one of the other region.

    In the mean of the clip's maps: the best of many would look good by chance, and as good upside down.
    """
    mean = torch.from_numpy(np.asarray(prediction.maps, np.float32).mean(0))[None, None]
    map = nn.functional.interpolate(mean, size=source.shape)[0, 0].numpy()
    inside, outside = map[source][:, None], map[other]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


def shape_difference(one: Prediction, other: Prediction) -> float:
    """As `difference`, of maps without their offset and scale, which say nothing about where a source is."""

    def standard(prediction: Prediction) -> Prediction:
        maps = prediction.maps - prediction.maps.mean((1, 2), keepdims=True)
        peaks = np.abs(prediction.maps).max((1, 2), keepdims=True)
        scale = maps.std((1, 2), keepdims=True)
        return replace(prediction, maps=np.where(scale > 1e-5 * peaks, maps / np.maximum(scale, 1e-30), 0.0))

    return difference(standard(one), standard(other))
