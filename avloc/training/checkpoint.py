"""Checkpoints: what one fit trains, as safetensors, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from avloc.features import FeatureSet
from avloc.interfaces import Context, Encoder, Method, Phase
from avloc.store import read_tensors
from avloc.types import AvlocError, Batch, Features

ENCODER = "encoder::"
"""Marks an encoder's tensors in checkpoints."""


class Trained(nn.Module):
    """What one optimizer trains and one checkpoint holds: a method, and the encoder under it where that learns too."""

    def __init__(self, method: Method, encoder: Encoder | None) -> None:
        super().__init__()
        self.method, self.encoder = method, encoder

    def forward(self, load: Callable[[], tuple[Features, Batch, Context]]) -> dict[str, Tensor]:
        """The method's loss; clips are encoded inside, so that gradients reach the encoder on any number of devices.

        It is the `forward` because Fabric sets the precision there and, on one device, nowhere else. What it would
        cast on the way in stays behind `load`.
        """
        return self.method.loss(*load())

    def tensors(self) -> dict[str, Tensor]:
        """Everything to save, by name."""
        mine = dict(self.method.state_dict())
        other = self.encoder.state_dict() if self.encoder is not None else {}
        return {**mine, **{ENCODER + name: value for name, value in other.items()}}

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `tensors` gave; buffers take the shapes they were saved with."""
        for name, buffer in list(self.method.named_buffers()):
            if name in tensors and tensors[name].shape != buffer.shape:
                owner, _, leaf = name.rpartition(".")
                setattr(self.method.get_submodule(owner), leaf, buffer.new_empty(tensors[name].shape))
        self.method.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(ENCODER)})
        if self.encoder is not None:
            found = {n.removeprefix(ENCODER): t for n, t in tensors.items() if n.startswith(ENCODER)}
            self.encoder.load_state_dict(found)

    def chosen(self, phase: Phase, lr: float) -> list[dict[str, Any]]:
        """The parameters that a phase trains, all others frozen, and how fast: groups for an optimizer.

        An encoder that learns does so in every phase, at the suite's own rate.
        """
        for name, parameter in self.method.named_parameters():
            parameter.requires_grad_(name.startswith(phase.parameters))
        groups = [{"params": _trainable(self.method), "lr": lr * phase.lr_scale}]
        if self.encoder is not None:
            groups.append({"params": _trainable(self.encoder), "lr": lr})
        return groups


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def load_weights(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors.

    Raises:
        AvlocError: The file is missing or not a safetensors file.
    """
    try:
        return read_tensors(path)[0]
    except AvlocError as error:
        raise AvlocError(f"{error} Run again with --force.") from error


def restore(checkpoint: Path, method: Method, clips: FeatureSet) -> FeatureSet:
    """Load a checkpoint into the method; returns the clips as its encoder sees them, if that was trained too."""
    tensors = load_weights(checkpoint)
    encoder = None
    if any(name.startswith(ENCODER) for name in tensors):
        assert clips.encoder is not None
        encoder = copy.deepcopy(clips.encoder)
        clips = clips.through(encoder)
    Trained(method, encoder).put(tensors)
    return clips
