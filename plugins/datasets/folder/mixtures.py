"""The list of mixtures: which clips are put side by side."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avloc import AvlocError, DataError, unknown
from avloc.data import Members, draw_mixtures, read_csv
from avloc.data.prepared import SPLITS

from .entries import Entry, require_right

REQUIRED = ("id", "split", "members")


@dataclass(frozen=True, slots=True)
class Mixture:
    """A row of the list."""

    id: str
    split: str
    members: tuple[str, ...]
    line: int


def read_mixtures(path: Path, entries: Mapping[str, Entry], sources: int | None) -> dict[str, Members]:
    """A list's mixtures by split; splits without rows are absent.

    Args:
        path: The list, a CSV.
        entries: The clips it may name.
        sources: Only rows with this many members; ``None``: all.

    Raises:
        DataError: There is no such file, a row is wrong (also one that `sources` leaves out; names its line), or no
            row has that many members.
    """
    mixtures, wrong = scan_mixtures(path, entries)
    require_right(path, wrong)
    chosen = [mixture for mixture in mixtures if sources in (None, len(mixture.members))]
    if not chosen:
        sizes = ", ".join(map(str, sorted({len(mixture.members) for mixture in mixtures})))
        raise DataError(f"{path}: it lists no mixtures of {sources or 'any'} clips (but of {sizes or 'none at all'}).")
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for mixture in chosen:
        found.setdefault(mixture.split, {})[mixture.id] = mixture.members
    return dict(found)


def scan_mixtures(path: Path, entries: Mapping[str, Entry]) -> tuple[list[Mixture], list[str]]:
    """All rows of a list, and all their problems, a sentence each."""
    wrong: list[str] = []
    rows = list(read_csv(path, REQUIRED, wrong))
    mixtures: dict[str, Mixture] = {}
    ids = {row["id"] for row in rows}
    for row in rows:
        id, split = row["id"], row["split"]
        complaints: list[str] = [f"{name} is empty." for name in REQUIRED if not row[name]]
        if split and split not in SPLITS:
            complaints.append(unknown("split", split, SPLITS))
        if id in entries:
            complaints.append(f"{id!r} is also the id of a clip; a mixture needs an id of its own.")
        members = _members(row["members"], complaints)
        complaints += [_wrong_member(name, split, entries, ids) for name in dict.fromkeys(members)]
        twin = mixtures.setdefault(id, Mixture(id, split, members, row.line))
        if twin.line != row.line and id:
            complaints.append(f"the id {id!r} is already in line {twin.line}.")
        wrong += [f"{row.where}: {complaint}" for complaint in complaints if complaint]
    return list(mixtures.values()), wrong


def draw_bank(csv: Path, split: str, clips: Mapping[str, Entry], size: int, sources: int) -> Members:
    """Mixtures of clips that share no class, drawn once; none if there are no clips.

    Raises:
        DataError: The clips are too few, or of too few classes.
    """
    if not clips:
        return {}
    labels = {id: entry.labels for id, entry in clips.items()}
    try:
        return draw_mixtures(labels, size, sources, [SPLITS.index(split), sources])
    except AvlocError as error:
        raise DataError(f"{csv}, split {split}: {error} Mark more clips as {split}, or leave out bank.") from error


def _members(cell: str, wrong: list[str]) -> tuple[str, ...]:
    """``a+b`` or a JSON list of names."""
    try:
        names = json.loads(cell) if cell.startswith("[") else [name.strip() for name in cell.split("+")]
    except (ValueError, RecursionError):
        names = [None]
    if not all(isinstance(name, str) for name in names):
        wrong.append(f'members should be ids joined by + or a JSON list such as ["a", "b"], not {cell}.')
        return ()
    if cell and len(names) < 2:
        wrong.append(f"a mixture has two or more members, not {cell}.")
    if len(set(names)) < len(names):
        wrong.append(f"the members of {cell} should all differ.")
    return tuple(names) if cell else ()


def _wrong_member(name: str, split: str, entries: Mapping[str, Entry], mixtures: set[str]) -> str:
    """The problem with a member; empty if there is none."""
    if name in entries:
        own = entries[name].split
        return f"the member {name!r} is a {own} clip, but the mixture is for {split}." if own != split else ""
    if name in mixtures:
        return f"the member {name!r} is itself a mixture; name its clips."
    close = difflib.get_close_matches(name, entries, n=1)
    return f"there is no clip {name!r}.{f' Did you mean {close[0]!r}?' if close else ''}"
