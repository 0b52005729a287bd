"""Which clips are held out, and which clips are mixed: decided by names and seeds alone, so the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from avloc.types import AvlocError


def hold_out(groups: Iterable[str], share: float = 0.1) -> set[str]:
    """The groups (videos) of a training list that become ``val``, chosen by the hash of their names; at least one."""
    ranked = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    return set(ranked[: max(1, round(len(ranked) * share))])


def draw_mixtures(
    labels: Mapping[str, Sequence[str]], size: int, sources: int, entropy: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Draw a finite bank of mixtures of clips that share no class; clips take turns to lead one.

    Args:
        labels: Clip id -> its class names.
        size: Mixtures.
        sources: Clips of a mixture.
        entropy: Seeds the draw.

    Returns:
        Mixture id (its members' ids joined by ``+``) -> the members, all mixtures different.

    Raises:
        AvlocError: There are too few clips or classes for that many mixtures.
    """
    ids, rng = list(labels), np.random.default_rng(list(entropy))
    mixtures: dict[str, tuple[str, ...]] = {}
    repeats = 0
    while len(mixtures) < size:
        members = _draw(ids, labels, sources, ids[len(mixtures) % len(ids)], rng) if ids else []
        if len(members) < sources:
            raise AvlocError(f"{len(ids)} clips have too few classes for mixtures of {sources}.")
        before = len(mixtures)
        mixtures.setdefault("+".join(members), tuple(members))
        repeats = 0 if len(mixtures) > before else repeats + 1
        if repeats > 1000:
            raise AvlocError(f"{len(ids)} clips do not make {size} different mixtures; lower the bank.")
    return mixtures


def _draw(
    ids: Sequence[str], labels: Mapping[str, Sequence[str]], sources: int, lead: str, rng: np.random.Generator
) -> list[str]:
    """`lead` and clips drawn after it, none with a class that an earlier one has."""
    members, heard = [lead], set(labels[lead])
    for _ in range(64 * sources):  # a draw at random nearly always fits; what is left is searched once, in order
        if len(members) == sources:
            return members
        _join(members, heard, ids[int(rng.integers(len(ids)))], labels)
    for index in rng.permutation(len(ids)):
        if len(members) == sources:
            break
        _join(members, heard, ids[index], labels)
    return members


def _join(members: list[str], heard: set[str], id: str, labels: Mapping[str, Sequence[str]]) -> None:
    if not heard & set(labels[id]):
        members.append(id)
        heard |= set(labels[id])
