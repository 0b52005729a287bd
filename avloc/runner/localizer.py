"""A trained method with its encoder, for anybody's image and sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avloc.components import Component, component_id, make_encoder, method_class
from avloc.features import clip_features
from avloc.hints import Hints, disclose
from avloc.interfaces import Encoder, Method
from avloc.store import RunFolder
from avloc.training import ENCODER, Trained, load_weights, to_device
from avloc.types import AvlocError, Batch, Clip, Prediction, unknown


@dataclass(frozen=True, slots=True)
class Localizer:
    """A method with its encoder, in evaluation mode.

    Attributes:
        method, encoder: On `device`.
        classes: The class names that the method was trained on.
        cached: Whether it was trained on cached features, whose rounding to half precision it then gets here, too.
        device: Of torch.
    """

    method: Method
    encoder: Encoder
    classes: tuple[str, ...]
    cached: bool
    device: str

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
            vocabulary: The classes among which the method finds those that sound; default: what it was trained on.
            tiles: Square frames side by side in the image.

        Returns:
            Raw maps, higher where a source more likely is, named where the method names its sources.

        Raises:
            AvlocError: The image or the sound is none, or the method cannot map a class.
        """
        names = tuple(dict.fromkeys([*(vocabulary or self.classes), *(sources or ())]))
        self._check(names)
        clip = Clip("clip", image, audio, rate, tiles=tiles)
        hints: Hints = "oracle" if sources is not None else "vocabulary"
        text = self.encoder.encode_text(names).float().cpu() if self.encoder.info.has_text else None
        features, batch = disclose(
            clip_features(clip, self.encoder, self.device, rounded=self.cached),
            Batch((clip.id,), torch.tensor([tiles]), (clip.id,)),
            hints, classes=names, text=text, labels=[tuple(dict.fromkeys(sources or ()))],
        )  # fmt: skip
        device = torch.device(self.device)
        module = self.method.evaluation_module()
        (found,) = module.localize(to_device(features, device), to_device(batch, device))
        return found

    def _check(self, names: Sequence[str]) -> None:
        for name in names:
            if self.method.needs.closed_set and name not in self.classes:
                raise AvlocError(
                    f"{self.method.title} maps only its own classes. {unknown('class', name, self.classes)}"
                )


def load(run: str | Path, *, results: str | Path = "results", device: str = "cpu") -> Localizer:
    """A method as a run left it, with its encoder, to localize in anybody's images and sounds.

    Example:
        >>> localizer = avloc.load("results/runs/8f0c12ab34cd")
        >>> prediction = localizer.localize(image, audio, rate, sources=["dog", "violin"])

    Args:
        run: The folder of a run, or its id; of a training or of predictions.
        results: The store, where `run` is an id.
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        AvlocError: There is no such run, it is not finished, or what made it has changed since.
    """
    folder = _folder(run, Path(results))
    identity = folder.identity()["identity"]
    if identity["stage"] not in ("fit", "predict"):
        raise AvlocError(f"{folder.path} holds predictions made elsewhere; there is no method to load.")
    fitted = folder if identity["stage"] == "fit" else _of(folder, identity["fit"])
    about = fitted.identity()["identity"] if fitted else identity
    classes = about["classes"] if fitted else about["classes"]["train"]
    kind, encoder = _method(about), _encoder(about)
    torch.manual_seed(about["seed"])
    method = kind(encoder.info, tuple(classes), **about["method"]["params"])
    if fitted:
        tensors = load_weights(fitted.path / "checkpoint.safetensors")
        Trained(method, encoder if any(name.startswith(ENCODER) for name in tensors) else None).put(tensors)
    train = about.get("train", {})
    computed = train.get("train_encoder") or not train.get("cache", about.get("cache", True))
    return Localizer(method.to(device).eval(), encoder.to(device), tuple(classes), not computed, device)


def _folder(run: str | Path, results: Path) -> RunFolder:
    path = Path(run)
    folder = RunFolder(path.parent.parent, path.name) if path.parent.name == "runs" else RunFolder(results, path.name)
    if not folder.complete:
        raise AvlocError(f"There is no finished run {folder.path}; avloc bench makes them.")
    return folder


def _of(folder: RunFolder, fit: str | None) -> RunFolder | None:
    """The training that predictions come from; ``None`` where nothing was trained."""
    return None if fit is None else _folder(folder.path.parent / fit, folder.path.parent.parent)


def _method(identity: dict[str, Any]) -> type[Method]:
    known = identity["method"]
    component = Component(name=known["name"], params=known["params"])
    kind = method_class(component)
    if not isinstance(kind, type):
        raise kind
    if component_id(component, kind) != known:
        raise AvlocError(f"The method {component.name!r} has changed since the run was made; run avloc bench again.")
    return kind


def _encoder(identity: dict[str, Any]) -> Encoder:
    known = identity["encoder"]
    encoder = make_encoder(Component(name=known["name"], params=known["params"]))
    if encoder.fingerprint() != known["encoder"]:
        raise AvlocError(f"The encoder {known['name']!r} has other weights than when the run was made.")
    return encoder
