"""Where a training is, on disk: an interrupted one takes the very steps that it would have taken."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avloc.progress import say
from avloc.store import read_tensors, write_tensors
from avloc.types import AvlocError

MODEL, OPTIMIZER = "model.", "optimizer."


@dataclass(slots=True)
class Position:
    """Where training is: the resume file's header.

    Attributes:
        phase, epoch, step: Indices; `step` counts within the epoch.
        total: Optimizer steps so far, over all phases.
        sums, best: Sums of the epoch's loss terms so far, and the lowest validation loss of this phase so far.
        log_bytes: Length of ``train.jsonl`` at this point.
        source: A digest of the method's file.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0
    sums: dict[str, float] | None = None
    best: float | None = None
    log_bytes: int = 0
    source: str = ""


def save_position(path: Path, position: Position, model: Mapping[str, Tensor], optimizer: Any) -> None:
    """Write the resume file; without an optimizer (``None``) the next phase starts a new one."""
    tensors = {MODEL + name: value for name, value in model.items()}
    states = {} if optimizer is None else optimizer.state_dict()["state"]
    for index, values in states.items():
        tensors |= {f"{OPTIMIZER}{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    write_tensors(path, tensors, {"position": json.dumps(asdict(position))})


def load_position(path: Path) -> tuple[Position, dict[str, Tensor], dict[str, Tensor]] | None:
    """The position, the model's tensors and the optimizer's; ``None`` without a file, or with a damaged one."""
    if not path.is_file():
        return None
    try:
        tensors, about = read_tensors(path)
    except AvlocError as error:  # torn by a power cut; the steps before it are only work, not results
        say(f"{error} Training starts from its first step.")
        return None
    position = Position(**json.loads(about["position"]))
    model = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    return position, model, {name: tensor for name, tensor in tensors.items() if name.startswith(OPTIMIZER)}


def put_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what `load_position` gave into a fresh optimizer over the same parameters."""
    filled = copy.deepcopy(optimizer.state_dict())
    for name, tensor in tensors.items():
        index, key = name.removeprefix(OPTIMIZER).split(".", 1)
        filled["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(filled)
