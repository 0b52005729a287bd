"""Whether a finished fit has learned anything: what its log and its weights say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avloc.suite import Train
from avloc.types import AvlocError

SAME = 1e-6
"""Losses that differ by a smaller share than this are the same."""


def learned_nothing(log: Path, train: Train, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str:
    """Why a row is that of an untrained head, for its mark; empty for a fit that learned.

    A fit whose held-out loss rises from the first epoch on, while its training loss falls, has learned and was stopped
    early.

    Args:
        log: Its ``train.jsonl``.
        train: How it was trained.
        before, after: What it may have moved: the freshly built parameters, and what was kept, on the CPU.

    Raises:
        AvlocError: The log is gone or damaged.
    """
    try:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise AvlocError(f"{log} is gone or damaged ({error}). Train again with: avloc bench --force") from error
    why = _of_loss(lines, train)
    if not why and all(torch.equal(old.cpu().to(after[name].dtype), after[name]) for name, old in before.items()):
        why = "no weight was moved by its training"
    return f"{why}: this row is an untrained head" if why else ""


def _of_loss(lines: Sequence[Mapping[str, Any]], train: Train) -> str:
    terms = dict.fromkeys(term for line in lines for term in line["loss"])
    zero = [term for term in terms if not any(line["loss"].get(term) for line in lines)]
    alone = train.batch_size <= train.accumulate
    if zero and (alone or len(zero) == len(terms)):
        reason = ", since in batches of one clip there is nothing to compare it with" if alone else ""
        return f"the loss {', '.join(zero)} was 0 from the first step on{reason}"
    phases = [list(phase) for _, phase in groupby(lines, key=lambda line: line["phase"])]
    whys = [_of_phase(phase, train) for phase in phases if len(phase) > 1]
    return whys[0] if whys and all(whys) else ""


def _of_phase(lines: Sequence[Mapping[str, Any]], train: Train) -> str:
    taught, held_out = ([sum(line[name].values()) for line in lines] for name in ("loss", "validation"))
    if _constant(taught):
        return f"the loss was {taught[0]:.4g} from the first epoch to the last"
    if train.select == "loss" and lines[0]["validation"]:
        if any(line["kept"] for line in lines[1:]):
            return ""
        if _constant(held_out):
            return f"the loss on the held-out clips was {held_out[0]:.4g} in every epoch, so that the first was kept"
        # The first mean holds the loss of the untrained head, so that it may be the highest whatever follows.
        if len(taught) > 2 and min(taught[1:]) >= taught[1]:
            return "the loss never fell after the first epoch, which was kept"
    return "the loss never fell below its first value" if min(taught) >= taught[0] else ""


def _constant(losses: Sequence[float]) -> bool:
    return max(losses) - min(losses) <= SAME * max(map(abs, losses))
