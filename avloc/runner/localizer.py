"""A trained method with its encoder, for anybody's image and sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avloc.components import component_id, fit_id, make_encoder, make_method, method_class, recorded
from avloc.features import class_text, clip_features, encoder_identity
from avloc.hints import Hints, disclose, suffices
from avloc.interfaces import Encoder, Method
from avloc.runner.plan import torch_device
from avloc.runner.run import localized
from avloc.store import RunFolder
from avloc.training import ENCODER, Trained, load_weights, to_device
from avloc.types import AvlocError, Batch, Clip, Prediction, require_list, unknown


@dataclass(frozen=True, slots=True, eq=False)
class Localizer:
    """A method with its encoder, in evaluation mode; `load` makes one.

    Attributes:
        name: Of the method.
        method, encoder: On `device`.
        classes: The class names that the method was trained on.
        cached: Whether the run read features from the cache, whose rounding to half precision they then get here, too.
        device: Of torch.
        seed: Of the run, for methods that draw when they localize.

    Example:
        >>> localizer = avloc.load("results/runs/8f0c12ab34cd")
        >>> localizer.localize(image, audio, 16000, vocabulary=["dog", "violin", "piano"]).labels
    """

    name: str
    method: Method
    encoder: Encoder
    classes: tuple[str, ...]
    cached: bool
    device: str
    seed: int
    _text: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def localize(
        self,
        image: npt.NDArray[np.uint8],
        audio: npt.NDArray[np.float32],
        rate: int,
        *,
        sources: Sequence[str] | None = None,
        vocabulary: Sequence[str] | None = None,
        tiles: int = 1,
    ) -> Prediction:
        """Where in an image a sound comes from.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            audio: ``(T,)`` float32, mono, full scale at 1.
            rate: Samples per second.
            sources: The classes that sound; the method maps each.
            vocabulary: The classes among which the method finds those that sound; ``None``: what it was trained on.
            tiles: Square frames side by side in the image.

        Returns:
            Raw maps ``(Q, h, w)``, higher where a source is more likely, named where the method names its sources.

        Raises:
            AvlocError: The image or the sound cannot be used, or the method cannot map a class.

        Example:
            >>> prediction = localizer.localize(image, audio, 16000, sources=["dog", "violin"])
            >>> prediction.maps.shape, prediction.labels
        """
        names = self._names(sources, vocabulary)
        hints: Hints = "vocabulary" if sources is None else "oracle"
        clip = Clip("clip", np.asarray(image), np.asarray(audio), rate, tiles=tiles)
        features, batch = disclose(
            clip_features(clip, self.encoder, self.device, rounded=self.cached),
            Batch((clip.id,), torch.tensor([tiles]), (clip.id,)),
            hints, classes=names, text=self._embedded(names), labels=[tuple(dict.fromkeys(sources or ()))],
        )  # fmt: skip
        device, module = torch.device(self.device), self.method.evaluation_module()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            (found,) = localized(self.name, module, to_device(features, device), to_device(batch, device))
        return found if vocabulary is None or not found.labels else _only(found, {*vocabulary, *(sources or ())})

    def _names(self, sources: Sequence[str] | None, vocabulary: Sequence[str] | None) -> tuple[str, ...]:
        """The classes that the method may name; all of its own where it knows no others."""
        require_list("sources", sources)
        require_list("vocabulary", vocabulary)
        if vocabulary is not None and not vocabulary:
            raise AvlocError("The vocabulary has no class names; leave it out to use those of the training.")
        needs = self.method.needs
        if sources is None and not suffices("vocabulary", needs.hints):
            raise AvlocError(f"{self.name} does not find out what sounds; name the classes: sources=[...].")
        asked = tuple(dict.fromkeys([*(self.classes if vocabulary is None else vocabulary), *(sources or ())]))
        if not needs.closed_set:
            return asked
        for name in asked:
            if name not in self.classes:
                raise AvlocError(f"{self.name} maps only its own classes. {unknown('class', name, self.classes)}")
        return self.classes

    def _embedded(self, names: Sequence[str]) -> Tensor | None:
        """``(N, D)``, or ``None`` where the encoder has no text tower; what was embedded before is kept."""
        if not self.encoder.info.has_text:
            return None
        todo = [name for name in names if name not in self._text]
        if todo:
            self._text.update(zip(todo, class_text(self.encoder, todo), strict=True))
        return torch.stack([self._text[name] for name in names])


def _only(found: Prediction, names: set[str]) -> Prediction:
    """The maps of these classes."""
    kept = [place for place, label in enumerate(found.labels) if label in names]
    scores = None if found.scores is None else found.scores[kept]
    return replace(found, maps=found.maps[kept], labels=tuple(found.labels[place] for place in kept), scores=scores)


def load(run: str | Path, *, results: str | Path = "results", device: str = "auto") -> Localizer:
    """A method as a run left it, with its encoder, to localize in anybody's images and sounds.

    Args:
        run: The folder of a run, or its id; of a training or of predictions.
        results: The folder with the results, where `run` is an id.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Returns:
        The method with its encoder.

    Raises:
        AvlocError: There is no such run, it is not finished, or what made it has changed since.

    Example:
        >>> localizer = avloc.load("results/runs/8f0c12ab34cd")
        >>> prediction = localizer.localize(image, audio, rate, sources=["dog", "violin"])
    """
    device, folder = torch_device(device), _folder(run, Path(results))
    identity = folder.identity()["identity"]
    match identity["stage"]:
        case "fit":
            fit, classes = folder.id, identity["classes"]
        case "predict":
            fit, classes = identity["fit"], identity["classes"]["train"]
        case _:
            raise AvlocError(f"{folder.path} holds predictions that were made elsewhere; there is no method to load.")
    encoder = _encoder(identity["encoder"])
    method = _method(identity, encoder, classes)
    cached = identity.get("cache", True)
    if fit:
        fitted = RunFolder(folder.path.parents[1], fit)
        _require_finished(fitted)
        train = fitted.identity()["identity"]["train"]
        cached = train["cache"] and not train["train_encoder"]
        tensors = load_weights(fitted.path / "checkpoint.safetensors")
        Trained(method, encoder if any(name.startswith(ENCODER) for name in tensors) else None).put(tensors)
    method, encoder = method.to(device).eval(), encoder.to(device).eval()
    return Localizer(identity["method"]["name"], method, encoder, tuple(classes), cached, device, identity["seed"])


def _folder(run: str | Path, results: Path) -> RunFolder:
    """The finished run in a folder, or with an id."""
    path = Path(run)
    if path.is_dir():
        path = path.resolve()
        folder = RunFolder(path.parents[1], path.name)
    else:
        folder = RunFolder(path.parents[1] if path.parent.name == "runs" else results, path.name)
    _require_finished(folder)
    return folder


def _require_finished(folder: RunFolder) -> None:
    if not folder.path.is_dir():
        raise AvlocError(f"There is no run {folder.path}; the rows of avloc.load_results(...).manifest name the runs.")
    if not folder.complete:
        raise AvlocError(f"The run {folder.path} is not finished, or is no run; run the same avloc bench again.")


def _method(identity: dict[str, Any], encoder: Encoder, classes: Sequence[str]) -> Method:
    component = recorded(identity["method"])
    kind = method_class(component)
    if not isinstance(kind, type):
        raise kind
    current = fit_id if identity["stage"] == "fit" else component_id
    if current(component, kind) != identity["method"]:
        raise AvlocError(f"The method {component.name!r} has changed since the run was made; run avloc bench again.")
    return make_method(component, kind, encoder.info, classes, identity["seed"])


def _encoder(known: dict[str, Any]) -> Encoder:
    component = recorded(known)
    encoder = make_encoder(component)
    if {**component_id(component, type(encoder)), **encoder_identity(encoder, encoder.fingerprint())} != known:
        raise AvlocError(
            f"The encoder {component.name!r} has other weights, or reads clips in another way, than when the run was "
            "made; run avloc bench again."
        )
    return encoder
